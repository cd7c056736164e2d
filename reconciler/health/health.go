// Package health judges live objects: does a workload run what it was told to,
// and if not, which pod says why. Start with Of for an object and PodProblem for
// its pods; Compile makes the expressions by which a component judges kinds that
// kstatus cannot.
//
// Judgement is kstatus's, except that a Job is not well before it has completed.
// The package looks at objects it is given. It never talks to a cluster and never
// waits.
package health

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Status is how far an object is.
type Status int

const (
	// Progressing objects are on their way, as far as anyone can tell.
	Progressing Status = iota
	// Current objects are as declared, at the generation last written.
	Current
	// Failed objects will not get there by themselves.
	Failed
)

// State is the judgement of one object. Message says what is missing and is
// empty when it is Current; it holds no time, so it is the same until something
// changes.
type State struct {
	Status  Status
	Message string
}

// inert kinds are well as soon as the API server has taken them. Claims are
// among them: one that cannot be bound shows in the pods that want it.
var inert = map[schema.GroupKind]bool{
	{Kind: "ConfigMap"}:                                            true,
	{Kind: "Secret"}:                                               true,
	{Kind: "Service"}:                                              true,
	{Kind: "ServiceAccount"}:                                       true,
	{Kind: "PersistentVolumeClaim"}:                                true,
	{Kind: "ResourceQuota"}:                                        true,
	{Kind: "LimitRange"}:                                           true,
	{Kind: "Namespace"}:                                            true,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:             true,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:      true,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:            true,
	{Group: "networking.k8s.io", Kind: "Ingress"}:                  true,
	{Group: "policy", Kind: "PodDisruptionBudget"}:                 true,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:        true,
	{Group: "batch", Kind: "CronJob"}:                              true,
	{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"}:        true, // judged by Accepted
	{Group: "gateway.networking.k8s.io", Kind: "GRPCRoute"}:        true,
	{Group: "gateway.networking.k8s.io", Kind: "ReferenceGrant"}:   true,
	{Group: "gateway.networking.k8s.io", Kind: "TCPRoute"}:         true,
	{Group: "gateway.networking.k8s.io", Kind: "TLSRoute"}:         true,
	{Group: "gateway.networking.k8s.io", Kind: "UDPRoute"}:         true,
	{Group: "gateway.networking.k8s.io", Kind: "BackendTLSPolicy"}: true,
	{Group: "networking.istio.io", Kind: "VirtualService"}:         true,
	{Group: "networking.istio.io", Kind: "DestinationRule"}:        true,
	{Group: "traefik.io", Kind: "IngressRoute"}:                    true, // Traefik reports nothing
	{Group: "traefik.io", Kind: "IngressRouteTCP"}:                 true,
	{Group: "traefik.io", Kind: "IngressRouteUDP"}:                 true,
	{Group: "traefik.io", Kind: "TraefikService"}:                  true,
}

// Judged reports whether objects of a kind can be anything but well.
func Judged(kind schema.GroupKind) bool { return !inert[kind] }

// Of judges a live object. Nil is an object that does not exist yet.
func Of(object *unstructured.Unstructured) State {
	if object == nil {
		return State{Progressing, "does not exist yet"}
	}
	gk := object.GroupVersionKind().GroupKind()
	if object.GetDeletionTimestamp() != nil {
		return State{Progressing, "is being deleted"}
	}
	if !Judged(gk) {
		return State{Status: Current}
	}
	result, err := compute(object)
	if err != nil {
		return State{Progressing, "has a status that cannot be read: " + clip(err.Error())}
	}
	switch {
	case result.Status == status.FailedStatus:
		return State{Failed, failure(object, result)}
	case gk == schema.GroupKind{Group: "batch", Kind: "Job"} && !completed(object):
		return State{Progressing, "has not completed"}
	case result.Status == status.CurrentStatus:
		return State{Status: Current}
	}
	return State{Progressing, progress(object, result)}
}

// compute is kstatus's judgement, which panics on a Pod whose status is not of a
// Pod's shape.
func compute(object *unstructured.Unstructured) (result *status.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is not of the shape that %s has", object.GetKind())
		}
	}()
	return status.Compute(object)
}

// Serving reports whether a workload that was Current once still does its work:
// rolled out to the last generation and available, even if it is being scaled or
// a pod is being replaced.
func Serving(object *unstructured.Unstructured) bool {
	if Of(object).Status == Current {
		return true
	}
	if object == nil || object.GetDeletionTimestamp() != nil || object.GetKind() != "Deployment" {
		return false
	}
	observed, _, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
	return observed == object.GetGeneration() &&
		number(object, "status", "updatedReplicas") == number(object, "status", "replicas") &&
		condition(object, "Available") == "True"
}

// RolledOut reports whether all pods that a Deployment or StatefulSet has are of the
// template last declared, however many they are.
func RolledOut(object *unstructured.Unstructured) bool {
	if object == nil || object.GetDeletionTimestamp() != nil || object.GetKind() != "Deployment" && object.GetKind() != "StatefulSet" {
		return false
	}
	return number(object, "status", "observedGeneration") == object.GetGeneration() &&
		number(object, "status", "updatedReplicas") == number(object, "status", "replicas")
}

// Replicas are the pods a workload should have, by its own spec, and those that
// are ready. A workload without spec.replicas gets one.
func Replicas(object *unstructured.Unstructured) (wanted, ready int64) {
	if object == nil {
		return 0, 0
	}
	if object.GetKind() == "DaemonSet" {
		return number(object, "status", "desiredNumberScheduled"), number(object, "status", "numberReady")
	}
	wanted, found, _ := unstructured.NestedInt64(object.Object, "spec", "replicas")
	if !found {
		wanted = 1
	}
	return wanted, number(object, "status", "readyReplicas")
}

// Accepted judges a route by what its parents report: the message says who
// refuses it, pending is true while a controller has not looked at its last
// generation. A route nobody has reported on counts as accepted: not every
// cluster has a route controller.
func Accepted(route *unstructured.Unstructured) (pending bool, refusal string) {
	parents, _, _ := unstructured.NestedSlice(route.Object, "status", "parents")
	for _, p := range parents {
		parent, _ := p.(map[string]any)
		name, _, _ := unstructured.NestedString(parent, "parentRef", "name")
		conditions, _, _ := unstructured.NestedSlice(parent, "conditions")
		for _, c := range conditions {
			fields, _ := c.(map[string]any)
			kind, _ := fields["type"].(string)
			if kind != "Accepted" && kind != "ResolvedRefs" {
				continue
			}
			observed, set, _ := unstructured.NestedInt64(fields, "observedGeneration")
			if set && observed < route.GetGeneration() {
				pending = true
				continue
			}
			if fields["status"] == "False" && refusal == "" {
				refusal = fmt.Sprintf("%s %s: %s", clip(name), clip(text(fields["reason"])), clip(text(fields["message"])))
			}
		}
	}
	if refusal == "" {
		refusal = analysed(route)
	}
	return pending, refusal
}

// analysed is the first error that Istio's analysis has found in the last
// generation of an object. Istio writes none unless it is told to analyse.
func analysed(object *unstructured.Unstructured) string {
	status, _, _ := unstructured.NestedMap(object.Object, "status")
	if observed := fmt.Sprint(status["observedGeneration"]); observed != fmt.Sprint(object.GetGeneration()) { // an integer or a string
		return ""
	}
	messages, _, _ := unstructured.NestedSlice(status, "validationMessages")
	for _, m := range messages {
		fields, _ := m.(map[string]any)
		if fields["level"] == "ERROR" {
			code, _, _ := unstructured.NestedString(fields, "type", "code")
			name, _, _ := unstructured.NestedString(fields, "type", "name")
			return clip(fmt.Sprintf("Istio's analysis: %s %s, see %s", code, name, text(fields["documentationUrl"])))
		}
	}
	return ""
}

const unobserved = "its controller has not taken the last change in yet"

func progress(object *unstructured.Unstructured, result *status.Result) string {
	observed, found, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
	if found && observed < object.GetGeneration() {
		return unobserved
	}
	if failure := replicaFailure(object); failure != "" {
		return failure
	}
	switch object.GetKind() {
	case "Deployment", "StatefulSet":
		wanted, ready := Replicas(object)
		if updated := number(object, "status", "updatedReplicas"); updated < wanted {
			return fmt.Sprintf("%d of %d replicas updated", updated, wanted)
		}
		if ready < wanted {
			return fmt.Sprintf("%d of %d replicas ready", ready, wanted)
		}
	}
	return cmp.Or(clip(result.Message), "does not say what it waits for")
}

func failure(object *unstructured.Unstructured, result *status.Result) string {
	if failure := replicaFailure(object); failure != "" {
		return failure
	}
	if object.GetKind() == "Deployment" {
		return "did not progress within its progressDeadlineSeconds"
	}
	return cmp.Or(clip(result.Message), "does not say why it failed")
}

// replicaFailure is why a Deployment's pods cannot even be created (a quota, an
// admission webhook).
func replicaFailure(object *unstructured.Unstructured) string {
	if condition(object, "ReplicaFailure") != "True" {
		return ""
	}
	return clip(conditionMessage(object, "ReplicaFailure"))
}

func completed(object *unstructured.Unstructured) bool {
	return condition(object, "Complete") == "True"
}

func condition(object *unstructured.Unstructured, kind string) string {
	return text(findCondition(object, kind)["status"])
}

func conditionMessage(object *unstructured.Unstructured, kind string) string {
	return text(findCondition(object, kind)["message"])
}

func findCondition(object *unstructured.Unstructured, kind string) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		if fields, ok := c.(map[string]any); ok && fields["type"] == kind {
			return fields
		}
	}
	return nil
}

func number(object *unstructured.Unstructured, path ...string) int64 {
	n, _, _ := unstructured.NestedInt64(object.Object, path...)
	return n
}

func text(value any) string {
	s, _ := value.(string)
	return s
}

// maxMessage bounds what is taken over from other programs' messages.
const maxMessage = 300

// clip makes a foreign message fit into one line of a condition.
func clip(message string) string {
	message = oneLine(message)
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}

func oneLine(message string) string { return strings.Join(strings.Fields(message), " ") }
