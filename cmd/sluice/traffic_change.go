package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/traffic"
)

// trafficOptions say how a change of traffic is made.
type trafficOptions struct {
	environment     string
	ifCurrent       []string
	dryRun, pr, now bool
}

// trafficOptionsHelp is what every command that changes traffic says of its options.
const trafficOptionsHelp = `--dry-run shows how the file and the routes would change. --if-current makes the
change on the condition that the weights are these, every tag named, and ends
with exit code 7 when they are not. --pr opens a pull request, which is also
what happens where sluice.yaml says "traffic: {via: pullRequest}"; --now commits
there, too.`

func (o *trafficOptions) addFlags(c *cobra.Command) {
	environmentFlag(c, &o.environment)
	c.Flags().StringSliceVar(&o.ifCurrent, "if-current", nil, "only if the weights are `TAG=PERCENT,…` now, no more and no fewer")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would change, and change nothing")
	c.Flags().BoolVar(&o.pr, "pr", false, "open a pull request, or renew the open one")
	c.Flags().BoolVar(&o.now, "now", false, "commit it, even where traffic changes are to be proposed")
	c.MarkFlagsMutuallyExclusive("pr", "now")
}

// errProposed tells that an environment takes changes of traffic by pull request.
var errProposed = errors.New("the environment takes traffic changes by pull request")

// changeTraffic makes a change of traffic as the options say. The policy and the
// condition are judged on the files that the commit is made of, each time again.
func (a *app) changeTraffic(ctx context.Context, component string, o trafficOptions, e edit) error {
	condition, err := parseWeights("--if-current", o.ifCurrent)
	if err == nil && o.ifCurrent != nil && len(condition) == 0 {
		err = withHint(usagef("--if-current names no weights"), "name every tag that is listed now: --if-current blue=90,green=10")
	}
	if err != nil {
		return err
	}
	var standing []error // of the last try
	checked := func(t *envrepo.Tree) (envrepo.Summary, error) {
		before := trafficOf(t, o.environment, component)
		if len(condition) > 0 {
			if err := envrepo.RequireTraffic(t, o.environment, component, condition); err != nil {
				return envrepo.Summary{}, err
			}
		}
		summary, err := e(t)
		if err == nil && summary.Changed {
			standing, err = refuseUnroutable(ctx, t, o.environment, component, before)
		}
		return summary, err
	}
	defer func() {
		for _, fault := range standing {
			a.note("note: with the weights of before as well: %v", fault)
		}
	}()
	switch {
	case o.dryRun:
		return a.previewTraffic(ctx, component, o, checked)
	case o.pr:
		return a.proposeTraffic(ctx, component, o, checked)
	}
	err = a.changeRemote(ctx, func(t *envrepo.Tree) (envrepo.Summary, error) {
		via, err := trafficVia(t, o)
		if err == nil && via == envrepo.ViaPullRequest {
			err = errProposed
		}
		if err != nil {
			return envrepo.Summary{}, err
		}
		return checked(t)
	})
	if errors.Is(err, errProposed) {
		return a.proposeTraffic(ctx, component, o, checked)
	}
	return err
}

// trafficVia is how a change would be made: what the options say, else the policy.
func trafficVia(t *envrepo.Tree, o trafficOptions) (string, error) {
	repo, err := envrepo.Open(t)
	if err != nil {
		return "", err
	}
	environment, err := repo.Environment(o.environment)
	switch {
	case err != nil:
		return "", err
	case o.pr:
		return envrepo.ViaPullRequest, nil
	case o.now:
		return envrepo.ViaCommit, nil
	}
	return environment.Traffic.Via, nil
}

// proposeTraffic opens the pull request of a change of traffic.
func (a *app) proposeTraffic(ctx context.Context, component string, o trafficOptions, e edit) error {
	service, err := a.openPromotions(ctx)
	if err != nil {
		return err
	}
	defer service.Done()
	proposal, err := service.ProposeTraffic(ctx, promotion.Shift{Environment: o.environment, Component: component, Edit: e})
	if err != nil {
		return err
	}
	return a.printProposal(proposal)
}

// trafficOf is the traffic of a release, none where it cannot be read.
func trafficOf(t *envrepo.Tree, environment, component string) envrepo.Traffic {
	repo, err := envrepo.Open(t)
	if err != nil {
		return envrepo.Traffic{}
	}
	rel, err := repo.PartialRelease(environment, component)
	if err != nil || !rel.Tagged() {
		return envrepo.Traffic{}
	}
	return *rel.Traffic
}

// refuseUnroutable refuses weights and mirrors that the routes of a release cannot
// carry, before they are committed. What is wrong with a route in any case, with the
// traffic of before as well, is returned to be told: the weights may have to be changed
// all the same. Of what does not render others complain.
func refuseUnroutable(ctx context.Context, t *envrepo.Tree, environment, component string, before envrepo.Traffic) (standing []error, err error) {
	repo, err := envrepo.Open(t)
	if err != nil {
		return nil, err
	}
	rel, err := repo.PartialRelease(environment, component)
	if err != nil {
		return nil, err
	}
	result, err := render.BuildPartial(ctx, render.Request{FS: t, Release: rel, Decrypt: keyless})
	if err != nil {
		return nil, ctx.Err()
	}
	caused, standing := traffic.Faults(result.Shared, ofTags(result), rel.Name, before, *rel.Traffic, tagNames(result), everything)
	if len(caused) > 0 {
		return nil, caused[0]
	}
	return standing, nil
}
