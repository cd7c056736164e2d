package github_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/forgetest"
	"github.com/sluice-dev/sluice/promotion/github"
	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// connect opens a repository of a server, with a fresh mirror of its own.
func connect(t *testing.T, repo *githubtest.Repository, o github.Options) (*github.Forge, *gitrepo.Repository) {
	t.Helper()
	if o.URL == "" {
		o.URL = repo.Server().URL
	}
	o.Repository = repo.Name()
	site, err := github.Connect(o)
	require.NoError(t, err)
	git, err := gitrepo.Open(t.Context(), gitrepo.Options{
		URL: repo.URL(), Branch: "main", CacheDir: t.TempDir(), Author: "Ada", Email: "ada@example.com",
		Credentials: gitrepo.Credentials{Username: github.GitUsername, TokenSource: site.Token},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = git.Close() })
	return site.Forge(git, "main"), git
}

// remote is a fresh repository on a server, as the suite wants it.
func remote(t *testing.T, options func(*githubtest.Server) github.Options) forgetest.Remote {
	server := githubtest.New(t)
	repo := server.Create("shop/environments")
	repo.Seed()
	o := options(server)
	o.URL = described(t, server)
	return forgetest.Remote{
		Branch: "main", GuardsTarget: true,
		Connect: func(t *testing.T) forgetest.Client {
			forge, git := connect(t, repo, o)
			return forgetest.Client{Forge: forge, Repository: git}
		},
		Statuses: func(_ *testing.T, commit string) []promotion.Status {
			var list []promotion.Status
			for _, s := range repo.Statuses(commit) {
				list = append(list, promotion.Status{Context: s.Context, State: promotion.StatusState(s.State), Description: s.Description})
			}
			return list
		},
		Deployments: func(*testing.T) []promotion.Deployment {
			var list []promotion.Deployment
			for _, d := range repo.Deployments() {
				environment, component, _ := strings.Cut(d.Environment, "/")
				list = append(list, promotion.Deployment{
					Environment: environment, Component: component, Revision: d.Revision,
					State: promotion.DeploymentState(d.States[len(d.States)-1]), Description: d.Description, URL: d.URL,
				})
			}
			return list
		},
	}
}

func TestForge(t *testing.T) {
	t.Parallel()
	forgetest.Run(t, func(t *testing.T) forgetest.Remote {
		return remote(t, func(s *githubtest.Server) github.Options {
			return github.Options{Token: s.Token("ada", githubtest.Write)}
		})
	})
}

// gitOutput runs git in a repository of a server.
func gitOutput(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}
