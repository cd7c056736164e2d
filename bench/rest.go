package main

import (
	"context"
	"errors"
	"os"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sluice-dev/sluice/bench/figures"
)

// runRest measures a reconciler that has nothing to do. What it costs with many
// releases is held against what it costs with few.
func runRest(ctx context.Context, b *bench) error {
	releases := b.samples(1000, 50)
	few, err := restOf(ctx, b, 10, b.samples(2, 1))
	if err != nil {
		return err
	}
	many, err := restOf(ctx, b, releases, b.samples(12, 2))
	if err != nil {
		return err
	}
	of, against := figures.Count(releases)+" releases", "10 releases"
	b.record(figures.Figure{Case: of, Measure: "requests in 5 s", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(many.requests...)}.
		Against(against, figures.SpreadOf(few.requests...)))
	b.record(figures.Figure{Case: of, Measure: "processor in 5 s", Unit: figures.Milliseconds, Spread: figures.Durations(many.processor)}.
		Against(against, figures.Durations(few.processor)))
	b.record(figures.Figure{Case: of, Measure: "live heap", Unit: figures.MiB, Absolute: true, Spread: figures.SpreadOf(many.heap)}.
		Against(against, figures.SpreadOf(few.heap)))
	b.record(figures.Figure{Case: of, Measure: "resident", Unit: figures.MiB, Spread: figures.SpreadOf(many.resident...)}.
		Against(against, figures.SpreadOf(few.resident...)))
	b.record(figures.Figure{Case: of, Measure: "requests of a resync", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(many.resync...)}.
		Against(against, figures.SpreadOf(few.resync...)))
	b.record(figures.Figure{Case: of, Measure: "processor, with a resync", Unit: figures.Milliseconds, Spread: figures.Durations(many.resyncCost)}.
		Against(against, figures.Durations(few.resyncCost)))
	return nil
}

// restWindow is how long a sample of doing nothing is. Twelve are a minute.
const restWindow = 5 * time.Second

// resting is what nothing costs.
type resting struct {
	requests, resident []float64
	processor          []time.Duration // in a window
	heap               float64
	resync             []float64 // requests
	resyncCost         []time.Duration
}

// restOf looks at a reconciler of so many releases for some windows, each of which
// has a look at the repository in it, and for some more with a resync in each.
func restOf(ctx context.Context, b *bench, releases, windows int) (r resting, err error) {
	ticking, cancel := context.WithCancel(ctx)
	defer cancel()
	clock := clocktesting.NewFakeClock(time.Now())
	go tick(ticking, clock)
	e, err := b.launch(ctx, releases, 5, engineOptions{clock: clock, pollInterval: restWindow, resync: resync})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := b.calm(ctx); err != nil {
		return r, err
	}
	r.heap = liveHeap()
	if err := b.heapProfile(); err != nil {
		return r, err
	}
	b.progress("%d releases at rest for %s", releases, time.Duration(windows)*restWindow)
	for range windows {
		n, used, err := idle(ctx, e, func() {})
		if err != nil {
			return r, err
		}
		resident, err := resident(os.Getpid(), "VmRSS")
		if err != nil {
			return r, err
		}
		r.requests, r.processor, r.resident = append(r.requests, float64(n)), append(r.processor, used), append(r.resident, resident)
	}
	b.progress("resyncs of %d releases", releases)
	for range b.samples(2, 1) {
		n, used, err := idle(ctx, e, func() { clock.Step(resync) })
		if err != nil {
			return r, err
		}
		r.resync, r.resyncCost = append(r.resync, float64(n)), append(r.resyncCost, used)
	}
	return r, nil
}

// resync is an hour of the engine's clock.
const resync = time.Hour

// tick lets a clock go with the time. It is one that can be set forward, so that
// nobody has to wait for a resync.
func tick(ctx context.Context, clock *clocktesting.FakeClock) {
	const step = 200 * time.Millisecond
	for sleep(ctx, step) == nil {
		clock.Step(step)
	}
}

// idle begins something, waits for a window and returns what the engine has done
// meanwhile.
func idle(ctx context.Context, e *engine, begin func()) (requests int, processor time.Duration, err error) {
	e.reset()
	since := costSince()
	begin()
	if err := sleep(ctx, restWindow); err != nil {
		return 0, 0, err
	}
	used, err := since()
	requests, _ = e.counts()
	return requests, used.processor, err
}
