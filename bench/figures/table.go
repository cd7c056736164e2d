package figures

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// explanation is all that a reader of the table needs to be told.
const explanation = `Each line: the median of n samples, the half of them in the middle (first to third
quartile), and a baseline measured in the same run. ×: cost over the baseline's cost;
1.00 is as good as the baseline, more is dearer.
`

// Table draws a run for a terminal.
func (f Figures) Table() string {
	header := []string{"", "median", "middle half", "n", "against", "its median", "×"}
	sections := make([][][]string, len(f.Scenarios))
	widths := make([]int, len(header))
	measure := func(row []string) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	measure(header)
	for i, title := range f.Scenarios {
		sections[i] = rows(f.of(title.Scenario))
		for _, row := range sections[i] {
			measure(row)
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n\n%s\n", f.heading(), explanation)
	draw(&out, header, widths)
	for i, title := range f.Scenarios {
		if len(sections[i]) == 0 {
			continue
		}
		fmt.Fprintf(&out, "\n%s\n", title.Text)
		for _, row := range sections[i] {
			draw(&out, row, widths)
		}
	}
	return out.String()
}

func (f Figures) heading() string {
	text := fmt.Sprintf("%s · %d cores, %s GiB · %s", f.Machine.Processor, f.Machine.Cores, significant(f.Machine.MemoryGiB), f.Began.UTC().Format("2006-01-02 15:04 MST"))
	if f.Seconds > 0 {
		text += fmt.Sprintf(" · took %.0f min", math.Ceil(f.Seconds/60))
	}
	if f.Machine.Load > 0.5 {
		text += fmt.Sprintf(" · load %.1f before it began", f.Machine.Load)
	}
	var versions []string
	for name, version := range f.Versions {
		versions = append(versions, name+" "+version)
	}
	slices.Sort(versions)
	text += "\n" + strings.Join(versions, " · ")
	if f.Size != "full" {
		text += "\nSize " + f.Size + ": for trying the program out, not for quoting."
	}
	return text
}

// rows are the lines of a scenario; a case is named where it begins.
func rows(figures []Figure) (out [][]string) {
	last := ""
	for _, f := range figures {
		if f.Case != last {
			if last = f.Case; f.Case != "" {
				out = append(out, []string{"  " + f.Case})
			}
		}
		cells := f.cells()
		cells[0][0] = "    " + f.Measure
		out = append(out, cells...)
	}
	return out
}

// cells are the lines of a figure, whose name goes into the first cell of all: each
// further baseline has a line of its own.
func (f Figure) cells() [][]string {
	out := [][]string{{"", number(f.Median, f.Unit), between(f.Spread, f.Unit), strconv.Itoa(f.Samples), "", "", ""}}
	for i, b := range f.Baselines {
		if i > 0 {
			out = append(out, make([]string, 7))
		}
		row := out[i]
		row[4], row[5] = b.Name, number(b.Median, f.Unit)
		if b.Ratio != 0 {
			row[6] = times(b.Ratio)
		}
	}
	return out
}

func draw(out *strings.Builder, row []string, widths []int) {
	var line strings.Builder
	for i, cell := range row {
		pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
		switch i {
		case 0, 4: // names to the left, numbers to the right
			line.WriteString(cell + pad + "  ")
		default:
			line.WriteString(pad + cell + "  ")
		}
	}
	out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// prefixed is a value in the prefix of its unit that reads best.
func prefixed(v float64, u Unit) (float64, string) {
	switch {
	case u == Milliseconds && v >= 1000:
		return v / 1000, " s"
	case u == Milliseconds && v < 1 && v > 0:
		return v * 1000, " µs"
	case u == Milliseconds, u == MiB:
		return v, " " + string(u)
	case u == PerSecond:
		return v, "/s"
	default:
		return v, "" // a count, whose measure says of what
	}
}

func number(v float64, u Unit) string {
	n, unit := prefixed(v, u)
	return significant(n) + unit
}

// between is the middle half, both ends in the prefix of the upper one.
func between(s Spread, u Unit) string {
	if s.Samples < 2 {
		return ""
	}
	high, _ := prefixed(s.Q3, u)
	low := s.Q1
	if s.Q3 != 0 {
		low *= high / s.Q3
	}
	return significant(low) + "–" + significant(high)
}

// significant has three digits that count, or more before the point, and commas in
// what is large. What is whole has no point.
func significant(v float64) string {
	decimals := 0
	if v != math.Trunc(v) {
		decimals = min(max(0, 2-int(math.Floor(math.Log10(math.Abs(v))))), 6)
	}
	return commas(strconv.FormatFloat(v, 'f', decimals, 64))
}

// times is a ratio, with as many decimals as tell it from others of its size.
func times(ratio float64) string {
	switch {
	case ratio < 0.1:
		return fmt.Sprintf("%.3f", ratio)
	case ratio < 10:
		return fmt.Sprintf("%.2f", ratio)
	default:
		return significant(math.Round(ratio))
	}
}

// Count is a number with commas, as cases name sizes.
func Count(n int) string { return commas(strconv.Itoa(n)) }

func commas(text string) string {
	whole, rest, fraction := strings.Cut(text, ".")
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if fraction {
		return whole + "." + rest
	}
	return whole
}
