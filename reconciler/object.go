package reconciler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/render/traffic"
)

const (
	labelManagedBy  = "app.kubernetes.io/managed-by"
	managedBySluice = "sluice"
)

// claim puts the owner's labels on objects, in place, and brings them into the
// form that server-side apply wants. Pod templates are left alone: a label there
// would restart pods.
func claim(objects []*unstructured.Unstructured, key Key) error {
	for _, o := range objects {
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[v1alpha1.LabelRelease] = key.Release
		labels[v1alpha1.LabelEnvironment] = key.Environment
		if labels[labelManagedBy] == "" {
			labels[labelManagedBy] = managedBySluice
		}
		o.SetLabels(labels)
		unstructured.RemoveNestedField(o.Object, "status")
		unstructured.RemoveNestedField(o.Object, "metadata", "creationTimestamp")
		if o.GroupVersionKind() == (schema.GroupVersionKind{Version: "v1", Kind: "Secret"}) {
			// stringData is write-only: applied as it is, a key removed from it
			// would stay in data for ever. Only Secrets are normalised: for other
			// kinds it would drop fields this client library does not know.
			if err := normalize.Unstructured(o); err != nil {
				return err
			}
			unstructured.RemoveNestedField(o.Object, "metadata", "creationTimestamp")
		}
	}
	return nil
}

// owner is the release whose labels an object carries; ok is false without any.
func owner(live metav1.Object) (key Key, ok bool) {
	labels := live.GetLabels()
	release, ok := labels[v1alpha1.LabelRelease]
	return Key{Environment: labels[v1alpha1.LabelEnvironment], Release: release}, ok
}

// belongs reports whether a Release was made for an environment of a project. The
// repository counts where both sides know it: older versions wrote none.
func belongs(spec v1alpha1.ReleaseSpec, project, environment, repository string) bool {
	return spec.Project == project && spec.Environment == environment &&
		(spec.Repository == "" || repository == "" || spec.Repository == repository)
}

// strangers names the foreign Release of our name, and whose it is.
func strangers(in *Input) string {
	spec := in.Last.Spec
	text := fmt.Sprintf("Release/%s belongs to environment %s of project %s", in.Last.Name, spec.Environment, spec.Project)
	if spec.Project == in.Project && spec.Environment == in.Release.Environment.Name {
		text = fmt.Sprintf("Release/%s belongs to a project %s of another repository", in.Last.Name, spec.Project)
	}
	return text
}

// managedElsewhere says what besides Sluice manages a live object that carries
// no label of ours, or "". To take such an object over would start a fight, and
// end with its deletion once it leaves our repository. Marks that the repository
// itself declares are no sign of anybody else. Whoever means it annotates the
// object, here or there, with sluice.dev/adopt.
func managedElsewhere(desired, live *unstructured.Unstructured) string {
	if _, owned := owner(live); owned {
		return ""
	}
	for _, o := range []*unstructured.Unstructured{desired, live} {
		if o.GetAnnotations()[v1alpha1.AnnotationAdopt] == "true" {
			return ""
		}
	}
	if c := metav1.GetControllerOf(live); c != nil {
		return c.Kind + "/" + c.Name
	}
	find := func(theirs, declared map[string]string, key string) string {
		if theirs[key] == "" || theirs[key] == cluster.CompactAnnotation(key, declared[key]) || theirs[key] == declared[key] {
			return ""
		}
		return fmt.Sprintf("%s (%s: %s)", toolMarks[key], key, theirs[key])
	}
	for _, key := range slices.Sorted(maps.Keys(toolMarks)) {
		if found := find(live.GetLabels(), desired.GetLabels(), key); found != "" {
			return found
		}
		if found := find(live.GetAnnotations(), desired.GetAnnotations(), key); found != "" {
			return found
		}
	}
	switch by := live.GetLabels()[labelManagedBy]; by {
	case "", managedBySluice, desired.GetLabels()[labelManagedBy]:
		return ""
	default:
		return fmt.Sprintf("%s (%s)", by, labelManagedBy)
	}
}

// toolMarks are the labels and annotations by which other tools know what is
// theirs.
var toolMarks = map[string]string{
	"argocd.argoproj.io/instance":      "Argo CD",
	"argocd.argoproj.io/tracking-id":   "Argo CD",
	"kustomize.toolkit.fluxcd.io/name": "Flux",
	"helm.toolkit.fluxcd.io/name":      "Flux",
	"meta.helm.sh/release-name":        "Helm",
}

// stage is when an object is applied: each stage may need what is in those
// before it.
type stage int

const (
	stageNamespace stage = iota
	stageConfig
	stageServices
	stageWorkloads
	stageScaling
	stageCount
)

func (s stage) String() string {
	return [...]string{"namespace", "config", "services", "workloads", "scaling"}[s]
}

// stages lists the kinds that are not applied with the configuration. Kinds
// nobody knows are mostly what workloads need (certificates, external secrets).
var stages = map[schema.GroupKind]stage{
	{Kind: "Namespace"}:                                          stageNamespace,
	{Kind: "Service"}:                                            stageServices,
	{Kind: "Pod"}:                                                stageWorkloads,
	{Kind: "ReplicationController"}:                              stageWorkloads,
	{Group: "apps", Kind: "Deployment"}:                          stageWorkloads,
	{Group: "apps", Kind: "StatefulSet"}:                         stageWorkloads,
	{Group: "apps", Kind: "DaemonSet"}:                           stageWorkloads,
	{Group: "apps", Kind: "ReplicaSet"}:                          stageWorkloads,
	{Group: "batch", Kind: "Job"}:                                stageWorkloads,
	{Group: "batch", Kind: "CronJob"}:                            stageWorkloads,
	{Group: "policy", Kind: "PodDisruptionBudget"}:               stageScaling,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:      stageScaling,
	{Group: "autoscaling.k8s.io", Kind: "VerticalPodAutoscaler"}: stageScaling,
	{Group: "keda.sh", Kind: "ScaledObject"}:                     stageScaling,
}

func stageOf(object *unstructured.Unstructured) stage {
	if s, ok := stages[object.GroupVersionKind().GroupKind()]; ok {
		return s
	}
	return stageConfig
}

// sortForApply orders objects of one stage as their kinds depend on each other.
func sortForApply(objects []*unstructured.Unstructured) {
	sort.Stable(ssa.SortableUnstructureds(objects))
}

// sortRoutes orders what is applied in one step with the routes: what others name
// comes before them.
func sortRoutes(objects []*unstructured.Unstructured) {
	sortForApply(objects)
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return cmp.Compare(traffic.Rank(a), traffic.Rank(b)) })
}

// sortForPrune orders objects so that nothing is deleted before what uses it:
// routes, then the stages from the last to the first.
func sortForPrune(objects []*unstructured.Unstructured) {
	rank := func(o *unstructured.Unstructured) int {
		if leadsRequests(o) {
			return -int(stageCount) - traffic.Rank(o)
		}
		return -int(stageOf(o))
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a.GetKind(), b.GetKind()),
			cmp.Compare(a.GetName(), b.GetName()),
		)
	})
}

// isWorkload reports whether an object runs pods in numbers given by
// spec.replicas.
func isWorkload(object *unstructured.Unstructured) bool {
	switch object.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"}:
		return true
	}
	return false
}

func isCronJob(object *unstructured.Unstructured) bool {
	return object.GroupVersionKind().GroupKind() == schema.GroupKind{Group: "batch", Kind: "CronJob"}
}
