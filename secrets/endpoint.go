package secrets

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	requestTimeout = 10 * time.Second
	maxAnswer      = 64 << 10 // bytes of an answer that are read
)

// endpoint is a server that configuration names. Its requests go there and
// nowhere else: no proxy of the environment is used and no redirect followed.
type endpoint struct {
	base string                 // scheme, host and path, without a slash at the end
	ca   getter[*x509.CertPool] // nil: the system's

	mu     sync.Mutex
	pool   *x509.CertPool // of client
	client *http.Client
}

// newEndpoint checks an address of configuration; problem is "" when it will do.
func newEndpoint(address string, ca getter[*x509.CertPool]) (e *endpoint, problem string) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, "is not an address: give https://HOST[:PORT]"
	case u.User != nil:
		return nil, "holds a user or password: credentials are given by file"
	case u.RawQuery != "" || u.Fragment != "":
		return nil, "has a query or a fragment: give https://HOST[:PORT]"
	case u.Scheme == "https":
	case u.Scheme == "http" && loopback(u.Hostname()):
		// an agent beside us
	default:
		return nil, "is not https: data keys would be readable on the way"
	}
	return &endpoint{base: strings.TrimRight(u.Scheme+"://"+strings.ToLower(u.Host)+u.EscapedPath(), "/"), ca: ca}, ""
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// http returns the client, a new one when the certificates have changed.
func (e *endpoint) http() (*http.Client, error) {
	var pool *x509.CertPool
	if e.ca != nil {
		var err error
		if pool, err = e.ca.get(); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil || e.pool != pool {
		if e.client != nil {
			e.client.CloseIdleConnections()
		}
		e.pool = pool
		e.client = &http.Client{
			Timeout:       requestTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:               nil, // never from the environment
				DialContext:         (&net.Dialer{Timeout: requestTimeout / 2}).DialContext,
				TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
				ForceAttemptHTTP2:   true,
				MaxIdleConnsPerHost: 2,
				IdleConnTimeout:     time.Minute,
			},
		}
	}
	return e.client, nil
}

// answer is what a server said.
type answer struct {
	status int
	body   []byte
}

// post sends a request; prepare adds credentials, with the path and body in place.
// Errors are *SourceError without a key.
func (e *endpoint) post(ctx context.Context, path, contentType string, body []byte, prepare func(*http.Request) error) (answer, error) {
	client, err := e.http()
	if err != nil {
		return answer{}, &SourceError{Reason: err.Error(), Err: err}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, &SourceError{Reason: "its address is malformed"}
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "sluice")
	if prepare != nil {
		if err := prepare(r); err != nil {
			return answer{}, err
		}
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, unreachable(e.base, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, unreachable(e.base, err)
	}
	if len(data) > maxAnswer {
		return answer{}, &SourceError{Reason: e.base + " answers with more than 64 KiB"}
	}
	return answer{resp.StatusCode, data}, nil
}

// postJSON posts in as JSON and reads the answer into out. explain says what an
// answer other than 200 means; nil goes for [explainStatus].
func (e *endpoint) postJSON(ctx context.Context, path, contentType string, in, out any, prepare func(*http.Request) error, explain func(answer) string) error {
	body, err := json.Marshal(in)
	if err != nil {
		return &SourceError{Reason: "the request cannot be written"}
	}
	a, err := e.post(ctx, path, contentType, body, prepare)
	if err != nil {
		return err
	}
	return e.read(a, out, explain)
}

func (e *endpoint) read(a answer, out any, explain func(answer) string) error {
	if a.status != http.StatusOK {
		reason := ""
		if explain != nil {
			reason = explain(a)
		}
		if reason == "" {
			reason = explainStatus(a.status)
		}
		return &SourceError{Reason: e.base + ": " + reason, Transient: a.status >= 500 || a.status == http.StatusTooManyRequests}
	}
	if json.Unmarshal(a.body, out) != nil {
		return &SourceError{Reason: e.base + " answers with something else than JSON"}
	}
	return nil
}

// explainStatus says what a status means. Answers are not quoted: whoever sent
// them may echo what was asked.
func explainStatus(status int) string {
	text := http.StatusText(status)
	switch {
	case status >= 300 && status < 400:
		return "it redirects, which is not followed: configure the address where the service is"
	case status == http.StatusUnauthorized:
		return "the credentials are refused (401 Unauthorized)"
	case status == http.StatusForbidden:
		return "the credentials may not use the key (403 Forbidden)"
	case status == http.StatusNotFound:
		return "there is no such key (404 Not Found)"
	case status == http.StatusTooManyRequests:
		return "it takes no more requests for now (429 Too Many Requests)"
	case text == "":
		return "it answers with an unknown status"
	}
	return "it answers " + strings.ToLower(text)
}

// unreachable says why there is no answer, without the request's path.
func unreachable(base string, err error) *SourceError {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	reason := base + " cannot be reached: " + oneLine(err.Error())
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		reason = base + " does not answer in time"
	}
	return &SourceError{Reason: reason, Transient: true}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// parseCertificates reads the certificates of authorities.
func parseCertificates(name string, data []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, &KeyFileError{File: name, Reason: "it holds no certificate", Remedy: "give certificates in PEM form, as curl --cacert takes them"}
	}
	return pool, nil
}

// parseToken reads a file that holds one token, password or passphrase.
func parseToken(name string, data []byte) (string, error) {
	token := strings.TrimRight(string(data), "\r\n")
	switch {
	case token == "":
		return "", &KeyFileError{File: name, Reason: "it is empty", Remedy: "write the token into it, and nothing else"}
	case strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", &KeyFileError{File: name, Reason: "it holds more than one line, or control characters", Remedy: "write the token into it, and nothing else"}
	}
	return token, nil
}
