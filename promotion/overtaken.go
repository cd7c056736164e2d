package promotion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
)

// Tended is what became of an open pull request that was looked after.
type Tended struct {
	PullRequest PullRequest
	Closed      string // why it was closed; "": it was not
	Gates       []Gate // how they stand, when it is open
	Err         error  // why it could not be looked after

	input Input // that the gates were judged by
}

// Tend looks after the open pull requests into some environments: one that was
// overtaken, or whose environment is gone, is closed with the reason, and how the
// gates of the others stand is published. One that cannot be judged does not keep
// it from the others. Nothing is written when nothing has changed.
func (s *Service) Tend(ctx context.Context, environments []string) ([]Tended, error) {
	var list []Tended
	for _, environment := range environments {
		open, err := s.forge.List(ctx, ListOptions{State: Open, Environment: environment})
		if err != nil {
			return list, fmt.Errorf("listing the pull requests into %s: %w", environment, err)
		}
		for _, p := range open {
			list = append(list, s.tend(ctx, p))
		}
	}
	return list, ctx.Err()
}

func (s *Service) tend(ctx context.Context, p PullRequest) Tended {
	t := Tended{PullRequest: p}
	j, err := s.inspect(ctx, p)
	if err != nil {
		t.Err = err
		return t
	}
	if reason := j.obsolete(); reason != "" {
		if err := s.forge.Close(ctx, p.Number, reason); err != nil && !errors.Is(err, ErrClosed) {
			t.Err = fmt.Errorf("closing pull request #%d: %w", p.Number, err)
			return t
		}
		t.Closed = reason
		return t
	}
	t.Gates, t.input = Judge(j.input), j.input
	t.Err = s.Publish(ctx, p, t.Gates)
	return t
}

// obsolete says why a pull request has nothing left to do, "" when it has.
func (j judgement) obsolete() string {
	if !j.input.Declared {
		return fmt.Sprintf("%s has no environment %s any more", j.input.Branch, j.input.Environment)
	}
	return j.overtaken
}

// overtaken says why nothing of a head is wanted any more: the target has each of
// its digests already, or has got a newer build by another way since the head was
// made. A head that goes back to an older build is not overtaken by the newer one
// that it replaces.
func (h *head) overtaken() string {
	var repos [3]*envrepo.Repo
	for i, fsys := range []fs.FS{h.base, h.head, h.target} {
		repo, err := envrepo.Open(fsys)
		if err != nil {
			return ""
		}
		repos[i] = repo
	}
	var reasons []string
	for _, component := range sortedKeys(h.components) {
		var releases [3]envrepo.Release
		for i, repo := range repos {
			rel, err := repo.PartialRelease(h.environment, component)
			if err != nil {
				return ""
			}
			releases[i] = rel
		}
		builds, _ := repos[2].Builds(component) // without them nothing is newer
		builds = plausible(builds, h.now)
		for _, change := range digestChanges(releases[0], releases[1]) {
			reason := beyond(change, releases[0], releases[2], builds)
			if reason == "" {
				return ""
			}
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) == 0 {
		return "" // it changes no digest: that is for the gates to say
	}
	return "overtaken: " + strings.Join(reasons, "; ")
}

// beyond says how a release has what a change brings, or a newer build, though at
// base it had not; "" when it has neither.
func beyond(change digestChange, base, now envrepo.Release, builds []envrepo.Build) string {
	where := fmt.Sprintf("%s is already at %%s in %s", now.Name, now.Environment.Name)
	for _, pair := range [][2]string{{digestAt(base, change.tag), digestAt(now, change.tag)}, {serving(base), serving(now)}} {
		was, is := pair[0], pair[1]
		switch {
		case is == change.new && is != was:
			return fmt.Sprintf(where, short(is))
		case is != was && newer(builds, is, change.new) && !newer(builds, was, change.new):
			return fmt.Sprintf(where, short(is)) + ", a newer build"
		}
	}
	return ""
}

// digestAt is the digest of a tag that runs, of the release itself when it is
// untagged.
func digestAt(rel envrepo.Release, tag string) string {
	if !rel.Tagged() {
		return rel.Digest
	}
	for _, t := range rel.Tags {
		if t.Name == tag && listed(rel, tag) {
			return t.Digest
		}
	}
	return ""
}

// serving is the digest that has the most requests.
func serving(rel envrepo.Release) string {
	digest, err := envrepo.SourceDigest(rel)
	if err != nil {
		return ""
	}
	return digest
}
