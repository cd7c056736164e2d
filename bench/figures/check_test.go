package figures

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func run(figures ...Figure) Figures { return Figures{Figures: figures} }

// timed is a figure of some samples, whose baseline took 100 ms each time.
func timed(samples ...float64) Figure {
	return Figure{Scenario: "sync", Case: "100 releases", Measure: "until applied", Unit: Milliseconds, Spread: SpreadOf(samples...)}.
		Against("bare loop", SpreadOf(100, 100, 100))
}

func rate(samples ...float64) Figure {
	return Figure{Scenario: "render", Measure: "overlays", Unit: PerSecond, HigherIsBetter: true, Spread: SpreadOf(samples...)}.
		Against("krusty", SpreadOf(100, 100, 100))
}

func counted(samples ...float64) Figure {
	return Figure{Scenario: "rest", Measure: "requests", Unit: Requests, Absolute: true, Spread: SpreadOf(samples...)}
}

func TestCheck(t *testing.T) {
	slowMachine := Figure{Scenario: "sync", Case: "100 releases", Measure: "until applied", Unit: Milliseconds, Spread: SpreadOf(1200, 1200, 1200)}.
		Against("bare loop", SpreadOf(1000, 1000, 1000))
	other := timed(900, 900, 900)
	other.Case = "1,000 releases"
	for _, c := range []struct {
		name        string
		stored, now Figures
		worse       int
		compared    int
	}{
		{"the same", run(timed(120, 120, 120)), run(timed(120, 120, 120)), 0, 1},
		{"faster", run(timed(120, 120, 120)), run(timed(60, 60, 60)), 0, 1},
		{"a little slower", run(timed(120, 120, 120)), run(timed(150, 150, 150)), 0, 1},
		{"clearly slower", run(timed(120, 120, 120)), run(timed(160, 160, 160)), 1, 1},
		{"just at the tolerance", run(timed(100, 100, 100)), run(timed(100*Tolerance, 100*Tolerance, 100*Tolerance)), 0, 1},
		{"slower, and the spreads do not overlap", run(timed(120, 120, 120)), run(timed(110, 130, 160, 170, 180)), 1, 1},
		{"slower, within the stored spread", run(timed(60, 100, 300)), run(timed(150, 150, 150)), 0, 1},
		{"slower, within a spread of its own", run(timed(120, 120, 120)), run(timed(50, 170, 170)), 0, 1},
		{"a slow machine, whose baseline is as slow", run(timed(120, 120, 120)), run(slowMachine), 0, 1},
		{"less throughput", run(rate(95, 95, 95)), run(rate(60, 60, 60)), 1, 1},
		{"more throughput", run(rate(95, 95, 95)), run(rate(160, 160, 160)), 0, 1},
		{"nothing rendered any more", run(rate(95, 95, 95)), run(rate(1e-9, 1e-9, 1e-9)), 1, 1},
		{"still no requests", run(counted(0, 0, 0)), run(counted(0, 0, 0)), 0, 1},
		{"one request more", run(counted(0, 0, 0)), run(counted(1, 1, 1)), 0, 1},
		{"requests where there were none", run(counted(0, 0, 0)), run(counted(8, 8, 8)), 1, 1},
		{"another size", run(timed(120, 120, 120)), run(other), 0, 0},
		{"nothing stored", run(), run(timed(120, 120, 120)), 0, 0},
		{"one of two", run(timed(120, 120, 120), counted(3, 3, 3)), run(timed(160, 160, 160), counted(3, 3, 3)), 1, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			worse, compared := Check(c.stored, c.now)
			assert.Len(t, worse, c.worse)
			assert.Equal(t, c.compared, compared)
		})
	}
}

func TestCheckComparesEachBaselineWithItsOwn(t *testing.T) {
	stored := timed(120, 120, 120).Against("kubectl", SpreadOf(1000, 1000, 1000))
	now := timed(120, 120, 120).Against("kubectl", SpreadOf(500, 500, 500))
	slices.Reverse(now.Baselines)
	worse, compared := Check(run(stored), run(now))
	assert.Equal(t, 2, compared)
	require.Len(t, worse, 1)
	assert.Equal(t, "sync, 100 releases, until applied: 0.24 times what kubectl takes, was 0.12", worse[0].String())

	worse, _ = Check(run(counted(3, 3, 3)), run(counted(12, 12, 12)))
	require.Len(t, worse, 1)
	assert.Equal(t, "rest, requests: 12, was 3", worse[0].String())
}
