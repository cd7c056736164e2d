package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Machines are not equally fast all of the time, and what takes a minute is not made
// comparable by what takes a minute before or after it. So two that are compared take
// turns of seconds, each on a control plane of its own.

// contender is one of two.
type contender interface {
	// turn does a share, and ends when the cluster's controllers have observed it: what
	// they had left to do would fall into the other's turn.
	turn(ctx context.Context) error
}

// takeTurns lets both have so many turns, an even number, of which one and then the other
// begins a pair: a machine that becomes slower does so for both. What one has left on the
// heap is not for the other to collect.
func takeTurns(ctx context.Context, turns int, one, other contender) error {
	pair := []contender{one, other}
	for range turns {
		for _, c := range pair {
			runtime.GC()
			if err := c.turn(ctx); err != nil {
				return err
			}
		}
		slices.Reverse(pair)
	}
	return nil
}

// turn is what one came to.
type turn struct {
	releases  float64
	applied   time.Duration // until every patch was answered
	observed  time.Duration // until the cluster's controllers had observed it all
	processor time.Duration // of this process, until observed
	busy      time.Duration // of all processes, on all processors, until observed
}

// timed is a turn of something that returns how many releases it has applied, and of
// what waits until they are observed. Whoever is stopped at its requests has computed
// what the next turn begins with by then.
func timed(ctx context.Context, apply func() (releases float64, err error), taken func(context.Context) error) (t turn, err error) {
	since := costSince()
	if t.releases, err = apply(); err != nil {
		return t, err
	}
	applied, err := since()
	if err != nil {
		return t, err
	}
	if err := taken(ctx); err != nil {
		return t, err
	}
	observed, err := since()
	t.applied, t.observed, t.processor, t.busy = applied.time, observed.time, observed.processor, observed.busy
	return t, err
}

// each is something of turns, for one release.
func each(turns []turn, of func(turn) time.Duration) (out []time.Duration) {
	for _, t := range turns {
		out = append(out, time.Duration(float64(of(t))/t.releases))
	}
	return out
}

// whole is all of the turns as one.
func whole(turns []turn) (sum turn) {
	for _, t := range turns {
		sum.releases += t.releases
		sum.applied, sum.observed = sum.applied+t.applied, sum.observed+t.observed
		sum.processor, sum.busy = sum.processor+t.processor, sum.busy+t.busy
	}
	return sum
}

// gate lets requests pass while it is open. It is shut at first. The time for which a
// request is kept counts for the client's timeout.
type gate struct {
	mu     sync.Mutex
	open   bool
	opened chan struct{} // closed when it opens
	inside int
	empty  chan struct{} // nil, or closed when the last one has left
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		opened := g.opened
		if g.open {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		if err := await(ctx, opened); err != nil {
			return err
		}
	}
}

// leave is for whoever has passed.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

func (g *gate) unlock() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	close(g.opened)
}

// lock lets nobody pass any more, and waits until all have left who have.
func (g *gate) lock(ctx context.Context) error {
	g.mu.Lock()
	g.open, g.opened = false, make(chan struct{})
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	empty := make(chan struct{})
	g.empty = empty
	g.mu.Unlock()
	return await(ctx, empty)
}
