package render

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// objectName names an object in messages: Kind namespace/name.
func objectName(u *unstructured.Unstructured) string {
	name := u.GetName()
	if ns := u.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return u.GetKind() + " " + name
}

// ownGroup is the API group of what Sluice keeps in a cluster, and of its files, which
// are no objects.
const ownGroup = "sluice.dev"

// clusterScoped are kinds outside Kubernetes' own schema that are known to have
// no namespace. Kinds that are known nowhere are taken as namespaced, as
// Kustomize does.
var clusterScoped = map[schema.GroupKind]bool{
	{Group: "gateway.networking.k8s.io", Kind: "GatewayClass"}:        true,
	{Group: "cert-manager.io", Kind: "ClusterIssuer"}:                 true,
	{Group: "external-secrets.io", Kind: "ClusterSecretStore"}:        true,
	{Group: "external-secrets.io", Kind: "ClusterExternalSecret"}:     true,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: true,
	{Group: "snapshot.storage.k8s.io", Kind: "VolumeSnapshotClass"}:   true,
	{Group: "kyverno.io", Kind: "ClusterPolicy"}:                      true,
}

func isClusterScoped(u *unstructured.Unstructured) bool {
	if clusterScoped[u.GroupVersionKind().GroupKind()] {
		return true
	}
	return openapi.IsCertainlyClusterScoped(yaml.TypeMeta{APIVersion: u.GetAPIVersion(), Kind: u.GetKind()})
}

// checkNamespaces refuses every object that is not in the environment's
// namespace. The one exception is that Namespace itself, in the reserved
// release. What Sluice keeps in the namespace is no release's either: a Release
// that the repository wrote could have others' objects pruned.
func checkNamespaces(rel envrepo.Release, f folder) error {
	want := rel.Environment.Namespace
	for _, u := range f.objects {
		fail := func(reason, remedy string) error {
			return &ObjectError{Dir: f.dir, Object: objectName(u), Reason: reason, Remedy: remedy}
		}
		if u.GroupVersionKind().Group == ownGroup {
			return fail("is a record of Sluice's own, which no release may have", "remove it: the controller writes it")
		}
		if isClusterScoped(u) {
			if u.GetKind() != "Namespace" || u.GroupVersionKind().Group != "" {
				return fail("has no namespace: a release may only have objects in "+want, "install cluster-wide objects apart from Sluice, with the cluster")
			}
			if u.GetName() != want || rel.Name != envrepo.EnvironmentRelease {
				return fail("is not this release's: only environments/"+rel.Environment.Name+" may have a Namespace, and only "+want,
					"move the Namespace "+want+" there, and remove others")
			}
			continue
		}
		switch ns := u.GetNamespace(); ns {
		case want:
		case "":
			return fail("has no namespace", "add namespace: "+want+" to "+f.overlay())
		default:
			return fail("is not in the environment's namespace "+want, "set namespace: "+want+" in "+f.overlay())
		}
	}
	return nil
}

// checkDuplicates refuses folders that declare an object which another folder of
// the release declares too.
func checkDuplicates(folders []folder) {
	type id struct {
		schema.GroupKind
		namespace, name string
	}
	seen := map[id]int{}
	for i := range folders {
		f := &folders[i]
		for _, u := range f.objects {
			if f.err != nil {
				break
			}
			key := id{u.GroupVersionKind().GroupKind(), u.GetNamespace(), u.GetName()}
			first, ok := seen[key]
			if !ok {
				seen[key] = i
				continue
			}
			fail := func(f *folder, other string) {
				f.err = &ObjectError{Dir: f.dir, Object: objectName(u), Reason: "is declared in " + other + " too",
					Remedy: "give each tag its own nameSuffix, and declare what exists once in " + folders[0].dir + " only"}
			}
			fail(f, folders[first].dir)
			if first != 0 && folders[first].err == nil {
				fail(&folders[first], f.dir)
			}
		}
	}
}

// container is an image in use, found in any kind of object.
type container struct {
	object *unstructured.Unstructured
	name   string
	image  imageRef
}

// imageRef is an image reference in its parts.
type imageRef struct{ full, name, tag, digest string }

func parseImage(s string) imageRef {
	ref := imageRef{full: s, name: s}
	ref.name, ref.digest, _ = strings.Cut(s, "@")
	if i := strings.LastIndexByte(ref.name, ':'); i > strings.LastIndexByte(ref.name, '/') {
		ref.name, ref.tag = ref.name[:i], ref.name[i+1:]
	}
	return ref
}

// containers finds the containers of an object wherever it has lists of that
// name: pod templates of any kind, custom ones too.
func containers(u *unstructured.Unstructured) []container {
	var found []container
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range sortedKeys(v) {
				if list, ok := v[key].([]any); ok && (key == "containers" || key == "initContainers" || key == "ephemeralContainers") {
					for _, item := range list {
						c, _ := item.(map[string]any)
						image, _ := c["image"].(string)
						name, _ := c["name"].(string)
						if image != "" {
							found = append(found, container{u, name, parseImage(image)})
						}
					}
				}
				walk(v[key])
			}
		case []any:
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(u.Object)
	return found
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// checkImages checks a folder (number i of the release, the tags following the
// shared one) against the images that its own overlay pins: Kustomize is silent
// about an entry whose name matches nothing.
func checkImages(rel envrepo.Release, i int, f folder) error {
	var used []container
	for _, u := range f.objects {
		used = append(used, containers(u)...)
	}
	for _, e := range f.top.images() {
		if err := checkEntry(f, e, used); err != nil {
			return err
		}
	}
	digest := rel.Digest
	if rel.Tagged() {
		if i == 0 {
			return nil // what exists once pins nothing
		}
		digest = rel.Tags[i-1].Digest
	}
	return checkPinned(f, rel.Component.Image, digest, used)
}

// checkEntry checks that an images entry has changed a container at least.
func checkEntry(f folder, e types.Image, used []container) error {
	name := e.NewName
	matches := func(s string) bool { return s == name }
	if name == "" {
		name = e.Name
		// Kustomize takes the name for a regular expression.
		if re, err := regexp.Compile("^(?:" + e.Name + ")$"); err == nil {
			matches = re.MatchString
		}
	}
	due := e.Digest
	if due == "" {
		due = e.NewTag
	}
	fault := &ImageError{File: f.top.file, Image: name, Digest: due, Missing: true}
	for _, c := range used {
		if !matches(c.image.name) {
			continue
		}
		if (e.Digest == "" || c.image.digest == e.Digest) && (e.NewTag == "" || c.image.tag == e.NewTag) {
			return nil
		}
		fault.Missing, fault.Object, fault.Found = false, containerName(c), c.image.full
	}
	if usedElsewhere(f.objects, e, matches) {
		return nil
	}
	if fault.Missing {
		fault.Found = nearestImage(name, used)
	}
	fault.Line = f.top.valueLine("images", e.Name)
	return fault
}

func containerName(c container) string {
	return fmt.Sprintf("%s container %s", objectName(c.object), c.name)
}

// usedElsewhere looks for the image in fields of custom kinds, which Kustomize
// changes when it is configured to.
func usedElsewhere(objects []*unstructured.Unstructured, e types.Image, matches func(string) bool) bool {
	for _, u := range objects {
		missing := eachString(u.Object, func(s field) bool {
			ref := parseImage(s.value)
			return ref.tag+ref.digest == "" || !matches(ref.name) || e.Digest != "" && ref.digest != e.Digest || e.NewTag != "" && ref.tag != e.NewTag
		})
		if !missing {
			return true
		}
	}
	return false
}

// checkPinned checks that all containers of the component's image run the
// pinned digest, and that there is one.
func checkPinned(f folder, image, digest string, used []container) error {
	if digest == "" || image == "" {
		return nil
	}
	fault := func() *ImageError {
		return &ImageError{File: f.top.file, Line: f.top.valueLine("images", image), Image: image, Digest: digest}
	}
	found := false
	for _, c := range used {
		if c.image.digest == digest {
			found = true
		}
		if c.image.name == image && c.image.digest != digest {
			e := fault()
			e.Object, e.Found = containerName(c), c.image.full
			return e
		}
	}
	if !found {
		e := fault()
		e.Missing, e.Found = true, nearestImage(image, used)
		return e
	}
	return nil
}

// nearestImage is the rendered image that was most likely meant.
func nearestImage(name string, used []container) string {
	names := make([]string, 0, len(used))
	for _, c := range used {
		if c.image.name != name {
			names = append(names, c.image.name)
		}
	}
	if near := envrepo.Nearest(name, names); near != "" {
		return near
	}
	for _, n := range names { // the same image of another registry
		if path.Base(n) == path.Base(name) {
			return n
		}
	}
	if len(names) > 0 {
		return names[0]
	}
	return ""
}
