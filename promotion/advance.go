package promotion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
)

// Advance is what was done about the promotions into one environment.
type Advance struct {
	Environment string
	Tended      []Tended
	Steps       []Step     // of automation, by component; none where policy does not ask for it
	Proposed    []Proposal // by automation
	Merged      []int      // by automation
	Failures    []error    // what could not be done; the rest was
	Until       time.Time  // when to look again though nothing happens; zero: then only
}

// ContextAuto is the context of the status that says what automation does about a
// pull request, or awaits.
const ContextAuto = StatusPrefix + "auto"

// Advance looks after the promotions into an environment: it tends the open pull
// requests and, where policy says auto, proposes what has proved itself in the
// source environment and merges what passes every gate. Whoever calls it has the
// right to write to the repository, and calls it again when the target branch, a
// promotion branch or the health of one of the two environments has changed, and at
// Until.
func (s *Service) Advance(ctx context.Context, environment string) (Advance, error) {
	a := s.newAdvance(environment)
	if err := a.open(ctx); err != nil {
		return a.Advance, fmt.Errorf("promoting to %s: %w", environment, err)
	}
	if a.policy.Auto {
		if err := a.list(ctx); err != nil {
			return a.Advance, err
		}
		a.propose(ctx)
	}
	tended, err := s.Tend(ctx, []string{environment})
	if err != nil {
		a.Tended = tended
		return a.Advance, err
	}
	for _, t := range tended {
		a.follow(ctx, t)
	}
	for _, step := range a.Steps {
		a.wake(step.Until)
	}
	return a.Advance, ctx.Err()
}

// AdvanceOne does for one pull request what Advance does for all that are open into
// an environment; nothing is proposed, and no other is looked at unless this one is
// about to be merged. One that is no open promotion into one of the environments is
// left alone.
func (s *Service) AdvanceOne(ctx context.Context, number int, environments []string) (Advance, error) {
	p, err := s.forge.Get(ctx, number)
	if errors.Is(err, ErrNotFound) {
		return Advance{}, nil
	}
	if err != nil {
		return Advance{}, err
	}
	return s.advanceOne(ctx, p, environments)
}

// AdvanceHead is AdvanceOne of the pull request whose head is a commit. Where no
// promotion's branch is at it, the forge is asked nothing.
func (s *Service) AdvanceHead(ctx context.Context, commit string, environments []string) (Advance, error) {
	refs, err := s.refs(ctx)
	if err != nil {
		return Advance{}, err
	}
	for _, name := range sortedKeys(refs) {
		branch := strings.TrimPrefix(name, headsPrefix)
		environment, _, ok := ParseBranch(branch)
		if refs[name] != commit || !ok || !slices.Contains(environments, environment) {
			continue
		}
		list, err := s.forge.List(ctx, ListOptions{State: Open, Branch: branch})
		if err != nil {
			return Advance{Environment: environment}, err
		}
		for _, p := range list { // a branch has one
			return s.advanceOne(ctx, p, environments)
		}
	}
	return Advance{}, nil
}

func (s *Service) advanceOne(ctx context.Context, p PullRequest, environments []string) (Advance, error) {
	environment, _, ok := ParseBranch(p.Branch)
	if !ok || p.State != Open || !slices.Contains(environments, environment) {
		return Advance{}, nil
	}
	a := s.newAdvance(environment)
	if err := a.open(ctx); err != nil {
		return a.Advance, fmt.Errorf("promoting to %s: %w", environment, err)
	}
	a.follow(ctx, s.tend(ctx, p))
	return a.Advance, ctx.Err()
}

// follow does what comes after a pull request was looked after.
func (a *advance) follow(ctx context.Context, t Tended) {
	a.Tended = append(a.Tended, t)
	switch {
	case t.Err != nil:
		a.fail("pull request #%d: %w", t.PullRequest.Number, t.Err)
	case t.Closed == "" && a.policy.Auto && KindOf(t.PullRequest.Branch) == KindPromotion:
		a.merge(ctx, t)
	}
	for _, g := range t.Gates {
		a.wake(g.Until)
	}
}

// reportRefs is where controllers of other clusters report health.
const reportRefs = "refs/sluice/reports/*"

// Position is a text that is another one when something has changed in the
// repository that Advance goes by. It costs one request.
func (s *Service) Position(ctx context.Context) (string, error) {
	refs, err := s.repo.FetchRefs(ctx, append(HeadRefs(), headsPrefix+s.branch, reportRefs)...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, name := range sortedKeys(refs) {
		fmt.Fprintln(&b, name, refs[name])
	}
	return b.String(), nil
}

// Environments are those that the target branch declares now.
func (s *Service) Environments(ctx context.Context) ([]envrepo.Environment, error) {
	refs, err := s.refs(ctx)
	if err != nil {
		return nil, err
	}
	project, err := s.snapshot(refs[headsPrefix+s.branch])
	if err != nil {
		return nil, err
	}
	repo, err := envrepo.Open(project)
	if err != nil {
		return nil, err
	}
	return repo.Project().Environments, nil
}

// advance is one call of Service.Advance.
type advance struct {
	*Service
	Advance
	began     time.Time
	target    string // revision
	repo      *envrepo.Repo
	policy    envrepo.Promotion
	pulls     []PullRequest // open, into the environment
	listed    bool          // pulls have been read
	occasions map[string]*Occasion
}

func (s *Service) newAdvance(environment string) advance {
	return advance{Service: s, Advance: Advance{Environment: environment}, began: s.now(), occasions: map[string]*Occasion{}}
}

// open reads the policy on the target branch. An environment that it does not have
// any more has none.
func (a *advance) open(ctx context.Context) error {
	refs, err := a.refs(ctx)
	if err != nil {
		return err
	}
	a.target = refs[headsPrefix+a.branch]
	project, err := a.snapshot(a.target)
	if err != nil {
		return err
	}
	if a.repo, err = envrepo.Open(project); err != nil {
		return err
	}
	environment, err := a.repo.Environment(a.Environment)
	var unknown *envrepo.UnknownEnvironmentError
	if errors.As(err, &unknown) {
		return nil
	}
	a.policy = environment.Promotion
	if err != nil || !a.policy.Auto || a.policy.From == "" {
		a.policy.Auto = false
	}
	return err
}

// list reads the open pull requests, once.
func (a *advance) list(ctx context.Context) (err error) {
	if !a.listed {
		a.pulls, err = a.forge.List(ctx, ListOptions{Kind: KindPromotion, State: Open, Environment: a.Environment})
		a.listed = err == nil
	}
	return err
}

func (a *advance) fail(format string, arguments ...any) {
	a.Failures = append(a.Failures, fmt.Errorf(format, arguments...))
}

// wake asks for another look at a time, unless one is asked for earlier. A time that
// has come since the advance began counts: what was judged before it is pending, and
// nothing else would have it looked at again.
func (a *advance) wake(at time.Time) {
	if at.After(a.began) && (a.Until.IsZero() || at.Before(a.Until)) {
		a.Until = at
	}
}

// propose has automation propose what is to be proposed.
func (a *advance) propose(ctx context.Context) {
	names, err := promotable(a.repo, a.Environment)
	if err != nil {
		a.fail("automation: %w", err)
		return
	}
	for _, name := range names {
		o, err := a.occasion(ctx, name)
		if err != nil {
			a.fail("automation of %s: %w", name, err)
			continue
		}
		step := o.Next()
		a.Steps = append(a.Steps, step)
		if step.Digest == "" {
			continue
		}
		request := Request{Components: []string{name}, To: a.Environment, Digest: step.Digest, forward: true}
		for _, p := range a.pulls {
			if slices.Contains(p.Components, name) {
				request.open = append(request.open, p.Number)
			}
		}
		proposal, err := a.Propose(ctx, request)
		if err != nil {
			a.fail("proposing %s: %w", name, err)
			continue
		}
		a.Proposed = append(a.Proposed, proposal)
	}
}

// yield refuses what automation asks for when a person has been faster: it would make a
// promotion of a rollback, as the two have one branch, or open again what was closed
// after it had looked.
func (s *Service) yield(ctx context.Context, target string, r Request, open []PullRequest) error {
	for _, number := range r.open {
		if !slices.ContainsFunc(open, func(p PullRequest) bool { return p.Number == number }) {
			return &RequestError{Number: number, Reason: ErrClosed, Detail: "it is not open any more, and automation looks again"}
		}
	}
	for _, p := range open {
		for _, component := range r.Components {
			if !slices.Contains(p.Components, component) {
				continue
			}
			had, err := s.had(ctx, target, r.To, component)
			if err != nil {
				return err
			}
			if s.takesBack(target, p, component, had) {
				return &RequestError{Number: p.Number, Reason: ErrRefused, Detail: "it goes back in " + r.To + ", which automation leaves alone"}
			}
		}
	}
	return nil
}

// occasion gathers what automation has to know of a component. A walk through history
// is left out at rest, and requests where there is nothing to promote.
func (a *advance) occasion(ctx context.Context, name string) (*Occasion, error) {
	if o := a.occasions[name]; o != nil {
		return o, nil
	}
	target, err := a.repo.PartialRelease(a.Environment, name)
	if err != nil {
		return nil, err
	}
	source, err := a.repo.PartialRelease(a.policy.From, name)
	if err != nil {
		return nil, err
	}
	o := &Occasion{Now: a.now(), Environment: a.Environment, Policy: a.policy, Component: name, Pins: pins(target), Wanted: running(target)}
	a.occasions[name] = o
	if o.Source, err = envrepo.SourceDigest(source); err != nil {
		return o, nil // nothing is deployed there
	}
	if slices.Contains(o.Pins, o.Source) && len(a.pulls) == 0 {
		return o, nil // nothing newer, at rest
	}
	if err := a.recall(ctx, o); err != nil {
		return nil, err
	}
	o.SourceHealth = a.report(ctx, a.policy.From, name)
	list := o.shortlist()
	if len(list) == 0 {
		return o, nil
	}
	return o, a.look(ctx, o, list)
}

func (s *Service) report(ctx context.Context, environment, component string) HealthReport {
	report, err := s.health.Release(ctx, environment, component)
	if err != nil {
		return HealthReport{Message: err.Error()}
	}
	return report
}

// recall adds to an occasion what the repository's history tells.
func (a *advance) recall(ctx context.Context, o *Occasion) error {
	if o.recalled {
		return nil
	}
	builds, err := a.repo.Builds(o.Component)
	if err != nil {
		return err
	}
	if o.declared, err = a.declared(ctx, a.target, a.policy.From, o.Component); err != nil {
		return err
	}
	if o.Had, err = a.had(ctx, a.target, a.Environment, o.Component); err != nil {
		return err
	}
	o.Builds = plausible(builds, a.now(), slices.Concat(o.declared, o.Had)...)
	o.recalled = true
	return nil
}

// look adds to an occasion what it takes to judge the digests of a list.
func (a *advance) look(ctx context.Context, o *Occasion, list []string) error {
	if err := a.recall(ctx, o); err != nil {
		return err
	}
	for _, digest := range list {
		if movedOn(o.declared, o.Builds, digest) {
			o.MovedOn = append(o.MovedOn, digest)
		}
	}
	o.looked = true
	o.TargetHealth = a.report(ctx, a.Environment, o.Component)
	if since := declaredSince(o.Had); since != "" && IsCommit(o.TargetHealth.Revision) {
		seen, err := a.Service.repo.IsAncestor(since, o.TargetHealth.Revision)
		o.TargetSeen = err == nil && seen // a commit that is not known here says nothing
	}
	for _, p := range a.pulls {
		if slices.Contains(p.Components, o.Component) {
			o.Open = append(o.Open, a.brings(p, o.Component)...)
			if a.takesBack(a.target, p, o.Component, o.Had) {
				o.Back = p.Number
			}
		}
	}
	closed, err := a.forge.List(ctx, ListOptions{Kind: KindPromotion, State: Closed, Environment: a.Environment, Component: o.Component})
	if err != nil {
		return err
	}
	for _, p := range closed {
		o.Withdrawn = append(o.Withdrawn, Withdrawal{Number: p.Number, Digests: a.brings(p, o.Component), At: p.UpdatedAt})
	}
	return nil
}

// brings are the digests that the head of a pull request has and the target has
// not; nil when the head cannot be read.
func (a *advance) brings(p PullRequest, component string) []string {
	project, err := a.snapshot(p.Head)
	if err != nil {
		return nil
	}
	repo, err := envrepo.Open(project)
	if err != nil {
		return nil
	}
	rel, err := repo.PartialRelease(a.Environment, component)
	if err != nil {
		return nil
	}
	present := a.occasions[component].Pins
	return slices.DeleteFunc(pins(rel), func(digest string) bool { return slices.Contains(present, digest) })
}

// merge has automation merge a pull request whose gates have passed, whoever
// proposed it, and say on it what it awaits otherwise.
func (a *advance) merge(ctx context.Context, t Tended) {
	reason, err := a.awaits(ctx, t)
	if err != nil {
		a.fail("automation of pull request #%d: %w", t.PullRequest.Number, err)
		return
	}
	status := Status{Context: ContextAuto, State: StatusPending, Description: cut(plain("awaits: "+reason), MaxDescription)}
	if reason == "" {
		status.State, status.Description = StatusSuccess, "merges it"
	}
	if err := a.forge.SetStatuses(ctx, t.PullRequest.Head, []Status{status}); err != nil {
		a.fail("publishing the state of pull request #%d: %w", t.PullRequest.Number, err)
	}
	if reason != "" {
		return
	}
	// Judged once more, for the exact commits: what has been said until here is no
	// reason to merge.
	_, err = a.Merge(ctx, t.PullRequest.Number, MergeOptions{})
	switch {
	case errors.Is(err, ErrClosed): // somebody was faster
	case err != nil:
		a.fail("merging: %w", err)
	default:
		a.Merged = append(a.Merged, t.PullRequest.Number)
	}
}

// awaits says why automation does not merge a pull request; "" when it does.
func (a *advance) awaits(ctx context.Context, t Tended) (string, error) {
	if unmet := Unmet(t.Gates); len(unmet) > 0 {
		return unmet[0].String(), nil
	}
	if err := a.list(ctx); err != nil {
		return "", err
	}
	for _, c := range t.input.Components {
		o, err := a.occasion(ctx, c.Name)
		if err != nil {
			return "", err
		}
		if !o.looked { // nothing of it was to be proposed
			if err := a.look(ctx, o, nil); err != nil {
				return "", err
			}
		}
		if reason := o.held(c.New); reason != "" {
			return reason, nil
		}
	}
	return "", nil
}
