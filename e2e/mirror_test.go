//go:build e2e && linux

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMirror: a mirror copies its percentage of the requests, and nothing that
// becomes of a copy is noticed by who sent the request.
func TestMirror(t *testing.T) {
	w := shared
	const percent = 10
	production := map[string]int{"blue": 100}
	l := startLoad(t, "cart")
	l.awaitChange(t, w.traffic(t, "cart", "blue=100,green=0"), production)
	w.settled(t, "cart")
	requests := w.pods.observe("cart-green")
	w.traffic(t, "cart", "blue=100,green=0", "--mirror", fmt.Sprintf("green=%d", percent))
	require.True(t, within(patience, func() bool { return w.pods.asked("cart-green") > 0 }), "no request is copied")
	w.settled(t, "cart")
	requests()
	calm := w.mirrored(t, l, "every copy is answered", percent)

	for _, bad := range []struct {
		what string
		fault
	}{
		{"every copy is answered after 3 s", fault{delay: 3 * time.Second}},
		{"every copy is answered with 500", fault{status: 500}},
		{"the connection of every copy is reset", fault{hangUp: true}},
	} {
		w.pods.fail("cart-green", bad.fault)
		slowest := w.mirrored(t, l, bad.what, percent)
		assert.Less(t, slowest, calm+time.Second, "%s: production answers have become slow", bad.what)
	}
	w.pods.fail("cart-green", fault{})

	// The pod of the tag crashes: its Service has no endpoints any more. That is
	// measured at both gateways, each at rest, so that it takes the change in at once.
	strict := startLoadAt(t, strictAddress, "cart")
	strict.await(t, 5*perSecond)
	begin := time.Now()
	heal := w.pods.crash("cart-green")
	l.enough(t, begin)
	answers, after := l.since(begin), strict.since(time.Now().Add(-5*time.Second))
	heal()
	lost, text := losses(after)
	assert.Zero(t, lost, "the mirror to a tag that has crashed stays in the route: %s", text)
	w.lossless(t, "mirror 10 %, its tag crashes", answers, "the mirror is taken out of the route; 99 %% of the answers within %s", milliseconds(latency(answers, 99)))
	strict.stop()
	w.lossy(t, "the same crash, at a Traefik that does not take empty Services", strict.since(begin), "the whole IngressRoute is dropped until the mirror is taken out")
}

// mirrored measures what is copied of enough requests, and returns how long the
// slowest of a hundred production answers takes.
func (w *world) mirrored(t *testing.T, l *load, what string, percent int) time.Duration {
	t.Helper()
	time.Sleep(time.Second) // copies of what was sent before
	requests := w.pods.observe("cart-green")
	begin := time.Now()
	l.enough(t, begin)
	answers := l.since(begin)
	copies := 0
	for id, times := range requests() {
		assert.Equal(t, 1, times, "request %s was copied more than once", id)
		copies++
	}
	share := 100 * float64(copies) / float64(len(answers))
	assert.InDelta(t, percent, share, 1, "%s: %.2f %% of the requests were copied", what, share)
	assert.Zero(t, countTags(answers)["green"], "%s: a copy's answer was given to a client", what)
	slowest := latency(answers, 99)
	w.lossless(t, fmt.Sprintf("mirror %d %%, %s", percent, what), answers, "%.2f %% copied; 99 %% of the answers within %s", share, milliseconds(slowest))
	return slowest
}

// latency is how long the given percentage of the answers took at most.
func latency(answers []answer, percent int) time.Duration {
	times := make([]time.Duration, len(answers))
	for i, a := range answers {
		times[i] = a.ended.Sub(a.sent)
	}
	slices.Sort(times)
	return times[len(times)*percent/100]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(d.Microseconds())/1000)
}
