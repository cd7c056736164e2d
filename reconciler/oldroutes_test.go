package reconciler

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// named is the route of the release under another name.
func named(name string) *unstructured.Unstructured {
	r := httpRoute()
	r.SetName(name)
	return r
}

// never is an object that is never deleted.
func never(o *unstructured.Unstructured) *unstructured.Unstructured {
	o.SetAnnotations(map[string]string{v1alpha1.AnnotationPrune: "disabled"})
	return o
}

// onlyWith is what a release has once: its Service, and a route.
func onlyWith(route *unstructured.Unstructured) []*unstructured.Unstructured {
	return []*unstructured.Unstructured{service("api", "api"), route}
}

// splitWorld is a release of two tags that has been well for an hour.
func splitWorld(t *testing.T, weights string, route *unstructured.Unstructured, tags ...render.TagObjects) *world {
	w := newWorld(t)
	w.tagged(weights, onlyWith(route), tags...)
	w.pass()
	for _, tag := range tags {
		w.up("api-" + tag.Name)
	}
	w.pass()
	require.Equal(t, weights, w.in.Last.Status.Summary.Traffic)
	w.after(time.Hour)
	w.pass()
	w.commit(2)
	return w
}

// A tag that is idle at no replicas would be started by its autoscaler for the requests
// that still come. So it keeps that until the routes have left it and have drained.
func TestDecideIdleTagKeepsItsScalerUntilItHasDrained(t *testing.T) {
	scaler := object("{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: api-green}, spec: {scaleTargetRef: {name: api-green}}}")
	for _, test := range []struct {
		name  string
		after []*unstructured.Unstructured // what the tag has besides, when it is unlisted
	}{
		{"and the commit leaves it in the tag", []*unstructured.Unstructured{scaler.DeepCopy()}},
		{"and the commit removes it", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			blue := tag("blue", "one", 2)
			w := splitWorld(t, "blue=90 green=10", httpRoute(), blue, tag("green", "two", 2, scaler.DeepCopy()))
			idle := w.deployment("api-green")
			setReplicas(idle, 0)
			w.bump(idle, true)
			w.status(idle, 0, 0, 0)
			w.tagged("blue=100", onlyWith(httpRoute()), blue, tag("green", "two", 2, test.after...))
			text := w.pass()
			assert.Contains(t, text, "\nroute blue=100\n")
			assert.NotContains(t, text, "\nprune\n")
			assert.NotNil(t, w.in.live(scaler), "in the pass that moves the routes")
			w.after(14 * time.Second)
			w.pass()
			assert.NotNil(t, w.in.live(scaler), "a second before it has drained")
			w.after(time.Second)
			assert.Contains(t, w.pass(), "\nretire tag green\n  Deployment/api-green (update)\nprune\n  ScaledObject/api-green\n")
			assert.Nil(t, w.in.live(scaler))
			assert.NotContains(t, w.last(), "green")
		})
	}
}

// A tag that was retired is not started when others exchange their shares, though its
// autoscaler is still there: it is never deleted, or has a finalizer.
func TestDecideRetiredTagStaysSoBesideItsScaler(t *testing.T) {
	for name, scaler := range map[string]*unstructured.Unstructured{
		"HorizontalPodAutoscaler": never(hpa("api-green", 2, 10)),
		"ScaledObject":            never(object("{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: api-green}, spec: {scaleTargetRef: {name: api-green}}}")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blue, red, green := tag("blue", "one", 2), tag("red", "one", 2), tag("green", "two", 2, scaler)
			w := splitWorld(t, "blue=80 red=10 green=10", httpRoute(), blue, red, green)
			w.tagged("blue=90 red=10", onlyWith(httpRoute()), blue, red, green)
			w.pass()
			w.after(15 * time.Second)
			assert.Contains(t, w.pass(), "\nretire tag green\n")
			w.commit(3)
			w.tagged("blue=80 red=20", onlyWith(httpRoute()), blue, red, green)
			text := w.pass()
			assert.Contains(t, text, "\nroute blue=80 red=20\n")
			assert.Contains(t, text, "report Ready: 8 objects are as declared\n")
			assert.Zero(t, w.replicas("api-green"))
			assert.NotNil(t, w.in.live(scaler))
		})
	}
}

// The old route goes first, once gateways know the new one. What it led to is retired
// when requests that came by it have ended.
func TestDecideRenamedRouteGoesBeforeTheTagItLeadsTo(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w := splitWorld(t, "blue=90 green=10", httpRoute(), blue, green)
	w.tagged("blue=100", onlyWith(named("shop")), blue, green)
	equal(t, `
release api in production, namespace shop, revision c00000000000
record intent
  HTTPRoute/shop
route blue=100
  Service/api (update)
  HTTPRoute/shop (create)
prune later
  HTTPRoute/api
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  HTTPRoute/api
report Ready: HTTPRoute/api is pruned when nothing needs it; tag green is scaled to zero when its requests have ended
again in 15s
`, w.pass())
	w.after(15 * time.Second)
	gone := `
release api in production, namespace shop, revision c00000000000
prune
  HTTPRoute/api
report Ready: tag green is scaled to zero when its requests have ended
again in 15s
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: tag green is scaled to zero when its requests have ended
again in 15s
`
	equal(t, gone, w.pass())
	w.after(14 * time.Second)
	assert.NotContains(t, w.pass(), "retire tag green")
	w.after(time.Second)
	assert.Contains(t, w.pass(), "\nretire tag green\n")
	assert.Contains(t, w.last(), "nothing to do\nreport Ready: 6 objects are as declared\n")

	t.Run("and so where the pass was killed that had deleted it", func(t *testing.T) {
		w := splitWorld(t, "blue=90 green=10", httpRoute(), blue, green)
		w.tagged("blue=100", onlyWith(named("shop")), blue, green)
		w.pass()
		w.after(15 * time.Second)
		reported := maps.Clone(w.in.Inventory)
		w.in.routed = nil
		w.execute(Decide(w.in))
		require.Nil(t, w.in.Live[routeID])
		w.in.Inventory = reported // as the status has it
		w.restart()
		w.after(time.Hour)
		assert.NotContains(t, w.pass(), "retire tag green", "nobody knows since when it is gone")
		w.after(15 * time.Second)
		assert.Contains(t, w.pass(), "retire tag green")
	})
}

// A policy for what an old route leads to holds as long as requests come by that.
func TestDecideOldRouteKeepsItsPolicy(t *testing.T) {
	virtual := func(name string) *unstructured.Unstructured {
		return object("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: " + name + "}, spec: {hosts: [shop], http: [{route: [{destination: {host: api}}]}]}}")
	}
	policy := object("{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: api}, spec: {host: api, trafficPolicy: {tls: {mode: SIMPLE}}}}")
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	for _, test := range []struct {
		name, weights string
		after         []*unstructured.Unstructured
		goes          string
	}{
		{"of a tag that is left", "blue=100", append(onlyWith(virtual("shop")), policy), "  DestinationRule/api-for-green\n"},
		{"that is removed", "blue=90 green=10", onlyWith(virtual("shop")), "  DestinationRule/api-for-blue\n  DestinationRule/api-for-green\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.tagged("blue=90 green=10", append(onlyWith(virtual("api")), policy), blue, green)
			w.pass()
			w.up("api-blue", "api-green")
			w.pass()
			w.after(time.Hour)
			w.pass()
			w.commit(2)
			w.tagged(test.weights, test.after, blue, green)
			w.pass()
			w.after(15 * time.Second)
			text := w.pass()
			assert.Contains(t, text, "\n  VirtualService/api\n")
			for _, rule := range strings.SplitAfter(strings.TrimSuffix(test.goes, "\n"), "\n") {
				assert.NotContains(t, strings.SplitN(text, "prune later", 2)[0], rule)
			}
			w.after(14 * time.Second)
			assert.NotContains(t, w.pass(), "\nprune\n")
			w.after(time.Second)
			assert.Contains(t, w.pass(), test.goes)
			assert.Contains(t, w.last(), "nothing to do\nreport Ready: ")
		})
	}
}

// A renamed route that changes no weight leaves gateways the time to know the new one.
func TestDecideRenamedRouteOutlastsTheDrainDelay(t *testing.T) {
	w := newWorld(t)
	objects := []*unstructured.Unstructured{deployment("api", "one", 2), service("api", "api")}
	w.untagged("sha256:one", append(objects, httpRoute())...)
	w.pass()
	w.up("api")
	w.pass()
	w.commit(2)
	w.untagged("sha256:one", append(objects, named("shop"))...)
	assert.NotContains(t, w.pass(), "\nprune\n")
	w.after(14 * time.Second)
	assert.NotContains(t, w.pass(), "\nprune\n")
	w.after(time.Second)
	assert.Contains(t, w.pass(), "\nprune\n  HTTPRoute/api\nreport Ready: 3 objects are as declared\n")
}

// A prefix that renames all of a release replaces it: the old pods answer until no route
// leads to them and their requests have ended.
func TestDecideReplacedReleaseDrains(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute())
	w.pass()
	w.up("api")
	w.pass()
	w.commit(2)
	route := object("{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: my-api}, spec: {rules: [{backendRefs: [{name: my-api, port: 80}]}]}}")
	w.untagged("sha256:one", deployment("my-api", "one", 2), service("my-api", "my-api"), route)
	w.pass()
	w.up("my-api")
	assert.Contains(t, w.pass(), "\nroute\n  HTTPRoute/my-api (create)\n")
	w.after(15 * time.Second)
	assert.Contains(t, w.pass(), "\nprune\n  HTTPRoute/api\nprune later\n  Deployment/api\n  Service/api\n")
	w.after(14 * time.Second)
	assert.NotContains(t, w.pass(), "\nprune\n")
	w.after(time.Second)
	assert.Contains(t, w.pass(), "\nprune\n  Deployment/api\n  Service/api\n")
}

const heldByRoute = `
release api in production, namespace shop, revision c00000000000
keep
  HTTPRoute/api (sluice.dev/prune is disabled, and it leads requests to Service/api-blue, Service/api-green)
report Held RetireHeld (stalled): tag green is not scaled to zero: HTTPRoute/api, which is kept (sluice.dev/prune is disabled), leads requests to Service/api-green
note kept HTTPRoute/api (sluice.dev/prune is disabled, and it leads requests to Service/api-blue, Service/api-green)
`

// A route that is never deleted keeps the tags that it leads to, and says so, until
// somebody takes it away or changes it.
func TestDecideKeptRouteHoldsItsTags(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	begin := func(t *testing.T) *world {
		w := splitWorld(t, "blue=90 green=10", never(httpRoute()), blue, green)
		w.tagged("blue=100", onlyWith(named("shop")), blue, green)
		w.pass()
		w.after(time.Hour)
		equal(t, heldByRoute, w.pass())
		return w
	}
	w := begin(t)
	before := w.in.Last.DeepCopy()
	assert.Contains(t, w.in.Last.Status.Hint, "take Service api-green out of HTTPRoute/api, or delete that: kubectl delete httproute.gateway.networking.k8s.io/api -n shop;")
	assert.Equal(t, "HTTPRoute/api, which is kept, leads requests to it", w.in.Last.Status.Tags[1].Message)
	w.after(time.Hour)
	w.restart()
	w.pass()
	w.remember()
	equal(t, heldByRoute, w.last())
	assert.Equal(t, before.Status, w.in.Last.Status, "a pass over it changes nothing")
	drains := func(t *testing.T, w *world) {
		t.Helper()
		assert.NotContains(t, w.pass(), "retire tag green")
		w.after(14 * time.Second)
		assert.NotContains(t, w.pass(), "retire tag green")
		w.after(time.Second)
		assert.Contains(t, w.pass(), "\nretire tag green\n")
		assert.Contains(t, w.last(), "report Ready: ")
	}
	edit := func(w *world, change func(*unstructured.Unstructured)) {
		w.edit(routeID, func(o *unstructured.Unstructured) {
			change(o)
			o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl-edit", Time: &metav1.Time{Time: w.in.Now}}})
		})
	}
	for name, change := range map[string]func(*world){
		"deleted by hand": func(w *world) { delete(w.in.Live, routeID) },
		"without the tag, by hand": func(w *world) {
			edit(w, func(o *unstructured.Unstructured) {
				o.Object["spec"] = map[string]any{"rules": []any{map[string]any{"backendRefs": []any{map[string]any{"name": "api-blue", "port": int64(80)}}}}}
			})
		},
		"given to another release": func(w *world) {
			edit(w, func(o *unstructured.Unstructured) {
				o.SetLabels(map[string]string{v1alpha1.LabelRelease: "web", v1alpha1.LabelEnvironment: "production"})
			})
		},
		"not kept any more": func(w *world) {
			edit(w, func(o *unstructured.Unstructured) { o.SetAnnotations(nil) })
			w.pass()
			w.after(15 * time.Second)
			assert.Contains(w.t, w.pass(), "\nprune\n  HTTPRoute/api\n")
		},
		"declared again": func(w *world) {
			w.commit(3)
			w.tagged("blue=100", append(onlyWith(named("shop")), httpRoute()), blue, green)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t)
			w.t = t
			change(w)
			drains(t, w)
		})
	}
	t.Run("at weight 0 it leads nowhere", func(t *testing.T) {
		w := splitWorld(t, "blue=100 green=0", never(httpRoute()), blue, green)
		w.tagged("blue=100", onlyWith(named("shop")), blue, green)
		w.pass()
		w.after(time.Hour)
		assert.Contains(t, w.pass(), "\nretire tag green\n")
	})
	t.Run("under a later commit", func(t *testing.T) {
		w := splitWorld(t, "blue=90 green=10", never(httpRoute()), blue, green)
		w.tagged("blue=90 green=10", onlyWith(named("shop")), blue, green)
		w.pass()
		w.after(time.Hour)
		assert.Contains(t, w.pass(), "report Ready: 6 objects are as declared\nnote kept HTTPRoute/api ")
		w.commit(3)
		w.tagged("blue=100", onlyWith(named("shop")), blue, green)
		w.pass()
		w.after(time.Hour)
		equal(t, heldByRoute, w.pass())
	})
	t.Run("a tag that runs nothing is not started for it", func(t *testing.T) {
		w := begin(t)
		idle := w.deployment("api-green")
		setReplicas(idle, 0)
		w.bump(idle, true)
		assert.NotContains(t, w.pass(), "apply workloads")
	})
}

// Whoever may edit a route may write any time into its managed fields. One from the far
// future keeps nothing.
func TestDecideOldRouteFromTheFuture(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	for name, route := range map[string]*unstructured.Unstructured{"kept": never(httpRoute()), "deleted": httpRoute()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := splitWorld(t, "blue=90 green=10", route, blue, green)
			w.edit(routeID, func(o *unstructured.Unstructured) {
				o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl-edit", Time: &metav1.Time{Time: w.in.Now.AddDate(70, 0, 0)}}})
			})
			w.tagged("blue=100", onlyWith(named("shop")), blue, green)
			w.pass()
			w.after(15 * time.Second)
			w.pass()
			delete(w.in.Live, routeID)
			w.pass()
			w.after(15 * time.Second)
			assert.Contains(t, w.pass(), "\nretire tag green\n")
		})
	}
}

// A release that waits for others retires what its routes have left, though a route of its
// inventory is not there: it was deleted by hand, or never created.
func TestDecideOldRouteHasEndedBehindADependency(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w := splitWorld(t, "blue=90 green=10", httpRoute(), blue, green)
	w.in.Inventory = w.in.Inventory.Union(inventory.Of(named("shop")))
	w.tagged("blue=100", append(onlyWith(httpRoute()), configMap("api-new", "1")), blue, green)
	w.in.Dependencies = []Dependency{{Name: "db", Message: "its pods crash"}}
	assert.Contains(t, w.pass(), "\nroute blue=100\n")
	assert.NotContains(t, w.in.Inventory, inventory.IDOf(named("shop")))
	w.after(15 * time.Second)
	text := w.pass()
	assert.Contains(t, text, "\nretire tag green\n")
	assert.Contains(t, text, "report Held DependencyNotReady: release db is not ready: its pods crash\nagain in 5m0s\n")
	t.Run("and waits for its requests", func(t *testing.T) {
		w := splitWorld(t, "blue=90 green=10", never(httpRoute()), blue, green)
		w.tagged("blue=100", onlyWith(named("shop")), blue, green)
		w.pass()
		w.after(time.Hour)
		equal(t, heldByRoute, w.pass())
		w.commit(3)
		w.tagged("blue=100", append(onlyWith(named("shop")), configMap("api-new", "1")), blue, green)
		w.in.Dependencies = []Dependency{{Name: "db", Message: "its pods crash"}}
		delete(w.in.Live, routeID)
		w.pass()
		w.after(14 * time.Second)
		assert.NotContains(t, w.pass(), "retire tag green")
		w.after(time.Second)
		assert.Contains(t, w.pass(), "\nretire tag green\n")
	})
}

// What a kept route leads to is not deleted either: a tag whose folder has gone, or those
// of a release that is given back its untagged form.
func TestDecideKeptRouteHoldsWhatLeaves(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2, configMap("api-green-config", "1"))
	for _, test := range []struct {
		name   string
		commit func(w *world)
		holds  string
		frees  string
	}{
		{"a deleted tag", func(w *world) { w.tagged("blue=100", onlyWith(named("shop")), blue) },
			"hold prune: HTTPRoute/api, which is kept, leads requests to Service/api-green\n  Deployment/api-green\n  Service/api-green\n  ConfigMap/api-green-config\n",
			"prune\n  Deployment/api-green\n  Service/api-green\n  ConfigMap/api-green-config\n"},
		{"an untagged release", func(w *world) {
			w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), named("shop"))
		},
			"hold prune: HTTPRoute/api, which is kept, leads requests to Service/api-green\n  Deployment/api-green\n  Service/api-green\n  ConfigMap/api-green-config\n" +
				"hold prune: HTTPRoute/api, which is kept, leads requests to Service/api-blue\n  Deployment/api-blue\n  Service/api-blue\n",
			"prune\n  Deployment/api-blue\n  Deployment/api-green\n  Service/api-blue\n  Service/api-green\n  ConfigMap/api-green-config\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := splitWorld(t, "blue=90 green=10", never(httpRoute()), blue, green)
			test.commit(w)
			w.pass()
			if w.in.live(deployment("api", "one", 2)) != nil {
				w.up("api")
				w.pass()
			}
			w.after(time.Hour)
			text := w.pass()
			assert.Contains(t, text, "\n"+test.holds)
			assert.NotContains(t, text, "\nprune\n")
			assert.Contains(t, text, "report Held RetireHeld (stalled): ")
			delete(w.in.Live, routeID)
			assert.NotContains(t, w.pass(), "\nprune\n")
			w.after(15 * time.Second)
			text = w.pass()
			assert.Contains(t, text, "\n"+test.frees)
			assert.Contains(t, text, "report Ready")
		})
	}
	t.Run("but what a listed tag has no more goes", func(t *testing.T) {
		w := splitWorld(t, "blue=90 green=10", never(httpRoute()), blue, green)
		w.tagged("blue=90 green=10", onlyWith(named("shop")), blue, tag("green", "two", 2))
		assert.Contains(t, w.pass(), "\nprune\n  ConfigMap/api-green-config\n")
	})
}

// Old routes of a release that turns tagged lead to its plain Service, which goes along.
func TestDecideRenamedRouteAtConversion(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute())
	w.pass()
	w.up("api")
	w.pass()
	w.commit(2)
	w.tagged("blue=100", onlyWith(named("shop")), tag("blue", "one", 2))
	w.pass()
	w.up("api-blue")
	assert.Contains(t, w.pass(), "\nroute blue=100\n  Service/api (update)\n  HTTPRoute/shop (create)\nprune later\n  HTTPRoute/api\n  Deployment/api\n")
	w.after(15 * time.Second)
	assert.Contains(t, w.pass(), "\nprune\n  HTTPRoute/api\n  Deployment/api\n")
	assert.Contains(t, w.last(), "report Ready: 4 objects")
	t.Run("and back", func(t *testing.T) {
		w.commit(3)
		w.after(time.Hour)
		w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute())
		w.pass()
		w.up("api")
		w.pass()
		w.after(15 * time.Second)
		assert.Contains(t, w.pass(), "\nprune\n  HTTPRoute/shop\nprune later\n  Deployment/api-blue\n  Service/api-blue\n")
		w.after(15 * time.Second)
		assert.Contains(t, w.pass(), "\nprune\n  Deployment/api-blue\n  Service/api-blue\n")
	})
}

// A deletion that is held keeps no tag from being retired in its time.
func TestDecideRetiresWhileADeletionIsHeld(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2, configMap("api-green-old", "1"))
	w := splitWorld(t, "blue=90 green=10", httpRoute(), blue, green)
	w.tagged("blue=100", onlyWith(httpRoute()), blue, tag("green", "two", 2))
	w.in.Ruling = Ruling{Held: &Hold{Reason: v1alpha1.ReasonPruneHeld, Message: "held"}}
	assert.True(t, strings.HasSuffix(w.pass(), "report Held PruneHeld (stalled): held\nagain in 15s\n"))
	w.after(15 * time.Second)
	assert.Contains(t, w.pass(), "\nretire tag green\n")
}
