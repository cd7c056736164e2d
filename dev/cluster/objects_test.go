package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// The class declares features by name: they must be names the Gateway API of
// go.mod knows, in the order its specification demands.
func TestGatewayClassDeclaresKnownFeatures(t *testing.T) {
	classes := builtin().filter(func(object *unstructured.Unstructured) bool { return object.GetKind() == "GatewayClass" })
	if len(classes) != 1 {
		t.Fatalf("got %d GatewayClasses, want 1", len(classes))
	}
	known := map[string]bool{}
	for _, feature := range features.AllFeatures.UnsortedList() {
		known[string(feature.Name)] = true
	}
	list, _, err := unstructured.NestedSlice(classes[0].Object, "status", "supportedFeatures")
	if err != nil || len(list) == 0 {
		t.Fatalf("supportedFeatures: %v, %v", list, err)
	}
	var names []string
	for _, entry := range list {
		name, _ := entry.(map[string]any)["name"].(string)
		names = append(names, name)
		if !known[name] {
			t.Errorf("the Gateway API knows no feature %q", name)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("supportedFeatures are not sorted: %q", names)
	}
}

func TestLoadManifests(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "b/two.yaml", "# a comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n---\n"+
		"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: two}\n")
	write(t, dir, "a.json", `{"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "n", "name": "three"}}`)
	write(t, dir, "b/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n")
	write(t, dir, "notes.md", "not: [YAML")

	list, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, list, "Secret n/three", "ConfigMap one", "CustomResourceDefinition two")
	equal(t, list.definitions(), "CustomResourceDefinition two")
	equal(t, list.others(), "Secret n/three", "ConfigMap one")
}

func TestLoadNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "broken.yaml", "kind: ConfigMap\nmetadata: [")
	_, err := load(dir)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "broken.yaml")) {
		t.Fatalf("got error %v, want one that names the file", err)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, list objects, want ...string) {
	t.Helper()
	var got []string
	for _, object := range list {
		got = append(got, describe(object))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
