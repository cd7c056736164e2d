package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/render/diff"
)

// since is what a change does that no promotion carries.
type since struct {
	Reached  []reached        `json:"reached,omitempty"`
	Policies []string         `json:"policies,omitempty"` // environments whose promotion policy differs
	Digests  []digestByHand   `json:"digests,omitempty"`
	Gates    []promotion.Gate `json:"gates,omitempty"`
}

// digestByHand is a digest that changes in an environment which gets its digests by
// promotion.
type digestByHand struct {
	Release string `json:"release"` // environment/component, and the tag in brackets
	Old     string `json:"old,omitempty"`
	New     string `json:"new,omitempty"`
}

// openBase opens the state that a change started from: where it is a commit, the last
// one that it has in common with base, which may have gone on since.
func (a *app) openBase(ctx context.Context, v *view, base string) (*view, error) {
	before, err := a.openView(ctx, base, fromBranch)
	if err != nil || before.git == nil || v.Revision == "" {
		return before, err
	}
	common, err := before.git.MergeBases(before.Revision, v.Revision)
	if err != nil || len(common) != 1 || common[0] == before.Revision {
		// They are compared as they are. Where histories cross, a change since one of
		// several common commits is not all that a merge would bring.
		return before, nil
	}
	defer before.Close()
	return a.openView(ctx, common[0], fromBranch)
}

// changedSince compares with the state that a change started from.
func changedSince(ctx context.Context, before, v *view) (since, error) {
	list, err := reachedSince(before, v)
	if err != nil {
		return since{}, err
	}
	for i := range list {
		if err := compareReached(ctx, before, v, &list[i]); err != nil {
			return since{}, err
		}
	}
	return since{
		Reached:  list,
		Policies: changedPolicies(before.Repo.Project(), v.Repo.Project()),
		Digests:  digestsByHand(before.Repo, v.Repo),
	}, nil
}

// compareReached adds to a release how what is rendered of it changes. One that does
// not render is among the findings; here it only leaves the difference unknown.
func compareReached(ctx context.Context, before, after *view, r *reached) error {
	var objects [2][]*unstructured.Unstructured
	var values []string
	for i, v := range []*view{before, after} {
		if _, there, err := optionalRelease(v.Repo, r.Environment, r.Component); err == nil && !there {
			continue // it is new
		}
		result, err := renderRelease(ctx, v, r.Environment, r.Component, keyless)
		if err == nil {
			objects[i], err = displayed(result)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Problem = fmt.Sprintf("%s does not render: %v", []string{"what was there before", "the result"}[i], err)
			return nil
		}
		values = append(values, result.Values...)
	}
	for _, c := range diff.Objects(objects[0], objects[1], diff.Mask{Values: values}) {
		if c.Kind != diff.None {
			r.Changes = append(r.Changes, objectDiff{c.ID, c.Kind, c.Text})
		}
	}
	return nil
}

// How much of the differences is shown to people; programs get all.
const (
	maxShownLines   = 30  // of one object
	maxShownRelease = 200 // of all objects of a release
)

// reachedLines prints a release that is reached, and how its objects change.
func reachedLines(t *table, r reached) {
	t.line(printable(fmt.Sprintf("reached: %s/%s is changed without a promotion by %s", r.Environment, r.Component, strings.Join(r.Files, ", "))))
	switch {
	case r.Problem != "":
		t.line(printable("  " + r.Problem))
	case len(r.Changes) == 0:
		t.line("  no object changes")
	}
	shown := 0
	for _, c := range r.Changes {
		t.line(printable("  " + c.Change + " " + c.Object))
		lines := strings.Split(strings.TrimRight(c.Diff, "\n"), "\n")
		fit := max(0, min(len(lines), maxShownLines, maxShownRelease-shown))
		for _, line := range lines[:fit] {
			t.line(printable("    " + line))
		}
		if rest := len(lines) - fit; rest > 0 {
			t.line(fmt.Sprintf("    … %s: -o yaml shows all", count(rest, "more line")))
		}
		shown += fit
	}
}

// changedPolicies lists the environments that other gates guard than before, one that
// is new or gone among them.
func changedPolicies(before, after envrepo.Project) (names []string) {
	policies := func(p envrepo.Project) map[string]envrepo.Promotion {
		m := map[string]envrepo.Promotion{}
		for _, e := range p.Environments {
			m[e.Name] = e.Promotion
		}
		return m
	}
	old, now := policies(before), policies(after)
	for name, policy := range now {
		if was, had := old[name]; !had || !reflect.DeepEqual(was, policy) {
			names = append(names, name)
		}
	}
	for name := range old {
		if _, has := now[name]; !has {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// digestsByHand lists the digests that differ where a promotion is due, by the policy
// before or after: a change that takes the policy away may not bring a digest along.
// What cannot be read is among the findings of check already.
func digestsByHand(before, after *envrepo.Repo) (list []digestByHand) {
	for _, env := range after.Project().Environments {
		was, err := before.Environment(env.Name)
		if env.Promotion.From == "" && (err != nil || was.Promotion.From == "") {
			continue
		}
		names, err := after.ReleaseNames(env.Name)
		if err != nil {
			continue
		}
		for _, name := range names {
			now, err := after.PartialRelease(env.Name, name)
			if err != nil {
				continue
			}
			old := map[string]string{}
			if was, err := before.PartialRelease(env.Name, name); err == nil {
				for _, s := range statesOf(was) {
					old[s.Tag] = s.Digest
				}
			}
			for _, s := range statesOf(now) {
				if s.Digest != "" && s.Digest != old[s.Tag] {
					list = append(list, digestByHand{strings.TrimSuffix(fmt.Sprintf("%s/%s (%s)", env.Name, name, s.Tag), " ()"), old[s.Tag], s.Digest})
				}
			}
		}
	}
	return list
}

// changeGates judges a change that is no promotion by the gates that promotions have,
// so that a branch can require all of their statuses of every pull request. A digest
// changed by hand passes neither scope nor order. What is reached without a promotion
// is no fault: scope says it, for whoever approves.
func changeGates(result checked) []promotion.Gate {
	gate := func(name, message string) promotion.Gate {
		return promotion.Gate{Name: name, State: promotion.Passed, Message: message}
	}
	const none = "no promotion: no digest changes"
	gates := []promotion.Gate{gate(promotion.GateScope, none), gate(promotion.GateFresh, none), gate(promotion.GateOrder, none),
		gate(promotion.GateConfig, fmt.Sprintf("%s render, with what they require", count(result.Releases, "release"))),
		gate(promotion.GateChecks, none), gate(promotion.GateHealthy, none), gate(promotion.GateSoak, none)}
	if names := reachedNames(result.Reached); names != "" {
		gates[0].Message = "no digest changes; without a promotion it reaches " + names
	}
	if result.Errors > 0 {
		gates[3].State, gates[3].Message = promotion.Failed, fmt.Sprintf("sluice check finds %s", count(result.Errors, "error"))
		for _, f := range result.Findings {
			if f.Severity == "error" {
				gates[3].Message += ": " + f.Message
				break
			}
		}
	}
	if len(result.Digests) > 0 {
		var releases []string
		for _, d := range result.Digests {
			releases = append(releases, d.Release)
		}
		message := "changes the digest of " + strings.Join(releases, ", ") + " by hand: `sluice promote` proposes it"
		for _, i := range []int{0, 2} {
			gates[i].State, gates[i].Message = promotion.Failed, message
		}
	}
	return gates
}

// reachedNames says which environments are reached, and then of which components: a
// status has place for little, and the last environment is the one to know of.
func reachedNames(list []reached) string {
	var environments, components []string
	for _, r := range list {
		if !slices.Contains(environments, r.Environment) {
			environments = append(environments, r.Environment)
		}
		if !slices.Contains(components, r.Component) {
			components = append(components, r.Component)
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Reverse(environments)
	return strings.Join(environments, ", ") + " (" + strings.Join(components, ", ") + ")"
}

// publishChange shows the gates of a change as statuses of its commit. A commit that
// is the head of a promotion is refused: whoever merges that one judges it, and its
// statuses are not to be painted over.
func (a *app) publishChange(ctx context.Context, v *view, gates []promotion.Gate) error {
	if v.Revision == "" {
		return withHint(usagef("--publish needs a commit to publish on"), "name the head of the pull request with --ref")
	}
	repo, forge, err := a.openForge(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	open, err := forge.List(ctx, promotion.ListOptions{State: promotion.Open})
	if err != nil {
		return err
	}
	for _, p := range open {
		if p.Head == v.Revision {
			a.note("note: %s is the head of pull request #%d, whose gates `sluice pr show %d` judges: nothing is published", short(v.Revision), p.Number, p.Number)
			return nil
		}
	}
	if _, err := repo.Snapshot(v.Revision); err != nil {
		// It is read from the clone; the forge may know commits by their branches only.
		if _, err := repo.FetchRefs(ctx, "refs/heads/*"); err != nil {
			return err
		}
	}
	statuses := make([]promotion.Status, len(gates))
	for i, g := range gates {
		statuses[i] = g.Status()
	}
	return forge.SetStatuses(ctx, v.Revision, statuses)
}
