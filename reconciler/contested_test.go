package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func managedBy(o *unstructured.Unstructured, entries ...metav1.ManagedFieldsEntry) *unstructured.Unstructured {
	o = o.DeepCopy()
	o.SetManagedFields(entries)
	return o
}

func entry(manager string, operation metav1.ManagedFieldsOperationType, second int, fields string) metav1.ManagedFieldsEntry {
	at := metav1.NewTime(start.Add(time.Duration(second) * time.Second))
	return metav1.ManagedFieldsEntry{Manager: manager, Operation: operation, Time: &at, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
}

func onStatus(e metav1.ManagedFieldsEntry) metav1.ManagedFieldsEntry {
	e.Subresource = "status"
	return e
}

func TestUsurpers(t *testing.T) {
	const update, apply = metav1.ManagedFieldsOperationUpdate, metav1.ManagedFieldsOperationApply
	desired := deployment("api", "one", 2)
	tests := map[string]struct {
		entries     []metav1.ManagedFieldsEntry
		who, fields []string
	}{
		"a field that is ours no more": {[]metav1.ManagedFieldsEntry{
			entry("sluice", apply, 1, `{"f:spec":{"f:template":{}}}`),
			entry("kube-controller-manager", update, 2, `{"f:spec":{"f:replicas":{}}}`),
			onStatus(entry("kube-controller-manager", update, 9, `{"f:status":{"f:replicas":{}}}`)),
		}, []string{"kube-controller-manager"}, []string{"spec.replicas"}},
		"not one that both own": {[]metav1.ManagedFieldsEntry{
			entry("sluice", apply, 1, `{"f:spec":{"f:replicas":{}}}`),
			entry("friend", apply, 2, `{"f:spec":{"f:replicas":{}}}`),
			entry("rogue", apply, 1, `{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:image":{}}}}}}}`),
		}, []string{"rogue"}, []string{"spec.template.spec.containers[name=main].image"}},
		"nor what we do not declare: the last is to blame": {[]metav1.ManagedFieldsEntry{
			entry("sluice", apply, 1, `{"f:spec":{"f:replicas":{}}}`),
			entry("old", update, 2, `{"f:spec":{"f:paused":{}}}`),
			entry("rogue", update, 3, `{"f:metadata":{"f:annotations":{"f:x":{}}}}`),
			onStatus(entry("kubelet", update, 9, `{"f:status":{}}`)),
		}, []string{"rogue"}, nil},
		"nobody but us":           {[]metav1.ManagedFieldsEntry{entry("sluice", apply, 1, `{"f:spec":{}}`), entry("sluice-scale", apply, 2, `{"f:spec":{"f:replicas":{}}}`)}, nil, nil},
		"without fields and time": {[]metav1.ManagedFieldsEntry{{Manager: "silent", Operation: update}}, []string{"silent"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			who, fields := usurpers(desired, managedBy(desired, tt.entries...))
			assert.ElementsMatch(t, tt.who, who)
			assert.ElementsMatch(t, tt.fields, fields)
		})
	}
}

func TestFightsAreCounted(t *testing.T) {
	desired := deployment("api", "one", 2)
	id := inventory.IDOf(desired)
	correct := func(f *fights, at ...time.Duration) {
		for _, d := range at {
			f.corrected(start.Add(d), hashOf(desired), desired, desired)
		}
	}
	minutes := func(n ...float64) (out []time.Duration) {
		for _, m := range n {
			out = append(out, time.Duration(m*float64(time.Minute)))
		}
		return out
	}
	t.Run("five at once", func(t *testing.T) {
		var f fights
		correct(&f, 0, 1, 2, 3)
		require.False(t, f.open(id))
		correct(&f, 4)
		require.True(t, f.open(id))
	})
	t.Run("one a minute", func(t *testing.T) {
		var f fights
		correct(&f, minutes(0, 1, 2, 3, 4)...)
		require.True(t, f.open(id))
	})
	t.Run("not one in a minute and a half", func(t *testing.T) {
		var f fights
		correct(&f, minutes(0, 1.5, 3, 4.5, 6, 7.5, 9, 10.5)...)
		require.False(t, f.open(id))
	})
	t.Run("the pauses grow to the longest, spread", func(t *testing.T) {
		var f fights
		correct(&f, 0, 0, 0, 0)
		now := start
		for _, least := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 400 * time.Second, 400 * time.Second} {
			f.corrected(now, hashOf(desired), desired, desired)
			pause := f.contested()[id].Next.Sub(now)
			assert.GreaterOrEqual(t, pause, least)
			assert.LessOrEqual(t, pause, least*3/2)
			assert.LessOrEqual(t, pause, contestMax)
			now = now.Add(pause)
		}
	})
	t.Run("another content starts anew", func(t *testing.T) {
		var f fights
		correct(&f, 0, 1, 2, 3, 4)
		f.corrected(start.Add(5), "another", desired, desired)
		require.False(t, f.open(id))
	})
}

func TestDecideContestedObject(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", configMap("api-config", "1"), deployment("api", "one", 2))
	w.pass()
	w.up("api")
	w.pass()
	id := inventory.ID{Namespace: "shop", Name: "api", Group: "apps", Kind: "Deployment"}
	var f fights
	change := func() { w.bump(w.deployment("api"), true) }
	// putRight is a pass that applies the Deployment over somebody's change.
	putRight := func() {
		w.t.Helper()
		seen := managedBy(w.in.Live[id], entry("rogue", metav1.ManagedFieldsOperationUpdate, 1, `{"f:spec":{"f:replicas":{}}}`))
		desired := wanted(w)[0]
		require.Contains(t, w.pass(), "apply workloads\n  Deployment/api (update)\n")
		w.up("api")
		f.corrected(w.in.Now, hashOf(desired), desired, seen)
		w.in.Contested = f.contested()
	}
	for range contestAfter {
		change()
		putRight()
	}
	// The jitter is chance: the pauses are put down here.
	pause := func(d time.Duration) {
		c := w.in.Contested[id]
		c.Next = w.in.Now.Add(d)
		w.in.Contested[id] = c
	}
	pause(40 * time.Second)
	const says = "report Held Contested (stalled): Deployment/api: rogue keeps changing spec.replicas; corrected 5 times within 5m, now only at growing intervals of 30s to 10m\n"
	t.Run("is not ready, though it is as declared", func(t *testing.T) {
		equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
`+says+`again in 40s
`, w.pass())
	})
	change()
	t.Run("is left alone while the rest goes on", func(t *testing.T) {
		w.after(10 * time.Second)
		w.bump(w.in.Live[inventory.ID{Namespace: "shop", Name: "api-config", Kind: "ConfigMap"}], true)
		equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
apply config
  ConfigMap/api-config (update)
`+says+`again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
`+says+`again in 30s
`, w.pass())
		assert.True(t, w.in.Last.Condition("Stalled").Status == metav1.ConditionTrue && !w.in.Last.Ready())
	})
	t.Run("is put right once after the pause", func(t *testing.T) {
		w.after(30 * time.Second)
		putRight()
		pause(90 * time.Second)
		change()
		w.after(time.Minute)
		assert.Contains(t, w.pass(), "nothing to do\n"+says+"again in 30s\n")
	})
	t.Run("is over when it has been left as it is", func(t *testing.T) {
		w.after(time.Minute)
		putRight()
		pause(5 * time.Minute)
		w.after(contestQuiet - time.Second)
		assert.Contains(t, w.pass(), says+"again in 1s\n")
		w.after(time.Second)
		assert.Contains(t, w.pass(), "nothing to do\nreport Ready")
		f.settle(&w.in)
		w.in.Contested = f.contested()
		assert.Empty(t, w.in.Contested)
	})
	t.Run("is applied at once when a commit declares something else", func(t *testing.T) {
		for range contestAfter {
			change()
			putRight()
		}
		change()
		pause(time.Hour)
		require.Contains(t, w.pass(), "nothing to do\n"+says)
		w.commit(2)
		w.untagged("sha256:two", configMap("api-config", "1"), deployment("api", "two", 2))
		assert.Contains(t, w.pass(), "apply workloads\n  Deployment/api (update)\n")
		w.up("api")
		assert.Contains(t, w.pass(), "report Ready")
		f.settle(&w.in)
		w.in.Contested = f.contested()
		assert.Empty(t, w.in.Contested)
	})
}

func TestContestSaysWhat(t *testing.T) {
	const rest = "; corrected 5 times within 5m, now only at growing intervals of 30s to 10m"
	for want, c := range map[string]Contest{
		"another controller keeps changing it": {},
		"another controller keeps deleting it": {Deleted: true},
		"a keeps changing it":                  {Who: []string{"a"}},
		"a and b keep changing spec.x, spec.y": {Who: []string{"a", "b"}, Fields: []string{"spec.x", "spec.y"}},
		"a keeps changing spec.x":              {Who: []string{"a"}, Fields: []string{"spec.x"}, Deleted: true},
	} {
		assert.Equal(t, want+rest, c.String())
	}
}

func TestPlanThatDoesNotSettle(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 2), configMap("api", "1"))
	err := unsettled(Decide(w.in))
	require.EqualError(t, err, "ConfigMap/api, Deployment/api: written again and again in one pass without coming out as declared")
	v := failure(err)
	assert.Equal(t, Verdict{State: StateFailed, Reason: "Contested", Stalled: true}, v)
	assert.NotEmpty(t, hintOf(err))
}

// An event of an object that is fought for is no reason for a pass. When the fight
// ends in a pass that began before the event, nobody else would look at it.
func TestEventDuringAFightThatEndsIsNotOverlooked(t *testing.T) {
	w := newWorld(t)
	w.untagged("", configMap("api", "1"))
	w.pass()
	desired := w.in.Rendered.Shared[0]
	id := inventory.IDOf(desired)
	r := newReleaseMemory(w.in.key())
	for range contestAfter {
		r.fights.corrected(w.in.Now, hashOf(desired), desired, desired)
	}
	w.in.Contested = r.fights.contested()
	r.work(true)
	changed := w.in.Live[id].DeepCopy()
	w.bump(changed, true)
	r.event(sightingOf(id, "v1", changed, false))
	require.True(t, r.fights.open(id))
	assert.False(t, r.overlooked(), "it is looked at after the pause")
	w.after(contestQuiet)
	r.fights.settle(&w.in)
	require.False(t, r.fights.open(id))
	assert.True(t, r.overlooked())
	r.due(w.in.Now)
	assert.False(t, r.overlooked(), "the next pass has taken it in")
}
