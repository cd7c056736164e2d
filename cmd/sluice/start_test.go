package main

import (
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/faults"
	"github.com/sluice-dev/sluice/internal/testcluster"
)

// What the cluster holds is needed twice before a controller of all environments
// starts: for those that are gone from the repository, and for those that moved.
func TestControllerListsReleasesOnceBeforeItStarts(t *testing.T) {
	s := newShop(t, rand.New(rand.NewPCG(1, 1)))
	proxy := faults.New(t, testcluster.Start(t))
	cache := t.TempDir()
	getenv := func(name string) string {
		if name == "SLUICE_CACHE_DIR" {
			return cache
		}
		return os.Getenv(name)
	}
	a := &app{process: process{Getenv: getenv, Stdout: io.Discard, Stderr: io.Discard}, repo: s.bare, branch: "main", kubeconfig: proxy.Kubeconfig(t)}
	e, err := a.openEngine(t.Context(), engineOptions{environments: []string{"all"}, stays: true})
	require.NoError(t, err)
	defer e.repo.Close()
	assert.Equal(t, []string{"production"}, e.names)
	lists := 0
	for _, request := range proxy.Requests() {
		if strings.HasPrefix(request, "GET ") && strings.HasSuffix(request, "/releases") {
			lists++
		}
	}
	assert.Equal(t, 1, lists, "%s", proxy.Requests())
}
