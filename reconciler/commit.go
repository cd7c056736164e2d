package reconciler

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// adopt takes in a commit: what it wants of every release of an environment, and
// which of them have to be passed over for it. A commit that cannot be understood
// changes nothing and is an error.
func (e *Engine) adopt(ctx context.Context, env *environment, fsys fs.FS, rev string) (changed []Key, err error) {
	env.intake.Lock()
	defer env.intake.Unlock()
	repo, err := envrepo.OpenFor(fsys, env.name)
	if err != nil {
		return nil, err
	}
	declared, vanished, err := env.declaredBy(repo)
	if err != nil {
		return nil, err
	}
	if err := env.pin(repo.Project().Name, declared); err != nil {
		return env.refuse(v1alpha1.ReasonNamespaceRefused, err), err
	}
	project := repo.Project().Name
	if err := e.discover(ctx, env, project); err != nil {
		return nil, err
	}
	if vanished != nil && env.size() == 0 {
		if env.inputs.fsys != nil {
			return nil, nil // its removal is done
		}
		return nil, vanished
	}
	next, err := env.inputs.compare(fsys, repo, declared, env.known)
	if err != nil {
		return nil, err
	}
	env.ledger.take(rulesOf(repo.Project(), declared, next.size, vanished))
	changed = env.want(next, rev, project, declared)
	return append(changed, env.called()...), nil
}

// declaredBy is what a commit says of the environment. One that the commit does
// not have any more (vanished says so) keeps its namespace and the policy that is
// known of it, until all that is left of it is gone.
func (env *environment) declaredBy(repo *envrepo.Repo) (declared envrepo.Environment, vanished, err error) {
	declared, err = repo.Environment(env.name)
	var unknown *envrepo.UnknownEnvironmentError
	if !errors.As(err, &unknown) {
		return declared, nil, err
	}
	_, _, namespace, before := env.view()
	if namespace == "" {
		return declared, nil, err
	}
	if declared = before; declared.Name == "" {
		declared.Prune = envrepo.DefaultPrune()
	}
	declared.Name, declared.Namespace, declared.Paused = env.name, namespace, false
	return declared, err, nil
}

// rulesOf is what a commit says about deletions in an environment.
func rulesOf(project envrepo.Project, declared envrepo.Environment, releases int, vanished error) pruneRules {
	rules := pruneRules{maxShare: declared.Prune.MaxShare, acknowledged: project.Acknowledged(declared.Name)}
	switch {
	case vanished != nil:
		rules.removed = "is not in sluice.yaml any more"
	case releases == 0:
		rules.removed = "has no release any more"
	}
	return rules
}

func (env *environment) size() int {
	env.mu.Lock()
	defer env.mu.Unlock()
	return len(env.releases)
}

// known are the names of all releases that the engine has.
func (env *environment) known() []string {
	env.mu.Lock()
	defer env.mu.Unlock()
	return slices.Collect(maps.Keys(env.releases))
}

// unsure reports whether the commit that was taken in has releases that could not
// be read: they are looked at again though there is no newer commit.
func (env *environment) unsure() bool {
	env.mu.Lock()
	defer env.mu.Unlock()
	return len(env.inputs.unsure) > 0
}

// pin fixes the namespace by the first commit that was read, and refuses one
// that says otherwise. What else a commit says of the environment counts once all
// of it was understood: see want.
func (env *environment) pin(project string, declared envrepo.Environment) error {
	env.mu.Lock()
	defer env.mu.Unlock()
	if env.namespace == "" {
		env.namespace = declared.Namespace
	}
	if env.namespace != declared.Namespace {
		return &NamespaceError{Environment: env.name, Configured: env.namespace, Declared: declared.Namespace}
	}
	if env.project == "" {
		env.project = project
	}
	return nil
}

// refuse has every release of the environment say why it is left alone; none,
// when they say so already.
func (env *environment) refuse(reason string, err error) []Key {
	env.mu.Lock()
	defer env.mu.Unlock()
	now := Refusal{Reason: reason, Message: err.Error()}
	if env.refusal != nil && *env.refusal == now {
		return nil // they have said so: every look comes by here
	}
	env.refusal = &now
	return env.keys((*release).hurry)
}

func (env *environment) keys(do func(*release)) []Key {
	keys := make([]Key, 0, len(env.releases))
	for name, r := range env.releases {
		do(r)
		keys = append(keys, Key{env.name, name})
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// compareKeys puts an environment's own release first.
func compareKeys(a, b Key) int {
	rank := func(k Key) int {
		if k.Release == envrepo.EnvironmentRelease {
			return 0
		}
		return 1
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	if a.Release < b.Release {
		return -1
	}
	return 1
}

// saw notes when Run first saw the commit that is taken in next.
func (env *environment) saw(at time.Time) {
	env.mu.Lock()
	defer env.mu.Unlock()
	env.seen = at
}

// discover looks once for Releases of the environment that the cluster has and
// the repository may have lost while nobody was looking.
func (e *Engine) discover(ctx context.Context, env *environment, project string) error {
	_, _, namespace, _ := env.view()
	env.mu.Lock()
	found := env.found
	env.mu.Unlock()
	if found {
		return nil
	}
	releases, err := e.cluster.Releases(ctx, namespace)
	if err != nil {
		return err
	}
	env.mu.Lock()
	defer env.mu.Unlock()
	for _, r := range releases {
		ours := belongs(r.Spec, project, env.name, e.cfg.Repository)
		if ours && env.releases[r.Name] == nil {
			env.releases[r.Name] = newReleaseMemory(Key{env.name, r.Name})
			env.releases[r.Name].keepRelease(&r, true)
		}
		held, err := inventory.FromRelease(&r)
		leaveStrays(held, namespace, r.Name)
		if ours && err == nil && len(held) > 0 {
			env.ledger.found(r.Name, len(held), objectsBefore(&r, held))
		}
	}
	env.found = true
	return nil
}

// want sets what the environment and each release should be that a commit has had
// looked at; those whose content is another than before are returned, the environment's own first.
// Their accounts are expected anew under the same lock: no pass has one without
// the other.
func (env *environment) want(next *intake, rev, project string, declared envrepo.Environment) []Key {
	env.mu.Lock()
	defer env.mu.Unlock()
	all := env.refusal != nil // were refused until now
	seen := env.seen
	if env.inputs.fsys == nil {
		seen = time.Time{} // what is to do already is no answer to a commit
	}
	env.refusal, env.revision = nil, rev
	env.project, env.declared = project, declared
	var changed []Key
	for name, c := range next.looked {
		r := env.releases[name]
		if r == nil && c.gone {
			continue // a name in the repository that is no release
		}
		if r == nil {
			r = newReleaseMemory(Key{env.name, name})
			env.releases[name] = r
		}
		if r.set(want{revision: rev, hash: c.hash, gone: c.gone, err: c.err, seen: seen, declared: next.declared[name]}) {
			r.hurry()
			changed = append(changed, r.key)
		}
	}
	env.inputs = next.after()
	if all {
		changed = env.keys((*release).hurry)
	}
	slices.SortFunc(changed, compareKeys)
	env.ledger.taken(changed)
	return changed
}

// wanted is what the repository wants of a release, with the files of the newest
// commit: what decides the release is the same in them.
func (env *environment) wanted(r *release) want {
	env.mu.Lock()
	defer env.mu.Unlock()
	w := r.wanted()
	w.fsys, w.repo, w.generation = env.inputs.fsys, env.inputs.repo, env.ledger.generation(r.key.Release)
	return w
}

// drop forgets a release that is gone from the repository and the cluster.
func (env *environment) drop(name string) {
	env.mu.Lock()
	defer env.mu.Unlock()
	if r := env.releases[name]; r != nil && r.wanted().gone {
		r.mu.Lock()
		env.unfollow(r)
		r.mu.Unlock()
		delete(env.releases, name)
		env.ledger.drop(name)
	}
}
