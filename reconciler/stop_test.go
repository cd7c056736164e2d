package reconciler_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// gate is a place on the line where requests wait until it is opened.
type gate struct {
	holds   func(*http.Request) bool
	arrived chan string // paths
	opened  chan struct{}
}

func newGate(holds func(*http.Request) bool) *gate {
	return &gate{holds: holds, arrived: make(chan string, 100), opened: make(chan struct{})}
}

func (g *gate) pass(r *http.Request, next http.RoundTripper) (*http.Response, error) {
	if g.holds(r) {
		g.arrived <- r.URL.Path
		select {
		case <-g.opened:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return next.RoundTrip(r)
}

// appliesDeployments are the writes of Deployments.
func appliesDeployments(r *http.Request) bool {
	return r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/deployments/")
}

func TestAskedToStopItEndsThePassThatRuns(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		t.Run(map[bool]string{false: "with all that it writes", true: "unless it is cut off"}[cut], func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			g := newGate(appliesDeployments)
			l := &line{instead: g.pass}
			f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Concurrency = l.config(f.config), 1 })
			f.branch.push(two(f.namespace))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stop, ended := make(chan struct{}), make(chan error, 1)
			go func() { ended <- f.engine.Run(ctx, reconciler.RunOptions{Stop: stop}) }()
			require.Contains(t, <-g.arrived, "/deployments/api", "the first release's write is on its way")

			close(stop)
			if cut {
				cancel()
				require.NoError(t, <-ended)
				assert.Nil(t, f.get("Deployment", "api"))
				return
			}
			assert.Empty(t, ended, "it waits for the write")
			close(g.opened)
			require.NoError(t, <-ended)
			require.NotNil(t, f.get("Deployment", "api"), "the write has arrived")
			known, err := inventory.FromRelease(f.release("api"))
			require.NoError(t, err)
			assert.Contains(t, known, inventory.ID{Namespace: f.namespace, Name: "api", Group: "apps", Kind: "Deployment"}, "and is known")
			assert.Empty(t, f.ownedBy("web"), "no other pass has begun")
			assert.False(t, f.engine.Vitals().Running)
		})
	}
}

// TestConcurrencyIsKept: with as many passes as may run all held at a write, the
// other releases are still in the queue.
func TestConcurrencyIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g := newGate(appliesDeployments)
	l := &line{instead: g.pass}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Concurrency = l.config(f.config), 2 })
	content, names := files{}, []string{"api", "bee", "cow", "dog", "elk"}
	for _, name := range names {
		for file, text := range project(f.namespace) {
			file = strings.ReplaceAll(strings.ReplaceAll(file, "components/api/", "components/"+name+"/"), "/api/", "/"+name+"/")
			content[file] = strings.NewReplacer("name: api", "name: "+name, "instance: api", "instance: "+name, "shop/api", "shop/"+name,
				"components/api", "components/"+name, "api-", name+"-").Replace(text)
		}
	}
	f.branch.push(content)
	f.run()
	for range 2 {
		<-g.arrived
	}
	vitals := f.engine.Vitals()
	assert.Len(t, vitals.Passes, 2)
	assert.Empty(t, g.arrived)
	assert.GreaterOrEqual(t, vitals.Waiting, len(names)-2, "those that run may be due again already")

	var most int
	var mu sync.Mutex
	l.mu.Lock()
	l.instead = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		mu.Lock()
		most = max(most, len(f.engine.Vitals().Passes))
		mu.Unlock()
		return next.RoundTrip(r)
	}
	l.mu.Unlock()
	close(g.opened)
	for _, name := range names {
		f.eventually(name+" is ready", func() bool { r := f.release(name); return r != nil && r.Ready() })
	}
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, 2, most)
}

func TestVitalsOfARunningEngine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.branch.push(project(f.namespace))
	require.NotEmpty(t, f.engine.Vitals().Ready()[0].Problem, "nothing runs yet")
	f.run()
	f.eventually("it is ready", func() bool {
		for _, c := range f.engine.Vitals().Ready() {
			if c.Problem != "" {
				return false
			}
		}
		return true
	})
	assert.Equal(t, []reconciler.Intake{{Environment: "production", Revision: revision(2)}}, f.engine.Vitals().Environments)
	f.branch.push(project("elsewhere"))
	f.eventually("the environment says why it is left as it is", func() bool {
		return strings.Contains(f.engine.Vitals().Environments[0].Problem, "sluice.yaml names namespace")
	})
	f.eventually("nothing else is wrong once its watches are in step", func() bool {
		return !slices.ContainsFunc(append(f.engine.Vitals().Ready(), f.engine.Vitals().Alive()...), func(c reconciler.Check) bool { return c.Problem != "" })
	})
}
