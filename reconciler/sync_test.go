package reconciler_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/render"
)

func TestFirstSyncUpdateAndPrune(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := project(f.namespace)
	report := f.ready(first)
	require.Len(t, report.Releases, 1)
	assert.Equal(t, reconciler.Counts{Created: 4}, report.Releases[0].Counts)
	assert.ElementsMatch(t, []string{"Deployment/api", "Service/api", "ConfigMap/api-one", "HTTPRoute/api"}, f.ownedBy("api"))

	t.Run("the release says so", func(t *testing.T) {
		r := f.release("api")
		require.NotNil(t, r)
		assert.Equal(t, v1alpha1.ReleaseSpec{Project: "shop", Environment: "production", Component: "api"}, r.Spec)
		assert.True(t, r.Ready())
		assert.Equal(t, revision(2), r.Status.LastAppliedRevision)
		assert.Equal(t, digest("1"), r.Status.Digest)
		assert.Equal(t, "100000000000", r.Status.Summary.Digests)
		assert.Len(t, r.Status.Inventory.Entries, 4)
		assert.Nil(t, r.Status.Attempt)
		assert.Equal(t, "Current", judge(t, r))
	})
	t.Run("labels stay out of pod templates", func(t *testing.T) {
		d := f.get("Deployment", "api")
		assert.Equal(t, "sluice", d.GetLabels()["app.kubernetes.io/managed-by"])
		labels, _, _ := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "labels")
		assert.NotContains(t, labels, v1alpha1.LabelRelease)
	})
	t.Run("again is nothing", func(t *testing.T) {
		before := f.release("api")
		report := f.converge()
		assert.Equal(t, reconciler.Counts{Unchanged: 4}, report.Releases[0].Counts)
		assert.Equal(t, before.ResourceVersion, f.release("api").ResourceVersion)
	})
	t.Run("a change is applied and what it leaves is pruned", func(t *testing.T) {
		report := f.ready(first.with(files{
			"environments/production/api/config.yaml":        config("two"),
			"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("2")),
		}))
		assert.Equal(t, reconciler.Counts{Created: 1, Configured: 1, Unchanged: 2, Pruned: 1}, report.Releases[0].Counts)
		assert.ElementsMatch(t, []string{"Deployment/api", "Service/api", "ConfigMap/api-two", "HTTPRoute/api"}, f.ownedBy("api"))
		assert.Equal(t, "registry.example.com/shop/api@"+digest("2"), f.image("api"))
	})
}

// judge is what kstatus makes of a release.
func judge(t *testing.T, r *v1alpha1.Release) string {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r)
	require.NoError(t, err)
	result, err := status.Compute(&unstructured.Unstructured{Object: fields})
	require.NoError(t, err)
	return result.Status.String()
}

func TestPruneSparesWhatItMust(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n"
	const kept = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {sluice.dev/prune: disabled}}\n"
	base := project(f.namespace)
	list := func(names string) files {
		return base.with(files{
			"environments/production/api/claim.yaml":         claim,
			"environments/production/api/kept.yaml":          kept,
			"environments/production/api/taken.yaml":         config("taken"),
			"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, "+names+"]", digest("1")),
		})
	}
	f.ready(list("route.yaml, config.yaml, claim.yaml, kept.yaml, taken.yaml"))
	taken := f.get("ConfigMap", "api-taken")
	labels := taken.GetLabels()
	labels[v1alpha1.LabelRelease] = "web"
	taken.SetLabels(labels)
	require.NoError(t, f.api.Update(context.Background(), taken))

	f.ready(list("route.yaml"))
	assert.NotNil(t, f.get("PersistentVolumeClaim", "data"))
	assert.NotNil(t, f.get("ConfigMap", "kept"))
	assert.NotNil(t, f.get("ConfigMap", "api-taken"))
	assert.Nil(t, f.get("ConfigMap", "api-one"))
	assert.Len(t, f.release("api").Status.Inventory.Entries, 3)
}

func TestEmptyRenderPrunesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	owned := f.ownedBy("api")
	report := f.apply(project(f.namespace).with(files{"environments/production/api/kustomization.yaml": kustomization("resources: []")}))
	assert.False(t, report.OK())
	assert.Equal(t, owned, f.ownedBy("api"))
	r := f.release("api")
	assert.Equal(t, "True", string(r.Condition(v1alpha1.ConditionStalled).Status), r.Status.Conditions)
	assert.Equal(t, "Failed", judge(t, r))
	assert.Len(t, r.Status.Inventory.Entries, 4)
}

func TestBrokenRenderLeavesEverythingAndSaysWhy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	owned := f.ownedBy("api")
	report := f.apply(project(f.namespace).with(files{"environments/production/api/route.yaml": ""}))
	require.Len(t, report.Releases, 1)
	assert.Equal(t, reconciler.StateFailed, report.Releases[0].State)
	assert.Equal(t, v1alpha1.ReasonRenderFailed, report.Releases[0].Reason)
	assert.Contains(t, report.Releases[0].Message, "route.yaml")
	assert.NotEmpty(t, report.Releases[0].Hint)
	assert.Equal(t, owned, f.ownedBy("api"))
	assert.Equal(t, v1alpha1.ReasonRenderFailed, f.release("api").Condition(v1alpha1.ConditionReady).Reason)
	assert.Len(t, f.release("api").Status.Inventory.Entries, 4)
}

func TestRefusedObjectFailsTheReleaseAndNotTheOthersOfItsStage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	report := f.apply(project(f.namespace).with(files{
		"environments/production/api/config.yaml": config("one") + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\nimmutable: often\n",
	}))
	s := report.Releases[0]
	assert.Equal(t, reconciler.StateFailed, s.State)
	assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason)
	assert.Contains(t, s.Message, "applying ConfigMap/bad: ")
	assert.True(t, s.Final)
	assert.NotNil(t, f.get("ConfigMap", "api-one"))
	assert.Nil(t, f.get("Deployment", "api"), "workloads come after their configuration")
	assert.Len(t, f.release("api").Status.Inventory.Entries, 5, "what may exist is in the inventory")
}

func TestObjectOfAnotherReleaseIsNotTakenOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	foreign := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "api-one", Labels: map[string]string{v1alpha1.LabelRelease: "web", v1alpha1.LabelEnvironment: "production"}},
		Data:       map[string]string{"value": "theirs"},
	}
	require.NoError(t, f.api.Create(context.Background(), foreign))
	report := f.apply(project(f.namespace))
	s := report.Releases[0]
	assert.Equal(t, reconciler.StateFailed, s.State)
	assert.Equal(t, v1alpha1.ReasonOwnedByAnother, s.Reason)
	assert.Equal(t, "ConfigMap/api-one belongs to release web of environment production", s.Message)
	assert.NotEmpty(t, s.Hint)
	assert.Nil(t, f.get("Deployment", "api"))
	var live corev1.ConfigMap
	require.NoError(t, f.api.Get(context.Background(), client.ObjectKeyFromObject(foreign), &live))
	assert.Equal(t, "theirs", live.Data["value"])
}

func TestReleaseThatLeavesTheRepositoryIsRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	both := project(f.namespace)
	for name, content := range project(f.namespace) {
		if rest, ok := cutComponent(name); ok {
			both[rest] = renamed(content)
		}
	}
	f.ready(both)
	require.NotNil(t, f.release("web"))
	require.Len(t, f.ownedBy("web"), 4)

	without := project(f.namespace)
	f.ready(without)
	assert.Nil(t, f.release("web"))
	assert.Empty(t, f.ownedBy("web"))
	assert.Len(t, f.ownedBy("api"), 4)
}

func TestPausedIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	paused := project(f.namespace).with(files{
		"environments/production/api/config.yaml": config("two"),
	})
	paused["components/api/component.yaml"] += "paused: true\n"
	report := f.apply(paused)
	assert.Equal(t, reconciler.StatePaused, report.Releases[0].State)
	assert.Nil(t, f.get("ConfigMap", "api-two"))
	assert.Equal(t, v1alpha1.ReasonPaused, f.release("api").Condition(v1alpha1.ConditionReady).Reason)
	paused["components/api/component.yaml"] = project(f.namespace)["components/api/component.yaml"]
	f.ready(paused)
	assert.NotNil(t, f.get("ConfigMap", "api-two"))
}

func TestFieldsThatKubectlPlantedAreTakenBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	live := f.get("Service", "api")
	require.NoError(t, unstructured.SetNestedField(live.Object, "ClientIP", "spec", "sessionAffinity"))
	labels := live.GetLabels()
	labels["planted"] = "yes"
	live.SetLabels(labels)
	require.NoError(t, f.api.Update(context.Background(), live, client.FieldOwner("kubectl-edit")))
	f.ready(project(f.namespace))
	live = f.get("Service", "api")
	assert.NotContains(t, live.GetLabels(), "planted")
	affinity, _, _ := unstructured.NestedString(live.Object, "spec", "sessionAffinity")
	assert.Equal(t, "None", affinity)
}

func TestSecretsKeepNoKeyThatHasLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := func(data string) files {
		return project(f.namespace).with(files{
			"environments/production/api/config.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: api}\nstringData: {" + data + "}\n",
		})
	}
	f.ready(secret("token: one, old: two"))
	f.ready(secret("token: three"))
	data, _, _ := unstructured.NestedStringMap(f.get("Secret", "api").Object, "data")
	assert.Equal(t, map[string]string{"token": "dGhyZWU="}, data)
}

func TestDecryptedValuesStayOutOfMessages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const value = "correct-horse"
	f.engine = f.newEngine(func(c *reconciler.Config) {
		c.Decrypt = map[string]render.Decrypt{"production": func(path string, data []byte) (render.Decrypted, error) {
			if !strings.HasSuffix(path, "config.yaml") {
				return render.Decrypted{Data: data}, nil
			}
			return render.Decrypted{Data: data, Values: []string{value}, Encrypted: true}, nil
		}}
	})
	report := f.apply(project(f.namespace).with(files{
		// The API server quotes what it cannot read.
		"environments/production/api/config.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: api}\nimmutable: " + value + "\ndata: {}\n",
	}))
	s := statusOf(t, report, "api")
	require.NotEqual(t, reconciler.StateReady, s.State)
	assert.NotContains(t, s.Message, value)
	assert.NotContains(t, f.release("api").Condition(v1alpha1.ConditionReady).Message, value)
}

// told keeps what a Reporter is told.
type told struct {
	mu       sync.Mutex
	statuses []reconciler.Status
}

func (r *told) Report(_ context.Context, s reconciler.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statuses = append(r.statuses, s)
}

func TestReporterIsToldOfChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := &told{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Reporter = r })
	f.ready(project(f.namespace))
	r.mu.Lock()
	defer r.mu.Unlock()
	require.NotEmpty(t, r.statuses)
	last := r.statuses[len(r.statuses)-1]
	assert.Equal(t, reconciler.StateReady, last.State)
	assert.Equal(t, digest("1"), last.Digest)
	assert.Equal(t, revision(2), last.Revision)
}
