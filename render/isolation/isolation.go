// Package isolation tells which environments of a project can reach each other: it
// evaluates the NetworkPolicies that their releases render to.
//
// Make an [Environment] for each, Add the objects of its releases, and hand them all
// to [Judge]. It knows networking.k8s.io/v1, and pods and namespaces as they are
// rendered; it never asks a cluster. A connection counts as possible when a policy
// at its source and one at its target allow it, where a pod that no policy selects
// allows everything. It also tells which pods the Pod Security labels of a namespace
// keep out. docs/adr/0031 says what is taken for granted.
package isolation

import (
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

// nameLabel is what the API server gives every namespace.
const nameLabel = "kubernetes.io/metadata.name"

// Environment is what is known of one environment.
type Environment struct {
	name, namespace string
	labels          labels.Set // of its namespace
	labelled        bool       // its Namespace is rendered

	pods      []*pods         // those that policies cannot tell apart are one
	byKey     map[string]int  // index in pods
	byLabel   map[label][]int // likewise
	selected  map[string]set  // by the text of a selector: see matching
	host      []workload      // on the host's network
	policies  []*policy       // those that the API server would take
	others    []workload      // policies of other kinds
	refused   []Finding       // policies that it would not take
	templates []template
	openings  [2][]*opening // by direction, once all is added
}

type label struct{ key, value string }

// workload is an object of a release.
type workload struct {
	release, kind, name string
	base                string // its name in the component
}

func (w workload) String() string { return w.kind + " " + w.name }

func (w workload) object(e *Environment) string { return w.kind + " " + e.namespace + "/" + w.name }

// pods are the pods of the workloads that have these labels and named ports.
type pods struct {
	labels    labels.Set
	ports     map[string]ports
	workloads []workload
}

// NewEnvironment is an environment without objects.
func NewEnvironment(e envrepo.Environment) *Environment {
	return &Environment{name: e.Name, namespace: e.Namespace, labels: labels.Set{nameLabel: e.Namespace},
		byKey: map[string]int{}, byLabel: map[label][]int{}}
}

// Add takes in what one of the environment's releases renders to.
func (e *Environment) Add(r *render.Result) {
	e.add(r.Release.Name, "", r.Shared)
	for _, t := range r.Tags {
		e.add(r.Release.Name, t.Name, t.Objects)
	}
}

func (e *Environment) add(release, tag string, objects []*unstructured.Unstructured) {
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		w := workload{release: e.name + "/" + release, kind: gvk.Kind, name: o.GetName(), base: o.GetName()}
		if tag != "" {
			w.base = strings.TrimSuffix(w.name, "-"+tag)
		}
		switch {
		case gvk.Group == "networking.k8s.io" && gvk.Kind == "NetworkPolicy":
			p, err := parsePolicy(o)
			if err != nil {
				e.refused = append(e.refused, refusal(e, w, err))
				continue
			}
			p.workload = w
			e.policies = append(e.policies, p)
		case foreign[gvk.Group][gvk.Kind]:
			e.others = append(e.others, w)
		case gvk.Group == "" && gvk.Kind == "Namespace" && o.GetName() == e.namespace:
			e.labels = labels.Merge(o.GetLabels(), labels.Set{nameLabel: e.namespace})
			e.labelled = true
		default:
			e.addPods(w, o)
		}
	}
}

// foreign are policies that may let in what these do not, by group and kind.
var foreign = map[string]map[string]bool{
	"cilium.io":             {"CiliumNetworkPolicy": true},
	"crd.projectcalico.org": {"NetworkPolicy": true},
	"projectcalico.org":     {"NetworkPolicy": true},
	"crd.antrea.io":         {"NetworkPolicy": true},
}

// addPods takes in the pods of a workload, of any kind that has a pod template in
// the usual place.
func (e *Environment) addPods(w workload, o *unstructured.Unstructured) {
	content := podTemplate(o)
	spec, _ := content["spec"].(map[string]any)
	if _, ok := spec["containers"].([]any); !ok {
		return
	}
	e.templates = append(e.templates, template{w, content})
	if host, _ := spec["hostNetwork"].(bool); host {
		e.host = append(e.host, w)
		return
	}
	set, _, _ := unstructured.NestedStringMap(content, "metadata", "labels")
	p := &pods{labels: set, ports: namedPorts(spec)}
	// JSON sorts the keys of maps; text that is merely joined could be ambiguous.
	key, _ := json.Marshal([]any{p.labels, p.ports})
	i, ok := e.byKey[string(key)]
	if !ok {
		i = len(e.pods)
		e.pods = append(e.pods, p)
		e.byKey[string(key)] = i
		for k, v := range set {
			e.byLabel[label{k, v}] = append(e.byLabel[label{k, v}], i)
		}
	}
	e.pods[i].workloads = append(e.pods[i].workloads, w)
}

// podTemplate is what holds the pod spec, empty where there is none.
func podTemplate(o *unstructured.Unstructured) map[string]any {
	path := []string{"spec", "template"}
	switch o.GetKind() {
	case "Pod":
		return o.Object
	case "CronJob":
		path = []string{"spec", "jobTemplate", "spec", "template"}
	}
	v, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	content, _ := v.(map[string]any)
	return content
}

// matching are the pods that a selector selects. Of those that demand a label only
// the pods that have it are looked at, so that a policy for each of many components
// costs one look each.
func (e *Environment) matching(s selector) set {
	if found, ok := e.selected[s.text]; ok {
		return found
	}
	found := newSet(len(e.pods))
	e.selected[s.text] = found
	if len(s.exact) == 0 {
		for i, p := range e.pods {
			if s.Matches(p.labels) {
				found.add(i)
			}
		}
		return found
	}
	rarest := slices.MinFunc(s.exact, func(a, b label) int { return len(e.byLabel[a]) - len(e.byLabel[b]) })
	for _, i := range e.byLabel[rarest] {
		if s.Matches(e.pods[i].labels) {
			found.add(i)
		}
	}
	return found
}

func (e *Environment) all() set {
	all := newSet(len(e.pods))
	for i := range e.pods {
		all.add(i)
	}
	return all
}

// workloads are those that have the pods, in the order of the releases.
func (e *Environment) workloads(of set) []workload {
	var found []workload
	for i, p := range e.pods {
		if of.has(i) {
			found = append(found, p.workloads...)
		}
	}
	return found
}

// Two directions of traffic, seen from the pods that a policy selects.
const (
	ingress = iota
	egress
)

// opening is what lets pods of an environment send to or receive from elsewhere:
// equal rules of its policies, or that there is no policy.
type opening struct {
	pods  set
	rules []rule // nil: no policy restricts these pods
	peer  peer
	ports portRule
}

// open works out the openings of an environment. Rules for pods of its own
// namespace are none.
func (e *Environment) open() {
	e.selected = map[string]set{}
	for _, direction := range []int{ingress, egress} {
		governed, known := newSet(len(e.pods)), map[string]*opening{}
		var found []*opening
		for _, p := range e.policies {
			if !p.restricts[direction] {
				continue
			}
			pods := e.matching(p.pods)
			governed.join(pods)
			for _, r := range p.rules[direction] {
				o := known[r.text]
				if o == nil {
					o = &opening{pods: newSet(len(e.pods)), peer: r.peer, ports: r.ports}
					known[r.text] = o
					found = append(found, o)
				}
				o.pods.join(pods)
				o.rules = append(o.rules, r)
			}
		}
		if rest := e.all().without(governed); !rest.empty() {
			found = append(found, &opening{pods: rest, peer: peer{any: true}, ports: portRule{fixed: everyPort}})
		}
		e.openings[direction] = slices.DeleteFunc(found, func(o *opening) bool { return o.pods.empty() })
	}
}
