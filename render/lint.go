package render

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Severities of a Finding.
const (
	SeverityError   = "error"   // check refuses the release
	SeverityWarning = "warning" // check mentions it
)

// Finding is something about a rendered release that Kubernetes accepts and
// that will not work as meant.
type Finding struct {
	Severity string
	File     string // the folder
	Object   string // Kind namespace/name
	Message  string // says about the object what is wrong: "selects …"
	Hint     string // what to do
}

// InstanceLabel tells the pods of tags apart (DESIGN §2).
const InstanceLabel = "app.kubernetes.io/instance"

// Lint looks for what must not stand in a tag because it exists once, for
// selectors that reach pods of several tags, and for workloads that traffic
// may hit unprepared. Findings are sorted by folder, errors first.
func Lint(res *Result) []Finding {
	l := &linter{release: res.Release}
	l.parts = append(l.parts, part{dir: res.Release.Dir, objects: res.Shared})
	for i, t := range res.Tags {
		l.parts = append(l.parts, part{dir: res.Release.Tags[i].Dir, tag: t.Name, digest: t.Digest, objects: t.Objects})
	}
	if !res.Release.Tagged() {
		l.parts[0].digest = res.Release.Digest
	}
	for i := range l.parts {
		p := &l.parts[i]
		for _, u := range p.objects {
			if set := podLabels(u); set != nil {
				p.pods = append(p.pods, set)
			}
		}
	}
	for _, p := range l.parts {
		for _, u := range p.objects {
			l.lintWorkload(p, u)
			if p.tag == "" {
				l.lintShared(p, u)
				continue
			}
			l.lintOnce(p, u)
			l.lintTagSelector(p, u)
		}
		if p.tag != "" {
			l.lintReferences(p)
		}
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Object, b.Object), cmp.Compare(a.Message, b.Message))
	})
	return l.findings
}

type linter struct {
	release  envrepo.Release
	parts    []part // the shared one first
	findings []Finding
}

// part is one rendered folder.
type part struct {
	dir, tag, digest string
	objects          []*unstructured.Unstructured
	pods             []labels.Set // of its workloads
}

func (l *linter) add(severity string, p part, u *unstructured.Unstructured, message, hint string) {
	l.findings = append(l.findings, Finding{Severity: severity, File: p.dir, Object: objectName(u), Message: message, Hint: hint})
}

// once are the kinds of which a release has one, whatever its tags.
var once = map[string]string{
	"PersistentVolumeClaim": "its data would be split among the tags",
	"Ingress":               "it would send traffic past the weights",
	"HTTPRoute":             "it would send traffic past the weights",
	"GRPCRoute":             "it would send traffic past the weights",
	"TCPRoute":              "it would send traffic past the weights",
	"TLSRoute":              "it would send traffic past the weights",
	"UDPRoute":              "it would send traffic past the weights",
	"VirtualService":        "it would send traffic past the weights",
	"IngressRoute":          "it would send traffic past the weights",
	"IngressRouteTCP":       "it would send traffic past the weights",
	"IngressRouteUDP":       "it would send traffic past the weights",
	"TraefikService":        "it would send traffic past the weights",
	"ServiceAccount":        "its permissions and tokens are bound to its name",
	"DaemonSet":             "it runs on every node and cannot be scaled to zero",
}

// lintOnce refuses in a tag what must exist once, and warns of what runs
// whatever its weight.
func (l *linter) lintOnce(p part, u *unstructured.Unstructured) {
	kind := u.GetKind()
	if why, ok := once[kind]; ok {
		l.add(SeverityError, p, u, "stands in a tag and must exist once: "+why, "move it to "+l.release.Dir+" or the component's shared folder")
	}
	switch kind {
	case "Service":
		if exposed(u) {
			l.add(SeverityError, p, u, "is reachable from outside the cluster past the weights", "make it type ClusterIP without nodePort, and route to Service "+l.release.Name)
		}
	case "CronJob", "Job":
		l.add(SeverityWarning, p, u, "runs once for each tag, whatever its weight", "move it to "+l.release.Dir+" if it must run once")
	case "Deployment", "StatefulSet":
		if set := podLabels(u); set != nil && len(l.services(p, set)) == 0 {
			l.add(SeverityWarning, p, u, "is selected by no Service: if it takes work from a queue it does so at any weight", "let it run in one tag only, or move it to a component of its own")
		}
	}
}

// exposed reports whether a Service is of type LoadBalancer or NodePort.
func exposed(u *unstructured.Unstructured) bool {
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "type")
	if kind == "LoadBalancer" || kind == "NodePort" {
		return true
	}
	ports, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
	return slices.ContainsFunc(ports, func(port any) bool {
		m, _ := port.(map[string]any)
		return m["nodePort"] != nil
	})
}

// services are the Services of a part, and the shared ones, that select pods.
func (l *linter) services(p part, pods labels.Set) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, u := range slices.Concat(l.parts[0].objects, p.objects) {
		if u.GetKind() != "Service" {
			continue
		}
		if s := selector(u); s != nil && s.Matches(pods) {
			found = append(found, u)
		}
	}
	return found
}

// selecting are the kinds whose selectors must not reach other pods.
var selecting = map[string]bool{"Service": true, "Deployment": true, "StatefulSet": true, "ReplicaSet": true, "PodDisruptionBudget": true}

// lintShared refuses what exists once and selects pods of the tags.
func (l *linter) lintShared(p part, u *unstructured.Unstructured) {
	if !selecting[u.GetKind()] {
		return
	}
	tags := l.selected(selector(u), "")
	switch {
	case len(tags) == 0, u.GetKind() == "Service" && len(tags) == 1:
	case u.GetKind() != "Service":
		l.add(SeverityError, p, u, "selects the pods of "+list(tags), "add "+InstanceLabel+": "+l.release.Name+" to its selector and its pods, or move it into the tags")
	case u.GetName() == l.release.Name:
		l.add(SeverityError, p, u, "selects the pods of "+list(tags)+": requests inside the cluster would ignore the weights",
			fmt.Sprintf("add %s: %s-%s to its selector; Sluice points it at the tag with the highest weight", InstanceLabel, l.release.Name, l.parts[1].tag))
	default:
		l.add(SeverityError, p, u, "selects the pods of "+list(tags)+" past the weights", "add "+InstanceLabel+" to its selector, or move it into the tags")
	}
}

// lintTagSelector refuses selectors in a tag that reach further than it.
func (l *linter) lintTagSelector(p part, u *unstructured.Unstructured) {
	if !selecting[u.GetKind()] {
		return
	}
	s := selector(u)
	if s == nil {
		return
	}
	hint := fmt.Sprintf("add %s: %s to the base's selectors and pod templates and let the tag overlay set it (see sluice component tag)", InstanceLabel, l.release.Name)
	if others := l.selected(s, p.tag); len(others) > 0 {
		l.add(SeverityError, p, u, "selects the pods of "+list(others)+" too", hint)
		return
	}
	if requirements, _ := s.Requirements(); !slices.ContainsFunc(requirements, func(r labels.Requirement) bool { return r.Key() == InstanceLabel }) {
		l.add(SeverityError, p, u, "selects without "+InstanceLabel+": it would select the pods of other tags too", hint)
	}
}

// selected names the parts other than that of tag except whose pods a
// selector matches.
func (l *linter) selected(s labels.Selector, except string) []string {
	if s == nil {
		return nil
	}
	var names []string
	for _, p := range l.parts {
		if p.tag == except {
			continue
		}
		if slices.ContainsFunc(p.pods, func(set labels.Set) bool { return s.Matches(set) }) {
			name := "tag " + p.tag
			if p.tag == "" {
				name = p.dir
			}
			names = append(names, name)
		}
	}
	return names
}

func list(names []string) string { return strings.Join(names, " and ") }

// lintWorkload warns of what lets traffic hit an unready pod or starves it.
func (l *linter) lintWorkload(p part, u *unstructured.Unstructured) {
	template := podTemplate(u)
	if template == nil {
		return
	}
	spec, _, _ := unstructured.NestedMap(template, "spec")
	var ready bool
	var bare []string
	items, _ := spec["containers"].([]any)
	for _, item := range items {
		c, _ := item.(map[string]any)
		if c["readinessProbe"] != nil {
			ready = true
		}
		requests, _, _ := unstructured.NestedMap(c, "resources", "requests")
		if requests["cpu"] == nil || requests["memory"] == nil {
			name, _ := c["name"].(string)
			bare = append(bare, name)
		}
	}
	if set := podLabels(u); !ready && set != nil && len(l.services(p, set)) > 0 {
		l.add(SeverityWarning, p, u, "has no readinessProbe: it gets requests before it can answer", "add a readinessProbe to the container that serves")
	}
	if len(bare) > 0 {
		l.add(SeverityWarning, p, u, "has no CPU and memory requests in container "+strings.Join(bare, ", "), "add resources.requests: the scheduler and autoscaler count on them")
	}
	if p.digest != "" || l.release.Component.Image == "" {
		return
	}
	for _, c := range containers(u) {
		if c.image.name == l.release.Component.Image && c.image.digest == "" {
			hint := "pin one: sluice deploy " + l.release.Name + " --environment " + l.release.Environment.Name + " --build DIGEST"
			if p.tag == "" && l.release.Tagged() {
				hint = "only tag overlays are pinned by Sluice: move it into the tags, or add an images entry to " + p.dir
			}
			l.add(SeverityWarning, p, u, "runs "+c.image.full+": no digest is pinned", hint)
			return
		}
	}
}

// podTemplate returns what holds the pod spec: the template of a workload, or
// a Pod's own object; nil for other kinds.
func podTemplate(u *unstructured.Unstructured) map[string]any {
	var path []string
	switch u.GetKind() {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController":
		path = []string{"spec", "template"}
	case "CronJob":
		path = []string{"spec", "jobTemplate", "spec", "template"}
	case "Pod":
		return u.Object
	default:
		return nil
	}
	template, _, _ := unstructured.NestedMap(u.Object, path...)
	return template
}

// podLabels are the labels of a workload's pods, nil for other kinds.
func podLabels(u *unstructured.Unstructured) labels.Set {
	template := podTemplate(u)
	if template == nil {
		return nil
	}
	set, _, _ := unstructured.NestedStringMap(template, "metadata", "labels")
	if set == nil {
		return labels.Set{}
	}
	return set
}

// selector reads spec.selector; nil when there is none or it is malformed,
// which the API server refuses.
func selector(u *unstructured.Unstructured) labels.Selector {
	raw, ok, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	if !ok || len(raw) == 0 {
		return nil
	}
	if u.GetKind() == "Service" {
		set, _, err := unstructured.NestedStringMap(u.Object, "spec", "selector")
		if err != nil {
			return nil
		}
		return labels.SelectorFromSet(set)
	}
	var ls metav1.LabelSelector
	if runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &ls) != nil {
		return nil
	}
	s, err := metav1.LabelSelectorAsSelector(&ls)
	if err != nil {
		return nil
	}
	return s
}

// lintReferences refuses names in custom kinds that Kustomize did not rename
// along with the object they mean: it knows the fields of built-in kinds only.
func (l *linter) lintReferences(p part) {
	originals := l.originals(p)
	for _, u := range p.objects {
		if _, builtin := openapi.IsNamespaceScoped(yaml.TypeMeta{APIVersion: u.GetAPIVersion(), Kind: u.GetKind()}); builtin {
			continue
		}
		for _, top := range sortedKeys(u.Object) {
			if top == "metadata" || top == "status" {
				continue
			}
			l.eachReference(u.Object[top], top, func(at, name, kind string) {
				target := originals.find(name, kind)
				if target == nil || l.isShared(name, kind) {
					return
				}
				l.add(SeverityError, p, u, fmt.Sprintf("names %s in %s, which is called %s in this tag: Kustomize does not rename it in custom kinds", name, at, target.GetName()),
					"list the field under nameReference in a file named in configurations:, or patch it in the tag overlay")
			})
		}
	}
}

// renamed are the objects of a tag by the names they had before nameSuffix.
type renamed map[string][]*unstructured.Unstructured

func (r renamed) find(name, kind string) *unstructured.Unstructured {
	for _, u := range r[name] {
		if kind == "" || u.GetKind() == kind {
			return u
		}
	}
	return nil
}

// originals undoes the suffix of a tag, and the hash after it.
func (l *linter) originals(p part) renamed {
	suffixed := regexp.MustCompile(`^(.+)-` + regexp.QuoteMeta(p.tag) + `(-[bcdfghkmt2456789]{10})?$`)
	out := renamed{}
	for _, u := range p.objects {
		if m := suffixed.FindStringSubmatch(u.GetName()); m != nil {
			out[m[1]] = append(out[m[1]], u)
		}
	}
	return out
}

// isShared reports whether an object that exists once has the name (and kind,
// where that is known): then it is meant.
func (l *linter) isShared(name, kind string) bool {
	return slices.ContainsFunc(l.parts[0].objects, func(u *unstructured.Unstructured) bool {
		return u.GetName() == name && (kind == "" || u.GetKind() == kind)
	})
}

// namers are lists whose items have names of their own.
var namers = map[string]bool{"containers": true, "initContainers": true, "ephemeralContainers": true, "ports": true, "volumes": true,
	"volumeMounts": true, "env": true, "endpoints": true}

// kindOf guesses the kind that a field such as secretName names.
var kindOf = map[string]string{"secretName": "Secret", "configMapName": "ConfigMap", "claimName": "PersistentVolumeClaim",
	"serviceName": "Service", "serviceAccountName": "ServiceAccount", "secretRef": "Secret", "secretKeyRef": "Secret",
	"configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap", "deploymentName": "Deployment"}

// eachReference calls visit for each string below v whose field looks like the
// name of another object: name and …Name, with the kind where it is known.
func (l *linter) eachReference(v any, at string, visit func(at, name, kind string)) {
	switch v := v.(type) {
	case map[string]any:
		parent := at[strings.LastIndexByte(at, '.')+1:]
		for _, key := range slices.Sorted(maps.Keys(v)) {
			name, ok := v[key].(string)
			if !ok {
				l.eachReference(v[key], at+"."+key, visit)
				continue
			}
			item := strings.HasSuffix(parent, "]") && namers[parent[:strings.IndexByte(parent, '[')]]
			if key != "name" && !strings.HasSuffix(key, "Name") || key == "name" && item {
				continue
			}
			kind, _ := v["kind"].(string)
			if kind == "" {
				kind = cmp.Or(kindOf[key], kindOf[parent])
			}
			visit(at+"."+key, name, kind)
		}
	case []any:
		for i, item := range v {
			l.eachReference(item, fmt.Sprintf("%s[%d]", at, i), visit)
		}
	}
}
