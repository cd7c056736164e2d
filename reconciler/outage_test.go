package reconciler_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/faults"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
)

// outage is how long the API server fails in a test. Its length is what the
// number of requests is measured against.
const outage = 2 * time.Second

// behind has the fixture's engine go through a proxy that the test can break; the
// fixture itself does not.
func (f *fixture) behind() *faults.Proxy {
	p := faults.New(f.t, f.config)
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = p.Config() })
	return p
}

// allReady waits until both releases of two are ready.
func (f *fixture) allReady(what string) {
	f.t.Helper()
	f.eventually(what, func() bool {
		api, web := f.release("api"), f.release("web")
		return api != nil && web != nil && api.Ready() && web.Ready()
	})
}

// identities are the objects that no fault may ever delete, by their UIDs.
func (f *fixture) identities() map[string]string {
	out := map[string]string{}
	for _, id := range [][2]string{{"Deployment", "api"}, {"Deployment", "web"}, {"Service", "api"}, {"Service", "web"}, {"HTTPRoute", "api"}, {"HTTPRoute", "web"}} {
		if o := f.get(id[0], id[1]); o != nil {
			out[id[0]+"/"+id[1]] = string(o.GetUID())
		}
	}
	return out
}

// An API server that fails for a while loses us nothing and is not flooded: a
// commit and a drift of that time are dealt with after it.
func TestOutagesOfTheAPIServer(t *testing.T) {
	t.Parallel()
	watches := func(f faults.Fault) faults.Fault { return faults.Only(faults.Watch, f) }
	calls := func(f faults.Fault) faults.Fault {
		return faults.Only(func(r *http.Request) bool { return !faults.Watch(r) }, f)
	}
	for name, fault := range map[string]faults.Fault{
		"internal errors":         faults.Status(http.StatusInternalServerError, 0),
		"unavailable":             faults.Status(http.StatusServiceUnavailable, 0),
		"unavailable, wait":       faults.Status(http.StatusServiceUnavailable, 1),
		"too many requests, wait": faults.Status(http.StatusTooManyRequests, 1),
		"too many requests":       faults.Status(http.StatusTooManyRequests, 0),
		"not found":               faults.Status(http.StatusNotFound, 0), // as an API server that is starting, or a load balancer, says
		"forbidden":               faults.Status(http.StatusForbidden, 0),
		"resets":                  faults.Reset,
		"lost answers":            calls(faults.Lost),
		"half answers":            calls(faults.Truncate),
		"garbage":                 faults.Garbage,
		"slow":                    faults.Slow(500 * time.Millisecond),
		"watches that break":      watches(faults.Reset),
		"watches of garbage":      watches(faults.Garbage),
		"watches that expire":     watches(faults.First(faults.Status(http.StatusGone, 0))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.behind()
			f.branch.push(two(f.namespace))
			f.run()
			f.allReady("before the outage")
			before := f.identities()
			require.Len(t, before, 6)

			p.Quiet()
			p.Break(fault)
			p.CutWatches()
			f.branch.push(two(f.namespace).with(files{"environments/production/web/config.yaml": renamed(config("two"))}))
			require.NoError(t, f.api.Delete(context.Background(), f.get("ConfigMap", "api-one")))
			<-time.After(outage)
			sent := p.Requests()
			p.Mend()

			f.eventually("the commit of the outage is applied, and what it replaces is gone", func() bool {
				return f.get("ConfigMap", "web-two") != nil && f.get("ConfigMap", "web-one") == nil
			})
			f.eventually("the drift of the outage is corrected", func() bool { return f.get("ConfigMap", "api-one") != nil })
			f.allReady("after the outage")
			assert.Equal(t, before, f.identities(), "nothing was deleted")
			assert.Less(t, len(sent), 200, "two releases and some watches retry with back-off:\n%s", strings.Join(sent, "\n"))
		})
	}
}

// Faults of all sorts come and go while a release is rolled out again and again.
func TestRolloutsThroughFaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.behind()
	f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "1", "2"))
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	before := f.get("HTTPRoute", "api").GetUID()
	p.Break(faults.Sometimes(0.05, faults.Status(http.StatusInternalServerError, 0), faults.Status(http.StatusTooManyRequests, 1),
		faults.Reset, faults.Lost, faults.Truncate, faults.Garbage, faults.Slow(100*time.Millisecond)))
	for i := range 5 {
		share := 20 * i
		f.branch.push(f.bluegreen(fmt.Sprintf("weights: {blue: %d, green: %d}", 100-share, share), fmt.Sprintf("1%d", i), fmt.Sprintf("2%d", i)))
		p.CutWatches()
		f.eventually(fmt.Sprintf("the weights are moved to %d in spite of the faults", share), func() bool {
			return f.weights() == fmt.Sprintf("api-blue=%d api-green=%d", 100-share, share)
		})
	}
	p.Mend()
	f.eventually("api is ready", func() bool { return f.release("api").Ready() })
	assert.Empty(t, f.orphans("api"))
	assert.Equal(t, before, f.get("HTTPRoute", "api").GetUID(), "the route was never deleted")
}

// An API server that is starting answers 404 for custom resources. That is no word
// about the Release of a release that leaves, without which nobody would ever know
// what is to be deleted.
func TestLeavingReleaseIsNotForgottenForA404(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.behind()
	f.branch.push(two(f.namespace))
	f.run()
	f.allReady("before")
	p.Quiet()
	p.Break(faults.Only(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/releases/web") }, faults.Status(http.StatusNotFound, 0)))
	f.branch.push(project(f.namespace))
	f.eventually("a pass has been over it", func() bool {
		return slices.ContainsFunc(p.Requests(), func(r string) bool { return strings.HasSuffix(r, "/releases/web") })
	})
	f.branch.push(project(f.namespace).with(files{"README.md": "another look"}))
	p.Mend()
	f.eventually("web is deleted", func() bool { return len(f.ownedBy("web")) == 0 && f.release("web") == nil })
}

// What cannot be written is said where it can be said, with the object's name.
func TestStatusSaysWhichRequestFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.behind()
	f.branch.push(project(f.namespace))
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	p.Break(faults.Only(func(r *http.Request) bool {
		return r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/configmaps/")
	}, faults.Status(http.StatusServiceUnavailable, 0)))
	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	f.eventually("the status says what is awaited", func() bool {
		ready := f.release("api").Condition(v1alpha1.ConditionReady)
		return ready.Status == metav1.ConditionFalse && strings.Contains(ready.Message, "ConfigMap/api-two")
	})
	assert.NotNil(t, f.get("ConfigMap", "api-one"), "what runs keeps its configuration")
	p.Mend()
	f.eventually("api is ready again", func() bool { return f.release("api").Ready() && f.get("ConfigMap", "api-two") != nil })
}

// The API server and etcd end and freeze under a running engine.
func TestControlPlaneThatFails(t *testing.T) {
	t.Parallel()
	private := testcluster.Private(t)
	f := newFixtureOn(t, private.Config(t), "outage")
	require.NoError(t, f.api.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}))
	f.branch.push(two(f.namespace))
	f.run()
	f.allReady("before")
	before := f.identities()
	for i, fail := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"the API server is killed", func(t *testing.T) { private.Kill(t, "kube-apiserver") }},
		{"etcd is killed", func(t *testing.T) { private.Kill(t, "etcd") }},
		{"etcd freezes", func(t *testing.T) {
			thaw := private.Freeze(t, "etcd")
			<-time.After(outage)
			thaw()
		}},
		{"the API server freezes", func(t *testing.T) {
			thaw := private.Freeze(t, "kube-apiserver")
			<-time.After(outage)
			thaw()
		}},
		{"both are killed", func(t *testing.T) { private.Kill(t, "etcd"); private.Kill(t, "kube-apiserver") }},
	} {
		t.Run(fail.name, func(t *testing.T) {
			value := fmt.Sprintf("after-%d", i)
			f.branch.push(two(f.namespace).with(files{
				"environments/production/web/config.yaml":        renamed(config(value)),
				"environments/production/web/kustomization.yaml": renamed(overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest(fmt.Sprint(i+1)))),
			}))
			fail.do(t)
			private.AwaitReady(t)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			// Not always the same one: that would be contested.
			service := []string{"api", "web"}[i%2]
			f.eventually("somebody deletes a Service", func() bool {
				return client.IgnoreNotFound(f.api.Delete(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: service}})) == nil
			})
			f.eventually("the commit is applied", func() bool { return f.exists("ConfigMap", "web-"+value) })
			f.eventually("the drift is corrected", func() bool { return f.exists("Service", service) })
			f.eventually("all is ready", func() bool { return f.isReady("api") && f.isReady("web") })
		})
	}
	after := f.identities()
	for _, drift := range []string{"Service/api", "Service/web"} {
		delete(before, drift)
		delete(after, drift)
	}
	assert.Equal(t, before, after, "nothing was deleted")
}

// exists reports whether an object is known to be there; not where the cluster
// does not answer.
func (f *fixture) exists(kind, name string) bool {
	o, err := f.read(kind, name)
	return err == nil && o != nil
}

// isReady is the same for a ready Release.
func (f *fixture) isReady(name string) bool {
	var r v1alpha1.Release
	return f.api.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: name}, &r) == nil && r.Ready()
}

// has reports whether it was told of a reason.
func (r *told) has(reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.statuses, func(s reconciler.Status) bool { return s.Reason == reason })
}

// A namespace that is deleted under a running engine is missed, and everything
// comes back with it.
func TestNamespaceDeletedUnderARunningEngine(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, testcluster.Unused(t))
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}
	require.NoError(t, f.api.Create(context.Background(), namespace.DeepCopy()))
	statuses := &told{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Reporter = statuses })
	f.branch.push(two(f.namespace))
	f.run()
	f.allReady("before")
	require.NoError(t, f.api.Delete(context.Background(), namespace.DeepCopy()))
	f.eventually("the namespace is gone", func() bool {
		var ns corev1.Namespace
		return client.IgnoreNotFound(f.api.Get(context.Background(), client.ObjectKey{Name: f.namespace}, &ns)) == nil && ns.Name == ""
	})
	f.eventually("it is said", func() bool { return statuses.has(v1alpha1.ReasonNamespaceMissing) })
	require.NoError(t, f.api.Create(context.Background(), namespace.DeepCopy()))
	f.branch.push(two(f.namespace).with(files{"README.md": "look"}))
	f.allReady("after")
}
