package envrepo

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A mistake in the entry of one environment is that environment's alone.
func TestOpenFor(t *testing.T) {
	const head = "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\n"
	for _, test := range []struct {
		name, file              string
		development, production string // "" where the file can be used, else what is wrong with it
	}{
		{"sound", head + "environments:\n- {name: development, namespace: d}\n- {name: production, namespace: p}\n", "", ""},
		{"a wrong value", head + "environments:\n- {name: development, namespace: d, paused: maybe}\n- {name: production, namespace: p}\n",
			`sluice.yaml:5: environments[0].paused must be true or false, found "maybe"`, ""},
		{"a wrong value further down", head + "environments:\n- {name: development, namespace: d}\n- {name: production, namespace: p, traffic: {drain: 5}}\n",
			"", `sluice.yaml:6: environments[1].traffic.drain must be a duration such as 30s or 5m, found 5`},
		{"an unknown field", head + "environments:\n- {name: development, namespace: d, prnue: {}}\n- {name: production, namespace: p}\n",
			`sluice.yaml:5: unknown field "prnue" in Project environments[0] (did you mean "prune"?)`, ""},
		{"no mapping", head + "environments:\n- development\n- {name: production, namespace: p}\n",
			`sluice.yaml:5: environments[0] must be a mapping, found "development"`, ""},
		{"another takes the namespace", head + "environments:\n- {name: production, namespace: p}\n- {name: development, namespace: p}\n",
			`sluice.yaml:6: environments[1].namespace "p" is already the namespace of environment production: production and development share it`, ""},
		{"two of one name", head + "environments:\n- {name: production, namespace: p}\n- {name: production, namespace: q}\n- {name: development, namespace: d}\n",
			"", `sluice.yaml:6: environments[1].name "production" is already the environment of line 5`},
		{"a misspelt field of the whole", head + "enviroments: []\nenvironments:\n- {name: development, namespace: d}\n- {name: production, namespace: p}\n",
			`sluice.yaml:4: unknown field "enviroments" in Project (did you mean "environments"?)`, `sluice.yaml:4: unknown field "enviroments" in Project (did you mean "environments"?)`},
		{"no YAML", head + "environments: [\n", "sluice.yaml:5: parsing YAML: did not find expected node content", "sluice.yaml:5: parsing YAML: did not find expected node content"},
		{"a name that cannot be read", head + "environments:\n- {name: [production], namespace: p}\n- {name: development, namespace: d}\n",
			"", `sluice.yaml:5: environments[0].name must be a string, found a list`},
	} {
		t.Run(test.name, func(t *testing.T) {
			fsys := fstest.MapFS{"sluice.yaml": &fstest.MapFile{Data: []byte(test.file)}}
			for env, wrong := range map[string]string{"development": test.development, "production": test.production} {
				repo, err := OpenFor(fsys, env)
				if wrong != "" {
					assert.EqualError(t, err, wrong, env)
					continue
				}
				require.NoError(t, err, env)
				e, err := repo.Environment(env)
				require.NoError(t, err)
				assert.Equal(t, env, e.Name)
			}
			_, err := Open(fsys)
			assert.Equal(t, test.development+test.production == "", err == nil, "Open takes nothing but a sound file")
		})
	}

	_, err := OpenFor(fstest.MapFS{}, "production")
	var not *NotProjectError
	require.ErrorAs(t, err, &not)
}
