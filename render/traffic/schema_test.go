package traffic

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
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

// The release of the Gateway API whose CRDs judge the golden files.
const (
	gatewayModule = "sigs.k8s.io/gateway-api@v1.6.3"
	gatewaySum    = "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc="
)

// gatewayValidator returns a check of objects against the Gateway API's own CRDs
// (standard channel): structure, bounds, and no unknown field. Objects of other
// groups pass. CEL rules are left to a real API server.
func gatewayValidator(t *testing.T) func(testing.TB, *unstructured.Unstructured) {
	t.Helper()
	schemas := map[string]*schema.Structural{}
	dir := filepath.Join(gatewayDir(t), "config", "crd", "standard")
	for _, name := range []string{"httproutes", "grpcroutes", "referencegrants"} {
		data, err := os.ReadFile(filepath.Join(dir, gatewayGroup+"_"+name+".yaml"))
		require.NoError(t, err)
		var crd apiextensionsv1.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict(data, &crd))
		for _, version := range crd.Spec.Versions {
			var internal apiextensions.JSONSchemaProps
			require.NoError(t, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &internal, nil))
			structural, err := schema.NewStructural(&internal)
			require.NoError(t, err)
			schemas[crd.Spec.Group+"/"+version.Name+" "+crd.Spec.Names.Kind] = structural
		}
	}
	return func(t testing.TB, object *unstructured.Unstructured) {
		t.Helper()
		if object.GroupVersionKind().Group != gatewayGroup {
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

// gatewayDir is where the module stands in the module cache; it is downloaded
// there when missing. It runs outside this module, which does not require it.
func gatewayDir(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", gatewayModule)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var module struct{ Dir, Sum string }
	require.NoError(t, json.Unmarshal(out, &module))
	require.Equal(t, gatewaySum, module.Sum)
	return module.Dir
}
