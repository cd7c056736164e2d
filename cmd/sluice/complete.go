package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
)

// completeNames gives shell completion the names of the repository at hand:
// environments for --environment and --to, components for arguments.
func (a *app) completeNames(root *cobra.Command) {
	environments := a.names(func(r *envrepo.Repo) ([]string, error) { return environmentNames(r.Project()), nil })
	components := a.names((*envrepo.Repo).Components)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Flags().Lookup("environment") != nil {
			_ = c.RegisterFlagCompletionFunc("environment", environments)
		}
		if c.Name() == "promote" && c.Flags().Lookup("build") != nil {
			_ = c.RegisterFlagCompletionFunc("to", environments)
		}
		if c.Flags().Lookup("component") != nil {
			_ = c.RegisterFlagCompletionFunc("component", components)
		}
		if strings.Contains(c.Use, "COMPONENT") {
			c.ValidArgsFunction = components
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(root)
}

// names completes from the working tree, or from the branch where there is
// none; without a repository there is nothing to suggest.
func (a *app) names(list func(*envrepo.Repo) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		v, err := a.openView(c.Context(), "", fromWorktree)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer v.Close()
		names, err := list(v.Repo)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
			return !strings.HasPrefix(n, prefix) || slices.Contains(args, n)
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
