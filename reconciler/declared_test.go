package reconciler

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
)

// overheard says which files are read.
type overheard struct {
	fs.FS
	read func(name string)
}

func (f overheard) Open(name string) (fs.File, error) {
	f.read(name)
	return f.FS.Open(name)
}

// A first sync looks at every release twice, when the commit is taken in and when it is
// applied, and reads what the repository declares of it once. A later pass reads again.
func TestWhatIntakeHasReadOfAReleaseIsNotReadForItsFirstPass(t *testing.T) {
	r, revs := history(t, []gitCommit{{
		"sluice.yaml":                                    "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments: [{name: production, namespace: shop}]\n",
		"components/api/component.yaml":                  "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: api}\nimage: registry.example.com/shop/api\n",
		"environments/production/api/kustomization.yaml": "resources: []\n",
	}})
	reads := map[string]int{}
	fsys := overheard{at(t, r, revs[0]), func(name string) { reads[name]++ }}
	repo, err := envrepo.Open(fsys)
	require.NoError(t, err)
	declared, err := repo.Environment("production")
	require.NoError(t, err)
	env := newEnvironment("production", "shop")
	next, err := env.inputs.compare(fsys, repo, declared, env.known)
	require.NoError(t, err)
	require.Len(t, env.want(next, revs[0], "shop", declared), 1)

	api := env.releases["api"]
	declare := func() *pass {
		p := &pass{engine: &Engine{}, env: env, release: api, want: env.wanted(api), in: &Input{Release: envrepo.Release{Name: "api", Environment: declared}}}
		p.in.Namespace.Name = "shop"
		clear(reads)
		require.NoError(t, p.declare())
		return p
	}
	first := declare()
	assert.Empty(t, reads)
	assert.Equal(t, "registry.example.com/shop/api", first.in.Release.Component.Image)
	api.finished(first.want, Verdict{}, Status{})

	again := declare()
	assert.NotZero(t, reads["components/api/component.yaml"])
	assert.Equal(t, first.in.Release, again.in.Release)
}
