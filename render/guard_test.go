package render

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// project is a small one. Text that starts with "-> " makes a symbolic link,
// "submodule" a submodule.
func project(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	add := func(p, text string) {
		f := &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			f.Data, f.Mode = []byte(target), fs.ModeSymlink|0o777
		} else if text == "submodule" {
			f.Data, f.Mode = nil, fs.ModeIrregular
		}
		m[p] = f
	}
	for p, text := range map[string]string{
		"sluice.yaml":                                        "kind: Project\n",
		"shared/kustomization.yaml":                          "resources: [cm.yaml]\n",
		"shared/cm.yaml":                                     configMap("shared"),
		"components/api/kustomization.yaml":                  "resources: [cm.yaml]\n",
		"components/api/cm.yaml":                             configMap("api"),
		"environments/production/secrets.env":                "TOKEN=canary\n",
		"environments/production/api/cm.yaml":                configMap("production"),
		"environments/development/api/cm.yaml":               configMap("development"),
		"environments/development/api/patch.yaml":            configMap("development"),
		"environments/production/api/kustomization.yaml":     "resources: [cm.yaml]\n",
		"environments/development/common/kustomization.yaml": "resources: [cm.yaml]\n",
		"environments/development/common/cm.yaml":            configMap("common"),
	} {
		add(p, text)
	}
	for p, text := range files {
		add(p, text)
	}
	return m
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {a: b}\n"
}

const overlayDir = "environments/development/api"

func development() envrepo.Release {
	return envrepo.Release{Name: "api", Dir: overlayDir,
		Environment: envrepo.Environment{Name: "development", Namespace: "shop-development"},
		Component:   envrepo.Component{Name: "api", Image: "registry.example.com/shop/api"}}
}

func assertHint(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = unwrap(err) {
		if h, ok := err.(interface{ Hint() string }); ok {
			assert.NotEmpty(t, h.Hint())
			assert.NotContains(t, h.Hint(), "\n")
			return
		}
	}
	assert.Fail(t, "no hint")
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}

// tripwires fail the test when anything is fetched or run.
func tripwires(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	for _, program := range []string{"git", "helm", "sh", "docker"} {
		script := "#!/bin/sh\necho " + program + " \"$@\" >> " + ran + "\nexit 1\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700))
	}
	old := os.Getenv("PATH")
	require.NoError(t, os.Setenv("PATH", dir))
	transport := http.DefaultTransport
	http.DefaultTransport = tripwire{t}
	t.Cleanup(func() {
		os.Setenv("PATH", old)
		http.DefaultTransport = transport
		if out, err := os.ReadFile(ran); err == nil {
			t.Errorf("a program was run: %s", out)
		}
	})
}

type tripwire struct{ t testing.TB }

func (w tripwire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.t.Errorf("%s was fetched", r.URL)
	return nil, fmt.Errorf("no network")
}

const overlayFile = overlayDir + "/kustomization.yaml"

// attack is a kustomization of environments/development/api that must not be built.
type attack struct {
	name          string
	kustomization string
	files         map[string]string
	want          string // after "rendering DIR: "
}

// attacks are all that the tests below try, for fuzzing.
func attacks() []attack {
	return slices.Concat(remoteInput, pathTraversal, anotherEnvironment, symbolicLinks, programs, endlessWork, mistakes)
}

// refuse builds attacks, none of which may come to anything.
func refuse(t *testing.T, attacks []attack) {
	t.Helper()
	tripwires(t)
	for _, tt := range attacks {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{overlayFile: tt.kustomization}
			for p, text := range tt.files {
				files[p] = text
			}
			res, err := Build(context.Background(), Request{FS: project(files), Release: development()})
			assert.Nil(t, res)
			assert.EqualError(t, err, "rendering "+overlayDir+": "+tt.want)
			assertHint(t, err)
		})
	}
}

// Whoever writes the repository must not have the controller fetch what they like:
// Kargo CVE-2026-32828 (a server-side request forgery), and Flux CVE-2021-41254, where
// the address of a base became a command of git.
func TestAttackRemoteInput(t *testing.T) { refuse(t, remoteInput) }

var remoteInput = []attack{
	{"URL", "resources:\n- cm.yaml\n- https://example.com/x.yaml\n", nil,
		overlayFile + `:3: resources: "https://example.com/x.yaml" is a URL or a remote location`},
	{"URL without slashes", "resources: ['http:example.com']\n", nil, overlayFile + `:1: resources: "http:example.com" is a URL or a remote location`},
	{"metadata service", "crds: ['HTTP://169.254.169.254/latest']\n", nil, overlayFile + `:1: crds: "HTTP://169.254.169.254/latest" is a URL or a remote location`},
	{"Git URL", "bases: ['git::https://example.com/x']\n", nil, overlayFile + `:1: bases: "git::https://example.com/x" is a URL or a remote location`},
	{"forced Git", "resources: ['git::github.com/a/b']\n", nil, overlayFile + `:1: resources: "git::github.com/a/b" is a URL or a remote location`},
	{"GitHub", "resources: ['GitHub.com/a/b?ref=main']\n", nil, overlayFile + `:1: resources: "GitHub.com/a/b?ref=main" is a remote Git repository`},
	{"GitHub without ref", "components: [github.com/a/b]\n", nil, overlayFile + `:1: components: "github.com/a/b" is a remote Git repository`},
	{"GitHub although the folder exists", "resources: [github.com/a/b]\n",
		map[string]string{overlayDir + "/github.com/a/b/kustomization.yaml": "namePrefix: x\n"},
		overlayFile + `:1: resources: "github.com/a/b" is a remote Git repository`},
	{"host and path", "resources: ['git@example.com:a/b']\n", nil, overlayFile + `:1: resources: "git@example.com:a/b" is a URL or a remote location`},
	{"user and host", "resources: ['git@example.com/a/b']\n", nil, overlayFile + `:1: resources: "git@example.com/a/b" is a remote Git repository`},
	{"SSH", "resources: ['ssh://git@example.com/a/b']\n", nil, overlayFile + `:1: resources: "ssh://git@example.com/a/b" is a URL or a remote location`},
	{"file URL", "resources: ['file:///etc/passwd']\n", nil, overlayFile + `:1: resources: "file:///etc/passwd" is a URL or a remote location`},
	{"double slash", "resources: ['x.git//base']\n", nil, overlayFile + `:1: resources: "x.git//base" looks like a remote Git repository`},
	{"query", "resources: ['base?ref=x']\n", nil, overlayFile + `:1: resources: "base?ref=x" looks like a remote Git repository`},
	{"URL of a patch", "patches:\n- path: https://example.com/p.yaml\n", nil, overlayFile + `:2: patches.path: "https://example.com/p.yaml" is a URL or a remote location`},
	{"URL of a merge patch", "patchesStrategicMerge:\n- https://example.com/p.yaml\n", nil,
		overlayFile + `:2: patchesStrategicMerge: "https://example.com/p.yaml" is a URL or a remote location`},
	{"URL of a JSON patch", "patchesJson6902:\n- target: {version: v1, kind: X, name: x}\n  path: https://example.com/p.yaml\n", nil,
		overlayFile + `:3: patchesJson6902.path: "https://example.com/p.yaml" is a URL or a remote location`},
	{"URL of a replacement", "replacements:\n- path: https://example.com/r.yaml\n", nil, overlayFile + `:2: replacements.path: "https://example.com/r.yaml" is a URL or a remote location`},
	{"URL of a configuration", "configurations: ['https://example.com/c.yaml']\n", nil, overlayFile + `:1: configurations: "https://example.com/c.yaml" is a URL or a remote location`},
	{"URL of a transformer", "transformers: ['https://example.com/t.yaml']\n", nil, overlayFile + `:1: transformers: "https://example.com/t.yaml" is a URL or a remote location`},
	{"URL of a file", "configMapGenerator:\n- name: x\n  files: ['a=https://example.com/f']\n", nil,
		overlayFile + `:3: configMapGenerator.files: "https://example.com/f" is a URL or a remote location`},
	{"URL of an env file", "secretGenerator:\n- name: x\n  envs: ['https://example.com/f']\n", nil,
		overlayFile + `:3: secretGenerator.envs: "https://example.com/f" is a URL or a remote location`},
	{"URL of the old env field", "secretGenerator:\n- name: x\n  env: https://example.com/f\n", nil,
		overlayFile + `:3: secretGenerator.env: "https://example.com/f" is a URL or a remote location`},
	{"field names in capitals", "RESOURCES: ['https://example.com/x']\n", nil, overlayFile + `:1: resources: "https://example.com/x" is a URL or a remote location`},
	{"a field twice", "resources: [cm.yaml]\nresources: ['https://example.com/x']\n", nil,
		overlayFile + `:2: resources: "https://example.com/x" is a URL or a remote location`},
	{"in a base", "resources: [../../../components/x]\n", map[string]string{"components/x/kustomization.yaml": "resources: ['https://example.com/x']\n"},
		`components/x/kustomization.yaml:1: resources: "https://example.com/x" is a URL or a remote location`},
}

// Files of the controller's host: Flux CVE-2022-24877, Argo CD CVE-2022-24348.
func TestAttackPathTraversal(t *testing.T) { refuse(t, pathTraversal) }

var pathTraversal = []attack{
	{"absolute path", "resources: [/etc/passwd]\n", nil, overlayFile + `:1: resources: "/etc/passwd" is an absolute path`},
	{"absolute path of a file", "secretGenerator:\n- name: x\n  files: [token=/var/run/secrets/token]\n", nil,
		overlayFile + `:3: secretGenerator.files: "/var/run/secrets/token" is an absolute path`},
	{"out of the project", "resources: [../../../../x]\n", nil, overlayFile + `:1: resources: "../../../../x" leads out of the project`},
	{"far out of the project", "configMapGenerator:\n- name: x\n  files: [../../../../../../../../etc/passwd]\n", nil,
		overlayFile + `:3: configMapGenerator.files: "../../../../../../../../etc/passwd" leads out of the project`},
	{"out and in again", "resources: [x/../../../../../etc]\n", nil, overlayFile + `:1: resources: "x/../../../../../etc" leads out of the project`},
	{"backslashes", `resources: ['..\..\..\x']` + "\n", nil, overlayFile + `:1: resources: "..\\..\\..\\x" holds a character that paths may not hold`},
	{"NUL", "resources: [\"cm.yaml\\0x\"]\n", nil, overlayFile + `:1: resources: "cm.yaml\x00x" holds a character that paths may not hold`},
	{"joined list items", "resources:\n- ../common\n - ../../x\n", map[string]string{"environments/development/common - ../x": "x"},
		overlayFile + `:2: resources: "../common - ../../x" does not exist`},
	{"empty path", "resources: ['']\n", nil, overlayFile + `:1: resources: is empty`},
}

// Files of another environment, its secrets first of all. The escape from a scope is that
// of Argo CD CVE-2023-22736.
func TestAttackAnotherEnvironment(t *testing.T) { refuse(t, anotherEnvironment) }

var anotherEnvironment = []attack{
	{"another environment", "resources: [../../production/api]\n", nil,
		overlayFile + `:1: resources: "../../production/api" is in another environment's folder`},
	{"another environment's file", "secretGenerator:\n- name: x\n  envs: [../../production/secrets.env]\n", nil,
		overlayFile + `:3: secretGenerator.envs: "../../production/secrets.env" is in another environment's folder`},
	{"another environment by a base", "resources: [../../../components/x]\n",
		map[string]string{"components/x/kustomization.yaml": "resources: [../../environments/production/api]\n"},
		`components/x/kustomization.yaml:1: resources: "../../environments/production/api" is in another environment's folder`},
	{"all environments", "resources: [../../../environments]\n", nil, overlayFile + `:1: resources: "../../../environments" is in another environment's folder`},
	{"neither its folder nor components", "resources: [../../../shared]\n", nil,
		overlayFile + `:1: resources: "../../../shared" is neither in environments/development nor in components`},
	{"a file beside", "resources: [../common/cm.yaml]\n", nil,
		overlayFile + `:1: resources: "../common/cm.yaml" is a file outside environments/development/api`},
}

// Links that lead elsewhere: Argo CD CVE-2022-24904 and CVE-2022-31036, go-git
// CVE-2026-71556.
func TestAttackSymbolicLinks(t *testing.T) { refuse(t, symbolicLinks) }

var symbolicLinks = []attack{
	{"symbolic link", "resources: [link.yaml]\n", map[string]string{overlayDir + "/link.yaml": "-> cm.yaml"},
		overlayFile + `:1: resources: "link.yaml" is or lies behind a symbolic link`},
	{"symbolic link to the host", "secretGenerator:\n- name: x\n  files: [t]\n", map[string]string{overlayDir + "/t": "-> /etc/passwd"},
		overlayFile + `:3: secretGenerator.files: "t" is or lies behind a symbolic link`},
	{"symbolic link of a folder", "resources: [link]\n", map[string]string{overlayDir + "/link": "-> ../../production/api"},
		overlayFile + `:1: resources: "link" is or lies behind a symbolic link`},
	{"behind a symbolic link", "resources: [link/cm.yaml]\n", map[string]string{overlayDir + "/link": "-> ../../production/api"},
		overlayFile + `:1: resources: "link/cm.yaml" is or lies behind a symbolic link`},
	{"symbolic link as kustomization", "-> ../../production/api/kustomization.yaml", nil, overlayFile + `: is or lies behind a symbolic link`},
	{"submodule", "resources: [module]\n", map[string]string{overlayDir + "/module": "submodule"},
		overlayFile + `:1: resources: "module" is or lies in a submodule`},
	{"LFS pointer", "resources: [big.yaml]\n", map[string]string{overlayDir + "/big.yaml": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"},
		overlayDir + `/big.yaml: is a Git LFS pointer, not the file`},
	{"LFS kustomization", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", nil, overlayFile + `: is a Git LFS pointer, not the file`},
}

// Programs of the repository's choice: Flux CVE-2021-41254 and CVE-2022-24817.
func TestAttackPrograms(t *testing.T) { refuse(t, programs) }

var programs = []attack{
	{"Helm chart", "helmCharts:\n- name: x\n  repo: https://example.com\n", nil, overlayFile + `:1: helmCharts: Helm charts are not rendered: the helm program would run`},
	{"Helm globals", "helmGlobals: {chartHome: /}\n", nil, overlayFile + `:1: helmGlobals: Helm charts are not rendered: the helm program would run`},
	{"old Helm field", "helmChartInflationGenerator:\n- chartName: x\n", nil,
		overlayFile + `:1: helmChartInflationGenerator: Helm charts are not rendered: the helm program would run`},
	{"generator plugin", "generators: [cm.yaml]\n", nil, overlayFile + `:1: generators: generator plugins are not run`},
	{"inline generator", "generators:\n- |-\n  apiVersion: builtin\n  kind: SecretGenerator\n  metadata: {name: x}\n  files: [/etc/passwd]\n", nil,
		overlayFile + `:1: generators: generator plugins are not run`},
	{"validator plugin", "validators: [cm.yaml]\n", nil, overlayFile + `:1: validators: validator plugins are not run`},
	{"transformer plugin", "transformers:\n- |-\n  apiVersion: example.com/v1\n  kind: Evil\n  metadata: {name: x, annotations: {config.kubernetes.io/function: 'exec: {path: /bin/sh}'}}\n", nil,
		overlayFile + `:2: transformers: transformer "example.com/v1" "Evil" is not run: only built-in ones that read no file are`},
	{"transformer plugin in a file", "transformers: [t.yaml]\n", map[string]string{overlayDir + "/t.yaml": "apiVersion: v1\nkind: Evil\nmetadata: {name: x}\n"},
		overlayDir + `/t.yaml: transformer "v1" "Evil" is not run: only built-in ones that read no file are`},
	{"transformer that fetches", "transformers:\n- |-\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: x}\n  path: https://example.com\n", nil,
		overlayFile + `:2: transformers: transformer "builtin" "PatchTransformer" is not run: only built-in ones that read no file are`},
	{"transformer hidden in a list", "transformers: [t.yaml]\n", map[string]string{overlayDir + "/t.yaml": "apiVersion: builtin\nkind: PrefixTransformerList\nitems:\n- apiVersion: builtin\n  kind: HelmChartInflationGenerator\n  metadata: {name: x}\n"},
		overlayDir + `/t.yaml: transformer "builtin" "HelmChartInflationGenerator" is not run: only built-in ones that read no file are`},
	{"transformers of a folder", "transformers: [../common]\n", nil, overlayFile + `:1: transformers: "../common" is a folder where a file is due`},
	{"openapi", "openapi: {path: schema.json}\nresources: [cm.yaml]\n", nil, overlayFile + `:1: openapi: is not supported: the schema is shared by all renders`},
	{"openapi in a base", "resources: [../common]\n", map[string]string{"environments/development/common/kustomization.yaml": "openapi: {version: v1.20.4}\n"},
		`environments/development/common/kustomization.yaml:1: openapi: is not supported: the schema is shared by all renders`},
}

// Work without end: Flux CVE-2022-24878, Argo CD CVE-2022-31016. Each of the aliases inside
// their anchors ends the process when it reaches Kustomize.
func TestAttackEndlessWork(t *testing.T) { refuse(t, endlessWork) }

var endlessWork = []attack{
	{"alias inside its anchor", "resources: [bomb.yaml]\n", map[string]string{overlayDir + "/bomb.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: &a\n  k: *a\n"},
		overlayDir + `/bomb.yaml:5: has an alias inside its own anchor`},
	{"alias inside its anchor of a patch", "resources: [cm.yaml]\npatches:\n- patch: |-\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: development}\n    data: &a\n      k: *a\n", nil,
		overlayFile + `:3: patches.patch: has an alias inside its own anchor`},
	{"alias inside its anchor of a merge patch", "resources: [cm.yaml]\npatchesStrategicMerge:\n- \"{apiVersion: v1, kind: ConfigMap, metadata: {name: development}, data: &a {k: *a}}\"\n", nil,
		overlayFile + `:3: patchesStrategicMerge: has an alias inside its own anchor`},
	{"alias inside its anchor of metadata", "resources: [bomb.yaml]\n", map[string]string{overlayDir + "/bomb.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: &a\n  name: x\n  labels: *a\n  annotations: *a\n"},
		overlayDir + `/bomb.yaml:5: has an alias inside its own anchor`},
	{"alias inside its anchor of a document", "resources: [bomb.yaml]\n", map[string]string{overlayDir + "/bomb.yaml": "&a {apiVersion: v1, kind: ConfigMap, metadata: *a, <<: *a}\n"},
		overlayDir + `/bomb.yaml:1: has an alias inside its own anchor`},
	{"alias inside its anchor of the kustomization", "&a\nresources: [cm.yaml]\nlabels: *a\n", nil,
		overlayFile + `: invalid Kustomization: yaml: anchor 'a' value contains itself`},
	{"recursive CRD", "resources: [cm.yaml]\ncrds: [crd.json]\n", map[string]string{overlayDir + "/crd.json": `{"A": {"Schema": {"properties": {"kind": {}, "apiVersion": {}, "metadata": {}, "x": {"$ref": "A"}}}}}`},
		overlayDir + `/crd.json: has definitions that refer to themselves or to too many others`},
	{"CRD in a circle", "resources: [cm.yaml]\ncrds: [crd.yaml]\n", map[string]string{overlayDir + "/crd.yaml": "A: {schema: {properties: {x: {$ref: B}}}}\nB: {schema: {properties: {x: {$ref: A}}}}\n"},
		overlayDir + `/crd.yaml: has definitions that refer to themselves or to too many others`},
	{"alias bomb", "resources: [bomb.yaml]\n", map[string]string{overlayDir + "/bomb.yaml": aliasBomb()},
		overlayDir + `/bomb.yaml:9: has more than 1000000 values, aliases expanded`},
	{"deep YAML", "resources: [deep.yaml]\n", map[string]string{overlayDir + "/deep.yaml": "a: " + strings.Repeat("[", 600) + strings.Repeat("]", 600)},
		overlayDir + `/deep.yaml:1: is nested deeper than 500 levels`},
	{"deep by aliases", "resources: [deep.yaml]\n", map[string]string{overlayDir + "/deep.yaml": "a: &a " + strings.Repeat("[", 300) + strings.Repeat("]", 300) + "\nb: " + strings.Repeat("[", 300) + "*a" + strings.Repeat("]", 300)},
		overlayDir + `/deep.yaml:2: is nested deeper than 500 levels`},
	{"replacement into itself", "resources: [cm.yaml]\nreplacements:\n- source: {kind: ConfigMap, name: development, fieldPath: data}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths: [data.x]\n    options: {create: true}\n", nil,
		overlayFile + `: replacements: replaces "data.x", which lies inside the source "data" of a replacement`},
	{"replacement into itself in a file", "resources: [cm.yaml]\nreplacements: [{path: r.yaml}]\n", map[string]string{overlayDir + "/r.yaml": "- source: {kind: ConfigMap, fieldPath: 'spec.list.[name=x]'}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths: ['spec.list.*.y']\n"},
		overlayFile + `: replacements: replaces "spec.list.*.y", which lies inside the source "spec.list.[name=x]" of a replacement`},
	{"copies in JSON patches", "resources: [cm.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |-\n    [" + strings.Repeat(`{"op": "copy", "from": "/data", "path": "/data/x"},`, 4) + `{"op": "copy", "from": "/data", "path": "/data/y"}]` + "\n", nil,
		overlayFile + `: includes more than 4 copy operations of JSON patches`},
	{"copies in YAML patches", "resources: [cm.yaml]\npatches:\n- {target: {kind: ConfigMap}, path: p.yaml}\n- {target: {kind: Secret}, path: p.yaml}\n", map[string]string{overlayDir + "/p.yaml": strings.Repeat("- {op: copy, from: /data, path: /data/x}\n", 3)},
		overlayFile + `: includes more than 4 copy operations of JSON patches`},
	{"copies by merge keys", "resources: [cm.yaml]\npatches:\n- {target: {kind: ConfigMap}, path: p.yaml}\n", map[string]string{overlayDir + "/p.yaml": "- &c {op: copy, from: /data, path: /data/x}\n" + strings.Repeat("- {<<: *c}\n", 4)},
		overlayFile + `: includes more than 4 copy operations of JSON patches`},
	{"recursive CRD behind a harmless one", "resources: [cm.yaml]\ncrds: [crd.json]\n", map[string]string{overlayDir + "/crd.json": "{\n\t\"A\": {\"Schema\": {\"properties\": {\"x\": {\"$ref\": \"A\"}}}, \"Schema\": {}}}"},
		overlayDir + `/crd.json: has definitions that refer to themselves or to too many others`},
	{"CRD with aliases", "resources: [cm.yaml]\ncrds: [crd.yaml]\n", map[string]string{overlayDir + "/crd.yaml": "A: &a {schema: {}}\nB: *a\n"}, overlayDir + `/crd.yaml: has YAML aliases`},
	{"long path of labels", "resources: [cm.yaml]\nlabels:\n- pairs: {a: b}\n  fields:\n  - path: " + strings.Repeat("x/", 100) + "y\n", nil,
		overlayFile + `:5: labels.fields.path: has a field path of more than 100 names`},
	{"long path of a replacement", "resources: [cm.yaml]\nreplacements:\n- source: {kind: ConfigMap}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths: [" + strings.Repeat("x.", 100) + "y]\n", nil,
		overlayFile + `: replacements: has a field path of more than 100 names`},
	{"long path of a configuration", "resources: [cm.yaml]\nconfigurations: [c.yaml]\n", map[string]string{overlayDir + "/c.yaml": "commonLabels: [{create: true, path: " + strings.Repeat("x/", 100) + "y}]\n"},
		overlayDir + `/c.yaml: has a field path of more than 100 names`},
	{"long path of a transformer", "resources: [cm.yaml]\ntransformers: [t.yaml]\n", map[string]string{overlayDir + "/t.yaml": "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: x}\nfieldSpecs: [{create: true, path: " + strings.Repeat("x/", 100) + "y}]\n"},
		overlayDir + `/t.yaml: has a field path of more than 100 names`},
	{"long image name", "resources: [cm.yaml]\nimages: [{name: " + strings.Repeat("x", 1025) + "}]\n", nil,
		overlayFile + `:2: images.name: "` + strings.Repeat("x", 200) + `…" is longer than 1024 bytes`},
	{"cycle", "resources: [../common]\n", map[string]string{"environments/development/common/kustomization.yaml": "resources: [../api]\n"},
		`environments/development/common/kustomization.yaml:1: resources: "../api" leads back to environments/development/api, which includes it`},
	{"itself", "resources: [.]\n", nil, overlayFile + `:1: resources: "." leads back to environments/development/api, which includes it`},
	{"its parent", "resources: [..]\n", nil, overlayFile + `:1: resources: ".." leads back to environments/development/api, which includes it`},
	{"too deep", "resources: [f0]\n", chain(overlayDir, 40),
		overlayDir + nested(30) + `/kustomization.yaml:1: resources: "f31" is included more than 32 levels deep`},
	{"includes without end", "resources: [../../../components/d0a, ../../../components/d0b]\n", diamonds(20),
		`components/d20a/kustomization.yaml: is one of more than 512 kustomizations that environments/development/api includes`},
	{"many paths", "configMapGenerator:\n- name: x\n  files: [" + strings.Repeat("cm.yaml,", 20_001) + "]\n", nil,
		overlayFile + `: brings the paths that environments/development/api includes to more than 20000`},
	{"large file", "resources: [big.yaml]\n", map[string]string{overlayDir + "/big.yaml": strings.Repeat("#", MaxFile+1)}, overlayDir + `/big.yaml: is larger than 5 MiB`},
	{"large kustomization", "# " + strings.Repeat("x", MaxConfig), nil, overlayFile + `: is larger than 256 KiB`},
	{"large configuration", "resources: [cm.yaml]\nconfigurations: [c.yaml]\n", map[string]string{overlayDir + "/c.yaml": "# " + strings.Repeat("x", MaxConfig)}, overlayDir + `/c.yaml: is larger than 256 KiB`},
	{"much together", "configMapGenerator:\n" + repeated("- name: x%d\n  files: [big]\n", 7), map[string]string{overlayDir + "/big": strings.Repeat("x", MaxFile)},
		overlayFile + `: includes files of more than 32 MiB together`},
	{"many objects", "resources: [many.yaml]\n", map[string]string{overlayDir + "/many.yaml": "apiVersion: v1\nkind: List\nitems:\n" + repeated("- {apiVersion: v1, kind: ConfigMap, metadata: {name: x%d}}\n", 1001)},
		overlayFile + `: includes more than 1000 objects`},
	{"JSON cannot hold it", "resources: [nan.yaml]\n", map[string]string{overlayDir + "/nan.yaml": configMap("x") + "spec: {a: .nan}\n"}, overlayDir + `/nan.yaml:5: has a number that JSON cannot hold`},
	{"a tag that lies", "resources: [t.yaml]\n", map[string]string{overlayDir + "/t.yaml": configMap("x") + "spec: {a: !!int canary}\n"}, overlayDir + `/t.yaml:5: has a value that its tag does not allow`},
	{"a name twice", "resources: [t.yaml]\n", map[string]string{overlayDir + "/t.yaml": configMap("x") + "---\n" + configMap("y") + "data: {c: d}\n"}, overlayDir + `/t.yaml:10: has a name twice in one mapping, first in line 9`},
}

// Plain mistakes are told as well.
func TestMistakes(t *testing.T) { refuse(t, mistakes) }

var mistakes = []attack{
	{"missing file", "resources: [cm.yaml, absent.yaml]\n", nil, overlayFile + `:1: resources: "absent.yaml" does not exist`},
	{"missing env file", "secretGenerator:\n- name: x\n  envs: [absent.env]\n", nil, overlayFile + `:3: secretGenerator.envs: "absent.env" does not exist`},
	{"folder as a file", "patches: [{path: ../common}]\n", nil, overlayFile + `:1: patches.path: "../common" is a folder where a file is due`},
	{"file as a folder", "components: [cm.yaml]\n", nil, overlayFile + `:1: components: "cm.yaml" is a file where a folder is due`},
	{"file as a parent", "resources: [cm.yaml/x]\n", nil, overlayFile + `:1: resources: "cm.yaml/x" does not exist`},
	{"folder without kustomization", "resources: [../../../components]\n", nil, `components: has no kustomization.yaml`},
	{"two kustomizations", "resources: [cm.yaml]\n", map[string]string{overlayDir + "/kustomization.yml": "resources: [cm.yaml]\n"},
		overlayDir + `/kustomization.yml: stands beside kustomization.yaml: a folder has one kustomization file`},
	{"three kustomizations", "resources: [cm.yaml]\n", map[string]string{overlayDir + "/Kustomization": "resources: [cm.yaml]\n"},
		overlayDir + `/Kustomization: stands beside kustomization.yaml: a folder has one kustomization file`},
	{"misspelt field", "resources: [cm.yaml]\nimges: []\n", nil, overlayFile + `:2: imges: is not a field of a kustomization`},
	{"misspelt inner field", "resources: [cm.yaml]\nimages:\n- name: x\n  newtagg: y\n", nil, overlayFile + `:4: newtagg: is not a field of a kustomization`},
	{"broken kustomization", "resources: [cm.yaml\n", nil, overlayFile + ":1: is not valid YAML: did not find expected ',' or ']'"},
	{"kustomization of a wrong type", "resources: cm.yaml\n", nil, overlayFile + ": invalid Kustomization: json: cannot unmarshal string into Go struct field Kustomization.resources of type []string"},
	{"broken resource", "resources: [b.yaml]\n", map[string]string{overlayDir + "/b.yaml": configMap("x") + "---\nkind: X\na: b: c\n"}, overlayDir + `/b.yaml:7: is not valid YAML: mapping values are not allowed in this context`},
	{"two equals signs", "configMapGenerator:\n- name: x\n  files: [a=b=c]\n", nil, overlayFile + `:3: configMapGenerator.files: "a=b=c" is not [KEY=]PATH`},
	{"empty CRD file", "crds: [c]\n", map[string]string{overlayDir + "/c": ""}, overlayDir + `/c: is empty`},
	{"CRD list", "crds: [c]\n", map[string]string{overlayDir + "/c": "[]"}, overlayDir + `/c: is not a mapping of OpenAPI definitions`},
	{"replacements of a wrong type", "replacements: [{path: r}]\n", map[string]string{overlayDir + "/r": "source: [x]"}, overlayDir + `/r: is neither a replacement nor a list of them`},
	{"configuration of a wrong type", "configurations: [c]\n", map[string]string{overlayDir + "/c": "[]"}, overlayDir + `/c: is not a transformer configuration`},
}

func aliasBomb() string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nx0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "x%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

// chain nests kustomizations.
func chain(dir string, n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		dir = fmt.Sprintf("%s/f%d", dir, i)
		files[dir+"/kustomization.yaml"] = fmt.Sprintf("resources: [f%d]\n", i+1)
	}
	return files
}

func nested(last int) string {
	var b strings.Builder
	for i := range last + 1 {
		fmt.Fprintf(&b, "/f%d", i)
	}
	return b.String()
}

// diamonds doubles the number of includes at each level.
func diamonds(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		for _, v := range []string{"a", "b"} {
			files[fmt.Sprintf("components/d%d%s/kustomization.yaml", i, v)] = fmt.Sprintf("namePrefix: %s\nresources: [../d%da, ../d%db]\n", v, i+1, i+1)
		}
	}
	for _, v := range []string{"a", "b"} {
		files[fmt.Sprintf("components/d%d%s/kustomization.yaml", n, v)] = "namePrefix: x\n"
	}
	return files
}

func repeated(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// What is harmless is not refused.
func TestGuardAllows(t *testing.T) {
	tests := map[string]struct {
		kustomization string
		files         map[string]string
		want          []string
	}{
		"own environment and components": {"resources: [../common, ../../../components/api, ./cm.yaml]\n", nil, []string{"ConfigMap api", "ConfigMap common", "ConfigMap development"}},
		"trailing slash":                 {"resources: [../common/]\n", nil, []string{"ConfigMap common"}},
		"odd names": {"configMapGenerator:\n- name: x\n  files: ['x=größe @+,1.txt', 'y=a b/c d']\n  options: {disableNameSuffixHash: true}\n",
			map[string]string{overlayDir + "/größe @+,1.txt": "x", overlayDir + "/a b/c d": "y"}, []string{"ConfigMap x"}},
		"dots in names":     {"resources: [a..b.yaml]\n", map[string]string{overlayDir + "/a..b.yaml": configMap("x")}, []string{"ConfigMap x"}},
		"kustomization.yml": {"resources: [sub]\n", map[string]string{overlayDir + "/sub/kustomization.yml": "resources: [x]\n", overlayDir + "/sub/x": configMap("x")}, []string{"ConfigMap x"}},
		"anchors and merges": {"resources: [a.yaml]\n", map[string]string{overlayDir + "/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: x}\ndata: &d {a: b}\nx: {<<: *d, c: d}\ny: *m\n"},
			[]string{"ConfigMap x"}},
		"built-in transformers": {"resources: [cm.yaml]\ntransformers:\n- t.yaml\n- |-\n  apiVersion: builtin\n  kind: SuffixTransformer\n  metadata: {name: x}\n  suffix: -s\n  fieldSpecs: [{path: metadata/name}]\n",
			map[string]string{overlayDir + "/t.yaml": "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: x}\nprefix: p-\nfieldSpecs: [{path: metadata/name}]\n"}, []string{"ConfigMap p-development-s"}},
		"crds and configurations": {"resources: [cm.yaml]\ncrds: [crd.json]\nconfigurations: [c.yaml]\nnamePrefix: p-\n",
			map[string]string{overlayDir + "/crd.json": `{"A": {"Schema": {"properties": {"kind": {}, "apiVersion": {}, "metadata": {"$ref": "M"}}}}, "M": {"Schema": {}}}`,
				overlayDir + "/c.yaml": "nameReference:\n- kind: ConfigMap\n  fieldSpecs: [{kind: X, path: spec/name}]\n"}, []string{"ConfigMap p-development"}},
		"a replacement of a value": {"resources: [cm.yaml, ../common]\nreplacements:\n- source: {kind: ConfigMap, name: common, fieldPath: data.a}\n  targets:\n  - select: {kind: ConfigMap, name: development}\n    fieldPaths: [data.a]\n- path: r.yaml\n",
			map[string]string{overlayDir + "/r.yaml": "source: {kind: ConfigMap, name: common}\ntargets:\n- select: {kind: ConfigMap, name: development}\n  fieldPaths: [data.n]\n  options: {create: true}\n"},
			[]string{"ConfigMap common", "ConfigMap development"}},
		"JSON patches":  {"resources: [cm.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |-\n    - {op: copy, from: /data/a, path: /data/b}\n", nil, []string{"ConfigMap development"}},
		"merge patches": {"resources: [cm.yaml]\npatchesStrategicMerge: [patch.yaml]\n", nil, []string{"ConfigMap development"}},
		"a base twice":  {"resources: [one, two]\n", map[string]string{overlayDir + "/one/kustomization.yaml": "namePrefix: a-\nresources: [../../../../components/api]\n", overlayDir + "/two/kustomization.yaml": "namePrefix: b-\nresources: [../../../../components/api]\n"}, []string{"ConfigMap a-api", "ConfigMap b-api"}},
	}
	tripwires(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{overlayFile: tt.kustomization}
			for p, text := range tt.files {
				files[p] = text
			}
			objects, err := Folder(context.Background(), project(files), overlayDir, nil)
			require.NoError(t, err)
			assert.Equal(t, tt.want, objectNames(objects))
		})
	}
}

func objectNames(objects []*unstructured.Unstructured) []string {
	var names []string
	for _, u := range objects {
		names = append(names, objectName(u))
	}
	return names
}

func TestFolderRefusesItsOwnPath(t *testing.T) {
	for dir, want := range map[string]string{
		"../x":                            "rendering ../x: ../x: is not a path in the project",
		"/etc":                            "rendering /etc: /etc: is not a path in the project",
		"absent":                          "rendering absent: absent: is not a folder",
		"components/api/cm.yaml":          "rendering components/api/cm.yaml: components/api/cm.yaml: is not a folder",
		"link":                            "rendering link: link: is or lies behind a symbolic link",
		"environments/development/nobody": "rendering environments/development/nobody: environments/development/nobody: is not a folder",
	} {
		_, err := Folder(context.Background(), project(map[string]string{"link": "-> components"}), dir, nil)
		assert.EqualError(t, err, want)
		assertHint(t, err)
	}
}

// A folder on its own may read what a release may not, but no other
// environment.
func TestFolderScope(t *testing.T) {
	fsys := project(map[string]string{overlayFile: "resources: [../../../shared]\n", "shared/kustomization.yaml": "resources: [cm.yaml]\n"})
	objects, err := Folder(context.Background(), fsys, overlayDir, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"ConfigMap shared"}, objectNames(objects))
	fsys = project(map[string]string{overlayFile: "resources: [../../production/api]\n"})
	_, err = Folder(context.Background(), fsys, overlayDir, nil)
	assert.EqualError(t, err, "rendering "+overlayDir+": "+overlayFile+`:1: resources: "../../production/api" is in another environment's folder`)
}

// On real files symbolic links are not followed either.
func TestGuardOnDisk(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/kustomization.yaml"), []byte("resources: [l/cm.yaml]\n"), 0o600))
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "cm.yaml"), []byte(configMap("x")), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "a/l")))
	_, err := Folder(context.Background(), os.DirFS(dir), "a", nil)
	assert.EqualError(t, err, `rendering a: a/kustomization.yaml:1: resources: "l/cm.yaml" is or lies behind a symbolic link`)
}

// recorder notes every file that is read.
type recorder struct {
	fstest.MapFS
	read map[string]bool
}

func (r recorder) ReadFile(name string) ([]byte, error) {
	r.read[name] = true
	return r.MapFS.ReadFile(name)
}

func (r recorder) Open(name string) (fs.File, error) {
	r.read[name] = true
	return r.MapFS.Open(name)
}

// Whatever a kustomization says, nothing panics, is run or fetched, and no
// file but the environment's own and components' is read.
func FuzzGuard(ff *testing.F) {
	f := mutants.New(ff)
	for _, tt := range attacks() {
		if len(tt.kustomization) < 4096 {
			f.Add([]byte(tt.kustomization), []byte(tt.files[overlayDir+"/t.yaml"]))
		}
	}
	tripwires(f)
	f.Fuzz(func(t *testing.T, kustomization, other []byte) {
		fsys := recorder{project(nil), map[string]bool{}}
		fsys.MapFS[overlayFile] = &fstest.MapFile{Data: kustomization}
		fsys.MapFS[overlayDir+"/t.yaml"] = &fstest.MapFile{Data: other}
		_, err := Build(context.Background(), Request{FS: fsys, Release: development()})
		if err != nil {
			assertHint(t, err)
		}
		for p := range fsys.read {
			if !below(p, "environments/development") && !below(p, componentsDir) {
				t.Errorf("%s was read", p)
			}
		}
		_, _ = InputClosure(fsys, development())
	})
}

// A hostile repository does not make the closure expensive either.
func TestInputClosureIsBounded(t *testing.T) {
	files := diamonds(20)
	for p := range files {
		files[p] += "configMapGenerator:\n- name: x\n  files: [" + repeated("absent%d,", 1000) + "]\n"
	}
	files[overlayFile] = "resources: [../../../components/d0a, ../../../components/d0b]\n"
	closure, err := InputClosure(project(files), development())
	require.Error(t, err)
	assert.Less(t, strings.Count(err.Error(), "\n"), 2*maxNoted)
	assert.Contains(t, closure.Paths, "components/d9b")
}

// What Kustomize reads as one document may be none to who looks for line numbers: that
// is found out once, and not for each of its errors.
func TestErrorsWithoutLinesAreBounded(t *testing.T) {
	allocations := func(references int) float64 {
		files := map[string]string{overlayFile: "resources: [" + repeated("absent%d,", references) + "]\n---\n'~!foo \n"}
		return testing.AllocsPerRun(3, func() {
			_, err := InputClosure(project(files), development())
			require.ErrorContains(t, err, "does not exist")
		})
	}
	assert.Less(t, allocations(1600), 8*allocations(400))
}
