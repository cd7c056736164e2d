package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
)

type deployOptions struct {
	environment, build, tag string
	bluegreen, create       bool
}

func newDeployCommand(a *app) *cobra.Command {
	var o deployOptions
	c := &cobra.Command{
		Use:   "deploy COMPONENT --environment ENVIRONMENT --build BUILD",
		Short: "Pin a recorded build in an environment",
		Long: `Writes the build's digest into the environment's overlay. Of a release with
tags, --tag names the deployment (and makes it where it is new, at weight 0),
and --bluegreen takes the one that has no traffic. Weights are left alone. A new
name that is one or two letters off that of a tag takes --create.

This passes no gate; use promote to propose it instead.`,
		Example: `  sluice deploy api --environment development --build 3f2a9c0d
  sluice deploy api --environment production --build 3f2a9c0d --bluegreen`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.create && o.tag == "" {
				return withHint(usagef("--create needs the name of the tag"), "give --tag NAME, too")
			}
			return a.changeRemote(c.Context(), func(t *envrepo.Tree) (envrepo.Summary, error) {
				repo, err := envrepo.Open(t)
				if err != nil {
					return envrepo.Summary{}, err
				}
				if _, err := repo.Environment(o.environment); err != nil {
					return envrepo.Summary{}, err
				}
				build, err := repo.Build(args[0], o.build)
				if err != nil {
					return envrepo.Summary{}, err
				}
				if o.create {
					return envrepo.DeployNew(t, o.environment, args[0], build.Digest, o.tag)
				}
				return envrepo.Deploy(t, o.environment, args[0], build.Digest, o.tag, o.bluegreen)
			})
		},
	}
	environmentFlag(c, &o.environment)
	c.Flags().StringVar(&o.build, "build", "", "recorded `build`: its digest or a unique prefix of it")
	_ = c.MarkFlagRequired("build")
	tagFlags(c, &o.tag, &o.bluegreen)
	c.Flags().BoolVar(&o.create, "create", false, "make the tag, even if its name is near that of another")
	c.MarkFlagsMutuallyExclusive("create", "bluegreen")
	return c
}

// tagFlags adds --tag and --bluegreen, which exclude each other.
func tagFlags(c *cobra.Command, tag *string, bluegreen *bool) {
	c.Flags().StringVar(tag, "tag", "", "deployment tag, such as blue or green")
	c.Flags().BoolVar(bluegreen, "bluegreen", false, "take the one tag that has no traffic")
	c.MarkFlagsMutuallyExclusive("tag", "bluegreen")
}
