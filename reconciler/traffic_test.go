package reconciler_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// gateway is what the routes attach to; its class mirrors by percent.
const gateway = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shop}
spec: {gatewayClassName: sluice-dev, listeners: [{name: http, port: 80, protocol: HTTP}]}
`

func (f *fixture) bluegreen(traffic, blue, green string) files {
	return project(f.namespace).tagged(f.namespace, traffic, map[string]string{"blue": digest(blue), "green": digest(green)}).with(files{
		"environments/production/kustomization.yaml": kustomization("namespace: "+f.namespace, "resources: [gateway.yaml]"),
		"environments/production/gateway.yaml":       gateway,
	})
}

func TestTrafficMovesOnlyToWhatIsReady(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.bluegreen("weights: {blue: 100, green: 0}", "1", "1"))
	assert.Equal(t, "api-blue=100 api-green=0", f.weights())
	assert.EqualValues(t, 2, f.replicas("api-green"), "a tag of weight 0 runs")

	t.Run("a broken digest in the idle tag leaves production as it was", func(t *testing.T) {
		routeBefore, blueBefore := f.get("HTTPRoute", "api"), f.get("Deployment", "api-blue")
		report := f.apply(f.bluegreen("weights: {blue: 90, green: 10}", "1", "bad"))
		s := statusOf(t, report, "api")
		assert.Equal(t, reconciler.StateHeld, s.State)
		assert.Equal(t, v1alpha1.ReasonTrafficHeld, s.Reason)
		assert.Regexp(t, `^routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: .*: pod api-green-\S+: ImagePullBackOff: Back-off pulling image .*@sha256:bad`, s.Message)
		assert.Equal(t, "blue=100 green=0", s.Traffic)
		assert.Equal(t, routeBefore.GetResourceVersion(), f.get("HTTPRoute", "api").GetResourceVersion())
		assert.Equal(t, blueBefore.GetGeneration(), f.get("Deployment", "api-blue").GetGeneration())
		r := f.release("api")
		assert.False(t, r.Ready())
		require.Len(t, r.Status.Tags, 2)
		assert.True(t, r.Status.Tags[0].Ready)
		assert.False(t, r.Status.Tags[1].Ready)
		assert.Contains(t, r.Status.Tags[1].Message, "ImagePullBackOff")
	})
	t.Run("a good one takes its share", func(t *testing.T) {
		f.ready(f.bluegreen("weights: {blue: 90, green: 10}", "1", "2"))
		assert.Equal(t, "api-blue=90 api-green=10", f.weights())
		assert.Equal(t, "blue=90 green=10", f.release("api").Status.Summary.Traffic)
	})
	t.Run("one that breaks can be left", func(t *testing.T) {
		s := f.until(f.bluegreen("weights: {blue: 100, green: 0}", "1", "dead"), "api", func(s reconciler.Status) bool {
			return strings.Contains(s.Message, "CrashLoopBackOff")
		})
		assert.Equal(t, reconciler.StateWaiting, s.State, "green is listed and does not run")
		assert.Equal(t, "blue=100 green=0", s.Traffic)
		assert.Equal(t, "api-blue=100 api-green=0", f.weights())
	})
	t.Run("a sick mirror target is left out", func(t *testing.T) {
		s := f.until(f.bluegreen("weights: {blue: 100, green: 0}\nmirror: {green: 5}", "1", "dead"), "api", func(s reconciler.Status) bool {
			return len(s.Notes) > 0
		})
		assert.Contains(t, s.Notes[0], "the mirror to tag green is left out: Deployment/api-green: ")
		assert.Equal(t, "api-blue=100 api-green=0", f.weights())
	})
	t.Run("a healthy one is mirrored to", func(t *testing.T) {
		f.ready(f.bluegreen("weights: {blue: 100, green: 0}\nmirror: {green: 5}", "1", "3"))
		assert.Equal(t, "api-blue=100 api-green=0 mirror:api-green=5", f.weights())
	})
	t.Run("a Gateway that does not exist is named, and the weights are routed", func(t *testing.T) {
		content := f.bluegreen("weights: {blue: 90, green: 10, red: 0}\nmirror: {red: 5}", "1", "3").tagged(f.namespace,
			"weights: {blue: 90, green: 10, red: 0}\nmirror: {red: 5}", map[string]string{"red": digest("4")})
		s := f.until(content.with(files{"environments/production/api/route.yaml": strings.Replace(route, "name: shop", "name: nowhere", 1)}), "api",
			func(s reconciler.Status) bool { return s.Reason == v1alpha1.ReasonTrafficRefused })
		assert.Contains(t, s.Message, "Gateway "+f.namespace+"/nowhere does not exist")
		f.eventually("the weights are routed", func() bool { return f.weights() == "api-blue=90 api-green=10 api-red=0" })
	})
	t.Run("so is a GatewayClass that does not exist", func(t *testing.T) {
		strange := strings.NewReplacer("name: shop", "name: strange", "sluice-dev", "nowhere").Replace(gateway)
		content := f.bluegreen("weights: {blue: 100, green: 0}\nmirror: {green: 5}", "1", "3").with(files{
			"environments/production/gateway.yaml":   gateway + "---\n" + strange,
			"environments/production/api/route.yaml": strings.Replace(route, "name: shop", "name: strange", 1),
		})
		s := f.until(content, "api", func(s reconciler.Status) bool {
			return s.Reason == v1alpha1.ReasonTrafficRefused && strings.Contains(s.Message, "GatewayClass")
		})
		assert.Contains(t, s.Message, "mirror to tag green of component api is held back: GatewayClass nowhere does not exist")
		f.eventually("the weights are routed", func() bool { return f.weights() == "api-blue=100 api-green=0" })
	})
}

func statusOf(t *testing.T, report reconciler.Report, release string) reconciler.Status {
	t.Helper()
	for _, s := range report.Releases {
		if s.Release == release {
			return s
		}
	}
	require.Fail(t, "no release "+release)
	return reconciler.Status{}
}

func TestRouteComesAfterHealth(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.until(f.bluegreen("weights: {blue: 50, green: 50}", "1", "bad"), "api", func(s reconciler.Status) bool {
		assert.NotContains(t, f.weights(), "green=50")
		return s.State == reconciler.StateHeld && strings.Contains(s.Message, "ImagePullBackOff")
	})
	assert.Equal(t, "api-blue=100 api-green=0", f.weights(), "what is ready is reached")
	f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2"))
	assert.Equal(t, "api-blue=50 api-green=50", f.weights())
	selector := f.get("Service", "api").Object["spec"].(map[string]any)["selector"].(map[string]any)
	assert.Equal(t, "api-blue", selector["app.kubernetes.io/instance"])
}

func TestUnlistedTagRetiresAndReturnsAtItsMinimum(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tags := func(traffic string) files { return f.bluegreen(traffic, "1", "2").autoscaled() }
	f.ready(tags("weights: {blue: 90, green: 10}"))
	assert.EqualValues(t, 3, f.replicas("api-green"), "the autoscaler's minimum")
	assert.NotNil(t, f.get("HorizontalPodAutoscaler", "api-green"))

	f.ready(tags("weights: {blue: 100}"))
	assert.Equal(t, "api-blue=100", f.weights())
	assert.EqualValues(t, 0, f.replicas("api-green"))
	assert.Nil(t, f.get("HorizontalPodAutoscaler", "api-green"))
	assert.NotNil(t, f.get("Service", "api-green"), "it stays in the inventory")
	assert.EqualValues(t, 4, f.replicas("api-blue"), "three pods have carried 90 percent")

	f.ready(tags("weights: {blue: 100, green: 0}"))
	assert.EqualValues(t, 3, f.replicas("api-green"))
	assert.NotNil(t, f.get("HorizontalPodAutoscaler", "api-green"))

	t.Run("replicas stay the autoscaler's", func(t *testing.T) {
		scaled := f.get("Deployment", "api-blue")
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":7}}`))
		require.NoError(t, f.api.SubResource("scale").Patch(context.Background(), scaled, patch, client.FieldOwner("horizontal-pod-autoscaler")))
		f.ready(f.bluegreen("weights: {blue: 100, green: 0}", "3", "2").autoscaled())
		assert.EqualValues(t, 7, f.replicas("api-blue"))
	})
}

func TestConversionRunsBothUntilTheRouteHasMoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	tagged := func(blue string) files {
		return project(f.namespace).tagged(f.namespace, "weights: {blue: 100}", map[string]string{"blue": digest(blue)})
	}
	f.until(tagged("bad"), "api", func(s reconciler.Status) bool { return strings.Contains(s.Message, "ImagePullBackOff") })
	assert.EqualValues(t, 2, f.replicas("api"))
	assert.Equal(t, "api=1", f.weights())

	require.NoError(t, f.api.Delete(context.Background(), f.get("HTTPRoute", "api")))
	f.until(tagged("bad"), "api", func(s reconciler.Status) bool { return strings.Contains(s.Message, "ImagePullBackOff") })
	require.NotNil(t, f.get("HTTPRoute", "api"), "who is reached still stays so")
	assert.Equal(t, "api=1", f.weights())

	f.ready(tagged("2"))
	assert.Equal(t, "api-blue=100", f.weights())
	assert.Nil(t, f.get("Deployment", "api"))

	f.ready(project(f.namespace))
	assert.Equal(t, "api=1", f.weights())
	assert.Nil(t, f.get("Deployment", "api-blue"))
	assert.Empty(t, f.release("api").Status.Summary.Traffic)
}

func TestFixIsPickedUpAtOnceWhileWaiting(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "1", "1"))
	f.run()
	f.eventually("the first commit is applied", func() bool { return f.weights() == "api-blue=100 api-green=0" })
	f.branch.push(f.bluegreen("weights: {blue: 0, green: 100}", "1", "bad"))
	f.eventually("the broken commit is held", func() bool {
		r := f.release("api")
		return r.Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonTrafficHeld
	})
	f.branch.push(f.bluegreen("weights: {blue: 0, green: 100}", "1", "2"))
	f.eventually("the fix is routed", func() bool { return f.weights() == "api-blue=0 api-green=100" })
	f.eventually("and reported", func() bool { r := f.release("api"); return r.Ready() && r.Status.LastAppliedRevision == revision(4) })
}

func TestHeldRoutesAreKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "1", "bad"))
	f.run()
	f.eventually("the first commit is routed", func() bool { return f.weights() == "api-blue=100 api-green=0" })
	f.branch.push(f.bluegreen("weights: {blue: 90, green: 10}", "1", "bad"))
	held := func() bool {
		r := f.release("api")
		return r.Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonTrafficHeld && r.Status.Summary.Traffic == "blue=100 green=0"
	}
	f.eventually("the second is held", held)
	asBefore := func() bool {
		r := f.get("HTTPRoute", "api")
		return r != nil && f.weights() == "api-blue=100 api-green=0" && r.GetAnnotations()[v1alpha1.AnnotationTraffic] == "blue=100 green=0"
	}
	patch := func(kind, name, body string) {
		require.NoError(t, f.api.Patch(context.Background(), f.get(kind, name), client.RawPatch("application/merge-patch+json", []byte(body))))
	}
	t.Run("a deleted route", func(t *testing.T) {
		require.NoError(t, f.api.Delete(context.Background(), f.get("HTTPRoute", "api")))
		f.eventually("it is there again", asBefore)
	})
	t.Run("an edited route", func(t *testing.T) {
		patch("HTTPRoute", "api", `{"spec":{"rules":[{"backendRefs":[{"name":"api-green","port":80}]}]}}`)
		f.eventually("it is as it was", asBefore)
	})
	t.Run("an annotation that claims the traffic is there", func(t *testing.T) {
		patch("HTTPRoute", "api", `{"metadata":{"annotations":{"sluice.dev/traffic":"blue=90 green=10"}}}`)
		f.eventually("it is as it was", asBefore)
	})
	t.Run("a deleted plain Service", func(t *testing.T) {
		require.NoError(t, f.api.Delete(context.Background(), f.get("Service", "api")))
		f.eventually("it is there again", func() bool { return f.get("Service", "api") != nil })
	})
	t.Run("a route deleted while nobody looked", func(t *testing.T) {
		f.engine = f.newEngine()
		require.NoError(t, f.api.Delete(context.Background(), f.get("HTTPRoute", "api")))
		f.converge()
		assert.True(t, asBefore())
	})
	assert.True(t, held())
	f.branch.push(f.bluegreen("weights: {blue: 90, green: 10}", "1", "2"))
	f.eventually("what is ready is routed", func() bool { return f.weights() == "api-blue=90 api-green=10" })
}
