package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	Environment string                  `json:"environment"`
	Project     string                  `json:"project,omitempty"`
	Namespace   string                  `json:"namespace,omitempty"`
	Release     string                  `json:"release"`
	Left        bool                    `json:"left,omitempty"`     // its environment is not in sluice.yaml any more
	Declared    []releaseState          `json:"declared,omitempty"` // deployments as Git has them
	Running     []runningState          `json:"running,omitempty"`  // as they were applied, with what the cluster reports of them
	Pods        []podGroup              `json:"pods,omitempty"`     // what their pods run, where that may be something else
	Traffic     *v1alpha1.TrafficStatus `json:"traffic,omitempty"`  // as routed
	State       string                  `json:"state"`              // Ready, Reconciling, Stalled, Paused, NotReady, OutOfSync, Unknown
	Reason      string                  `json:"reason,omitempty"`
	Message     string                  `json:"message,omitempty"`
	Hint        string                  `json:"hint,omitempty"`
	Held        *heldDeletion           `json:"held,omitempty"`
	Refused     *v1alpha1.RefusedCommit `json:"refused,omitempty"` // a commit of the environment that must not be applied
	PausedBy    *provenance             `json:"pausedBy,omitempty"`
	Revision    string                  `json:"revision,omitempty"`
	Since       *time.Time              `json:"since,omitempty"`

	summary v1alpha1.Summary
	many    bool // projects are shown
}

// where is the environment as people are told of it.
func (r *releaseStatus) where() string {
	if r.many {
		return r.Project + "/" + r.Environment
	}
	return r.Environment
}

// runningState is a deployment as the cluster reports it.
type runningState struct {
	Tag     string `json:"tag,omitempty"`
	Build   string `json:"build,omitempty"`
	Digest  string `json:"digest,omitempty"`
	Listed  bool   `json:"listed"`
	Weight  int    `json:"weight"`
	Mirror  int    `json:"mirror,omitempty"`
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"`
}

type statusOptions struct {
	environments []string
	ref          string
	watch        bool
	until        string
	timeout      time.Duration
}

func newStatusCommand(a *app) *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status [COMPONENT…]",
		Short: "Show what should run, what runs, and why not",
		Long: `Joins the repository's branch with what the reconciler reports in the cluster.
Environments that have left the project are shown for as long as the cluster has
something of them. A deletion that is held is shown once for its environment,
with the command that allows it, and so is a commit that is refused. Of a
release that is not ready it is also said how many pods run something else than
what was applied.

With --watch it stays: on a terminal it shows the present state, what is not
ready first, until Ctrl-C; elsewhere it prints a line for every change. --until
ends it: "ready" when all that is shown is ready or paused, "settled" when
nothing is on its way any more; exit code 4 when --timeout comes first.

When the repository cannot be read, or the cluster does not answer, the other
side is shown, with exit code 5: without a repository that is named, all
projects of the cluster, each environment with its project before it. With no
cluster configured it is the repository's side, with exit code 0.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if o.watch {
				return a.watchStatus(c.Context(), args, o)
			}
			list, partial, err := a.readStatus(c.Context(), args, o)
			if err != nil {
				return err
			}
			if err := a.print(list, func(t *table) { a.statusTable(t, list) }); err != nil {
				return err
			}
			return partial
		},
	}
	c.Flags().StringSliceVar(&o.environments, "environment", nil, "only these environments")
	c.Flags().BoolVarP(&o.watch, "watch", "w", false, "stay, and show every change")
	c.Flags().StringVar(&o.until, "until", "", "end a watch `when` all is so: ready or settled")
	c.Flags().DurationVar(&o.timeout, "timeout", 0, "end --until after this time (default: never)")
	refFlag(c, &o.ref, fromBranch)
	return c
}

// readStatus reads both sides once; partial says why one of them is missing.
func (a *app) readStatus(ctx context.Context, names []string, o statusOptions) (list []releaseStatus, partial, err error) {
	sides, err := a.openSides(ctx, o.ref)
	if err != nil {
		return nil, nil, err
	}
	defer sides.close()
	environments, err := sides.environments(o.environments)
	if err != nil {
		return nil, nil, err
	}
	if err := sides.knownReleases(names); err != nil {
		return nil, nil, err
	}
	list = []releaseStatus{}
	var unseen error
	for _, env := range environments {
		rows, err := sides.rows(env, names)
		if err != nil {
			return nil, nil, err
		}
		held := heldDeletions(sides.in(env))
		for i := range rows {
			rows[i].hold(held)
		}
		sides.pauses(ctx, rows)
		unseen = cmp.Or(unseen, sides.pods(ctx, env, rows))
		list = append(list, rows...)
	}
	if unseen != nil && !o.watch {
		a.note("note: what pods run is not shown of all releases: %v", unseen)
	}
	return list, sides.partial, nil
}

// knownReleases judges the names of releases that are asked for: the project has
// them, or the cluster still does.
func (s *statusSides) knownReleases(names []string) error {
	for _, name := range names {
		reported := slices.ContainsFunc(s.reported, func(r v1alpha1.Release) bool { return r.Name == name })
		switch {
		case name == envrepo.EnvironmentRelease, reported:
		case s.repo != nil:
			if err := knownNames(s.repo, "", name); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the cluster reports no release %s", name)
		}
	}
	return nil
}

// rows join the two sides of one environment: releases that Git declares first,
// then those that only the cluster still has.
func (s *statusSides) rows(env statusEnvironment, names []string) ([]releaseStatus, error) {
	reported := s.of(env)
	var declared []string
	if !env.undeclared {
		var err error
		if declared, err = s.repo.ReleaseNames(env.Name); err != nil {
			return nil, err
		}
	}
	asked := func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	var rows []releaseStatus
	for _, name := range declared {
		if !asked(name) {
			continue
		}
		row := releaseStatus{Project: s.repo.Project().Name, Environment: env.Name, Namespace: env.Namespace, Release: name, State: "Unknown"}
		if rel, err := s.repo.PartialRelease(env.Name, name); err != nil {
			row.State, row.Reason, row.Message = "Stalled", "Invalid", err.Error()
			row.Hint = strings.Join(hints(err), "; ")
		} else {
			row.Declared = declaredStates(rel)
			report(&row, reported[name])
			behind(&row, rel, reported[name])
		}
		rows = append(rows, row)
	}
	for _, name := range slices.Sorted(maps.Keys(reported)) {
		if asked(name) && !slices.Contains(declared, name) {
			row := releaseStatus{Project: reported[name].Spec.Project, Environment: env.Name, Release: name, Left: env.left, State: "Unknown", many: env.one != nil}
			report(&row, reported[name])
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// declaredStates are a release's deployments as Git has them.
func declaredStates(rel envrepo.Release) []releaseState {
	if rel.Name == envrepo.EnvironmentRelease {
		return nil
	}
	return statesOf(rel)
}

// declaredText lists a release's deployments as Git has them.
func declaredText(states []releaseState) string {
	var texts []string
	for _, s := range states {
		if text := stateText(s); text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ", ")
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
	row.State, row.Reason, row.Hint = "OutOfSync", "NotApplied", ""
	row.Message = "the repository has " + declaredText(row.Declared) + ", which is not applied yet"
}

// report fills in the cluster's side.
func report(row *releaseStatus, rel *v1alpha1.Release) {
	if rel == nil {
		return
	}
	status := rel.Status
	row.Namespace, row.Running, row.Traffic = rel.Namespace, runningStates(rel), status.Traffic
	row.Revision, row.Hint, row.summary, row.Refused = status.LastAppliedRevision, status.Hint, status.Summary, status.Refused
	say := func(state, reason, message string, since time.Time) {
		row.State, row.Reason, row.Message, row.Since = state, reason, message, &since
	}
	for _, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling, v1alpha1.ConditionReady} {
		if c := rel.Condition(kind); c.Status == "True" {
			say(kind, c.Reason, c.Message, c.LastTransitionTime.Time)
			return
		}
	}
	switch c := rel.Condition(v1alpha1.ConditionReady); {
	case c.Reason == v1alpha1.ReasonPaused:
		say("Paused", c.Reason, c.Message, c.LastTransitionTime.Time)
	case c.Type != "":
		say("NotReady", c.Reason, c.Message, c.LastTransitionTime.Time)
	}
}

// runningStates are the deployments that the cluster reports.
func runningStates(rel *v1alpha1.Release) []runningState {
	if len(rel.Status.Tags) == 0 && rel.Status.Digest != "" {
		return []runningState{{Build: buildID(rel.Status.Digest), Digest: rel.Status.Digest, Listed: true, Weight: 100, Ready: rel.Ready()}}
	}
	var states []runningState
	for _, t := range rel.Status.Tags {
		states = append(states, runningState{Tag: t.Name, Build: buildID(t.Digest), Digest: t.Digest, Listed: t.Listed, Weight: t.Weight, Mirror: t.Mirror, Ready: t.Ready, Message: t.Message})
	}
	return states
}

// hold finds the held deletion that the release has a part in.
func (r *releaseStatus) hold(held []heldDeletion) {
	for i, d := range held {
		if d.Environment == r.Environment && slices.ContainsFunc(d.Releases, func(h heldRelease) bool { return h.Release == r.Release }) {
			r.Held = &held[i]
		}
	}
}

// onlyHeld reports whether there is nothing to say of the release but what is
// said of its environment.
func (r *releaseStatus) onlyHeld() bool {
	return r.Held != nil && (r.Reason == v1alpha1.ReasonPruneHeld || r.Reason == v1alpha1.ReasonEnvironmentHeld)
}

func (a *app) statusTable(t *table, list []releaseStatus) {
	t.header("ENVIRONMENT", "RELEASE", "STATE", "RUNS", "TRAFFIC", "SINCE")
	now := a.Now()
	for _, r := range list {
		since := ""
		if r.Since != nil {
			since = age(now, *r.Since)
		}
		runs := cmp.Or(r.summary.Digests, declaredText(r.Declared))
		if others := othersText(r.others()); others != "" {
			runs = strings.TrimSpace(runs + " (" + others + ")")
		}
		t.row(r.where(), r.Release, r.State, runs, r.summary.Traffic, since)
	}
	said := map[string]bool{} // of an environment, once
	once := func(text, hint string) {
		if !said[text] {
			said[text] = true
			statusLine(t, text, hint)
		}
	}
	for _, r := range list {
		if r.Left && (r.Held == nil || r.Reason != v1alpha1.ReasonEnvironmentHeld) {
			once(r.where()+": is not in sluice.yaml any more", "")
		}
		if r.Held != nil {
			once(r.Held.String(), r.Held.hint())
		}
		if f := r.Refused; f != nil {
			once(fmt.Sprintf("%s: commit %s is refused: %s", r.where(), short(f.Revision), f.Message), f.Hint)
		}
		if r.State != v1alpha1.ConditionReady && r.Message != "" && !r.onlyHeld() {
			once(r.matter(""), r.Hint)
		}
	}
}

// problem is what is the matter with a release that is not ready; of one that is
// paused with the commit that did it.
func (r *releaseStatus) problem() string {
	if c := r.PausedBy; c != nil {
		return fmt.Sprintf("%s since %s UTC: %s, %s: %s", r.Message, c.Time.UTC().Format("2006-01-02 15:04"), short(c.Revision), c.Author, c.Subject)
	}
	return r.Message
}

// matter names the release, or its environment where all of it is paused, and says
// what is the matter, after what is said first.
func (r *releaseStatus) matter(first string) string {
	name := r.where() + "/" + r.Release
	if r.PausedBy != nil && r.Message == "paused by sluice.yaml" {
		name = r.where()
	}
	return fmt.Sprintf("%s: %s%s: %s", name, first, r.Reason, r.problem())
}

// check judges the options that go with others.
func (o statusOptions) check() error {
	switch {
	case o.until != "" && o.until != "ready" && o.until != "settled":
		return withHint(usagef("unknown --until %q", o.until), "use ready or settled")
	case o.until != "" && !o.watch:
		return usagef("--until is for --watch")
	case o.timeout != 0 && o.until == "":
		return usagef("--timeout is for --until")
	case o.timeout < 0:
		return usagef("--timeout must not be negative")
	}
	return nil
}

// statusLine says what is the matter below the table, and what to do about it.
func statusLine(t *table, text, hint string) {
	t.line(printable(text))
	if hint != "" {
		t.line(printable("  hint: " + hint))
	}
}
