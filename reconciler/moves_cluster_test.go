package reconciler_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

const sharedConfig = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\n"

// sharedBy is a project of components api and web, of which one has ConfigMap
// shared.
func (f *fixture) sharedBy(component string) files {
	both := two(f.namespace)
	both["environments/production/"+component+"/config.yaml"] += sharedConfig
	return both
}

// sharedAt reports whether a release has ConfigMap shared in its inventory and the
// other has not. It is an error when it is not the one that there was.
func (f *fixture) sharedAt(release, other string, uid any) bool {
	f.t.Helper()
	live := f.get("ConfigMap", "shared")
	require.NotNil(f.t, live)
	require.Equal(f.t, uid, live.GetUID())
	to, from := f.release(release), f.release(other)
	return live.GetLabels()[v1alpha1.LabelRelease] == release && len(to.Status.Inventory.Entries) == 5 && len(from.Status.Inventory.Entries) == 4
}

func TestMoveIntoBrokenReleaseKeepsIdentity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.sharedBy("api"))
	uid := f.get("ConfigMap", "shared").GetUID()
	stop := f.run()
	broken := func(component string) files {
		c := f.sharedBy(component)
		c["environments/production/"+component+"/config.yaml"] += "---\nkind: [\n"
		return c
	}
	f.branch.push(broken("web"))
	f.eventually("api holds it", func() bool { return f.stalled("api") == v1alpha1.ReasonPruneHeld })
	assert.Contains(t, f.release("api").Condition(v1alpha1.ConditionStalled).Message, "ConfigMap/shared may have moved to release web (does not render); held until")
	assert.True(t, f.release("api").Ready(), "what it declares runs")
	f.branch.push(f.sharedBy("web"))
	f.eventually("it has moved", func() bool { return f.sharedAt("web", "api", uid) })

	t.Run("after a restart", func(t *testing.T) {
		f.branch.push(f.sharedBy("api"))
		f.eventually("it is back", func() bool { return f.sharedAt("api", "web", uid) })
		stop()
		f.branch.push(broken("web"))
		for range 2 {
			f.engine = f.newEngine()
			s := statusOf(t, f.converge(), "api")
			assert.Equal(t, reconciler.StateHeld, s.State)
			assert.True(t, s.Final)
			assert.Contains(t, s.Hint, "repair the releases that it waits for")
		}
		f.ready(f.sharedBy("web"))
		require.True(t, f.sharedAt("web", "api", uid))
	})
	t.Run("into a release that is paused and does not render", func(t *testing.T) {
		paused := broken("api")
		paused["components/api/component.yaml"] += "paused: true\n"
		s := statusOf(t, f.apply(paused), "web")
		assert.Contains(t, s.Message, "ConfigMap/shared may have moved to release api (does not render and is paused by components/api/component.yaml)")
		f.ready(f.sharedBy("api"))
		require.True(t, f.sharedAt("api", "web", uid))
	})
	t.Run("but not for ever, if it goes nowhere", func(t *testing.T) {
		f.apply(broken("web"))
		f.ready(two(f.namespace))
		assert.Nil(t, f.get("ConfigMap", "shared"))
	})
}

func TestApplyOfOneReleaseDeletesNothingOfAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.sharedBy("api"))
	uid := f.get("ConfigMap", "shared").GetUID()
	f.branch.push(f.sharedBy("web"))
	f.engine = f.newEngine()
	s := statusOf(t, f.converge("api"), "api")
	assert.Equal(t, reconciler.StateHeld, s.State)
	assert.True(t, s.Final, "this run cannot do it")
	assert.Contains(t, s.Message, "ConfigMap/shared goes over to release web, which is not part of this run")
	assert.Equal(t, "apply both releases in one run", s.Hint)
	require.NotNil(t, f.get("ConfigMap", "shared"))
	f.engine = f.newEngine()
	f.converge("api", "web")
	require.True(t, f.sharedAt("web", "api", uid))

	f.branch.push(two(f.namespace))
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.converge("web")
	assert.Nil(t, f.get("ConfigMap", "shared"), "what nobody declares is deleted")
	assert.Equal(t, 1, l.count("DELETE "))
}

// A commit that moves an object between two releases comes in while the passes over
// the commit before are under way: before their first request, their second, and so
// on, in both directions.
func TestMoveIntoRunningPass(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	looks := observed{f.branch, make(chan struct{})}
	stop, l := &interruption{}, &line{}
	l.instead = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.URL.Query().Get("watch") == "" {
			if err := (&writes{at: stop.before}).note(r); err != nil {
				return nil, err
			}
		}
		return next.RoundTrip(r)
	}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Source = l.config(c.REST), looks })
	content := func(component string, n int) files {
		c := f.sharedBy(component)
		for _, name := range []string{"api", "web"} {
			c["environments/production/"+name+"/route.yaml"] += fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s-count}\ndata: {n: \"%d\"}\n", name, n)
		}
		return c
	}
	at := func(release, other string, n int) bool {
		live := f.get("ConfigMap", "shared")
		to, from := f.release(release), f.release(other)
		counted := true
		for _, name := range []string{"api-count", "web-count"} {
			o := f.get("ConfigMap", name)
			counted = counted && o != nil && o.Object["data"].(map[string]any)["n"] == fmt.Sprint(n)
		}
		return counted && live != nil && live.GetLabels()[v1alpha1.LabelRelease] == release && to.Ready() && from.Ready() &&
			len(to.Status.Inventory.Entries) == 6 && len(from.Status.Inventory.Entries) == 5
	}
	f.branch.push(content("api", 0))
	f.run()
	f.eventually("it is there", func() bool { return f.release("api") != nil && f.release("web") != nil && at("api", "web", 0) })
	uid := f.get("ConfigMap", "shared").GetUID()
	from, to := "api", "web"
	interrupted := 0
	for n := 1; n <= 8; n++ {
		stop.arm(n, func() {
			f.branch.push(content(to, 2*n))
			for range 3 { // one may have begun before the push, and one ends with the next
				select {
				case <-looks.looks:
				case <-time.After(3 * time.Second): // the request is one that the looks themselves wait for
				}
			}
		})
		f.branch.push(content(from, 2*n-1))
		moved := false
		f.eventually(fmt.Sprintf("either commit is applied (request %d)", n), func() bool {
			moved = at(to, from, 2*n)
			return moved || at(from, to, 2*n-1)
		})
		if fired, _, _ := stop.disarm(); !fired {
			break
		}
		f.eventually(fmt.Sprintf("it has moved (request %d)", n), func() bool { return at(to, from, 2*n) })
		assert.Equal(t, uid, f.get("ConfigMap", "shared").GetUID(), "request %d", n)
		interrupted++
		from, to = to, from
	}
	assert.GreaterOrEqual(t, interrupted, 4)
	assert.Zero(t, l.count("DELETE "))
}
