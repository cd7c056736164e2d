package envrepo

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMisspeltTagsAreNotCreated(t *testing.T) {
	for name, near := range map[string]string{
		"gren": "green", "geren": "green", "grean": "green", "gremm": "green", "bleu": "blue", "bluee": "blue",
		"canary": "", "red": "", "b": "", "be": "", "green2": "", "blue-1": "", "blue": "", "brown": "", "cyan": "",
	} {
		rel, err := openShop(t).PartialRelease("production", "api")
		require.NoError(t, err)
		assert.Equal(t, near, rel.nearTag(name), name)
	}
	tree := NewTree(shop(t))
	_, err := Deploy(tree, "production", "api", digestB, "gren", false)
	require.EqualError(t, err, `api has no tag "gren" in production (did you mean "green"?)`)
	assert.Equal(t, "deploy to it with --tag green; if gren is to be a new tag, say so with --create", hint(err))
	assert.True(t, tree.Empty())

	s, err := DeployNew(tree, "production", "api", digestB, "gren")
	require.NoError(t, err)
	assert.Equal(t, "deploy api 1111bbbb2222 to production as gren", s.Message)
	assert.Contains(t, tree.Writes(), "environments/production/api/gren/kustomization.yaml")
}
