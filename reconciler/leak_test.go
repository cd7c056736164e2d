package reconciler_test

import (
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
)

// The tests of this file look at the whole process, so nothing may run beside them.

// An engine that is run and stopped again and again, as a leader election does,
// leaves no goroutine behind: neither worker nor watch.
func TestStoppedRunsLeaveNothingBehind(t *testing.T) {
	f := newFixture(t)
	p := f.behind()
	f.branch.push(two(f.namespace))
	run := func(n int) {
		p.Quiet()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- f.engine.Run(ctx, reconciler.RunOptions{Notify: f.branch.notify}) }()
		value := fmt.Sprintf("run-%d", n)
		f.branch.push(two(f.namespace).with(files{"environments/production/web/config.yaml": renamed(config(value))}))
		f.eventually("it works", func() bool { return f.get("ConfigMap", "web-"+value) != nil })
		cancel()
		require.NoError(t, <-done)
	}
	for n := range 3 { // connections, caches of the client
		run(n)
	}
	before := runtime.NumGoroutine()
	for n := range 15 {
		run(3 + n)
	}
	assert.Eventually(t, func() bool { return runtime.NumGoroutine() < before+15 }, patience, tick,
		"15 runs leave more than 15 goroutines behind: %d were %d", runtime.NumGoroutine(), before)
}

// scroll is a branch that has another commit whenever somebody looks, and keeps
// the last one only.
type scroll struct {
	mu      sync.Mutex
	content func(n int) files
	n, last int
	fsys    fs.FS
	notify  chan struct{}
}

func (s *scroll) Fetch(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n < s.last {
		s.n++
		m := fstest.MapFS{}
		for name, content := range s.content(s.n) {
			m[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
		}
		s.fsys = m
		select {
		case s.notify <- struct{}{}:
		default:
		}
	}
	return revision(s.n), nil
}

func (s *scroll) Snapshot(string) (fs.FS, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fsys, nil
}

// until has the branch grow to so many commits.
func (s *scroll) until(n int) {
	s.mu.Lock()
	s.last = n
	s.mu.Unlock()
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

// Memory grows with what is held, not with history.
func TestManyCommitsAreNotKept(t *testing.T) {
	f := newFixture(t)
	const step = 25 // every 25th commit changes something
	source := &scroll{notify: make(chan struct{}, 1), content: func(n int) files {
		return two(f.namespace).with(files{
			"README.md": fmt.Sprint(n),
			"environments/production/web/config.yaml": renamed(config(fmt.Sprintf("v-%d", n/step))),
		})
	}}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Source = source })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.engine.Run(ctx, reconciler.RunOptions{Notify: source.notify}) }()
	heap := func(commits int) uint64 {
		source.until(commits)
		f.eventually(fmt.Sprintf("%d commits are taken in", commits), func() bool {
			return f.get("ConfigMap", fmt.Sprintf("web-v-%d", commits/step)) != nil && f.release("web").Ready()
		})
		runtime.GC()
		runtime.GC() // what the first one's finalizers let go
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap(100)
	after := heap(1100)
	cancel()
	require.NoError(t, <-done)
	t.Logf("%d KiB after 100 commits, %d KiB after 1,100", before>>10, after>>10)
	// A kilobyte a commit: less than the files of one.
	assert.Less(t, int64(after)-int64(before), int64(1000<<10), "1,000 commits are kept in memory")
}
