package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/contract"
)

// A rollback brings back the digest that ran before, and has to find the configuration
// that this one needs. Which digest that is, Git's history tells. It is asked only where
// a recorded build lacks something that the pinned one can do without, so that a
// repository in which nothing is missing costs no look back.

// lookback is a deployment in which some builds of its component lack configuration.
type lookback struct {
	release envrepo.Release
	lacks   map[string][]contract.Missing // by the digest of the build
	past    deploymentPast
	changes int   // that past was told
	ended   error // why no older ones were, where there may be some
}

// name is the deployment's, for messages.
func (l *lookback) name() string {
	name := l.release.Environment.Name + "/" + l.release.Name
	if l.past.tag != "" {
		name += " (" + l.past.tag + ")"
	}
	return name
}

// known reports whether the target of past is what a rollback brings back, whatever
// stands in commits that were not told. Where as many were as are looked back over, a
// digest that no commit pins yet is taken for a new one.
func (l *lookback) known() bool {
	switch {
	case l.ended == nil || l.past.settled():
		return true
	case errors.Is(l.ended, errLookedBack):
		return len(l.past.before) > 0 && !l.past.arrived
	}
	return false
}

// lookbacks are the deployments of a release that run, each with what it lacks of what
// builds need that it does not pin.
func lookbacks(r *render.Result, builds []envrepo.Build) (list []*lookback) {
	rel := r.Release
	for _, d := range deployments(r) {
		if rel.Tagged() {
			if _, listed := rel.Traffic.Weight(d.tag); !listed {
				continue // nothing runs there that could be taken back
			}
		}
		if lacks := lackedByOthers(rel.Component, d, builds, r.Opaque); len(lacks) > 0 {
			list = append(list, &lookback{release: rel, lacks: lacks, past: deploymentPast{tag: d.tag, present: d.digest}})
		}
	}
	return list
}

// lackedByOthers is what builds require and a deployment lacks, by their digests. What
// its component and its own build require is left out: that is judged anyway.
func lackedByOthers(component envrepo.Component, d deployed, builds []envrepo.Build, hidden []string) map[string][]contract.Missing {
	known, others := map[string]bool{}, &envrepo.Contract{}
	requiring := map[string][]string{} // digests, by key
	for _, key := range component.Config.Required {
		known[key] = true
	}
	for _, own := range []bool{true, false} {
		for _, b := range builds {
			if b.Config == nil || (b.Digest == d.digest) != own {
				continue
			}
			for _, key := range b.Config.Required {
				switch {
				case own:
					known[key] = true
				case !known[key]:
					if len(requiring[key]) == 0 {
						others.Required = append(others.Required, key)
					}
					requiring[key] = append(requiring[key], b.Digest)
				}
			}
		}
	}
	if len(others.Required) == 0 {
		return nil
	}
	component.Config.Required = nil
	lacks := map[string][]contract.Missing{}
	for _, m := range contract.Check(d.objects, component, others, hidden...) {
		for _, digest := range requiring[m.Key] {
			lacks[digest] = append(lacks[digest], m)
		}
	}
	return lacks
}

// judgeRollbacks finds what the digests lack that rollbacks would bring back. The past
// ends in from: the state that a change started from, which is what its merge follows;
// else that which is checked. Where it cannot be read, that is a note: files without
// their history are right as far as one can see.
func judgeRollbacks(ctx context.Context, from, v *view, result *checked) error {
	if len(result.lookbacks) == 0 {
		return nil
	}
	history, done, err := from.history()
	if err == nil {
		defer done()
		history.lookBack(ctx, result.lookbacks)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	unknown := map[string][]string{} // deployments, by why
	for _, l := range result.lookbacks {
		if l.ended = cmp.Or(l.ended, err); !l.known() {
			why := strings.Join(append([]string{l.ended.Error()}, hints(l.ended)...), "; ")
			unknown[why] = append(unknown[why], l.name())
			continue
		}
		digest := l.past.target()
		for _, m := range l.lacks[digest] {
			result.add(missingKey(v.Repo, l.release, l.past.tag, m, fmt.Sprintf(" for build %s, which a rollback brings back", buildID(digest))))
		}
	}
	for _, why := range slices.Sorted(maps.Keys(unknown)) {
		result.note(fmt.Sprintf("which build a rollback of %s brings back is not known, and whether its configuration is there was not judged: %s", strings.Join(unknown[why], ", "), why))
	}
	return nil
}

// maxLookedBack is how many commits check looks back over: some tenths of a second.
const maxLookedBack = 5000

// errLookedBack: the commits that are looked at do not tell what ran before.
var errLookedBack = fmt.Errorf("no other one is in the last %d changes of it and the last %d commits", maxPast, maxLookedBack)

// lookBack tells deployments what they pinned before, in one walk for all of them,
// until each knows what a rollback brings back, or why it does not.
func (r *remoteRepository) lookBack(ctx context.Context, list []*lookback) {
	open := map[string][]*lookback{} // by folder in the repository
	for _, l := range list {
		dir := path.Join(r.project, l.release.Dir)
		open[dir] = append(open[dir], l)
	}
	looked := 0
	var broken error
	err := r.Walk(ctx, r.branch, slices.Sorted(maps.Keys(open)), func(commit gitrepo.Commit, changed []string) bool {
		for _, dir := range changed {
			if len(open[dir]) == 0 {
				continue
			}
			if broken = r.tell(commit, open[dir]); broken != nil {
				return false
			}
			open[dir] = slices.DeleteFunc(open[dir], func(l *lookback) bool {
				if l.changes == maxPast {
					l.ended = errLookedBack
				}
				return l.ended != nil || l.past.settled()
			})
			if len(open[dir]) == 0 {
				delete(open, dir)
			}
		}
		looked++
		return len(open) > 0 && looked < maxLookedBack
	})
	if err = cmp.Or(broken, err); err == nil && looked == maxLookedBack {
		err = errLookedBack
	}
	for _, rest := range open {
		for _, l := range rest {
			l.ended = err
		}
	}
}

// tell tells the deployments of one release what it was at a commit. A state that nobody
// can understand says nothing, as in the history of a release; one that is not there to
// be read, in a partial clone for instance, is an error.
func (r *remoteRepository) tell(commit gitrepo.Commit, list []*lookback) error {
	c := change{Message: commit.Message}
	then, err := r.releaseAt(commit, list[0].release.Environment.Name, list[0].release.Name)
	var corrupt *gitrepo.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return err
	case err == nil:
		c.State = statesOf(then)
	}
	for _, l := range list {
		l.past.add(c)
		l.changes++
	}
	return nil
}
