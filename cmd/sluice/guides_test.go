package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/internal/testgitea"
	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// TestGuides types what the guides of forges, promotions and installing tell a newcomer to type, on a
// cluster and on a forge. A script of each sets the scene and looks at what came of it.
func TestGuides(t *testing.T) {
	client, err := dynamic.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	c := clusterCommands{client}
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/guides",
		Setup: func(env *testscript.Env) error {
			if err := setupScript(env); err != nil {
				return err
			}
			return setupCluster(t, env, client)
		},
		Condition: scriptCondition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"guide": cmdGuide, "example": cmdExample, "replace": cmdReplace, "await": c.await, "secret": cmdSecret,
			"github": cmdEmptyGitHub, "gitea": cmdEmptyGitea,
			"workflow": cmdWorkflow, "statuses": cmdStatuses,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// guidePrelude goes before the commands of a guide. A controller runs beside them until
// they have all been typed, and must end well.
const guidePrelude = `set -euo pipefail
controllers=()
sluice() {
  if [ "$1" = controller ]; then
    command sluice "$@" --poll-interval 1s >>controller.log 2>&1 &
    controllers+=($!)
  else
    command sluice "$@"
  fi
}
end() {
  code=$?
  for pid in "${controllers[@]}"; do
    kill -TERM "$pid" && wait "$pid" || { cat controller.log; code=1; }
  done
  exit "$code"
}
trap end EXIT
`

// cmdGuide writes the commands of a guide to guide.sh, all its blocks of sh one after the
// other: guide FILE [OLD NEW]... What the reader is to put in (addresses, namespaces) is
// replaced, and must be there.
func cmdGuide(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args)%2 != 1 {
		ts.Fatalf("usage: guide FILE [OLD NEW]...")
	}
	blocks, err := codeBlocks(filepath.Join(ts.Getenv("EXAMPLES"), "..", "docs", "guides", args[0]))
	ts.Check(err)
	var script strings.Builder
	for _, b := range blocks {
		if b.language == "sh" {
			script.WriteString(strings.Join(b.lines, "\n") + "\n")
		}
	}
	text := script.String()
	for i := 1; i < len(args); i += 2 {
		if !strings.Contains(text, args[i]) {
			ts.Fatalf("%s does not say %q", args[0], args[i])
		}
		text = strings.ReplaceAll(text, args[i], args[i+1])
	}
	ts.Check(os.WriteFile(ts.MkAbs("guide.sh"), []byte(guidePrelude+text), 0o600))
}

// cmdWorkflow writes what the workflow in a guide runs for a pull request whose head is
// checked out in CLONE to workflow.sh: workflow FILE CLONE [EXPRESSION VALUE]... Every
// expression of the workflow must have its value: GitHub's own have it from the clone.
func cmdWorkflow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args)%2 != 0 {
		ts.Fatalf("usage: workflow FILE CLONE [EXPRESSION VALUE]...")
	}
	clone := ts.MkAbs(args[1])
	ts.Check(ts.Exec("git", "-C", clone, "rev-parse", "HEAD"))
	values := map[string]string{
		"github.workspace": clone, "github.base_ref": "main",
		"github.event.pull_request.head.sha": strings.TrimSpace(ts.ReadFile("stdout")),
	}
	for i := 2; i < len(args); i += 2 {
		values[args[i]] = args[i+1]
	}
	step := workflowCommand(ts, args[0])
	var script strings.Builder
	for _, name := range slices.Sorted(maps.Keys(step.Env)) {
		value := expression.ReplaceAllStringFunc(step.Env[name], func(e string) string {
			value, known := values[expression.FindStringSubmatch(e)[1]]
			if !known {
				ts.Fatalf("the workflow of %s has %s, which has no value here", args[0], e)
			}
			return value
		})
		fmt.Fprintf(&script, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	fmt.Fprintf(&script, "cd '%s'\n%s", clone, step.Run)
	ts.Check(os.WriteFile(ts.MkAbs("workflow.sh"), []byte(script.String()), 0o600))
}

// workflowCommand is the first step with commands of a guide's first whole workflow.
func workflowCommand(ts *testscript.TestScript, file string) workflowStep {
	blocks, err := codeBlocks(filepath.Join(ts.Getenv("EXAMPLES"), "..", "docs", "guides", file))
	ts.Check(err)
	for _, b := range blocks {
		text := "\n" + strings.Join(b.lines, "\n")
		if b.language != "yaml" || !strings.Contains(text, "\njobs:") {
			continue
		}
		var parsed workflow
		ts.Check(yaml.Unmarshal([]byte(text), &parsed))
		for _, job := range parsed.Jobs {
			for _, step := range job.Steps {
				if step.Run != "" {
					return step
				}
			}
		}
	}
	ts.Fatalf("%s has no workflow that runs a command", file)
	return workflowStep{}
}

// cmdEmptyGitHub is a GitHub server with an empty repository and a GitHub App. Git signs in
// with a token.
func cmdEmptyGitHub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: github")
	}
	server := githubtest.New(scriptT{ts})
	app := server.App("sluice", githubtest.Write)
	ts.Check(os.WriteFile(ts.MkAbs("app.pem"), app.Key, 0o600))
	token := server.Token("ada", githubtest.Write)
	repo := server.Create("shop/environments")
	githubs.Store(ts.Getenv("WORK"), repo)
	for name, value := range map[string]string{
		"URL": repo.URL(), "SLUICE_FORGE": "github", "SLUICE_GITHUB_URL": server.URL,
		"APP_ID": strconv.FormatInt(app.ID, 10), "APP_INSTALLATION": strconv.FormatInt(app.Installation, 10), "APP_KEY": ts.MkAbs("app.pem"), "APP_PEM": string(app.Key),
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "url." + strings.Replace(server.URL, "://", "://ada:"+token+"@", 1) + ".insteadOf",
		"GIT_CONFIG_VALUE_0": server.URL,
	} {
		ts.Setenv(name, value)
	}
}

// cmdEmptyGitea is an empty repository on a real Gitea, and a token of its owner.
func cmdEmptyGitea(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: gitea")
	}
	t := giteaT{ts}
	server := testgitea.Start(t)
	for name, value := range map[string]string{
		"SERVER": server.URL, "URL": server.Empty(t).URL, "TOKEN": server.Token,
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "url." + strings.Replace(server.URL, "://", "://ada:"+server.Token+"@", 1) + ".insteadOf",
		"GIT_CONFIG_VALUE_0": server.URL,
	} {
		ts.Setenv(name, value)
	}
}
