package reconciler_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
)

// forge adds entries to the inventory of release api, as anybody may who may write
// the status of Releases.
func (f *fixture) forge(entries ...v1alpha1.ResourceRef) {
	f.t.Helper()
	r := f.release("api")
	before := r.DeepCopy()
	r.Status.Inventory.Entries = append(r.Status.Inventory.Entries, entries...)
	require.NoError(f.t, f.api.Status().Patch(context.Background(), r, client.MergeFrom(before)))
}

// lists reports whether the inventory of release api has an entry.
func (f *fixture) lists(entry string) bool {
	f.t.Helper()
	for _, e := range f.release("api").Status.Inventory.Entries {
		if e.ID == entry {
			return true
		}
	}
	return false
}

// namesake is a Deployment api of another environment of the same name, in another
// namespace.
func (f *fixture) namesake() *unstructured.Unstructured {
	f.t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"spec": f.get("Deployment", "api").Object["spec"]}}
	o.SetAPIVersion("apps/v1")
	o.SetKind("Deployment")
	o.SetName("api")
	o.SetNamespace(testcluster.Namespace(f.t))
	o.SetLabels(map[string]string{v1alpha1.LabelRelease: "api", v1alpha1.LabelEnvironment: "production"})
	require.NoError(f.t, f.api.Create(context.Background(), o))
	return o
}

// What an inventory lists outside the environment's namespace is forged: it is
// neither read nor deleted, and never taken for an object of the same name.
func TestForgedInventory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	namesake, own := f.namesake(), f.get("ConfigMap", "api-one")
	foreign := namesake.GetNamespace() + "_api_apps_Deployment"
	f.forge(v1alpha1.ResourceRef{ID: foreign, Version: "v1"}, v1alpha1.ResourceRef{ID: "_api-one__ConfigMap", Version: "v1"})

	f.engine = f.newEngine()
	noted := f.until(project(f.namespace), "api", func(s reconciler.Status) bool { return len(s.Notes) > 0 })
	assert.Contains(t, noted.Notes, "left alone "+foreign+", which the inventory lists: it is not in namespace "+f.namespace)
	f.eventually("the forged entries are dropped", func() bool { return !f.lists(foreign) && !f.lists("_api-one__ConfigMap") })

	// While the controller runs, too.
	f.run()
	f.forge(v1alpha1.ResourceRef{ID: foreign, Version: "v1"}, v1alpha1.ResourceRef{ID: "_api-one__ConfigMap", Version: "v1"})
	f.eventually("the forged entries are dropped", func() bool { return !f.lists(foreign) && !f.lists("_api-one__ConfigMap") })
	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": strings.Replace(config("one"), "{value: one}", "{value: two}", 1)}))
	f.eventually("the release goes on", func() bool {
		value, _, _ := unstructured.NestedString(f.get("ConfigMap", "api-one").Object, "data", "value")
		return value == "two"
	})

	left := namesake.DeepCopy()
	require.NoError(t, f.api.Get(context.Background(), client.ObjectKeyFromObject(namesake), left))
	assert.Equal(t, namesake.GetUID(), left.GetUID())
	assert.Nil(t, left.GetDeletionTimestamp())
	assert.Equal(t, own.GetUID(), f.get("ConfigMap", "api-one").GetUID())
}

// So is what an announced inventory lists.
func TestForgedIntent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	namesake := f.namesake()
	r := f.release("api")
	require.NoError(t, f.api.Delete(context.Background(), r))
	r.ObjectMeta.ResourceVersion, r.ObjectMeta.UID = "", ""
	r.Status = v1alpha1.ReleaseStatus{}
	r.Annotations = map[string]string{v1alpha1.AnnotationIntent: `{"entries":[{"id":"` + namesake.GetNamespace() + `_api_apps_Deployment","v":"v1"}]}`}
	require.NoError(t, f.api.Create(context.Background(), r))
	f.engine = f.newEngine()
	f.ready(project(f.namespace))
	left := namesake.DeepCopy()
	require.NoError(t, f.api.Get(context.Background(), client.ObjectKeyFromObject(namesake), left))
	assert.Nil(t, left.GetDeletionTimestamp())
}
