package reconciler

import (
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
	had     v1alpha1.TrafficStatus // what the routes carry
	want    envrepo.Traffic        // what they may carry now: sick mirrors left out
	objects []*unstructured.Unstructured

	held     string // why the routes stay; "" when they may move
	heldUnit bool   // by a unit that is not ready
	refused  error  // the weights cannot be written into the routes
	mirrors  []string
}

// carried is the traffic that the routes carry before this pass. A status may
// miss the last route that was written (the reconciler was killed in between),
// so the routes' own annotations count too: the larger share of each, which never
// retires a tag that still gets requests. unsure says that the routes carry more
// than the status knows of, so that nobody knows since when.
func carried(in *Input, routes []*unstructured.Unstructured) (had v1alpha1.TrafficStatus, unsure bool) {
	if in.routed != nil {
		return *in.routed.DeepCopy(), false
	}
	if t := in.status().Traffic; t != nil {
		had = *t.DeepCopy()
	}
	for _, r := range routes {
		live := in.live(r)
		if live == nil {
			continue
		}
		weights, mirrors, ok := parseTraffic(live.GetAnnotations()[v1alpha1.AnnotationTraffic])
		if !ok {
			continue
		}
		weights, mirrors = larger(had.Weights, weights), larger(had.Mirrors, mirrors)
		unsure = unsure || !equalShares(weights, had.Weights) || !equalShares(mirrors, had.Mirrors)
		had.Weights, had.Mirrors = weights, mirrors
	}
	return had, unsure
}

// route decides what the routes may carry, from the assessed units.
func route(in *Input, r *routing, units []*unit) {
	var waiting []string
	first := len(r.had.Weights) == 0
	for _, u := range units {
		if u.shared || !u.listed {
			continue
		}
		// An untagged release routes after health, whatever has changed.
		gates := u.rising() || u.tag == ""
		if gates && !u.ready && !(u.tag == "" && u.serving) {
			waiting = append(waiting, fmt.Sprintf("%s is not ready: %s", u.name(), u.message))
		}
		if u.mirror > 0 && !u.ready && !(u.hadCopy > 0 && u.serving) {
			r.want.Mirrors = without(r.want.Mirrors, u.tag)
			r.mirrors = append(r.mirrors, fmt.Sprintf("the mirror to tag %s is left out: %s", u.tag, u.message))
		}
	}
	if len(waiting) > 0 {
		r.heldUnit = true
		r.held = strings.Join(waiting, "; ")
		if in.Release.Tagged() && !first {
			r.held = "routes stay at " + formatTraffic(r.had.Weights, r.had.Mirrors) + ": " + r.held
		} else if in.Release.Tagged() {
			r.held = "nothing is routed yet: " + r.held
		}
	}
	write(in, r)
}

// write puts the traffic into the routes. A mirror that the gateway cannot do is
// left out and refused: the weights are not to blame.
func write(in *Input, r *routing) {
	if !in.Release.Tagged() {
		r.want = envrepo.Traffic{}
		return
	}
	tags := make([]string, len(in.Rendered.Tags))
	for i, t := range in.Rendered.Tags {
		tags[i] = t.Name
	}
	component := in.Release.Component.Name
	objects, err := traffic.Transform(r.objects, component, r.want, tags, in.Support)
	if err != nil && len(r.want.Mirrors) > 0 && aboutMirror(err) {
		r.refused = err
		r.want.Mirrors = nil
		objects, err = traffic.Transform(r.objects, component, r.want, tags, in.Support)
	}
	if err != nil {
		r.refused, r.held = err, err.Error()
		return
	}
	text := formatTraffic(sharesOf(r.want.Weights), sharesOf(r.want.Mirrors))
	for _, o := range objects {
		if o.GetKind() == "ReferenceGrant" {
			continue
		}
		annotations := o.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[v1alpha1.AnnotationTraffic] = text
		o.SetAnnotations(annotations)
	}
	r.objects = objects
}

func aboutMirror(err error) bool {
	var mirror *traffic.MirrorError
	var unknown *traffic.UnknownSupportError
	return errors.As(err, &mirror) || errors.As(err, &unknown)
}

// moves reports whether the routes would carry something else than they do.
func (r *routing) moves() bool {
	return !equalShares(sharesOf(r.want.Weights), r.had.Weights) || !equalShares(sharesOf(r.want.Mirrors), r.had.Mirrors)
}

// next is the traffic status once the routes are written.
func (r *routing) next(now time.Time) *v1alpha1.TrafficStatus {
	t := &v1alpha1.TrafficStatus{Weights: sharesOf(r.want.Weights), Mirrors: sharesOf(r.want.Mirrors), RoutedAt: r.had.RoutedAt}
	if r.moves() {
		at := roundUp(now)
		t.RoutedAt = &at
	}
	if len(t.Weights) == 0 && len(t.Mirrors) == 0 && t.RoutedAt == nil {
		return nil
	}
	return t
}

// roundUp is a time as a status keeps it, in whole seconds, and not before now.
func roundUp(now time.Time) metav1.Time {
	return metav1.NewTime(now.Add(time.Second - 1).Truncate(time.Second))
}

// drained is the time that is left until requests routed elsewhere have ended.
func drained(in *Input, routedAt *metav1.Time) time.Duration {
	if routedAt == nil {
		return 0
	}
	return max(0, routedAt.Add(in.Release.Environment.Traffic.Drain).Sub(in.Now))
}

// accepted judges the routes of the cluster; see health.Accepted.
func accepted(in *Input, routes []*unstructured.Unstructured) (pending bool, refusal string) {
	for _, o := range routes {
		live := in.live(o)
		if live == nil {
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

// servingReplicas is the number of ready pods that carry all requests now,
// whether or not what they belong to is still rendered.
func servingReplicas(in *Input, units []*unit, had v1alpha1.TrafficStatus) int64 {
	var n int64
	rendered := map[inventory.ID]bool{}
	for _, u := range units {
		for _, o := range u.objects {
			rendered[inventory.IDOf(o)] = true
		}
		if u.hadWeight > 0 {
			n += u.readyReplicas(in)
		}
	}
	for id, live := range in.Live {
		if _, ours := in.Inventory[id]; !ours || rendered[id] || !isWorkload(live) {
			continue
		}
		tag := live.GetLabels()[v1alpha1.LabelTag]
		if tag == "" && len(had.Weights) == 0 || tag != "" && share(had.Weights, tag) > 0 {
			_, ready := health.Replicas(live)
			n += ready
		}
	}
	return n
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

func without(weights []envrepo.Weight, tag string) []envrepo.Weight {
	return slices.DeleteFunc(slices.Clone(weights), func(w envrepo.Weight) bool { return w.Tag == tag })
}

// equalShares compares in order: the first of two equal weights gets the plain
// Service.
func equalShares(a, b []v1alpha1.TagPercent) bool { return slices.Equal(a, b) }

// larger is the larger share of each tag of a and b.
func larger(a, b []v1alpha1.TagPercent) []v1alpha1.TagPercent {
	out := slices.Clone(a)
	for _, s := range b {
		i := slices.IndexFunc(out, func(o v1alpha1.TagPercent) bool { return o.Tag == s.Tag })
		switch {
		case i < 0:
			out = append(out, s)
		case out[i].Percent < s.Percent:
			out[i].Percent = s.Percent
		}
	}
	return out
}

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
