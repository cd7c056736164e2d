package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
)

type pauseOptions struct {
	environments []string
	reason       string
	dryRun       bool
}

const pauseHelp = `Commits "paused: true" to component.yaml of components, which pauses them in
every environment, or with --environment to sluice.yaml, which pauses all of an
environment. What runs goes on running: nothing is applied, corrected, routed or
deleted, and nothing times out, until "sluice resume" ends it. Then what came in
meanwhile is done.

--reason becomes part of the commit's subject, which "sluice explain" shows.

It is a commit and no pull request, as a pause is for when it matters now. Where
the branch takes pull requests only, --dry-run shows the change to propose.`

func newPauseCommand(a *app) *cobra.Command {
	return a.pauseCommand(true, &cobra.Command{
		Use:   "pause [COMPONENT…]",
		Short: "Leave components or environments as they are",
		Long:  pauseHelp,
		Example: `  sluice pause --environment production --reason "incident 12"
  sluice pause api`,
	})
}

func newResumeCommand(a *app) *cobra.Command {
	return a.pauseCommand(false, &cobra.Command{
		Use:   "resume [COMPONENT…]",
		Short: "End a pause: what came in meanwhile is applied",
		Long: `Commits "paused: false" where "sluice pause" wrote true, or a person did: to
component.yaml of components, or with --environment to sluice.yaml. What was
committed meanwhile is applied, and what has drifted is corrected.`,
	})
}

func (a *app) pauseCommand(paused bool, c *cobra.Command) *cobra.Command {
	var o pauseOptions
	c.RunE = func(c *cobra.Command, components []string) error {
		if len(components)+len(o.environments) == 0 {
			return withHint(usagef("name what to %s", c.Name()), "sluice %[1]s COMPONENT…, or sluice %[1]s --environment ENVIRONMENT", c.Name())
		}
		if len(components) > 0 && len(o.environments) > 0 {
			return withHint(usagef("a component is paused in every environment, or an environment with all that is in it"),
				"give components, or --environment, and not both")
		}
		return a.changePause(c.Context(), o, envrepo.PauseChange{Paused: paused, Environments: o.environments, Components: components, Reason: o.reason})
	}
	f := c.Flags()
	f.StringSliceVar(&o.environments, "environment", nil, "`environments`, each with all that is in it")
	f.StringVar(&o.reason, "reason", "", "`text` for the commit's subject")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would change, and change nothing")
	return c
}

func (a *app) changePause(ctx context.Context, o pauseOptions, change envrepo.PauseChange) error {
	e := func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.SetPaused(t, change) }
	if o.dryRun {
		return a.preview(ctx, e, nil)
	}
	return a.changeRemote(ctx, e)
}
