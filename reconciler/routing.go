package reconciler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render/traffic"
)

// routing is what the routes of a release should carry now, and why that is not
// what the repository wants.
type routing struct {
	had     v1alpha1.TrafficStatus       // what the routes carry
	want    envrepo.Traffic              // what they may carry now: sick mirrors left out
	plain   []*unstructured.Unstructured // as rendered
	objects []*unstructured.Unstructured // with what is wanted written into them

	held     string   // why the routes stay; "" when they may move
	heldUnit bool     // by a unit that is not ready
	gates    []string // names of those
	broken   bool     // by broken tags and nothing else
	remedy   string   // what to do about it, where one of the tags knows
	absent   []string // tags that no route may name
	refused  error    // the weights cannot be written into the routes
	mirrors  []string

	// While the routes are held: what they carry meanwhile, and the routes with
	// that. There are no kept objects where nobody knows what they should carry.
	keep envrepo.Traffic
	kept []*unstructured.Unstructured
	// converting: they lead, without weights, to what was there before the tags.
	converting bool
}

// route decides what the routes may carry, from the assessed units.
func route(in *Input, r *routing, units []*unit) {
	waiting := r.judge(in, units)
	write(in, r)
	if len(waiting) > 0 && r.held == "" {
		r.heldUnit, r.held = true, strings.Join(waiting, "; ")
	}
	if r.held == "" {
		return
	}
	start := len(r.had.Weights) == 0
	r.hold(in, units)
	switch {
	case !r.heldUnit || !in.Release.Tagged():
	case !start:
		r.held = "routes stay at " + formatTraffic(r.had.Weights, r.had.Mirrors) + ": " + r.held
	case r.converting:
		r.held = "routes stay as before the tags: " + r.held
	case len(r.kept) > 0:
		r.held = "routes start at " + formatTraffic(sharesOf(r.keep.Weights), nil) + ": " + r.held
	default:
		r.held = "nothing is routed yet: " + r.held
	}
}

// judge says which units keep the routes where they are, and takes sick mirrors
// out of what is wanted.
func (r *routing) judge(in *Input, units []*unit) (waiting []string) {
	broken := 0
	for _, u := range units {
		if u.shared || !u.listed {
			continue
		}
		if u.absent(in) {
			r.absent = append(r.absent, u.tag)
		}
		// An untagged release routes after health, whatever has changed. Serving will do
		// where it has the requests already: those of tags wait for its capacity.
		gates := u.rising() || u.tag == ""
		if gates && !u.ready && !u.relieves && (u.rising() || !u.serving) {
			r.gates = append(r.gates, u.name())
			waiting = append(waiting, fmt.Sprintf("%s is not ready: %s", u.name(), u.message))
			r.remedy = cmp.Or(r.remedy, u.remedy)
			if u.broken != "" {
				broken++
			}
		}
		if u.mirror > 0 && !u.ready && !(u.hadCopy > 0 && u.serving) {
			r.want.Mirrors = without(r.want.Mirrors, u.tag)
			r.mirrors = append(r.mirrors, fmt.Sprintf("the mirror to tag %s is left out: %s", u.tag, u.message))
		}
	}
	r.want.Weights = r.named(r.want.Weights)
	r.broken = broken > 0 && broken == len(waiting)
	return waiting
}

// named are the weights without those tags of weight 0 that no route may name.
func (r *routing) named(weights []envrepo.Weight) []envrepo.Weight {
	return slices.DeleteFunc(slices.Clone(weights), func(w envrepo.Weight) bool { return w.Percent == 0 && slices.Contains(r.absent, w.Tag) })
}

// hold finds what held routes carry meanwhile:
//
//  1. Routes that have weights keep them. A tag that does not exist any more is
//     left out, and so is the mirror to one that has fallen ill.
//  2. Where nothing is routed at all, the tags that are ready get everything: a
//     broken canary must not keep the release from being reached for the first
//     time. This is not for a release that is being converted, which is reached.
//  3. An untagged release has no weights, nor has one that is being given tags. Its
//     routes are kept where they are known to be as they were, by this process or,
//     after a restart, by the status: the change of this commit stays held. A plain
//     Service that is missing is created as the commit has it, where that leads to what
//     was there before the tags.
func (r *routing) hold(in *Input, units []*unit) {
	tags := tagNames(in, r.had)
	switch {
	case len(r.had.Weights) > 0:
		exists := func(tag string) bool { return slices.Contains(tags, tag) }
		r.keep.Weights = slices.DeleteFunc(handOver(weightsOf(r.had.Weights), exists), func(w envrepo.Weight) bool { return !exists(w.Tag) })
		for _, m := range weightsOf(r.had.Mirrors) {
			sick := slices.ContainsFunc(units, func(u *unit) bool { return u.tag == m.Tag && !u.ready && !u.serving })
			if _, listed := r.keep.Weight(m.Tag); listed && !sick {
				r.keep.Mirrors = append(r.keep.Mirrors, m)
			}
		}
	case !in.Release.Tagged():
		whole := in.Hash != "" && in.Hash == in.status().LastAppliedHash || hashOfRoutes(r.plain) == in.status().RoutesHash
		r.kept = asApplied(in, r.plain, whole)
		return
	case unrouted(in, r.plain):
		r.keep.Weights = r.named(handOver(r.want.Weights, func(tag string) bool {
			return slices.ContainsFunc(units, func(u *unit) bool { return u.tag == tag && u.listed && u.ready })
		}))
	default:
		r.converting = true
		routes, services := splitService(r.plain, nil) // as it was divided without tags
		r.kept = append(asApplied(in, routes, hashOfRoutes(routes) == in.status().RoutesHash), keptServices(in, units, services)...)
		return
	}
	if len(r.keep.Weights) == 0 {
		return
	}
	kept, err := transformed(in, r.plain, r.keep, tags)
	if err != nil && len(r.keep.Mirrors) > 0 {
		r.keep.Mirrors = nil
		kept, err = transformed(in, r.plain, r.keep, tags)
	}
	if err == nil { // otherwise they stay as they are: the wanted weights fail likewise, and say why
		r.kept = kept
	}
}

// asApplied are the routes that this process has applied just so last; all of them where
// it is known otherwise that they are as they were.
func asApplied(in *Input, routes []*unstructured.Unstructured, all bool) (kept []*unstructured.Unstructured) {
	for _, o := range routes {
		if all || in.Marks[inventory.IDOf(o)].Rendered == in.hash(o) {
			kept = append(kept, o)
		}
	}
	return kept
}

// keptServices are the plain Services of a release that waits for its first tags: those
// that this process has applied just so last, and those that are missing and lead to pods
// of the untagged release and to no tag's. Such a one cannot lead requests to a tag too
// early, and nobody has to know what it was: without it callers reach nothing at all.
func keptServices(in *Input, units []*unit, services []*unstructured.Unstructured) []*unstructured.Unstructured {
	kept := asApplied(in, services, false)
	before := whatRuns(in, "", 0).objects
	var tags []*unstructured.Unstructured
	for _, u := range units {
		if u.tag != "" {
			tags = slices.Concat(tags, u.objects, whatRuns(in, u.tag, 0).objects)
		}
	}
	for _, o := range services {
		if in.live(o) == nil && !slices.Contains(kept, o) && leads(o, before) && !leads(o, tags) {
			kept = append(kept, o)
		}
	}
	return kept
}

// leads reports whether a Service selects pods of any of the workloads.
func leads(service *unstructured.Unstructured, workloads []*unstructured.Unstructured) bool {
	u := &unit{service: service.GetName(), objects: append(slices.Clone(workloads), service)}
	return u.ownService() != nil && len(u.backends()) > 0
}

// remembered is the hash by which the routes of an untagged release are known
// after a restart: while a change is held, that of those it had before.
func (r *routing) remembered(in *Input) string {
	switch {
	case r.converting, r.held != "" && !in.Release.Tagged():
		return in.status().RoutesHash
	case in.Release.Tagged():
		return ""
	}
	return hashOfRoutes(r.plain)
}

// hashOfRoutes is "" where there are none.
func hashOfRoutes(routes []*unstructured.Unstructured) string {
	if len(routes) == 0 {
		return ""
	}
	hashes := make([]string, len(routes))
	for i, o := range routes {
		hashes[i] = hashOf(o)
	}
	return shortHash([]byte(strings.Join(hashes, " ")))
}

// tagNames are the tags that routes can lead to: those that are rendered, and
// those that had weight and still have their Service.
func tagNames(in *Input, had v1alpha1.TrafficStatus) []string {
	var names []string
	for _, t := range in.Rendered.Tags {
		names = append(names, t.Name)
	}
	for _, s := range had.Weights {
		service := inventory.ID{Namespace: in.Namespace.Name, Name: in.Release.Component.Name + "-" + s.Tag, Kind: "Service"}
		if !slices.Contains(names, s.Tag) && in.Live[service] != nil {
			names = append(names, s.Tag)
		}
	}
	return names
}

// unrouted reports whether no request can have reached the release yet: there is
// no route without weights, and no workload of an untagged release.
func unrouted(in *Input, routes []*unstructured.Unstructured) bool {
	for _, r := range routes {
		live := in.live(r)
		if live == nil || !carries(r) {
			continue
		}
		if _, _, ours := parseTraffic(live.GetAnnotations()[v1alpha1.AnnotationTraffic]); !ours {
			return false
		}
	}
	shared := inventory.Of(in.Rendered.Shared...)
	for id := range in.Inventory.Minus(shared) {
		if live := in.Live[id]; live != nil && isWorkload(live) && live.GetLabels()[v1alpha1.LabelTag] == "" {
			return false
		}
	}
	return true
}

// handOver gives the shares of the tags that may not keep theirs to the largest
// of the others, the first in document order of several; nil when there is none.
func handOver(weights []envrepo.Weight, keeps func(tag string) bool) []envrepo.Weight {
	out, largest, left := slices.Clone(weights), -1, 0
	for i, w := range out {
		switch {
		case !keeps(w.Tag):
			left, out[i].Percent = left+w.Percent, 0
		case w.Percent > 0 && (largest < 0 || w.Percent > out[largest].Percent):
			largest = i
		}
	}
	if largest < 0 {
		return nil
	}
	out[largest].Percent += left
	return out
}

// write puts the traffic into the routes. A mirror that the gateway cannot do is
// left out and refused: the weights are not to blame.
func write(in *Input, r *routing) {
	if !in.Release.Tagged() {
		r.want = envrepo.Traffic{}
		return
	}
	tags := tagNames(in, v1alpha1.TrafficStatus{})
	objects, err := transformed(in, r.plain, r.want, tags)
	if err != nil && len(r.want.Mirrors) > 0 && aboutMirror(err) {
		r.refused = err
		r.want.Mirrors = nil
		objects, err = transformed(in, r.plain, r.want, tags)
	}
	if err != nil {
		r.refused, r.held = err, err.Error()
		return
	}
	r.objects = objects
}

// transformed are the routes with traffic written into them, and into an
// annotation.
func transformed(in *Input, routes []*unstructured.Unstructured, t envrepo.Traffic, tags []string) ([]*unstructured.Unstructured, error) {
	objects, err := traffic.Transform(routes, in.beside(), in.Release.Component.Name, t, tags, in.Support)
	if err != nil {
		return nil, err
	}
	text := formatTraffic(sharesOf(t.Weights), sharesOf(t.Mirrors))
	for _, o := range objects {
		annotations := o.GetAnnotations()
		if !carries(o) || annotations[traffic.ExpandedFrom] != "" {
			continue
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[v1alpha1.AnnotationTraffic] = text
		o.SetAnnotations(annotations)
	}
	return objects, nil
}

// beside is what the release has besides its routes. Of a broken tag it is what runs,
// which stays: a policy of its own goes on to hold.
func (in *Input) beside() []*unstructured.Unstructured {
	all := slices.Clone(in.Rendered.Shared)
	for _, t := range in.Rendered.Tags {
		all = append(all, t.Objects...)
	}
	broken := in.brokenObjects()
	for _, id := range broken.Sorted() {
		if live := in.Live[id]; live.GetAnnotations()[traffic.ExpandedFrom] == "" {
			all = append(all, live)
		}
	}
	return all
}

// carries reports whether an object of the route stage leads requests anywhere,
// and does not just allow or shape that.
func carries(route *unstructured.Unstructured) bool {
	return route.GetKind() != "ReferenceGrant" && route.GetKind() != "DestinationRule"
}

func aboutMirror(err error) bool {
	var mirror *traffic.MirrorError
	var unknown *traffic.UnknownSupportError
	return errors.As(err, &mirror) || errors.As(err, &unknown)
}

// moves reports whether routes with this traffic carry something else than they
// do.
func (r *routing) moves(t envrepo.Traffic) bool {
	return !equalShares(sharesOf(t.Weights), r.had.Weights) || !equalShares(sharesOf(t.Mirrors), r.had.Mirrors)
}

// next is the traffic status once routes with this traffic are written.
func (r *routing) next(traffic envrepo.Traffic, now time.Time) *v1alpha1.TrafficStatus {
	t := &v1alpha1.TrafficStatus{Weights: sharesOf(traffic.Weights), Mirrors: sharesOf(traffic.Mirrors), RoutedAt: r.had.RoutedAt}
	if r.moves(traffic) {
		at := roundUp(now)
		t.RoutedAt = &at
	}
	if len(t.Weights) == 0 && len(t.Mirrors) == 0 && t.RoutedAt == nil {
		return nil
	}
	return t
}

// carries is the traffic of the routes once the plan is done; nil for none that
// is known.
func (r *routing) carries(now time.Time) *v1alpha1.TrafficStatus {
	switch {
	case r.held == "":
		return r.next(r.want, now)
	case len(r.kept) > 0 && len(r.keep.Weights) > 0:
		return r.next(r.keep, now)
	case len(r.had.Weights) == 0 && r.had.RoutedAt == nil:
		return nil
	}
	return r.had.DeepCopy()
}

// roundUp is a time as a status keeps it, in whole seconds, and not before now.
func roundUp(now time.Time) metav1.Time {
	return metav1.NewTime(now.Add(time.Second - 1).Truncate(time.Second))
}

// drained is the time that is left until requests routed elsewhere have ended.
func drained(in *Input, routedAt *metav1.Time) time.Duration {
	if routedAt == nil || in.foreseen {
		return 0
	}
	return max(0, routedAt.Add(in.Release.Environment.Traffic.Drain).Sub(in.Now))
}

// accepted judges the routes of the cluster; see health.Accepted.
func accepted(in *Input, routes []*unstructured.Unstructured) (pending bool, refusal string) {
	for _, o := range routes {
		live := in.live(o)
		if live == nil || in.foreseen {
			continue
		}
		if in.Health.Has(live.GroupVersionKind().GroupKind()) {
			if state := in.Health.Of(live); state.Status != health.Current && refusal == "" {
				refusal = describe(in, o, state)
			}
			continue
		}
		p, why := health.Accepted(live)
		pending = pending || p
		if why != "" && refusal == "" {
			refusal = inventory.IDOf(o).Display() + " is not accepted: " + why
		}
	}
	return pending, refusal
}

func sharesOf(weights []envrepo.Weight) []v1alpha1.TagPercent {
	if len(weights) == 0 {
		return nil
	}
	out := make([]v1alpha1.TagPercent, len(weights))
	for i, w := range weights {
		out[i] = v1alpha1.TagPercent{Tag: w.Tag, Percent: w.Percent}
	}
	return out
}

func weightsOf(shares []v1alpha1.TagPercent) []envrepo.Weight {
	out := make([]envrepo.Weight, len(shares))
	for i, s := range shares {
		out[i] = envrepo.Weight{Tag: s.Tag, Percent: s.Percent}
	}
	return out
}

func without(weights []envrepo.Weight, tag string) []envrepo.Weight {
	return slices.DeleteFunc(slices.Clone(weights), func(w envrepo.Weight) bool { return w.Tag == tag })
}

// equalShares compares in order: the first of two equal weights gets the plain
// Service.
func equalShares(a, b []v1alpha1.TagPercent) bool { return slices.Equal(a, b) }

// formatTraffic is the text of weights and mirrors: "blue=90 green=10",
// "blue=100 green=0 mirror:green=5".
func formatTraffic(weights, mirrors []v1alpha1.TagPercent) string {
	parts := make([]string, 0, len(weights)+len(mirrors))
	for _, w := range weights {
		parts = append(parts, w.Tag+"="+strconv.Itoa(w.Percent))
	}
	for _, m := range mirrors {
		parts = append(parts, "mirror:"+m.Tag+"="+strconv.Itoa(m.Percent))
	}
	return strings.Join(parts, " ")
}

// parseTraffic reads what formatTraffic writes; ok is false for anything else.
func parseTraffic(s string) (weights, mirrors []v1alpha1.TagPercent, ok bool) {
	for _, part := range strings.Fields(s) {
		name, number, _ := strings.Cut(part, "=")
		percent, err := strconv.Atoi(number)
		if err != nil || percent < 0 || percent > 100 {
			return nil, nil, false
		}
		if tag, mirror := strings.CutPrefix(name, "mirror:"); mirror {
			mirrors = append(mirrors, v1alpha1.TagPercent{Tag: tag, Percent: percent})
		} else {
			weights = append(weights, v1alpha1.TagPercent{Tag: name, Percent: percent})
		}
	}
	return weights, mirrors, len(weights) > 0
}
