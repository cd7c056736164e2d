package figures

import (
	"fmt"
)

// Tolerance is how many times as dear a figure may have become before it counts as a
// regression. Ratios of two runs on one quiet machine differ by a tenth or less;
// what is asked for here is to find what is clearly slower, and nothing else.
const Tolerance = 1.3

// absoluteSlack keeps a single request, render or MiB more from being a regression
// where there were hardly any.
const absoluteSlack = 1

// Regression is a figure that has become clearly worse.
type Regression struct {
	Figure  Figure
	Against string // the baseline; "" for an absolute figure
	Stored  float64
	Now     float64
}

func (r Regression) String() string {
	name := r.Figure.Scenario
	if r.Figure.Case != "" {
		name += ", " + r.Figure.Case
	}
	name += ", " + r.Figure.Measure
	if r.Against == "" {
		return fmt.Sprintf("%s: %s, was %s", name, number(r.Now, r.Figure.Unit), number(r.Stored, r.Figure.Unit))
	}
	return fmt.Sprintf("%s: %s times what %s takes, was %s", name, times(r.Now), r.Against, times(r.Stored))
}

// Check compares a run with a stored one and returns what has become clearly worse.
// A ratio has, if it is beyond the stored one times Tolerance, and so far beyond that
// the spreads of the two runs do not overlap. Only ratios to a baseline of the same
// run are compared, and absolute figures: times of two machines are not. compared is
// how many comparisons there were; what only one of the two has is passed over.
func Check(stored, now Figures) (worse []Regression, compared int) {
	before := map[[3]string]Figure{}
	for _, f := range stored.Figures {
		before[f.key()] = f
	}
	for _, f := range now.Figures {
		old, ok := before[f.key()]
		if !ok || old.Unit != f.Unit {
			continue
		}
		if f.Absolute && old.Absolute {
			compared++
			if f.Median > old.Median*Tolerance+absoluteSlack && f.Q1 > old.Q3 {
				worse = append(worse, Regression{Figure: f, Stored: old.Median, Now: f.Median})
			}
		}
		for _, b := range f.Baselines {
			for _, o := range old.Baselines {
				if o.Name != b.Name || o.Ratio == 0 || b.Ratio == 0 {
					continue // a ratio to nothing is none
				}
				compared++
				least, _ := f.bounds(b)
				_, most := old.bounds(o)
				if b.Ratio > o.Ratio*Tolerance && least > most {
					worse = append(worse, Regression{Figure: f, Against: b.Name, Stored: o.Ratio, Now: b.Ratio})
				}
			}
		}
	}
	return worse, compared
}

func (f Figure) key() [3]string { return [3]string{f.Scenario, f.Case, f.Measure} }
