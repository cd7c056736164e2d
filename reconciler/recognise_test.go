package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// leftAlone is a tagged release with an autoscaler that was brought to its end,
// and what is left of it when the process is another one.
func leftAlone(t *testing.T) *world {
	w := newWorld(t)
	w.tagged("blue=90 green=10", sharedObjects(), tag("blue", "b1", 2, hpa("api-blue", 2, 5)), tag("green", "g1", 1), tag("red", "r1", 1))
	for range 3 {
		w.pass()
		w.up("api-blue", "api-green")
		if w.in.Live[inventory.ID{Namespace: "shop", Name: "api-red", Group: "apps", Kind: "Deployment"}] != nil {
			w.up("api-red")
		}
		w.accepted()
	}
	w.after(time.Hour)
	w.pass()
	require.True(t, w.in.Last.Ready(), w.in.Last.Condition(v1alpha1.ConditionReady).Message)
	require.NotEmpty(t, w.in.Last.Status.LastAppliedState)
	w.restart()
	return w
}

// accepted has the gateway accept the route.
func (w *world) accepted() {
	id := inventory.ID{Namespace: "shop", Name: "api", Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"}
	live := w.in.Live[id]
	if live == nil {
		return
	}
	live = live.DeepCopy()
	live.Object["status"] = map[string]any{"parents": []any{map[string]any{"conditions": []any{
		map[string]any{"type": "Accepted", "status": "True", "observedGeneration": live.GetGeneration()}}}}}
	w.in.Live[id] = live
}

func TestRecognisedAfterARestart(t *testing.T) {
	t.Parallel()
	w := leftAlone(t)
	before := w.in.Last.Status
	marks, ok := recognised(w.in)
	require.True(t, ok)
	w.in.Marks = marks
	assert.Equal(t, "release api in production, namespace shop, revision 9f8e7d6c5b4a\nnothing to do\nreport Ready: 10 objects are as declared\n", w.pass())
	assert.Equal(t, before, w.in.Last.Status, "and the status stays as it is")
}

func TestNotRecognised(t *testing.T) {
	t.Parallel()
	live := func(w *world, kind, name string, change func(o *unstructured.Unstructured)) {
		for id, o := range w.in.Live {
			if id.Kind == kind && id.Name == name {
				w.in.Live[id] = o.DeepCopy()
				change(w.in.Live[id])
				return
			}
		}
		require.Fail(w.t, "no "+kind+"/"+name)
	}
	for name, c := range map[string]struct {
		change func(w *world)
		still  bool
	}{
		"nothing":          {func(*world) {}, true},
		"a pod went":       {func(w *world) { w.down("api-green", "") }, true},
		"an hour later":    {func(w *world) { w.after(time.Hour) }, true},
		"a newer commit":   {func(w *world) { w.commit(2) }, false},
		"a newer renderer": {func(w *world) { w.in.Rendered.Shared[0].SetLabels(map[string]string{"new": "label"}) }, false},
		"a generation": {func(w *world) {
			live(w, "Deployment", "api-blue", func(o *unstructured.Unstructured) { o.SetGeneration(99) })
		}, false},
		"a label": {func(w *world) {
			live(w, "Deployment", "api-blue", func(o *unstructured.Unstructured) { o.SetLabels(nil) })
		}, false},
		"a resource version": {func(w *world) {
			live(w, "ServiceAccount", "api", func(o *unstructured.Unstructured) { o.SetGeneration(0); o.SetResourceVersion("99") })
		}, false},
		"another object of the name": {func(w *world) { live(w, "Service", "api", func(o *unstructured.Unstructured) { o.SetUID("another") }) }, false},
		"an object is gone": {func(w *world) {
			delete(w.in.Live, inventory.ID{Namespace: "shop", Name: "api", Kind: "Service"})
		}, false},
		"no state was kept":         {func(w *world) { w.in.Last.Status.LastAppliedState = "" }, false},
		"a state of something else": {func(w *world) { w.in.Last.Status.LastAppliedState = shortHash(nil) }, false},
		"no status at all":          {func(w *world) { w.in.Last = nil }, false},
	} {
		w := leftAlone(t)
		c.change(w)
		_, ok := recognised(w.in)
		assert.Equal(t, c.still, ok, name)
	}
}

func TestAppliedStateIsOfWhatNeedsNothingMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.untagged("sha256:1", deployment("api", "b1", 1), configMap("api", "one"))
	w.pass()
	assert.Empty(t, w.in.Last.Status.LastAppliedState, "its pods are awaited")
	w.up("api")
	w.pass()
	first := w.in.Last.Status.LastAppliedState
	assert.NotEmpty(t, first)
	w.commit(2)
	w.untagged("sha256:2", deployment("api", "b2", 1), configMap("api", "one"))
	w.pass()
	assert.Equal(t, first, w.in.Last.Status.LastAppliedState, "another is awaited: the old one matches nothing any more")
	_, ok := recognised(w.in)
	assert.False(t, ok)
	w.up("api")
	w.pass()
	assert.NotEqual(t, first, w.in.Last.Status.LastAppliedState)
}

func TestStatusIsRarelyWrittenForTheStateAlone(t *testing.T) {
	t.Parallel()
	r := newReleaseMemory(Key{"production", "api"})
	of := func(state, revision string) v1alpha1.ReleaseStatus {
		return v1alpha1.ReleaseStatus{LastAppliedState: state, LastAppliedRevision: revision}
	}
	assert.False(t, r.worthWriting(start, of("a", "1"), of("a", "1")), "nothing differs")
	assert.True(t, r.worthWriting(start, of("a", "1"), of("b", "1")), "the first of a process")
	assert.False(t, r.worthWriting(start.Add(time.Minute), of("b", "1"), of("c", "1")))
	assert.True(t, r.worthWriting(start.Add(2*time.Minute), of("b", "1"), of("c", "2")), "with something else")
	assert.False(t, r.worthWriting(start.Add(time.Hour), of("c", "2"), of("d", "2")))
	assert.True(t, r.worthWriting(start.Add(time.Hour+2*time.Minute), of("c", "2"), of("d", "2")))
}

func TestWhatWasTakenOverIsVerifiedOnce(t *testing.T) {
	t.Parallel()
	r := newReleaseMemory(Key{"production", "api"})
	id := inventory.ID{Name: "api", Kind: "ConfigMap"}
	require.True(t, r.meet())
	require.False(t, r.meet(), "once")
	r.remember(id, Mark{Rendered: "r", Live: "l"})
	r.doubtAt(start, start.Add(time.Hour))
	r.verify(start.Add(time.Hour - time.Second))
	assert.Len(t, r.marked(), 1)
	assert.Equal(t, time.Second, r.verifyIn(start.Add(time.Hour-time.Second)))
	r.verify(start.Add(time.Hour))
	assert.Empty(t, r.marked())
	assert.Zero(t, r.verifyIn(start.Add(time.Hour)))
}
