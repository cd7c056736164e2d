package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/reconciler"
)

// meter counts what an engine sends and does. At most one thing is awaited at a
// time, by patched, and readiness by ready.
type meter struct {
	mu       sync.Mutex
	requests int             // but watches
	patches  int             // of objects
	rendered map[string]bool // releases whose overlay was read, with the commit
	last     time.Time       // when something was sent

	path    string // part of the paths of patches that are awaited
	missing int
	reached chan struct{}

	unready int
	from    string // the first one that counts
	seen    map[string]bool
	ready   chan struct{}

	gate *gate // nil, or what requests have to pass

	sample string // the end of a path: what was sent to it last is kept
	sent   []byte
}

// config is a client's configuration whose requests are counted.
func (m *meter) config(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			leave, err := m.pass(r)
			if err != nil {
				return nil, err
			}
			defer leave()
			if err := m.keep(r); err != nil {
				return nil, err
			}
			response, err := next.RoundTrip(r)
			m.count(r, err == nil && response.StatusCode < 300)
			return response, err
		})
	})
	return c
}

// pass has a request wait for the gate. Watches are not stopped.
func (m *meter) pass(r *http.Request) (leave func(), err error) {
	if m.gate == nil || r.URL.Query().Get("watch") != "" {
		return func() {}, nil
	}
	return m.gate.leave, m.gate.pass(r.Context())
}

// keep keeps a patch that is asked for.
func (m *meter) keep(r *http.Request) error {
	if m.sample == "" || r.Method != http.MethodPatch || !strings.HasSuffix(r.URL.Path, m.sample) {
		return nil
	}
	body, err := r.GetBody()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = data
	return err
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (m *meter) count(r *http.Request, ok bool) {
	if r.URL.Query().Get("watch") != "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	m.last = time.Now()
	if !ok || r.Method != http.MethodPatch || strings.Contains(r.URL.Path, "/releases/") {
		return
	}
	m.patches++
	if m.missing == 0 || !strings.Contains(r.URL.Path, m.path) {
		return
	}
	if m.missing--; m.missing == 0 {
		close(m.reached)
	}
}

// patched is closed when so many objects have been patched whose path has this part.
func (m *meter) patched(path string, n int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.path, m.missing, m.reached = path, max(n, 0), make(chan struct{})
	if m.missing == 0 {
		close(m.reached)
	}
	return m.reached
}

// allReady is closed when so many releases have been reported as ready, of those
// whose names are not before the given one.
func (m *meter) allReady(from string, n int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unready, m.from, m.seen, m.ready = n, from, map[string]bool{}, make(chan struct{})
	return m.ready
}

// Report takes the statuses of releases.
func (m *meter) Report(_ context.Context, s reconciler.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unready == 0 || s.State != reconciler.StateReady || s.Release < m.from || m.seen[s.Release] {
		return
	}
	m.seen[s.Release] = true
	if m.unready--; m.unready == 0 {
		close(m.ready)
	}
}

// read is told of a file of a commit that is read. A release that is rendered has its
// overlay read, once or more often; one that is not, has not.
func (m *meter) read(rev, name string) {
	if !strings.HasPrefix(name, "environments/production/") || !strings.HasSuffix(name, "/kustomization.yaml") {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rendered == nil {
		m.rendered = map[string]bool{}
	}
	m.rendered[rev+" "+name] = true
}

// reset begins to count anew.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests, m.rendered, m.last = 0, nil, time.Now()
}

func (m *meter) counts() (requests, renders int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests, len(m.rendered)
}

// objects is how many objects have been patched.
func (m *meter) objects() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.patches
}

// settle waits until nothing has been sent for a while.
func (m *meter) settle(ctx context.Context, quiet time.Duration) error {
	for {
		m.mu.Lock()
		left := quiet - time.Since(m.last)
		m.mu.Unlock()
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, left); err != nil {
			return err
		}
	}
}

// sleep waits unless the run ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// await waits for what a channel's end tells.
func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
