package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gofri/go-github-ratelimit/v2/github_ratelimit/github_secondary_ratelimit"

	"github.com/sluice-dev/sluice/promotion"
)

// maxAnswer bounds what one answer makes us hold: a page of a hundred pull
// requests with long texts is some megabytes.
const maxAnswer = 16 << 20

// exchange sends one request and reads the whole answer, within a time and a size.
// A request that is sent again by what is above starts with its whole body.
type exchange struct {
	base    http.RoundTripper
	timeout time.Duration
}

func (t exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	defer cancel()
	sent := req.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		sent.Body = body
	}
	res, err := t.base.RoundTrip(sent)
	if err != nil {
		return nil, t.explain(req, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, t.explain(req, err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d MiB", maxAnswer>>20)
	}
	res.Body, res.Request = io.NopCloser(bytes.NewReader(data)), req
	return res, nil
}

// explain tells the end of our own patience from the caller's.
func (t exchange) explain(req *http.Request, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && req.Context().Err() == nil {
		return &silentError{t.timeout}
	}
	return err
}

// silentError is a request that got no answer in time.
type silentError struct{ after time.Duration }

func (e *silentError) Error() string { return fmt.Sprintf("no answer within %s", e.after) }

// defaultSlow is how long to wait when GitHub asks to slow down and does not say
// how long: its documentation asks for a minute at least.
const defaultSlow = time.Minute

// slowing recognises the secondary rate limit, which GitHub tells by 403 or by 429.
type slowing struct{ base http.RoundTripper }

func (t slowing) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.base.RoundTrip(req)
	if err != nil || res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusTooManyRequests ||
		res.Header.Get("X-RateLimit-Remaining") == "0" { // that is the primary one
		return res, err
	}
	data, err := io.ReadAll(res.Body) // bounded by exchange
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(data))
	var body github_secondary_ratelimit.SecondaryRateLimitBody
	if res.StatusCode == http.StatusForbidden && (json.Unmarshal(data, &body) != nil || !body.IsSecondaryRateLimit()) {
		return res, nil
	}
	wait := defaultSlow
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds >= 0 && seconds < 1<<20 {
		wait = time.Duration(seconds) * time.Second
	}
	return nil, &slowError{wait}
}

// slowError is a request that was not carried out because there were too many.
type slowError struct{ wait time.Duration }

func (e *slowError) Error() string { return "GitHub asks to slow down for " + e.wait.String() }

// bearer signs in with a token.
type bearer struct {
	base  http.RoundTripper
	token *promotion.Token
}

func (t bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := t.token.Now(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &tokenError{err}
	}
	signed := req.Clone(req.Context())
	signed.Header.Set("Authorization", "Bearer "+token)
	return t.base.RoundTrip(signed)
}

// tokenError is a request that was not sent for want of a token.
type tokenError struct{ cause error }

func (e *tokenError) Error() string { return "there is no token: " + e.cause.Error() }

// sameHost keeps every request, and so every token, at the host it is for.
type sameHost struct {
	base http.RoundTripper
	at   *url.URL
}

func (t sameHost) RoundTrip(req *http.Request) (*http.Response, error) {
	if !sameOrigin(req.URL, t.at) {
		return nil, &elsewhereError{req.URL.Host}
	}
	return t.base.RoundTrip(req)
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// elsewhereError is a redirect that leaves the host.
type elsewhereError struct{ host string }

func (e *elsewhereError) Error() string {
	return "the server sends us to " + printable(e.host) + ", and a token is not sent to another host"
}

// followReads follows the redirects of reads, on the same host: that is how GitHub
// answers for a renamed repository. Other requests are not sent elsewhere, where
// they might mean something else; the answer is returned as it is.
func followReads(base *url.URL) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		switch {
		case via[0].Method != http.MethodGet:
			return http.ErrUseLastResponse
		case !sameOrigin(req.URL, base):
			return &elsewhereError{req.URL.Host}
		case len(via) > 5:
			return errors.New("the server redirects in circles")
		}
		return nil
	}
}
