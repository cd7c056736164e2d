package reconciler

import (
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestCorrectionNamesFieldsAndManagers(t *testing.T) {
	const all = `{"f:metadata":{"f:labels":{"f:app":{}}},"f:data":{".":{},"f:a":{},"f:b":{}}}`
	desired := object("{apiVersion: v1, kind: ConfigMap, metadata: {name: api, labels: {app: api}}, data: {a: one, b: two}}")
	is := func(entries ...metav1.ManagedFieldsEntry) *unstructured.Unstructured {
		return managedBy(desired, entries...)
	}
	ours := func(fields string) metav1.ManagedFieldsEntry {
		return entry(fieldManager, metav1.ManagedFieldsOperationApply, 1, fields)
	}
	theirs := func(fields string) metav1.ManagedFieldsEntry {
		return entry("rival", metav1.ManagedFieldsOperationUpdate, 2, fields)
	}
	for _, tt := range []struct {
		name   string
		before *unstructured.Unstructured
		want   []any
	}{
		{"changed", is(ours(`{"f:metadata":{"f:labels":{"f:app":{}}},"f:data":{"f:b":{}}}`), theirs(`{"f:data":{"f:a":{}}}`)), []any{"changed", "data.a", "by", "rival"}},
		{"added", is(ours(all), theirs(`{"f:data":{"f:c":{}},"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"u\"}":{}}}}`)),
			[]any{"added", "data.c metadata.ownerReferences[uid=u]", "by", "rival"}},
		{"removed", is(ours(`{"f:data":{"f:a":{},"f:b":{}}}`)), []any{"removed", "metadata.labels.app"}},
		{"deleted", nil, []any{"deleted", true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := correctionOf(desired, tt.before, is(ours(all)))
			assert.Equal(t, append([]any{"object", "ConfigMap/api", "namespace", "shop"}, tt.want...), got.values())
		})
	}
}
