package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"github.com/sluice-dev/sluice/internal/leakscan"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/secrets"
)

// TestCanaries encrypts random values in every format, drives every command, a
// controller and every way to fail with them, and looks for the values, their halves
// and what they may be written as in all that came of it: outputs, logs, answers over
// HTTP, files, Git objects (pull requests are among them) and objects of the cluster.
// They may be in the data of Secrets, and nowhere else.
//
// A command that is not driven here fails the test: give it a line in canaryCommands.
func TestCanaries(t *testing.T) {
	t.Parallel()
	c := newCanaries(t)
	c.plantGood()
	c.publish()
	c.commands(canaryCommands)
	stop := c.controller()
	c.secretsCommands()
	c.rotate()
	c.commands(canaryQuestions)
	c.plantBad()
	c.commands(canaryFailures)
	c.answers()
	stop()
	c.commands(canaryScaffolds)

	assert.Empty(t, uncovered(slices.Concat(canaryCommands, canarySecrets, canaryQuestions, canaryFailures, canaryScaffolds)), "commands that canary_test.go does not drive")
	c.scanFiles()
	c.scanGit()
	c.scanCluster()
}

// canaryLine is a command line and what its output must have, so that it is known to
// have come as far as meant.
type canaryLine struct{ args, says string }

// canaryCommands are run while all is well. NS is the prefix of the namespaces.
var canaryCommands = []canaryLine{
	{"version", "sluice"},
	{"exit-codes", "interrupted"},
	{"install --crds --print", "CustomResourceDefinition"},
	{"install --repo https://git.example.com/shop.git --environment production=NS-production --age-key-secret production=age", "sluice-applier"},
	{"uninstall --namespace NS-system", "nothing to delete"},
	{"check", "0 errors"},
	{"check --base HEAD -o json", "findings"},
	{"render --environment staging -o yaml", "are not shown"},
	{"render --environment development --age-key-file development=KEYS/development.agekey", "(secret)"},
	{"render api --environment production -o json --age-key-file production=KEYS/production.agekey", "kind"},
	{"diff --environment development --age-key-file development=KEYS/development.agekey", "(secret"},
	{"apply --environment development --log-level debug --age-key-file development=KEYS/development.agekey", "api           Ready"},
	{"apply --environment production --log-level debug --age-key-file production=KEYS/production.agekey", "Ready"},
	{"diff --environment development --age-key-file development=KEYS/development.agekey -o json", "["},
	{"diff --environment development", "--age-key-file"},
	{"status -o wide", "Ready"},
	{"status -o json", "Ready"},
	{"build record --component api --digest sha256:3f2a9c0d41e70000000000000000000000000000000000000000000000000000 --check trivy=passed", "3f2a9c0d41e7"},
	{"build list", "3f2a9c0d41e7"},
	{"build show api 3f2a9c", "3f2a9c0d41e7"},
	{"promote api --to staging --age-key-file staging=KEYS/staging.agekey", "pull request 1"},
	{"pr list", "staging"},
	{"pr show 1", "3f2a9c0d41e7"},
	{"pr merge 1 --override tested", "merged pull request 1"},
	{"promote api --to production", "pull request 2"},
	{"pr close 2 --reason tested", "2"},
	{"deploy api --environment production --build 3f2a9c --bluegreen", "3f2a9c0d41e7"},
	{"traffic get api --environment production", "blue"},
	{"traffic set api --environment production --tags blue=50,green=50", "green"},
	{"traffic promote api --environment production", "production"},
	{"traffic set api --environment production --tags blue=100,green=0", "blue"},
	{"traffic suspend api --environment production --tags green", "green"},
	{"traffic remove api --environment production --tags green", "green"},
	{"rollback api --environment staging", "pull request"},
	{"history api --environment production", "traffic"},
	{"prune acknowledge --environment development", "nothing"},
	{"completion bash", "sluice"},
	{"completion zsh", "sluice"},
	{"completion fish", "sluice"},
	{"completion powershell", "sluice"},
	{"__complete render --environment development a", "api"},
}

// canarySecrets edit secrets in the working tree. Each has a canary of its own on
// standard input, which its editor writes, too.
var canarySecrets = []canaryLine{
	{"secrets list", "DATABASE_URL"},
	{"secrets set api SESSION --environment development --age-key-file development=KEYS/development.agekey", "SESSION"},
	{"secrets get api SESSION --environment development --age-key-file development=KEYS/development.agekey", ""},
	{"secrets edit api --environment development --age-key-file development=KEYS/development.agekey", "edit environments/development"},
	{"secrets unset api SESSION --environment development --age-key-file development=KEYS/development.agekey", "remove SESSION"},
	{"secrets get api SESSION --environment development --age-key-file development=KEYS/development.agekey", "there is no such value"},
	{"secrets set web TOKEN --environment development", "TOKEN"},
	{"secrets set environments/development/api/license.yaml metadata.labels.a --age-key-file development=KEYS/development.agekey", "plain text"},
	{"secrets set api STAGED --commit --environment staging --age-key-file staging=KEYS/staging.agekey", "STAGED"},
	{"secrets encrypt environments/development/web/plain.yaml", "plain.yaml"},
	{"secrets rotate --environment development --age-key-file development=KEYS/development.agekey", "rotate the data keys"},
	{"secrets updatekeys --environment development --age-key-file development=KEYS/development.agekey", ""},
	{"secrets check --age-key-file development=KEYS/development.agekey", "encrypted files"},
}

// canaryQuestions are asked of a controller that runs.
var canaryQuestions = []canaryLine{
	{"pause web --reason tested", "web"},
	{"resume web", "web"},
	{"reconcile api --environment development --wait=false", "asked for 1 release"},
	{"events --environment development", "development/api"},
	{"logs api --environment development", "api"},
	{"explain api --environment development", "development/api"},
	{"doctor -o json --environment development=NS-development --age-key-file development=KEYS/development.agekey", "the keys open all"},
}

// canaryFailures are run when each of brokenReleases is in the repository.
var canaryFailures = []canaryLine{
	{"check", "the repository has"},
	{"render wrong-key --environment development --age-key-file development=KEYS/development.agekey", "no key opens it"},
	{"render other-name --environment development --age-key-file development=KEYS/development.agekey", "fails authentication"},
	{"render bad-mac --environment development --age-key-file development=KEYS/development.agekey", "message authentication code does not match"},
	{"render half --environment development --age-key-file development=KEYS/development.agekey", "half"},
	{"render words --environment development --age-key-file development=KEYS/development.agekey", "x.bin:1: has a line that is not NAME=value"},
	{"render bad-yaml --environment development --age-key-file development=KEYS/development.agekey", "x.bin:2: is not valid YAML"},
	{"render twice --environment development --age-key-file development=KEYS/development.agekey", "withheld"},
	{"render bad-patch --environment development --age-key-file development=KEYS/development.agekey", "bad-patch"},
	{"render configmap --environment development --age-key-file development=KEYS/development.agekey", "holds a decrypted value"},
	{"render literal --environment development --age-key-file development=KEYS/development.agekey", "holds a decrypted value"},
	{"render not-found --environment development --age-key-file development=KEYS/development.agekey", "not-found"},
	{"render annotated --environment development --age-key-file development=KEYS/development.agekey", "holds a decrypted value"},
	{"render replaced --environment development --age-key-file development=KEYS/development.agekey", "holds a decrypted value"},
	{"render other-environment --environment development --age-key-file development=KEYS/development.agekey", "staging"},
	{"diff --environment development --age-key-file development=KEYS/development.agekey", "refused"},
	{"apply --environment development --timeout 2s --log-level debug --age-key-file development=KEYS/development.agekey", "Failed"},
	{"status -o json", "Failed"},
	{"status", "Failed"},
	{"secrets check --age-key-file development=KEYS/development.agekey", "no key opens it"},
	{"explain judged --environment development", "development/judged"},
	{"events --environment development -o json", "no-map"},
	{"doctor --environment development=NS-development --age-key-file development=KEYS/development.agekey", "no key opens it"},
	{"prune acknowledge 0123456789ab --environment development", "held"},
	{"controller --environment nowhere --age-key-file nowhere=KEYS/development.agekey", "unknown environment"},
	{"apply --environment development --age-key-file development=KEYS/none.agekey", "none.agekey"},
	{"render --environment development --age-key-file KEYS/../shop/environments/development/api/secrets.env", "secrets.env"},
}

// canaryScaffolds edit the working tree.
var canaryScaffolds = []canaryLine{
	{"component add queue --image registry.example.com/shop/queue --port 8080", "queue"},
	{"component tag web --environment staging", "web"},
	{"environment add qa", "qa"},
	{"init again", "sluice.yaml"},
}

// uncovered are the commands that no line drives.
func uncovered(lines []canaryLine) (names []string) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "sluice ")
		driven := slices.ContainsFunc(lines, func(l canaryLine) bool { return strings.HasPrefix(l.args+" ", name+" ") })
		if c.Runnable() && !c.HasSubCommands() && !driven && c.Name() != "help" {
			names = append(names, name)
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	root := newRootCommand(&app{process: process{Getenv: os.Getenv, Stdout: io.Discard, Stderr: io.Discard}})
	root.InitDefaultCompletionCmd()
	walk(root)
	return names
}

// canaries are the values, the world they are planted in, and what it has said.
type canaries struct {
	*testing.T
	dir, clone, bare, keys, namespace string
	env                               []string
	api                               dynamic.Interface
	rules                             *secrets.Rules
	known                             leakscan.Values
	addresses                         map[string]string
}

func newCanaries(t *testing.T) *canaries {
	dir := t.TempDir()
	c := &canaries{T: t, dir: dir, clone: filepath.Join(dir, "shop"), bare: filepath.Join(dir, "shop.git"),
		addresses: map[string]string{}, namespace: fmt.Sprintf("canary-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)}
	var err error
	c.keys, err = filepath.Abs("../../examples/keys")
	require.NoError(t, err)
	c.api, err = dynamic.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	c.env = append(os.Environ(), "HOME="+dir, "TMPDIR="+filepath.Join(dir, "tmp"), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"),
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com", "NO_COLOR=1", "GOTRACEBACK=crash", "GORACE=atexit_sleep_ms=0",
		"KUBECONFIG="+testcluster.Kubeconfig(t), "SLUICE_REPO=", "SLUICE_CACHE_DIR=", "SLUICE_FORGE=", "SLUICE_GIT_TOKEN=", "GITHUB_TOKEN=")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	require.NoError(t, os.CopyFS(c.clone, os.DirFS("../../examples/shop")))
	require.NoError(t, replaceBelow(c.clone, "shop-", c.namespace+"-"))
	data, err := os.ReadFile(filepath.Join(c.clone, ".sops.yaml"))
	require.NoError(t, err)
	wider := strings.ReplaceAll(string(data), "^(data|stringData)$", "^(data|stringData|annotations|hostnames|replicas|env)$")
	c.rules, err = secrets.ParseRules(".sops.yaml", []byte(wider))
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, e := range []string{"development", "staging", "production"} {
			_ = c.api.Resource(resources["namespace"]).Delete(context.Background(), c.namespace+"-"+e, metav1.DeleteOptions{})
		}
	})
	return c
}

// value is a new canary: two random halves with what has to be quoted between them.
func (c *canaries) value(between string) string {
	halves := make([]byte, 12)
	_, _ = rand.Read(halves) // never fails
	first, second := hex.EncodeToString(halves[:6]), hex.EncodeToString(halves[6:])
	v := first + between + second
	c.known.Add(v, first, second)
	return v
}

// odd has what JSON, URLs, HTML, YAML and shells quote.
const odd = `&"<ü'%+/ \`

func (c *canaries) write(name, content string) {
	c.Helper()
	file := filepath.Join(c.clone, name)
	require.NoError(c, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(c, os.WriteFile(file, []byte(content), 0o644))
}

// seal writes a file that is encrypted by the rule of .sops.yaml for another path, or
// for the file itself.
func (c *canaries) seal(name, as, content string) []byte {
	c.Helper()
	if as == "" {
		as = name
	}
	rule, ok := c.rules.For(as)
	require.True(c, ok, as)
	sealed, err := (*secrets.Keys)(nil).Encrypt(c.Context(), as, []byte(content), rule)
	require.NoError(c, err, name)
	c.write(name, string(sealed))
	return sealed
}

// plantGood gives the environments secrets in every format.
func (c *canaries) plantGood() {
	for _, dir := range []string{"development/api", "staging/api", "production/api/base"} {
		dir = "environments/" + dir + "/"
		c.seal(dir+"secrets.env", "", "# "+c.value(odd)+"\nDATABASE_URL="+c.value(odd)+"\nTOKEN="+c.value(`\n`)+"\n")
		c.seal(dir+"license.yaml", "", "apiVersion: v1\nkind: Secret\nmetadata: {name: api-license}\nstringData:\n  license.key: |\n    "+
			c.value("\n    ")+"\ndata:\n  more: "+base64.StdEncoding.EncodeToString([]byte(c.value(odd)))+"\n")
	}
	const dir = "environments/development/api/"
	c.seal(dir+"app.json", "", fmt.Sprintf(`{"a": {"b": [%q]}}`, c.value(odd)))
	c.seal(dir+"app.ini", "", "[a]\nb = "+c.value("-")+"\n")
	c.seal(dir+"app.conf", "", "a: "+c.value(": ")+"\n")
	c.seal(dir+"app.bin", "", "\xff\x00"+c.value("\x01")+"\xfe")
	c.seal(dir+"patch.yaml", "", "apiVersion: v1\nkind: Secret\nmetadata: {name: api-license}\nstringData: {PATCHED: "+c.value("-")+"}\n")
	c.seal(dir+"patch.bin", "", `[{"op": "add", "path": "/stringData/ADDED", "value": "`+c.value("-")+`"}]`)
	c.seal(dir+"tracing/tracing.env", "", "TRACING="+c.value(odd)+"\n")
	c.write(dir+"tracing/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nsecretGenerator: [{name: tracing, envs: [tracing.env]}]\n")
	overlay := filepath.Join(c.clone, dir, "kustomization.yaml")
	text, err := os.ReadFile(overlay)
	require.NoError(c, err)
	c.write(dir+"kustomization.yaml", strings.Replace(string(text), "  envs: [secrets.env]\n",
		"  envs: [secrets.env]\n  files: [app.json, app.ini, app.conf, app.bin]\n", 1)+
		"components: [tracing]\npatches: [{path: patch.yaml}, {path: patch.bin, target: {kind: Secret, name: api-license}}]\n")
}

// brokenReleases are folders of environments/development that fail, each in its way.
// A file whose name begins with sealed: is encrypted, «» is a canary in it.
var brokenReleases = map[string]map[string]string{
	"words":    {"kustomization.yaml": "secretGenerator: [{name: words, envs: [x.bin]}]", "sealed:x.bin": "! «»\n"},
	"twice":    {"kustomization.yaml": "secretGenerator: [{name: twice, literals: [A=], envs: [x.bin]}]", "sealed:x.bin": "A=«»\n"},
	"bad-yaml": {"kustomization.yaml": "resources: [x.bin]", "sealed:x.bin": "a: b\nc: «»: d\n"},
	"bad-patch": {"kustomization.yaml": "resources: [cm.yaml]\npatches: [{path: x.yaml, target: {kind: ConfigMap}}]",
		"sealed:x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: [{$patch: «»}]\n", "cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\n"},
	"configmap": {"kustomization.yaml": "configMapGenerator: [{name: config, envs: [x.env]}]", "sealed:x.env": "A=«»\n"},
	"literal": {"kustomization.yaml": "resources: [d.yaml]\npatches: [{path: x.yaml}]", "sealed:x.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec: {template: {spec: {containers: [{name: a, env: [{name: A, value: «»}]}]}}}\n",
		"d.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}\n"},
	"annotated": {"kustomization.yaml": "resources: [x.yaml]", "sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: annotated, annotations: {a: «»}}\n"},
	"replaced": {"kustomization.yaml": "resources: [x.yaml, cm.yaml]\nreplacements:\n- source: {kind: Secret, fieldPath: stringData.a}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.a]}]",
		"sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: replaced}\nstringData: {a: «»}\n", "cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: replaced}\ndata: {a: x}\n"},
	"not-found": {"kustomization.yaml": "resources: [x.yaml]\nreplacements:\n- source: {kind: Secret, fieldPath: stringData.a.b}\n  targets: [{select: {kind: Secret}, fieldPaths: [stringData.b]}]",
		"sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: not-found}\nstringData: {a: «»}\n"},
	"other-environment": {"kustomization.yaml": "secretGenerator: [{name: stolen, envs: [../../staging/api/secrets.env]}]"},
	// What the API server refuses, and quotes where it does not know better:
	"no-map":    {"kustomization.yaml": "resources: [x.yaml]", "sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: no-map}\nstringData: «»\n"},
	"no-base64": {"kustomization.yaml": "resources: [x.yaml]", "sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: no-base64}\ndata: {a: «»}\n"},
	"no-tls":    {"kustomization.yaml": "resources: [x.yaml]", "sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: no-tls}\ntype: kubernetes.io/tls\nstringData: {tls.crt: «»}\n"},
	"no-json":   {"kustomization.yaml": "resources: [x.yaml]", "sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: no-json}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: «»}\n"},
	"allowed": {"kustomization.yaml": "resources: [x.yaml]", "component": "secretsIn: [HTTPRoute.gateway.networking.k8s.io]\n",
		"sealed:x.yaml": "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: allowed}\nspec: {hostnames: [\"«»_\"]}\n"},
	"numbered": {"kustomization.yaml": "resources: [x.yaml]", "component": "secretsIn: [Deployment.apps]\n",
		"sealed:x.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: numbered}\nspec: {replicas: «»}\n"},
	"judged": {"kustomization.yaml": "resources: [x.yaml]", "component": "health: [{apiVersion: v1, kind: Secret, ready: \"false\", message: \"'it says ' + object.data.a.substring(0, 18)\"}]\n",
		"sealed:x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: judged}\nstringData: {a: «»}\n"},
}

// plantBad adds releases that fail, and waits until the controller has met them all.
func (c *canaries) plantBad() {
	for name, release := range brokenReleases {
		c.release(name, release["component"])
		for file, text := range release {
			for strings.Contains(text, "«»") {
				text = strings.Replace(text, "«»", c.value("-x-"), 1)
			}
			dir := "environments/development/" + name + "/"
			switch sealed, ok := strings.CutPrefix(file, "sealed:"); {
			case ok:
				c.seal(dir+sealed, "", text)
			case file == "kustomization.yaml":
				c.write(dir+file, "namespace: "+c.namespace+"-development\n"+text+"\n")
			case file != "component":
				c.write(dir+file, text)
			}
		}
	}
	generator := "namespace: " + c.namespace + "-development\nsecretGenerator: [{name: broken, envs: [secrets.env]}]\n"
	for _, name := range []string{"wrong-key", "other-name", "half"} {
		c.release(name, "")
		c.write("environments/development/"+name+"/kustomization.yaml", generator)
	}
	c.seal("environments/development/wrong-key/secrets.env", "environments/staging/api/secrets.env", "A="+c.value(odd)+"\n")
	sealed := string(c.seal("environments/development/other-name/secrets.env", "", "A="+c.value(odd)+"\nB="+c.value(odd)+"\n"))
	c.write("environments/development/other-name/secrets.env", strings.Replace(sealed, "A=", "C=", 1))
	c.write("environments/development/half/secrets.env", sealed[:len(sealed)/2])
	c.release("bad-mac", "")
	c.write("environments/development/bad-mac/kustomization.yaml", "namespace: "+c.namespace+"-development\nresources: [secret.yaml]\n")
	sealed = string(c.seal("environments/development/bad-mac/secret.yaml", "", "apiVersion: v1\nkind: Secret\nmetadata: {name: bad-mac}\nstringData: {a: "+c.value("-")+"}\n"))
	c.write("environments/development/bad-mac/secret.yaml", strings.Replace(sealed, "name: bad-mac", "name: bad-mac-2", 1))
	c.push("Break what can be broken")
	for _, name := range []string{"no-map", "allowed", "judged", "bad-mac", "words"} {
		c.await(name, func(release *unstructured.Unstructured) bool { return readyMessage(release) != "" && !isReady(release) })
	}
}

// release adds a component and its folder in development.
func (c *canaries) release(name, more string) {
	c.write("components/"+name+"/component.yaml", "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: "+name+"}\nimage: registry.example.com/shop/"+name+"\n"+more)
}

// rotate changes a secret, and waits until the workload runs with it.
func (c *canaries) rotate() {
	c.await("api", isReady)
	c.seal("environments/development/api/secrets.env", "", "DATABASE_URL="+c.value(odd)+"\nTOKEN="+c.value("-")+"\n")
	revision := c.push("Rotate")
	c.await("api", func(r *unstructured.Unstructured) bool {
		at, _, _ := unstructured.NestedString(r.Object, "status", "lastAppliedRevision")
		return isReady(r) && strings.HasPrefix(at, revision)
	})
}

// git runs git in the clone.
func (c *canaries) git(args ...string) string {
	c.Helper()
	command := exec.Command("git", args...)
	command.Dir, command.Env = c.clone, c.env
	out, err := command.CombinedOutput()
	require.NoError(c, err, "git %s: %s", args, out)
	return strings.TrimSpace(string(out))
}

// publish makes the bare repository.
func (c *canaries) publish() {
	c.git("init", "-q", "--bare", "-b", "main", c.bare)
	c.git("init", "-q", "-b", "main")
	c.git("remote", "add", "origin", c.bare)
	c.git("commit", "-q", "--allow-empty", "-m", "Start")
	c.git("push", "-q", "-u", "origin", "main")
	c.push("Plant")
}

// push commits all, and returns the revision.
func (c *canaries) push(message string) string {
	c.Helper()
	c.git("add", "-A")
	c.git("commit", "-q", "-m", message)
	c.git("pull", "-q", "--rebase", "origin", "main")
	c.git("push", "-q", "origin", "HEAD:main")
	return c.git("rev-parse", "HEAD")
}

// command is the real command, in a process of its own.
func (c *canaries) command(args string) *exec.Cmd {
	command := exec.Command("sluice", strings.Fields(strings.NewReplacer("KEYS", c.keys, "NS-", c.namespace+"-").Replace(args))...)
	command.Dir, command.Env = c.clone, c.env
	return command
}

// commands runs lines one after the other, and looks at what they say.
func (c *canaries) commands(lines []canaryLine) {
	c.Helper()
	for _, line := range lines {
		out, _ := c.command(line.args).CombinedOutput() // many are to fail
		assert.Contains(c, string(out), line.says, "sluice %s", line.args)
		assert.Empty(c, c.known.Find(out), "sluice %s", line.args)
	}
}

// secretsCommands runs canarySecrets. What "secrets get" writes to standard output is
// the one place where a value may be shown, and has to be.
func (c *canaries) secretsCommands() {
	c.Helper()
	c.write("environments/development/web/plain.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: plain}\nstringData: {a: "+c.value("-")+"}\n")
	editor := filepath.Join(c.dir, "editor.sh")
	require.NoError(c, os.WriteFile(editor, []byte(`echo "EDITED=$CANARY" >>"$1"`), 0o600))
	for _, line := range canarySecrets {
		var stdout, stderr bytes.Buffer
		value := c.value("-")
		command := c.command(line.args)
		command.Env = append(slices.Clone(c.env), "VISUAL=", "EDITOR=sh "+editor, "CANARY="+value)
		command.Stdin, command.Stdout, command.Stderr = strings.NewReader(value+"\n"), &stdout, &stderr
		err := command.Run()
		assert.Contains(c, stdout.String()+stderr.String(), line.says, "sluice %s", line.args)
		if strings.HasPrefix(line.args, "secrets get ") && err == nil {
			assert.NotEmpty(c, c.known.Find(stdout.Bytes()), "sluice %s", line.args)
			stdout.Reset()
		}
		assert.Empty(c, c.known.Find(append(stdout.Bytes(), stderr.Bytes()...)), "sluice %s", line.args)
	}
	c.scanFiles()
}

// controller runs one that logs all it can, until what it returns is called.
func (c *canaries) controller() (stop func()) {
	secret := filepath.Join(c.dir, "webhook-secret")
	require.NoError(c, os.WriteFile(secret, []byte(webhookSecret+"\n"), 0o600))
	args := "controller --environment all --poll-interval 200ms --log-level debug --promote --announce --webhook-secret-file " + secret
	for _, e := range []string{"development", "staging", "production"} {
		args += " --age-key-file " + e + "=" + c.keys + "/" + e + ".agekey"
	}
	for _, flag := range []string{"metrics", "health", "webhook"} {
		args += " --" + flag + "-address " + c.address(flag)
	}
	var log bytes.Buffer
	command := c.command(args)
	command.Stdout, command.Stderr = &log, &log
	require.NoError(c, command.Start())
	stop = func() {
		// It tells of all goroutines as it ends: what a crash would show.
		_ = command.Process.Signal(syscall.SIGQUIT)
		_ = command.Wait()
		assert.Contains(c, log.String(), "goroutine 1", "the controller")
		assert.Empty(c, c.known.Find(log.Bytes()), "the controller")
	}
	c.Cleanup(func() {
		if command.ProcessState == nil {
			_ = command.Process.Kill()
			_ = command.Wait()
		}
		if c.Failed() {
			said, _, _ := strings.Cut(log.String(), "SIGQUIT")
			c.Logf("the controller's log ends with\n%s", said[max(0, len(said)-6000):])
		}
	})
	return stop
}

// address is one for each server of the controller.
func (c *canaries) address(of string) string {
	if c.addresses[of] == "" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(c, err)
		defer listener.Close()
		c.addresses[of] = listener.Addr().String()
	}
	return c.addresses[of]
}

// answers looks at what the controller answers over HTTP.
func (c *canaries) answers() {
	for path, says := range map[string]string{
		c.address("metrics") + "/metrics": "sluice_release_state", c.address("health") + "/healthz?verbose": "repository",
		c.address("health") + "/readyz?verbose": "watches", c.address("webhook") + "/": "",
	} {
		response, err := http.Get("http://" + path)
		require.NoError(c, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(c, errors.Join(err, response.Body.Close()))
		assert.Contains(c, string(body), says, path)
		assert.Empty(c, c.known.Find(body), path)
	}
}

// await waits for the Release of a component in development.
func (c *canaries) await(name string, done func(*unstructured.Unstructured) bool) {
	c.Helper()
	var last *unstructured.Unstructured
	require.Eventually(c, func() bool {
		release, err := c.api.Resource(resources["release"]).Namespace(c.namespace+"-development").Get(c.Context(), name, metav1.GetOptions{})
		last = release
		return err == nil && done(release)
	}, awaitTimeout, 50*time.Millisecond, "%s: %v", name, last)
}

func isReady(release *unstructured.Unstructured) bool {
	status, _ := readyCondition(release)
	return status == "True"
}

func readyMessage(release *unstructured.Unstructured) string {
	_, message := readyCondition(release)
	return message
}

func readyCondition(release *unstructured.Unstructured) (status, message string) {
	conditions, _, _ := unstructured.NestedSlice(release.Object, "status", "conditions")
	for _, each := range conditions {
		if condition, _ := each.(map[string]any); condition["type"] == "Ready" {
			status, _ = condition["status"].(string)
			message, _ = condition["message"].(string)
		}
	}
	return status, message
}

// scanFiles looks at every file of the home, the caches and the working tree.
func (c *canaries) scanFiles() {
	require.NoError(c, filepath.WalkDir(c.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		assert.Empty(c, c.known.Find(data), name)
		return err
	}))
	left, err := os.ReadDir(filepath.Join(c.dir, "tmp"))
	require.NoError(c, err)
	assert.Empty(c, left, "temporary files are left behind")
}

// scanGit looks at every object of every repository, packed or not: pull requests,
// their comments and reports of health are among them.
func (c *canaries) scanGit() {
	repositories := 0
	require.NoError(c, filepath.WalkDir(c.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "HEAD" {
			return err
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(name), "objects")); err != nil {
			return nil
		}
		repositories++
		command := exec.Command("git", "--git-dir", filepath.Dir(name), "cat-file", "--batch-all-objects", "--batch", "--unordered")
		command.Env = c.env
		objects, err := command.Output()
		require.NotEmpty(c, objects, name)
		assert.Empty(c, c.known.Find(objects), name)
		return err
	}))
	assert.GreaterOrEqual(c, repositories, 3, "the bare one, the clone and a cache")
	assert.Contains(c, c.git("ls-remote", c.bare), "sluice/", "pull requests are kept in the repository")
}

// scanCluster looks at every object of the namespaces, and at the namespaces: of
// Secrets at all but the data, of which it has to find the canaries.
func (c *canaries) scanCluster() {
	disco, err := discovery.NewDiscoveryClientForConfig(testcluster.Start(c.T))
	require.NoError(c, err)
	lists, err := disco.ServerPreferredNamespacedResources()
	require.NoError(c, err)
	kinds, inSecrets := map[string]int{}, 0
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(c, err)
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") {
				continue
			}
			for _, environment := range []string{"development", "staging", "production"} {
				found, err := c.api.Resource(gv.WithResource(r.Name)).Namespace(c.namespace+"-"+environment).List(c.Context(), metav1.ListOptions{})
				if apierrors.IsNotFound(err) {
					continue // a kind of another test's, which has taken its definition away meanwhile
				}
				require.NoError(c, err, r.Name)
				kinds[r.Kind] += len(found.Items)
				for i := range found.Items {
					inSecrets += c.scanObject(&found.Items[i])
				}
			}
		}
	}
	c.Logf("looked at %v", kinds)
	for _, kind := range []string{"Secret", "ConfigMap", "Deployment", "ReplicaSet", "Pod", "Release", "Event", "HTTPRoute"} {
		assert.NotZero(c, kinds[kind], kind)
	}
	assert.Greater(c, inSecrets, 15, "canaries in the data of Secrets")
}

// scanObject returns how many canaries are in the data of a Secret.
func (c *canaries) scanObject(o *unstructured.Unstructured) (inSecret int) {
	if o.GetKind() == "Secret" {
		data, err := json.Marshal(o.Object["data"])
		require.NoError(c, err)
		inSecret = len(c.known.Find(data))
		delete(o.Object, "data")
	}
	text, err := json.Marshal(o.Object)
	require.NoError(c, err)
	assert.Empty(c, c.known.Find(text), "%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
	return inSecret
}
