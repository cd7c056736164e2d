package render_test

import (
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// memory is Kustomize's own in-memory file system with the shop decrypted.
func memory(b *testing.B) filesys.FileSystem {
	b.Helper()
	mem := filesys.MakeFsInMemory()
	open := keyed(b, "development", "production")
	require.NoError(b, fs.WalkDir(shop(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(shop(), p)
		require.NoError(b, err)
		o, err := open(p, data)
		require.NoError(b, err)
		return mem.WriteFile("/"+p, o.Data)
	}))
	return mem
}

func bare(b *testing.B, mem filesys.FileSystem, dirs ...string) {
	b.Helper()
	for _, dir := range dirs {
		if _, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(mem, "/"+dir); err != nil {
			b.Fatal(err)
		}
	}
}

func build(b *testing.B, fsys fs.FS, rel envrepo.Release, d render.Decrypt) {
	b.Helper()
	if _, err := render.Build(context.Background(), render.Request{FS: fsys, Release: rel, Decrypt: d}); err != nil {
		b.Fatal(err)
	}
}

// What the guard, decryption and the checks cost beside Kustomize alone.
func BenchmarkBuild(b *testing.B) {
	mem := memory(b)
	api := []string{"environments/production/api", "environments/production/api/blue", "environments/production/api/green"}
	b.Run("untagged", func(b *testing.B) {
		rel, d := releaseOf(b, shop(), "development", "api"), keyed(b, "development")
		for b.Loop() {
			build(b, shop(), rel, d)
		}
	})
	b.Run("untagged/kustomize", func(b *testing.B) {
		for b.Loop() {
			bare(b, mem, "environments/development/api")
		}
	})
	b.Run("tagged", func(b *testing.B) {
		rel, d := releaseOf(b, shop(), "production", "api"), keyed(b, "production")
		for b.Loop() {
			build(b, shop(), rel, d)
		}
	})
	b.Run("tagged/kustomize", func(b *testing.B) {
		for b.Loop() {
			bare(b, mem, api...)
		}
	})
	b.Run("tagged/lint", func(b *testing.B) { // what Lint is of tagged
		res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: releaseOf(b, shop(), "production", "api"), Decrypt: keyless})
		require.NoError(b, err)
		for b.Loop() {
			render.Lint(res)
		}
	})
	b.Run("closure", func(b *testing.B) {
		rel := releaseOf(b, shop(), "production", "api")
		for b.Loop() {
			if _, err := render.InputClosure(shop(), rel); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Many releases on one core and on all, beside Kustomize alone.
func BenchmarkBuildMany(b *testing.B) {
	const n = 100
	fsys := fstest.MapFS{"sluice.yaml": &fstest.MapFile{Data: []byte("x")}}
	var releases []envrepo.Release
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		dir := "environments/e/" + name
		fsys[dir+"/kustomization.yaml"] = &fstest.MapFile{Data: []byte("namespace: e\nresources: [../../../components/" + name + "]\nimages: [{name: api, digest: sha256:" + strings.Repeat("0", 64) + "}]\n")}
		fsys["components/"+name+"/kustomization.yaml"] = &fstest.MapFile{Data: []byte("resources: [all.yaml]\n")}
		all, err := fs.ReadFile(shop(), "components/api/deployment.yaml")
		require.NoError(b, err)
		service, err := fs.ReadFile(shop(), "components/api/service.yaml")
		require.NoError(b, err)
		text := strings.ReplaceAll(string(all)+"---\n"+string(service), "registry.example.com/shop/api", "api")
		fsys["components/"+name+"/all.yaml"] = &fstest.MapFile{Data: []byte(text)}
		releases = append(releases, envrepo.Release{Name: name, Dir: dir, Environment: envrepo.Environment{Name: "e", Namespace: "e"},
			Component: envrepo.Component{Name: name, Image: "api"}, Digest: "sha256:" + strings.Repeat("0", 64)})
	}
	mem := filesys.MakeFsInMemory()
	for p, f := range fsys {
		require.NoError(b, mem.WriteFile("/"+p, f.Data))
	}
	for _, how := range []struct {
		name string
		one  func(b *testing.B, r envrepo.Release)
	}{
		{"sluice", func(b *testing.B, r envrepo.Release) { build(b, fsys, r, nil) }},
		{"kustomize", func(b *testing.B, r envrepo.Release) { bare(b, mem, r.Dir) }},
	} {
		for _, cores := range []int{1, runtime.GOMAXPROCS(0)} {
			b.Run(fmt.Sprintf("%s/cores=%d", how.name, cores), func(b *testing.B) {
				for b.Loop() {
					var next atomic.Int64
					var workers sync.WaitGroup
					for range cores {
						workers.Go(func() {
							for i := next.Add(1); i <= n; i = next.Add(1) {
								how.one(b, releases[i-1])
							}
						})
					}
					workers.Wait()
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "overlays/s")
			})
		}
	}
}

// A tag of many workloads, each with a Service: what Lint takes grows with their
// product at worst, what Kustomize takes does too.
func BenchmarkLintLarge(b *testing.B) {
	var objects strings.Builder
	for i := range 400 {
		fmt.Fprintf(&objects, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w%[1]d}\nspec:\n  selector: {matchLabels: {app: w%[1]d, app.kubernetes.io/instance: api}}\n"+
			"  template: {metadata: {labels: {app: w%[1]d, app.kubernetes.io/instance: api}}, spec: {containers: [{name: w, image: w}]}}\n"+
			"---\napiVersion: v1\nkind: Service\nmetadata: {name: w%[1]d}\nspec: {selector: {app: w%[1]d, app.kubernetes.io/instance: api}}\n", i)
	}
	fsys := edited(b, more(objects.String()))
	req := render.Request{FS: fsys, Release: releaseOf(b, fsys, "production", "api"), Decrypt: keyless}
	res, _, err := render.Inspect(context.Background(), req)
	require.NoError(b, err)
	b.Run("inspect", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := render.Inspect(context.Background(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lint", func(b *testing.B) {
		for b.Loop() {
			render.Lint(res)
		}
	})
}
