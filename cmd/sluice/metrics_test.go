package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/reconciler"
)

// sampled are metrics that have a sample of each.
func sampled(t *testing.T) (*metrics, *prometheus.Registry) {
	t.Helper()
	m := newMetrics()
	api := reconciler.Key{Environment: "production", Release: "api"}
	m.vitals = func() reconciler.Vitals {
		return reconciler.Vitals{Running: true, Waiting: 3, Environments: []reconciler.Intake{{Environment: "production", Revision: "c0ffee"}}}
	}
	for _, err := range []error{nil, errors.New("no answer"), fmt.Errorf("wrapped: %w", &reconciler.CommitRefusedError{Err: errors.New("not signed")})} {
		m.Fetched(reconciler.Look{Took: time.Second, Err: err})
	}
	m.Passed(reconciler.PassTiming{Release: api, Outcome: reconciler.OutcomeDone, Took: time.Second, Stages: []reconciler.StageTiming{{Stage: reconciler.StageApply, Took: time.Second}}})
	m.Corrected(api, "ConfigMap")
	m.Applied(api, 2*time.Second)
	m.Report(t.Context(), reconciler.Status{Environment: "production", Release: "api", State: reconciler.StateReady, Message: "hunter2"})
	m.Report(t.Context(), reconciler.Status{Environment: "production", State: reconciler.StateFailed, Reason: reconciler.ReasonCommitRefused, Revision: "c0ffee"})
	m.advanced(promotion.Advance{Environment: "production", Tended: []promotion.Tended{{
		PullRequest: promotion.PullRequest{Components: []string{"api"}}, Gates: []promotion.Gate{{Name: "soak", State: promotion.Pending, Message: "20 minutes"}},
	}}}, true)
	config := &rest.Config{Host: "https://example.com"}
	m.count(config)
	answer := countedTrip(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: http.StatusOK}, nil })
	_, err := config.WrapTransport(answer).RoundTrip(httptest.NewRequest(http.MethodGet, "https://example.com/api/v1/namespaces/shop/pods", nil))
	require.NoError(t, err)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	return m, registry
}

// families are what a registry gathers, by name.
func families(t *testing.T, registry *prometheus.Registry) map[string]*dto.MetricFamily {
	t.Helper()
	gathered, err := registry.Gather()
	require.NoError(t, err)
	byName := map[string]*dto.MetricFamily{}
	for _, f := range gathered {
		byName[f.GetName()] = f
	}
	return byName
}

// labelsOf are the names of a family's labels.
func labelsOf(f *dto.MetricFamily) (labels []string) {
	for _, l := range f.GetMetric()[0].GetLabel() {
		labels = append(labels, l.GetName())
	}
	return labels
}

func TestMetricsReferenceIsComplete(t *testing.T) {
	t.Parallel()
	m, registry := sampled(t)
	described := make(chan *prometheus.Desc, 100)
	m.Describe(described)
	gathered := families(t, registry)
	require.Len(t, gathered, len(described), "a metric has no sample in this test")

	text, err := os.ReadFile("../../docs/reference/metrics.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `(sluice_[a-z_]+)` \\| ([a-z]+) \\|(.*?)\\| (.+?) \\| (.+?) \\|$")
	documented := map[string]bool{}
	for _, r := range row.FindAllStringSubmatch(string(text), -1) {
		f := gathered[r[1]]
		if !assert.NotNil(t, f, "%s is documented and does not exist", r[1]) {
			continue
		}
		documented[r[1]] = true
		assert.Equal(t, strings.ToLower(f.GetType().String()), r[2], r[1])
		var labels []string
		for _, l := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(r[3], -1) {
			labels = append(labels, l[1])
		}
		slices.Sort(labels)
		assert.Equal(t, labelsOf(f), labels, r[1])
	}
	for name := range gathered {
		assert.True(t, documented[name], "%s has no row in docs/reference/metrics.md", name)
	}
}

func TestMetricsHoldNoTextOfOthers(t *testing.T) {
	t.Parallel()
	_, registry := sampled(t)
	for name, f := range families(t, registry) {
		for _, sample := range f.GetMetric() {
			for _, l := range sample.GetLabel() {
				assert.NotRegexp(t, `hunter2|c0ffee|minutes|not signed|no answer`, l.GetValue(), name)
			}
		}
	}
}

func TestMetricsForgetWhatIsGone(t *testing.T) {
	t.Parallel()
	m, registry := sampled(t)
	m.Report(t.Context(), reconciler.Status{Environment: "production", Release: "api", State: reconciler.StateRemoved})
	m.advanced(promotion.Advance{Environment: "production"}, true)
	m.vitals = func() reconciler.Vitals { return reconciler.Vitals{} }
	gathered := families(t, registry)
	for _, name := range []string{"sluice_release_state", "sluice_releases", "sluice_promotion_gate", "sluice_drift_corrections_total", "sluice_environment_current", "sluice_repository_readable"} {
		assert.Nil(t, gathered[name], name)
	}
	assert.Zero(t, gathered["sluice_engine_running"].GetMetric()[0].GetGauge().GetValue())
}

func TestRequestsAreNamedAsTheAPIServerDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ method, path, contentType, want string }{
		{"GET", "/api/v1/namespaces/shop/pods", "", "list pods"},
		{"GET", "/api/v1/namespaces/shop/pods?watch=true", "", "watch pods"},
		{"GET", "/apis/apps/v1/namespaces/shop/deployments/api", "", "get deployments"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/api", "application/apply-patch+yaml", "apply deployments"},
		{"PATCH", "/apis/sluice.dev/v1alpha1/namespaces/shop/releases/api/status", "application/merge-patch+json", "patch releases/status"},
		{"POST", "/apis/events.k8s.io/v1/namespaces/shop/events", "", "create events"},
		{"PUT", "/apis/coordination.k8s.io/v1/namespaces/shop/leases/sluice", "", "update leases"},
		{"DELETE", "/api/v1/namespaces/shop/configmaps/api", "", "delete configmaps"},
		{"DELETE", "/api/v1/namespaces/shop/configmaps", "", "deletecollection configmaps"},
		{"GET", "/api/v1/namespaces/shop", "", "get namespaces"},
		{"GET", "/api/v1/namespaces", "", "list namespaces"},
		{"GET", "/version", "", "discover "},
		{"GET", "/apis/apps/v1", "", "discover "},
		{"GET", "/", "", "discover "},
	} {
		for _, prefix := range []string{"", "/clusters/apis"} {
			r := httptest.NewRequest(c.method, "https://example.com"+prefix+c.path, nil)
			r.Header.Set("Content-Type", c.contentType)
			verb, resource := requestOf(r, prefix)
			assert.Equal(t, c.want, verb+" "+resource, c.method+" "+prefix+c.path)
		}
	}
}
