package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of Sluice's custom resources.
const Group = "sluice.dev"

// ReleaseKind is the kind of Release.
const ReleaseKind = "Release"

// GroupVersion is what AddToScheme registers.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// Labels and annotations that the reconciler reads or writes on the objects it
// applies. They stand in an object's own metadata, never in a pod template.
const (
	// LabelRelease and LabelEnvironment name the owner of an object.
	LabelRelease     = Group + "/release"
	LabelEnvironment = Group + "/environment"
	// LabelTag is written by the overlay of a tag.
	LabelTag = Group + "/tag"
	// AnnotationPrune with the value "disabled" keeps an object that has left
	// the repository.
	AnnotationPrune = Group + "/prune"
	// AnnotationAdopt with the value "true", on an object in the cluster or in
	// the repository, lets a release take the object over from another tool.
	AnnotationAdopt = Group + "/adopt"
	// AnnotationRecreate with the value "true", on a manifest in the repository,
	// has the object deleted and created anew where the API server does not let
	// it change. On the object in the cluster it means nothing.
	AnnotationRecreate = Group + "/recreate"
	// AnnotationIntent is written on a Release when it is made: the inventory that
	// it is about to get, as JSON. It counts until the first report, which has an
	// inventory of its own.
	AnnotationIntent = Group + "/intent"
	// AnnotationReconcile on a Release asks for a look at the repository and a pass
	// over the release now. Its value is any text of up to 64 printable ASCII
	// characters that it did not have before, the time by custom; the status repeats
	// it once that is done.
	AnnotationReconcile = Group + "/reconcile-requested-at"
	// AnnotationTraffic is written on routes together with the weights they
	// carry: the truth about them when a status could not be written any more.
	AnnotationTraffic = Group + "/traffic"
)

// Conditions of a Release, as kstatus and `kubectl wait` understand them. Ready
// says that everything the repository declares runs and is routed; its
// lastTransitionTime is the time since when that has been so with exactly the
// digests of the status, the same of them with the largest weight. Reconciling says that something is still being done or
// awaited, Stalled that it will not come without a person or a newer commit.
const (
	ConditionReady       = "Ready"
	ConditionReconciling = "Reconciling"
	ConditionStalled     = "Stalled"
)

// Reasons of the conditions. They are stable: programs may rely on them.
const (
	ReasonReady               = "Ready"               // all is as declared
	ReasonApplying            = "Applying"            // objects are being written
	ReasonWaitingForHealth    = "WaitingForHealth"    // workloads are not ready yet
	ReasonTrafficHeld         = "TrafficHeld"         // a tag whose weight rises is not ready; the routes stay
	ReasonRouteNotAccepted    = "RouteNotAccepted"    // the gateway refuses a route
	ReasonDraining            = "Draining"            // of Reconciling, while Ready: retiring or pruning waits until requests have ended
	ReasonDependencyNotReady  = "DependencyNotReady"  // a release named in dependsOn, or the environment's own, is not ready
	ReasonPaused              = "Paused"              // paused: true; nothing is applied
	ReasonHealthTimeout       = "HealthTimeout"       // not ready within healthTimeout
	ReasonHealthFailed        = "HealthFailed"        // a workload has failed for good
	ReasonRenderFailed        = "RenderFailed"        // the overlay does not render
	ReasonEmptyRender         = "EmptyRender"         // the overlay renders nothing while objects run; nothing is pruned
	ReasonTerminating         = "Terminating"         // an object to be created anew is still being deleted
	ReasonContested           = "Contested"           // another controller keeps changing an object back; corrected less and less often
	ReasonApplyFailed         = "ApplyFailed"         // the API server refused an object
	ReasonPruneFailed         = "PruneFailed"         // an object that left the repository could not be deleted
	ReasonTrafficRefused      = "TrafficRefused"      // the weights or mirrors cannot be written into the routes
	ReasonOwnedByAnother      = "OwnedByAnother"      // an object belongs to another release
	ReasonNamespaceMissing    = "NamespaceMissing"    // the environment's namespace does not exist
	ReasonNamespaceRefused    = "NamespaceRefused"    // sluice.yaml names another namespace than the controller serves
	ReasonPruneHeld           = "PruneHeld"           // a large part of the environment would be deleted; nothing is until sluice.yaml acknowledges it
	ReasonRetireHeld          = "RetireHeld"          // a route that is not declared and never deleted leads requests to what would be scaled to zero or deleted
	ReasonEnvironmentHeld     = "EnvironmentHeld"     // the environment has vanished from the repository; nothing is pruned until sluice.yaml acknowledges it
	ReasonInventoryUnreadable = "InventoryUnreadable" // an entry of the inventory cannot be read; nothing is applied or deleted
	ReasonRemoved             = "Removed"             // has left the repository and the cluster; no Release is left to say so
	ReasonTransientError      = "TransientError"      // the API server did not answer as it should; tried again
)

// Release is one component in one environment. Its name is the component's, or
// "environment" for the environment's own objects; its namespace is the
// environment's.
type Release struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ReleaseSpec   `json:"spec,omitempty"`
	Status ReleaseStatus `json:"status,omitempty"`
}

// ReleaseSpec says what the Release stands for. It orders nothing.
type ReleaseSpec struct {
	Project string `json:"project,omitempty"`
	// Repository tells projects of one name in different repositories apart: an
	// opaque identity, "" when the reconciler was given none.
	Repository  string `json:"repository,omitempty"`
	Environment string `json:"environment,omitempty"`
	// Lease is the Lease, NAMESPACE/NAME, that the controller holds which keeps the
	// status up to date, "" when it holds none: how fresh the status is, the Lease
	// tells, as nothing that is unchanged is written again.
	Lease     string `json:"lease,omitempty"`
	Component string `json:"component,omitempty"` // "" for the environment's own objects
}

// ReleaseStatus is what the last pass over the release found and did.
type ReleaseStatus struct {
	// ObservedGeneration is the metadata.generation that the status describes, -1
	// before the first report: kstatus then takes the Release for InProgress.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ObservedRevision is the commit whose content the last pass looked at. A
	// later commit that leaves the release's files as they are is not written
	// here: nothing changed costs nothing.
	ObservedRevision string `json:"observedRevision,omitempty"`
	// LastAppliedRevision is the last commit that was applied and routed whole.
	LastAppliedRevision string `json:"lastAppliedRevision,omitempty"`
	// LastAppliedHash is a hash of the files that decided that, to tell after a
	// restart whether anything has changed.
	LastAppliedHash string `json:"lastAppliedHash,omitempty"`
	// RoutesHash is a hash of the routes of an untagged release as they were last
	// written: one that is deleted while a change is held is restored as it was.
	RoutesHash string `json:"routesHash,omitempty"`
	// LastAppliedState is a hash of the objects that this came to, as they were
	// sent and as the cluster had them when all was done: a process that finds
	// them so after a restart need not apply them again.
	LastAppliedState string `json:"lastAppliedState,omitempty"`
	// LastHandledReconcileAt is the last value of AnnotationReconcile that was
	// answered: the repository was looked at and the release passed over since.
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
	// Attempt is what is being waited for since when. Nil while Ready.
	Attempt *Attempt `json:"attempt,omitempty"`

	// Conditions are Ready, Reconciling and Stalled.
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Digest is the image digest of an untagged release.
	Digest string `json:"digest,omitempty"`
	// Tags are the deployments of a tagged release, sorted by name.
	Tags []TagStatus `json:"tags,omitempty"`
	// Traffic is what the routes carry, which is not what the repository wants
	// while it is held. Nil before anything was routed.
	Traffic *TrafficStatus `json:"traffic,omitempty"`
	// Served are the last digests that a commit has replaced while they served and
	// were ready, oldest first: what tells that one has soaked when the environment
	// has moved on since.
	Served []ServedDigest `json:"served,omitempty"`
	// Inventory is every object that belongs to the release.
	Inventory *Inventory `json:"inventory,omitempty"`
	// Prune is a deletion that the repository has acknowledged, while it is under
	// way.
	Prune *PruneStatus `json:"prune,omitempty"`
	// Held is a deletion that waits for the repository to acknowledge it.
	Held *HeldStatus `json:"held,omitempty"`
	// Refused is the newest commit of the branch while it must not be applied. It
	// stands on one Release of the environment: its own, or the first by name.
	Refused *RefusedCommit `json:"refused,omitempty"`
	// Hint is what to do about the message of the conditions.
	Hint string `json:"hint,omitempty"`

	// Summary is the text of the columns of `kubectl get releases`.
	Summary Summary `json:"summary,omitempty"`
}

// Attempt is the content that a release is being brought to.
type Attempt struct {
	// Hash is that of the release's files, as in LastAppliedHash.
	Hash string `json:"hash,omitempty"`
	// Since is when the attempt began, or when the release ceased to be ready.
	Since metav1.Time `json:"since"`
}

// TagStatus is one deployment of a tagged release.
type TagStatus struct {
	Name   string `json:"name"`
	Digest string `json:"digest,omitempty"`
	// Listed says that traffic.yaml lists the tag; another is scaled to zero.
	Listed bool `json:"listed,omitempty"`
	// Weight and Mirror are the percentages that the routes carry.
	Weight int  `json:"weight"`
	Mirror int  `json:"mirror,omitempty"`
	Ready  bool `json:"ready"`
	// Message says why the tag is not ready: workload, pod, reason.
	Message string `json:"message,omitempty"`
}

// ServedDigest is a digest that had the most requests, and from when to when it
// was ready.
type ServedDigest struct {
	Digest string      `json:"digest"`
	Since  metav1.Time `json:"since"`
	Until  metav1.Time `json:"until"`
}

// TrafficStatus is the traffic that the routes carry.
type TrafficStatus struct {
	Weights []TagPercent `json:"weights,omitempty"` // in document order
	Mirrors []TagPercent `json:"mirrors,omitempty"`
	// RoutedAt is when these were written, or when a route was deleted that is not
	// declared any more; retiring and pruning wait for the drain delay after it.
	RoutedAt *metav1.Time `json:"routedAt,omitempty"`
}

// TagPercent gives a tag a share in percent.
type TagPercent struct {
	Tag     string `json:"tag"`
	Percent int    `json:"percent"`
}

// Inventory is every object that belongs to the release.
type Inventory struct {
	Entries []ResourceRef `json:"entries,omitempty"`
	// Before is how many there were before the release began to grow, while
	// something of the environment may be deleted: a deletion is measured by what
	// there was, not by what replaces it.
	Before *int `json:"before,omitempty"`
}

// ResourceRef names an object: short, as there may be thousands.
type ResourceRef struct {
	ID      string `json:"id"` // namespace_name_group_kind
	Version string `json:"v"`  // API version it was applied at
}

// PruneStatus is an acknowledged deletion. It is written before the first object
// is deleted: a half-done deletion is another one, with another token.
type PruneStatus struct {
	// Acknowledged is the token, as sluice.yaml has it.
	Acknowledged string `json:"acknowledged"`
	// Hash is that of the release's files, as in LastAppliedHash: the token is good
	// for what these leave out, and nothing else.
	Hash string `json:"hash"`
}

// HeldStatus is a deletion that is held. All releases of an environment that have
// a part in it name the same token.
type HeldStatus struct {
	// Token acknowledges it: sluice prune acknowledge.
	Token string `json:"token"`
	// Message says of the environment how much would be deleted, and why.
	Message string `json:"message,omitempty"`
	// Objects is how many of this release would be.
	Objects int `json:"objects"`
}

// RefusedCommit is a commit that must not be applied, because it is not signed for
// instance. What was applied before it is kept.
type RefusedCommit struct {
	Revision string `json:"revision"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

// Summary is the text of the columns of `kubectl get releases`.
type Summary struct {
	Digests string `json:"digests,omitempty"` // "3f2a9c0d41e7", "blue=3f2a9c0d41e7 green=…"
	Traffic string `json:"traffic,omitempty"` // "blue=90 green=10 mirror:green=5"
	// Revision is the last applied revision, shortened to 12 digits.
	Revision string `json:"revision,omitempty"`
}

// ReleaseList is a list of Releases.
type ReleaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Release `json:"items"`
}

// AddToScheme registers the types of this package.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Release{}, &ReleaseList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
