package figures

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Measures of a plot, in SVG's user units.
const (
	plotWidth  = 900
	labelWidth = 360
	barsWidth  = 340
	barHeight  = 13
	barGap     = 3
	groupGap   = 9
	margin     = 16
	ours       = "#1f6feb"
	theirs     = "#9aa4b2"
	ink        = "#1c2430"
	faint      = "#d5dae1"
)

// svg is a drawing that grows downwards.
type svg struct {
	body strings.Builder
	y    float64
}

func (s *svg) text(x float64, size int, anchor, fill, text string) {
	fmt.Fprintf(&s.body, `<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s">%s</text>`+"\n", x, s.y, size, anchor, fill, html.EscapeString(text))
}

func (s *svg) bar(y, width float64, fill string) {
	fmt.Fprintf(&s.body, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, max(width, 1), barHeight, fill)
}

func (s *svg) line(x1, y1, x2, y2 float64, stroke string) {
	fmt.Fprintf(&s.body, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, stroke)
}

func (s *svg) document() string {
	height := s.y + margin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%.0f" viewBox="0 0 %d %.0f" font-family="sans-serif">
<rect width="100%%" height="100%%" fill="#ffffff"/>
%s</svg>
`, plotWidth, height, plotWidth, height, s.body.String())
}

// Plots draws each scenario that there is a figure of, and all ratios in one
// ("ratios"). The keys are names of files, without their ending.
func (f Figures) Plots() map[string]string {
	out := map[string]string{}
	for _, title := range f.Scenarios {
		if its := f.of(title.Scenario); len(its) > 0 {
			out[title.Scenario] = bars(title.Text, its)
		}
	}
	if ratios := ratios(f.Figures); ratios != "" {
		out["ratios"] = ratios
	}
	return out
}

// bars draws the figures of a scenario and their baselines, on a scale for each
// unit, which begins at nothing.
func bars(title string, figures []Figure) string {
	s := &svg{y: margin + 8}
	s.text(margin, 15, "start", ink, title)
	s.y += 18
	s.text(margin, 11, "start", ink, "Blue: Sluice. Grey: baselines of the same run. Bars: medians; lines: the middle half of the samples.")
	var units []Unit
	for _, f := range figures {
		if !slices.Contains(units, f.Unit) {
			units = append(units, f.Unit)
		}
	}
	for _, unit := range units {
		longest := 0.0
		for _, f := range figures {
			if f.Unit == unit {
				longest = max(longest, f.Q3)
				for _, b := range f.Baselines {
					longest = max(longest, b.Q3)
				}
			}
		}
		s.y += groupGap
		for _, f := range figures {
			if f.Unit == unit {
				s.group(f, longest)
			}
		}
	}
	return s.document()
}

// group draws a figure, with its baselines below it.
func (s *svg) group(f Figure, longest float64) {
	s.y += groupGap
	s.spread(f.name(), "", ours, f.Spread, f.Unit, longest)
	for _, b := range f.Baselines {
		s.spread("", b.Name, theirs, b.Spread, f.Unit, longest)
	}
}

// spread draws the median as a bar and the quartiles as a whisker.
func (s *svg) spread(name, baseline, fill string, v Spread, unit Unit, longest float64) {
	scale := 0.0
	if longest > 0 {
		scale = barsWidth / longest
	}
	top := s.y
	s.bar(top, v.Median*scale, fill)
	middle := top + barHeight/2.0
	s.line(labelWidth+v.Q1*scale, middle, labelWidth+v.Q3*scale, middle, ink)
	s.y = top + barHeight - 3
	if name != "" {
		s.text(labelWidth-8, 12, "end", ink, name)
	}
	label := number(v.Median, unit)
	if baseline != "" {
		label += "  " + baseline
	}
	s.text(labelWidth+max(v.Median, v.Q3)*scale+6, 11, "start", ink, label)
	s.y = top + barHeight + barGap
}

// ratios draws each ratio as a point on a logarithmic scale, beside the line of what
// costs as much as its baseline.
func ratios(figures []Figure) string {
	type ratio struct {
		name            string
		at, least, most float64
	}
	var all []ratio
	low, high := 0.5, 2.0
	for _, f := range figures {
		for _, b := range f.Baselines {
			if b.Ratio <= 0 {
				continue // it has no place on a logarithmic scale
			}
			least, most := f.bounds(b)
			r := ratio{name: f.name() + " / " + b.Name, at: b.Ratio, least: least, most: most}
			if r.least <= 0 || math.IsInf(r.most, 0) {
				r.least, r.most = r.at, r.at
			}
			all = append(all, r)
			low, high = min(low, r.least), max(high, r.most)
		}
	}
	if len(all) == 0 {
		return ""
	}
	const left, right = 520, plotWidth - 70
	x := func(v float64) float64 {
		return left + (math.Log(v)-math.Log(low))/(math.Log(high)-math.Log(low))*(right-left)
	}
	s := &svg{y: margin + 8}
	s.text(margin, 15, "start", ink, "Cost over the baseline of the same run (logarithmic; the line is 1)")
	s.y += 14
	s.line(x(1), s.y, x(1), s.y+float64(len(all))*20, ink)
	for _, r := range all {
		s.line(left, s.y+10, right, s.y+10, faint)
		s.line(x(r.least), s.y+10, x(r.most), s.y+10, ink)
		fmt.Fprintf(&s.body, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", x(r.at), s.y+10, ours)
		s.y += 14
		s.text(left-10, 11, "end", ink, r.name)
		s.text(right+10, 11, "start", ink, times(r.at))
		s.y += 6
	}
	return s.document()
}
