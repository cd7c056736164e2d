package reconciler

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// A wrong namePrefix replaces every object: all that the environment had goes.
func TestReplacingAllObjectsIsHeldAtEveryMoment(t *testing.T) {
	for crash := range 12 {
		c := runningTown(t)
		c.declare("a", configs("pre-a", 6)...)
		c.declare("b", configs("pre-b", 6)...)
		c.commits([]string{"a", "b"})
		for n := range crash { // steps of one and the other, then a process that knows nothing
			c.step([]string{"a", "b"}[n%2])
		}
		c.restart()
		c.settle("b", "a")
		require.Len(t, c.live, 24, "after %d steps", crash)
		assert.Contains(t, c.worlds["a"].in.Ruling.Held.Message, "12 of 12 objects", "after %d steps", crash)
		c.restart()
		c.settle("a", "b")
		require.Len(t, c.live, 24, "and a restart")
		c.commits(nil, c.token("a"))
		c.settle("a", "b")
		require.Len(t, c.live, 12, "acknowledged")
		c.settle("a", "b")
		for _, w := range c.worlds {
			assert.Nil(t, w.in.Last.Status.Inventory.Before, "it is done")
		}
	}
}

func TestRenamedReleaseIsHeld(t *testing.T) {
	c := newTown(t)
	c.declare("old", configs("old", 12)...)
	c.commits(c.names())
	c.settle("old")
	c.declare("old")
	c.declare("new", configs("new", 12)...)
	c.commits(c.names())
	c.settle("new", "old", "new")
	assert.Len(t, c.live, 24)
	c.restart()
	c.settle("new", "old", "new")
	assert.Len(t, c.live, 24)
	assert.Contains(t, c.worlds["old"].in.Ruling.Held.Message, "12 of 12 objects")
}

func TestOrdinaryReplacementIsNotHeld(t *testing.T) {
	c := newTown(t)
	var names []string
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		c.declare(name, append(configs(name, 4), configMap(name+"-hash-one", "1"))...)
		names = append(names, name)
	}
	c.commits(names)
	c.settle(names...)
	require.Len(t, c.live, 30)
	for _, name := range names { // six objects leave, of 30
		c.declare(name, append(configs(name, 4), configMap(name+"-hash-two", "1"))...)
	}
	c.commits(names)
	c.settle(names...)
	assert.Len(t, c.live, 30)
	assert.NotContains(t, c.live, inventory.IDOf(configMap("a-hash-one", "1")))
	c.settle(names...)
	for _, w := range c.worlds {
		assert.Nil(t, w.in.Last.Status.Inventory.Before)
	}
}

func TestAcknowledgementIsGoodForOneDeletion(t *testing.T) {
	c := shrunkenTown(t, 1, 1)
	c.settle("a", "b")
	token := c.token("a")
	c.commits(nil, token)
	c.settle(c.ledger.called()...)
	require.Len(t, c.live, 2)
	c.declare("a", configs("a", 6)...)
	c.declare("b", configs("b", 6)...)
	c.commits([]string{"a", "b"}, token)
	c.settle("a", "b")
	require.Len(t, c.live, 12, "it is reverted")
	c.declare("a", configs("a", 1)...)
	c.declare("b", configs("b", 1)...)
	c.commits([]string{"a", "b"}, token)
	c.settle("a", "b")
	assert.Len(t, c.live, 12, "the same bad merge again")
	assert.NotEqual(t, token, c.token("a"))
}

// A release that is final before its environment is known to be at rest has the number
// still: it is called when that is known, once, and drops it.
func TestReleaseIsCalledToForgetWhatWasBefore(t *testing.T) {
	grown := func(t *testing.T) *town {
		c := runningTown(t)
		c.declare("a", configs("a", 7)...)
		c.commits([]string{"a", "b"})
		c.pass("a")
		require.NotNil(t, c.worlds["a"].in.Last.Status.Inventory.Before, "b has not been looked at yet")
		assert.Empty(t, c.ledger.called())
		return c
	}
	c := grown(t)
	c.pass("b")
	assert.Equal(t, []string{"a"}, c.ledger.called())
	c.pass("a")
	assert.Nil(t, c.worlds["a"].in.Last.Status.Inventory.Before)
	c.pass("b")
	assert.Empty(t, c.ledger.called())

	t.Run("when the last of what leaves has gone", func(t *testing.T) {
		c := grown(t)
		c.declare("b", configs("b", 5)...)
		c.commits([]string{"b"})
		c.enter("b")
		assert.Empty(t, c.ledger.called())
		c.pass("b")
		assert.Contains(t, c.ledger.called(), "a")
	})
	t.Run("when the one that was not known has left", func(t *testing.T) {
		c := grown(t)
		c.ledger.drop("b")
		assert.Equal(t, []string{"a"}, c.ledger.called())
	})
	t.Run("not when its own pass finds out", func(t *testing.T) {
		c := runningTown(t)
		c.declare("a", append(configs("a", 5), configMap("a-new", "1"))...)
		c.commits([]string{"a"})
		c.pass("a")
		assert.Nil(t, c.worlds["a"].in.Last.Status.Inventory.Before)
		assert.Empty(t, c.ledger.called())
	})
}
