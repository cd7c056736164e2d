package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// Converge applies one commit to one environment and returns when every release
// is ready, has failed or is held for good, or when ctx ends. rev is a full
// commit hash, "" for the newest of the branch; releases names some of the
// environment's, all of them by default. progress (which may be nil) is told
// whenever the status of a release changes, from one goroutine at a time.
//
// The error is about the whole: a repository that cannot be read, a cluster that
// does not answer. What became of the releases is in the report, which is
// complete as far as it goes when ctx ends first.
func (e *Engine) Converge(ctx context.Context, env, rev string, progress func(Status), releases ...string) (Report, error) {
	environment, err := e.environment(env)
	if err != nil {
		return Report{}, err
	}
	if e.cfg.Source == nil {
		return Report{}, errNoSource
	}
	if err := e.cluster.Ping(ctx); err != nil {
		return Report{}, err
	}
	keys, rev, err := e.load(ctx, environment, rev, releases)
	if err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &waiter{engine: e, keys: keys, progress: progress, statuses: map[Key]Status{}, failing: map[Key]time.Time{}, passes: map[Key]bool{}, done: cancel}
	if len(keys) > 0 {
		l, err := e.startLoop(ctx, w.observe)
		if err != nil {
			return Report{}, err
		}
		for _, gvk := range always {
			e.follow(environment, gvk)
		}
		l.passing = w.passing
		l.add(keys...)
		l.work(ctx, ctx)
	}
	report := w.report(environment, rev)
	switch cause := context.Cause(ctx); {
	case len(keys) == 0, errors.Is(cause, errAllFinal):
		return report, nil
	default:
		return report, cause
	}
}

var errNoSource = errors.New("no repository is configured to take commits from")

var errAllFinal = errors.New("every release is final")

func (e *Engine) environment(name string) (*environment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if env := e.environments[name]; env != nil {
		return env, nil
	}
	return nil, fmt.Errorf("environment %s is not among those that this reconciler is configured for", name)
}

// load takes in the commit and puts the named releases, or all, in scope.
func (e *Engine) load(ctx context.Context, env *environment, rev string, names []string) ([]Key, string, error) {
	var err error
	if rev == "" {
		if rev, err = e.cfg.Source.Fetch(ctx); err != nil {
			return nil, "", err
		}
	}
	fsys, err := e.cfg.Source.Snapshot(rev)
	if err != nil {
		return nil, "", err
	}
	if _, err := e.adopt(ctx, env, fsys, rev); err != nil {
		return nil, "", err
	}
	for _, name := range names {
		if _, known := env.release(name); !known {
			return nil, "", fmt.Errorf("environment %s has no release %s at revision %s", env.name, name, short(rev))
		}
	}
	env.mu.Lock()
	defer env.mu.Unlock()
	var keys []Key
	for name, r := range env.releases {
		in := len(names) == 0 || slices.Contains(names, name)
		r.begin(in)
		if in {
			keys = append(keys, r.key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	e.rank(env, keys)
	env.ledger.scope(keys)
	return keys, rev, nil
}

func (env *environment) release(name string) (*release, bool) {
	env.mu.Lock()
	defer env.mu.Unlock()
	r := env.releases[name]
	return r, r != nil
}

// waiter collects statuses until all are final, and nobody is called any more: what one
// release comes to may be news to another that was final.
type waiter struct {
	engine   *Engine
	keys     []Key
	progress func(Status)
	done     context.CancelCauseFunc

	mu       sync.Mutex
	statuses map[Key]Status
	failing  map[Key]time.Time // since when passes end with errors
	passes   map[Key]bool      // that are on their way
}

func (w *waiter) observe(s Status, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := Key{s.Environment, s.Release}
	if err == nil {
		delete(w.failing, key)
	} else {
		now := w.engine.cfg.Clock.Now()
		if _, known := w.failing[key]; !known {
			w.failing[key] = now
		}
		if now.Sub(w.failing[key]) > defaultHealthTimeout {
			s.State, s.Final = StateFailed, true
		}
	}
	before, seen := w.statuses[key]
	w.statuses[key] = s
	if !seen || before.State != s.State || before.Reason != s.Reason || before.Message != s.Message || before.Traffic != s.Traffic {
		w.engine.tell(s)
		if w.progress != nil {
			w.progress(s)
		}
	}
	var crd *cluster.MissingCRDError
	if errors.As(err, &crd) {
		w.done(err)
	}
}

// passing takes in that a pass begins, or has ended and called whom it had to: the last
// of them ends the wait.
func (w *waiter) passing(key Key, begins bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if begins {
		w.passes[key] = true
		return
	}
	if delete(w.passes, key); len(w.passes) > 0 {
		return
	}
	for _, k := range w.keys {
		if !w.statuses[k].Final {
			return
		}
		if _, rel := w.engine.find(k); rel != nil && rel.hurried() {
			return
		}
	}
	w.done(errAllFinal)
}

func (w *waiter) report(env *environment, rev string) Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _, namespace, _ := env.view()
	r := Report{Environment: env.name, Namespace: namespace, Revision: rev}
	for _, k := range w.keys {
		s, seen := w.statuses[k]
		if !seen {
			s = Status{Environment: k.Environment, Namespace: namespace, Release: k.Release, Revision: rev,
				State: StateWaiting, Reason: v1alpha1.ReasonApplying, Message: "it has not been looked at yet"}
		}
		r.Releases = append(r.Releases, s)
	}
	return r
}

// tell passes a status on to the configured Reporter.
func (e *Engine) tell(s Status) {
	if e.cfg.Reporter != nil {
		e.cfg.Reporter.Report(context.Background(), s)
	}
}
