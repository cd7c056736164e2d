package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Soak is measured from the Ready condition's lastTransitionTime: how long these
// digests have been well, and the same of them has had the requests.
func TestReadySince(t *testing.T) {
	in := &Input{Now: start, Revision: "one", Release: newWorld(t).in.Release}
	verdict := func(blue, green string, weights ...v1alpha1.TagPercent) Verdict {
		return Verdict{State: StateReady, Reason: v1alpha1.ReasonReady, Ready: true, applied: true,
			tags: []v1alpha1.TagStatus{
				{Name: "blue", Digest: blue, Listed: true, Weight: share(weights, "blue"), Ready: true},
				{Name: "green", Digest: green, Listed: true, Weight: share(weights, "green"), Ready: true},
			},
			traffic: &v1alpha1.TrafficStatus{Weights: weights}}
	}
	weights := func(blue, green int) []v1alpha1.TagPercent {
		return []v1alpha1.TagPercent{{Tag: "blue", Percent: blue}, {Tag: "green", Percent: green}}
	}
	for _, step := range []struct {
		name     string
		verdict  Verdict
		restarts bool
	}{
		{"ready", verdict("1", "2", weights(100, 0)...), true},
		{"a smaller share of the same", verdict("1", "2", weights(90, 10)...), false},
		{"a tie, the first in document order", verdict("1", "2", weights(50, 50)...), false},
		{"another has the most requests", verdict("1", "2", weights(40, 60)...), true},
		{"all of them", verdict("1", "2", weights(0, 100)...), false},
		{"another digest in the idle tag", verdict("3", "2", weights(0, 100)...), true},
		{"the same digest in both", verdict("2", "2", weights(0, 100)...), true},
		{"then it does not matter who serves", verdict("2", "2", weights(100, 0)...), false},
	} {
		in.Now = in.Now.Add(time.Minute)
		var before metav1.Time
		if in.Last == nil {
			in.Last = newRelease(in)
		} else {
			before = meta.FindStatusCondition(in.Last.Status.Conditions, v1alpha1.ConditionReady).LastTransitionTime
		}
		in.Last.Status = statusAfter(in, step.verdict)
		after := meta.FindStatusCondition(in.Last.Status.Conditions, v1alpha1.ConditionReady).LastTransitionTime
		if step.restarts {
			assert.Equal(t, in.Now, after.Time, step.name)
		} else {
			assert.Equal(t, before, after, step.name)
		}
	}
}
