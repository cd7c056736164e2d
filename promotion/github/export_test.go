package github

import (
	"context"
	"time"
)

// Pauses makes a forge note its pauses instead of making them.
func (f *Forge) Pauses(list *[]time.Duration) {
	f.pause = func(ctx context.Context, d time.Duration) error {
		*list = append(*list, d)
		return ctx.Err()
	}
}

// PausesMove is Pauses, and the clock moves with each.
func (f *Forge) PausesMove(list *[]time.Duration, clock *time.Time) {
	f.pause = func(ctx context.Context, d time.Duration) error {
		*list, *clock = append(*list, d), clock.Add(d)
		return ctx.Err()
	}
}
