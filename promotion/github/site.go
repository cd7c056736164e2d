// Package github keeps pull requests on GitHub, github.com or GitHub Enterprise.
//
// Call Connect, and Site.Forge with the repository that Git works on. Branches are
// moved by Git, compare-and-swap; everything else is asked of the REST API. What
// GitHub answers is bounded and for display: Markers, labels, comments and statuses
// decide nothing, and no pull request from a fork is ever taken for a promotion.
//
// The package never puts a token anywhere but into the Authorization header of
// requests to the site that it is for.
package github

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/gofri/go-github-ratelimit/v2/github_ratelimit"
	"github.com/google/go-github/v60/github"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

const (
	defaultURL     = "https://api.github.com/"
	defaultTimeout = 30 * time.Second // of one request
	defaultWait    = time.Minute      // for rate limits, in one call
)

// GitUsername goes with Site.Token when Git signs in by https.
const GitUsername = "x-access-token"

// App is a GitHub App that signs in as one of its installations.
type App struct {
	ID, Installation int64
	KeyFile          string // PEM, as GitHub gives it out; read again when it changes
}

// Options say how to reach a repository on GitHub.
type Options struct {
	// Repository is OWNER/NAME.
	Repository string
	// URL of the API. "" is github.com's; for GitHub Enterprise the server's
	// address is enough.
	URL string
	// Token signs in, unless TokenSource or App does.
	Token string
	// TokenSource gives the token of each request, for one that is replaced while the
	// program runs. Its errors must not hold what is secret.
	TokenSource func(context.Context) (string, error)
	App         *App
	// Transport sends requests; nil is one like http.DefaultTransport.
	Transport http.RoundTripper
	// MaxWait bounds how long one call waits for rate limits; 0 is a minute.
	MaxWait time.Duration
	// Timeout of one request; 0 is half a minute.
	Timeout time.Duration
	// Progress is told of waits; nil tells nobody.
	Progress func(text string)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Site is a repository's place on GitHub. It is safe for concurrent use, and all
// that use the same one share what is known of rate limits and unchanged answers.
type Site struct {
	client      *github.Client
	owner, name string
	host        string           // as errors name it
	app         *appTransport    // nil: token signs in
	token       *promotion.Token // nil: app signs in
	maxWait     time.Duration
	progress    func(string)
	now         func() time.Time
	pause       func(context.Context, time.Duration) error

	mu    sync.Mutex
	login string    // whose comments are ours; "" until it was asked for
	slow  time.Time // until when GitHub wants nothing of us: the secondary limit
}

// OptionError is an option that cannot be used.
type OptionError struct{ Problem, Remedy string }

func (e *OptionError) Error() string { return "connecting to GitHub: " + e.Problem }

// Hint says what to give instead.
func (e *OptionError) Hint() string { return e.Remedy }

var repositoryFormat = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,99})/[A-Za-z0-9._-]{1,100}$`)

// Connect checks the options and returns the site. It sends nothing.
func Connect(o Options) (*Site, error) {
	owner, name, _ := strings.Cut(o.Repository, "/")
	if !repositoryFormat.MatchString(o.Repository) || name == "." || name == ".." {
		return nil, &OptionError{fmt.Sprintf("%q is not OWNER/NAME", o.Repository), "--repo is the address of a repository on GitHub, such as https://github.com/OWNER/NAME"}
	}
	base, err := apiURL(o.URL)
	if err != nil {
		return nil, err
	}
	s := &Site{
		owner: owner, name: name, host: webHost(base), maxWait: or(o.MaxWait, defaultWait),
		progress: o.Progress, now: o.Now, pause: sleep,
	}
	if s.progress == nil {
		s.progress = func(string) {}
	}
	if s.now == nil {
		s.now = time.Now
	}
	// Deepest first: one exchange, who signs in, the limits, what is unchanged.
	bottom := exchange{base: o.Transport, timeout: or(o.Timeout, defaultTimeout)}
	if bottom.base == nil {
		bottom.base = http.DefaultTransport.(*http.Transport).Clone()
	}
	signed, err := s.signIn(o, base, bottom)
	if err != nil {
		return nil, err
	}
	// The secondary limit is only recognised here, and waited for by call: the
	// library's transport waits without bound when GitHub asks again and again.
	limited := github_ratelimit.NewPrimaryLimiter(slowing{sameHost{signed, base}})
	s.client = github.NewClient(&http.Client{Transport: newCache(limited), CheckRedirect: followReads(base)})
	s.client.BaseURL, s.client.UserAgent = base, "sluice"
	return s, nil
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// signIn puts the credentials on top of a transport.
func (s *Site) signIn(o Options, base *url.URL, below http.RoundTripper) (http.RoundTripper, error) {
	if o.App != nil {
		s.app = &appTransport{app: *o.App, base: strings.TrimSuffix(base.String(), "/"), below: below}
		_, err := s.app.current()
		return s.app, err
	}
	token := strings.TrimSpace(o.Token)
	switch {
	case o.TokenSource != nil:
		s.token = promotion.NewToken(o.TokenSource)
		return bearer{below, s.token}, nil
	case token == "":
		return nil, &OptionError{"there is no token", "set SLUICE_GITHUB_TOKEN (or GITHUB_TOKEN), or sign in as a GitHub App with SLUICE_GITHUB_APP_ID; " +
			"--forge local keeps pull requests in the repository itself"}
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, &OptionError{"the token has characters that no token has", "set it without line breaks and quotes"}
	}
	s.token = promotion.FixedToken(token)
	return bearer{below, s.token}, nil
}

// apiURL completes the address of the API: Enterprise has it below /api/v3/.
func apiURL(raw string) (*url.URL, error) {
	if raw == "" {
		raw = defaultURL
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// The value is not quoted: it may hold a password.
		return nil, &OptionError{"the address of the API is not a plain URL", "give --github-url as https://HOST; the token goes into SLUICE_GITHUB_TOKEN"}
	}
	if promotion.Readable(u) {
		return nil, &OptionError{"the address of the API, " + u.Redacted() + ", is not https",
			"a token is never sent in the clear: give --github-url https://" + u.Host}
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if u.Host = strings.ToLower(u.Host); u.Host == "github.com" || strings.HasSuffix(u.Host, ".ghe.com") && !strings.HasPrefix(u.Host, "api.") {
		u.Host = "api." + u.Host // GitHub's own servers have the API on a host of its own
	}
	if u.Path == "" && !ownAPI(u.Host) {
		u.Path = "/api/v3"
	}
	u.Path += "/"
	return u, nil
}

// ownAPI reports whether a host is that of an API of GitHub's own servers. Of nobody
// else's is it known to whom the domain above belongs.
func ownAPI(host string) bool {
	return host == "api.github.com" || strings.HasPrefix(host, "api.") && strings.HasSuffix(host, ".ghe.com")
}

// webHost is the host that people know an API's site by.
func webHost(base *url.URL) string {
	if ownAPI(base.Host) {
		return strings.TrimPrefix(base.Host, "api.")
	}
	return base.Host
}

// graphqlURL is the GraphQL API beside a REST API.
func (s *Site) graphqlURL() string {
	u := *s.client.BaseURL
	u.Path = strings.TrimSuffix(u.Path, "v3/") + "graphql"
	return u.String()
}

// Host is where repositories of the site are reached by Scheme, with the port if
// there is one. Site.Token belongs there and nowhere else.
func (s *Site) Host() string { return s.host }

// Scheme is https, or http for a server on this machine.
func (s *Site) Scheme() string { return s.client.BaseURL.Scheme }

// String is HOST/OWNER/NAME.
func (s *Site) String() string { return s.host + "/" + s.owner + "/" + s.name }

// Token is the password that goes with GitUsername. It is short-lived when an App
// signs in, so callers ask again rather than keep it.
func (s *Site) Token(ctx context.Context) (string, error) {
	if s.app == nil {
		return s.token.Now(ctx)
	}
	token, err := s.app.Token(ctx)
	if err != nil {
		return "", s.failure("signing in as a GitHub App", nil, err)
	}
	return token, nil
}

// Forge is the site as the forge of its repository. Pull requests merge into
// branch.
func (s *Site) Forge(repo *gitrepo.Repository, branch string) *Forge {
	return &Forge{Site: s, repo: repo, branch: branch}
}

// Forge is a promotion.Forge whose pull requests live on GitHub.
type Forge struct {
	*Site
	repo   *gitrepo.Repository
	branch string
}

var (
	_ promotion.Forge     = (*Forge)(nil)
	_ promotion.Announcer = (*Forge)(nil)
	_ promotion.Pages     = (*Forge)(nil)
)

// self returns whose comments are ours. Tokens of Apps, that of GitHub Actions
// among them, may not ask REST for it.
func (s *Site) self(ctx context.Context) (string, error) {
	s.mu.Lock()
	login := s.login
	s.mu.Unlock()
	if login != "" {
		return login, nil
	}
	const doing = "asking whose token it is"
	err := error(&Error{Status: http.StatusForbidden})
	if s.app == nil {
		err = s.call(ctx, doing, repeatable, func(ctx context.Context) (*github.Response, error) {
			user, res, err := s.client.Users.Get(ctx, "")
			login = user.GetLogin()
			return res, err
		})
	}
	if status(err) == http.StatusForbidden {
		login, err = s.viewer(ctx, doing)
	}
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.login = login
	return login, nil
}

// viewer asks GraphQL, which tells Apps too.
func (s *Site) viewer(ctx context.Context, doing string) (string, error) {
	var answer struct {
		Data struct {
			Viewer struct {
				Login string `json:"login"`
			} `json:"viewer"`
		} `json:"data"`
	}
	err := s.call(ctx, doing, repeatable, func(ctx context.Context) (*github.Response, error) {
		req, err := s.client.NewRequest(http.MethodPost, s.graphqlURL(), map[string]string{"query": "query { viewer { login } }"})
		if err != nil {
			return nil, err
		}
		return s.client.Do(ctx, req, &answer)
	})
	if err == nil && answer.Data.Viewer.Login == "" {
		err = &Error{Site: s.String(), Doing: doing, Message: "GitHub does not say"}
	}
	return answer.Data.Viewer.Login, err
}
