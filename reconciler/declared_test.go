package reconciler

import (
	"io/fs"
	"sync"
	"sync/atomic"
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
		fsys := at(t, r, rev)
		repo, err := envrepo.Open(fsys)
		require.NoError(t, err)
		declared, err := repo.Environment("production")
		require.NoError(t, err)
		next, err := env.inputs.compare(fsys, repo, declared, env.known)
		require.NoError(t, err)
		env.want(next, rev, "shop", declared)
		wants = append(wants, env.wanted(env.releases["api"]))
	}
	assert.False(t, wants[0].declared.Environment.Paused)
	assert.True(t, wants[1].declared.Environment.Paused)
	env.releases["api"].finished(wants[0], Verdict{}, Status{})
	assert.Same(t, wants[1].declared, env.wanted(env.releases["api"]).declared)
}

func TestSideBySide(t *testing.T) {
	for _, n := range []int{0, 1, 2, 10} {
		var now, most atomic.Int64
		var mu sync.Mutex
		done := map[int]int{}
		sideBySide(n, func(i int) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			mu.Lock()
			defer mu.Unlock()
			done[i]++
		})
		assert.Len(t, done, n)
		assert.LessOrEqual(t, most.Load(), int64(writers))
		assert.Zero(t, now.Load())
	}
	var now atomic.Int64
	assert.Panics(t, func() {
		sideBySide(3, func(i int) {
			if i == 2 {
				panic("the caller's own")
			}
			now.Add(1)
		})
	})
	assert.EqualValues(t, 2, now.Load(), "the others are waited for all the same")
}
