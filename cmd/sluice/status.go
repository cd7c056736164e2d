package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
)

// releaseStatus joins what Git declares of a release with what its cluster
// reports.
type releaseStatus struct {
	Environment string     `json:"environment"`
	Release     string     `json:"release"`
	Declared    []string   `json:"declared,omitempty"` // deployments as Git has them
	Running     string     `json:"running,omitempty"`  // as the cluster reports them
	Traffic     string     `json:"traffic,omitempty"`  // as routed
	State       string     `json:"state"`              // Ready, Reconciling, Stalled, NotReady, OutOfSync, Unknown
	Reason      string     `json:"reason,omitempty"`
	Message     string     `json:"message,omitempty"`
	Revision    string     `json:"revision,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
}

type statusOptions struct {
	environments []string
	ref          string
	watch        bool
}

func newStatusCommand(a *app) *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status [COMPONENT…]",
		Short: "Show what should run, what runs, and why not",
		Long: `Joins the repository's branch with what the reconciler reports in the cluster.
With no cluster to ask, it shows the repository's side.`,
		RunE: func(c *cobra.Command, args []string) error {
			if o.watch {
				return a.watchStatus(c.Context(), args, o)
			}
			list, err := a.readStatus(c.Context(), args, o)
			if err != nil {
				return err
			}
			return a.print(list, func(t *table) { a.statusTable(t, list) })
		},
	}
	c.Flags().StringSliceVar(&o.environments, "environment", nil, "only these environments")
	c.Flags().BoolVarP(&o.watch, "watch", "w", false, "stay, and show every change")
	refFlag(c, &o.ref, fromBranch)
	return c
}

// readStatus reads both sides once.
func (a *app) readStatus(ctx context.Context, names []string, o statusOptions) ([]releaseStatus, error) {
	v, err := a.openView(ctx, o.ref, fromBranch)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	environments, err := chosenEnvironments(v.Repo, o.environments)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == envrepo.EnvironmentRelease {
			continue
		}
		if err := knownNames(v.Repo, "", name); err != nil {
			return nil, err
		}
	}
	releases, err := a.openReleases()
	if err != nil && !isNoCluster(err) {
		return nil, err
	}
	if err != nil {
		a.note("note: %v; showing the repository's side only", err)
	}
	list := []releaseStatus{}
	for _, env := range environments {
		var reported map[string]*v1alpha1.Release
		if releases != nil {
			if reported, err = releases.list(ctx, env.Namespace); err != nil {
				return nil, err
			}
		}
		rows, err := environmentStatus(v.Repo, env, names, reported)
		if err != nil {
			return nil, err
		}
		list = append(list, rows...)
	}
	return list, nil
}

// chosenEnvironments are the named ones, each of which must exist, or all.
func chosenEnvironments(repo *envrepo.Repo, names []string) ([]envrepo.Environment, error) {
	if len(names) == 0 {
		return repo.Project().Environments, nil
	}
	var chosen []envrepo.Environment
	for _, n := range names {
		env, err := repo.Environment(n)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, env)
	}
	return chosen, nil
}

// environmentStatus joins the two sides of one environment: releases that Git
// declares first, then those that only the cluster still has.
func environmentStatus(repo *envrepo.Repo, env envrepo.Environment, names []string, reported map[string]*v1alpha1.Release) ([]releaseStatus, error) {
	declared, err := repo.ReleaseNames(env.Name)
	if err != nil {
		return nil, err
	}
	var rows []releaseStatus
	for _, name := range declared {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		row := releaseStatus{Environment: env.Name, Release: name, State: "Unknown"}
		if rel, err := repo.PartialRelease(env.Name, name); err != nil {
			row.State, row.Reason, row.Message = "Stalled", "Invalid", err.Error()
		} else {
			row.Declared = declaredText(rel)
			report(&row, reported[name])
			behind(&row, rel, reported[name])
		}
		rows = append(rows, row)
	}
	for name, rel := range reported {
		if !slices.Contains(declared, name) && (len(names) == 0 || slices.Contains(names, name)) && rel.Spec.Environment == env.Name {
			row := releaseStatus{Environment: env.Name, Release: name}
			report(&row, rel)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// declaredText lists a release's deployments as Git has them.
func declaredText(rel envrepo.Release) []string {
	if rel.Name == envrepo.EnvironmentRelease {
		return nil
	}
	var texts []string
	for _, s := range statesOf(rel) {
		if text := stateText(s); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

// behind says of a release that is ready when what is ready is not what the
// repository has: its last commit is not applied yet, or nobody applies.
func behind(row *releaseStatus, declared envrepo.Release, reported *v1alpha1.Release) {
	if reported == nil || !reported.Ready() || declared.Name == envrepo.EnvironmentRelease {
		return
	}
	var want []string
	for _, s := range statesOf(declared) {
		if !declared.Tagged() || s.Weight != nil {
			want = append(want, s.Digest)
		}
	}
	have := reported.Digests()
	slices.Sort(want)
	slices.Sort(have)
	if slices.Equal(slices.Compact(want), slices.Compact(have)) {
		return
	}
	row.State, row.Reason = "OutOfSync", "NotApplied"
	row.Message = "the repository has " + strings.Join(row.Declared, ", ") + ", which is not applied yet"
}

// report fills in the cluster's side.
func report(row *releaseStatus, rel *v1alpha1.Release) {
	if rel == nil {
		return
	}
	row.Running, row.Traffic, row.Revision = rel.Status.Summary.Digests, rel.Status.Summary.Traffic, rel.Status.Summary.Revision
	for _, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling, v1alpha1.ConditionReady} {
		c := rel.Condition(kind)
		if c.Status == "True" {
			since := c.LastTransitionTime.Time
			row.State, row.Reason, row.Message, row.Since = kind, c.Reason, c.Message, &since
			return
		}
	}
	if c := rel.Condition(v1alpha1.ConditionReady); c.Type != "" {
		row.State, row.Reason, row.Message = "NotReady", c.Reason, c.Message
	}
}

func (a *app) statusTable(t *table, list []releaseStatus) {
	t.header("ENVIRONMENT", "RELEASE", "STATE", "RUNS", "TRAFFIC", "SINCE")
	now := a.Now()
	for _, r := range list {
		since := ""
		if r.Since != nil {
			since = age(now, *r.Since)
		}
		runs := r.Running
		if runs == "" {
			runs = strings.Join(r.Declared, ", ")
		}
		t.row(r.Environment, r.Release, r.State, runs, r.Traffic, since)
	}
	for _, r := range list {
		if r.State != v1alpha1.ConditionReady && r.Message != "" {
			t.line(printable(fmt.Sprintf("%s/%s: %s: %s", r.Environment, r.Release, r.Reason, r.Message)))
		}
	}
}

// watchStatus prints the status again whenever a release has changed: over
// itself on a terminal, below itself elsewhere.
func (a *app) watchStatus(ctx context.Context, names []string, o statusOptions) error {
	releases, err := a.openReleases()
	if err != nil {
		return err
	}
	v, err := a.openView(ctx, o.ref, fromBranch)
	if err != nil {
		return err
	}
	environments, err := chosenEnvironments(v.Repo, o.environments)
	v.Close()
	if err != nil {
		return err
	}
	var namespaces []string
	for _, e := range environments {
		namespaces = append(namespaces, e.Namespace)
	}
	changed := releases.watch(ctx, namespaces)
	var shown []releaseStatus
	for first := true; ; first = false {
		list, err := a.readStatus(ctx, names, o)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if first || !reflect.DeepEqual(list, shown) {
			shown = list
			if err := a.printWatched(list); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (a *app) printWatched(list []releaseStatus) error {
	if isTerminal(a.Stdout) {
		fmt.Fprint(a.Stdout, "\x1b[H\x1b[2J")
	}
	return a.print(list, func(t *table) {
		a.statusTable(t, list)
		t.line("")
	})
}
