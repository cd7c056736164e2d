package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// EnvironmentPlan is what a commit comes to in an environment.
type EnvironmentPlan struct {
	// Releases are those of the repository in its order, then those that only the
	// cluster has.
	Releases []ReleasePlan
}

// ReleasePlan is what a commit comes to for one release: the plan of the next
// pass, and what follows when that has gone well.
type ReleasePlan struct {
	Plan
	Name   string
	After  string  // what the plan waits for; "" when it is for now
	Stages []Stage // that follow, each when what it waits for has come
	Held   *Hold   // the deletion of the environment that it has a part in
	Err    error   // why there is no plan
}

// Stage are the steps that something has to come before.
type Stage struct {
	After string // what is waited for, such as "tag green is ready"
	Steps []Step
}

// String is the plan as text, with what follows.
func (r ReleasePlan) String() string {
	var b strings.Builder
	b.WriteString(r.Plan.String())
	if r.After != "" {
		fmt.Fprintf(&b, "begins after %s\n", r.After)
	}
	for _, s := range r.Stages {
		fmt.Fprintf(&b, "after %s:\n", s.After)
		writeSteps(&b, "  ", s.Steps)
	}
	return b.String()
}

// PlanEnvironment decides what would be done in an environment if the project had
// the given files, without doing it: the plan of every release, or of the named
// ones. All releases are looked at either way, as the controller does before it
// deletes anything: that tells what is held, and what moves between releases.
func (e *Engine) PlanEnvironment(ctx context.Context, env string, fsys fs.FS, names ...string) (EnvironmentPlan, error) {
	p, err := e.preview(ctx, env, fsys)
	if err != nil {
		return EnvironmentPlan{}, err
	}
	if err := p.enter(ctx, e); err != nil {
		return EnvironmentPlan{}, err
	}
	for _, name := range names {
		if !slices.Contains(p.names, name) {
			return EnvironmentPlan{}, fmt.Errorf("environment %s has no release %s, neither in the repository nor in the cluster", env, name)
		}
	}
	var out EnvironmentPlan
	for _, name := range p.names {
		r := ReleasePlan{Name: name, Err: p.failed[name]}
		pass := p.passes[name]
		if r.Err == nil {
			if r.Plan, err = pass.planned(ctx); err != nil {
				return EnvironmentPlan{}, fmt.Errorf("planning %s/%s: %w", env, name, err)
			}
			r.Held = pass.in.Ruling.Held
			if r.Stages, err = pass.foresight(ctx, r.Plan); err != nil {
				return EnvironmentPlan{}, fmt.Errorf("planning %s/%s: %w", env, name, err)
			}
		}
		out.Releases = append(out.Releases, r)
	}
	p.order(out.Releases)
	out.Releases = slices.DeleteFunc(out.Releases, func(r ReleasePlan) bool { return len(names) > 0 && !slices.Contains(names, r.Name) })
	return out, nil
}

// preview is a look at files that are no commit, on a memory and a ledger of its
// own.
type preview struct {
	engine *Engine
	env    *environment
	repo   *envrepo.Repo
	fsys   fs.FS

	declared []string // by the repository
	names    []string // with those that only the cluster has
	passes   map[string]*pass
	failed   map[string]error
}

func (e *Engine) preview(ctx context.Context, name string, fsys fs.FS) (*preview, error) {
	env, err := e.environment(name)
	if err != nil {
		return nil, err
	}
	if err := e.cluster.Ping(ctx); err != nil {
		return nil, err
	}
	repo, err := envrepo.Open(fsys)
	if err != nil {
		return nil, err
	}
	_, _, namespace, _ := env.view()
	p := &preview{engine: e, env: newEnvironment(name, namespace), repo: repo, fsys: fsys, passes: map[string]*pass{}, failed: map[string]error{}}
	p.env.hands = env.hands
	declared, vanished, err := p.env.declaredBy(repo)
	if err != nil {
		return nil, err
	}
	if err := p.env.pin(repo.Project().Name, declared); err != nil {
		return nil, err
	}
	p.env.project, p.env.declared = repo.Project().Name, declared // nobody else has it yet
	if vanished == nil {
		if p.declared, err = repo.ReleaseNames(name); err != nil {
			return nil, err
		}
	}
	p.env.ledger.take(rulesOf(repo.Project(), declared, len(p.declared), vanished))
	return p, nil
}

// pass is a pass over a release of these files.
func (p *preview) pass(name string) *pass {
	_, project, namespace, declared := p.env.view()
	rel := newReleaseMemory(Key{p.env.name, name})
	rel.want = want{fsys: p.fsys, repo: p.repo, gone: !slices.Contains(p.declared, name), generation: p.env.ledger.generation(name)}
	return &pass{engine: p.engine, env: p.env, release: rel, want: rel.want, in: &Input{
		Now: p.engine.cfg.Clock.Now(), Project: project, Repository: p.engine.cfg.Repository,
		Release:   envrepo.Release{Name: name, Environment: declared},
		Gone:      rel.want.gone,
		Namespace: Namespace{Name: namespace, Create: p.engine.cfg.CreateNamespaces},
		Marks:     map[inventory.ID]Mark{},
		Live:      map[inventory.ID]*unstructured.Unstructured{},
	}}
}

// enter has every release give its account, so that each ruling after it is by all
// of them.
func (p *preview) enter(ctx context.Context, e *Engine) error {
	if err := e.discover(ctx, p.env, p.repo.Project().Name); err != nil {
		return err
	}
	p.names = slices.Clone(p.declared)
	for _, name := range slices.Sorted(maps.Keys(p.env.releases)) {
		if !slices.Contains(p.names, name) {
			p.names = append(p.names, name)
		}
	}
	clear(p.env.releases) // nobody is passed over here, so none is waited for
	keys := make([]Key, len(p.names))
	for i, name := range p.names {
		keys[i] = Key{p.env.name, name}
	}
	p.env.ledger.taken(keys)
	for _, name := range p.names {
		pass := p.pass(name)
		p.passes[name] = pass
		var render *RenderError
		err := pass.gather(ctx)
		switch {
		case errors.As(err, &render):
			p.failed[name] = err
			pass.accountFailed(false)
		case err != nil:
			return fmt.Errorf("planning %s/%s: %w", p.env.name, name, err)
		default:
			if err := pass.account(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// brings reports whether the plan writes anything that waits for dependencies: what
// is only deleted does not.
func (r *ReleasePlan) brings() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool {
		return s.Action == ActionApply || s.Action == ActionRecreate || s.Action == ActionRoute
	})
}

func areReady(names []string) string {
	if len(names) > 1 {
		return " are ready"
	}
	return " is ready"
}

// order says which releases begin after others: those that have something to
// write while a release that they come after has, too.
func (p *preview) order(releases []ReleasePlan) {
	busy := map[string]bool{}
	for _, r := range releases {
		busy[r.Name] = r.Err != nil || r.Writes() || !r.Verdict.Ready && r.Verdict.State != StatePaused && r.Verdict.State != StateRemoved
	}
	for i, r := range releases {
		if r.Err != nil || !r.brings() || r.Name == envrepo.EnvironmentRelease || p.passes[r.Name].in.Gone {
			continue
		}
		var before []string
		for _, name := range append([]string{envrepo.EnvironmentRelease}, p.passes[r.Name].in.Release.Component.DependsOn...) {
			if busy[name] && name != r.Name && !slices.Contains(before, name) {
				before = append(before, name)
			}
		}
		if len(before) > 0 {
			releases[i].After = some(before, len(before), "release", "releases") + areReady(before)
		}
	}
}
