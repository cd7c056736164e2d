package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	terminal "golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

const (
	// redrawEvery is how often ages on a terminal, and its size, are looked at.
	redrawEvery = time.Second
	// rereadEvery is how often the repository is looked at while nothing happens in
	// the cluster.
	rereadEvery = 30 * time.Second
)

// watchStatus follows the releases until ctx ends, or what is waited for is so.
func (a *app) watchStatus(ctx context.Context, names []string, o statusOptions) error {
	releases, err := a.openReleases()
	if err != nil {
		return err
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	var s statusScreen = &statusLines{app: a}
	if f, ok := a.Stdout.(*os.File); ok && isTerminal(f) && (a.output == "" || a.output == "table") && a.Getenv("TERM") != "dumb" {
		s = &statusTerminal{app: a, file: f}
	}
	err = a.followStatus(ctx, releases, names, o, s)
	if closeErr := s.close(); err == nil {
		err = closeErr
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil && o.timeout > 0 {
		return codedError{fmt.Errorf("not all is %s within %s", o.until, o.timeout), exitNotReady}
	}
	return err
}

// statusScreen shows states of the releases, one after the other.
type statusScreen interface {
	show(list []releaseStatus) error // what there is now
	warn(text string)                // "" when it is over
	tick() error
	close() error
}

func (a *app) followStatus(ctx context.Context, releases *clusterReleases, names []string, o statusOptions, s statusScreen) error {
	changed := make(chan struct{}, 1)
	watched := map[string]bool{}
	redraw, reread := time.NewTicker(redrawEvery), time.NewTicker(rereadEvery)
	defer redraw.Stop()
	defer reread.Stop()
	for {
		list, partial, err := a.readStatus(ctx, names, o)
		if ctx.Err() != nil {
			return endOf(ctx)
		}
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Namespace != "" && !watched[r.Namespace] {
				watched[r.Namespace] = true
				releases.watch(ctx, r.Namespace, changed)
			}
		}
		warning := ""
		if partial != nil {
			warning = partial.Error()
		}
		s.warn(warning)
		if err := s.show(list); err != nil {
			return err
		}
		if partial == nil && met(o.until, list) {
			return nil
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return endOf(ctx)
			case <-changed:
				waiting = false
			case <-reread.C:
				waiting = false
			case <-redraw.C:
				if err := s.tick(); err != nil {
					return err
				}
			}
		}
	}
}

// endOf is nil when a person has ended it, an error when the time has.
func endOf(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return nil
}

// met reports whether all releases are as is waited for.
func met(until string, list []releaseStatus) bool {
	if until == "" {
		return false
	}
	for _, r := range list {
		switch r.State {
		case v1alpha1.ConditionReady, "Paused":
		case v1alpha1.ConditionStalled:
			if until == "ready" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// statusLines writes a line for every release that has changed, the present state of
// all first: for logs and pipes.
type statusLines struct {
	*app
	last   map[string]releaseStatus
	warned string
}

func (s *statusLines) tick() error  { return nil }
func (s *statusLines) close() error { return nil }

func (s *statusLines) warn(text string) {
	if text != "" && text != s.warned {
		s.note("warning: %s", text)
	}
	s.warned = text
}

func (s *statusLines) show(list []releaseStatus) error {
	now := map[string]releaseStatus{}
	for _, r := range list {
		name := r.where() + "/" + r.Release
		now[name] = r
		if before, known := s.last[name]; known && reflect.DeepEqual(before, r) {
			continue
		}
		if err := s.line(r); err != nil {
			return err
		}
	}
	for name, r := range s.last {
		if _, there := now[name]; !there {
			r.State, r.Reason, r.Message, r.Hint = "Removed", v1alpha1.ReasonRemoved, "has left the repository and the cluster", ""
			if err := s.line(r); err != nil {
				return err
			}
		}
	}
	s.last = now
	return nil
}

// line is one release: of JSON a line, of YAML a document.
func (s *statusLines) line(r releaseStatus) error {
	switch s.output {
	case "json":
		enc := json.NewEncoder(s.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	case "yaml":
		out, err := yaml.Marshal(r)
		if err != nil {
			return fmt.Errorf("writing YAML: %w", err)
		}
		_, err = fmt.Fprintf(s.Stdout, "---\n%s", out)
		return err
	}
	_, err := fmt.Fprintln(s.Stdout, changeLine(s.Now(), r))
	return err
}

// changeLine is the state of a release in one line.
func changeLine(now time.Time, r releaseStatus) string {
	parts := []string{now.UTC().Format(time.RFC3339), r.where() + "/" + r.Release, r.State}
	if r.summary.Digests != "" {
		parts = append(parts, r.summary.Digests)
	}
	if r.summary.Traffic != "" {
		parts = append(parts, "("+r.summary.Traffic+")")
	}
	if others := othersText(r.others()); others != "" {
		parts = append(parts, "("+others+")")
	}
	text := strings.Join(parts, " ")
	switch {
	case r.Held != nil && r.onlyHeld():
		text += ": held: " + r.Held.Message
	case r.State != v1alpha1.ConditionReady && r.Message != "":
		text += ": " + r.Reason + ": " + r.problem()
	}
	if r.Refused != nil {
		text += ": commit " + short(r.Refused.Revision) + " is refused: " + r.Refused.Message
	}
	return strings.Join(strings.Fields(printable(text)), " ")
}

// statusTerminal redraws a terminal's alternate screen: what was on the terminal before
// is there again afterwards, and below it the last state.
type statusTerminal struct {
	*app
	file    *os.File
	open    bool
	list    []releaseStatus
	warning string
}

func (s *statusTerminal) warn(text string) { s.warning = text }

func (s *statusTerminal) show(list []releaseStatus) error {
	s.list = list
	return s.tick()
}

// tick draws what there is in one write, over what is there: a line ends with what
// clears the rest of it, so nothing flickers.
func (s *statusTerminal) tick() error {
	width, height, err := terminal.GetSize(int(s.file.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = helpWidth, 24
	}
	var b strings.Builder
	if !s.open {
		s.open = true
		b.WriteString("\x1b[?1049h\x1b[?25l")
	}
	b.WriteString("\x1b[H")
	for i, l := range s.drawn(width, height) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err = s.file.WriteString(b.String())
	return err
}

func (s *statusTerminal) drawn(width, height int) []string {
	f := frame{s.Now(), width, height, s.painter(s.Stdout)}
	if s.warning == "" {
		return f.lines(s.list)
	}
	f.height--
	return append(f.lines(s.list), f.paint.yellow(cut(printable("warning: "+s.warning), width)))
}

// close gives the terminal back, with the last state on it.
func (s *statusTerminal) close() error {
	if !s.open {
		return nil
	}
	if _, err := s.file.WriteString("\x1b[?25h\x1b[?1049l"); err != nil {
		return err
	}
	return s.print(s.list, func(t *table) { s.statusTable(t, s.list) })
}
