package render_test

import (
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// onlyKustomizations fails on reading any other file.
type onlyKustomizations struct {
	fstest.MapFS
	t *testing.T
}

func (o onlyKustomizations) check(name string) {
	if path.Ext(name) != "" && path.Base(name) != "kustomization.yaml" {
		o.t.Errorf("%s was read", name)
	}
}

func (o onlyKustomizations) ReadFile(name string) ([]byte, error) {
	o.check(name)
	return o.MapFS.ReadFile(name)
}

func (o onlyKustomizations) Open(name string) (fs.File, error) {
	o.check(name)
	return o.MapFS.Open(name)
}

func TestInputClosure(t *testing.T) {
	tests := []struct {
		env, name string
		files     map[string]string
		want      []string
		err       string
	}{
		{"production", "api", nil, []string{"components/api", "environments/production/api", "sluice.yaml"}, ""},
		{"development", "api", nil, []string{"components/api", "environments/development/api", "sluice.yaml"}, ""},
		{"development", "web", nil, []string{"components/web", "environments/development/web", "sluice.yaml"}, ""},
		{"production", "environment", nil, []string{"components/policies", "environments/production/Kustomization", "environments/production/kustomization.yaml",
			"environments/production/kustomization.yml", "sluice.yaml"}, ""},
		{"development", "environment", nil, []string{"environments/development/Kustomization", "environments/development/kustomization.yaml",
			"environments/development/kustomization.yml", "environments/development/namespace.yaml", "environments/development/netpol.yaml", "sluice.yaml"}, ""},
		{"production", "web", map[string]string{
			"environments/production/web/kustomization.yaml":    "resources: [../common, ../../../components/api/shared]\n",
			"environments/production/common/kustomization.yaml": "resources: [x.yaml]\n",
			"environments/production/common/x.yaml":             "x",
		}, []string{"components/api/shared", "components/web/component.yaml", "environments/production/common", "environments/production/web", "sluice.yaml"}, ""},
		// What is broken is still watched.
		{"production", "web", map[string]string{"environments/production/web/kustomization.yaml": "resources: [../absent, ../../../components/web, ../../development/web, 'https://example.com/x']\n"},
			[]string{"components/web", "environments/production/absent", "environments/production/web", "sluice.yaml"},
			"environments/production/web/kustomization.yaml:1: resources: \"../absent\" does not exist\n" +
				"environments/production/web/kustomization.yaml:1: resources: \"../../development/web\" is in another environment's folder\n" +
				"environments/production/web/kustomization.yaml:1: resources: \"https://example.com/x\" is a URL or a remote location"},
		{"production", "web", map[string]string{"environments/production/web/kustomization.yaml": "resources: [\n"},
			[]string{"components/web/component.yaml", "environments/production/web", "sluice.yaml"},
			"environments/production/web/kustomization.yaml:1: is not valid YAML: did not find expected node content"},
		{"production", "web", map[string]string{"components/web/kustomization.yaml": "openapi: {}\n"},
			[]string{"components/web", "environments/production/web", "sluice.yaml"},
			"components/web/kustomization.yaml:1: openapi: is not supported: the schema is shared by all renders"},
		{"production", "api", map[string]string{"components/api/kustomization.yaml": "-"},
			[]string{"components/api", "environments/production/api", "sluice.yaml"},
			"components/api: has no kustomization.yaml"},
		{"development", "environment", map[string]string{"environments/development/kustomization.yaml": "resources: [absent.yaml, api]\n"},
			[]string{"components/api", "environments/development/Kustomization", "environments/development/absent.yaml", "environments/development/api",
				"environments/development/kustomization.yaml", "environments/development/kustomization.yml", "sluice.yaml"},
			"environments/development/kustomization.yaml:1: resources: \"absent.yaml\" does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.env+"/"+tt.name, func(t *testing.T) {
			fsys := onlyKustomizations{edited(t, tt.files).(fstest.MapFS), t}
			rel := envrepo.Release{Name: tt.name, Environment: envrepo.Environment{Name: tt.env}, Dir: "environments/" + tt.env}
			if tt.name != envrepo.EnvironmentRelease {
				rel.Dir += "/" + tt.name
			}
			if tt.env == "production" && tt.name == "api" {
				rel.Traffic = &envrepo.Traffic{}
				rel.Tags = []envrepo.Tag{{Name: "blue", Dir: rel.Dir + "/blue"}, {Name: "green", Dir: rel.Dir + "/green"}}
			}
			got, err := render.InputClosure(fsys, rel)
			assert.Equal(t, tt.want, got.Paths)
			if tt.err == "" {
				require.NoError(t, err)
			} else {
				assert.EqualError(t, err, tt.err)
			}
		})
	}
}

// Everything that is read, by a build or to find the closure, is in it.
func TestInputClosureCoversTheBuild(t *testing.T) {
	for _, r := range [][2]string{{"development", "api"}, {"development", "web"}, {"production", "api"}, {"production", "environment"}, {"development", "environment"}} {
		fsys := &readLog{MapFS: edited(t, nil).(fstest.MapFS), read: map[string]bool{}}
		rel := releaseOf(t, shop(), r[0], r[1])
		closure, err := render.InputClosure(fsys, rel)
		require.NoError(t, err)
		_, err = render.Build(t.Context(), render.Request{FS: fsys, Release: rel, Decrypt: keyless})
		require.NoError(t, err)
		for p := range fsys.read {
			covered := false
			for _, c := range closure.Paths {
				covered = covered || p == c || strings.HasPrefix(p, c+"/")
			}
			assert.True(t, covered, "%s is read by %v", p, r)
		}
	}
}

type readLog struct {
	fstest.MapFS
	read map[string]bool
}

func (r *readLog) ReadFile(name string) ([]byte, error) {
	r.read[name] = true
	return r.MapFS.ReadFile(name)
}
