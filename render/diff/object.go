package diff

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Object returns a copy of an object that can be shown: values masked as Text
// does it, and of a Secret only the names of its data, which is masked in the
// rest of it too (tools keep copies in annotations).
func (m Mask) Object(o *unstructured.Unstructured) *unstructured.Unstructured {
	values := slices.Clone(m.Values)
	collectSecrets(o.Object, &values)
	hide := newMasker(values)
	shown, _ := hide.tree(o.Object, "").(map[string]any)
	for _, key := range [...]string{"apiVersion", "kind"} {
		if name, ok := o.Object[key].(string); ok {
			shown[key] = hide.apiName(name)
		}
	}
	return &unstructured.Unstructured{Object: shown}
}
