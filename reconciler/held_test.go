package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

var (
	routeID   = inventory.ID{Namespace: "shop", Name: "api", Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"}
	serviceID = inventory.ID{Namespace: "shop", Name: "api", Kind: "Service"}
)

// heldWorld carries blue=100 green=0 and is asked for blue=90 green=10, which a
// broken green holds.
func heldWorld(t *testing.T) *world {
	w := newWorld(t)
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w.tagged("blue=100 green=0", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue")
	w.down("api-green", "")
	w.pass()
	w.after(time.Hour)
	w.commit(2)
	w.tagged("blue=90 green=10", sharedObjects(), blue, green)
	equal(t, heldPlan, w.pass())
	return w
}

const heldPlan = `
release api in production, namespace shop, revision c00000000000
hold routes: routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready
report Held TrafficHeld: routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready
again in 1s
`

// edit is somebody's edit of a live object.
func (w *world) edit(id inventory.ID, change func(*unstructured.Unstructured)) {
	w.t.Helper()
	require.NotNil(w.t, w.in.Live[id], id.Display())
	live := w.in.Live[id].DeepCopy()
	before := hashOf(spec(live))
	change(live)
	w.bump(live, hashOf(spec(live)) != before)
	w.in.Live[id] = live
}

// annotate is `kubectl annotate --overwrite` of the traffic on the route.
func (w *world) annotate(traffic string) {
	w.t.Helper()
	w.edit(routeID, func(o *unstructured.Unstructured) {
		o.SetAnnotations(map[string]string{v1alpha1.AnnotationTraffic: traffic})
	})
}

// reweigh edits the weights in the route.
func (w *world) reweigh(weights ...int64) {
	w.t.Helper()
	w.edit(routeID, func(o *unstructured.Unstructured) {
		rules := o.Object["spec"].(map[string]any)["rules"].([]any)
		for i, ref := range rules[0].(map[string]any)["backendRefs"].([]any) {
			ref.(map[string]any)["weight"] = weights[i]
		}
	})
}

// weights are those in the live route, "api-blue=90 api-green=10".
func (w *world) weights() string {
	live := w.in.Live[routeID]
	if live == nil {
		return ""
	}
	var shares []v1alpha1.TagPercent
	rules, _, _ := unstructured.NestedSlice(live.Object, "spec", "rules")
	for _, ref := range rules[0].(map[string]any)["backendRefs"].([]any) {
		fields := ref.(map[string]any)
		n, _ := fields["weight"].(int64)
		shares = append(shares, v1alpha1.TagPercent{Tag: fields["name"].(string), Percent: int(n)})
	}
	return formatTraffic(shares, nil)
}

func TestDecideKeepsHeldRoutes(t *testing.T) {
	restored := func(items string) string {
		return `
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
` + items + strings.TrimPrefix(heldPlan, `
release api in production, namespace shop, revision c00000000000
`) + strings.TrimPrefix(heldPlan, "\n")
	}
	tests := []struct {
		name   string
		change func(*world)
		want   string
	}{
		{"a deleted route", func(w *world) { delete(w.in.Live, routeID) }, "  HTTPRoute/api (create)\n"},
		{"a deleted route, after a restart", func(w *world) { delete(w.in.Live, routeID); w.restart(); w.remember() },
			"  Service/api (update)\n  HTTPRoute/api (create)\n"},
		{"an edited route", func(w *world) { w.reweigh(0, 100) }, "  HTTPRoute/api (update)\n"},
		{"a deleted plain Service", func(w *world) { delete(w.in.Live, serviceID) }, "  Service/api (create)\n"},
		{"an annotation that claims the new weights", func(w *world) { w.annotate("blue=90 green=10") }, "  HTTPRoute/api (update)\n"},
		{"an annotation that claims all for the broken tag", func(w *world) { w.annotate("blue=0 green=100") }, "  HTTPRoute/api (update)\n"},
		{"an annotation, after a restart", func(w *world) { w.annotate("blue=90 green=10"); w.restart(); w.remember() },
			"  Service/api (update)\n  HTTPRoute/api (update)\n"},
		{"an annotation and weights", func(w *world) { w.reweigh(90, 10); w.annotate("blue=90 green=10") }, "  HTTPRoute/api (update)\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := heldWorld(t)
			tt.change(w)
			equal(t, restored(tt.want), w.pass())
			assert.Equal(t, "api-blue=100 api-green=0", w.weights())
			assert.Equal(t, "blue=100 green=0", w.in.Last.Status.Summary.Traffic)
			equal(t, heldPlan, w.pass())
			w.up("api-green")
			assert.Contains(t, w.pass(), "\nroute blue=90 green=10\n")
		})
	}
}

// remember marks what is live and is no route as applied, as it was.
func (w *world) remember() {
	for _, t := range w.in.Rendered.Tags {
		for _, o := range t.Objects {
			w.in.noteApplied(o, w.in.live(o))
		}
	}
	for _, o := range w.in.Rendered.Shared {
		if o.GetKind() == "ServiceAccount" {
			w.in.noteApplied(o, w.in.live(o))
		}
	}
}

func TestDecideKeepsHeldRoutesWithoutATagThatIsGone(t *testing.T) {
	w := newWorld(t)
	blue, red := tag("blue", "one", 2), tag("red", "one", 2)
	w.tagged("blue=90 red=10", sharedObjects(), blue, red)
	w.pass()
	w.up("api-blue", "api-red")
	w.pass()
	w.commit(2)
	w.tagged("blue=90 green=10", sharedObjects(), blue, tag("green", "two", 2))
	w.pass()
	w.down("api-green", "")
	w.pass()
	assert.Equal(t, "api-blue=90 api-red=10", w.weights(), "red still runs")
	delete(w.in.Live, routeID)
	w.pass()
	assert.Equal(t, "api-blue=90 api-red=10", w.weights())
	delete(w.in.Live, inventory.ID{Namespace: "shop", Name: "api-red", Kind: "Service"})
	assert.Contains(t, w.pass(), "\nroute blue=100\n")
	assert.Equal(t, "api-blue=100", w.weights())
}

func TestDecideKeepsTheRoutesOfAnUntaggedRelease(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute())
	w.pass()
	w.down("api", "")
	assert.NotContains(t, w.pass(), "HTTPRoute/api (create)", "nothing is kept that was not there")
	w.up("api")
	w.pass()
	w.commit(2)
	w.untagged("sha256:two", deployment("api", "two", 2), service("api", "api"), httpRoute())
	w.pass() // a rollout that is stuck
	delete(w.in.Live, routeID)
	equal(t, `
release api in production, namespace shop, revision c00000000000
route
  HTTPRoute/api (create)
hold routes: the release is not ready: Deployment/api: its controller has not taken the last change in yet
report Waiting WaitingForHealth: Deployment/api: its controller has not taken the last change in yet
again in 1s
release api in production, namespace shop, revision c00000000000
hold routes: the release is not ready: Deployment/api: its controller has not taken the last change in yet
report Waiting WaitingForHealth: Deployment/api: its controller has not taken the last change in yet
again in 1s
`, w.pass())

	t.Run("also after a restart", func(t *testing.T) {
		w.restart()
		delete(w.in.Live, routeID)
		assert.Contains(t, w.pass(), "route\n  HTTPRoute/api (create)\nhold routes")
	})
	t.Run("but not one that the commit has changed", func(t *testing.T) {
		w.restart()
		w.commit(3)
		other := httpRoute()
		other.SetAnnotations(map[string]string{"owner": "shop"})
		w.untagged("sha256:two", deployment("api", "three", 2), service("api", "api"), other)
		delete(w.in.Live, routeID)
		assert.NotContains(t, w.pass(), "HTTPRoute/api (create)", "what it was nobody knows any more")
		w.up("api")
		assert.Contains(t, w.pass(), "HTTPRoute/api (create)")
	})
}

func TestDecideAnnotationsOnlyDelay(t *testing.T) {
	w := newWorld(t)
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w.tagged("blue=100 green=0", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	w.after(time.Hour)
	w.commit(2)
	w.annotate("blue=0 green=100")
	w.tagged("blue=100", sharedObjects(), blue, green)
	text := w.pass()
	assert.Contains(t, text, "\nroute blue=100\n")
	assert.NotContains(t, text, "retire", "green may have had requests until now")
	w.after(16 * time.Second)
	assert.Contains(t, w.pass(), "\nretire tag green\n")
}

// crashedWorld has its routes at blue=90 green=10 and a status that does not know.
func crashedWorld(t *testing.T) *world {
	w := newWorld(t)
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w.tagged("blue=100 green=0", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	old := w.in.Last.Status.DeepCopy()
	w.after(time.Hour)
	w.commit(2)
	w.tagged("blue=90 green=10", sharedObjects(), blue, green)
	w.pass()
	w.in.Last.Status = *old
	w.restart()
	w.remember()
	return w
}

func TestDecideJudgesARiseAgainAfterACrash(t *testing.T) {
	t.Run("a ready tag is routed again", func(t *testing.T) {
		w := crashedWorld(t)
		equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=90 green=10
  Service/api (update)
  HTTPRoute/api (update)
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: 7 objects are as declared
`, w.pass())
		assert.Equal(t, "blue=90 green=10", w.in.Last.Status.Summary.Traffic)
	})
	t.Run("the routes of one that is not stay as they are", func(t *testing.T) {
		w := crashedWorld(t)
		w.down("api-green", "")
		equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=90 green=10
  Service/api (update)
  HTTPRoute/api (update)
hold routes: routes stay at blue=90 green=10: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready
report Held TrafficHeld: routes stay at blue=90 green=10: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready
again in 1s
`, firstOf(w.pass()))
		assert.Equal(t, "api-blue=90 api-green=10", w.weights())
		assert.Equal(t, "blue=90 green=10", w.in.Last.Status.Summary.Traffic)
	})
	t.Run("and it rises no further", func(t *testing.T) {
		w := crashedWorld(t)
		w.down("api-green", "")
		w.commit(3)
		w.tagged("blue=50 green=50", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
		w.pass()
		assert.Equal(t, "api-blue=90 api-green=10", w.weights())
	})
}

func TestDecideFirstRoutingStartsWithWhatIsReady(t *testing.T) {
	w := newWorld(t)
	w.tagged("blue=99 green=1", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	assert.Contains(t, w.pass(), "\nhold routes: nothing is routed yet: ")
	assert.Empty(t, w.weights())
	w.up("api-blue")
	w.down("api-green", "pod api-green-1: ImagePullBackOff")
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
route blue=100 green=0
  Service/api (create)
  HTTPRoute/api (create)
hold routes: routes start at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-1: ImagePullBackOff
report Held TrafficHeld: routes start at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-1: ImagePullBackOff
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-1: ImagePullBackOff
report Held TrafficHeld: routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-1: ImagePullBackOff
again in 1s
`, w.pass())
	w.up("api-green")
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
route blue=99 green=1
  Service/api (update)
  HTTPRoute/api (update)
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Ready: 7 objects are as declared
`, w.pass())
}

func TestDecideConversionIsNotRoutedInParts(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute())
	w.pass()
	w.up("api")
	w.pass()
	w.commit(2)
	w.tagged("blue=50 green=50", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	w.pass()
	w.up("api-blue")
	w.down("api-green", "")
	assert.Contains(t, w.pass(), "\nhold routes: routes stay as before the tags: tag green is not ready")
	assert.Equal(t, "api=0", w.weights(), "what was untagged still answers")
}

func TestCarriedAccounts(t *testing.T) {
	tests := []struct {
		name                        string
		status, annotation, weights string // what each says; green and blue in the route
		edited                      bool   // since this process wrote it
		had, most, least            string
	}{
		{"all agree", "blue=90 green=10", "blue=90 green=10", "90 10", false, "blue=90 green=10", "blue=90 green=10", "blue=90 green=10"},
		{"a crash after the routes", "blue=100 green=0", "blue=90 green=10", "90 10", false, "blue=90 green=10", "blue=100 green=10", "blue=90 green=0"},
		{"a crash after the first routes", "", "blue=90 green=10", "90 10", false, "blue=90 green=10", "blue=90 green=10", ""},
		{"an edited annotation", "blue=100 green=0", "blue=0 green=100", "100 0", false, "blue=100 green=0", "blue=100 green=100", "blue=0 green=0"},
		{"edited weights", "blue=100 green=0", "blue=100 green=0", "20 80", false, "blue=100 green=0", "blue=100 green=80", "blue=100 green=0"},
		{"both edited, seen", "blue=100 green=0", "blue=90 green=10", "90 10", true, "blue=100 green=0", "blue=100 green=10", "blue=90 green=0"},
		{"no annotation", "blue=100 green=0", "", "100 0", false, "blue=100 green=0", "blue=100 green=0", "blue=100 green=0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
			w.pass()
			w.up("api-blue", "api-green")
			w.pass()
			status, _, _ := parseTraffic(tt.status)
			w.in.Last.Status.Traffic.Weights = status
			var blue, green int64
			_, err := fmt.Sscan(tt.weights, &blue, &green)
			require.NoError(t, err)
			w.reweigh(blue, green)
			w.annotate(tt.annotation)
			if !tt.edited {
				w.restart()
			}
			w.in.routed = nil
			w.after(time.Hour)
			c := carried(&w.in, w.own([]*unstructured.Unstructured{httpRoute()}))
			assert.Equal(t, tt.had, formatTraffic(c.had.Weights, nil), "had")
			assert.Equal(t, tt.most, formatTraffic(c.most.Weights, nil), "most")
			assert.Equal(t, tt.least, formatTraffic(c.least, nil), "least")
			assert.Equal(t, tt.most != tt.status, drained(&w.in, c.had.RoutedAt) > 0, "a difference drains anew")
		})
	}
}

func TestHandOver(t *testing.T) {
	tests := []struct{ weights, ready, want string }{
		{"blue=99 green=1", "blue", "blue=100 green=0"},
		{"blue=99 green=1", "green", "blue=0 green=100"},
		{"blue=40 green=30 red=30", "green red", "blue=0 green=70 red=30"},
		{"blue=50 green=50", "blue green", "blue=50 green=50"},
		{"blue=100 green=0", "green", ""},
		{"blue=100 green=0", "", ""},
	}
	for _, tt := range tests {
		shares, _, _ := parseTraffic(tt.weights)
		got := handOver(weightsOf(shares), func(tag string) bool { return strings.Contains(tt.ready, tag) })
		assert.Equal(t, tt.want, formatTraffic(sharesOf(got), nil), "%s with %s", tt.weights, tt.ready)
		assert.Equal(t, tt.weights, formatTraffic(shares, nil))
	}
	assert.Empty(t, handOver([]envrepo.Weight{}, func(string) bool { return true }))
}
