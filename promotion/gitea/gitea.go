// Package gitea keeps pull requests on a Gitea or Forgejo server.
//
// Call Connect with the repository's address there and a token, then Site.Forge
// with the same repository opened with gitrepo. What Git knows is asked of Git: branches are
// read in one listing and moved compare-and-swap by a push, so a head that
// somebody else moved is never overwritten and never merged. The server is asked
// for the rest over its API.
//
// What the forge has no field for stands in promotion.Note at the end of a pull
// request's body. What it does not notice is told from Git: a merge by plain Git
// (Gitea has an autodetection, which is off by default) and a branch that was
// deleted a moment ago.
//
// The package has no notion of a deployment, since Gitea has none: Deploy
// answers promotion.ErrUnsupported. It never follows a redirect, never merges or
// closes a pull request that is not a promotion of this repository, and never
// puts the token into an address, an error or a file.
package gitea

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"code.gitea.io/sdk/gitea"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

const heads = "refs/heads/"

// Options say which repository of which server.
type Options struct {
	// URL of the server, with the path that it is served under, if any:
	// https://git.example.com.
	URL string
	// Owner and Name of the repository.
	Owner, Name string
	// Token of a user who may write to the repository. Scopes: write:repository,
	// write:issue, read:user.
	Token string
	// TokenSource gives the token of each request instead, for one that is replaced
	// while the program runs. Its errors must not hold what is secret.
	TokenSource func(context.Context) (string, error)
	// Transport sends requests; nil is http.DefaultTransport.
	Transport http.RoundTripper
}

// Site is a repository on a server, as a token's user sees it.
type Site struct {
	options Options
	token   *promotion.Token
	http    *http.Client

	mu   sync.Mutex
	self string // the token's user, once it is known
}

// Forge is a promotion.Forge and a promotion.Announcer.
type Forge struct {
	*Site
	repo   *gitrepo.Repository
	branch string // that pull requests merge into
	pace   pace
	now    func() time.Time
}

var (
	_ promotion.Forge     = (*Forge)(nil)
	_ promotion.Announcer = (*Forge)(nil)
	_ promotion.Pages     = (*Forge)(nil)
)

// pace is how long the forge is waited for.
type pace struct {
	settle   time.Duration // until it has noticed that a branch is gone
	check    time.Duration // until it has found out whether it can merge
	conflict time.Duration // the same, where both sides changed a file
}

// nameFormat is what an owner or a repository of Gitea may be called.
var nameFormat = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$`)

// Connect makes sure that options can be used. It sends nothing yet.
func Connect(o Options) (*Site, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, &OptionError{"the server's URL is not like https://git.example.com", "give it with --gitea-url"}
	case promotion.Readable(u):
		return nil, &OptionError{"the server's URL, " + u.Redacted() + ", is not https",
			"a token is never sent in the clear: give --gitea-url https://" + u.Host + "; http is for a server on this machine"}
	case !nameFormat.MatchString(o.Owner) || !nameFormat.MatchString(o.Name):
		return nil, &OptionError{fmt.Sprintf("%q is not the OWNER/NAME of a repository on %s", o.Owner+"/"+o.Name, u.Host),
			"the repository's URL must end in OWNER/NAME or OWNER/NAME.git"}
	case o.Token == "" && o.TokenSource == nil:
		return nil, &OptionError{"there is no token for " + u.Host, "make one in the settings of a user of Gitea, with the scopes " +
			"write:repository, write:issue and read:user, and give it in SLUICE_GITEA_TOKEN"}
	case strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, &OptionError{"the token for " + u.Host + " has characters that no token has", "look for a line end or a quotation mark in it"}
	}
	o.URL = strings.TrimRight(o.URL, "/")
	token := promotion.FixedToken(o.Token)
	if o.TokenSource != nil {
		token = promotion.NewToken(o.TokenSource)
	}
	return &Site{options: o, token: token, http: newHTTP(o.Transport)}, nil
}

// Forge is the forge of the site's repository. Pull requests merge into branch;
// pushes go through repo, with its credentials.
func (s *Site) Forge(repo *gitrepo.Repository, branch string) *Forge {
	return &Forge{
		Site: s, repo: repo, branch: branch, now: time.Now,
		pace: pace{settle: 10 * time.Second, check: 20 * time.Second, conflict: 3 * time.Second},
	}
}

// Locate splits the address of a repository, as Git takes it, into what Options
// wants: of an address for SSH, the server is taken to answer over HTTPS at the
// same host. ok is false for an address that is no such thing.
func Locate(remote string) (server, owner, name string, ok bool) {
	if !strings.Contains(remote, "://") { // user@host:path, as scp has it
		host, file, _ := strings.Cut(remote, ":")
		remote = "ssh://" + host + "/" + strings.TrimPrefix(file, "/")
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return "", "", "", false
	}
	folder, name := path.Split(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git"))
	prefix, owner := path.Split(strings.TrimRight(folder, "/"))
	if !nameFormat.MatchString(owner) || !nameFormat.MatchString(name) {
		return "", "", "", false
	}
	switch u.Scheme {
	case "http", "https":
		server = u.Scheme + "://" + u.Host + prefix
	case "ssh":
		server = "https://" + u.Hostname() + prefix
	default:
		return "", "", "", false
	}
	return strings.TrimRight(server, "/"), owner, name, true
}

// client is the SDK's client for one call: its context is a field.
func (s *Site) client(ctx context.Context) (*gitea.Client, error) {
	token, err := s.token.Now(ctx)
	if err != nil {
		return nil, fmt.Errorf("the token for %s: %w", s.options.URL, err)
	}
	return gitea.NewClient(s.options.URL,
		gitea.SetGiteaVersion(""), // features are what is tried, not what a version promises
		gitea.SetHTTPClient(s.http),
		gitea.SetToken(token),
		gitea.SetUserAgent("sluice"),
		gitea.SetContext(ctx),
	)
}

// repository is how the repository is named to people.
func (s *Site) repository() string {
	return s.options.URL + "/" + s.options.Owner + "/" + s.options.Name
}

// page is the address of a pull request for people. It is made here: what the
// server says of its own address is not repeated.
func (s *Site) page(number int64) string { return fmt.Sprintf("%s/pulls/%d", s.repository(), number) }

// me is the login of the token's user.
func (s *Site) me(ctx context.Context) (string, error) {
	s.mu.Lock()
	known := s.self
	s.mu.Unlock()
	if known != "" {
		return known, nil
	}
	c, err := s.client(ctx)
	if err != nil {
		return "", err
	}
	user, response, err := c.GetMyUserInfo()
	if err != nil {
		return "", s.failed("asking whose token it is", response, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.self = user.UserName
	return s.self, nil
}

// pause waits between two looks at what the forge is doing: a little longer each
// time, at most a second; the jitter keeps those who wait for the same apart.
func pause(ctx context.Context, attempt int) error {
	limit := min(time.Second, 20*time.Millisecond<<min(attempt, 6))
	timer := time.NewTimer(limit/2 + rand.N(limit/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
