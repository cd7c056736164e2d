package figures

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []float64
		want    Spread
	}{
		{"one is all there is", []float64{7}, Spread{7, 7, 7, 1}},
		{"between two", []float64{2, 1}, Spread{1.5, 1.25, 1.75, 2}},
		{"unsorted", []float64{5, 1, 4, 2, 3}, Spread{3, 2, 4, 5}},
		{"an outlier moves neither median nor quartiles", []float64{1, 2, 3, 4, 1000}, Spread{3, 2, 4, 5}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, SpreadOf(c.samples...)) })
	}
	samples := []float64{3, 1, 2}
	SpreadOf(samples...)
	assert.Equal(t, []float64{3, 1, 2}, samples, "the samples are left as they are")
	assert.Equal(t, Spread{1500, 1250, 1750, 2}, Durations([]time.Duration{time.Second, 2 * time.Second}))
}

func TestRatioIsOfCost(t *testing.T) {
	slower := Figure{Unit: Milliseconds, Spread: SpreadOf(30)}.Against("bare", SpreadOf(20))
	assert.InDelta(t, 1.5, slower.Baselines[0].Ratio, 1e-9)
	throughput := Figure{Unit: PerSecond, HigherIsBetter: true, Spread: SpreadOf(20)}.Against("bare", SpreadOf(30))
	assert.InDelta(t, 1.5, throughput.Baselines[0].Ratio, 1e-9, "two thirds of the throughput cost half as much again")
	nothing := Figure{Spread: SpreadOf(1)}.Against("nothing", SpreadOf(0))
	assert.Equal(t, []Baseline{{Name: "nothing", Spread: SpreadOf(0)}}, nothing.Baselines, "a ratio to nothing is none")
	one := Figure{Spread: SpreadOf(1)}.Against("a", SpreadOf(1))
	_, _ = one.Against("b", SpreadOf(1)), one.Against("c", SpreadOf(1))
	assert.Len(t, one.Baselines, 1, "a figure is not changed by what is made of it")
}

// sample is a run with everything that a table can hold.
func sample() Figures {
	return Figures{
		Began: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Size: "full",
		Machine:  Machine{Processor: "AMD EPYC", Cores: 2, MemoryGiB: 23.5, System: "linux 6.1", Load: 0.1},
		Versions: map[string]string{"Go": "1.26.8", "git": "2.39.5"}, Seconds: 130,
		Scenarios: []Title{{"push", "Push to applied: until the API server has the digest"}, {"rest", "At rest"}, {"render", "Render"}, {"memory", "Memory"}, {"drift", "Drift"}},
		Figures: []Figure{
			Figure{Scenario: "push", Case: "1 of 10 components", Measure: "push to applied", Unit: Milliseconds, Spread: SpreadOf(20, 22, 24)}.
				Against("git fetch + bare patch", SpreadOf(16, 18, 20)),
			{Scenario: "push", Case: "1 of 10 components", Measure: "requests", Unit: Requests, Absolute: true, Spread: SpreadOf(3, 3, 3)},
			Figure{Scenario: "push", Case: "1 of 5,000 components", Measure: "push to applied", Unit: Milliseconds, Spread: SpreadOf(1020, 1022, 1024)}.
				Against("git fetch + bare patch", SpreadOf(0.4, 0.5, 0.6)),
			Figure{Scenario: "render", Case: "all cores", Measure: "overlays rendered", Unit: PerSecond, HigherIsBetter: true, Spread: SpreadOf(1200, 1234.5, 1300)}.
				Against("krusty alone", SpreadOf(1300, 1400, 1500)).Against("kubectl <kustomize>", SpreadOf(6, 7, 8)),
			Figure{Scenario: "memory", Case: "1,000 releases", Measure: "at most", Unit: MiB, Absolute: true, Spread: SpreadOf(206)}.
				Against("10 releases", SpreadOf(100)),
			Figure{Scenario: "rest", Case: "1,000 releases", Measure: "requests in 10 s", Unit: Requests, Absolute: true, Spread: SpreadOf(0, 0)}.
				Against("10 releases", SpreadOf(0)),
		},
	}
}

func TestTable(t *testing.T) {
	table := sample().Table()
	golden(t, "testdata/table.golden", table)
	for line := range strings.Lines(table) {
		assert.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), 100, line)
	}
	assert.NotContains(t, table, "Drift", "what was not measured has no heading")
	small := sample()
	small.Size, small.Machine.Load = "small", 3
	assert.Contains(t, small.Table(), "not for quoting")
	assert.Contains(t, small.Table(), "load 3.0 before it began")
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "after a change that is wanted: go -C bench test ./figures -update")
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		value float64
		unit  Unit
		want  string
	}{
		{0, Requests, "0"}, {3, Requests, "3"}, {8.015, Requests, "8.02"}, {25_000, Requests, "25,000"},
		{0.0451, Milliseconds, "45.1 µs"}, {0, Milliseconds, "0 ms"}, {22, Milliseconds, "22 ms"}, {22.51, Milliseconds, "22.5 ms"},
		{999.4, Milliseconds, "999 ms"}, {1000, Milliseconds, "1 s"}, {31_740, Milliseconds, "31.7 s"},
		{1234.5, PerSecond, "1,234/s"}, {204.8, MiB, "205 MiB"},
	} {
		assert.Equal(t, c.want, number(c.value, c.unit))
	}
}

func TestJSON(t *testing.T) {
	var first, second bytes.Buffer
	require.NoError(t, sample().Write(&first))
	text := first.String()
	read, err := Read(&first)
	require.NoError(t, err)
	assert.Equal(t, sample(), read)
	require.NoError(t, read.Write(&second))
	assert.Equal(t, text, second.String())
	for _, key := range []string{`"median": 22`, `"q1": 21`, `"q3": 23`, `"samples": 3`, `"ratio": `, `"processor": "AMD EPYC"`, `"began": "2026-11-22T12:00:00Z"`} {
		assert.Contains(t, text, key)
	}
	_, err = Read(strings.NewReader(`{"figurs": []}`))
	assert.ErrorContains(t, err, "figurs")
}

func TestPlots(t *testing.T) {
	plots := sample().Plots()
	assert.Len(t, plots, 5, "push, rest, render, memory and the ratios")
	for name, drawing := range plots {
		decoder := xml.NewDecoder(strings.NewReader(drawing))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s is no XML: %v", name, err)
			}
		}
		assert.NotContains(t, drawing, "NaN", name)
		assert.NotContains(t, drawing, "Inf", name)
	}
	assert.Contains(t, plots["render"], "kubectl &lt;kustomize&gt;")
	assert.Equal(t, 5, strings.Count(plots["ratios"], "<circle"), "one for each ratio")
	assert.Empty(t, Figures{}.Plots())
}
