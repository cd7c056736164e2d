package envrepo

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGenerateSecret(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{"none yet", "resources: [../base] # the base\nimages:\n- name: a\n", "resources: [../base] # the base\nimages:\n- name: a\nsecretGenerator:\n- name: api-secrets\n  envs: [secrets.env]\n"},
		{"its own", "secretGenerator:\n- name: other\n", ""},
		{"no newline at the end", "resources: []", "resources: []\nsecretGenerator:\n- name: api-secrets\n  envs: [secrets.env]\n"},
	} {
		tree := NewTree(fstest.MapFS{"a/kustomization.yaml": {Data: []byte(tt.before)}})
		added, err := GenerateSecret(tree, "a", "api-secrets", "secrets.env")
		require.NoError(t, err, tt.name)
		assert.Equal(t, tt.after != "", added, tt.name)
		assert.Equal(t, tt.after, string(tree.Writes()["a/kustomization.yaml"]), tt.name)
	}
	added, err := GenerateSecret(NewTree(fstest.MapFS{}), "a", "s", "secrets.env")
	require.NoError(t, err)
	assert.False(t, added)
	_, err = GenerateSecret(NewTree(fstest.MapFS{"a/kustomization.yaml": {Data: []byte("a: [")}}), "a", "s", "secrets.env")
	assert.ErrorContains(t, err, "a/kustomization.yaml")
}
