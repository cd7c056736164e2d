package reconciler

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Status is what became of one pass over a release.
type Status struct {
	Environment string
	Namespace   string
	Release     string // "" when it is about the environment as a whole
	Revision    string // full commit hash
	State       State
	Reason      string    // one of v1alpha1's
	Message     string    // one line, the same until something changes
	Stage       PassStage // where the release stands, or where a pass over it failed
	Hint        string    // what to do, "" when there is nothing to say
	Notes       []string
	// Final says that waiting will not change anything.
	Final bool
	// Counts are of the objects since this content of the release came in.
	Counts Counts
	// Traffic is what the routes carry: "blue=90 green=10 mirror:green=5", ""
	// for an untagged release.
	Traffic string
	Digest  string               // untagged
	Tags    []v1alpha1.TagStatus // tagged

	UID    types.UID // of the Release; "" when there is none
	Pruned []string  // what this pass has deleted, because the repository has it no more
	// News says that this pass has brought a change: the Release said something else
	// before it, or was at another content.
	News bool
}

// Reasons of statuses that are about an environment, or all of them, and not about a
// release.
const (
	ReasonRepositoryUnreadable = "RepositoryUnreadable" // it is tried again
	ReasonCommitRefused        = "CommitRefused"        // the newest commit must not be applied
)

// Counts are numbers of objects.
type Counts struct {
	Created, Configured, Unchanged, Pruned int
}

// Total is the number of objects that were looked at.
func (c Counts) Total() int { return c.Created + c.Configured + c.Unchanged + c.Pruned }

// Reporter takes statuses elsewhere (a forge, an event, a metric). It is called
// when something about a release has changed, from several goroutines. It must
// return soon; its errors are its own to handle, a lost report is repeated with
// the next change only.
type Reporter interface {
	Report(ctx context.Context, s Status)
}

// Report is the outcome of Engine.Converge.
type Report struct {
	Environment string
	Namespace   string
	Revision    string
	Releases    []Status // in the repository's order: the environment's own first
}

// OK reports whether every release is ready, paused or removed.
func (r Report) OK() bool {
	for _, s := range r.Releases {
		if s.State == StateFailed || s.State == StateHeld || s.State == StateWaiting {
			return false
		}
	}
	return true
}
