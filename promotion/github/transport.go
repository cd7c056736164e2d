package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
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

// bearer signs in with a token.
type bearer struct {
	base  http.RoundTripper
	token string
}

func (t bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	signed := req.Clone(req.Context())
	signed.Header.Set("Authorization", "Bearer "+t.token)
	return t.base.RoundTrip(signed)
}

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
