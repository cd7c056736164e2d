package reconciler_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// dependent is two with web coming after api.
func dependent(namespace string) files {
	content := two(namespace)
	content["components/web/component.yaml"] += "dependsOn: [api]\n"
	return content
}

func TestDependenciesInACircleAreReported(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := dependent(f.namespace)
	content["components/api/component.yaml"] += "dependsOn: [web]\n"
	report := f.apply(content)
	assert.Equal(t, "depends on itself: api → web → api", statusOf(t, report, "api").Message)
	for _, name := range []string{"api", "web"} {
		s := statusOf(t, report, name)
		assert.Equal(t, reconciler.StateFailed, s.State)
		assert.Equal(t, v1alpha1.ReasonDependencyNotReady, s.Reason)
		assert.NotEmpty(t, s.Hint)
	}
	assert.Empty(t, f.ownedBy("api"))
	f.ready(dependent(f.namespace))
}

// TestDependencyThatIsNotReady looks at what a dependency may be besides on its
// way: web, which waits for api, goes on as soon as there is nothing to wait for.
func TestDependencyThatIsNotReady(t *testing.T) {
	for name, tt := range map[string]struct {
		api     func(files) files // what becomes of api
		waits   bool
		stalled bool
	}{
		"paused": {api: func(c files) files {
			return c.with(files{"components/api/component.yaml": c["components/api/component.yaml"] + "paused: true\n"})
		}},
		"missing": {api: func(c files) files { return c.without("environments/production/api").without("components/api") }},
		"gone":    {api: func(c files) files { return c.without("environments/production/api") }},
		"failed":  {api: func(c files) files { return c.with(files{"environments/production/api/route.yaml": ""}) }, waits: true, stalled: true},
		"slow":    {api: func(c files) files { return c }, waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.branch.push(dependent(f.namespace).with(files{
				"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("bad")),
			}))
			f.run()
			condition := func() string {
				r := f.release("web")
				if r == nil {
					return ""
				}
				return r.Condition(v1alpha1.ConditionReady).Reason + " stalled=" + string(r.Condition(v1alpha1.ConditionStalled).Status)
			}
			f.eventually("web waits", func() bool { return condition() == "DependencyNotReady stalled=False" })
			f.branch.push(tt.api(dependent(f.namespace).with(files{
				"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("bad")),
				"environments/production/web/config.yaml":        renamed(config("two")),
			})))
			switch {
			case tt.stalled:
				f.eventually("web says that api will not become ready", func() bool { return condition() == "DependencyNotReady stalled=True" })
			case tt.waits:
				f.eventually("web has taken the commit in", func() bool { return f.release("web").Status.ObservedRevision == revision(3) })
				assert.Equal(t, "DependencyNotReady stalled=False", condition())
			default:
				f.eventually("web goes on", func() bool { return f.release("web").Ready() && f.get("ConfigMap", "web-two") != nil })
				return
			}
			assert.Nil(t, f.get("ConfigMap", "web-two"))
			f.branch.push(dependent(f.namespace))
			f.eventually("web goes on once api is ready", func() bool { return f.release("web").Ready() })
		})
	}
}

// TestDependenciesInARow has each of 50 releases wait for the next one. Events
// lead from one to the other, so that nobody polls: a release is looked at a few
// times, however long the row is.
func TestDependenciesInARow(t *testing.T) {
	t.Parallel()
	const length = 50
	f := newFixture(t)
	content := project(f.namespace).without("components").without("environments")
	for i := range length {
		name := fmt.Sprintf("c%02d", i)
		component := fmt.Sprintf("apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: %s}\nimage: registry.example.com/shop/%[1]s\n", name)
		if i+1 < length {
			component += fmt.Sprintf("dependsOn: [c%02d]\n", i+1)
		}
		content["components/"+name+"/component.yaml"] = component
		content["environments/production/"+name+"/kustomization.yaml"] = kustomization("namespace: "+f.namespace, "resources: [config.yaml]")
		content["environments/production/"+name+"/config.yaml"] = strings.ReplaceAll(config(name), "api-", "row-")
	}
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.branch.push(content)
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience) // one after the other
	defer cancel()
	report, err := f.engine.Converge(ctx, "production", "", nil)
	require.NoError(t, err)
	require.True(t, report.OK())
	require.Equal(t, length, len(report.Releases))
	for i := range length {
		name := fmt.Sprintf("c%02d", i)
		assert.LessOrEqual(t, l.count("PATCH /apis/sluice.dev/v1alpha1/namespaces/"+f.namespace+"/releases/"+name), 5, name)
	}
	t.Logf("%d requests for %d releases", len(l.sent()), length)
	assert.Less(t, len(l.sent()), 20*length, "the cost grows with the row, not with its square")
}

func TestUnchangedDependentCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.branch.push(dependent(f.namespace))
	f.run()
	f.eventually("both are ready", func() bool {
		api, web := f.release("api"), f.release("web")
		return api != nil && web != nil && api.Ready() && web.Ready()
	})
	f.calm("nothing happens any more", l, func() {})
	l.quiet()
	f.branch.push(dependent(f.namespace).with(files{
		"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("2")),
	}))
	f.eventually("api is rolled out", func() bool { return f.release("api").Ready() && f.release("api").Status.Digest == digest("2") })
	for _, r := range l.sent() {
		assert.NotContains(t, r, "/web", "web comes after api and has not changed")
	}
}
