package reconciler

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// account is what one release declares and what it would delete.
type account struct {
	generation    uint64 // tells apart the contents that an account was expected of
	declaredKnown bool   // declares is that of the wanted content
	known         bool   // and so are the others
	outside       bool   // the engine has not got the release in its hands
	stalled       bool   // its last pass has ended so that another one changes nothing

	declares     []inventory.ID
	leaving      []inventory.ID             // sorted: ours in the cluster, not declared, not protected
	uids         map[inventory.ID]types.UID // of what is leaving
	objects      int                        // in the inventory
	before       int                        // of them, before the release began to grow
	keeps        string                     // why it does not give away what it no longer declares; "" when it does
	acknowledged string                     // token recorded in its status for this content
	claims       map[inventory.ID]string    // declared objects that carry another release's label
	relabelled   map[inventory.ID]bool      // of them, ours by the inventory, with the label of a release without a Release
	awaits       bool                       // the last ruling depends on what another does
	standing     string                     // at the last ruling
}

// alike reports whether two lists have the same objects, in whatever order.
func alike(a, b []inventory.ID) bool {
	if len(a) != len(b) {
		return false
	}
	has := make(map[inventory.ID]bool, len(a))
	for _, id := range a {
		has[id] = true
	}
	return !slices.ContainsFunc(b, func(id inventory.ID) bool { return !has[id] })
}

// accountOf is what the input says about a release: pure.
func accountOf(in *Input) account {
	rendered := in.renderedSet()
	a := account{objects: len(in.Inventory), before: objectsBefore(in.Last, in.Inventory), declares: slices.Collect(maps.Keys(rendered))}
	stay := func(why string) account {
		a.keeps = why
		if len(a.declares) == 0 {
			a.declares = slices.Collect(maps.Keys(in.Inventory))
		}
		return a
	}
	switch {
	case in.Refusal != nil:
		return stay("is left alone: " + in.Refusal.Message)
	case in.Paused != "":
		return stay("is " + in.Paused)
	case foreignRelease(in):
		return stay("belongs to another project or repository")
	case !in.Gone && len(rendered) == 0:
		return stay("renders no object")
	case !in.Namespace.Exists:
		return a
	}
	a.leaving = leavingOf(in, rendered)
	a.uids = make(map[inventory.ID]types.UID, len(a.leaving))
	for _, id := range a.leaving {
		a.uids[id] = in.Live[id].GetUID()
	}
	a.claims = claimsOf(in, rendered)
	if p := in.status().Prune; p != nil && p.Hash == in.Hash {
		a.acknowledged = p.Acknowledged
	}
	return a
}

// leavingOf lists what would be deleted sooner or later: in the inventory and in
// the cluster, not declared, and not protected.
func leavingOf(in *Input, rendered inventory.Set) []inventory.ID {
	gone := in.Inventory.Minus(rendered)
	if len(gone) == 0 {
		return nil
	}
	d := &decision{in: in}
	var leaving []inventory.ID
	for _, id := range gone.Sorted() {
		if live := in.Live[id]; live != nil && d.protected(live) == "" {
			leaving = append(leaving, id)
		}
	}
	return leaving
}

// claimsOf lists the declared objects that carry the label of another release of
// the environment.
func claimsOf(in *Input, rendered inventory.Set) map[inventory.ID]string {
	var claims map[inventory.ID]string
	for id := range rendered {
		live := in.Live[id]
		if live == nil {
			continue
		}
		other, owned := owner(live)
		if !owned || other == in.key() || other.Environment != in.key().Environment {
			continue
		}
		if claims == nil {
			claims = map[inventory.ID]string{}
		}
		claims[id] = other.Release
	}
	return claims
}

// renderedSet is the set of all rendered objects.
func (in *Input) renderedSet() inventory.Set {
	if in.Rendered == nil || in.Gone {
		return inventory.Set{}
	}
	set := inventory.Of(in.Rendered.Shared...)
	for _, t := range in.Rendered.Tags {
		maps.Copy(set, inventory.Of(t.Objects...))
	}
	maps.Copy(set, in.brokenObjects()) // which stay as they are
	return set
}

// account enters the release into its environment's ledger; it is an error when
// a newer commit wants another account.
func (p *pass) account() error {
	a := accountOf(p.in)
	a.relabelled = p.relabelled(a.claims)
	p.in.Ruling = p.env.ledger.enter(p.in.Release.Name, p.want.generation, a)
	if p.in.Ruling.superseded {
		return errSuperseded
	}
	return nil
}

// accountFailed enters what a pass has found out that could not read everything.
// A release that does not render keeps what it has and deletes nothing.
func (p *pass) accountFailed(renders bool) {
	name, generation := p.in.Release.Name, p.want.generation
	switch {
	case !renders && p.in.Inventory != nil:
		p.env.ledger.enter(name, generation, account{objects: len(p.in.Inventory), before: objectsBefore(p.in.Last, p.in.Inventory), declares: slices.Collect(maps.Keys(p.in.Inventory)), keeps: "does not render"})
	case p.in.Rendered != nil:
		p.env.ledger.declare(name, generation, slices.Collect(maps.Keys(p.in.renderedSet())))
	}
}
