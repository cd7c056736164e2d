package reconciler

import (
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
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// underLoad is a release with three tags, each with an autoscaler and a disruption
// budget, that serve a load which takes so many pods in all.
type underLoad struct {
	*life
	load   int64
	served map[string]time.Time // when the routes last carried the tag, mirrors included
	most   map[string]int       // the most pods of each tag, as last declared
	gone   string               // the tag without a folder
	full   bool                 // the cluster has no room for another pod
	left   int                  // how often tags that nobody answers at were left for one that lacks pods
	capped int                  // how often a tag was held because it may not have the pods for its share
	fail   func(format string, args ...any)
}

const leastPods, mostPods = 2, 100

func (l *underLoad) push() {
	l.commits++
	l.commit(l.commits)
	var tags []render.TagObjects
	for _, name := range l.folders() {
		tags = append(tags, tag(name, fmt.Sprintf("%s-%d", name, l.digests[name]), leastPods, hpa("api-"+name, leastPods, l.most[name]), budget("api-"+name)))
	}
	l.tagged(l.weights, sharedObjects(), tags...)
}

// folders are the tags that the repository has.
func (l *underLoad) folders() []string {
	return slices.DeleteFunc(slices.Clone(lifeTags), func(name string) bool { return name == l.gone })
}

func budget(name string) *unstructured.Unstructured {
	return object(fmt.Sprintf("{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: %[1]s}, spec: {minAvailable: 1, selector: {matchLabels: {app.kubernetes.io/instance: %[1]s}}}}", name))
}

// leave has who carries most die, and a commit give all of it to another, in a cluster
// that may have no room for what that one needs, or to one that may not have it.
func (l *underLoad) leave() {
	carried := l.carries()
	if len(carried) == 0 {
		return
	}
	most := slices.MaxFunc(carried, func(a, b v1alpha1.TagPercent) int { return a.Percent - b.Percent }).Tag
	others := slices.DeleteFunc(l.folders(), func(name string) bool { return name == most || l.sick[name] })
	if len(others) == 0 {
		return
	}
	l.sick[most], l.full = true, l.rand.IntN(3) > 0
	to := others[l.rand.IntN(len(others))]
	l.weights, l.most[to] = to+"=100", l.someMost()
	l.note("%s dies and is left for %s, which may have %d pods, full=%t", most, to, l.most[to], l.full)
	l.pods()
	l.push()
}

// someMost is a maximum, too small for much of the load now and then.
func (l *underLoad) someMost() int { return []int{leastPods, 5, 10, mostPods}[l.rand.IntN(4)] }

// remove deletes the folder of a tag that carries requests, and gives them to the others,
// which may not have as many pods as that takes.
func (l *underLoad) remove() {
	carried := withoutZero(l.carries())
	if len(carried) == 0 {
		return
	}
	l.gone = carried[l.rand.IntN(len(carried))].Tag
	l.weights = l.weightsOf(l.folders())
	l.note("the folder of %s is deleted, weights %s", l.gone, l.weights)
	l.push()
}

// happen does one random thing.
func (l *underLoad) happen() {
	name := lifeTags[l.rand.IntN(len(lifeTags))]
	switch l.rand.IntN(12) {
	case 10:
		l.remove()
	case 11:
		if name != l.gone {
			l.most[name] = l.someMost()
			l.note("%s may have %d pods", name, l.most[name])
			l.push()
		}
	case 8:
		l.leave()
	case 9:
		l.full = !l.full && l.rand.IntN(3) == 0
		l.note("full=%t", l.full)
	case 0, 1, 2:
		l.gone = ""
		l.weights = l.someWeights()
		l.note("weights %s", l.weights)
		l.push()
	case 3:
		l.digests[name]++
		l.note("%s gets another digest", name)
		l.push()
	case 4:
		l.sick[name] = !l.sick[name] && l.rand.IntN(2) == 0
		l.note("%s sick=%t", name, l.sick[name])
	case 5:
		l.restart()
		l.note("restart")
	case 6:
		d := time.Duration(l.rand.IntN(20)) * time.Second
		l.after(d)
		l.note("%s pass", d)
	case 7:
		l.after(10 * time.Minute)
		l.note("10m pass")
	}
}

// pods has the autoscalers ask for what the load needs, and some pods come up: not
// all at once.
func (l *underLoad) pods() {
	for _, name := range lifeTags {
		if l.in.live(deployment("api-"+name, "", 0)) == nil {
			continue
		}
		weight := int64(share(l.carries(), name))
		wanted := l.replicas(name)
		if scaler := l.in.live(hpa("api-"+name, leastPods, mostPods)); scaler != nil && wanted > 0 && weight > 0 {
			// An autoscaler does nothing at no replicas. It grows at once and shrinks later.
			least, _, _ := unstructured.NestedInt64(scaler.Object, "spec", "minReplicas")
			most, _, _ := unstructured.NestedInt64(scaler.Object, "spec", "maxReplicas")
			if right := min(most, max(least, (l.load*weight+99)/100)); right > wanted || right < wanted && l.rand.IntN(4) == 0 {
				live := l.deployment("api-" + name)
				setReplicas(live, right)
				own(live, fieldManager, false)
				own(live, scaleManager, false)
				l.bump(live, true)
				wanted = right
			}
		}
		live := l.deployment("api-" + name)
		_, ready := health.Replicas(live)
		switch {
		case l.sick[name]:
			ready = 0
		case ready < wanted && !(l.full && ready >= leastPods):
			ready += 1 + l.rand.Int64N(wanted-ready)
		}
		l.status(live, wanted, wanted, min(ready, wanted))
	}
}

// passUnderLoad is a pass of which every plan is held against what must always hold.
func (l *underLoad) passUnderLoad() Plan {
	defer l.hashing()()
	l.in.routed = nil
	for round := 0; ; round++ {
		plan := Decide(l.in)
		for _, step := range plan.Steps {
			l.checkRouted(plan, step)
			l.checkScaledDown(plan, step)
		}
		if !plan.Writes() {
			l.report(plan.Verdict)
			l.checkLeft(plan)
			l.remember()
			return plan
		}
		if round > 8 {
			l.fail("the plan does not settle:\n%s", plan)
		}
		l.execute(plan)
		l.remember()
	}
}

// remember notes which tags the routes carry now.
func (l *underLoad) remember() {
	carried := l.in.status().Traffic
	if l.in.routed != nil {
		carried = l.in.routed
	}
	if carried == nil {
		return
	}
	for _, name := range lifeTags {
		if share(carried.Weights, name) > 0 || share(carried.Mirrors, name) > 0 {
			l.served[name] = l.in.Now
		}
	}
}

// losses are what a change of weights takes away, in percent, how much of that nobody
// answers, the pods for all of the load, were it served as thinly as by no losing tag, and
// the most pods that a losing tag may have at which somebody answers.
func (l *underLoad) losses(had, want []v1alpha1.TagPercent) (lost, silent int, thin int64, most int) {
	for _, s := range had {
		less := max(0, s.Percent-share(want, s.Tag))
		if less == 0 {
			continue
		}
		lost += less
		pods := int64(l.in.Endpoints["api-"+s.Tag])
		if pods == 0 {
			silent += less
			continue
		}
		thin, most = max(thin, (pods*100+int64(s.Percent)-1)/int64(s.Percent)), max(most, l.most[s.Tag])
	}
	return lost, silent, thin, most
}

// shown is what the load takes by what the cluster tells: an autoscaler at its maximum
// does not tell more, whatever it would have. found is false where none has grown.
func (l *underLoad) shown(had []v1alpha1.TagPercent) (load int64, found bool) {
	load = l.load
	for _, s := range had {
		scaler, live := l.in.live(hpa("api-"+s.Tag, leastPods, mostPods)), l.in.live(deployment("api-"+s.Tag, "", 0))
		if wanted, ready := health.Replicas(live); s.Percent > 0 && ready > 0 && scaler != nil {
			least, _, _ := unstructured.NestedInt64(scaler.Object, "spec", "minReplicas")
			most, _, _ := unstructured.NestedInt64(scaler.Object, "spec", "maxReplicas")
			found = found || wanted > least && !scaledByUs(live)
			if wanted >= most {
				load = min(load, most*100/int64(s.Percent))
			}
		}
	}
	return load, found
}

// checkRouted demands that a tag gets no more requests that somebody answers than its
// ready pods can carry, or than the pods do that they are taken from. A tag that may not
// have as many gets them with those it may have, unless an autoscaler has found the number
// and a losing tag may have more, its folder being there or not. For what reaches nobody
// any ready pod is better than none.
func (l *underLoad) checkRouted(p Plan, s Step) {
	carried := l.in.status().Traffic
	if s.Action != ActionRoute || s.traffic == nil || carried == nil {
		return
	}
	lost, silent, thin, most := l.losses(carried.Weights, s.traffic.Weights)
	load, found := l.shown(carried.Weights)
	for _, w := range s.traffic.Weights {
		had := share(carried.Weights, w.Tag)
		if w.Percent <= had {
			continue
		}
		need := int64(1)
		if answered := (w.Percent - had) * (lost - silent); answered > 0 {
			need = (load*int64(had*lost+answered) + int64(100*lost) - 1) / int64(100*lost)
			if !found || l.most[w.Tag] >= most {
				need = min(need, int64(l.most[w.Tag]))
			}
			need = max(1, min(need, (thin*int64(w.Percent)+99)/100))
		}
		_, ready := health.Replicas(l.in.live(deployment("api-"+w.Tag, "", 0)))
		if lost > 0 && silent == lost && ready*100 < l.load*int64(w.Percent) {
			l.left++
		}
		if ready < need {
			l.fail("%s gets %d %% of a load of %d pods with %d ready pods, and needs %d:\n%s", w.Tag, w.Percent, load, ready, need, p)
		}
	}
}

// checkLeft demands that the routes do not stay where nobody answers, once whoever is
// to take over runs what is declared in the number that it has to have at least.
func (l *underLoad) checkLeft(p Plan) {
	carried := l.in.status().Traffic
	if p.Verdict.State != StateHeld || carried == nil {
		return
	}
	if strings.Contains(p.Verdict.Message, " allows ") {
		l.capped++
	}
	want := sharesOf(l.in.Release.Traffic.Weights)
	if lost, silent, _, _ := l.losses(carried.Weights, want); lost == 0 || silent < lost {
		return
	}
	for _, s := range want {
		if s.Percent <= share(carried.Weights, s.Tag) {
			continue
		}
		live := l.in.live(deployment("api-"+s.Tag, "", 0))
		if _, ready := health.Replicas(live); ready < leastPods || !health.RolledOut(live) {
			return
		}
	}
	l.fail("nobody answers where the routes stay at %s:\n%s", l.in.status().Summary.Traffic, p)
}

// checkScaledDown demands that a tag is scaled to zero only when the routes have left it
// for the drain delay.
func (l *underLoad) checkScaledDown(p Plan, s Step) {
	for _, i := range s.Items {
		replicas, found, _ := unstructured.NestedInt64(i.Object.Object, "spec", "replicas")
		name := strings.TrimPrefix(i.Object.GetName(), "api-")
		if !isWorkload(i.Object) || !found || replicas > 0 || s.Action == ActionScale {
			continue
		}
		if last, ever := l.served[name]; ever && l.in.Now.Sub(last) < l.in.Release.Environment.Traffic.Drain && running(l.in.live(i.Object)) {
			l.fail("%s is scaled to zero %s after the routes carried it:\n%s", name, l.in.Now.Sub(last), p)
		}
	}
}

// settleRetired lets time pass and demands of the tags that are not listed that they have
// no pods and no autoscaler that could ask for some, and that their budget, which holds
// nothing back at no pods, stays as it was.
func (l *underLoad) settleRetired() {
	var plan Plan
	for range 20 { // pods come up, routes move, others are drained, and then it is their turn
		l.after(time.Minute)
		plan = l.passUnderLoad()
		l.pods()
	}
	for _, name := range lifeTags {
		_, listed := l.in.Release.Traffic.Weight(name)
		if listed || name == l.gone || plan.Verdict.State == StateHeld || share(l.carries(), name) > 0 {
			continue
		}
		if n := l.replicas(name); n != 0 {
			l.fail("%s is not listed and has %d replicas:\n%s", name, n, plan)
		}
		if l.in.live(hpa("api-"+name, leastPods, mostPods)) != nil {
			l.fail("%s is not listed and has an autoscaler:\n%s", name, plan)
		}
		kept := l.in.live(budget("api-" + name))
		if kept == nil || kept.GetGeneration() != 1 {
			l.fail("the disruption budget of %s is not as it was:\n%s", name, plan)
		}
		if _, ours := l.in.Inventory[inventory.IDOf(kept)]; !ours {
			l.fail("the disruption budget of %s has left the inventory", name)
		}
	}
}

// TestLivesUnderLoad lets releases with autoscalers live through random weights, builds,
// sickness, restarts and pods that come up one by one, and asserts what keeps requests
// from being lost: no tag, a relisted one least of all, gets a share that its ready pods
// cannot carry, not where its maximum is too small, nor where the commit deletes the
// folder of the tag that has it; tags that nobody answers at are left without a wait,
// though there is no room for another pod; none is scaled to zero within the drain delay
// of its last request; and one that is not listed ends with no pods and nothing that asks
// for any.
func TestLivesUnderLoad(t *testing.T) {
	const lives, length = 8, 50
	routed, left, capped := 0, 0, 0
	for seed := range uint64(lives) {
		r := rand.New(rand.NewPCG(seed, 7))
		l := &underLoad{load: 2 + r.Int64N(30), served: map[string]time.Time{}, most: map[string]int{},
			life: &life{world: newWorld(t), rand: r, weights: "blue=100", digests: map[string]int{}, broken: map[string]bool{}, sick: map[string]bool{}}}
		l.fail = func(format string, args ...any) {
			t.Helper()
			require.FailNow(t, fmt.Sprintf(format, args...), "seed %d after: %s", seed, strings.Join(l.events, "; "))
		}
		for _, name := range lifeTags {
			l.most[name] = mostPods
		}
		l.push()
		for range 4 {
			l.passUnderLoad()
			l.pods()
		}
		for range length {
			before := l.in.status().Summary.Traffic
			l.happen()
			l.passUnderLoad()
			l.pods()
			if l.rand.IntN(6) == 0 {
				l.settleRetired()
			}
			if l.in.status().Summary.Traffic != before {
				routed++
			}
		}
		left, capped = left+l.left, capped+l.capped
	}
	require.Greater(t, routed, 30, "hardly anything was routed, so hardly anything was tried")
	require.Greater(t, left, 10, "hardly any tag was left because nobody answered")
	require.Greater(t, capped, 10, "hardly any maximum was too small")
}
