package reconciler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/render"
)

// without is a copy without the files below a folder.
func (f files) without(folder string) files {
	out := files{}
	for name, content := range f {
		if !strings.HasPrefix(name, folder+"/") {
			out[name] = content
		}
	}
	return out
}

// paused is a copy with environment production paused.
func (f files) paused() files {
	return f.with(files{"sluice.yaml": f["sluice.yaml"] + "  paused: true\n"})
}

func TestPauseHoldsBackRemovalsToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	both := two(f.namespace)
	f.ready(both)
	owned := f.ownedBy("web")
	left := both.without("environments/production/web")

	for name, paused := range map[string]files{
		"by the environment": left.paused(),
		"by its component":   left.with(files{"components/web/component.yaml": left["components/web/component.yaml"] + "paused: true\n"}),
	} {
		t.Run(name, func(t *testing.T) {
			s := statusOf(t, f.apply(paused), "web")
			assert.Equal(t, reconciler.StatePaused, s.State, s.Message)
			assert.Contains(t, s.Message, "paused by ")
			assert.Equal(t, owned, f.ownedBy("web"))
			assert.Equal(t, v1alpha1.ReasonPaused, f.release("web").Condition(v1alpha1.ConditionReady).Reason)
		})
	}
	t.Run("also when a restart comes between", func(t *testing.T) {
		f.engine = f.newEngine()
		assert.Equal(t, reconciler.StatePaused, statusOf(t, f.apply(left.paused()), "web").State)
		assert.Equal(t, owned, f.ownedBy("web"))
	})
	t.Run("until it ends", func(t *testing.T) {
		f.run()
		f.branch.push(left)
		f.eventually("web is removed", func() bool { return f.release("web") == nil })
		assert.Empty(t, f.ownedBy("web"))
	})
}

func TestLostKustomizationPrunesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const own = "environments/production/"
	whole := project(f.namespace).with(files{
		own + "kustomization.yaml": kustomization("namespace: "+f.namespace, "resources: [quota.yaml]"),
		own + "quota.yaml":         "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: policy}\n",
	})
	f.ready(whole)
	for release, lost := range map[string]string{"environment": own + "kustomization.yaml", "api": own + "api/kustomization.yaml"} {
		t.Run(release, func(t *testing.T) {
			owned := f.ownedBy(release)
			require.NotEmpty(t, owned)
			for _, engine := range []*reconciler.Engine{f.engine, f.newEngine()} {
				f.engine = engine
				s := statusOf(t, f.apply(whole.with(files{lost: ""})), release)
				assert.Equal(t, reconciler.StateFailed, s.State)
				assert.Contains(t, s.Message, lost)
				assert.Equal(t, owned, f.ownedBy(release))
				assert.NotEmpty(t, f.release(release).Status.Inventory.Entries)
			}
		})
	}
	f.ready(whole)
}

func TestProjectsLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	others := map[string]struct {
		content func(files) files
		says    string
	}{
		"of another name": {func(f files) files {
			return f.with(files{"sluice.yaml": strings.Replace(f["sluice.yaml"], "name: shop", "name: bank", 1)})
		}, "Release/api belongs to environment production of project shop"},
		"of one name in two repositories": {func(f files) files { return f }, "Release/api belongs to a project shop of another repository"},
	}
	for name, other := range others {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.engine = f.newEngine(func(c *reconciler.Config) { c.Repository = "one" })
			f.ready(project(f.namespace))
			owned, before := f.ownedBy("api"), f.release("api")
			assert.Equal(t, "one", before.Spec.Repository)

			content := other.content(two(f.namespace))
			f.engine = f.newEngine(func(c *reconciler.Config) { c.Repository = "two" })
			s := statusOf(t, f.apply(content), "api")
			assert.Equal(t, v1alpha1.ReasonOwnedByAnother, s.Reason)
			assert.Equal(t, other.says, s.Message)
			assert.NotEmpty(t, s.Hint)

			s = statusOf(t, f.apply(content.without("environments/production/api")), "api")
			assert.Equal(t, reconciler.StateRemoved, s.State, s.Message)
			assert.Equal(t, owned, f.ownedBy("api"), "what another project runs is not pruned")
			assert.Equal(t, before.ResourceVersion, f.release("api").ResourceVersion, "nor is its Release touched")
		})
	}
}

func TestReleaseOfAnOlderVersionGetsTheRepository(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	require.Empty(t, f.release("api").Spec.Repository)
	lease := "system/sluice"
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Repository, c.Lease = "one", &lease })
	f.ready(project(f.namespace))
	r := f.release("api")
	assert.Equal(t, "one", r.Spec.Repository)
	assert.Equal(t, lease, r.Spec.Lease, "by which its status is known to be kept up to date")
	assert.Equal(t, r.Generation, r.Status.ObservedGeneration)
	f.converge()
	assert.Equal(t, r.ResourceVersion, f.release("api").ResourceVersion, "once")

	f.engine = f.newEngine() // which applies once, and stays not
	f.ready(project(f.namespace))
	assert.Equal(t, r.Spec, f.release("api").Spec)
	alone := ""
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Repository, c.Lease = "one", &alone })
	f.ready(project(f.namespace))
	assert.Empty(t, f.release("api").Spec.Lease)
}

func TestRefusedEnvironmentCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	looks := make(chan struct{}, 1)
	f.engine = f.newEngine(func(c *reconciler.Config) {
		c.REST, c.Source = l.config(f.config), observed{f.branch, looks}
	})
	f.branch.push(project(f.namespace))
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	refused := func() bool {
		return f.release("api").Condition(v1alpha1.ConditionStalled).Reason == v1alpha1.ReasonNamespaceRefused
	}
	f.branch.push(project("elsewhere"))
	f.eventually("api says why it is left alone", refused)
	f.calm("many looks at the same refusal send nothing", l, func() {
		for range 20 {
			<-looks
		}
	})
	f.branch.push(project(f.namespace))
	f.eventually("api is ready again", func() bool { return f.release("api").Ready() })
}

func TestStatusOfAnAutoscalerCostsOneRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.branch.push(project(f.namespace).autoscaled())
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	path := "/apis/autoscaling/v2/namespaces/" + f.namespace + "/horizontalpodautoscalers/api"
	// report writes the status as the autoscaler's controller does.
	n := 0
	report := func() {
		n++
		require.NoError(t, f.api.Status().Patch(context.Background(), f.get("HorizontalPodAutoscaler", "api"),
			client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"status":{"currentReplicas":%d}}`, n%100))))
	}
	// The events of the first sync come in still; the controller of autoscalers
	// writes now and then, too. So it is tried until nobody interferes.
	f.eventually("a status costs one read, and nothing else", func() bool {
		l.quiet()
		// The second one is looked at when all is done that the first has caused.
		for i := 1; i <= 2; i++ {
			report()
			require.Eventually(t, func() bool { return l.count("GET "+path) >= i }, patience, tick, "it is looked at")
		}
		return slices.Equal(l.sent(), []string{"GET " + path, "GET " + path})
	})
	live := f.get("HorizontalPodAutoscaler", "api")
	require.NoError(t, unstructured.SetNestedField(live.Object, int64(20), "spec", "maxReplicas"))
	require.NoError(t, f.api.Update(context.Background(), live, client.FieldOwner("somebody")))
	f.eventually("what somebody changes is put right all the same", func() bool {
		most, _, _ := unstructured.NestedInt64(f.get("HorizontalPodAutoscaler", "api").Object, "spec", "maxReplicas")
		return most == 10
	})
}

func TestPruneOfAVersionThatIsNotServedAnyMore(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"in the same process", "after a restart"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			kind := f.widgets()
			widget := "apiVersion: " + kind.GroupVersion().String() + "\nkind: Widget\nmetadata: {name: one}\n"
			f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": widget}))
			kind.Version = "v1"
			get := func() error {
				o := &unstructured.Unstructured{}
				o.SetGroupVersionKind(kind)
				return f.api.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: "one"}, o)
			}
			require.NoError(t, get())

			f.serve(kind.Group, "v1")
			if name == "after a restart" {
				f.engine = f.newEngine()
			}
			f.ready(project(f.namespace))
			assert.True(t, apierrors.IsNotFound(get()), "the object is pruned at the version that is served now")
			assert.Len(t, f.release("api").Status.Inventory.Entries, 4)
		})
	}
}

// widgets installs a kind of the test's own, served as v1beta1 and v1; v1beta1 is
// returned.
func (f *fixture) widgets() schema.GroupVersionKind {
	f.t.Helper()
	group := f.namespace + ".example.com"
	crd := widgetCRD(group)
	require.NoError(f.t, f.api.Create(context.Background(), crd))
	f.t.Cleanup(func() { _ = f.api.Delete(context.Background(), widgetCRD(group)) })
	f.serve(group, "v1beta1", "v1")
	return schema.GroupVersionKind{Group: group, Version: "v1beta1", Kind: "Widget"}
}

func widgetCRD(group string) *unstructured.Unstructured {
	version := func(name string, storage bool) any {
		return map[string]any{"name": name, "served": true, "storage": storage, "schema": map[string]any{
			"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "widgets." + group},
		"spec": map[string]any{"group": group, "scope": "Namespaced",
			"names":    map[string]any{"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
			"versions": []any{version("v1beta1", false), version("v1", true)}},
	}}
}

// serve has only the given versions of widgets served, and waits until they are.
func (f *fixture) serve(group string, versions ...string) {
	f.t.Helper()
	crd := widgetCRD(group)
	list, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range list {
		fields := v.(map[string]any)
		fields["served"] = strings.Contains(strings.Join(versions, " ")+" ", fields["name"].(string)+" ")
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"versions": list}})
	require.NoError(f.t, err)
	require.NoError(f.t, f.api.Patch(context.Background(), crd, client.RawPatch(types.MergePatchType, patch)))
	f.eventually("the versions are served", func() bool {
		for version, want := range map[string]bool{"v1": true, "v1beta1": len(versions) == 2} {
			r, err := f.http.Get(f.config.Host + "/apis/" + group + "/" + version + "/namespaces/" + f.namespace + "/widgets")
			require.NoError(f.t, err)
			_ = r.Body.Close()
			if (r.StatusCode == http.StatusOK) != want {
				return false
			}
			if r, err = f.http.Get(f.config.Host + "/apis/" + group + "/" + version); err != nil {
				return false
			}
			_ = r.Body.Close()
			if (r.StatusCode == http.StatusOK) != want {
				return false
			}
		}
		return true
	})
}

func TestPruneSparesWhatIsTakenOverMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	// Between the decision and the deletion somebody takes the object over.
	take := sync.OnceFunc(func() {
		live := f.get("ConfigMap", "api-one")
		labels := live.GetLabels()
		labels[v1alpha1.LabelRelease] = "web"
		live.SetLabels(labels)
		require.NoError(t, f.api.Update(context.Background(), live))
	})
	l := &line{instead: func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/configmaps/api-one") {
			take()
		}
		return next.RoundTrip(r)
	}}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	report := f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	assert.Equal(t, 1, l.count("DELETE "))
	require.NotNil(t, f.get("ConfigMap", "api-one"))
	assert.Contains(t, report.Releases[0].Notes, "kept ConfigMap/api-one (it belongs to release web of environment production)")
}

func TestObjectsOfOtherToolsAreRefused(t *testing.T) {
	t.Parallel()
	yes := true
	tests := map[string]struct {
		meta metav1.ObjectMeta
		says string
	}{
		"a controller": {metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{APIVersion: "external-secrets.io/v1", Kind: "ExternalSecret", Name: "api", UID: "1", Controller: &yes}}}, "ExternalSecret/api"},
		"terraform":    {metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/managed-by": "terraform"}}, "terraform (app.kubernetes.io/managed-by)"},
		"argo":         {metav1.ObjectMeta{Annotations: map[string]string{"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:x"}}, "Argo CD (argocd.argoproj.io/tracking-id: shop:/ConfigMap:x)"},
		"flux":         {metav1.ObjectMeta{Labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux (kustomize.toolkit.fluxcd.io/name: apps)"},
		"helm":         {metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}, Annotations: map[string]string{"meta.helm.sh/release-name": "api"}}, "Helm (meta.helm.sh/release-name: api)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			theirs := &corev1.ConfigMap{ObjectMeta: tt.meta, Data: map[string]string{"value": "theirs"}}
			theirs.Namespace, theirs.Name = f.namespace, "api-one"
			require.NoError(t, f.api.Create(context.Background(), theirs))
			s := statusOf(t, f.apply(project(f.namespace)), "api")
			assert.Equal(t, v1alpha1.ReasonOwnedByAnother, s.Reason)
			assert.Equal(t, "ConfigMap/api-one is managed by "+tt.says, s.Message)
			assert.Contains(t, s.Hint, v1alpha1.AnnotationAdopt)
			value, _, _ := unstructured.NestedString(f.get("ConfigMap", "api-one").Object, "data", "value")
			assert.Equal(t, "theirs", value)
			assert.Nil(t, f.get("Deployment", "api"))

			live := f.get("ConfigMap", "api-one")
			require.NoError(t, f.api.Patch(context.Background(), live, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"sluice.dev/adopt":"true"}}}`))))
			f.ready(project(f.namespace))
			assert.Contains(t, f.ownedBy("api"), "ConfigMap/api-one")
		})
	}
}

func TestUnownedObjectsAreAdoptedAndNamed(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, testcluster.Namespace(t))
	require.NoError(t, f.api.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "api-one"}}))
	report := f.ready(project(f.namespace))
	assert.Equal(t, []string{"adopted ConfigMap/api-one, which existed and was nobody's"}, report.Releases[0].Notes)
	assert.Contains(t, f.ownedBy("api"), "ConfigMap/api-one")
	assert.Empty(t, f.converge().Releases[0].Notes, "once")
}

// A panic on one release, in a library that reads its files for instance, is an error
// of that release, and does not tell what it was about.
func TestAPanicIsAnErrorOfOneRelease(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &logged{}
	f.engine = f.newEngine(l.into, func(c *reconciler.Config) {
		c.Decrypt = map[string]render.Decrypt{"production": func(path string, data []byte) (render.Decrypted, error) {
			if strings.Contains(path, "/api/") {
				panic("cannot read hunter2 of " + path)
			}
			return render.Decrypted{Data: data}, nil
		}}
	})
	said := map[string]string{}
	f.branch.push(two(f.namespace))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _ = f.engine.Converge(ctx, "production", "", func(s reconciler.Status) {
		said[s.Release] = fmt.Sprint(s.State, " ", s.Message, " ", s.Hint)
		if said["api"] != "" && strings.HasPrefix(said["web"], string(reconciler.StateReady)) {
			cancel()
		}
	})
	assert.Contains(t, said["api"], "production/api: a library panicked on it; what it said is withheld")
	assert.Contains(t, said["web"], "Ready", "the other release is not held up")
	assert.NotContains(t, fmt.Sprint(said), "hunter2")
	stacks := l.about("a pass panicked")
	require.NotEmpty(t, stacks)
	assert.Contains(t, stacks[0], "TestAPanicIsAnErrorOfOneRelease", "the stack says where")
	assert.Empty(t, l.about("hunter2"))
}
