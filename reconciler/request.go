package reconciler

import (
	"context"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// A person who does not want to wait for the next look at the repository, or for the
// next try, writes the time into an annotation of the Release (v1alpha1.
// AnnotationReconcile), as `sluice reconcile` does. It orders nothing but a look:
//
//  1. The watch of Releases, which there is anyway, tells of it. A value that was
//     seen already is none, so the rest of a Release's changes ask for nothing.
//  2. The branch is looked at, once for all that was asked until then, and at most
//     once in requestPause for whatever is asked: who may write Releases must not be
//     able to flood the forge.
//  3. Then the release is passed over, out of its turn, and the report of that pass
//     repeats the value: who has asked knows that what it says came after.
//
// A request is answered, too, when the repository could not be read: the pass is
// over what is known of it.

// requestPause is the shortest time between two looks that somebody has asked for.
const requestPause = time.Second

// maxRequest bounds the values that are taken, and repeated in a status.
const maxRequest = 64

// requestOf is what a Release is asked for; "" for nothing.
func requestOf(object *cluster.Metadata) string {
	value := object.Annotations[v1alpha1.AnnotationReconcile]
	if len(value) > maxRequest || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return value
}

// asked takes in what a Release is asked for, if that is anything new.
func (l *loop) asked(key Key, rel *release, object *cluster.Metadata) bool {
	value := requestOf(object)
	if value == "" || !rel.requests(value) {
		return false
	}
	l.mu.Lock()
	l.requests[key] = value
	l.mu.Unlock()
	select {
	case l.request <- struct{}{}:
	default: // one is waiting already, and sees this one, too
	}
	return true
}

// taken are the requests until now.
func (l *loop) taken() map[Key]string {
	select {
	case <-l.request: // a look is about to begin, whatever for
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.requests
	l.requests = map[Key]string{}
	return taken
}

// answer passes over the releases that were asked for before a look.
func (l *loop) answer(requests map[Key]string) {
	for key, value := range requests {
		if _, rel := l.engine.find(key); rel != nil && rel.inScopeAtAll() && rel.admit(value) {
			l.add(key)
		}
	}
}

// requests reports whether a value has not been seen before.
func (r *release) requests(value string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := r.requested != value
	r.requested = value
	return news
}

// admit has the next pass answer a request; false when a former process has.
func (r *release) admit(value string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastKnown && r.last != nil && r.last.Status.LastHandledReconcileAt == value {
		return false
	}
	r.admitted, r.urgent = value, true
	return true
}

// answering is the request that a pass answers.
func (r *release) answering() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.admitted
}

// replied ends a request.
func (r *release) replied(value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.admitted == value {
		r.admitted = ""
	}
}

// serve looks at the branch, and answers what was asked for before.
func (f *branch) serve(ctx context.Context) {
	requests := f.loop.taken()
	f.look(ctx)
	if ctx.Err() == nil {
		f.loop.answer(requests)
	}
}
