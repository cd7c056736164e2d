package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/internal/testgitea"
)

// scriptCondition tells scripts whether there is a Gitea to run on.
func scriptCondition(name string) (bool, error) {
	if name != "gitea" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	return testgitea.Missing() == nil, nil
}

// giteaT lets the server be used from a script.
type giteaT struct{ *testscript.TestScript }

func (giteaT) Helper()                  {}
func (giteaT) Context() context.Context { return context.Background() }
func (t giteaT) Skip(args ...any)       { t.Fatal(args...) }
func (t giteaT) Fatal(args ...any)      { t.Fatalf("%s", fmt.Sprint(args...)) }

// cmdGitea makes a repository on a real Gitea from examples/shop, and a clone of it
// in shop. It sets what a user of Gitea sets, and a token that may only read.
func cmdGitea(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: gitea")
	}
	t := giteaT{ts}
	server := testgitea.Start(t)
	repository := server.Empty(t)
	clone := ts.MkAbs("shop")
	ts.Check(os.CopyFS(clone, os.DirFS(filepath.Join(ts.Getenv("EXAMPLES"), "shop"))))
	// The token stands in the clone's configuration as people have it there.
	push := strings.Replace(repository.URL, "://", "://ada:"+server.Token+"@", 1)
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"remote", "add", "origin", push}, {"add", "-A"}, {"commit", "-q", "-m", "Start"}, {"push", "-q", "-u", "origin", "main"},
	} {
		ts.Check(ts.Exec("git", append([]string{"-C", clone}, args...)...))
	}
	server.AwaitPush(t, repository)
	giteas.Store(ts.Getenv("WORK"), repository)
	name, reader := server.User(t, "read:repository", "read:issue", "read:user")
	server.Must(t, "PUT", repository.API("/collaborators/"+name), map[string]any{"permission": "read"}, nil)
	for name, value := range map[string]string{
		"SLUICE_REPO": repository.URL, "URL": repository.URL, "SLUICE_FORGE": "gitea", "SLUICE_GITEA_URL": server.URL,
		"SLUICE_GITEA_TOKEN": server.Token, "READ_TOKEN": reader,
	} {
		ts.Setenv(name, value)
	}
}

// giteas are the repositories of scripts on Gitea, by the folder of the script.
var giteas sync.Map

type giteaStatus struct{ Context, Status, Description string }

// giteaStatuses reads the newest status of each context, as Gitea combines them.
func giteaStatuses(ts *testscript.TestScript, commit string) []giteaStatus {
	at, ok := giteas.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("the script has no forge")
	}
	var combined struct {
		Statuses []giteaStatus
	}
	t := giteaT{ts}
	testgitea.Start(t).Must(t, "GET", at.(testgitea.Repository).API("/commits/"+commit+"/status"), nil, &combined)
	return combined.Statuses
}

func TestConnectGitea(t *testing.T) {
	const token = "0123456789012345678901234567890123456789"
	tests := []struct {
		name, remote, url, token string
		signsIn                  bool
		err                      string
	}{
		{name: "by https", remote: "https://git.example.com/shop/e.git", url: "https://Git.example.com", token: token, signsIn: true},
		{name: "below a path", remote: "https://example.com/gitea/shop/e.git", url: "https://example.com/gitea/", token: token, signsIn: true},
		{name: "by ssh", remote: "git@git.example.com:shop/e.git", url: "https://api.example.com", token: token},
		{name: "no server", remote: "https://git.example.com/shop/e.git", token: token, err: "needs --gitea-url"},
		{name: "another server", remote: "https://evil.example.com/shop/e.git", url: "https://git.example.com", token: token, err: "is not on https://git.example.com"},
		{name: "another path of the host", remote: "https://example.com/other/shop/e.git", url: "https://example.com/gitea", token: token, err: "is not on https://example.com/gitea"},
		{name: "the same host in the clear", remote: "http://git.example.com/shop/e.git", url: "https://git.example.com", token: token, err: "is not on https://git.example.com"},
		{name: "no token", remote: "https://git.example.com/shop/e.git", url: "https://git.example.com", err: "there is no token"},
		{name: "a path", remote: "/srv/shop.git", url: "https://git.example.com", token: token, err: "not the address of a repository"},
		{name: "a server in the clear", remote: "http://git.example.com/shop/e.git", url: "http://git.example.com", token: token, err: "http://git.example.com, is not https"},
		{name: "a server on this machine", remote: "http://127.0.0.1:3000/shop/e.git", url: "http://127.0.0.1:3000", token: token, signsIn: true},
		{name: "a server's URL that is none", remote: "https://git.example.com/shop/e.git", url: "git.example.com", token: token, err: "is not like https://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			environment := map[string]string{"SLUICE_GITEA_TOKEN": tt.token}
			a := &app{process: process{Getenv: func(name string) string { return environment[name] }, Now: fixedNow}, forge: forgeFlags{kind: "gitea", giteaURL: tt.url}}
			_, err := a.connect(tt.remote)
			if tt.err != "" {
				assert.ErrorContains(t, err, tt.err)
				assert.NotEmpty(t, hints(err))
				return
			}
			if assert.NoError(t, err) {
				assert.Equal(t, tt.signsIn, must(a.gitOptions(tt.remote)).Credentials.Token == token)
			}
		})
	}
}

// TestScriptOnGitea runs the scripts of promotions once more, word for word, on a
// real Gitea in place of the bare repository.
func TestScriptOnGitea(t *testing.T) {
	t.Parallel()
	testgitea.Start(t)
	testscript.Run(t, testscript.Params{
		Files:               []string{"../../testdata/script/promote.txtar"},
		Setup:               setupScript,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"example": cmdGitea},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}
