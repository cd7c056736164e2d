package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ImmutableError says that the API server refuses an object as a change of the
// one that is there, and would take it as a new one.
type ImmutableError struct {
	Object string   // Kind/name
	Fields []string // that may not change, sorted
	Cause  error
}

// Error leaves out what the API server says: for a pod template it prints the
// whole of it, environment included.
func (e *ImmutableError) Error() string {
	return fmt.Sprintf("applying %s: the API server does not let %s of an existing object change", e.Object, strings.Join(e.Fields, ", "))
}

func (e *ImmutableError) Unwrap() error { return e.Cause }

// refusal turns the error of an apply into what it means: an *ImmutableError if
// only the difference to the live object is refused. That is found out by asking,
// not by reading messages:
//
//  1. Every cause names a field. A policy or a webhook that refuses gives none:
//     whoever forbids a change does not mean that the object may be deleted.
//  2. The same apply, as a dry run under a name that is free, is accepted. So there
//     is nothing wrong with the object, and it can be created once the present
//     one is gone.
//
// Where that cannot be found out (a quota that is full, a webhook that takes no dry
// runs), the error says so.
func (c *Client) refusal(ctx context.Context, object, live *unstructured.Unstructured, manager string, err error) error {
	explained := c.explain(err, "applying %s/%s", object.GetKind(), object.GetName())
	fields := refusedFields(err)
	if live == nil || len(fields) == 0 {
		return explained
	}
	probe := newcomer(object, live)
	if err := c.forgo(ctx, probe, live); err != nil {
		return fmt.Errorf("%w; whether it would be taken as a new object cannot be told: %v", explained, err)
	}
	switch err := c.api.Apply(ctx, client.ApplyConfigurationFromUnstructured(probe), client.FieldOwner(manager), client.ForceOwnership, client.DryRunAll); {
	case apierrors.IsInvalid(err):
		return explained
	case err != nil:
		return fmt.Errorf("%w; whether it would be taken as a new object cannot be told: %v", explained, err)
	}
	return &ImmutableError{Object: object.GetKind() + "/" + object.GetName(), Fields: fields, Cause: explained}
}

// refusedFields are the fields for which an object was found invalid; none if it
// was refused for anything else as well.
func refusedFields(err error) []string {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Field == "" {
			return nil
		}
		fields = append(fields, cause.Field)
	}
	slices.Sort(fields)
	return slices.Compact(fields)
}

// newcomer is the object under a name that is free, the same one every time, so
// that messages are the same.
func newcomer(object, live *unstructured.Unstructured) *unstructured.Unstructured {
	probe := object.DeepCopy()
	// Short enough for every kind: names of Services and Jobs are the shortest.
	const longest = 50
	suffix := sha256.Sum256([]byte(live.GetUID()))
	name := probe.GetName()
	probe.SetName(strings.TrimRight(name[:min(len(name), longest)], "-.") + "-" + hex.EncodeToString(suffix[:5]))
	return probe
}

// forgo takes out of a newcomer what only one object can have at a time and the
// live one has: it would give it back.
func (c *Client) forgo(ctx context.Context, probe, live *unstructured.Unstructured) error {
	if probe.GroupVersionKind().GroupKind() != (schema.GroupKind{Kind: "Service"}) {
		return nil
	}
	whole, err := c.GetWhole(ctx, live.GroupVersionKind(), live.GetNamespace(), live.GetName())
	if err == nil && whole != nil { // of live, only the metadata may be known
		forgoHeld(probe, whole)
	}
	return err
}

// forgoHeld takes the addresses and node ports out of a Service that the live one
// holds.
func forgoHeld(probe, live *unstructured.Unstructured) {
	for _, field := range []string{"clusterIP", "clusterIPs", "healthCheckNodePort"} {
		held, found, _ := unstructured.NestedFieldNoCopy(live.Object, "spec", field)
		wanted, _, _ := unstructured.NestedFieldNoCopy(probe.Object, "spec", field)
		if found && fmt.Sprint(held) == fmt.Sprint(wanted) && !strings.Contains(fmt.Sprint(held), "None") {
			unstructured.RemoveNestedField(probe.Object, "spec", field)
		}
	}
	held := map[string]bool{}
	ports, _, _ := unstructured.NestedSlice(live.Object, "spec", "ports")
	for _, p := range ports {
		if port, ok := p.(map[string]any); ok && port["nodePort"] != nil {
			held[fmt.Sprint(port["nodePort"])] = true
		}
	}
	wanted, found, _ := unstructured.NestedSlice(probe.Object, "spec", "ports")
	for _, p := range wanted {
		if port, ok := p.(map[string]any); ok && held[fmt.Sprint(port["nodePort"])] {
			delete(port, "nodePort")
		}
	}
	if found {
		_ = unstructured.SetNestedSlice(probe.Object, wanted, "spec", "ports") // the path exists
	}
}
