package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"

	"github.com/sluice-dev/sluice/deploy/manifests"
)

func manifest(api, kind, namespace, name string, labels map[string]string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(api)
	o.SetKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	o.SetLabels(labels)
	return o
}

// TestUninstallDecides what goes: what install makes and carries the installation's
// label; its namespace only where nothing else lives there; the definition of Release
// only when asked for. What a repository puts the label on stays.
func TestUninstallDecides(t *testing.T) {
	t.Parallel()
	mine := map[string]string{manifests.Label: "sluice-system", "app.kubernetes.io/name": "sluice"}
	installed := []runtime.Object{
		manifest("v1", "Namespace", "", "sluice-system", mine),
		manifest("v1", "Namespace", "", "shop-production", nil),
		manifest("apps/v1", "Deployment", "sluice-system", "sluice-controller", mine),
		manifest("apps/v1", "Deployment", "shop-production", "api", nil),
		manifest("v1", "ServiceAccount", "shop-production", "cd", mine),
		manifest("rbac.authorization.k8s.io/v1", "Role", "shop-production", "cd", mine),
		manifest("v1", "Namespace", "", "shop-staging", mine), // from here on: of a repository
		manifest("apps/v1", "Deployment", "shop-staging", "sluice-controller", mine),
		manifest("v1", "Service", "shop-production", "api", mine),
		manifest("v1", "ServiceAccount", "shop-production", "api", mine),
		manifest("v1", "ServiceAccount", "shop-production", "sluice-controller", mine),
		manifest("rbac.authorization.k8s.io/v1", "Role", "shop-production", "sluice-controller", mine),
		manifest("rbac.authorization.k8s.io/v1", "Role", "shop-staging", "sluice-controller", map[string]string{manifests.Label: "another"}),
		manifest("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "releases.sluice.dev", nil),
		manifest("sluice.dev/v1alpha1", "Release", "shop-production", "api", nil),
	}
	rights := []string{"Deployment sluice-system/sluice-controller", "ServiceAccount shop-production/cd", "Role shop-production/cd", "Role shop-production/sluice-controller"}
	for name, tc := range map[string]struct {
		crds        bool
		more        runtime.Object
		want, notes []string
	}{
		"what it made": {want: append(rights, "Namespace sluice-system"), notes: []string{"the Secrets in namespace sluice-system go with it"}},
		"pods of others": {
			more: manifest("v1", "Pod", "sluice-system", "vault-0", nil),
			want: rights, notes: []string{"namespace sluice-system stays: it has pods that are not the controller's"},
		},
		"Releases": {
			more: manifest("sluice.dev/v1alpha1", "Release", "sluice-system", "api", nil),
			want: rights, notes: []string{"namespace sluice-system stays: it has Releases that are not the controller's"},
		},
		"the definition": {
			crds: true, want: append(rights, "Namespace sluice-system", "CustomResourceDefinition releases.sluice.dev"),
			notes: []string{"the Secrets in namespace sluice-system go with it", "1 Releases go with their definition, and with them the inventories of what was applied"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			kinds := map[schema.GroupVersionResource]string{releaseResource: "ReleaseList", podResource: "PodList"}
			for _, k := range installedKinds {
				kinds[k.resource] = k.kind + "List"
			}
			all := append([]runtime.Object{}, installed...)
			if tc.more != nil {
				all = append(all, tc.more)
			}
			in := &installation{client: fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, all...)}
			found, notes, err := in.doomed(t.Context(), uninstallOptions{namespace: "sluice-system", crds: tc.crds})
			require.NoError(t, err)
			var names []string
			for _, o := range found {
				names = append(names, objectName(o))
			}
			assert.Equal(t, tc.want, names)
			assert.Equal(t, tc.notes, notes)
		})
	}
}
