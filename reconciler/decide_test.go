package reconciler

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render/traffic"
)

// equal compares a whole text; the wanted one starts after its first line break.
func equal(t *testing.T, want, got string) {
	t.Helper()
	assert.Equal(t, strings.TrimPrefix(want, "\n"), got)
}

func TestDecideFirstSyncOfAnUntaggedRelease(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", configMap("api-config", "1"), deployment("api", "one", 2), service("api", "api"), httpRoute())
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
record intent
  ConfigMap/api-config
  Deployment/api
  HTTPRoute/api
  Service/api
apply config
  ConfigMap/api-config (create)
apply services
  Service/api (create)
apply workloads
  Deployment/api (create)
hold routes: the release is not ready: Deployment/api is being applied
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: the release is not ready: Deployment/api: 0 of 2 replicas updated
report Waiting WaitingForHealth: Deployment/api: 0 of 2 replicas updated
again in 1s
`, w.pass())

	w.up("api")
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
route
  HTTPRoute/api (create)
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Ready: 4 objects are as declared
`, w.pass())

	t.Run("and then nothing", func(t *testing.T) {
		before := w.in.Last.DeepCopy()
		w.after(time.Hour)
		equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Ready: 4 objects are as declared
`, w.pass())
		assert.Equal(t, before, w.in.Last, "a pass over what is ready changes no status")
	})
}

func TestDecideUpdatePrunesWhenTheNewPodsAreUp(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", configMap("api-config-1", "1"), deployment("api", "one", 2))
	w.pass()
	w.up("api")
	w.pass()

	w.commit(2)
	w.untagged("sha256:two", configMap("api-config-2", "2"), deployment("api", "two", 2))
	equal(t, `
release api in production, namespace shop, revision c00000000000
record intent
  ConfigMap/api-config-2
apply config
  ConfigMap/api-config-2 (create)
apply workloads
  Deployment/api (update)
prune later
  ConfigMap/api-config-1
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  ConfigMap/api-config-1
report Waiting WaitingForHealth: Deployment/api: its controller has not taken the last change in yet
again in 1s
`, w.pass())
	w.up("api")
	equal(t, `
release api in production, namespace shop, revision c00000000000
prune
  ConfigMap/api-config-1
report Ready: 2 objects are as declared
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: 2 objects are as declared
`, w.pass())
}

func TestDecideRisingWeight(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w := newWorld(t)
	w.tagged("blue=100 green=0", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue")
	w.down("api-green", "pod api-green-6f8-x2: ImagePullBackOff: Back-off pulling image")
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
route blue=100 green=0
  Service/api (create)
  HTTPRoute/api (create)
report Waiting WaitingForHealth: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-6f8-x2: ImagePullBackOff: Back-off pulling image
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Waiting WaitingForHealth: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-6f8-x2: ImagePullBackOff: Back-off pulling image
again in 1s
`, w.pass())

	w.commit(2)
	w.tagged("blue=90 green=10", sharedObjects(), blue, green)
	held := `
release api in production, namespace shop, revision c00000000000
hold routes: routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-6f8-x2: ImagePullBackOff: Back-off pulling image
report Held TrafficHeld: routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-6f8-x2: ImagePullBackOff: Back-off pulling image
again in 1s
`
	equal(t, held, w.pass())

	t.Run("does not move by waiting", func(t *testing.T) {
		w.after(time.Minute)
		equal(t, strings.Replace(held, "again in 1s", "again in 15s", 1), w.pass())
		w.after(4 * time.Minute)
		equal(t, strings.NewReplacer("again in 1s", "again in 15s", "Held TrafficHeld:", "Held TrafficHeld (stalled):").Replace(held), w.pass())
	})

	t.Run("moves as soon as the tag is ready", func(t *testing.T) {
		w.up("api-green")
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

	t.Run("can always leave a broken tag", func(t *testing.T) {
		w.down("api-green", "pod api-green-6f8-x2: CrashLoopBackOff: container main exited with code 1")
		w.commit(3)
		w.tagged("blue=100 green=0", sharedObjects(), blue, green)
		equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
report Waiting WaitingForHealth: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready: pod api-green-6f8-x2: CrashLoopBackOff: container main exited with code 1
again in 1s
`, firstOf(w.pass()))
	})
}

// firstOf is the first plan of a pass.
func firstOf(text string) string {
	if i := strings.Index(text[1:], "\nrelease "); i >= 0 {
		return text[:i+2]
	}
	return text
}

func TestDecideNewDigestInTheIdleTagTouchesNoRoute(t *testing.T) {
	w := newWorld(t)
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "one", 2))
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	w.commit(2)
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	equal(t, `
release api in production, namespace shop, revision c00000000000
apply workloads
  Deployment/api-green (update)
report Waiting Applying: objects are being applied
again in 1s
`, firstOf(w.pass()))
}

func TestDecideSickMirrorIsLeftOut(t *testing.T) {
	w := newWorld(t)
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	w.commit(2)
	w.tagged("blue=100 green=0 mirror:green=5", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	w.down("api-green", "")
	equal(t, `
release api in production, namespace shop, revision c00000000000
nothing to do
report Waiting WaitingForHealth: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready
note the mirror to tag green is left out: Deployment/api-green: 0 of 2 replicas ready
again in 1s
`, w.pass())
	w.up("api-green")
	equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=100 green=0 mirror:green=5
  Service/api (update)
  HTTPRoute/api (update)
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: 7 objects are as declared
`, w.pass())

	t.Run("also when it falls ill later", func(t *testing.T) {
		w.down("api-green", "")
		equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
report Waiting WaitingForHealth: tag green is not ready: Deployment/api-green: 0 of 2 replicas ready
note the mirror to tag green is left out: Deployment/api-green: 0 of 2 replicas ready
again in 1s
`, firstOf(w.pass()))
	})
}

func TestDecideRefusedMirrorBlocksNoWeight(t *testing.T) {
	w := newWorld(t)
	w.in.Support = traffic.Support{Known: true, Class: "plain"}
	w.tagged("blue=100 green=0 mirror:green=5", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	w.pass()
	w.up("api-blue", "api-green")
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
route blue=100 green=0
  Service/api (create)
  HTTPRoute/api (create)
report Failed TrafficRefused: HTTPRoute shop/api: spec.rules[0]: mirror to tag green of component api is refused: GatewayClass plain does not declare HTTPRouteRequestPercentageMirror
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Failed TrafficRefused: HTTPRoute shop/api: spec.rules[0]: mirror to tag green of component api is refused: GatewayClass plain does not declare HTTPRouteRequestPercentageMirror
again in 1s
`, w.pass())
}

// Where requests come by an Ingress alone, weights that it cannot follow are refused, and
// the tag that has everything keeps it until another gets everything.
func TestDecideRefusesWeightsThatNoRouteFollows(t *testing.T) {
	ingress := object("{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: api}, spec: {defaultBackend: {service: {name: api, port: {number: 80}}}}}")
	shared := []*unstructured.Unstructured{service("api", "api"), ingress}
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w := newWorld(t)
	w.tagged("blue=100 green=0", shared, blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	require.Contains(t, w.pass(), "route blue=100 green=0\n")

	w.commit(2)
	w.tagged("blue=40 green=60", shared, blue, green)
	text := w.pass()
	assert.Contains(t, text, "TrafficRefused")
	assert.Contains(t, text, "Ingress shop/api: spec.defaultBackend names Service api, and no weights can be written into kind Ingress: all requests would go to tag green")
	assert.NotContains(t, text, "Service/api (update)")
	assert.Equal(t, "give all traffic to one tag (sluice traffic promote), or route to Service api with a kind that has weights (HTTPRoute, GRPCRoute, VirtualService, IngressRoute)", trafficHint(&w.in))

	w.commit(3)
	w.tagged("blue=0 green=100", shared, blue, green)
	assert.Contains(t, w.pass(), "route blue=0 green=100\n  Service/api (update)\n")
}

func TestDecideRetiresAnUnlistedTagAfterDrain(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2, hpa("api-green", 3, 10),
		object("{apiVersion: batch/v1, kind: CronJob, metadata: {name: api-green-report}, spec: {schedule: '@daily'}}"))
	w := newWorld(t)
	w.tagged("blue=90 green=10", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	require.Equal(t, "blue=90 green=10", w.in.Last.Status.Summary.Traffic)

	w.after(time.Hour)
	w.commit(2)
	w.tagged("blue=100", sharedObjects(), blue, green)
	equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=100
  Service/api (update)
  HTTPRoute/api (update)
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: tag green is scaled to zero when its requests have ended
again in 15s
`, w.pass())

	t.Run("not a second earlier", func(t *testing.T) {
		w.after(14 * time.Second)
		equal(t, `
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: tag green is scaled to zero when its requests have ended
again in 1s
`, w.pass())
	})
	t.Run("then to zero, without its autoscaler", func(t *testing.T) {
		w.after(time.Second)
		equal(t, `
release api in production, namespace shop, revision c00000000000
retire tag green
  Deployment/api-green (update)
  CronJob/api-green-report (update)
prune
  HorizontalPodAutoscaler/api-green
report Ready: 8 objects are as declared
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: 8 objects are as declared
`, w.pass())
		assert.Equal(t, []v1alpha1.TagStatus{
			{Name: "blue", Digest: "sha256:one", Listed: true, Weight: 100, Ready: true},
			{Name: "green", Digest: "sha256:two", Message: "scaled to zero"},
		}, w.in.Last.Status.Tags)
	})
	t.Run("stays retired while others move", func(t *testing.T) {
		w.commit(3)
		w.tagged("blue=90 red=10", sharedObjects(), blue, green, tag("red", "three", 1))
		w.pass()
		w.up("api-red")
		assert.NotContains(t, w.pass(), "green")
	})
	t.Run("listed again it returns at its minimum", func(t *testing.T) {
		w.commit(4)
		w.tagged("blue=90 green=10", sharedObjects(), blue, green)
		w.after(time.Hour)
		text := w.pass()
		assert.Contains(t, text, `
scale
  Deployment/api-green to 3
apply workloads
  Deployment/api-green (update)
  CronJob/api-green-report (update)
apply scaling
  HorizontalPodAutoscaler/api-green (create)
hold routes: routes stay at blue=90 red=10: tag green is not ready: Deployment/api-green is being applied
`)
		n, _, _ := unstructured.NestedInt64(w.deployment("api-green").Object, "spec", "replicas")
		assert.EqualValues(t, 3, n)
	})
}

func TestDecideRetiredTagLosesItsScalerWhileTheOthersAreSick(t *testing.T) {
	scaler := object("{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: api-green}, spec: {scaleTargetRef: {name: api-green}}}")
	blue, green := tag("blue", "one", 2), tag("green", "two", 2, scaler, configMap("api-green-old", "1"))
	w := newWorld(t)
	w.tagged("blue=100 green=0", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	w.after(time.Hour)
	w.commit(2)
	green.Objects = green.Objects[:3]
	w.tagged("blue=100", sharedObjects(), blue, green)
	w.down("api-blue", "pod api-blue-1: CrashLoopBackOff")
	text := w.pass()
	assert.Contains(t, text, "\nretire tag green\n  Deployment/api-green (update)\nprune\n  ScaledObject/api-green\nprune later\n  ConfigMap/api-green-old\n")
	assert.Nil(t, w.in.live(scaler))
	assert.NotNil(t, w.in.live(configMap("api-green-old", "1")))
}

func TestDecideTagThatNeverRanRetiresAtOnce(t *testing.T) {
	w := newWorld(t)
	w.tagged("blue=100", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	assert.Contains(t, w.pass(), "\nretire tag green\n  Deployment/api-green (create)\n")
	n, _, _ := unstructured.NestedInt64(w.deployment("api-green").Object, "spec", "replicas")
	assert.Zero(t, n)
}

func TestDecideConversionKeepsBothUntilTheRouteHasMoved(t *testing.T) {
	w := newWorld(t)
	untagged := []*unstructured.Unstructured{deployment("api", "one", 2), service("api", "api"), httpRoute()}
	w.untagged("sha256:one", untagged...)
	w.pass()
	w.up("api")
	w.pass()

	w.commit(2)
	w.after(time.Hour)
	w.tagged("blue=100", sharedObjects(), tag("blue", "one", 2))
	equal(t, `
release api in production, namespace shop, revision c00000000000
record intent
  Deployment/api-blue
  Service/api-blue
  ServiceAccount/api
apply config
  ServiceAccount/api (create)
apply services
  Service/api-blue (create)
apply workloads
  Deployment/api-blue (create)
hold routes: routes stay as before the tags: tag blue is not ready: Deployment/api-blue is being applied
prune later
  Deployment/api
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision c00000000000
hold routes: routes stay as before the tags: tag blue is not ready: Deployment/api-blue: 0 of 2 replicas updated
prune later
  Deployment/api
report Waiting WaitingForHealth: tag blue is not ready: Deployment/api-blue: 0 of 2 replicas updated
again in 1s
`, w.pass())

	w.up("api-blue")
	equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=100
  Service/api (update)
  HTTPRoute/api (update)
prune later
  Deployment/api
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  Deployment/api
report Ready: Deployment/api is pruned when nothing needs it
again in 15s
`, w.pass())
	w.after(15 * time.Second)
	equal(t, `
release api in production, namespace shop, revision c00000000000
prune
  Deployment/api
report Ready: 5 objects are as declared
`, firstOf(w.pass()))

	t.Run("and back", func(t *testing.T) {
		w.commit(3)
		w.after(time.Hour)
		w.untagged("sha256:one", untagged...)
		text := w.pass()
		assert.Contains(t, text, "\napply workloads\n  Deployment/api (create)\nhold routes: ")
		assert.NotContains(t, text, "Service/api (", "callers inside the cluster stay with the tag")
		w.up("api")
		equal(t, `
release api in production, namespace shop, revision c00000000000
route
  Service/api (update)
  HTTPRoute/api (update)
prune later
  Deployment/api-blue
  Service/api-blue
  ServiceAccount/api
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  Deployment/api-blue
  Service/api-blue
  ServiceAccount/api
report Ready: Deployment/api-blue is pruned when nothing needs it; Service/api-blue is pruned when nothing needs it; ServiceAccount/api is pruned when nothing needs it
again in 15s
`, w.pass())
		assert.Empty(t, w.in.Last.Status.Summary.Traffic)
		w.after(15 * time.Second)
		assert.Contains(t, w.pass(), "\nprune\n  Deployment/api-blue\n  Service/api-blue\n  ServiceAccount/api\n")
		assert.Equal(t, inventory.Of(untagged...), w.in.Inventory)
	})
}

func TestDecideCapacityForTheNewShare(t *testing.T) {
	blue, green := tag("blue", "one", 2, hpa("api-blue", 2, 20)), tag("green", "two", 2, hpa("api-green", 2, 20))
	w := newWorld(t)
	w.tagged("blue=100 green=0", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	load := w.deployment("api-blue") // the autoscaler has found ten right
	setReplicas(load, 10)
	own(load, fieldManager, false)
	w.bump(load, true)
	w.up("api-blue")

	w.commit(2)
	w.tagged("blue=0 green=100", sharedObjects(), blue, green)
	text := w.pass()
	assert.Contains(t, text, "\nscale\n  Deployment/api-green to 10\n")
	assert.Contains(t, text, "\napply scaling\n  HorizontalPodAutoscaler/api-green (update)\n")
	assert.EqualValues(t, 10, minimum(w, "api-green"), "so that it is not scaled down again for want of load")

	w.up("api-green")
	assert.Contains(t, w.pass(), "\nroute blue=0 green=100\n")

	t.Run("the minimum returns when load has come", func(t *testing.T) {
		assert.EqualValues(t, 10, minimum(w, "api-green"))
		w.after(capacityGrace - time.Minute)
		assert.Contains(t, w.pass(), "again in 1m")
		w.after(2 * time.Minute)
		equal(t, `
release api in production, namespace shop, revision c00000000000
apply scaling
  HorizontalPodAutoscaler/api-green (update)
report Waiting Applying: objects are being applied
again in 1s
`, firstOf(w.pass()))
		assert.EqualValues(t, 2, minimum(w, "api-green"))
	})
}

func minimum(w *world, name string) int64 {
	live := w.in.Live[inventory.ID{Namespace: "shop", Name: name, Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}]
	n, _, _ := unstructured.NestedInt64(live.Object, "spec", "minReplicas")
	return n
}

func TestDecideReplicasBelongToTheAutoscaler(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2))
	w.pass()
	w.up("api")
	w.pass()
	setReplicas(w.in.Rendered.Shared[0], 4)
	w.commit(2)
	w.pass()
	w.up("api")
	w.pass()

	w.commit(3) // an autoscaler comes: the live number is handed over first
	w.untagged("sha256:one", deployment("api", "one", 2), hpa("api", 2, 10))
	assert.Contains(t, w.pass(), "\nscale\n  Deployment/api to 4\napply workloads\n  Deployment/api (update)\n")
	live := w.deployment("api")
	n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	assert.EqualValues(t, 4, n)
	assert.False(t, ownsReplicas(live))

	setReplicas(live, 7) // and is not written again
	w.bump(live, true)
	w.up("api")
	w.restart()
	assert.NotContains(t, w.pass(), "scale\n")
	n, _, _ = unstructured.NestedInt64(w.deployment("api").Object, "spec", "replicas")
	assert.EqualValues(t, 7, n)
}

func TestDecidePruneSpares(t *testing.T) {
	w := newWorld(t)
	keep := configMap("keep", "1")
	keep.SetAnnotations(map[string]string{v1alpha1.AnnotationPrune: "disabled"})
	claim := object("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}}")
	w.untagged("", configMap("stay", "1"), configMap("go", "1"), configMap("taken", "1"), configMap("disowned", "1"), keep, claim)
	w.pass()
	for name, change := range map[string]func(map[string]string){
		"taken":    func(l map[string]string) { l[v1alpha1.LabelRelease] = "web" },
		"disowned": func(l map[string]string) { delete(l, v1alpha1.LabelRelease) },
	} {
		live := w.in.Live[inventory.ID{Namespace: "shop", Name: name, Kind: "ConfigMap"}]
		labels := live.GetLabels()
		change(labels)
		live.SetLabels(labels)
	}
	w.commit(2)
	w.untagged("", configMap("stay", "1"))
	equal(t, `
release api in production, namespace shop, revision c00000000000
keep
  ConfigMap/disowned (it does not carry the release's label any more)
  ConfigMap/keep (sluice.dev/prune is disabled)
  ConfigMap/taken (it belongs to release web of environment production)
  PersistentVolumeClaim/data (its kind is protected)
prune
  ConfigMap/go
report Ready: 1 object is as declared
note kept ConfigMap/disowned (it does not carry the release's label any more)
note kept ConfigMap/keep (sluice.dev/prune is disabled)
note kept ConfigMap/taken (it belongs to release web of environment production)
note kept PersistentVolumeClaim/data (its kind is protected)
`, firstOf(w.pass()))
	assert.Equal(t, inventory.Of(configMap("stay", "1")), w.in.Inventory)
}

func TestDecideLeavesAlone(t *testing.T) {
	foreign := func(w *world) {
		live := configMap("b", "1")
		live.SetLabels(map[string]string{v1alpha1.LabelRelease: "web", v1alpha1.LabelEnvironment: "production"})
		w.in.Live[inventory.IDOf(live)] = live
		w.untagged("", configMap("a", "1"), configMap("b", "1"))
	}
	tests := []struct {
		name   string
		change func(*world)
		want   string
	}{
		{"a paused release", func(w *world) {
			w.in.Paused = "paused by components/api/component.yaml"
			w.untagged("", configMap("a", "2"))
		}, "report Paused: paused by components/api/component.yaml\n"},
		{"an overlay that renders nothing", func(w *world) { w.untagged("") },
			"report Failed EmptyRender: environments/production/api renders no object, but 1 of the release are in the cluster: nothing is pruned\n"},
		{"what another release owns", foreign,
			"report Failed OwnedByAnother: ConfigMap/b belongs to release web of environment production\n"},
		{"what another project reports on", func(w *world) { w.in.Last.Spec.Project = "bank" },
			"report Failed OwnedByAnother: Release/api belongs to environment production of project bank\n"},
		{"an environment without a namespace", func(w *world) { w.in.Namespace.Exists = false },
			"report Failed NamespaceMissing: namespace shop does not exist\n"},
		{"objects outside its namespace", func(w *world) {
			o := configMap("a", "1")
			o.SetNamespace("kube-system")
			w.untagged("", o, object("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}"))
		}, "report Failed NamespaceRefused: ConfigMap/a is not in namespace shop; Namespace/shop is not in namespace shop\n"},
		{"a change behind one that is not ready", func(w *world) {
			w.commit(2)
			w.untagged("", configMap("a", "2"))
			w.in.Dependencies = []Dependency{{Name: "cache", Ready: true}, {Name: "db", Message: "StatefulSet/db: 0 of 1 replicas ready"}}
		}, "report Held DependencyNotReady: release db is not ready: StatefulSet/db: 0 of 1 replicas ready\n"},
		{"an environment that is refused", func(w *world) {
			w.in.Refusal = &Refusal{v1alpha1.ReasonNamespaceRefused, "sluice.yaml says other"}
		},
			"report Failed NamespaceRefused: sluice.yaml says other\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.untagged("", configMap("a", "1"))
			w.pass()
			before := w.in.Inventory
			tt.change(w)
			text := w.pass()
			_, text, _ = strings.Cut(text, "\n")
			text, again, _ := strings.Cut(text, "again in ")
			equal(t, "nothing to do\n"+tt.want, text)
			if w.in.Paused == "" {
				assert.NotEmpty(t, again)
			}
			assert.Equal(t, before, w.in.Inventory)
		})
	}
}

func TestDecideDoesNotWaitForDependenciesWithoutAChange(t *testing.T) {
	w := newWorld(t)
	w.untagged("", configMap("a", "1"))
	w.pass()
	w.restart()
	w.in.Dependencies = []Dependency{{Name: "db", Message: "broken"}}
	assert.Contains(t, w.pass(), "report Ready")
}

func TestDecideNamespace(t *testing.T) {
	w := newWorld(t)
	w.in.Release.Name, w.in.Release.Component.Name = "environment", ""
	w.in.Namespace.Exists = false
	w.untagged("", object("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}"), configMap("a", "1"))
	equal(t, `
release environment in production, namespace shop, revision 9f8e7d6c5b4a
ensure namespace
  Namespace/shop (create)
report Waiting Applying: the namespace is being created
release environment in production, namespace shop, revision 9f8e7d6c5b4a
record intent
  ConfigMap/a
  Namespace/shop
apply namespace
  Namespace/shop (create)
apply config
  ConfigMap/a (create)
report Waiting Applying: objects are being applied
again in 1s
release environment in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Ready: 2 objects are as declared
`, w.pass())
}

func TestDecideReleaseThatLeftTheRepository(t *testing.T) {
	w := newWorld(t)
	claim := object("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}}")
	w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute(), claim)
	w.pass()
	w.up("api")
	w.pass()
	w.in.Gone, w.in.Rendered = true, nil
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
keep
  PersistentVolumeClaim/data (its kind is protected)
prune
  HTTPRoute/api
prune later
  Deployment/api
  Service/api
report Removed: the release is no longer in the repository
note kept PersistentVolumeClaim/data (its kind is protected)
release api in production, namespace shop, revision 9f8e7d6c5b4a
keep
  PersistentVolumeClaim/data (its kind is protected)
prune later
  Deployment/api
  Service/api
report Waiting Removed: the release is no longer in the repository: what is left is deleted when its requests have ended
note kept PersistentVolumeClaim/data (its kind is protected)
again in 15s
`, w.pass())

	w.after(14 * time.Second)
	w.restart()
	assert.Contains(t, w.pass(), "\nprune later\n  Deployment/api\n  Service/api\nreport Waiting Removed", "not a second earlier")
	w.after(time.Second)
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
keep
  PersistentVolumeClaim/data (its kind is protected)
prune
  Deployment/api
  Service/api
report Removed: the release is no longer in the repository
note kept PersistentVolumeClaim/data (its kind is protected)
release api in production, namespace shop, revision 9f8e7d6c5b4a
keep
  PersistentVolumeClaim/data (its kind is protected)
forget
report Removed: the release is no longer in the repository
note kept PersistentVolumeClaim/data (its kind is protected)
release api in production, namespace shop, revision 9f8e7d6c5b4a
keep
  PersistentVolumeClaim/data (its kind is protected)
report Removed: the release is no longer in the repository
note kept PersistentVolumeClaim/data (its kind is protected)
`, w.pass())
}

func TestDecideLeavingReleaseThatIsKilledOrReturns(t *testing.T) {
	w := newWorld(t)
	objects := []*unstructured.Unstructured{deployment("api", "one", 2), service("api", "api"), httpRoute()}
	w.untagged("sha256:one", objects...)
	w.pass()
	w.up("api")
	w.pass()
	rendered := w.in.Rendered
	w.in.Gone, w.in.Rendered = true, nil
	w.execute(Decide(w.in)) // and killed before it could report
	w.after(time.Hour)
	w.in.Inventory = inventory.Of(w.own(objects)...) // as the status has it
	assert.Contains(t, w.pass(), "\nprune later\n  Deployment/api\n  Service/api\nreport Waiting Removed", "nobody knows since when the route is gone")

	w.in.Gone, w.in.Rendered = false, rendered
	assert.Contains(t, w.pass(), "\nroute\n  HTTPRoute/api (create)\n")
	assert.Contains(t, w.last(), "report Ready")
}

// A pass that was killed after it had deleted the routes leaves a report that still
// lists them. They must not count as just gone for ever.
func TestDecideLeavingReleaseThatIsKilledEndsAllTheSame(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute())
	w.pass()
	w.up("api")
	w.pass()
	reported := maps.Clone(w.in.Inventory)
	w.in.Gone, w.in.Rendered = true, nil
	w.execute(Decide(w.in)) // and killed before it could report
	w.in.Inventory = reported
	w.after(time.Hour)
	assert.Contains(t, w.pass(), "report Waiting Removed")
	w.after(time.Hour)
	assert.Contains(t, w.pass(), "\nprune\n  Deployment/api\n  Service/api\n")
}

func TestDecideReleaseWithoutRoutesLeavesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2))
	w.pass()
	w.up("api")
	w.pass()
	w.in.Gone, w.in.Rendered = true, nil
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
prune
  Deployment/api
report Removed: the release is no longer in the repository
`, firstOf(w.pass()))
}

func TestDecideTrustsRoutesMoreThanAnOldStatus(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w := newWorld(t)
	w.tagged("blue=100 green=0", sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	old := w.in.Last.Status.DeepCopy()
	w.commit(2)
	w.after(time.Hour)
	w.tagged("blue=90 green=10", sharedObjects(), blue, green)
	w.pass()
	w.in.Last.Status = *old // killed before it could report
	w.restart()

	w.commit(3)
	w.tagged("blue=100", sharedObjects(), blue, green)
	text := w.pass()
	assert.Contains(t, text, "\nroute blue=100\n")
	assert.NotContains(t, text, "retire", "green may have requests until the drain delay has passed")
	w.after(16 * time.Second)
	assert.Contains(t, w.pass(), "retire tag green")
}

func TestDecideGivesUpForNow(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2))
	w.pass()
	w.down("api", "pod api-1: CrashLoopBackOff: container main exited with code 1")
	w.pass()
	w.after(5*time.Minute - time.Second)
	assert.Contains(t, w.last(), "report Waiting WaitingForHealth: Deployment/api: 0 of 2 replicas ready: pod api-1: CrashLoopBackOff: container main exited with code 1\nagain in 1s\n")
	w.after(time.Second)
	assert.Contains(t, w.last(), "report Failed HealthTimeout: not ready within 5m0s: Deployment/api: 0 of 2 replicas ready: pod api-1: CrashLoopBackOff: container main exited with code 1\nagain in 15s\n")
	t.Run("but not on the next commit", func(t *testing.T) {
		w.commit(2)
		w.untagged("sha256:two", deployment("api", "two", 2))
		assert.Contains(t, w.last(), "report Waiting WaitingForHealth")
	})
	t.Run("at once when it cannot succeed", func(t *testing.T) {
		w.up("api")
		live := w.deployment("api")
		live.Object["status"].(map[string]any)["conditions"] = []any{map[string]any{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}}
		assert.Contains(t, w.last(), "report Failed HealthFailed: Deployment/api: did not progress within its progressDeadlineSeconds\n")
	})
}

func TestDecideRouteNotAccepted(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), service("api", "api"), httpRoute())
	w.pass()
	w.up("api")
	w.pass()
	route := w.in.Live[inventory.IDOf(w.own([]*unstructured.Unstructured{httpRoute()})[0])]
	accept := func(status string, generation int64) {
		route.Object["status"] = map[string]any{"parents": []any{map[string]any{"parentRef": map[string]any{"name": "shop"},
			"conditions": []any{map[string]any{"type": "Accepted", "status": status, "reason": "NoMatchingListenerHostname", "message": "no listener", "observedGeneration": generation}}}}}
	}
	accept("False", route.GetGeneration())
	assert.Contains(t, w.last(), "report Waiting RouteNotAccepted: HTTPRoute/api is not accepted: shop NoMatchingListenerHostname: no listener\n")
	accept("True", route.GetGeneration()-1)
	assert.Contains(t, w.last(), "report Waiting RouteNotAccepted: the routes have not been looked at by their gateway yet\n")
	accept("True", route.GetGeneration())
	assert.Contains(t, w.last(), "report Ready")
}

func TestDecideScalingDoesNotUnreadyARelease(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), hpa("api", 2, 10))
	w.pass()
	w.up("api")
	w.pass()
	live := w.deployment("api")
	setReplicas(live, 5)
	w.bump(live, true)
	w.status(live, 5, 5, 2)
	assert.Contains(t, w.last(), "report Ready")
}
