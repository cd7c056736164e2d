package reconciler

import (
	"time"

	"github.com/go-logr/logr"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// PassStage is a part of a pass over a release.
type PassStage string

// The stages, in the order in which a pass comes by them. Time is spent in all but
// StageWait: no pass waits, but a release may stand there between two passes.
const (
	StageGather PassStage = "gather" // reads of the cluster, and what the repository declares
	StageRender PassStage = "render"
	StagePlan   PassStage = "plan"  // trials by dry run are part of it
	StageApply  PassStage = "apply" // of what is recorded before the first write, too
	StageWait   PassStage = "wait"
	StageRoute  PassStage = "route"
	StageRetire PassStage = "retire"
	StagePrune  PassStage = "prune"
	StageReport PassStage = "report"
)

// Outcome is how a pass ended.
type Outcome string

// The outcomes of a pass.
const (
	OutcomeDone       Outcome = "done"       // there was nothing left to do
	OutcomeFailed     Outcome = "failed"     // it is tried again
	OutcomeSuperseded Outcome = "superseded" // a newer commit, or the end of the process, came in
)

// PassTiming is how long a pass took, and what came of it.
type PassTiming struct {
	Release  Key
	Revision string // the commit whose content it looked at
	Outcome  Outcome
	Began    time.Time
	Took     time.Duration
	Stages   []StageTiming // as it came by them; it may come by one several times
	Stands   PassStage     // where the release stands after it; "" when it was superseded
	Reason   string        // of the release's condition Ready after it; "" when it was superseded
	// Seen is when Run first saw the commit that the release was on its way to; zero
	// when it was on none, as in a correction of drift.
	Seen time.Time
	// Arrived says that with this pass the release is as that commit wants it.
	Arrived bool
}

// StageTiming is how long a pass spent in a stage.
type StageTiming struct {
	Stage PassStage
	Began time.Time
	Took  time.Duration
}

// Look is a look at the repository.
type Look struct {
	Began    time.Time
	Took     time.Duration
	Revision string // the newest commit; "" when it could not be found out, or must not be applied
	Err      error  // a *CommitRefusedError when it is known and must not be applied
}

// Observer is told what the engine does as it does it, to be counted. It is called
// from several goroutines, and must neither wait nor keep what it is given. At
// rest only Fetched is called.
type Observer interface {
	// Fetched is told of every look at the repository.
	Fetched(Look)
	// Passed is told of every pass over a release.
	Passed(PassTiming)
	// Corrected is told of an object, by its kind, that was given back what
	// somebody had taken.
	Corrected(release Key, kind string)
	// Applied is told once when a release is as a commit wants it, ready or removed,
	// with the time since Run first saw that commit. What was to do when Run began
	// is left out: nobody knows since when.
	Applied(release Key, took time.Duration)
}

// unobserved is the Observer of who needs none.
type unobserved struct{}

func (unobserved) Fetched(Look)               {}
func (unobserved) Passed(PassTiming)          {}
func (unobserved) Corrected(Key, string)      {}
func (unobserved) Applied(Key, time.Duration) {}

// stopwatch measures the stages of one pass.
type stopwatch struct {
	begun   time.Time
	stage   PassStage
	since   time.Time // of the stage
	spent   []StageTiming
	stands  PassStage // after the pass
	reason  string
	arrived bool
}

// enter ends the stage that the pass is at, and begins another. One that it is at
// already goes on: a release has a step for each object.
func (p *pass) enter(stage PassStage) {
	w := &p.watch
	if stage == w.stage && !w.begun.IsZero() {
		return
	}
	now := p.engine.cfg.Clock.Now()
	if w.begun.IsZero() {
		w.begun = now
	} else {
		w.spent = append(w.spent, StageTiming{w.stage, w.since, now.Sub(w.since)})
	}
	w.stage, w.since = stage, now
}

// measured tells how long the pass took.
func (p *pass) measured(outcome Outcome) {
	p.enter("")
	w := p.watch
	p.engine.cfg.Observer.Passed(PassTiming{
		Release: p.in.key(), Revision: p.in.Revision, Outcome: outcome, Began: w.begun, Took: w.since.Sub(w.begun),
		Stages: w.spent, Stands: w.stands, Reason: w.reason, Seen: p.want.seen, Arrived: w.arrived,
	})
}

// log is the log of the pass: all that it says is of a release, a commit and a
// stage.
func (p *pass) log() logr.Logger {
	return p.engine.cfg.Log.WithValues("release", p.in.key().String(), "revision", short(p.in.Revision), "stage", string(p.watch.stage))
}

// stage is where a step belongs.
func (a Action) stage() PassStage {
	switch a {
	case ActionRoute:
		return StageRoute
	case ActionRetire:
		return StageRetire
	case ActionPrune, ActionGrant, ActionForget:
		return StagePrune
	}
	return StageApply
}

// stage is where a release stands that a pass has ended without an error for.
func (v Verdict) stage() PassStage {
	switch v.Reason {
	case v1alpha1.ReasonRenderFailed, v1alpha1.ReasonEmptyRender:
		return StageRender
	case v1alpha1.ReasonPaused, v1alpha1.ReasonNamespaceMissing, v1alpha1.ReasonNamespaceRefused, v1alpha1.ReasonInventoryUnreadable:
		return StageGather
	case v1alpha1.ReasonOwnedByAnother, v1alpha1.ReasonTrafficRefused:
		return StagePlan
	case v1alpha1.ReasonApplying, v1alpha1.ReasonApplyFailed, v1alpha1.ReasonContested, v1alpha1.ReasonTerminating:
		return StageApply
	case v1alpha1.ReasonRouteNotAccepted:
		return StageRoute
	case v1alpha1.ReasonPruneHeld, v1alpha1.ReasonEnvironmentHeld, v1alpha1.ReasonPruneFailed:
		return StagePrune
	case v1alpha1.ReasonRetireHeld:
		return StageRetire
	case v1alpha1.ReasonReady:
		if v.Reconciling {
			return StageRetire
		}
		return StageReport
	case v1alpha1.ReasonRemoved:
		return StageReport
	}
	return StageWait
}

// arrived reports whether a pass has brought a release to where a commit wants it,
// once, and when that commit was seen.
func (r *release) arrived(w want, v Verdict) (seen time.Time, arrived bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := v.whole || v.State == StateRemoved
	if !there || r.want.seen.IsZero() || !r.want.same(w) {
		return time.Time{}, false
	}
	seen, r.want.seen = r.want.seen, time.Time{}
	return seen, true
}
