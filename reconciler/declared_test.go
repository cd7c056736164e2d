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

// wanting has an environment want what a commit says, and returns that of the environment.
func wanting(t *testing.T, env *environment, fsys fs.FS, rev string) envrepo.Environment {
	t.Helper()
	next := compared(t, env.inputs, env.name, fsys)
	declared, err := next.repo.Environment(env.name)
	require.NoError(t, err)
	require.Len(t, env.want(next, rev, "shop", declared), 1)
	return declared
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
	env := newEnvironment("production", "shop")
	declared := wanting(t, env, fsys, revs[0])

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

// What sluice.yaml says of the environment decides a release as well, and a pass that
// is about an older commit leaves alone what a newer one was read for.
func TestDeclaredIsWhatTheNewestCommitSays(t *testing.T) {
	project := func(paused string) gitCommit {
		return gitCommit{"sluice.yaml": "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\n" +
			"environments: [{name: production, namespace: shop, paused: " + paused + "}]\n"}
	}
	first := project("false")
	first["components/api/component.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: api}\nimage: registry.example.com/shop/api\n"
	first["environments/production/api/kustomization.yaml"] = "resources: []\n"
	r, revs := history(t, []gitCommit{first, project("true")})
	env := newEnvironment("production", "shop")
	var wants []want
	for _, rev := range revs {
		wanting(t, env, at(t, r, rev), rev)
		wants = append(wants, env.wanted(env.releases["api"]))
	}
	assert.False(t, wants[0].declared.Environment.Paused)
	assert.True(t, wants[1].declared.Environment.Paused)
	env.releases["api"].finished(wants[0], Verdict{}, Status{})
	assert.Same(t, wants[1].declared, env.wanted(env.releases["api"]).declared)
}
