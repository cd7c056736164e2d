package reconciler

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

func TestDecideWaitingForOthersIsNoAttempt(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", deployment("api", "one", 1))
	w.in.Dependencies = []Dependency{{Name: "db", Message: "StatefulSet/db: 0 of 1 replicas ready"}}
	held := `
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Held DependencyNotReady: release db is not ready: StatefulSet/db: 0 of 1 replicas ready
again in 5m0s
`
	equal(t, held, w.pass())
	w.ensure()
	equal(t, held, w.pass())
	before := w.in.Last.Status.DeepCopy()
	w.after(time.Hour)
	equal(t, held, w.pass())
	assert.Equal(t, before, &w.in.Last.Status, "the status says the same however long it lasts")

	w.in.Dependencies[0].Stalled = true
	equal(t, strings.Replace(held, "NotReady:", "NotReady (stalled):", 1), w.pass())

	w.in.Dependencies = []Dependency{{Name: "db", Ready: true}}
	w.pass()
	assert.Contains(t, w.last(), "report Waiting WaitingForHealth", "the time for its own pods begins now")
	w.after(5 * time.Minute)
	assert.Contains(t, w.last(), "report Failed HealthTimeout")
}

func TestDecideCircle(t *testing.T) {
	w := newWorld(t)
	w.untagged("", configMap("a", "1"))
	w.in.Circle = []string{"api", "web", "api"}
	w.in.Dependencies = []Dependency{{Name: "web", Message: "it has not been looked at yet"}}
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Failed DependencyNotReady: depends on itself: api → web → api
again in 1m0s
`, w.pass())
	assert.Equal(t, "correct dependsOn in components/api/component.yaml, or in another of the circle",
		hintFor(&w.in, Verdict{Reason: v1alpha1.ReasonDependencyNotReady}, nil))

	t.Run("what runs is left in peace, and told", func(t *testing.T) {
		w.in.Circle = nil
		w.in.Dependencies = nil
		w.pass()
		w.in.Circle = []string{"api", "web", "api"}
		equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
nothing to do
report Ready: 1 object is as declared
note depends on itself: api → web → api: its next change will not be applied
`, w.pass())
	})
}

func TestCircleFrom(t *testing.T) {
	needs := map[string][]string{"a": {"b"}, "b": {"c", "d"}, "c": {"e"}, "d": {"a"}, "e": {"c"}, "f": {"a"}, "g": {"g"}}
	of := func(name string) []string { return needs[name] }
	for start, want := range map[string]string{"a": "a b d a", "c": "c e c", "f": "", "g": "g g", "h": ""} {
		assert.Equal(t, want, strings.Join(circleFrom(start, of), " "), start)
	}
}

func TestWaitingReleasesAreCalledByThoseTheyWaitFor(t *testing.T) {
	env := newEnvironment("production", "shop")
	add := func(name, reason string, after ...string) *release {
		r := newReleaseMemory(Key{"production", name})
		env.comesAfter(r, after)
		r.verdict.Reason, r.passing = reason, false
		env.releases[name] = r
		return r
	}
	add("db", v1alpha1.ReasonWaitingForHealth)
	add("api", v1alpha1.ReasonDependencyNotReady, "db", "environment")
	add("web", v1alpha1.ReasonDependencyNotReady, "api", "environment")
	add("job", v1alpha1.ReasonReady, "db", "environment")
	parked := add("new", "")
	parked.parked = true
	asking := add("asking", "", "db", "environment")
	env.comesAfter(asking, []string{"db", "environment"})

	names := func(changed string) (out []string) {
		for _, k := range env.waiting(Key{"production", changed}) {
			out = append(out, k.Release)
		}
		return out
	}
	assert.ElementsMatch(t, []string{"api", "asking"}, names("db"), "whoever waits for it, or is just asking")
	assert.ElementsMatch(t, []string{"web"}, names("api"))
	asking.finished(want{hash: "h"}, Verdict{Reason: v1alpha1.ReasonReady}, Status{})
	assert.ElementsMatch(t, []string{"api"}, names("db"), "who has ended its pass without waiting is left in peace")
	assert.ElementsMatch(t, []string{"api", "web", "new"}, names("environment"))
	assert.ElementsMatch(t, []string{"api", "web"}, names("environment"), "a parked one is called once")
	env.comesAfter(env.releases["api"], []string{"environment"})
	assert.Empty(t, names("db"), "api comes after it no more")
	asking.want.gone = true
	env.drop("asking")
	assert.NotContains(t, env.followers["environment"], asking, "one that is dropped is forgotten")
}

func TestDecideLeavingATagWhileADependencyIsNotReady(t *testing.T) {
	w := halves(t)
	w.down("api-green", "pod api-green-x: CrashLoopBackOff")
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	w.in.Dependencies = []Dependency{{Name: "db", Message: "StatefulSet/db: 2 of 3 replicas ready"}}
	w.up("api-blue")
	equal(t, `
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
report Held DependencyNotReady: release db is not ready: StatefulSet/db: 2 of 3 replicas ready
again in 5m0s
release api in production, namespace shop, revision c00000000000
nothing to do
report Held DependencyNotReady: release db is not ready: StatefulSet/db: 2 of 3 replicas ready
again in 5m0s
`, w.pass())
	assert.Equal(t, "blue=100 green=0", w.in.Last.Status.Summary.Traffic)

	t.Run("a tag that is held back does not rise", func(t *testing.T) {
		w.commit(3)
		w.tagged("blue=50 green=50", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
		equal(t, `
release api in production, namespace shop, revision c00000000000
nothing to do
report Held DependencyNotReady: release db is not ready: StatefulSet/db: 2 of 3 replicas ready
again in 5m0s
`, w.pass())
	})
	t.Run("what left is retired", func(t *testing.T) {
		w.commit(4)
		w.tagged("blue=100", sharedObjects(), tag("blue", "one", 2, configMap("blue-new", "1")), tag("green", "one", 2))
		w.pass()
		w.after(time.Minute)
		equal(t, `
release api in production, namespace shop, revision c00000000000
retire tag green
  Deployment/api-green (update)
report Held DependencyNotReady: release db is not ready: StatefulSet/db: 2 of 3 replicas ready
again in 5m0s
release api in production, namespace shop, revision c00000000000
nothing to do
report Held DependencyNotReady: release db is not ready: StatefulSet/db: 2 of 3 replicas ready
again in 5m0s
`, w.pass())
	})
}

func TestDecideWeightsAloneWaitForNobody(t *testing.T) {
	w := halves(t)
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "one", 2, configMap("green-old", "1")))
	w.in.Dependencies = []Dependency{{Name: "db", Message: "StatefulSet/db: 2 of 3 replicas ready", Stalled: true}}
	assert.Contains(t, w.pass(), "report Ready")
	assert.Equal(t, "blue=100 green=0", w.in.Last.Status.Summary.Traffic)
}

func TestDecideLeavingATagAfterARestartWhileADependencyIsNotReady(t *testing.T) {
	w := halves(t)
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	w.in.Dependencies = []Dependency{{Name: "db", Message: "it has not been looked at yet"}}
	w.restart()
	equal(t, `
release api in production, namespace shop, revision c00000000000
nothing to do
report Held DependencyNotReady: release db is not ready: it has not been looked at yet
again in 5m0s
found as declared: ServiceAccount/api
found as declared: Deployment/api-blue
found as declared: Service/api-blue
found as declared: Service/api-green
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
report Held DependencyNotReady: release db is not ready: it has not been looked at yet
again in 5m0s
release api in production, namespace shop, revision c00000000000
nothing to do
report Held DependencyNotReady: release db is not ready: it has not been looked at yet
again in 5m0s
`, w.pass())
}
