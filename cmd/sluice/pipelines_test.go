package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const pipelineDigest = "sha256:3f2a9c0d41e70000000000000000000000000000000000000000000000000000"

// workflow is a workflow of GitHub Actions as far as tests look at it.
type workflow struct {
	Jobs map[string]struct {
		Steps []workflowStep `json:"steps"`
	} `json:"jobs"`
}

type workflowStep struct {
	Uses string            `json:"uses"`
	With map[string]any    `json:"with"`
	Env  map[string]string `json:"env"`
	Run  string            `json:"run"`
}

// pipeline is a YAML block of a document.
type pipeline struct {
	file, text string
}

// pipelines reads the YAML blocks of the documents: workflows, of which a list of steps
// is a part, and configurations of GitLab CI.
func pipelines(t *testing.T) (workflows, gitLab []pipeline) {
	t.Helper()
	for _, b := range documents(t) {
		text := strings.Join(b.lines, "\n") + "\n"
		switch p := (pipeline{filepath.Base(b.file), text}); {
		case b.language != "yaml":
		case strings.Contains("\n"+text, "\njobs:"):
			workflows = append(workflows, p)
		case strings.HasPrefix(strings.TrimSpace(text), "- ") && strings.Contains(text, "uses:"):
			p.text = "on: push\njobs:\n  job:\n    runs-on: ubuntu-latest\n    steps:\n" + text
			workflows = append(workflows, p)
		case strings.Contains(text, "\n  script:"):
			gitLab = append(gitLab, p)
		}
	}
	require.NotEmpty(t, workflows)
	require.NotEmpty(t, gitLab)
	return workflows, gitLab
}

// TestGitHubReadsThem gives the action and the workflows of the documents to GitHub's own
// parser.
func TestGitHubReadsThem(t *testing.T) {
	t.Parallel()
	const folder = "../../bin/npm"
	if _, err := os.Stat(filepath.Join(folder, ".installed")); err != nil {
		t.Skip("GitHub's parser of workflows is not in bin/npm: `make tools` puts it there, and needs npm")
	}
	type document struct {
		Kind    string `json:"kind"`
		Name    string `json:"name"`
		Content string `json:"content"`
	}
	data, err := os.ReadFile("../../action.yml")
	require.NoError(t, err)
	list := []document{
		{"action", "action.yml", string(data)},
		{"action", "wrong.yml", "name: Wrong\nruns: {using: composite, steps: [{run: x}]}\n"},
		{"workflow", "wrong.yaml", "on: push\njobs: {a: {runs-on: x, steps: [{run: x, user: y}]}}\n"},
	}
	workflows, _ := pipelines(t)
	for _, w := range workflows {
		list = append(list, document{"workflow", w.file, w.text})
	}
	sent, err := json.Marshal(list)
	require.NoError(t, err)
	script, err := os.Open("testdata/actions.mjs")
	require.NoError(t, err)
	defer script.Close()
	cmd := exec.CommandContext(t.Context(), "node", "--input-type=module")
	cmd.Dir, cmd.Stdin = folder, script
	cmd.Env = append(os.Environ(), "DOCUMENTS="+string(sent))
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var faults []struct{ File, Message string }
	require.NoError(t, json.Unmarshal(out, &faults))
	said := map[string]string{}
	for _, f := range faults {
		said[f.File] += f.Message + "\n"
	}
	assert.Contains(t, said["wrong.yml"], "Required property is missing: shell")
	assert.Contains(t, said["wrong.yaml"], "Unexpected value 'user'")
	delete(said, "wrong.yml")
	delete(said, "wrong.yaml")
	assert.Empty(t, said)
}

// TestPipelinesUseTheAction runs the action as the workflows of the documents use it, with
// the real command on a real repository.
func TestPipelinesUseTheAction(t *testing.T) {
	t.Parallel()
	a := readAction(t)
	workflows, _ := pipelines(t)
	used := 0
	for _, w := range workflows {
		var parsed workflow
		require.NoError(t, yaml.Unmarshal([]byte(w.text), &parsed), w.file)
		for _, job := range parsed.Jobs {
			for _, step := range job.Steps {
				if strings.HasPrefix(step.Uses, "sluice-dev/sluice@") {
					runAction(t, a, w.file, step)
					used++
				}
			}
		}
	}
	assert.GreaterOrEqual(t, used, 2)
}

func runAction(t *testing.T, a action, file string, step workflowStep) {
	t.Helper()
	for name, input := range a.Inputs {
		if _, given := step.With[name]; input.Required {
			assert.True(t, given, "%s: input %s", file, name)
		}
	}
	sluice, err := exec.LookPath("sluice")
	require.NoError(t, err)
	bare := publishShop(t)
	r := &runner{t: t, dir: t.TempDir(), path: os.Getenv("PATH"), context: map[string]string{"inputs.binary": sluice}}
	writeContract(t, r.dir)
	for name, value := range step.With {
		require.Contains(t, a.Inputs, name, file)
		text := strings.ReplaceAll(value.(string), "${{ github.server_url }}", "https://github.com")
		r.context["inputs."+name] = expression.ReplaceAllString(text, "expression")
	}
	r.context["inputs.environments"], r.context["inputs.digest"] = bare, pipelineDigest
	code := r.run(a)
	require.Equal(t, 0, code, "%s: %s", file, r.said)
	output, err := os.ReadFile(filepath.Join(r.dir, "record.output"))
	require.NoError(t, err)
	assert.Contains(t, string(output), `"changed": true`)
	assertRecorded(t, bare)
}

// TestGitLabRecords runs the commands of sluice in the configurations of GitLab CI.
func TestGitLabRecords(t *testing.T) {
	t.Parallel()
	_, gitLab := pipelines(t)
	for _, p := range gitLab {
		var jobs map[string]struct {
			Stage  string   `json:"stage"`
			Script []string `json:"script"`
			Needs  []string `json:"needs"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(p.text), &jobs), p.file)
		recorded := false
		for name, job := range jobs {
			require.NotEmpty(t, job.Script, "%s: %s", p.file, name)
			for _, needed := range job.Needs {
				assert.Contains(t, jobs, needed, p.file)
			}
			text := strings.Join(job.Script, "\n")
			// The images of the jobs have a POSIX shell, not all have bash.
			out, err := exec.Command("sh", "-n", "-c", text).CombinedOutput()
			require.NoError(t, err, "%s: %s", name, out)
			assert.NotContains(t, text, "<<<", name)
			if !strings.Contains(text, "sluice ") {
				continue
			}
			bare, dir := publishShop(t), t.TempDir()
			writeContract(t, dir)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "image.txt"), []byte(image+"api@"+pipelineDigest+"\n"), 0o600))
			cmd := exec.Command("sh", "-e", "-c", text)
			cmd.Dir = dir
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "SLUICE_REPO=" + bare, "SLUICE_GIT_TOKEN=token",
				"GITLAB_CI=true", "CI_PROJECT_URL=https://gitlab.example.com/shop/api", "CI_COMMIT_SHA=9f8e7d6c5b4a39281706f5e4d3c2b1a098765432",
			}
			out, err = cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			assertRecorded(t, bare)
			recorded = true
		}
		assert.True(t, recorded, p.file)
	}
}

// writeContract writes the contract of the guide, which the pipelines name.
func writeContract(t *testing.T, dir string) {
	t.Helper()
	for _, b := range documents(t) {
		if b.language == "yaml" && strings.HasPrefix(b.lines[0], "required:") {
			text := strings.Join(b.lines, "\n") + "\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "contract.yaml"), []byte(text), 0o600))
			return
		}
	}
	require.Fail(t, "no document has a contract")
}

// assertRecorded: the build is in the repository, and development has it.
func assertRecorded(t *testing.T, bare string) {
	t.Helper()
	show := func(path string) string {
		out, err := exec.Command("git", "-C", bare, "show", "main:"+path).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	assert.Contains(t, show("builds/api/3f2a9c0d41e7.yaml"), pipelineDigest)
	assert.Contains(t, show("environments/development/api/kustomization.yaml"), pipelineDigest)
}
