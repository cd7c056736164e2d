package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

const (
	maxErrorBody = 16 << 10
	maxRefsBody  = 64 << 20
)

// useHTTP makes the remote's client. Credentials go to the origin of the URL
// and nowhere else: go-git drops them when a redirect leaves it, and here such
// a redirect is refused at once, since the request could only fail later and
// less clearly.
func (r *remote) useHTTP(o Options, user, password string) {
	c := o.Credentials
	if c.Username != "" {
		user = c.Username
	}
	if c.Token != "" {
		password = c.Token
	}
	if password != "" && user == "" {
		user = "git"
	}
	if user == "" && c.TokenSource != nil {
		user = "git"
	}
	if user != "" {
		r.auth = &githttp.BasicAuth{Username: user, Password: password}
		r.redact.login(user, password)
	}
	transport := o.Transport
	if transport == nil {
		// One of its own, so that Close can end its connections.
		base := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second,
			DialContext: (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext}
		r.idle = base.CloseIdleConnections
		transport = base
	}
	hasCredentials := r.auth != nil
	if c.TokenSource != nil {
		transport = tokenTransport{transport, user, c.TokenSource, r.redact}
	}
	client := &http.Client{
		Transport: boundedTransport{transport},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if hasCredentials && (req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme) {
				return &redirectError{to: displayURL(req.URL.String())}
			}
			return nil
		},
	}
	r.client = githttp.NewClientWithOptions(client, &githttp.ClientOptions{RedirectPolicy: githttp.FollowInitialRedirects})
}

// tokenTransport signs in with a token that is asked for with each request.
// Redirects to another host are refused before they get here.
type tokenTransport struct {
	base  http.RoundTripper
	user  string
	token func(context.Context) (string, error)
	// redact is told of every token: a server, or a proxy before it, may repeat what
	// it was sent.
	redact *redactor
}

func (t tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := t.token(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &tokenError{err}
	}
	t.redact.login(t.user, token)
	req = req.Clone(req.Context())
	req.SetBasicAuth(t.user, token)
	return t.base.RoundTrip(req)
}

// tokenError is a request that was not sent for want of a token.
type tokenError struct{ cause error }

func (e *tokenError) Error() string { return "there is no token: " + e.cause.Error() }

// hint is the cause's, if it has one.
func (e *tokenError) hint() string {
	var h interface{ Hint() string }
	if errors.As(e.cause, &h) {
		return h.Hint()
	}
	return ""
}

type redirectError struct{ to string }

func (e *redirectError) Error() string {
	return fmt.Sprintf("the server redirects to %s, and credentials are not sent to another host", e.to)
}

// boundedTransport limits what a server can make go-git hold in memory: it
// reads error pages and ref lists whole.
type boundedTransport struct{ base http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case res.StatusCode < 200 || res.StatusCode >= 300:
		res.Body = limitedBody{io.LimitReader(res.Body, maxErrorBody), res.Body}
	case strings.HasSuffix(req.URL.Path, "/info/refs"):
		res.Body = limitedBody{io.LimitReader(res.Body, maxRefsBody), res.Body}
	}
	return res, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}
