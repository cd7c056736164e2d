//go:build e2e && linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// perSecond and workers bound the load, most its whole.
	perSecond = 800
	workers   = 16
	most      = 200_000

	answerTimeout = 10 * time.Second
)

// answer is what became of a request.
type answer struct {
	sent, ended time.Time
	tag, digest string
	pod         string
	ready       int    // pods of the deployment that were ready, as the one that answered knew
	lost        string // "" for a good answer of the right component
}

// load is a constant stream of requests to one component, each by one of several
// connections to the gateway. They are POSTs: what a proxy may not repeat of its
// own accord cannot hide a loss.
type load struct {
	component string
	gateway   string // its address
	client    *http.Client
	sending   sync.WaitGroup
	ending    chan struct{}
	end       sync.Once
	ids       atomic.Int64

	mu      sync.Mutex
	answers []answer // in the order in which they ended
}

// startLoad sends requests until the test ends, or stop is called. It begins when
// the component is reached.
func startLoad(t *testing.T, component string) *load {
	t.Helper()
	return startLoadAt(t, gatewayAddress, component)
}

func startLoadAt(t *testing.T, gateway, component string) *load {
	t.Helper()
	l := &load{
		component: component, gateway: gateway, ending: make(chan struct{}),
		client: &http.Client{
			Timeout:       answerTimeout,
			Transport:     &http.Transport{MaxIdleConnsPerHost: workers, DialContext: (&net.Dialer{Timeout: answerTimeout}).DialContext},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	reached := 0
	require.True(t, within(patience, func() bool {
		if reached++; l.ask(0).lost != "" {
			reached = 0
		}
		return reached == 10
	}), "%s is not reached: %s", component, l.ask(0).lost)
	for n := range workers {
		l.sending.Go(func() { l.send(n) })
	}
	t.Cleanup(func() { l.stop() })
	return l
}

// send is one worker: at its own times, and later while an answer takes longer.
func (l *load) send(worker int) {
	const interval = time.Second * workers / perSecond
	next := time.Now().Add(interval * time.Duration(worker) / workers)
	for {
		select {
		case <-l.ending:
			return
		case <-time.After(time.Until(next)):
		}
		id := l.ids.Add(1)
		if id > most {
			return
		}
		a := l.ask(id)
		l.mu.Lock()
		l.answers = append(l.answers, a)
		l.mu.Unlock()
		if next = next.Add(interval); time.Until(next) < -time.Second {
			next = time.Now() // what could not be sent in time is not made up for in a burst
		}
	}
}

func (l *load) ask(id int64) answer {
	a := answer{sent: time.Now()}
	request, err := http.NewRequest(http.MethodPost, "http://"+l.gateway+"/", strings.NewReader("x"))
	if err != nil {
		panic(err)
	}
	request.Host = l.component + ".store.example.com"
	request.Header.Set("Request-Id", strconv.FormatInt(id, 10))
	response, err := l.client.Do(request)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		err = errors.Join(err, response.Body.Close())
	}
	a.ended = time.Now()
	switch {
	case err != nil:
		a.lost = err.Error()
	case response.StatusCode != http.StatusOK:
		a.lost = response.Status
	case response.Header.Get("Component") != l.component:
		a.lost = "answered by " + response.Header.Get("Pod")
	default:
		h := response.Header
		a.tag, a.digest, a.pod = h.Get("Tag"), h.Get("Digest"), h.Get("Pod")
		a.ready, _ = strconv.Atoi(h.Get("Ready"))
	}
	return a
}

// stop ends the load and returns every answer.
func (l *load) stop() []answer {
	l.end.Do(func() { close(l.ending) })
	l.sending.Wait()
	l.client.CloseIdleConnections()
	return l.answers
}

// count is how many requests have been answered.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answers)
}

// since are the answers to requests that were sent after a time, in the order in which
// they were sent.
func (l *load) since(at time.Time) (after []answer) {
	l.mu.Lock()
	all := l.answers[:len(l.answers):len(l.answers)] // what is in it never changes
	l.mu.Unlock()
	for _, a := range all {
		if a.sent.After(at) {
			after = append(after, a)
		}
	}
	slices.SortStableFunc(after, func(a, b answer) int { return a.sent.Compare(b.sent) })
	return after
}

// await returns when so many more requests have been answered.
func (l *load) await(t *testing.T, more int) {
	t.Helper()
	want := l.count() + more
	require.LessOrEqual(t, want, most, "the load ends before")
	require.True(t, within(6*time.Duration(more)*time.Second/perSecond+patience, func() bool { return l.count() >= want }),
		"%d of %d requests are answered", l.count(), want)
}

// enough returns when enough requests have been answered that were sent after a
// time.
func (l *load) enough(t *testing.T, since time.Time) {
	t.Helper()
	for {
		missing := Enough - len(l.since(since))
		if missing <= 0 {
			return
		}
		l.await(t, missing)
	}
}

// Sharing of requests among tags.
const (
	window    = 200 // requests that a split is read from while it changes
	tolerance = 3   // percent of the window
)

// changed finds when the split became what weights say, after a time: when the
// first request was sent of the first window that shows it. A tag without weight
// has no request in it, and none in it is lost.
func (l *load) changed(after time.Time, weights map[string]int) (time.Time, bool) {
	answers, counts, lost := l.since(after), map[string]int{}, 0
	count := func(a answer, by int) {
		if a.lost == "" {
			counts[a.tag] += by
		} else {
			lost += by
		}
	}
	for i, a := range answers {
		count(a, 1)
		if i >= window {
			count(answers[i-window], -1)
		}
		if i >= window-1 && lost == 0 && shows(counts, weights) {
			return answers[i-window+1].sent, true
		}
	}
	return time.Time{}, false
}

// shows reports whether a window has the split that weights say.
func shows(counts, weights map[string]int) bool {
	for tag, n := range counts {
		if weights[tag] == 0 && n > 0 {
			return false
		}
	}
	for tag, weight := range weights {
		if off := counts[tag]*100 - weight*window; off > tolerance*window || off < -tolerance*window {
			return false
		}
	}
	return true
}

func countTags(answers []answer) map[string]int {
	counts := map[string]int{}
	for _, a := range answers {
		if a.lost == "" {
			counts[a.tag]++
		}
	}
	return counts
}

// awaitChange waits until the split is what weights say and returns how long
// after a time that was.
func (l *load) awaitChange(t *testing.T, after time.Time, weights map[string]int) time.Duration {
	t.Helper()
	var at time.Time
	require.True(t, within(patience, func() (ok bool) {
		at, ok = l.changed(after, weights)
		return ok
	}), "the split never became %v", weights)
	return at.Sub(after)
}

// losses tells the requests that were lost: how many, and the first of each kind
// with its time since the first request.
func losses(answers []answer) (n int, text string) {
	first := map[string]time.Time{}
	count := map[string]int{}
	for _, a := range answers {
		if a.lost == "" {
			continue
		}
		n++
		if count[a.lost]++; count[a.lost] == 1 {
			first[a.lost] = a.sent
		}
	}
	var lines []string
	for what, at := range first {
		lines = append(lines, fmt.Sprintf("%d × %s, first sent at %s", count[what], what, at.Format("15:04:05.000")))
	}
	return n, strings.Join(lines, "\n")
}
