package reconciler

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unreadable is a file system of which one folder cannot be read.
type unreadable struct {
	fs.FS
	folder string
}

func (u unreadable) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == u.folder {
		return nil, errors.New("the object is missing")
	}
	return fs.ReadDir(u.FS, name)
}

func (u unreadable) Open(name string) (fs.File, error) {
	if name == u.folder {
		return nil, errors.New("the object is missing")
	}
	return u.FS.Open(name)
}

// A commit that cannot be understood as a whole changes nothing: not the policy of
// the environment either, which passes go by.
func TestPolicyOfACommitThatCannotBeReadDoesNotCount(t *testing.T) {
	content := func(more string) fstest.MapFS {
		return fstest.MapFS{
			"sluice.yaml": {Data: []byte("apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments:\n- {name: production, namespace: shop" + more + "}\n")},
			"environments/production/api/kustomization.yaml": {Data: []byte("resources: []\n")},
			"components/api/component.yaml":                  {Data: []byte("apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: api}\nimage: shop/api\n")},
		}
	}
	e, env := &Engine{}, newEnvironment("production", "shop")
	env.found = true // the cluster has nothing
	_, err := e.adopt(context.Background(), env, content(""), "one")
	require.NoError(t, err)
	_, err = e.adopt(context.Background(), env, unreadable{content(", paused: true"), "environments/production"}, "two")
	require.ErrorContains(t, err, "the object is missing")
	_, _, _, declared := env.view()
	assert.False(t, declared.Paused)
	_, err = e.adopt(context.Background(), env, content(", paused: true"), "three")
	require.NoError(t, err)
	_, _, _, declared = env.view()
	assert.True(t, declared.Paused)
}
