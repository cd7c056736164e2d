package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gitServer is a real Git server with one repository and one token at a time.
type gitServer struct {
	*httptest.Server
	token atomic.Value // string
}

func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	root := t.TempDir()
	bare := filepath.Join(root, "shop.git")
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", bare},
		{"-C", bare, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit-tree", "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "-m", "Start"},
	} {
		out, err := exec.Command("git", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		if args[0] == "-C" {
			out, err = exec.Command("git", "-C", bare, "update-ref", "refs/heads/main", strings.TrimSpace(string(out))).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
	folder, err := exec.Command("git", "--exec-path").Output()
	require.NoError(t, err)
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(folder)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=" + os.DevNull}}
	s := &gitServer{}
	s.token.Store("first-token")
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, token, _ := r.BasicAuth(); token != s.token.Load() {
			http.Error(w, "no access with "+token, http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// authority is the certificate of a TLS server, as a file of authorities has it.
func authority(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// accessApp is a program with some environment.
func accessApp(repo string, environment map[string]string) *app {
	return &app{process: process{Getenv: func(name string) string { return environment[name] }, Now: fixedNow, Dir: "/"}, repo: repo, branch: "main", forge: forgeFlags{kind: forgeAuto}}
}

// What is mounted from a Secret changes while a controller runs: the next look at the
// branch goes by what the files hold then, and never by nothing.
func TestCredentialsAreReplaced(t *testing.T) {
	t.Parallel()
	server := newGitServer(t)
	server.StartTLS()
	dir := t.TempDir()
	token, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca.pem")
	write := func(file, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file)) // as a kubelet replaces what it mounts
	}
	write(token, "first-token\n")
	write(ca, string(authority(server.Server)))
	a := accessApp(server.URL+"/shop.git", map[string]string{"SLUICE_GIT_TOKEN_FILE": token, "SLUICE_CA_FILE": ca, "SLUICE_CACHE_DIR": filepath.Join(dir, "cache")})
	repo, err := a.openRemote(t.Context())
	require.NoError(t, err)
	defer repo.Close()
	fetch := func() error {
		_, err := repo.Fetch(t.Context())
		return err
	}

	server.token.Store("second-token")
	err = fetch()
	require.ErrorContains(t, err, "authentication required: no access with ***")
	write(token, "second-token\n")
	require.NoError(t, fetch())
	write(token, "\n")
	require.ErrorContains(t, fetch(), "there is no token: SLUICE_GIT_TOKEN_FILE: "+token+" holds no token")
	assert.Contains(t, hints(fetch()), "it must hold the token and nothing else, on one line")
	require.NoError(t, os.Remove(token))
	require.ErrorContains(t, fetch(), "there is no token: SLUICE_GIT_TOKEN_FILE")
	write(token, "second-token")

	other := anotherAuthority(t)
	write(ca, "nothing")
	require.ErrorContains(t, fetch(), "SLUICE_CA_FILE: "+ca+" holds no certificate")
	write(ca, other)
	err = fetch()
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	assert.Contains(t, hints(err), "if the server is the right one, name the authority of its certificate: SLUICE_CA_FILE")
	write(ca, other+string(authority(server.Server)))
	require.NoError(t, fetch())
}

// anotherAuthority has signed no server's certificate.
func anotherAuthority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// SLUICE_PROXY is for repository and forge; its password is told to nobody but it.
func TestProxy(t *testing.T) {
	t.Parallel()
	server := newGitServer(t)
	server.Start()
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	var asked, login atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Host)
		login.Store(r.Header.Get("Proxy-Authorization"))
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
	}))
	defer proxy.Close()
	address := strings.Replace(proxy.URL, "http://", "http://robot:hunter2@", 1)
	environment := map[string]string{"SLUICE_GIT_TOKEN": "first-token", "SLUICE_PROXY": address, "SLUICE_CACHE_DIR": t.TempDir()}
	repo, err := accessApp("http://git.example.test/shop.git", environment).openRemote(t.Context())
	require.NoError(t, err)
	require.NoError(t, repo.Close())
	assert.Equal(t, "git.example.test", asked.Load())
	assert.Equal(t, "Basic "+base64.StdEncoding.EncodeToString([]byte("robot:hunter2")), login.Load())

	proxy.Close()
	_, err = accessApp("http://git.example.test/shop.git", environment).openRemote(t.Context())
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "hunter2")

	for _, bad := range []string{"robot:hunter2@proxy.example.com:3128", "ftp://robot:hunter2@proxy.example.com", "http://robot:hunter2@proxy.example.com:%zz"} {
		_, err := accessApp("https://git.example.com/shop.git", map[string]string{"SLUICE_PROXY": bad}).openRemote(t.Context())
		require.EqualError(t, err, "SLUICE_PROXY is not the address of a proxy", bad)
	}
}

// What would be ambiguous, or could not be used later, is an error at once.
func TestAccessRefuses(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for name, tt := range map[string]struct {
		environment map[string]string
		want        string
	}{
		"two tokens":     {map[string]string{"SLUICE_GIT_TOKEN": "a", "SLUICE_GIT_TOKEN_FILE": "b"}, "SLUICE_GIT_TOKEN and SLUICE_GIT_TOKEN_FILE are both set"},
		"no authorities": {map[string]string{"SLUICE_CA_FILE": missing}, "SLUICE_CA_FILE: open " + missing},
		"ssh over http":  {map[string]string{"SLUICE_PROXY": "http://proxy.example.com"}, `ssh does not go through a proxy of scheme "http"`},
	} {
		_, err := accessApp("ssh://git@git.example.test/shop.git", tt.environment).openRemote(t.Context())
		require.ErrorContains(t, err, tt.want, name)
	}
	a := accessApp(missing, nil)
	a.remoteOnly = true
	_, err := a.openRemoteAt(t.Context(), place{remote: missing, project: "."})
	require.ErrorContains(t, err, "repositories on this machine's disk are not allowed here")
	assert.Equal(t, []string{"give an https or ssh URL"}, hints(err))

	assert.True(t, localRepositories(false, false, ""), "outside a pod")
	assert.False(t, localRepositories(false, false, "sluice-system"), "in a pod")
	assert.True(t, localRepositories(true, true, "sluice-system"), "allowed by name")
	assert.False(t, localRepositories(false, true, ""), "forbidden by name")
}

// The forge's tokens are read from files as Git's are, and go where the forge is only.
func TestForgeTokenOfAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("one\n"), 0o600))
	for _, tt := range []struct {
		variable, remote string
		flags            forgeFlags
	}{
		{"SLUICE_GITHUB_TOKEN_FILE", "https://github.com/shop/e.git", forgeFlags{kind: forgeAuto}},
		{"SLUICE_GITEA_TOKEN_FILE", "https://git.example.com/shop/e.git", forgeFlags{kind: "gitea", giteaURL: "https://git.example.com"}},
	} {
		a := accessApp(tt.remote, map[string]string{tt.variable: file})
		a.forge = tt.flags
		c := must(a.gitOptions(tt.remote)).Credentials
		for _, want := range []string{"one", "two"} {
			require.NoError(t, os.WriteFile(file, []byte(want), 0o600))
			token, err := c.TokenSource(context.Background())
			require.NoError(t, err)
			assert.Equal(t, want, token)
		}
		assert.Nil(t, must(a.gitOptions("https://elsewhere.example.com/shop/e.git")).Credentials.TokenSource)
	}
}
