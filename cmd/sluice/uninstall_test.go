package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"

	"github.com/sluice-dev/sluice/deploy/crds"
	"github.com/sluice-dev/sluice/deploy/manifests"
	"github.com/sluice-dev/sluice/internal/testcluster"
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

// TestUninstallDeletesTheDefinition on a real API server: with it go its Releases, in
// whatever namespace, and it waits until both are gone. The definition is one of another
// group, as that of Release is every test's.
func TestUninstallDeletesTheDefinition(t *testing.T) {
	t.Parallel()
	client, err := dynamic.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	namespace := testcluster.Namespace(t)
	another := releaseResource
	another.Group = namespace + ".sluice.dev"
	list, err := objects(bytes.ReplaceAll(crds.Release, []byte("sluice.dev"), []byte(another.Group)))
	require.NoError(t, err)
	require.Len(t, list, 1)
	ctx, cancel := context.WithTimeout(t.Context(), awaitTimeout)
	defer cancel()
	name := list[0].GetName()
	require.Equal(t, "releases."+another.Group, name)
	_, err = client.Resource(crdResource).Create(ctx, list[0], metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		err := client.Resource(crdResource).Delete(context.Background(), name, metav1.DeleteOptions{})
		assert.True(t, apierrors.IsNotFound(err), "it is left over: %v", err)
	})
	require.NoError(t, awaitEstablished(ctx, client, name))
	release := manifest(another.GroupVersion().String(), "Release", namespace, "api", nil)
	_, err = client.Resource(another).Namespace(namespace).Create(ctx, release, metav1.CreateOptions{})
	require.NoError(t, err)

	in := &installation{client: client}
	found, notes, err := in.definition(ctx, another)
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, "CustomResourceDefinition "+name, objectName(found[0]))
	assert.Equal(t, []string{"1 Releases go with their definition, and with them the inventories of what was applied"}, notes)
	require.NoError(t, in.remove(ctx, found[0]))
	require.NoError(t, in.awaitGone(ctx, found[0]))
	_, err = client.Resource(crdResource).Get(ctx, name, metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
	found, notes, err = in.definition(ctx, another)
	require.NoError(t, err)
	assert.Empty(t, found)
	assert.Empty(t, notes)
	_, err = client.Resource(crdResource).Get(ctx, releaseResource.GroupResource().String(), metav1.GetOptions{})
	assert.NoError(t, err, "no other is touched")
}
