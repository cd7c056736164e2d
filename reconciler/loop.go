package reconciler

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// Retries of passes that ended with an error.
const (
	retryMin = 250 * time.Millisecond
	retryMax = time.Minute

	retryRender = 10 * time.Minute

	// overtakenPause lets whoever was faster end what they do.
	overtakenPause = 20 * time.Millisecond
)

// pauseForMore is how long the status of an object is left alone: a rollout
// reports several times in a row.
const pauseForMore = 100 * time.Millisecond

// loop is the queue of releases with its workers and watches: the same for
// Converge and Run.
type loop struct {
	engine  *Engine
	queue   priorityqueue.PriorityQueue[Key]
	limiter workqueue.TypedRateLimiter[Key]
	watches *watches
	observe func(Status, error)
	passing func(key Key, begins bool) // when a pass may begin, and once it has ended; may be nil
	ended   func()

	request  chan struct{} // of room for one: there are requests
	mu       sync.Mutex
	requests map[Key]string
}

// startLoop starts to watch; work does the rest.
func (e *Engine) startLoop(ctx context.Context, observe func(Status, error)) (*loop, error) {
	l := &loop{engine: e, observe: observe, request: make(chan struct{}, 1), requests: map[Key]string{}}
	l.watches = &watches{ctx: ctx, cluster: e.cluster, log: e.cfg.Log, event: l.event, views: map[watched]*cluster.View{}, owners: map[inventory.ID][]Key{}}
	l.watches.ownKnown(e.environments)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watches != nil {
		return nil, errors.New("the engine is running already")
	}
	e.watches = l.watches
	l.limiter = jitter{workqueue.NewTypedItemExponentialFailureRateLimiter[Key](retryMin, retryMax)}
	l.queue = priorityqueue.New("release", func(o *priorityqueue.Opts[Key]) { o.Log = e.cfg.Log })
	l.ended = e.pulse.run(l.queue.Len)
	return l, nil
}

// work passes over releases until ctx ends, and returns when the last pass has.
// The passes themselves run in a context of their own.
func (l *loop) work(ctx, passes context.Context) {
	defer l.ended()
	endAhead := l.engine.ahead.run(passes)
	var workers sync.WaitGroup
	for range l.engine.cfg.Concurrency {
		workers.Go(func() {
			for l.next(ctx, passes) {
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	l.engine.ahead.stop()
	workers.Wait()
	endAhead()
	l.engine.mu.Lock()
	l.engine.watches = nil
	l.engine.mu.Unlock()
}

// add puts releases in the queue, each where it belongs.
func (l *loop) add(keys ...Key) {
	for _, k := range keys {
		l.addAfter(k, 0)
	}
}

func (l *loop) addAfter(key Key, after time.Duration) {
	if _, rel := l.engine.find(key); rel != nil {
		priority := rel.priority()
		l.queue.AddWithOpts(priorityqueue.AddOpts{After: after, Priority: &priority}, key)
	}
}

// addSoon puts a release in the queue whose objects report their status.
func (l *loop) addSoon(key Key) { l.addAfter(key, pauseForMore) }

// next does one pass, in ctx, unless begin has ended.
func (l *loop) next(begin, ctx context.Context) bool {
	key, shutdown := l.queue.Get()
	if shutdown {
		return false
	}
	defer l.queue.Done(key)
	if begin.Err() != nil {
		return true // the rest of the queue is let go
	}
	if l.passing != nil {
		l.passing(key, true)
		defer l.passing(key, false)
	}
	ctx, end := l.engine.pulse.pass(ctx, key, l.engine.cfg.Clock.Now())
	defer end()
	env, rel := l.engine.find(key)
	if rel == nil || env.park(rel) {
		return true
	}
	rel.work(true)
	defer rel.work(false)
	if !l.due(ctx, env, rel) {
		// The queue has dropped what it was waiting for.
		if after := rel.wakesIn(l.engine.cfg.Clock.Now()); after > 0 {
			l.addAfter(key, after)
		}
		return true
	}
	before := rel.bearing()
	status, after, err := l.engine.reconcile(ctx, key)
	switch {
	case ctx.Err() != nil:
		return true
	case errors.Is(err, errSuperseded):
		l.limiter.Forget(key)
		l.add(key)
		return true
	case l.overtaken(key, err):
		rel.hurry()
		l.addAfter(key, overtakenPause+rand.N(overtakenPause))
		return true
	case err != nil:
		// Whoever observes says so, once for equal errors in a row.
		l.engine.cfg.Log.V(1).Info("a pass ended with an error", "release", key.String(), "revision", short(status.Revision), "stage", string(status.Stage), "error", status.Message)
		after = l.retryAfter(key, err)
	default:
		l.limiter.Forget(key)
	}
	if after > 0 {
		rel.wakeAt(l.engine.cfg.Clock.Now().Add(after))
		l.addAfter(key, after)
	}
	if rel.overlooked() {
		l.add(key)
	}
	if status.State == StateRemoved && err == nil {
		env.drop(key.Release)
	}
	if rel.bearing() != before {
		l.add(env.waiting(key)...)
	}
	l.add(env.called()...)
	l.observe(status, err)
	return true
}

// overtaken reports whether a pass has ended because somebody else was faster, with
// the Release mostly. It is made again in a moment, and nothing said, a few times.
func (l *loop) overtaken(key Key, err error) bool {
	if !apierrors.IsConflict(err) || permanent(err) || l.limiter.NumRequeues(key) >= mostOvertaken {
		return false
	}
	l.limiter.When(key) // counts
	return true
}

// due finds out whether there is anything to pass over the release for.
func (l *loop) due(ctx context.Context, env *environment, rel *release) bool {
	due, unsure, missed := rel.due(l.engine.cfg.Clock.Now())
	switch {
	case due:
		return true
	case changed(ctx, env, rel, unsure):
		return true
	}
	return missed && rel.stale(func(kind schema.GroupVersionKind) *cluster.View { return l.watches.follow(env, kind) })
}

// changed reads objects again of which a watch could not tell what has changed,
// one by one until one is not as it was applied. Most often it was their status.
func changed(ctx context.Context, env *environment, rel *release, unsure []sighting) bool {
	for _, s := range unsure {
		live, err := env.hands.Get(ctx, s.kind(), s.id.Namespace, s.id.Name)
		if err != nil || live == nil || !rel.acquit(live) {
			return true // the pass finds out
		}
	}
	return false
}

// retryAfter is when to come back to a release whose pass ended with an error:
// soon, and less and less so. Files that do not render will not until there are
// others, unless it was a key service that did not answer.
func (l *loop) retryAfter(key Key, err error) time.Duration {
	var render *RenderError
	var unsettled *UnsettledError
	switch {
	case errors.As(err, &render) && !temporary(err):
		return retryRender
	case errors.As(err, &unsettled):
		return contestMin + rand.N(contestMin) // every try is many writes
	}
	return l.limiter.When(key)
}

// jitter spreads retries, so that releases that failed together do not come back
// together.
type jitter struct {
	workqueue.TypedRateLimiter[Key]
}

// When is the wait before the next try: up to half as much again.
func (j jitter) When(k Key) time.Duration {
	d := j.TypedRateLimiter.When(k)
	return d + time.Duration(rand.Int64N(int64(d)/2+1))
}
