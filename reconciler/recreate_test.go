package reconciler

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

func annotated(o *unstructured.Unstructured, pairs ...string) *unstructured.Unstructured {
	o = o.DeepCopy()
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	for i := 0; i < len(pairs); i += 2 {
		annotations[pairs[i]] = pairs[i+1]
	}
	o.SetAnnotations(annotations)
	return o
}

func recreatable(o *unstructured.Unstructured) *unstructured.Unstructured {
	return annotated(o, v1alpha1.AnnotationRecreate, "true")
}

// refuse has the API server refuse to change what is there to what is declared,
// and returns what the pass would make of it.
func (w *world) refuse(name string, fields ...string) error {
	w.t.Helper()
	for _, o := range wanted(w) {
		if o.GetName() == name && o.GetKind() == "Deployment" {
			p := pass{in: &w.in}
			err := p.refused(o, w.in.live(o), &cluster.ImmutableError{Object: "Deployment/" + name, Fields: fields, Cause: errors.New("invalid")})
			if errors.Is(err, errDecideAgain) {
				return nil
			}
			return err
		}
	}
	require.Fail(w.t, "no such object", name)
	return nil
}

// wanted are the objects in the form in which the next plan would send them.
func wanted(w *world) (all []*unstructured.Unstructured) {
	for _, s := range Decide(w.in).Steps {
		if s.Action == ActionApply || s.Action == ActionRetire {
			for _, i := range s.Items {
				all = append(all, i.Object)
			}
		}
	}
	return all
}

func TestDecideRecreatesWhatCannotChange(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", configMap("api-config", "1"), deployment("api", "one", 2))
	w.pass()
	w.up("api")
	w.pass()

	w.commit(2)
	w.untagged("sha256:two", configMap("api-config", "2"), recreatable(deployment("api", "two", 2)))
	require.NoError(t, w.refuse("api", "spec.selector"))
	w.in.Live[inventory.ID{Namespace: "shop", Name: "api", Group: "apps", Kind: "Deployment"}].SetFinalizers([]string{"example.com/wait"})
	equal(t, `
release api in production, namespace shop, revision c00000000000
apply config
  ConfigMap/api-config (update)
recreate workloads
  Deployment/api (spec.selector cannot change)
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision c00000000000
nothing to do
report Waiting Terminating: Deployment/api is being deleted and will be created anew when its finalizers have ended: example.com/wait
again in 1s
`, w.pass())

	t.Run("and a killed process goes on where it was", func(t *testing.T) {
		w.restart()
		w.in.Immutable = nil
		delete(w.in.Live, inventory.ID{Namespace: "shop", Name: "api", Group: "apps", Kind: "Deployment"})
		w.after(10 * time.Second)
		equal(t, `
release api in production, namespace shop, revision c00000000000
apply config
  ConfigMap/api-config (update)
apply workloads
  Deployment/api (create)
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision c00000000000
nothing to do
report Waiting WaitingForHealth: Deployment/api: 0 of 2 replicas updated
again in 5s
`, w.pass())
	})
}

func TestRecreationIsRefused(t *testing.T) {
	const (
		cannot = "applying Deployment/api: the API server does not let spec.selector of an existing object change"
		not    = cannot + "; it is not recreated (sluice.dev/recreate): "
	)
	labels := func(pairs map[string]string) func(*world, *unstructured.Unstructured) {
		return func(_ *world, live *unstructured.Unstructured) { live.SetLabels(pairs) }
	}
	tests := map[string]struct {
		declared *unstructured.Unstructured
		change   func(*world, *unstructured.Unstructured)
		want     string
	}{
		"without the annotation": {deployment("api", "two", 2), nil, cannot},
		"with another value":     {annotated(deployment("api", "two", 2), v1alpha1.AnnotationRecreate, "yes"), nil, cannot},
		"of the live object only": {deployment("api", "two", 2), func(_ *world, live *unstructured.Unstructured) {
			live.SetAnnotations(map[string]string{v1alpha1.AnnotationRecreate: "true"})
		}, cannot},
		"of a protected kind": {recreatable(deployment("api", "two", 2)), func(w *world, _ *unstructured.Unstructured) {
			w.in.Release.Environment.Prune.Protect = []string{"Deployment"}
		}, not + "its kind is protected"},
		"of what is never pruned": {annotated(recreatable(deployment("api", "two", 2)), v1alpha1.AnnotationPrune, "disabled"), nil, not + "sluice.dev/prune is disabled"},
		"of what is not pruned there": {recreatable(deployment("api", "two", 2)), func(_ *world, live *unstructured.Unstructured) {
			live.SetAnnotations(map[string]string{v1alpha1.AnnotationPrune: "disabled"})
		}, not + "sluice.dev/prune is disabled"},
		"of what is nobody's":           {recreatable(deployment("api", "two", 2)), labels(nil), not + "it does not carry the release's label any more"},
		"of what is another release's":  {recreatable(deployment("api", "two", 2)), labels(map[string]string{v1alpha1.LabelRelease: "web", v1alpha1.LabelEnvironment: "production"}), not + "it belongs to release web of environment production"},
		"and not, when all is as asked": {recreatable(deployment("api", "two", 2)), nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.untagged("sha256:one", deployment("api", "one", 2))
			w.pass()
			w.commit(2)
			w.untagged("sha256:two", tt.declared)
			desired := wanted(w)[0]
			live := w.in.live(desired)
			if tt.change != nil {
				tt.change(w, live)
			}
			p := pass{in: &w.in}
			err := p.refused(desired, live, &cluster.ImmutableError{Object: "Deployment/api", Fields: []string{"spec.selector"}, Cause: errors.New("invalid")})
			plan := Decide(w.in).String()
			if tt.want == "" {
				require.ErrorIs(t, err, errDecideAgain)
				assert.Contains(t, plan, "recreate workloads\n  Deployment/api (spec.selector cannot change)\n")
				return
			}
			require.EqualError(t, err, tt.want)
			assert.NotContains(t, plan, "recreate")
			assert.NotEmpty(t, hintOf(err))
		})
	}
	t.Run("of what was replaced meanwhile", func(t *testing.T) {
		w := newWorld(t)
		w.untagged("sha256:one", deployment("api", "one", 2))
		w.pass()
		w.commit(2)
		w.untagged("sha256:two", recreatable(deployment("api", "two", 2)))
		require.NoError(t, w.refuse("api", "spec.selector"))
		w.deployment("api").SetUID("another")
		assert.Contains(t, Decide(w.in).String(), "apply workloads\n  Deployment/api (update)\n")
	})
}

func TestDecideRecreatesAServingTag(t *testing.T) {
	w := newWorld(t)
	green := func(image string) render.TagObjects {
		g := tag("green", image, 2)
		g.Objects[0] = recreatable(g.Objects[0])
		return g
	}
	w.tagged("blue=50 green=50", sharedObjects(), tag("blue", "one", 2), green("two"))
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	require.Contains(t, w.last(), "report Ready")

	w.commit(2)
	w.tagged("blue=20 green=80", sharedObjects(), tag("blue", "one", 2), green("three"))
	require.NoError(t, w.refuse("api-green", "spec.selector"))
	w.in.Endpoints["api-green"] = 0
	equal(t, `
release api in production, namespace shop, revision c00000000000
recreate workloads
  Deployment/api-green (spec.selector cannot change)
hold routes: routes stay at blue=50 green=50: tag green is not ready: Deployment/api-green is being applied
report Held TrafficHeld: routes stay at blue=50 green=50: tag green is not ready: Deployment/api-green is being applied
again in 1s
release api in production, namespace shop, revision c00000000000
hold routes: routes stay at blue=50 green=50: tag green is not ready: Deployment/api-green: 0 of 2 replicas updated
report Held TrafficHeld: routes stay at blue=50 green=50: tag green is not ready: Deployment/api-green: 0 of 2 replicas updated
again in 1s
`, w.pass())
	w.up("api-green")
	assert.Contains(t, w.pass(), "route blue=20 green=80\n")
}
