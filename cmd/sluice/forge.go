package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/github"
	"github.com/sluice-dev/sluice/promotion/local"
)

// forge is what commands need of the host of the pull requests.
type forge interface {
	promotion.Forge
	promotion.Announcer
}

// forgeFlags say which forge hosts the pull requests.
type forgeFlags struct {
	kind      string
	githubURL string
	giteaURL  string
}

// forgeSite is a forge as it is reached from one remote.
type forgeSite struct {
	open func(repo *remoteRepository) forge
	// signIn is how Git signs in with the forge's credentials; nil: they are not for
	// the remote's address.
	signIn *gitrepo.Credentials
}

const (
	forgeAuto  = "auto"
	forgeLocal = "local"
)

// forgeKinds are the forges, by the name that --forge has for them. Connecting sends
// nothing: commands that need only Git connect too, for its credentials.
var forgeKinds = map[string]func(*app, address, http.RoundTripper) (*forgeSite, error){
	forgeLocal: connectLocal,
	"github":   connectGitHub,
	"gitea":    connectGitea,
}

// forgeHosts are the hosts that --forge auto knows.
var forgeHosts = map[string]string{"github.com": "github", "ssh.github.com": "github"}

func (a *app) addForgeFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	kinds := append(slices.Sorted(maps.Keys(forgeKinds)), forgeAuto)
	f.StringVar(&a.forge.kind, "forge", cmp.Or(a.Getenv("SLUICE_FORGE"), forgeAuto),
		"host of the pull requests, a `kind`: "+strings.Join(kinds, ", ")+" (SLUICE_FORGE; auto: by the repository's host, else local)")
	f.StringVar(&a.forge.githubURL, "github-url", a.Getenv("SLUICE_GITHUB_URL"), "`address` of a GitHub Enterprise server, which the token is sent to (SLUICE_GITHUB_URL; default: github.com)")
	f.StringVar(&a.forge.giteaURL, "gitea-url", a.Getenv("SLUICE_GITEA_URL"), "`address` of a Gitea or Forgejo server, which the token is sent to (SLUICE_GITEA_URL)")
	_ = root.RegisterFlagCompletionFunc("forge", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses an unknown kind of forge.
func (f forgeFlags) check() error {
	if _, ok := forgeKinds[f.kind]; ok || f.kind == forgeAuto {
		return nil
	}
	return withHint(usagef("unknown forge %q", f.kind), "use --forge %s or %s", strings.Join(slices.Sorted(maps.Keys(forgeKinds)), ", "), forgeAuto)
}

// address is where a remote is, as far as its URL tells.
type address struct {
	remote string // without user and password
	scheme string // "" for a path
	host   string // with the port if there is one
	path   string // OWNER/NAME
}

// remoteAddress understands URLs and scp-like addresses.
func remoteAddress(remote string) address {
	if !isRemoteURL(remote) {
		return address{remote: remote}
	}
	if !strings.Contains(remote, "://") {
		host, path, _ := strings.Cut(remote, ":")
		host = host[strings.LastIndex(host, "@")+1:]
		return address{remote: host + ":" + path, scheme: "ssh", host: host, path: repositoryPath(path)}
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return address{remote: "the repository"} // not quoted: it may hold a password
	}
	if strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		return address{remote: "the repository"} // a password with a slash, ? or # in it
	}
	a := address{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Host), path: repositoryPath(u.Path)}
	u.User = nil
	a.remote = u.String()
	return a
}

func repositoryPath(path string) string {
	return strings.TrimSuffix(strings.Trim(path, "/"), ".git")
}

// name is the host without a port.
func (a address) name() string {
	if host, _, err := net.SplitHostPort(a.host); err == nil {
		return host
	}
	return a.host
}

// connect finds the forge of a remote and connects to it.
func (a *app) connect(remote string) (*forgeSite, error) {
	network, err := a.network()
	if err != nil {
		return nil, err
	}
	a.siteLock.Lock()
	defer a.siteLock.Unlock()
	if site := a.sites[remote]; site != nil {
		return site, nil
	}
	at := remoteAddress(remote)
	kind := a.forge.kind
	if kind == forgeAuto || kind == "" {
		kind = cmp.Or(forgeHosts[at.name()], forgeLocal)
	}
	site, err := forgeKinds[kind](a, at, network.http)
	if err != nil {
		return nil, err
	}
	if a.sites == nil {
		a.sites = map[string]*forgeSite{}
	}
	a.sites[remote] = site
	return site, nil
}

// connectLocal keeps pull requests in the repository.
func connectLocal(a *app, _ address, _ http.RoundTripper) (*forgeSite, error) {
	return &forgeSite{open: func(repo *remoteRepository) forge {
		f := local.New(repo.Repository, a.branch)
		f.Author, _ = repo.Identity()
		f.Now = a.Now
		return f
	}}, nil
}

// connectGitHub takes token or App from the environment, so that they stand in no
// process list. They are sent to github.com or to the server that --github-url names,
// never to one only because some clone has it for its origin.
func connectGitHub(a *app, at address, transport http.RoundTripper) (*forgeSite, error) {
	if at.path == "" {
		return nil, withHint(fmt.Errorf("%s is not the address of a repository on GitHub", at.remote),
			"give --repo https://github.com/OWNER/NAME, or --forge local to keep pull requests in the repository itself")
	}
	app, err := a.githubApp()
	if err != nil {
		return nil, err
	}
	token, source, err := a.credential("SLUICE_GITHUB_TOKEN", "GITHUB_TOKEN")
	if err != nil {
		return nil, err
	}
	site, err := github.Connect(github.Options{
		Repository: at.path,
		URL:        a.forge.githubURL,
		Token:      token, TokenSource: source, App: app,
		Transport: transport,
		Progress:  func(text string) { a.note("note: %s", text) },
		Now:       a.Now,
	})
	if err != nil {
		return nil, err
	}
	s := &forgeSite{open: func(repo *remoteRepository) forge { return site.Forge(repo.Repository, a.branch) }}
	if at.scheme == "https" || at.scheme == "http" {
		if at.host != site.Host() {
			return nil, withHint(fmt.Errorf("%s is not on %s", at.remote, site.Host()),
				"name its server with --github-url, if it is a GitHub Enterprise server; the token is sent there")
		}
		if at.scheme != site.Scheme() {
			return nil, withHint(fmt.Errorf("%s is not %s as the server is, and a token is not sent in the clear", at.remote, site.Scheme()),
				"give --repo %s://%s/%s", site.Scheme(), site.Host(), at.path)
		}
		s.signIn = &gitrepo.Credentials{Username: github.GitUsername, TokenSource: site.Token}
	}
	return s, nil
}

// githubApp is the App of the environment, nil when there is none.
func (a *app) githubApp() (*github.App, error) {
	id := a.Getenv("SLUICE_GITHUB_APP_ID")
	if id == "" {
		return nil, nil
	}
	app := &github.App{KeyFile: a.Getenv("SLUICE_GITHUB_APP_KEY_FILE")}
	for name, to := range map[string]*int64{"SLUICE_GITHUB_APP_ID": &app.ID, "SLUICE_GITHUB_APP_INSTALLATION": &app.Installation} {
		n, err := strconv.ParseInt(a.Getenv(name), 10, 64)
		if err != nil || n <= 0 {
			return nil, withHint(usagef("%s=%q is not a number", name, a.Getenv(name)), "a GitHub App is given by SLUICE_GITHUB_APP_ID, SLUICE_GITHUB_APP_INSTALLATION and SLUICE_GITHUB_APP_KEY_FILE")
		}
		*to = n
	}
	if app.KeyFile == "" {
		return nil, withHint(usagef("SLUICE_GITHUB_APP_KEY_FILE is not set"), "it names the .pem file that GitHub gave out for the App")
	}
	return app, nil
}

// signIn gives Git the credentials of the forge, where Git has none of its own. A
// forge that cannot be connected to leaves it without: many commands do not need it.
func (a *app) signIn(remote string, c gitrepo.Credentials) gitrepo.Credentials {
	if c.Token != "" || c.TokenSource != nil || c.Username != "" {
		return c
	}
	site, err := a.connect(remote)
	if err != nil || site.signIn == nil {
		return c
	}
	c.Username, c.TokenSource = site.signIn.Username, site.signIn.TokenSource
	c.Token = site.signIn.Token
	return c
}

// openForge opens the remote repository and the forge of its pull requests.
func (a *app) openForge(ctx context.Context) (*remoteRepository, forge, error) {
	p, err := a.locate()
	if err != nil {
		return nil, nil, err
	}
	var site *forgeSite
	if p.remote != "" {
		// First, since it says more of what is missing than Git can.
		if site, err = a.connect(p.remote); err != nil {
			return nil, nil, err
		}
	}
	repo, err := a.openRemoteAt(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	return repo, site.open(repo), nil
}
