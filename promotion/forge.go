package promotion

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Forge is the host of the pull requests. Its methods are safe for concurrent
// use, by several processes too, and their errors can be told apart with
// errors.Is: ErrNotFound, ErrClosed, ErrHeadMoved, ErrTargetMoved,
// ErrMergeConflict and ErrRefused. Any other error is a failure of the forge
// itself, after which nothing or everything has happened: repeating the call
// is safe.
type Forge interface {
	// Open makes the pull request of spec.Branch, or updates the open one in
	// place: there is never more than one open for a branch. A closed or merged
	// pull request is not revived, a new one is made. The branch is moved from
	// spec.OldHead to spec.Head compare-and-swap; Head is a commit of the
	// repository's local store and need not have been pushed. Nothing is
	// written when all is as spec says already.
	// ErrHeadMoved: the branch is neither at OldHead nor at Head.
	Open(ctx context.Context, spec Spec) (PullRequest, error)

	// List returns the pull requests that o selects, newest first. One that was
	// merged with plain Git is reported merged, one whose branch was deleted
	// closed, and Head is where the branch is, whoever pushed to it. Statuses and
	// comments are not filled in, nor reasons where each costs a request.
	List(ctx context.Context, o ListOptions) ([]PullRequest, error)

	// Get returns one pull request with the statuses of its head and the comments
	// that Announcer.Comment wrote.
	// ErrNotFound: there is none of that number.
	Get(ctx context.Context, number int) (PullRequest, error)

	// Close closes an open pull request, records why, and deletes its branch
	// where the forge allows it. Closing a closed one changes nothing.
	// ErrNotFound; ErrClosed: it has been merged.
	Close(ctx context.Context, number int, reason string) error

	// Merge merges exactly the commit m.Head and returns the revision that the
	// target branch then has. Whether the branch stays is the forge's matter. ErrNotFound; ErrClosed: it is not open;
	// ErrHeadMoved: the branch is not at m.Head; ErrTargetMoved: the target is
	// not at m.Target (a forge that cannot guard the target ignores it);
	// ErrMergeConflict (a *ConflictError where the files are known);
	// ErrRefused: the forge's own rules do not let it be merged.
	Merge(ctx context.Context, number int, m MergeSpec) (revision string, err error)

	// SetStatuses publishes statuses on a commit, each replacing the one of the
	// same context there. Publishing the same again writes nothing.
	// ErrNotFound: the repository has no such commit.
	SetStatuses(ctx context.Context, commit string, statuses []Status) error
}

// Announcer is where a forge tells people what has become of a revision, beside
// the statuses of a commit. Every forge here has it; what one lacks answers
// ErrUnsupported, which callers report once and go on without. It is output
// only: nothing is ever decided by what was announced.
type Announcer interface {
	// Comment writes a comment on a pull request, whatever its state: body is
	// Markdown and replaces the comment of the same key, which is made when there
	// is none. The same again writes nothing. A key is 1 to 100 of the characters
	// a-z, 0-9, dot, slash, dash, underscore and colon, the first a letter or
	// digit; CheckKey tells. ErrNotFound; ErrUnsupported.
	Comment(ctx context.Context, number int, key, body string) error

	// Deploy records how a revision fares in an environment, replacing what was
	// said of the same component and revision there. The same again writes
	// nothing. ErrNotFound: the repository has no such revision; ErrUnsupported.
	Deploy(ctx context.Context, d Deployment) error

	// Unfinished returns the deployments to some environments that were last said to
	// be in progress, at most one for a release: the newest. A forge may look through
	// the last hundred deployments only. ErrUnsupported.
	Unfinished(ctx context.Context, environments []string) ([]Deployment, error)
}

// commentKey is what a comment's key may be: nothing that ends an HTML comment,
// where forges hide it.
var commentKey = regexp.MustCompile(`^[a-z0-9][a-z0-9./_:-]{0,99}$`)

// CheckKey refuses what cannot be the key of a comment.
func CheckKey(key string) error {
	if !commentKey.MatchString(key) {
		return fmt.Errorf("%q cannot be the key of a comment", key)
	}
	return nil
}

// DeploymentState is how a deployment stands, in the words that forges share.
type DeploymentState string

// The states of a deployment.
const (
	DeploymentInProgress DeploymentState = "in_progress"
	DeploymentSuccess    DeploymentState = "success"
	DeploymentFailure    DeploymentState = "failure"
	// DeploymentInactive says that it ended without an outcome: a newer commit came,
	// or the release is not applied any more.
	DeploymentInactive DeploymentState = "inactive"
)

// Deployment is one release at one revision, as people see it on a forge.
type Deployment struct {
	Environment string
	Component   string
	Revision    string // commit of the environments repository
	State       DeploymentState
	Description string // one line, at most MaxDescription characters
	URL         string // where the release is reached; "" when not known
}

// Control-flow errors of a Forge.
var (
	ErrUnsupported   = errors.New("the forge has nothing like it")
	ErrNotFound      = errors.New("no such pull request")
	ErrClosed        = errors.New("the pull request is not open")
	ErrHeadMoved     = errors.New("the head of the pull request has moved")
	ErrTargetMoved   = errors.New("the target branch has moved")
	ErrMergeConflict = errors.New("the pull request conflicts with its target")
	ErrRefused       = errors.New("the forge refuses")
)

// State is where a pull request stands.
type State string

// The states of a pull request.
const (
	Open   State = "open"
	Merged State = "merged"
	Closed State = "closed"
)

// PullRequest is a pull request as a forge reports it.
type PullRequest struct {
	Number         int       `json:"number"`
	Title          string    `json:"title"`
	Body           string    `json:"body"` // Markdown
	State          State     `json:"state"`
	Reason         string    `json:"reason,omitempty"` // why it was closed
	Branch         string    `json:"branch"`           // the head branch, without refs/heads/
	Target         string    `json:"target"`           // the branch it merges into
	Head           string    `json:"head"`             // the commit that would be merged
	MergedRevision string    `json:"mergedRevision,omitempty"`
	Author         string    `json:"author,omitempty"`
	Environment    string    `json:"environment"` // the target environment
	Components     []string  `json:"components"`  // sorted
	Labels         []string  `json:"labels,omitempty"`
	CreatedAt      time.Time `json:"createdAt"`
	UpdatedAt      time.Time `json:"updatedAt"`
	Statuses       []Status  `json:"statuses,omitempty"` // of Head, by context; output for people, never an input of a decision
	Comments       []Comment `json:"comments,omitempty"` // what Sluice wrote, by key; for people as well
	URL            string    `json:"url,omitempty"`      // where people see it; empty when the forge has no page
}

// Comment is one that Announcer.Comment wrote.
type Comment struct {
	Key  string `json:"key"`
	Body string `json:"body"` // Markdown
}

// Spec is a pull request as it should be.
type Spec struct {
	Branch      string
	Target      string
	Head        string // commit to be merged
	OldHead     string // commit the branch was seen at; "": it did not exist
	Title       string
	Body        string
	Environment string
	Components  []string
	Labels      []string
}

// Check refuses what no forge opens: target is the branch that it merges into.
func (s Spec) Check(target string) error {
	_, _, ok := ParseBranch(s.Branch)
	switch {
	case !ok:
		return fmt.Errorf("opening a pull request: %q is not the branch of a promotion or a change of traffic", s.Branch)
	case s.Target != target:
		return fmt.Errorf("opening a pull request into %q: this forge merges into %s", s.Target, target)
	case !IsCommit(s.Head):
		return fmt.Errorf("opening a pull request of %s: %q is not a commit", s.Branch, s.Head)
	case strings.TrimSpace(s.Title) == "":
		return fmt.Errorf("opening a pull request of %s: it has no title", s.Branch)
	}
	return nil
}

// MergeSpec says what exactly is to be merged.
type MergeSpec struct {
	Head    string // the judged head
	Target  string // the judged head of the target branch; "": whatever it is
	Message string // of the merge commit; "": the forge's default
}

// ListOptions selects pull requests; zero fields select all.
type ListOptions struct {
	Kind        Kind
	State       State
	Environment string
	Component   string
	Branch      string
}

// Selects reports whether p is among the ones that o asks for.
func (o ListOptions) Selects(p PullRequest) bool {
	return (o.Kind == "" || o.Kind == KindOf(p.Branch)) &&
		(o.State == "" || o.State == p.State) &&
		(o.Environment == "" || o.Environment == p.Environment) &&
		(o.Component == "" || slices.Contains(p.Components, o.Component)) &&
		(o.Branch == "" || o.Branch == p.Branch)
}

// StatusState is the outcome that a status publishes.
type StatusState string

// The outcomes of a status, in the words that forges share.
const (
	StatusSuccess StatusState = "success"
	StatusPending StatusState = "pending"
	StatusFailure StatusState = "failure"
)

// MaxDescription is the longest description of a status, in characters: the
// limit of the narrowest forge.
const MaxDescription = 140

// Status is published on a commit for people to see.
type Status struct {
	Context     string      `json:"context"` // for example sluice/soak
	State       StatusState `json:"state"`
	Description string      `json:"description"` // at most MaxDescription characters
	URL         string      `json:"url,omitempty"`
}
