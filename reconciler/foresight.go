package reconciler

import (
	"context"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// foresight are the steps that follow a plan when all goes well:
//
//  1. What the plan writes is taken for written, without writing it.
//  2. Everything is taken for ready, routes for accepted, requests to what is left
//     for ended.
//  3. Decide says what comes next, and the API server what would become of it.
//
// It ends where nothing is left to do, or where something keeps the release from
// going on that does not end by itself.
func (p *pass) foresight(ctx context.Context, plan Plan) ([]Stage, error) {
	diff := plan.diff
	if len(diff.refused) > 0 || !plan.Verdict.Reconciling {
		return nil, nil
	}
	var stages []Stage
	for range maxRounds {
		if slices.ContainsFunc(plan.Steps, func(s Step) bool { return s.Action == ActionForget }) {
			break
		}
		p.in.assume(plan)
		next, err := p.next(ctx, diff)
		if err != nil {
			return nil, err
		}
		steps := slices.DeleteFunc(slices.Clone(next.Steps), func(s Step) bool {
			return !s.writes() || s.Action == ActionIntent || s.Action == ActionScale || s.Action == ActionGrant
		})
		if !next.Writes() || len(diff.refused) > 0 {
			break
		}
		if len(steps) > 0 {
			stages = append(stages, Stage{After: awaited(plan, steps), Steps: steps})
		}
		plan = next
	}
	diff.sort()
	return stages, nil
}

// next is the plan for what is assumed, of real changes only.
func (p *pass) next(ctx context.Context, diff *difference) (Plan, error) {
	tried := map[inventory.ID]bool{}
	for {
		plan := Decide(*p.in)
		if fresh, err := p.dryRun(ctx, plan, tried, diff); err != nil || !fresh {
			return plan, err
		}
	}
}

// awaited is what steps wait for that are not in the plan before them.
func awaited(before Plan, steps []Step) string {
	does := func(steps []Step, action Action) bool {
		return slices.ContainsFunc(steps, func(s Step) bool { return s.Action == action })
	}
	switch {
	case does(steps, ActionRoute) && len(before.gates) > 0:
		return strings.Join(before.gates, " and ") + areReady(before.gates)
	case does(before.Steps, ActionRoute), does(before.Steps, ActionPrune):
		return "the routes are accepted and requests to what is left have ended"
	case does(before.Steps, ActionRetire):
		return "its pods are gone"
	case does(before.Steps, ActionGrant):
		return "every release has recorded the acknowledgement"
	}
	return "what is applied is ready"
}

// assume takes in the steps of a plan as if they had been done, and as if all that
// runs were well.
func (in *Input) assume(plan Plan) {
	in.foreseen, in.Dependencies = true, nil
	for _, s := range plan.Steps {
		switch s.Action {
		case ActionIntent:
			in.Inventory = s.inventory
			if in.Last == nil {
				in.Last = newRelease(in)
			}
		case ActionGrant:
			in.Ruling.Acknowledge = ""
		case ActionRoute:
			in.routed = s.traffic
			in.assumeApplied(s.Items)
		case ActionApply, ActionRecreate, ActionRetire:
			in.assumeApplied(s.Items)
		case ActionScale:
			in.assumeScaled(s.Items)
		case ActionPrune, ActionHandOver: // an object that is handed over is another's from then on
			for _, i := range s.Items {
				in.noteDeleted(inventory.IDOf(i.Object))
			}
		}
	}
}

func (in *Input) assumeApplied(items []Item) {
	for _, i := range items {
		after := i.Object.DeepCopy()
		if before := in.live(i.Object); before != nil {
			after.SetUID(before.GetUID())
			if status, found := before.Object["status"]; found {
				after.Object["status"] = status
			}
		}
		in.noteApplied(i.Object, after)
	}
}

func (in *Input) assumeScaled(items []Item) {
	for _, i := range items {
		before := in.live(i.Object)
		if before == nil {
			continue
		}
		after := before.DeepCopy()
		_ = unstructured.SetNestedField(after.Object, i.Replicas, "spec", "replicas") // spec is an object: it was scaled
		in.noteScaled(after)
	}
}
