package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// ownedByAnother refuses the whole release if one of its objects carries the
// labels of another: half a release is worse than the one before. An object that
// its owner has given up is taken over instead; one whose owner has not been
// asked yet is waited for.
//
// An object that moves between releases is never deleted, in whatever order the
// releases are passed over, and wherever that is interrupted: the old one keeps
// it, in the cluster and in its inventory, for as long as it carries the old
// one's label and another release declares it; the new one records it in its
// inventory before it writes its own label.
func (d *decision) ownedByAnother() bool {
	var taken, awaited []string
	for _, o := range d.all() {
		live := d.in.live(o)
		if live == nil {
			continue
		}
		id := inventory.IDOf(o)
		if other, owned := owner(live); owned && other != d.in.key() {
			claim := d.in.Ruling.Claims[id]
			text := fmt.Sprintf("%s belongs to release %s of environment %s", id.Display(), other.Release, other.Environment)
			if claim.Why != "" {
				text += ", which " + claim.Why
			}
			switch {
			case claim.Granted:
			case claim.Pending:
				awaited = append(awaited, text)
			default:
				taken = append(taken, text)
			}
		} else if tool := managedElsewhere(o, live); tool != "" {
			taken = append(taken, fmt.Sprintf("%s is managed by %s", id.Display(), tool))
		}
	}
	if foreignRelease(d.in) {
		taken = append(taken, strangers(d.in))
	}
	slices.Sort(taken)
	slices.Sort(awaited)
	switch {
	case len(taken) > 0:
		return d.stop(Verdict{State: StateFailed, Reason: v1alpha1.ReasonOwnedByAnother, Stalled: true, Message: strings.Join(taken, "; ")})
	case len(awaited) > 0:
		return d.stop(Verdict{State: StateWaiting, Reason: v1alpha1.ReasonOwnedByAnother, Reconciling: true, Message: strings.Join(awaited, "; "), After: recheckMax})
	}
	return false
}

// handOver lists what other releases take over.
func (d *decision) handOver(moving []*unstructured.Unstructured) {
	if len(moving) == 0 {
		return
	}
	sortForPrune(moving)
	s := Step{Action: ActionHandOver}
	var parts []string
	for _, o := range moving {
		id := inventory.IDOf(o)
		to := "release " + d.in.Ruling.Moving[id]
		if why := d.in.Ruling.Untaken[d.in.Ruling.Moving[id]]; why != "" {
			to += ", which " + why
		}
		s.Items = append(s.Items, Item{Object: o, Note: "to " + to})
		parts = append(parts, id.Display()+" goes over to "+to)
	}
	d.step(s)
	d.handing = strings.Join(parts, "; ")
}
