package envrepo

import (
	"flag"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares the whole of a tree with a txtar file.
func golden(t *testing.T, name string, tree fs.FS) {
	t.Helper()
	archive := &txtar.Archive{}
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: data})
		return err
	}))
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, txtar.Format(archive), 0o644))
	}
	assert.Equal(t, readTestdata(t, name), string(txtar.Format(archive)))
}

const (
	recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	dotenv    = "DATABASE_URL=ENC[AES256_GCM,data:abc==,iv:def==,tag:ghi==,type:str]\nsops_version=3.13.3\n"
)

// newShop runs the scaffolds as a user would: init, components, two tags.
func newShop(t *testing.T) *Tree {
	t.Helper()
	tree := NewTree(fstest.MapFS{})
	ok := func(summary Summary, err error) {
		t.Helper()
		require.NoError(t, err)
		require.True(t, summary.Changed)
	}
	ok(Init(tree, "shop", []EnvironmentSpec{{Name: "development"}, {Name: "production", AgeRecipient: recipient}}))
	ok(AddComponent(tree, ComponentSpec{Name: "api", Image: image, Port: 8080, MaxReplicas: 10, Host: "api.{environment}.example.com",
		Required: []string{"DATABASE_URL"}, Optional: []string{"LOG_LEVEL"}}))
	ok(AddComponent(tree, ComponentSpec{Name: "web", Image: "registry.example.com/shop/web", Port: 3000, Gateway: "edge/public", Environments: []string{"development"}}))
	ok(RecordBuild(tree, Build{Component: "api", Digest: digestA}))
	ok(promoteOnly(tree, "api", "production"))
	const dir = "environments/production/api/"
	require.NoError(t, tree.WriteFile(dir+"secrets.env", []byte(dotenv)))
	overlay, err := tree.ReadFile(dir + "kustomization.yaml")
	require.NoError(t, err)
	require.NoError(t, tree.WriteFile(dir+"kustomization.yaml", append(overlay, "secretGenerator:\n- name: api-secrets # decrypted by sluice\n  envs: [secrets.env]\n"...)))
	ok(TagComponent(tree, "production", "api", []string{"blue", "green"}))
	return tree
}

// promoteOnly is Promote without what it says of the promotion.
func promoteOnly(tree *Tree, component, to string) (Summary, error) {
	p, err := Promote(tree, component, to, "", false, "")
	return p.Summary, err
}

func TestScaffolds(t *testing.T) {
	tree := newShop(t)
	golden(t, "scaffold.txtar", tree)
	require.NoError(t, fstest.TestFS(tree, "sluice.yaml"))

	repo, err := Open(tree)
	require.NoError(t, err)
	for env, names := range map[string][]string{"development": {"environment", "api", "web"}, "production": {"environment", "api"}} {
		got, err := repo.ReleaseNames(env)
		require.NoError(t, err)
		assert.Equal(t, names, got)
		for _, name := range names {
			_, err := repo.Release(env, name)
			require.NoError(t, err)
		}
	}
	secret, err := tree.ReadFile("environments/production/api/base/secrets.env")
	require.NoError(t, err)
	assert.Equal(t, dotenv, string(secret), "moved byte for byte: SOPS verifies it")
	rel, err := repo.Release("production", "api")
	require.NoError(t, err)
	assert.Equal(t, &Traffic{Weights: []Weight{{"blue", 100}}}, rel.Traffic)
	assert.Equal(t, []Tag{{Name: "blue", Dir: "environments/production/api/blue", Digest: digestA}, {Name: "green", Dir: "environments/production/api/green", Digest: digestA}}, rel.Tags)
}

type k8sObject struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec map[string]any
}

// kustomize builds a folder as `kubectl kustomize` does.
func kustomize(t *testing.T, tree fs.FS, dir string) []k8sObject {
	t.Helper()
	memory := filesys.MakeFsInMemory()
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		require.NoError(t, err)
		return memory.WriteFile("/"+name, data)
	}))
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/"+dir)
	require.NoError(t, err, dir)
	var objects []k8sObject
	for _, r := range resources.Resources() {
		var o k8sObject
		require.NoError(t, yaml.Unmarshal([]byte(r.MustYaml()), &o))
		objects = append(objects, o)
	}
	return objects
}

func find(t *testing.T, objects []k8sObject, kind, name string) k8sObject {
	t.Helper()
	for _, o := range objects {
		if o.Kind == kind && (o.Metadata.Name == name || strings.HasSuffix(name, "*") && strings.HasPrefix(o.Metadata.Name, strings.TrimSuffix(name, "*"))) {
			return o
		}
	}
	require.Fail(t, "not built", "%s %s", kind, name)
	return k8sObject{}
}

// dig follows fields and list indexes (as ints).
func dig(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch key := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			require.True(t, ok, "%v", step)
			v = m[key]
		case int:
			l, ok := v.([]any)
			require.True(t, ok && key < len(l), "%v", step)
			v = l[key]
		}
	}
	return v
}

// The layout that the design promises: every folder builds, and names,
// selectors and references of a tag are its own.
func TestScaffoldsBuild(t *testing.T) {
	tree := newShop(t)
	var dirs []string
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if path.Base(name) == kustomizationFile {
			dirs = append(dirs, path.Dir(name))
		}
		return err
	}))
	assert.Equal(t, []string{"components/api", "components/api/shared", "components/web", "components/web/shared",
		"environments/development/api", "environments/development", "environments/development/web",
		"environments/production/api/base", "environments/production/api/blue", "environments/production/api/green",
		"environments/production/api", "environments/production"}, dirs)
	for _, dir := range dirs {
		for _, o := range kustomize(t, tree, dir) {
			env := strings.Split(dir+"/", "/")[1]
			if strings.HasPrefix(dir, "environments/") && path.Base(dir) != "base" && o.Kind != "Namespace" {
				assert.Equal(t, "shop-"+env, o.Metadata.Namespace, "%s %s", dir, o.Kind)
			}
		}
	}

	untagged := kustomize(t, tree, "environments/development/api")
	tops := kustomize(t, tree, "environments/production/api")
	names := func(objects []k8sObject) (list []string) {
		for _, o := range objects {
			list = append(list, o.Kind+" "+o.Metadata.Name)
		}
		slices.Sort(list)
		return list
	}
	config := find(t, untagged, "ConfigMap", "api-config-*").Metadata.Name
	assert.Equal(t, []string{"ConfigMap " + config, "Deployment api", "HTTPRoute api", "HorizontalPodAutoscaler api",
		"NetworkPolicy api", "PodDisruptionBudget api", "Service api", "ServiceAccount api"}, names(untagged))
	assert.Equal(t, []string{"HTTPRoute api", "NetworkPolicy api", "Service api", "ServiceAccount api"}, names(tops))

	labels := func(name, instance, tag string) map[string]any {
		l := map[string]any{"app.kubernetes.io/name": name, "app.kubernetes.io/instance": instance}
		if tag != "" {
			l["sluice.dev/tag"] = tag
		}
		return l
	}
	assert.Equal(t, labels("api", "api", ""), dig(t, find(t, untagged, "Service", "api").Spec, "selector"))
	assert.Equal(t, labels("api", "api-blue", ""), dig(t, find(t, tops, "Service", "api").Spec, "selector"))
	assert.Equal(t, image+"@"+digestA, dig(t, find(t, untagged, "Deployment", "api").Spec, "template", "spec", "containers", 0, "image"))
	for _, tag := range []string{"blue", "green"} {
		objects := kustomize(t, tree, "environments/production/api/"+tag)
		own := labels("api", "api-"+tag, tag)
		config := find(t, objects, "ConfigMap", "api-config-"+tag+"-*").Metadata.Name
		secret := find(t, objects, "Secret", "api-secrets-"+tag+"-*").Metadata.Name
		assert.Equal(t, []string{"ConfigMap " + config, "Deployment api-" + tag, "HorizontalPodAutoscaler api-" + tag,
			"PodDisruptionBudget api-" + tag, "Secret " + secret, "Service api-" + tag}, names(objects))
		deployment := find(t, objects, "Deployment", "api-"+tag).Spec
		assert.Equal(t, own, dig(t, deployment, "selector", "matchLabels"))
		assert.Equal(t, own, dig(t, deployment, "template", "metadata", "labels"))
		assert.Equal(t, own, dig(t, deployment, "template", "spec", "topologySpreadConstraints", 0, "labelSelector", "matchLabels"))
		assert.Equal(t, own, dig(t, find(t, objects, "Service", "api-"+tag).Spec, "selector"))
		assert.Equal(t, own, dig(t, find(t, objects, "PodDisruptionBudget", "api-"+tag).Spec, "selector", "matchLabels"))
		assert.Equal(t, "api-"+tag, dig(t, find(t, objects, "HorizontalPodAutoscaler", "api-"+tag).Spec, "scaleTargetRef", "name"))
		assert.Equal(t, image+"@"+digestA, dig(t, deployment, "template", "spec", "containers", 0, "image"))
		assert.Equal(t, config, dig(t, deployment, "template", "spec", "containers", 0, "envFrom", 0, "configMapRef", "name"))
		assert.Equal(t, secret, dig(t, deployment, "template", "spec", "containers", 0, "envFrom", 1, "secretRef", "name"))
		assert.Equal(t, "api", dig(t, deployment, "template", "spec", "serviceAccountName"), "shared, and not renamed")
	}
}

func TestInit(t *testing.T) {
	const sluice = "sluice.yaml"
	tree := NewTree(fstest.MapFS{"README.md": {Data: []byte("mine")}})
	summary, err := Init(tree, "shop", nil)
	require.NoError(t, err)
	assert.Equal(t, Summary{Message: "start project shop", Changed: true, Notes: []string{"README.md exists already and was left alone"}}, summary)
	repo, err := Open(tree)
	require.NoError(t, err)
	var order []string
	for _, e := range repo.Project().Environments {
		order = append(order, e.Name+" "+e.Namespace+" "+e.Promotion.From)
	}
	assert.Equal(t, []string{"development shop-development ", "staging shop-staging development", "production shop-production staging"}, order)
	text, err := tree.ReadFile(sluice)
	require.NoError(t, err)
	assert.Contains(t, string(text), "    from: development\n    gates: {healthy: true, config: true}\n")
	assert.Contains(t, string(text), "    from: staging\n    gates: {healthy: true, soak: 30m, config: true}\n")
	_, err = tree.Stat(sopsFile)
	require.ErrorIs(t, err, fs.ErrNotExist)

	for _, test := range []struct {
		name         string
		base         fstest.MapFS
		project      string
		environments []EnvironmentSpec
		want         string
	}{
		{"project name", nil, "Shop!", nil, "error: project name \"Shop!\" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit\n"},
		{"again", shop(t), "shop", nil, "error: sluice.yaml: exists already: this is a project\nhint: add to it with `sluice environment add` and `sluice component add`\n"},
		{"environment name", nil, "shop", []EnvironmentSpec{{Name: "Dev"}}, "error: environment name \"Dev\" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit\n"},
		{"environment twice", nil, "shop", []EnvironmentSpec{{Name: "a"}, {Name: "a"}}, "error: environments/a/kustomization.yaml: exists already\nhint: move it away first\n"},
		{"shared namespace", nil, "shop", []EnvironmentSpec{{Name: "a", Namespace: "n"}, {Name: "b", Namespace: "n"}},
			"error: sluice.yaml:10: environments[1].namespace \"n\" is already the namespace of environment a: a and b share it\nhint: give every environment a namespace of its own: two in one would prune each other's objects\n"},
		{"namespace", nil, "shop", []EnvironmentSpec{{Name: "a", Namespace: "-"}}, "error: namespace \"-\" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit\n"},
		{"private key", nil, "shop", []EnvironmentSpec{{Name: "a", AgeRecipient: "AGE-SECRET-KEY-1QQQQQ"}},
			"error: the age recipient of environment a is not one\nhint: a recipient starts with age1; a key that starts with AGE-SECRET-KEY- is private and belongs in no repository\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, outcome(t, test.base, func(tree *Tree) (Summary, error) { return Init(tree, test.project, test.environments) }))
		})
	}
}

// An image that is pulled by another name stays so in every tag.
func TestTagsKeepNewName(t *testing.T) {
	tree := newShop(t)
	const overlay = "environments/development/api/"
	text, err := tree.ReadFile(overlay + "kustomization.yaml")
	require.NoError(t, err)
	require.NoError(t, tree.WriteFile(overlay+"kustomization.yaml", []byte(strings.Replace(string(text), "  digest: ", "  newName: mirror.example.com/api\n  digest: ", 1))))
	_, err = TagComponent(tree, "development", "api", []string{"blue"})
	require.NoError(t, err)
	_, err = Deploy(tree, "development", "api", digestA, "green", false)
	require.NoError(t, err)
	for _, tag := range []string{"blue", "green"} {
		deployment := find(t, kustomize(t, tree, overlay+tag), "Deployment", "api-"+tag)
		assert.Equal(t, "mirror.example.com/api@"+digestA, dig(t, deployment.Spec, "template", "spec", "containers", 0, "image"))
	}
}

// Names that YAML takes for something else than text.
func TestInitWithOddNames(t *testing.T) {
	tree := NewTree(fstest.MapFS{})
	_, err := Init(tree, "null", []EnvironmentSpec{{Name: "1"}, {Name: "on"}, {Name: "true", Namespace: "1e3"}})
	require.NoError(t, err)
	_, err = AddComponent(tree, ComponentSpec{Name: "yes", Image: "no", Port: 80, Host: "1"})
	require.NoError(t, err)
	_, err = RecordBuild(tree, Build{Component: "yes", Digest: digestA})
	require.NoError(t, err)
	_, err = TagComponent(tree, "1", "yes", []string{"2026-01-01", "1e3", "off"})
	require.NoError(t, err)
	_, err = SetTraffic(tree, "1", "yes", Traffic{Weights: []Weight{{"1e3", 50}, {"off", 50}}})
	require.NoError(t, err)
	repo, err := Open(tree)
	require.NoError(t, err)
	rel, err := repo.Release("1", "yes")
	require.NoError(t, err)
	assert.Equal(t, &Traffic{Weights: []Weight{{"1e3", 50}, {"off", 50}}}, rel.Traffic)
	for _, dir := range []string{"environments/on/yes", "environments/true/yes", "environments/1/yes", "environments/1/yes/2026-01-01", "environments/1/yes/1e3", "environments/1/yes/off"} {
		kustomize(t, tree, dir)
	}
	assert.Equal(t, "yes-off", find(t, kustomize(t, tree, "environments/1/yes/off"), "Deployment", "yes-off").Spec["selector"].(map[string]any)["matchLabels"].(map[string]any)[instanceLabel])
}

func TestAddEnvironment(t *testing.T) {
	const rules = "creation_rules:\n    - path_regex: environments/production/\n      age: age1x # us\n"
	for _, test := range []struct {
		name    string
		changes []string
		spec    EnvironmentSpec
		want    string
	}{
		{"to a project", nil, EnvironmentSpec{Name: "demo", Gates: &Gates{Checks: []string{"trivy"}}}, `
add environment demo
note: it comes after production; its place in sluice.yaml is its place in the order
sluice.yaml
+- name: demo
+  namespace: shop-demo
+  promotion:
+    from: production
+    gates: {healthy: false, checks: [trivy], config: false}
`},
		{"with a recipient", []string{".sops.yaml", rules}, EnvironmentSpec{Name: "demo", Namespace: "d", AgeRecipient: recipient}, `
add environment demo
note: it comes after production; its place in sluice.yaml is its place in the order
.sops.yaml
+    - path_regex: environments/demo/.*\.ya?ml$
+      encrypted_regex: ^(data|stringData)$
+      age: RECIPIENT
+    - path_regex: environments/demo/
+      age: RECIPIENT
sluice.yaml
+- name: demo
+  namespace: d
+  promotion:
+    from: production
+    gates: {healthy: true, soak: 30m, config: true}
`},
		{"rules elsewhere", []string{".sops.yaml", "stores: {}\n"}, EnvironmentSpec{Name: "demo", AgeRecipient: recipient}, `
add environment demo
note: it comes after production; its place in sluice.yaml is its place in the order
note: .sops.yaml has no list creation_rules: add the recipient there yourself
sluice.yaml
+- name: demo
+  namespace: shop-demo
+  promotion:
+    from: production
+    gates: {healthy: true, soak: 30m, config: true}
`},
		{"in flow style", []string{"sluice.yaml", header + "Project\nmetadata: {name: shop}\nenvironments: [{name: a, namespace: a}] # all\n"}, EnvironmentSpec{Name: "demo"}, `
add environment demo
note: it comes after a; its place in sluice.yaml is its place in the order
sluice.yaml
-environments: [{name: a, namespace: a}] # all
+environments: [{name: a, namespace: a}, {name: demo, namespace: shop-demo, promotion: {from: a, gates: {healthy: true, soak: 30m, config: true}}}] # all
`},
		{"known", nil, EnvironmentSpec{Name: "staging"}, `
error: environment staging exists already
hint: choose another name
`},
		{"in another's namespace", nil, EnvironmentSpec{Name: "demo", Namespace: "shop-staging"}, `
error: sluice.yaml:22: environments[3].namespace "shop-staging" is already the namespace of environment staging: staging and demo share it
hint: give every environment a namespace of its own: two in one would prune each other's objects
`},
		{"folder in the way", []string{"environments/demo/namespace.yaml", "x"}, EnvironmentSpec{Name: "demo"}, `
error: environments/demo/namespace.yaml: exists already
hint: move it away first
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := shop(t, test.changes...)
			got := outcome(t, base, func(tree *Tree) (Summary, error) {
				summary, err := AddEnvironment(tree, test.spec)
				if err == nil { // the environment's own objects are in the golden file
					for _, name := range []string{"kustomization", "namespace", "networkpolicy", "quota", "serviceaccount"} {
						require.NoError(t, tree.Remove("environments/demo/"+name+".yaml"))
					}
				}
				return summary, err
			})
			assert.Equal(t, trim(test.want), strings.ReplaceAll(got, recipient, "RECIPIENT"))
		})
	}
}

const legacyDeployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: old}
spec:
  selector: {matchLabels: {app: old}}
  template:
    metadata:
      labels: {app: old}
    spec:
      containers:
      - name: old
        image: registry.example.com:5000/shop/old:v7@sha256:1
        envFrom: [{configMapRef: {name: old-config}}]
`

const legacyService = "apiVersion: v1\nkind: Service\nmetadata: {name: old}\nspec: {selector: {app: old}, ports: [{port: 8000, nodePort: 30000, targetPort: 1}]}\n"

func TestAddComponentFromManifests(t *testing.T) {
	spec := ComponentSpec{Name: "old", Environments: []string{"staging"}, Manifests: map[string][]byte{
		"app.yaml":     []byte(legacyDeployment + "---\n" + legacyService),
		"account.yaml": []byte("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: old}\n"),
		"mixed.yaml":   []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n"),
		"notes.txt":    []byte("notes"),
	}}
	got := outcome(t, shop(t), func(tree *Tree) (Summary, error) { return AddComponent(tree, spec) })
	assert.Equal(t, trim(`
add component old
note: PersistentVolumeClaim data exists once however many tags run: move it from components/old/mixed.yaml to shared/ before `+"`sluice component tag`"+`
new components/old/app.yaml
`+indentLines("+", legacyDeployment+"---\n"+legacyService)+`new components/old/component.yaml
+apiVersion: sluice.dev/v1alpha1
+kind: Component
+metadata: {name: old}
+image: registry.example.com:5000/shop/old # the image name that overlays pin
+healthTimeout: 5m
new components/old/kustomization.yaml
+# What runs once for each deployment of the component.
+apiVersion: kustomize.config.k8s.io/v1beta1
+kind: Kustomization
+resources: [app.yaml, mixed.yaml]
new components/old/mixed.yaml
+apiVersion: v1
+kind: ConfigMap
+metadata: {name: x}
+---
+apiVersion: v1
+kind: PersistentVolumeClaim
+metadata: {name: data}
new components/old/notes.txt
+notes
new components/old/shared/account.yaml
+apiVersion: v1
+kind: ServiceAccount
+metadata: {name: old}
new components/old/shared/kustomization.yaml
+# What exists once, however many deployments of the component run side by side.
+apiVersion: kustomize.config.k8s.io/v1beta1
+kind: Kustomization
+resources: [account.yaml]
new environments/staging/old/config.env
+# Plain configuration, one NAME=value a line. Secrets belong in secrets.env, encrypted with SOPS:
+#   secretGenerator: [{name: old-secrets, envs: [secrets.env]}]
new environments/staging/old/kustomization.yaml
+apiVersion: kustomize.config.k8s.io/v1beta1
+kind: Kustomization
+namespace: shop-staging
+resources: [../../../components/old, ../../../components/old/shared, route.yaml]
+images:
+- name: registry.example.com:5000/shop/old # deployments and promotions pin the digest
+configMapGenerator:
+- name: old-config
+  envs: [config.env]
new environments/staging/old/route.yaml
+apiVersion: gateway.networking.k8s.io/v1
+kind: HTTPRoute
+metadata: {name: old}
+spec:
+  parentRefs: [{name: shop}]
+  rules:
+  - backendRefs: [{name: old, port: 8000}]
`), got)

	// With a kustomization of its own nothing is rearranged.
	spec.Manifests = map[string][]byte{
		"kustomization.yaml": []byte("resources: [deep/app.yaml]\n"),
		"deep/app.yaml":      []byte(strings.Replace(legacyDeployment, "        envFrom: [{configMapRef: {name: old-config}}]\n", "", 1)),
		"deep/extra.yaml":    []byte("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: old}\n"),
	}
	tree := NewTree(shop(t))
	_, err := AddComponent(tree, spec)
	require.NoError(t, err)
	var names []string
	for name := range tree.Writes() {
		names = append(names, name)
	}
	slices.Sort(names)
	assert.Equal(t, []string{"components/old/component.yaml", "components/old/deep/app.yaml", "components/old/deep/extra.yaml",
		"components/old/kustomization.yaml", "environments/staging/old/kustomization.yaml"}, names, "no Service: no route; no use of old-config: no config.env")
	kustomize(t, tree, "environments/staging/old")
}

func TestAddComponentToMoreEnvironments(t *testing.T) {
	tree := newShop(t)
	summary, err := AddComponent(tree, ComponentSpec{Name: "web"})
	require.NoError(t, err)
	assert.Equal(t, "add component web to production", summary.Message)
	kustomize(t, tree, "environments/production/web")
	_, err = AddComponent(tree, ComponentSpec{Name: "web"})
	require.EqualError(t, err, "component web exists already, in every environment")
}

func TestAddComponentErrors(t *testing.T) {
	manifests := func(files ...string) map[string][]byte {
		m := map[string][]byte{}
		for i := 0; i < len(files); i += 2 {
			m[files[i]] = []byte(files[i+1])
		}
		return m
	}
	two := legacyDeployment + "---\n" + strings.Replace(legacyDeployment, "image: registry.example.com:5000/shop/old:v7@sha256:1", "image: sidecar:v1", 1)
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {PASSWORD: hunter2}\n"
	for _, test := range []struct {
		name    string
		changes []string
		spec    ComponentSpec
		want    string
	}{
		{"name", nil, ComponentSpec{Name: "environment", Image: "a", Port: 1}, "error: component name \"environment\" is reserved for the environment's own objects\n"},
		{"image with tag", nil, ComponentSpec{Name: "c", Image: "a:v1", Port: 1}, "error: image \"a:v1\" must be an image name without tag\nhint: write the name alone: the overlays pin the digest\n"},
		{"no port", nil, ComponentSpec{Name: "c", Image: "a"}, "error: port 0 is not between 1 and 65535\nhint: give the port that the container listens on with --port, or existing manifests\n"},
		{"replicas", nil, ComponentSpec{Name: "c", Image: "a", Port: 1, Replicas: -1}, "error: replicas must be between 1 and 1000\n"},
		{"unknown environment", nil, ComponentSpec{Name: "c", Image: "a", Port: 1, Environments: []string{"stage"}}, "error: unknown environment \"stage\"\nhint: known environments: development, staging, production\n"},
		{"known", nil, ComponentSpec{Name: "web", Image: "a", Port: 1}, "error: component web exists already\nhint: leave image, port and manifests away to add it to more environments\n"},
		{"known there", nil, ComponentSpec{Name: "web", Environments: []string{"development"}}, "error: environments/development/web exists already\nhint: leave that environment away, or remove the folder\n"},
		{"named as a tag's Service", nil, ComponentSpec{Name: "api-blue", Image: "a", Port: 1},
			"error: component api-blue would share its Service's name with api (tag blue) in production\nhint: choose another name for the component\n"},
		{"host", nil, ComponentSpec{Name: "c", Image: "a", Port: 1, Host: "a b"}, "error: host \"a b\" is not a host name\n"},
		{"gateway", nil, ComponentSpec{Name: "c", Image: "a", Port: 1, Gateway: "a/b/c"}, "error: gateway \"a/b/c\" is not the name of one\nhint: give its name, or namespace/name\n"},
		{"contract", nil, ComponentSpec{Name: "c", Image: "a", Port: 1, Required: []string{"A B"}},
			"error: components/c/component.yaml:5: config.required[0] \"A B\" must be the name of an environment variable or a key\n"},
		{"folder in the way", []string{"components/c/service.yaml", "x"}, ComponentSpec{Name: "c", Image: "a", Port: 1}, "error: components/c/service.yaml: exists already\nhint: move it away first\n"},
		{"manifest path", nil, ComponentSpec{Name: "c", Manifests: manifests("../x.yaml", "")}, "error: manifest \"../x.yaml\": must be a path below the component's folder, other than component.yaml\n"},
		{"kustomization by another name", nil, ComponentSpec{Name: "c", Manifests: manifests("kustomization.yml", "")}, "error: manifest \"kustomization.yml\": only kustomization.yaml is read\nhint: rename it to kustomization.yaml\n"},
		{"not YAML", nil, ComponentSpec{Name: "c", Manifests: manifests("x.yaml", "a: [")}, "error: components/c/x.yaml:2: parsing YAML: did not find expected node content\n"},
		{"no object", nil, ComponentSpec{Name: "c", Manifests: manifests("x.yaml", "---\na: b\n")}, "error: components/c/x.yaml:2: is not a Kubernetes object: it has no kind\n"},
		{"a list", nil, ComponentSpec{Name: "c", Manifests: manifests("x.yaml", "kind: List\nitems: []\n")}, "error: components/c/x.yaml:1: holds a List\nhint: write its items as documents of their own, separated by ---\n"},
		{"plain secret", nil, ComponentSpec{Name: "c", Manifests: manifests("d.yaml", legacyDeployment, "x.yaml", secret)},
			"error: components/c/x.yaml:1: Secret x is in plain text\nhint: encrypt the file with sops, or leave it out and generate the Secret in each environment\n"},
		{"no workload", nil, ComponentSpec{Name: "c", Image: "a", Manifests: manifests("x.yaml", legacyService)}, "error: no Deployment or StatefulSet of the manifests runs the image a\nhint: the images that they run: \n"},
		{"another image", nil, ComponentSpec{Name: "c", Image: "registry.example.com:5000/shop/olt", Manifests: manifests("x.yaml", legacyDeployment)},
			"error: no Deployment or StatefulSet of the manifests runs the image registry.example.com:5000/shop/olt (did you mean \"registry.example.com:5000/shop/old\"?)\nhint: the images that they run: registry.example.com:5000/shop/old\n"},
		{"several images", nil, ComponentSpec{Name: "c", Manifests: manifests("x.yaml", two)}, "error: the manifests run 2 images: registry.example.com:5000/shop/old, sidecar\nhint: name the component's image with --image\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) { return AddComponent(tree, test.spec) }))
		})
	}
}

// taggable is a project whose component could be tagged, with an overlay as a
// user would have extended it.
func taggable(t *testing.T, changes ...string) fstest.MapFS {
	t.Helper()
	fsys := fstest.MapFS{}
	tree := NewTree(fsys)
	_, err := Init(tree, "shop", []EnvironmentSpec{{Name: "production"}})
	require.NoError(t, err)
	_, err = AddComponent(tree, ComponentSpec{Name: "api", Image: image, Port: 8080})
	require.NoError(t, err)
	const dir = "environments/production/api/"
	for name, text := range map[string]string{
		dir + "kustomization.yaml": `# the API in production
namespace: shop-production   # its own
resources:
  # the component
  - ../../../components/api
  - ../../../components/api/shared
  - route.yaml # the way in
  - extra.yaml
  - cron
images:
  - name: envoy
    newTag: v1
  - digest: ` + digestA + `
    name: registry.example.com/shop/api
patches:
  - path: patch.yaml
  - path: ../../common/patch.yaml
configMapGenerator:
  - name: api-config
    envs: [config.env]
    files: [motd=../../common/motd.txt, motd.txt]
`,
		dir + "extra.yaml":              "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n",
		dir + "cron/kustomization.yaml": "resources: [job.yaml]\n",
		dir + "cron/job.yaml":           "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: cron}\n",
		dir + "patch.yaml":              "{}",
		dir + "README.md":               "stays",
		dir + "motd.txt":                "hello\r\n",
	} {
		require.NoError(t, tree.WriteFile(name, []byte(text)))
	}
	for name, data := range tree.Writes() {
		fsys[name] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
	for i := 0; i < len(changes); i += 2 {
		fsys[changes[i]] = &fstest.MapFile{Data: []byte(changes[i+1]), Mode: 0o644}
		if changes[i+1] == "-" {
			delete(fsys, changes[i])
		}
	}
	return fsys
}

func TestTagComponent(t *testing.T) {
	const dir = "environments/production/api/"
	got := outcome(t, taggable(t), func(tree *Tree) (Summary, error) {
		summary, err := TagComponent(tree, "production", "api", []string{"blue"})
		if err == nil { // in the golden file
			require.NoError(t, tree.Remove(dir+"blue"))
		}
		return summary, err
	})
	assert.Equal(t, trim(`
tag api in production as blue
note: patches moved to base/: it no longer applies to the route and to what exists once
new environments/production/api/base/config.env
+# Plain configuration, one NAME=value a line. Secrets belong in secrets.env, encrypted with SOPS:
+#   secretGenerator: [{name: api-secrets, envs: [secrets.env]}]
new environments/production/api/base/cron/job.yaml
+apiVersion: batch/v1
+kind: CronJob
+metadata: {name: cron}
new environments/production/api/base/cron/kustomization.yaml
+resources: [job.yaml]
new environments/production/api/base/extra.yaml
+apiVersion: v1
+kind: ConfigMap
+metadata: {name: extra}
new environments/production/api/base/kustomization.yaml
+# the API in production
+resources:
+  # the component
+  - ../../../../components/api
+  - extra.yaml
+  - cron
+images:
+  - name: envoy
+    newTag: v1
+patches:
+  - path: patch.yaml
+  - path: ../../../common/patch.yaml
+configMapGenerator:
+  - name: api-config
+    envs: [config.env]
+    files: [motd=../../../common/motd.txt, motd.txt]
new environments/production/api/base/motd.txt
+hello`+"\r"+`
new environments/production/api/base/patch.yaml
+{}
deleted environments/production/api/config.env
deleted environments/production/api/cron/job.yaml
deleted environments/production/api/cron/kustomization.yaml
deleted environments/production/api/extra.yaml
environments/production/api/kustomization.yaml
-# the API in production
-namespace: shop-production   # its own
-resources:
-  # the component
-  - ../../../components/api
-  - ../../../components/api/shared
-  - route.yaml # the way in
-  - extra.yaml
-  - cron
-images:
-  - name: envoy
-    newTag: v1
-  - digest: DIGEST-A
-    name: registry.example.com/shop/api
-patches:
-  - path: patch.yaml
-  - path: ../../common/patch.yaml
-configMapGenerator:
-  - name: api-config
-    envs: [config.env]
-    files: [motd=../../common/motd.txt, motd.txt]
+# What exists once; the tags stand in their own folders beside it.
+apiVersion: kustomize.config.k8s.io/v1beta1
+kind: Kustomization
+namespace: shop-production
+resources: [../../../components/api/shared, route.yaml, service.yaml]
deleted environments/production/api/motd.txt
deleted environments/production/api/patch.yaml
new environments/production/api/service.yaml
+# For callers inside the cluster. Sluice points it at the tag with the largest weight.
+apiVersion: v1
+kind: Service
+metadata: {name: api}
+spec:
+  selector: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api-blue}
+  ports:
+  - {name: http, port: 80, targetPort: http}
new environments/production/api/traffic.yaml
+# Percent of the requests for each tag; they sum to 100. 0: its pods run, without production traffic. Absent: scaled to zero.
+apiVersion: sluice.dev/v1alpha1
+kind: Traffic
+weights: {blue: 100}
`), got)
}

func TestTagComponentErrors(t *testing.T) {
	const dir = "environments/production/api/"
	overlay := func(resources string) string { return "resources: " + resources + "\n" }
	legacy := func(files ...string) []string {
		return append([]string{
			"components/api/deployment.yaml", strings.ReplaceAll(legacyDeployment, "old", "api"),
			"components/api/service.yaml", "\n" + strings.ReplaceAll(legacyService, "old", "api"),
			"components/api/pdb.yaml", "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: api}\nspec:\n  selector:\n    matchLabels:\n      app.kubernetes.io/instance: other\n",
		}, files...)
	}
	for _, test := range []struct {
		name    string
		changes []string
		tags    []string
		want    string
	}{
		{"no label", legacy(), []string{"blue"}, `
error: component api cannot run as tags: its pods and selectors need the label app.kubernetes.io/instance: api. Change:
components/api/deployment.yaml:5: Deployment api: add
  spec:
    selector:
      matchLabels:
        app.kubernetes.io/instance: api
components/api/deployment.yaml:8: Deployment api: add
  spec:
    template:
      metadata:
        labels:
          app.kubernetes.io/instance: api
components/api/service.yaml:5: Service api: add
  spec:
    selector:
      app.kubernetes.io/instance: api
components/api/pdb.yaml:7: PodDisruptionBudget api: replace "other" by
  spec:
    selector:
      matchLabels:
        app.kubernetes.io/instance: api
hint: commit these lines and let them be applied first: a Deployment whose selector changes is made anew
`},
		{"no workload", []string{"components/api/kustomization.yaml", "resources: [service.yaml]\n"}, []string{"blue"}, `
error: component api cannot run as tags: components/api builds no Deployment or StatefulSet
`},
		{"no Service", []string{"components/api/kustomization.yaml", "resources: [deployment.yaml]\n"}, []string{"blue"}, `
error: component api cannot run as tags: it has no Service api that selects its pods
hint: add a Service api to components/api
`},
		{"lost file", []string{"components/api/kustomization.yaml", "resources: [lost.yaml]\n"}, []string{"blue"}, `
error: components/api/kustomization.yaml: resource components/api/lost.yaml does not exist
`},
		{"no tags", nil, nil, `
error: tagging api in production: no tags named
hint: name them, the one that gets the traffic first: --tags blue,green
`},
		{"twice", nil, []string{"blue", "blue"}, `
error: tag "blue" is named twice
hint: name each tag once
`},
		{"reserved", nil, []string{"shared"}, `
error: tag "shared" is reserved: that folder holds what the tags have in common
`},
		{"folder of that name", []string{dir + "blue.md", "x", dir + "cron/README.md", "x"}, []string{"cron"}, `
error: environments/production/api/cron is a folder without kustomization.yaml: it is no tag overlay
hint: move the folder's files away, or choose another name for the tag
`},
		{"base in the way", []string{dir + "base/x", "x"}, []string{"blue"}, `
error: environments/production/api/base exists already
hint: move it away first
`},
		{"once and per tag in one file", []string{dir + "extra.yaml", legacyService + "---\nkind: HTTPRoute\n"}, []string{"blue"}, `
error: environments/production/api/extra.yaml: holds objects that exist once and objects that run once for each tag
hint: split it, then tag again
`},
		{"component of that name", []string{"environments/production/api-blue/kustomization.yaml", overlay("[]")}, []string{"blue"}, `
error: tag blue of api would share the Service api-blue with api-blue in production
hint: choose another name for the tag
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, taggable(t, test.changes...), func(tree *Tree) (Summary, error) { return TagComponent(tree, "production", "api", test.tags) })
			assert.Equal(t, trim(test.want), got)
		})
	}
	got := outcome(t, shop(t), func(tree *Tree) (Summary, error) { return TagComponent(tree, "production", "api", []string{"red"}) })
	assert.Equal(t, "error: api in production runs as tags already: blue, green\nhint: `sluice deploy api --environment production --build BUILD --tag NAME` creates more\n", got)

	// Without a route, and before anything is deployed.
	got = outcome(t, taggable(t, dir+"kustomization.yaml", "resources: [../../../components/api]\n"), func(tree *Tree) (Summary, error) {
		summary, err := TagComponent(tree, "production", "api", []string{"blue"})
		require.NoError(t, err)
		repo, err := Open(tree)
		require.NoError(t, err)
		rel, err := repo.Release("production", "api")
		require.NoError(t, err)
		require.Equal(t, []Tag{{Name: "blue", Dir: dir + "blue"}}, rel.Tags)
		return summary, nil
	})
	assert.Contains(t, got, "note: no route of the overlay names Service api: the weights decide about nothing until one does\n")
}
