package reconciler

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// lookedAt tells of every look at it.
type lookedAt struct{ looks chan struct{} }

func (s lookedAt) Fetch(ctx context.Context) (string, error) {
	select {
	case s.looks <- struct{}{}:
	case <-ctx.Done():
	}
	return "c0ffee", nil
}

func (s lookedAt) Snapshot(string) (fs.FS, error) { panic("no environment is served") }

func TestLooksThatAreAskedForAreFew(t *testing.T) {
	t.Parallel()
	source, clock := lookedAt{make(chan struct{})}, clocktesting.NewFakeClock(time.Now())
	e := &Engine{cfg: Config{Source: source, Clock: clock, Observer: unobserved{}, Log: logr.Discard()}}
	l := &loop{engine: e, request: make(chan struct{}, 1), requests: map[Key]string{}}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		(&branch{engine: e, loop: l}).follow(ctx, RunOptions{PollInterval: time.Hour, Resync: time.Hour})
	}()
	defer func() { end(); <-ended }()
	<-source.looks
	l.request <- struct{}{}
	<-source.looks // the first at once
	l.request <- struct{}{}
	select {
	case <-source.looks:
		t.Fatal("the second is to wait")
	case <-time.After(20 * time.Millisecond):
	}
	clock.Step(requestPause)
	<-source.looks
	select {
	case <-source.looks:
		t.Fatal("nobody has asked for that")
	case <-time.After(20 * time.Millisecond):
	}
}

func TestRequestsAreTakenOnce(t *testing.T) {
	t.Parallel()
	key := Key{"production", "api"}
	r := newReleaseMemory(key)
	l := &loop{request: make(chan struct{}, 1), requests: map[Key]string{}}
	ask := func(value string) bool {
		return l.asked(key, r, &cluster.Metadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationReconcile: value}}})
	}
	for _, none := range []string{"", strings.Repeat("1", maxRequest+1), "a\nb", "ü"} {
		assert.False(t, ask(none), "%q", none)
		assert.Empty(t, l.taken(), "%q", none)
	}
	assert.True(t, ask("one"))
	assert.True(t, ask("two"))
	assert.Len(t, l.request, 1)
	assert.Equal(t, map[Key]string{key: "two"}, l.taken())
	assert.Empty(t, l.request, "the look that takes them answers them")
	assert.False(t, ask("two"), "a change of something else")
	assert.Empty(t, l.taken())

	assert.True(t, r.admit("two"))
	assert.Equal(t, "two", r.answering())
	r.replied("one")
	assert.Equal(t, "two", r.answering(), "one that came in meanwhile")
	r.replied("two")
	assert.Empty(t, r.answering())
	r.keepRelease(&v1alpha1.Release{Status: v1alpha1.ReleaseStatus{LastHandledReconcileAt: "two"}}, true)
	assert.False(t, r.admit("two"), "a former process has answered it")
	assert.Empty(t, r.answering())
}
