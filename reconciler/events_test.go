package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/events"
)

// recording has an engine write Events, and tells what it reports as well.
func (f *fixture) recording() (said chan reconciler.Status) {
	f.t.Helper()
	recorder := f.recorder()
	said = make(chan reconciler.Status, 1000)
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Reporter = both{recorder, said} })
	return said
}

// recorder is one that runs until the test ends.
func (f *fixture) recorder() *events.Recorder {
	f.t.Helper()
	r, err := events.New(f.config, "pod-1", logr.Discard())
	require.NoError(f.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	f.t.Cleanup(func() { cancel(); <-ended })
	return r
}

// both is a Recorder and a listener.
type both struct {
	*events.Recorder
	said chan reconciler.Status
}

func (b both) Report(ctx context.Context, s reconciler.Status) {
	b.Recorder.Report(ctx, s)
	b.said <- s
}

// told are the Events of the namespace about Releases: release, type, reason and how
// often.
func (f *fixture) told() (told []string) {
	for _, e := range f.events() {
		n := int32(1)
		if e.Series != nil {
			n = e.Series.Count
		}
		told = append(told, fmt.Sprintf("%s %s %s ×%d", e.Regarding.Name, e.Type, e.Reason, n))
	}
	slices.Sort(told)
	return told
}

func (f *fixture) events() (ours []eventsv1.Event) {
	f.t.Helper()
	var list eventsv1.EventList
	require.NoError(f.t, f.api.List(context.Background(), &list, client.InNamespace(f.namespace)))
	for _, e := range list.Items {
		if e.Regarding.Kind == "Release" {
			ours = append(ours, e)
		}
	}
	return ours
}

// tells waits until exactly these Events are there.
func (f *fixture) tells(what string, want ...string) {
	f.t.Helper()
	slices.Sort(want)
	var last []string
	if !assert.Eventually(f.t, func() bool { last = f.told(); return slices.Equal(last, want) }, patience, tick) {
		require.Equal(f.t, want, last, what)
	}
}

func TestEventsTellOfChangesOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.recording()
	stop := f.run()
	want := []string{"api Normal Ready ×1"}
	f.tells("ready", want...)

	broken := project(f.namespace).with(files{"environments/production/api/route.yaml": "no: object\n"})
	f.branch.push(broken)
	want = append(want, "api Warning RenderFailed ×1")
	f.tells("failed", want...)

	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	want = []string{"api Normal Ready ×2", "api Normal Pruned ×1", "api Warning RenderFailed ×1"} // the revisions of these tests begin alike
	f.tells("mended, and an object deleted", want...)

	f.branch.refuse(&reconciler.CommitRefusedError{Revision: revision(4), Keep: revision(3), Err: errors.New("it is not signed")})
	f.branch.push(broken)
	want = append(want, "api Warning CommitRefused ×1")
	f.tells("a commit is refused", want...)
	for range 3 {
		f.branch.notify <- struct{}{} // taken when the look before has ended
	}

	stop()
	f.branch.refuse(nil)
	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	said := f.recording()
	stop = f.run()
	for s := range said {
		if s.State == reconciler.StateReady {
			break
		}
	}
	stop()
	f.tells("a restart is no news", want...)

	for _, e := range f.events() {
		assert.Equal(t, f.release("api").UID, e.Regarding.UID)
		assert.Equal(t, "pod-1", e.ReportingInstance)
		if e.Reason == "Pruned" {
			assert.Contains(t, e.Note, "ConfigMap/api-one")
		}
	}
}

func TestEventsAreBoundedAndCounted(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t, namespace: testcluster.Namespace(t), config: testcluster.Start(t)}
	f.api = newFixtureOn(t, f.config, f.namespace).api
	say := func(r *events.Recorder, release, message string) {
		r.Report(t.Context(), reconciler.Status{
			Environment: "production", Namespace: f.namespace, Release: release, UID: types.UID("uid-" + release),
			State: reconciler.StateHeld, Reason: "Contested", Message: message, News: true,
		})
	}
	first := f.recorder()
	say(first, "web", "kubectl-edit keeps changing Service/web")
	say(first, "web", "kubectl-edit keeps changing Service/web")
	f.tells("what is said again is counted", "web Warning Contested ×2")
	say(f.recorder(), "web", "kubectl-edit keeps changing Service/web")
	f.tells("by a controller that has restarted, too", "web Warning Contested ×3")

	flood := f.recorder()
	for n := range 100 {
		say(flood, "api", fmt.Sprint(n, strings.Repeat("é", 2000)))
	}
	say(flood, "cart", "the last")
	f.eventually("a flood of one release keeps no other from being heard", func() bool {
		return slices.Contains(f.told(), "cart Warning Contested ×1")
	})
	assert.Len(t, f.told(), 1+10+1)
}
