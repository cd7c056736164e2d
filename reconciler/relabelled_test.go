package reconciler_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// A label that names a release that does not exist is drift on an object of ours,
// and taken back; on an object that was never ours it keeps it from us.
func TestLabelOfAReleaseThatDoesNotExist(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	f.run()
	label := func(value string) {
		o := f.get("ConfigMap", "api-one")
		after := o.DeepCopy()
		after.SetLabels(map[string]string{v1alpha1.LabelRelease: value, v1alpha1.LabelEnvironment: "production"})
		require.NoError(t, f.api.Patch(context.Background(), after, client.MergeFrom(o)))
	}
	uid := f.get("ConfigMap", "api-one").GetUID()
	label("ghost")
	f.eventually("it is taken back", func() bool { return f.get("ConfigMap", "api-one").GetLabels()[v1alpha1.LabelRelease] == "api" })
	f.eventually("the release is ready", func() bool { return f.release("api").Ready() })
	assert.Equal(t, uid, f.get("ConfigMap", "api-one").GetUID())

	// Not one that was never in the inventory.
	other := f.get("ConfigMap", "api-one").DeepCopy()
	other.SetName("api-two")
	other.SetResourceVersion("")
	other.SetUID("")
	other.SetManagedFields(nil)
	other.SetLabels(map[string]string{v1alpha1.LabelRelease: "ghost", v1alpha1.LabelEnvironment: "production"})
	require.NoError(t, f.api.Create(context.Background(), other))
	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("one") + "---\n" + config("two")}))
	f.eventually("it is refused", func() bool {
		return f.release("api").Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonOwnedByAnother
	})
	assert.Equal(t, "ghost", f.get("ConfigMap", "api-two").GetLabels()[v1alpha1.LabelRelease])
}
