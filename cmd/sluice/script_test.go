package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the golden output of the scripts")

func TestMain(m *testing.M) {
	testscript.Main(tidying{m}, map[string]func(){
		"sluice":     func() { os.Exit(mainCode()) },
		"undumpable": undumpable,
	})
}

// tidying removes what tests share.
type tidying struct{ *testing.M }

func (m tidying) Run() int {
	defer func() { _ = os.RemoveAll(built.dir) }()
	return m.M.Run()
}

// TestScript runs the scripts that need no cluster: the real command over real
// bare repositories. They run hundreds of commands, so it is the program as users
// have it: this binary with its race detector takes four times as long to start. The
// detector sees every command all the same, in TestCanaries and the cluster's scripts.
func TestScript(t *testing.T) {
	t.Parallel()
	program := filepath.Dir(buildSluice(t))
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", program+string(filepath.ListSeparator)+env.Getenv("PATH"))
			return setupScript(env)
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"example": cmdExample, "bare": cmdBare, "replace": cmdReplace, "github": cmdGitHub, "gitea": cmdGitea, "statuses": cmdStatuses},
		Condition:           scriptCondition,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// setupScript gives a script a home of its own and fixes what would make its
// output differ between machines.
func setupScript(env *testscript.Env) error {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		return err
	}
	env.Vars = append(env.Vars,
		"HOME="+env.WorkDir, "XDG_CACHE_HOME="+filepath.Join(env.WorkDir, ".cache"),
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com",
		"KUBECONFIG="+filepath.Join(env.WorkDir, "no-kubeconfig"), "NO_COLOR=1",
		"EXAMPLES="+examples,
		// With -race, what has more than one thread sleeps for a second before it
		// exits, and scripts run hundreds of commands.
		"GORACE="+strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"),
		"SLUICE_REPO=", "SLUICE_CACHE_DIR=", "SLUICE_FORGE=", "SLUICE_GIT_TOKEN=", "SLUICE_GIT_TOKEN_FILE=", "SLUICE_CA_FILE=", "SLUICE_PROXY=",
		"SLUICE_GITHUB_URL=", "SLUICE_GITHUB_TOKEN=", "SLUICE_GITHUB_APP_ID=", "GITHUB_TOKEN=",
		"SLUICE_GITEA_URL=", "SLUICE_GITEA_TOKEN=",
	)
	return nil
}

// cmdExample makes a bare repository from examples/shop and a clone of it:
//
//	example [NAMESPACE-PREFIX]
//
// It leaves the bare repository in shop.git, the clone in shop, and sets
// SLUICE_REPO. With a prefix, the environments' namespaces begin with it, so
// that scripts can share a cluster.
func cmdExample(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: example [NAMESPACE-PREFIX]")
	}
	clone := ts.MkAbs("shop")
	ts.Check(os.CopyFS(clone, os.DirFS(filepath.Join(ts.Getenv("EXAMPLES"), "shop"))))
	if len(args) == 1 {
		ts.Check(replaceBelow(clone, "shop-", args[0]+"-"))
	}
	publish(ts, clone, ts.MkAbs("shop.git"))
	ts.Setenv("SLUICE_REPO", ts.MkAbs("shop.git"))
}

// cmdBare makes a bare repository from a folder: bare FOLDER REPOSITORY.
func cmdBare(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bare FOLDER REPOSITORY")
	}
	publish(ts, ts.MkAbs(args[0]), ts.MkAbs(args[1]))
}

// publish commits a folder and pushes it to a new bare repository.
func publish(ts *testscript.TestScript, folder, bare string) {
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", bare},
		{"-C", folder, "init", "-q", "-b", "main"},
		{"-C", folder, "remote", "add", "origin", bare},
		{"-C", folder, "add", "-A"},
		{"-C", folder, "commit", "-q", "--allow-empty", "-m", "Start"},
		{"-C", folder, "push", "-q", "-u", "origin", "main"},
	} {
		ts.Check(ts.Exec("git", args...))
	}
}

// cmdReplace edits a file as a person would: replace FILE OLD NEW. OLD must be
// in the file.
func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	old, text := strings.ReplaceAll(args[1], `\n`, "\n"), string(data)
	if !strings.Contains(text, old) {
		ts.Fatalf("%s does not contain %q:\n%s", args[0], old, text)
	}
	ts.Check(os.WriteFile(file, []byte(strings.ReplaceAll(text, old, strings.ReplaceAll(args[2], `\n`, "\n"))), 0o644))
}

// replaceBelow replaces a text in every YAML file of a folder.
func replaceBelow(dir, old, replacement string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		return os.WriteFile(file, []byte(strings.ReplaceAll(string(data), old, replacement)), 0o644)
	})
}

// fixedNow is the time of tests that call run themselves.
func fixedNow() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }
