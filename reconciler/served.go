package reconciler

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// maxServed bounds the memory of digests that served.
const maxServed = 10

// servedAfter remembers the digest that a commit has replaced while it served and
// was ready, and from when to when it did: an environment that moves on fast would
// otherwise leave nothing proven behind. A digest that ceased to be ready by itself
// is not remembered, nor is one that is back: that is for the Ready condition to
// say, whose time starts anew.
func servedAfter(in *Input, before, after v1alpha1.ReleaseStatus, v Verdict) []v1alpha1.ServedDigest {
	list := slices.Clone(before.Served)
	was, ready := servingDigest(before), readyCondition(before)
	replaced := in.Hash != before.LastAppliedHash || servingDigest(after) != was
	if was != "" && ready.Status == metav1.ConditionTrue && replaced {
		list = slices.DeleteFunc(list, func(s v1alpha1.ServedDigest) bool { return s.Digest == was })
		list = append(list, v1alpha1.ServedDigest{Digest: was, Since: ready.LastTransitionTime, Until: metav1.NewTime(in.Now)})
	}
	if v.applied {
		serving := servingDigest(after)
		list = slices.DeleteFunc(list, func(s v1alpha1.ServedDigest) bool { return s.Digest == serving })
	}
	if len(list) == 0 {
		return nil
	}
	return list[max(0, len(list)-maxServed):]
}

func readyCondition(s v1alpha1.ReleaseStatus) metav1.Condition {
	r := v1alpha1.Release{Status: s}
	return r.Condition(v1alpha1.ConditionReady)
}
