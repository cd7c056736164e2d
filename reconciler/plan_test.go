package reconciler_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/render/diff"
)

// plan is the plan for a release of the given files.
func (f *fixture) plan(content files) reconciler.Plan {
	f.t.Helper()
	f.branch.push(content)
	rev, err := f.branch.Fetch(context.Background())
	require.NoError(f.t, err)
	fsys, err := f.branch.Snapshot(rev)
	require.NoError(f.t, err)
	return f.planOf("api", fsys)
}

// planOf is the plan of one release, with all others of the environment entered.
func (f *fixture) planOf(release string, fsys fs.FS) reconciler.Plan {
	f.t.Helper()
	plan, err := f.engine.PlanEnvironment(context.Background(), "production", fsys, release)
	require.NoError(f.t, err)
	require.Len(f.t, plan.Releases, 1)
	require.NoError(f.t, plan.Releases[0].Err)
	return plan.Releases[0].Plan
}

func (f *fixture) difference(p reconciler.Plan) string {
	return strings.ReplaceAll(diff.Text(diff.Objects(p.Live(), p.Desired(), diff.Mask{Values: p.Values()})), f.namespace, "NAMESPACE")
}

func TestPlanSaysWhatWouldBeDoneAndDoesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	text := strings.ReplaceAll(f.plan(project(f.namespace)).String(), f.namespace, "NAMESPACE")
	assert.Equal(t, `release api in production, namespace NAMESPACE
record intent
  ConfigMap/api-one
  Deployment/api
  HTTPRoute/api
  Service/api
apply config
  ConfigMap/api-one (create)
apply services
  Service/api (create)
apply workloads
  Deployment/api (create)
hold routes: the release is not ready: Deployment/api is being applied
report Waiting Applying: objects are being applied
again in 1s
`, text)
	assert.Nil(t, f.release("api"))
	assert.Empty(t, f.ownedBy("api"))

	f.ready(project(f.namespace))
	t.Run("nothing to do", func(t *testing.T) {
		p := f.plan(project(f.namespace))
		assert.False(t, p.Writes(), p.String())
		assert.Equal(t, "no changes, 4 unchanged\n", f.difference(p))
	})
	t.Run("a change", func(t *testing.T) {
		p := f.plan(project(f.namespace).with(files{
			"environments/production/api/config.yaml":        config("two"),
			"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("2")),
		}))
		text := strings.ReplaceAll(p.String(), f.namespace, "NAMESPACE")
		assert.Equal(t, `release api in production, namespace NAMESPACE
record intent
  ConfigMap/api-two
apply config
  ConfigMap/api-two (create)
apply workloads
  Deployment/api (update)
hold routes: the release is not ready: Deployment/api is being applied
prune later
  ConfigMap/api-one
report Waiting Applying: objects are being applied
again in 1s
`, text)
		text = f.difference(p)
		assert.Contains(t, text, "image: registry.example.com/shop/api@"+digest("2"))
		assert.NotContains(t, text, "terminationMessagePath:", "defaults are not differences")
	})
	t.Run("somebody's edit", func(t *testing.T) {
		live := f.get("Deployment", "api")
		require.NoError(t, unstructured.SetNestedField(live.Object, int64(5), "spec", "replicas"))
		require.NoError(t, f.api.Update(context.Background(), live))
		text := f.difference(f.plan(project(f.namespace)))
		assert.Contains(t, text, "-  replicas: 5\n+  replicas: 2\n")
		assert.EqualValues(t, 5, f.replicas("api"))
	})
}

func TestPlanOfAnObjectThatWouldBeRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plan(project(f.namespace).with(files{
		"environments/production/api/config.yaml": config("one") + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\nimmutable: often\n",
	}))
	require.Len(t, p.Refused(), 1)
	assert.Contains(t, p.Refused()[0].Error(), "applying ConfigMap/bad: ")
}

func TestPlanBeforeThereIsANamespace(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, testcluster.Unused(t))
	p := f.plan(project(f.namespace))
	assert.Contains(t, p.String(), "report Failed NamespaceMissing: namespace "+f.namespace+" does not exist")

	f.engine = f.newEngine(func(c *reconciler.Config) { c.CreateNamespaces = true })
	p = f.plan(project(f.namespace))
	assert.Contains(t, p.String(), "ensure namespace\n  Namespace/"+f.namespace+" (create)\nrecord intent\n")
	assert.Len(t, p.Desired(), 5) // with the route, which follows
}

func TestPlanOfAReleaseThatLeaves(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(two(f.namespace))
	f.branch.push(project(f.namespace))
	fsys, err := f.branch.Snapshot(revision(3))
	require.NoError(t, err)
	plan := f.planOf("web", fsys)
	assert.Equal(t, `release web in production, namespace NAMESPACE
prune
  HTTPRoute/web
prune later
  Deployment/web
  Service/web
  ConfigMap/web-one
report Removed: the release is no longer in the repository
`, strings.ReplaceAll(plan.String(), f.namespace, "NAMESPACE"))
	assert.Len(t, plan.Live(), 4)
	assert.Empty(t, plan.Desired())
	assert.Len(t, f.ownedBy("web"), 4)

	_, err = f.engine.PlanEnvironment(context.Background(), "production", fsys, "wbe")
	assert.EqualError(t, err, "environment production has no release wbe, neither in the repository nor in the cluster")
}
