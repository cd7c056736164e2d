package reconciler_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// pausing is a copy with component api paused.
func (f files) pausing() files {
	return f.with(files{"components/api/component.yaml": f["components/api/component.yaml"] + "paused: true\n"})
}

// pausedBy waits until a release is paused by a file.
func (f *fixture) pausedBy(release, file string) {
	f.t.Helper()
	f.eventually(release+" is paused by "+file, func() bool {
		r := f.release(release)
		return r != nil && r.Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonPaused &&
			r.Condition(v1alpha1.ConditionReady).Message == "paused by "+file
	})
}

func TestAPausedReleaseIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	for by, pause := range map[string]func(files) files{"components/api/component.yaml": files.pausing, "sluice.yaml": files.paused} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.branch.push(two(f.namespace))
			f.run()
			f.eventually("both are ready", func() bool {
				api, web := f.release("api"), f.release("web")
				return api != nil && web != nil && api.Ready() && web.Ready()
			})
			// Another digest, another ConfigMap, one less, and a route that is gone.
			changed := two(f.namespace).with(files{
				"environments/production/api/config.yaml":        config("two"),
				"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, config.yaml]", digest("2")),
			})
			before := f.release("api").Status
			f.branch.push(pause(changed))
			f.pausedBy("api", by)
			if by == "sluice.yaml" {
				f.pausedBy("web", by)
			}

			// Drift, first in the paused release and then in one that is corrected: when
			// that is seen, the other one has been seen as well.
			service := f.get("Service", "api")
			require.NoError(t, unstructured.SetNestedField(service.Object, "planted", "spec", "selector", "app.kubernetes.io/instance"))
			require.NoError(t, f.api.Update(context.Background(), service, client.FieldOwner("somebody")))
			if by != "sluice.yaml" {
				require.NoError(t, f.api.Delete(context.Background(), f.get("Service", "web")))
				f.eventually("web is corrected", func() bool { return f.get("Service", "web") != nil })
			}
			assert.ElementsMatch(t, []string{"Deployment/api", "Service/api", "ConfigMap/api-one", "HTTPRoute/api"}, f.ownedBy("api"))
			assert.Equal(t, "registry.example.com/shop/api@"+digest("1"), f.image("api"))
			selector := func() string {
				s, _, _ := unstructured.NestedString(f.get("Service", "api").Object, "spec", "selector", "app.kubernetes.io/instance")
				return s
			}
			assert.Equal(t, "planted", selector())
			now := f.release("api").Status
			assert.Equal(t, before.LastAppliedRevision, now.LastAppliedRevision)
			assert.Equal(t, before.Digest, now.Digest)
			assert.Equal(t, before.Inventory, now.Inventory)

			f.branch.push(changed)
			f.eventually("all of it is done when the pause ends", func() bool {
				return f.release("api").Ready() && f.image("api") == "registry.example.com/shop/api@"+digest("2")
			})
			assert.Equal(t, "api", selector(), "drift included")
			f.eventually("and what left is pruned", func() bool { return f.get("ConfigMap", "api-one") == nil && f.get("HTTPRoute", "api") == nil })
			assert.NotNil(t, f.get("ConfigMap", "api-two"))
		})
	}
}

func TestAPauseInTheMiddleOfARollout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "1", "2"))
	f.run()
	f.eventually("it is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })

	broken := f.bluegreen("weights: {blue: 50, green: 50}", "1", "bad")
	f.branch.push(broken)
	f.eventually("green is waited for", func() bool {
		return f.release("api").Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonTrafficHeld && f.image("api-green") == "registry.example.com/shop/api@"+digest("bad")
	})
	f.branch.push(broken.pausing())
	f.pausedBy("api", "components/api/component.yaml")
	r := f.release("api")
	assert.Nil(t, r.Status.Attempt, "nothing is waited for, so nothing times out")
	for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		assert.Equal(t, "False", string(r.Condition(kind).Status), kind)
	}

	// The fix comes while it is paused: green gets well only when the pause ends.
	fixed := f.bluegreen("weights: {blue: 50, green: 50}", "1", "3")
	rev := f.branch.push(fixed.pausing())
	f.eventually("the fix is known", func() bool { return f.release("api").Status.ObservedRevision == rev })
	assert.Equal(t, "registry.example.com/shop/api@"+digest("bad"), f.image("api-green"))
	assert.Equal(t, "api-blue=100 api-green=0", f.weights())
	f.branch.push(fixed)
	f.eventually("it is rolled out", func() bool { return f.release("api").Ready() && f.weights() == "api-blue=50 api-green=50" })
	assert.Equal(t, "registry.example.com/shop/api@"+digest("3"), f.image("api-green"))
}
