package reconciler

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// When a correction becomes a fight.
//
// Five in five minutes is more than a person at a keyboard does, and catches
// whoever writes at once as well as a controller that resyncs every minute. Who
// comes more rarely costs little and is corrected as long as it lasts. The pause
// after which a fight counts as over has to be longer than the longest interval
// that is caught, or it would end between two blows: contestWindow divided by the
// four intervals between five corrections.
const (
	contestAfter  = 5
	contestWindow = 5 * time.Minute
	contestQuiet  = 2 * time.Minute

	contestMin = 30 * time.Second
	contestMax = 10 * time.Minute
)

// Contest is a fight with somebody who undoes what we have applied. It is not
// fought: the object is put right once after each of ever longer pauses, until it
// stays as it is. It ends when the repository declares something else of it.
//
// It is known by the process only: after a restart five more corrections tell.
type Contest struct {
	Rendered string    // hash of the content that is contested
	Last     time.Time // when it was put right last
	Next     time.Time // it is left alone before
	Who      []string  // field managers, sorted; none where they cannot be told
	Fields   []string  // declared ones that they have taken, sorted; may be unknown
	Deleted  bool      // the object was deleted at least once
}

// over reports whether the object has been left as it was applied for long
// enough.
func (c Contest) over(now time.Time, synced bool) bool {
	return synced && now.Sub(c.Last) >= contestQuiet
}

// String says who does what, and what comes of it. It does not change from one
// correction to the next.
func (c Contest) String() string {
	who, keep := "another controller", "keeps"
	if len(c.Who) > 0 {
		who = strings.Join(c.Who, " and ")
	}
	if len(c.Who) > 1 {
		keep = "keep"
	}
	what := "changing it"
	switch {
	case len(c.Fields) > 0:
		what = "changing " + strings.Join(c.Fields, ", ")
	case c.Deleted:
		what = "deleting it"
	}
	return fmt.Sprintf("%s %s %s; corrected %d times within %s, now only at growing intervals of %s to %s",
		who, keep, what, contestAfter, duration.HumanDuration(contestWindow), duration.HumanDuration(contestMin), duration.HumanDuration(contestMax))
}

// contest is the fight for a desired object, if there is one that is not over.
// What a new commit declares of it is applied at once.
func (d *decision) contest(desired *unstructured.Unstructured) (Contest, bool) {
	c, contested := d.in.Contested[inventory.IDOf(desired)]
	return c, contested && c.Rendered == d.in.hash(desired) && !c.over(d.in.Now, d.in.synced(desired))
}

// yields reports whether an object is left as somebody else wants it for now.
func (d *decision) yields(desired *unstructured.Unstructured) bool {
	c, contested := d.contest(desired)
	return contested && d.in.Now.Before(c.Next)
}

// contests says which objects are fought for, and when to look at them again.
func (d *decision) contests() (message string, after time.Duration) {
	if len(d.in.Contested) == 0 {
		return "", 0
	}
	var parts []string
	for _, o := range d.all() {
		c, contested := d.contest(o)
		if !contested {
			continue
		}
		parts = append(parts, inventory.IDOf(o).Display()+": "+c.String())
		after = later(after, max(c.Next.Sub(d.in.Now), recheckMin))
		if d.in.synced(o) {
			after = later(after, max(c.Last.Add(contestQuiet).Sub(d.in.Now), recheckMin))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "; "), after
}

// fights counts the corrections of each object.
type fights struct {
	mu       sync.Mutex
	objects  map[inventory.ID]*fight
	replicas map[inventory.ID]int64 // written last under an autoscaler
}

type fight struct {
	rendered string
	at       []time.Time // corrections within the window
	contest  *Contest    // nil until there are too many
	pause    time.Duration
}

// corrected takes in that an object was not any more what had been applied, and
// was put right. rendered is the hash of its content, desired what of it was
// declared, seen how it was found, nil when it was deleted.
func (f *fights) corrected(now time.Time, rendered string, desired, seen *unstructured.Unstructured) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := inventory.IDOf(desired)
	o := f.objects[id]
	if o == nil || o.rendered != rendered {
		o = &fight{rendered: rendered}
	}
	if f.objects == nil {
		f.objects = map[inventory.ID]*fight{}
	}
	f.objects[id] = o
	o.at = append(slices.DeleteFunc(o.at, func(t time.Time) bool { return now.Sub(t) > contestWindow }), now)
	if o.contest == nil && len(o.at) < contestAfter {
		return
	}
	if o.contest == nil {
		o.contest = &Contest{Rendered: rendered}
	}
	o.at = nil // the contest keeps the time from here on
	o.pause = min(max(contestMin, 2*o.pause), contestMax*2/3)
	o.contest.Last, o.contest.Next = now, now.Add(o.pause+rand.N(o.pause/2+1))
	if seen == nil {
		o.contest.Deleted = true
		return
	}
	who, fields := usurpers(desired, seen)
	o.contest.Who, o.contest.Fields = merge(o.contest.Who, who), merge(o.contest.Fields, fields)
}

// merge is the sorted union, bounded: it ends in a message.
func merge(a, b []string) []string {
	const most = 5
	all := slices.Concat(a, b)
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), most)]
}

// settle forgets, at the end of a pass, the fights for objects that are not the
// release's any more or were given another content by it, and those that are over.
func (f *fights) settle(in *Input) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.replicas, func(id inventory.ID, _ int64) bool { _, listed := in.Inventory[id]; return !listed })
	for id, c := range in.Contested {
		mark, applied := in.Marks[id]
		live := in.Live[id]
		_, listed := in.Inventory[id]
		holds := applied && live != nil && in.holds(mark, live)
		if !listed || applied && mark.Rendered != c.Rendered || c.over(in.Now, holds) {
			delete(f.objects, id)
		}
	}
}

// contested is a copy of what is fought for.
func (f *fights) contested() map[inventory.ID]Contest {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[inventory.ID]Contest{}
	for id, o := range f.objects {
		if o.contest != nil {
			out[id] = *o.contest
		}
	}
	return out
}

// open reports whether an object is fought for: its events are no reason for a
// pass, there would be no end to them. The pass at the next correction finds out.
func (f *fights) open(id inventory.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[id]
	return o != nil && o.contest != nil
}

// judgeCorrection finds out whether applying an object put right what somebody
// had changed: this very content had been applied by us before, and it came out
// otherwise than it was found. An apply that finds all as declared (somebody has
// added an annotation of theirs) is none.
func (p *pass) judgeCorrection(desired, before, after *unstructured.Unstructured) {
	mark, applied := p.in.Marks[inventory.IDOf(desired)]
	if !applied || mark.Rendered != p.in.hash(desired) {
		return
	}
	if before != nil && markHashed(mark.Rendered, after).holds(before) {
		return
	}
	p.tellCorrection(correctionOf(desired, before, after))
	p.release.fights.corrected(p.engine.cfg.Clock.Now(), mark.Rendered, desired, before)
	p.in.Contested = p.release.fights.contested()
}

// judgeScaling does the same for a number of replicas that was written under an
// autoscaler: somebody has taken it back if it had been written before.
func (p *pass) judgeScaling(workload, before, after *unstructured.Unstructured, replicas int64) {
	id := inventory.IDOf(workload)
	again := p.release.fights.scaled(id, replicas)
	if before == nil || !again {
		return
	}
	if present, found, _ := unstructured.NestedInt64(before.Object, "spec", "replicas"); found && present >= replicas {
		return // only written down, for it to stay
	}
	desired := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas}}}
	desired.SetGroupVersionKind(workload.GroupVersionKind())
	desired.SetNamespace(id.Namespace)
	desired.SetName(id.Name)
	p.tellCorrection(correctionOf(desired, before, after))
	p.release.fights.corrected(p.engine.cfg.Clock.Now(), p.in.hash(workload), desired, before)
	p.in.Contested = p.release.fights.contested()
}

// scaled takes in that a workload was given replicas. It reports whether that, or
// more, is what it was given before.
func (f *fights) scaled(id inventory.ID, replicas int64) (again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, known := f.replicas[id]
	if f.replicas == nil {
		f.replicas = map[inventory.ID]int64{}
	}
	f.replicas[id] = replicas
	return known && replicas <= before
}

// usurpers finds out who has taken which fields that an object declares: those of
// field managers other than ours that our own does not have any more. If nobody
// has any, a field was removed: the one to blame is the last who wrote.
func usurpers(desired, live *unstructured.Unstructured) (who, fields []string) {
	ours := map[string]bool{}
	entries := live.GetManagedFields()
	for _, e := range entries {
		if e.Manager == fieldManager && e.Operation == metav1.ManagedFieldsOperationApply {
			for _, path := range declaredIn(e, desired) {
				ours[path] = true
			}
		}
	}
	var last metav1.ManagedFieldsEntry
	for _, e := range entries {
		if e.Manager == fieldManager || e.Manager == scaleManager || e.Subresource == "status" {
			continue
		}
		if last.Time == nil || e.Time != nil && last.Time.Before(e.Time) {
			last = e
		}
		taken := slices.DeleteFunc(declaredIn(e, desired), func(path string) bool { return ours[path] })
		if len(taken) > 0 {
			who, fields = append(who, e.Manager), append(fields, taken...)
		}
	}
	if len(who) == 0 && last.Manager != "" {
		who = []string{last.Manager}
	}
	return merge(nil, who), merge(nil, fields)
}

// declaredIn lists the fields of a managed fields entry that an object declares,
// as paths.
func declaredIn(e metav1.ManagedFieldsEntry, desired *unstructured.Unstructured) []string {
	var fields map[string]any
	if e.FieldsV1 == nil || json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
		return nil
	}
	var paths []string
	walkFields(fields, desired.Object, "", &paths)
	return paths
}

// walkFields follows a set of fields down a value, side by side: "f:" names a
// field, "k:" an item by its keys, "v:" one by its value, and "." stands for the
// value itself. https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta
func walkFields(fields map[string]any, value any, path string, paths *[]string) {
	leaf := true
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key == "." {
			continue
		}
		leaf = false
		below, _ := fields[key].(map[string]any)
		if part, step, found := descend(key, value); found {
			walkFields(below, part, path+step, paths)
		}
	}
	if leaf {
		*paths = append(*paths, strings.TrimPrefix(path, "."))
	}
}

// descend finds the part of a value that a key of a set of fields names, and how
// a path names it.
func descend(key string, value any) (part any, step string, found bool) {
	kind, name, _ := strings.Cut(key, ":")
	switch kind {
	case "f":
		object, _ := value.(map[string]any)
		part, found = object[name]
		return part, "." + name, found
	case "v", "k":
		var wanted any
		if json.Unmarshal([]byte(name), &wanted) != nil {
			return nil, "", false
		}
		items, _ := value.([]any)
		for _, item := range items {
			if matches(item, wanted) {
				return item, "[" + describeItem(wanted) + "]", true
			}
		}
	}
	return nil, "", false
}

// matches compares an item of a list with a value, or with the keys that it is
// known by. A key that the item leaves out has its default, which is not known
// here: it is taken to match.
func matches(item, wanted any) bool {
	keys, keyed := wanted.(map[string]any)
	if !keyed {
		return fmt.Sprint(item) == fmt.Sprint(wanted)
	}
	object, _ := item.(map[string]any)
	for k, v := range keys {
		if own, declared := object[k]; declared && fmt.Sprint(own) != fmt.Sprint(v) {
			return false
		}
	}
	return object != nil
}

func describeItem(wanted any) string {
	keys, keyed := wanted.(map[string]any)
	if !keyed {
		return fmt.Sprint(wanted)
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		parts = append(parts, fmt.Sprintf("%s=%v", k, keys[k]))
	}
	return strings.Join(parts, ",")
}
