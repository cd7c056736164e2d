package reconciler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// conclude is the verdict of a plan that was not refused.
func (d *decision) conclude() {
	v := &d.plan.Verdict
	v.applied = true
	v.digest, v.tags = d.tags()
	v.traffic = d.routes.carries(d.in.Now)
	v.routes = d.routes.remembered(d.in)
	v.inventory, v.keepers = inventory.Of(d.all()...).Union(d.left), d.keepers
	v.Notes = append(v.Notes, d.routes.mirrors...)
	if len(d.in.Circle) > 0 {
		v.Notes = append(v.Notes, circleText(d.in.Circle)+": its next change will not be applied")
	}
	failed := v.Stalled
	v.Stalled = false

	d.judge(v)
	if v.Ready {
		d.scheduleReady(v)
		if !v.Reconciling && v.After == 0 {
			v.state = appliedState(d.in, d.all())
		}
		return
	}
	if d.blocked && d.in.Ruling.Held != nil {
		v.Notes = append(v.Notes, d.in.Ruling.Held.Message)
	}
	v.attempt = attempt(d.in)
	if v.Reason == v1alpha1.ReasonRenderFailed && (v.Stalled || v.State == StateWaiting) {
		d.scheduleBroken(v)
		return
	}
	d.scheduleWaiting(v, failed)
}

// judge finds the state, the gravest reason first.
func (d *decision) judge(v *Verdict) {
	say := func(state State, reason, message string) {
		v.State, v.Reason, v.Message, v.Reconciling = state, reason, message, true
	}
	refused, broken := d.routes.refused, d.brokenTags()
	contested, _ := d.contests()
	unready := d.unready()
	pending, refusal := accepted(d.in, d.routes.objects)
	switch {
	case len(d.in.Refused) > 0:
		say(StateFailed, v1alpha1.ReasonApplyFailed, masked(applyError(d.in.Refused).Error(), d.in.Rendered.Values))
		v.Reconciling, v.Stalled = false, true
	case refused != nil && !d.routes.heldUnit:
		say(StateFailed, v1alpha1.ReasonTrafficRefused, refused.Error())
		v.Reconciling, v.Stalled = false, true
	case contested != "":
		say(StateHeld, v1alpha1.ReasonContested, contested)
		v.Reconciling, v.Stalled = false, true
	case d.routes.held != "" && d.in.Release.Tagged() && (len(d.routes.had.Weights) > 0 || len(d.routes.kept) > 0 && !d.routes.converting):
		say(StateHeld, v1alpha1.ReasonTrafficHeld, d.routes.held)
		v.hint = d.routes.remedy
		if d.routes.broken {
			v.Reason = v1alpha1.ReasonRenderFailed
			v.Stalled = !d.pending && len(unready) == 0
			v.Reconciling = !v.Stalled
		}
	case d.pending:
		say(StateWaiting, v1alpha1.ReasonApplying, "objects are being applied")
	case len(d.ending) > 0:
		say(StateWaiting, v1alpha1.ReasonTerminating, d.endings())
	case len(unready) > 0:
		say(StateWaiting, v1alpha1.ReasonWaitingForHealth, strings.Join(unready, "; "))
		v.hint = d.routes.remedy
	case refusal != "":
		say(StateWaiting, v1alpha1.ReasonRouteNotAccepted, refusal)
	case d.moving:
		say(StateWaiting, v1alpha1.ReasonApplying, "the routes are being written")
	case pending:
		say(StateWaiting, v1alpha1.ReasonRouteNotAccepted, "the routes have not been looked at by their gateway yet")
	case broken != "":
		d.judgeBroken(v, broken)
	default:
		v.State, v.Ready, v.Reason, v.Message, v.whole = StateReady, true, v1alpha1.ReasonReady, d.summary(), true
		d.judgeLeaving(v)
	}
	if broken != "" && v.Reason != v1alpha1.ReasonRenderFailed {
		v.Notes = append(v.Notes, broken)
	}
}

// judgeLeaving says what of the old is still there when all that is declared is as
// it should be.
func (d *decision) judgeLeaving(v *Verdict) {
	r := d.in.Ruling
	switch {
	case d.blocked && r.Held != nil:
		// Ready all the same: what is declared runs.
		v.State, v.Reason, v.Message, v.Stalled = StateHeld, r.Held.Reason, r.Held.Message, true
	case r.Stuck && (d.blocked || d.handing != ""):
		v.State, v.Reason, v.Message, v.Stalled = StateHeld, v1alpha1.ReasonPruneHeld, d.drainMessage(), true
	case d.retiring || len(d.deferred) > 0 || d.blocked || d.handing != "":
		v.Reconciling, v.Message = true, d.drainMessage()
	case len(d.keeping) > 0:
		v.State, v.Reason, v.Message, v.Stalled = StateHeld, v1alpha1.ReasonRetireHeld, d.drainMessage(), true
		v.hint = d.remedy
	}
}

// unready lists the listed units that are not as they should be.
func (d *decision) unready() []string {
	wasWhole := d.in.Hash != "" && d.in.Hash == d.in.status().LastAppliedHash
	var out []string
	for _, u := range d.units {
		if !u.listed || u.ready || u.broken != "" || wasWhole && u.serving {
			continue
		}
		text := u.message
		if u.tag != "" {
			text = u.name() + " is not ready: " + text
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// scheduleReady sets when a release that is ready has to be seen again: when
// requests have ended, when a lifted minimum goes back.
func (d *decision) scheduleReady(v *Verdict) {
	if v.Reconciling {
		v.After = later(v.After, cmp.Or(drained(d.in, d.routes.had.RoutedAt), recheckMax))
		v.attempt = nil
	} else {
		v.After = later(v.After, d.untilRetired()) // though what has left is held
	}
	if d.lifted() {
		v.After = later(v.After, graceLeft(d.in, d.routes.had))
	}
}

// Recheck intervals: pods change without their workload changing (an image that
// cannot be pulled, a crash loop), so whoever waits looks again now and then.
const (
	recheckMin = time.Second
	recheckMax = 15 * time.Second
	// What only a person can change is looked at rarely.
	recheckStalled = time.Minute
)

// scheduleWaiting sets when a release that is not ready is seen again, and gives
// up for now when it has been waited for too long. It is looked at all the same:
// what gets well later is routed later.
func (d *decision) scheduleWaiting(v *Verdict, failed bool) {
	waited := d.in.Now.Sub(v.attempt.Since.Time)
	limit := d.in.healthTimeout()
	if v.Reason == v1alpha1.ReasonContested {
		_, after := d.contests()
		v.After = later(later(after, recheckStalled), d.untilRetired())
		if d.pending || d.moving {
			v.After = recheckMin
		}
		return
	}
	if v.Reason == v1alpha1.ReasonApplying {
		v.After = recheckMin // something was just written: nobody has had time yet
		return
	}
	if v.Reconciling && (failed || waited >= limit) {
		v.Reconciling, v.Stalled = false, true
		if v.State == StateWaiting {
			v.State, v.Reason = StateFailed, v1alpha1.ReasonHealthFailed
			if !failed {
				v.Reason = v1alpha1.ReasonHealthTimeout
				v.Message = fmt.Sprintf("not ready within %s: %s", limit, v.Message)
			}
		}
	}
	v.After = max(recheckMin, min(waited/2, recheckMax))
	if v.Reconciling {
		v.After = later(v.After, limit-waited)
	}
}

const defaultHealthTimeout = 5 * time.Minute

// healthTimeout is how long the release may take to become ready.
func (in *Input) healthTimeout() time.Duration {
	if t := in.Release.Component.HealthTimeout; t > 0 {
		return t
	}
	return defaultHealthTimeout
}

// attempt is since when the present content is being brought about.
func attempt(in *Input) *v1alpha1.Attempt {
	last := in.status().Attempt
	if last != nil && last.Hash == in.Hash {
		return last
	}
	return &v1alpha1.Attempt{Hash: in.Hash, Since: metav1.NewTime(in.Now.Truncate(time.Second))}
}

// later is the earlier of two delays, where 0 is none.
func later(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// tags is what is reported of the deployments.
func (d *decision) tags() (digest string, tags []v1alpha1.TagStatus) {
	if !d.in.Release.Tagged() {
		return d.in.Release.Digest, nil
	}
	carries := v1alpha1.TrafficStatus{}
	if t := d.routes.carries(d.in.Now); t != nil {
		carries = *t
	}
	for _, u := range d.units {
		if u.shared {
			continue
		}
		t := v1alpha1.TagStatus{Name: u.tag, Digest: u.digest, Listed: u.listed,
			Weight: share(carries.Weights, u.tag), Mirror: share(carries.Mirrors, u.tag)}
		switch {
		case u.broken != "":
			t.Message = u.message
		case u.retired:
			t.Message = "scaled to zero"
		case !u.listed:
			t.Message = "waits for its requests to end"
			if r, kept := keptOf(d.leadingTo(u.service)); kept {
				t.Message = r.name() + ", which is kept, leads requests to it"
			}
		default:
			t.Ready, t.Message = u.ready || u.serving, u.message
		}
		tags = append(tags, t)
	}
	return "", tags
}

func (d *decision) summary() string {
	n := len(d.all())
	if n == 1 {
		return "1 object is as declared"
	}
	return fmt.Sprintf("%d objects are as declared", n)
}

func (d *decision) drainMessage() string {
	parts := slices.Clone(d.keeping)
	for _, u := range d.units {
		if _, kept := keptOf(d.leadingTo(u.service)); !u.listed && !u.retired && u.broken == "" && !kept {
			parts = append(parts, u.name()+" is scaled to zero when its requests have ended")
		}
	}
	for _, id := range d.deferred {
		parts = append(parts, id.Display()+" is pruned when nothing needs it")
	}
	if d.handing != "" {
		parts = append(parts, d.handing)
	}
	if d.blocked && d.in.Ruling.Wait != "" {
		parts = append(parts, "what has left the repository is not deleted yet: "+d.in.Ruling.Wait)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
