package reconciler

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
)

// newRelease is the Release object of a release that has none yet.
func newRelease(in *Input) *v1alpha1.Release {
	r := &v1alpha1.Release{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.ReleaseKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Release.Name, Namespace: in.Namespace.Name, Labels: map[string]string{
			v1alpha1.LabelRelease:     in.Release.Name,
			v1alpha1.LabelEnvironment: in.Release.Environment.Name,
		}},
		Spec: v1alpha1.ReleaseSpec{Project: in.Project, Repository: in.Repository, Environment: in.Release.Environment.Name},
	}
	if in.Lease != nil {
		r.Spec.Lease = *in.Lease
	}
	if in.Release.Name != envrepo.EnvironmentRelease {
		r.Spec.Component = in.Release.Component.Name
	}
	return r
}

// statusAfter is the status of a release after a verdict. It is pure, and equal
// to the one before when nothing has changed.
func statusAfter(in *Input, v Verdict) v1alpha1.ReleaseStatus {
	before := in.status()
	after := *before.DeepCopy()
	if in.Last != nil {
		after.ObservedGeneration = in.Last.Generation
	}
	after.ObservedRevision = in.Revision
	after.Refused = in.RefusedCommit
	if in.Request != "" {
		after.LastHandledReconcileAt = in.Request
	}
	after.Traffic = v.traffic
	if !v.unread {
		after.Inventory, after.Prune = inventoryOf(in, v.inventory), nil
	}
	if len(leavingOf(in, in.renderedSet())) > 0 && before.Prune != nil && before.Prune.Hash == in.Hash {
		after.Prune = before.Prune // the deletion is under way
	}
	after.Held, after.Hint = heldStatus(in), clipped(v.hint)
	after.Attempt = nil
	if !v.Ready && v.State != StatePaused {
		after.Attempt = v.attempt
		if after.Attempt == nil {
			after.Attempt = attempt(in)
		}
	}
	if v.applied {
		after.Digest, after.Tags, after.RoutesHash = v.digest, v.tags, v.routes
	} else if v.traffic != nil {
		for i, t := range after.Tags { // the routes may have moved all the same
			after.Tags[i].Weight, after.Tags[i].Mirror = share(v.traffic.Weights, t.Name), share(v.traffic.Mirrors, t.Name)
		}
	}
	if v.whole {
		after.LastAppliedRevision, after.LastAppliedHash = in.Revision, in.Hash
	}
	if v.state != "" {
		after.LastAppliedState = v.state
	}
	after.Served = servedAfter(in, before, after, v)
	after.Summary = summaryOf(after)
	setConditions(in, &after, before, v)
	return after
}

// heldStatus is the deletion that the environment's policy holds.
func heldStatus(in *Input) *v1alpha1.HeldStatus {
	h := in.Ruling.Held
	if h == nil {
		return nil
	}
	return &v1alpha1.HeldStatus{Token: h.Token, Message: h.Summary, Objects: h.Objects}
}

// maxMessage bounds the message of a condition; the schema allows eight times as
// much.
const maxMessage = 4096

func clipped(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}

func setConditions(in *Input, after *v1alpha1.ReleaseStatus, before v1alpha1.ReleaseStatus, v Verdict) {
	now := metav1.NewTime(in.Now)
	set := func(kind string, value metav1.ConditionStatus, message string) {
		reason := v.Reason
		if kind == v1alpha1.ConditionReconciling && v.Ready && v.Reconciling {
			reason = v1alpha1.ReasonDraining
		}
		meta.SetStatusCondition(&after.Conditions, metav1.Condition{Type: kind, Status: value, Reason: reason, Message: message,
			ObservedGeneration: after.ObservedGeneration, LastTransitionTime: now})
	}
	said := func(b bool) string { // once is enough
		if !b {
			return ""
		}
		return clipped(v.Message)
	}
	ready := boolean(v.Ready)
	if v.State == StatePaused {
		ready = metav1.ConditionUnknown
	}
	set(v1alpha1.ConditionReady, ready, said(true))
	set(v1alpha1.ConditionReconciling, boolean(v.Reconciling), said(v.Reconciling))
	set(v1alpha1.ConditionStalled, boolean(v.Stalled), said(v.Stalled))
	if v.Ready && !serveAlike(before, *after) {
		// Ready since then with exactly these digests, most requests to this one.
		meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionReady).LastTransitionTime = now
	}
}

// serveAlike reports whether the same digests run, and the same of them serves:
// a digest has proved itself only for as long as it had requests, so the time that
// it ran beside another one is not counted.
func serveAlike(a, b v1alpha1.ReleaseStatus) bool {
	x, y := v1alpha1.Release{Status: a}, v1alpha1.Release{Status: b}
	return slices.Equal(x.Digests(), y.Digests()) && servingDigest(a) == servingDigest(b)
}

// servingDigest is the digest with the largest weight that the routes carry, the
// first in document order on a tie; that of the release when it is untagged.
func servingDigest(s v1alpha1.ReleaseStatus) string {
	if len(s.Tags) == 0 || s.Traffic == nil {
		return s.Digest
	}
	var most v1alpha1.TagPercent
	for _, w := range s.Traffic.Weights {
		if w.Percent > most.Percent {
			most = w
		}
	}
	for _, t := range s.Tags {
		if t.Name == most.Tag {
			return t.Digest
		}
	}
	return ""
}

func boolean(b bool) metav1.ConditionStatus {
	if b {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

// summaryOf is the text for `kubectl get releases`.
func summaryOf(s v1alpha1.ReleaseStatus) v1alpha1.Summary {
	out := v1alpha1.Summary{Digests: shortDigest(s.Digest), Revision: short(s.LastAppliedRevision)}
	if len(s.Tags) > 0 {
		parts := make([]string, 0, len(s.Tags))
		for _, t := range s.Tags {
			if t.Listed || t.Weight > 0 {
				parts = append(parts, t.Name+"="+shortDigest(t.Digest))
			}
		}
		out.Digests = strings.Join(parts, " ")
	}
	if s.Traffic != nil {
		out.Traffic = formatTraffic(s.Traffic.Weights, s.Traffic.Mirrors)
	}
	return out
}

// shortDigest is a digest as people write it: 12 hex digits.
func shortDigest(digest string) string {
	_, hex, found := strings.Cut(digest, ":")
	if !found {
		hex = digest
	}
	return short(hex)
}

// sameStatus reports whether a status patch would change anything.
func sameStatus(a, b v1alpha1.ReleaseStatus) bool { return equality.Semantic.DeepEqual(a, b) }
