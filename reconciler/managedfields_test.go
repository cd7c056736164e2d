package reconciler

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// Whatever an object says of who owns its fields, what is told of those that were
// declared is among them, and once more the same.
func FuzzManagedFields(ff *testing.F) {
	f := mutants.New(ff)
	const object = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","labels":{"a":"b"}},"spec":{"ports":[{"name":"http","port":80}],"externalIPs":["1.2.3.4"],"type":"ClusterIP"}}`
	f.Add([]byte(`{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}},"f:externalIPs":{"v:\"1.2.3.4\"":{}}}}`), []byte(object))
	f.Add([]byte(`{"f:spec":{"f:type":{},"f:replicas":{}}}`), []byte(object))
	f.Add([]byte(`{"f:spec":[],"k:{":{},"v:":{},"x":{},"f:":{}}`), []byte(object))
	f.Fuzz(func(t *testing.T, fields, data []byte) {
		desired := &unstructured.Unstructured{}
		if desired.UnmarshalJSON(data) != nil {
			return
		}
		e := metav1.ManagedFieldsEntry{Manager: "x", FieldsV1: metav1.NewFieldsV1(string(fields))}
		declared := declaredIn(e, desired)
		assert.Subset(t, fieldsOf(e), declared)
		assert.Equal(t, declared, declaredIn(e, desired))
		var some map[string]any
		if json.Unmarshal(fields, &some) != nil {
			return // nothing takes it as fields
		}
		desired.SetManagedFields([]metav1.ManagedFieldsEntry{e})
		assert.Equal(t, ownsReplicas(desired), ownsReplicas(desired.DeepCopy()))
	})
}
