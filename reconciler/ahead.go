package reconciler

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
)

// mostAhead and aheadFor bound what is rendered ahead, and for how long in a row. A render
// that takes as long as that gains nothing by the one before it.
const (
	mostAhead = 32
	aheadFor  = 40 * time.Millisecond
)

// ahead has the releases of a bulk change rendered several in a row, before their passes.
// Kustomize goes through so much code and so many tables that a render between two
// requests, which has to fetch all of them from memory again, takes twice the processor
// time of one that follows another.
//
// A row begins with a pass that had to render its release by itself, one row at a time.
// No pass waits for its turn in it: what is not rendered yet, or blocks on a key service,
// is in the hands of the release's own pass, on a processor of its own.
type ahead struct {
	rows sync.WaitGroup

	mu       sync.Mutex
	ctx      context.Context   // of passes; nil while none are made
	due      []*release        // not rendered yet, in the order of the queue
	ready    map[*release]bool // rendered, and their passes have not come
	on       bool              // a row is on
	current  *release          // what is being rendered in it
	hash     string            // of its content
	rendered chan struct{}     // closed when that is
}

// run has rows made in ctx until end is called, which waits for the last one.
func (a *ahead) run(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ctx, a.ready = ctx, map[*release]bool{}
	return func() {
		a.stop()
		cancel()
		a.rows.Wait()
	}
}

// stop has nothing more rendered than what is just being.
func (a *ahead) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ctx, a.due = nil, nil
}

// expect takes in what a bulk change is of.
func (a *ahead) expect(releases []*release) {
	a.mu.Lock()
	defer a.mu.Unlock()
	again := make(map[*release]bool, len(releases))
	for _, r := range releases {
		again[r] = true
		delete(a.ready, r)
	}
	a.due = slices.DeleteFunc(a.due, func(r *release) bool { return again[r] })
	for _, r := range releases {
		if again[r] { // the first time
			a.due, again[r] = append(a.due, r), false
		}
	}
}

// take gives a release to its pass, over this content: nobody begins to render it ahead
// any more. If that is being done, it is waited for, but not for another content.
func (a *ahead) take(ctx context.Context, r *release, hash string) {
	a.mu.Lock()
	delete(a.ready, r)
	if i := slices.Index(a.due, r); i >= 0 {
		a.due = slices.Delete(a.due, i, i+1)
	}
	busy, rendered := a.current == r && a.hash == hash, a.rendered
	a.mu.Unlock()
	if !busy {
		return
	}
	select {
	case <-rendered:
	case <-ctx.Done():
	}
}

// row calls render for what is due of an environment, one after the other, unless
// somebody does already. Another environment may still wait for its own release.
func (a *ahead) row(environment string, render func(context.Context, *release)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.on || a.ctx == nil || len(a.due) == 0 {
		return
	}
	ctx := a.ctx
	a.on = true
	a.rows.Go(func() {
		defer a.end()
		for began := time.Now(); a.next(ctx, environment, render) && time.Since(began) < aheadFor; { // by the processor's clock, not the engine's
		}
	})
}

// next renders one release; false when there is none to render, or enough are rendered.
func (a *ahead) next(ctx context.Context, environment string, render func(context.Context, *release)) bool {
	a.mu.Lock()
	i := slices.IndexFunc(a.due, func(r *release) bool { return r.key.Environment == environment })
	if len(a.ready) >= mostAhead { // some may have come to nothing
		maps.DeleteFunc(a.ready, func(r *release, _ bool) bool { return !r.isRendered() })
	}
	if i < 0 || len(a.ready) >= mostAhead || ctx.Err() != nil {
		a.mu.Unlock()
		return false
	}
	r := a.due[i]
	a.due = slices.Delete(a.due, i, i+1)
	a.current, a.hash, a.rendered = r, r.wanted().hash, make(chan struct{})
	a.ready[r] = true
	a.mu.Unlock()
	render(ctx, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.rendered)
	a.current = nil
	return true
}

func (a *ahead) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.on = false
}

// renderAhead renders a release whose pass is still to come, and keeps what comes out for
// it. After an error or a panic the pass renders it again, and says so.
func (e *Engine) renderAhead(ctx context.Context, r *release) {
	defer func() { _ = recover() }()
	env, known := e.find(r.key)
	if known != r {
		return
	}
	p := &pass{engine: e, env: env, release: r, want: env.wanted(r), in: &Input{Now: e.cfg.Clock.Now()}}
	if p.want.declared == nil || !r.inScope() || p.reuse() {
		return
	}
	refusal, _, namespace, declared := env.view()
	if refusal != nil {
		return
	}
	p.in.Namespace.Name, p.in.Release = namespace, envrepo.Release{Name: r.key.Release, Environment: declared}
	if p.declareRelease() == nil && p.in.Paused == "" {
		_ = p.renderNow(ctx)
		r.dropSettled() // a pass over newer content may have ended meanwhile
	}
}
