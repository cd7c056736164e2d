package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
)

// TestConcurrentRecords: pipelines that end at the same moment, each on a machine of
// its own, all land on one repository behind HTTP: every record is there, once, in a
// linear history, and the environment has the digest of the last one.
func TestConcurrentRecords(t *testing.T) {
	t.Parallel()
	const pipelines = 50
	bare := publishShop(t)
	git, url := serveGit(t, bare)

	digests, codes, outputs := make([]string, pipelines), make([]int, pipelines), make([]string, pipelines)
	var group sync.WaitGroup
	for i := range pipelines {
		digests[i] = fmt.Sprintf("sha256:%012x%s", i+1, strings.Repeat("0", 52))
		cache := t.TempDir()
		group.Go(func() {
			var out bytes.Buffer
			codes[i] = run(t.Context(), []string{"build", "record", "--component", "web", "--digest", digests[i]}, process{
				Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Dir: cache, Now: fixedNow,
				Getenv: func(name string) string {
					return map[string]string{"SLUICE_REPO": url, "SLUICE_CACHE_DIR": cache, "HOME": cache,
						"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": fmt.Sprint(i)}[name]
				},
			})
			outputs[i] = out.String()
		})
	}
	group.Wait()
	for i, code := range codes {
		require.Equal(t, 0, code, outputs[i])
	}

	pushes := 0
	for _, request := range git.Requests() {
		if strings.HasPrefix(request, "POST ") && strings.HasSuffix(request, "/git-receive-pack") {
			pushes++
		}
	}
	// A push is refused only because another one got through meanwhile, so each of
	// the n pipelines loses at most n-1 races.
	assert.LessOrEqual(t, pushes, pipelines*(pipelines+1)/2)
	t.Logf("%d pushes for %d records", pushes, pipelines)

	repo, err := gitrepo.Open(t.Context(), gitrepo.Options{URL: bare, Branch: "main"})
	require.NoError(t, err)
	defer repo.Close()
	head, err := repo.Snapshot("HEAD")
	require.NoError(t, err)
	project, err := envrepo.Open(head)
	require.NoError(t, err)
	builds, err := project.Builds("web")
	require.NoError(t, err)
	assert.Len(t, builds, pipelines+1, "those of the example, too")
	log := gitOutput(t, "-C", bare, "log", "--first-parent", "--format=%s", "main")
	subjects := strings.Split(strings.TrimSpace(log), "\n")
	assert.Len(t, subjects, pipelines+1)
	rel, err := project.Release("development", "web")
	require.NoError(t, err)
	assert.Contains(t, subjects[0], envrepo.ShortDigest(rel.Digest), "the last one to land is deployed")
	for _, digest := range digests {
		assert.Equal(t, 1, strings.Count(log, envrepo.ShortDigest(digest)), digest)
	}
}

// publishShop makes a bare repository from examples/shop, whose components all let
// builds be deployed.
func publishShop(t *testing.T) (bare string) {
	t.Helper()
	dir := t.TempDir()
	clone := filepath.Join(dir, "clone")
	bare = filepath.Join(dir, "shop.git")
	require.NoError(t, os.CopyFS(clone, os.DirFS("../../examples/shop")))
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", bare},
		{"-C", bare, "config", "http.receivepack", "true"},
		{"-C", bare, "config", "gc.auto", "0"},
		{"-C", clone, "init", "-q", "-b", "main"},
		{"-C", clone, "add", "-A"},
		{"-C", clone, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "Start"},
		{"-C", clone, "push", "-q", bare, "main"},
	} {
		gitOutput(t, args...)
	}
	return bare
}

func gitOutput(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
