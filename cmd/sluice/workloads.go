package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// workload is what makes pods for a release.
type workload struct {
	id   inventory.ID
	tag  string // of the deployment that it belongs to; "" for what exists once
	pods []corev1.Pod
	// images are those of the containers of its pod template, by their names.
	images map[string]string
}

// makesPods are the groups and kinds whose pods are looked for.
func makesPods(id inventory.ID) bool {
	switch id.Group {
	case "apps":
		return id.Kind != "ControllerRevision"
	case "batch":
		return true
	case "argoproj.io":
		return id.Kind == "Rollout"
	}
	return id.Group == "" && id.Kind == "ReplicationController"
}

// workloads finds the pods of a release by the selectors of what it owns. Those of
// one tag only, where tag is not "".
func (r *clusterReleases) workloads(ctx context.Context, rel *v1alpha1.Release, tag string) ([]workload, error) {
	owned, err := inventory.FromRelease(rel)
	if err != nil {
		return nil, fmt.Errorf("reading the inventory of release %s: %w", rel.Name, err)
	}
	var found []workload
	for _, id := range owned.Sorted() {
		if !makesPods(id) {
			continue
		}
		object, err := r.client.Get(ctx, owned.Kind(id), id.Namespace, id.Name)
		if err != nil {
			return nil, err
		}
		if object == nil {
			continue // deleted since
		}
		w := workload{id: id, tag: object.GetLabels()[v1alpha1.LabelTag], images: templateImages(object)}
		if tag != "" && w.tag != tag {
			continue
		}
		if w.pods, err = r.client.AllPods(ctx, selecting(object)); err != nil {
			return nil, err
		}
		slices.SortFunc(w.pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
		found = append(found, w)
	}
	return found, nil
}

// templateImages are the images that the pods of a workload are to run, by container.
func templateImages(object *unstructured.Unstructured) map[string]string {
	images := map[string]string{}
	at := []string{"spec", "template", "spec", "containers"}
	if object.GetKind() == "CronJob" {
		at = append([]string{"spec", "jobTemplate"}, at...)
	}
	containers, _, _ := unstructured.NestedSlice(object.Object, at...) // the API server knows their form
	for _, c := range containers {
		if container, ok := c.(map[string]any); ok {
			name, _ := container["name"].(string)
			images[name], _ = container["image"].(string)
		}
	}
	return images
}

// carriers are the containers that run the component: those with one of its digests.
func (w *workload) carriers(digests []string) (names []string) {
	for name, image := range w.images {
		if slices.Contains(digests, imageDigest.FindString(image)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// selecting is an object that has a selector: a CronJob has none, but its pods have
// the labels that it gives them.
func selecting(object *unstructured.Unstructured) *unstructured.Unstructured {
	labels, found, err := unstructured.NestedStringMap(object.Object, "spec", "jobTemplate", "spec", "template", "metadata", "labels")
	if err != nil || !found {
		return object
	}
	with := &unstructured.Unstructured{Object: map[string]any{}}
	with.SetKind(object.GetKind())
	with.SetName(object.GetName())
	with.SetNamespace(object.GetNamespace())
	_ = unstructured.SetNestedStringMap(with.Object, labels, "spec", "selector", "matchLabels")
	return with
}

// generated is the alphabet of the suffixes that Kubernetes makes up: without vowels,
// so that hardly a word is taken for one.
const generated = `[bcdfghjklmnpqrstvwxz2456789]`

// madeBy reports whether an object has a name as a workload gives to what it makes:
// pods, and what makes these, may be gone when their events are still there.
func madeBy(id inventory.ID, kind, name string) bool {
	rest, ok := strings.CutPrefix(name, id.Name+"-")
	if !ok {
		return false
	}
	patterns := map[string]string{
		"Deployment Pod": generated + `{1,10}-` + generated + `{5}`, "Deployment ReplicaSet": generated + `{1,10}`,
		"Rollout Pod": generated + `{1,10}-` + generated + `{5}`, "Rollout ReplicaSet": generated + `{1,10}`,
		"StatefulSet Pod": `[0-9]+`, "DaemonSet Pod": generated + `{5}`, "ReplicaSet Pod": generated + `{5}`, "ReplicationController Pod": generated + `{5}`,
		"Job Pod": `([0-9]+-)?` + generated + `{5}`, "CronJob Job": `[0-9]+`, "CronJob Pod": `[0-9]+-([0-9]+-)?` + generated + `{5}`,
	}
	pattern, ok := patterns[id.Kind+" "+kind]
	return ok && regexp.MustCompile("^"+pattern+"$").MatchString(rest)
}
