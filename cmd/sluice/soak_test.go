package main

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/faults"
	"github.com/sluice-dev/sluice/internal/testseed"
)

// soakVariable is how long TestSoak goes on; `make soak` sets it.
const soakVariable = "SLUICE_SOAK"

// Bounds of what a controller may hold after a soak, of an environment of some fifty
// objects.
const (
	soakHeap       = 64 << 20 // bytes in use after a collection
	soakGoroutines = 30       // more than at first: connections of a moment
)

// TestSoak has a real controller live through random commits, drift, kills and outages
// of the API server and of Git, for as long as it is told to. Every now and then, and
// in the end, the cluster must be what the repository says, with nothing left over and
// nothing of others touched. Through the second half one process lives, which must not
// grow.
func TestSoak(t *testing.T) {
	given := os.Getenv(soakVariable)
	if given == "" {
		t.Skip("`make soak` runs it")
	}
	length, err := time.ParseDuration(given)
	require.NoError(t, err, soakVariable)
	seed := testseed.Of(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newShop(t, rng)
	git, url := serveGit(t, s.bare)
	c := newVictim(t, buildSluice(t), s.namespace, url)
	profiles := freeAddress(t)
	c.args = append(c.args, "--pprof-address", profiles)
	began := time.Now()
	turns := map[string]int{}
	for time.Since(began) < length/2 {
		for range 10 {
			live(s, c, rng)
			turns["kill"]++
		}
		c.start()
		s.settle(c)
		c.kill()
	}
	c.start()
	defer c.kill()
	s.settle(c)
	s.meddled = map[string][]time.Time{}
	heap, goroutines := held(t, profiles)
	for time.Since(began) < length {
		for range 5 {
			turns[s.suffer(c, git, rng)]++
		}
		s.settle(c)
	}
	heapThen, goroutinesThen := held(t, profiles)
	t.Logf("%s: %v, %d commits; heap %d → %d KiB, goroutines %d → %d", time.Since(began).Round(time.Second), turns, len(s.commits), heap>>10, heapThen>>10, goroutines, goroutinesThen)
	assert.Less(t, heapThen, soakHeap, "the heap has grown")
	assert.Less(t, goroutinesThen, goroutines+soakGoroutines, "goroutines are left over")
}

// settle lets everything become ready, and looks whether it is as it should be.
func (s *shop) settle(c *victim) {
	s.t.Helper()
	s.heal()
	c.notify()
	s.awaitConverged(c)
	s.verify()
}

// suffer commits and meddles, most of the time while something is broken, and returns
// what was.
func (s *shop) suffer(c *victim, git *faults.Proxy, rng *rand.Rand) string {
	outages := []struct {
		name string
		of   *faults.Proxy
		how  faults.Fault
	}{
		{"no outage", git, nil},
		{"API server: resets", c.proxy, faults.Reset},
		{"API server: unavailable", c.proxy, faults.Status(http.StatusServiceUnavailable, 1)},
		{"API server: now and then", c.proxy, faults.Sometimes(0.3, faults.Reset, faults.Lost, faults.Truncate, faults.Status(http.StatusInternalServerError, 0))},
		{"API server: slow", c.proxy, faults.Slow(200 * time.Millisecond)},
		{"Git: resets", git, faults.Reset},
		{"Git: garbage", git, faults.Garbage},
		{"Git: half answers", git, faults.Truncate},
	}
	outage, cut, lasts := outages[rng.IntN(len(outages))], rng.IntN(2) == 0, time.Duration(rng.Int64N(int64(2*time.Second)))
	var changes []draft
	for range rng.IntN(3) {
		changes = append(changes, s.draw())
	}
	meddling := s.drawMeddling()
	outage.of.Break(outage.how)
	if cut {
		c.proxy.CutWatches()
	}
	for _, d := range changes {
		s.commit(d)
		c.notify()
	}
	meddling()
	select {
	case <-time.After(lasts): // an outage is a time, and nothing to wait for
	case <-c.ended:
		require.Failf(s.t, "the controller ended by itself", "%s", c.log())
	}
	outage.of.Mend()
	return outage.name
}

// held is what a process holds: bytes of its heap that are in use, and goroutines.
func held(t *testing.T, profiles string) (heap, goroutines int) {
	t.Helper()
	figure := func(profile, format string) int {
		answer, err := http.Get("http://" + profiles + "/debug/pprof/" + profile)
		require.NoError(t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		match := regexp.MustCompile(format).FindSubmatch(text)
		require.NotNil(t, match, "%s: %.200s", profile, text)
		n, err := strconv.Atoi(string(match[1]))
		require.NoError(t, err)
		return n
	}
	return figure("heap?gc=1&debug=1", `# HeapAlloc = (\d+)`), figure("goroutine?debug=1", `goroutine profile: total (\d+)`)
}

// freeAddress is one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
