package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// town is several worlds in one namespace: the releases of an environment, with
// their ledger.
type town struct {
	t      *testing.T
	ledger *ledger
	live   map[inventory.ID]*unstructured.Unstructured
	worlds map[string]*world
	rules  pruneRules
	commit int
}

func newTown(t *testing.T) *town {
	return &town{t: t, ledger: newLedger("production"), live: map[inventory.ID]*unstructured.Unstructured{}, worlds: map[string]*world{}, rules: pruneRules{maxShare: 50}}
}

// declare has a release declare these objects; none: it has left the repository.
func (c *town) declare(name string, objects ...*unstructured.Unstructured) {
	w := c.worlds[name]
	if w == nil {
		w = newWorld(c.t)
		w.in.Release.Name, w.in.Release.Component.Name, w.in.Live = name, name, c.live
		c.worlds[name] = w
	}
	c.commit++
	w.commit(c.commit)
	w.untagged("", objects...)
	w.in.Gone = len(objects) == 0
}

// commits takes in what was declared since the last time, with acknowledgements.
func (c *town) commits(changed []string, acknowledged ...string) {
	c.rules.acknowledged = acknowledged
	c.ledger.take(c.rules)
	var keys []Key
	for _, name := range changed {
		keys = append(keys, Key{"production", name})
	}
	c.ledger.taken(keys)
}

// restart is a process that knows nothing.
func (c *town) restart() {
	c.ledger = newLedger("production")
	for name, w := range c.worlds {
		w.restart()
		if w.in.Last != nil || !w.in.Gone {
			c.ledger.found(name, len(w.in.Inventory), objectsBefore(w.in.Last, w.in.Inventory))
		}
	}
	c.commits(c.names(), c.rules.acknowledged...)
}

func (c *town) names() (names []string) {
	for name, w := range c.worlds {
		if w.in.Last != nil || !w.in.Gone {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// enter enters the account of a release as it is now.
func (c *town) enter(name string) Ruling {
	return c.ledger.enter(name, c.ledger.generation(name), accountOf(&c.worlds[name].in))
}

// step is one plan of a pass over a release, done.
func (c *town) step(name string) Plan {
	w := c.worlds[name]
	w.in.Ruling = c.enter(name)
	plan := Decide(w.in)
	if plan.Writes() {
		w.execute(plan)
	}
	return plan
}

// pass is a pass over a release; the text is that of its last plan but the first
// line.
func (c *town) pass(name string) string {
	c.t.Helper()
	c.worlds[name].in.routed = nil
	for round := 0; ; round++ {
		require.Less(c.t, round, maxRounds)
		plan := c.step(name)
		if !plan.Writes() {
			c.worlds[name].report(plan.Verdict)
			c.ledger.ended(name, c.ledger.generation(name), plan.Verdict.Stalled)
			if plan.Verdict.State == StateRemoved {
				c.ledger.drop(name)
			}
			_, text, _ := strings.Cut(plan.String(), "\n")
			return text
		}
	}
}

// settle passes over releases until nobody is called any more.
func (c *town) settle(names ...string) {
	c.t.Helper()
	for n := 0; len(names) > 0; n++ {
		require.Less(c.t, n, 1000, "they call each other for ever")
		next := names[0]
		names = names[1:]
		c.pass(next)
		for _, name := range c.ledger.called() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
}

func configs(prefix string, n int) (out []*unstructured.Unstructured) {
	for i := range n {
		out = append(out, configMap(fmt.Sprintf("%s-%d", prefix, i), "1"))
	}
	return out
}

// running is a town with releases a and b of six objects each, as declared.
func runningTown(t *testing.T) *town {
	c := newTown(t)
	c.declare("a", configs("a", 6)...)
	c.declare("b", configs("b", 6)...)
	c.commits([]string{"a", "b"})
	c.settle("a", "b")
	require.Len(t, c.live, 12)
	return c
}

// shrunken is one where a commit leaves only these numbers of objects.
func shrunkenTown(t *testing.T, a, b int) *town {
	c := runningTown(t)
	c.declare("a", configs("a", a)...)
	c.declare("b", configs("b", b)...)
	c.commits([]string{"a", "b"})
	return c
}

// token is the one that a release asks for.
func (c *town) token(name string) string {
	c.t.Helper()
	h := c.worlds[name].in.Ruling.Held
	require.NotNil(c.t, h)
	assert.Regexp(c.t, "^[a-f][0-9a-f]{11}$", h.Token)
	return h.Token
}

func TestLargeDeletionIsHeldUntilItIsAcknowledged(t *testing.T) {
	c := shrunkenTown(t, 2, 3)
	equal(t, `
prune later
  ConfigMap/a-2
  ConfigMap/a-3
  ConfigMap/a-4
  ConfigMap/a-5
report Ready: what has left the repository is not deleted yet: not every release of the environment has been looked at yet
again in 15s
`, c.pass("a"))
	assert.Empty(t, c.ledger.called())
	equal(t, strings.ReplaceAll(`
hold prune: 7 of 12 objects of environment production would be deleted, of this release ConfigMap/b-3, ConfigMap/b-4, ConfigMap/b-5; held until sluice.yaml says acknowledgements: [{environment: production, prune: TOKEN}]
  ConfigMap/b-3
  ConfigMap/b-4
  ConfigMap/b-5
report Held PruneHeld (stalled): 7 of 12 objects of environment production would be deleted, of this release ConfigMap/b-3, ConfigMap/b-4, ConfigMap/b-5; held until sluice.yaml says acknowledgements: [{environment: production, prune: TOKEN}]
`, "TOKEN", "a510a856cd69"), c.pass("b"))
	assert.Equal(t, []string{"a"}, c.ledger.called(), "who waited for the account is called")
	c.settle("a")
	assert.Contains(t, c.worlds["a"].in.Last.Condition(v1alpha1.ConditionStalled).Message, "ConfigMap/a-2, ConfigMap/a-3, ConfigMap/a-4 and 1 more")
	assert.True(t, c.worlds["a"].in.Last.Ready(), "what is declared runs")
	assert.Len(t, c.live, 12)
	token := c.token("b")

	t.Run("other changes go on, with the same token", func(t *testing.T) {
		c.declare("a", append(configs("a", 2), configMap("new", "1"))...)
		c.commits([]string{"a"})
		c.settle("a")
		assert.Len(t, c.live, 13)
		assert.Equal(t, token, c.token("b"))
	})
	t.Run("nor does a restart let it go", func(t *testing.T) {
		c.restart()
		c.settle("b", "a")
		assert.Len(t, c.live, 13)
		assert.Equal(t, token, c.token("b"))
	})
	t.Run("another token does not help", func(t *testing.T) {
		c.commits(nil, "a00000000001")
		c.settle("a", "b")
		assert.Len(t, c.live, 13)
	})
	t.Run("its token does", func(t *testing.T) {
		c.commits(nil, "a00000000001", token)
		called := c.ledger.called()
		assert.Equal(t, []string{"a", "b"}, called)
		assert.Equal(t, `record acknowledgement `+token, strings.Split(c.step("a").String(), "\n")[1])
		equal(t, `
prune later
  ConfigMap/a-2
  ConfigMap/a-3
  ConfigMap/a-4
  ConfigMap/a-5
report Ready: what has left the repository is not deleted yet: not every release has taken in yet that the deletion is acknowledged
again in 15s
`, c.pass("a"))
		c.settle("b")
		assert.Len(t, c.live, 6)
		assert.Nil(t, c.worlds["a"].in.Last.Status.Prune, "it is done")
	})
	t.Run("and never again", func(t *testing.T) {
		c.declare("a", append(configs("a", 6), configMap("new", "1"))...)
		c.declare("b", configs("b", 6)...)
		c.commits([]string{"a", "b"}, token)
		c.settle("a", "b")
		require.Len(t, c.live, 13)
		c.declare("a", configs("a", 2)...)
		c.declare("b", configs("b", 3)...)
		c.commits([]string{"a", "b"}, token)
		c.settle("a", "b")
		assert.Len(t, c.live, 13, "it is another deletion: an object more")
	})
}

func TestShareOfADeletion(t *testing.T) {
	tests := []struct {
		name     string
		share    int
		removed  string
		a, b     int // objects that stay
		deletes  bool
		declares bool
	}{
		{"half is not more than half", 50, "", 3, 3, true, true},
		{"seven of twelve", 50, "", 2, 3, false, true},
		{"seven of twelve, where more is allowed", 60, "", 2, 3, true, true},
		{"four are few, however large the share", 0, "", 6, 2, true, true},
		{"five are not", 0, "", 6, 1, false, true},
		{"everything may go", 100, "", 1, 0, true, true},
		{"but not a removed environment", 100, "is not in sluice.yaml any more", 0, 0, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := runningTown(t)
			c.rules.maxShare, c.rules.removed = tt.share, tt.removed
			c.declare("a", configs("a", tt.a)...)
			c.declare("b", configs("b", tt.b)...)
			c.commits([]string{"a", "b"})
			c.settle("a", "b")
			want := 12
			if tt.deletes {
				want = tt.a + tt.b
			}
			assert.Len(t, c.live, want)
		})
	}
}

func TestSmallDeletionWaitsForNoReading(t *testing.T) {
	c := newTown(t)
	c.declare("a", configs("a", 6)...)
	c.declare("b", configs("b", 3)...)
	c.declare("c", configs("c", 30)...)
	c.commits(c.names())
	c.settle(c.names()...)
	c.declare("a", configs("a", 5)...)
	c.declare("b", configs("b", 2)...)
	c.commits([]string{"a", "b"})
	c.ledger.declare("b", c.ledger.generation("b"), nil, "")
	assert.Contains(t, c.pass("a"), "report Ready: 5 objects", "b cannot be read, but all of it would be little")
	assert.Len(t, c.live, 38)
}

// An acknowledged deletion that is interrupted at any moment goes on to its end,
// although what is left of it has another token.
func TestAcknowledgedDeletionSurvivesCrashes(t *testing.T) {
	for crash := 1; ; crash++ {
		c := shrunkenTown(t, 2, 2)
		c.settle("a", "b")
		c.commits(nil, c.token("a"))
		c.ledger.called()
		done := true
		order := []string{"b", "a", "b", "a", "b", "a", "b", "a"}
		for n, name := range order {
			if n == crash {
				done = false
				break
			}
			// One step at a time, and of a deletion one object.
			w := c.worlds[name]
			w.in.Ruling = c.enter(name)
			plan := Decide(w.in)
			for i, s := range plan.Steps {
				if s.Action == ActionPrune {
					plan.Steps[i].Items = s.Items[:1]
				}
			}
			w.execute(plan)
		}
		c.restart()
		c.settle("a", "b")
		require.Len(t, c.live, 4, "after %d steps", crash)
		if done {
			break
		}
	}
}

func TestAcknowledgementIsTakenBack(t *testing.T) {
	c := shrunkenTown(t, 1, 1)
	c.settle("a", "b")
	c.commits(nil, c.token("a"))
	c.step("a")
	c.step("b")
	c.commits(nil)
	c.settle("a", "b")
	assert.Len(t, c.live, 12)
	assert.NotEmpty(t, c.token("a"))
}

func TestNewDeletionsDuringAnAcknowledgedOneAreHeldForThemselves(t *testing.T) {
	c := runningTown(t)
	c.rules.maxShare = 30
	c.declare("a", configs("a", 1)...)
	c.commits([]string{"a"})
	c.settle("a")
	first := c.token("a")
	c.commits(nil, first)
	c.step("a") // has recorded it
	c.declare("b", configs("b", 1)...)
	c.commits([]string{"b"}, first)
	c.settle("b", "a")
	assert.Len(t, c.live, 7, "a goes on, b is held")
	assert.NotEqual(t, first, c.token("b"))
	c.commits(nil, c.token("b"))
	c.settle(c.ledger.called()...)
	assert.Len(t, c.live, 2)
}

func TestRemovedEnvironmentGoesWhole(t *testing.T) {
	c := newTown(t)
	c.declare("a", configMap("a", "1"), httpRoute(), object("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}}"))
	c.declare("environment", configMap("quota", "1"))
	c.commits(c.names())
	c.settle("environment", "a")
	c.declare("a")
	c.declare("environment")
	c.rules.removed = "is not in sluice.yaml any more"
	c.commits([]string{"a", "environment"})
	c.pass("environment")
	equal(t, `
keep
  PersistentVolumeClaim/data (its kind is protected)
hold prune: environment production is not in sluice.yaml any more: all its 3 objects would be deleted, of this release ConfigMap/a, HTTPRoute/api; held until sluice.yaml says acknowledgements: [{environment: production, prune: de82972dafa4}]
  HTTPRoute/api
  ConfigMap/a
report Held EnvironmentHeld (stalled): environment production is not in sluice.yaml any more: all its 3 objects would be deleted, of this release ConfigMap/a, HTTPRoute/api; held until sluice.yaml says acknowledgements: [{environment: production, prune: de82972dafa4}]
note kept PersistentVolumeClaim/data (its kind is protected)
`, c.pass("a"))
	assert.Len(t, c.live, 4)
	c.commits(nil, c.token("a"))
	c.settle("a", "environment")
	for _, w := range c.worlds {
		w.after(defaultDrain * 2)
	}
	c.settle("a", "environment")
	assert.Len(t, c.live, 1, "the claim is protected")
	assert.Empty(t, c.names(), "no Release is left")
}

func TestMovedObjectsAreHandedOver(t *testing.T) {
	shared := configMap("shared", "1")
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		for _, leaves := range []bool{false, true} {
			t.Run(fmt.Sprint(order, leaves), func(t *testing.T) {
				c := newTown(t)
				c.declare("a", configMap("own", "1"), shared)
				c.declare("b", configMap("other", "1"))
				c.commits(c.names())
				c.settle("a", "b")
				uid := c.live[inventory.IDOf(shared)].GetUID()
				if leaves {
					c.declare("a")
				} else {
					c.declare("a", configMap("own", "1"))
				}
				c.declare("b", configMap("other", "1"), shared)
				c.commits([]string{"a", "b"})
				c.settle(order...)
				live := c.live[inventory.IDOf(shared)]
				require.NotNil(t, live)
				assert.Equal(t, uid, live.GetUID())
				key, _ := owner(live)
				assert.Equal(t, "b", key.Release)
				assert.Contains(t, c.worlds["b"].in.Inventory, inventory.IDOf(shared))
				if assert.Equal(t, leaves, c.worlds["a"].in.Last == nil); !leaves {
					assert.NotContains(t, c.worlds["a"].in.Inventory, inventory.IDOf(shared))
				}
			})
		}
	}
}

func TestMovesInSteps(t *testing.T) {
	c := newTown(t)
	shared := configMap("shared", "1")
	c.declare("a", configMap("own", "1"), shared)
	c.declare("b", configMap("other", "1"))
	c.commits(c.names())
	c.settle("a", "b")
	c.declare("a", configMap("own", "1"))
	c.declare("b", configMap("other", "1"), shared)
	c.commits([]string{"a", "b"})
	equal(t, `
nothing to do
report Waiting OwnedByAnother: ConfigMap/shared belongs to release a of environment production, which has not been looked at yet
again in 15s
`, c.pass("b"))
	equal(t, `
hand over
  ConfigMap/shared (to release b)
report Ready: ConfigMap/shared goes over to release b
again in 15s
`, c.pass("a"))
	assert.Equal(t, []string{"b"}, c.ledger.called())

	t.Run("also when it is interrupted there", func(t *testing.T) {
		c.restart()
		c.pass("a")
		c.step("b") // has recorded its intent and applied it; a knows nothing of that
		key, _ := owner(c.live[inventory.IDOf(shared)])
		assert.Equal(t, "b", key.Release)
		c.restart()
		c.settle("a", "b")
		assert.NotContains(t, c.worlds["a"].in.Inventory, inventory.IDOf(shared))
	})
	t.Run("and back", func(t *testing.T) {
		c.declare("a", configMap("own", "1"), shared)
		c.declare("b", configMap("other", "1"))
		c.commits([]string{"a", "b"})
		c.settle("a", "b")
		key, _ := owner(c.live[inventory.IDOf(shared)])
		assert.Equal(t, "a", key.Release)
	})
}

func TestMovesThatAreRefused(t *testing.T) {
	shared := configMap("shared", "1")
	tests := map[string]struct {
		change func(c *town)
		says   string
	}{
		"the owner declares it still": {func(c *town) { c.declare("a", configMap("own", "1"), shared) }, ""},
		"the owner is paused": {func(c *town) {
			c.worlds["a"].in.Paused = "paused by components/a/component.yaml"
		}, ", which is paused by components/a/component.yaml"},
		"the owner renders nothing": {func(c *town) { c.worlds["a"].untagged("") }, ", which renders no object"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newTown(t)
			c.declare("a", configMap("own", "1"), shared)
			c.declare("b", configMap("other", "1"))
			c.commits(c.names())
			c.settle("a", "b")
			c.declare("a", configMap("own", "1"))
			c.declare("b", configMap("other", "1"), shared)
			tt.change(c)
			c.commits([]string{"a", "b"})
			c.settle("a", "b")
			equal(t, `
nothing to do
report Failed OwnedByAnother (stalled): ConfigMap/shared belongs to release a of environment production`+tt.says+`
again in 1m0s
`, strings.Replace(c.pass("b"), "report Failed OwnedByAnother:", "report Failed OwnedByAnother (stalled):", 1))
		})
	}
	t.Run("what a does not declare and b cannot take stays", func(t *testing.T) {
		c := newTown(t)
		c.declare("a", configMap("own", "1"), shared)
		c.declare("b", configMap("other", "1"))
		c.commits(c.names())
		c.settle("a", "b")
		c.declare("a", configMap("own", "1"))
		c.declare("b", configMap("other", "1"), shared)
		c.worlds["b"].in.Paused = "paused by sluice.yaml"
		c.commits([]string{"a", "b"})
		c.settle("a", "b")
		assert.Contains(t, c.live, inventory.IDOf(shared))
		assert.Contains(t, c.worlds["a"].in.Inventory, inventory.IDOf(shared), "nor is it forgotten")
	})
}
