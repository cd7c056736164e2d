package reconciler_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
)

// interruption does something just before the nth request of an engine, counted
// from arm.
type interruption struct {
	mu     sync.Mutex
	left   int
	do     func()
	fired  bool
	within string   // the request that was next when it fired
	routes []string // bodies of what is written to the route from then on
}

func (i *interruption) arm(n int, do func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.left, i.do, i.fired, i.within, i.routes = n, do, false, "", nil
}

// disarm reports whether it has fired, within which request, and what the route
// was told after that.
func (i *interruption) disarm() (fired bool, within string, routes []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.left = 0
	return i.fired, i.within, i.routes
}

func (i *interruption) before(one write) {
	i.mu.Lock()
	if i.fired && one.what == "PATCH httproutes/api" {
		i.routes = append(i.routes, one.body)
	}
	fire := false
	if i.left > 0 {
		i.left--
		fire = i.left == 0
	}
	if fire {
		i.within = one.what
	}
	do := i.do
	i.mu.Unlock()
	if fire {
		do()
		i.mu.Lock()
		i.fired = true
		i.mu.Unlock()
	}
}

// TestCommitBetweenAnyTwoRequests pushes a commit while another one is being
// applied, before the first of its requests, the second, and so on, and has the
// engine take it in before it goes on. Whatever had been done until then, what is
// reached is the newer commit, and no step of the older one is begun any more.
func TestCommitBetweenAnyTwoRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := func(traffic, name string) files {
		c := f.bluegreen(traffic, "1", "2")
		return c.with(files{
			"sluice.yaml":                       strings.ReplaceAll(c["sluice.yaml"], "drain: 1s", "drain: 0s"),
			"components/api/config.yaml":        strings.ReplaceAll(config(name), "api-", "config-"),
			"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml, config.yaml]"),
		})
	}
	looks := observed{f.branch, make(chan struct{})}
	stop := &interruption{}
	f.engine = f.newEngine(func(c *reconciler.Config) {
		c.Source = looks
		l := &line{instead: func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.URL.Query().Get("watch") == "" {
				w := &writes{at: stop.before}
				if err := w.note(r); err != nil {
					return nil, err
				}
			}
			return next.RoundTrip(r)
		}}
		c.REST = l.config(c.REST)
	})
	f.branch.push(content("weights: {blue: 100, green: 0}", "c0"))
	f.run()
	reached := func(weights, name string) func() bool {
		return func() bool {
			r := f.release("api")
			return r != nil && r.Ready() && f.weights() == weights && f.get("ConfigMap", "config-"+name+"-blue") != nil && len(r.Status.Inventory.Entries) == 8
		}
	}
	f.eventually("the first commit is applied", reached("api-blue=100 api-green=0", "c0"))

	step := 1
	if testing.Short() {
		step = 7
	}
	for n := 1; ; n += step {
		require.Less(t, n, 100)
		older, newer := fmt.Sprintf("b%d", n), fmt.Sprintf("c%d", n)
		stop.arm(n, func() {
			f.branch.push(content("weights: {blue: 100, green: 0}", newer))
			for range 3 { // one may have begun before the push, and one ends with the next
				<-looks.looks
			}
		})
		f.branch.push(content("weights: {blue: 0, green: 100}", older))
		all := false
		f.eventually(fmt.Sprintf("either commit is applied (request %d)", n), func() bool {
			all = reached("api-blue=0 api-green=100", older)()
			return all || reached("api-blue=100 api-green=0", newer)()
		})
		fired, within, routes := stop.disarm()
		if all && !fired {
			t.Logf("a commit takes less than %d requests", n)
			break
		}
		f.eventually(fmt.Sprintf("the newer commit is applied (request %d, %s)", n, within), reached("api-blue=100 api-green=0", newer))
		assert.Nil(t, f.get("ConfigMap", "config-"+older+"-blue"))
		assert.Empty(t, f.orphans("api"), "request %d, %s", n, within)
		if within != "PATCH httproutes/api" && within != "PATCH services/api" { // in the middle of that step
			for _, body := range routes {
				assert.NotContains(t, body, "blue=0 green=100", "a route step of the older commit is begun after the newer has come in (request %d, %s)", n, within)
			}
		}
	}
}
