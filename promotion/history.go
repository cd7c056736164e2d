package promotion

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
)

// maxHistory bounds how many states of a release are looked back over. Commits that
// only set traffic are many, and no states of their own where it does not matter.
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
	}, func(string) bool { return true })
}

// had lists every digest that an environment has pinned of a component, in
// whichever tag, newest first.
func (s *Service) had(ctx context.Context, revision, environment, component string) ([]declaration, error) {
	return s.declarations(ctx, revision, environment, component, pins, func(name string) bool { return name != trafficFile })
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

// declarations lists what digests finds in a release, which depends on those files and
// folders of its own that matter.
func (s *Service) declarations(ctx context.Context, revision, environment, component string, digests func(envrepo.Release) []string, matters func(name string) bool) ([]declaration, error) {
	dir := path.Join("environments", environment, component)
	commits, err := s.repo.History(ctx, revision, []string{s.inRepository(dir)}, 0)
	if err != nil {
		return nil, err
	}
	var list []declaration
	var found []string
	state, states := "", 0
	for _, commit := range commits {
		project, err := s.snapshot(commit.Hash)
		if err != nil {
			continue // the project was elsewhere then
		}
		if now := folderState(project, dir, matters); now != state || found == nil {
			if states++; states > maxHistory {
				break
			}
			state, found = now, digestsIn(project, environment, component, digests)
		}
		for _, digest := range found {
			list = append(list, declaration{digest, commit.Time, commit.Hash})
		}
	}
	return list, nil
}

// digestsIn is what digests finds in a release of a project, nil when it cannot be read.
func digestsIn(project *gitrepo.Snapshot, environment, component string, digests func(envrepo.Release) []string) []string {
	repo, err := envrepo.Open(project)
	if err != nil {
		return nil
	}
	rel, err := repo.PartialRelease(environment, component)
	if err != nil {
		return nil
	}
	return digests(rel)
}

// folderState is a text that is another one when what matters in a folder is.
func folderState(project *gitrepo.Snapshot, dir string, matters func(name string) bool) string {
	entries, _ := fs.ReadDir(project, dir) // none when it is not there
	var b strings.Builder
	for _, entry := range entries {
		if name := entry.Name(); matters(name) {
			hash, _ := project.Hash(path.Join(dir, name))
			fmt.Fprintln(&b, name, hash)
		}
	}
	return b.String()
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
