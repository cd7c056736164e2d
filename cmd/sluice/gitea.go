package main

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion/gitea"
)

// connectGitea takes the token from the environment, so that it stands in no
// process list.
func connectGitea(a *app, at address) (*forgeSite, error) {
	server, owner, name, ok := gitea.Locate(at.remote)
	if !ok {
		return nil, withHint(fmt.Errorf("%s is not the address of a repository on a Gitea or Forgejo server", at.remote),
			"give --repo https://git.example.com/OWNER/NAME, or --forge local to keep pull requests in the repository itself")
	}
	server = cmp.Or(a.forge.giteaURL, server)
	token := a.Getenv("SLUICE_GITEA_TOKEN")
	site, err := gitea.Connect(gitea.Options{URL: server, Owner: owner, Name: name, Token: token})
	if err != nil {
		return nil, err
	}
	s := &forgeSite{open: func(repo *remoteRepository) forge { return site.Forge(repo.Repository, a.branch) }}
	// Git gets the token for the very server that it is for.
	if u, err := url.Parse(server); err == nil && at.scheme == u.Scheme && at.host == strings.ToLower(u.Host) {
		s.signIn = &gitrepo.Credentials{Username: "git", Token: token}
	}
	return s, nil
}
