package promotion

import (
	"context"
	"path"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
)

// maxHistory bounds how many commits that changed a release are looked back over.
const maxHistory = 100

// declaration is a digest that an environment declared from a commit of the
// target branch on.
type declaration struct {
	digest   string
	at       time.Time
	revision string // the commit
}

// declared lists what an environment has declared of a component, newest first:
// of a tagged release what SourceDigest takes of it. Only the first parents of the
// target branch count, so that nothing is history but what was merged. A commit at
// which the release cannot be read says nothing.
func (s *Service) declared(ctx context.Context, revision, environment, component string) ([]declaration, error) {
	return s.declarations(ctx, revision, environment, component, func(rel envrepo.Release) []string {
		digest, err := envrepo.SourceDigest(rel)
		if err != nil {
			return nil
		}
		return []string{digest}
	})
}

// had lists every digest that an environment has pinned of a component, in
// whichever tag, newest first.
func (s *Service) had(ctx context.Context, revision, environment, component string) ([]declaration, error) {
	return s.declarations(ctx, revision, environment, component, pins)
}

// running are the digests of a release that should run: of its listed tags.
func running(rel envrepo.Release) []string {
	if !rel.Tagged() {
		return pins(rel)
	}
	var list []string
	for _, tag := range rel.Tags {
		if listed(rel, tag.Name) && tag.Digest != "" {
			list = append(list, tag.Digest)
		}
	}
	return list
}

// pins are the digests of a release, of all of its tags.
func pins(rel envrepo.Release) []string {
	list := []string{rel.Digest}
	for _, tag := range rel.Tags {
		list = append(list, tag.Digest)
	}
	return slices.DeleteFunc(list, func(digest string) bool { return digest == "" })
}

func (s *Service) declarations(ctx context.Context, revision, environment, component string, digests func(envrepo.Release) []string) ([]declaration, error) {
	dir := s.inRepository(path.Join("environments", environment, component))
	commits, err := s.repo.History(ctx, revision, []string{dir}, maxHistory)
	if err != nil {
		return nil, err
	}
	var list []declaration
	for _, commit := range commits {
		project, err := s.snapshot(commit.Hash)
		if err != nil {
			continue // the project was elsewhere then
		}
		repo, err := envrepo.Open(project)
		if err != nil {
			continue
		}
		rel, err := repo.PartialRelease(environment, component)
		if err != nil {
			continue
		}
		for _, digest := range digests(rel) {
			list = append(list, declaration{digest, commit.Time, commit.Hash})
		}
	}
	return list, nil
}

// declaredSince is the commit from which on the digests that are declared now have
// been: later ones changed other things. "" when there is no history.
func declaredSince(history []declaration) string {
	var now []string
	since := ""
	for len(history) > 0 {
		revision := history[0].revision
		n := slices.IndexFunc(history, func(d declaration) bool { return d.revision != revision })
		if n < 0 {
			n = len(history)
		}
		var digests []string
		for _, d := range history[:n] {
			digests = append(digests, d.digest)
		}
		slices.Sort(digests)
		if since != "" && !slices.Equal(now, digests) {
			break
		}
		now, since, history = digests, revision, history[n:]
	}
	return since
}

// movedOn reports whether an environment declared a digest and has only had newer
// builds since. One that was taken back, by a build that is older or has no
// record, was taken back for a reason.
func movedOn(history []declaration, builds []envrepo.Build, digest string) bool {
	last := slices.IndexFunc(history, func(d declaration) bool { return d.digest == digest })
	if last <= 0 {
		return false // never declared, or declared now
	}
	return !slices.ContainsFunc(history[:last], func(d declaration) bool { return !newer(builds, d.digest, digest) })
}

// plausible are builds with the times that records can have, newest first. Builds are
// ordered by a time that whoever records them says. One that is said to be made after
// an environment had it was made before; of one that is said to be made in the future
// nobody knows when. Else it would keep every build that comes after it from being
// newer.
func plausible(builds []envrepo.Build, now time.Time, declared ...declaration) []envrepo.Build {
	builds = slices.Clone(builds)
	for i := range builds {
		b := &builds[i]
		for _, d := range declared {
			if d.digest == b.Digest && b.Ahead(d.at) {
				b.CreatedAt = d.at
			}
		}
		if b.Ahead(now) {
			b.CreatedAt = time.Time{}
		}
	}
	slices.SortStableFunc(builds, func(a, b envrepo.Build) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return builds
}

// newer reports whether a build is newer than another, by their records.
func newer(builds []envrepo.Build, digest, than string) bool {
	a, known := created(builds, digest)
	b, too := created(builds, than)
	return known && too && a.After(b)
}

func created(builds []envrepo.Build, digest string) (time.Time, bool) {
	i := slices.IndexFunc(builds, func(b envrepo.Build) bool { return b.Digest == digest })
	if i < 0 || builds[i].CreatedAt.IsZero() {
		return time.Time{}, false
	}
	return builds[i].CreatedAt, true
}
