package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/reconciler"
)

type controllerOptions struct {
	engineOptions
	poll          time.Duration
	notifyAddress string
}

func newControllerCommand(a *app) *cobra.Command {
	var o controllerOptions
	c := &cobra.Command{
		Use:   "controller --environment ENVIRONMENT",
		Short: "Follow the branch and keep the cluster equal to it",
		Long: `Looks at the branch every --poll-interval, and at once after a POST to
--notify-address, and applies what changed. It watches what it has applied, and
corrects it.

An environment is served in the namespace that is given with it,
NAME=NAMESPACE. With the name alone, the namespace is taken from the first
commit and pinned: a later commit that names another one is refused.`,
		Example: `  sluice controller --environment production=shop-production --age-key-file production.agekey
  sluice controller --environment all --poll-interval 1s --notify-address 127.0.0.1:9292`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runController(c.Context(), o) },
	}
	f := c.Flags()
	f.StringArrayVar(&o.environments, "environment", nil, "environment to serve, `NAME[=NAMESPACE]` (repeatable), or all")
	_ = c.MarkFlagRequired("environment")
	f.DurationVar(&o.poll, "poll-interval", 30*time.Second, "how often to look at the branch")
	f.StringVar(&o.notifyAddress, "notify-address", "", "loopback `address` where a POST makes it look at once")
	f.IntVar(&o.concurrency, "concurrency", 0, "releases worked on at the same time (default: twice the cores, at least four)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

func (a *app) runController(ctx context.Context, o controllerOptions) error {
	if o.poll < 100*time.Millisecond {
		return usagef("--poll-interval %s is too short: at least 100ms", o.poll)
	}
	var posted <-chan struct{}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.notifyAddress != "" {
		n, err := newNotifyServer(o.notifyAddress)
		if err != nil {
			return err
		}
		posted = n.posted
		go func() {
			served <- n.serve(ctx)
			cancel() // without its notify address the controller would be late, silently
		}()
	} else {
		close(served)
	}
	e, err := a.openEngine(ctx, o.engineOptions)
	if err != nil {
		return err
	}
	defer e.repo.Close()
	log := a.logger(o.logLevel)
	log.Info("following the branch", "repository", e.repo.Name(), "branch", a.branch, "environments", e.names, "pollInterval", o.poll.String())
	err = e.Run(ctx, reconciler.RunOptions{PollInterval: o.poll, Notify: posted})
	cancel()
	if errors.Is(err, context.Canceled) {
		err = nil // asked to end
	}
	log.Info("ended")
	return errors.Join(err, <-served)
}
