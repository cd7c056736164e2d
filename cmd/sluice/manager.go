package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/sluice-dev/sluice/reconciler"
)

// Bounds of an end in good order; together less than the 30 s that Kubernetes
// gives a pod.
const (
	shutdownGrace = 20 * time.Second // for the passes that run
	shutdownSlack = 3 * time.Second  // for what cannot be cut off, and the servers
)

// work is what a controller does, and what it does it with.
type work struct {
	config  *rest.Config
	log     logr.Logger
	run     func(context.Context, reconciler.RunOptions) error
	options reconciler.RunOptions
	vitals  func() reconciler.Vitals

	lease          *lease // nil without leader election
	notify         *notifyServer
	webhook        *webhookServer
	probes         net.Listener // nil: none
	metricsAddress string       // "0": none
	pprofAddress   string       // "": none
}

// manage runs the controller under a manager until ctx ends: the servers at
// once, the engine when this controller leads.
func (w *work) manage(ctx context.Context) error {
	m, err := manager.New(w.config, w.managerOptions())
	if err != nil {
		return err
	}
	for _, r := range w.runnables() {
		if err := m.Add(r); err != nil {
			return err
		}
	}
	err = m.Start(ctx)
	if w.lease != nil {
		// The elector's own words for it come first or last, as the case may be.
		if lost := context.Cause(w.lease.lost); lost != nil {
			return lost
		}
	}
	return err
}

func (w *work) managerOptions() manager.Options {
	grace := shutdownGrace + shutdownSlack
	o := manager.Options{
		Logger:                  demoted(w.log),
		Metrics:                 metricsserver.Options{BindAddress: w.metricsAddress},
		PprofBindAddress:        w.pprofAddress,
		GracefulShutdownTimeout: &grace,
	}
	if w.lease != nil {
		t := w.lease.term
		o.LeaderElection, o.LeaderElectionResourceLockInterface, o.LeaderElectionReleaseOnCancel = true, w.lease, true
		o.LeaseDuration, o.RenewDeadline, o.RetryPeriod = &t.duration, &t.renew, &t.retry
	}
	return o
}

// runnables are the engine, which needs the lease, and all that does not.
func (w *work) runnables() []manager.Runnable {
	runnables := []manager.Runnable{leading(w.lead)}
	slack := shutdownSlack
	if w.notify != nil {
		runnables = append(runnables, &manager.Server{Name: "notify", Server: w.notify.server, Listener: w.notify.listener, ShutdownTimeout: &slack})
	}
	if w.webhook != nil {
		runnables = append(runnables, always(w.webhook.forward),
			&manager.Server{Name: "webhook", Server: w.webhook.server, Listener: w.webhook.listener, ShutdownTimeout: &slack})
	}
	if w.probes != nil {
		runnables = append(runnables, &manager.Server{Name: "probes", Server: newProbeServer(w.alive, w.ready), Listener: w.probes, ShutdownTimeout: &slack})
	}
	if w.lease != nil {
		runnables = append(runnables, always(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-w.lease.lost.Done():
				return context.Cause(w.lease.lost)
			}
		}))
	}
	return runnables
}

// leading is a runnable that needs the lease.
type leading func(context.Context) error

// Start runs it.
func (f leading) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection says when.
func (leading) NeedLeaderElection() bool { return true }

// always is a runnable that does not.
type always func(context.Context) error

// Start runs it.
func (f always) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection says when.
func (always) NeedLeaderElection() bool { return false }

// lead runs the engine. When ctx ends, passes that run have shutdownGrace to end;
// when the lease is lost, none.
func (w *work) lead(ctx context.Context) error {
	o := w.options
	o.Stop = ctx.Done()
	run := func(held context.Context) error { return w.run(held, o) }
	patient, end := afterGrace(ctx, shutdownGrace, clock.RealClock{})
	defer end()
	if w.lease == nil {
		return run(patient)
	}
	return w.lease.work(patient, run)
}

// afterGrace is a context that ends some time after ctx has.
func afterGrace(ctx context.Context, grace time.Duration, c clock.WithDelayedExecution) (context.Context, context.CancelFunc) {
	patient, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := c.AfterFunc(grace, end)
		context.AfterFunc(patient, func() { t.Stop() })
	})
	return patient, func() { stop(); end() }
}

// alive is what /healthz answers by: a restart would help when it fails.
func (w *work) alive() []reconciler.Check { return w.vitals().Alive() }

// ready is what /readyz answers by: a leader has taken up its work, a standby
// could.
func (w *work) ready() []reconciler.Check {
	if w.lease == nil {
		return w.vitals().Ready()
	}
	check, leads := w.lease.check()
	checks := []reconciler.Check{check}
	if leads {
		checks = append(checks, w.vitals().Ready()...)
	}
	return checks
}

// demoted is a logger for the manager and its elector: of what they say, all that
// matters is returned as an error or told by the lease, and the rest is detail.
func demoted(log logr.Logger) logr.Logger { return log.WithSink(detail{log.GetSink()}) }

type detail struct{ logr.LogSink }

func (d detail) Enabled(level int) bool { return d.LogSink.Enabled(level + 1) }
func (d detail) Info(level int, message string, pairs ...any) {
	d.LogSink.Info(level+1, message, pairs...)
}
func (d detail) WithName(name string) logr.LogSink    { return detail{d.LogSink.WithName(name)} }
func (d detail) WithValues(pairs ...any) logr.LogSink { return detail{d.LogSink.WithValues(pairs...)} }
func (d detail) Error(err error, message string, pairs ...any) {
	if d.LogSink.Enabled(1) {
		d.LogSink.Info(1, message, append(pairs, "error", errorText(err))...)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// newProbeServer answers kubelets and people.
func newProbeServer(alive, ready func() []reconciler.Check) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/healthz", probe("healthz", alive))
	mux.Handle("/readyz", probe("readyz", ready))
	return &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		MaxHeaderBytes: 16 << 10,
	}
}
