package reconciler

import "github.com/sluice-dev/sluice/reconciler/inventory"

// relabelled are the objects of our inventory that carry the label of a release
// that the cluster has no Release of. Whoever may write objects of the namespace
// could otherwise freeze a release with one label; the ledger knows whether the
// repository has such a release. Where the Releases are not watched, nothing is
// said.
func (p *pass) relabelled(claims map[inventory.ID]string) map[inventory.ID]bool {
	var ours map[inventory.ID]bool
	for id, owner := range claims {
		if _, listed := p.in.Inventory[id]; !listed {
			continue
		}
		if seen, _, ok := find(p.engine.follow(p.env, releaseKind), owner); !ok || seen != nil {
			continue
		}
		if ours == nil {
			ours = map[inventory.ID]bool{}
		}
		ours[id] = true
	}
	return ours
}
