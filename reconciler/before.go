package reconciler

import (
	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// A deletion is measured by what the environment had before: what replaces the
// objects that go would otherwise make it look small. As soon as the intent to
// create those is recorded they are in the inventory too, so the number of objects
// before is recorded with it. It is dropped when nothing of the environment leaves
// any more, so a restart in the middle judges alike. A release that was final before that
// was known is called by the ledger once it is.

// objectsBefore is how many of the listed objects a release had before it began to
// grow. Of one that is only announced nothing was there.
func objectsBefore(last *v1alpha1.Release, listed inventory.Set) int {
	switch {
	case last == nil || last.Status.Inventory == nil:
		return 0
	case hasBefore(last):
		return min(max(*last.Status.Inventory.Before, 0), len(listed))
	}
	return len(listed)
}

// hasBefore reports whether the status has that number.
func hasBefore(last *v1alpha1.Release) bool {
	return last != nil && last.Status.Inventory != nil && last.Status.Inventory.Before != nil
}

// inventoryOf is the inventory as the status is to have it.
func inventoryOf(in *Input, set inventory.Set) *v1alpha1.Inventory {
	after := set.Status()
	if after == nil || in.Ruling.rest {
		return after
	}
	before := objectsBefore(in.Last, in.Inventory)
	grown := in.Last == nil || in.Last.Status.Inventory == nil || hasBefore(in.Last)
	if grown || !in.Inventory.Covers(set) {
		after.Before = &before
	}
	return after
}
