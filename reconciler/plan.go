package reconciler

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// Action is what a step of a plan does.
type Action string

// The actions, in the order in which a plan has them.
const (
	ActionNamespace Action = "ensure namespace"
	ActionIntent    Action = "record intent"          // the inventory grows before anything is written
	ActionGrant     Action = "record acknowledgement" // of what is about to be deleted
	ActionScale     Action = "scale"                  // spec.replicas by its own field manager
	ActionApply     Action = "apply"
	ActionRecreate  Action = "recreate" // deletes what cannot be changed, and creates it anew
	ActionHold      Action = "hold"     // writes nothing: says why the routes stay, or objects that have left the repository
	ActionRoute     Action = "route"
	ActionRetire    Action = "retire" // an unlisted tag to zero
	ActionPrune     Action = "prune"
	ActionLater     Action = "prune later" // writes nothing: says what goes once nothing can need it
	ActionKeep      Action = "keep"        // writes nothing: says what is not pruned, and why
	ActionHandOver  Action = "hand over"   // writes nothing: says what another release takes over
	ActionForget    Action = "forget"      // deletes the Release object
)

// Plan is what one release needs now: steps in order, and what will be known
// and reported once they are done.
type Plan struct {
	Environment string
	Release     string
	Namespace   string
	Revision    string
	Steps       []Step
	Verdict     Verdict

	trials []trial     // before the first step
	diff   *difference // filled in by PlanEnvironment
	gates  []string    // what the routes wait for
	broken []error
}

// Broken are the errors of the tags that do not render. The plan is about the
// rest of the release, and leaves what runs of them alone.
func (p Plan) Broken() []error { return p.broken }

// Step is one part of a plan. A failing step ends the plan: later ones may need
// what it should have done. See refusals.go for what the next plan is then about.
type Step struct {
	Action Action
	Title  string // goes with Action in the text form
	Items  []Item

	inventory inventory.Set           // ActionIntent: what is persisted
	token     string                  // ActionGrant
	traffic   *v1alpha1.TrafficStatus // ActionRoute, and ActionPrune of old routes that something waits for: what the routes carry afterwards
}

// Item is one object of a step.
type Item struct {
	Object   *unstructured.Unstructured // desired; the live one for ActionPrune and ActionKeep
	Replicas int64                      // ActionScale
	Note     string                     // "create", "update", why it is kept

	leads bool // it is sent alone, before the rest of the step
}

// State is how a release is doing, in one word.
type State string

// The states of a release.
const (
	StateReady   State = "Ready"   // all is as declared
	StateWaiting State = "Waiting" // for pods, for another release, for requests to end
	StateHeld    State = "Held"    // the routes or objects stay as they are, on purpose
	StateFailed  State = "Failed"
	StatePaused  State = "Paused"
	StateRemoved State = "Removed" // left the repository, and the cluster
)

// Verdict is what a plan concludes about the release.
type Verdict struct {
	State   State
	Reason  string // one of v1alpha1's
	Message string
	// Ready, Reconciling and Stalled are the conditions; Paused has none of them.
	Ready, Reconciling, Stalled bool
	// After is when the release should be looked at again though nothing
	// happens; 0: never.
	After time.Duration
	// Notes are remarks that decide nothing: what is kept, which mirror is out.
	Notes []string

	applied   bool // the objects are as declared, so digests and tags describe them
	whole     bool // and so are routes and health
	digest    string
	tags      []v1alpha1.TagStatus
	traffic   *v1alpha1.TrafficStatus
	inventory inventory.Set
	keepers   map[inventory.ID]sighting // old routes that keep something from ending, as they were found
	unread    bool                      // the inventory is not known: it stays as it is
	attempt   *v1alpha1.Attempt
	waitsFor  []string // releases that are not ready
	routes    string   // hash of the routes of an untagged release
	state     string   // appliedState, of a release that needs nothing more
	hint      string   // what to do about it
}

// Final reports whether waiting will not change anything: what Converge waits
// for.
func (v Verdict) Final() bool {
	switch v.State {
	case StateReady:
		return !v.Reconciling
	case StateHeld, StateWaiting:
		return v.Stalled
	}
	return true
}

// Writes reports whether any step of the plan changes the cluster. What a pass
// reports afterwards is not counted.
func (p Plan) Writes() bool {
	for _, s := range p.Steps {
		if s.writes() {
			return true
		}
	}
	return false
}

func (s Step) writes() bool {
	switch s.Action {
	case ActionHold, ActionKeep, ActionLater, ActionHandOver:
		return false
	}
	return true
}

// String is the plan as text: a line for each step, an indented one for each
// object.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "release %s in %s, namespace %s", p.Release, p.Environment, p.Namespace)
	if p.Revision != "" {
		fmt.Fprintf(&b, ", revision %s", short(p.Revision))
	}
	b.WriteByte('\n')
	writeSteps(&b, "", p.Steps)
	if len(p.Steps) == 0 {
		b.WriteString("nothing to do\n")
	}
	v := p.Verdict
	fmt.Fprintf(&b, "report %s", v.State)
	if v.Reason != string(v.State) {
		fmt.Fprintf(&b, " %s", v.Reason)
	}
	if v.Stalled && v.State != StateFailed {
		b.WriteString(" (stalled)")
	}
	if v.Message != "" {
		fmt.Fprintf(&b, ": %s", v.Message)
	}
	b.WriteByte('\n')
	for _, n := range v.Notes {
		fmt.Fprintf(&b, "note %s\n", n)
	}
	if v.After > 0 {
		fmt.Fprintf(&b, "again in %s\n", v.After)
	}
	return b.String()
}

// writeSteps writes a line for each step, an indented one for each object.
func writeSteps(b *strings.Builder, indent string, steps []Step) {
	for _, s := range steps {
		b.WriteString(indent + strings.TrimRight(string(s.Action)+" "+s.Title, " ") + "\n")
		for _, i := range s.Items {
			b.WriteString(indent + "  " + i.String() + "\n")
		}
	}
}

// String is the item as a line of the plan's text.
func (i Item) String() string {
	text := inventory.IDOf(i.Object).Display()
	if i.Replicas > 0 {
		text += fmt.Sprintf(" to %d", i.Replicas)
	}
	if i.Note != "" {
		text += " (" + i.Note + ")"
	}
	return text
}

// short is a commit hash as people write it.
func short(revision string) string { return revision[:min(len(revision), 12)] }
