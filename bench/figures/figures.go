// Package figures is what a run of the benchmarks has measured, and what is made of
// it. Start with Figures; Table, Markdown, Plots and Check read it, Read and Write keep
// it as JSON. The package measures nothing.
package figures

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// Figures is one run.
type Figures struct {
	Began    time.Time         `json:"began"`
	Seconds  float64           `json:"seconds"` // until its end
	Size     string            `json:"size"`    // full, or small for trying out
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	// Scenarios are in the order in which they are told of.
	Scenarios []Title  `json:"scenarios"`
	Figures   []Figure `json:"figures"`
}

// Title says what the figures of a scenario are about.
type Title struct {
	Scenario string `json:"scenario"`
	Text     string `json:"title"`
}

// of are the figures of a scenario.
func (f Figures) of(scenario string) (its []Figure) {
	for _, figure := range f.Figures {
		if figure.Scenario == scenario {
			its = append(its, figure)
		}
	}
	return its
}

// Machine is where a run took place.
type Machine struct {
	Processor string  `json:"processor"`
	Cores     int     `json:"cores"`
	MemoryGiB float64 `json:"memoryGiB"`
	System    string  `json:"system"`
	Load      float64 `json:"load"` // before the run, over a minute
}

// Unit says what a figure counts. Durations are in milliseconds everywhere, and
// only the table chooses another prefix.
type Unit string

// The units of figures.
const (
	Milliseconds Unit = "ms"
	Requests     Unit = "requests"
	Renders      Unit = "renders"
	MiB          Unit = "MiB"
	PerSecond    Unit = "/s"
	Commits      Unit = "commits"
)

// Figure is one thing that was measured. Scenario, Case and Measure together tell
// it from all others, across runs too.
type Figure struct {
	Scenario string `json:"scenario"`
	Case     string `json:"case"`    // which size or variant: "1,000 releases"
	Measure  string `json:"measure"` // "until applied"
	Unit     Unit   `json:"unit"`
	// HigherIsBetter is true of throughputs.
	HigherIsBetter bool `json:"higherIsBetter,omitempty"`
	// Absolute says that the machine's speed has no part in it, as in a number of
	// requests: it is compared with other runs as it is.
	Absolute bool `json:"absolute,omitempty"`
	Spread
	Baselines []Baseline `json:"baselines,omitempty"`
}

// Baseline is what a figure is held against, measured in the same run.
type Baseline struct {
	Name string `json:"name"`
	Spread
	// Ratio is the cost of the figure over that of the baseline: 1 is as good as the
	// baseline, and more is dearer, whichever way the unit counts. 0: a ratio to
	// nothing is none.
	Ratio float64 `json:"ratio,omitempty"`
}

// Spread is the middle of some samples, and how far they lie apart.
type Spread struct {
	Median  float64 `json:"median"`
	Q1      float64 `json:"q1"` // a quarter of the samples is below
	Q3      float64 `json:"q3"` // a quarter is above
	Samples int     `json:"samples"`
}

// SpreadOf interpolates between samples, so that the quartiles of two samples are
// not the samples. There must be one at least.
func SpreadOf(samples ...float64) Spread {
	sorted := slices.Sorted(slices.Values(samples))
	at := func(share float64) float64 {
		position := share * float64(len(sorted)-1)
		below := int(position)
		above := min(below+1, len(sorted)-1)
		return sorted[below] + (sorted[above]-sorted[below])*(position-float64(below))
	}
	return Spread{Median: at(0.5), Q1: at(0.25), Q3: at(0.75), Samples: len(sorted)}
}

// Durations is the spread of times, in milliseconds.
func Durations(samples []time.Duration) Spread {
	out := make([]float64, len(samples))
	for i, d := range samples {
		out[i] = d.Seconds() * 1000
	}
	return SpreadOf(out...)
}

// Scaled is the spread of samples that are all so many times larger.
func (s Spread) Scaled(by float64) Spread {
	return Spread{Median: s.Median * by, Q1: s.Q1 * by, Q3: s.Q3 * by, Samples: s.Samples}
}

// Against is the figure with a further baseline. Nothing gives no ratio.
func (f Figure) Against(name string, baseline Spread) Figure {
	cost, limit := f.Median, baseline.Median
	if f.HigherIsBetter {
		cost, limit = limit, cost
	}
	ratio := 0.0
	if limit != 0 {
		ratio = cost / limit
	}
	f.Baselines = append(slices.Clone(f.Baselines), Baseline{Name: name, Spread: baseline, Ratio: ratio})
	return f
}

// name tells a figure from the others of its scenario.
func (f Figure) name() string {
	if f.Case == "" {
		return f.Measure
	}
	return f.Case + ": " + f.Measure
}

// bounds are the ratios that the spreads of a figure and a baseline of it make
// likely: the best and the worst pairing of their quartiles. A bound that would be a
// division by nothing is infinite.
func (f Figure) bounds(b Baseline) (least, most float64) {
	if f.HigherIsBetter {
		return over(b.Q1, f.Q3), over(b.Q3, f.Q1)
	}
	return over(f.Q1, b.Q3), over(f.Q3, b.Q1)
}

func over(a, b float64) float64 {
	if b == 0 {
		return math.Inf(1)
	}
	return a / b
}

// Read reads what Write has written.
func Read(r io.Reader) (Figures, error) {
	var f Figures
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		return Figures{}, fmt.Errorf("reading figures: %w", err)
	}
	return f, nil
}

// Write writes the figures as JSON, one key a line: they are kept in Git.
func (f Figures) Write(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(f); err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	return nil
}
