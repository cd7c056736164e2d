package reconciler_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// refused gives tag green a Deployment that renders and that the API server
// refuses.
func (f files) refused() files {
	return f.with(files{greenOverlay: f[greenOverlay] +
		"patches:\n- target: {kind: Deployment}\n  patch: '[{\"op\": \"add\", \"path\": \"/spec/replicas\", \"value\": -1}]'\n"})
}

func TestRefusedTagCanBeLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2"))
	green := f.generations()
	t.Run("its weight may not rise, and the other tag is rolled out", func(t *testing.T) {
		s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 40, green: 60}", "3", "2").refused()), "api")
		assert.Equal(t, reconciler.StateFailed, s.State)
		assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason)
		assert.Contains(t, s.Message, "spec.replicas")
		assert.NotEmpty(t, s.Hint)
		assert.Equal(t, "blue=50 green=50", s.Traffic)
		assert.Contains(t, f.image("api-blue"), digest("3"))
		assert.Equal(t, "api-blue=50 api-green=50", f.weights())
		assert.Equal(t, green, f.generations(), "what runs of green runs on")
	})
	t.Run("its weight falls", func(t *testing.T) {
		f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "3", "2").refused())
		f.run()
		f.eventually("green is left", func() bool {
			s := f.release("api").Status
			return s.Traffic.Weights[0].Percent == 100 && s.Tags[0].Weight == 100 && s.Tags[1].Weight == 0
		})
		assert.Equal(t, "api-blue=100 api-green=0", f.weights())
		stalled := f.release("api").Condition(v1alpha1.ConditionStalled)
		assert.Equal(t, v1alpha1.ReasonApplyFailed, stalled.Reason)
		assert.Contains(t, stalled.Message, "spec.replicas")
		assert.Equal(t, green, f.generations(), "what runs of green runs on")
	})
	t.Run("repaired it is ready", func(t *testing.T) {
		f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "3", "2"))
		f.eventually("it is", func() bool { return f.release("api").Ready() })
	})
}

func TestTagCanBeLeftBehindADependencyThatFailed(t *testing.T) {
	for name, restart := range map[string]bool{"by who has applied it": false, "by who has just started": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2"))
			green := f.generations()
			if restart {
				f.engine = f.newEngine()
			}
			s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 100, green: 0}", "1", "3").with(files{
				"environments/production/kustomization.yaml": kustomization("namespace: "+f.namespace, "resources: [refused.yaml]"),
				"environments/production/refused.yaml":       "apiVersion: v1\nkind: Service\nmetadata: {name: refused}\nspec: {ports: [{port: 99999}]}\n",
			})), "api")
			assert.Equal(t, v1alpha1.ReasonDependencyNotReady, s.Reason)
			assert.Equal(t, "blue=100 green=0", s.Traffic)
			assert.Equal(t, "api-blue=100 api-green=0", f.weights())
			assert.Equal(t, green, f.generations(), "the change of green is held back")
		})
	}
}

// selects has the Service select pods by a label that the Deployment gives them.
func (f files) selects(value string, replicas int) files {
	label := fmt.Sprintf(", generation: %s}", value)
	return f.with(files{
		"components/api/service.yaml": strings.Replace(f["components/api/service.yaml"], "instance: api}\n  ports", "instance: api"+label+"\n  ports", 1),
		"components/api/deployment.yaml": strings.NewReplacer(
			"template:\n    metadata: {labels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}", "template:\n    metadata: {labels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api"+label,
			"replicas: 2", fmt.Sprintf("replicas: %d", replicas)).Replace(f["components/api/deployment.yaml"]),
	})
}

// A Service must not select by a label that the refused Deployment would have
// given its pods.
func TestACommitIsNotAppliedInPart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.ready(project(f.namespace).selects("one", 2))
	sent := func() int { return l.count("PATCH ") }
	before, service := sent(), f.get("Service", "api").GetResourceVersion()

	s := statusOf(t, f.apply(project(f.namespace).selects("two", -1)), "api")
	assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason)
	assert.Contains(t, s.Message, "applying Deployment/api: ")
	assert.Contains(t, s.Message, "spec.replicas")
	assert.NotEmpty(t, s.Hint)
	assert.Equal(t, service, f.get("Service", "api").GetResourceVersion(), "nothing of the commit is applied")
	assert.NotContains(t, fmt.Sprint(f.get("Service", "api").Object["spec"]), "generation:two")
	s = statusOf(t, f.apply(project(f.namespace).selects("two", -1).with(files{
		"components/api/deployment.yaml": strings.Replace(project(f.namespace)["components/api/deployment.yaml"], "replicas: 2", "replicas: two", 1)})), "api")
	assert.Contains(t, s.Message, "spec.replicas")
	assert.Equal(t, service, f.get("Service", "api").GetResourceVersion(), "nor where its schema is the reason")
	require.Greater(t, sent(), before)

	l.quiet()
	f.ready(project(f.namespace).selects("two", 2))
	assert.Contains(t, fmt.Sprint(f.get("Service", "api").Object["spec"]), "generation:two")
	assert.Contains(t, fmt.Sprint(f.get("Deployment", "api").Object["spec"]), "generation:two")
	assert.Equal(t, 1, l.count("PATCH /api/v1/namespaces/"+f.namespace+"/services/api"), "the first of two is its own trial")
	assert.Equal(t, 2, l.count("PATCH /apis/apps/v1/namespaces/"+f.namespace+"/deployments/api"))
}

// nodePorts adds two Services with a node port each.
func (f files) nodePorts(first, second int) files {
	balancer := func(name string, port int) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {type: NodePort, selector: {app.kubernetes.io/name: api}, ports: [{port: 80, nodePort: %d}]}\n", name, port)
	}
	return f.with(files{
		"components/api/first.yaml":         balancer("first", first),
		"components/api/second.yaml":        balancer("second", second),
		"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml, first.yaml, second.yaml]"),
	})
}

// A port that one Service gives up and another takes over with the same commit is
// not free when either is tried.
func TestNodePortMovesWithOneCommit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// Of the part of the range from which none is given out unasked.
	f.ready(project(f.namespace).nodePorts(30010, 30011))
	has := func(service string, port int) bool {
		return strings.Contains(fmt.Sprint(f.get("Service", service).Object["spec"]), fmt.Sprint("nodePort:", port))
	}
	f.apply(project(f.namespace).nodePorts(30012, 30010))
	assert.True(t, has("first", 30012) && has("second", 30010), "to the one that is sent later")
	f.apply(project(f.namespace).nodePorts(30010, 30011)) // refused, until the other has given it up
	f.ready(project(f.namespace).nodePorts(30010, 30011))
	assert.True(t, has("first", 30010) && has("second", 30011), "to the one that is sent earlier")
	s := statusOf(t, f.apply(project(f.namespace).nodePorts(30012, 30012)), "api")
	assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason, "to both")
}
