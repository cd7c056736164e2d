package promotion

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
)

// GateState is a gate's verdict.
type GateState string

// The verdicts of a gate: Pending may pass by waiting, Failed will not.
const (
	Passed  GateState = "passed"
	Pending GateState = "pending"
	Failed  GateState = "failed"
)

// The names of the gates; Contexts of their statuses are "sluice/" and the name.
const (
	GateConfig  = "config"
	GateChecks  = "checks"
	GateHealthy = "healthy"
	GateSoak    = "soak"
	GateOrder   = "order"
	GateFresh   = "fresh"
	GateScope   = "scope"
)

// StatusPrefix begins the context of every status that a gate is published as.
const StatusPrefix = "sluice/"

// Gate is one condition of a promotion and how it stands. The same facts give
// the same text: Message holds no "ago" and no "remaining".
type Gate struct {
	Name    string    `json:"name"`
	State   GateState `json:"state"`
	Message string    `json:"message"`        // why it passed, or what is awaited
	Until   time.Time `json:"until,omitzero"` // when it passes if nothing changes; zero: not known
	Hint    string    `json:"hint,omitempty"` // what to do when waiting does not help
}

// String gives the gate in one line.
func (g Gate) String() string { return fmt.Sprintf("%s %s: %s", g.Name, g.State, g.Message) }

// Status is how the gate is published.
func (g Gate) Status() Status {
	states := map[GateState]StatusState{Passed: StatusSuccess, Pending: StatusPending, Failed: StatusFailure}
	return Status{
		Context:     StatusPrefix + g.Name,
		State:       states[g.State],
		Description: cut(plain(g.Message), MaxDescription),
	}
}

// Unmet returns the gates that have not passed.
func Unmet(gates []Gate) []Gate {
	var unmet []Gate
	for _, g := range gates {
		if g.State != Passed {
			unmet = append(unmet, g)
		}
	}
	return unmet
}

// Judge decides every gate. All of them are always in the result, in the same
// order, so that a gate that policy stopped asking for leaves no old verdict
// behind.
func Judge(in Input) []Gate {
	chain := []rule{
		{GateScope, judgeScope},
		{GateFresh, judgeFresh},
		{GateOrder, judgeOrder},
		{GateConfig, judgeConfig},
		{GateChecks, judgeChecks},
		{GateHealthy, judgeHealthy},
		{GateSoak, judgeSoak},
	}
	if in.Kind == KindTraffic {
		chain = trafficGates
	}
	gates := make([]Gate, 0, len(chain))
	for _, rule := range chain {
		g := rule.judge(in)
		g.Name = rule.name
		gates = append(gates, g)
	}
	return gates
}

// rule is one gate of a chain.
type rule struct {
	name  string
	judge func(Input) Gate
}

func passed(format string, a ...any) Gate {
	return Gate{State: Passed, Message: fmt.Sprintf(format, a...)}
}

func pending(format string, a ...any) Gate {
	return Gate{State: Pending, Message: fmt.Sprintf(format, a...)}
}

func failed(hint, format string, a ...any) Gate {
	return Gate{State: Failed, Message: fmt.Sprintf(format, a...), Hint: hint}
}

// each judges every component; the worst verdict is the gate's, with the
// reasons of all components that have it.
func each(in Input, judge func(ComponentInput) Gate) Gate {
	if len(in.Components) == 0 {
		return failed("close the pull request, or propose again with `sluice promote`", "no digest changes")
	}
	rank := []GateState{Passed, Pending, Failed}
	var worst Gate
	var messages []string
	for i, c := range in.Components {
		var g Gate
		if c.New == "" {
			g = failed("`sluice check` shows it", "no digest can be read: %s", orElse(c.RenderError, "the overlay pins none"))
		} else {
			g = judge(c)
		}
		message := g.Message
		if len(in.Components) > 1 {
			message = c.Name + ": " + message
		}
		switch by := slices.Index(rank, g.State) - slices.Index(rank, worst.State); {
		case i == 0 || by > 0:
			worst, messages = g, []string{message}
		case by == 0:
			messages = append(messages, message)
			worst.Until = later(worst.Until, g.Until)
		}
	}
	worst.Message = strings.Join(messages, "; ")
	return worst
}

// later returns the later of two times, zero (not known) when either is.
func later(a, b time.Time) time.Time {
	switch {
	case a.IsZero() || b.IsZero():
		return time.Time{}
	case a.After(b):
		return a
	}
	return b
}

func promoteAgain(in Input) string {
	if in.Kind == KindTraffic {
		return fmt.Sprintf("`sluice traffic set COMPONENT --environment %s --tags TAG=PERCENT,… --pr` renews the pull request", in.Environment)
	}
	if len(in.Components) == 1 {
		return fmt.Sprintf("`sluice promote %s --to %s` renews the pull request", in.Components[0].Name, in.Environment)
	}
	return fmt.Sprintf("`sluice promote --all --to %s` renews the pull request", in.Environment)
}

// judgeScope demands that the head changes digests and nothing else.
func judgeScope(in Input) Gate {
	switch {
	case in.Target != in.Branch:
		return failed("close the pull request and propose again with `sluice promote`",
			"merges into %s instead of %s", in.Target, in.Branch)
	case len(in.Foreign) > 0:
		return failed(promoteAgain(in), "changes more than the digest: %s", strings.Join(in.Foreign, "; "))
	case len(in.Components) == 0:
		return failed("close the pull request, or propose again with `sluice promote`", "changes no digest")
	}
	return passed("changes the digest and nothing else")
}

// judgeFresh demands that what was reviewed is what merging makes.
func judgeFresh(in Input) Gate {
	switch {
	case len(in.Conflicts) > 0:
		return failed(promoteAgain(in), "%s has other changes to %s", in.Branch, strings.Join(in.Conflicts, ", "))
	case len(in.Stale) > 0:
		return failed(promoteAgain(in), "%s has changed since on %s", strings.Join(in.Stale, ", "), in.Branch)
	}
	return passed("rests on what %s has now", in.Branch)
}

// judgeOrder demands that the digest comes from the environment before: that it is
// the one which that declares, or has proved itself there before a newer build came
// (docs/adr/0021).
func judgeOrder(in Input) Gate {
	switch {
	case !in.Declared:
		return failed("close the pull request", "%s has no environment %s any more", in.Branch, in.Environment)
	case in.Policy.From == "" && !goesBack(in):
		return failed("deploy to it with `sluice deploy`", "no environment comes before %s", in.Environment)
	}
	return each(in, func(c ComponentInput) Gate {
		if c.Returns {
			return passed("a rollback: %s has had %s before", in.Environment, short(c.New))
		}
		switch c.Source {
		case c.New:
			return passed("%s has %s", in.Policy.From, short(c.New))
		case "":
			return failed(fmt.Sprintf("promote %s to %s first", c.Name, in.Policy.From),
				"%s has no digest of %s", in.Policy.From, c.Name)
		}
		if c.MovedOn {
			switch g := judgeServed(in, c, in.Policy.Gates.Soak); g.State {
			case Passed:
				return passed("%s had %s before %s", in.Policy.From, short(c.New), short(c.Source))
			case Pending:
				return g
			}
		}
		return failed(promoteAgain(in), "%s has %s, not %s", in.Policy.From, short(c.Source), short(c.New))
	})
}

// judgeConfig demands that the merged result renders and that every contract
// holds in it: of the new digest, of those that keep running, and of the one
// that a rollback would bring back.
func judgeConfig(in Input) Gate {
	return each(in, func(c ComponentInput) Gate {
		if c.RenderError != "" {
			return failed("`sluice check` shows it", "does not render: %s", c.RenderError)
		}
		if !in.Policy.Gates.Config {
			return passed("the contract is not demanded in %s", in.Environment)
		}
		var broken []string
		known := 0
		for _, contract := range c.Contracts {
			if contract.Known {
				known++
			}
			if contract.Broken() {
				broken = append(broken, fmt.Sprintf("%s (%s) %s", short(contract.Digest), contract.who(), contract.faults()))
			}
		}
		switch {
		case len(broken) > 0:
			return failed(remedy(c.Contracts, in.Environment), "%s", strings.Join(broken, "; "))
		case known == 0:
			return passed("no contract is recorded")
		}
		return passed("every required name is there")
	})
}

// judgeChecks demands that the checks which policy names have passed.
func judgeChecks(in Input) Gate {
	if len(in.Policy.Gates.Checks) == 0 {
		return passed("no check is demanded in %s", in.Environment)
	}
	return each(in, func(c ComponentInput) Gate {
		if c.NewBuild == nil {
			return failed("record it with `sluice build record`", "no build record of %s", short(c.New))
		}
		var bad []string
		for _, name := range in.Policy.Gates.Checks {
			if status := checkStatus(*c.NewBuild, name); status != "passed" {
				bad = append(bad, name+" is "+status)
			}
		}
		if len(bad) > 0 {
			// A record never changes, so waiting does not help.
			return failed("promote a build that has passed them", "%s: %s", short(c.New), strings.Join(bad, ", "))
		}
		return passed("%s passed", strings.Join(in.Policy.Gates.Checks, ", "))
	})
}

// notRecorded is the status of a check that a build has no record of.
const notRecorded = "not recorded"

// checkStatus returns the status of a check, "not recorded" when the build has
// none of that name, and the one that is not "passed" when it has several.
func checkStatus(b envrepo.Build, name string) string {
	status := notRecorded
	for _, check := range b.Checks {
		if check.Name != name {
			continue
		}
		if status = check.Status; status != "passed" {
			return status
		}
	}
	return status
}

// judgeHealthy demands that the digest runs well in the source environment.
func judgeHealthy(in Input) Gate {
	if !in.Policy.Gates.Healthy {
		return passed("health in %s is not demanded in %s", in.Policy.From, in.Environment)
	}
	return each(in, func(c ComponentInput) Gate {
		if c.Returns && (c.Source != c.New || unhealthy(in, c) != "") {
			return judgeReturn(in, c)
		}
		if c.MovedOn {
			return judgeServed(in, c, 0)
		}
		if reason := unhealthy(in, c); reason != "" {
			return pending("%s", reason)
		}
		return passed("ready in %s", in.Policy.From)
	})
}

// judgeSoak demands that it has run well there for long enough.
func judgeSoak(in Input) Gate {
	soak := in.Policy.Gates.Soak
	if soak <= 0 {
		return passed("no soak is demanded in %s", in.Environment)
	}
	return each(in, func(c ComponentInput) Gate {
		if c.Returns {
			return passed("a rollback waits for no soak")
		}
		if c.MovedOn {
			return judgeServed(in, c, soak)
		}
		if reason := unhealthy(in, c); reason != "" {
			return pending("%s of health in %s: %s", duration(soak), in.Policy.From, reason)
		}
		since := c.Health.Since
		if since.IsZero() {
			return pending("%s of health in %s: since when it is ready is not known", duration(soak), in.Policy.From)
		}
		if until := since.Add(soak); in.Now.Before(until) {
			g := pending("ready in %s since %s, awaited until %s", in.Policy.From, stamp(since), stamp(until))
			g.Until = until
			return g
		}
		return passed("ready in %s since %s, longer than %s", in.Policy.From, stamp(since), duration(soak))
	})
}

// judgeServed judges a digest that the source environment has replaced by a newer
// build: it must have been ready there until then, for long enough. What is missing
// of that does not come any more.
func judgeServed(in Input, c ComponentInput, soak time.Duration) Gate {
	from, h := in.Policy.From, c.Health
	run, ran := served(h, c.New)
	switch {
	case !h.Known:
		return pending("%s", unhealthy(in, c))
	case !ran && h.Ready && slices.Contains(h.Digests, c.New):
		return pending("%s goes on from %s to %s", from, short(c.New), short(c.Source))
	case !ran:
		return failed(promoteAgain(in), "%s was not ready in %s when %s replaced it", short(c.New), from, short(c.Source))
	case run.Until.Sub(run.Since) < soak:
		return failed(promoteAgain(in), "ready in %s from %s to %s only, shorter than %s", from, stamp(run.Since), stamp(run.Until), duration(soak))
	}
	return passed("was ready in %s from %s to %s, when a newer build came", from, stamp(run.Since), stamp(run.Until))
}

// served returns how long a digest served that has been replaced.
func served(h HealthReport, digest string) (Served, bool) {
	i := slices.IndexFunc(h.Served, func(s Served) bool { return s.Digest == digest })
	if i < 0 {
		return Served{}, false
	}
	return h.Served[i], true
}

// unhealthy says why the digest does not run well in the source environment,
// "" when it does.
func unhealthy(in Input, c ComponentInput) string {
	h := c.Health
	switch {
	case !h.Known:
		return fmt.Sprintf("health in %s is not known: %s", in.Policy.From, orElse(h.Message, "nobody reports it"))
	case !slices.Contains(h.Digests, c.New):
		return fmt.Sprintf("%s does not run %s yet", in.Policy.From, short(c.New))
	case !h.Ready:
		return fmt.Sprintf("not ready in %s: %s", in.Policy.From, orElse(h.Message, "no reason is reported"))
	}
	return ""
}

func orElse(text, fallback string) string {
	if text = plain(text); text != "" {
		return text
	}
	return fallback
}

// stamp is how times are written for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// duration writes 30m as 30m and not as 30m0s.
func duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
