package main

import (
	"context"
	"fmt"
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
again, in a new commit. --build names another one. A release with tags needs
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
				digest, err := repo.rollbackDigest(c.Context(), t, environment, args[0], tag, build)
				if err != nil {
					return envrepo.Summary{}, err
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

// rollbackDigest is the digest to go back to: the named build's, or the one
// that the overlay pinned before the present one.
func (r *remoteRepository) rollbackDigest(ctx context.Context, t *envrepo.Tree, environment, name, tag, build string) (string, error) {
	repo, err := envrepo.Open(t)
	if err != nil {
		return "", err
	}
	rel, err := repo.PartialRelease(environment, name)
	if err != nil {
		return "", err
	}
	present, err := pinnedDigest(rel, tag)
	if err != nil {
		return "", err
	}
	if build != "" {
		b, err := repo.Build(name, build)
		return b.Digest, err
	}
	changes, err := r.releaseHistory(ctx, r.branch, environment, name, 200)
	if err != nil {
		return "", err
	}
	for _, c := range changes {
		for _, s := range c.State {
			if s.Tag == tag && s.Digest != "" && s.Digest != present {
				return s.Digest, nil
			}
		}
	}
	if present == "" {
		return "", withHint(fmt.Errorf("nothing is deployed of %s in %s yet, so there is nothing to roll back to", name, environment), "deploy a build: sluice deploy %s --environment %s --build BUILD", name, environment)
	}
	return "", withHint(fmt.Errorf("%s in %s has run no other digest than %s, so there is nothing to roll back to", name, environment, buildID(present)),
		"name one with --build; `sluice build list %s` shows them", name)
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
