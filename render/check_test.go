package render

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeDecrypt stands for SOPS: in files that start with "#sealed" the text
// between ‹ and › was encrypted.
func fakeDecrypt(path string, data []byte) (Decrypted, error) {
	text, ok := strings.CutPrefix(string(data), "#sealed\n")
	if !ok {
		return Decrypted{Data: data}, nil
	}
	if strings.Contains(text, "no key") {
		return Decrypted{}, &InputError{File: path, Reason: "no key opens it", Remedy: "give a key"}
	}
	sealed := regexp.MustCompile(`‹([^›]*)›`)
	d := Decrypted{Encrypted: true, Data: []byte(sealed.ReplaceAllString(text, "$1"))}
	for _, m := range sealed.FindAllStringSubmatch(text, -1) {
		d.Values = append(d.Values, m[1])
	}
	d.Masked = func() ([]byte, error) { return []byte(sealed.ReplaceAllString(text, "(encrypted)")), nil }
	return d, nil
}

const (
	digestA = "sha256:3f2a9c0d41e7aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:1b7e3a55aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	header  = "namespace: shop-development\n"
)

func deployment(image string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec:\n  template:\n    spec:\n      containers: [{name: api, image: '" + image + "'}]\n"
}

func images(name, digest string) string {
	return "images:\n- name: " + name + "\n  digest: " + digest + "\n"
}

// overlay is a build of environments/development/api; want is the error, ""
// for none.
type overlay struct {
	name          string
	kustomization string
	files         map[string]string // below the overlay
	edit          func(*envrepo.Release)
	want          string
}

var otherNamespaces = []overlay{
	{"no namespace", "resources: [cm.yaml]\n", nil, nil, "ConfigMap development: has no namespace"},
	{"another namespace", "namespace: shop-production\nresources: [cm.yaml]\n", nil, nil,
		"ConfigMap shop-production/development: is not in the environment's namespace shop-development"},
	{"a custom kind without namespace", "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\n"}, nil,
		"Thing x: has no namespace"},
	{"cluster-scoped", header + "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x}\n"}, nil,
		"ClusterRole x: has no namespace: a release may only have objects in shop-development"},
	{"cluster-scoped custom kind", header + "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: x}\n"}, nil,
		"GatewayClass shop-development/x: has no namespace: a release may only have objects in shop-development"},
	{"a CRD", header + "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x.example.com}\n"}, nil,
		"CustomResourceDefinition x.example.com: has no namespace: a release may only have objects in shop-development"},
	{"a Release", header + "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: sluice.dev/v1alpha1\nkind: Release\nmetadata: {name: web}\n"}, nil,
		"Release shop-development/web: is a record of Sluice's own, which no release may have"},
	{"a Release in a List", header + "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: v1\nkind: List\nitems: [{apiVersion: sluice.dev/v1, kind: Release, metadata: {name: web}}]\n"}, reserved,
		"Release shop-development/web: is a record of Sluice's own, which no release may have"},
	{"its Namespace in an ordinary release", "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop-development}\n"}, nil,
		"Namespace shop-development: is not this release's: only environments/development may have a Namespace, and only shop-development"},
	{"another Namespace in the reserved release", "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}\n"}, reserved,
		"Namespace kube-system: is not this release's: only environments/development may have a Namespace, and only shop-development"},
	{"its Namespace in the reserved release", "resources: [x.yaml]\n", map[string]string{"x.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop-development}\n"}, reserved, ""},
}

var pins = []overlay{
	{"a pin", header + "resources: [d.yaml]\n" + images("registry.example.com/shop/api", digestA), map[string]string{"d.yaml": deployment("registry.example.com/shop/api:v1")}, pin(digestA), ""},
	{"a pin with a port", header + "resources: [d.yaml]\n" + images("registry:5000/api", digestA), map[string]string{"d.yaml": deployment("registry:5000/api")},
		func(r *envrepo.Release) { r.Digest, r.Component.Image = digestA, "registry:5000/api" }, ""},
	{"a pin under a new name", header + "resources: [d.yaml]\nimages: [{name: registry.example.com/shop/api, newName: mirror/api, digest: '" + digestA + "'}]\n",
		map[string]string{"d.yaml": deployment("registry.example.com/shop/api")}, pin(digestA), ""},
	{"a pin in a custom kind", header + "resources: [x.yaml]\nconfigurations: [c.yaml]\n" + images("registry.example.com/shop/api", digestA),
		map[string]string{"x.yaml": "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\nspec: {image: registry.example.com/shop/api}\n",
			"c.yaml": "images: [{kind: Thing, path: spec/image}]\n"}, nil, ""},
	{"a misspelt pin", header + "resources: [d.yaml]\n" + images("registry.example.com/shop/ap1", digestA), map[string]string{"d.yaml": deployment("registry.example.com/shop/api:v1")}, pin(digestA),
		`images: "registry.example.com/shop/ap1" pins nothing: no rendered container uses registry.example.com/shop/ap1@` + digestA + `|the nearest rendered image is registry.example.com/shop/api: correct the name in the images entry, the manifest or component.yaml`},
	{"a manifest of another image", header + "resources: [d.yaml]\n" + images("registry.example.com/shop/api", digestA), map[string]string{"d.yaml": deployment("registry.example.com/other/api:v1")}, pin(digestA),
		`images: "registry.example.com/shop/api" pins nothing: no rendered container uses registry.example.com/shop/api@` + digestA + `|the nearest rendered image is registry.example.com/other/api: correct the name in the images entry, the manifest or component.yaml`},
	{"a pin without containers", header + "resources: [cm.yaml]\n" + images("registry.example.com/shop/api", digestA), nil, pin(digestA),
		`images: "registry.example.com/shop/api" pins nothing: no rendered container uses registry.example.com/shop/api@` + digestA + `|no container is rendered: add the component's folder to resources, or remove the images entry`},
	{"a misspelt tag of a sidecar", header + "resources: [d.yaml]\nimages: [{name: ngnix, newTag: '1.27'}]\n", map[string]string{"d.yaml": deployment("nginx:1")}, nil,
		`images: "ngnix" pins nothing: no rendered container uses ngnix:1.27|the nearest rendered image is nginx: correct the name in the images entry, the manifest or component.yaml`},
	{"another digest by a patch", header + "resources: [d.yaml, e.yaml]\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: ImageTagTransformer\n  metadata: {name: x}\n  imageTag: {name: registry.example.com/shop/api, digest: '" + digestB + "'}\n  fieldSpecs: [{kind: Deployment, path: 'spec/template/spec/containers[]/image'}]\n" + images("registry.example.com/shop/api", digestA),
		map[string]string{"d.yaml": deployment("registry.example.com/shop/api"), "e.yaml": "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: e}\nspec: {jobTemplate: {spec: {template: {spec: {initContainers: [{name: i, image: registry.example.com/shop/api}]}}}}}\n"}, pin(digestA),
		`images: CronJob shop-development/e container i runs "registry.example.com/shop/api@` + digestB + `" instead of registry.example.com/shop/api@` + digestA},
	{"one container of another digest", header + "resources: [d.yaml, e.yaml]\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: ImageTagTransformer\n  metadata: {name: x}\n  imageTag: {name: registry.example.com/shop/api, digest: '" + digestB + "'}\n  fieldSpecs: [{kind: CronJob, path: 'spec/jobTemplate/spec/template/spec/initContainers[]/image'}]\n" + images("registry.example.com/shop/api", digestA),
		map[string]string{"d.yaml": deployment("registry.example.com/shop/api"), "e.yaml": "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: e}\nspec: {jobTemplate: {spec: {template: {spec: {initContainers: [{name: i, image: registry.example.com/shop/api}]}}}}}\n"}, pin(digestA),
		`images: CronJob shop-development/e container i runs "registry.example.com/shop/api@` + digestB + `" instead of registry.example.com/shop/api@` + digestA},
	{"a pin that the repository does not have", header + "resources: [d.yaml]\n", map[string]string{"d.yaml": deployment("registry.example.com/shop/api:v1")}, pin(digestA),
		`images: Deployment shop-development/api container api runs "registry.example.com/shop/api:v1" instead of registry.example.com/shop/api@` + digestA},
}

var secretValues = []overlay{
	{"a Secret", header + "secretGenerator:\n- name: s\n  envs: [s.env]\n", map[string]string{"s.env": "#sealed\nTOKEN=‹canary›\n"}, nil, ""},
	{"a Secret manifest", header + "resources: [s.yaml]\n", map[string]string{"s.yaml": "#sealed\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: ‹canary›}\n"}, nil, ""},
	{"a value in a ConfigMap", header + "configMapGenerator:\n- name: c\n  envs: [s.env]\n  options: {disableNameSuffixHash: true}\n", map[string]string{"s.env": "#sealed\nTOKEN=‹canary›\n"}, nil,
		"ConfigMap shop-development/c: data.TOKEN: holds a decrypted value: only the data of a Secret may"},
	{"a file in a ConfigMap", header + "configMapGenerator:\n- name: c\n  files: [app.conf=s.env]\n  options: {disableNameSuffixHash: true}\n", map[string]string{"s.env": "#sealed\npassword ‹canary›\n"}, nil,
		"ConfigMap shop-development/c: data[app.conf]: holds a decrypted value: only the data of a Secret may"},
	{"binary data of a ConfigMap", header + "configMapGenerator:\n- name: c\n  files: [s.bin]\n  options: {disableNameSuffixHash: true}\n", map[string]string{"s.bin": "#sealed\n\xff‹canary›\n"}, nil,
		"ConfigMap shop-development/c: binaryData[s.bin]: holds a decrypted value: only the data of a Secret may"},
	{"a replacement", header + "resources: [cm.yaml, s.yaml]\nreplacements:\n- source: {kind: Secret, name: s, fieldPath: stringData.a}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths: [data.a]\n",
		map[string]string{"s.yaml": "#sealed\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: ‹canary›}\n"}, nil,
		"ConfigMap shop-development/development: data.a: holds a decrypted value: only the data of a Secret may"},
	{"a replacement of base64", header + "resources: [d.yaml]\nsecretGenerator:\n- name: s\n  envs: [s.env]\nreplacements:\n- source: {kind: Secret, name: s, fieldPath: data.TOKEN}\n  targets:\n  - select: {kind: Deployment}\n    fieldPaths: [spec.template.metadata.annotations.sum]\n    options: {create: true}\n",
		map[string]string{"s.env": "#sealed\nTOKEN=‹canary-1›\n", "d.yaml": deployment("x")}, nil,
		"Deployment shop-development/api: spec.template.metadata.annotations.sum: holds a decrypted value: only the data of a Secret may"},
	{"base64 in the midst of a text", header + "resources: [cm.yaml]\nsecretGenerator:\n- name: s\n  envs: [s.env]\nreplacements:\n- source: {kind: Secret, name: s, fieldPath: data.TOKEN}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths: [data.a]\n    options: {delimiter: '|', index: 1}\n",
		map[string]string{"s.env": "#sealed\nTOKEN=‹canary-1›\n", "cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 'x|y|z'}\n"}, nil,
		"ConfigMap shop-development/x: data.a: holds a decrypted value: only the data of a Secret may"},
	{"a patch", header + "resources: [d.yaml]\npatches: [{path: p.yaml}]\n",
		map[string]string{"d.yaml": deployment("x"), "p.yaml": "#sealed\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec: {template: {spec: {containers: [{name: api, env: [{name: A, value: ‹canary›}]}]}}}\n"}, nil,
		"Deployment shop-development/api: spec.template.spec.containers[0].env[0].value: holds a decrypted value: only the data of a Secret may"},
	{"a label of a Secret", header + "resources: [s.yaml]\n", map[string]string{"s.yaml": "#sealed\napiVersion: v1\nkind: Secret\nmetadata: {name: s, labels: {a.b/c: ‹canary›}}\n"}, nil,
		"Secret shop-development/s: metadata.labels[a.b/c]: holds a decrypted value: only the data of a Secret may"},
	{"a name", header + "resources: [s.yaml]\n", map[string]string{"s.yaml": "#sealed\napiVersion: v1\nkind: Secret\nmetadata: {name: ‹canary›}\n"}, nil,
		"Secret shop-development/(decrypted): metadata.name: holds a decrypted value: only the data of a Secret may"},
	{"a name of a field", header + "resources: [s.yaml]\n", map[string]string{"s.yaml": "#sealed\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {‹canary›: x}\n"}, nil,
		"ConfigMap shop-development/x: data: holds a decrypted value: only the data of a Secret may"},
	{"a name of a Secret's data", header + "resources: [s.yaml]\n", map[string]string{"s.yaml": "#sealed\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {‹canary›: x}\n"}, nil,
		"Secret shop-development/s: data: holds a decrypted value: only the data of a Secret may"},
	{"a custom kind called Secret", header + "resources: [s.yaml]\n", map[string]string{"s.yaml": "#sealed\napiVersion: example.com/v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: ‹canary›}\n"}, nil,
		"Secret shop-development/x: data.a: holds a decrypted value: only the data of a Secret may"},
	{"a value that is public too", header + "resources: [d.yaml]\nsecretGenerator:\n- name: s\n  envs: [s.env]\n", map[string]string{"s.env": "#sealed\nUSER=‹shop›\nTOKEN=‹canary›\n", "d.yaml": deployment("registry.example.com/shop/api")}, nil, ""},

	{"no decryption", header + "resources: [s.yaml]\n", map[string]string{"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: 'ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]'}\n"}, nil,
		"Secret shop-development/s: stringData.a: holds SOPS ciphertext instead of the value"},
	// flux2 #4945: an env file of a Kustomize Component.
	{"no decryption in a Component", header + "resources: [cm.yaml]\ncomponents: [c]\n", map[string]string{
		"c/kustomization.yaml": "kind: Component\nsecretGenerator:\n- name: s\n  envs: [s.env]\n  options: {disableNameSuffixHash: true}\n",
		"c/s.env":              "A=ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]\n"}, nil,
		"Secret shop-development/s: data.A: holds SOPS ciphertext instead of the value"},
}

func reserved(r *envrepo.Release) {
	r.Name, r.Component = envrepo.EnvironmentRelease, envrepo.Component{}
}

func pin(digest string) func(*envrepo.Release) {
	return func(r *envrepo.Release) { r.Digest = digest }
}

// An environment has the objects of its namespace and no others, none that are
// cluster-wide, and no Release: Argo CD CVE-2023-22736, Fleet CVE-2026-41050.
func TestAttackAnotherNamespace(t *testing.T) { buildAll(t, otherNamespaces) }

func TestBuildPins(t *testing.T) { buildAll(t, pins) }

// What was decrypted stands in the data of Secrets and nowhere else, where it would be
// shown in clear: Argo CD CVE-2026-42880.
func TestAttackDecryptedValues(t *testing.T) { buildAll(t, secretValues) }

func buildAll(t *testing.T, overlays []overlay) {
	t.Helper()
	for _, tt := range overlays {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{overlayFile: tt.kustomization}
			for p, text := range tt.files {
				files[overlayDir+"/"+p] = text
			}
			rel := development()
			if tt.edit != nil {
				tt.edit(&rel)
			}
			res, err := Build(context.Background(), Request{FS: project(files), Release: rel, Decrypt: fakeDecrypt})
			if tt.want == "" {
				require.NoError(t, err)
				assert.NotEmpty(t, res.Shared)
				return
			}
			require.Error(t, err)
			assert.Nil(t, res)
			want, hint, _ := strings.Cut(tt.want, "|")
			assert.Contains(t, err.Error(), want)
			assert.NotContains(t, err.Error(), "canary")
			assertHint(t, err)
			if hint != "" {
				var image *ImageError
				require.ErrorAs(t, err, &image)
				assert.Equal(t, hint, image.Hint())
			}
		})
	}
}

// The whole text of one error of each type.
func TestBuildErrorTexts(t *testing.T) {
	tests := map[string]struct {
		kustomization string
		files         map[string]string
		want, hint    string
	}{
		"object": {"resources: [cm.yaml]\n", nil, "rendering environments/development/api: environments/development/api: ConfigMap development: has no namespace",
			"add namespace: shop-development to environments/development/api/kustomization.yaml"},
		"image": {header + "resources: [d.yaml]\n" + images("registry.example.com/shop/ap1", digestA), map[string]string{overlayDir + "/d.yaml": deployment("registry.example.com/shop/api:v1")},
			`rendering environments/development/api: environments/development/api/kustomization.yaml:4: images: "registry.example.com/shop/ap1" pins nothing: no rendered container uses registry.example.com/shop/ap1@` + digestA,
			"the nearest rendered image is registry.example.com/shop/api: correct the name in the images entry, the manifest or component.yaml"},
		"build": {header + "resources: [cm.yaml]\npatches: [{patch: '{apiVersion: v1, kind: Secret, metadata: {name: x}}'}]\n", nil,
			"rendering environments/development/api: building environments/development/api: no resource matches strategic merge patch \"Secret.v1.[noGrp]/x.[noNs]\": no matches for Id Secret.v1.[noGrp]/x.[noNs]; failed to find unique target for patch Secret.v1.[noGrp]/x.[noNs]",
			"kubectl kustomize environments/development/api shows the same error"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{overlayFile: tt.kustomization}
			for p, text := range tt.files {
				files[p] = text
			}
			_, err := Build(context.Background(), Request{FS: project(files), Release: development()})
			assert.EqualError(t, err, tt.want)
			var h interface{ Hint() string }
			require.ErrorAs(t, err, &h)
			assert.Equal(t, tt.hint, h.Hint())
		})
	}
}

// Kustomize quotes what it reads. Its errors are shown only where they come
// out the same without decrypted values: Argo CD CVE-2025-23216.
func TestAttackSecretsInErrors(t *testing.T) {
	build := func(kustomization, sealed string, d Decrypt) error {
		files := map[string]string{overlayFile: kustomization, overlayDir + "/s.env": "#sealed\n" + sealed, overlayDir + "/d.yaml": deployment("x")}
		_, err := Build(context.Background(), Request{FS: project(files), Release: development(), Decrypt: d})
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "canary")
		assertHint(t, err)
		return err
	}
	const generator = header + "secretGenerator:\n- name: s\n  envs: [s.env]\n"
	const withheld = "rendering environments/development/api: building environments/development/api: the content of an encrypted file (environments/development/api/s.env) is refused; the message may hold it and is withheld"

	const twice = "A=‹canary›\nA=‹canary›\n"
	err := build(generator, twice, fakeDecrypt)
	assert.ErrorContains(t, err, "illegally repeats the key `A`", "the masked file is refused as well")
	err = build(generator+"configMapGenerator: [{name: c, behavior: merge}]\n", "A=‹canary›\n", fakeDecrypt)
	assert.ErrorContains(t, err, "cannot merge", "an error that has nothing to do with the secret is shown")

	unmasked := func(path string, data []byte) (Decrypted, error) {
		d, err := fakeDecrypt(path, data)
		d.Masked = nil
		return d, err
	}
	assert.EqualError(t, build(generator, twice, unmasked), withheld)
	failing := func(path string, data []byte) (Decrypted, error) {
		d, err := fakeDecrypt(path, data)
		d.Masked = func() ([]byte, error) { return []byte("A=b\n"), nil }
		return d, err
	}
	assert.EqualError(t, build(generator, twice, failing), withheld)
	// Without a masked file a coincidence counts as a leak.
	err = build(header+"resources: [d.yaml]\nsecretGenerator:\n- name: s\n  envs: [s.env]\n", "A=‹Deployment›\n", unmasked)
	assert.EqualError(t, err, "rendering environments/development/api: environments/development/api: (decrypted) shop-development/api: kind: holds a decrypted value: only the data of a Secret may")

	// Broken YAML that was decrypted.
	err = build(header+"resources: [s.env]\n", "apiVersion: v1\na: ‹canary: x: y›\n", fakeDecrypt)
	assert.EqualError(t, err, "rendering environments/development/api: environments/development/api/s.env:2: is not valid YAML")
	// Kustomize would take a line for a name, which is no secret to it.
	err = build(generator, "A=b\n‹canary›\n", fakeDecrypt)
	assert.ErrorContains(t, err, "/s.env:2: has a line that is not NAME=value")
	// The decryption's own error passes.
	err = build(generator, "no key", fakeDecrypt)
	assert.EqualError(t, err, "rendering environments/development/api: environments/development/api/s.env: no key opens it")
}

// Kustomize v0.21 follows a nil pointer where a JSON patch has no target.
func TestBuildPanicIsAnError(t *testing.T) {
	files := map[string]string{overlayFile: "resources: [cm.yaml]\npatchesJson6902: [{patch: '[]'}]\n"}
	_, err := Build(context.Background(), Request{FS: project(files), Release: development()})
	assert.EqualError(t, err, "rendering environments/development/api: building environments/development/api: a library panicked on this input")
}

// Files that were decrypted do not outlive the rendering; others belong to whoever
// gave them.
func TestBuildWipesWhatWasDecrypted(t *testing.T) {
	given := map[string][]byte{}
	files := map[string]string{overlayFile: header + "secretGenerator:\n- name: s\n  envs: [s.env, p.env]\n",
		overlayDir + "/s.env": "#sealed\nA=‹canary›\n", overlayDir + "/p.env": "B=plain\n"}
	req := Request{FS: project(files), Release: development(), Decrypt: func(path string, data []byte) (Decrypted, error) {
		d, err := fakeDecrypt(path, data)
		given[path] = d.Data
		return d, err
	}}
	res, err := Build(context.Background(), req)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"A": "Y2FuYXJ5", "B": "cGxhaW4="}, res.Shared[0].Object["data"])
	assert.Equal(t, make([]byte, len("A=canary\n")), given[overlayDir+"/s.env"])
	assert.Equal(t, "B=plain\n", string(given[overlayDir+"/p.env"]))
}
