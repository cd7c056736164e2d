package reconciler

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// large is a release of n objects, most of them ConfigMaps.
func large(t testing.TB, n int, suffix string) []*unstructured.Unstructured {
	t.Helper()
	objects := []*unstructured.Unstructured{deployment("api", "one", 2), service("api", "api"), httpRoute()}
	for i := len(objects); i < n; i++ {
		objects = append(objects, configMap(fmt.Sprintf("settings-%05d%s", i, suffix), fmt.Sprint("value ", i)))
	}
	return objects
}

// What a plan costs for an object, by how many there are: at rest, at the first
// sync and when all but the workload leave. The figures of one column must not
// grow with n.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		rest := newWorld(b)
		rest.untagged("sha256:one", large(b, n, "")...)
		rest.pass()
		rest.up("api")
		rest.pass()

		first := newWorld(b)
		first.untagged("sha256:one", large(b, n, "")...)
		first.ensure()

		prune := newWorld(b)
		prune.untagged("sha256:one", large(b, n, "")...)
		prune.pass()
		prune.up("api")
		prune.pass()
		prune.untagged("sha256:one", large(b, 4, "")...)

		for _, c := range []struct {
			name   string
			world  *world
			action Action
		}{{"rest", rest, ""}, {"first", first, ActionIntent}, {"prune", prune, ActionPrune}} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					plan := Decide(c.world.in)
					if c.action == "" && len(plan.Steps) > 0 || c.action != "" && plan.Steps[0].Action != c.action {
						b.Fatal(plan.String())
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/object")
			})
		}
	}
}

// What a status of many objects costs.
func BenchmarkInventory(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		set := inventory.Of(large(b, n, "")...)
		status := set.Status()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				back, err := inventory.FromStatus(status)
				require.NoError(b, err)
				back.Status()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/object")
		})
	}
}

// A plan's work grows with the number of objects and not with its square, as far
// as allocations show it: they can be counted.
func TestDecideGrowsWithTheObjects(t *testing.T) {
	allocations := func(n int) float64 {
		w := newWorld(t)
		w.untagged("sha256:one", large(t, n, "")...)
		w.pass()
		w.up("api")
		w.pass()
		w.untagged("sha256:one", large(t, n/2, "-new")...)
		return testing.AllocsPerRun(1, func() { Decide(w.in) })
	}
	require.Less(t, allocations(4000), 11*allocations(400))
}
