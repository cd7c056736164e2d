package render

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// contentHash is the end of the name of what a generator makes: Kustomize writes the
// hash of the content so.
var contentHash = regexp.MustCompile(`-[2456789bcdfghkmt]{10}$`)

// rollingKinds are the workloads whose pods live until their template changes.
var rollingKinds = []string{"Deployment", "StatefulSet", "DaemonSet"}

// lintRotation warns of configuration that a pod reads when it starts and whose change
// starts no new pods, as the name stays the same. Files of whole mounted objects are
// left out: the kubelet renews them in running pods.
func (l *linter) lintRotation(p part, u *subject) {
	if u.template == nil || !slices.Contains(rollingKinds, u.GetKind()) {
		return
	}
	for _, ref := range readAtStart(mapAt(u.template, "spec")) {
		if contentHash.MatchString(ref.name) || !l.renders(p, ref, u.GetNamespace()) {
			continue // what is made elsewhere is changed elsewhere
		}
		l.add(SeverityWarning, p, u, fmt.Sprintf("reads %s when it starts, and a change of that does not restart its pods", ref),
			"let a "+generatorOf[ref.kind]+" make it, without disableNameSuffixHash: its name then changes with its content, and the pods with it")
	}
}

var generatorOf = map[string]string{"Secret": "secretGenerator", "ConfigMap": "configMapGenerator"}

// configRef is a reference to a ConfigMap or Secret.
type configRef struct{ kind, name string }

func (r configRef) String() string { return r.kind + " " + r.name }

// renders reports whether the release has the object: in the part, or shared.
func (l *linter) renders(p part, ref configRef, namespace string) bool {
	has := func(u *subject) bool {
		return u.GetKind() == ref.kind && u.GetName() == ref.name && u.GetNamespace() == namespace && u.GroupVersionKind().Group == ""
	}
	return slices.ContainsFunc(p.objects, has) || slices.ContainsFunc(l.parts[0].objects, has)
}

// readAtStart are the references of a pod that count when a container starts: those of
// env, of envFrom, and of volumes that are mounted by subPath. Sorted.
func readAtStart(pod map[string]any) (refs []configRef) {
	add := func(kind string, at map[string]any, field string) {
		if name, _ := at[field].(string); name != "" {
			refs = append(refs, configRef{kind, name})
		}
	}
	var pinned []string // volumes of which a file is mounted by subPath
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range mapsAt(pod, list) {
			for _, from := range mapsAt(c, "envFrom") {
				add("ConfigMap", mapAt(from, "configMapRef"), "name")
				add("Secret", mapAt(from, "secretRef"), "name")
			}
			for _, variable := range mapsAt(c, "env") {
				add("ConfigMap", mapAt(variable, "valueFrom", "configMapKeyRef"), "name")
				add("Secret", mapAt(variable, "valueFrom", "secretKeyRef"), "name")
			}
			for _, mount := range mapsAt(c, "volumeMounts") {
				if name, _ := mount["name"].(string); mount["subPath"] != nil || mount["subPathExpr"] != nil {
					pinned = append(pinned, name)
				}
			}
		}
	}
	for _, volume := range mapsAt(pod, "volumes") {
		if name, _ := volume["name"].(string); slices.Contains(pinned, name) {
			add("ConfigMap", mapAt(volume, "configMap"), "name")
			add("Secret", mapAt(volume, "secret"), "secretName")
			for _, source := range mapsAt(mapAt(volume, "projected"), "sources") {
				add("ConfigMap", mapAt(source, "configMap"), "name")
				add("Secret", mapAt(source, "secret"), "name")
			}
		}
	}
	slices.SortFunc(refs, func(a, b configRef) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(refs)
}

// mapsAt are the mappings of a list.
func mapsAt(m map[string]any, field string) (found []map[string]any) {
	items, _ := m[field].([]any)
	for _, item := range items {
		if fields, ok := item.(map[string]any); ok {
			found = append(found, fields)
		}
	}
	return found
}
