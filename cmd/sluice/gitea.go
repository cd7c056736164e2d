package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion/gitea"
)

// connectGitea takes the token from the environment, so that it stands in no
// process list. It is sent to the server that --gitea-url names, never to one only
// because some clone has it for its origin.
func connectGitea(a *app, at address, transport http.RoundTripper) (*forgeSite, error) {
	server, owner, name, ok := gitea.Locate(at.remote)
	if !ok {
		return nil, withHint(fmt.Errorf("%s is not the address of a repository on a Gitea or Forgejo server", at.remote),
			"give --repo https://git.example.com/OWNER/NAME, or --forge local to keep pull requests in the repository itself")
	}
	if a.forge.giteaURL == "" {
		return nil, withHint(usagef("--forge gitea needs --gitea-url"), "name the server that the token is for: --gitea-url %s, or SLUICE_GITEA_URL", server)
	}
	token, source, err := a.credential("SLUICE_GITEA_TOKEN")
	if err != nil {
		return nil, err
	}
	site, err := gitea.Connect(gitea.Options{URL: a.forge.giteaURL, Owner: owner, Name: name, Token: token, TokenSource: source, Transport: transport})
	if err != nil {
		return nil, err
	}
	s := &forgeSite{open: func(repo *remoteRepository) forge { return site.Forge(repo.Repository, a.branch) }}
	if at.scheme == "ssh" {
		return s, nil
	}
	if !sameServer(server, a.forge.giteaURL) {
		return nil, withHint(fmt.Errorf("%s is not on %s", at.remote, a.forge.giteaURL), "the repository and --gitea-url must be of one server: the token is sent there")
	}
	s.signIn = &gitrepo.Credentials{Username: "git", Token: token, TokenSource: source}
	return s, nil
}

// sameServer compares two addresses of servers. Another path of a host may be another
// program's, and whatever it is, pull requests and branches would be of two servers.
func sameServer(a, b string) bool {
	one, err := url.Parse(a)
	if err != nil {
		return false
	}
	two, err := url.Parse(b)
	return err == nil && one.Scheme == two.Scheme && strings.EqualFold(one.Host, two.Host) &&
		strings.TrimRight(one.Path, "/") == strings.TrimRight(two.Path, "/")
}
