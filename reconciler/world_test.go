package reconciler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/traffic"
)

// world is a cluster on paper: it takes a plan's steps as the API server would,
// so that tests read like the life of a release.
type world struct {
	t       testing.TB
	in      Input
	version int
	refuses map[string]string // what the API server says to an apply, by Kind/name
}

var start = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world {
	w := &world{t: t, in: Input{
		Now: start, Revision: "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432", Hash: "hash-1", Project: "shop",
		Release: envrepo.Release{
			Name: "api", Dir: "environments/production/api",
			Environment: envrepo.Environment{Name: "production", Namespace: "shop",
				Traffic: envrepo.TrafficPolicy{Drain: 15 * time.Second},
				Prune:   envrepo.PrunePolicy{Protect: []string{"PersistentVolumeClaim", "Namespace", "CustomResourceDefinition"}}},
			Component: envrepo.Component{Name: "api", HealthTimeout: 5 * time.Minute},
		},
		Rendered:  &render.Result{},
		Namespace: Namespace{Name: "shop", Exists: true},
		Inventory: inventory.Set{}, Live: map[inventory.ID]*unstructured.Unstructured{}, Marks: map[inventory.ID]Mark{},
		Endpoints: map[string]int{}, Problems: map[inventory.ID]string{},
		Support: traffic.Support{Known: true, PercentageMirror: true, MultipleMirrors: true, Class: "sluice-dev"},
	}}
	return w
}

// untagged makes the release untagged with these objects.
func (w *world) untagged(digest string, objects ...*unstructured.Unstructured) {
	w.in.Release.Traffic, w.in.Release.Tags, w.in.Release.Digest = nil, nil, digest
	w.in.Rendered = &render.Result{Shared: w.own(objects)}
}

// tagged makes the release tagged: weights as "blue=90 green=10 mirror:x=5", and
// a Deployment and a Service for each tag folder, plus what extra gives.
func (w *world) tagged(weights string, shared []*unstructured.Unstructured, tags ...render.TagObjects) {
	shares, mirrors, ok := parseTraffic(weights)
	require.True(w.t, ok, weights)
	t := &envrepo.Traffic{}
	for _, s := range shares {
		t.Weights = append(t.Weights, envrepo.Weight{Tag: s.Tag, Percent: s.Percent})
	}
	for _, m := range mirrors {
		t.Mirrors = append(t.Mirrors, envrepo.Weight{Tag: m.Tag, Percent: m.Percent})
	}
	w.in.Release.Traffic, w.in.Release.Digest, w.in.Release.Tags = t, "", nil
	w.in.Rendered = &render.Result{Shared: w.own(shared)}
	for _, tag := range tags {
		tag.Objects = w.own(tag.Objects)
		w.in.Release.Tags = append(w.in.Release.Tags, envrepo.Tag{Name: tag.Name, Digest: tag.Digest})
		w.in.Rendered.Tags = append(w.in.Rendered.Tags, tag)
	}
}

func (w *world) own(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, len(objects))
	for i, o := range objects {
		out[i] = o.DeepCopy()
	}
	require.NoError(w.t, claim(out, w.in.key()))
	return out
}

// commit is a newer commit.
func (w *world) commit(n int) {
	w.in.Revision = fmt.Sprintf("c%039d", n)
	w.in.Hash = fmt.Sprintf("hash-%d", n)
}

func (w *world) after(d time.Duration) { w.in.Now = w.in.Now.Add(d) }

// restart forgets what only the process knew.
func (w *world) restart() { w.in.Marks = map[inventory.ID]Mark{} }

// pass is one pass with all its rounds; it returns the plans as text.
func (w *world) pass() string {
	w.t.Helper()
	var text strings.Builder
	w.in.routed, w.in.Refused, w.in.Tried = nil, nil, nil
	defer w.hashing()()
	for round := 0; ; round++ {
		require.Less(w.t, round, 8, "the plan does not settle:\n%s", text.String())
		plan := Decide(w.in)
		text.WriteString(plan.String())
		if !plan.Writes() && len(plan.trials) == 0 {
			w.report(plan.Verdict)
			return text.String()
		}
		if tried := w.try(plan); tried != "" {
			text.WriteString(tried)
			continue
		}
		w.execute(plan)
	}
}

// hashing has every object hashed once until it is ended, as in a pass.
func (w *world) hashing() (end func()) {
	w.in.hashes, w.in.held = map[*unstructured.Unstructured]string{}, map[*unstructured.Unstructured]holding{}
	return func() { w.in.hashes, w.in.held = nil, nil }
}

// try is the dry runs before a plan; it returns what they found out that changes it.
func (w *world) try(p Plan) (news string) {
	if w.in.Tried == nil {
		w.in.Tried = map[inventory.ID]string{}
	}
	for _, t := range p.trials {
		id := inventory.IDOf(t.object)
		w.in.Tried[id] = w.in.hash(t.object)
		if live := w.in.live(t.object); t.asks {
			if w.apply(t.object).GetGeneration() == live.GetGeneration() {
				w.in.noteApplied(t.object, live)
				news += "found as declared: " + id.Display() + "\n"
			}
			continue
		}
		if why := w.refuses[id.Display()]; why != "" {
			w.in.refuse(id, errors.New(why))
			news += "tried in vain: " + why + "\n"
		}
	}
	return news
}

// last is the last plan of a pass only.
func (w *world) last() string {
	w.t.Helper()
	text := w.pass()
	return text[strings.LastIndex(text, "release "+w.in.Release.Name+" in "):]
}

func (w *world) execute(p Plan) {
	for _, s := range p.Steps {
		switch s.Action {
		case ActionNamespace:
			w.in.Namespace.Exists = true
		case ActionGrant:
			w.in.Last.Status.Prune = &v1alpha1.PruneStatus{Acknowledged: s.token, Hash: w.in.Hash}
		case ActionIntent:
			if w.in.Last != nil {
				w.in.Last.Status.Inventory = inventoryOf(&w.in, s.inventory)
			}
			w.ensure()
			w.in.Inventory = s.inventory
		case ActionScale:
			for _, i := range s.Items {
				live := w.in.live(i.Object).DeepCopy()
				setReplicas(live, i.Replicas)
				own(live, scaleManager, true)
				own(live, fieldManager, false)
				w.bump(live, true)
				w.in.noteScaled(live)
			}
		case ActionApply, ActionRoute, ActionRetire:
			for _, i := range s.Items {
				id := inventory.IDOf(i.Object)
				if why := w.refuses[id.Display()]; why != "" {
					w.in.refuse(id, errors.New(why))
					continue
				}
				w.in.noteApplied(i.Object, w.apply(i.Object))
			}
			if slices.ContainsFunc(s.Items, func(i Item) bool { return w.in.Refused[inventory.IDOf(i.Object)] != nil }) {
				return // to be decided again
			}
			if s.Action == ActionRoute {
				w.in.routed = s.traffic
				if w.in.routed == nil {
					w.in.routed = &v1alpha1.TrafficStatus{}
				}
			}
		case ActionRecreate:
			for _, i := range s.Items {
				id := inventory.IDOf(i.Object)
				if live := w.in.Live[id].DeepCopy(); len(live.GetFinalizers()) > 0 {
					live.SetDeletionTimestamp(&metav1.Time{Time: w.in.Now})
					w.in.Live[id] = live
					continue
				}
				delete(w.in.Live, id)
				w.in.noteApplied(i.Object, w.apply(i.Object))
			}
		case ActionPrune:
			if s.traffic != nil {
				w.in.routed = s.traffic
			}
			for _, i := range s.Items {
				w.in.noteDeleted(inventory.IDOf(i.Object))
			}
		case ActionForget:
			w.in.Last = nil
		}
	}
}

func (w *world) ensure() {
	if w.in.Last == nil {
		w.in.Last = newRelease(&w.in)
		w.in.Last.Generation = 1
	}
}

func (w *world) report(v Verdict) {
	if v.State == StateRemoved || w.in.Last == nil {
		return
	}
	w.in.Last.Status = statusAfter(&w.in, v)
	w.in.Inventory = v.inventory
	if w.in.Inventory == nil {
		w.in.Inventory = inventory.Set{}
	}
}

// apply is server-side apply, as far as plans can tell.
func (w *world) apply(desired *unstructured.Unstructured) *unstructured.Unstructured {
	before := w.in.live(desired)
	live := desired.DeepCopy()
	if before == nil {
		live.SetUID(types.UID(fmt.Sprintf("uid-%d", w.version)))
	} else {
		live.SetUID(before.GetUID())
		live.SetGeneration(before.GetGeneration())
		live.SetManagedFields(before.GetManagedFields())
		if status, ok := before.Object["status"]; ok {
			live.Object["status"] = status
		}
	}
	if isWorkload(live) {
		_, declared, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
		switch {
		case !declared && before != nil && !(ownsReplicas(before) && !owns(before, scaleManager)):
			n, _, _ := unstructured.NestedInt64(before.Object, "spec", "replicas")
			setReplicas(live, n)
		case !declared:
			setReplicas(live, 1)
		}
		own(live, fieldManager, declared)
		if declared {
			own(live, scaleManager, false)
		}
	}
	changed := before == nil || hashOf(spec(before)) != hashOf(spec(live))
	w.bump(live, changed)
	return live
}

func spec(o *unstructured.Unstructured) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"spec": o.Object["spec"], "data": o.Object["data"]}}
}

func (w *world) bump(live *unstructured.Unstructured, changed bool) {
	if changed {
		w.version++
		live.SetGeneration(live.GetGeneration() + 1)
	}
	live.SetResourceVersion(fmt.Sprint(w.version))
}

func setReplicas(o *unstructured.Unstructured, n int64) {
	_ = unstructured.SetNestedField(o.Object, n, "spec", "replicas")
}

// own gives or takes a manager the field spec.replicas.
func own(o *unstructured.Unstructured, manager string, has bool) {
	var entries []metav1.ManagedFieldsEntry
	for _, e := range o.GetManagedFields() {
		if e.Manager != manager {
			entries = append(entries, e)
		}
	}
	if has {
		entries = append(entries, metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationApply,
			FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`)})
	}
	o.SetManagedFields(entries)
}

func owns(o *unstructured.Unstructured, manager string) bool {
	for _, e := range o.GetManagedFields() {
		if e.Manager == manager {
			return true
		}
	}
	return false
}

// up has the Deployment's controller and the kubelet do their work: as many pods
// as spec.replicas, all ready, behind the Service of the same name.
func (w *world) up(names ...string) {
	w.t.Helper()
	for _, name := range names {
		live := w.deployment(name)
		n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
		w.status(live, n, n, n)
	}
}

// down leaves a Deployment with no ready pod, and a reason.
func (w *world) down(name, problem string) {
	w.t.Helper()
	live := w.deployment(name)
	n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	w.status(live, n, n, 0)
	w.in.Problems[inventory.IDOf(live)] = problem
}

func (w *world) deployment(name string) *unstructured.Unstructured {
	w.t.Helper()
	id := inventory.ID{Namespace: "shop", Name: name, Group: "apps", Kind: "Deployment"}
	require.NotNil(w.t, w.in.Live[id], name)
	w.in.Live[id] = w.in.Live[id].DeepCopy()
	delete(w.in.Problems, id)
	return w.in.Live[id]
}

func (w *world) status(live *unstructured.Unstructured, total, updated, ready int64) {
	available := "True"
	if ready == 0 && total > 0 {
		available = "False"
	}
	live.Object["status"] = map[string]any{
		"observedGeneration": live.GetGeneration(), "replicas": total, "updatedReplicas": updated,
		"readyReplicas": ready, "availableReplicas": ready,
		"conditions": []any{
			map[string]any{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
			map[string]any{"type": "Available", "status": available},
		},
	}
	w.in.Endpoints[live.GetName()] = int(ready)
}

// parsedOnce is what object has read: the lives of releases ask for the same few again and
// again, and most of their time would go into YAML.
var parsedOnce sync.Map // of *unstructured.Unstructured, by text

// object reads one object in YAML; the namespace is filled in.
func object(text string) *unstructured.Unstructured {
	read, known := parsedOnce.Load(text)
	if !known {
		read, _ = parsedOnce.LoadOrStore(text, parsed(text))
	}
	return read.(*unstructured.Unstructured).DeepCopy()
}

func parsed(text string) *unstructured.Unstructured {
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
		panic(err)
	}
	o := &unstructured.Unstructured{Object: fields}
	integers(o.Object)
	if o.GetNamespace() == "" && o.GetKind() != "Namespace" {
		o.SetNamespace("shop")
	}
	return o
}

// integers makes whole numbers int64, as the API machinery wants them.
func integers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

func configMap(name, value string) *unstructured.Unstructured {
	return object(fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s}, data: {value: %q}}", name, value))
}

func deployment(name, image string, replicas int) *unstructured.Unstructured {
	return object(fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app.kubernetes.io/instance: %[1]s}}
spec:
  replicas: %[3]d
  progressDeadlineSeconds: 600
  selector: {matchLabels: {app.kubernetes.io/instance: %[1]s}}
  template:
    metadata: {labels: {app.kubernetes.io/instance: %[1]s}}
    spec: {containers: [{name: main, image: "%[2]s"}]}
`, name, image, replicas))
}

func service(name, selects string) *unstructured.Unstructured {
	return object(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {selector: {app.kubernetes.io/instance: %s}, ports: [{name: http, port: 80}]}
`, name, selects))
}

func httpRoute() *unstructured.Unstructured {
	return object(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec: {parentRefs: [{name: shop}], rules: [{backendRefs: [{name: api, port: 80}]}]}
`)
}

func hpa(name string, least, most int) *unstructured.Unstructured {
	return object(fmt.Sprintf(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %[1]s}
spec: {minReplicas: %[2]d, maxReplicas: %[3]d, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: %[1]s}}
`, name, least, most))
}

// tag is a tag folder with a Deployment, a Service and extra objects, all with
// the tag's label.
func tag(name, image string, replicas int, extra ...*unstructured.Unstructured) render.TagObjects {
	full := "api-" + name
	objects := append([]*unstructured.Unstructured{deployment(full, image, replicas), service(full, full)}, extra...)
	for _, o := range objects {
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[v1alpha1.LabelTag] = name
		o.SetLabels(labels)
	}
	return render.TagObjects{Name: name, Digest: "sha256:" + image, Objects: objects}
}

// sharedObjects are what a tagged release has once.
func sharedObjects() []*unstructured.Unstructured {
	return []*unstructured.Unstructured{
		object("{apiVersion: v1, kind: ServiceAccount, metadata: {name: api}}"),
		service("api", "api"),
		httpRoute(),
	}
}
