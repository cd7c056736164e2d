package reconciler

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render/traffic"
)

// carriage is what is known of the traffic that the routes carry before this
// pass. There are three accounts: the status, the annotation on the routes in the
// cluster, and the weights in those routes. They differ after a crash between the
// write of the routes and that of the status, and when somebody edits a route.
// Nobody but the status is trusted with more than caution: whoever may edit a
// route could otherwise have traffic raised on a tag that is not ready.
type carriage struct {
	// had is the status, or what the routes themselves say after a crash.
	had v1alpha1.TrafficStatus
	// most is the largest share of each tag in any account. It only ever delays: a
	// tag in it is not retired. After a difference nobody knows since when the
	// routes carry what they do, so that draining starts anew.
	most v1alpha1.TrafficStatus
	// least is the smallest share of each tag by the status and the annotations:
	// what rises above it is judged.
	least []v1alpha1.TagPercent
	// old are the routes that are not declared any more. Their shares count in none of
	// these accounts: they change no more, and what they lead to stays.
	old []oldRoute
}

func carried(in *Input, routes []*unstructured.Unstructured) carriage {
	old, ended := oldRoutes(in)
	if in.routed != nil {
		return carriage{had: *in.routed.DeepCopy(), most: *in.routed.DeepCopy(), least: in.routed.Weights, old: old}
	}
	c := carriage{old: old}
	if t := in.status().Traffic; t != nil {
		c.had = *t.DeepCopy()
	}
	c.most, c.least = *c.had.DeepCopy(), slices.Clone(c.had.Weights)
	var crash crashed
	for _, r := range routes {
		live := in.live(r)
		if live == nil {
			continue
		}
		weights, mirrors, ok := parseTraffic(live.GetAnnotations()[v1alpha1.AnnotationTraffic])
		if ok {
			c.most.Weights, c.most.Mirrors = larger(c.most.Weights, weights), larger(c.most.Mirrors, mirrors)
			c.least = smaller(c.least, weights)
		}
		rules := liveRules(live, in.Release.Component.Name, c.most.Weights)
		for _, rule := range rules {
			c.most.Weights = larger(c.most.Weights, rule)
		}
		if len(rules) > 0 {
			crash.add(in, r, live, rules, weights, mirrors)
		}
	}
	if !equalShares(c.most.Weights, c.had.Weights) || !equalShares(c.most.Mirrors, c.had.Mirrors) {
		now := roundUp(in.Now)
		c.had.RoutedAt, c.most.RoutedAt = &now, &now
	}
	if crash.seen && !crash.no && !equalShares(crash.weights, c.had.Weights) {
		c.had.Weights, c.had.Mirrors = crash.weights, crash.mirrors
	}
	if at := endedLast(in, old, ended); at != nil && (c.had.RoutedAt == nil || c.had.RoutedAt.Before(at)) {
		c.had.RoutedAt, c.most.RoutedAt = at, at
	}
	return c
}

// crashed finds out whether the routes were written and the status was not: then
// every route carries what its annotation says, the same in all of them, and none
// is one that this process wrote and somebody has edited since.
type crashed struct {
	seen, no         bool
	weights, mirrors []v1alpha1.TagPercent
}

func (c *crashed) add(in *Input, route, live *unstructured.Unstructured, rules [][]v1alpha1.TagPercent, weights, mirrors []v1alpha1.TagPercent) {
	if mark, known := in.Marks[inventory.IDOf(route)]; known && mark.Live != fingerprint(live) {
		c.no = true
	}
	for _, rule := range rules {
		c.no = c.no || !sameShares(rule, weights)
	}
	c.no = c.no || c.seen && !equalShares(c.weights, weights)
	c.seen, c.weights, c.mirrors = true, weights, mirrors
}

// liveRules are the shares of the tags in each rule of a route that sends
// requests to any of them. The references of a rule to our tags stand in the
// proportion of the tags' weights, whatever other references it has.
func liveRules(live *unstructured.Unstructured, component string, tags []v1alpha1.TagPercent) [][]v1alpha1.TagPercent {
	names := make([]string, len(tags))
	for i, s := range tags {
		names[i] = s.Tag
	}
	var out [][]v1alpha1.TagPercent
	for _, weights := range traffic.Carried(live, component, names) {
		total := int64(0)
		for _, weight := range weights {
			total += weight
		}
		if total == 0 {
			continue
		}
		var found []v1alpha1.TagPercent
		for _, tag := range slices.Sorted(maps.Keys(weights)) {
			found = append(found, v1alpha1.TagPercent{Tag: tag, Percent: int((weights[tag]*100 + total - 1) / total)})
		}
		out = append(out, found)
	}
	return out
}

// sameShares compares without order, and without tags that have no share.
func sameShares(a, b []v1alpha1.TagPercent) bool {
	within := func(a, b []v1alpha1.TagPercent) bool {
		return !slices.ContainsFunc(a, func(s v1alpha1.TagPercent) bool { return share(b, s.Tag) != s.Percent })
	}
	return within(a, b) && within(b, a)
}

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

// smaller is the smaller share of each tag that a and b both have.
func smaller(a, b []v1alpha1.TagPercent) []v1alpha1.TagPercent {
	out := slices.Clone(a)
	for i, s := range out {
		out[i].Percent = min(s.Percent, share(b, s.Tag))
	}
	return out
}
