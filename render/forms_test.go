package render_test

import (
	"context"
	"encoding/base64"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/secrets"
)

const (
	formDir    = "environments/development/api/"
	formSecret = "canary-value-1"
	formDeploy = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec:\n  selector: {matchLabels: {a: b}}\n" +
		"  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: api, image: registry.example.com/shop/api, env: [{name: MODE, value: plain}]}]}\n"
	formSecretManifest = "# a comment\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n    TOKEN: canary-value-1\n"
	formLicense        = "apiVersion: example.com/v1\nkind: License\nmetadata: {name: l}\nspec: {key: canary-value-1, seats: 5}\n"
)

// form is a way in which an encrypted file takes part in a release.
type form struct {
	name    string
	files   map[string]string // below the release's folder, or components/
	sealed  map[string]string // those that are encrypted: file → fields of the creation rule
	object  string            // the object that holds the value
	field   string            // where, names joined with slashes
	in      string            // secretsIn of component.yaml
	keyless string            // what stands there without keys; "": (encrypted)
}

var forms = []form{
	{name: "dotenv in a secretGenerator", files: map[string]string{"kustomization.yaml": generator("envs: [s.env]"), "s.env": "# canary-comment\nTOKEN=canary-value-1\n"},
		sealed: map[string]string{"s.env": ""}, object: "Secret s", field: "data/TOKEN"},
	{name: "a file in a secretGenerator", files: map[string]string{"kustomization.yaml": generator("files: [TOKEN=token.bin]"), "token.bin": formSecret},
		sealed: map[string]string{"token.bin": ""}, object: "Secret s", field: "data/TOKEN"},
	{name: "YAML in a secretGenerator", files: map[string]string{"kustomization.yaml": generator("files: [TOKEN=v.yaml]"), "v.yaml": "a: canary-value-1\n"},
		sealed: map[string]string{"v.yaml": ""}, object: "Secret s", field: "data/TOKEN", keyless: "a: (encrypted)\n"},
	{name: "JSON in a secretGenerator", files: map[string]string{"kustomization.yaml": generator("files: [TOKEN=v.json]"), "v.json": `{"a": "canary-value-1"}`},
		sealed: map[string]string{"v.json": ""}, object: "Secret s", field: "data/TOKEN", keyless: "{\n\t\"a\": \"(encrypted)\"\n}\n"},
	{name: "INI in a secretGenerator", files: map[string]string{"kustomization.yaml": generator("files: [TOKEN=v.ini]"), "v.ini": "[a]\nb = canary-value-1\n"},
		sealed: map[string]string{"v.ini": ""}, object: "Secret s", field: "data/TOKEN", keyless: "[a]\nb = (encrypted)\n"},
	{name: "a base of the component", files: map[string]string{"kustomization.yaml": "resources: [../../../components/api]\n",
		"components/api/kustomization.yaml": generator("envs: [s.env]"), "components/api/s.env": "TOKEN=canary-value-1\n"},
		sealed: map[string]string{"components/api/s.env": ""}, object: "Secret s", field: "data/TOKEN"},
	{name: "a Kustomize Component", files: map[string]string{"kustomization.yaml": "resources: [d.yaml]\ncomponents: [../../../components/tracing]\n", "d.yaml": formDeploy,
		"components/tracing/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n" + generator("envs: [s.env]"), "components/tracing/s.env": "TOKEN=canary-value-1\n"},
		sealed: map[string]string{"components/tracing/s.env": ""}, object: "Secret s", field: "data/TOKEN"},
	{name: "a merge into a base's Secret", files: map[string]string{"kustomization.yaml": "resources: [../../../components/api]\n" + strings.Replace(generator("envs: [s.env]"), "name: s\n", "name: s\n  behavior: merge\n", 1),
		"s.env": "TOKEN=canary-value-1\n", "components/api/kustomization.yaml": generator("literals: [TOKEN=, OTHER=x]")},
		sealed: map[string]string{"s.env": ""}, object: "Secret s", field: "data/TOKEN"},
	{name: "a Secret manifest, all of it", files: map[string]string{"kustomization.yaml": "resources: [s.yaml]\n", "s.yaml": formSecretManifest},
		sealed: map[string]string{"s.yaml": "encrypted_regex: ^(data|stringData)$"}, object: "Secret s", field: "stringData/TOKEN"},
	{name: "a Secret manifest by suffix", files: map[string]string{"kustomization.yaml": "resources: [s.yaml]\n", "s.yaml": formSecretManifest},
		sealed: map[string]string{"s.yaml": "encrypted_suffix: Data"}, object: "Secret s", field: "stringData/TOKEN"},
	{name: "a Secret manifest by unencrypted_regex", files: map[string]string{"kustomization.yaml": "resources: [s.yaml]\n", "s.yaml": formSecretManifest},
		sealed: map[string]string{"s.yaml": "unencrypted_regex: ^(apiVersion|kind|metadata)$"}, object: "Secret s", field: "stringData/TOKEN"},
	{name: "several documents", files: map[string]string{"kustomization.yaml": "resources: [s.yaml]\n", "s.yaml": formDeploy + "---\n" + formSecretManifest},
		sealed: map[string]string{"s.yaml": "encrypted_regex: ^(data|stringData)$"}, object: "Secret s", field: "stringData/TOKEN"},
	{name: "a custom resource", files: map[string]string{"kustomization.yaml": "resources: [l.yaml]\n", "l.yaml": formLicense},
		sealed: map[string]string{"l.yaml": "encrypted_regex: ^key$"}, object: "License l", field: "spec/key", in: "[License.example.com]"},
	{name: "a strategic merge patch", files: map[string]string{"kustomization.yaml": "resources: [s.yaml]\npatches: [{path: p.yaml}]\n",
		"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {TOKEN: x}\n", "p.yaml": formSecretManifest},
		sealed: map[string]string{"p.yaml": "encrypted_regex: ^(data|stringData)$"}, object: "Secret s", field: "stringData/TOKEN"},
	{name: "configuration that the component allows", files: map[string]string{"kustomization.yaml": "configMapGenerator:\n- name: c\n  envs: [s.env]\n  options: {disableNameSuffixHash: true}\n", "s.env": "TOKEN=canary-value-1\n"},
		sealed: map[string]string{"s.env": ""}, object: "ConfigMap c", field: "data/TOKEN", in: "[ConfigMap]"},
}

func generator(source string) string {
	return "secretGenerator:\n- name: s\n  " + source + "\n  options: {disableNameSuffixHash: true}\n"
}

// project is a project with one release, the form's files encrypted for its
// environment as a creation rule says.
func (f form) project(t *testing.T) fs.FS {
	t.Helper()
	component := "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: api}\nimage: registry.example.com/shop/api\n"
	if f.in != "" {
		component += "secretsIn: " + f.in + "\n"
	}
	m := fstest.MapFS{}
	put := func(p, text string) { m[p] = &fstest.MapFile{Data: []byte(text)} }
	put("sluice.yaml", "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments: [{name: development, namespace: shop-development}]\n")
	put("components/api/component.yaml", component)
	keys, err := secrets.LoadAgeKeys("../secrets/testdata/development.agekey")
	require.NoError(t, err)
	for name, text := range f.files {
		p := formDir + name
		if strings.HasPrefix(name, "components/") {
			p = name
		}
		if p == formDir+"kustomization.yaml" {
			text = "namespace: shop-development\n" + text
		}
		if fields, ok := f.sealed[name]; ok {
			if fields != "" {
				fields += ", "
			}
			rules, err := secrets.ParseRules(secrets.RulesFile, []byte("creation_rules: [{"+fields+"age: "+keys.Names()[0]+"}]\n"))
			require.NoError(t, err)
			rule, _ := rules.For(p)
			out, err := keys.Encrypt(t.Context(), p, []byte(text), rule)
			require.NoError(t, err)
			require.NotContains(t, string(out), "canary", "the value is encrypted")
			text = string(out)
		}
		put(p, text)
	}
	return m
}

// valueAt is the value of an object's field, base64 of data removed.
func valueAt(t *testing.T, objects []*unstructured.Unstructured, object, field string) string {
	t.Helper()
	for _, u := range objects {
		if u.GetKind()+" "+u.GetName() != object {
			continue
		}
		path := strings.Split(field, "/")
		v, ok, err := unstructured.NestedString(u.Object, path...)
		require.NoError(t, err)
		require.True(t, ok, "%s has %s", object, field)
		if u.GetKind() == "Secret" && path[0] == "data" {
			plain, err := base64.StdEncoding.DecodeString(v)
			require.NoError(t, err)
			return string(plain)
		}
		return v
	}
	t.Fatalf("no %s is rendered", object)
	return ""
}

// Every form in which encrypted files take part in a release: decrypted, kept
// track of, and shown without keys.
func TestFormsOfEncryptedFiles(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			fsys := f.project(t)
			rel := releaseOf(t, fsys, "development", "api")
			res, err := render.Build(context.Background(), render.Request{FS: fsys, Release: rel, Decrypt: keyed(t, "development")})
			require.NoError(t, err)
			assert.Contains(t, valueAt(t, res.Shared, f.object, f.field), formSecret)
			assert.Contains(t, strings.Join(res.Values, "\n"), formSecret, "the value is known, for masking")
			assert.NotContains(t, toYAML(t, res.Shared), "sops", "the metadata of SOPS is gone")
			assert.Empty(t, res.Keyless)

			res, err = render.Build(context.Background(), render.Request{FS: fsys, Release: rel, Decrypt: keyless})
			require.NoError(t, err)
			want := f.keyless
			if want == "" {
				want = "(encrypted)"
			}
			assert.Equal(t, want, valueAt(t, res.Shared, f.object, f.field))
			assert.NotContains(t, toYAML(t, res.Shared), "sops")
			assert.Len(t, res.Keyless, len(f.sealed), "it says what it cannot show")

			_, err = render.Build(context.Background(), render.Request{FS: fsys, Release: rel, Decrypt: keyed(t, "production")})
			var none *secrets.NoKeyError
			require.ErrorAs(t, err, &none)

			// As it is, without decryption: ciphertext is never applied.
			_, err = render.Build(context.Background(), render.Request{FS: fsys, Release: rel})
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "canary")

			if f.in != "" { // without the component's leave
				f.in = ""
				fsys = f.project(t)
				_, err = render.Build(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "development", "api"), Decrypt: keyed(t, "development")})
				require.ErrorContains(t, err, "holds a decrypted value: only the data of a Secret may")
				assert.NotContains(t, err.Error(), "canary")
			}
		})
	}
}

// SOPS encrypts mappings; a JSON 6902 patch, a list, is encrypted as a binary
// file of any name.
func TestEncryptedJSONPatch(t *testing.T) {
	t.Parallel()
	const patch = "- {op: replace, path: /stringData/TOKEN, value: canary-value-1}\n"
	keys, err := secrets.LoadAgeKeys("../secrets/testdata/development.agekey")
	require.NoError(t, err)
	rules, err := secrets.ParseRules(secrets.RulesFile, []byte("creation_rules: [{age: "+keys.Names()[0]+"}]\n"))
	require.NoError(t, err)
	rule, _ := rules.For(formDir + "patch.bin")
	sealed, err := keys.Encrypt(t.Context(), formDir+"patch.bin", []byte(patch), rule)
	require.NoError(t, err)
	f := form{files: map[string]string{"kustomization.yaml": "resources: [s.yaml]\npatches: [{path: patch.bin, target: {kind: Secret}}]\n",
		"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {TOKEN: x}\n", "patch.bin": string(sealed)}}
	fsys := f.project(t)
	rel := releaseOf(t, fsys, "development", "api")
	res, err := render.Build(context.Background(), render.Request{FS: fsys, Release: rel, Decrypt: keyed(t, "development")})
	require.NoError(t, err)
	assert.Equal(t, formSecret, valueAt(t, res.Shared, "Secret s", "stringData/TOKEN"))
	assert.Contains(t, res.Values, formSecret, "the value inside the file is known, for masking")
	assert.Empty(t, res.Opaque)

	// That a value stands elsewhere in plain text is a coincidence, and no leak.
	f.files["kustomization.yaml"] += "configMapGenerator: [{name: c, literals: [REGION=canary-value-1]}]\n"
	coincidence := f.project(t)
	res, err = render.Build(context.Background(), render.Request{FS: coincidence, Release: releaseOf(t, coincidence, "development", "api"), Decrypt: keyed(t, "development")})
	require.NoError(t, err)
	assert.NotContains(t, res.Values, formSecret)

	// Without a key nobody knows what it does: it is left out, and named.
	res, err = render.Build(context.Background(), render.Request{FS: fsys, Release: rel, Decrypt: keyless})
	require.NoError(t, err)
	assert.Equal(t, "x", valueAt(t, res.Shared, "Secret s", "stringData/TOKEN"))
	assert.Equal(t, []string{formDir + "patch.bin"}, res.Keyless)
	assert.Equal(t, []string{formDir + "patch.bin"}, res.Opaque)
	for _, untargeted := range []string{"patches: [{path: patch.bin}]", "patchesJson6902: [{path: patch.bin}]", "patchesStrategicMerge: [patch.bin]"} {
		f.files["kustomization.yaml"] = "resources: [s.yaml]\n" + untargeted + "\n"
		fsys = f.project(t)
		_, err = render.Build(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "development", "api"), Decrypt: keyless})
		assert.ErrorContains(t, err, formDir+"patch.bin: is encrypted as a whole, so that nobody knows without a key what it patches", untargeted)
	}
}

// A manifest is no binary file: without a key it would be no manifest, and with one its
// kind would be a decrypted value.
func TestManifestEncryptedAsAWhole(t *testing.T) {
	t.Parallel()
	f := form{files: map[string]string{"kustomization.yaml": "resources: [s.bin]\n", "s.bin": formSecretManifest}, sealed: map[string]string{"s.bin": ""}}
	fsys := f.project(t)
	for _, decrypt := range []render.Decrypt{keyless, keyed(t, "development")} {
		_, err := render.Build(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "development", "api"), Decrypt: decrypt})
		assert.ErrorContains(t, err, formDir+"s.bin: is encrypted as a whole, so that nobody knows without a key which objects it holds")
	}
}

// The values inside of a file that is encrypted as a whole are kept track of, up to a
// size that no such file needs.
func TestLargeFilesEncryptedAsAWhole(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("#\n", render.MaxConfig/2)
	const manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {TOKEN: x}\n"
	for text, kustomization := range map[string]string{
		"- {op: replace, path: /stringData/TOKEN, value: canary-value-1}\n": "resources: [s.yaml]\npatches: [{path: x.bin, target: {kind: Secret}}]\n",
		"TOKEN=canary-value-1\n": "resources: [s.yaml]\n" + strings.Replace(generator("envs: [x.bin]"), "name: s", "name: g", 1),
	} {
		for padding, refused := range map[string]bool{"": false, large: true} {
			f := form{files: map[string]string{"kustomization.yaml": kustomization, "s.yaml": manifest, "x.bin": text + padding}, sealed: map[string]string{"x.bin": ""}}
			fsys := f.project(t)
			res, err := render.Build(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "development", "api"), Decrypt: keyed(t, "development")})
			if refused {
				assert.ErrorContains(t, err, formDir+"x.bin: is encrypted as a whole and larger than 256 KiB")
				continue
			}
			require.NoError(t, err)
			assert.Contains(t, res.Values, formSecret)
		}
	}
}

// Metadata never holds a decrypted value, whatever the component allows.
func TestAllowedKindsHoldNoneInMetadata(t *testing.T) {
	t.Parallel()
	f := form{in: "[ConfigMap]", files: map[string]string{"kustomization.yaml": "resources: [c.yaml]\n",
		"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, annotations: {a: canary-value-1}}\n"},
		sealed: map[string]string{"c.yaml": "encrypted_regex: ^annotations$"}}
	fsys := f.project(t)
	_, err := render.Build(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "development", "api"), Decrypt: keyed(t, "development")})
	require.ErrorContains(t, err, "metadata.annotations.a: holds a decrypted value")
	assert.NotContains(t, err.Error(), "canary")
}

// What gives a Secret its values in plain text is told, for check to judge.
func TestPlainSecrets(t *testing.T) {
	t.Parallel()
	f := form{files: map[string]string{
		"kustomization.yaml": generator("envs: [plain.env, sealed.env, empty.env]\n  literals: [A=b]") + "resources: [s.yaml, l.yaml]\npatches: [{path: p.yaml}]\n",
		"plain.env":          "TOKEN=x\n", "sealed.env": "OTHER=canary\n", "empty.env": "\n",
		"s.yaml": formDeploy + "---\n" + strings.Replace(formSecretManifest, "name: s", "name: t", 1),
		"l.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: u}\n",
		"p.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: u}\ndata: {a: eA==}\n",
	}, sealed: map[string]string{"sealed.env": ""}}
	fsys := f.project(t)
	res, _, err := render.Inspect(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "development", "api"), Decrypt: keyless})
	require.NoError(t, err)
	assert.Equal(t, []render.PlainSecret{
		{File: formDir + "kustomization.yaml", As: "secretGenerator.literals", Inline: true},
		{File: formDir + "p.yaml", Line: 4, As: "patches.path"},
		{File: formDir + "plain.env", As: "secretGenerator.envs"},
		{File: formDir + "s.yaml", Line: 15, As: "resources"},
	}, res.Plain)
}
