package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// statusSides is what the repository declares and what the cluster reports. One
// of them may be missing.
type statusSides struct {
	repo     *envrepo.Repo     // nil: it could not be read
	history  *remoteRepository // nil: that of the working tree is not asked
	releases *clusterReleases  // nil: there is no cluster
	reported []v1alpha1.Release
	partial  error // why one is missing though it should not be
	close    func()
}

// openSides reads both sides. It is an error when there is neither, or when what
// is asked for does not exist.
func (a *app) openSides(ctx context.Context, ref string) (*statusSides, error) {
	v, gitErr := a.openView(ctx, ref, fromBranch)
	if gitErr != nil && (ref != "" || ctx.Err() != nil) {
		return nil, gitErr
	}
	s := &statusSides{close: func() {}}
	if gitErr == nil {
		s.repo, s.close = v.Repo, v.Close
		if v.git != nil {
			s.history = &remoteRepository{v.git, v.project, v.Revision}
		}
	}
	releases, reported, err := a.reportedReleases(ctx, s.repo)
	switch {
	case gitErr != nil && err != nil:
		return nil, errors.Join(gitErr, err)
	case gitErr != nil:
		s.partial = codedError{fmt.Errorf("only what the cluster reports is shown, as the repository could not be read: %w", gitErr), exitPartial}
	case isNoCluster(err):
		a.note("note: %v; showing the repository's side only", err)
	case err != nil && !isClusterSilent(err):
		s.close()
		return nil, err
	case err != nil:
		s.partial = codedError{fmt.Errorf("only what the repository declares is shown: %w", err), exitPartial}
	}
	s.releases, s.reported = releases, reported
	return s, nil
}

// isClusterSilent reports whether err says that a cluster does not answer, or not
// to us, or not about Releases.
func isClusterSilent(err error) bool {
	var unreachable *cluster.UnreachableError
	var access *cluster.AccessError
	var missing *cluster.MissingCRDError
	return errors.As(err, &unreachable) || errors.As(err, &access) || errors.As(err, &missing)
}

// reportedReleases are the Releases of the project, those of environments that
// have left it among them. Without the repository (repo is nil) they are told by
// the repository's identity.
func (a *app) reportedReleases(ctx context.Context, repo *envrepo.Repo) (*clusterReleases, []v1alpha1.Release, error) {
	releases, err := a.openReleases()
	if err != nil {
		return nil, nil, err
	}
	all, err := releases.client.Releases(ctx, "")
	var access *cluster.AccessError
	if errors.As(err, &access) && repo != nil {
		a.note("note: the releases of all namespaces may not be listed; an environment that has left the project does not show")
		all, err = releases.ofEnvironments(ctx, repo.Project().Environments)
	}
	if err != nil {
		return nil, nil, err
	}
	identity := a.namedIdentity()
	return releases, slices.DeleteFunc(all, func(r v1alpha1.Release) bool { return !oursIn(repo, identity, r) }), nil
}

// namedIdentity is the identity of the repository that the command is about, known
// by its name when it cannot be read; "" when there is no name either.
func (a *app) namedIdentity() string {
	switch p, err := a.locate(); {
	case err == nil && p.remote != "":
		return repositoryIdentity(p.remote)
	case err != nil && a.repo != "": // a path with nothing there
		return repositoryIdentity(a.abs(a.repo))
	}
	return ""
}

// oursIn reports whether a Release is the project's. Where the repository still
// declares its environment, the same one under another address is taken for it.
func oursIn(repo *envrepo.Repo, identity string, r v1alpha1.Release) bool {
	same := identity == "" || r.Spec.Repository == "" || r.Spec.Repository == identity
	if repo == nil {
		return same
	}
	if r.Spec.Project != repo.Project().Name {
		return false
	}
	return same || slices.ContainsFunc(repo.Project().Environments, func(e envrepo.Environment) bool {
		return e.Name == r.Spec.Environment && e.Namespace == r.Namespace
	})
}

// ofEnvironments lists the Releases of some environments' namespaces.
func (r *clusterReleases) ofEnvironments(ctx context.Context, environments []envrepo.Environment) ([]v1alpha1.Release, error) {
	var all []v1alpha1.Release
	for _, e := range environments {
		some, err := r.client.Releases(ctx, e.Namespace)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// environments are those to show: the project's in their order, then those that
// only the cluster has. The named ones must exist.
func (s *statusSides) environments(named []string) ([]statusEnvironment, error) {
	var all []statusEnvironment
	if s.repo != nil {
		for _, e := range s.repo.Project().Environments {
			all = append(all, statusEnvironment{Environment: e})
		}
	}
	owners := ownersOf(s.reported)
	var rest []statusEnvironment
	for _, r := range s.reported {
		if slices.ContainsFunc(slices.Concat(all, rest), func(e statusEnvironment) bool { return e.has(&r) }) {
			continue
		}
		env := statusEnvironment{Environment: envrepo.Environment{Name: r.Spec.Environment}, left: s.repo != nil, undeclared: true}
		if s.repo == nil && len(owners) > 1 {
			env.one = &owner{r.Spec.Project, r.Spec.Repository}
		}
		rest = append(rest, env)
	}
	slices.SortFunc(rest, func(a, b statusEnvironment) int {
		if a.one == nil || b.one == nil {
			return cmp.Compare(a.Name, b.Name)
		}
		return cmp.Or(cmp.Compare(a.one.project, b.one.project), cmp.Compare(a.one.repository, b.one.repository), cmp.Compare(a.Name, b.Name))
	})
	all = append(all, rest...)
	if len(named) == 0 {
		return all, nil
	}
	var chosen []statusEnvironment
	for _, name := range named {
		var known []string
		before := len(chosen)
		for _, e := range all {
			if e.Name == name {
				chosen = append(chosen, e)
			}
			if !slices.Contains(known, e.Name) {
				known = append(known, e.Name)
			}
		}
		if len(chosen) == before {
			return nil, &envrepo.UnknownEnvironmentError{Name: name, Known: known}
		}
	}
	return chosen, nil
}

// statusEnvironment is an environment that is shown.
type statusEnvironment struct {
	envrepo.Environment
	undeclared bool   // only the cluster has it
	left       bool   // and the repository is known not to
	one        *owner // whose it is; nil where only one project is looked at
}

// owner is a project of a repository.
type owner struct{ project, repository string }

func ownersOf(releases []v1alpha1.Release) (owners []owner) {
	for _, r := range releases {
		if o := (owner{r.Spec.Project, r.Spec.Repository}); !slices.Contains(owners, o) {
			owners = append(owners, o)
		}
	}
	return owners
}

// has reports whether a Release is of the environment.
func (e *statusEnvironment) has(r *v1alpha1.Release) bool {
	return r.Spec.Environment == e.Name && (e.one == nil || *e.one == owner{r.Spec.Project, r.Spec.Repository})
}

// in are the Releases of an environment.
func (s *statusSides) in(env statusEnvironment) []v1alpha1.Release {
	return slices.DeleteFunc(slices.Clone(s.reported), func(r v1alpha1.Release) bool { return !env.has(&r) })
}

// of are the Releases of an environment by name. One in another namespace than the
// repository says counts where there is none: it says itself what is wrong.
func (s *statusSides) of(env statusEnvironment) map[string]*v1alpha1.Release {
	found := map[string]*v1alpha1.Release{}
	for i := range s.reported {
		r := &s.reported[i]
		if !env.has(r) {
			continue
		}
		if other := found[r.Name]; other == nil || r.Namespace == env.Namespace {
			found[r.Name] = r
		}
	}
	return found
}

// chosenReleases are the Releases that names and environments stand for, and the
// cluster that they are in. The repository is not read, unless it has to tell where
// the environments are, or which of several projects is meant.
func (a *app) chosenReleases(ctx context.Context, environments, names []string) (*clusterReleases, []v1alpha1.Release, error) {
	releases, reported, err := a.reportedReleases(ctx, nil)
	var access *cluster.AccessError
	switch {
	case err == nil:
		sides := &statusSides{reported: reported}
		chosen, err := sides.chosen(environments, names)
		if err != nil || len(ownersOf(chosen)) == 1 {
			return releases, chosen, err
		}
	case !errors.As(err, &access):
		return nil, nil, err
	}
	sides, err := a.openSides(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	defer sides.close()
	if cause := errors.Unwrap(errors.Unwrap(sides.partial)); cause != nil {
		if sides.repo == nil {
			cause = fmt.Errorf("which of the cluster's releases are meant is for the repository to say: %w", cause)
		}
		return nil, nil, cause
	}
	chosen, err := sides.chosen(environments, names)
	return sides.releases, chosen, err
}

// chosen are the Releases that names and environments stand for.
func (s *statusSides) chosen(environments, names []string) ([]v1alpha1.Release, error) {
	among, err := s.environments(environments)
	if err != nil {
		return nil, err
	}
	if err := s.knownReleases(names); err != nil {
		return nil, err
	}
	var chosen []v1alpha1.Release
	for _, env := range among {
		for _, r := range s.of(env) {
			if len(names) == 0 || slices.Contains(names, r.Name) {
				chosen = append(chosen, *r)
			}
		}
	}
	if len(chosen) == 0 {
		what := "no release of this project"
		if len(names) > 0 {
			what = "no release " + strings.Join(names, ", ")
		}
		if len(environments) > 0 {
			what += " in " + strings.Join(environments, ", ")
		}
		return nil, withHint(fmt.Errorf("the cluster has %s", what), "sluice status shows what there is; a controller makes a Release when it takes the commit in")
	}
	slices.SortFunc(chosen, func(a, b v1alpha1.Release) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return chosen, nil
}

// pauses finds the commits that have paused what is paused; where they cannot be found
// the rows stay as they are.
func (s *statusSides) pauses(ctx context.Context, rows []releaseStatus) {
	if s.history == nil {
		return
	}
	found := map[string]*provenance{} // by what is paused
	for i := range rows {
		if rows[i].State != "Paused" {
			continue
		}
		rel, err := s.repo.PartialRelease(rows[i].Environment, rows[i].Release)
		if err != nil || !rel.Environment.Paused && !rel.Component.Paused {
			continue
		}
		what := rel.Component.Name
		if rel.Environment.Paused {
			what = ""
		}
		if _, looked := found[what]; !looked {
			if found[what], err = s.history.pausedSince(ctx, rel); err != nil {
				found[what] = nil
			}
		}
		rows[i].PausedBy = found[what]
	}
}
