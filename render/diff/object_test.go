package diff

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestObjectCanBeShown(t *testing.T) {
	secret := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": "api", "annotations": map[string]any{"copy": `{"data":{"PASSWORD":"aHVudGVyMg=="}}`}},
		"data":     map[string]any{"PASSWORD": "aHVudGVyMg=="},
	}}
	require.Equal(t, map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": "api", "annotations": map[string]any{"copy": "(masked)"}},
		"data":     map[string]any{"PASSWORD": "(secret)"},
	}, Mask{}.Object(secret).Object)

	config := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"data": map[string]any{"url": "postgres://api:hunter2@db", "level": "info"},
	}}
	shown := Mask{Values: []string{"hunter2"}}.Object(config)
	require.NotContains(t, shown.Object["data"].(map[string]any)["url"], "hunter2")
	require.Equal(t, "info", shown.Object["data"].(map[string]any)["level"])
	require.Equal(t, "postgres://api:hunter2@db", config.Object["data"].(map[string]any)["url"], "the object itself is left alone")
}
