package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition returns a condition of the release, the zero one when it is absent.
func (r *Release) Condition(kind string) metav1.Condition {
	if c := meta.FindStatusCondition(r.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// Ready reports whether everything the repository declares runs and is routed.
func (r *Release) Ready() bool {
	return meta.IsStatusConditionTrue(r.Status.Conditions, ConditionReady)
}

// Digests lists the image digests of the release, without repetition: that of
// an untagged release, or those of the listed tags sorted by tag.
func (r *Release) Digests() []string {
	var digests []string
	seen := map[string]bool{"": true}
	add := func(digest string) {
		if !seen[digest] {
			seen[digest] = true
			digests = append(digests, digest)
		}
	}
	add(r.Status.Digest)
	for _, t := range r.Status.Tags {
		if t.Listed || t.Weight > 0 {
			add(t.Digest)
		}
	}
	return digests
}
