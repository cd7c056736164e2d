package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/render/diff"
)

type diffOptions struct {
	environment, ref string
	exitCode         bool
}

// releaseDiff is what would be done for one release.
type releaseDiff struct {
	Environment string       `json:"environment"`
	Release     string       `json:"release"`
	Plan        string       `json:"plan"`
	Changes     []objectDiff `json:"changes"`
	Refused     []string     `json:"refused,omitempty"`
}

type objectDiff struct {
	Object string `json:"object"`
	Change string `json:"change"`
	Diff   string `json:"diff"`
}

func newDiffCommand(a *app) *cobra.Command {
	var o diffOptions
	c := &cobra.Command{
		Use:   "diff [COMPONENT…] --environment ENVIRONMENT",
		Short: "Show what the reconciler would do, without doing it",
		Long: `Renders the working tree (or --ref), reads the cluster, and prints the plan of
the next pass over each release and how the objects would change. The API
server is asked by dry run, so defaults are no differences. Secrets are masked.`,
		RunE: func(c *cobra.Command, args []string) error { return a.runDiff(c.Context(), args, o) },
	}
	c.Flags().StringVar(&o.environment, "environment", "", "environment to compare, `NAME[=NAMESPACE]`")
	_ = c.MarkFlagRequired("environment")
	c.Flags().BoolVar(&o.exitCode, "exit-code", false, "end with exit code 3 when there are differences")
	refFlag(c, &o.ref, fromWorktree)
	return c
}

func (a *app) runDiff(ctx context.Context, names []string, o diffOptions) error {
	config, err := a.restConfig()
	if err != nil {
		return err
	}
	v, err := a.openView(ctx, o.ref, fromWorktree)
	if err != nil {
		return err
	}
	defer v.Close()
	if v.Revision == "" {
		a.warnStale(ctx)
	}
	e, environments, err := a.newEngine(config, nil, v.Repo, engineOptions{environments: []string{o.environment}, logLevel: "warn"})
	if err != nil {
		return err
	}
	if names, err = diffNames(ctx, e, v.Repo, environments[0], names); err != nil {
		return err
	}
	diffs := []releaseDiff{}
	differs := false
	var broken []error
	for _, name := range names {
		plan, err := e.Plan(ctx, environments[0], name, v.FS)
		if err != nil {
			return fmt.Errorf("planning %s/%s: %w", environments[0], name, err)
		}
		for _, err := range plan.Broken() {
			broken = append(broken, fmt.Errorf("%s/%s: %w", environments[0], name, err))
		}
		d := viewPlan(plan)
		differs = differs || len(d.Changes) > 0
		diffs = append(diffs, d)
	}
	if err := a.print(diffs, func(t *table) { diffLines(t, diffs) }); err != nil {
		return err
	}
	if len(broken) > 0 {
		return errors.Join(broken...)
	}
	if differs && o.exitCode {
		return codedError{fmt.Errorf("the cluster differs from %s", v.name()), exitFindings}
	}
	return nil
}

// warnStale says when the working tree lacks commits of the remote branch: the
// difference would show them as if they were to be taken back.
func (a *app) warnStale(ctx context.Context) {
	p, err := a.locate()
	if err != nil || p.remote == "" {
		return
	}
	remote, err := a.openRemoteAt(ctx, p)
	if err != nil {
		return // comparing needs no remote
	}
	defer remote.Close()
	head, err := remote.Snapshot("HEAD")
	if err != nil {
		return
	}
	local, err := gitrepo.OpenLocal(p.worktree)
	if err != nil {
		return
	}
	defer local.Close()
	if has, err := local.IsAncestor(head.Revision(), "HEAD"); err != nil || !has {
		a.note("note: the working tree lacks commit %s of %s, so the difference takes it back; git pull first", short(head.Revision()), a.branch)
	}
}

// diffNames are the releases to compare: the named ones, or all that the
// repository has and all that the cluster still has, which would be removed.
func diffNames(ctx context.Context, e *reconciler.Engine, repo *envrepo.Repo, environment string, names []string) ([]string, error) {
	env, err := repo.Environment(environment)
	if err != nil {
		return nil, err
	}
	if err := e.Ping(ctx); err != nil {
		return nil, err
	}
	reported, err := e.Releases(ctx, env.Namespace)
	if err != nil {
		return nil, err
	}
	all, err := repo.ReleaseNames(environment)
	if err != nil {
		return nil, err
	}
	for _, r := range reported {
		if r.Spec.Environment == environment && r.Spec.Project == repo.Project().Name && !slices.Contains(all, r.Name) {
			all = append(all, r.Name)
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			_, err := repo.Release(environment, n)
			return nil, err
		}
	}
	return names, nil
}

// viewPlan is a plan with its differences, masked.
func viewPlan(plan reconciler.Plan) releaseDiff {
	mask := diff.Mask{Values: plan.Values()}
	d := releaseDiff{Environment: plan.Environment, Release: plan.Release, Plan: mask.Text(plan.String()), Changes: []objectDiff{}}
	for _, c := range diff.Objects(plan.Live(), plan.Desired(), mask) {
		if c.Kind != diff.None {
			d.Changes = append(d.Changes, objectDiff{c.ID, c.Kind, c.Text})
		}
	}
	for _, r := range plan.Refused() {
		text := r.Error()
		for _, hint := range hints(r) {
			text += "\n  hint: " + hint
		}
		d.Refused = append(d.Refused, mask.Text(text))
	}
	return d
}

func diffLines(t *table, diffs []releaseDiff) {
	for i, d := range diffs {
		if i > 0 {
			t.line("")
		}
		t.line(printable(strings.TrimSpace(d.Plan)))
		for _, c := range d.Changes {
			t.line("")
			t.line(printable(c.Change + " " + c.Object))
			t.line(printable(strings.TrimRight(c.Diff, "\n")))
		}
		for _, r := range d.Refused {
			t.line(printable("refused: " + r))
		}
	}
}
