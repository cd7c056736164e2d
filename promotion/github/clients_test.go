package github_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// clientBench is a server with a branch to promote, for clients that nobody here wrote.
type clientBench struct {
	server        *githubtest.Server
	repo          *githubtest.Repository
	start, head   string
	token, reader string
}

func newClientBench(t *testing.T) clientBench {
	t.Helper()
	b := clientBench{server: githubtest.New(t)}
	b.repo = b.server.Create("shop/environments")
	b.repo.Seed()
	b.token, b.reader = b.server.Token("ada", githubtest.Write), b.server.Token("eve", githubtest.Read)
	b.start = gitOutput(t, b.repo.Dir, "rev-parse", "main")
	b.head = gitOutput(t, b.repo.Dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit-tree", b.start+"^{tree}", "-p", b.start, "-m", "Change")
	gitOutput(t, b.repo.Dir, "update-ref", "refs/heads/sluice/promote/staging/api", b.head)
	return b
}

// control lets a client ask for what is done on GitHub's pages, or by nobody.
func (b clientBench) control() http.Handler {
	mux := http.NewServeMux()
	for name, do := range map[string]func(r *http.Request){
		"protect": func(*http.Request) {
			b.repo.Protect("main", "At least 1 approving review is required by reviewers with write access.")
		},
		"unprotect": func(*http.Request) { b.repo.Protect("main", "") },
		"crowd":     func(*http.Request) { b.repo.Crowd(24) },
		"exhaust":   func(*http.Request) { b.server.Exhaust(0, time.Now().Add(time.Minute)) },
		"refill":    func(*http.Request) { b.server.Exhaust(5000, time.Now().Add(time.Hour)) },
		"rename":    func(*http.Request) { b.repo.Rename("shop/renamed") },
		"throttle": func(r *http.Request) {
			status, _ := strconv.Atoi(r.URL.Query().Get("status"))
			b.server.Throttle("GET", 1, status, time.Second)
		},
	} {
		mux.HandleFunc("POST /control/"+name, func(_ http.ResponseWriter, r *http.Request) { do(r) })
	}
	return mux
}

// TestOctokit has GitHub's own JavaScript client ask the test server for everything that
// it knows.
func TestOctokit(t *testing.T) {
	t.Parallel()
	const folder = "../../bin/npm"
	if _, err := os.Stat(filepath.Join(folder, ".installed")); err != nil {
		t.Skip("GitHub's JavaScript client is not in bin/npm: `make tools` puts it there, and needs npm")
	}
	b := newClientBench(t)
	mux := http.NewServeMux()
	mux.Handle("/", checked(t, b.server))
	mux.Handle("/control/", b.control())
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	b.server.URL = front.URL // links lead there, too
	script, err := os.Open("testdata/octokit.mjs")
	require.NoError(t, err)
	defer script.Close()
	// A script on standard input finds its modules from the working directory.
	cmd := exec.CommandContext(t.Context(), "node", "--input-type=module")
	cmd.Dir, cmd.Stdin = folder, script
	cmd.Env = append(os.Environ(), "API="+front.URL, "TOKEN="+b.token, "READER="+b.reader, "HEAD="+b.head, "START="+b.start)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// gh runs GitHub's command line against the server.
type gh struct {
	t   *testing.T
	env []string
}

func newGH(t *testing.T, b clientBench, token string) gh {
	t.Helper()
	if _, err := exec.LookPath("gh"); err != nil {
		t.Skip("GitHub's command line is not installed: Debian has it as the package gh")
	}
	front := httptest.NewTLSServer(checked(t, b.server))
	t.Cleanup(front.Close)
	b.server.URL = front.URL // links lead there, too
	home := t.TempDir()
	certificate := filepath.Join(home, "ca.pem")
	require.NoError(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600))
	host := strings.TrimPrefix(front.URL, "https://")
	return gh{t: t, env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GH_CONFIG_DIR=" + home, "GH_HOST=" + host, "GH_REPO=" + host + "/shop/environments",
		"GH_ENTERPRISE_TOKEN=" + token, "SSL_CERT_FILE=" + certificate, "GH_PROMPT_DISABLED=1", "GH_NO_UPDATE_NOTIFIER=1", "NO_COLOR=1",
	}}
}

// run returns what gh prints, and whether it succeeded.
func (g gh) run(args ...string) (stdout, stderr string, ok bool) {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "gh", args...)
	cmd.Env, cmd.Dir = g.env, g.t.TempDir()
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), strings.TrimSpace(errs.String()), err == nil
}

func (g gh) must(args ...string) string {
	g.t.Helper()
	out, stderr, ok := g.run(args...)
	require.True(g.t, ok, "gh %s: %s%s", strings.Join(args, " "), out, stderr)
	return out
}

// TestGH has GitHub's command line ask the test server what people and scripts ask
// GitHub with it. Commands such as `gh pr view` speak GraphQL, which the server does
// not know: they say so and end with an error.
func TestGH(t *testing.T) {
	t.Parallel()
	b := newClientBench(t)
	g := newGH(t, b, b.token)
	const at = "repos/{owner}/{repo}"
	refused := func(want string, args ...string) {
		t.Helper()
		_, stderr, ok := g.run(args...)
		assert.False(t, ok, args)
		assert.Contains(t, stderr, want)
	}

	g.must("auth", "status")
	assert.Equal(t, "ada", g.must("api", "user", "--jq", ".login"))
	assert.Equal(t, "ada", g.must("api", "graphql", "-f", "query={viewer{login}}", "--jq", ".data.viewer.login"))
	assert.Equal(t, "shop/environments main", g.must("api", at, "--jq", `.full_name + " " + .default_branch`))

	assert.Equal(t, "1", g.must("api", at+"/pulls", "-f", "title=Promote", "-f", "head=sluice/promote/staging/api", "-f", "base=main", "--jq", ".number"))
	refused("Validation Failed (HTTP 422)", "api", at+"/pulls", "-f", "title=Promote", "-f", "head=sluice/promote/staging/api", "-f", "base=main")
	assert.Equal(t, b.head, g.must("api", at+"/pulls/1", "--jq", ".head.sha"))
	g.must("label", "create", "sluice/promotion", "--color", "0e8a16", "--description", "A promotion")
	assert.Equal(t, "0e8a16", g.must("api", at+"/issues/1/labels", "-f", "labels[]=sluice/promotion", "--jq", ".[0].color"))
	assert.Equal(t, "1", g.must("api", "-X", "GET", at+"/issues", "-f", "labels=sluice/promotion", "--jq", ".[].number"))
	g.must("api", at+"/issues/1/comments", "-f", "body=Hello")
	assert.Equal(t, "Hello", g.must("api", at+"/issues/1/comments", "--jq", ".[].body"))
	g.must("api", at+"/statuses/"+b.head, "-f", "state=success", "-f", "context=sluice/soak")
	assert.Equal(t, "success", g.must("api", at+"/commits/"+b.head+"/status", "--jq", ".state"))
	deployment := g.must("api", at+"/deployments", "-f", "ref="+b.head, "-f", "environment=staging/api", "-F", "auto_merge=false", "--jq", ".id")
	g.must("api", at+"/deployments/"+deployment+"/statuses", "-f", "state=success")

	b.repo.Crowd(24)
	pages := strings.Fields(g.must("api", "--paginate", at+"/pulls?state=all&per_page=10", "--jq", ".[].number"))
	assert.Len(t, pages, 25)

	refused("Head branch was modified. Review and try the merge again. (HTTP 409)", "api", "-X", "PUT", at+"/pulls/1/merge", "-f", "sha="+b.start)
	b.repo.Protect("main", "At least 1 approving review is required by reviewers with write access.")
	refused("approving review is required by reviewers with write access. (HTTP 405)", "api", "-X", "PUT", at+"/pulls/1/merge", "-f", "sha="+b.head)
	b.repo.Protect("main", "")
	revision := g.must("api", "-X", "PUT", at+"/pulls/1/merge", "-f", "sha="+b.head, "--jq", ".sha")
	assert.Equal(t, gitOutput(t, b.repo.Dir, "rev-parse", "main"), revision)
	g.must("api", "-X", "DELETE", at+"/git/refs/heads/sluice/promote/staging/api")

	answer := g.must("api", "-i", at)
	tag := regexp.MustCompile(`(?im)^etag: (.*?)\r?$`).FindStringSubmatch(answer)
	require.NotNil(t, tag, answer)
	refused("HTTP 304", "api", "-H", "If-None-Match: "+tag[1], at)
	refused("Not Found (HTTP 404)", "api", "repos/shop/other")
	refused("githubtest knows { viewer { login } } only", "pr", "view", "1")
	b.server.Throttle("GET", 1, http.StatusForbidden, time.Minute)
	refused("You have exceeded a secondary rate limit", "api", at)
	b.server.Exhaust(0, time.Now().Add(time.Hour))
	refused("API rate limit exceeded", "api", at)
	assert.Equal(t, "0", g.must("api", "rate_limit", "--jq", ".rate.remaining"))
}
