package promotion

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
)

// Request is a promotion as it is asked for.
type Request struct {
	Components []string // what to promote; several share one pull request
	All        bool     // every component that differs; Components is ignored
	To         string   // the target environment

	// For exactly one component:
	Tag       string // the tag that gets the digest; "": the idle one of a tagged release
	BlueGreen bool   // the one idle tag, an error when there are none or several
	Digest    string // "": the one the source environment has

	// Back goes back to Digest, which the target has had before: a rollback. It goes
	// to Tag whatever traffic that has, and asks nothing of the environment before.
	Back bool

	// Force has Digest replace a newer build that an open pull request proposes.
	Force bool

	forward bool  // automation asks: it makes no promotion of an open rollback
	open    []int // for automation: the pull requests of the component that it saw open
}

// Proposal is what came of a request.
type Proposal struct {
	Already     bool        `json:"already"` // the target has it: nothing was proposed
	Message     string      `json:"message"` // one line, what was done
	PullRequest PullRequest `json:"pullRequest,omitzero"`
	Gates       []Gate      `json:"gates,omitempty"`
	Notes       []string    `json:"notes,omitempty"`
}

// Propose makes the pull request that copies digests into an environment, or
// renews the open one in place from what the target branch has now. When the
// target has the digest already nothing is proposed, and an open pull request
// for it, now overtaken, is closed. Repeating a request changes nothing.
func (s *Service) Propose(ctx context.Context, r Request) (Proposal, error) {
	if err := r.check(); err != nil {
		return Proposal{}, err
	}
	var proposal Proposal
	err := retry(ctx, ErrHeadMoved, func() (err error) {
		proposal, err = s.propose(ctx, r)
		return err
	})
	return proposal, err
}

func (r Request) check() error {
	if err := checkName("an environment", r.To); err != nil {
		return err
	}
	for _, name := range r.Components {
		if err := checkName("a component", name); err != nil {
			return err
		}
		if name == AllComponents || name == envrepo.EnvironmentRelease {
			return &NameError{Kind: "a component", Name: name}
		}
	}
	switch single := r.Tag != "" || r.BlueGreen || r.Digest != ""; {
	case r.All && len(r.Components) > 0:
		return &RequestConflictError{"all components are asked for, and some by name"}
	case !r.All && len(r.Components) == 0:
		return &RequestConflictError{"no component is asked for"}
	case r.Back && (r.Digest == "" || r.BlueGreen):
		return &RequestConflictError{"a rollback goes to one digest, in the tag that is named"}
	case single && (r.All || len(r.Components) > 1):
		return &RequestConflictError{"a tag or a digest is given for several components"}
	}
	return nil
}

// RequestConflictError is a request whose parts do not go together.
type RequestConflictError struct{ Problem string }

func (e *RequestConflictError) Error() string { return "promoting: " + e.Problem }

// Hint says what goes together.
func (e *RequestConflictError) Hint() string {
	return "name one component (with --tag, --bluegreen or --build), or use --all alone"
}

// ground is what a proposal is made on: one state of the target branch and the pull
// requests that were open then.
type ground struct {
	refs    map[string]string // of the target branch and all heads
	target  string            // commit of the target branch
	project *gitrepo.Snapshot
	open    []PullRequest
}

// ground reads it; o selects the pull requests.
func (s *Service) ground(ctx context.Context, o ListOptions) (g ground, err error) {
	if g.refs, err = s.refs(ctx); err != nil {
		return g, err
	}
	g.target = g.refs[headsPrefix+s.branch]
	if err := s.vouch(ctx, g.target); err != nil {
		return g, fmt.Errorf("on top of %.12s: %w", g.target, err)
	}
	if g.project, err = s.snapshot(g.target); err != nil {
		return g, err
	}
	o.State = Open
	g.open, err = s.forge.List(ctx, o)
	return g, err
}

// propose makes one attempt; ErrHeadMoved asks for another.
func (s *Service) propose(ctx context.Context, r Request) (Proposal, error) {
	g, err := s.ground(ctx, ListOptions{Kind: KindPromotion, Environment: r.To})
	if err != nil {
		return Proposal{}, fmt.Errorf("promoting to %s: %w", r.To, err)
	}
	if r.forward {
		if err := s.yield(ctx, g.target, r, g.open); err != nil {
			return Proposal{}, err
		}
	}
	plan, err := edit(g.project, r, g.open)
	if err != nil {
		return Proposal{}, err
	}
	if err := s.keepNewer(g.refs, g.project, r, g.open); err != nil {
		return Proposal{}, err
	}
	return s.present(ctx, g, r.To, plan)
}

// present makes the pull request of a plan, or closes the one that has nothing left
// to do.
func (s *Service) present(ctx context.Context, g ground, environment string, plan plan) (Proposal, error) {
	if plan.tree.Empty() {
		return s.already(ctx, plan, g.open)
	}
	in, err := s.gather(ctx, gathering{
		before: g.project, after: plan.tree, environment: environment, components: plan.components,
		head: plan.branch, target: s.branch,
	})
	if err != nil {
		return Proposal{}, err
	}
	old := g.refs[headsPrefix+plan.branch]
	head, err := s.commit(old, g.target, plan, in)
	if err != nil {
		return Proposal{}, err
	}
	s.linkOverlays(&in.input, head)
	p, err := s.forge.Open(ctx, Spec{
		Branch: plan.branch, Target: s.branch, Head: head, OldHead: old,
		Title: Title(in.input), Body: Body(in.input), Environment: environment, Components: plan.components,
		Labels: []string{"sluice/" + string(KindOf(plan.branch)), "sluice/environment:" + environment},
	})
	if err != nil {
		return Proposal{}, err
	}
	return s.finish(ctx, p, plan, g.open)
}

// keepNewer refuses a digest that would take the place of a newer build, which an open
// pull request proposes. One that is renewed from the source environment follows that,
// and a rollback goes back on purpose.
func (s *Service) keepNewer(refs map[string]string, project *gitrepo.Snapshot, r Request, open []PullRequest) error {
	if r.Digest == "" || r.Back || r.Force {
		return nil
	}
	repo, err := envrepo.Open(project)
	if err != nil {
		return err
	}
	component := r.Components[0]
	builds, err := repo.Builds(component)
	if err != nil {
		return err
	}
	builds = plausible(builds, s.now())
	for _, p := range open {
		if !slices.Contains(p.Components, component) {
			continue
		}
		// Where the branch is now: a forge may show that a moment later.
		p.Head = cmp.Or(refs[headsPrefix+p.Branch], p.Head)
		for _, change := range s.changes(project.Revision(), p, component) {
			if newer(builds, change.new, r.Digest) {
				return &OlderError{Number: p.Number, Component: component, Environment: r.To, Digest: r.Digest, Open: change.new}
			}
		}
	}
	return nil
}

// finish closes what the new pull request replaces and publishes the gates.
func (s *Service) finish(ctx context.Context, p PullRequest, plan plan, open []PullRequest) (Proposal, error) {
	proposal := Proposal{PullRequest: p, Notes: plan.notes}
	verb := "opened"
	for _, other := range open {
		if other.Number == p.Number {
			verb = "updated"
			if other.Head == p.Head && other.Body == p.Body && other.Title == p.Title {
				verb = "kept"
			}
		}
	}
	replaced, err := s.replace(ctx, p)
	if err != nil {
		return Proposal{}, err
	}
	proposal.Notes = append(proposal.Notes, replaced...)
	proposal.Message = fmt.Sprintf("%s pull request #%d: %s", verb, p.Number, p.Title)
	gates, err := s.Gates(ctx, p)
	if err != nil {
		return Proposal{}, err
	}
	proposal.Gates = gates
	return proposal, s.Publish(ctx, p, gates)
}

// replace closes the pull requests that a new one makes needless. It looks at those
// that are open now, not at those that were when the new one was planned: of a
// promotion of one component and one of all that are proposed at the same time,
// whichever is finished last finds the other. The one of all stays; ErrHeadMoved
// then has the other proposed again, as a part of it.
func (s *Service) replace(ctx context.Context, p PullRequest) (notes []string, err error) {
	if KindOf(p.Branch) != KindPromotion {
		return nil, nil
	}
	open, err := s.forge.List(ctx, ListOptions{Kind: KindPromotion, State: Open, Environment: p.Environment})
	if err != nil {
		return nil, err
	}
	shared := BranchName(p.Environment, AllComponents)
	for _, other := range open {
		switch {
		case other.Number == p.Number:
		case p.Branch == shared && covered(other.Components, p.Components):
			err := s.forge.Close(ctx, other.Number, fmt.Sprintf("superseded by #%d", p.Number))
			if err != nil && !errors.Is(err, ErrClosed) {
				return notes, err
			}
			notes = append(notes, fmt.Sprintf("#%d is superseded", other.Number))
		case other.Branch == shared && covered(p.Components, other.Components):
			err := s.forge.Close(ctx, p.Number, fmt.Sprintf("superseded by #%d", other.Number))
			if err != nil && !errors.Is(err, ErrClosed) {
				return notes, err
			}
			return notes, &RequestError{Number: p.Number, Reason: ErrHeadMoved, Detail: fmt.Sprintf("superseded by #%d", other.Number)}
		}
	}
	return notes, nil
}

// covered reports whether all of some is part of all.
func covered(some, all []string) bool {
	return len(some) > 0 && !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
}

// already says that there is nothing to promote and closes what was overtaken.
func (s *Service) already(ctx context.Context, plan plan, open []PullRequest) (Proposal, error) {
	proposal := Proposal{Already: true, Message: plan.message, Notes: plan.notes}
	for _, p := range open {
		if p.Branch != plan.branch {
			continue
		}
		err := s.forge.Close(ctx, p.Number, "overtaken: "+plan.message)
		if err != nil && !errors.Is(err, ErrClosed) {
			return Proposal{}, err
		}
		proposal.Notes = append(proposal.Notes, fmt.Sprintf("closed pull request #%d, which was overtaken", p.Number))
	}
	return proposal, nil
}

// plan is the edit that a request comes to.
type plan struct {
	branch     string
	tree       *envrepo.Tree
	components []string // those that change, sorted
	message    string   // when nothing changes: why
	notes      []string
}

// edit applies a request to the project. A component that has an open pull
// request together with others stays in that one, which is renewed whole.
func edit(project *gitrepo.Snapshot, r Request, open []PullRequest) (plan, error) {
	result := plan{tree: envrepo.NewTree(project)}
	repo, err := envrepo.Open(project)
	if err != nil {
		return result, err
	}
	names := slices.Clone(r.Components)
	if r.All {
		if names, err = promotable(repo, r.To); err != nil {
			return result, err
		}
	}
	shared := BranchName(r.To, AllComponents)
	result.branch = shared
	if len(names) == 1 && !r.All {
		result.branch = BranchName(r.To, names[0])
		for _, p := range open {
			if !r.Back && p.Branch == shared && slices.Contains(p.Components, names[0]) {
				result.branch = shared
				names = append(names, p.Components...)
				result.notes = append(result.notes, fmt.Sprintf("%s is part of pull request #%d", names[0], p.Number))
			}
		}
	}
	slices.Sort(names)
	return result, result.promote(r, slices.Compact(names))
}

// promotable lists the components that both the target environment and the one
// before it have.
func promotable(repo *envrepo.Repo, to string) ([]string, error) {
	environment, err := repo.Environment(to)
	if err != nil {
		return nil, err
	}
	if environment.Promotion.From == "" {
		return nil, &RequestConflictError{"no environment comes before " + to}
	}
	from, err := repo.ReleaseNames(environment.Promotion.From)
	if err != nil {
		return nil, err
	}
	into, err := repo.ReleaseNames(to)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(into, func(name string) bool {
		return name == envrepo.EnvironmentRelease || !slices.Contains(from, name)
	}), nil
}

// pin edits the tree for one component. A rollback that a promotion could make is made
// like one; the gate scope does both over again in the same order.
func (p *plan) pin(r Request, name, tag string, bluegreen bool, digest string) (envrepo.Summary, error) {
	result, err := envrepo.Promote(p.tree, name, r.To, tag, bluegreen, digest)
	if err != nil && r.Back {
		return envrepo.Rollback(p.tree, r.To, name, tag, digest)
	}
	return result.Summary, err
}

// promote edits the tree for each name. With several names one that cannot be
// promoted does not keep the others back: it becomes a note.
func (p *plan) promote(r Request, names []string) error {
	var failures []error
	var done []string
	for _, name := range names {
		tag, bluegreen, digest := "", false, ""
		if !r.All && slices.Contains(r.Components, name) {
			tag, bluegreen, digest = r.Tag, r.BlueGreen, r.Digest
		}
		result, err := p.pin(r, name, tag, bluegreen, digest)
		switch {
		case err != nil && len(names) == 1:
			return err
		case err != nil:
			failures = append(failures, err)
			p.notes = append(p.notes, fmt.Sprintf("%s is left out: %s", name, plain(err.Error())))
		case result.Changed:
			p.components = append(p.components, name)
			p.notes = append(p.notes, result.Notes...)
		default:
			done = append(done, result.Message)
		}
	}
	if len(failures) > 0 && len(failures) == len(names) {
		return errors.Join(failures...)
	}
	p.message = strings.Join(done, "; ")
	if len(names) == 0 {
		p.message = "nothing is to be promoted to " + r.To
	}
	return nil
}

// commit returns the head of the pull request: the one it has when that says
// the same on the same ground, else a new commit on the target's head.
func (s *Service) commit(old, target string, plan plan, in judgement) (string, error) {
	edit := gitrepo.Edit{Message: commitMessage(in.input), Write: map[string][]byte{}}
	for name, data := range plan.tree.Writes() {
		edit.Write[s.inRepository(name)] = data
	}
	for _, name := range plan.tree.Deletes() {
		edit.Delete = append(edit.Delete, s.inRepository(name))
	}
	if old != "" {
		kept, err := s.same(old, target, edit, in)
		if err != nil {
			return "", err
		}
		if kept {
			return old, nil
		}
	}
	head, err := s.repo.WriteCommit([]string{target}, target, edit)
	if err != nil {
		return "", fmt.Errorf("promoting: %w", err)
	}
	return head, nil
}

// same reports whether a head holds exactly an edit, with nothing that matters
// to it changed on the target branch since: then it is kept, and with it what
// people said about it.
func (s *Service) same(old, target string, edit gitrepo.Edit, in judgement) (bool, error) {
	snapshot, err := s.repo.Snapshot(old)
	if err != nil {
		return false, err
	}
	commit := snapshot.Commit()
	if len(commit.Parents) != 1 || strings.TrimSpace(commit.Message) != strings.TrimSpace(edit.Message) {
		return false, nil
	}
	base := commit.Parents[0]
	if behind, err := s.repo.IsAncestor(base, target); err != nil || !behind {
		return false, err
	}
	changed, err := s.repo.Changed(base, old)
	if err != nil || len(changed) != len(edit.Write)+len(edit.Delete) {
		return false, err
	}
	for _, name := range changed {
		want, written := edit.Write[name]
		if !written && !slices.Contains(edit.Delete, name) {
			return false, nil
		}
		if written {
			have, err := snapshot.ReadFile(name)
			if err != nil || !bytes.Equal(have, want) {
				return false, err
			}
		}
	}
	before, err := s.snapshot(base)
	if err != nil {
		return false, err
	}
	now, err := s.snapshot(target)
	if err != nil {
		return false, err
	}
	stale, err := s.stale(before, now, in.input)
	return len(stale) == 0, err
}

// commitMessage is the message of a pull request's only commit.
func commitMessage(in Input) string {
	var b strings.Builder
	b.WriteString(Title(in) + "\n")
	for _, c := range in.Components {
		old, new := c.Old, c.New
		if in.Kind == KindTraffic {
			old, new = trafficLine(c.OldTraffic), trafficLine(c.NewTraffic)
		}
		fmt.Fprintf(&b, "\n%s", c.Name)
		if c.Tag != "" {
			fmt.Fprintf(&b, " (%s)", c.Tag)
		}
		if old != "" {
			fmt.Fprintf(&b, "\n  from %s", old)
		}
		fmt.Fprintf(&b, "\n  to   %s", new)
	}
	return b.String() + "\n"
}
