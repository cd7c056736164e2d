package reconciler

import (
	"encoding/json"
	"slices"

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
// planted in objects that the repository declares is taken back.
var foreignManagers = []string{"kubectl-client-side-apply", "kubectl-edit", "kubectl-patch", "kubectl-replace", "kubectl-create", "before-first-apply"}

// scaler is an autoscaler of the render, and the workload it scales.
type scaler struct {
	object   *unstructured.Unstructured
	target   inventory.ID
	min, max int64
	minField string
}

// asScaler reads an autoscaler; nil when the object is none, or none that can
// be understood: its workload then keeps the replicas of its manifest.
func asScaler(o *unstructured.Unstructured) *scaler {
	s := &scaler{object: o, min: 1}
	maxField := ""
	switch o.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:
		s.minField, maxField = "minReplicas", "maxReplicas"
	case schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"}:
		s.minField, maxField, s.min, s.max = "minReplicaCount", "maxReplicaCount", 0, 100
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
	if n, found, err := unstructured.NestedInt64(o.Object, "spec", maxField); found && err == nil {
		s.max = n
	}
	return s
}

// withMin is the autoscaler with another minimum, a copy if that differs.
func (s *scaler) withMin(n int64) *unstructured.Unstructured {
	if n = min(n, max(s.max, s.min)); n <= s.min {
		return s.object
	}
	lifted := s.object.DeepCopy()
	// The path exists and holds maps: asScaler has read it.
	_ = unstructured.SetNestedField(lifted.Object, n, "spec", s.minField)
	return lifted
}

// liveMin is the minimum that the autoscaler of the cluster has now.
func (s *scaler) liveMin(live *unstructured.Unstructured) int64 {
	if live == nil {
		return 0
	}
	n, _, _ := unstructured.NestedInt64(live.Object, "spec", s.minField)
	return n
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
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		ours := entry.Manager == fieldManager && entry.Operation == metav1.ManagedFieldsOperationApply
		if !ours && !slices.Contains(foreignManagers, entry.Manager) {
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
// run; see the package comment.
func scaleTo(live *unstructured.Unstructured, floor int64) int64 {
	if live == nil {
		return 0 // created with one, and asked again
	}
	present, found, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if !found {
		present = 1
	}
	if ownsReplicas(live) {
		return max(present, floor, 1)
	}
	if present < floor {
		return floor
	}
	return 0
}
