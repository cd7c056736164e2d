package reconciler

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// Dependency is a release that has to be ready, at what the repository wants of
// it, before a change of another is applied.
type Dependency struct {
	Name    string
	Ready   bool
	Stalled bool   // it will not become ready by itself
	Message string // why it is not ready
}

// dependencies says how the releases are doing that another comes after: the
// environment's own, which must be applied, and those of dependsOn, which must
// be ready. One that is not deployed to this environment, or is leaving it, orders
// nothing here.
func (e *Engine) dependencies(env *environment, repo *envrepo.Repo, r envrepo.Release) (out []Dependency, circle []string) {
	if r.Name == envrepo.EnvironmentRelease {
		return nil, nil
	}
	env.mu.Lock()
	defer env.mu.Unlock()
	names := env.ordering(r.Name, r.Component.DependsOn)
	if rel := env.releases[r.Name]; rel != nil {
		env.comesAfter(rel, append(names, envrepo.EnvironmentRelease))
	}
	if own := env.releases[envrepo.EnvironmentRelease]; own != nil && own.inScope() {
		out = append(out, own.asDependency(true))
	}
	for _, name := range names {
		out = append(out, env.releases[name].asDependency(false))
	}
	return out, circleFrom(r.Name, func(name string) []string {
		if name == r.Name {
			return names
		}
		c, err := repo.Component(name)
		if err != nil {
			return nil // it says so itself
		}
		return env.ordering(name, c.DependsOn)
	})
}

// ordering are those of a component's dependencies that are passed over here.
func (env *environment) ordering(name string, dependsOn []string) []string {
	return slices.DeleteFunc(slices.Sorted(slices.Values(dependsOn)), func(other string) bool {
		dep := env.releases[other]
		return dep == nil || other == name || !dep.inScope()
	})
}

// circleFrom is the way from a release over its dependencies back to itself; nil
// when there is none. Each is looked at once.
func circleFrom(start string, needs func(string) []string) []string {
	seen := map[string]bool{}
	var walk func(way []string) []string
	walk = func(way []string) []string {
		for _, next := range needs(way[len(way)-1]) {
			if next == start {
				return append(way, next)
			}
			if !seen[next] {
				seen[next] = true
				if circle := walk(append(slices.Clip(way), next)); circle != nil {
					return circle
				}
			}
		}
		return nil
	}
	return walk([]string{start})
}

// dependencies hold back what has changed, and only that: a release whose files
// are the ones last applied does not wait for anything, and nor does leaving a tag.
func (d *decision) dependencies() bool {
	in := d.in
	unchanged := in.Hash != "" && in.Hash == in.status().LastAppliedHash
	waiting := len(in.Circle) > 0 || slices.ContainsFunc(in.Dependencies, func(dep Dependency) bool { return !dep.Ready })
	if unchanged || !waiting || !d.holdsBack() {
		return false
	}
	d.askForgotten()
	if len(in.Circle) > 0 {
		d.leave()
		defer d.forgetEnded()
		return d.stop(Verdict{State: StateFailed, Reason: v1alpha1.ReasonDependencyNotReady, Stalled: true, Message: circleText(in.Circle)})
	}
	var waits, names []string
	stalled := false
	for _, dep := range in.Dependencies {
		if !dep.Ready {
			waits, names = append(waits, "release "+dep.Name+" is not ready: "+dep.Message), append(names, dep.Name)
			stalled = stalled || dep.Stalled
		}
	}
	slices.Sort(waits)
	d.leave()
	// How long that may take is for the dependencies to say: whoever waits for them
	// has not started yet, however many they are in a row.
	defer d.forgetEnded()
	return d.stop(Verdict{State: StateHeld, Reason: v1alpha1.ReasonDependencyNotReady, Message: strings.Join(waits, "; "),
		Reconciling: !stalled, Stalled: stalled, After: later(recheckDependency, d.untilRetired()), attempt: behind(in), waitsFor: names})
}

// holdsBack sets aside what dependencies hold back, and reports whether that is
// anything: the objects of units that have changed. Routes that carry weights move
// as the units allow, since whoever is not as declared is not ready; a tag that is
// scaled to zero needs nobody; and the lift of an autoscaler is no change.
func (d *decision) holdsBack() bool {
	found := !d.weighted() && slices.ContainsFunc(d.routes.objects, func(o *unstructured.Unstructured) bool { return !d.in.synced(o) })
	for _, u := range d.units {
		for _, o := range d.objects[u] {
			if d.in.synced(o) || u.retired && (isWorkload(o) || isCronJob(o)) || d.onlyLifted(o) {
				continue
			}
			found = true
			d.barred[inventory.IDOf(o)] = o.GroupVersionKind().Version
		}
	}
	return found
}

// askForgotten has it found out which of the objects that are held back are as
// declared already. A process that has just started does not know, and no weight
// could be lowered: the tag that takes it over would not be ready.
func (d *decision) askForgotten() {
	if !d.weighted() {
		return
	}
	for _, u := range d.units {
		for _, o := range d.objects[u] {
			id := inventory.IDOf(o)
			_, known := d.in.Marks[id]
			_, asked := d.in.Tried[id]
			if _, held := d.barred[id]; held && !known && !asked && d.in.Live[id] != nil {
				d.plan.trials = append(d.plan.trials, trial{object: o, asks: true})
			}
		}
	}
}

// weighted reports whether the routes have weights that can be lowered.
func (d *decision) weighted() bool { return d.in.Release.Tagged() && len(d.routes.had.Weights) > 0 }

// onlyLifted reports whether an autoscaler is as it was applied but for the lift
// of its minimum.
func (d *decision) onlyLifted(o *unstructured.Unstructured) bool {
	s, id := asScaler(o), inventory.IDOf(o)
	for _, u := range d.units {
		if s == nil || u.scalers[s.target] == nil || inventory.IDOf(u.scalers[s.target].object) != id {
			continue
		}
		s = u.scalers[s.target] // as rendered
		mark, applied := d.in.Marks[id]
		live := d.in.Live[id]
		return applied && live != nil && d.in.holds(mark, live) && mark.Rendered == hashOf(s.withLift(s.liveLift(live)))
	}
	return false
}

// leave plans what goes on while changes are held back: the routes, unless they
// need something that is, and what they have left.
func (d *decision) leave() {
	missing := slices.ContainsFunc(d.units, func(u *unit) bool {
		service := u.ownService()
		return u.listed && service != nil && d.in.live(service) == nil
	})
	if d.weighted() { // the capacity for it
		d.scale()
		d.apply()
	}
	if d.weighted() && d.routes.held == "" && !missing && d.in.Inventory.Covers(inventory.Of(d.routes.objects...)) {
		d.route()
	}
	d.retire()
}

// untilRetired is how long a tag that the routes have left still answers requests;
// 0 when nobody waits for that.
func (d *decision) untilRetired() time.Duration {
	if !d.retiring {
		return 0
	}
	return drained(d.in, d.routes.had.RoutedAt)
}

// recheckDependency is a safety net: a dependency that becomes ready calls.
const recheckDependency = 5 * time.Minute

// behind is since when a release waits for others. The time that it may take to
// become ready itself begins only then.
func behind(in *Input) *v1alpha1.Attempt {
	hash := "behind:" + in.Hash
	if last := in.status().Attempt; last != nil && last.Hash == hash {
		return last
	}
	return &v1alpha1.Attempt{Hash: hash, Since: metav1.NewTime(in.Now.Truncate(time.Second))}
}

func circleText(circle []string) string { return "depends on itself: " + strings.Join(circle, " → ") }

// comesAfter remembers whom a release comes after, to be called by them. That is
// done before they are asked: one that gets ready meanwhile calls, too.
func (env *environment) comesAfter(r *release, names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.after, names) {
		env.unfollow(r)
		for _, name := range names {
			if env.followers[name] == nil {
				env.followers[name] = map[*release]bool{}
			}
			env.followers[name][r] = true
		}
	}
	r.after, r.passing = names, true
}

// unfollow forgets whom a release comes after. Both are locked.
func (env *environment) unfollow(r *release) {
	for _, name := range r.after {
		if delete(env.followers[name], r); len(env.followers[name]) == 0 {
			delete(env.followers, name)
		}
	}
	r.after = nil
}

// waiting are the releases of the environment that wait for one whose bearing has
// changed, or may just be about to.
func (env *environment) waiting(changed Key) []Key {
	env.mu.Lock()
	defer env.mu.Unlock()
	var keys []Key
	for r := range env.followers[changed.Release] {
		if r.summon() {
			keys = append(keys, r.key)
		}
	}
	if changed.Release == envrepo.EnvironmentRelease {
		for _, r := range env.releases {
			if r.unpark() {
				keys = append(keys, r.key)
			}
		}
	}
	slices.SortFunc(keys, compareKeys) // as they are rendered ahead
	return keys
}

// summon has a release passed over that waits for one that it comes after, and reports
// whether it does.
func (r *release) summon() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	waits := r.passing || r.verdict.Reason == v1alpha1.ReasonDependencyNotReady
	r.urgent = r.urgent || waits
	return waits
}

// unpark has a release passed over that was put aside, and reports whether it was.
func (r *release) unpark() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	parked := r.parked
	r.urgent, r.parked = r.urgent || parked, false
	return parked
}
