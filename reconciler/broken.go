package reconciler

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// A broken tag is one whose files do not load, do not render or do not pass the
// check, or whose configuration is not what its digest requires. What should run of it nobody knows, so what does run is left alone:
//
//  1. Nothing of it is applied, scaled, retired or pruned, and all of it stays in
//     the inventory, whether traffic.yaml lists the tag or not.
//  2. Its weight may stay, fall and go to zero. It may not rise, and no mirror to
//     it is begun.
//  3. Everything else of the release goes on as if the tag were whole.
//
// See docs/adr/0016-a-broken-tag.md.

// breakUnit makes the unit of a broken tag. The digest is that of the last
// status: it is the one that runs.
func (u *unit) breakUnit(in *Input, cause error) {
	u.broken, u.fault, u.faults = masked(cause.Error(), in.Rendered.Values), "does not render", "do not render"
	if config := (*ConfigError)(nil); errors.As(cause, &config) {
		u.fault, u.faults = "lacks configuration", "lack configuration"
	}
	u.objects, u.digest = nil, ""
	for _, t := range in.status().Tags {
		if t.Name == u.tag {
			u.digest = t.Digest
		}
	}
}

// assessBroken is assess for a broken tag.
func (u *unit) assessBroken(in *Input) {
	u.ready, u.serving = false, in.Endpoints[u.service] > 0
	u.message = "it " + u.fault + ": " + u.broken
}

// absent reports whether a route must not name the unit: it has no Service, and is
// broken or, where objects were refused, may be without one for as long as they are.
func (u *unit) absent(in *Input) bool {
	service := inventory.ID{Namespace: in.Namespace.Name, Name: u.service, Kind: "Service"}
	return (u.broken != "" || len(in.Refused) > 0) && in.Live[service] == nil
}

// brokenObjects are those of the inventory that are live and belong to a broken
// tag: who knows whether they have left the repository.
func (in *Input) brokenObjects() inventory.Set {
	set := inventory.Set{}
	if in.Rendered == nil || !anyBroken(in.Rendered) {
		return set
	}
	for id, version := range in.Inventory {
		if live := in.Live[id]; live != nil && in.ofBrokenTag(live) {
			set[id] = version
		}
	}
	return set
}

// ofBrokenTag reports whether a live object belongs to a broken tag: by its
// label, or by its name where somebody has taken the label away.
func (in *Input) ofBrokenTag(live *unstructured.Unstructured) bool {
	tag := live.GetLabels()[v1alpha1.LabelTag]
	return slices.ContainsFunc(in.Rendered.Tags, func(t render.TagObjects) bool {
		return t.Broken != nil && (t.Name == tag || tag == "" && strings.Contains(live.GetName()+"-", "-"+t.Name+"-"))
	})
}

// brokenTags says which tags are broken and why; "" when none is. What is wrong
// with files that several tags share is said once.
func (d *decision) brokenTags() string {
	same := map[string][]*unit{}
	for _, u := range d.units {
		if u.broken != "" {
			same[u.broken] = append(same[u.broken], u)
		}
	}
	var parts []string
	for why, units := range same {
		if len(units) == 1 {
			parts = append(parts, "tag "+units[0].tag+" "+units[0].fault+" and stays as it is: "+why)
			continue
		}
		tags := make([]string, len(units))
		for i, u := range units {
			tags[i] = u.tag
		}
		parts = append(parts, "tags "+strings.Join(tags, ", ")+" "+units[0].faults+" and stay as they are: "+why)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// judgeBroken is the verdict where nothing but broken tags is left to say.
func (d *decision) judgeBroken(v *Verdict, why string) {
	v.State, v.Reason, v.Message, v.Stalled = StateFailed, v1alpha1.ReasonRenderFailed, why, true
	if d.retiring || len(d.deferred) > 0 {
		v.State, v.Message, v.Stalled, v.Reconciling = StateWaiting, why+"; "+d.drainMessage(), false, true
	}
}

// scheduleBroken sets when a release with broken tags is seen again. Its files
// stay what they are, but what opens the encrypted ones may answer again.
func (d *decision) scheduleBroken(v *Verdict) {
	v.After = retryBroken(d.in.Rendered)
	if v.Reconciling {
		v.After = cmp.Or(drained(d.in, d.routes.had.RoutedAt), recheckMax)
	}
	if d.lifted() {
		v.After = later(v.After, graceLeft(d.in, d.routes.had))
	}
}

// anyBroken reports whether a tag of the result is broken.
func anyBroken(r *render.Result) bool {
	return slices.ContainsFunc(r.Tags, func(t render.TagObjects) bool { return t.Broken != nil })
}

// retryBroken is when broken tags are tried again: soon where that may be enough.
func retryBroken(r *render.Result) time.Duration {
	if slices.ContainsFunc(r.Tags, func(t render.TagObjects) bool { return t.Broken != nil && temporary(t.Broken) }) {
		return retryMax
	}
	return retryRender
}

// brokenHint is what to do about broken tags.
func brokenHint(in *Input) string {
	for _, t := range in.Rendered.Tags {
		if t.Broken != nil {
			return cmp.Or(hintOf(t.Broken), "see the whole message with: sluice check")
		}
	}
	return ""
}
