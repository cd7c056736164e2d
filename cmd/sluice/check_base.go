package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
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
	common, err := before.git.MergeBase(before.Revision, v.Revision)
	if err != nil || common == "" || common == before.Revision {
		return before, nil // they are compared as they are
	}
	defer before.Close()
	return a.openView(ctx, common, fromBranch)
}

// changedSince compares with the state that a change started from.
func (a *app) changedSince(ctx context.Context, v *view, base string) (since, error) {
	before, err := a.openBase(ctx, v, base)
	if err != nil {
		return since{}, err
	}
	defer before.Close()
	list, err := reachedSince(before, v)
	if err != nil {
		return since{}, err
	}
	return since{
		Reached:  list,
		Policies: changedPolicies(before.Repo.Project(), v.Repo.Project()),
		Digests:  digestsByHand(before.Repo, v.Repo),
	}, nil
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
// changed by hand passes neither scope nor order.
func changeGates(result checked) []promotion.Gate {
	gate := func(name, message string) promotion.Gate {
		return promotion.Gate{Name: name, State: promotion.Passed, Message: message}
	}
	const none = "no promotion: no digest changes"
	gates := []promotion.Gate{gate(promotion.GateScope, none), gate(promotion.GateFresh, none), gate(promotion.GateOrder, none),
		gate(promotion.GateConfig, fmt.Sprintf("%s render, with what they require", count(result.Releases, "release"))),
		gate(promotion.GateChecks, none), gate(promotion.GateHealthy, none), gate(promotion.GateSoak, none)}
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
			a.note("note: %s is the head of promotion #%d, whose gates `sluice pr show %d` judges: nothing is published", short(v.Revision), p.Number, p.Number)
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
