package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/api/v1alpha1"
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
	Environment string        `json:"environment"`
	Release     string        `json:"release"`
	Plan        string        `json:"plan"`
	Changes     []objectDiff  `json:"changes"`
	Refused     []string      `json:"refused,omitempty"`
	Held        *heldDeletion `json:"held,omitempty"`
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
		Long: `Renders the working tree (or --ref), reads the cluster, and prints the plan for
each release and how the objects would change: first the next pass, then what
follows, and what it waits for. All releases of the environment are looked at,
also where some are named: an object that moves from one to another is handed
over, and a large deletion is held, with the token that allows it. The API
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
	if err := diffNames(ctx, e, v.Repo, environments[0], names); err != nil {
		return err
	}
	plan, err := e.PlanEnvironment(ctx, environments[0], v.FS, names...)
	if err != nil {
		return err
	}
	diffs, broken := viewPlans(environments[0], plan)
	differs := slices.ContainsFunc(diffs, func(d releaseDiff) bool { return len(d.Changes) > 0 || d.Held != nil })
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

// diffNames judges the names of releases to compare: the repository has them, or
// the cluster still does.
func diffNames(ctx context.Context, e *reconciler.Engine, repo *envrepo.Repo, environment string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if err := e.Ping(ctx); err != nil {
		return err
	}
	reported, err := e.Releases(ctx, "")
	if err != nil {
		return err
	}
	for _, n := range names {
		if !slices.ContainsFunc(reported, func(r v1alpha1.Release) bool {
			return r.Name == n && r.Spec.Environment == environment && r.Spec.Project == repo.Project().Name
		}) {
			if _, err := repo.PartialRelease(environment, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// viewPlans are the plans with their differences, masked; broken are the errors of
// those that there are none of, or not of all tags.
func viewPlans(environment string, plan reconciler.EnvironmentPlan) (diffs []releaseDiff, broken []error) {
	diffs = []releaseDiff{}
	var held *heldDeletion
	for _, r := range plan.Releases {
		if r.Err != nil {
			broken = append(broken, fmt.Errorf("%s/%s: %w", environment, r.Name, r.Err))
			continue
		}
		for _, err := range r.Broken() {
			broken = append(broken, fmt.Errorf("%s/%s: %w", environment, r.Name, err))
		}
		d := viewPlan(r)
		if h := r.Held; h != nil {
			if held == nil {
				held = &heldDeletion{Environment: environment, Token: h.Token, Message: h.Summary, Command: acknowledgeCommand(environment, h.Token)}
			}
			held.Releases = append(held.Releases, heldRelease{r.Name, h.Objects})
			d.Held = held
		}
		diffs = append(diffs, d)
	}
	return diffs, broken
}

// viewPlan is a plan with its differences, masked.
func viewPlan(plan reconciler.ReleasePlan) releaseDiff {
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
	for _, d := range diffs {
		if d.Held != nil { // of all releases, once
			t.line("")
			statusLine(t, d.Held.String(), d.Held.hint())
			break
		}
	}
}
