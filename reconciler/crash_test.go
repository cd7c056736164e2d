package reconciler_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// crash converges with an engine that dies with its nth write, which the API
// server may have taken or not. It reports whether the engine came to its end
// before that.
func (f *fixture) crash(n int, lose bool) (finished bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l := &line{cutAt: n, lose: lose, onCut: cancel}
	engine := f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	_, err := engine.Converge(ctx, "production", "", nil)
	if err != nil {
		require.ErrorIs(f.t, err, context.Canceled)
	}
	return err == nil
}

// orphans are objects with the release's label that its inventory lacks: nobody
// would ever delete them.
func (f *fixture) orphans(release string) []string {
	f.t.Helper()
	known := map[string]bool{}
	if r := f.release(release); r != nil {
		set, err := inventory.FromStatus(r.Status.Inventory)
		require.NoError(f.t, err)
		for id := range set {
			known[id.Display()] = true
		}
	}
	return slices.DeleteFunc(f.ownedBy(release), func(name string) bool { return known[name] })
}

func TestKilledAtAnyWriteItConvergesWithoutOrphans(t *testing.T) {
	t.Parallel()
	states := func(namespace string) []files {
		f := &fixture{namespace: namespace}
		return []files{
			f.bluegreen("weights: {blue: 100, green: 0}", "1", "2"),
			f.bluegreen("weights: {blue: 40, green: 60}", "1", "3").autoscaled(),
			project(namespace).with(files{"environments/production/api/config.yaml": config("two")}),
			f.bluegreen("weights: {blue: 100}", "1", "2"),
		}
	}
	for _, lose := range []bool{false, true} {
		t.Run(map[bool]string{false: "before the write", true: "after the write"}[lose], func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			contents := states(f.namespace)
			for i, content := range contents {
				contents[i] = content.shared(100)
			}
			f.ready(contents[len(contents)-1])
			for i, content := range contents {
				f.branch.push(content)
				n := 1
				for ; !f.crash(n, lose); n++ {
					require.Less(t, n, 200)
					assert.Empty(t, f.orphans("api"), "state %d, write %d", i, n)
					// The next engine goes on from where this one was killed, and is
					// killed one write later.
				}
				f.settled(fmt.Sprintf("state %d after %d crashes", i, n-1))
			}
		})
	}
}

// settled checks that the cluster holds exactly what the release declares, and
// that there is nothing left to do.
func (f *fixture) settled(what string) {
	f.t.Helper()
	r := f.release("api")
	require.True(f.t, r.Ready(), what)
	assert.Empty(f.t, f.orphans("api"), what)
	set, err := inventory.FromStatus(r.Status.Inventory)
	require.NoError(f.t, err)
	var declared []string
	for id := range set {
		declared = append(declared, id.Display())
	}
	assert.ElementsMatch(f.t, declared, f.ownedBy("api"), what)
	before := f.release("api")
	require.True(f.t, f.converge().OK())
	after := f.release("api")
	assert.Equal(f.t, before.Status, after.Status, what)
	assert.Equal(f.t, before.ResourceVersion, after.ResourceVersion, "%s: a pass after the last finds nothing to do", what)
}
