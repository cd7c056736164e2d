package reconciler_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/render"
)

// crowdReady reports whether a crowd is, but for some.
func (f *fixture) crowdReady(n int, but ...string) func() bool {
	return func() bool {
		for i := range n {
			name := fmt.Sprintf("c%02d", i)
			if rel := f.release(name); strings.Contains(fmt.Sprint(but), name) != (rel == nil || !rel.Ready()) {
				return false
			}
		}
		return true
	}
}

// While the one pass that there may be waits for an answer, releases are rendered whose
// turn is still to come. Each is rendered once.
func TestABulkChangeIsRenderedAheadOfItsPasses(t *testing.T) {
	t.Parallel()
	const n = 30
	f, l := newFixture(t), &line{}
	answer := make(chan struct{})
	l.instead = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodPost {
			<-answer
		}
		return next.RoundTrip(r)
	}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Concurrency = l.config(f.config), 1 })
	f.branch.push(crowd(f.namespace, n))
	f.run()
	open := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(open)
	f.eventually("another than that of the pass is rendered", func() bool { return f.engine.Renders() > 1 })
	open()
	f.eventually("all are ready", f.crowdReady(n))
	assert.Equal(t, int64(n), f.engine.Renders())
}

// A file that nobody can open for a while, and one that has the library panic, are
// what their own releases wait for and nobody else.
func TestWhatIsRenderedAheadBlocksNobody(t *testing.T) {
	t.Parallel()
	const n = 30
	f := newFixture(t)
	reached, opened := make(chan struct{}), make(chan struct{})
	reach, open := sync.OnceFunc(func() { close(reached) }), sync.OnceFunc(func() { close(opened) })
	f.engine = f.newEngine(func(c *reconciler.Config) {
		c.Concurrency = 2
		c.Decrypt = map[string]render.Decrypt{"production": func(path string, data []byte) (render.Decrypted, error) {
			switch path {
			case "environments/production/c02/own.yaml":
				panic("a library's")
			case "environments/production/c03/own.yaml":
				reach()
				<-opened
			}
			return render.Decrypted{Data: data}, nil
		}}
	})
	changes := files{}
	for _, name := range []string{"c02", "c03"} {
		changes["environments/production/"+name+"/own.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "-own}\n"
		changes["environments/production/"+name+"/kustomization.yaml"] = kustomization("namespace: "+f.namespace, "resources: [own.yaml]")
	}
	f.branch.push(crowd(f.namespace, n).with(changes))
	f.run()
	t.Cleanup(open)
	f.eventually("c03 is being rendered", func() bool {
		select {
		case <-reached:
			return true
		default:
			return false
		}
	})
	f.eventually("all others are ready", f.crowdReady(n, "c02", "c03"))
	f.eventually("what panics is told of its release", func() bool {
		rel := f.release("c02")
		return rel != nil && strings.Contains(rel.Condition(v1alpha1.ConditionReady).Message, "panic")
	})
	open()
	f.eventually("c03 is ready, too", f.crowdReady(n, "c02"))
}

// The environment's own release keeps all others waiting. They come in the order in which
// they are rendered, so that nothing is rendered in vain.
func TestReleasesThatWereParkedAreRenderedOnce(t *testing.T) {
	t.Parallel()
	const n = 150
	f := newFixture(t)
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Concurrency = 2 })
	f.branch.push(crowd(f.namespace, n).with(files{
		"environments/production/kustomization.yaml": kustomization("namespace: "+f.namespace, "resources: [own.yaml]"),
		"environments/production/own.yaml":           "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\n",
	}))
	f.run()
	f.eventually("all are ready", f.crowdReady(n))
	assert.Equal(t, int64(n+1), f.engine.Renders())
}
