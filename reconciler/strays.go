package reconciler

import (
	"fmt"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// within reports whether an object may be of a release at all: it is in the
// environment's namespace, or it is that namespace and the release the reserved
// one. Nothing else is ever read, applied or deleted.
func within(id inventory.ID, namespace, release string) bool {
	if id.Namespace == "" && release == envrepo.EnvironmentRelease {
		return id == inventory.ID{Name: namespace, Kind: "Namespace"}
	}
	return id.Namespace != "" && id.Namespace == namespace
}

// leaveStrays takes out of an inventory what cannot be the release's. An inventory
// is kept where others may write: in the status and the annotations of a Release.
// Whoever forges one must not reach with our rights what is not in their namespace.
func leaveStrays(set inventory.Set, namespace, release string) (notes []string) {
	for _, id := range set.Sorted() {
		if !within(id, namespace, release) {
			delete(set, id)
			notes = append(notes, fmt.Sprintf("left alone %s, which the inventory lists: it is not in namespace %s", id, namespace))
		}
	}
	return notes
}
