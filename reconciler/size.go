package reconciler

import (
	"fmt"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// maxInventory bounds the inventory as a status keeps it, in bytes. The API server
// takes objects of 1.5 MiB, and the rest of a Release has room beside it: 5,000
// objects with names of usual length take half a MiB.
const maxInventory = 1280 << 10

// tooLarge refuses a release whose inventory would not fit into its Release,
// before anything is written: what is created and not recorded would be
// forgotten.
func (d *decision) tooLarge() bool {
	want := inventory.Of(d.all()...)
	if d.in.Last != nil && d.in.Inventory.Covers(want) {
		return false
	}
	all := d.in.Inventory.Union(want)
	size := all.Size()
	if size <= maxInventory {
		return false
	}
	return d.stop(Verdict{State: StateFailed, Reason: v1alpha1.ReasonApplyFailed, Stalled: true,
		Message: fmt.Sprintf("the inventory of %d objects takes %d KiB, and a Release has room for %d KiB: nothing is applied", len(all), size>>10, maxInventory>>10)})
}
