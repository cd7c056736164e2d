package traffic

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

// crds are the releases whose CRDs judge the golden files: each project's own, out
// of its Go module.
var crds = []struct {
	module, sum string
	files       []string
}{
	{"sigs.k8s.io/gateway-api@v1.6.3", "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=", []string{
		"config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
		"config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml",
		"config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"}},
	{"istio.io/api@v1.31.1", "h1:5Yb5ihcz4YQsCkciusK7DnFpBMwRB6EFWeUKH1Atuyk=", []string{
		"kubernetes/customresourcedefinitions.gen.yaml"}},
	{"github.com/traefik/traefik/v3@v3.6.12", "h1:6pe4s7aaDTQs+AsF7KP3sM/xnq7zOVvibRQe5tw9eFo=", []string{
		"docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml"}},
}

// validator returns a check of objects against the CRDs of the Gateway API
// (standard channel), of Istio and of Traefik: structure, bounds, and no unknown
// field. Objects of other groups and kinds pass. CEL rules are left to a real API server.
func validator(t *testing.T) func(testing.TB, *unstructured.Unstructured) {
	t.Helper()
	schemas, groups := map[string]*schema.Structural{}, map[string]bool{}
	for _, source := range crds {
		dir := moduleDir(t, source.module, source.sum)
		for _, file := range source.files {
			data, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err)
			for _, document := range bytes.Split(data, []byte("\n---\n")) {
				var crd apiextensionsv1.CustomResourceDefinition
				require.NoError(t, yaml.Unmarshal(document, &crd))
				groups[crd.Spec.Group] = true
				addSchemas(t, schemas, crd)
			}
		}
	}
	return func(t testing.TB, object *unstructured.Unstructured) {
		t.Helper()
		if !groups[object.GroupVersionKind().Group] || !slices.Contains(routeKinds, object.GetKind()) {
			return
		}
		structural := schemas[object.GetAPIVersion()+" "+object.GetKind()]
		require.NotNil(t, structural, describe(object))
		result := validate.NewSchemaValidator(structural.ToKubeOpenAPI(), nil, "", strfmt.Default).Validate(object.DeepCopy().Object)
		assert.NoError(t, result.AsError(), describe(object))
		unknown := pruning.PruneWithOptions(object.DeepCopy().Object, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
		assert.Empty(t, unknown, describe(object))
	}
}

// routeKinds are the kinds of which schemas are wanted: Istio's file has many more.
var routeKinds = []string{"HTTPRoute", "GRPCRoute", "ReferenceGrant", "VirtualService", "DestinationRule",
	"IngressRoute", "IngressRouteTCP", "IngressRouteUDP", "TraefikService"}

func addSchemas(t *testing.T, schemas map[string]*schema.Structural, crd apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if !slices.Contains(routeKinds, crd.Spec.Names.Kind) {
		return
	}
	for _, version := range crd.Spec.Versions {
		var internal apiextensions.JSONSchemaProps
		require.NoError(t, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &internal, nil))
		structural, err := schema.NewStructural(&internal)
		require.NoError(t, err)
		schemas[crd.Spec.Group+"/"+version.Name+" "+crd.Spec.Names.Kind] = structural
	}
}

// moduleDir is where a module stands in the module cache; it is downloaded there
// when missing. It runs outside this module, which does not require it.
func moduleDir(t *testing.T, name, sum string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", name)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var module struct{ Dir, Sum string }
	require.NoError(t, json.Unmarshal(out, &module))
	require.Equal(t, sum, module.Sum)
	return module.Dir
}
