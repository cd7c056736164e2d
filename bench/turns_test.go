package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestGateLetsThroughWhileItIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, passed := newGate(), make(chan struct{})
		go func() {
			if err := g.pass(t.Context()); err != nil {
				t.Error(err)
			}
			close(passed)
		}()
		synctest.Wait()
		select {
		case <-passed:
			t.Fatal("a gate is shut at first")
		default:
		}
		g.unlock()
		<-passed

		locked := make(chan error)
		go func() { locked <- g.lock(t.Context()) }()
		synctest.Wait()
		select {
		case <-locked:
			t.Fatal("it is not shut while somebody is inside")
		default:
		}
		g.leave()
		if err := <-locked; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.pass(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("who waits at a gate that is shut may give up: %v", err)
		}
	})
}

// named is a contender that says when it has its turn.
type named struct {
	name  string
	order *[]string
}

func (n named) turn(context.Context) error {
	*n.order = append(*n.order, n.name)
	return nil
}

func TestWhoBeginsAPairOfTurnsAlternates(t *testing.T) {
	var order []string
	if err := takeTurns(t.Context(), 3, named{"a", &order}, named{"b", &order}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "a b b a a b" {
		t.Error(got)
	}
}
