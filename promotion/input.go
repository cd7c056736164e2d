package promotion

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render/diff"
)

// Input is all that is known of a pull request, read once: Body and Judge are
// pure functions over it. Policy, build records and what the source declares
// are always the target branch's, never the head's.
type Input struct {
	Now         time.Time
	Kind        Kind              // what it is: a promotion where it says nothing
	Environment string            // the target environment
	Declared    bool              // the target branch has the environment
	Policy      envrepo.Promotion // of the target environment
	Drain       time.Duration     // of the target environment, before an unlisted tag is scaled to zero
	Branch      string            // the branch that everything is judged against
	Target      string            // the branch the pull request merges into
	Head        string            // the head branch
	Components  []ComponentInput  // what the head changes, by name; one where it changes traffic

	Foreign   []string // what the head changes beside the digests, or the traffic, as "file: what"
	Conflicts []string // files that both sides changed to different content
	Stale     []string // files that decide the render and changed on the target branch since the head was made
}

// ComponentInput is what is known of one component of a pull request. Of a change of
// traffic, that is no digest.
type ComponentInput struct {
	Name string
	Tag  string // the tag that the digest goes to; "" when the release is untagged
	Old  string // the digest that is replaced, "" when there is none
	New  string

	OldBuild *envrepo.Build // nil: no record
	NewBuild *envrepo.Build // nil: no record
	OldPage  string         // address of the record's page, "" when there is none
	NewPage  string
	Between  []envrepo.Build // the records after OldBuild up to NewBuild, newest first
	Back     bool            // NewBuild is older than OldBuild
	Source   string          // the digest that the source environment declares, "" when none
	MovedOn  bool            // the source declared New before, and only newer builds since

	Returns bool         // the target has had New before, and the source does not have it or it is older than Old: a rollback
	Here    HealthReport // of the target environment, when New returns to it

	OldTraffic *envrepo.Traffic // nil: untagged
	NewTraffic *envrepo.Traffic
	Shares     []Share // of a change of traffic: every tag that is listed, before or after

	Contracts   []ContractInput
	RenderError string        // the merged result does not render: why
	OldError    string        // the present state does not render: why
	Objects     []diff.Change // what merging changes of the rendered objects
	Keyless     []string      // files whose values cannot be shown
	OverlayPage string        // address of the overlay at the head, "" when there is none

	Health HealthReport // of the source environment
}

// Share is what a change of traffic does to one tag.
type Share struct {
	Tag      string
	Digest   string
	Build    *envrepo.Build // nil: no record
	Old, New Portion
	Broken   string     // why its overlay cannot be read or rendered
	Health   *TagHealth // nil: not known
}

// Portion is what a tag gets of the requests.
type Portion struct {
	Listed bool // its pods run
	Weight int  // percent
	Mirror int  // percent that is copied to it
}

// Gains reports whether the tag has to be ready for the change: it gets more requests
// or copies than before, or begins to run.
func (s Share) Gains() bool {
	return s.New.Weight > s.Old.Weight || s.New.Mirror > s.Old.Mirror || s.New.Listed && !s.Old.Listed
}

// ContractInput is a config contract held against the merged result.
type ContractInput struct {
	Role     string // whose it is: "new digest", "rollback target" or "running"
	Tag      string // the tag that it runs in, "" when untagged
	Digest   string
	Known    bool     // a contract is recorded
	Required []string // names
	Missing  []string // names, each with the container that would not see it
	Keys     []string // the names alone, in the order of Missing
	Unsure   []string // those that may come from an object made elsewhere; no gate minds them
	Invalid  []string // plain values that the component's schema does not allow, or why that is not known
	Remedy   string   // the commands that add Keys; "" where something else is wrong
}

// Broken reports whether the contract does not hold.
func (c ContractInput) Broken() bool { return len(c.Missing)+len(c.Invalid) > 0 }

// faults say why the contract does not hold.
func (c ContractInput) faults() string {
	faults := slices.Clone(c.Invalid)
	if len(c.Missing) > 0 {
		faults = slices.Insert(faults, 0, "misses "+strings.Join(c.Missing, ", "))
	}
	return strings.Join(faults, "; ")
}

// remedy is what to do about contracts that do not hold in an environment.
func remedy(contracts []ContractInput, environment string) string {
	for _, c := range contracts {
		if c.Remedy != "" {
			return c.Remedy
		}
	}
	return "correct the configuration of " + environment
}

// short returns the first 12 hex digits of a digest, the name people use.
func short(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(12, len(hex))]
}

// Who says whose contract it is, such as "rollback target in green".
func (c ContractInput) Who() string { return c.who() }

func (c ContractInput) who() string {
	if c.Tag == "" {
		return c.Role
	}
	return c.Role + " in " + c.Tag
}
