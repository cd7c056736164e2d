package render_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/secrets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// keyed decrypts with the test-only keys of the named environments.
func keyed(t testing.TB, environments ...string) render.Decrypt {
	t.Helper()
	keys := &secrets.Keys{}
	for _, e := range environments {
		k, err := secrets.LoadAgeKeys("../secrets/testdata/" + e + ".agekey")
		require.NoError(t, err)
		keys.Add(k)
	}
	return func(path string, data []byte) (render.Decrypted, error) {
		o, err := keys.Open(path, data)
		return render.Decrypted{Data: o.Data, Values: o.Values, Encrypted: o.Encrypted, Opaque: o.Opaque, Masked: func() ([]byte, error) {
			o, err := secrets.OpenKeyless(path, data)
			return o.Data, err
		}}, err
	}
}

func keyless(path string, data []byte) (render.Decrypted, error) {
	o, err := secrets.OpenKeyless(path, data)
	return render.Decrypted{Data: o.Data, Encrypted: o.Encrypted, Keyless: o.Keyless, Opaque: o.Opaque}, err
}

func shop() fs.FS { return os.DirFS("testdata/shop") }

func releaseOf(t testing.TB, fsys fs.FS, env, name string) envrepo.Release {
	t.Helper()
	repo, err := envrepo.Open(fsys)
	require.NoError(t, err)
	rel, err := repo.Release(env, name)
	require.NoError(t, err)
	return rel
}

// edited is the shop with files replaced, or removed where the text is "-".
func edited(t testing.TB, files map[string]string) fs.FS {
	t.Helper()
	m := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(shop(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(shop(), p)
		m[p] = &fstest.MapFile{Data: data}
		return err
	}))
	for p, text := range files {
		if text == "-" {
			delete(m, p)
			continue
		}
		m[p] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// symlinked is edited, with symbolic links at more paths.
func symlinked(t testing.TB, files map[string]string, links ...string) fs.FS {
	t.Helper()
	m := edited(t, files).(fstest.MapFS)
	for _, p := range links {
		m[p] = &fstest.MapFile{Data: []byte("elsewhere"), Mode: fs.ModeSymlink | 0o777}
	}
	return m
}

// toYAML is what kubectl kustomize would print.
func toYAML(t testing.TB, objects []*unstructured.Unstructured) string {
	t.Helper()
	var docs []string
	for _, u := range objects {
		out, err := yaml.Marshal(u.Object)
		require.NoError(t, err)
		docs = append(docs, string(out))
	}
	return strings.Join(docs, "---\n")
}

func parseYAML(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		j, err := yaml.YAMLToJSON(doc)
		require.NoError(t, err)
		u := &unstructured.Unstructured{}
		require.NoError(t, json.Unmarshal(j, &u.Object))
		objects = append(objects, u)
	}
	return objects
}

func TestFolderEqualsKubectl(t *testing.T) {
	golden, err := filepath.Glob("testdata/golden/*.yaml")
	require.NoError(t, err)
	require.Len(t, golden, 13)
	for _, file := range golden {
		dir := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".yaml"), ".", "/")
		t.Run(dir, func(t *testing.T) {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			got, err := render.Folder(context.Background(), shop(), dir, keyed(t, "development", "production"))
			require.NoError(t, err)
			assert.Equal(t, toYAML(t, parseYAML(t, want)), toYAML(t, got))
			assert.Equal(t, parseYAML(t, want), got)
		})
	}
}

// The same comparison with Kustomize's own library on real files: whatever
// version is linked, the guard and the in-memory file system change nothing.
func TestFolderEqualsKustomizeOnDisk(t *testing.T) {
	dir := t.TempDir()
	open := keyed(t, "development", "production")
	var folders []string
	require.NoError(t, fs.WalkDir(shop(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, p)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		data, err := fs.ReadFile(shop(), p)
		require.NoError(t, err)
		if d.Name() == "kustomization.yaml" && !bytes.Contains(data, []byte("kind: Component")) {
			folders = append(folders, filepath.Dir(p))
		}
		o, err := open(p, data)
		require.NoError(t, err)
		return os.WriteFile(target, o.Data, 0o600)
	}))
	require.Len(t, folders, 13)
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified
	for _, f := range folders {
		t.Run(f, func(t *testing.T) {
			m, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(dir, f))
			require.NoError(t, err)
			want, err := m.AsYaml()
			require.NoError(t, err)
			got, err := render.Folder(context.Background(), shop(), f, open)
			require.NoError(t, err)
			assert.Equal(t, string(want), toYAML(t, got))
		})
	}
}

func names(objects []*unstructured.Unstructured) []string {
	var out []string
	for _, u := range objects {
		out = append(out, u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName())
	}
	return out
}

func TestBuildTagged(t *testing.T) {
	rel := releaseOf(t, shop(), "production", "api")
	res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: rel, Decrypt: keyed(t, "production")})
	require.NoError(t, err)
	assert.Equal(t, rel, res.Release)
	assert.Equal(t, []string{
		"ServiceAccount shop-production/api", "Service shop-production/api",
		"HTTPRoute shop-production/api", "NetworkPolicy shop-production/api",
	}, names(res.Shared))
	require.Len(t, res.Tags, 2)
	for i, tag := range []string{"blue", "green"} {
		got := res.Tags[i]
		assert.Equal(t, tag, got.Name)
		assert.Equal(t, rel.Tags[i].Digest, got.Digest)
		want, err := render.Folder(context.Background(), shop(), "environments/production/api/"+tag, keyed(t, "production"))
		require.NoError(t, err)
		assert.Equal(t, toYAML(t, want), toYAML(t, got.Objects))
	}
	assert.Equal(t, []string{"postgres://shop:canary-db-password@db/shop", "canary-api-token"}, res.Values)
	assert.Empty(t, res.Keyless)
	assert.Empty(t, errorsOf(render.Lint(res)))
}

func TestBuildUntagged(t *testing.T) {
	rel := releaseOf(t, shop(), "development", "web")
	res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: rel, Decrypt: keyed(t, "development")})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"ConfigMap shop-development/dev-web-files", "Secret shop-development/dev-web-oauth",
		"Secret shop-development/dev-web-session-kkdttkm964", "Service shop-development/dev-web",
		"Deployment shop-development/dev-web", "CronJob shop-development/dev-web-warm",
	}, names(res.Shared))
	assert.Empty(t, res.Tags)
	assert.Equal(t, []string{
		`-----BEGIN TEST-----\ncanary-certificate\n-----END TEST-----\n`,
		"-----BEGIN TEST-----\ncanary-certificate\n-----END TEST-----\n",
		"-----BEGIN TEST-----\ncanary-certificate\n-----END TEST-----",
		"canary-cookie-secret", "canary-oauth-secret", "canary-session-key", "canary-tracing-key",
		"eu-west-1", "shop-web", // and not "shop", which stands in plain text in many places
	}, res.Values)
}

func TestBuildReserved(t *testing.T) {
	for env, want := range map[string][]string{
		"development": {"Namespace /shop-development", "NetworkPolicy shop-development/default-deny"},
		"production":  {"NetworkPolicy shop-production/default-deny"},
	} {
		rel := releaseOf(t, shop(), env, envrepo.EnvironmentRelease)
		res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: rel})
		require.NoError(t, err)
		assert.Equal(t, want, names(res.Shared))
	}
}

func TestBuildKeyless(t *testing.T) {
	rel := releaseOf(t, shop(), "production", "api")
	res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: rel, Decrypt: keyless})
	require.NoError(t, err)
	assert.Equal(t, []string{"environments/production/api/base/secrets.env"}, res.Keyless)
	assert.Empty(t, res.Values)
	for _, u := range res.Tags[0].Objects {
		if u.GetKind() == "Secret" {
			data, _, _ := unstructured.NestedStringMap(u.Object, "data")
			assert.Equal(t, map[string]string{"DATABASE_URL": "KGVuY3J5cHRlZCk=", "TOKEN": "KGVuY3J5cHRlZCk="}, data)
		}
	}
}

// A key of another environment opens nothing.
func TestBuildWrongKey(t *testing.T) {
	rel := releaseOf(t, shop(), "production", "api")
	res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: rel, Decrypt: keyed(t, "development")})
	assert.Nil(t, res)
	var noKey *secrets.NoKeyError
	require.ErrorAs(t, err, &noKey)
	assert.Equal(t, "environments/production/api/base/secrets.env", noKey.File)
}

func TestBuildCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := render.Build(ctx, render.Request{FS: shop(), Release: releaseOf(t, shop(), "production", "api"), Decrypt: keyed(t, "production")})
	require.ErrorIs(t, err, context.Canceled)
	_, err = render.Folder(ctx, shop(), "components/api", nil)
	require.ErrorIs(t, err, context.Canceled)
}

// Many renders at once, under -race: Kustomize has global state.
func TestBuildInParallel(t *testing.T) {
	var wg sync.WaitGroup
	want := map[string]string{}
	build := func(env, name string) string {
		res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: releaseOf(t, shop(), env, name), Decrypt: keyed(t, env)})
		if !assert.NoError(t, err) {
			return ""
		}
		out := toYAML(t, res.Shared)
		for _, tag := range res.Tags {
			out += toYAML(t, tag.Objects)
		}
		return out
	}
	releases := [][2]string{{"development", "api"}, {"development", "web"}, {"production", "api"}, {"production", "web"}, {"development", "environment"}}
	for _, r := range releases {
		want[r[0]+r[1]] = build(r[0], r[1])
	}
	for range 6 {
		for _, r := range releases {
			wg.Go(func() { assert.Equal(t, want[r[0]+r[1]], build(r[0], r[1])) })
		}
	}
	wg.Wait()
}

func errorsOf(findings []render.Finding) []render.Finding {
	var out []render.Finding
	for _, f := range findings {
		if f.Severity == render.SeverityError {
			out = append(out, f)
		}
	}
	return out
}
