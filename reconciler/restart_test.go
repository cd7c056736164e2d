package reconciler_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/reconciler"
)

// firstTold collects the first status of each release.
type firstTold struct {
	mu    sync.Mutex
	first map[string]reconciler.Status
}

func (o *firstTold) Report(_ context.Context, s reconciler.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.first[s.Release]; !known {
		o.first[s.Release] = s
	}
}

func (o *firstTold) of(release string) reconciler.Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.first[release]
}

// restart runs another engine, and waits until it has passed over both releases.
// What it sends goes over l.
func (f *fixture) restart(l *line, o reconciler.RunOptions) (stop func()) {
	f.t.Helper()
	seen := &firstTold{first: map[string]reconciler.Status{}}
	e := f.newEngine(func(c *reconciler.Config) { c.REST, c.Reporter = l.config(f.config), seen })
	asked, ended := make(chan struct{}), make(chan error, 1)
	o.Stop, o.Notify, o.PollInterval = asked, f.branch.notify, time.Minute
	go func() { ended <- e.Run(context.Background(), o) }()
	stop = sync.OnceFunc(func() {
		close(asked)
		require.NoError(f.t, <-ended)
	})
	f.t.Cleanup(stop)
	f.eventually("both were passed over", func() bool {
		return seen.of("api").State != "" && seen.of("web").State != ""
	})
	return stop
}

// writes are the requests that were no reads.
func (l *line) written() []string {
	return slices.DeleteFunc(l.sent(), func(r string) bool { return strings.HasPrefix(r, http.MethodGet) })
}

func TestARestartAppliesNothingThatIsAsItWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := two(f.namespace).with(files{
		"components/api/hpa.yaml":           autoscaler,
		"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml, hpa.yaml]"),
	})
	f.branch.push(content)
	stop := f.run()
	f.eventually("all is as declared", func() bool {
		api, web := f.release("api"), f.release("web")
		return api != nil && web != nil && api.Status.LastAppliedState != "" && web.Status.LastAppliedState != ""
	})
	stop()

	t.Run("unchanged", func(t *testing.T) {
		l := &line{}
		stop := f.restart(l, reconciler.RunOptions{})
		stop()
		assert.Empty(t, l.written())
		t.Logf("%d reads for 9 objects of 2 releases", len(l.sent()))
	})
	t.Run("changed while nobody was there", func(t *testing.T) {
		live := f.get("ConfigMap", "api-one")
		require.NoError(t, unstructured.SetNestedField(live.Object, "planted", "data", "value"))
		require.NoError(t, f.api.Update(context.Background(), live, client.FieldOwner("somebody")))
		l := &line{}
		stop := f.restart(l, reconciler.RunOptions{})
		f.eventually("it is put right", func() bool {
			value, _, _ := unstructured.NestedString(f.get("ConfigMap", "api-one").Object, "data", "value")
			return value == "one"
		})
		stop()
		for _, r := range l.written() {
			assert.NotRegexp(t, `/web`, r, "the other release is left alone")
		}
	})
	t.Run("and then is found so again", func(t *testing.T) {
		l := &line{}
		stop := f.restart(l, reconciler.RunOptions{})
		stop()
		assert.Empty(t, l.written())
	})
	t.Run("is verified after a while all the same", func(t *testing.T) {
		l := &line{}
		stop := f.restart(l, reconciler.RunOptions{Resync: time.Second})
		f.eventually("each object is applied", func() bool {
			applied := map[string]bool{}
			for _, r := range l.written() {
				applied[r[strings.LastIndex(r, "/namespaces/"):]] = true
			}
			return len(applied) == 9
		})
		stop()
	})
	t.Run("and a command applies always", func(t *testing.T) {
		l := &line{}
		f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
		report := f.converge()
		assert.True(t, report.OK())
		assert.Equal(t, 9, l.count("PATCH "))
	})
}
