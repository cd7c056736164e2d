package gitea

import (
	"context"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/internal/testgitea"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/forgetest"
)

// connect opens a repository of the server in a mirror of its own.
func connect(t *testing.T, s *testgitea.Server, r testgitea.Repository, token string) forgetest.Client {
	t.Helper()
	repo, err := gitrepo.Open(t.Context(), gitrepo.Options{
		URL: r.URL, Branch: "main", Author: "Test", Email: "test@example.com", Credentials: gitrepo.Credentials{Token: token},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, repo.Close()) })
	site, err := Connect(Options{URL: s.URL, Owner: r.Owner, Name: r.Name, Token: token})
	require.NoError(t, err)
	return forgetest.Client{Forge: site.Forge(repo, "main"), Repository: repo}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := testgitea.Start(t)
	forgetest.Run(t, func(t *testing.T) forgetest.Remote {
		r := s.Repository(t)
		return forgetest.Remote{
			Branch: "main", GuardsTarget: true,
			Connect: func(t *testing.T) forgetest.Client { return connect(t, s, r, s.Token) },
			Statuses: func(t *testing.T, commit string) []promotion.Status {
				byContext, err := connect(t, s, r, s.Token).Forge.(*Forge).statuses(t.Context(), commit)
				require.NoError(t, err)
				return published(byContext)
			},
		}
	})
}

// bareRepository is a repository without a server.
func bareRepository(t testing.TB) *gitrepo.Repository {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	repo, err := gitrepo.Open(context.Background(), gitrepo.Options{URL: dir, Branch: "main", Author: "Test", Email: "test@example.com"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, repo.Close()) })
	return repo
}
