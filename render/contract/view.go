package contract

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// view is what one container sees of its configuration.
type view struct {
	workload string
	seen     map[string]bool
	plain    map[string]string // values of those that do not come from a Secret, where they are known
	broken   map[string]string // names whose reference keeps the container from starting, with the reason
	absent   map[string]string // names whose optional reference finds nothing, with the reason
	outside  []outside
}

// outside is a source of names that is not among the rendered objects.
type outside struct {
	source string
	prefix string // of envFrom
	only   string // the one name it can provide; "" = any
}

func (o outside) provides(key string) bool {
	if o.only != "" {
		return key == o.only
	}
	return strings.HasPrefix(key, o.prefix)
}

func (v view) names() []string { return slices.Sorted(maps.Keys(v.seen)) }

// source names a ConfigMap or Secret.
type source struct{ kind, namespace, name string }

func (s source) String() string {
	if s.namespace == "" {
		return printable(s.kind + " " + s.name)
	}
	return printable(s.kind + " " + s.namespace + "/" + s.name)
}

// printable quotes a name that no API server would take, so that it cannot steer
// a terminal.
func printable(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// keys are the names of the entries of a ConfigMap or Secret.
type keys struct {
	text  map[string]bool   // usable as environment variables
	all   map[string]bool   // with binaryData: usable as files
	plain map[string]string // values of a ConfigMap
}

// index finds the ConfigMaps and Secrets among the objects.
func index(objects []*unstructured.Unstructured) map[source]keys {
	found := map[source]keys{}
	for _, object := range objects {
		gvk := object.GroupVersionKind()
		if gvk.Group != "" || gvk.Kind != "ConfigMap" && gvk.Kind != "Secret" {
			continue
		}
		k := keys{text: map[string]bool{}, all: map[string]bool{}, plain: map[string]string{}}
		for _, field := range []string{"data", "stringData", "binaryData"} {
			for key, value := range mapping(object.Object, field) {
				k.all[key] = true
				if text, ok := value.(string); ok && field == "data" && gvk.Kind == "ConfigMap" {
					k.plain[key] = text
				}
				if field != "binaryData" {
					k.text[key] = true
				}
			}
		}
		found[source{gvk.Kind, object.GetNamespace(), object.GetName()}] = k
	}
	return found
}

// views are the containers that run the image, of every kind with a pod template.
func views(objects []*unstructured.Unstructured, image string) []view {
	rendered := index(objects)
	var all []view
	for _, object := range objects {
		pod := podSpec(object)
		containers := list(pod, "containers")
		for _, c := range list(pod, "initContainers") {
			if text(c, "restartPolicy") == "Always" { // a sidecar
				containers = append(containers, c)
			}
		}
		for _, c := range containers {
			if image == "" || imageName(text(c, "image")) != image {
				continue
			}
			b := builder{
				view: view{
					workload: fmt.Sprintf("%s, container %s", source{object.GetKind(), object.GetNamespace(), object.GetName()}, printable(text(c, "name"))),
					seen:     map[string]bool{}, plain: map[string]string{}, broken: map[string]string{}, absent: map[string]string{}},
				rendered: rendered, namespace: object.GetNamespace(),
			}
			b.envFrom(c)
			b.env(c)
			b.files(c, list(pod, "volumes"))
			all = append(all, b.view)
		}
	}
	return all
}

// podSpec is the pod that a workload runs; nil for all else. Any kind with a pod
// template at the usual place counts, those of custom resources too.
func podSpec(object *unstructured.Unstructured) map[string]any {
	spec := mapping(object.Object, "spec")
	switch object.GetKind() {
	case "Pod":
		return spec
	case "CronJob":
		spec = mapping(mapping(spec, "jobTemplate"), "spec")
	}
	return mapping(mapping(spec, "template"), "spec")
}

// imageName is an image without its tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndex(image, ":"); colon > strings.LastIndex(image, "/") {
		image = image[:colon]
	}
	return image
}

// field is a field that refers to an object of a kind.
type field struct{ name, kind string }

// builder fills a view from the fields of a container.
type builder struct {
	view
	rendered  map[source]keys
	namespace string
}

// envFrom takes all keys of whole ConfigMaps and Secrets.
func (b *builder) envFrom(container map[string]any) {
	for _, from := range list(container, "envFrom") {
		prefix := text(from, "prefix")
		for _, f := range [...]field{{"configMapRef", "ConfigMap"}, {"secretRef", "Secret"}} {
			ref, set := from[f.name].(map[string]any)
			if !set {
				continue
			}
			s := source{f.kind, b.namespace, text(ref, "name")}
			k, found := b.rendered[s]
			if !found {
				b.outside = append(b.outside, outside{source: s.String(), prefix: prefix})
			}
			for key := range k.text {
				b.see(prefix+key, k, key)
			}
		}
	}
}

// env takes single variables. A literal, a field of the pod or a resource is
// there in any case.
func (b *builder) env(container map[string]any) {
	for _, variable := range list(container, "env") {
		name, from := text(variable, "name"), mapping(variable, "valueFrom")
		reference := false
		for _, f := range [...]field{{"configMapKeyRef", "ConfigMap"}, {"secretKeyRef", "Secret"}} {
			if ref, set := from[f.name].(map[string]any); set {
				reference = true
				b.reference(name, source{f.kind, b.namespace, text(ref, "name")}, ref)
			}
		}
		if !reference {
			b.seen[name] = true
			delete(b.plain, name)
			if value, ok := variable["value"].(string); ok && !strings.Contains(value, "$(") { // which is expanded
				b.plain[name] = value
			}
		}
	}
}

// see adds a name that takes its value from a key of a ConfigMap or Secret. What was
// said of the name before does not count any more.
func (b *builder) see(name string, k keys, key string) {
	b.seen[name] = true
	delete(b.plain, name)
	if value, ok := k.plain[key]; ok {
		b.plain[name] = value
	}
}

// reference takes a variable from one key of a ConfigMap or Secret.
func (b *builder) reference(name string, s source, ref map[string]any) {
	key := text(ref, "key")
	k, found := b.rendered[s]
	switch {
	case found && k.text[key]:
		b.see(name, k, key)
	case !found:
		b.outside = append(b.outside, outside{source: fmt.Sprintf("key %q of %s", key, s), only: name})
	case ref["optional"] == true:
		b.absent[name] = fmt.Sprintf("its env reads key %q of %s, which has no such key", key, s)
	default:
		b.broken[name] = fmt.Sprintf("its env reads key %q of %s, which has no such key", key, s)
	}
}

// files takes the mounted keys of ConfigMaps and Secrets, and of the downward
// API, each by the name of its file.
func (b *builder) files(container map[string]any, volumes []map[string]any) {
	for _, mount := range list(container, "volumeMounts") {
		for _, volume := range volumes {
			if text(volume, "name") != text(mount, "name") {
				continue
			}
			if csi := mapping(volume, "csi"); csi != nil {
				b.outside = append(b.outside, outside{source: fmt.Sprintf("volume %q of driver %q", text(volume, "name"), text(csi, "driver"))})
			}
			b.projection(mount, volume)
			for _, projection := range list(mapping(volume, "projected"), "sources") {
				b.projection(mount, projection)
			}
		}
	}
}

// projection takes one source of a volume, which has the same fields as one of a
// projected volume.
func (b *builder) projection(mount, from map[string]any) {
	for _, item := range list(mapping(from, "downwardAPI"), "items") {
		b.file(mount, text(item, "path"), keys{}, "")
	}
	for _, f := range [...]field{{"configMap", "ConfigMap"}, {"secret", "Secret"}} {
		ref, set := from[f.name].(map[string]any)
		if !set {
			continue
		}
		name := text(ref, "name")
		if name == "" {
			name = text(ref, "secretName")
		}
		s := source{f.kind, b.namespace, name}
		k, found := b.rendered[s]
		items := list(ref, "items")
		if !found && len(items) == 0 {
			b.outside = append(b.outside, outside{source: s.String()})
		}
		for _, item := range items {
			if !found {
				b.outside = append(b.outside, outside{source: fmt.Sprintf("key %q of %s", text(item, "key"), s), only: path.Base(text(item, "path"))})
			} else if k.all[text(item, "key")] {
				b.file(mount, text(item, "path"), k, text(item, "key"))
			}
		}
		if len(items) == 0 {
			for key := range k.all {
				b.file(mount, key, k, key)
			}
		}
	}
}

// file adds a file of a volume. With subPath the mount shows that file under the
// name of the mount point, or what lies below that folder. A variable of the same
// name goes before it.
func (b *builder) file(mount map[string]any, file string, k keys, key string) {
	name, sub := path.Base(file), path.Clean(text(mount, "subPath"))
	switch {
	case sub == "." || strings.HasPrefix(file, sub+"/"):
	case sub == path.Clean(file):
		name = path.Base(text(mount, "mountPath"))
	default:
		return
	}
	if !b.seen[name] {
		b.see(name, k, key)
	}
}

// The readers below take fields of objects whose shape nobody has checked: a
// field of another type reads as absent.

func mapping(fields map[string]any, key string) map[string]any {
	value, _ := fields[key].(map[string]any)
	return value
}

func text(fields map[string]any, key string) string {
	value, _ := fields[key].(string)
	return value
}

func list(fields map[string]any, key string) []map[string]any {
	items, _ := fields[key].([]any)
	var all []map[string]any
	for _, item := range items {
		if value, ok := item.(map[string]any); ok {
			all = append(all, value)
		}
	}
	return all
}
