package reconciler

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render/traffic"
)

// account is what one release declares and what it would delete.
type account struct {
	generation    uint64 // tells apart the contents that an account was expected of
	since         uint64 // number of the commit that its content came in with
	declaredKnown bool   // declares is that of the wanted content
	known         bool   // and so are the others
	outside       bool   // the engine has not got the release in its hands
	stalled       bool   // its last pass has ended so that another one changes nothing

	declares     inventory.Set
	unclear      string                     // why it may declare more than is known; "" when it does not
	leaving      []inventory.ID             // sorted: ours in the cluster, not declared, not protected
	left         uint64                     // number of the commit since which something of it may leave; 0: nothing does
	uids         map[inventory.ID]types.UID // of what is leaving
	objects      int                        // in the inventory
	before       int                        // of them, before the release began to grow
	grown        bool                       // which its status has recorded
	keeps        string                     // why it does not give away what it no longer declares; "" when it does
	acknowledged string                     // token recorded in its status for this content
	claims       map[inventory.ID]string    // declared objects that carry another release's label
	relabelled   map[inventory.ID]bool      // of them, ours by the inventory, with the label of a release without a Release

	condemned int                     // of what is leaving: what no release declares
	moving    map[inventory.ID]string // of what is leaving: where to, at the last ruling
	standing  string                  // at the last ruling
}

// follow takes over what stays true of the account before.
//
// What the same content has declared once, it declares still, though it cannot be
// rendered again: the key service is away, say. And what leaves does so since the
// content that had the first of it leave, through all contents since.
func (now *account) follow(before *account) {
	now.since, now.outside, now.stalled = before.since, before.outside, before.stalled
	if now.unclear != "" && before.declaredKnown && before.unclear == "" && before.generation != 0 {
		now.unclear, now.declares = "", now.declares.Union(before.declares)
	}
	if len(now.leaving) > 0 || now.keeps != "" || now.unclear != "" {
		now.left = cmp.Or(before.left, now.since)
	}
}

// alike reports whether two releases declare the same objects.
func alike(a, b inventory.Set) bool { return len(a) == len(b) && a.Covers(b) }

// accountOf is what the input says about a release: pure.
func accountOf(in *Input) account {
	rendered := in.renderedSet()
	a := account{objects: len(in.Inventory), before: objectsBefore(in.Last, in.Inventory), grown: hasBefore(in.Last), declares: rendered, unclear: unclear(in, rendered)}
	stay := func(why string) account {
		a.keeps = why
		if len(a.declares) == 0 {
			a.declares = maps.Clone(in.Inventory)
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
		return stay(rendersNothing)
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

// unclear says why a release may declare more than is known of it: it is to be
// thought capable of declaring whatever leaves another one.
func unclear(in *Input, rendered inventory.Set) string {
	switch {
	case in.Gone || in.Refusal != nil:
		return ""
	case in.Rendered == nil && in.Paused != "":
		return doesNotRender + " and is " + in.Paused
	case in.Rendered == nil:
		return doesNotRender
	case len(rendered) == 0 && len(in.Inventory) > 0:
		return rendersNothing
	}
	for _, t := range in.Rendered.Tags {
		if t.Broken != nil {
			return "its tag " + t.Name + " " + doesNotRender
		}
	}
	return ""
}

const (
	doesNotRender  = "does not render"
	rendersNothing = "renders no object"
)

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

// renderedSet is the set of all rendered objects, and of those that the traffic may
// need besides: whether it does now is a matter of weights.
func (in *Input) renderedSet() inventory.Set {
	if in.Rendered == nil || in.Gone {
		return inventory.Set{}
	}
	set := inventory.Of(slices.Concat(in.Rendered.Shared, in.companions())...)
	for _, t := range in.Rendered.Tags {
		maps.Copy(set, inventory.Of(t.Objects...))
	}
	maps.Copy(set, in.brokenObjects()) // which stay as they are
	return set
}

// companions are what the routes of a tagged release may need besides; see
// traffic.Companions.
func (in *Input) companions() []*unstructured.Unstructured {
	if in.Rendered == nil || !in.Release.Tagged() {
		return nil
	}
	return traffic.Companions(in.Rendered.Shared, in.Release.Component.Name, tagNames(in, v1alpha1.TrafficStatus{}))
}

// account enters the release into its environment's ledger; it is an error when
// a newer commit wants another account. Before anything of it is deleted, what
// the releases outside of this run declare is found out.
func (p *pass) account(ctx context.Context) error {
	a := accountOf(p.in)
	a.relabelled = p.relabelled(a.claims)
	enter := func() Ruling { return p.env.ledger.enter(p.in.Release.Name, p.want.generation, a) }
	if p.in.Ruling = enter(); p.in.Ruling.foresee {
		if err := p.engine.foreseeOthers(ctx, p.env); err != nil {
			return err
		}
		p.in.Ruling = enter()
	}
	if p.in.Ruling.superseded {
		return errSuperseded
	}
	return nil
}

// accountFailed enters what a pass has found out that could not read everything.
// A release whose files are wrong keeps what it has and deletes nothing. What it
// declares is known where they render and only cannot be judged by.
func (p *pass) accountFailed(usable bool) {
	name, generation := p.in.Release.Name, p.want.generation
	switch {
	case !usable && p.in.Inventory != nil:
		rendered := p.in.renderedSet()
		declares := maps.Clone(p.in.Inventory)
		maps.Copy(declares, rendered)
		p.env.ledger.enter(name, generation, account{objects: len(p.in.Inventory), before: objectsBefore(p.in.Last, p.in.Inventory),
			declares: declares, keeps: doesNotRender, unclear: unclear(p.in, rendered)})
	case p.in.Rendered != nil:
		rendered := p.in.renderedSet()
		p.env.ledger.declare(name, generation, rendered, unclear(p.in, rendered))
	}
}
