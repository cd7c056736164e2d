package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/gitrepo"
)

// maxCredential bounds what is read of a file with a token, maxAuthorities of one with
// certificates.
const (
	maxCredential  = 64 << 10
	maxAuthorities = 4 << 20
)

// credential is a secret of the environment: the value of NAME, or what the file that
// NAME_FILE names holds at the time, for those that are replaced while a controller
// runs. fixed is "" and source nil where neither is set.
func (a *app) credential(names ...string) (fixed string, source func(context.Context) (string, error), err error) {
	for _, name := range names {
		variable := name + "_FILE"
		fixed, file := a.Getenv(name), a.Getenv(variable)
		switch {
		case fixed != "" && file != "":
			return "", nil, withHint(usagef("%s and %s are both set", name, variable), "unset one of them")
		case fixed != "":
			return fixed, nil, nil
		case file != "":
			file = a.abs(file)
			return "", func(context.Context) (string, error) {
				data, err := readBounded(file, maxCredential)
				if err != nil {
					return "", fmt.Errorf("%s: %w", variable, err)
				}
				token := strings.TrimSpace(string(data))
				if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r < ' ' }) {
					return "", withHint(fmt.Errorf("%s: %s holds no token", variable, file), "it must hold the token and nothing else, on one line")
				}
				return token, nil
			}, nil
		}
	}
	return "", nil, nil
}

// gitCredentials are what Git signs in with: those that are for Git, else the forge's.
// They come from the environment only, so that they stand in no process list; SSH uses
// the agent, or the key file that is named.
func (a *app) gitCredentials(remote string) (gitrepo.Credentials, error) {
	c := gitrepo.Credentials{Username: a.Getenv("SLUICE_GIT_USERNAME"), SSHKeyFile: a.Getenv("SLUICE_SSH_KEY_FILE"), KnownHostsFile: a.Getenv("SLUICE_KNOWN_HOSTS_FILE")}
	var err error
	if c.Token, c.TokenSource, err = a.credential("SLUICE_GIT_TOKEN"); err != nil {
		return c, err
	}
	return a.signIn(remote, c), nil
}

// network is how repository and forge are reached. The cluster is reached as its
// kubeconfig, or the pod, says.
type network struct {
	http     http.RoundTripper
	sshProxy *url.URL // nil: that of ALL_PROXY
}

// network is settled once for a process.
func (a *app) network() (*network, error) {
	a.siteLock.Lock()
	defer a.siteLock.Unlock()
	if a.reach == nil {
		a.reach = sync.OnceValues(func() (*network, error) { return networkOf(a) })
	}
	return a.reach()
}

// networkOf reads SLUICE_CA_FILE and SLUICE_PROXY.
func networkOf(a *app) (*network, error) {
	proxy, err := parseProxy(a.Getenv("SLUICE_PROXY"))
	if err != nil {
		return nil, err
	}
	t := &trusting{proxy: http.ProxyFromEnvironment}
	if proxy != nil {
		t.proxy = http.ProxyURL(proxy)
	}
	if file := a.Getenv("SLUICE_CA_FILE"); file != "" {
		t.file = a.abs(file)
	}
	_, err = t.transport()
	return &network{t, proxy}, err
}

// parseProxy reads the address of a proxy. It is not quoted: it may hold a password.
func parseProxy(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
		return nil, withHint(usagef("SLUICE_PROXY is not the address of a proxy"), "give it as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
	}
	return u, nil
}

// trusting sends requests to servers for which the machine's certificate authorities
// vouch, or those of a file. The file is read for each request, and new authorities
// are asked on new connections.
type trusting struct {
	file  string // "": the machine's only
	proxy func(*http.Request) (*url.URL, error)

	mu      sync.Mutex
	pem     []byte
	current *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *trusting) RoundTrip(req *http.Request) (*http.Response, error) {
	transport, err := t.transport()
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return transport.RoundTrip(req)
}

func (t *trusting) transport() (*http.Transport, error) {
	var pem []byte
	if t.file != "" {
		var err error
		if pem, err = readBounded(t.file, maxAuthorities); err != nil {
			return nil, fmt.Errorf("SLUICE_CA_FILE: %w", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && bytes.Equal(pem, t.pem) {
		return t.current, nil
	}
	next := &http.Transport{Proxy: t.proxy, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second,
		DialContext: (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext}
	if t.file != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, withHint(fmt.Errorf("SLUICE_CA_FILE: %s holds no certificate", t.file), "it must hold certificates of authorities in PEM format")
		}
		next.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if t.current != nil {
		t.current.CloseIdleConnections()
	}
	t.pem, t.current = pem, next
	return next, nil
}

// localRepositories settles whether a controller may read a repository of this
// machine's disk: not in a pod, where a path can only be a mistake, unless it is
// allowed by name. pod is the pod's namespace, "" outside of one.
func localRepositories(allowed, asked bool, pod string) bool {
	if asked {
		return allowed
	}
	return pod == ""
}
