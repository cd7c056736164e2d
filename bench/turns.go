package main

import (
	"context"
	"sync"
	"time"
)

// Machines are not equally fast all of the time, and what takes a minute is not made
// comparable by what takes a minute before or after it. So two that are compared take
// turns of seconds, each on a control plane of its own.

// contender is one of two. A turn is at an end when the cluster's controllers have
// taken in what was done in it: nothing of it is left to the other one's turn.
type contender interface {
	turn(ctx context.Context) error
}

// takeTurns lets both have so many turns, and neither always the first.
func takeTurns(ctx context.Context, turns int, one, other contender) error {
	for range turns {
		for _, c := range []contender{one, other} {
			if err := c.turn(ctx); err != nil {
				return err
			}
		}
		one, other = other, one
	}
	return nil
}

// turn is what one came to, for one release.
type turn struct{ time, processor time.Duration }

// turnOf is a turn in which so many releases came about.
func turnOf(c cost, releases float64) turn {
	return turn{time.Duration(float64(c.time) / releases), time.Duration(float64(c.processor) / releases)}
}

// gate lets requests pass while it is open. It is shut at first.
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
