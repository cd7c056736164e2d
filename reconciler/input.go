package reconciler

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/traffic"
)

// Input is everything that one pass over one release knows. Decide reads
// nothing else.
type Input struct {
	Now      time.Time
	Revision string // full commit hash
	Hash     string // of the files that decide the release; "" when unknown
	Project  string
	// Repository identifies the repository that the project is in; "" when that is
	// not known.
	Repository string
	// Lease is Config.Lease.
	Lease *string

	// Release is what the repository declares, Rendered its objects. They are
	// zero when the release is Gone from the repository.
	Release  envrepo.Release
	Rendered *render.Result
	Gone     bool
	// Paused says where the repository pauses the release; "" when it does not.
	Paused string
	// RefusedCommit is what this Release tells of a commit of the environment; nil for
	// nothing.
	RefusedCommit *v1alpha1.RefusedCommit
	// Request is what the Release asks for, and the report of this pass answers; ""
	// for nothing: see request.go.
	Request string
	// Refusal keeps the whole environment as it is.
	Refusal *Refusal

	Namespace Namespace
	// Last is the Release object as it is in the cluster, nil when there is
	// none, and Inventory what its status lists.
	Last      *v1alpha1.Release
	Inventory inventory.Set
	// Live are the objects of the cluster among those rendered or in the
	// inventory. An absent one does not exist.
	Live map[inventory.ID]*unstructured.Unstructured
	// Marks are what this process has applied; see Mark.
	Marks map[inventory.ID]Mark

	// Immutable are the objects that this pass could not change; see Immutable.
	Immutable map[inventory.ID]Immutable
	// Refused are the objects that the API server has refused in this pass; see
	// refusals.go.
	Refused map[inventory.ID]error
	// Tried has the hashes of the objects that this pass has tried; see trial.go.
	Tried map[inventory.ID]string
	// Contested are the objects that somebody else keeps changing; see Contest.
	Contested map[inventory.ID]Contest

	// Endpoints counts the ready endpoints behind each Service of the release.
	Endpoints map[string]int
	// Problems names, by workload, the pod that keeps it from being ready.
	Problems map[inventory.ID]string
	// Support is what the gateways of the routes declare. It is only known where
	// the repository wants a mirror.
	Support traffic.Support
	// Health judges the live objects; nil does as kstatus does.
	Health *health.Expressions
	// Dependencies are the releases that this one comes after.
	Dependencies []Dependency
	// Circle is the way from the release over its dependencies back to itself; nil
	// when there is none.
	Circle []string

	// Ruling is what the environment's other releases, and its policy, mean for
	// objects that leave or come over.
	Ruling Ruling

	// routed is what the routes were given earlier in this pass.
	routed *v1alpha1.TrafficStatus
	// hashes are of rendered objects, which do not change within a pass: each is
	// hashed once, and not once in every round.
	hashes map[*unstructured.Unstructured]string
	// held says of live objects whether their marks hold. A live object does not
	// change within a pass either: another is put in its place.
	held map[*unstructured.Unstructured]holding
	// assumed takes every live object for what was applied; see recognised.
	assumed bool
	// foreseen takes what was sent for ready, routes for accepted, and requests to
	// what is left for ended; see foresight.
	foreseen bool
}

// Refusal is a reason to leave an environment alone.
type Refusal struct {
	Reason  string // one of v1alpha1's
	Message string
}

// Namespace is the environment's namespace in the cluster.
type Namespace struct {
	Name   string
	Exists bool
	// Create says that the reserved release may create it even if the repository
	// has no object for it.
	Create bool
}

// key is the release that the input is about.
func (in *Input) key() Key {
	return Key{Environment: in.Release.Environment.Name, Release: in.Release.Name}
}

// status is the last status, the zero one when there is none.
func (in *Input) status() v1alpha1.ReleaseStatus {
	if in.Last == nil {
		return v1alpha1.ReleaseStatus{}
	}
	return in.Last.Status
}

// live is the object of the cluster with the identity of a desired one.
func (in *Input) live(desired *unstructured.Unstructured) *unstructured.Unstructured {
	return in.Live[inventory.IDOf(desired)]
}

// synced reports whether a desired object is what this process applied last and
// nobody has touched it since.
func (in *Input) synced(desired *unstructured.Unstructured) bool {
	id := inventory.IDOf(desired)
	if in.Refused[id] != nil {
		return false
	}
	mark, applied := in.Marks[id]
	live := in.Live[id]
	if in.assumed {
		return live != nil
	}
	return applied && live != nil && mark.Rendered == in.hash(desired) && in.holds(mark, live)
}

// holding is whether a mark holds.
type holding struct {
	mark  Mark
	holds bool
}

// holds is Mark.holds, found out once for an object and its mark.
func (in *Input) holds(mark Mark, live *unstructured.Unstructured) bool {
	if before, known := in.held[live]; known && before.mark == mark {
		return before.holds
	}
	holds := mark.holds(live)
	if in.held != nil {
		in.held[live] = holding{mark, holds}
	}
	return holds
}

// hash is hashOf of a desired object.
func (in *Input) hash(desired *unstructured.Unstructured) string {
	if h, known := in.hashes[desired]; known {
		return h
	}
	h := hashOf(desired)
	if in.hashes != nil {
		in.hashes[desired] = h
	}
	return h
}

// judge is the health of the live object behind a desired one.
func (in *Input) judge(desired *unstructured.Unstructured) health.State {
	if in.foreseen {
		return health.State{Status: health.Current}
	}
	return in.Health.Of(in.live(desired))
}

// noteApplied takes in what came back for an applied object.
func (in *Input) noteApplied(desired, live *unstructured.Unstructured) Mark {
	id := inventory.IDOf(desired)
	mark := markHashed(in.hash(desired), live)
	in.Live[id], in.Marks[id] = live, mark
	return mark
}

// noteScaled takes in a workload whose replicas were written: what was applied
// is what it was, so its mark moves with it.
func (in *Input) noteScaled(live *unstructured.Unstructured) {
	id := inventory.IDOf(live)
	if before := in.Live[id]; before != nil {
		if mark, ok := in.Marks[id]; ok && mark.Live == fingerprint(before) {
			mark.Live = fingerprint(live)
			in.Marks[id] = mark
		}
	}
	in.Live[id] = live
}

// refuse takes in that the API server has refused an object.
func (in *Input) refuse(id inventory.ID, err error) {
	if in.Refused == nil {
		in.Refused = map[inventory.ID]error{}
	}
	in.Refused[id] = err
}

// noteDeleted takes in that an object was deleted: it has left the inventory.
func (in *Input) noteDeleted(id inventory.ID) {
	delete(in.Live, id)
	delete(in.Marks, id)
	delete(in.Inventory, id)
}
