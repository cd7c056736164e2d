package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func database(name string) *unstructured.Unstructured {
	return object("{apiVersion: example.com/v1, kind: Database, metadata: {name: " + name + "}, spec: {size: 1}}")
}

// expressions judge Database by its phase.
func expressions(t *testing.T, more ...envrepo.HealthRule) *health.Expressions {
	t.Helper()
	e, err := health.Compile(append(more, envrepo.HealthRule{Group: "example.com", Kind: "Database",
		Ready:   envrepo.Expression{Text: "object.status.phase == 'Running'"},
		Failed:  envrepo.Expression{Text: "object.status.phase == 'Lost'"},
		Message: envrepo.Expression{Text: "object.status.phase + ': ' + object.status.why"}}))
	require.NoError(t, err)
	return e
}

// set writes the status of a live object, as its controller would.
func (w *world) set(id inventory.ID, status map[string]any) {
	w.t.Helper()
	require.NotNil(w.t, w.in.Live[id], id)
	live := w.in.Live[id].DeepCopy()
	live.Object["status"] = status
	w.in.Live[id] = live
}

func TestDecideByExpressions(t *testing.T) {
	db := inventory.ID{Namespace: "shop", Name: "db", Group: "example.com", Kind: "Database"}
	w := newWorld(t)
	w.untagged("sha256:one", database("db"), service("api", "api"), httpRoute())
	w.pass()
	assert.Equal(t, "Ready", string(w.in.Last.Status.Conditions[0].Reason), "an object without status is Current for kstatus")

	w = newWorld(t)
	w.in.Health = expressions(t)
	w.untagged("sha256:one", database("db"), service("api", "api"), httpRoute())
	w.pass()
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: the release is not ready: Database/db: not ready: no such key: status
report Waiting WaitingForHealth: Database/db: not ready: no such key: status
again in 1s
`, w.last())

	w.set(db, map[string]any{"phase": "Starting", "why": "no\nvolume"})
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: the release is not ready: Database/db: Starting: no volume
report Waiting WaitingForHealth: Database/db: Starting: no volume
again in 1s
`, w.last())

	w.set(db, map[string]any{"phase": "Lost", "why": "node is gone"})
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: the release is not ready: Database/db: Lost: node is gone
report Failed HealthFailed: Database/db: Lost: node is gone
again in 1s
`, w.last())

	w.set(db, map[string]any{"phase": "Running", "why": ""})
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Ready: 3 objects are as declared
`, w.last())

	t.Run("what is not ready any more makes the release so", func(t *testing.T) {
		w.set(db, map[string]any{"phase": "Starting", "why": "moving"})
		equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: the release is not ready: Database/db: Starting: moving
report Waiting WaitingForHealth: Database/db: Starting: moving
again in 1s
`, w.last())
	})
	t.Run("and keeps what it replaces from being pruned", func(t *testing.T) {
		w.set(db, map[string]any{"phase": "Running", "why": ""})
		w.pass()
		w.commit(2)
		w.untagged("sha256:one", database("db-2"), service("api", "api"), httpRoute())
		w.pass()
		equal(t, `
release api in production, namespace shop, revision c00000000000
hold routes: the release is not ready: Database/db-2: not ready: no such key: status
prune later
  Database/db
report Waiting WaitingForHealth: Database/db-2: not ready: no such key: status
again in 1s
`, w.last())
		w.after(time.Minute)
		w.set(inventory.ID{Namespace: "shop", Name: "db-2", Group: "example.com", Kind: "Database"}, map[string]any{"phase": "Running", "why": ""})
		equal(t, `
release api in production, namespace shop, revision c00000000000
prune
  Database/db
report Ready: 3 objects are as declared
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: 3 objects are as declared
`, w.pass())
	})
}

// In a tagged release a tag is judged by its own objects, and all that exists
// once with the shared part.
func TestDecideByExpressionsInTags(t *testing.T) {
	own := database("api-green-db")
	own.SetLabels(map[string]string{"sluice.dev/tag": "green"})
	w := newWorld(t)
	w.in.Health = expressions(t)
	w.tagged("blue=100 green=0", append(sharedObjects(), database("db")), tag("blue", "one", 1), tag("green", "two", 1, own))
	w.pass()
	w.up("api-blue", "api-green")
	w.set(inventory.ID{Namespace: "shop", Name: "db", Group: "example.com", Kind: "Database"}, map[string]any{"phase": "Running", "why": ""})
	w.pass()
	w.commit(2)
	w.tagged("blue=50 green=50", append(sharedObjects(), database("db")), tag("blue", "one", 1), tag("green", "two", 1, own))
	equal(t, `
release api in production, namespace shop, revision c00000000000
hold routes: routes stay at blue=100 green=0: tag green is not ready: Database/api-green-db: not ready: no such key: status
report Held TrafficHeld: routes stay at blue=100 green=0: tag green is not ready: Database/api-green-db: not ready: no such key: status
again in 1s
`, w.last())
}

// Kinds that are always well, and those that kstatus knows, are judged by an
// expression where there is one; routes too.
func TestDecideByExpressionsOverridesKstatus(t *testing.T) {
	rule := func(group, kind, ready string) envrepo.HealthRule {
		return envrepo.HealthRule{Group: group, Kind: kind, Ready: envrepo.Expression{Text: ready}}
	}
	w := newWorld(t)
	w.in.Health = expressions(t, rule("", "Service", "has(object.status.loadBalancer)"), rule("apps", "Deployment", "object.status.readyReplicas >= 1"),
		rule("gateway.networking.k8s.io", "HTTPRoute", "size(object.status.parents) > 0"), rule("autoscaling", "HorizontalPodAutoscaler", "object.status.ok"))
	w.untagged("sha256:one", deployment("api", "one", 2), service("metrics", "api"), hpa("api", 1, 3), httpRoute())
	w.pass()
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: the release is not ready: Deployment/api: not ready: no such key: status; HorizontalPodAutoscaler/api: not ready: no such key: status; Service/metrics: not ready: no such key: status
report Waiting WaitingForHealth: Deployment/api: not ready: no such key: status; HorizontalPodAutoscaler/api: not ready: no such key: status; Service/metrics: not ready: no such key: status
again in 1s
`, w.last())
	w.status(w.deployment("api"), 2, 1, 1)
	id := func(group, kind, name string) inventory.ID {
		return inventory.ID{Namespace: "shop", Name: name, Group: group, Kind: kind}
	}
	w.set(id("", "Service", "metrics"), map[string]any{"loadBalancer": map[string]any{}})
	w.set(id("autoscaling", "HorizontalPodAutoscaler", "api"), map[string]any{"ok": true})
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
route
  HTTPRoute/api (create)
report Waiting Applying: the routes are being written
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Waiting RouteNotAccepted: HTTPRoute/api: not ready: no such key: status
again in 1s
`, w.pass())
	w.set(id("gateway.networking.k8s.io", "HTTPRoute", "api"), map[string]any{"parents": []any{map[string]any{}}})
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Ready: 4 objects are as declared
`, w.pass())
}

// A change of status of an object that is judged is a reason for a pass, of one
// that is not is none.
func TestStatusChangesWakeWhatIsJudged(t *testing.T) {
	live := service("api", "api")
	live.SetGeneration(1)
	live.SetResourceVersion("1")
	r := newReleaseMemory(Key{"production", "api"})
	r.remember(inventory.IDOf(live), markOf(live, live))
	r.finished(want{}, Verdict{Ready: true}, Status{})
	changed := live.DeepCopy()
	changed.SetResourceVersion("2")
	require.Equal(t, noticeNone, r.event(sighted(changed, false)))
	due, _, _ := r.due(start)
	assert.False(t, due)

	e, err := health.Compile([]envrepo.HealthRule{{Kind: "Service", Ready: envrepo.Expression{Text: "true"}}})
	require.NoError(t, err)
	r.judgedBy(e)
	r.event(sighted(changed, false))
	due, _, _ = r.due(start)
	assert.True(t, due)
}
