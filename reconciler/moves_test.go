package reconciler

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// fails is a pass over a release whose files do not render.
func (c *town) fails(name string) {
	in := &c.worlds[name].in
	c.ledger.enter(name, c.ledger.generation(name), account{objects: len(in.Inventory), before: len(in.Inventory), declares: in.Inventory.Union(nil), keeps: doesNotRender, unclear: doesNotRender})
	c.ledger.ended(name, c.ledger.generation(name), true)
}

// moving is a town where the last object of a moves to b with the commit that has
// just been taken in.
func movingTown(t *testing.T) (c *town, moved inventory.ID, uid any) {
	c = runningTown(t)
	moved = inventory.IDOf(configMap("a-5", "1"))
	uid = c.live[moved].GetUID()
	c.declare("a", configs("a", 5)...)
	c.declare("b", append(configs("b", 6), configMap("a-5", "1"))...)
	c.commits([]string{"a", "b"})
	return c, moved, uid
}

const movedToBroken = `
hold prune: ConfigMap/a-5 may have moved to release b (does not render); held until that is known or sluice.yaml says acknowledgements: [{environment: production, prune: TOKEN}]
  ConfigMap/a-5
report Held PruneHeld (stalled): ConfigMap/a-5 may have moved to release b (does not render); held until that is known or sluice.yaml says acknowledgements: [{environment: production, prune: TOKEN}]
`

func TestMoveIntoReleaseThatDoesNotRender(t *testing.T) {
	inPlace := func(t *testing.T, c *town, moved inventory.ID, uid any) {
		t.Helper()
		require.NotNil(t, c.live[moved])
		assert.Equal(t, uid, c.live[moved].GetUID())
		key, _ := owner(c.live[moved])
		assert.Equal(t, "b", key.Release)
	}
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		c, moved, uid := movingTown(t)
		for _, name := range order {
			if name == "b" {
				c.fails("b")
			} else {
				c.pass("a")
			}
		}
		c.settle(slices.DeleteFunc(c.ledger.called(), func(n string) bool { return n == "b" })...)
		said := c.pass("a")
		equal(t, withToken(movedToBroken, c.token("a")), said)
		assert.Empty(t, c.ledger.called(), "nobody is busy")
		c.settle("b") // it has been mended
		inPlace(t, c, moved, uid)
	}
	t.Run("that is mended without it", func(t *testing.T) {
		c, moved, _ := movingTown(t)
		c.fails("b")
		c.pass("a")
		c.declare("b", configs("b", 6)...)
		c.commits([]string{"b"})
		c.settle("b")
		assert.Nil(t, c.live[moved])
	})
	t.Run("and is changed, while the old one is changed as well", func(t *testing.T) {
		c, moved, uid := movingTown(t)
		c.fails("b")
		c.pass("a")
		c.declare("a", append(configs("a", 5), configMap("new", "1"))...)
		c.commits([]string{"a"})
		c.pass("a")
		require.NotNil(t, c.live[moved])
		c.settle("b")
		inPlace(t, c, moved, uid)
	})
	t.Run("from one that did not render itself", func(t *testing.T) {
		c, moved, uid := movingTown(t)
		c.fails("b")
		c.fails("a")
		c.declare("a", configs("a", 5)...)
		c.commits([]string{"a"})
		c.pass("a")
		require.NotNil(t, c.live[moved])
		c.settle("b")
		inPlace(t, c, moved, uid)
	})
	t.Run("from one that was not looked at in between", func(t *testing.T) {
		c, moved, uid := movingTown(t)
		c.fails("b")
		c.declare("a", configs("a", 5)...)
		c.commits([]string{"a"})
		c.pass("a")
		require.NotNil(t, c.live[moved])
		c.settle("b")
		inPlace(t, c, moved, uid)
	})
	t.Run("after a restart", func(t *testing.T) {
		c, moved, _ := movingTown(t)
		c.restart()
		c.fails("b")
		c.pass("a")
		require.NotNil(t, c.live[moved])
	})
	t.Run("until it is acknowledged", func(t *testing.T) {
		c, moved, _ := movingTown(t)
		c.fails("b")
		c.pass("a")
		c.declare("c", configs("c", 1)...)
		c.commits([]string{"c"}, c.token("a"))
		c.pass("c")
		c.settle("a")
		assert.Nil(t, c.live[moved])
	})
}

func withToken(text, token string) string {
	return strings.ReplaceAll(text, "TOKEN", token)
}

// What was broken before has nothing to do with what leaves now.
func TestReleaseThatWasBrokenBeforeHoldsNothing(t *testing.T) {
	c := runningTown(t)
	c.commits([]string{"b"})
	c.fails("b")
	c.declare("a", configs("a", 5)...)
	c.commits([]string{"a"})
	c.pass("a")
	assert.Len(t, c.live, 11)
	t.Run("but what left when it broke is held, whatever left later", func(t *testing.T) {
		c.declare("a", configs("a", 4)...)
		c.commits([]string{"a", "b"})
		c.fails("b")
		c.declare("c", configs("c", 3)...)
		c.commits([]string{"c"})
		c.settle("c", "a")
		c.declare("c", configs("c", 2)...)
		c.commits([]string{"c"})
		c.settle("c", "a")
		assert.Len(t, c.live, 13, "of c one is gone, of a none")
	})
}

// A content that rendered once declares what it declared, though the key service
// is away now.
func TestWhatWasDeclaredOnceIsKnown(t *testing.T) {
	c := runningTown(t)
	c.fails("b")
	assert.Empty(t, c.ledger.accounts["b"].unclear)
	c.declare("a", configs("a", 5)...)
	c.commits([]string{"a"})
	c.pass("a")
	assert.Len(t, c.live, 11)
}

func TestMoveIntoWhatIsNotClear(t *testing.T) {
	broken := func(in *Input) {
		in.Rendered.Tags = append(in.Rendered.Tags, render.TagObjects{Name: "green", Broken: errors.New("resources: no such file")})
	}
	tests := map[string]struct {
		change func(in *Input)
		says   string
	}{
		"a tag that is broken": {broken, "b (its tag green does not render)"},
		"a paused release that does not render": {func(in *Input) {
			in.Paused, in.Rendered = "paused by sluice.yaml", nil
		}, "b (does not render and is paused by sluice.yaml)"},
		"an empty release": {func(in *Input) { in.Rendered = &render.Result{} }, "b (renders no object)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := runningTown(t)
			moved := inventory.IDOf(configMap("a-5", "1"))
			c.declare("a", configs("a", 5)...)
			c.declare("b", configs("b", 6)...)
			tt.change(&c.worlds["b"].in)
			c.commits([]string{"a", "b"})
			c.enter("b")
			c.ledger.ended("b", c.ledger.generation("b"), true)
			assert.Contains(t, c.pass("a"), "report Held PruneHeld (stalled): ConfigMap/a-5 may have moved to release "+tt.says+"; held until")
			assert.NotNil(t, c.live[moved])
		})
	}
	t.Run("a tag that is broken leaves its own release as it was", func(t *testing.T) {
		c := runningTown(t)
		c.declare("b", configs("b", 5)...)
		broken(&c.worlds["b"].in)
		c.commits([]string{"b"})
		assert.False(t, c.enter("b").blocks())
	})
}

// Of the releases outside of a run it is found out what they declare before
// anything is deleted.
func TestMoveOutOfTheRun(t *testing.T) {
	c, moved, _ := movingTown(t)
	c.restart()
	c.ledger.scope([]Key{{"production", "a"}})
	r := c.enter("a")
	assert.True(t, r.foresee)
	assert.True(t, r.blocks())
	assert.Equal(t, []string{"b"}, c.ledger.unforeseen())
	c.ledger.declare("b", c.ledger.generation("b"), c.worlds["b"].in.renderedSet(), "")
	equal(t, `
hand over
  ConfigMap/a-5 (to release b, which is not part of this run)
report Held PruneHeld (stalled): ConfigMap/a-5 goes over to release b, which is not part of this run
`, c.pass("a"))
	assert.NotNil(t, c.live[moved])
	assert.False(t, c.enter("a").foresee, "once is enough")
	t.Run("who has waited for others of the run is called to find out", func(t *testing.T) {
		c, _, _ := movingTown(t)
		c.declare("c", configs("c", 1)...)
		c.restart()
		c.ledger.scope([]Key{{"production", "a"}, {"production", "c"}})
		assert.False(t, c.enter("a").foresee)
		c.enter("c")
		assert.Equal(t, []string{"a"}, c.ledger.called())
		assert.True(t, c.enter("a").foresee)
	})
	t.Run("nobody is looked at when nothing is to be deleted", func(t *testing.T) {
		c := runningTown(t)
		c.restart()
		c.ledger.scope([]Key{{"production", "a"}})
		assert.False(t, c.enter("a").foresee)
	})
}
