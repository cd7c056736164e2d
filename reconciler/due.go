package reconciler

import (
	"maps"
	"path"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// Why a release is due decides when its turn comes. A release keeps the rank of
// its change until it is settled: what a traffic change waits for overtakes a bulk
// sync as well as the change itself does.
const (
	rankResync  = iota + 1
	rankStatus  // what happens to objects that are applied already
	rankBulk    // one change of very many releases: a first sync, a shared base
	rankChange  // a commit that changes few, and drift
	rankTraffic // a change of weights: mostly somebody is leaving a broken tag
)

// few is how many releases a commit may change without being a bulk sync.
const few = 20

// occasions are why the next pass over a release is due.
type occasions struct {
	// events has what was seen of objects and may turn out to be our own writes,
	// urgent is anything else.
	events map[inventory.ID]sighting
	urgent bool
	resync bool      // look whether anything has been missed
	parked bool      // waits for the environment's own release
	wake   time.Time // look again then, whatever happens
	busy   bool      // a pass is on its way

	requested string // what the Release was asked for last: see request.go
	admitted  string // to be answered by the next report

	rank    int    // of the change that is being brought about
	traffic string // hash of traffic.yaml
}

// ranked says how urgent the change is that was set last. traffic is the hash of
// traffic.yaml, "" where there is none.
func (r *release) ranked(rank int, traffic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.traffic != "" && traffic != "" && r.traffic != traffic {
		rank = rankTraffic
	}
	r.traffic = traffic
	r.rank = max(r.rank, rank)
}

// rank says how urgent a change of these releases is. The environment is locked.
func (e *Engine) rank(env *environment, changed []Key) {
	rank := rankChange
	if len(changed) > few {
		rank = rankBulk
	}
	var releases []*release
	for _, key := range changed {
		if r := env.releases[key.Release]; r != nil {
			r.ranked(rank, env.traffic(key.Release))
			releases = append(releases, r)
		}
	}
	if rank == rankBulk {
		e.ahead.expect(releases)
	}
}

// traffic is the hash of a release's traffic.yaml, "" where there is none.
func (env *environment) traffic(release string) string {
	if env.inputs.fsys == nil {
		return ""
	}
	hash, err := hashPath(env.inputs.fsys, path.Join("environments", env.name, release, "traffic.yaml"))
	if err != nil {
		return "" // the render says so
	}
	return hash
}

// priority is where in the queue the release belongs.
func (r *release) priority() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.urgent && r.settled():
		return max(r.rank, rankChange)
	case r.settled() && r.resync:
		return rankResync
	case r.settled():
		return rankChange
	case r.rank <= rankBulk && r.passed == r.want.hash:
		return rankStatus
	}
	return max(r.rank, rankBulk)
}

// settled reports whether the last pass found everything as declared.
func (r *release) settled() bool {
	return r.passed == r.want.hash && r.verdict.Ready && !r.verdict.Reconciling
}

// notice is what an event means to a release.
type notice int

const (
	noticeNone notice = iota
	noticeSoon        // the status of an object: others will follow
	noticeNow         // drift, most likely
)

// event takes in that an object has changed, and says what that means. While a
// pass is on its way nobody can tell: our own writes come back as events before
// the API server's answer has been read. Then due finds out.
func (r *release) event(s sighting) notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told(s)
	n := noticeNow
	if !r.busy {
		if n = r.meaning(s); n == noticeNone {
			return n
		}
	}
	r.events[s.id] = s
	return n
}

// meaning is what an event means that comes, or was waited with, while no pass is
// on its way: all that this process has written is known.
func (r *release) meaning(s sighting) notice {
	switch {
	case s.id.GroupKind() == releaseKind.GroupKind():
		if r.wroteRelease(s.version) {
			return noticeNone
		}
		return noticeNow
	case s.id.GroupKind() == sliceKind.GroupKind():
		if r.countsEndpoints && !r.settled() {
			return noticeSoon
		}
		return noticeNone
	case r.wrote(s):
		return noticeNone
	}
	mark, applied := r.marks[s.id]
	if seen, keeps := r.verdict.keepers[s.id]; keeps && seen.fingerprint != s.fingerprint {
		return noticeNow // an old route that is kept has gone, or changed
	}
	switch {
	case !applied && (r.settled() || !r.listed[s.id]):
		return noticeNone
	case applied && mark.Live == s.fingerprint && r.judged(s.id.GroupKind()):
		return noticeSoon // its status: only a pass can tell
	case applied && mark.Live == s.fingerprint && r.settled():
		return noticeNone
	case applied && mark.Live == s.fingerprint:
		return noticeSoon // routes and autoscalers have a status, too
	}
	return noticeNow
}

// due takes the reasons for a pass; false when there are none, or all of them were
// our own writes. Without a reason there may be objects of which only their content
// tells whether they are one: unsure. missed says that a resync has to look for
// what no event has told.
func (r *release) due(now time.Time) (due bool, unsure []sighting, missed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, resync := r.events, r.resync
	due = r.urgent || !r.wake.IsZero() && !now.Before(r.wake) || !r.settled() && (len(events) == 0 || resync)
	r.events, r.urgent, r.resync = map[inventory.ID]sighting{}, false, false
	for id, s := range events {
		mark, applied := r.marks[id]
		switch {
		case r.meaning(s) == noticeNone:
		case r.settled() && applied && s.fingerprint != "" && mark.Live != s.fingerprint && mark.Content != "" && !r.judged(id.GroupKind()):
			unsure = append(unsure, s)
		default:
			due = true
		}
	}
	if due {
		r.wake, unsure = time.Time{}, nil
	}
	return due, unsure, resync && !due
}

// overlooked reports whether an event is waiting that was no reason for a pass while
// its object was fought for, which it is no more.
func (r *release) overlooked() bool {
	r.mu.Lock()
	ids := slices.Collect(maps.Keys(r.events))
	r.mu.Unlock()
	return slices.ContainsFunc(ids, func(id inventory.ID) bool { return !r.fights.open(id) })
}

// work marks the time between the reasons for a pass being taken and its end.
func (r *release) work(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = on
}

// wakeAt has the release looked at again at a time.
func (r *release) wakeAt(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = t
}

// wakesIn is the time until then, 0 if there is none.
func (r *release) wakesIn(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake.IsZero() {
		return 0
	}
	return max(time.Millisecond, r.wake.Sub(now))
}

// hurry makes the next pass happen whatever the events were.
func (r *release) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urgent = true
}

// hurried reports whether such a pass has yet to begin.
func (r *release) hurried() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.urgent
}

// recheck has a resync look whether anything was missed.
func (r *release) recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resync = true
}

// acquit reports whether an object that was read again has the content that was
// applied, and if so remembers it as it is now.
func (r *release) acquit(live *unstructured.Unstructured) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := inventory.IDOf(live)
	mark, ok := r.marks[id].renewed(live)
	if ok {
		r.marks[id] = mark
		r.answers[id] = answer{uid: live.GetUID(), version: live.GetResourceVersion()}
	}
	return ok
}

// rerouted reports whether an old route that keeps something from ending is not as the
// last pass found it.
func (r *release) rerouted(view func(schema.GroupVersionKind) *cluster.View) bool {
	r.mu.Lock()
	keepers := r.verdict.keepers // which nobody changes
	r.mu.Unlock()
	for id, seen := range keepers {
		live, _, ok := find(view(seen.kind()), id.Name)
		if !ok || live == nil || fingerprint(live) != seen.fingerprint {
			return true
		}
	}
	return false
}

// stale reports whether a release that is settled may not be as it was left, going
// by what the views hold. What they do not hold has to be read.
func (r *release) stale(view func(schema.GroupVersionKind) *cluster.View) bool {
	r.mu.Lock()
	marks, answers := maps.Clone(r.marks), maps.Clone(r.answers)
	r.mu.Unlock()
	for id, mark := range marks {
		live, _, ok := find(view(id.GroupKind().WithVersion(mark.Version)), id.Name)
		if !ok || live == nil || fingerprint(live) != mark.Live {
			return true
		}
		if newer, sure := cluster.Newer(live.ResourceVersion, answers[id].version); r.judged(id.GroupKind()) && (newer || !sure) {
			return true
		}
	}
	if r.rerouted(view) {
		return true
	}
	live, _, ok := find(view(releaseKind), r.key.Release)
	r.mu.Lock()
	defer r.mu.Unlock()
	return !ok || live == nil || !r.wroteRelease(live.ResourceVersion)
}
