package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// action is action.yml as far as a runner reads it.
type action struct {
	Inputs map[string]struct {
		Required bool    `json:"required"`
		Default  *string `json:"default"`
	} `json:"inputs"`
	Runs struct {
		Using string       `json:"using"`
		Steps []actionStep `json:"steps"`
	} `json:"runs"`
}

type actionStep struct {
	ID    string            `json:"id"`
	Shell string            `json:"shell"`
	Env   map[string]string `json:"env"`
	Run   string            `json:"run"`
}

var expression = regexp.MustCompile(`\$\{\{\s*([A-Za-z_.-]+)\s*\}\}`)

func readAction(t *testing.T) action {
	t.Helper()
	data, err := os.ReadFile("../../action.yml")
	require.NoError(t, err)
	var a action
	require.NoError(t, yaml.Unmarshal(data, &a))
	return a
}

// runner runs an action's steps as GitHub's does: expressions are replaced in env,
// and the run text goes to the shell.
type runner struct {
	t       *testing.T
	dir     string
	path    string // PATH
	said    string
	context map[string]string
}

func (r *runner) run(a action) (code int) {
	r.t.Helper()
	for name, input := range a.Inputs {
		if _, given := r.context["inputs."+name]; !given && input.Default != nil {
			r.context["inputs."+name] = *input.Default
		}
	}
	for _, step := range a.Runs.Steps {
		require.Equal(r.t, "bash", step.Shell)
		output := filepath.Join(r.dir, step.ID+".output")
		require.NoError(r.t, os.WriteFile(output, nil, 0o600))
		cmd := exec.Command("bash", "--noprofile", "--norc", "-c", step.Run)
		cmd.Dir = r.dir
		cmd.Env = []string{"PATH=" + r.path, "HOME=" + r.dir, "RUNNER_TEMP=" + r.dir, "GITHUB_OUTPUT=" + output}
		for name, value := range step.Env {
			cmd.Env = append(cmd.Env, name+"="+expression.ReplaceAllStringFunc(value, func(e string) string {
				return r.context[expression.FindStringSubmatch(e)[1]]
			}))
		}
		out, _ := cmd.CombinedOutput()
		r.said += string(out)
		if code = cmd.ProcessState.ExitCode(); code != 0 {
			return code
		}
		data, err := os.ReadFile(output)
		require.NoError(r.t, err)
		for _, line := range strings.Split(string(data), "\n") {
			if name, value, ok := strings.Cut(line, "="); ok {
				r.context["steps."+step.ID+".outputs."+name] = value
			}
		}
	}
	return code
}

// fakes puts programs into a folder of their own, before those of the machine. Each
// writes its arguments, one a line.
func (r *runner) fakes(programs map[string]string) {
	bin := filepath.Join(r.dir, "bin")
	require.NoError(r.t, os.MkdirAll(bin, 0o755))
	for name, text := range programs {
		script := "#!/bin/sh\nprintf '%s\\n' \"$@\" > '" + r.dir + "/" + name + ".arguments'\n" + text
		require.NoError(r.t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755))
	}
	r.path = bin + ":" + os.Getenv("PATH")
}

func (r *runner) arguments(program string) []string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, program+".arguments"))
	require.NoError(r.t, err)
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// TestActionKeepsInputsOutOfTheShell: an expression in run is text of the workflow's
// author or of whoever opened a pull request, pasted into a script.
func TestActionKeepsInputsOutOfTheShell(t *testing.T) {
	a := readAction(t)
	assert.Equal(t, "composite", a.Runs.Using)
	used := map[string]bool{}
	for _, step := range a.Runs.Steps {
		assert.NotContains(t, step.Run, "${{", step.ID)
		for _, value := range step.Env {
			match := expression.FindStringSubmatch(value)
			require.NotNil(t, match, value)
			if name, ok := strings.CutPrefix(match[1], "inputs."); ok {
				used[name] = true
				assert.Contains(t, a.Inputs, name)
			}
		}
	}
	for name, input := range a.Inputs {
		assert.True(t, used[name], "input %s is used", name)
		assert.True(t, input.Required != (input.Default != nil), "input %s is required or has a default", name)
	}
}

// TestActionRecords runs the steps with hostile inputs and a sluice that writes down
// how it was called; the command line must be one that the real one takes.
func TestActionRecords(t *testing.T) {
	a := readAction(t)
	r := &runner{t: t, dir: t.TempDir(), context: map[string]string{
		"inputs.environments": "https://git.example.com/shop/environments",
		"inputs.token":        "s3cret",
		"inputs.component":    "api",
		"inputs.digest":       `sha256:$(touch pwned)`,
		"inputs.checks":       "trivy=passed:0 critical; `touch pwned`\n\nunit=passed\n--help=x\n",
		"inputs.check-urls":   "trivy=https://ci.example.com/$(touch pwned)\n",
		"inputs.contract":     "config \"contract\".yaml",
	}}
	r.fakes(map[string]string{"sluice": `env > "$0.env"; echo '{"message": "record build"}'; exit 5`})
	r.context["inputs.binary"] = filepath.Join(r.dir, "bin", "sluice")

	assert.Equal(t, 5, r.run(a), "the exit code is the command's")
	want := []string{"build", "record", "--component=api", "--digest=sha256:$(touch pwned)", "--branch=main", "--output=json",
		"--contract=config \"contract\".yaml", "--check=trivy=passed:0 critical; `touch pwned`", "--check=unit=passed", "--check=--help=x", "--check-url=trivy=https://ci.example.com/$(touch pwned)"}
	assert.Equal(t, want, r.arguments("sluice"))
	assert.NoFileExists(t, filepath.Join(r.dir, "pwned"))
	env, err := os.ReadFile(filepath.Join(r.dir, "bin", "sluice.env"))
	require.NoError(t, err)
	assert.Contains(t, string(env), "SLUICE_REPO=https://git.example.com/shop/environments\n")
	assert.Contains(t, string(env), "SLUICE_GIT_TOKEN=s3cret\n")
	output, err := os.ReadFile(filepath.Join(r.dir, "record.output"))
	require.NoError(t, err)
	assert.Regexp(t, `^result<<(result-\d+)\n\{"message": "record build"\}\n(result-\d+)\n$`, string(output))

	root := newRootCommand(&app{process: process{Getenv: func(string) string { return "" }}})
	c, rest, err := root.Find(want)
	require.NoError(t, err)
	assert.NoError(t, c.ParseFlags(rest))
}

// TestActionBuilds: without a binary one is built from the action's own checkout.
func TestActionBuilds(t *testing.T) {
	a := readAction(t)
	checkout := t.TempDir()
	r := &runner{t: t, dir: t.TempDir(), context: map[string]string{
		"inputs.component": "api", "inputs.digest": "sha256:1", "inputs.token": "t", "inputs.environments": "e",
		"github.action_path": checkout, "github.action_ref": "v1.2; rm -rf /",
	}}
	r.fakes(map[string]string{"go": `pwd > '` + r.dir + `/go.dir'
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\necho "{}"\n' > "$2"; chmod +x "$2"`})

	assert.Equal(t, 0, r.run(a))
	binary := filepath.Join(r.dir, "sluice-action", "sluice")
	assert.Equal(t, []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=v1.2--rm--rf--",
		"-o", binary, "./cmd/sluice"}, r.arguments("go"))
	dir, err := os.ReadFile(filepath.Join(r.dir, "go.dir"))
	require.NoError(t, err)
	assert.Equal(t, checkout, strings.TrimSpace(string(dir)))
	assert.DirExists(t, "../../cmd/sluice", "what go is told to build")
	assert.Equal(t, binary, r.context["steps.install.outputs.binary"])
}

// TestActionSaysWhatIsMissing: no Go, and a binary that is none.
func TestActionSaysWhatIsMissing(t *testing.T) {
	a := readAction(t)
	for binary, want := range map[string]string{
		"":                      "there is no Go to build sluice with",
		"nothing\n::warning::x": `the input "binary" names no program`,
	} {
		r := &runner{t: t, dir: t.TempDir(), path: t.TempDir(), context: map[string]string{"inputs.binary": binary}}
		assert.Equal(t, 1, r.run(a))
		assert.Contains(t, r.said, "::error::"+want)
		assert.NotContains(t, r.said, "::warning::")
	}
}
