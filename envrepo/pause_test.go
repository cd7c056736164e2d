package envrepo

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const pauseProject = header + `Project
metadata: {name: shop}
environments:
# first
- name: staging   # ours
  namespace: s
- {name: production, namespace: p, promotion: {auto: true}} # theirs
`

const pauseComponents = header + "Component\nmetadata: {name: api}\nimage: registry.example.com/api # pinned\npaused: true # until Monday\n"

func pauseTree() *Tree {
	return NewTree(fstest.MapFS{"sluice.yaml": {Data: []byte(pauseProject)}, "components/api/component.yaml": {Data: []byte(pauseComponents)}})
}

func TestSetPaused(t *testing.T) {
	tree := pauseTree()
	s, err := SetPaused(tree, PauseChange{Paused: true, Environments: []string{"production", "staging", "staging"}, Reason: "incident 12"})
	require.NoError(t, err)
	assert.Equal(t, "pause environment production, environment staging: incident 12", s.Message)
	assert.True(t, s.Changed)
	assert.Equal(t, []string{"what runs goes on running: nothing is applied, corrected or deleted until it is resumed"}, s.Notes)
	want := strings.Replace(pauseProject, "  namespace: s\n", "  namespace: s\n  paused: true\n", 1)
	want = strings.Replace(want, "{auto: true}}", "{auto: true}, paused: true}", 1)
	assert.Equal(t, want, string(tree.Writes()["sluice.yaml"]))

	s, err = SetPaused(tree, PauseChange{Paused: true, Environments: []string{"staging"}})
	require.NoError(t, err)
	assert.Equal(t, "environment staging is paused already", s.Message)
	assert.False(t, s.Changed)

	// What is resumed keeps its comment; what else is paused is told.
	s, err = SetPaused(tree, PauseChange{Components: []string{"api"}})
	require.NoError(t, err)
	assert.Equal(t, "resume component api", s.Message)
	assert.Equal(t, []string{"still paused as a whole: staging, production"}, s.Notes)
	assert.Equal(t, strings.Replace(pauseComponents, "paused: true", "paused: false", 1), string(tree.Writes()["components/api/component.yaml"]))

	s, err = SetPaused(tree, PauseChange{Environments: []string{"staging", "production"}, Components: []string{"api"}})
	require.NoError(t, err)
	assert.Equal(t, "resume environment staging, environment production", s.Message)
	assert.Equal(t, strings.ReplaceAll(want, "paused: true", "paused: false"), string(tree.Writes()["sluice.yaml"]))
	s, err = SetPaused(tree, PauseChange{Environments: []string{"staging"}, Components: []string{"api"}})
	require.NoError(t, err)
	assert.Equal(t, "environment staging, component api are not paused", s.Message)
}

func TestSetPausedRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change        PauseChange
		message, hint string
	}{
		"nothing":        {PauseChange{}, "neither an environment nor a component is named", ""},
		"no environment": {PauseChange{Environments: []string{"prodction"}}, `unknown environment "prodction" (did you mean "production"?)`, "environments: staging, production"},
		"no component":   {PauseChange{Components: []string{"apy"}}, `unknown component "apy" (did you mean "api"?)`, "components: api"},
		"the other kind": {PauseChange{Components: []string{"staging"}}, "staging is an environment, not a component", "to name an environment: --environment staging"},
		"two lines":      {PauseChange{Components: []string{"api"}, Reason: "a\nb"}, "the reason must be one line of at most 120 characters", "say the rest in the place that the reason names"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := pauseTree()
			_, err := SetPaused(tree, c.change)
			require.EqualError(t, err, c.message)
			assert.Contains(t, hint(err), c.hint)
			assert.True(t, tree.Empty())
		})
	}
}
