package promotion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

// Shift is a change of the traffic of a release as it is asked for.
type Shift struct {
	Environment string
	Component   string
	// Edit changes the weights and mirrors, and nothing else: envrepo.SetTraffic and
	// its like. It is called again when somebody else was faster, and decides from the
	// tree alone. Its errors are returned as they are.
	Edit func(*envrepo.Tree) (envrepo.Summary, error)
}

// ProposeTraffic makes the pull request that changes the traffic of a release, or
// renews the open one in place: there is one for a component and an environment, and
// the last who asks decides what it says. When the target has that traffic already
// nothing is proposed, and the open pull request, now overtaken, is closed. Repeating
// a request changes nothing.
func (s *Service) ProposeTraffic(ctx context.Context, shift Shift) (Proposal, error) {
	if err := checkName("an environment", shift.Environment); err != nil {
		return Proposal{}, err
	}
	if err := checkName("a component", shift.Component); err != nil {
		return Proposal{}, err
	}
	if shift.Component == AllComponents {
		return Proposal{}, &NameError{Kind: "a component", Name: shift.Component}
	}
	var proposal Proposal
	err := retry(ctx, ErrHeadMoved, func() (err error) {
		proposal, err = s.proposeTraffic(ctx, shift)
		return err
	})
	return proposal, err
}

// proposeTraffic makes one attempt; ErrHeadMoved asks for another.
func (s *Service) proposeTraffic(ctx context.Context, shift Shift) (Proposal, error) {
	branch := TrafficBranch(shift.Environment, shift.Component)
	g, err := s.ground(ctx, ListOptions{Kind: KindTraffic, Environment: shift.Environment, Branch: branch})
	if err != nil {
		return Proposal{}, fmt.Errorf("proposing traffic of %s in %s: %w", shift.Component, shift.Environment, err)
	}
	plan := plan{branch: branch, tree: envrepo.NewTree(g.project), components: []string{shift.Component}}
	summary, err := shift.Edit(plan.tree)
	if err != nil {
		return Proposal{}, err
	}
	plan.message, plan.notes = summary.Message, summary.Notes
	return s.present(ctx, g, shift.Environment, plan)
}

// scopeTraffic does the change again on the merge base and demands the same bytes:
// the traffic of the one release, and nothing else.
func (h *head) scopeTraffic(component string) {
	file := path.Join("environments", h.environment, component, trafficFile)
	for _, name := range h.changed {
		if name != file {
			h.foreign = append(h.foreign, name+" is not what a change of traffic changes")
		}
	}
	if len(h.foreign) > 0 {
		slices.Sort(h.foreign)
		h.foreign = slices.Compact(h.foreign)
		return
	}
	again := envrepo.NewTree(h.base)
	wanted, err := trafficOf(h.head, h.environment, component)
	if err == nil {
		_, err = envrepo.SetTraffic(again, h.environment, component, wanted)
	}
	if err != nil {
		h.foreign = append(h.foreign, plain(err.Error()))
		return
	}
	h.compare(again)
}

// trafficOf reads the traffic of a release, or says why there is none.
func trafficOf(project fs.FS, environment, component string) (t envrepo.Traffic, err error) {
	repo, err := envrepo.Open(project)
	if err != nil {
		return t, err
	}
	rel, err := repo.PartialRelease(environment, component)
	switch {
	case err != nil:
		return t, err
	case !rel.Tagged():
		return t, &envrepo.UntaggedError{Environment: environment, Component: component}
	}
	return *rel.Traffic, nil
}

// trafficOvertaken says why nothing of a head is wanted any more: the target has its
// traffic already, or has no tags that it could be about. What cannot be read is for
// the gates to tell.
func (h *head) trafficOvertaken(component string) string {
	now, err := trafficOf(h.target, h.environment, component)
	var untagged *envrepo.UntaggedError
	var gone *envrepo.UnknownReleaseError
	var unknown *envrepo.UnknownComponentError
	switch {
	case errors.As(err, &untagged), errors.As(err, &gone), errors.As(err, &unknown):
		return "overtaken: " + plain(err.Error())
	case err != nil:
		return ""
	}
	wanted, err := trafficOf(h.head, h.environment, component)
	if err != nil || !wanted.Equal(now) {
		return ""
	}
	return fmt.Sprintf("overtaken: traffic of %s in %s is %s already", component, h.environment, now)
}

// gatherTraffic returns what is known of a change of traffic. A broken tag fails
// neither of the two states: it has to be possible to leave it.
func (c *component) gatherTraffic(ctx context.Context) ([]ComponentInput, error) {
	c.old, c.oldErr = c.before.PartialRelease(c.environment.Name, c.name)
	c.new, c.newErr = c.after.PartialRelease(c.environment.Name, c.name)
	c.reads = c.folders()
	if c.newErr == nil && !c.new.Tagged() {
		c.newErr = &envrepo.UntaggedError{Environment: c.environment.Name, Component: c.name}
	}
	in := ComponentInput{Name: c.name}
	if c.newErr != nil {
		in.RenderError = c.newErr.Error()
		return []ComponentInput{in}, ctx.Err()
	}
	if err := c.render(ctx, render.BuildPartial); err != nil {
		return nil, err
	}
	in.OldTraffic, in.NewTraffic, in.Objects = c.old.Traffic, c.new.Traffic, c.objects
	in.Here = c.healthIn(ctx, c.environment.Name)
	if c.oldErr != nil {
		in.OldError = c.oldErr.Error()
	}
	if c.newErr != nil {
		in.RenderError = c.newErr.Error()
	} else {
		in.Keyless = c.newRender.Keyless
	}
	in.Shares = c.shares(in.Here)
	for _, share := range in.Shares {
		if share.Digest == "" || !share.Gains() {
			continue
		}
		c.reads = append(c.reads, path.Join("builds", c.name, short(share.Digest)+".yaml"))
		if c.newErr == nil && share.Broken == "" {
			in.Contracts = append(in.Contracts, c.contract("gains", share.Tag, share.Digest))
		}
	}
	return []ComponentInput{in}, ctx.Err()
}

// shares are what the change does to each tag that is listed before or after.
func (c *component) shares(health HealthReport) []Share {
	var shares []Share
	for _, tag := range c.new.Tags {
		share := Share{
			Tag: tag.Name, Digest: tag.Digest, Build: c.build(tag.Digest),
			Old: portion(c.old.Traffic, tag.Name), New: portion(c.new.Traffic, tag.Name),
		}
		if !share.Old.Listed && !share.New.Listed {
			continue
		}
		if tag.Broken != nil {
			share.Broken = tag.Broken.Error()
		} else if c.newErr == nil {
			for _, rendered := range c.newRender.Tags {
				if rendered.Name == tag.Name && rendered.Broken != nil {
					share.Broken = rendered.Broken.Error()
				}
			}
		}
		if i := slices.IndexFunc(health.Tags, func(h TagHealth) bool { return h.Tag == tag.Name }); i >= 0 && health.Known {
			share.Health = &health.Tags[i]
		}
		shares = append(shares, share)
	}
	return shares
}

// portion is what a tag gets of some traffic; nil is none.
func portion(t *envrepo.Traffic, tag string) Portion {
	if t == nil {
		return Portion{}
	}
	var p Portion
	p.Weight, p.Listed = t.Weight(tag)
	for _, m := range t.Mirrors {
		if m.Tag == tag {
			p.Mirror = m.Percent
		}
	}
	return p
}

// gaining are the tags that a change of traffic needs to be ready.
func gaining(c ComponentInput) []string {
	var tags []string
	for _, share := range c.Shares {
		if share.Gains() {
			tags = append(tags, share.Tag)
		}
	}
	return tags
}

// trafficLine is traffic in one line, "" for none.
func trafficLine(t *envrepo.Traffic) string {
	if t == nil {
		return ""
	}
	return t.String()
}
