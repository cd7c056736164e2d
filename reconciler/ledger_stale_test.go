package reconciler

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// A pass that began before a commit must not speak for the content that came in
// with it.
func TestAccountOfAnOlderCommitIsNotTakenIn(t *testing.T) {
	c := runningTown(t)
	moved := inventory.IDOf(configMap("b-5", "1"))
	uid := c.live[moved].GetUID()
	older, generation := accountOf(&c.worlds["a"].in), c.ledger.generation("a")
	c.declare("b", configs("b", 5)...) // b-5 moves to a
	c.declare("a", append(configs("a", 6), configMap("b-5", "1"))...)
	c.commits([]string{"a", "b"})
	check := func(when string) {
		t.Helper()
		assert.Contains(t, c.pass("b"), "prune later\n  ConfigMap/b-5\n", when)
		require.NotNil(t, c.live[moved], when)
	}

	older.claims = map[inventory.ID]string{moved: "b"}
	r := c.ledger.enter("a", generation, older)
	assert.True(t, r.superseded)
	assert.True(t, r.blocks(), "nothing is deleted")
	assert.False(t, r.Stuck)
	assert.True(t, r.Claims[moved].Pending, "nor taken over")
	check("an account")
	c.ledger.declare("a", generation, older.declares, "")
	check("what is declared")
	c.ledger.ended("a", generation, true)
	assert.False(t, c.ledger.accounts["a"].stalled)
	check("an end")

	c.settle("a", "b")
	require.NotNil(t, c.live[moved])
	assert.Equal(t, uid, c.live[moved].GetUID())
	key, _ := owner(c.live[moved])
	assert.Equal(t, "a", key.Release)
}

func TestGenerationsAreNotUsedAgain(t *testing.T) {
	c := runningTown(t)
	a := c.ledger.generation("a")
	assert.NotEqual(t, a, c.ledger.generation("b"))
	c.ledger.drop("a")
	assert.True(t, c.ledger.enter("a", a, account{}).superseded, "of a release that is gone")
	assert.NotContains(t, c.ledger.accounts, "a")
	c.commits([]string{"a"})
	assert.True(t, c.ledger.enter("a", a, account{}).superseded, "and is back")
}

func TestAskersAreCalledWhenWhatIsDeclaredChanges(t *testing.T) {
	l := newLedger("production")
	id := inventory.IDOf(configMap("shared", "1"))
	l.taken([]Key{{"production", "a"}, {"production", "b"}})
	a, b := l.generation("a"), l.generation("b")
	l.enter("a", a, account{objects: 1, declares: inventory.Set{id: "v1"}})
	wants := account{objects: 1, declares: inventory.Set{id: "v1"}, claims: map[inventory.ID]string{id: "a"}}
	assert.False(t, l.enter("b", b, wants).Claims[id].Granted)
	l.called()
	l.enter("a", a, account{objects: 1, declares: inventory.Set{id: "v1"}})
	assert.Empty(t, l.called(), "as before")
	l.enter("a", a, account{objects: 1})
	assert.Equal(t, []string{"b"}, l.called())
	assert.True(t, l.enter("b", b, wants).Claims[id].Granted)
}

func TestUnrelatedCommitCallsNoHeldRelease(t *testing.T) {
	c := shrunkenTown(t, 1, 1)
	c.declare("c", configs("c", 1)...)
	c.commits([]string{"c"})
	c.settle("a", "b", "c")
	token := c.token("a")
	c.declare("c", configs("c", 2)...)
	c.commits([]string{"c"})
	assert.Empty(t, c.ledger.called(), "while it is taken in")
	c.pass("c")
	assert.Empty(t, c.ledger.called(), "nor when it is known")
	c.ledger.enter("c", c.ledger.generation("c"), account{objects: 2, before: 2})
	assert.Empty(t, c.ledger.called(), "whatever the counts are")
	c.pass("a")
	assert.Equal(t, token, c.token("a"))
	c.commits(nil, token)
	assert.Equal(t, []string{"a", "b"}, c.ledger.called(), "an acknowledgement is news")
}
