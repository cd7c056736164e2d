package reconciler

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

func TestDecideCapacityWhenOnlyTheGrowingTagServes(t *testing.T) {
	w, tags := scaled(t, 20, "blue", "green")
	w.route("blue=75 green=25", tags...)
	w.down("api-blue", "pod api-blue-1: CrashLoopBackOff")
	w.commit(3)
	w.tagged("blue=0 green=100", sharedObjects(), tags...)
	for n := int64(5); n < 20; n++ {
		w.pass()
		w.status(w.deployment("api-green"), 20, 20, n)
		assert.EqualValues(t, 20, minimum(w, "api-green"), "at %d ready pods", n)
	}
	w.up("api-green")
	assert.Contains(t, w.pass(), "\nroute blue=0 green=100\n")
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
	for seed := range uint64(20) {
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
