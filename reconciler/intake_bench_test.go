package reconciler

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
)

// many is a project of n components in one environment: a kustomization, a
// Deployment, a Service and configuration each, and a base that all share.
func many(n int) gitCommit {
	c := gitCommit{
		"sluice.yaml":                                "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments:\n- {name: production, namespace: shop}\n",
		"components/common/kustomization.yaml":       "resources: [policy.yaml]\n",
		"components/common/policy.yaml":              "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: policy}\n",
		"environments/production/kustomization.yaml": "resources: [quota.yaml]\n",
		"environments/production/quota.yaml":         "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: quota}\n",
	}
	for i := range n {
		name := fmt.Sprintf("c%05d", i)
		component, release := "components/"+name, "environments/production/"+name
		c[component+"/component.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: " + name + "}\nimage: shop/" + name + "\n"
		c[component+"/kustomization.yaml"] = "resources: [deployment.yaml, service.yaml, ../common]\n"
		c[component+"/deployment.yaml"] = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + "}\n"
		c[component+"/service.yaml"] = "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\n"
		c[release+"/kustomization.yaml"] = overlayOf(name, 0)
		c[release+"/config.env"] = "a=b\n"
	}
	return c
}

func overlayOf(name string, digest int) string {
	return fmt.Sprintf("namespace: shop\nresources: [../../../components/%s]\nconfigMapGenerator: [{name: config, envs: [config.env]}]\nimages: [{name: shop/%s, digest: sha256:%064x}]\n", name, name, digest)
}

// BenchmarkTakeIn is what a commit costs before any release is passed over.
func BenchmarkTakeIn(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		changed, shared := fmt.Sprintf("c%05d", n/2), "components/common/policy.yaml"
		repo, revs := history(b, []gitCommit{many(n),
			{"environments/production/" + changed + "/kustomization.yaml": overlayOf(changed, 1)},
			{"builds/" + changed + "/0.yaml": "x"},
			{shared: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: policy}\ndata: {a: b}\n"},
		})
		b.Run(fmt.Sprintf("first/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			s := at(b, repo, revs[0])
			for b.Loop() {
				require.Equal(b, n+1, len(takeIn(b, &inputs{}, "production", s).releases))
			}
		})
		for _, c := range []struct {
			name   string
			at     int
			looked int
		}{{"one", 1, 1}, {"none", 2, 0}, {"all", 3, n + 1}} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.ReportAllocs()
				before, after := at(b, repo, revs[c.at-1]), at(b, repo, revs[c.at])
				in := takeIn(b, &inputs{}, "production", before)
				read := repo.FoldersRead()
				for i := 0; b.Loop(); i++ {
					if i%2 == 0 {
						next := compared(b, in, "production", after)
						require.Equal(b, c.looked, len(next.looked))
						in = next.after()
					} else {
						in = takeIn(b, in, "production", before)
					}
				}
				b.ReportMetric(float64(repo.FoldersRead()-read)/float64(b.N), "folders/op")
			})
		}
		b.Run(fmt.Sprintf("memory/%d", n), func(b *testing.B) {
			s := at(b, repo, revs[0])
			for b.Loop() {
				before := heap()
				in := takeIn(b, &inputs{}, "production", s)
				b.ReportMetric(float64(heap()-before)/float64(n), "B/release")
				runtime.KeepAlive(in)
			}
		})
	}
}

// heap is how much is alive.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkPush is a commit of one file from the remote's answer to the releases
// that it changes: fetch, snapshot, comparison.
func BenchmarkPush(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			repo, _ := history(b, []gitCommit{many(n)})
			other, err := gitrepo.Open(context.Background(), gitrepo.Options{URL: repo.Name()})
			require.NoError(b, err)
			defer other.Close()
			in := takeIn(b, &inputs{}, "production", at(b, repo, "HEAD"))
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				name := fmt.Sprintf("c%05d", i%n)
				_, err := other.Update(context.Background(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
					return gitrepo.Edit{Message: "x", Write: map[string][]byte{"environments/production/" + name + "/kustomization.yaml": []byte(overlayOf(name, i+1))}}, nil
				})
				require.NoError(b, err)
				b.StartTimer()
				rev, err := repo.Fetch(context.Background())
				require.NoError(b, err)
				in = takeIn(b, in, "production", at(b, repo, rev))
			}
		})
	}
}
