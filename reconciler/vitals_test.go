package reconciler

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

// text is the checks, a line each, as tests compare them.
func text(checks []Check) string {
	var b strings.Builder
	for _, c := range checks {
		mark, what := "ok", c.Note
		if c.Problem != "" {
			mark, what = "no", c.Problem
		}
		b.WriteString(strings.TrimRight(mark+" "+c.Name+": "+what, " :") + "\n")
	}
	return b.String()
}

func TestAlive(t *testing.T) {
	t.Parallel()
	api, web := Key{"production", "api"}, Key{"production", "web"}
	ago := func(d time.Duration) time.Time { return start.Add(-d) }
	for name, c := range map[string]struct {
		vitals Vitals
		want   string
	}{
		"in standby": {Vitals{}, "ok repository\nok passes: 0 running\nok queue: 0 waiting\n"},
		"at rest":    {Vitals{Running: true}, "ok repository\nok passes: 0 running\nok queue: 0 waiting\n"},
		"while Git and the cluster do not answer": {
			Vitals{Running: true, Looking: ago(fetchTimeout), Unreachable: "no route to host", Passes: []PassVitals{{api, ago(time.Minute)}}, Waiting: 1000},
			"ok repository\nok passes: 1 running\nok queue: 1000 waiting\n"},
		"under a queue of an hour": {
			Vitals{Running: true, Passes: []PassVitals{{api, ago(time.Second)}}, Waiting: 100000},
			"ok repository\nok passes: 1 running\nok queue: 100000 waiting\n"},
		"a pass that has lasted, but shows signs": {
			Vitals{Running: true, Passes: []PassVitals{{api, ago(stuckAfter)}}},
			"ok repository\nok passes: 1 running\nok queue: 0 waiting\n"},
		"a pass that shows none": {
			Vitals{Running: true, Passes: []PassVitals{{api, ago(stuckAfter + time.Second)}, {web, ago(0)}}},
			"ok repository\nno passes: the pass over production/api has given no sign for 10m1s\nok queue: 0 waiting\n"},
		"a look that does not end": {
			Vitals{Running: true, Looking: ago(fetchTimeout + stuckAfter + time.Second)},
			"no repository: a look at the repository has not ended for 15m1s\nok passes: 0 running\nok queue: 0 waiting\n"},
		"a queue that nobody takes from": {
			Vitals{Running: true, Waiting: 3, Untaken: ago(stuckAfter + time.Minute)},
			"ok repository\nok passes: 0 running\nno queue: 3 releases wait and no pass has begun for 11m0s\n"},
	} {
		c.vitals.Now = start
		assert.Equal(t, c.want, text(c.vitals.Alive()), name)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	const rev = "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432"
	for name, c := range map[string]struct {
		vitals Vitals
		want   string
	}{
		"before the cluster answers": {Vitals{}, "no cluster: it has not been reached yet\n"},
		"before the repository is read": {
			Vitals{Running: true, Environments: []Intake{{Environment: "production"}}},
			"ok cluster: reached, and knows Releases\nno environment production: the repository has not been read yet\nok watches\n"},
		"where the repository was never reached": {
			Vitals{Running: true, Unreachable: "no route to host", Environments: []Intake{{Environment: "production"}}},
			"ok cluster: reached, and knows Releases\nno environment production: no route to host\nok watches\n"},
		"where it is not reached any more": {
			Vitals{Running: true, Unreachable: "no route to host", Environments: []Intake{{Environment: "production", Revision: rev}}},
			"ok cluster: reached, and knows Releases\nok environment production: at 9f8e7d6c5b4a; newer commits are not known: no route to host\nok watches\n"},
		"where one environment is refused": {
			Vitals{Running: true, Environments: []Intake{{"development", rev, ""}, {"production", "", "it is not in the repository"}}},
			"ok cluster: reached, and knows Releases\nok environment development: at 9f8e7d6c5b4a\nok environment production: left as it is: it is not in the repository\nok watches\n"},
		"where a newer commit is refused": {
			Vitals{Running: true, Environments: []Intake{{"production", rev, "sluice.yaml:3: unknown field"}}},
			"ok cluster: reached, and knows Releases\nok environment production: at 9f8e7d6c5b4a; a newer commit is not taken in: sluice.yaml:3: unknown field\nok watches\n"},
		"before the watches stand": {
			Vitals{Running: true, Environments: []Intake{{"production", rev, ""}}, Unsynced: []string{"Deployment.apps in shop"}},
			"ok cluster: reached, and knows Releases\nok environment production: at 9f8e7d6c5b4a\nno watches: not synced yet: Deployment.apps in shop\n"},
	} {
		assert.Equal(t, c.want, text(c.vitals.Ready()), name)
	}
}

// TestPulseSeesAQueueThatNobodyTakesFrom: what waits at one look has perhaps just
// come; what waits at two, with nothing begun in between, has been left.
func TestPulseSeesAQueueThatNobodyTakesFrom(t *testing.T) {
	t.Parallel()
	var p pulse
	waiting := 1
	end := p.run(func() int { return waiting })
	at := func(d time.Duration) Vitals { return p.snapshot(start.Add(d), nil) }

	assert.Equal(t, start, at(0).Untaken)
	assert.Equal(t, start, at(time.Minute).Untaken, "still the same")
	_, done := p.pass(context.Background(), Key{"production", "api"}, start)
	assert.Zero(t, at(2*time.Minute).Untaken, "a pass runs")
	done()
	_, done = p.pass(context.Background(), Key{"production", "api"}, start)
	done()
	assert.Zero(t, at(3*time.Minute).Untaken, "one has run in between")
	assert.Equal(t, start.Add(4*time.Minute), at(4*time.Minute).Untaken)
	waiting = 0
	assert.Zero(t, at(5*time.Minute).Untaken, "nothing waits")
	end()
	assert.False(t, at(0).Running)
}

func TestEveryRequestOfAPassIsASignOfLife(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakePassiveClock(start)
	var p pulse
	config := beating(&rest.Config{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		clock.SetTime(clock.Now().Add(20 * time.Second))
		return nil, http.ErrHandlerTimeout
	})}, clock)
	transport, err := rest.TransportFor(config)
	require.NoError(t, err)

	ctx, end := p.pass(context.Background(), Key{"production", "api"}, start)
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1:1/", nil)
		require.NoError(t, err)
		_, err = transport.RoundTrip(r) //nolint:bodyclose // there is none
		require.ErrorIs(t, err, http.ErrHandlerTimeout, "failed requests count, too: the pass goes on")
	}
	assert.Equal(t, []PassVitals{{Key{"production", "api"}, start.Add(40 * time.Second)}}, p.snapshot(start, nil).Passes)
	end()
	assert.Empty(t, p.snapshot(start, nil).Passes)
}
