package reconciler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// scaled is a world of two or three tags with autoscalers from 2 to 100, where
// the first carries everything with so many pods, found right by its autoscaler.
func scaled(t *testing.T, pods int64, names ...string) (*world, []render.TagObjects) {
	w := newWorld(t)
	var tags []render.TagObjects
	weights := ""
	for i, name := range names {
		tags = append(tags, tag(name, name, 2, hpa("api-"+name, 2, 100)))
		weights += fmt.Sprintf(" %s=%d", name, map[bool]int{true: 100}[i == 0])
	}
	w.tagged(weights, sharedObjects(), tags...)
	w.pass()
	for _, name := range names {
		w.up("api-" + name)
	}
	w.pass()
	w.autoscale("api-"+names[0], pods)
	w.after(time.Hour)
	w.pass()
	return w, tags
}

// autoscale is what an autoscaler finds right for its Deployment.
func (w *world) autoscale(name string, pods int64) {
	live := w.deployment(name)
	setReplicas(live, pods)
	own(live, fieldManager, false)
	own(live, scaleManager, false)
	w.bump(live, true)
	w.up(name)
}

func (w *world) replicas(name string) int64 {
	n, _, _ := unstructured.NestedInt64(w.deployment(name).Object, "spec", "replicas")
	return n
}

// route has the weights committed and the pods started, until they are routed.
func (w *world) route(weights string, tags ...render.TagObjects) {
	w.t.Helper()
	w.version++
	w.commit(1000 + w.version)
	w.tagged(weights, sharedObjects(), tags...)
	for range 3 {
		w.pass()
		for _, t := range tags {
			w.up("api-" + t.Name)
		}
	}
	assert.Equal(w.t, weights, w.in.Last.Status.Summary.Traffic)
}

func TestDecideCapacityInTwoSteps(t *testing.T) {
	for _, pause := range []time.Duration{time.Minute, time.Hour} {
		t.Run("after "+pause.String(), func(t *testing.T) {
			w, tags := scaled(t, 20, "blue", "green")
			w.route("blue=75 green=25", tags...)
			assert.EqualValues(t, 5, w.replicas("api-green"))
			w.after(pause)
			w.pass()
			w.commit(3)
			w.tagged("blue=0 green=100", sharedObjects(), tags...)
			equal(t, `
release api in production, namespace shop, revision c00000000000
scale
  Deployment/api-green to 20
apply scaling
  HorizontalPodAutoscaler/api-green (update)
hold routes: routes stay at blue=75 green=25: tag green is not ready: 5 of the 20 replicas that its share needs are ready
report Held TrafficHeld: routes stay at blue=75 green=25: tag green is not ready: 5 of the 20 replicas that its share needs are ready
again in 1s
`, firstOf(w.pass()))
			for n := int64(6); n < 20; n++ { // one pod after the other: what it needs does not grow with it
				w.status(w.deployment("api-green"), 20, 20, n)
				assert.NotContains(t, w.pass(), "route ")
				assert.EqualValues(t, 20, minimum(w, "api-green"))
			}
			w.up("api-green")
			assert.Contains(t, w.pass(), "\nroute blue=0 green=100\n")
			assert.EqualValues(t, 20, w.replicas("api-green"))
		})
	}
}

// carrying is a world of the tags blue, green and red with autoscalers from 2 to 100,
// whose routes carry the weights and whose autoscalers have found right what a load
// of 20 pods takes.
func carrying(t *testing.T, weights string) (*world, []render.TagObjects) {
	w, tags := scaled(t, 20, "blue", "green", "red")
	w.route(weights, tags...)
	w.after(time.Hour)
	w.pass()
	for _, s := range w.in.Last.Status.Traffic.Weights {
		w.autoscale("api-"+s.Tag, max(2, int64(20*s.Percent/100)))
	}
	w.pass()
	return w, tags
}

func TestDecideLeavingWhatNobodyAnswers(t *testing.T) {
	const blueGreen = "blue=75 green=25 red=0"
	pods := func(name string, total, updated, ready int64) func(*world) {
		return func(w *world) {
			live := w.deployment("api-" + name)
			setReplicas(live, total)
			w.status(live, total, updated, ready)
		}
	}
	// started has the commit in the cluster for a while already.
	started := func(w *world) {
		w.pass()
		w.pass()
	}
	blueDown := pods("blue", 15, 15, 0)
	// atMost has the autoscaler of a tag declared with another maximum.
	atMost := func(name string, n int) func(*world) {
		return func(w *world) {
			i := slices.IndexFunc(w.in.Rendered.Tags, func(t render.TagObjects) bool { return t.Name == name })
			declared := &w.in.Rendered.Tags[i]
			declared.Objects = append(slices.Clone(declared.Objects[:2]), w.own(tag(name, name, 2, hpa("api-"+name, 2, n)).Objects[2:])...)
		}
	}
	endpoints := func(n int) func(*world) { return func(w *world) { w.in.Endpoints["api-blue"] = n } }
	// worker has 20 pods of blue run that its Service does not select.
	worker := func(w *world) {
		blue := &w.in.Rendered.Tags[0]
		o := w.own(tag("blue", "blue", 2, deployment("api-blue-worker", "blue", 20)).Objects[2:])[0]
		blue.Objects = append(slices.Clone(blue.Objects), o)
		w.in.noteApplied(o, w.apply(o))
		w.in.Inventory = w.in.Inventory.Union(inventory.Of(o))
		w.up("api-blue-worker")
	}
	without := func(name string) func(*world) {
		return func(w *world) {
			tags := w.in.Rendered.Tags
			w.in.Rendered.Tags = slices.DeleteFunc(tags, func(t render.TagObjects) bool { return t.Name == name })
		}
	}
	// fixed has green declared with five pods and no autoscaler.
	fixed := func(w *world) {
		green := &w.in.Rendered.Tags[1]
		green.Objects = w.own(tag("green", "green", 5).Objects)
		delete(w.in.Live, inventory.IDOf(hpa("api-green", 2, 100)))
	}
	// anew has blue's Deployment declared by another name, and its endpoints unknown.
	anew := func(w *world) {
		tag := &w.in.Rendered.Tags[0]
		tag.Objects = slices.Clone(tag.Objects)
		for i, o := range tag.Objects {
			if isWorkload(o) {
				tag.Objects[i] = o.DeepCopy()
				tag.Objects[i].SetName("api-blue-v2")
			}
		}
		delete(w.in.Endpoints, "api-blue")
	}
	unknown := func(w *world) {
		w.deployment("api-blue").SetLabels(nil)
		delete(w.in.Endpoints, "api-blue")
	}
	broken := func(w *world) {
		tag := &w.in.Rendered.Tags[0]
		tag.Broken, tag.Objects = errors.New("kustomization.yaml: no such field"), nil
		delete(w.in.Endpoints, "api-blue") // its Service has not been looked at
	}
	for _, test := range []struct {
		name          string
		carried, want string
		now           []func(*world)
		held          string // "" when the routes move at once
		asks          int64  // of green's autoscaler; 0 where it has none
	}{
		{"a healthy tag", blueGreen, "blue=0 green=100 red=0", nil, "5 of the 20 replicas that its share needs are ready", 20},
		{"one with a single pod left", blueGreen, "blue=0 green=100 red=0", []func(*world){pods("blue", 15, 15, 1)}, "", 20},
		{"one that serves as thinly as green would", blueGreen, "blue=0 green=100 red=0", []func(*world){pods("blue", 15, 15, 3)}, "", 20},
		{"one that serves better than green would", blueGreen, "blue=0 green=100 red=0", []func(*world){pods("blue", 15, 15, 4)}, "5 of the 6 replicas", 20},
		{"one in the middle of a rollout", blueGreen, "blue=0 green=100 red=0", []func(*world){pods("blue", 18, 8, 12)}, "5 of the 16 replicas", 20},
		{"one of which nothing is known", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){pods("blue", 15, 15, 1), unknown}, "5 of the 20 replicas", 20},
		{"one without a pod", blueGreen, "blue=0 green=100 red=0", []func(*world){blueDown}, "", 20},
		{"partly", blueGreen, "blue=25 green=75 red=0", []func(*world){blueDown}, "", 15},
		{"to one that holds a mirror back", blueGreen, "blue=0 green=100 red=0 mirror:red=10", []func(*world){blueDown, pods("red", 2, 2, 0)}, "", 20},
		{"that is not listed any more", blueGreen, "green=100", []func(*world){blueDown}, "", 20},
		{"whose folder is gone", blueGreen, "green=100", []func(*world){blueDown, without("blue")}, "", 20},
		{"whose folder is gone, and which is healthy", blueGreen, "green=100", []func(*world){without("blue")}, "5 of the 20 replicas", 20},
		{"that does not render", blueGreen, "blue=0 green=100 red=0", []func(*world){blueDown, broken}, "", 20},
		{"that does not render, and is healthy", blueGreen, "blue=0 green=100 red=0", []func(*world){broken}, "5 of the 20 replicas", 20},
		{"whose Service has no endpoint", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){endpoints(0)}, "", 20},
		{"whose Service has not all of its endpoints yet", blueGreen, "blue=0 green=100 red=0", []func(*world){endpoints(1)}, "5 of the 20 replicas", 20},
		{"whose Service counts pods that are not ready", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){pods("blue", 15, 15, 1), endpoints(15)}, "", 20},
		{"with a single pod left beside its workers", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){pods("blue", 15, 15, 1), worker}, "", 20},
		{"that is healthy beside its workers", blueGreen, "blue=0 green=100 red=0", []func(*world){worker}, "5 of the 20 replicas", 20},

		{"whose Deployment gets another name, and which is healthy", blueGreen, "blue=0 green=100 red=0", []func(*world){anew}, "5 of the 20 replicas", 20},
		{"whose Deployment gets another name", blueGreen, "blue=0 green=100 red=0", []func(*world){blueDown, anew}, "", 20},
		{"whose Service has endpoints all the same", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){blueDown, endpoints(15)}, "5 of the 20 replicas", 20},

		{"for one that cannot start what its autoscaler asks for", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){started, pods("green", 20, 20, 5), blueDown}, "", 20},
		{"for one that may start no pod more", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){started, func(w *world) { w.status(w.deployment("api-green"), 5, 5, 5) }, blueDown}, "", 20},
		{"for one that has not got its minimum", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){started, pods("green", 20, 20, 1), blueDown}, "tag green is not ready", 20},
		{"for one in the middle of a rollout", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){blueDown, pods("green", 7, 4, 5)}, "tag green is not ready", 28},
		{"for one without an autoscaler that lacks a pod", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){fixed, started, blueDown, pods("green", 5, 5, 4)}, "", 0},
		{"for one without an autoscaler that has no pod", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){fixed, started, blueDown, pods("green", 5, 5, 0)}, "tag green is not ready", 0},
		{"for one without an autoscaler that lacks a pod, and a healthy one", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){fixed, started, pods("green", 5, 5, 4)}, "tag green is not ready", 0},
		{"for one that may have too few, and one with a single pod left", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){atMost("green", 8), pods("blue", 15, 15, 1)}, "", 8},
		{"for one that is broken too", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){blueDown, pods("green", 5, 5, 0)}, "tag green is not ready", 2},
		{"for one whose Service has no endpoint", blueGreen, "blue=0 green=100 red=0",
			[]func(*world){blueDown, func(w *world) { w.in.Endpoints["api-green"] = 0 }}, "Service/api-green has no ready endpoint", 20},

		{"with a healthy one", "blue=50 green=25 red=25", "blue=0 green=100 red=0", []func(*world){pods("blue", 10, 10, 0)}, "5 of the 10 replicas", 20},
		{"with a healthy one whose share can be carried", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){started, pods("blue", 10, 10, 0), pods("green", 20, 20, 10)}, "", 20},
		{"with a healthy one whose share cannot be carried", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){started, pods("blue", 10, 10, 0), pods("green", 20, 20, 9)}, "9 of the 10 replicas", 20},
		{"beside a healthy one", "blue=50 green=25 red=25", "blue=0 green=75 red=25", []func(*world){pods("blue", 10, 10, 0)}, "", 15},
		{"for two", "blue=50 green=25 red=25", "blue=0 green=50 red=50", []func(*world){pods("blue", 10, 10, 0)}, "", 10},
		{"with a healthy one, for one whose maximum is too small for that", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){atMost("green", 8), started, pods("blue", 10, 10, 0), pods("green", 8, 8, 8)},
			"its share needs 10 replicas, and HorizontalPodAutoscaler/api-green allows 8", 2},
		{"with a healthy one, for one that may have what that takes and no more", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){atMost("green", 10), started, pods("blue", 10, 10, 0), pods("green", 10, 10, 10)}, "", 10},
		{"with a healthy one that may have no more either", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){atMost("green", 8), atMost("red", 8), started, pods("blue", 10, 10, 0), pods("green", 8, 8, 8)}, "", 8},
		{"with a healthy one, for one that has not got what it may", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){atMost("green", 8), atMost("red", 8), started, pods("blue", 10, 10, 0), pods("green", 8, 8, 7)}, "7 of the 8 replicas", 8},
		{"whose pods an autoscaler has grown in vain, with a healthy one", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){atMost("green", 3), pods("red", 2, 2, 2), pods("green", 2, 2, 2), endpoints(0)}, "2 of the 3 replicas", 3},
		{"alone, for one whose maximum is too small", "blue=50 green=25 red=25", "blue=0 green=75 red=25",
			[]func(*world){atMost("green", 8), started, pods("blue", 10, 10, 0)}, "", 8},
		{"that has a single pod left, with a healthy one", "blue=50 green=25 red=25", "blue=0 green=100 red=0",
			[]func(*world){pods("blue", 10, 10, 1)}, "5 of the 20 replicas", 20},
		{"but not it: a healthy one", "blue=50 green=25 red=25", "blue=50 green=50 red=0", []func(*world){pods("blue", 10, 10, 0)}, "5 of the 10 replicas", 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, tags := carrying(t, test.carried)
			w.commit(2000)
			w.tagged(test.want, sharedObjects(), tags...)
			for _, happens := range test.now {
				happens(w)
			}
			text := w.pass()
			if test.held == "" {
				assert.Contains(t, text, "\nroute "+strings.TrimSuffix(test.want, " mirror:red=10")+"\n")
			} else {
				assert.NotContains(t, text, "\nroute ")
				assert.Contains(t, text, "hold routes: routes stay at "+test.carried+": tag green is not ready: ")
				assert.Contains(t, text, test.held)
			}
			if test.asks > 0 {
				assert.EqualValues(t, test.asks, minimum(w, "api-green"))
			}
		})
	}
}

func TestDecideCapacityThatATagMayNotHave(t *testing.T) {
	blue := func(least, most int) *unstructured.Unstructured { return hpa("api-blue", least, most) }
	const (
		tooSmall = "its share needs 20 replicas, and HorizontalPodAutoscaler/api-green allows 10"
		raise    = "raise spec.maxReplicas of HorizontalPodAutoscaler/api-green for tag green to have 20 replicas, or move a smaller share"
	)
	deleted := func(*render.TagObjects) bool { return true }
	broken := func(t *render.TagObjects) bool {
		t.Broken, t.Objects = errors.New("kustomization.yaml: no such field"), nil
		return false
	}
	renamed := func(t *render.TagObjects) bool {
		t.Objects = tag("blue", "one", 20, hpa("api-blue-v2", 2, 100)).Objects
		t.Objects[0].SetName("api-blue-v2")
		_ = unstructured.SetNestedField(t.Objects[2].Object, "api-blue-v2", "spec", "scaleTargetRef", "name")
		return false
	}
	for _, test := range []struct {
		name       string
		want       string
		blue       *unstructured.Unstructured
		green      *unstructured.Unstructured
		blueReady  int64
		asks       int64                                // of green
		held, hint string                               // "" when it waits for no more than it may have
		becomes    func(*render.TagObjects) (gone bool) // what the same commit makes of blue
	}{
		{"its maximum is too small", "blue=0 green=100", blue(2, 100), hpa("api-green", 2, 10), 20, 2,
			tooSmall, raise, nil},
		{"its manifest asks for too few", "blue=0 green=100", blue(2, 100), nil, 20, 2,
			"its share needs 20 replicas, and Deployment/api-green allows 2",
			"raise spec.replicas of Deployment/api-green for tag green to have 20 replicas, or move a smaller share", nil},
		{"a smaller share fits", "blue=50 green=50", blue(2, 100), hpa("api-green", 2, 10), 20, 10, "", "", nil},
		{"who is left is not allowed more", "blue=0 green=100", blue(2, 20), hpa("api-green", 2, 20), 20, 20, "", "", nil},
		{"no autoscaler has found that it takes more", "blue=0 green=100", blue(20, 100), hpa("api-green", 2, 10), 20, 10, "", "", nil},
		{"there is no autoscaler to find out", "blue=0 green=100", nil, hpa("api-green", 2, 10), 20, 10, "", "", nil},
		{"nobody answers where it comes from", "blue=0 green=100", blue(2, 100), hpa("api-green", 2, 10), 0, 2, "", "", nil},
		{"its maximum is too small, and who is left is deleted", "green=100", blue(2, 100), hpa("api-green", 2, 10), 20, 2, tooSmall, raise, deleted},
		{"its maximum is too small, and who is left does not render", "blue=0 green=100", blue(2, 100), hpa("api-green", 2, 10), 20, 2, tooSmall, raise, broken},
		{"its maximum is too small, and what is left is renamed", "blue=0 green=100", blue(2, 100), hpa("api-green", 2, 10), 20, 2, tooSmall, raise, renamed},
		{"who is deleted was not allowed more", "green=100", blue(2, 20), hpa("api-green", 2, 20), 20, 20, "", "", deleted},
		{"who is deleted was allowed no more than this one", "green=100", blue(2, 20), hpa("api-green", 2, 30), 20, 20, "", "", deleted},
		{"no autoscaler of who is deleted has found that it takes more", "green=100", blue(20, 100), hpa("api-green", 2, 10), 20, 10, "", "", deleted},
		{"who is deleted had no autoscaler to find out", "green=100", nil, hpa("api-green", 2, 10), 20, 10, "", "", deleted},
		{"nobody answers at who is deleted", "green=100", blue(2, 100), hpa("api-green", 2, 10), 0, 2, "", "", deleted},
		{"nobody answers at who does not render", "blue=0 green=100", blue(2, 100), hpa("api-green", 2, 10), 0, 2, "", "", broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			extra := func(o *unstructured.Unstructured) (out []*unstructured.Unstructured) {
				if o != nil {
					out = append(out, o)
				}
				return out
			}
			tags := []render.TagObjects{tag("blue", "one", 20, extra(test.blue)...), tag("green", "two", 2, extra(test.green)...)}
			w.tagged("blue=100 green=0", sharedObjects(), tags...)
			w.pass()
			w.up("api-blue", "api-green")
			if test.blue != nil {
				w.autoscale("api-blue", 20)
			}
			w.pass()
			w.status(w.deployment("api-blue"), 20, 20, test.blueReady)
			w.commit(2)
			if test.becomes != nil && test.becomes(&tags[0]) {
				tags = tags[1:]
			}
			w.tagged(test.want, sharedObjects(), tags...)
			text := w.pass()
			assert.EqualValues(t, test.asks, w.replicas("api-green"))
			if test.held != "" {
				assert.Contains(t, text, "routes stay at blue=100 green=0: tag green is not ready: "+test.held+"\n")
				assert.Equal(t, test.hint, hintFor(&w.in, Decide(w.in).Verdict, nil))
				return
			}
			w.up("api-green")
			assert.Contains(t, text+w.pass(), "\nroute "+test.want+"\n")
		})
	}
}

// A share that is held for its healthy part says how what nobody answers can be had.
func TestDecideHintOfAShareThatIsHeldInPart(t *testing.T) {
	w, tags := carrying(t, "blue=50 green=25 red=25")
	tags[1] = tag("green", "green", 2, hpa("api-green", 2, 8))
	w.commit(2000)
	w.tagged("blue=0 green=100 red=0", sharedObjects(), tags...)
	w.status(w.deployment("api-blue"), 10, 10, 0)
	w.pass()
	assert.Equal(t, "raise spec.maxReplicas of HorizontalPodAutoscaler/api-green for tag green to have 10 replicas,"+
		" or leave the tags that answer their weight: what nobody answers moves at once", hintFor(&w.in, Decide(w.in).Verdict, nil))
}

func TestDecideCapacityIsComputedForEveryTarget(t *testing.T) {
	w, tags := scaled(t, 20, "blue", "green")
	want := func(weights string, green int64) {
		t.Helper()
		w.version++
		w.commit(1000 + w.version)
		w.tagged(weights, sharedObjects(), tags...)
		w.pass()
		assert.EqualValues(t, green, minimum(w, "api-green"), weights)
	}
	want("blue=0 green=100", 20)
	want("blue=80 green=20", 4)
	want("blue=100 green=0", 2)
	want("blue=50 green=50", 10)
}

func TestDecideCapacityOfASmallWeight(t *testing.T) {
	w, tags := scaled(t, 2, "blue", "green")
	w.route("blue=90 green=10", tags...)
	assert.EqualValues(t, 2, w.replicas("api-green"))
	w.route("blue=0 green=100", tags...)
	assert.EqualValues(t, 3, w.replicas("api-green"), "two pods carried 90 percent")
}

func TestDecideCapacityOfATagThatIsRolledOut(t *testing.T) {
	w, tags := scaled(t, 20, "blue", "green")
	w.status(w.deployment("api-blue"), 21, 4, 3)
	w.commit(2)
	w.tagged("blue=0 green=100", sharedObjects(), tags...)
	w.pass()
	assert.EqualValues(t, 20, minimum(w, "api-green"), "what it should have counts, not what is left of it")
}

func TestPromotingToAndFroDoesNotGrow(t *testing.T) {
	t.Parallel()
	for _, pods := range []int64{2, 3, 7, 20} {
		for _, pause := range []time.Duration{time.Second, 6 * time.Minute} {
			w, tags := scaled(t, pods, "blue", "green")
			w.autoscale("api-green", pods)
			for range 6 {
				for _, weights := range []string{"blue=0 green=100", "blue=100 green=0"} {
					w.route(weights, tags...)
					w.after(pause)
					w.pass()
					assert.Equal(t, [2]int64{pods, pods}, [2]int64{w.replicas("api-blue"), w.replicas("api-green")}, "%d pods, %s", pods, weights)
				}
			}
		}
	}
}

func TestMovingWeightsToAndFroIsBounded(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		pods := 2 + r.Int64N(8)
		w, tags := scaled(t, pods, "blue", "green")
		for range 40 {
			n := r.Int64N(21) * 5
			w.route(fmt.Sprintf("blue=%d green=%d", n, 100-n), tags...)
			for name, weight := range map[string]int64{"api-blue": n, "api-green": 100 - n} {
				// The least pods that have this share: less than they need is an outage.
				assert.GreaterOrEqual(t, w.replicas(name), (pods*weight+99)/100, "seed %d: %s with %d percent of %d pods", seed, name, weight, pods)
				assert.LessOrEqual(t, w.replicas(name), pods+4, "seed %d: %s with %d percent of %d pods", seed, name, weight, pods)
			}
			if r.IntN(3) > 0 {
				w.after(time.Duration(r.IntN(int(capacityGrace))))
				w.pass()
				continue
			}
			w.after(capacityGrace + time.Minute) // the autoscalers find what the load needs
			w.pass()
			w.autoscale("api-blue", max(2, (pods*n+99)/100))
			w.autoscale("api-green", max(2, (pods*(100-n)+99)/100))
		}
	}
}

func TestDecideCapacityLiftEnds(t *testing.T) {
	w, tags := scaled(t, 20, "blue", "green")
	w.route("blue=50 green=50", tags...)
	annotations := func() map[string]string {
		return w.in.live(hpa("api-green", 2, 100)).GetAnnotations()
	}
	assert.Equal(t, map[string]string{annotationLift: "50"}, annotations())
	w.after(capacityGrace + time.Second)
	w.pass()
	assert.EqualValues(t, 2, minimum(w, "api-green"))
	assert.Empty(t, annotations())
}

// fromZero is an autoscaler that may leave a Deployment without a pod.
func fromZero(name string) *unstructured.Unstructured {
	return object("{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: " + name + "}, spec: {maxReplicaCount: 20, scaleTargetRef: {name: " + name + "}}}")
}

// What its autoscaler has idle at no pods is as it should be.
func TestDecideIdleAtNoPods(t *testing.T) {
	t.Run("a release", func(t *testing.T) {
		w := newWorld(t)
		w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute(), fromZero("api"))
		w.pass()
		assert.Contains(t, w.last(), "hold routes: ", "it has been told to have a pod")
		w.up("api")
		w.pass()
		w.autoscale("api", 0)
		assert.Contains(t, w.pass(), "report Ready: ")
		w.commit(2)
		w.untagged("sha256:two", deployment("api", "two", 2), service("api", "api"), named("shop"), fromZero("api"))
		w.pass()
		w.up("api")
		assert.Contains(t, w.pass(), "\nroute\n  HTTPRoute/shop (create)\n")
	})
	t.Run("tags, and the next share starts one of them", func(t *testing.T) {
		blue, green := tag("blue", "one", 2, fromZero("api-blue")), tag("green", "two", 2, fromZero("api-green"))
		w := splitWorld(t, "blue=0 green=100", httpRoute(), blue, green)
		w.autoscale("api-blue", 0)
		w.autoscale("api-green", 0)
		assert.Contains(t, w.pass(), "report Ready: 8 objects")
		w.tagged("blue=100 green=0", onlyWith(httpRoute()), blue, green)
		text := w.pass()
		assert.Contains(t, text, "\nscale\n  Deployment/api-blue to 1\napply scaling\n  ScaledObject/api-blue (update)\nhold routes: ")
		assert.NotContains(t, text, "\nroute ")
		w.up("api-blue")
		assert.Contains(t, w.pass(), "\nroute blue=100 green=0\n")
		w.after(capacityGrace + time.Second)
		w.pass()
		w.autoscale("api-blue", 0)
		w.pass()
		assert.Contains(t, w.last(), "nothing to do\nreport Ready: 8 objects are as declared\n")
	})
	t.Run("but no mirror begins to one", func(t *testing.T) {
		blue, green := tag("blue", "one", 2), tag("green", "two", 2, fromZero("api-green"))
		w := splitWorld(t, "blue=100 green=0", httpRoute(), blue, green)
		w.autoscale("api-green", 0)
		w.pass()
		w.tagged("blue=100 green=0 mirror:green=10", onlyWith(httpRoute()), blue, green)
		assert.Contains(t, w.pass(), "the mirror to tag green is left out: Deployment/api-green: 0 of 1 replicas ready")
	})
}
