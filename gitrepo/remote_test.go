package gitrepo

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

func TestErrorsOfOpen(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	clone := filepath.Join(folder, "clone")
	git(t, folder, "init", "--quiet", clone)
	require.NoError(t, os.MkdirAll(filepath.Join(clone, "components", "api"), 0o700))
	sha256 := filepath.Join(folder, "sha256.git")
	git(t, folder, "init", "--quiet", "--bare", "--object-format=sha256", sha256)
	for _, c := range []struct {
		name, url  string
		o          Options
		want, hint string
		is         error
	}{
		{"nothing", "", Options{}, `opening repository "": no URL or path is given`, "give the URL or the path of a Git repository", nil},
		{"no such path", folder + "/none", Options{}, "DIR/none is not a Git repository: there is no such path", "give the URL or the path of a Git repository (git init --bare makes a new one)", ErrNotRepository},
		{"a folder", folder, Options{}, "DIR is not a Git repository: the folder has no .git and is no bare repository", "give the URL or the path of a Git repository (git init --bare makes a new one)", ErrNotRepository},
		{"a file", file, Options{}, "DIR/file is not a Git repository: it is a file", "give the URL or the path of a Git repository (git init --bare makes a new one)", ErrNotRepository},
		{"inside a work tree", clone + "/components/api", Options{}, "DIR/clone/components/api is not a Git repository: the folder has no .git and is no bare repository",
			"it is inside the repository DIR/clone; give that path", ErrNotRepository},
		{"a file URL", "file://" + folder, Options{}, "DIR is not a Git repository: the folder has no .git and is no bare repository", "give the URL or the path of a Git repository (git init --bare makes a new one)", ErrNotRepository},
		{"unknown scheme", "ftp://user:pass@example.com/x", Options{}, `opening repository ftp://example.com/x: scheme "ftp" is not supported`, "use https, ssh or file", nil},
		{"git scheme", "git://example.com/x", Options{}, `opening repository git://example.com/x: scheme "git" is not supported`, "use https, ssh or file", nil},
		{"command", "ext::sh -c touch% /tmp/x", Options{}, "", "", nil},
		{"no host", "https:///x", Options{}, "opening repository https:///x: the URL has no host", "", nil},
		{"option as host", "ssh://-oProxyCommand=x/y", Options{}, "opening repository ssh://-oProxyCommand=x/y: the URL has no host", "", nil},
		{"paths not allowed", folder, Options{DisallowFile: true}, "opening repository DIR: repositories on this machine's disk are not allowed here", "give an https or ssh URL", nil},
		{"file URLs not allowed", "file://" + folder, Options{DisallowFile: true}, "opening repository file://DIR: repositories on this machine's disk are not allowed here", "give an https or ssh URL", nil},
		{"file URLs not allowed in capitals", "FILE://" + folder, Options{DisallowFile: true}, "opening repository FILE://DIR: repositories on this machine's disk are not allowed here", "give an https or ssh URL", nil},
		{"branch name", folder + "/clone", Options{Branch: "a..b"}, `opening repository DIR/clone: "a..b" is no branch name`, "give the name without refs/heads/", nil},
		{"other hash", sha256, Options{}, "opening repository DIR/sha256.git: its objects are named by sha256: the repository format is not supported", "repositories with SHA-1 objects and files as refs are supported", nil},
		{"password in a bad URL", "https://user:hunter2@exa mple.com/x", Options{}, "opening repository https://exa mple.com/x: the URL cannot be parsed", "write special characters of a user name or password as %XX, or give them apart from the URL", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.URL = c.url
			_, err := Open(t.Context(), c.o)
			require.Error(t, err)
			if c.want == "" {
				return
			}
			assert.Equal(t, c.want, strings.ReplaceAll(err.Error(), folder, "DIR"))
			assert.Equal(t, c.hint, strings.ReplaceAll(hint(t, err), folder, "DIR"))
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
		})
	}
}

func TestPathsOfRepositories(t *testing.T) {
	folder := t.TempDir()
	work, linked := filepath.Join(folder, "tree"), filepath.Join(folder, "linked")
	git(t, folder, "init", "--quiet", "--initial-branch=main", work)
	git(t, work, "commit", "--quiet", "--allow-empty", "-m", "first")
	git(t, work, "worktree", "add", "--quiet", "-b", "topic", linked)
	t.Chdir(folder)
	for _, path := range []string{work, filepath.Join(work, ".git"), linked, "tree", "./tree/", "file://" + work, "file://localhost" + work} {
		r, err := Open(t.Context(), Options{URL: path, Branch: "main"})
		require.NoError(t, err, path)
		assert.Equal(t, git(t, work, "rev-parse", "main"), snapshot(t, r, "HEAD").Revision(), path)
		require.NoError(t, r.Close())
	}
	// A folder whose name looks like host:path.
	odd := filepath.Join(folder, "host:odd")
	git(t, folder, "init", "--quiet", "--bare", odd)
	r := open(t, Options{URL: "host:odd"})
	assert.Equal(t, odd, r.Name())
}

func TestDefaultBranch(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	git(t, dir, "branch", "-m", "main", "trunk")
	git(t, dir, "symbolic-ref", "HEAD", "refs/heads/trunk")
	r := open(t, Options{URL: dir})
	assert.Equal(t, "trunk", r.Branch())
	rev, err := r.Update(t.Context(), "", write("m", map[string]string{"a": "2"}))
	require.NoError(t, err)
	assert.Equal(t, rev, git(t, dir, "rev-parse", "trunk"))
}

// Credentials reach no error, log or print, whatever the server repeats: Flux
// CVE-2024-31216.
func TestAttackCredentialsInErrors(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	good := serveHTTP(t, dir, nil)
	host := strings.TrimPrefix(good.URL, "http://")
	secret := "hunter2/with+odd%chars"
	var refuse http.HandlerFunc = func(w http.ResponseWriter, req *http.Request) {
		// A server that repeats what it got, in every form it can think of.
		user, password, _ := req.BasicAuth()
		http.Error(w, fmt.Sprintf("bad login %s %s %s for http://%s:%s@host/", user, password, url.QueryEscape(password), url.PathEscape(user), url.PathEscape(password)), http.StatusUnauthorized)
	}
	echo := httptest.NewServer(refuse)
	t.Cleanup(echo.Close)
	for name, o := range map[string]Options{
		"in the URL":            {URL: "http://robot:" + url.PathEscape(secret) + "@" + host},
		"token as user":         {URL: "http://" + url.PathEscape(secret) + "@" + host},
		"given apart":           {URL: good.URL, Credentials: Credentials{Username: "robot", Token: secret}},
		"echoed":                {URL: echo.URL + "/x", Credentials: Credentials{Username: "robot", Token: secret}},
		"echoed from the URL":   {URL: "http://robot:" + url.PathEscape(secret) + "@" + strings.TrimPrefix(echo.URL, "http://")},
		"host does not exist":   {URL: "http://robot:" + url.PathEscape(secret) + "@host.invalid/x"},
		"port does not exist":   {URL: "http://robot:" + url.PathEscape(secret) + "@127.0.0.1:1/x"},
		"URL cannot be parsed":  {URL: "http://robot:" + secret + "%zz@host/x"},
		"token with a slash":    {URL: "http://" + secret + "@host.invalid/x"},
		"token cut by a slash":  {URL: "http://hunter2/hunter2@host.invalid/x"},
		"query":                 {URL: echo.URL + "/x?private_token=" + url.QueryEscape(secret), Credentials: Credentials{Token: secret}},
		"unsupported scheme":    {URL: "ftp://robot:" + url.PathEscape(secret) + "@host/x"},
		"ssh, with a bad login": {URL: "ssh://robot:" + url.PathEscape(secret) + "@127.0.0.1:1/x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), o)
			require.Error(t, err)
			printed := []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), fmt.Sprintf("%v %+v %#v", o, o, o)}
			for e := err; e != nil; e = errors.Unwrap(e) {
				printed = append(printed, e.Error())
			}
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "options", o, "err", err, "credentials", o.Credentials)
			encoded, jsonErr := json.Marshal(o.Credentials)
			require.NoError(t, jsonErr)
			printed = append(printed, string(encoded))
			for _, p := range printed {
				for _, s := range []string{secret, url.PathEscape(secret), url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte("robot:" + secret)), "hunter2"} {
					assert.NotContains(t, p, s)
				}
			}
			assert.NotContains(t, log.String(), secret)
		})
	}
}

func TestAccessErrors(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	o := serveHTTP(t, dir, nil)
	o.Credentials.Token = "wrong"
	_, err := Open(t.Context(), o)
	var access *AccessError
	require.ErrorAs(t, err, &access)
	assert.Equal(t, "reading "+o.URL+": authentication required: who are you?", err.Error())
	assert.Equal(t, "give a user name and a token (or, for ssh, a key) that may use this repository", hint(t, err))

	readOnly := serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.Contains(req.URL.String(), "receive-pack") {
				http.Error(w, "<html>go away</html>", http.StatusForbidden)
				return
			}
			backend.ServeHTTP(w, req)
		})
	})
	r := open(t, readOnly)
	calls := 0
	_, err = r.Update(t.Context(), "main", func(*Snapshot) (Edit, error) {
		calls++
		return Edit{Message: "m", Write: map[string][]byte{"a": []byte("2")}}, nil
	})
	require.ErrorAs(t, err, &access)
	assert.Equal(t, "writing to "+readOnly.URL+": access denied", err.Error())
	assert.Equal(t, "the account may not write to this repository", hint(t, err))
	assert.Equal(t, 1, calls)
}

// Credentials are not carried to where a server redirects: go-git CVE-2026-41506.
func TestAttackRedirects(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	var stolen []string
	evil := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		stolen = append(stolen, req.URL.Path+" "+req.Header.Get("Authorization"))
	}))
	t.Cleanup(evil.Close)
	o := serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch {
			case strings.HasPrefix(req.URL.Path, "/away"):
				http.Redirect(w, req, evil.URL+req.URL.String(), http.StatusFound)
			case strings.HasPrefix(req.URL.Path, "/old/"):
				http.Redirect(w, req, strings.TrimPrefix(req.URL.String(), "/old"), http.StatusMovedPermanently)
			default:
				backend.ServeHTTP(w, req)
			}
		})
	})
	moved := o
	moved.URL = strings.Replace(o.URL, "/shop.git", "/old/shop.git", 1)
	r := open(t, moved)
	_, err := r.Update(t.Context(), "main", write("m", map[string]string{"a": "2"}))
	require.NoError(t, err, "a redirect within the host is followed, for pushes too")

	away := o
	away.URL = strings.Replace(o.URL, "/shop.git", "/away/shop.git", 1)
	_, err = Open(t.Context(), away)
	require.Error(t, err)
	assert.Equal(t, "fetching "+away.URL+": the server redirects to "+evil.URL+"/away/shop.git/info/refs, and credentials are not sent to another host", err.Error())
	assert.Equal(t, "give the URL that it redirects to, if you trust it", hint(t, err))
	assert.Empty(t, stolen)
}

// A token that lives shorter than the process is asked for again and again, and
// stays as much at home as one that does not.
func TestTokenSource(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	var tokens, stolen []string
	evil := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		stolen = append(stolen, req.Header.Get("Authorization"))
	}))
	t.Cleanup(evil.Close)
	inner := serveHTTP(t, dir, nil)
	target, err := url.Parse(inner.URL)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: target.Scheme, Host: target.Host})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/away") {
			http.Redirect(w, req, evil.URL+req.URL.String(), http.StatusFound)
			return
		}
		_, token, _ := req.BasicAuth()
		tokens = append(tokens, token)
		req.SetBasicAuth(testUser, testToken)
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)
	o := Options{URL: front.URL + target.Path}
	n := 0
	fail := error(nil)
	o.Credentials = Credentials{TokenSource: func(context.Context) (string, error) {
		n++
		return fmt.Sprint("token-", n), fail
	}}
	assert.Equal(t, "credentials(token)", o.Credentials.String())
	r := open(t, o)
	_, err = r.Update(t.Context(), "main", write("m", map[string]string{"a": "2"}))
	require.NoError(t, err)
	assert.Greater(t, n, 2)
	assert.Len(t, tokens, n)
	assert.Equal(t, fmt.Sprint("token-", n), tokens[n-1])

	away := o
	away.URL = strings.Replace(o.URL, "/shop.git", "/away/shop.git", 1)
	_, err = Open(t.Context(), away)
	require.ErrorContains(t, err, "credentials are not sent to another host")
	assert.Empty(t, stolen)

	curious := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, token, _ := req.BasicAuth()
		http.Error(w, "no access with "+token+", sent as "+req.Header.Get("Authorization"), http.StatusForbidden)
	}))
	t.Cleanup(curious.Close)
	for _, c := range []Credentials{{TokenSource: o.Credentials.TokenSource}, {Token: testToken}} {
		_, err = Open(t.Context(), Options{URL: curious.URL + "/shop.git", Credentials: c})
		require.ErrorContains(t, err, "access denied: no access with ***, sent as Basic ***", "what a server repeats is not told")
	}

	fail = errors.New("no token today")
	_, err = r.Fetch(t.Context())
	require.ErrorContains(t, err, "no token today")
}

// What a server says is bounded before it is read: Argo CD CVE-2022-31016.
func TestServerThatTalksTooMuch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		line := []byte(strings.Repeat("x", 1<<16))
		for range 1000 {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	_, err := Open(t.Context(), Options{URL: server.URL + "/x"})
	var access *AccessError
	require.ErrorAs(t, err, &access)
	assert.Less(t, len(err.Error()), 500)
}

func TestServerThatIsNoGitServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome</html>") }))
	t.Cleanup(server.Close)
	_, err := Open(t.Context(), Options{URL: server.URL + "/x"})
	var transport *TransportError
	require.ErrorAs(t, err, &transport)
	assert.Equal(t, "check the URL and the network, then try again", hint(t, err))
}

// A server that never answers costs no more than the context allows.
func TestServerThatHangs(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	var hang atomic.Value
	hang.Store("")
	reached := make(chan struct{}, 10)
	o := serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if at := hang.Load().(string); at != "" && strings.Contains(req.URL.String(), at) {
				reached <- struct{}{}
				_, _ = io.Copy(io.Discard, req.Body) // only then is the end of the connection noticed
				<-req.Context().Done()
				return
			}
			backend.ServeHTTP(w, req)
		})
	})
	r := open(t, o)
	for _, at := range []string{"service=git-upload-pack", "/git-upload-pack", "service=git-receive-pack", "/git-receive-pack"} {
		commitFiles(t, dir, "main", "more", map[string]string{"a": at})
		hang.Store(at)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-reached
			hang.Store("")
			cancel()
		}()
		_, err := r.Update(ctx, "main", write("m", map[string]string{"b": at}))
		require.ErrorIs(t, err, context.Canceled, at)
		assert.Equal(t, at == "/git-receive-pack", errors.Is(err, ErrUncertain), at)
	}
	_, err := r.Update(t.Context(), "main", write("m", map[string]string{"b": "in the end"}))
	require.NoError(t, err)
}

// A host that is not known is not spoken to, nor one whose key is another: Fleet
// CVE-2025-23390.
func TestAttackUnknownHosts(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	o := serveSSH(t, dir)
	good, err := os.ReadFile(o.Credentials.KnownHostsFile)
	require.NoError(t, err)
	other := serveSSH(t, dir)
	otherKey, err := os.ReadFile(other.Credentials.KnownHostsFile)
	require.NoError(t, err)
	address := strings.Fields(string(good))[0]
	for name, c := range map[string]struct{ hosts, want, hint string }{
		"unknown": {string(otherKey), "reading URL: access denied: the server's host key is not known", "put it into ~/.ssh/known_hosts"},
		"changed": {address + strings.TrimPrefix(string(otherKey), strings.Fields(string(otherKey))[0]), "reading URL: access denied: the server's host key is not the known one", "somebody may be listening in"},
	} {
		require.NoError(t, os.WriteFile(o.Credentials.KnownHostsFile, []byte(c.hosts), 0o600))
		_, err := Open(t.Context(), o)
		require.Error(t, err, name)
		assert.Equal(t, c.want, strings.ReplaceAll(err.Error(), o.URL, "URL"), name)
		assert.Contains(t, hint(t, err), c.hint, name)
	}
	require.NoError(t, os.WriteFile(o.Credentials.KnownHostsFile, good, 0o600))
	for name, c := range map[string]struct {
		change     func(c *Credentials)
		want, hint string
	}{
		"no known hosts": {func(c *Credentials) { c.KnownHostsFile += ".none" }, "there is no file of known hosts", "~/.ssh/known_hosts"},
		"no key":         {func(c *Credentials) { c.SSHKeyFile = "" }, "there is no ssh key", "name a key file"},
		"no key file":    {func(c *Credentials) { c.SSHKeyFile += ".none" }, "cannot be read", "unencrypted private key"},
		"not a key":      {func(c *Credentials) { c.SSHKeyFile = c.KnownHostsFile }, "is no private key", "unencrypted private key"},
		"wrong key":      {func(c *Credentials) { c.SSHKeyFile = other.Credentials.SSHKeyFile }, "authentication required: the server accepts none of the ssh keys", "a key"},
	} {
		bad := o
		c.change(&bad.Credentials)
		_, err := Open(t.Context(), bad)
		require.Error(t, err, name)
		assert.Contains(t, err.Error(), c.want, name)
		assert.Contains(t, hint(t, err), c.hint, name)
	}
	open(t, o)
}

func TestDisplayURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:pw@example.com/shop/env.git?token=x#y": "https://example.com/shop/env.git",
		"https://example.com/shop":                           "https://example.com/shop",
		"git@example.com:shop/env.git":                       "example.com:shop/env.git",
		"ssh://git@example.com:2222/shop":                    "ssh://example.com:2222/shop",
		"/srv/shop.git":                                      "/srv/shop.git",
		"https://user:p%zz@host/x":                           "https://host/x",
		"a\x1b[31mb":                                         "a[31mb",
	} {
		assert.Equal(t, want, displayURL(in), in)
	}
}

func FuzzRedact(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("fetching https://user:hunter2@host/x: dial", "hunter2")
	f.Add("a%2Fb a/b", "a/b")
	f.Add("remote: hun\x7fter2, \u2028hunter\x002", "hunter2")
	f.Fuzz(func(t *testing.T, text, secret string) {
		if len(secret) < 3 || strings.Contains("***", secret) {
			return
		}
		r := newRedactor(secret)
		require.NotContains(t, r.text(text), secret)
		for _, line := range r.messageLines(text) {
			require.NotContains(t, line, secret)
			require.Equal(t, printable(line, 400), line)
		}
	})
}

// FuzzURL: whatever stands around a password in an address, no error, name or
// message has it, and what is connected to has neither it nor the user.
func FuzzURL(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("https", "ann", "/x", "git.example.com/shop/environments.git")
	f.Add("ssh", "git", "", "-oProxyCommand=x/shop")
	f.Add("http", "", "%2F?#", "[::1]:8080/shop?token=x#y")
	f.Add("", "git", "", "example.com:shop/environments.git")
	f.Add("htt ps", "ann", "", "git.example.com/shop")
	f.Add("", "git", "file:///", "example.com:shop/environments.git")
	f.Fuzz(func(t *testing.T, scheme, user, password, rest string) {
		const secret = "hunter2-hunter2"
		raw := user + ":" + secret + password + "@" + rest
		if scheme != "" {
			raw = scheme + "://" + raw
		} else if user == "" || user[0] == ':' || strings.ContainsAny(user, `/\`) {
			return // a path
		}
		o := Options{URL: raw, DisallowFile: true}
		require.NotContains(t, fmt.Sprintf("%v %+v %s", o, o, o), secret)
		r, err := newRemote(o)
		if err != nil {
			var h interface{ Hint() string }
			require.ErrorAs(t, err, &h)
			require.NotContains(t, err.Error()+h.Hint(), secret)
			return
		}
		require.NotContains(t, r.name, secret)
		require.Equal(t, printable(r.name, 400), r.name)
		require.NotContains(t, r.redact.text("reading "+raw+": no"), secret)
		require.Empty(t, r.endpoint.User+r.endpoint.Password)
		require.NotContains(t, r.endpoint.String(), secret)
		require.False(t, strings.HasPrefix(r.endpoint.Host, "-"))
	})
}

// What is mounted from a Secret changes while a controller runs: the next fetch goes
// by what the files hold then.
func TestSSHCredentialsAreReplaced(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	old, renewed := serveSSH(t, dir), serveSSH(t, dir)
	r := open(t, old)
	fetch := func() error {
		_, err := r.Fetch(t.Context())
		return err
	}
	replace := func(file, with string) {
		data, err := os.ReadFile(with)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, data, 0o600))
	}
	kept := filepath.Join(t.TempDir(), "kept")
	c := old.Credentials
	require.NoError(t, os.WriteFile(kept, nil, 0o600))

	replace(kept, c.SSHKeyFile)
	replace(c.SSHKeyFile, renewed.Credentials.SSHKeyFile)
	require.ErrorContains(t, fetch(), "the server accepts none of the ssh keys")
	replace(c.SSHKeyFile, kept)
	require.NoError(t, fetch())

	replace(kept, c.KnownHostsFile)
	replace(c.KnownHostsFile, renewed.Credentials.KnownHostsFile)
	require.ErrorContains(t, fetch(), "the server's host key is not known")
	replace(c.KnownHostsFile, kept)
	require.NoError(t, fetch())
}

// SSH goes through a SOCKS5 proxy that is named, and through no other kind.
func TestSSHProxy(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	o := serveSSH(t, dir)
	server, err := url.Parse(o.URL)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	asked := make(chan string, 10)
	go socks(listener, asked)

	o.SSHProxy = &url.URL{Scheme: "socks5", Host: listener.Addr().String()}
	assert.Equal(t, "1", read(t, snapshot(t, open(t, o), "HEAD"), "a"))
	assert.Equal(t, server.Host, <-asked)

	o.SSHProxy = &url.URL{Scheme: "http", Host: listener.Addr().String(), User: url.UserPassword("robot", "hunter2")}
	_, err = Open(t.Context(), o)
	require.EqualError(t, err, "opening repository "+o.URL+`: ssh does not go through a proxy of scheme "http"`)
	assert.Contains(t, hint(t, err), "socks5://HOST:PORT")
}

// socks is the least of a SOCKS5 server: no authentication, CONNECT to an IPv4 address.
func socks(listener net.Listener, asked chan<- string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			greeting, request := make([]byte, 3), make([]byte, 10)
			_, err := io.ReadFull(client, greeting) // version, one method, "none"
			if err == nil {
				_, err = client.Write([]byte{5, 0})
			}
			if err == nil {
				_, err = io.ReadFull(client, request) // version, CONNECT, 0, IPv4, address, port
			}
			if err != nil {
				return
			}
			address := net.JoinHostPort(net.IP(request[4:8]).String(), fmt.Sprint(int(request[8])<<8|int(request[9])))
			asked <- address
			server, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer server.Close()
			if _, err := client.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
				return
			}
			go io.Copy(server, client)
			io.Copy(client, server)
		}()
	}
}

// What looks like an option is no option of a program: go-git CVE-2025-21613.
func TestAttackArguments(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	const name = "--upload-pack=touch ran"
	git(t, folder, "init", "--quiet", "--bare", "--initial-branch=main", "./"+name)
	r := open(t, Options{URL: name})
	_, err := r.Update(t.Context(), "main", write("m", map[string]string{"a": "1"}))
	require.NoError(t, err)
	assert.NoFileExists(t, "ran")
	for url, want := range map[string]string{
		"ssh://-oProxyCommand=x/y":                     "the URL has no host",
		"-oProxyCommand=touch ran:x":                   "the URL has no host",
		"git@example.com:--upload-pack=touch ran":      "the path begins with a hyphen",
		"file://" + folder + "/--receive-pack=touch x": "there is no such path",
	} {
		_, err := Open(t.Context(), Options{URL: url})
		require.ErrorContains(t, err, want, url)
	}
	assert.NoFileExists(t, "ran")
}
