package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// page is text in two columns, a label and what it says, for people.
type page struct {
	width int // 0: lines are not broken
	paint paint
	lines []string
}

const labelWidth = 10

// entry adds a label with a text, which is broken to fit.
func (p *page) entry(label, text string) { p.coloured(label, text, func(s string) string { return s }) }

func (p *page) coloured(label, text string, colour func(string) string) {
	if text == "" {
		return
	}
	width := 0
	if p.width > 0 {
		width = max(30, p.width-2-labelWidth)
	}
	for i, l := range wrapped(printable(text), width) {
		if i > 0 {
			label = ""
		}
		p.lines = append(p.lines, "  "+p.paint.dim(fmt.Sprintf("%-*s", labelWidth, label))+colour(l))
	}
}

func (p *page) title(s string) {
	if len(p.lines) > 0 {
		p.lines = append(p.lines, "")
	}
	p.lines = append(p.lines, s)
}

// stateColour is how a state looks.
func stateColour(p paint, state string) func(string) string {
	switch state {
	case v1alpha1.ConditionReady:
		return p.green
	case v1alpha1.ConditionStalled:
		return p.red
	case "Unknown":
		return p.dim
	}
	return p.yellow
}

// text is the explanation for people, line by line.
func (e *explanation) text(now time.Time, width int, paint paint) []string {
	p := &page{width: width, paint: paint}
	state := e.State
	if e.Reason != "" && e.Reason != e.State {
		state += ": " + e.Reason
	}
	if e.Since != nil {
		state += ", for " + age(now, *e.Since)
	}
	p.title(paint.bold(printable(e.Environment+"/"+e.Release)) + "  " + stateColour(paint, e.State)(printable(state)))
	p.entry("stage", e.Progress.words())
	if e.State != v1alpha1.ConditionReady {
		p.coloured("why", e.Message, stateColour(paint, e.State))
		p.entry("hint", e.Hint)
	}
	if a := e.Awaited; a != nil {
		text := "since " + timeOfDay(a.Since) + " (" + age(now, a.Since) + ")"
		if a.Until != nil {
			text += ", fails at " + timeOfDay(*a.Until)
			if left := a.Until.Sub(now).Round(time.Second); left > 0 {
				text += ", in " + left.String()
			}
		}
		p.entry("awaited", text)
	}
	if f := e.Refused; f != nil {
		p.coloured("refused", fmt.Sprintf("commit %s: %s", short(f.Revision), f.Message), paint.red)
		p.entry("", f.Hint)
	}
	if h := e.Held; h != nil {
		p.entry("held", h.String())
		p.entry("", h.hint())
	}
	p.entry("paused", e.PausedBy.text(now))
	p.entry("warning", e.Unkept)
	for _, n := range e.Notes {
		p.entry("unknown", n)
	}
	e.commitText(p, now)
	for _, d := range e.Deployments {
		others := slices.DeleteFunc(e.others(), func(g podGroup) bool { return g.Tag != d.Tag })
		d.text(p, now, e.Commit, others)
	}
	for _, w := range e.Workloads {
		w.text(p)
	}
	return p.lines
}

func timeOfDay(t time.Time) string { return t.UTC().Format("15:04:05") }

func (e *explanation) commitText(p *page, now time.Time) {
	if e.Commit == nil && e.Revision == "" {
		return
	}
	p.title("Git")
	p.entry("commit", e.Commit.text(now))
	switch {
	case e.Commit == nil:
	case !e.Seen:
		p.coloured("taken in", "not yet: the controller has not said anything of it", p.paint.yellow)
	default:
		p.entry("taken in", "yes")
	}
	p.entry("applied", short(e.Revision))
}

// text is a commit in a few lines; "" of none.
func (c *provenance) text(now time.Time) string {
	if c == nil {
		return ""
	}
	text := fmt.Sprintf("%s by %s, %s UTC (%s ago)\n%s", short(c.Revision), c.Author, c.Time.UTC().Format("2006-01-02 15:04"), age(now, c.Time), c.Subject)
	if c.PullRequest > 0 {
		text += fmt.Sprintf("\npull request %[1]d: sluice pr show %[1]d", c.PullRequest)
	}
	return text
}

func (d *deploymentChain) text(p *page, now time.Time, commit *provenance, others []podGroup) {
	title := "Build"
	if d.Tag != "" {
		title = "Tag " + d.Tag
	}
	p.title(printable(title))
	p.entry("declared", declaredText([]releaseState{{Build: buildID(d.Digest), Weight: d.Weight}}))
	if r := d.Running; r != nil {
		text := r.Build
		if d.Tag != "" {
			text += fmt.Sprintf(" %d%%", r.Weight)
		}
		if r.Mirror > 0 {
			text += fmt.Sprintf(", mirror %d%%", r.Mirror)
		}
		if r.Build != "" && d.Digest != "" && r.Digest != d.Digest {
			text += " (another than is declared)"
		}
		colour := p.paint.green
		if r.Ready {
			text += ", ready"
		} else {
			text, colour = text+", not ready", p.paint.yellow
		}
		p.coloured("running", strings.TrimPrefix(text, ", "), colour)
		p.entry("", r.Message)
	}
	for _, g := range others {
		g.Tag = "" // the title has it
		p.coloured("besides", fmt.Sprintf("%s, %d ready", othersText([]podGroup{g}), g.Ready), p.paint.yellow)
	}
	if d.Digest != "" { // with its label as wide as a terminal
		p.lines = append(p.lines, "  "+p.paint.dim("digest")+" "+printable(d.Digest))
	}
	if d.Pinned != nil && commit != nil && d.Pinned.Revision == commit.Revision {
		p.entry("pinned by", "that commit")
	} else {
		p.entry("pinned by", d.Pinned.text(now))
	}
	d.buildText(p)
}

func (d *deploymentChain) buildText(p *page) {
	b := d.Build
	if b == nil {
		if d.Digest != "" {
			p.entry("recorded", "no: builds/ has nothing of this digest")
		}
		return
	}
	p.entry("recorded", b.CreatedAt.UTC().Format("2006-01-02 15:04 UTC"))
	if s := b.Source; s != nil {
		p.entry("source", strings.TrimSpace(short(s.Commit)+" "+firstLine(s.Message)))
		p.entry("", cmp.Or(s.URL, s.Repository))
	}
	if r := b.Run; r != nil {
		p.entry("run", strings.TrimSpace(r.ID+" "+r.URL))
	}
	for i, c := range b.Checks {
		label := ""
		if i == 0 {
			label = "checks"
		}
		text := c.Name + " " + c.Status
		if c.Summary != "" {
			text += " (" + c.Summary + ")"
		}
		p.entry(label, text)
	}
}

// shownPods is how many pods of a workload are listed; those with a problem first.
const shownPods = 8

func (w *workloadView) text(p *page) {
	ready := 0
	for _, pod := range w.Pods {
		if pod.Ready {
			ready++
		}
	}
	title := "no pods"
	if len(w.Pods) > 0 {
		title = fmt.Sprintf("%d of %s ready", ready, countOf(len(w.Pods), "pod"))
	}
	p.title(printable(w.Object + "  " + title))
	pods := slices.Clone(w.Pods)
	slices.SortStableFunc(pods, func(a, b podView) int { return cmp.Compare(gravity(a), gravity(b)) })
	for _, pod := range pods[:min(len(pods), shownPods)] {
		state, colour := pod.Phase, p.paint.yellow
		switch {
		case pod.Ready:
			state, colour = "Ready", p.paint.green
		case pod.Problem != "":
			colour = p.paint.red
		}
		text := colour(printable(state)) + "  " + printable(pod.Name)
		if pod.Digest != "" {
			text += "  " + buildID(pod.Digest)
		}
		if pod.Restarts > 0 {
			text += "  " + countOf(int(pod.Restarts), "restart")
		}
		p.lines = append(p.lines, "  "+text)
		if pod.Problem != "" {
			width := 0
			if p.width > 0 {
				width = max(30, p.width-4)
			}
			for _, l := range wrapped(printable(pod.Problem), width) {
				p.lines = append(p.lines, "    "+l)
			}
		}
	}
	if rest := len(pods) - shownPods; rest > 0 {
		p.lines = append(p.lines, "  "+p.paint.dim(fmt.Sprintf("and %s more", countOf(rest, "pod"))))
	}
}

// gravity sorts pods: those with a problem, those that start, those that are ready.
func gravity(p podView) int {
	switch {
	case p.Problem != "":
		return 0
	case !p.Ready:
		return 1
	}
	return 2
}
