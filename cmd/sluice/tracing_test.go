package main

import (
	"context"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-dev/sluice/reconciler"
)

// receiver is a collector: what takes traces by OTLP over HTTP.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	spans  []*tracepb.Span
	status int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		data, err := io.ReadAll(request.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || request.URL.Path != "/v1/traces" || proto.Unmarshal(data, &sent) != nil {
			t.Errorf("%s %s is no trace", request.Method, request.URL)
		}
		if w.WriteHeader(r.status); r.status != http.StatusOK {
			return
		}
		for _, of := range sent.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// take returns the spans that have come, by their beginning.
func (r *receiver) take() []*tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := slices.Clone(r.spans)
	slices.SortStableFunc(spans, func(a, b *tracepb.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return spans
}

// outline is a span's name and times in milliseconds, below those it belongs to.
func outline(spans []*tracepb.Span, began time.Time) (lines []string) {
	millis := func(nano uint64) string { return time.Unix(0, int64(nano)).Sub(began).String() }
	var below func(parent, indent string)
	below = func(parent, indent string) {
		for _, s := range spans {
			if hex.EncodeToString(s.ParentSpanId) == parent {
				lines = append(lines, indent+s.Name+" "+millis(s.StartTimeUnixNano)+"–"+millis(s.EndTimeUnixNano))
				below(hex.EncodeToString(s.SpanId), indent+"  ")
			}
		}
	}
	below("", "")
	return lines
}

func attributes(s *tracepb.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		all[a.Key] = a.Value.GetStringValue()
	}
	return all
}

// A commit's way through a release is one trace, whatever passes it took; a pass that
// answers no commit is another.
func TestTraceOfACommit(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	traces, err := newTracing(t.Context(), r.URL, logr.Discard())
	require.NoError(t, err)
	api := reconciler.Key{Environment: "production", Release: "api"}
	t0 := time.Now().Truncate(time.Second)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	stages := func(began int, names ...reconciler.PassStage) (list []reconciler.StageTiming) {
		for i, name := range names {
			list = append(list, reconciler.StageTiming{Stage: name, Began: at(began + i), Took: time.Millisecond})
		}
		return list
	}
	traces.Fetched(reconciler.Look{Began: at(0), Took: 10 * time.Millisecond, Revision: "c0ffee"})
	traces.Fetched(reconciler.Look{Began: at(15), Took: time.Millisecond, Revision: "c0ffee"})
	pass := reconciler.PassTiming{Release: api, Revision: "c0ffee", Outcome: reconciler.OutcomeDone, Seen: at(10)}
	first, second, drift := pass, pass, pass
	first.Began, first.Took, first.Stages = at(20), 4*time.Millisecond, stages(20, reconciler.StageGather, reconciler.StageRender, reconciler.StagePlan, reconciler.StageApply)
	first.Stands, first.Reason = reconciler.StageWait, "WaitingForHealth"
	second.Began, second.Took, second.Stages = at(50), 2*time.Millisecond, stages(50, reconciler.StageRoute, reconciler.StagePrune)
	second.Stands, second.Reason, second.Arrived = reconciler.StageReport, "Ready", true
	drift.Began, drift.Took, drift.Stages, drift.Seen = at(90), time.Millisecond, stages(90, reconciler.StageApply), time.Time{}
	drift.Outcome, drift.Stands, drift.Reason = reconciler.OutcomeFailed, reconciler.StageApply, "ApplyFailed"
	for _, p := range []reconciler.PassTiming{first, second, drift} {
		traces.Passed(p)
	}
	assert.Empty(t, traces.ways, "what has arrived is forgotten")
	traces.close()

	spans := r.take()
	assert.Equal(t, []string{
		"release 0s–52ms",
		"  fetch 0s–10ms",
		"  pass 20ms–24ms", "    gather 20ms–21ms", "    render 21ms–22ms", "    plan 22ms–23ms", "    apply 23ms–24ms",
		"  wait 24ms–50ms",
		"  pass 50ms–52ms", "    route 50ms–51ms", "    prune 51ms–52ms",
		"pass 90ms–91ms", "  apply 90ms–91ms",
	}, outline(spans, t0))
	of := map[string]int{}
	for _, s := range spans {
		of[hex.EncodeToString(s.TraceId)]++
		assert.Subset(t, attributes(s), map[string]string{"sluice.environment": "production", "sluice.release": "api", "sluice.commit": "c0ffee"})
	}
	assert.Len(t, of, 2)
	assert.Equal(t, tracepb.Status_STATUS_CODE_ERROR, spans[len(spans)-1].Status.Code)
	assert.Equal(t, "ApplyFailed", attributes(spans[len(spans)-1])["sluice.reason"])
}

// Without an endpoint nothing is made; a collector that is away is told of once, and
// delays nothing.
func TestTracesThatCannotBeSent(t *testing.T) {
	t.Parallel()
	none, err := newTracing(t.Context(), "", logr.Discard())
	require.NoError(t, err)
	assert.Nil(t, none)
	for _, bad := range []string{"collector:4318", "ftp://collector", "http://robot:hunter2@collector:4318", "http://%zz"} {
		_, err := newTracing(t.Context(), bad, logr.Discard())
		require.EqualError(t, err, "--otlp-endpoint is not the address of a collector", bad)
	}

	r := newReceiver(t)
	r.status = http.StatusForbidden
	var said []string
	traces, err := newTracing(t.Context(), r.URL, funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{}))
	require.NoError(t, err)
	for range 3 {
		traces.Passed(reconciler.PassTiming{Outcome: reconciler.OutcomeDone})
		_ = traces.provider.ForceFlush(context.Background())
	}
	traces.close()
	require.Len(t, said, 1)
	assert.Contains(t, said[0], "traces could not be sent")
}

// The real program sends its traces and serves its profiles, where it is told to.
func TestTracesAndProfilesOfAController(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := newShop(t, rand.New(rand.NewPCG(3, 3)))
	c := newVictim(t, buildSluice(t), s.namespace, s.bare)
	profiles := freeAddress(t)
	c.args = append(c.args, "--otlp-endpoint", r.URL, "--pprof-address", profiles)
	c.env = append(c.env, "OTEL_BSP_SCHEDULE_DELAY=100") // ms
	c.start()
	defer c.kill()
	s.awaitConverged(c)
	answer, err := http.Get("http://" + profiles + "/debug/pprof/goroutine?debug=1")
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.Equal(t, http.StatusOK, answer.StatusCode)

	s.commit(configure("traced"))
	c.notify()
	s.eventually("the commit has a trace", c, func() bool {
		in := map[string][]string{}
		trace := ""
		for _, span := range r.take() {
			id := hex.EncodeToString(span.TraceId)
			in[id] = append(in[id], span.Name)
			if of := attributes(span); span.Name == "release" && of["sluice.release"] == "web" && of["sluice.commit"] == s.commits[len(s.commits)-1] {
				trace = id
			}
		}
		return trace != "" && !slices.ContainsFunc([]string{"fetch", "pass", "gather", "render", "plan", "apply", "prune"}, func(name string) bool { return !slices.Contains(in[trace], name) })
	})
}

func TestPprofAddressIsLoopback(t *testing.T) {
	t.Parallel()
	for _, address := range []string{":6060", "0.0.0.0:6060", "example.com:6060", "6060"} {
		o := controllerOptions{poll: time.Second, pprofAddress: address}
		o.logLevel, o.verify.commits, o.election.duration = "info", verifyHead, 15*time.Second
		require.ErrorContains(t, o.check(), "--pprof-address", address)
		o.pprofAddress = "127.0.0.1:6060"
		require.NoError(t, o.check())
	}
}
