package reconciler_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler"
)

const ingressRoute = `apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: api}
spec:
  routes:
  - match: PathPrefix("/")
    services: [{name: api, port: 80}]
`

// traefikKinds installs the kinds that the test needs, without their schemas.
func (f *fixture) traefikKinds() {
	f.t.Helper()
	for _, kind := range []string{"IngressRoute", "TraefikService"} {
		plural := strings.ToLower(kind) + "s"
		crd := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": plural + ".traefik.io"},
			"spec": map[string]any{"group": "traefik.io", "scope": "Namespaced",
				"names": map[string]any{"plural": plural, "singular": strings.ToLower(kind), "kind": kind, "listKind": kind + "List"},
				"versions": []any{map[string]any{"name": "v1alpha1", "served": true, "storage": true, "schema": map[string]any{
					"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}},
		}}
		require.NoError(f.t, f.api.Create(context.Background(), crd))
		f.t.Cleanup(func() { _ = f.api.Delete(context.Background(), crd) })
	}
}

// services are those of the IngressRoute, "TraefikService/x" for what is none.
func (f *fixture) services() string {
	f.t.Helper()
	route := f.get("IngressRoute", "api")
	if route == nil {
		return ""
	}
	routes, _, _ := unstructured.NestedSlice(route.Object, "spec", "routes")
	services, _, _ := unstructured.NestedSlice(routes[0].(map[string]any), "services")
	var names []string
	for _, s := range services {
		kind, _, _ := unstructured.NestedString(s.(map[string]any), "kind")
		name, _, _ := unstructured.NestedString(s.(map[string]any), "name")
		if kind != "" {
			name = kind + "/" + name
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func TestTrafficWithTraefik(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := func(traffic string) files {
		return project(f.namespace).tagged(f.namespace, traffic, map[string]string{"blue": digest("1"), "green": digest("1")}).
			with(files{"environments/production/api/route.yaml": ingressRoute})
	}
	const mirror = "api-blue-mirror-6d6fe54d68"
	plain, mirrored := content("weights: {blue: 100, green: 0}"), content("weights: {blue: 100, green: 0}\nmirror: {green: 5}")

	s := f.until(plain, "api", func(s reconciler.Status) bool { return s.State == reconciler.StateFailed })
	assert.Contains(t, s.Message, "IngressRoute", "a cluster without Traefik's kinds")
	f.traefikKinds()
	f.ready(plain)
	assert.Equal(t, "api-blue", f.services())

	f.ready(mirrored)
	assert.Equal(t, "TraefikService/"+mirror, f.services())
	require.NotNil(t, f.get("TraefikService", mirror))
	f.run()
	require.NoError(t, f.api.Delete(context.Background(), f.get("TraefikService", mirror)))
	f.eventually("what is missing is written again", func() bool { return f.get("TraefikService", mirror) != nil })
	f.branch.push(content("weights: {blue: 0, green: 100}"))
	f.eventually("it is deleted when no route needs it", func() bool { return f.services() == "api-green" && f.get("TraefikService", mirror) == nil })
}
