package render

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Severities of a Finding.
const (
	SeverityError   = "error"   // Build refuses the release
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
	// Workload is what the component calls the object, Kind name, where the finding
	// is about the workload itself, in every environment and tag that does not patch
	// it; "" for others.
	Workload string
}

// String returns folder: object what-is-wrong, on one line whatever the names.
func (f Finding) String() string {
	return strings.Join(strings.FieldsFunc(f.File+": "+f.Object+" "+f.Message, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// InstanceLabel tells the pods of tags apart (DESIGN §2).
const InstanceLabel = "app.kubernetes.io/instance"

// Lint looks for what must not stand in a tag because it exists once, for
// selectors that reach pods of several tags, for pods that the release's own
// Services would not find, for workloads that traffic may hit unprepared, for
// configuration whose change restarts no pods, and for annotations that do nothing.
// Findings are sorted by folder, errors first. They do not depend on decrypted
// values: a keyless render has the same. [Build] refuses a release with errors.
func Lint(res *Result) []Finding {
	l := newLinter(res)
	for _, p := range l.parts {
		for _, o := range p.objects {
			l.lintWorkload(p, o)
			l.lintAnnotations(p, o)
			l.lintRotation(p, o)
			if res.Release.Tagged() && o.GetKind() == "DestinationRule" {
				l.lintDestination(p, o)
			}
			if p.tag == "" {
				l.lintShared(p, o)
				continue
			}
			l.lintOnce(p, o)
			l.lintTagSelector(p, o)
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

// refused are the findings for which a release is not applied.
func refused(found []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Severity != SeverityError })
}

type linter struct {
	release  envrepo.Release
	parts    []part           // the shared one first
	pods     map[string][]pod // of all parts, by their instance label: see selected
	floors   map[string]int   // the fewest pods of what is autoscaled, by kind/name
	findings []Finding
}

// part is one rendered folder.
type part struct {
	index            int
	dir, tag, digest string
	objects          []*subject
}

// subject is an object with what is asked of it more than once.
type subject struct {
	*unstructured.Unstructured
	template map[string]any  // what holds its pod spec; nil for other kinds
	labels   labels.Set      // of its pods; nil for other kinds
	selector labels.Selector // nil when it has none, or is of a kind that does not matter
	served   bool            // a Service of its part, or a shared one, selects its pods
}

// pod stands for the pods of a workload.
type pod struct {
	part   int
	labels labels.Set
}

func newLinter(res *Result) *linter {
	l := &linter{release: res.Release, pods: map[string][]pod{}, floors: map[string]int{}}
	add := func(p part, objects []*unstructured.Unstructured) {
		p.index = len(l.parts)
		for _, u := range objects {
			o := &subject{Unstructured: u, template: podTemplate(u), labels: podLabels(u)}
			if selecting[u.GetKind()] {
				o.selector = selector(u)
			}
			if o.labels != nil {
				instance := o.labels[InstanceLabel]
				l.pods[instance] = append(l.pods[instance], pod{p.index, o.labels})
			}
			l.noteFloor(u)
			p.objects = append(p.objects, o)
		}
		l.parts = append(l.parts, p)
	}
	shared := part{dir: res.Release.Dir}
	if !res.Release.Tagged() {
		shared.digest = res.Release.Digest
	}
	add(shared, res.Shared)
	for i, t := range res.Tags {
		add(part{dir: res.Release.Tags[i].Dir, tag: t.Name, digest: t.Digest}, t.Objects)
	}
	for _, p := range l.parts {
		l.serve(p)
	}
	return l
}

// serve notes which pods of a part get requests.
func (l *linter) serve(p part) {
	objects := p.objects
	if p.index > 0 {
		objects = slices.Concat(l.parts[0].objects, objects)
	}
	var services []labels.Selector
	for _, o := range objects {
		if o.GetKind() == "Service" && o.selector != nil {
			services = append(services, o.selector)
		}
	}
	for _, o := range p.objects {
		o.served = o.labels != nil && slices.ContainsFunc(services, func(s labels.Selector) bool { return s.Matches(o.labels) })
	}
}

func (l *linter) add(severity string, p part, o *subject, message, hint string) {
	l.findings = append(l.findings, Finding{Severity: severity, File: p.dir, Object: objectName(o.Unstructured), Message: message, Hint: hint})
}

// addWorkload warns of what is wrong with a workload as its component has it.
func (l *linter) addWorkload(p part, o *subject, message, hint string) {
	l.add(SeverityWarning, p, o, message, hint)
	name := o.GetName()
	if p.tag != "" {
		name = strings.TrimSuffix(name, "-"+p.tag)
	}
	l.findings[len(l.findings)-1].Workload = o.GetKind() + " " + name
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
func (l *linter) lintOnce(p part, u *subject) {
	kind := u.GetKind()
	if why, ok := once[kind]; ok {
		l.add(SeverityError, p, u, "stands in a tag and must exist once: "+why, "move it to "+l.release.Dir+" or the component's shared folder")
	}
	switch kind {
	case "Service":
		if exposed(u.Unstructured) {
			l.add(SeverityError, p, u, "is reachable from outside the cluster past the weights", "make it type ClusterIP without nodePort, and route to Service "+l.release.Name)
		}
	case "CronJob", "Job":
		l.add(SeverityWarning, p, u, "runs once for each tag, whatever its weight", "move it to "+l.release.Dir+" if it must run once")
	case "Deployment", "StatefulSet":
		if !u.served {
			l.add(SeverityWarning, p, u, "is selected by no Service: if it takes work from a queue it does so at any weight", "let it run in one tag only, or move it to a component of its own")
		}
	}
}

// lintDestination refuses Istio's policy for a Service of the release where it would
// not hold for the requests that routes send to the tags.
func (l *linter) lintDestination(p part, u *subject) {
	host, _, _ := unstructured.NestedString(u.Object, "spec", "host")
	name, rest, _ := strings.Cut(host, ".")
	own := name == l.release.Component.Name
	ofTag := slices.ContainsFunc(l.parts[1:], func(t part) bool { return name == l.instance(t) })
	namespace := l.release.Environment.Namespace
	switch {
	case (own || ofTag) && (rest == namespace || rest == namespace+".svc"):
		l.add(SeverityError, p, u, fmt.Sprintf("is for host %s, which Istio takes for a complete name that no Service has", host),
			"write "+name+", or the whole name with the cluster's domain")
	case own && p.tag != "":
		l.add(SeverityError, p, u, fmt.Sprintf("is for host %s, which is no tag's Service", host),
			"move it to "+l.release.Dir+", where it is copied for each tag, or patch spec.host in the tag overlay")
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

// lintWorkload warns of what lets traffic hit an unready pod or none, or starves it.
func (l *linter) lintWorkload(p part, u *subject) {
	if u.template == nil {
		return
	}
	spec := mapAt(u.template, "spec")
	var ready bool
	var bare []string
	items, _ := spec["containers"].([]any)
	for _, item := range items {
		c, _ := item.(map[string]any)
		if c["readinessProbe"] != nil {
			ready = true
		}
		requests := mapAt(c, "resources", "requests")
		if requests["cpu"] == nil || requests["memory"] == nil {
			name, _ := c["name"].(string)
			bare = append(bare, name)
		}
	}
	if !ready && u.served {
		l.addWorkload(p, u, "has no readinessProbe: it gets requests before it can answer", "add a readinessProbe to the container that serves")
	}
	l.lintRollout(p, u)
	if len(bare) > 0 {
		l.addWorkload(p, u, "has no CPU and memory requests in container "+strings.Join(bare, ", "), "add resources.requests: the scheduler and autoscaler count on them")
	}
	if p.digest != "" || l.release.Component.Image == "" {
		return
	}
	for _, c := range containers(u.Unstructured) {
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
				if target == "" || l.isShared(name, kind) {
					return
				}
				l.add(SeverityError, p, u, fmt.Sprintf("names %s in %s, which is called %s in this tag: Kustomize does not rename it in custom kinds", name, at, target),
					"list the field under nameReference in a file named in configurations:, or patch it in the tag overlay")
			})
		}
	}
}

// renamed are the objects of a tag by the names they had before nameSuffix.
type renamed map[string][]rename

// rename is an object's kind and its name in the tag, without the hash of its
// content, which would tell a keyless render from one with keys.
type rename struct{ kind, name string }

// find returns the name in the tag, "" when there is no such object.
func (r renamed) find(name, kind string) string {
	for _, to := range r[name] {
		if kind == "" || to.kind == kind {
			return to.name
		}
	}
	return ""
}

// originals undoes the suffix of a tag, and the hash after it.
func (l *linter) originals(p part) renamed {
	suffixed := regexp.MustCompile(`^(.+)(-` + regexp.QuoteMeta(p.tag) + `)(-[bcdfghkmt2456789]{10})?$`)
	out := renamed{}
	for _, u := range p.objects {
		if m := suffixed.FindStringSubmatch(u.GetName()); m != nil {
			to := rename{u.GetKind(), m[1] + m[2]}
			if m[3] != "" {
				to.name += "-HASH"
			}
			out[m[1]] = append(out[m[1]], to)
		}
	}
	return out
}

// isShared reports whether an object that exists once has the name (and kind,
// where that is known): then it is meant.
func (l *linter) isShared(name, kind string) bool {
	return slices.ContainsFunc(l.parts[0].objects, func(u *subject) bool {
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
