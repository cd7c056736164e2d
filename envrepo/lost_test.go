package envrepo

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// A lost kustomization.yaml must not make a release look as if it had been
// removed: the reconciler would prune everything that runs.
func TestLostKustomizationIsNoRemovedRelease(t *testing.T) {
	files := fstest.MapFS{
		"sluice.yaml":                                         {Data: []byte("apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments:\n- {name: production, namespace: shop-production}\n")},
		"components/api/component.yaml":                       {Data: []byte("apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: api}\nimage: registry.example.com/shop/api\n")},
		"environments/production/networkpolicy.yaml":          {Data: []byte("{}")},
		"environments/production/api/blue/kustomization.yaml": {Data: []byte("resources: [../base]\n")},
		"environments/production/api/traffic.yaml":            {Data: []byte("{}")},
		"environments/production/notes/README.md":             {Data: []byte("nothing to run")},
	}
	repo, err := Open(files)
	require.NoError(t, err)
	names, err := repo.ReleaseNames("production")
	require.NoError(t, err)
	require.Equal(t, []string{EnvironmentRelease, "api"}, names)

	_, err = repo.Release("production", "api")
	require.EqualError(t, err, "environments/production/api/kustomization.yaml: is missing, and the folder has other files: what runs is left as it is")
	_, err = repo.Release("production", EnvironmentRelease)
	require.EqualError(t, err, "environments/production/kustomization.yaml: is missing, and the folder has other files: what runs is left as it is")

	// Only the whole folder's absence removes a release.
	delete(files, "environments/production/api/blue/kustomization.yaml")
	delete(files, "environments/production/api/traffic.yaml")
	names, err = repo.ReleaseNames("production")
	require.NoError(t, err)
	require.Equal(t, []string{EnvironmentRelease}, names)
	var unknown *UnknownReleaseError
	_, err = repo.Release("production", "api")
	require.ErrorAs(t, err, &unknown)
}

// An environment brings a NetworkPolicy and Pod Security labels: in a namespace
// of Kubernetes itself they would cut the cluster off.
func TestNamespacesOfKubernetesAreRefused(t *testing.T) {
	tree := NewTree(fstest.MapFS{})
	_, err := Init(tree, "shop", []EnvironmentSpec{{Name: "production", Namespace: "kube-system"}})
	require.ErrorContains(t, err, `namespace "kube-system" is a namespace of Kubernetes itself`)
	require.True(t, tree.Empty())
}
