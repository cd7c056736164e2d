package promotion

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-dev/sluice/envrepo"
)

// A rollback is a promotion whose digest comes from the target's own past. That it
// is one is a fact of the target branch's history and no claim of the head, so
// nobody can have other gates judged by calling something a rollback.

// hasHad reports whether an environment has pinned a digest of a component before, in
// whichever tag, as far as the history of the target branch is looked back over.
func (s *Service) hasHad(ctx context.Context, revision, environment, component, digest string) (bool, error) {
	history, err := s.had(ctx, revision, environment, component)
	return slices.ContainsFunc(history, func(d declaration) bool { return d.digest == digest }), err
}

// takesBack reports whether the head of an open pull request goes back, of a
// component, to a digest that the target has had.
func (s *Service) takesBack(target string, p PullRequest, component string, had []declaration) bool {
	return slices.ContainsFunc(s.changes(target, p, component), func(c digestChange) bool {
		return c.old != c.new && slices.ContainsFunc(had, func(d declaration) bool { return d.digest == c.new })
	})
}

// changes are the digests of a component that the head of an open pull request
// changes; none of a head that cannot be read.
func (s *Service) changes(target string, p PullRequest, component string) []digestChange {
	base, err := s.repo.MergeBase(target, p.Head)
	if err != nil || base == "" {
		return nil
	}
	var releases [2]envrepo.Release
	for i, revision := range []string{base, p.Head} {
		project, err := s.snapshot(revision)
		if err != nil {
			return nil
		}
		repo, err := envrepo.Open(project)
		if err != nil {
			return nil
		}
		if releases[i], err = repo.PartialRelease(p.Environment, component); err != nil {
			return nil
		}
	}
	return digestChanges(releases[0], releases[1])
}

// goesBack reports whether every component of a promotion returns to what the target
// has had before.
func goesBack(in Input) bool {
	return len(in.Components) > 0 && !slices.ContainsFunc(in.Components, func(c ComponentInput) bool { return !c.Returns })
}

// judgeReturn demands that a digest has been ready before in the environment that it
// returns to.
func judgeReturn(in Input, c ComponentInput) Gate {
	h := c.Here
	run, ran := served(h, c.New)
	switch {
	case !h.Known:
		return pending("health in %s is not known: %s", in.Environment, orElse(h.Message, "nobody reports it"))
	case ran:
		return passed("was ready in %s from %s to %s", in.Environment, stamp(run.Since), stamp(run.Until))
	case h.Ready && slices.Contains(h.Digests, c.New):
		return passed("is ready in %s under another tag", in.Environment)
	}
	return failed(fmt.Sprintf("`sluice rollback %s --environment %s --build BUILD` goes to another build", c.Name, in.Environment),
		"%s is not known to have been ready in %s", short(c.New), in.Environment)
}

// returnText tells how a digest fared when the target had it.
func returnText(c ComponentInput) string {
	h := c.Here
	run, ran := served(h, c.New)
	switch {
	case !h.Known:
		return fmt.Sprintf("Unknown: %s\n", foreign(orElse(h.Message, "nobody reports it")))
	case ran:
		return fmt.Sprintf("This digest was ready there from %s to %s.\n", stamp(run.Since), stamp(run.Until))
	case h.Ready && slices.Contains(h.Digests, c.New):
		return "This digest is ready there now.\n"
	}
	return "**This digest is not known to have been ready there.**\n"
}
