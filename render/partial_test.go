package render_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

func TestBuildPartialKeepsBrokenTagsApart(t *testing.T) {
	const api = "environments/production/api/"
	read := func(path string) string {
		data, err := fs.ReadFile(shop(), path)
		require.NoError(t, err)
		return string(data)
	}
	green := read(api + "green/kustomization.yaml")
	base := read(api + "base/kustomization.yaml")
	greenWith := func(old, text string) map[string]string {
		require.Contains(t, green, old)
		return map[string]string{api + "green/kustomization.yaml": strings.Replace(green, old, text, 1)}
	}
	sealed := read(api + "base/secrets.env")
	whole, err := render.Build(context.Background(), render.Request{FS: shop(), Release: releaseOf(t, shop(), "production", "api"), Decrypt: keyed(t, "production")})
	require.NoError(t, err)
	tests := []struct {
		name   string
		files  map[string]string
		broken string // the tags
		err    string // part of each one's
	}{
		{"no YAML", map[string]string{api + "green/kustomization.yaml": "images: [\n"}, "green", "green/kustomization.yaml:"},
		{"misspelt image", greenWith("- name: registry.example.com/shop/api", "- name: registry.example.com/shop/apy"), "green", "pins nothing"},
		{"pinned by tag", greenWith("  digest: sha256:3f2a9c0d41e7aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "  newTag: v1"), "green", "is pinned by tag"},
		{"missing file", greenWith("resources: [../base]", "resources: [../base, gone.yaml]"), "green", `"gone.yaml" does not exist`},
		{"missing base", greenWith("resources: [../base]", "resources: [../bass]"), "green", `"../bass" does not exist`},
		{"refused by the guard", greenWith("resources: [../base]", "resources: [../base, 'https://example.com/x']"), "green", "https://example.com/x"},
		{"refused by Kustomize", greenWith("behavior: merge", "behavior: create"), "green", "building environments/production/api/green"},
		{"other namespace", greenWith("namespace: shop-production", "namespace: elsewhere"), "green", "is not in the environment's namespace"},
		{"lost suffix", greenWith("nameSuffix: -green", ""), "green", "is declared in environments/production/api too"},
		{"the suffix of another tag", greenWith("nameSuffix: -green", "nameSuffix: -blue"), "blue green", "is declared in environments/production/api/"},
		{"labels of another tag", greenWith("app.kubernetes.io/instance: api-green", "app.kubernetes.io/instance: other"), "green", "where api-green is due"},
		{"a secret that no key opens", map[string]string{
			api + "green/kustomization.yaml": green + "secretGenerator:\n- name: more\n  envs: [more.env]\n",
			api + "green/more.env":           strings.Replace(sealed, "sops_age", "sops_agx", 1),
		}, "green", "green/more.env"},
		{"their base", map[string]string{api + "base/kustomization.yaml": base + "bases: [\n"}, "blue green", "base/kustomization.yaml"},
		{"a secret of their base", map[string]string{api + "base/secrets.env": strings.Replace(sealed, "ENC[AES256_GCM,data:", "ENC[AES256_GCM,data:AAAA", 1)}, "blue green", "base/secrets.env"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := edited(t, tt.files)
			repo, err := envrepo.Open(fsys)
			require.NoError(t, err)
			rel, err := repo.PartialRelease("production", "api")
			require.NoError(t, err)
			request := render.Request{FS: fsys, Release: rel, Decrypt: keyed(t, "production")}
			res, err := render.BuildPartial(context.Background(), request)
			require.NoError(t, err)
			assert.Equal(t, toYAML(t, whole.Shared), toYAML(t, res.Shared))
			var broken []string
			for i, tag := range res.Tags {
				if tag.Broken == nil {
					assert.Equal(t, toYAML(t, whole.Tags[i].Objects), toYAML(t, tag.Objects), "%s is as it was", tag.Name)
					continue
				}
				broken = append(broken, tag.Name)
				assert.Nil(t, tag.Objects)
				assert.ErrorContains(t, tag.Broken, tt.err)
				for _, value := range whole.Values {
					assert.NotContains(t, tag.Broken.Error(), value)
				}
			}
			assert.Equal(t, tt.broken, strings.Join(broken, " "))

			strict, err := render.Build(context.Background(), request)
			assert.Nil(t, strict)
			assert.ErrorContains(t, err, tt.err, "Build refuses the release")
			closure, _ := render.InputClosure(fsys, rel)
			assert.Contains(t, closure.Paths, "environments/production/api", "the repair is seen")
		})
	}
}

func TestBuildPartialFailsForWhatExistsOnce(t *testing.T) {
	const api = "environments/production/api/"
	for name, files := range map[string]map[string]string{
		"no YAML":      {api + "kustomization.yaml": "resources: [\n"},
		"missing file": {api + "route.yaml": "-"},
		"namespace":    {api + "kustomization.yaml": "namespace: elsewhere\nresources: [../../../components/api/shared, route.yaml, service.yaml]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := edited(t, files)
			res, err := render.BuildPartial(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, shop(), "production", "api"), Decrypt: keyed(t, "production")})
			assert.Error(t, err)
			assert.Nil(t, res)
		})
	}
}

func TestBuildPartialTakesNoEndOfTheContextForABrokenTag(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	open := keyed(t, "production")
	decrypt := func(path string, data []byte) (render.Decrypted, error) {
		if strings.HasSuffix(path, "secrets.env") {
			cancel()
		}
		return open(path, data)
	}
	_, err := render.BuildPartial(ctx, render.Request{FS: shop(), Release: releaseOf(t, shop(), "production", "api"), Decrypt: decrypt})
	assert.ErrorIs(t, err, context.Canceled)
}

func TestBuildPartialOpensABadFileOnce(t *testing.T) {
	opened := 0
	decrypt := func(path string, data []byte) (render.Decrypted, error) {
		if strings.HasSuffix(path, "secrets.env") {
			opened++
			return render.Decrypted{}, errors.New("the key service does not answer")
		}
		return render.Decrypted{Data: data}, nil
	}
	res, err := render.BuildPartial(context.Background(), render.Request{FS: shop(), Release: releaseOf(t, shop(), "production", "api"), Decrypt: decrypt})
	require.NoError(t, err)
	assert.Equal(t, 1, opened)
	for _, tag := range res.Tags {
		assert.ErrorContains(t, tag.Broken, "the key service does not answer")
	}
	_, err = render.Build(context.Background(), render.Request{FS: shop(), Release: releaseOf(t, shop(), "production", "api"), Decrypt: decrypt})
	assert.EqualError(t, err, "rendering environments/production/api: the key service does not answer", "said once")
}
