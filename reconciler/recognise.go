package reconciler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// What a process has applied, it knows by its marks, and a restart forgets them.
// So that an unchanged release need not be applied again by every new process,
// the status keeps one hash over all the marks of a release that was as declared,
// and a new process takes the marks up again where it finds the same
// (docs/adr/0017):
//
//  1. It plans as if every object were as it was applied, which gives the desired
//     objects that the former process had.
//  2. It hashes them and the live objects as marks are hashed. The same hash means
//     that each is what was applied then, and that nobody has touched it since.
//  3. Any difference at all, and everything of the release is applied.

// appliedState is the hash over the marks of the desired objects; "" unless all
// of them are as they were applied.
func appliedState(in *Input, desired []*unstructured.Unstructured) string {
	lines := make([]string, 0, len(desired))
	for _, o := range desired {
		if !in.synced(o) {
			return ""
		}
		id := inventory.IDOf(o)
		lines = append(lines, markLine(id, in.Marks[id]))
	}
	return hashLines(lines)
}

// markLine is one mark as the hash takes it in. Autoscalers have no generation and
// report all the time, so theirs is by content.
func markLine(id inventory.ID, m Mark) string {
	live := m.Live
	if id.GroupKind() == (schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}) && m.Content != "" {
		live = m.Content
	}
	return fmt.Sprintf("%s %s %s", id, m.Rendered, live)
}

func hashLines(lines []string) string {
	slices.Sort(lines)
	return shortHash([]byte(strings.Join(lines, "\n")))
}

// recognised are the marks of a former process; false where the release is not as
// that has left it.
func recognised(in Input) (map[inventory.ID]Mark, bool) {
	if in.Last == nil || in.Last.Status.LastAppliedState == "" || in.Hash == "" || in.Hash != in.Last.Status.LastAppliedHash || in.Rendered == nil {
		return nil, false
	}
	in.assumed = true
	d := &decision{in: &in}
	d.divide()
	marks, lines := map[inventory.ID]Mark{}, []string{}
	for _, o := range d.all() {
		live := in.live(o)
		if live == nil {
			return nil, false
		}
		id := inventory.IDOf(o)
		marks[id] = markHashed(in.hash(o), live)
		lines = append(lines, markLine(id, marks[id]))
	}
	return marks, hashLines(lines) == in.Last.Status.LastAppliedState
}

// stateEvery is how often a status is written for the applied state alone. It
// changes with every correction, and is only needed after a restart.
const stateEvery = time.Hour

// trust is what a release takes over from a former process, and hands on.
type trust struct {
	met   bool      // it has been tried
	doubt time.Time // when what was taken over is verified by applying it; zero: never
	kept  time.Time // when the status had the present state last
}

// recognise takes up the marks of a former process, once, in a controller.
func (p *pass) recognise() {
	within := p.engine.trustsFor()
	if within <= 0 || !p.release.meet() {
		return
	}
	marks, ok := recognised(*p.in)
	if !ok {
		return
	}
	for id, m := range marks {
		p.in.Marks[id] = m
		p.release.remember(id, m)
	}
	// Whoever may write a status may have forged it. All is applied once, some time
	// from now, so that restarts stay cheap and nothing is believed for ever.
	p.release.doubtAt(p.in.Now, p.in.Now.Add(within/10+time.Duration(rand.Int64N(int64(within)))))
}

// trustsFor is how long what a former process has left is believed; 0 when it is
// not.
func (e *Engine) trustsFor() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trusts
}

func (e *Engine) trust(within time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trusts = within
}

// meet reports whether this is the first time.
func (r *release) meet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.trust.met && len(r.marks) == 0
	r.trust.met = true
	return first
}

func (r *release) doubtAt(now, then time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trust.doubt, r.trust.kept = then, now
}

// verify forgets the marks that were taken over, once their time has come: then
// all is applied.
func (r *release) verify(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.trust.doubt.IsZero() && !now.Before(r.trust.doubt) {
		r.marks, r.trust.doubt = map[inventory.ID]Mark{}, time.Time{}
	}
}

// verifyIn is how long that is from now; 0 when nothing was taken over.
func (r *release) verifyIn(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trust.doubt.IsZero() {
		return 0
	}
	return max(time.Millisecond, r.trust.doubt.Sub(now))
}

// worthWriting reports whether a status that differs should be written: not, most
// of the time, when only the applied state does.
func (r *release) worthWriting(now time.Time, before, after v1alpha1.ReleaseStatus) bool {
	if sameStatus(before, after) {
		return false
	}
	state := before.LastAppliedState != after.LastAppliedState
	r.mu.Lock()
	defer r.mu.Unlock()
	before.LastAppliedState = after.LastAppliedState
	if sameStatus(before, after) && !r.trust.kept.IsZero() && now.Sub(r.trust.kept) < stateEvery {
		return false
	}
	if state {
		r.trust.kept = now
	}
	return true
}
