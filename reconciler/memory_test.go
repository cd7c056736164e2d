package reconciler

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// settledRelease is a release that is as declared, and has applied object.
func settledRelease(object *unstructured.Unstructured) *release {
	r := newReleaseMemory(Key{"production", "api"})
	r.want.hash, r.passed, r.verdict.Ready = "h", "h", true
	r.remember(inventory.IDOf(object), markOf(object, object))
	return r
}

func live(o *unstructured.Unstructured, version string) *unstructured.Unstructured {
	o = o.DeepCopy()
	o.SetUID("uid")
	o.SetResourceVersion(version)
	return o
}

// sighted is an object as a watch tells of it.
func sighted(o *unstructured.Unstructured, deleted bool) sighting {
	return sightingOf(inventory.IDOf(o), o.GroupVersionKind().Version, o, deleted)
}

func TestEventsOfForeignObjectsAreNotKept(t *testing.T) {
	ours, foreign := live(configMap("ours", "1"), "1"), live(configMap("foreign", "1"), "1")
	r := settledRelease(ours)
	assert.Equal(t, noticeNone, r.event(sighted(foreign, false)))
	assert.Empty(t, r.events)

	assert.Equal(t, noticeNow, r.event(sighted(live(ours, "2"), false)))
	due, unsure, _ := r.due(start)
	assert.True(t, due, "the content of a ConfigMap is not read: any change of it counts")
	assert.Empty(t, unsure)

	r.verdict.Ready = false
	assert.Equal(t, noticeNone, r.event(sighted(foreign, false)))
	r.listed = map[inventory.ID]bool{inventory.IDOf(foreign): true}
	assert.Equal(t, noticeNow, r.event(sighted(foreign, false)), "it is in the way")
}

func TestContentTellsWhereThereIsNoGeneration(t *testing.T) {
	before := live(hpa("api", 1, 10), "1")
	r := settledRelease(before)
	reported := live(before, "2")
	reported.Object["status"] = map[string]any{"currentReplicas": int64(3)}
	reported.SetAnnotations(map[string]string{"autoscaling.alpha.kubernetes.io/conditions": "[]"})

	r.event(sighted(reported, false))
	due, unsure, _ := r.due(start)
	assert.False(t, due)
	require.Len(t, unsure, 1)
	assert.Equal(t, before.GroupVersionKind(), unsure[0].kind())
	assert.True(t, r.acquit(reported))
	r.event(sighted(reported, false))
	due, unsure, _ = r.due(start)
	assert.False(t, due)
	assert.Empty(t, unsure, "it is known now")

	for name, change := range map[string]func(*unstructured.Unstructured){
		"spec": func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(o.Object, int64(2), "spec", "minReplicas")
		},
		"labels":   func(o *unstructured.Unstructured) { o.SetLabels(nil); o.SetLabels(map[string]string{"a": "b"}) },
		"identity": func(o *unstructured.Unstructured) { o.SetUID("another") },
	} {
		changed := live(before, "3")
		change(changed)
		assert.False(t, r.acquit(changed), name)
	}
	r.event(sighted(live(before, "3"), true))
	due, _, _ = r.due(start)
	assert.True(t, due, "a deletion needs no second look")

	d := deployment("api", "one", 1)
	d.SetGeneration(1)
	assert.Empty(t, contentHash(d))
	assert.Empty(t, contentHash(configMap("a", "1")), "its data would not be seen")
}

func TestRefusalIsHandedOutOnce(t *testing.T) {
	env := newEnvironment("production", "")
	env.releases["api"] = newReleaseMemory(Key{"production", "api"})
	wrong := &NamespaceError{Environment: "production", Configured: "shop", Declared: "bank"}
	assert.Len(t, env.refuse(v1alpha1.ReasonNamespaceRefused, wrong), 1)
	assert.Empty(t, env.refuse(v1alpha1.ReasonNamespaceRefused, wrong))
	wrong.Declared = "insurance"
	assert.Len(t, env.refuse(v1alpha1.ReasonNamespaceRefused, wrong), 1)
}
