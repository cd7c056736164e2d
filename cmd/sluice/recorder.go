package main

import (
	"cmp"
	"context"
	"os"
	"sync"

	"github.com/go-logr/logr"

	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/events"
)

// newRecorder writes Kubernetes Events by the controller's own rights: an environment's
// service account must not be able to say what the controller did.
func (a *app) newRecorder(m *metrics, log logr.Logger) (*events.Recorder, error) {
	config, err := a.restConfig()
	if err != nil {
		return nil, err
	}
	m.count(config)
	host, _ := os.Hostname() // the pod's name
	return events.New(config, cmp.Or(host, "sluice"), log.WithName("events"))
}

// besides does something else while the engine runs, and ends it after the engine has
// ended, so that it hears of the last pass.
func besides(also func(context.Context), run func(context.Context, reconciler.RunOptions) error) func(context.Context, reconciler.RunOptions) error {
	return func(ctx context.Context, o reconciler.RunOptions) error {
		working, end := context.WithCancel(context.WithoutCancel(ctx))
		var group sync.WaitGroup
		defer group.Wait()
		defer end()
		group.Go(func() { also(working) })
		return run(ctx, o)
	}
}
