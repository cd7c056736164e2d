package reconciler_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

const greenOverlay = "environments/production/api/green/kustomization.yaml"

// misspell gives tag green an images entry that pins nothing.
func (f files) misspell() files {
	return f.with(files{greenOverlay: strings.ReplaceAll(f[greenOverlay], "shop/api, digest", "shop/apy, digest")})
}

// generations are what tells whether any spec of tag green has been written.
func (f *fixture) generations() map[string]any {
	f.t.Helper()
	out := map[string]any{}
	for _, kind := range []string{"Deployment", "Service"} {
		o := f.get(kind, "api-green")
		require.NotNil(f.t, o, "%s/api-green", kind)
		out[kind] = []any{o.GetUID(), o.GetGeneration(), o.Object["spec"]}
	}
	return out
}

func TestBrokenTagBlocksNothingElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2"))
	green := f.generations()
	unchanged := func(t *testing.T) {
		t.Helper()
		assert.Equal(t, green, f.generations(), "nothing of green is written")
		listed := 0
		for _, e := range f.release("api").Status.Inventory.Entries {
			if strings.Contains(e.ID, "api-green") {
				listed++
			}
		}
		assert.Equal(t, 2, listed, "and all of it is in the inventory")
	}

	t.Run("the other tag is rolled out", func(t *testing.T) {
		s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 50, green: 50}", "3", "2").misspell()), "api")
		assert.Equal(t, reconciler.StateFailed, s.State)
		assert.Equal(t, v1alpha1.ReasonRenderFailed, s.Reason)
		assert.Contains(t, s.Message, "tag green does not render and stays as it is: "+greenOverlay+":")
		assert.Contains(t, s.Message, `"registry.example.com/shop/apy" pins nothing`)
		assert.NotEmpty(t, s.Hint)
		assert.Contains(t, f.image("api-blue"), digest("3"))
		assert.Equal(t, "api-blue=50 api-green=50", f.weights())
		r := f.release("api")
		assert.Equal(t, "True", string(r.Condition(v1alpha1.ConditionStalled).Status))
		require.Len(t, r.Status.Tags, 2)
		assert.Equal(t, digest("2"), r.Status.Tags[1].Digest, "what runs")
		unchanged(t)
	})
	t.Run("its weight may not rise", func(t *testing.T) {
		s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 40, green: 60}", "3", "2").misspell()), "api")
		assert.Equal(t, reconciler.StateHeld, s.State)
		assert.Equal(t, v1alpha1.ReasonRenderFailed, s.Reason)
		assert.Contains(t, s.Message, "routes stay at blue=50 green=50: tag green is not ready: it does not render: "+greenOverlay)
		assert.Equal(t, "api-blue=50 api-green=50", f.weights())
	})
	t.Run("it can be left", func(t *testing.T) {
		f.apply(f.bluegreen("weights: {blue: 100, green: 0}", "3", "2").misspell())
		assert.Equal(t, "api-blue=100 api-green=0", f.weights())
		unchanged(t)
	})
	t.Run("no mirror to it is begun", func(t *testing.T) {
		s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 100, green: 0}\nmirror: {green: 5}", "3", "2").misspell()), "api")
		require.NotEmpty(t, s.Notes)
		assert.Contains(t, s.Notes[0], "the mirror to tag green is left out: it does not render: ")
		assert.Equal(t, "api-blue=100 api-green=0", f.weights())
	})
	t.Run("unlisted it runs on", func(t *testing.T) {
		f.apply(f.bluegreen("weights: {blue: 100}", "3", "2").misspell())
		assert.Equal(t, "api-blue=100", f.weights())
		unchanged(t)
	})
	t.Run("without its kustomization it is no removed tag", func(t *testing.T) {
		lost := files{greenOverlay: "", "environments/production/api/green/patch.yaml": "spec: {}\n"}
		s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 100}", "3", "2").with(lost)), "api")
		assert.Equal(t, v1alpha1.ReasonRenderFailed, s.Reason)
		assert.Contains(t, s.Message, greenOverlay+": is missing")
		assert.Equal(t, "api-blue=100", f.weights())
		unchanged(t)
	})
	t.Run("with their base both stay", func(t *testing.T) {
		blue := f.get("Deployment", "api-blue").GetGeneration()
		s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 100}", "4", "2").with(files{
			"environments/production/api/base/kustomization.yaml": kustomization("resources: [../../../../components/api, gone.yaml]"),
		})), "api")
		assert.Equal(t, v1alpha1.ReasonRenderFailed, s.Reason)
		assert.Contains(t, s.Message, "tags blue, green do not render and stay as they are: ")
		assert.Equal(t, "api-blue=100", f.weights())
		assert.Equal(t, blue, f.get("Deployment", "api-blue").GetGeneration())
		unchanged(t)
	})
	t.Run("a plan says so and is about the rest", func(t *testing.T) {
		plan := f.plan(f.bluegreen("weights: {blue: 100}", "5", "2").misspell())
		assert.Contains(t, plan.String(), "apply workloads\n  Deployment/api-blue (update)\n")
		assert.NotContains(t, plan.String(), "api-green")
		require.Len(t, plan.Broken(), 1)
		assert.ErrorContains(t, plan.Broken()[0], greenOverlay)
	})
	t.Run("repaired it is as declared, and the controller sees it", func(t *testing.T) {
		f.branch.push(f.bluegreen("weights: {blue: 100}", "3", "2").misspell())
		f.run()
		f.eventually("it is broken", func() bool {
			return f.release("api").Condition(v1alpha1.ConditionStalled).Reason == v1alpha1.ReasonRenderFailed
		})
		f.branch.push(f.bluegreen("weights: {blue: 100}", "3", "2"))
		f.eventually("it is retired", func() bool { return f.release("api").Ready() && f.replicas("api-green") == 0 })
	})
}

// TestBrokenTagOutsideTheRelease repairs what is wrong with a tag in a folder that
// is not below the release's own.
func TestBrokenTagOutsideTheRelease(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	whole := f.bluegreen("weights: {blue: 100, green: 0}", "1", "2")
	with := func(extra files) files {
		return whole.with(files{greenOverlay: strings.ReplaceAll(whole[greenOverlay], "resources: [../base]", "resources: [../base, ../../../../components/extra]")}).with(extra)
	}
	f.ready(whole)
	f.branch.push(with(nil))
	f.run()
	f.eventually("green is broken", func() bool {
		return strings.Contains(f.release("api").Condition(v1alpha1.ConditionStalled).Message, `"../../../../components/extra" does not exist`)
	})
	f.branch.push(with(files{"components/extra/kustomization.yaml": kustomization("resources: [extra.yaml]"), "components/extra/extra.yaml": config("extra")}))
	f.eventually("the repair is seen", func() bool { return f.release("api").Ready() && f.get("ConfigMap", "api-extra-green") != nil })
}
