package reconciler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// RunOptions say how Run follows the branch.
type RunOptions struct {
	PollInterval time.Duration   // between looks at the repository; 0: 30 s
	Notify       <-chan struct{} // look now; may be nil
	// Resync is how often every release is compared with what the watches know,
	// though nothing seems to have happened, and passed over where it differs: a
	// safety net. 0: an hour.
	Resync time.Duration
	// Stop, once it is closed, ends Run in good order: no pass begins any more,
	// those that run end and are reported, and Run returns. May be nil.
	Stop <-chan struct{}
}

// Run follows the branch and keeps the environments equal to it until it is
// stopped, or until ctx ends, which cuts off what is being done; neither is an
// error. It fails only if it cannot start: the cluster does not
// answer or does not know Releases. A repository that cannot be read, or a
// commit that cannot be understood, leaves everything as it is and is tried
// again; the Reporter is told with an empty release name.
//
// What was applied is remembered by the process, and its hash by the Release.
// After a restart workloads and routes are read once, and only the objects of
// releases that differ from what was left are applied. Within about the time of
// Resync, at times of their own, the others are applied once as well.
func (e *Engine) Run(ctx context.Context, o RunOptions) error {
	if e.cfg.Source == nil {
		return errNoSource
	}
	if o.PollInterval <= 0 {
		o.PollInterval = 30 * time.Second
	}
	if o.Resync <= 0 {
		o.Resync = time.Hour
	}
	following, end := until(ctx, o.Stop)
	defer end()
	for _, must := range []func(context.Context) error{e.cluster.Ping, e.requireReleases} {
		if err := must(following); err != nil {
			return err
		}
	}
	l, err := e.startLoop(following, (&changes{engine: e}).observe)
	if err != nil {
		return err
	}
	e.trust(o.Resync)
	defer e.trust(0)
	var follower sync.WaitGroup
	follower.Go(func() { (&branch{engine: e, loop: l}).follow(following, o) })
	l.work(following, ctx)
	follower.Wait()
	return nil
}

// until is ctx, which ends with stop as well.
func until(ctx context.Context, stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// requireReleases finds out whether the cluster knows the Release kind.
func (e *Engine) requireReleases(ctx context.Context) error {
	for _, env := range e.environments {
		_, _, namespace, _ := env.view()
		_, err := e.cluster.Release(ctx, namespace, "environment")
		var crd *cluster.MissingCRDError
		if errors.As(err, &crd) {
			return err
		}
	}
	return nil
}

// branch looks at the repository and hands out what has changed.
type branch struct {
	engine *Engine
	loop   *loop
	seen   map[string]string // revision taken in, by environment
	said   map[string]string // last problem that was reported, by environment
	newest string            // revision that was seen last
	at     time.Time         // when it first was
}

func (f *branch) follow(ctx context.Context, o RunOptions) {
	f.seen, f.said = map[string]string{}, map[string]string{}
	poll := f.engine.cfg.Clock.NewTicker(o.PollInterval)
	defer poll.Stop()
	resync := f.engine.cfg.Clock.NewTicker(o.Resync + time.Duration(rand.Int64N(int64(o.Resync)/10+1)))
	defer resync.Stop()
	request, pause := f.loop.request, (<-chan time.Time)(nil)
	for {
		f.serve(ctx)
		for rest := true; rest; {
			rest = false
			select {
			case <-ctx.Done():
				return
			case <-poll.C():
			case <-o.Notify:
			case <-request:
				request, pause = nil, f.engine.cfg.Clock.After(requestPause)
			case <-pause:
				request, pause, rest = f.loop.request, nil, true
			case <-resync.C():
				f.passOver()
			}
		}
	}
}

// look fetches and takes in the newest commit, or says why it cannot be.
func (f *branch) look(ctx context.Context) {
	f.engine.pulse.look(f.engine.cfg.Clock.Now())
	defer f.engine.pulse.look(time.Time{})
	began := f.engine.cfg.Clock.Now()
	rev, err := f.fetch(ctx)
	now := f.engine.cfg.Clock.Now()
	if ctx.Err() == nil {
		f.engine.cfg.Observer.Fetched(Look{began, now.Sub(began), rev, err})
	}
	var refused *CommitRefusedError
	if errors.As(err, &refused) {
		rev = refused.Keep
	} else if err != nil {
		f.problem(ctx, "", "", err)
		return
	}
	f.fine("", rev)
	if rev != f.newest {
		f.newest, f.at = rev, now
	}
	if rev != "" {
		f.take(ctx, rev, refused == nil)
	}
	if refused == nil {
		for _, env := range f.engine.environments {
			f.tell(env, nil)
		}
	} else {
		for name, env := range f.engine.environments {
			f.problem(ctx, name, refused.Revision, refused)
			f.tell(env, &v1alpha1.RefusedCommit{Revision: refused.Revision, Message: clipped(masked(refused.Error(), nil)), Hint: refused.Hint()})
		}
	}
}

// take takes a commit in, the newest one or one that is kept to, in each
// environment that has not got it yet.
func (f *branch) take(ctx context.Context, rev string, newest bool) {
	for name, env := range f.engine.environments {
		first := f.seen[name] == ""
		if f.seen[name] == rev && !env.unsure() {
			if newest {
				f.fine(name, rev) // one that was refused may have gone
			}
			continue
		}
		fsys, err := f.engine.cfg.Source.Snapshot(rev)
		if err != nil {
			f.problem(ctx, name, rev, err)
			continue
		}
		env.saw(f.at)
		changed, err := f.engine.adopt(ctx, env, fsys, rev)
		if err != nil {
			f.problem(ctx, name, rev, err)
		} else {
			f.seen[name] = rev
			f.note(name, rev, "")
			if newest {
				f.fine(name, rev)
			}
		}
		f.release(env, changed, first && err == nil)
	}
}

// fetch asks for the newest commit, for a bounded time.
func (f *branch) fetch(ctx context.Context) (rev string, err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("the repository did not answer within %s", fetchTimeout))
	defer cancel()
	rev, err = f.engine.cfg.Source.Fetch(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		err = context.Cause(bounded)
	}
	return rev, err
}

// release puts what has changed in the queue. With the first commit that is taken
// in it is every release: one that an engine has passed over in an earlier run is
// not watched yet by this one.
func (f *branch) release(env *environment, changed []Key, first bool) {
	for _, gvk := range always {
		f.engine.follow(env, gvk)
	}
	env.mu.Lock()
	if first {
		changed = env.keys((*release).hurry)
	}
	for _, key := range changed {
		if r := env.releases[key.Release]; r != nil {
			r.setScope(true)
		}
	}
	f.engine.rank(env, changed)
	env.mu.Unlock()
	f.loop.add(changed...)
}

// passOver puts every release in the queue, behind all that has a reason to be
// there.
func (f *branch) passOver() {
	for _, env := range f.engine.environments {
		env.mu.Lock()
		keys := env.keys((*release).recheck)
		env.mu.Unlock()
		f.loop.add(keys...)
	}
}

// problem tells that a commit cannot be taken in: once, not with every look.
func (f *branch) problem(ctx context.Context, env, rev string, err error) {
	if ctx.Err() != nil {
		return
	}
	f.note(env, rev, masked(err.Error(), nil))
	if f.said[env] == rev+err.Error() {
		return
	}
	f.said[env] = rev + err.Error()
	reason, text := ReasonRepositoryUnreadable, "the repository cannot be taken in; everything stays as it is"
	var refused *CommitRefusedError
	if errors.As(err, &refused) {
		reason, text = ReasonCommitRefused, "the newest commit is refused"
	}
	stage := "intake"
	if env == "" {
		stage = "fetch"
	}
	values := []any{"environment", env, "revision", short(rev), "stage", stage}
	if hint := hintOf(err); hint != "" {
		values = append(values, "hint", hint)
	}
	f.engine.cfg.Log.Error(err, text, values...)
	f.engine.tell(Status{Environment: env, Revision: rev, State: StateFailed, Reason: reason, Message: masked(err.Error(), nil), Hint: hintOf(err)})
}

func (f *branch) fine(env, rev string) {
	f.note(env, rev, "")
	if f.said[env] != "" {
		delete(f.said, env)
		f.engine.cfg.Log.Info("the repository can be read again", "environment", env)
	}
}

func (f *branch) note(env, rev, problem string) {
	if env == "" {
		f.engine.pulse.fetched(problem)
	} else {
		f.engine.pulse.took(env, rev, problem)
	}
}

// changes passes on statuses that differ from the one before.
type changes struct {
	engine *Engine
	mu     sync.Mutex
	last   map[Key]string
}

func (c *changes) observe(s Status, err error) {
	// The revision is that of the release's files: a change that is over at once is
	// one too.
	text := fmt.Sprint(s.Revision, s.State, s.Reason, s.Message, s.Traffic, s.Digest, s.Tags)
	c.mu.Lock()
	key := Key{s.Environment, s.Release}
	same := c.last[key] == text && len(s.Pruned) == 0
	if c.last == nil {
		c.last = map[Key]string{}
	}
	c.last[key] = text
	if s.State == StateRemoved && err == nil {
		delete(c.last, key) // it is not passed over any more
	}
	c.mu.Unlock()
	if !same {
		c.log(s, err)
		c.engine.tell(s)
	}
}

// log says what has become of a release. What has failed is an error; its message
// is the one that is reported, since the error itself may hold what must not be
// printed.
func (c *changes) log(s Status, err error) {
	values := []any{"release", Key{s.Environment, s.Release}.String(), "state", string(s.State), "reason", s.Reason, "revision", short(s.Revision), "stage", string(s.Stage), "traffic", s.Traffic}
	switch {
	case err != nil:
		c.engine.cfg.Log.Error(errors.New(s.Message), "a pass failed", values...)
	case s.State == StateFailed:
		c.engine.cfg.Log.Error(errors.New(s.Message), "the release has failed", values...)
	default:
		c.engine.cfg.Log.Info(s.Message, values...)
	}
}
