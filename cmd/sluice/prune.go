package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
)

func newPruneCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "prune",
		Short: "Allow a large deletion that the reconciler holds",
		RunE:  noSubcommand,
	}
	c.AddCommand(newPruneAcknowledgeCommand(a))
	return c
}

func newPruneAcknowledgeCommand(a *app) *cobra.Command {
	var environment string
	c := &cobra.Command{
		Use:   "acknowledge TOKEN --environment ENVIRONMENT",
		Short: "Allow exactly the deletion that a held release names",
		Long: `A commit that would delete a large part of an environment, or all of it, is held
until sluice.yaml acknowledges the deletion. TOKEN stands in the message of
every release that is held (sluice status, kubectl get releases); it is good for
exactly those objects. The environment may be one that was removed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeRemote(c.Context(), func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.AcknowledgePrune(t, environment, args[0])
			})
		},
	}
	c.Flags().StringVar(&environment, "environment", "", "environment that the held releases name")
	_ = c.MarkFlagRequired("environment")
	return c
}
