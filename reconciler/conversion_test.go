package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// autoscaledUntagged are the objects of a release without tags whose pods have an
// autoscaler from 2 to 100.
func autoscaledUntagged() []*unstructured.Unstructured {
	return []*unstructured.Unstructured{deployment("api", "one", 2), hpa("api", 2, 100), service("api", "api"), httpRoute()}
}

// An untagged release whose autoscaler has found right what the load takes is given
// tags: each waits for the pods that its share of that takes. The way back waits for
// what the tags' pods show that everything takes.
func TestDecideCapacityAtConversion(t *testing.T) {
	for _, test := range []struct {
		name        string
		pods        int64 // of the untagged release
		weights     string
		blue, green int64 // what the shares take
		grown       [2]int64
		back        int64 // what everything takes by the pods that the tags have grown to
	}{
		{"a share for each", 8, "blue=60 green=40", 5, 4, [2]int64{9, 6}, 15},
		{"everything for one", 8, "blue=100 green=0", 8, 2, [2]int64{12, 2}, 12},
		{"a share that the minimum carries", 8, "blue=90 green=10", 8, 2, [2]int64{18, 2}, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.untagged("sha256:one", autoscaledUntagged()...)
			w.pass()
			w.up("api")
			w.pass()
			w.autoscale("api", test.pods)
			w.after(time.Hour)
			w.pass()

			w.commit(2)
			w.tagged(test.weights, sharedObjects(),
				tag("blue", "one", 2, hpa("api-blue", 2, 100)), tag("green", "two", 2, hpa("api-green", 2, 100)))
			w.pass()
			asked := [2]int64{minimum(w, "api-blue"), minimum(w, "api-green")}
			assert.Equal(t, [2]int64{test.blue, test.green}, asked)
			w.up("api-green")
			w.status(w.deployment("api-blue"), test.blue, test.blue, test.blue-1)
			assert.NotContains(t, w.pass(), "\nroute ", "a pod is missing still")
			assert.Equal(t, "api=0", w.weights())
			w.up("api-blue")
			assert.Contains(t, w.pass(), "\nroute "+test.weights+"\n")

			w.after(time.Hour)
			w.pass()
			w.autoscale("api-blue", test.grown[0])
			w.autoscale("api-green", test.grown[1])
			w.pass()
			w.commit(3)
			w.untagged("sha256:one", autoscaledUntagged()...)
			w.pass()
			assert.EqualValues(t, test.back, minimum(w, "api"))
			w.status(w.deployment("api"), test.back, test.back, test.back-1)
			assert.NotContains(t, w.pass(), "\nroute\n", "a pod is missing still")
			assert.NotEqual(t, "api=0", w.weights())
			w.up("api")
			assert.Contains(t, w.pass(), "\nroute\n")
			assert.Equal(t, "api=0", w.weights())
		})
	}
}

// A maximum that is too small holds a conversion as it does a tag's share, whichever way
// it goes: who loses the requests is not rendered any more.
func TestDecideConversionToATooSmallMaximum(t *testing.T) {
	for _, test := range []struct {
		name     string
		had, may int // the most pods of who loses the requests, and of who gets them
		ready    int64
		asks     int64
		held     bool
	}{
		{"too small", 100, 10, 12, 2, true},
		{"as large as before", 10, 10, 12, 10, false},
		{"left by what nobody answers at", 100, 10, 0, 2, false},
	} {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, back=%t", test.name, back), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				untagged := func(most int) {
					w.untagged("sha256:one", deployment("api", "one", 2), hpa("api", 2, most), service("api", "api"), httpRoute())
				}
				tagged := func(most int) {
					w.tagged("blue=100", sharedObjects(), tag("blue", "one", 2, hpa("api-blue", 2, most)))
				}
				first, then, from, to := untagged, tagged, "api", "api-blue"
				routed, who, smaller := "\nroute blue=100\n", "tag blue", ", or move a smaller share"
				if back {
					first, then, from, to = then, first, to, from
					routed, who, smaller = "\nroute\n", "the release", ""
				}
				first(test.had)
				w.pass()
				w.up(from)
				w.pass()
				w.autoscale(from, 12)
				w.after(time.Hour)
				w.pass()
				w.commit(2)
				then(test.may)
				w.status(w.deployment(from), 12, 12, test.ready)
				text := w.pass()
				w.up(to)
				text += w.pass()
				assert.EqualValues(t, test.asks, minimum(w, to))
				if !test.held {
					assert.Contains(t, text, routed)
					return
				}
				assert.NotContains(t, text, routed)
				assert.Contains(t, text, who+" is not ready: its share needs 12 replicas, and HorizontalPodAutoscaler/"+to+" allows 10\n")
				assert.Equal(t, "raise spec.maxReplicas of HorizontalPodAutoscaler/"+to+" for "+who+" to have 12 replicas"+smaller,
					hintFor(&w.in, Decide(w.in).Verdict, nil))
			})
		}
	}
}

// An untagged release that nobody answers at, or hardly anybody, is left for tags that
// serve no worse. What it has beside what serves, and keeps, does not count.
func TestDecideConversionLeavesASilentRelease(t *testing.T) {
	for ready, held := range map[int64]bool{0: false, 2: false, 12: true} {
		w := newWorld(t)
		worker := deployment("worker", "one", 20)
		w.untagged("sha256:one", append(autoscaledUntagged(), worker)...)
		w.pass()
		w.up("api", "worker")
		w.pass()
		w.autoscale("api", 12)
		w.after(time.Hour)
		w.pass()
		w.commit(2)
		w.tagged("blue=100", append(sharedObjects(), worker), tag("blue", "one", 2, hpa("api-blue", 2, 100)))
		w.pass()
		w.status(w.deployment("api"), 12, 12, ready)
		w.status(w.deployment("api-blue"), 12, 12, 2)
		text := w.pass()
		assert.Equal(t, held, !strings.Contains(text, "\nroute blue=100\n"), "%d of 12 pods answer:\n%s", ready, text)
	}
}

// While the tags of an untagged release are not ready, its routes are what they were.
func TestDecideConversionKeepsTheRoutes(t *testing.T) {
	held := `
release api in production, namespace shop, revision c00000000000
hold routes: routes stay as before the tags: tag blue is not ready: Deployment/api-blue: 0 of 2 replicas ready: pod api-blue-1: ImagePullBackOff
prune later
  Deployment/api
report Waiting WaitingForHealth: tag blue is not ready: Deployment/api-blue: 0 of 2 replicas ready: pod api-blue-1: ImagePullBackOff
again in 1s
`
	restored := func(items string) string {
		first := strings.Replace(held, "hold routes", "route\n"+items+"hold routes", 1)
		return first + strings.TrimPrefix(held, "\n")
	}
	deleted := func(id inventory.ID) func(*world) { return func(w *world) { delete(w.in.Live, id) } }
	restarted := func(w *world) { w.restart(); w.remember() }
	edited := func(w *world) {
		w.edit(routeID, func(o *unstructured.Unstructured) { o.Object["spec"].(map[string]any)["rules"] = []any{} })
	}
	other := httpRoute()
	other.SetAnnotations(map[string]string{"owner": "shop"})
	plain := service("api", "api")
	another := service("api", "api")
	another.SetLabels(map[string]string{"owner": "shop"})
	// named pods say the same of themselves, whichever Deployment they are of.
	named := func(o *unstructured.Unstructured) *unstructured.Unstructured {
		_ = unstructured.SetNestedField(o.Object, "api", "spec", "template", "metadata", "labels", "name")
		return o
	}
	both := service("api", "api")
	_ = unstructured.SetNestedStringMap(both.Object, map[string]string{"name": "api"}, "spec", "selector")
	for _, test := range []struct {
		name   string
		route  *unstructured.Unstructured // as the commit with the tags has it
		plain  *unstructured.Unstructured // likewise
		change []func(*world)
		want   string
	}{
		{"a deleted route", httpRoute(), plain, []func(*world){deleted(routeID)}, restored("  HTTPRoute/api (create)\n")},
		{"an edited route", httpRoute(), plain, []func(*world){edited}, restored("  HTTPRoute/api (update)\n")},
		{"a deleted Service", httpRoute(), plain, []func(*world){deleted(serviceID)}, restored("  Service/api (create)\n")},
		{"a deleted route, after a restart", httpRoute(), plain, []func(*world){restarted, deleted(routeID)}, restored("  HTTPRoute/api (create)\n")},
		{"a route that the commit has changed", other, plain, nil, held},
		{"a deleted one of which nobody knows what it was", other, plain, []func(*world){deleted(routeID)}, held},
		{"a deleted Service, after a restart", httpRoute(), plain, []func(*world){restarted, deleted(serviceID)},
			restored("  Service/api (create)\n  HTTPRoute/api (update)\n")},
		{"a deleted Service that the commit has changed", httpRoute(), another, []func(*world){deleted(serviceID)}, restored("  Service/api (create)\n")},
		{"a Service that the commit has changed", httpRoute(), another, nil, held},
		{"a deleted Service that would lead to the tag", httpRoute(), both, []func(*world){deleted(serviceID)}, held},
		{"a deleted Service that would lead nowhere", httpRoute(), service("api", "api-old"), []func(*world){deleted(serviceID)}, held},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.untagged("sha256:one", named(deployment("api", "one", 2)), service("api", "api"), httpRoute())
			w.pass()
			w.up("api")
			w.pass()
			w.after(time.Hour)
			w.commit(2)
			blue := tag("blue", "two", 2)
			named(blue.Objects[0])
			shared := []*unstructured.Unstructured{test.plain, test.route}
			w.tagged("blue=100", shared, blue)
			w.pass()
			w.down("api-blue", "pod api-blue-1: ImagePullBackOff")
			equal(t, held, w.pass())
			for _, happens := range test.change {
				happens(w)
			}
			equal(t, test.want, w.pass())
			if test.want != held {
				assert.Equal(t, "api=0", w.weights())
				assert.Equal(t, service("api", "api").Object["spec"], w.in.Live[serviceID].Object["spec"])
			}
			equal(t, held, w.pass())
			w.up("api-blue")
			assert.Contains(t, w.pass(), "\nroute blue=100\n")
			assert.Equal(t, "api-blue=100", w.weights())
			assert.Empty(t, w.in.Last.Status.RoutesHash)
		})
	}
}

// Tags that nobody answers at are left for whatever of the untagged release is up.
func TestDecideConversionLeavesSilentTags(t *testing.T) {
	w := newWorld(t)
	tags := []render.TagObjects{tag("blue", "one", 2, hpa("api-blue", 2, 100))}
	w.tagged("blue=100", sharedObjects(), tags...)
	w.pass()
	w.up("api-blue")
	w.pass()
	w.autoscale("api-blue", 12)
	w.after(time.Hour)
	w.pass()
	w.commit(2)
	w.untagged("sha256:one", autoscaledUntagged()...)
	w.pass()
	assert.EqualValues(t, 12, minimum(w, "api"))
	w.status(w.deployment("api"), 12, 12, 2)
	assert.NotContains(t, w.pass(), "\nroute\n")
	w.status(w.deployment("api-blue"), 12, 12, 0)
	assert.Contains(t, w.pass(), "\nroute\n")
	assert.Equal(t, "api=0", w.weights())
}
