package reconciler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/render"
)

// life is a release with three tags to which things happen at random. Tag green
// has an autoscaler; the others have two replicas.
type life struct {
	*world
	rand    *rand.Rand
	weights string
	digests map[string]int
	broken  map[string]bool
	sick    map[string]bool // its pods do not become ready
	commits int
	events  []string
}

var lifeTags = []string{"blue", "green", "red"}

const greenMinimum = 3

func (l *life) note(format string, args ...any) {
	l.events = append(l.events, fmt.Sprintf(format, args...))
}

// push commits what stands in the repository now.
func (l *life) push() {
	l.commits++
	l.commit(l.commits)
	var tags []render.TagObjects
	for _, name := range lifeTags {
		if l.broken[name] {
			tags = append(tags, render.TagObjects{Name: name, Broken: errors.New(name + " is broken")})
			continue
		}
		image := fmt.Sprintf("%s-%d", name, l.digests[name])
		extra := []*unstructured.Unstructured{configMap("api-"+name+"-"+image, image)}
		if name == "green" {
			extra = append(extra, hpa("api-green", greenMinimum, 10))
		}
		tags = append(tags, tag(name, image, 2, extra...))
	}
	l.tagged(l.weights, sharedObjects(), tags...)
}

// happen does one random thing.
func (l *life) happen() {
	name := lifeTags[l.rand.IntN(len(lifeTags))]
	switch l.rand.IntN(8) {
	case 0:
		l.broken[name] = true
		l.note("%s breaks", name)
		l.push()
	case 1:
		clear(l.broken)
		l.note("all are repaired")
		l.push()
	case 2, 3:
		l.weights = l.someWeights()
		l.note("weights %s", l.weights)
		l.push()
	case 4:
		l.digests[name]++
		l.note("%s gets another digest", name)
		l.push()
	case 5:
		l.sick[name] = !l.sick[name]
		l.note("%s sick=%t", name, l.sick[name])
	case 6:
		l.restart()
		l.note("restart")
	case 7:
		if route := l.in.live(httpRoute()); route != nil {
			delete(l.in.Live, idOf(route))
			l.note("the route is deleted")
		}
	}
}

// someWeights lists one to three of the tags.
func (l *life) someWeights() string { return l.weightsOf(slices.Clone(lifeTags)) }

// weightsOf lists some of the given tags, at least one.
func (l *life) weightsOf(tags []string) string {
	l.rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
	tags = tags[:1+l.rand.IntN(len(tags))]
	left := 100
	var parts []string
	for i, name := range tags {
		percent := left
		if i < len(tags)-1 {
			percent = 10 * l.rand.IntN(left/10+1)
		}
		left -= percent
		parts = append(parts, fmt.Sprintf("%s=%d", name, percent))
	}
	return strings.Join(parts, " ")
}

// kubelet brings the pods of the tags that are not sick up, and the others down.
func (l *life) kubelet() {
	for _, name := range lifeTags {
		switch {
		case l.in.live(deployment("api-"+name, "", 0)) == nil:
		case l.sick[name]:
			l.down("api-"+name, "pod is sick")
		default:
			l.up("api-" + name)
		}
	}
}

// whole reports whether a tag is as declared, with all of its pods ready.
func (l *life) whole(name string) bool {
	if l.broken[name] {
		return false
	}
	for _, t := range l.in.Rendered.Tags {
		if t.Name == name {
			_, ready := health.Replicas(l.in.live(t.Objects[0]))
			return ready > 0 && l.in.Endpoints["api-"+name] > 0
		}
	}
	return false
}

// passChecked is a pass of which every plan is held against what must always
// hold.
func (l *life) passChecked(fail func(format string, args ...any)) Plan {
	defer l.hashing()()
	l.in.routed = nil
	for round := 0; ; round++ {
		plan := Decide(l.in)
		l.check(plan, fail)
		if !plan.Writes() {
			l.report(plan.Verdict)
			return plan
		}
		if round > 8 {
			fail("the plan does not settle:\n%s", plan)
		}
		l.execute(plan)
	}
}

func (l *life) check(p Plan, fail func(format string, args ...any)) {
	carried := l.in.status().Traffic
	if l.in.routed != nil {
		carried = l.in.routed
	}
	for _, s := range p.Steps {
		if s.Action == ActionRoute && s.traffic != nil && carried != nil {
			for _, w := range s.traffic.Weights {
				if w.Percent > share(carried.Weights, w.Tag) && !l.whole(w.Tag) {
					fail("the weight of %s, which is not ready, rises:\n%s", w.Tag, p)
				}
			}
		}
		for _, i := range s.Items {
			for name := range l.broken {
				if l.broken[name] && strings.HasPrefix(i.Object.GetName(), "api-"+name) {
					fail("%s of %s, which is broken:\n%s", s.Action, name, p)
				}
			}
		}
	}
}

// kept reports a live object of a broken tag that the inventory has lost.
func (l *life) kept() string {
	for id := range l.in.Live {
		for name := range l.broken {
			if l.broken[name] && strings.HasPrefix(id.Name, "api-"+name) {
				if _, ok := l.in.Inventory[id]; !ok {
					return id.Display()
				}
			}
		}
	}
	return ""
}

// free reports whether nothing keeps the wanted weights from the routes: every
// tag that rises is as declared and ready. What is wrong with the others does not
// matter. A tag with an autoscaler may have to grow first.
func (l *life) free() bool {
	carried := l.in.status().Traffic
	if carried == nil {
		return false
	}
	for _, w := range l.in.Release.Traffic.Weights {
		if w.Percent <= share(carried.Weights, w.Tag) {
			continue
		}
		if w.Tag == "green" || !l.whole(w.Tag) || !l.unchanged(w.Tag) {
			return false
		}
	}
	return true
}

// unchanged reports whether nothing of a tag has to be applied.
func (l *life) unchanged(name string) bool {
	for _, t := range l.in.Rendered.Tags {
		if t.Name == name && slices.ContainsFunc(t.Objects, func(o *unstructured.Unstructured) bool { return !l.in.synced(o) }) {
			return false
		}
	}
	return true
}

// TestLivesOfBrokenTags lets releases live through random events and asserts
// what DESIGN promises of tags, whichever of them are broken: no weight rises on
// one that is broken or not ready, nothing of a broken one is touched or
// forgotten, lowering goes through in one pass, unlisted healthy tags end at no
// replicas, and relisted ones return at their autoscaler's minimum.
func TestLivesOfBrokenTags(t *testing.T) {
	t.Parallel()
	const lives, length = 15, 60
	for seed := range uint64(lives) {
		l := &life{world: newWorld(t), rand: rand.New(rand.NewPCG(seed, 0)), weights: "blue=100 green=0",
			digests: map[string]int{}, broken: map[string]bool{}, sick: map[string]bool{}}
		fail := func(format string, args ...any) {
			t.Helper()
			require.FailNow(t, fmt.Sprintf(format, args...), "seed %d after: %s", seed, strings.Join(l.events, "; "))
		}
		l.push()
		l.passChecked(fail)
		for range length {
			retired := l.replicas("green") == 0
			l.happen()
			free := l.free()
			plan := l.passChecked(fail)
			if free && !equalShares(withoutZero(l.carries()), withoutZero(sharesOf(l.in.Release.Traffic.Weights))) {
				fail("lowering did not go through:\n%s", plan)
			}
			if _, listed := l.in.Release.Traffic.Weight("green"); retired && listed && !l.broken["green"] && l.replicas("green") >= 0 && l.replicas("green") < greenMinimum {
				fail("green returned with %d replicas:\n%s", l.replicas("green"), plan)
			}
			l.kubelet()
			if l.rand.IntN(2) == 0 {
				l.settle(fail)
			}
			if lost := l.kept(); lost != "" {
				fail("the inventory has lost %s", lost)
			}
		}
	}
}

// settle lets time pass until nothing changes any more, and looks at the tags
// that are not listed.
func (l *life) settle(fail func(format string, args ...any)) {
	var plan Plan
	for range 6 {
		l.after(time.Minute)
		plan = l.passChecked(fail)
		l.kubelet()
	}
	for _, name := range lifeTags {
		_, listed := l.in.Release.Traffic.Weight(name)
		held := plan.Verdict.State == StateHeld || share(l.carries(), name) > 0
		if !listed && !l.broken[name] && !held && l.replicas(name) > 0 {
			fail("%s is not listed and runs:\n%s", name, plan)
		}
	}
}

// replicas are what a tag's Deployment asks for, -1 when there is none.
func (l *life) replicas(name string) int64 {
	live := l.in.live(deployment("api-"+name, "", 0))
	if live == nil {
		return -1
	}
	n, _, _ := nestedReplicas(live)
	return n
}

func withoutZero(shares []v1alpha1.TagPercent) []v1alpha1.TagPercent {
	return slices.DeleteFunc(slices.Clone(shares), func(s v1alpha1.TagPercent) bool { return s.Percent == 0 })
}

// carries are the weights that the status says the routes have.
func (l *life) carries() []v1alpha1.TagPercent {
	if t := l.in.status().Traffic; t != nil {
		return t.Weights
	}
	return nil
}
