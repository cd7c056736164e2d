package envrepo

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAcknowledgePrune(t *testing.T) {
	const project = header + "Project\nmetadata: {name: shop} # ours\nenvironments:\n- name: production\n  namespace: p\n"
	tree := NewTree(fstest.MapFS{"sluice.yaml": {Data: []byte(project)}})
	for i, want := range []string{
		"acknowledgements:\n- environment: staging\n  prune: a00000000001\n",
		"acknowledgements:\n- environment: staging\n  prune: a00000000001\n- environment: staging\n  prune: a00000000002\n",
	} {
		token := []string{"a00000000001", "a00000000002"}[i]
		s, err := AcknowledgePrune(tree, "staging", token)
		require.NoError(t, err)
		assert.Equal(t, Summary{Message: "acknowledge deletion " + token + " in staging", Changed: true,
			Notes: []string{`sluice.yaml lists no environment "staging": this allows the removal of one that has left the project`}}, s)
		assert.Equal(t, project+want, string(tree.Writes()["sluice.yaml"]))
	}
	s, err := AcknowledgePrune(tree, "staging", "a00000000001")
	require.NoError(t, err)
	assert.Equal(t, Summary{Message: "deletion a00000000001 in staging is acknowledged already"}, s)

	s, err = AcknowledgePrune(tree, "production", "a00000000001")
	require.NoError(t, err)
	assert.Empty(t, s.Notes)
	s, err = AcknowledgePrune(tree, "prodction", "a00000000001")
	require.NoError(t, err)
	assert.Equal(t, []string{`sluice.yaml lists no environment "prodction" (did you mean "production"?): this allows the removal of one that has left the project`}, s.Notes)

	_, err = AcknowledgePrune(tree, "staging", "3fa9")
	require.EqualError(t, err, `token "3fa9" is not the 12 hex digits that the held releases name`)
	assert.Contains(t, hint(err), "kubectl get releases")
	_, err = AcknowledgePrune(tree, "Staging", "a00000000003")
	require.Error(t, err)
}
