package reconciler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
)

// many is a release of twenty tags with so many ConfigMaps each, and 98 beside them:
// with the workloads, Services and the route 5,000 objects for 243. Two of the tags are
// listed; a route would not take all of them. Fewer and larger folders would test
// Kustomize, which is quadratic.
func many(namespace string, each int) files {
	list := func(prefix string, n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s-%04d}\ndata: {value: \"%d\"}\n", prefix, i, i)
		}
		return text.String()
	}
	digests := map[string]string{}
	for i := range 20 {
		digests[fmt.Sprintf("tag%02d", i)] = digest(fmt.Sprint(i))
	}
	return project(namespace).tagged(namespace, "weights: {tag00: 70, tag01: 30}", digests).with(files{
		"components/api/kustomization.yaml":              kustomization("resources: [deployment.yaml, service.yaml, settings.yaml]"),
		"components/api/settings.yaml":                   list("settings-of-a-tag", each),
		"environments/production/api/kustomization.yaml": kustomization("namespace: "+namespace, "resources: [route.yaml, service.yaml, settings.yaml]"),
		"environments/production/api/settings.yaml":      list("settings-of-the-release", 98),
	})
}

// A release of 5,000 objects fits: into the Release, its patches and the pass; and
// so does pruning two thousand of them.
func TestReleaseOfFiveThousandObjects(t *testing.T) {
	f := newFixture(t) // alone: it keeps the machine busy for a while
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(c.REST) })
	converge := func(content files) reconciler.Status {
		t.Helper()
		f.branch.push(content)
		l.quiet()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		report, err := f.engine.Converge(ctx, "production", "", func(s reconciler.Status) {
			t.Logf("%s %s %s", time.Now().Format("04:05.000"), s.Reason, s.Message)
		})
		require.NoError(t, err)
		require.True(t, report.OK(), "%+v", report.Releases)
		return report.Releases[0]
	}
	s := converge(many(f.namespace, 243))
	assert.Equal(t, reconciler.Counts{Created: 5000}, s.Counts)
	r := f.release("api")
	assert.Len(t, r.Status.Inventory.Entries, 5000)
	assert.Equal(t, "Current", judge(t, r))
	size := func() int {
		data, err := json.Marshal(f.release("api"))
		require.NoError(t, err)
		return len(data)
	}
	assert.Less(t, size(), 1<<20, "etcd takes 1.5 MiB")
	t.Logf("the Release has %d bytes, written by %v", size(), l.toReleases())
	assert.Equal(t, []string{"POST /releases", "PATCH /releases/api/status"}, l.toReleases()[:2])

	s = converge(many(f.namespace, 143))
	assert.Equal(t, reconciler.Counts{Unchanged: 3000, Pruned: 2000}, s.Counts)
	assert.Len(t, f.release("api").Status.Inventory.Entries, 3000)
	// One, and another where the drain delay of the first routes was not over yet.
	assert.LessOrEqual(t, len(l.toReleases()), 2)
	assert.Subset(t, []string{"PATCH /releases/api/status"}, l.toReleases())
}
