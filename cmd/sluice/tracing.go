package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-dev/sluice/reconciler"
)

// tracing makes traces of what the engine tells its Observer. Spans are made when a
// pass is over, with the times that it took: the engine knows no tracing, and a
// controller without an endpoint does nothing for it.
//
// A commit's way through a release is one trace: the look that found it, the passes
// with their stages, the waiting between them, and, once the release has arrived, the
// span above them all. Its ids are a hash of release and time, so that passes find
// them without being told. Another pass, a correction of drift for instance, is a
// trace of its own. Attributes are names, commits and words of Sluice's own; no
// message, which might quote what it is about.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer

	mu   sync.Mutex
	look reconciler.Look // the last that found another commit
	ways map[reconciler.Key]way
}

// way is a release's way to a commit, between two passes.
type way struct {
	seen    time.Time // of the commit
	waiting time.Time // since when something is awaited; zero when nothing is
}

// traceFlush bounds the sending of the last spans at the end of the process.
const traceFlush = 3 * time.Second

// newTracing sends spans to an endpoint of OTLP over HTTP; "" is nil: no tracing.
func newTracing(ctx context.Context, endpoint string, log logr.Logger) (*tracing, error) {
	if endpoint == "" {
		return nil, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, withHint(usagef("--otlp-endpoint is not the address of a collector"),
			"give it as http://HOST:4318; what it wants for signing in goes into OTEL_EXPORTER_OTLP_HEADERS")
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.JoinPath("v1", "traces").String()))
	if err != nil {
		return nil, fmt.Errorf("exporting traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "sluice"), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("exporting traces: %w", err)
	}
	t := &tracing{ways: map[reconciler.Key]way{}}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(about), sdktrace.WithIDGenerator(traceIDs{}), sdktrace.WithBatcher(&telling{SpanExporter: exporter, log: log.WithName("traces")}))
	t.tracer = t.provider.Tracer("github.com/sluice-dev/sluice")
	return t, nil
}

// close sends what has not been sent yet.
func (t *tracing) close() {
	ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what fails has been told
}

// Fetched implements reconciler.Observer.
func (t *tracing) Fetched(l reconciler.Look) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.Err == nil && l.Revision != t.look.Revision {
		t.look = l
	}
}

// Passed implements reconciler.Observer.
func (t *tracing) Passed(p reconciler.PassTiming) {
	ctx := context.Background()
	if !p.Seen.IsZero() {
		began := t.travelled(p)
		ids := idsOf(p.Release, p.Seen)
		if p.Arrived {
			_, root := t.start(context.WithValue(ctx, idsKey{}, ids), "release", began, p)
			root.End(trace.WithTimestamp(p.Began.Add(p.Took)))
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: ids.trace, SpanID: ids.span, TraceFlags: trace.FlagsSampled}))
	}
	ctx, pass := t.start(ctx, "pass", p.Began, p)
	pass.SetAttributes(attribute.String("sluice.outcome", string(p.Outcome)))
	if p.Reason != "" {
		pass.SetAttributes(attribute.String("sluice.stage", string(p.Stands)), attribute.String("sluice.reason", p.Reason))
	}
	if p.Outcome == reconciler.OutcomeFailed {
		pass.SetStatus(codes.Error, p.Reason)
	}
	for _, s := range p.Stages {
		t.stage(ctx, s, p)
	}
	pass.End(trace.WithTimestamp(p.Began.Add(p.Took)))
}

// travelled makes the spans of a release's way to a commit that lie before a pass:
// the look that found it, before the first, or the waiting since the last. It returns
// when the way began.
func (t *tracing) travelled(p reconciler.PassTiming) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := idsOf(p.Release, p.Seen)
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: ids.trace, SpanID: ids.span, TraceFlags: trace.FlagsSampled}))
	began := p.Seen
	found := !t.look.Began.IsZero() && !t.look.Began.After(p.Seen) && !p.Seen.After(t.look.Began.Add(t.look.Took))
	if found {
		began = t.look.Began
	}
	before, known := t.ways[p.Release]
	switch {
	case (!known || !before.seen.Equal(p.Seen)) && found:
		t.stage(ctx, reconciler.StageTiming{Stage: "fetch", Began: t.look.Began, Took: t.look.Took}, p)
	case known && before.seen.Equal(p.Seen) && !before.waiting.IsZero():
		t.stage(ctx, reconciler.StageTiming{Stage: reconciler.StageWait, Began: before.waiting, Took: p.Began.Sub(before.waiting)}, p)
	}
	now := way{seen: p.Seen}
	if p.Stands == reconciler.StageWait {
		now.waiting = p.Began.Add(p.Took)
	}
	t.ways[p.Release] = now
	if p.Arrived {
		delete(t.ways, p.Release)
	}
	return began
}

// stage makes the span of a stage.
func (t *tracing) stage(ctx context.Context, s reconciler.StageTiming, p reconciler.PassTiming) {
	_, span := t.start(ctx, string(s.Stage), s.Began, p)
	span.SetAttributes(attribute.String("sluice.stage", string(s.Stage)))
	span.End(trace.WithTimestamp(s.Began.Add(s.Took)))
}

func (t *tracing) start(ctx context.Context, name string, began time.Time, p reconciler.PassTiming) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, trace.WithTimestamp(began), trace.WithAttributes(
		attribute.String("sluice.environment", p.Release.Environment), attribute.String("sluice.release", p.Release.Release), attribute.String("sluice.commit", p.Revision)))
}

// Corrected implements reconciler.Observer.
func (t *tracing) Corrected(reconciler.Key, string) {}

// Applied implements reconciler.Observer.
func (t *tracing) Applied(reconciler.Key, time.Duration) {}

// ids are those of a way's uppermost span.
type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

type idsKey struct{}

// idsOf are the ids of a release's way to a commit that was seen at some time.
func idsOf(release reconciler.Key, seen time.Time) (of ids) {
	sum := sha256.Sum256([]byte(release.String() + "@" + seen.UTC().Format(time.RFC3339Nano)))
	copy(of.trace[:], sum[:])
	copy(of.span[:], sum[len(of.trace):])
	return of
}

// traceIDs gives spans the ids that their context asks for, and any to others.
type traceIDs struct{}

// NewIDs implements trace.IDGenerator.
func (traceIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if given, ok := ctx.Value(idsKey{}).(ids); ok {
		return given.trace, given.span
	}
	var id trace.TraceID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64()|1) // zero is none
	return id, traceIDs{}.NewSpanID(ctx, id)
}

// NewSpanID implements trace.IDGenerator.
func (traceIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	binary.NativeEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// telling logs what keeps spans from being sent, once until it changes: a collector
// that is away is no reason to fill the log.
type telling struct {
	sdktrace.SpanExporter
	log  logr.Logger
	said string
}

// ExportSpans implements sdktrace.SpanExporter. It is never called twice at once.
func (e *telling) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	text := errorText(e.SpanExporter.ExportSpans(ctx, spans))
	if text != e.said && text != "" {
		e.log.Info("traces could not be sent; those of this time are lost", "error", strings.ToValidUTF8(text, "�"))
	}
	e.said = text
	return nil
}

// observers tell several Observers.
type observers []reconciler.Observer

// Fetched implements reconciler.Observer.
func (o observers) Fetched(l reconciler.Look) {
	for _, one := range o {
		one.Fetched(l)
	}
}

// Passed implements reconciler.Observer.
func (o observers) Passed(p reconciler.PassTiming) {
	for _, one := range o {
		one.Passed(p)
	}
}

// Corrected implements reconciler.Observer.
func (o observers) Corrected(release reconciler.Key, kind string) {
	for _, one := range o {
		one.Corrected(release, kind)
	}
}

// Applied implements reconciler.Observer.
func (o observers) Applied(release reconciler.Key, took time.Duration) {
	for _, one := range o {
		one.Applied(release, took)
	}
}
