package reconciler

import (
	"encoding/json"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// Field managers. The second owns nothing but spec.replicas, and only until the
// autoscaler takes it over.
const (
	fieldManager = "sluice"
	scaleManager = "sluice-scale"
)

// foreignManagers are the field managers of people's own kubectl: what they
// planted in objects that the repository declares is taken back. Labels,
// annotations and restarts (kubectl label, annotate, rollout) are left alone: they
// are how people talk to controllers, and taking a restart back is another one.
var foreignManagers = []string{"kubectl-client-side-apply", "kubectl-edit", "kubectl-patch", "kubectl-replace", "kubectl-create", "kubectl-set", "before-first-apply"}

// scaler is an autoscaler of the render, and the workload it scales.
type scaler struct {
	object             *unstructured.Unstructured
	target             inventory.ID
	min, max           int64
	minField, maxField string
}

// asScaler reads an autoscaler; nil when the object is none, or none that can
// be understood: its workload then keeps the replicas of its manifest.
func asScaler(o *unstructured.Unstructured) *scaler {
	s := &scaler{object: o, min: 1}
	switch o.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:
		s.minField, s.maxField = "minReplicas", "maxReplicas"
	case schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"}:
		s.minField, s.maxField, s.min, s.max = "minReplicaCount", "maxReplicaCount", 0, 100
	default:
		return nil
	}
	ref, _, _ := unstructured.NestedMap(o.Object, "spec", "scaleTargetRef")
	name, _ := ref["name"].(string)
	kind, _ := ref["kind"].(string)
	apiVersion, _ := ref["apiVersion"].(string)
	if kind == "" {
		kind = "Deployment" // the default of a ScaledObject
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if name == "" || err != nil {
		return nil
	}
	if apiVersion == "" {
		gv.Group = "apps"
	}
	s.target = inventory.ID{Namespace: o.GetNamespace(), Name: name, Group: gv.Group, Kind: kind}
	if n, found, err := unstructured.NestedInt64(o.Object, "spec", s.minField); found && err == nil {
		s.min = n
	}
	if n, found, err := unstructured.NestedInt64(o.Object, "spec", s.maxField); found && err == nil {
		s.max = n
	}
	return s
}

// annotationLift stands on an autoscaler whose minimum is lifted: the share in
// percent that it was lifted for. It tells, as long as the lift lasts and across
// restarts, what that number of pods was meant to carry.
const annotationLift = "sluice.dev/lifted-for"

// lift is a raised minimum of an autoscaler, the zero one for none.
type lift struct {
	min   int64
	share int // percent of the traffic that it is for
}

// withLift is the autoscaler with a raised minimum, a copy if that differs.
func (s *scaler) withLift(l lift) *unstructured.Unstructured {
	n := min(l.min, max(s.max, s.min))
	if n <= s.min {
		return s.object
	}
	lifted := s.object.DeepCopy()
	// The path exists and holds maps: asScaler has read it.
	_ = unstructured.SetNestedField(lifted.Object, n, "spec", s.minField)
	annotations := lifted.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationLift] = strconv.Itoa(l.share)
	lifted.SetAnnotations(annotations)
	return lifted
}

// liveLift is how the autoscaler of the cluster is lifted now.
func (s *scaler) liveLift(live *unstructured.Unstructured) lift {
	if live == nil {
		return lift{}
	}
	n, _, _ := unstructured.NestedInt64(live.Object, "spec", s.minField)
	share, err := strconv.Atoi(live.GetAnnotations()[annotationLift])
	if err != nil || share < 1 || share > 100 || n <= s.min {
		return lift{}
	}
	return lift{min: n, share: share}
}

// withoutReplicas is the workload without spec.replicas, a copy if it has any.
func withoutReplicas(o *unstructured.Unstructured) *unstructured.Unstructured {
	if _, found, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "replicas"); !found {
		return o
	}
	c := o.DeepCopy()
	unstructured.RemoveNestedField(c.Object, "spec", "replicas")
	return c
}

// retired is the form in which an unlisted tag stays: workloads at zero, cron
// jobs suspended, all else as it is. Nil: the object is left out (autoscalers,
// which would have nothing to scale).
func retired(o *unstructured.Unstructured) *unstructured.Unstructured {
	switch {
	case asScaler(o) != nil:
		return nil
	case isWorkload(o):
		c := o.DeepCopy()
		_ = unstructured.SetNestedField(c.Object, int64(0), "spec", "replicas")
		return c
	case isCronJob(o):
		c := o.DeepCopy()
		_ = unstructured.SetNestedField(c.Object, true, "spec", "suspend")
		return c
	}
	return o
}

// running reports whether a live workload or cron job is meant to have pods. One
// whose pods are just ending is not: it has been retired.
func running(live *unstructured.Unstructured) bool {
	switch {
	case live == nil:
		return false
	case isWorkload(live):
		wanted, found, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
		return !found || wanted > 0
	case isCronJob(live):
		suspended, _, _ := unstructured.NestedBool(live.Object, "spec", "suspend")
		return !suspended
	}
	return false
}

// ownsReplicas reports whether an apply without spec.replicas would take the
// field away: when the main manager owns it, or one whose fields the main
// manager takes over first.
func ownsReplicas(live *unstructured.Unstructured) bool {
	return replicasOf(live, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == fieldManager && e.Operation == metav1.ManagedFieldsOperationApply || slices.Contains(foreignManagers, e.Manager)
	})
}

// scaledByUs reports whether the present number of replicas is one that we wrote
// and no autoscaler has changed since.
func scaledByUs(live *unstructured.Unstructured) bool {
	return replicasOf(live, func(e metav1.ManagedFieldsEntry) bool { return e.Manager == scaleManager })
}

// stoppedByUs reports whether a workload under an autoscaler is at zero because its tag
// was retired: what is applied of it otherwise has no number.
func stoppedByUs(live *unstructured.Unstructured) bool {
	return !running(live) && replicasOf(live, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == fieldManager && e.Operation == metav1.ManagedFieldsOperationApply
	})
}

// replicasOf reports whether a manager that is meant owns spec.replicas.
func replicasOf(live *unstructured.Unstructured, meant func(metav1.ManagedFieldsEntry) bool) bool {
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource != "" || entry.FieldsV1 == nil || !meant(entry) {
			continue
		}
		var fields struct {
			Spec struct {
				Replicas *struct{} `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) == nil && fields.Spec.Replicas != nil {
			return true
		}
	}
	return false
}

// scaleTo is the replicas that have to be written for a workload under an
// autoscaler before it is applied, or 0 for none. floor is the least it should
// run; see the package comment. Where an autoscaler is being lifted, more pods than
// that are written down too: they are left from a larger share, and only a change
// by the autoscaler makes them a finding of its own.
func scaleTo(live *unstructured.Unstructured, floor int64, lifting bool) int64 {
	if live == nil {
		return 0 // created with one, and asked again
	}
	present, found, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if !found {
		present = 1
	}
	if ownsReplicas(live) || lifting && !scaledByUs(live) {
		return max(present, floor, 1)
	}
	if present < floor {
		return floor
	}
	return 0
}
