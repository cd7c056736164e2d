package reconciler

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// Retries of passes that ended with an error.
const (
	retryMin = 250 * time.Millisecond
	retryMax = time.Minute

	retryRender = 10 * time.Minute
)

// loop is the queue of releases with its workers and watches: the same for
// Converge and Run.
type loop struct {
	engine  *Engine
	queue   workqueue.TypedRateLimitingInterface[Key]
	observe func(Status, error)
}

// startLoop starts to watch; work does the rest.
func (e *Engine) startLoop(ctx context.Context, observe func(Status, error)) (*loop, error) {
	l := &loop{engine: e, observe: observe, queue: workqueue.NewTypedRateLimitingQueue[Key](
		jitter{workqueue.NewTypedItemExponentialFailureRateLimiter[Key](retryMin, retryMax)})}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watches != nil {
		return nil, errors.New("the engine is running already")
	}
	e.watches = &watches{ctx: ctx, cluster: e.cluster, log: e.cfg.Log, event: l.event, following: map[watched]bool{}}
	return l, nil
}

// work passes over releases until ctx ends, and returns when the last pass has.
func (l *loop) work(ctx context.Context) {
	var workers sync.WaitGroup
	for range l.engine.cfg.Concurrency {
		workers.Go(func() {
			for l.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	workers.Wait()
	l.engine.mu.Lock()
	l.engine.watches = nil
	l.engine.mu.Unlock()
}

// add puts releases in the queue.
func (l *loop) add(keys ...Key) {
	for _, k := range keys {
		l.queue.Add(k)
	}
}

// next does one pass.
func (l *loop) next(ctx context.Context) bool {
	key, shutdown := l.queue.Get()
	if shutdown {
		return false
	}
	defer l.queue.Done(key)
	env, rel := l.engine.find(key)
	if rel == nil || env.park(rel) {
		return true
	}
	if due, unsure := rel.due(l.engine.cfg.Clock.Now()); !due && !l.engine.changed(ctx, rel, unsure) {
		return true
	}
	before := rel.bearing()
	status, after, err := l.engine.reconcile(ctx, key)
	switch {
	case ctx.Err() != nil:
		return true
	case errors.Is(err, errSuperseded):
		l.queue.Forget(key)
		l.queue.Add(key)
		return true
	case err != nil:
		l.engine.cfg.Log.V(1).Info("a pass ended with an error", "release", key.String(), "error", status.Message)
		l.retry(key, err)
	default:
		l.queue.Forget(key)
		if after > 0 {
			rel.wakeAt(l.engine.cfg.Clock.Now().Add(after))
			l.queue.AddAfter(key, after)
		}
	}
	if status.State == StateRemoved && err == nil {
		env.drop(key.Release)
	}
	if rel.bearing() != before {
		l.add(env.waiting()...)
	}
	l.observe(status, err)
	return true
}

// changed reads objects again of which a watch could not tell what has changed,
// one by one until one is not as it was applied. Most often it was their status.
func (e *Engine) changed(ctx context.Context, rel *release, unsure []sighting) bool {
	for _, s := range unsure {
		live, err := e.cluster.Get(ctx, s.kind(), s.id.Namespace, s.id.Name)
		if err != nil || live == nil || !rel.acquit(live) {
			return true // the pass finds out
		}
	}
	return false
}

// retry comes back to a release whose pass ended with an error: soon, and less
// and less so. Files that do not render will not until there are others.
func (l *loop) retry(key Key, err error) {
	var render *RenderError
	var unsettled *UnsettledError
	switch {
	case errors.As(err, &render):
		l.queue.AddAfter(key, retryRender)
		return
	case errors.As(err, &unsettled):
		l.queue.AddAfter(key, contestMin+rand.N(contestMin)) // every try is many writes
		return
	}
	l.queue.AddRateLimited(key)
}

// event is a change of an object in the cluster.
func (l *loop) event(namespace string, gvk schema.GroupVersionKind, object metav1.Object, deleted bool) {
	key, owned := owner(object)
	if !owned {
		return
	}
	env, rel := l.engine.find(key)
	if rel == nil {
		return
	}
	if _, _, own, _ := env.view(); own != namespace || !rel.inScopeAtAll() {
		return
	}
	id := inventory.ID{Namespace: object.GetNamespace(), Name: object.GetName(), Group: gvk.Group, Kind: gvk.Kind}
	if rel.event(gvk, object, deleted) && !rel.fights.open(id) {
		l.queue.Add(key)
	}
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
