package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

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

type acknowledgeOptions struct {
	environment string
	force       bool
}

func newPruneAcknowledgeCommand(a *app) *cobra.Command {
	var o acknowledgeOptions
	c := &cobra.Command{
		Use:   "acknowledge [TOKEN] --environment ENVIRONMENT",
		Short: "Allow exactly the deletion that a held release names",
		Long: `A commit that would delete a large part of an environment, or all of it, is held
until sluice.yaml acknowledges the deletion. TOKEN is good for exactly the
objects that are held; sluice status shows it. Without one, this command shows
what is held in the environment, and commits nothing. The environment may be one
that was removed.

The token is compared with what the Releases in the cluster report as held. With
--force it is not, for where the cluster cannot be reached from here: a token
that is not the right one allows nothing. The environment has to be one of the
project then, or one that it had.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.showHeld(c.Context(), o)
			}
			return a.acknowledge(c.Context(), args[0], o)
		},
	}
	c.Flags().StringVar(&o.environment, "environment", "", "environment that the held releases name")
	c.Flags().BoolVar(&o.force, "force", false, "do not compare the token with what the cluster reports as held")
	_ = c.MarkFlagRequired("environment")
	c.ValidArgsFunction = a.completeTokens(&o)
	return c
}

// showHeld lists what is held in an environment.
func (a *app) showHeld(ctx context.Context, o acknowledgeOptions) error {
	if o.force {
		return usagef("--force is for a token, and none is given")
	}
	held, err := a.heldIn(ctx, o.environment)
	if err != nil {
		return err
	}
	return a.print(held, func(t *table) {
		for _, d := range held {
			statusLine(t, d.String(), d.hint())
		}
		if len(held) == 0 {
			t.line("nothing is held in " + o.environment)
		}
	})
}

// acknowledge commits the token, if it is the one of what is held. One that the
// branch has already may be of a deletion that is done by now.
func (a *app) acknowledge(ctx context.Context, token string, o acknowledgeOptions) error {
	check := a.checkHeld
	if o.force {
		check = a.checkNamed
	}
	if err := check(ctx, o.environment, token); err != nil {
		return err
	}
	return a.changeRemote(ctx, func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.AcknowledgePrune(t, o.environment, token)
	})
}

func (a *app) checkHeld(ctx context.Context, environment, token string) error {
	if err := envrepo.CheckPruneToken(token); err != nil {
		return err
	}
	if a.acknowledgedAlready(ctx, environment, token) {
		return nil
	}
	held, err := a.heldIn(ctx, environment)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(held, func(d heldDeletion) bool { return d.Token == token }) {
		return nil
	}
	return &notHeldError{environment, token, held}
}

// checkNamed refuses an environment that the branch has not and never had: it is
// misspelt. Whether the cluster still has it is not asked.
func (a *app) checkNamed(ctx context.Context, environment, token string) error {
	if err := envrepo.CheckPruneToken(token); err != nil {
		return err
	}
	repo, err := a.openRemote(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	project, err := repo.open()
	if err != nil {
		return err
	}
	_, unknown := project.Environment(environment)
	if unknown == nil {
		return nil
	}
	commits, err := repo.History(ctx, repo.branch, []string{path.Join(repo.project, "environments", environment)}, 1)
	if err != nil || len(commits) > 0 {
		return err
	}
	return withHint(fmt.Errorf("%w, nor has branch %s ever had a folder environments/%s", unknown, repo.branch, environment),
		"sluice status shows the environments that the cluster still has; where the branch has lost its history, write the acknowledgement into sluice.yaml by hand")
}

// acknowledgedAlready reports whether the branch has the token.
func (a *app) acknowledgedAlready(ctx context.Context, environment, token string) bool {
	v, err := a.openView(ctx, "", fromBranch)
	if err != nil {
		return false // the commit will say so
	}
	defer v.Close()
	return slices.Contains(v.Repo.Project().Acknowledged(environment), token)
}

// heldIn is what the cluster reports as held in an environment, which the project
// or the cluster has to have.
func (a *app) heldIn(ctx context.Context, environment string) ([]heldDeletion, error) {
	v, err := a.openView(ctx, "", fromBranch)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	_, releases, err := a.reportedReleases(ctx, v.Repo)
	if err != nil {
		return nil, unheard(v.Repo, environment, err)
	}
	sides := statusSides{repo: v.Repo, reported: releases}
	if _, err := sides.environments([]string{environment}); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(heldDeletions(releases), func(d heldDeletion) bool { return d.Environment != environment }), nil
}

// unheard explains that the cluster cannot say what is held. A misspelt environment
// is the likelier mistake where the project has one of nearly that name.
func unheard(repo *envrepo.Repo, environment string, err error) error {
	_, unknown := repo.Environment(environment)
	if unknown != nil && envrepo.Nearest(environment, environmentNames(repo.Project())) != "" {
		return errors.Join(unknown, err)
	}
	return withHint(fmt.Errorf("what is held in %s is not known: %w", environment, err),
		"--force acknowledges a token without comparing it with what is held")
}

// notHeldError says that a token is none of those that are held.
type notHeldError struct {
	environment, token string
	held               []heldDeletion
}

func (e *notHeldError) Error() string {
	if len(e.held) == 0 {
		return fmt.Sprintf("deletion %s is not held in %s: nothing is", e.token, e.environment)
	}
	texts := make([]string, len(e.held))
	for i, d := range e.held {
		texts[i] = fmt.Sprintf("%s: %s", d.Token, d.Message)
	}
	return fmt.Sprintf("deletion %s is not held in %s, but %s", e.token, e.environment, strings.Join(texts, "; "))
}

// Hint is the command that acknowledges what is held.
func (e *notHeldError) Hint() string {
	if len(e.held) == 0 {
		return "a token is good for one set of objects: sluice status shows what is held now, and sluice diff what a commit would have held"
	}
	return "if that is to be deleted: " + e.held[0].Command
}

// completeTokens suggests the tokens that are held.
func (a *app) completeTokens(o *acknowledgeOptions) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || o.environment == "" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		held, err := a.heldIn(c.Context(), o.environment)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var tokens []string
		for _, d := range held {
			if strings.HasPrefix(d.Token, prefix) {
				tokens = append(tokens, cobra.CompletionWithDesc(d.Token, d.Message))
			}
		}
		return tokens, cobra.ShellCompDirectiveNoFileComp
	}
}
