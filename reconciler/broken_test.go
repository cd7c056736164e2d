package reconciler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

const misspelt = `environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing`

// broken is a tag folder that does not render.
func broken(name string) render.TagObjects {
	return render.TagObjects{Name: name, Broken: errors.New(strings.ReplaceAll(misspelt, "green", name))}
}

// running brings a release with tags blue and green to these weights.
func runningAt(t *testing.T, weights string, blue, green render.TagObjects) *world {
	t.Helper()
	w := newWorld(t)
	w.tagged(weights, sharedObjects(), blue, green)
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	return w
}

func TestDecideBrokenTagIsLeftAlone(t *testing.T) {
	blue, green := tag("blue", "one", 2, configMap("api-blue-config", "1")), tag("green", "two", 2, configMap("api-green-config", "1"))
	w := runningAt(t, "blue=90 green=10", blue, green)
	w.after(time.Minute)
	before := w.in.Last.Status.DeepCopy()

	w.commit(2)
	blue = tag("blue", "one", 2, configMap("api-blue-config-2", "2"))
	w.tagged("blue=90 green=10", sharedObjects(), blue, broken("green"))
	equal(t, `
release api in production, namespace shop, revision c00000000000
record intent
  ConfigMap/api-blue-config-2
apply config
  ConfigMap/api-blue-config-2 (create)
prune later
  ConfigMap/api-blue-config
report Waiting Applying: objects are being applied
note tag green does not render and stays as it is: environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing
again in 1s
release api in production, namespace shop, revision c00000000000
prune
  ConfigMap/api-blue-config
report Failed RenderFailed: tag green does not render and stays as it is: environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing
again in 10m0s
release api in production, namespace shop, revision c00000000000
nothing to do
report Failed RenderFailed: tag green does not render and stays as it is: environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing
again in 10m0s
`, w.pass())
	status := w.in.Last.Status
	assert.Equal(t, before.Traffic, status.Traffic)
	assert.Equal(t, before.LastAppliedHash, status.LastAppliedHash)
	assert.Equal(t, "sha256:two", status.Tags[1].Digest, "what runs")
	assert.Equal(t, 10, status.Tags[1].Weight)
	assert.Contains(t, status.Tags[1].Message, misspelt)
	for _, o := range green.Objects {
		assert.NotNil(t, w.in.live(o), "%s is kept", o.GetName())
	}

	t.Run("its weight goes to zero in one pass, whatever its pods do", func(t *testing.T) {
		w.down("api-green", "pod api-green-1: CrashLoopBackOff")
		w.commit(3)
		w.tagged("blue=100 green=0", sharedObjects(), blue, broken("green"))
		equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
report Waiting Applying: the routes are being written
note tag green does not render and stays as it is: environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing
again in 1s
`, firstOf(w.pass()))
	})
	t.Run("unlisted it stays as it is", func(t *testing.T) {
		w.commit(4)
		w.tagged("blue=100", sharedObjects(), blue, broken("green"))
		w.pass()
		w.after(time.Minute)
		equal(t, `
release api in production, namespace shop, revision c00000000000
nothing to do
report Failed RenderFailed: tag green does not render and stays as it is: environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing
again in 10m0s
`, w.pass())
		for _, o := range green.Objects {
			assert.NotNil(t, w.in.live(o), "%s is kept", o.GetName())
		}
	})
	t.Run("also after a restart, and without its labels", func(t *testing.T) {
		w.restart()
		d := w.deployment("api-green")
		d.SetLabels(map[string]string{"sluice.dev/release": "api", "sluice.dev/environment": "production"})
		w.pass()
		assert.NotNil(t, w.in.live(d))
		assert.Contains(t, w.in.Inventory, idOf(d))
	})
	t.Run("repaired it is retired", func(t *testing.T) {
		w.commit(5)
		w.tagged("blue=100", sharedObjects(), blue, green)
		w.pass()
		w.after(time.Minute)
		assert.Contains(t, w.pass(), "report Ready")
		n, _, _ := nestedReplicas(w.deployment("api-green"))
		assert.Zero(t, n)
	})
}

func TestDecideBrokenTagDoesNotRise(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	held := `
release api in production, namespace shop, revision c00000000000
hold routes: routes stay at blue=100 green=0: tag green is not ready: it does not render: environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing
report Held RenderFailed (stalled): routes stay at blue=100 green=0: tag green is not ready: it does not render: environments/production/api/green/kustomization.yaml:9: images entry "shop/apy" pins nothing
again in 10m0s
`
	w := runningAt(t, "blue=100 green=0", blue, green)
	w.commit(2)
	w.tagged("blue=90 green=10", sharedObjects(), blue, broken("green"))
	equal(t, held, w.pass())

	t.Run("held routes are restored", func(t *testing.T) {
		w.in.noteDeleted(idOf(httpRoute()))
		w.in.Inventory[idOf(httpRoute())] = "v1"
		assert.Contains(t, w.pass(), "route blue=100 green=0\n  HTTPRoute/api (create)")
		equal(t, held, w.pass())
	})
	t.Run("no mirror to it is begun", func(t *testing.T) {
		w.commit(3)
		w.tagged("blue=100 green=0 mirror:green=5", sharedObjects(), blue, broken("green"))
		assert.Contains(t, w.pass(), "note the mirror to tag green is left out: it does not render: ")
		assert.Equal(t, "blue=100 green=0", w.in.Last.Status.Summary.Traffic)
	})
	t.Run("repaired it gets its share", func(t *testing.T) {
		w.commit(4)
		w.tagged("blue=90 green=10", sharedObjects(), blue, green)
		w.pass()
		assert.Equal(t, "blue=90 green=10", w.in.Last.Status.Summary.Traffic)
	})
	t.Run("with their base broken both stay", func(t *testing.T) {
		w.commit(5)
		w.tagged("blue=50 green=50", sharedObjects(), broken("blue"), broken("green"))
		assert.Contains(t, w.pass(), "hold routes: routes stay at blue=90 green=10: tag green is not ready")
		w.commit(6)
		w.tagged("blue=90 green=10", sharedObjects(),
			render.TagObjects{Name: "blue", Broken: errors.New("base is broken")}, render.TagObjects{Name: "green", Broken: errors.New("base is broken")})
		equal(t, `
release api in production, namespace shop, revision c00000000000
nothing to do
report Failed RenderFailed: tags blue, green do not render and stay as they are: base is broken
again in 10m0s
`, w.pass())
	})
}

func TestDecideTagThatIsBrokenFromTheStart(t *testing.T) {
	blue := tag("blue", "one", 2)
	for _, weights := range []string{"blue=100 green=0", "blue=50 green=50"} {
		t.Run(weights, func(t *testing.T) {
			w := newWorld(t)
			w.tagged(weights, sharedObjects(), blue, broken("green"))
			w.pass()
			w.up("api-blue")
			assert.Contains(t, w.pass(), "route blue=100\n  Service/api (create)\n  HTTPRoute/api (create)\n", "no route names a Service that was never there")
			assert.Equal(t, "blue=100", w.in.Last.Status.Summary.Traffic)
		})
	}
}

func TestDecideBrokenTagWaitsForNobodyElse(t *testing.T) {
	blue, green := tag("blue", "one", 2), tag("green", "two", 2)
	w := runningAt(t, "blue=100 green=0", blue, green)
	w.commit(2)
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "three", 2), broken("green"))
	w.pass()
	assert.Contains(t, w.last(), "report Waiting WaitingForHealth: tag blue is not ready", "what can still change is waited for")
	w.up("api-blue")
	assert.Contains(t, w.last(), "report Failed RenderFailed: tag green does not render")
}

func idOf(o *unstructured.Unstructured) inventory.ID { return inventory.IDOf(o) }

func nestedReplicas(o *unstructured.Unstructured) (int64, bool, error) {
	return unstructured.NestedInt64(o.Object, "spec", "replicas")
}
