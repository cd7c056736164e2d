package reconciler

import (
	"cmp"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// maxRounds bounds how often one pass asks for a plan. Three are usual.
const maxRounds = 10

// meansIt is how many equal errors in a row are taken for final.
const meansIt = 5

// pass is one pass over one release.
type pass struct {
	engine  *Engine
	env     *environment
	release *release
	want    want
	in      *Input
	values  []string      // decrypted, to be taken out of messages
	known   inventory.Set // as the pass found it
	looked  bool          // what is live is known
	// overtook counts how often somebody else was faster with an object.
	overtook map[inventory.ID]int
	strays   []string // notes of what its inventory listed and must not
	// announced says that this pass has made the Release, and written what it will hold.
	announced bool
	watch     stopwatch
	was       *v1alpha1.Release // as the pass found it
	pruned    []string
}

// reconcile is the whole of it: gather, decide and do until nothing is left to
// do, report. The error, if any, has been reported; after is when to come again.
func (e *Engine) reconcile(ctx context.Context, key Key) (s Status, after time.Duration, err error) {
	p := e.newPass(key)
	if p == nil {
		return Status{}, 0, nil
	}
	outcome := OutcomeSuperseded
	defer func() {
		p.keep(err)
		p.measured(outcome)
	}()
	plan, err := p.settle(ctx)
	err = p.withRefusals(err)
	if errors.Is(err, errSuperseded) || ctx.Err() != nil {
		return Status{}, 0, err
	}
	verdict, stage := plan.Verdict, p.watch.stage
	p.enter(StageReport)
	if err != nil {
		verdict = p.failed(err)
	} else {
		stage = verdict.stage()
		p.release.failed("")
		p.release.fights.settle(p.in)
	}
	verdict.Notes = slices.Concat(verdict.Notes, p.strays)
	if s, after, err = p.report(ctx, verdict, stage, err); err != nil {
		outcome = OutcomeFailed
	} else {
		outcome = OutcomeDone
	}
	return s, after, err
}

// settle gathers, decides and does until nothing is left to do. A panic on the way,
// in a library most likely, is an error of this release alone.
func (p *pass) settle(ctx context.Context) (plan Plan, err error) {
	defer func() {
		if recover() != nil {
			err = &PanicError{Release: p.in.key()}
			p.log().Error(err, "a pass panicked", "stack", string(debug.Stack()))
		}
	}()
	p.enter(StageGather)
	err = p.gather(ctx)
	for round := 0; err == nil; round++ {
		p.enter(StagePlan)
		if err = p.account(ctx); err != nil {
			break
		}
		plan = Decide(*p.in)
		if !plan.Writes() && len(plan.trials) == 0 {
			break
		}
		if round == maxRounds+len(p.in.Refused)+mostOvertaken*len(p.overtook) { // each may cost as many
			err = unsettled(plan)
			break
		}
		err = p.execute(ctx, plan)
	}
	return plan, err
}

// newPass is a pass over what the repository wants of a release now; nil when
// the engine does not know it any more.
func (e *Engine) newPass(key Key) *pass {
	env, rel := e.find(key)
	if rel == nil {
		return nil
	}
	p := &pass{engine: e, env: env, release: rel, want: env.wanted(rel)}
	refusal, project, namespace, declared := env.view()
	rel.verify(e.cfg.Clock.Now())
	p.in = &Input{
		Now: e.cfg.Clock.Now(), Revision: p.want.revision, Hash: p.want.hash, Project: project, Repository: e.cfg.Repository,
		Release:   envrepo.Release{Name: key.Release, Environment: declared},
		Gone:      p.want.gone,
		Refusal:   refusal,
		Namespace: Namespace{Name: namespace, Create: e.cfg.CreateNamespaces},
		Marks:     rel.marked(),
		Contested: rel.fights.contested(),
		Live:      map[inventory.ID]*unstructured.Unstructured{},
		hashes:    map[*unstructured.Unstructured]string{},
		held:      map[*unstructured.Unstructured]holding{},
	}
	p.in.Request, p.in.RefusedCommit = rel.answering(), env.tells(key.Release)
	if !e.noLease.Load() {
		p.in.Lease = e.cfg.Lease
	}
	p.in.Release.Environment.Name = key.Environment
	p.in.Release.Environment.Namespace = namespace
	return p
}

// superseded reports whether a newer commit wants something else of the release.
func (p *pass) superseded() bool {
	return !p.want.same(p.release.wanted())
}

// failed is the verdict about a pass that ended with an error, with what it has
// done until then.
func (p *pass) failed(err error) Verdict {
	if apierrors.IsNotFound(err) {
		p.env.sawNamespace(false) // look for it again
	}
	v := failure(err)
	p.accountFailed(v.Reason != v1alpha1.ReasonRenderFailed)
	v.Message = masked(err.Error(), p.values)
	// The API server has answered the same again and again: it means it. Some
	// refusals do not tell by their code that they are final (an object that does
	// not fit its schema is an internal error).
	var unreachable *cluster.UnreachableError
	if p.release.failed(v.Message) >= meansIt && v.Reconciling && !errors.As(err, &unreachable) {
		v.State, v.Reconciling, v.Stalled, v.Reason = StateFailed, false, true, v1alpha1.ReasonApplyFailed
	}
	v.inventory, v.unread, v.traffic = p.in.Inventory, p.in.Inventory == nil, p.in.status().Traffic
	if p.in.routed != nil {
		v.traffic = p.in.routed
	}
	return v
}

// report writes the status, once, and only if it differs.
func (p *pass) report(ctx context.Context, v Verdict, stage PassStage, cause error) (Status, time.Duration, error) {
	said := func(v Verdict) Verdict {
		v.hint = hintFor(p.in, v, cause)
		return v.masked(p.values)
	}
	v = said(v)
	if p.reportable(v) {
		if err := p.write(ctx, v); err != nil && cause == nil {
			cause, stage = err, StageReport
			v = said(p.failed(err))
		}
	}
	s := p.status(v)
	s.Stage, s.News, s.Pruned = stage, p.news(v), p.pruned
	if release := cmp.Or(p.in.Last, p.was); release != nil {
		s.UID = release.UID
	}
	p.release.finished(p.want, v, s)
	p.watch.stands, p.watch.reason = stage, v.Reason
	if seen, arrived := p.release.arrived(p.want, v); arrived {
		p.watch.arrived = true
		p.engine.cfg.Observer.Applied(p.in.key(), p.engine.cfg.Clock.Now().Sub(seen))
	}
	p.env.ledger.ended(s.Release, p.want.generation, v.Stalled)
	after := later(v.After, p.release.verifyIn(p.in.Now))
	if cause != nil {
		after = 0 // the queue's back-off
	}
	return s, after, cause
}

// reportable reports whether there is, or should be, an object to report on.
func (p *pass) reportable(v Verdict) bool {
	switch {
	case v.State == StateRemoved, !p.in.Namespace.Exists:
		return false
	case v.unread && len(p.in.status().Conditions) == 0 && p.in.status().Inventory == nil:
		return false // its first report would end the inventory that it was announced with
	case p.in.Last != nil:
		return !foreignRelease(p.in)
	}
	return v.State != StatePaused && p.in.Inventory != nil // which is nil when not even the Release could be read
}

func (p *pass) write(ctx context.Context, v Verdict) error {
	if err := p.ensureRelease(ctx); err != nil {
		return err
	}
	after := p.in.Last.DeepCopy()
	after.Status = statusAfter(p.in, v)
	if p.early(v) || !p.release.worthWriting(p.in.Now, p.in.Last.Status, after.Status) {
		return nil
	}
	patched, err := p.patchStatus(ctx, after)
	if err != nil {
		return err
	}
	p.in.Last = patched
	p.release.replied(p.in.Request)
	return nil
}

// early reports whether what a new release waits for is no news yet: it was just
// made, which reads as in progress, and is passed over again in a moment.
func (p *pass) early(v Verdict) bool {
	return p.announced && v.State == StateWaiting && v.Reconciling && p.in.routed == nil && 0 < v.After && v.After <= recheckMin
}

// applying is the verdict about a release whose objects are about to be written
// for the first time.
func applying(in *Input, intent inventory.Set) Verdict {
	return Verdict{State: StateWaiting, Reason: v1alpha1.ReasonApplying, Message: "objects are being applied", Reconciling: true,
		inventory: intent, traffic: in.status().Traffic, attempt: attempt(in)}
}

// news reports whether the verdict is another one than the Release told before the
// pass, or is about another content. How long something has been waited for is none.
func (p *pass) news(v Verdict) bool {
	if p.was == nil {
		return true
	}
	before := meta.FindStatusCondition(p.was.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case before == nil || before.Reason != v.Reason || v.State == StateRemoved:
		return true
	case v.whole && p.in.Hash != p.was.Status.LastAppliedHash:
		return true
	case v.State == StateFailed || v.State == StateHeld:
		return before.Message != clipped(v.Message)
	}
	return false
}

// status is what callers are told.
func (p *pass) status(v Verdict) Status {
	s := Status{
		Environment: p.in.Release.Environment.Name, Namespace: p.in.Namespace.Name, Release: p.in.Release.Name, Revision: p.in.Revision,
		State: v.State, Reason: v.Reason, Message: v.Message, Hint: v.hint, Notes: slices.Concat(v.Notes, p.release.adoptions(), p.release.recreated.notes()), Final: v.Final(),
	}
	total := len(p.rendered())
	if p.in.Paused != "" || p.in.Refusal != nil {
		total = 0
	}
	s.Counts = p.release.counts(total)
	status := p.in.status()
	if v.traffic != nil {
		s.Traffic = formatTraffic(v.traffic.Weights, v.traffic.Mirrors)
	}
	s.Digest, s.Tags = status.Digest, status.Tags
	if v.applied {
		s.Digest, s.Tags = v.digest, v.tags
	}
	return s
}
