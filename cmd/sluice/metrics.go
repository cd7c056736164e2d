package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/reconciler"
)

// states are all that a release can be in.
var states = []reconciler.State{
	reconciler.StateReady, reconciler.StateWaiting, reconciler.StateHeld, reconciler.StateFailed, reconciler.StatePaused,
}

// metrics are what a controller tells Prometheus: docs/reference/metrics.md lists
// them. It is the engine's Observer, one of its Reporters, and the prometheus.Collector
// of all of it. Labels are names out of the repository's folders and sluice.yaml, kinds
// and resources that the cluster serves, and words of Sluice's own: never a message, a
// revision, or anything else without bound.
type metrics struct {
	applied   *prometheus.HistogramVec
	passes    *prometheus.HistogramVec
	stages    *prometheus.HistogramVec
	drift     *prometheus.CounterVec
	requests  *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	fetches   *prometheus.HistogramVec
	refused   *prometheus.CounterVec
	build     prometheus.Gauge
	counted   []prometheus.Collector // the above
	snapshots snapshots              // found out when they are asked for

	vitals func() reconciler.Vitals

	mu     sync.Mutex
	states map[reconciler.Key]reconciler.State
	gates  map[string][]gateState // by target environment
}

// snapshots describe what is not counted but looked at.
type snapshots struct {
	queue, running, readable, current, releases, state, gate *prometheus.Desc
}

func (s snapshots) all() []*prometheus.Desc {
	return []*prometheus.Desc{s.queue, s.running, s.readable, s.current, s.releases, s.state, s.gate}
}

// gateState is how a gate of a component's promotion stands.
type gateState struct{ component, gate, state string }

// newMetrics makes them; vitals is set before they are collected.
func newMetrics() *metrics {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	short := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	long := []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	m := &metrics{
		applied:  histogram("sluice_commit_to_applied_seconds", "Time from the first sight of a commit until a release that it changes is as it wants it.", long, "environment"),
		passes:   histogram("sluice_pass_duration_seconds", "Duration of passes over a release.", short, "environment", "outcome"),
		stages:   histogram("sluice_pass_stage_duration_seconds", "Duration of the stages of passes.", short, "environment", "stage"),
		drift:    counter("sluice_drift_corrections_total", "Objects that were given back what somebody had taken.", "environment", "release", "kind"),
		requests: counter("sluice_api_requests_total", "Requests to the Kubernetes API server.", "verb", "resource", "code"),
		latency:  histogram("sluice_api_request_duration_seconds", "Duration of requests to the Kubernetes API server until their answer begins; watches left out.", short, "verb"),
		fetches:  histogram("sluice_git_fetch_duration_seconds", "Duration of looks at the repository.", short, "result"),
		refused:  counter("sluice_commits_refused_total", "Commits that were refused, because they are not signed for instance.", "environment"),
		build: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
		}),
		snapshots: snapshots{
			queue:    gauge("sluice_queue_depth", "Releases that wait for a pass."),
			running:  gauge("sluice_engine_running", "1 while this controller reconciles, 0 while it stands by."),
			readable: gauge("sluice_repository_readable", "1 when the last look at the repository has succeeded."),
			current:  gauge("sluice_environment_current", "1 when the newest commit that is known has been taken in.", "environment"),
			releases: gauge("sluice_releases", "Releases by state.", "environment", "state"),
			state:    gauge("sluice_release_state", "1, with the state that the release is in.", "environment", "release", "state"),
			gate:     gauge("sluice_promotion_gate", "1, with the state of a gate of an open promotion.", "environment", "component", "gate", "state"),
		},
		vitals: func() reconciler.Vitals { return reconciler.Vitals{} },
		states: map[reconciler.Key]reconciler.State{}, gates: map[string][]gateState{},
	}
	m.build.Set(1)
	m.counted = []prometheus.Collector{m.applied, m.passes, m.stages, m.drift, m.requests, m.latency, m.fetches, m.refused, m.build}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, of := range m.counted {
		of.Describe(c)
	}
	for _, d := range m.snapshots.all() {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	for _, of := range m.counted {
		of.Collect(c)
	}
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s, v := m.snapshots, m.vitals()
	set(s.queue, float64(v.Waiting))
	set(s.running, one(v.Running))
	if v.Running { // a standby has not looked
		set(s.readable, one(v.Unreachable == ""))
		for _, e := range v.Environments {
			set(s.current, one(e.Revision != "" && e.Problem == ""), e.Environment)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	number := map[string]map[reconciler.State]int{}
	for key, state := range m.states {
		set(s.state, 1, key.Environment, key.Release, string(state))
		if number[key.Environment] == nil {
			number[key.Environment] = map[reconciler.State]int{}
		}
		number[key.Environment][state]++
	}
	for environment, of := range number {
		for _, state := range states {
			set(s.releases, float64(of[state]), environment, string(state))
		}
	}
	for environment, gates := range m.gates {
		for _, g := range gates {
			set(s.gate, 1, environment, g.component, g.gate, g.state)
		}
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Fetched implements reconciler.Observer.
func (m *metrics) Fetched(l reconciler.Look) {
	result := "ok"
	var refused *reconciler.CommitRefusedError
	if errors.As(l.Err, &refused) {
		result = "refused"
	} else if l.Err != nil {
		result = "error"
	}
	m.fetches.WithLabelValues(result).Observe(l.Took.Seconds())
}

// Passed implements reconciler.Observer.
func (m *metrics) Passed(p reconciler.PassTiming) {
	m.passes.WithLabelValues(p.Release.Environment, string(p.Outcome)).Observe(p.Took.Seconds())
	spent := map[reconciler.PassStage]time.Duration{}
	for _, s := range p.Stages {
		spent[s.Stage] += s.Took
	}
	for stage, took := range spent {
		m.stages.WithLabelValues(p.Release.Environment, string(stage)).Observe(took.Seconds())
	}
}

// Corrected implements reconciler.Observer.
func (m *metrics) Corrected(release reconciler.Key, kind string) {
	m.drift.WithLabelValues(release.Environment, release.Release, kind).Inc()
}

// Applied implements reconciler.Observer.
func (m *metrics) Applied(release reconciler.Key, took time.Duration) {
	m.applied.WithLabelValues(release.Environment).Observe(took.Seconds())
}

// Report implements reconciler.Reporter.
func (m *metrics) Report(_ context.Context, s reconciler.Status) {
	key := reconciler.Key{Environment: s.Environment, Release: s.Release}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case s.Release == "":
		if s.Reason == reconciler.ReasonCommitRefused {
			m.refused.WithLabelValues(s.Environment).Inc()
		}
	case s.State == reconciler.StateRemoved:
		delete(m.states, key)
		m.drift.DeletePartialMatch(prometheus.Labels{"environment": key.Environment, "release": key.Release})
	default:
		m.states[key] = s.State
	}
}

// advanced takes in how the gates of an environment's promotions stand: of all that
// are open, or of those that were looked after, the others' staying as they were.
func (m *metrics) advanced(a promotion.Advance, all bool) {
	// One state for each gate, though several pull requests may be open: the last is
	// the newest.
	standing, looked := map[[2]string]string{}, map[string]bool{}
	for _, t := range a.Tended {
		for _, component := range t.PullRequest.Components {
			looked[component] = true
			if slices.Contains(a.Merged, t.PullRequest.Number) {
				continue
			}
			for _, g := range t.Gates {
				standing[[2]string{component, g.Name}] = string(g.State)
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	gates := slices.DeleteFunc(m.gates[a.Environment], func(g gateState) bool { return all || looked[g.component] })
	for of, state := range standing {
		gates = append(gates, gateState{of[0], of[1], state})
	}
	m.gates[a.Environment] = gates
}

// count has the requests of a configuration counted.
func (m *metrics) count(config *rest.Config) {
	prefix := ""
	if base, err := url.Parse(config.Host); err == nil {
		prefix = strings.TrimSuffix(base.Path, "/")
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return countedTrip(func(r *http.Request) (*http.Response, error) {
			began := time.Now()
			response, err := next.RoundTrip(r)
			code := "error"
			if err == nil {
				code = strconv.Itoa(response.StatusCode)
			}
			verb, resource := requestOf(r, prefix)
			m.requests.WithLabelValues(verb, resource, code).Inc()
			if verb != "watch" {
				m.latency.WithLabelValues(verb).Observe(time.Since(began).Seconds())
			}
			return response, err
		})
	})
}

// countedTrip is an http.RoundTripper.
type countedTrip func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f countedTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// requestOf names a request as Kubernetes' own audit does: the verb, and the resource
// with its subresource, "" for discovery and the like.
func requestOf(r *http.Request, prefix string) (verb, resource string) {
	path := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, prefix), "/"), "/")
	switch { // /api/VERSION/…, /apis/GROUP/VERSION/…
	case path[0] == "api" && len(path) > 2:
		path = path[2:]
	case path[0] == "apis" && len(path) > 3:
		path = path[3:]
	default:
		return "discover", ""
	}
	if path[0] == "namespaces" && len(path) > 2 {
		path = path[2:]
	}
	resource = path[0]
	if len(path) > 2 {
		resource += "/" + path[2]
	}
	switch r.Method {
	case http.MethodGet:
		verb = "get"
		if len(path) == 1 {
			verb = "list"
		}
		if watch, _ := strconv.ParseBool(r.URL.Query().Get("watch")); watch {
			verb = "watch"
		}
	case http.MethodPost:
		verb = "create"
	case http.MethodPut:
		verb = "update"
	case http.MethodPatch:
		verb = "patch"
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch") {
			verb = "apply"
		}
	case http.MethodDelete:
		verb = "delete"
		if len(path) == 1 {
			verb = "deletecollection"
		}
	}
	return verb, resource
}

// reporters are told one after the other.
type reporters []reconciler.Reporter

// Report implements reconciler.Reporter.
func (r reporters) Report(ctx context.Context, s reconciler.Status) {
	for _, each := range r {
		each.Report(ctx, s)
	}
}
