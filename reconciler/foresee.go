package reconciler

import (
	"context"
	"errors"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// foresee renders a paused release as far as it can be: what it declares is not
// applied, but no other release deletes it either. An error is not about its files.
func (p *pass) foresee(ctx context.Context) error {
	if p.in.Gone {
		return nil
	}
	err := p.render(ctx)
	var unrenderable *RenderError
	if errors.As(err, &unrenderable) {
		p.in.Rendered = nil
		return nil
	}
	return err
}

// foreseeOthers finds out what the releases declare that are not part of this run,
// and so are not passed over. It costs a render of each, and is done only when
// something is to be deleted: some of it may have moved to one of them.
func (e *Engine) foreseeOthers(ctx context.Context, env *environment) error {
	env.foreseeing.Lock() // one pass does it for all
	defer env.foreseeing.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range env.ledger.unforeseen() {
		g.Go(func() error { return e.foreseeOther(ctx, Key{env.name, name}) })
	}
	return g.Wait()
}

// foreseeOther enters what one of them declares. Nothing of it is kept.
func (e *Engine) foreseeOther(ctx context.Context, key Key) error {
	p := e.newPass(key)
	if p == nil {
		return nil
	}
	if !p.in.Gone {
		var unrenderable *RenderError
		if err := p.declare(); err != nil && !errors.As(err, &unrenderable) {
			return err
		} else if err == nil {
			if err := p.foresee(ctx); err != nil {
				return err
			}
			p.release.dropRendered()
		}
	}
	rendered := p.in.renderedSet()
	p.env.ledger.declare(key.Release, p.want.generation, rendered, unclear(p.in, rendered))
	return nil
}
