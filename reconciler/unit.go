package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// capacityGrace is how long an autoscaler's minimum stays lifted after the
// routes have moved: the stabilization window in which an autoscaler does not
// scale down either.
const capacityGrace = 5 * time.Minute

// unit is a set of objects that run and become ready together: a tag, or all of
// an untagged release. What a tagged release has only once (service accounts,
// claims) is a unit too, one without traffic.
type unit struct {
	tag     string // "" when it is no tag
	digest  string
	shared  bool   // what a tagged release has only once
	service string // the Service whose endpoints take its requests
	objects []*unstructured.Unstructured
	scalers map[inventory.ID]*scaler

	listed             bool
	weight, mirror     int  // wanted, in percent
	hadWeight, hadCopy int  // what the routes carry
	sureWeight         int  // what they carry by all accounts: what a rise starts from
	mayHave            bool // they may carry or copy requests to it
	retired            bool
	broken             string // why the tag does not render, or lacks configuration; "" when all is well with it
	fault, faults      string // which of the two, of one tag and of several

	ready    bool   // can take the share it is meant to get
	relieves bool   // may take it though it lacks pods: it is served no better where it comes from
	serving  bool   // does its work, if it once was ready
	failed   bool   // will not become ready by itself
	message  string // why it is not ready
	remedy   string // what to do about it, where that is known
}

// rising reports whether the unit is to get more requests than it is sure to get.
func (u *unit) rising() bool { return u.weight > u.sureWeight }

// name is what messages call the unit.
func (u *unit) name() string {
	switch {
	case u.tag != "":
		return "tag " + u.tag
	case u.shared:
		return "the shared part"
	}
	return "the release"
}

// unitsOf divides the rendered objects. Routes are not among them.
func unitsOf(in *Input, rest []*unstructured.Unstructured, want envrepo.Traffic, c carriage) []*unit {
	if !in.Release.Tagged() {
		u := &unit{digest: in.Release.Digest, service: in.Release.Component.Name, objects: rest, listed: true, weight: 100, hadWeight: 100, sureWeight: 100}
		if len(c.had.Weights) > 0 {
			u.hadWeight, u.sureWeight = 0, 0 // its requests go to tags still
		}
		u.findScalers()
		return []*unit{u}
	}
	units := []*unit{{shared: true, objects: rest, listed: true}}
	for _, t := range in.Rendered.Tags {
		u := &unit{tag: t.Name, digest: t.Digest, service: in.Release.Component.Name + "-" + t.Name, objects: t.Objects}
		u.weight, u.listed = want.Weight(t.Name)
		u.mirror = percentOf(want.Mirrors, t.Name)
		u.hadWeight, u.hadCopy = share(c.had.Weights, t.Name), share(c.had.Mirrors, t.Name)
		u.sureWeight = share(c.least, t.Name)
		u.mayHave = share(c.most.Weights, t.Name) > 0 || share(c.most.Mirrors, t.Name) > 0
		if t.Broken != nil {
			u.breakUnit(in, t.Broken)
		}
		units = append(units, u)
	}
	for _, u := range units {
		u.findScalers()
	}
	return units
}

func (u *unit) findScalers() {
	u.scalers = map[inventory.ID]*scaler{}
	for _, o := range u.objects {
		if s := asScaler(o); s != nil {
			u.scalers[s.target] = s
		}
	}
}

// desired are the unit's objects in the form they should have now. floors lifts
// the minimum of autoscalers, by workload.
func (u *unit) desired(floors map[inventory.ID]lift) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, 0, len(u.objects))
	for _, o := range u.objects {
		if u.retired {
			if o = retired(o); o != nil {
				out = append(out, o)
			}
			continue
		}
		if s := asScaler(o); s != nil {
			o = s.withLift(floors[s.target])
		} else if u.scalers[inventory.IDOf(o)] != nil {
			o = withoutReplicas(o)
		}
		out = append(out, o)
	}
	return out
}

// backends are the workloads behind the unit's Service; all of them when it has
// none.
func (u *unit) backends() []*unstructured.Unstructured {
	var selector labels.Selector
	if o := u.ownService(); o != nil {
		s, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector")
		selector = labels.SelectorFromSet(s)
	}
	var found []*unstructured.Unstructured
	for _, o := range u.objects {
		if !isWorkload(o) {
			continue
		}
		template, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "labels")
		if selector == nil || selector.Matches(labels.Set(template)) {
			found = append(found, o)
		}
	}
	return found
}

// ownService is the Service that requests reach the unit through; nil when it has
// none, or one without a selector.
func (u *unit) ownService() *unstructured.Unstructured {
	for _, o := range u.objects {
		if o.GroupVersionKind().GroupKind() == (schema.GroupKind{Kind: "Service"}) && o.GetName() == u.service {
			if selector, _, _ := unstructured.NestedMap(o.Object, "spec", "selector"); len(selector) > 0 {
				return o
			}
		}
	}
	return nil
}

// readyReplicas is the number of ready pods that serve the unit's requests.
func (u *unit) readyReplicas(in *Input) int64 {
	var n int64
	for _, o := range u.backends() {
		_, ready := health.Replicas(in.live(o))
		n += ready
	}
	return n
}

// assess fills in how the unit is doing. desired are the objects in the form they
// should have.
func (u *unit) assess(in *Input, desired []*unstructured.Unstructured, r required) {
	if u.broken != "" {
		u.assessBroken(in)
		return
	}
	u.ready, u.serving = true, true
	if u.retired {
		u.ready, u.serving = u.tag == "", false
		return
	}
	var reasons, short []string
	for _, o := range desired {
		if id := inventory.IDOf(o); in.Refused[id] != nil {
			// What runs of it runs on, but an untagged release is not routed anew.
			u.ready, u.serving = false, u.serving && u.tag != "" && in.live(o) != nil && (!isWorkload(o) || in.Health.Serving(in.live(o)))
			reasons = append(reasons, id.Display()+" was refused")
			continue
		}
		if kind := o.GroupVersionKind().GroupKind(); !in.Health.Judged(kind) || asScaler(o) != nil && !in.Health.Has(kind) {
			continue
		}
		if !in.synced(o) {
			u.ready, u.serving = false, false
			reasons = append(reasons, inventory.IDOf(o).Display()+" is being applied")
			continue
		}
		state := in.judge(o)
		if state.Status == health.Current {
			continue
		}
		u.ready = false
		u.failed = u.failed || state.Status == health.Failed
		u.serving = u.serving && in.Health.Serving(in.live(o))
		if r.relief && u.short(in, o) {
			short = append(short, describe(in, o, state))
		} else {
			reasons = append(reasons, describe(in, o, state))
		}
	}
	if len(reasons) == 0 {
		reasons = u.lacks(in, r)
		u.relieves = len(short) > 0 && len(reasons) == 0
	}
	reasons = append(reasons, short...)
	slices.Sort(reasons)
	u.message = strings.Join(reasons, "; ")
}

// lacks lists what keeps a unit whose workloads are Current from taking its
// share.
func (u *unit) lacks(in *Input, r required) (reasons []string) {
	lack := func(format string, args ...any) {
		u.ready = false
		reasons = append(reasons, fmt.Sprintf(format, args...))
	}
	backends := u.backends()
	if u.shared || len(backends) == 0 || in.foreseen {
		return nil
	}
	for _, o := range backends {
		_, ready := health.Replicas(in.live(o))
		least := u.least(in, o)
		if ready < least {
			u.serving = u.serving && ready > 0
			lack("%s: %d of %d replicas ready", inventory.IDOf(o).Display(), ready, least)
		}
	}
	switch ready, most := u.readyReplicas(in), u.capacity(); {
	case len(reasons) > 0 || ready >= r.ready:
	case r.ready > most:
		var what string
		what, u.remedy = u.bound(r)
		lack("its share needs %d replicas, and %s allows %d", r.ready, what, most)
	default:
		lack("%d of the %d replicas that its share needs are ready", ready, r.ready)
	}
	if service := u.ownService(); service != nil && u.tag != "" {
		switch {
		case !in.synced(service):
			lack("Service/%s is being applied", u.service)
		case in.Endpoints[u.service] == 0 && !u.idle(in):
			u.serving = false
			lack("Service/%s has no ready endpoint", u.service)
		}
	}
	return reasons
}

// describe is the state of one object with the pod that is to blame.
func describe(in *Input, o *unstructured.Unstructured, state health.State) string {
	id := inventory.IDOf(o)
	text := id.Display() + ": " + state.Message
	if problem := in.Problems[id]; problem != "" {
		text += ": " + problem
	}
	return text
}

func percentOf(weights []envrepo.Weight, tag string) int {
	for _, w := range weights {
		if w.Tag == tag {
			return w.Percent
		}
	}
	return 0
}

func share(shares []v1alpha1.TagPercent, tag string) int {
	for _, s := range shares {
		if s.Tag == tag {
			return s.Percent
		}
	}
	return 0
}
