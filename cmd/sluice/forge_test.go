package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// TestScriptOnGitHub runs the scripts of promotions once more, word for word, with
// a GitHub server in place of the bare repository.
func TestScriptOnGitHub(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Files: []string{"../../testdata/script/promote.txtar"},
		Setup: setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"example": cmdGitHub,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// scriptT lets a server run in a script.
type scriptT struct{ *testscript.TestScript }

func (t scriptT) Helper()                           {}
func (t scriptT) Cleanup(f func())                  { t.Defer(f) }
func (t scriptT) Errorf(format string, args ...any) { t.Logf("ERROR: "+format, args...) }
func (t scriptT) TempDir() string {
	dir := t.MkAbs("github")
	t.Check(os.MkdirAll(dir, 0o755))
	return dir
}

// githubs are the repositories on GitHub servers, by the folder of their script.
var githubs sync.Map

// cmdGitHub starts a GitHub server with a repository made from examples/shop, and a
// clone of it in shop:
//
//	github [NAMESPACE-PREFIX]
//
// It sets what a user of GitHub sets, a token that may only read, and a GitHub App.
// The prefix is that of example.
func cmdGitHub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: github [NAMESPACE-PREFIX]")
	}
	server := githubtest.New(scriptT{ts})
	repo := server.Create("shop/environments")
	githubs.Store(ts.Getenv("WORK"), repo)
	clone := ts.MkAbs("shop")
	ts.Check(os.CopyFS(clone, os.DirFS(filepath.Join(ts.Getenv("EXAMPLES"), "shop"))))
	if len(args) == 1 {
		ts.Check(replaceBelow(clone, "shop-", args[0]+"-"))
	}
	publish(ts, clone, repo.Dir)
	app := server.App("sluice", githubtest.Write)
	ts.Check(os.WriteFile(ts.MkAbs("app.pem"), app.Key, 0o600))
	for name, value := range map[string]string{
		"SLUICE_REPO": repo.URL(), "URL": repo.URL(), "DIR": repo.Dir, "SLUICE_FORGE": "github", "SLUICE_GITHUB_URL": server.URL,
		"SLUICE_GITHUB_TOKEN": server.Token("ada", githubtest.Write),
		"READ_TOKEN":          server.Token("eve", githubtest.Read),
		"APP_ID":              strconv.FormatInt(app.ID, 10), "APP_INSTALLATION": strconv.FormatInt(app.Installation, 10),
	} {
		ts.Setenv(name, value)
	}
}

// cmdAnnounced waits until GitHub shows something that matches, of what became of
// revisions:
//
//	announced REGEXP
//
// What is looked through is one line for each deployment, newest first, with all the
// states it had, one for each status of a commit, newest commit first, and the lines
// of the comments on pull requests, after their number.
func cmdAnnounced(ts *testscript.TestScript, neg bool, args []string) {
	found, known := githubs.Load(ts.Getenv("WORK"))
	if neg || len(args) != 1 || !known {
		ts.Fatalf("usage: announced REGEXP, after github")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for began := time.Now(); ; {
		text, err := announced(found.(*githubtest.Repository))
		ts.Check(err)
		if want.MatchString(text) {
			return
		}
		if time.Since(began) > awaitTimeout {
			ts.Fatalf("GitHub does not show %q:\n%s", args[0], text)
		}
		time.Sleep(50 * time.Millisecond) // the server tells nobody
	}
}

// cmdStatuses prints the statuses that the forge shows on a commit: statuses REVISION,
// of the clone that the script is in.
func cmdStatuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: statuses REVISION")
	}
	ts.Check(ts.Exec("git", "rev-parse", args[0]))
	commit := strings.TrimSpace(ts.ReadFile("stdout"))
	var b strings.Builder
	if repo, ok := githubs.Load(ts.Getenv("WORK")); ok {
		for _, s := range repo.(*githubtest.Repository).Statuses(commit) {
			fmt.Fprintf(&b, "%s: %s: %s\n", s.Context, s.State, s.Description)
		}
	} else {
		for _, s := range giteaStatuses(ts, commit) {
			fmt.Fprintf(&b, "%s: %s: %s\n", s.Context, s.Status, s.Description)
		}
	}
	_, err := ts.Stdout().Write([]byte(b.String()))
	ts.Check(err)
}

func announced(repo *githubtest.Repository) (string, error) {
	var b strings.Builder
	for _, d := range slices.Backward(repo.Deployments()) {
		fmt.Fprintf(&b, "deployment %s: %s: %s\n", d.Environment, strings.Join(d.States, " "), d.Description)
	}
	commits, err := exec.Command("git", "-C", repo.Dir, "rev-list", "--all").Output()
	for _, commit := range strings.Fields(string(commits)) {
		for _, s := range repo.Statuses(commit) {
			fmt.Fprintf(&b, "status %s: %s: %s\n", s.Context, s.State, s.Description)
		}
	}
	for number := 1; number < 10; number++ {
		for _, comment := range repo.Comments(number) {
			for line := range strings.Lines(comment) {
				fmt.Fprintf(&b, "comment #%d: %s", number, line)
			}
		}
	}
	return b.String(), err
}

func TestRemoteAddress(t *testing.T) {
	tests := map[string]address{
		"https://github.com/shop/environments.git":     {remote: "https://github.com/shop/environments.git", scheme: "https", host: "github.com", path: "shop/environments"},
		"https://ada:secret@GitHub.com/shop/e/":        {remote: "https://GitHub.com/shop/e/", scheme: "https", host: "github.com", path: "shop/e"},
		"git@github.com:shop/e.git":                    {remote: "github.com:shop/e.git", scheme: "ssh", host: "github.com", path: "shop/e"},
		"ssh://git@ssh.github.com:443/shop/e.git":      {remote: "ssh://ssh.github.com:443/shop/e.git", scheme: "ssh", host: "ssh.github.com:443", path: "shop/e"},
		"http://127.0.0.1:3000/shop/e":                 {remote: "http://127.0.0.1:3000/shop/e", scheme: "http", host: "127.0.0.1:3000", path: "shop/e"},
		"/srv/shop.git":                                {remote: "/srv/shop.git"},
		"https://ada:se%cret@github.com/shop/e.git":    {remote: "the repository"},
		"https://ghe.example.com:8443/team/shop/e.git": {remote: "https://ghe.example.com:8443/team/shop/e.git", scheme: "https", host: "ghe.example.com:8443", path: "team/shop/e"},
	}
	for remote, want := range tests {
		assert.Equal(t, want, remoteAddress(remote), remote)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Which forge a remote has, and whether Git gets the forge's token, which must never
// go to another host than the forge's.
func TestConnect(t *testing.T) {
	tests := []struct {
		name, remote string
		env          map[string]string
		flags        forgeFlags
		signsIn      bool
		err          string
	}{
		{name: "a path", remote: "/srv/shop.git"},
		{name: "another host", remote: "https://git.example.com/shop/e.git", env: map[string]string{"GITHUB_TOKEN": "ghp_1"}},
		{name: "github.com", remote: "https://github.com/shop/e.git", env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, signsIn: true},
		{name: "github.com by ssh", remote: "git@github.com:shop/e.git", env: map[string]string{"SLUICE_GITHUB_TOKEN": "ghp_1"}},
		{name: "no token", remote: "https://github.com/shop/e.git", err: "there is no token"},
		{name: "local all the same", remote: "https://github.com/shop/e.git", flags: forgeFlags{kind: "local"}, env: map[string]string{"GITHUB_TOKEN": "ghp_1"}},
		{name: "an Enterprise server", remote: "https://ghe.example.com/shop/e.git", flags: forgeFlags{kind: "github", githubURL: "https://ghe.example.com"},
			env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, signsIn: true},
		{name: "a server that nobody named", remote: "https://git.example.com/shop/e.git", flags: forgeFlags{kind: "github"},
			env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, err: "https://git.example.com/shop/e.git is not on github.com"},
		{name: "an API elsewhere", remote: "https://github.com/shop/e.git", flags: forgeFlags{kind: "auto", githubURL: "https://ghe.example.com"},
			env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, err: "is not on ghe.example.com"},
		{name: "no https", remote: "http://ghe.example.com/shop/e.git", flags: forgeFlags{kind: "github", githubURL: "http://ghe.example.com"}, env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, err: "is not https"},
		{name: "github.com in the clear", remote: "http://github.com/shop/e.git", env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, err: "a token is not sent in the clear"},
		{name: "github.com at another port", remote: "https://github.com:8443/shop/e.git", env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, err: "is not on github.com"},
		{name: "a look-alike", remote: "https://github.com.example.com/shop/e.git", env: map[string]string{"GITHUB_TOKEN": "ghp_1"}},
		{name: "a parent of the server's domain", remote: "https://example.com/shop/e.git", flags: forgeFlags{kind: "github", githubURL: "https://api.example.com"},
			env: map[string]string{"GITHUB_TOKEN": "ghp_1"}, err: "is not on api.example.com"},
		{name: "not a repository of GitHub", remote: "/srv/shop.git", flags: forgeFlags{kind: "github"}, err: "not the address of a repository on GitHub"},
		{name: "a bad App", remote: "https://github.com/shop/e.git", env: map[string]string{"SLUICE_GITHUB_APP_ID": "one"}, err: "is not a number"},
		{name: "an App without a key", remote: "https://github.com/shop/e.git",
			env: map[string]string{"SLUICE_GITHUB_APP_ID": "1", "SLUICE_GITHUB_APP_INSTALLATION": "2"}, err: "SLUICE_GITHUB_APP_KEY_FILE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.flags.kind == "" {
				tt.flags.kind = forgeAuto
			}
			a := &app{process: process{Getenv: func(name string) string { return tt.env[name] }, Now: fixedNow}, forge: tt.flags}
			site, err := a.connect(tt.remote)
			if tt.err != "" {
				assert.ErrorContains(t, err, tt.err)
				assert.NotEmpty(t, hints(err))
				return
			}
			if assert.NoError(t, err) {
				assert.Equal(t, tt.signsIn, site.signIn != nil)
				assert.Equal(t, tt.signsIn, must(a.gitOptions(tt.remote)).Credentials.TokenSource != nil)
			}
		})
	}
}

// Comments come from people's forges: they cannot drive a terminal.
func TestPullLinesShowComments(t *testing.T) {
	var lines table
	pullLines(&lines, pullView{PullRequest: promotion.PullRequest{
		Number: 1, Title: "Promote api", State: promotion.Merged, Branch: "sluice/promote/staging/api", Target: "main", URL: "https://github.com/shop/e/pull/1",
		Body: "Evidence.", Comments: []promotion.Comment{{Key: "live/staging", Body: "It is live.\x1b[2J"}},
	}})
	assert.Equal(t, []string{
		"Promote api (pull request 1, merged)", "  sluice/promote/staging/api at  into main", "  https://github.com/shop/e/pull/1",
		"", "Evidence.", "", "comment live/staging:", "It is live.\ufffd[2J",
	}, slices.Concat(lines.rows...))
}
