package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
)

func newRollbackCommand(a *app) *cobra.Command {
	var environment, tag, build string
	c := &cobra.Command{
		Use:   "rollback COMPONENT --environment ENVIRONMENT",
		Short: "Pin the digest that ran before, found in the Git history",
		Long: `Finds the last digest that the overlay pinned before the present one and pins it
again, in a new commit. Run again it changes nothing, rather than to bring back
what was rolled back: --build names the one to go to. A release with tags needs
--tag; where the previous deployment still runs under the other tag,
"traffic promote" is the faster way back.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			repo, err := a.openRemote(c.Context())
			if err != nil {
				return err
			}
			defer repo.Close()
			done, err := repo.change(c.Context(), func(t *envrepo.Tree) (envrepo.Summary, error) {
				digest, done, err := repo.rollbackDigest(c.Context(), t, environment, args[0], tag, build)
				if err != nil || done.Message != "" {
					return done, err
				}
				return envrepo.Rollback(t, environment, args[0], tag, digest)
			})
			if err != nil {
				return err
			}
			return a.printCommitted(done)
		},
	}
	environmentFlag(c, &environment)
	c.Flags().StringVar(&tag, "tag", "", "deployment tag to roll back")
	c.Flags().StringVar(&build, "build", "", "roll back to this recorded `build`")
	return c
}

// rollbackDigest is the digest to go back to: the named build's, or the one that
// the overlay pinned before the present one. Where that was rolled back itself,
// there is none, and a summary says so: who runs the command twice in a hurry must
// not bring back what failed.
func (r *remoteRepository) rollbackDigest(ctx context.Context, t *envrepo.Tree, environment, name, tag, build string) (string, envrepo.Summary, error) {
	repo, err := envrepo.Open(t)
	if err != nil {
		return "", envrepo.Summary{}, err
	}
	rel, err := repo.PartialRelease(environment, name)
	if err != nil {
		return "", envrepo.Summary{}, err
	}
	present, err := pinnedDigest(rel, tag)
	if err != nil {
		return "", envrepo.Summary{}, err
	}
	if build != "" {
		b, err := repo.Build(name, build)
		return b.Digest, envrepo.Summary{}, err
	}
	changes, err := r.releaseHistory(ctx, r.branch, environment, name, 200)
	if err != nil {
		return "", envrepo.Summary{}, err
	}
	before, arrival := digestsBefore(changes, tag, present)
	switch {
	case slices.Contains(before, present) && envrepo.GoesBack(arrival):
		return "", rolledBack(name, environment, tag, present, before), nil
	case len(before) > 0:
		return before[0], envrepo.Summary{}, nil
	case present == "":
		return "", envrepo.Summary{}, withHint(fmt.Errorf("nothing is deployed of %s in %s yet, so there is nothing to roll back to", name, environment), "deploy a build: sluice deploy %s --environment %s --build BUILD", name, environment)
	}
	return "", envrepo.Summary{}, withHint(fmt.Errorf("%s in %s has run no other digest than %s, so there is nothing to roll back to", name, environment, buildID(present)),
		"name one with --build; `sluice build list %s` shows them", name)
}

// digestsBefore are the digests that a release (under a tag) pinned before the
// present one, newest first, each once in a row: the present one is among them
// where it had been pinned before. arrival is the message of the commit that pinned
// it last.
func digestsBefore(changes []change, tag, present string) (before []string, arrival string) {
	last := present
	for _, c := range changes {
		for _, s := range c.State {
			switch {
			case s.Tag != tag || s.Digest == "":
			case s.Digest != last:
				before = append(before, s.Digest)
				last = s.Digest
			case len(before) == 0:
				arrival = c.Message
			}
		}
	}
	return before, arrival
}

// rolledBack says that the present digest is what was gone back to.
func rolledBack(name, environment, tag, present string, before []string) envrepo.Summary {
	where := name + " in " + environment
	if tag != "" {
		where += " (" + tag + ")"
	}
	summary := envrepo.Summary{Message: fmt.Sprintf("%s has gone back from %s to %s already: nothing is changed", where, buildID(before[0]), buildID(present))}
	var others []string
	for _, digest := range before {
		if id := buildID(digest); digest != present && !slices.Contains(others, id) && len(others) < 5 {
			others = append(others, id)
		}
	}
	summary.Notes = []string{"--build goes to another one; of those that ran, newest first: " + strings.Join(others, ", ")}
	return summary
}

// pinnedDigest is the digest that a release (under a tag) pins now.
func pinnedDigest(rel envrepo.Release, tag string) (string, error) {
	if !rel.Tagged() {
		if tag != "" {
			return "", fmt.Errorf("%s has no tags in %s, so no tag %q", rel.Name, rel.Environment.Name, tag)
		}
		return rel.Digest, nil
	}
	var names []string
	for _, t := range rel.Tags {
		if t.Name == tag {
			return t.Digest, t.Broken
		}
		names = append(names, t.Name)
	}
	if tag == "" {
		return "", withHint(usagef("%s runs under tags in %s: which one is to be rolled back?", rel.Name, rel.Environment.Name), "--tag is one of: %s", strings.Join(names, ", "))
	}
	return "", withHint(fmt.Errorf("%s has no tag %q in %s", rel.Name, tag, rel.Environment.Name), "its tags: %s", strings.Join(names, ", "))
}
