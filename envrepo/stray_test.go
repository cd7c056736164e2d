package envrepo

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStrayTraffic(t *testing.T) {
	const weights = "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {blue: 100}\n"
	fsys := fstest.MapFS{"sluice.yaml": {Data: []byte("apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments: [{name: production, namespace: shop}, {name: staging, namespace: shop-staging}]\n")}}
	for name, content := range map[string]string{
		"production/traffic.yaml":          weights,
		"production/api/traffic.yaml":      weights,
		"production/api/blue/traffic.yaml": weights,
		"production/web/traffic.yml":       weights,
		"production/db/traffic.yml":        "kind: [",
		"staging/traffic.yaml":             "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: traffic}\n",
		"staging/api/traffic.yml":          "apiVersion: example.com/v1\nkind: Traffic\n",
	} {
		fsys["environments/"+name] = &fstest.MapFile{Data: []byte(content)}
	}
	repo, err := Open(fsys)
	require.NoError(t, err)
	stray, err := repo.StrayTraffic("production")
	require.NoError(t, err)
	assert.Equal(t, []string{"environments/production/api/blue/traffic.yaml", "environments/production/traffic.yaml", "environments/production/web/traffic.yml"}, stray)
	stray, err = repo.StrayTraffic("staging")
	require.NoError(t, err)
	assert.Empty(t, stray)
	_, err = repo.StrayTraffic("stagign")
	var unknown *UnknownEnvironmentError
	assert.ErrorAs(t, err, &unknown)
}
