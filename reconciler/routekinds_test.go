package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

const mirrorName = "api-blue-mirror-6d6fe54d68"

var mirrorID = inventory.ID{Namespace: "shop", Name: mirrorName, Group: "traefik.io", Kind: "TraefikService"}

func sharedWith(routes ...*unstructured.Unstructured) []*unstructured.Unstructured {
	return append([]*unstructured.Unstructured{service("api", "api")}, routes...)
}

func ingressRoute() *unstructured.Unstructured {
	return object(`
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: api}
spec: {routes: [{match: "PathPrefix(` + "`/`" + `)", services: [{name: api, port: 80}]}]}
`)
}

// traefikWorld carries blue=100 green=0 over an IngressRoute.
func traefikWorld(t *testing.T) *world {
	w := newWorld(t)
	w.tagged("blue=100 green=0", sharedWith(ingressRoute()), tag("blue", "one", 2), tag("green", "two", 2))
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	w.after(time.Hour)
	require.Contains(t, w.pass(), "report Ready")
	return w
}

// want asks for other weights of the same release, in a newer commit.
func (w *world) want(n int, weights string) {
	w.commit(n)
	w.tagged(weights, sharedWith(ingressRoute()), tag("blue", "one", 2), tag("green", "two", 2))
}

// A mirror of an IngressRoute needs an object that nobody wrote: it is there before
// the route that names it, and goes when no request takes that way any more.
func TestDecideMirrorsWithTraefik(t *testing.T) {
	w := traefikWorld(t)
	w.want(2, "blue=100 green=0 mirror:green=5")
	assert.Contains(t, w.pass(), `
record intent
  TraefikService/`+mirrorName+`
route blue=100 green=0 mirror:green=5
  Service/api (update)
  TraefikService/`+mirrorName+` (create)
  IngressRoute/api (update)
`)
	assert.Contains(t, w.in.Inventory, mirrorID)
	assert.Equal(t, "api", w.in.Live[mirrorID].GetLabels()[v1alpha1.LabelRelease])
	w.after(time.Hour)
	assert.Contains(t, w.pass(), "report Ready")

	w.want(3, "blue=0 green=100")
	text := w.pass()
	assert.Contains(t, text, "route blue=0 green=100\n  Service/api (update)\n  IngressRoute/api (update)\n")
	assert.Contains(t, text, "prune later\n  TraefikService/"+mirrorName+"\n", "requests may still be on their way through it")
	w.after(time.Hour)
	assert.Contains(t, w.pass(), "prune\n  TraefikService/"+mirrorName+"\n")
	assert.NotContains(t, w.in.Inventory, mirrorID)
}

func TestDecideLeavesASickMirrorOutWithTraefik(t *testing.T) {
	w := traefikWorld(t)
	w.down("api-green", "")
	w.want(2, "blue=100 green=0 mirror:green=5")
	text := w.pass()
	assert.NotContains(t, text, "TraefikService")
	assert.Contains(t, text, "the mirror to tag green is left out: Deployment/api-green: 0 of 2 replicas ready")

	w.up("api-green")
	assert.Contains(t, w.pass(), "  TraefikService/"+mirrorName+" (create)\n  IngressRoute/api (update)\n")
	w.after(time.Hour)
	w.down("api-green", "")
	text = w.pass()
	assert.Contains(t, text, "route blue=100 green=0\n  Service/api (update)\n  IngressRoute/api (update)\n")
	assert.Contains(t, text, "prune later\n  TraefikService/"+mirrorName+"\n")
}

func TestDecideHoldsWeightsWithTraefik(t *testing.T) {
	w := traefikWorld(t)
	w.down("api-green", "")
	w.want(2, "blue=90 green=10")
	assert.Contains(t, w.pass(), "hold routes: routes stay at blue=100 green=0: tag green is not ready")
	id := inventory.ID{Namespace: "shop", Name: "api", Group: "traefik.io", Kind: "IngressRoute"}
	services := func() any {
		routes, _, _ := unstructured.NestedSlice(w.in.Live[id].Object, "spec", "routes")
		return routes[0].(map[string]any)["services"]
	}
	blue := []any{map[string]any{"name": "api-blue", "port": int64(80), "weight": int64(100)}}
	assert.Equal(t, blue, services())

	w.edit(id, func(o *unstructured.Unstructured) {
		routes, _, _ := unstructured.NestedSlice(o.Object, "spec", "routes")
		routes[0].(map[string]any)["services"] = []any{map[string]any{"name": "api-green", "port": int64(80)}}
		require.NoError(t, unstructured.SetNestedSlice(o.Object, routes, "spec", "routes"))
	})
	assert.Contains(t, w.pass(), "route blue=100 green=0\n  IngressRoute/api (update)\nhold routes")
	assert.Equal(t, blue, services(), "an edit does not raise what is held")

	w.up("api-green")
	assert.Contains(t, w.pass(), "route blue=90 green=10\n")
	w.want(3, "blue=100")
	w.in.Live[id].SetAnnotations(nil)
	w.edit(id, func(o *unstructured.Unstructured) {
		routes, _, _ := unstructured.NestedSlice(o.Object, "spec", "routes")
		routes[0].(map[string]any)["services"] = []any{map[string]any{"name": "api-green", "port": int64(80)}}
		require.NoError(t, unstructured.SetNestedSlice(o.Object, routes, "spec", "routes"))
	})
	assert.NotContains(t, w.pass(), "retire tag green", "the edited route named it until now")
}

func virtualService() *unstructured.Unstructured {
	return object(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec: {hosts: [shop.example.com], http: [{route: [{destination: {host: api}}]}]}
`)
}

// The policies of the tags come before the route that leads to them, and their own
// one before; what Istio says of the route is waited for.
func TestDecideRoutesWithIstio(t *testing.T) {
	w := newWorld(t)
	rule := object("{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: api}, spec: {host: api, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}")
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w.tagged("blue=90 green=10", sharedWith(virtualService(), rule), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	assert.Contains(t, w.pass(), `
route blue=90 green=10
  Service/api (create)
  DestinationRule/api-for-blue (create)
  DestinationRule/api-for-green (create)
  DestinationRule/api (create)
  VirtualService/api (create)
`)
	w.after(time.Hour)
	require.Contains(t, w.pass(), "report Ready")
	assert.Equal(t, "blue=90 green=10", w.in.Live[inventory.ID{Namespace: "shop", Name: "api", Group: "networking.istio.io", Kind: "VirtualService"}].GetAnnotations()[v1alpha1.AnnotationTraffic])

	w.commit(2)
	w.tagged("blue=100", sharedWith(virtualService(), rule), blue, green)
	id := inventory.ID{Namespace: "shop", Name: "api", Group: "networking.istio.io", Kind: "VirtualService"}
	assert.Contains(t, w.pass(), "route blue=100\n  Service/api (update)\n  VirtualService/api (update)\n")
	w.edit(id, func(o *unstructured.Unstructured) {
		o.Object["status"] = map[string]any{"observedGeneration": o.GetGeneration(), "validationMessages": []any{
			map[string]any{"level": "ERROR", "type": map[string]any{"code": "IST0101", "name": "ReferencedResourceNotFound"}, "documentationUrl": "https://istio.io/x"}}}
	})
	w.after(time.Hour)
	text := w.pass()
	assert.Contains(t, text, "report Waiting RouteNotAccepted: VirtualService/api is not accepted: Istio's analysis: IST0101 ReferencedResourceNotFound")
	assert.NotContains(t, text, "retire")
	w.edit(id, func(o *unstructured.Unstructured) { delete(o.Object, "status") })
	text = w.pass()
	assert.Contains(t, text, "retire tag green")
	w.after(time.Hour)
	assert.Contains(t, text+w.pass(), "prune\n  DestinationRule/api-for-green\n")
}

// A policy that the user wrote for the Service of a tag takes the place of the copy,
// wherever it stands, and goes on to do so while the tag is broken.
func TestDecideLeavesAnOwnPolicyOfATagAlone(t *testing.T) {
	policy := func(name, host string) *unstructured.Unstructured {
		return object("{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: " + name + "}, spec: {host: " + host + "}}")
	}
	w := newWorld(t)
	shared := sharedWith(virtualService(), policy("api", "api"), policy("canary", "api-canary"))
	blue, canary := tag("blue", "one", 2), tag("canary", "three", 2)
	w.tagged("blue=80 green=10 canary=10", shared, blue, tag("green", "two", 2, policy("green", "api-green.shop.svc.cluster.local")), canary)
	text := w.pass()
	w.up("api-blue", "api-green", "api-canary")
	text += w.pass()
	require.Contains(t, text, "DestinationRule/api-for-blue (create)")
	assert.Contains(t, text, "DestinationRule/green (create)")
	assert.NotContains(t, text, "api-for-green")
	assert.NotContains(t, text, "api-for-canary")

	w.commit(2)
	w.tagged("blue=90 green=0 canary=10", shared, blue, broken("green"), canary)
	text = w.pass()
	assert.Contains(t, text, "route blue=90 green=0 canary=10\n")
	assert.NotContains(t, text, "api-for-green")
}

// A crash between the write of a route and that of the status is seen in every kind.
func TestDecideCrashAfterRoutingOfEveryKind(t *testing.T) {
	for _, route := range []*unstructured.Unstructured{httpRoute(), virtualService(), ingressRoute()} {
		t.Run(route.GetKind(), func(t *testing.T) {
			w := newWorld(t)
			blue, green := tag("blue", "one", 2), tag("green", "two", 2)
			w.tagged("blue=100 green=0", sharedWith(route), blue, green)
			w.pass()
			w.up("api-blue", "api-green")
			w.pass()
			w.after(time.Hour)
			w.commit(2)
			w.tagged("blue=50 green=50", sharedWith(route), blue, green)
			w.execute(Decide(w.in)) // and killed before it could report
			w.in.routed = nil
			w.restart()
			w.down("api-green", "")
			w.commit(3)
			w.tagged("blue=40 green=60", sharedWith(route), blue, green)
			assert.Contains(t, w.last(), "routes stay at blue=50 green=50", "not at what the status says")
		})
	}
}

// What a route needs besides is deleted after it.
func TestDecideLeavingReleaseWithTraefik(t *testing.T) {
	w := traefikWorld(t)
	w.want(2, "blue=100 green=0 mirror:green=5")
	w.pass()
	w.in.Gone, w.in.Rendered = true, nil
	assert.Contains(t, w.pass(), "prune\n  IngressRoute/api\n  TraefikService/"+mirrorName+"\nprune later\n")
}

// An object of the name that somebody else has made is not taken over.
func TestDecideLeavesAnothersTraefikService(t *testing.T) {
	w := traefikWorld(t)
	theirs := object("{apiVersion: traefik.io/v1alpha1, kind: TraefikService, metadata: {name: " + mirrorName + ", labels: {helm.toolkit.fluxcd.io/name: shop}}}")
	w.in.Live[mirrorID] = theirs
	w.want(2, "blue=100 green=0 mirror:green=5")
	assert.Contains(t, w.pass(), "TraefikService/"+mirrorName)
	assert.Same(t, theirs, w.in.Live[mirrorID])
}
