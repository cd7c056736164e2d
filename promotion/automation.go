package promotion

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
)

// Occasion is what automation knows of one component and its target environment.
// Nothing of it is remembered: it comes from the target branch, from what the two
// environments report, and from the pull requests that are closed.
type Occasion struct {
	Now         time.Time
	Environment string // the target
	Policy      envrepo.Promotion
	Component   string
	Builds      []envrepo.Build

	Source       string   // the digest that the source environment declares
	MovedOn      []string // digests that it had, with only newer builds since
	SourceHealth HealthReport

	Pins         []string      // what the target declares, in all tags
	Wanted       []string      // those of them that should run
	Had          []declaration // what it has declared, newest first
	TargetHealth HealthReport
	TargetSeen   bool // what it says is of the commit that brought Pins, or of a later one

	declared         []declaration // what the source has declared, newest first
	recalled, looked bool          // Had and declared are known; the rest is

	Open      []string // digests that open pull requests bring
	Back      int      // an open pull request that goes back to what the target has had; 0: none does
	Withdrawn []Withdrawal
}

// Withdrawal is a pull request that was closed without being merged.
type Withdrawal struct {
	Number  int
	Digests []string  // that its head had; nil when the head cannot be read any more
	At      time.Time // when it last changed
}

// Step is what automation does next about a component.
type Step struct {
	Component string    `json:"component"`
	Digest    string    `json:"digest,omitempty"` // to be proposed; "": nothing is
	Message   string    `json:"message"`          // why, or what is awaited
	Until     time.Time `json:"until,omitzero"`   // when it may be otherwise if nothing changes; zero: not known
}

// shortlist are the digests that may be promoted at all, newest build first: what
// the source environment declares, and what has served there until a commit
// replaced it, as far as they are newer than all that the target declares.
func (o Occasion) shortlist() []string {
	list := []string{o.Source}
	for _, s := range o.SourceHealth.Served {
		list = append(list, s.Digest)
	}
	list = slices.DeleteFunc(list, func(digest string) bool {
		_, known := created(o.Builds, digest)
		return !known || slices.ContainsFunc(o.Pins, func(pin string) bool { return !o.after(digest, pin) })
	})
	slices.SortStableFunc(list, func(a, b string) int {
		x, _ := created(o.Builds, a)
		y, _ := created(o.Builds, b)
		return y.Compare(x)
	})
	return slices.Compact(list)
}

// after reports whether a digest is a newer build than another, which may have no
// record.
func (o Occasion) after(digest, other string) bool {
	if _, known := created(o.Builds, other); !known {
		return digest != other
	}
	return newer(o.Builds, digest, other)
}

// Next decides what automation proposes: the newest build that has proved itself in
// the source environment, if automation may touch the target now.
func (o Occasion) Next() Step {
	step := Step{Component: o.Component, Message: "nothing newer is in " + o.Policy.From}
	for _, digest := range o.shortlist() {
		if digest != o.Source && !slices.Contains(o.MovedOn, digest) {
			continue // it was taken back
		}
		if g := o.proven(digest); g.State != Passed {
			if step.Until.IsZero() { // of the newest that is awaited
				step.Message, step.Until = g.Message, g.Until
			}
			continue
		}
		if slices.ContainsFunc(o.Open, func(open string) bool { return newer(o.Builds, open, digest) }) {
			step.Message = "a newer build is proposed already"
			return step
		}
		if reason := o.held(digest); reason != "" {
			step.Message, step.Until = reason, time.Time{}
			return step
		}
		return Step{Component: o.Component, Digest: digest, Message: fmt.Sprintf("%s has proved itself in %s", short(digest), o.Policy.From)}
	}
	return step
}

// proven judges whether a digest has run well in the source environment for as long
// as policy demands, by the gates themselves.
func (o Occasion) proven(digest string) Gate {
	in := Input{Now: o.Now, Environment: o.Environment, Policy: o.Policy, Components: []ComponentInput{{
		Name: o.Component, New: digest, Source: o.Source, MovedOn: digest != o.Source, Health: o.SourceHealth,
	}}}
	for _, judge := range []func(Input) Gate{judgeOrderOf, judgeHealthy, judgeSoak} {
		if g := judge(in); g.State != Passed {
			return g
		}
	}
	return Gate{State: Passed}
}

// judgeOrderOf is judgeOrder of an environment that is declared.
func judgeOrderOf(in Input) Gate {
	in.Declared = true
	return judgeOrder(in)
}

// held says why automation must not bring a digest into the target now, whatever
// the gates say; "" when it may. It only ever goes forward, one build at a time:
//
//  1. not to a build that the target had, or that is older than one it had: when
//     people go back, they have a reason;
//  2. not while somebody proposes to go back;
//  3. not to one whose pull request was withdrawn;
//  4. not while the target is not ready with what it declares now, as one could not
//     tell which build it was; that it was ready before its last merge says nothing;
//  5. after a build that failed there, only to one that was built since.
func (o Occasion) held(digest string) string {
	for _, d := range o.Had {
		if !o.after(digest, d.digest) {
			return fmt.Sprintf("%s has had %s: going back to it, or past it, is for a person", o.Environment, short(d.digest))
		}
	}
	if o.Back != 0 {
		return fmt.Sprintf("pull request #%d goes back in %s: it is for a person to merge or to close", o.Back, o.Environment)
	}
	if !slices.Contains(o.Open, digest) {
		for _, w := range o.Withdrawn {
			if o.withdrew(w, digest) {
				return fmt.Sprintf("pull request #%d was closed: a newer build, or a person, goes on", w.Number)
			}
		}
	}
	h := o.TargetHealth
	switch {
	case len(o.Had) == 0:
		return "" // nothing runs there that could be unwell
	case !h.Known:
		return fmt.Sprintf("health in %s is not known: %s", o.Environment, orElse(h.Message, "nobody reports it"))
	case o.lags() != "":
		return fmt.Sprintf("%s does not run %s yet", o.Environment, short(o.lags()))
	case h.Ready:
		return ""
	case !h.Failed:
		return fmt.Sprintf("%s is not ready: %s", o.Environment, orElse(h.Message, "no reason is reported"))
	}
	if at, _ := created(o.Builds, digest); at.After(o.Had[0].at) {
		return ""
	}
	return fmt.Sprintf("%s has failed: %s: a build made since, or a person, goes on", o.Environment, orElse(h.Message, "no reason is reported"))
}

// lags is a digest that the target should run and that its health is not about, ""
// when there is none. One that failed before it ran, as what does not render does,
// has been seen all the same.
func (o Occasion) lags() string {
	if o.TargetHealth.Failed && o.TargetSeen {
		return ""
	}
	for _, digest := range o.Wanted {
		if !slices.Contains(o.TargetHealth.Digests, digest) {
			return digest
		}
	}
	return ""
}

// withdrew reports whether a closed pull request was about a digest. Where its head
// is gone, it was if it was closed after the digest had been built.
func (o Occasion) withdrew(w Withdrawal, digest string) bool {
	if w.Digests != nil {
		return slices.Contains(w.Digests, digest)
	}
	at, _ := created(o.Builds, digest)
	return w.At.After(at)
}
