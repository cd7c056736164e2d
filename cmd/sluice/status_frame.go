package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// frame is what a terminal of a size shows of the releases at a time. It is pure: the
// same model gives the same lines, none wider or more than the terminal has.
type frame struct {
	now           time.Time
	width, height int
	paint         paint
}

// unwell sorts states: what needs a person, what is on its way, the rest.
func unwell(r releaseStatus) int {
	switch r.State {
	case v1alpha1.ConditionStalled:
		return 0
	case "NotReady", "Unknown":
		return 1
	case v1alpha1.ConditionReconciling, "OutOfSync":
		return 2
	case v1alpha1.ConditionReady:
		if r.Held != nil || r.Refused != nil {
			return 1
		}
		return 4
	}
	return 3
}

// lines draws the releases: a summary, the rows, those that are not well first, and
// below them why, as far as there is room. Rows that do not fit are counted.
func (f frame) lines(list []releaseStatus) []string {
	rows := slices.Clone(list)
	slices.SortStableFunc(rows, func(a, b releaseStatus) int { return cmp.Compare(unwell(a), unwell(b)) })
	ill := 0
	for _, r := range rows {
		if unwell(r) < 4 {
			ill++
		}
	}
	head := []string{f.summary(list), ""}
	why := f.reasons(rows)
	// Those that are well give way to the reasons; a third of the terminal is kept for
	// these where very many are not.
	room := f.height - len(head) - 1 // of the header
	shown := min(len(rows), max(min(ill, room-min(len(why), room/3)), room-len(why), 0))
	if shown < len(rows) {
		shown = max(0, shown-1) // for the line that counts the others
	}
	out := append(head, f.table(rows[:shown])...)
	if rest := rows[shown:]; len(rest) > 0 {
		text := "and " + countOf(len(rest), "more release")
		if ill <= shown {
			text += ", all ready"
		}
		out = append(out, f.paint.dim(cut(text, f.width)))
	}
	left := f.height - len(out)
	if len(why) > left {
		why = append(why[:max(0, left-1)], cut("… sluice status shows all", f.width))
		why = why[:min(len(why), max(0, left))]
	}
	out = append(out, why...)
	return out[:min(len(out), f.height)]
}

// summary counts the releases by state, and has the time on the right.
func (f frame) summary(list []releaseStatus) string {
	counts := map[string]int{}
	for _, r := range list {
		counts[r.State]++
	}
	text, plain := countOf(len(list), "release"), countOf(len(list), "release")
	separator := ": "
	for _, state := range []string{v1alpha1.ConditionStalled, "NotReady", "Unknown", v1alpha1.ConditionReconciling, "OutOfSync", "Paused", v1alpha1.ConditionReady} {
		if counts[state] > 0 {
			part := fmt.Sprintf("%d %s", counts[state], state)
			text += separator + stateColour(f.paint, state)(part)
			plain += separator + part
			separator = ", "
		}
	}
	time := timeOfDay(f.now) + " UTC"
	if gap := f.width - utf8.RuneCountInString(plain) - len(time); gap > 0 {
		return text + strings.Repeat(" ", gap) + f.paint.dim(time)
	}
	return cut(plain, f.width)
}

// table draws rows with columns as wide as they need be; runs and traffic give way.
func (f frame) table(rows []releaseStatus) []string {
	cells := [][]string{{"RELEASE", "STATE", "STAGE", "RUNS", "TRAFFIC", "SINCE"}}
	for _, r := range rows {
		since := "-"
		if r.Since != nil {
			since = age(f.now, *r.Since)
		}
		runs := cmp.Or(r.summary.Digests, declaredText(r.Declared), "-")
		cells = append(cells, []string{r.where() + "/" + r.Release, r.State, cmp.Or(progressOf(r.State, r.Reason).bar(), "-"), runs, cmp.Or(r.summary.Traffic, "-"), since})
	}
	widths := make([]int, len(cells[0]))
	for _, row := range cells {
		for i := range row {
			row[i] = strings.Join(strings.Fields(printable(row[i])), " ")
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	const gap = 2
	for _, give := range []struct{ column, least int }{{3, 12}, {4, 7}, {0, 20}, {3, 4}, {4, 4}, {0, 8}} {
		total := gap * (len(widths) - 1)
		for _, w := range widths {
			total += w
		}
		if over := total - f.width; over > 0 && widths[give.column] > give.least {
			widths[give.column] = max(give.least, widths[give.column]-over)
		}
	}
	var out []string
	for n, row := range cells {
		var b strings.Builder
		left := f.width
		for i, c := range row {
			if i > 0 {
				b.WriteString(strings.Repeat(" ", min(gap, max(0, left))))
				left -= gap
			}
			if left <= 0 {
				break
			}
			c = cut(c, min(widths[i], left))
			padding := strings.Repeat(" ", max(0, min(widths[i], left)-utf8.RuneCountInString(c)))
			left -= min(widths[i], left)
			switch {
			case n == 0:
				c = f.paint.dim(c)
			case i == 1 || i == 2:
				c = stateColour(f.paint, rows[n-1].State)(c)
			}
			if i == len(row)-1 {
				padding = ""
			}
			b.WriteString(c + padding)
		}
		out = append(out, strings.TrimRight(b.String(), " "))
	}
	return out
}

// reasons are why releases are not ready, gravest first, each once and in at most
// three lines, with what to do.
func (f frame) reasons(rows []releaseStatus) []string {
	var out []string
	said := map[string]bool{}
	say := func(text, hint string, colour func(string) string) {
		if said[text] {
			return
		}
		said[text] = true
		lines := wrapped(printable(text), f.width-2)
		if len(lines) > 3 {
			lines = append(lines[:2], lines[2]+" …")
		}
		out = append(out, "")
		for i, l := range lines {
			if i > 0 {
				l = "  " + l
			}
			out = append(out, colour(cut(l, f.width)))
		}
		if hint != "" {
			for _, l := range wrapped(printable("hint: "+hint), f.width-4) {
				out = append(out, f.paint.dim(cut("  "+l, f.width)))
			}
		}
	}
	for _, r := range rows {
		if c := r.Refused; c != nil {
			say(fmt.Sprintf("%s: commit %s is refused: %s", r.where(), short(c.Revision), c.Message), c.Hint, f.paint.red)
		}
		if r.Held != nil {
			say(r.Held.String(), r.Held.hint(), f.paint.yellow)
		}
		if r.State != v1alpha1.ConditionReady && r.Message != "" && !r.onlyHeld() {
			others := othersText(r.others()) // the column is cut
			if others != "" {
				others += "; "
			}
			say(r.matter(others), r.Hint, stateColour(f.paint, r.State))
		}
	}
	return out
}
