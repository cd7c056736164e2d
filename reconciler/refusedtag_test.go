package reconciler_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

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
	t.Parallel()
	f := newFixture(t)
	f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2"))
	green := f.generations()
	s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 100, green: 0}", "1", "3").with(files{
		"environments/production/kustomization.yaml": kustomization("namespace: "+f.namespace, "resources: [refused.yaml]"),
		"environments/production/refused.yaml":       "apiVersion: v1\nkind: Service\nmetadata: {name: refused}\nspec: {ports: [{port: 99999}]}\n",
	})), "api")
	assert.Equal(t, v1alpha1.ReasonDependencyNotReady, s.Reason)
	assert.Equal(t, "blue=100 green=0", s.Traffic)
	assert.Equal(t, "api-blue=100 api-green=0", f.weights())
	assert.Equal(t, green, f.generations(), "the change of green is held back")
}
