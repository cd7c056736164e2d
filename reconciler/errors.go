package reconciler

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// ObjectError says what became of one object.
type ObjectError struct {
	ID  inventory.ID
	Err error
}

func (e *ObjectError) Error() string { return e.Err.Error() }
func (e *ObjectError) Unwrap() error { return e.Err }

// CommitRefusedError is what a Source returns whose newest commit must not be
// applied, because it is not signed for instance.
type CommitRefusedError struct {
	Revision string // the newest commit
	Keep     string // an older one that is kept to meanwhile; "": what runs is left alone
	Err      error  // why
}

func (e *CommitRefusedError) Error() string { return e.Err.Error() }
func (e *CommitRefusedError) Unwrap() error { return e.Err }

// Hint tells what to do.
func (e *CommitRefusedError) Hint() string { return hintOf(e.Err) }

// ApplyError says which objects the API server did not take. See refusals.go for
// what is not sent because of them.
type ApplyError struct{ Objects []*ObjectError }

func (e *ApplyError) Error() string { return joinObjects(e.Objects) }
func (e *ApplyError) Unwrap() []error {
	return unwrapObjects(e.Objects)
}

// Hint tells what to do.
func (e *ApplyError) Hint() string {
	if hint := hintOf(unwrapObjects(e.Objects)...); hint != "" {
		return hint
	}
	return "correct the objects in the repository; `sluice diff` shows the same refusal without applying"
}

// PruneError says which objects could not be deleted. They stay in the
// inventory.
type PruneError struct{ Objects []*ObjectError }

func (e *PruneError) Error() string   { return joinObjects(e.Objects) }
func (e *PruneError) Unwrap() []error { return unwrapObjects(e.Objects) }

// Hint tells what to do.
func (e *PruneError) Hint() string { return hintOf(unwrapObjects(e.Objects)...) }

// RenderError says that the repository's files of a release cannot be turned
// into objects.
type RenderError struct {
	Release string
	Err     error
}

func (e *RenderError) Error() string {
	if config := (*ConfigError)(nil); errors.As(e.Err, &config) {
		return config.Error()
	}
	return fmt.Sprintf("rendering %s: %v", e.Release, e.Err)
}
func (e *RenderError) Unwrap() error { return e.Err }

// Hint tells what to do.
func (e *RenderError) Hint() string {
	if hint := hintOf(e.Err); hint != "" {
		return hint
	}
	return "see the whole message with: sluice check"
}

// PanicError says that something panicked on a release. With what is not told: it
// may be, or hold, decrypted values.
type PanicError struct{ Release Key }

func (e *PanicError) Error() string {
	return e.Release.String() + ": a library panicked on it; what it said is withheld, as it may hold decrypted values"
}

// Hint tells what to do.
func (e *PanicError) Hint() string {
	return "this is an error in sluice: report it with the stack that is in its log; reverting the last change of the release may help meanwhile"
}

// InventoryError says that the inventory of a Release cannot be read. It stays as
// it is, and the release is left alone: on half an inventory the other half would
// be forgotten.
type InventoryError struct {
	Release, Namespace string
	Err                error
}

func (e *InventoryError) Error() string { return fmt.Sprintf("Release/%s: %v", e.Release, e.Err) }
func (e *InventoryError) Unwrap() error { return e.Err }

// Hint tells what to do.
func (e *InventoryError) Hint() string {
	return fmt.Sprintf("a newer version of sluice may have written it, which is then to run here; else correct or delete the entry: kubectl edit release %s -n %s --subresource=status (or its annotation %s)",
		e.Release, e.Namespace, v1alpha1.AnnotationIntent)
}

// NamespaceTerminatingError says that an environment's namespace is being deleted:
// nothing can be written to it until it is gone.
type NamespaceTerminatingError struct{ Namespace string }

func (e *NamespaceTerminatingError) Error() string {
	return fmt.Sprintf("namespace %s is being deleted", e.Namespace)
}

// Hint tells what to do.
func (e *NamespaceTerminatingError) Hint() string {
	return "it is waited for; when it does not end, look at its conditions: kubectl get namespace " + e.Namespace + " -o yaml"
}

// NamespaceError says that the repository and the configuration disagree about
// an environment's namespace.
type NamespaceError struct {
	Environment string
	Configured  string
	Declared    string
}

func (e *NamespaceError) Error() string {
	return fmt.Sprintf("environment %s: sluice.yaml names namespace %q, this reconciler serves %q", e.Environment, e.Declared, e.Configured)
}

// Hint tells what to do.
func (e *NamespaceError) Hint() string {
	return "the repository cannot move an environment by itself: change the reconciler's configuration too, or take the change in sluice.yaml back"
}

// OutdatedCRDError says that the cluster's definition of Releases is older than
// this version and drops a field that must not be lost.
type OutdatedCRDError struct{ Field string }

func (e *OutdatedCRDError) Error() string {
	return "the cluster's definition of Releases does not know " + e.Field
}

// Hint tells what to do.
func (e *OutdatedCRDError) Hint() string { return "bring it up to date: sluice install --crds" }

// errSuperseded ends a pass over content that a newer commit has replaced.
var errSuperseded = errors.New("a newer commit has come in")

// UnsettledError says that what a pass writes never comes out as it should: a
// webhook or another controller changes it in the same moment.
type UnsettledError struct{ Objects []inventory.ID }

// unsettled is the error about a plan that is the same after every round.
func unsettled(plan Plan) error {
	e := &UnsettledError{}
	for _, s := range plan.Steps {
		for _, i := range s.Items {
			if id := inventory.IDOf(i.Object); s.writes() && !slices.Contains(e.Objects, id) {
				e.Objects = append(e.Objects, id)
			}
		}
	}
	slices.SortFunc(e.Objects, inventory.ID.Compare)
	return e
}

func (e *UnsettledError) Error() string {
	names := make([]string, len(e.Objects))
	for i, id := range e.Objects {
		names[i] = id.Display()
	}
	return strings.Join(names, ", ") + ": written again and again in one pass without coming out as declared"
}

// Hint tells what to do.
func (e *UnsettledError) Hint() string {
	return "find the admission webhook or controller that changes the same fields, and leave them to it or to the repository"
}

func joinObjects(objects []*ObjectError) string {
	messages := make([]string, len(objects))
	for i, o := range objects {
		messages[i] = o.Error()
	}
	slices.Sort(messages)
	return strings.Join(messages, "; ")
}

func unwrapObjects(objects []*ObjectError) []error {
	errs := make([]error, len(objects))
	for i, o := range objects {
		errs[i] = o
	}
	return errs
}

func hintOf(errs ...error) string {
	for _, err := range errs {
		var h interface{ Hint() string }
		if errors.As(err, &h) && h.Hint() != "" {
			return h.Hint()
		}
	}
	return ""
}

// failure is the verdict about a pass that ended with an error. Errors that pass
// by themselves leave the release waiting.
func failure(err error) Verdict {
	v := Verdict{State: StateFailed, Stalled: true}
	var apply *ApplyError
	var contested *UnsettledError
	var prune *PruneError
	var render *RenderError
	var unreadable *InventoryError
	switch {
	case errors.As(err, &unreadable):
		v.Reason = v1alpha1.ReasonInventoryUnreadable
		return v
	case errors.As(err, &render):
		v.Reason = v1alpha1.ReasonRenderFailed
	case errors.As(err, &contested):
		v.Reason = v1alpha1.ReasonContested
		return v
	case errors.As(err, &apply):
		v.Reason = v1alpha1.ReasonApplyFailed
	case errors.As(err, &prune):
		v.Reason = v1alpha1.ReasonPruneFailed
	}
	if v.Reason == v1alpha1.ReasonRenderFailed && !temporary(err) {
		return v
	}
	if v.Reason == v1alpha1.ReasonRenderFailed || !permanent(err) {
		v.State, v.Stalled, v.Reconciling = StateWaiting, false, true
		v.Reason = v1alpha1.ReasonTransientError
	} else if v.Reason == "" {
		v.Reason = v1alpha1.ReasonApplyFailed
	}
	return v
}

// temporary reports whether an error of rendering says of itself that it may
// pass: a key service does not answer, and the files are as they should be.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// permanent reports whether any part of an error will come again.
func permanent(err error) bool {
	var crd *cluster.MissingCRDError
	var old *OutdatedCRDError
	if errors.As(err, &crd) || errors.As(err, &old) {
		return true
	}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		return slices.ContainsFunc(many.Unwrap(), permanent)
	}
	return cluster.Permanent(err)
}
