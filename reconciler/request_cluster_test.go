package reconciler_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// ask asks for a look as `sluice reconcile` does.
func (f *fixture) ask(release, value string) {
	f.t.Helper()
	r := &v1alpha1.Release{}
	r.Name, r.Namespace = release, f.namespace
	patch := []byte(`{"metadata":{"annotations":{"` + v1alpha1.AnnotationReconcile + `":"` + value + `"}}}`)
	require.NoError(f.t, f.api.Patch(context.Background(), r, client.RawPatch(types.MergePatchType, patch)))
}

// answered waits for the report that answers, and returns it.
func (f *fixture) answered(release, value string) (r *v1alpha1.Release) {
	f.t.Helper()
	f.eventually(release+" answers "+value, func() bool {
		r = f.release(release)
		return r.Status.LastHandledReconcileAt == value
	})
	return r
}

// breaks has looks fail from now on, or no longer.
func (b *branch) breaks(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func TestAReleaseIsReconciledNow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.engine.Run(ctx, reconciler.RunOptions{PollInterval: time.Hour}) }()
	t.Cleanup(func() { end(); require.NoError(t, <-ended) })
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })

	// The answer comes after the look: it is about the commit that nobody told of.
	rev := f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	f.ask("api", "2026-11-22T12:00:00Z")
	assert.Equal(t, rev, f.answered("api", "2026-11-22T12:00:00Z").Status.ObservedRevision)
	f.eventually("it is applied", func() bool { r := f.release("api"); return r.Ready() && r.Status.LastAppliedRevision == rev })

	// Where nothing is new it costs a look at the objects whose state matters, and the
	// report; it is no drift.
	f.calm("nothing is left to do", l, func() {})
	before := len(l.sent())
	f.ask("api", "again")
	r := f.answered("api", "again")
	assert.True(t, r.Ready())
	assert.Equal(t, "again", r.Annotations[v1alpha1.AnnotationReconcile])
	f.calm("nothing follows", l, func() {})
	var writes, reads []string
	for _, request := range l.sent()[before:] {
		if strings.HasPrefix(request, http.MethodGet) {
			reads = append(reads, request)
		} else {
			writes = append(writes, request)
		}
	}
	assert.Equal(t, []string{"PATCH /apis/sluice.dev/v1alpha1/namespaces/" + f.namespace + "/releases/api/status"}, writes)
	assert.LessOrEqual(t, len(reads), 3, "%s", reads)

	// A repository that cannot be read keeps nobody waiting, nor does a release that is paused.
	f.branch.breaks(assert.AnError)
	f.ask("api", "unreadable")
	f.answered("api", "unreadable")
	f.branch.breaks(nil)
	f.branch.push(project(f.namespace).paused())
	f.ask("api", "paused")
	assert.Equal(t, v1alpha1.ReasonPaused, f.answered("api", "paused").Condition(v1alpha1.ConditionReady).Reason)
}
