package promotion

import (
	"context"
	"path"
	"slices"

	"github.com/sluice-dev/sluice/envrepo"
)

// A deployment that was said to be in progress is ended by whoever said so: with the
// outcome of its release, or as inactive when the release goes on to another commit
// or is applied no more. Forges do that for what has succeeded, and for nothing else.
// A process that ends in the middle leaves this to the next one, which asks once what
// is in progress.

// revisions is what has to be known of the repository to end what was left.
type revisions interface {
	// sameRelease reports whether the files of a release are the same at two
	// revisions. A revision that is nowhere any more has other ones.
	sameRelease(ctx context.Context, environment, component, a, b string) (bool, error)
	// declaredNow tells which releases the target branch has now.
	declaredNow(ctx context.Context) (func(environment, component string) bool, error)
}

// takeUp takes up what an earlier process left in progress in some environments, and
// ends what has ended since.
func (h *Herald) takeUp(ctx context.Context, environments []string) error {
	list, err := h.announcer.Unfinished(ctx, environments)
	if err != nil || len(list) == 0 {
		return err
	}
	declared, err := h.history.declaredNow(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range list {
		of := release{d.Environment, d.Component}
		if slices.Contains(h.pending[of], d.Revision) {
			continue // it is this process that has said so
		}
		h.pending[of] = append(h.pending[of], d.Revision)
		name := statusName(d.Environment, d.Revision)
		if h.left[name] == nil {
			h.left[name] = map[string]Outcome{}
		}
		h.left[name][d.Component] = Outcome{Environment: d.Environment, Component: d.Component, Revision: d.Revision, State: DeploymentInProgress}
		if o, told := h.latest[d.Environment][d.Component]; told {
			h.settle(o)
		} else if !declared(d.Environment, d.Component) {
			h.leave(of) // nobody will tell of it
		}
	}
	return nil
}

func (s *Service) declaredNow(ctx context.Context) (func(environment, component string) bool, error) {
	refs, err := s.refs(ctx)
	if err != nil {
		return nil, err
	}
	project, err := s.snapshot(refs[headsPrefix+s.branch])
	return func(environment, component string) bool {
		folder := path.Join("environments", environment)
		if component != envrepo.EnvironmentRelease {
			folder = path.Join(folder, component)
		}
		_, there := project.Hash(folder)
		return there
	}, err
}

func (s *Service) sameRelease(ctx context.Context, environment, component, a, b string) (bool, error) {
	if _, err := s.refs(ctx); err != nil { // what is compared must be here
		return false, err
	}
	moved, err := s.moved(a, b, []string{path.Join("environments", environment, component), path.Join("components", component)})
	return err == nil && len(moved) == 0, nil
}

// deploy announces a deployment and remembers whether it is to be ended.
func (h *Herald) deploy(ctx context.Context, d Deployment) error {
	if err := h.announcer.Deploy(ctx, d); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	of := release{d.Environment, d.Component}
	rest := slices.DeleteFunc(h.pending[of], func(revision string) bool { return revision == d.Revision })
	if d.State == DeploymentInProgress {
		rest = append(rest, d.Revision)
	}
	h.pending[of] = rest
	if len(rest) == 0 {
		delete(h.pending, of)
	}
	if o, ok := h.left[statusName(d.Environment, d.Revision)][d.Component]; ok {
		o.State, o.Message = d.State, d.Description
		h.left[statusName(d.Environment, d.Revision)][d.Component] = o
		h.status(d.Environment, d.Revision)
	}
	if o, told := h.latest[d.Environment][d.Component]; told {
		h.settle(o) // which may have gone on meanwhile
	}
	return nil
}

// settle has the deployments of a release that are said to be in progress end as it
// now fares.
func (h *Herald) settle(o Outcome) {
	for _, revision := range h.pending[release{o.Environment, o.Component}] {
		switch {
		case revision != o.Revision:
			h.end(o, revision)
		case o.State != DeploymentInProgress:
			h.deployment(o)
		}
		h.comment(o) // the one who left it in progress may not have come to it
	}
}

// leave ends the deployments of a release that is not applied any more.
func (h *Herald) leave(of release) {
	for _, revision := range h.pending[of] {
		h.endAs(Deployment{
			Environment: of.environment, Component: of.component, Revision: revision, State: DeploymentInactive, Description: "is not applied any more",
		}, func(context.Context) (DeploymentState, error) { return DeploymentInactive, nil })
	}
}

// end ends the deployment of a revision that its release has gone on from. Where
// the later commit left the release's files as they are, its outcome is theirs.
func (h *Herald) end(o Outcome, revision string) {
	d := Deployment{Environment: o.Environment, Component: o.Component, Revision: revision, State: DeploymentInactive, Description: overtakenText}
	h.endAs(d, func(ctx context.Context) (DeploymentState, error) {
		same, err := h.history.sameRelease(ctx, o.Environment, o.Component, revision, o.Revision)
		if same {
			return o.State, err
		}
		return DeploymentInactive, err
	})
}

// endAs announces how a deployment has ended, unless that has been said meanwhile,
// or it goes on.
func (h *Herald) endAs(d Deployment, state func(context.Context) (DeploymentState, error)) {
	of := release{d.Environment, d.Component}
	h.say("end of "+d.Environment+" "+d.Component+" "+d.Revision, true, announcement{
		method: "deployments", text: d.Description,
		send: func(ctx context.Context) error {
			h.mu.Lock()
			pending := slices.Contains(h.pending[of], d.Revision)
			h.mu.Unlock()
			if !pending {
				return nil
			}
			is, err := state(ctx)
			if err != nil || is == DeploymentInProgress {
				return err
			}
			if d.State != is {
				d.State, d.Description = is, ""
			}
			return h.deploy(ctx, d)
		},
	})
}
