package reconciler

import (
	"maps"
	"slices"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
)

// A commit that must not be applied is nothing of any release, and nobody finds it in
// the log who asks why their change is not there. One Release of the environment tells
// of it, as one write for each refused commit is what it may cost, however many
// releases there are.

// teller is the release that tells what concerns the environment as a whole: its own,
// or the first by name; "" where there is none. The environment is locked.
func (env *environment) teller() string {
	switch {
	case len(env.releases) == 0:
		return ""
	case env.releases[envrepo.EnvironmentRelease] != nil:
		return envrepo.EnvironmentRelease
	}
	return slices.Min(slices.Collect(maps.Keys(env.releases)))
}

// tells is what a release tells of a refused commit; nil for nothing.
func (env *environment) tells(release string) *v1alpha1.RefusedCommit {
	env.mu.Lock()
	defer env.mu.Unlock()
	if env.refused == nil || env.teller() != release {
		return nil
	}
	return env.refused
}

// tell has the environment tell of a refused commit, or no longer.
func (f *branch) tell(env *environment, refused *v1alpha1.RefusedCommit) {
	env.mu.Lock()
	same := refused == env.refused || refused != nil && env.refused != nil && *refused == *env.refused
	env.refused = refused
	rel := env.releases[env.teller()]
	if !same && rel != nil {
		rel.hurry()
	}
	env.mu.Unlock()
	if !same && rel != nil {
		f.loop.add(rel.key)
	}
}
