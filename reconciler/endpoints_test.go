package reconciler

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// TestWhoseEndpointsCount is about tags of which blue has 75 percent, and green 25 with
// an autoscaler from 2.
func TestWhoseEndpointsCount(t *testing.T) {
	pods := func(name string, wanted, ready int64) func(*world) {
		return func(w *world) {
			live := w.deployment("api-" + name)
			setReplicas(live, wanted)
			w.status(live, wanted, wanted, ready)
		}
	}
	worker := func(w *world) {
		blue := &w.in.Rendered.Tags[0]
		blue.Objects = append(blue.Objects[:len(blue.Objects):len(blue.Objects)], deployment("api-blue-worker", "one", 1))
	}
	gone := func(w *world) {
		w.in.Rendered.Tags, w.in.Release.Tags = w.in.Rendered.Tags[1:], w.in.Release.Tags[1:]
	}
	ahead := func(w *world) {
		w.in.Last.Status.Traffic.Weights = []v1alpha1.TagPercent{{Tag: "blue"}, {Tag: "green", Percent: 100}, {Tag: "red"}}
	}
	const rest, leaves = "blue=75 green=25 red=0", "blue=0 green=100 red=0"
	for _, test := range []struct {
		name, want string
		now        []func(*world)
		counts     []string
	}{
		{"all are well", rest, nil, []string{"blue", "green", "red"}},
		{"one lacks a pod", rest, []func(*world){pods("blue", 15, 14)}, []string{"green", "red"}},
		{"one lacks a pod and is left", leaves, []func(*world){pods("blue", 15, 14)}, []string{"blue", "green", "red"}},
		{"a worker beside it is not well", rest, []func(*world){worker}, []string{"green", "red"}},
		{"a worker beside it is not well, and it is left", leaves, []func(*world){worker}, []string{"blue", "green", "red"}},
		{"it is unlisted", "green=100", []func(*world){pods("blue", 15, 0)}, []string{"blue", "green"}},
		{"its folder is gone", "green=100", []func(*world){gone}, []string{"blue", "green"}},
		{"one grows", rest, []func(*world){pods("green", 20, 5)}, []string{"blue", "red"}},
		{"one grows for more", leaves, []func(*world){pods("green", 20, 5)}, []string{"blue", "green", "red"}},
		{"one has less than its minimum", leaves, []func(*world){pods("green", 20, 1)}, []string{"blue", "red"}},
		{"one grows for more, and the status is ahead of the routes", leaves, []func(*world){pods("green", 20, 5), ahead}, []string{"blue", "green", "red"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, tags := carrying(t, rest)
			w.tagged(test.want, sharedObjects(), tags...)
			for _, happens := range test.now {
				happens(w)
			}
			p := &pass{in: &w.in}
			assert.ElementsMatch(t, test.counts, p.counts())
		})
	}
}
