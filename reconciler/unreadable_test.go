package reconciler_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// What an inventory lists is not forgotten because of an entry beside it that
// cannot be read: nothing is done until somebody has seen to it, and then what has
// left the repository goes.
func TestUnreadableInventory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	three := project(f.namespace).with(files{"environments/production/api/config.yaml": config("one") + "---\n" + config("two") + "---\n" + config("three")})
	f.ready(three)
	f.run()
	whole := f.release("api").Status.Inventory.Entries
	f.forge(v1alpha1.ResourceRef{ID: "garbage", Version: "v1"})
	unreadable := func() bool {
		return f.release("api").Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonInventoryUnreadable
	}
	f.eventually("it says so", unreadable)
	said := f.release("api")
	assert.Contains(t, said.Condition(v1alpha1.ConditionReady).Message, `inventory entry "garbage"`)
	assert.Equal(t, "True", string(said.Condition(v1alpha1.ConditionStalled).Status))
	assert.Len(t, said.Status.Inventory.Entries, len(whole)+1, "it stays as it is")

	// Nor does a commit that drops two objects, or a restart.
	f.engine = f.newEngine()
	s := f.until(project(f.namespace), "api", func(s reconciler.Status) bool { return s.Reason == v1alpha1.ReasonInventoryUnreadable })
	assert.Contains(t, s.Hint, "kubectl edit release api -n "+f.namespace+" --subresource=status")
	said = f.release("api")
	assert.Len(t, said.Status.Inventory.Entries, len(whole)+1)
	assert.NotNil(t, f.get("ConfigMap", "api-two"))

	repaired := said.DeepCopy()
	repaired.Status.Inventory.Entries = whole
	require.NoError(t, f.api.Status().Patch(context.Background(), repaired, client.MergeFrom(said)))
	f.eventually("what has left the repository is deleted", func() bool {
		return f.get("ConfigMap", "api-two") == nil && f.get("ConfigMap", "api-three") == nil && len(f.release("api").Status.Inventory.Entries) == len(whole)-2
	})
	assert.NotNil(t, f.get("ConfigMap", "api-one"))
	f.eventually("it is ready again", func() bool { return f.release("api").Ready() })
}

// An announced inventory would end with the first report, so there is none.
func TestUnreadableIntent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	r := f.release("api")
	require.NoError(t, f.api.Delete(context.Background(), r))
	r.ObjectMeta.ResourceVersion, r.ObjectMeta.UID = "", ""
	r.Status = v1alpha1.ReleaseStatus{}
	const intent = `{"entries":[{"id":"garbage","v":"v1"}]}`
	r.Annotations = map[string]string{v1alpha1.AnnotationIntent: intent}
	require.NoError(t, f.api.Create(context.Background(), r))
	f.engine = f.newEngine()
	f.until(project(f.namespace), "api", func(s reconciler.Status) bool { return s.Reason == v1alpha1.ReasonInventoryUnreadable })
	left := f.release("api")
	assert.Equal(t, intent, left.Annotations[v1alpha1.AnnotationIntent])
	assert.Empty(t, left.Status.Conditions)
}
