package reconciler_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// routedBy is a release of two tags with a route of this name, which is never deleted if
// it is to be kept.
func (f *fixture) routedBy(name, weights string, kept bool) files {
	named := strings.Replace(route, "{name: api}", "{name: "+name+"}", 1)
	if kept {
		named = strings.Replace(named, "{name: "+name+"}", "{name: "+name+", annotations: {sluice.dev/prune: disabled}}", 1)
	}
	return f.bluegreen("weights: {"+weights+"}", "1", "2").with(files{"environments/production/api/route.yaml": named})
}

// TestRenamedRouteGoesBeforeWhatItLeadsTo renames a route and takes a tag off the list in
// one commit.
func TestRenamedRouteGoesBeforeWhatItLeadsTo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.routedBy("api", "blue: 60, green: 40", false))
	w := &writes{}
	f.engine = f.newEngine(w.config)
	f.ready(f.routedBy("shop", "blue: 100", false))
	order := []int{w.index(false, "PATCH httproutes/shop", ""), w.index(false, "DELETE httproutes/api", ""), w.index(false, "PATCH deployments/api-green", `"replicas":0`)}
	require.NotContains(t, order, -1)
	assert.IsIncreasing(t, order)
	assert.Zero(t, f.replicas("api-green"))
	f.settled("the route is renamed")
}

// TestKeptRouteHoldsItsTagUntilItIsGone does the same where the old route is never
// deleted: the tag runs until somebody deletes it, also for a process that has just begun.
func TestKeptRouteHoldsItsTagUntilItIsGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.routedBy("api", "blue: 60, green: 40", true))
	report := f.apply(f.routedBy("shop", "blue: 100", false))
	s := statusOf(t, report, "api")
	assert.Equal(t, reconciler.StateHeld, s.State)
	assert.Equal(t, v1alpha1.ReasonRetireHeld, s.Reason)
	assert.Equal(t, "tag green is not scaled to zero: HTTPRoute/api, which is kept (sluice.dev/prune is disabled), leads requests to Service/api-green", s.Message)
	assert.Contains(t, s.Hint, "kubectl delete httproute.gateway.networking.k8s.io/api")
	assert.EqualValues(t, 2, f.replicas("api-green"))

	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	before := f.release("api")
	f.run()
	f.eventually("the engine has looked at it", func() bool {
		return l.count("GET /apis/gateway.networking.k8s.io/v1/namespaces/"+f.namespace+"/httproutes/api") > 0
	})
	n := 0
	f.calm("what a gateway says of the route sends nothing", l, func() {
		n++
		status := fmt.Sprintf(`{"status": {"parents": [{"controllerName": "example.com/gateway", "parentRef": {"name": "shop"}, "conditions": [`+
			`{"type": "Programmed", "status": "True", "reason": "Round%d", "message": "", "lastTransitionTime": "2026-11-22T10:00:00Z"}]}]}}`, n)
		require.NoError(t, f.api.Status().Patch(context.Background(), f.get("HTTPRoute", "api"), client.RawPatch(types.MergePatchType, []byte(status))))
	})
	require.NoError(t, f.api.Delete(context.Background(), f.get("HTTPRoute", "api")))
	f.eventually("the tag is retired", func() bool { return f.replicas("api-green") == 0 && f.stalled("api") == "" })
	assert.Equal(t, v1alpha1.ReasonRetireHeld, before.Condition(v1alpha1.ConditionReady).Reason)
	assert.True(t, before.Ready(), "what is declared runs")
	f.eventually("all is as declared", func() bool {
		r := f.release("api")
		return r.Ready() && r.Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonReady
	})
}
