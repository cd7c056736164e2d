package reconciler

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/pkg/ssa"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// environment is what the engine knows of an environment between passes.
type environment struct {
	name string
	// hands reads and writes the environment's objects, as its service account where
	// it has one. Releases, namespaces and gateways are the engine's own to look at.
	hands *cluster.Client

	// intake is held while a commit is taken in. Passes go on meanwhile: only to
	// change inputs, and what is wanted of releases with it, mu is held as well.
	intake sync.Mutex
	inputs *inputs

	foreseeing sync.Mutex // held while the releases outside of a run are rendered

	mu        sync.Mutex
	namespace string // configured, or pinned by the first commit
	project   string
	declared  envrepo.Environment
	revision  string
	seen      time.Time // when Run saw the commit that is taken in; zero when nobody counts
	refusal   *Refusal
	refused   *v1alpha1.RefusedCommit // the newest commit, while it must not be applied
	found     bool                    // the cluster's Releases have been looked through
	exists    bool                    // the namespace has been seen
	lost      bool                    // it was deleted since
	releases  map[string]*release
	followers map[string]map[*release]bool // by the name of the release that they come after
	ledger    *ledger
}

func newEnvironment(name, namespace string) *environment {
	return &environment{name: name, namespace: namespace, inputs: &inputs{}, releases: map[string]*release{}, followers: map[string]map[*release]bool{}, ledger: newLedger(name)}
}

// view is a consistent copy.
func (env *environment) view() (refusal *Refusal, project, namespace string, declared envrepo.Environment) {
	env.mu.Lock()
	defer env.mu.Unlock()
	return env.refusal, env.project, env.namespace, env.declared
}

// namespaceSeen reports whether the namespace is known to exist. One that is
// deleted while we run shows in the next write.
func (env *environment) namespaceSeen() bool {
	env.mu.Lock()
	defer env.mu.Unlock()
	return env.exists
}

func (env *environment) sawNamespace(exists bool) {
	env.mu.Lock()
	defer env.mu.Unlock()
	env.exists = exists
}

// want is what the repository wants of a release.
type want struct {
	revision string
	hash     string
	gone     bool
	err      error // the files cannot even be listed
	// seen is when Run first saw the commit; zero when it is not known, and once the
	// release is as it wants it.
	seen time.Time
	// declared is what was read of the release when the commit was taken in; nil once a
	// pass over what it wants has ended. It must not be changed.
	declared *envrepo.Release

	// Of the pass, not of the release: see environment.wanted.
	fsys fs.FS
	repo *envrepo.Repo
	// generation is that of the account that the ledger expects of it.
	generation uint64
}

// same reports whether both want the same content of a release, or that there is none.
func (w want) same(other want) bool { return w.hash == other.hash && w.gone == other.gone }

// release is what the engine knows of a release between passes. It is memory
// only: all that must survive a restart is in the Release object.
type release struct {
	key Key

	mu    sync.Mutex
	scope bool // belongs to what the engine runs now
	want  want
	marks map[inventory.ID]Mark

	health *health.Expressions // as of the last pass

	rendered     *render.Result
	renderedHash string
	renderedTime time.Time

	actions   map[inventory.ID]ssa.Action // since this content came in
	pruned    int
	adopted   map[inventory.ID]bool // likewise: were nobody's before
	recreated recreations           // likewise
	fights    fights

	known // of the cluster

	failure  string // message of the last pass, if it ended with an error
	failures int    // how often in a row

	// What the last pass came to, and for which content.
	passed  string
	verdict Verdict
	status  Status

	after   []string // releases that this one comes after
	passing bool     // a pass has asked how those are doing, and has not ended

	occasions // for the next pass

	trust trust
}

func newReleaseMemory(key Key) *release {
	r := &release{key: key, marks: map[inventory.ID]Mark{}, actions: map[inventory.ID]ssa.Action{}, adopted: map[inventory.ID]bool{}}
	r.events, r.answers = map[inventory.ID]sighting{}, map[inventory.ID]answer{}
	return r
}

func (r *release) wanted() want {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.want
}

// set takes in what a commit wants; it reports whether that is anything new.
func (r *release) set(w want) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.want.revision == "" || !r.want.same(w) || (w.err != nil) != (r.want.err != nil) ||
		w.err != nil && w.err.Error() != r.want.err.Error()
	if !changed {
		return false
	}
	r.want = w
	r.recreated.clear()
	r.actions, r.pruned, r.adopted = map[inventory.ID]ssa.Action{}, 0, map[inventory.ID]bool{}
	r.urgent = true
	return true
}

func (r *release) marked() map[inventory.ID]Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.marks)
}

func (r *release) remember(id inventory.ID, m Mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m != (Mark{}) {
		r.marks[id] = m
	}
}

func (r *release) forget(id inventory.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.marks, id)
}

// count keeps, for each object, the most that was done to it.
func (r *release) count(id inventory.ID, action ssa.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case action == ssa.DeletedAction:
		r.pruned++
		delete(r.actions, id)
	case r.actions[id] == ssa.CreatedAction:
	case r.actions[id] == ssa.ConfiguredAction && action == ssa.UnchangedAction:
	default:
		r.actions[id] = action
	}
}

// adopt keeps that an object was nobody's before it was applied.
func (r *release) adopt(id inventory.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adopted[id] = true
}

// adoptions are the notes about such objects. They are said for as long as this
// content stands: it will be pruned with the release from now on.
func (r *release) adoptions() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var notes []string
	for _, id := range slices.SortedFunc(maps.Keys(r.adopted), inventory.ID.Compare) {
		notes = append(notes, "adopted "+id.Display()+", which existed and was nobody's")
	}
	return notes
}

// counts sums up what was done to total objects.
func (r *release) counts(total int) Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Counts{Pruned: r.pruned}
	for _, action := range r.actions {
		switch action {
		case ssa.CreatedAction:
			c.Created++
		case ssa.ConfiguredAction:
			c.Configured++
		}
	}
	c.Unchanged = max(0, total-c.Created-c.Configured)
	return c
}

// finished takes in what a pass came to.
func (r *release) finished(w want, v Verdict, s Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed, r.verdict, r.status, r.passing = w.hash, v, s, false
	if r.want.same(w) {
		r.want.declared = nil
	}
	if r.settled() || v.State == StateRemoved {
		r.rendered, r.renderedHash = nil, ""
		r.rank = 0
		r.letGo()
	}
}

// failed counts passes that ended with the same error in a row.
func (r *release) failed(message string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if message != r.failure {
		r.failure, r.failures = message, 0
	}
	if message != "" {
		r.failures++
	}
	return r.failures
}

// begin starts counting anew, for whoever asks what has been done since.
func (r *release) begin(scope bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scope, r.urgent = scope, true
	r.actions, r.pruned, r.failure, r.failures = map[inventory.ID]ssa.Action{}, 0, "", 0
	r.adopted = map[inventory.ID]bool{}
	r.recreated.clear()
	r.passed = "" // another process may have been here since
}

// renderedAt is what was rendered of this content. It is kept while a release is
// not ready, as it is passed over again soon. One with broken tags is tried again
// after a while.
func (r *release) renderedAt(hash string, now time.Time) *render.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if hash == "" || r.renderedHash != hash || anyBroken(r.rendered) && now.Sub(r.renderedTime) >= retryBroken(r.rendered) {
		return nil
	}
	return r.rendered
}

// isRendered reports whether what is wanted has been rendered, and is kept.
func (r *release) isRendered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rendered != nil && r.renderedHash == r.want.hash
}

// keepRendered keeps what was rendered of this content, if it is still wanted.
func (r *release) keepRendered(hash string, result *render.Result, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if hash != r.want.hash {
		return
	}
	r.rendered, r.renderedHash, r.renderedTime = result, hash, now
}

// dropSettled lets go of it where no further pass needs it.
func (r *release) dropSettled() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled() {
		r.rendered, r.renderedHash = nil, ""
	}
}

func (r *release) dropRendered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rendered, r.renderedHash = nil, ""
}

// mostRendered is how many releases may have what was rendered of them kept while
// they are not ready. In a first sync all are not, and to render the others again
// when they come to be ready costs less than to hold them all.
const mostRendered = 64

// renderedLately are the releases of which it is kept, the oldest first.
type renderedLately struct {
	mu    sync.Mutex
	order []*release
}

// add takes in a release that was just rendered, and lets the oldest go.
func (l *renderedLately) add(r *release) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order = append(slices.DeleteFunc(l.order, func(o *release) bool { return o == r }), r)
	if len(l.order) > mostRendered {
		l.order[0].dropRendered()
		l.order = slices.Delete(l.order, 0, 1)
	}
}

func (r *release) setScope(in bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scope = in
}

// inScopeAtAll reports whether the engine has the release in its hands now.
func (r *release) inScopeAtAll() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.scope
}

// inScope is the same for releases that the repository has.
func (r *release) inScope() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.scope && !r.want.gone
}

// asDependency is how the release looks to one that comes after it. applied asks
// for its objects only, not for their health.
func (r *release) asDependency(applied bool) Dependency {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := Dependency{Name: r.key.Release, Message: "it has not been looked at yet"}
	if r.passed == "" || r.passed != r.want.hash {
		return d
	}
	// A paused release is as its people want it.
	d.Ready = r.verdict.Ready || r.verdict.State == StatePaused || applied && r.verdict.applied
	d.Stalled, d.Message = r.verdict.Stalled, r.verdict.Message
	switch {
	case d.Ready:
		d.Message = ""
	case len(r.verdict.waitsFor) > 0:
		// What those wait for, they say: passed on, each change at the end of a row
		// would be one for the whole of it.
		d.Message = "it waits for " + strings.Join(r.verdict.waitsFor, ", ")
	}
	return d
}

// bearing is what others that depend on the release go by.
func (r *release) bearing() string {
	loose, strict := r.asDependency(true), r.asDependency(false)
	return fmt.Sprint(loose, strict)
}

// park puts a release aside while the environment's own has not been passed
// over at what the repository wants of it; waiting brings it back.
func (env *environment) park(r *release) bool {
	env.mu.Lock()
	defer env.mu.Unlock()
	own := env.releases[envrepo.EnvironmentRelease]
	if own == nil || own == r || env.refusal != nil || !own.inScope() || own.looked() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parked = true
	return true
}

// looked reports whether a pass has ended over what the repository wants now.
func (r *release) looked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed == r.want.hash
}
