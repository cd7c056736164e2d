package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// host is where the story's repository is.
type host struct {
	url   string   // of the repository
	bare  bool     // a bare repository in a folder, yet to be made
	env   []string // how sluice and git sign in
	shown string   // what of env a user would set
	close func() error
}

// hosts are the choices of --forge.
var hosts = map[string]func(dir string) (*host, error){"local": localHost, "github": gitHubHost}

// localHost is a bare repository, which keeps its pull requests itself.
func localHost(dir string) (*host, error) {
	return &host{
		url: filepath.Join(dir, "shop.git"), bare: true, close: func() error { return nil },
		shown: "SLUICE_REPO=shop.git   # a bare repository made from examples/shop",
	}, nil
}

// gitHubHost is an empty repository on the GitHub server of the tests, which runs in
// this process.
func gitHubHost(dir string) (*host, error) {
	l := &life{dir: filepath.Join(dir, "github")}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, err
	}
	server := githubtest.New(l)
	token := server.Token("demo", githubtest.Write)
	h := &host{url: server.Create("shop/environments").URL(), close: l.end}
	h.env = []string{
		"SLUICE_FORGE=github", "SLUICE_GITHUB_URL=" + server.URL, "SLUICE_GITHUB_TOKEN=" + token,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http." + server.URL + "/.extraHeader",
		"GIT_CONFIG_VALUE_0=Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+token)),
	}
	h.shown = "SLUICE_FORGE=github SLUICE_GITHUB_URL=" + server.URL + " SLUICE_GITHUB_TOKEN=ghp_…\n" +
		"$ export SLUICE_REPO=" + h.url + "   # made from examples/shop"
	return h, nil
}

// life is what the server of the tests takes in a test's place.
type life struct {
	dir    string
	ends   []func()
	faults []error
}

func (l *life) Helper()          {}
func (l *life) TempDir() string  { return l.dir }
func (l *life) Cleanup(f func()) { l.ends = append(l.ends, f) }
func (l *life) Errorf(format string, args ...any) {
	l.faults = append(l.faults, fmt.Errorf(format, args...))
}

// Fatalf is called while the server is made, when nothing else runs yet.
func (l *life) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (l *life) end() error {
	for _, f := range l.ends {
		f()
	}
	return errors.Join(l.faults...)
}
