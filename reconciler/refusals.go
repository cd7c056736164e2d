package reconciler

import (
	"context"
	"errors"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// An object that the API server refuses must not keep the release from leaving
// the tag that it belongs to. It is set aside for the rest of the pass:
//
//  1. It is not sent again, and nor is the rest of what the commit changes of its
//     unit: half a change may be worse than none. Nor are corrections of later
//     stages, which may need it. Where it belongs to the shared part, those of
//     every tag wait. Sent all the same is what the refused object may be in want of:
//     see helps. The next pass sends the rest.
//  2. Its unit is not ready: its weight may stay, fall and go to zero, not rise,
//     and no mirror to it is begun.
//  3. Other units are applied, the routes move, and what left is retired.
//  4. Nothing is pruned: who knows what the revision before still needs.
//
// The pass ends with the error all the same.

// setAside takes in the objects that an error of a step is about. It does not
// where nobody has answered: the rest of the plan would fail likewise. The error
// of a route is not for it either: a route is all that there is to lower with.
func (p *pass) setAside(ctx context.Context, s Step, err error) bool {
	var apply *ApplyError
	if ctx.Err() != nil || !errors.As(err, &apply) || !slices.Contains([]Action{ActionScale, ActionApply, ActionRecreate, ActionRetire}, s.Action) {
		return false
	}
	for _, o := range apply.Objects {
		var unreachable *cluster.UnreachableError
		if errors.As(o.Err, &unreachable) || errors.Is(o.Err, context.Canceled) {
			return false
		}
	}
	for _, o := range apply.Objects {
		p.in.refuse(o.ID, o.Err)
	}
	return true
}

// withRefusals is the error of a pass together with what was set aside in it. An
// error of another kind counts alone: it is what ended the pass.
func (p *pass) withRefusals(err error) error {
	var apply *ApplyError
	if len(p.in.Refused) == 0 || err != nil && !errors.As(err, &apply) {
		return err
	}
	all := applyError(p.in.Refused)
	if apply != nil {
		all.Objects = append(all.Objects, apply.Objects...)
	}
	return all
}

// applyError is the error about refused objects.
func applyError(refused map[inventory.ID]error) *ApplyError {
	e := &ApplyError{}
	for _, id := range slices.SortedFunc(maps.Keys(refused), inventory.ID.Compare) {
		e.Objects = append(e.Objects, &ObjectError{id, refused[id]})
	}
	return e
}

// setAside finds what is not sent: the objects that were refused, what else is new
// of their units, and the later stages of those. A tag that is scaled to zero needs
// nothing of them.
func (d *decision) setAside() {
	d.barred = inventory.Set{}
	if len(d.in.Refused) == 0 {
		return
	}
	shared, answer := stageCount, d.answer()
	for _, u := range d.units {
		if u.shared {
			shared = d.refusedStage(u)
		}
	}
	for _, u := range d.units {
		last := min(shared, d.refusedStage(u))
		for _, o := range d.objects[u] {
			id := inventory.IDOf(o)
			waits := last < stageCount && !u.retired && (stageOf(o) > last || d.isNew(o) && !d.helps(o, answer)) && !d.in.synced(o)
			if d.in.Refused[id] != nil || waits {
				d.barred[id] = o.GroupVersionKind().Version
			}
		}
	}
}

// answer is what the API server has said of all that was refused; AnswerNone where
// that is not the same.
func (d *decision) answer() cluster.Answer {
	answers := map[cluster.Answer]bool{}
	for _, err := range d.in.Refused {
		answers[cluster.AnswerOf(err)] = true
	}
	if len(answers) != 1 {
		return cluster.AnswerNone
	}
	return slices.Collect(maps.Keys(answers))[0]
}

// helps reports whether an object, once it is sent, may have the API server take
// what was refused. One Service may give up an address or port that another is to
// have. And a policy may look up a ConfigMap or Secret that the same commit creates:
// that nobody uses yet, so it does no harm alone.
func (d *decision) helps(o *unstructured.Unstructured, answer cluster.Answer) bool {
	switch answer {
	case cluster.AnswerTaken:
		return d.gives(o)
	case cluster.AnswerNotAdmitted:
		kind := o.GroupVersionKind().GroupKind()
		return d.in.live(o) == nil && kind.Group == "" && (kind.Kind == "ConfigMap" || kind.Kind == "Secret")
	}
	return false
}

// refusedStage is the first stage in which an object of the unit was refused;
// stageCount for none.
func (d *decision) refusedStage(u *unit) stage {
	first := stageCount
	for _, o := range d.objects[u] {
		if d.in.Refused[inventory.IDOf(o)] != nil {
			first = min(first, stageOf(o))
		}
	}
	return first
}

// bars reports whether an object is not sent because of what was refused.
func (d *decision) bars(o *unstructured.Unstructured) bool {
	_, barred := d.barred[inventory.IDOf(o)]
	return barred
}
