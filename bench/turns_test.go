package main

import (
	"context"
	"errors"
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
