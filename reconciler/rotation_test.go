package reconciler_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/reconciler"
)

// keyed has component api read a generated Secret with this value.
func (f files) keyed(namespace, value, start string) files {
	out := f.with(files{
		"environments/production/api/secrets.env": "TOKEN=" + value + "\n",
		"environments/production/api/kustomization.yaml": overlay(namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest(start)) +
			"secretGenerator: [{name: api-secrets, envs: [secrets.env]}]\n",
	})
	out["components/api/deployment.yaml"] = strings.Replace(out["components/api/deployment.yaml"], "{name: api, image:", "{name: api, envFrom: [{secretRef: {name: api-secrets}}], image:", 1)
	return out
}

// A changed secret rolls the pods that read it; those that run keep the one that they
// were started with until they are replaced, and no object but the Secret says what
// is in it.
func TestRotationReachesPods(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	all := project(f.namespace)
	secrets := func() (names []string) {
		var list corev1.SecretList
		require.NoError(t, f.api.List(t.Context(), &list, client.InNamespace(f.namespace)))
		for _, s := range list.Items {
			names = append(names, s.Name)
			s.Data = nil
			metadata, err := json.Marshal(s)
			require.NoError(t, err)
			assert.NotContains(t, string(metadata), "hunter", "annotations and managed fields of the Secret")
			assert.NotContains(t, string(metadata), "aHVudGVy", "in base64")
		}
		return names
	}
	reads := func() string {
		text, err := json.Marshal(f.get("Deployment", "api"))
		require.NoError(t, err)
		assert.NotContains(t, string(text), "hunter")
		release, err := json.Marshal(f.release("api"))
		require.NoError(t, err)
		assert.NotContains(t, string(release), "hunter")
		for _, name := range secrets() {
			if strings.Contains(string(text), `"secretRef":{"name":"`+name+`"}`) {
				return name
			}
		}
		return ""
	}

	f.ready(all.keyed(f.namespace, "hunter1", "1"))
	first := reads()
	require.NotEmpty(t, first)
	require.Equal(t, []string{first}, secrets())

	// The pods do not come up: the old Secret stays, as the old pods read it.
	f.until(all.keyed(f.namespace, "hunter2", "bad1"), "api", func(s reconciler.Status) bool { return strings.Contains(s.Message, "ImagePullBackOff") })
	second := reads()
	assert.NotEqual(t, first, second, "the name changes with the content")
	assert.ElementsMatch(t, []string{first, second}, secrets())

	f.ready(all.keyed(f.namespace, "hunter2", "2"))
	assert.Equal(t, second, reads())
	assert.Equal(t, []string{second}, secrets(), "the old one goes once nobody reads it")
}
