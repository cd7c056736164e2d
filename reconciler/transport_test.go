package reconciler_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

// line is a transport between an engine and the API server that tests listen to
// and cut.
type line struct {
	mu       sync.Mutex
	requests []string // "GET /api/…", watches left out
	writes   int
	cutAt    int    // the write that is the last; 0: never
	lose     bool   // the last write arrives, but its answer does not
	cut      bool   // nothing gets through any more
	onCut    func() // called once
	instead  func(*http.Request, http.RoundTripper) (*http.Response, error)
}

var errCut = errors.New("the line is cut")

// config is the configuration of a client at the near end.
func (l *line) config(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) { return l.send(next, r) })
	})
	return c
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (l *line) send(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	watch := r.URL.Query().Get("watch") != ""
	if !watch {
		l.requests = append(l.requests, r.Method+" "+r.URL.Path)
	}
	last := false
	if r.Method != http.MethodGet && !l.cut {
		l.writes++
		last = l.writes == l.cutAt
	}
	lost := last && l.lose
	l.cut = l.cut || last
	cut, instead := l.cut && !lost, l.instead
	onCut := l.onCut
	l.mu.Unlock()
	if last && onCut != nil {
		defer onCut()
	}
	if cut {
		return nil, errCut
	}
	if instead != nil {
		return instead(r, next)
	}
	response, err := next.RoundTrip(r)
	if lost && err == nil {
		_ = response.Body.Close()
		return nil, errCut
	}
	return response, err
}

// quiet forgets what was sent until now.
func (l *line) quiet() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = nil
}

// calm waits until doing something again and again has sent nothing for some
// rounds in a row: events of what was done before may come in late, but who sends
// because of it does so every time.
func (f *fixture) calm(what string, l *line, do func()) {
	f.t.Helper()
	before, rounds := -1, 0
	f.eventually(what, func() bool {
		do()
		sent := len(l.sent())
		rounds++
		if sent != before {
			before, rounds = sent, 0
		}
		return rounds == 6
	})
}

// sent are the requests since then, without renewals of watches.
func (l *line) sent() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.requests...)
}

func (l *line) count(prefix string) int {
	n := 0
	for _, r := range l.sent() {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}
