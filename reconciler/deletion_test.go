package reconciler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// configured gives a component's overlay n ConfigMaps, NAME-0 and on.
func (f files) configured(component string, n int) files {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s-%d}\n", component, i)
	}
	return f.with(files{"environments/production/" + component + "/config.yaml": all.String()})
}

// shared sets the share of the environment that may be deleted.
func (f files) shared(percent int) files {
	return f.with(files{"sluice.yaml": strings.Replace(f["sluice.yaml"], "  traffic:", fmt.Sprintf("  prune: {maxShare: %d}\n  traffic:", percent), 1)})
}

// acknowledging adds the acknowledgement that a release asks for.
func (f *fixture) acknowledging(content files, release string) files {
	f.t.Helper()
	message := f.release(release).Condition(v1alpha1.ConditionStalled).Message
	entry := regexp.MustCompile(`acknowledgements: (\[\{.*\}\])`).FindStringSubmatch(message)
	require.NotNil(f.t, entry, message)
	return content.with(files{"sluice.yaml": content["sluice.yaml"] + entry[0] + "\n"})
}

// stalled is the reason of a release's Stalled condition, "" while it is not stalled.
func (f *fixture) stalled(release string) string {
	f.t.Helper()
	r := f.release(release)
	if r == nil || r.Condition(v1alpha1.ConditionStalled).Status != "True" {
		return ""
	}
	return r.Condition(v1alpha1.ConditionStalled).Reason
}

func TestLargeDeletionIsHeldAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace).configured("api", 9))
	require.Len(t, f.ownedBy("api"), 12)
	stop := f.run()

	next := project(f.namespace).configured("api", 1)
	next["environments/production/api/kustomization.yaml"] = overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("2"))
	f.branch.push(next)
	f.eventually("the deletion is held", func() bool { return f.stalled("api") == v1alpha1.ReasonPruneHeld })
	assert.Len(t, f.ownedBy("api"), 12)
	assert.Contains(t, f.image("api"), digest("2"), "the new image runs all the same")
	r := f.release("api")
	assert.True(t, r.Ready())
	assert.Regexp(t, `^8 of 12 objects of environment production would be deleted, of this release ConfigMap/api-1, ConfigMap/api-2, ConfigMap/api-3 and 5 more; held until sluice.yaml says acknowledgements: \[\{environment: production, prune: [a-f][0-9a-f]{11}\}\]$`,
		r.Condition(v1alpha1.ConditionReady).Message)
	assert.Equal(t, "Failed", judge(t, r), "it will not come by itself")
	assert.Len(t, r.Status.Inventory.Entries, 12)

	stop()
	t.Run("after a restart, too", func(t *testing.T) {
		f.engine = f.newEngine()
		s := statusOf(t, f.converge(), "api")
		assert.Equal(t, reconciler.StateHeld, s.State)
		assert.True(t, s.Final)
		assert.Contains(t, s.Hint, "sluice prune acknowledge ")
		assert.Len(t, f.ownedBy("api"), 12)
		assert.Equal(t, r.ResourceVersion, f.release("api").ResourceVersion, "which says nothing new")
	})
	f.run()
	t.Run("what is kept is kept as it is", func(t *testing.T) {
		f.eventually("the restarted engine has looked", func() bool { return f.stalled("api") == v1alpha1.ReasonPruneHeld })
		require.NoError(t, f.api.Delete(context.Background(), f.get("ConfigMap", "api-0")))
		f.eventually("drift is corrected", func() bool { return f.get("ConfigMap", "api-0") != nil })
	})
	t.Run("until it is acknowledged", func(t *testing.T) {
		f.branch.push(f.acknowledging(next, "api"))
		f.eventually("it is deleted", func() bool { return len(f.ownedBy("api")) == 4 })
		f.eventually("and reported", func() bool {
			r := f.release("api")
			return r.Condition(v1alpha1.ConditionStalled).Status == "False" && r.Status.Prune == nil && len(r.Status.Inventory.Entries) == 4
		})
	})
}

func TestAcknowledgedDeletionKilledAtAnyWrite(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(two(f.namespace).configured("api", 6).configured("web", 6))
	left := two(f.namespace).configured("api", 1).without("environments/production/web")
	report := f.apply(left)
	for _, release := range []string{"api", "web"} {
		assert.Equal(t, v1alpha1.ReasonPruneHeld, statusOf(t, report, release).Reason)
	}
	assert.Len(t, f.ownedBy("web"), 9)
	f.branch.push(f.acknowledging(left, "web"))
	// What is left after a crash has another token, and goes on all the same.
	for n := 1; !f.crash(n, n%2 == 0); n++ {
		require.Less(t, n, 200)
		assert.Empty(t, f.orphans("api"))
	}
	assert.Nil(t, f.release("web"))
	assert.Empty(t, f.ownedBy("web"))
	assert.Len(t, f.ownedBy("api"), 4)
	assert.Nil(t, f.release("api").Status.Prune)
}

func TestRemovedEnvironmentIsHeldUntilItIsAcknowledged(t *testing.T) {
	t.Parallel()
	claim := "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: api-data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n"
	removals := map[string]struct {
		content func(files) files
		says    string
	}{
		"its entry": {func(f files) files {
			return f.with(files{"sluice.yaml": strings.NewReplacer("name: production", "name: elsewhere", "namespace: ", "namespace: not-").Replace(f["sluice.yaml"])})
		}, "environment production is not in sluice.yaml any more: all its 4 objects would be deleted"},
		"its folder": {func(f files) files { return f.without("environments/production") },
			"environment production has no release any more: all its 4 objects would be deleted"},
	}
	for name, removed := range removals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			whole := project(f.namespace).with(files{"environments/production/api/config.yaml": config("one") + "---\n" + claim})
			whole = whole.shared(100)
			f.ready(whole)
			content := removed.content(whole)
			stop := f.run()
			f.branch.push(content)
			f.eventually("it is held", func() bool { return f.stalled("api") == v1alpha1.ReasonEnvironmentHeld })
			assert.Contains(t, f.release("api").Condition(v1alpha1.ConditionStalled).Message, removed.says)
			assert.Len(t, f.ownedBy("api"), 5)
			stop()

			l := &line{}
			f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
			s := statusOf(t, f.converge(), "api")
			assert.Equal(t, v1alpha1.ReasonEnvironmentHeld, s.Reason, "after a restart, too")
			assert.Zero(t, l.count("DELETE "))

			f.run()
			f.branch.push(f.acknowledging(content, "api"))
			f.eventually("it is gone", func() bool { return f.release("api") == nil })
			assert.Equal(t, []string{"PersistentVolumeClaim/api-data"}, f.ownedBy("api"), "protected")
			deletes := slices.DeleteFunc(l.sent(), func(r string) bool { return !strings.HasPrefix(r, "DELETE ") })
			require.Len(t, deletes, 5)
			for i, kind := range []string{"httproutes", "deployments", "services", "configmaps", "releases"} {
				assert.Contains(t, deletes[i], "/"+kind+"/")
			}
		})
	}
}

func TestMovedObjectKeepsItsIdentity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	shared := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\n"
	at := func(component string) files {
		both := two(f.namespace)
		both["environments/production/"+component+"/config.yaml"] += shared
		return both
	}
	f.ready(at("api"))
	uid := f.get("ConfigMap", "shared").GetUID()
	moved := func(to string) {
		t.Helper()
		live := f.get("ConfigMap", "shared")
		require.NotNil(t, live)
		assert.Equal(t, uid, live.GetUID())
		assert.Equal(t, to, live.GetLabels()[v1alpha1.LabelRelease])
		for _, release := range []string{"api", "web"} {
			assert.Empty(t, f.orphans(release))
			want := 4
			if release == to {
				want = 5
			}
			assert.Len(t, f.release(release).Status.Inventory.Entries, want, release)
		}
	}
	t.Run("with a commit", func(t *testing.T) {
		l := &line{}
		f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
		f.ready(at("web"))
		moved("web")
		assert.Zero(t, l.count("DELETE "))
	})
	t.Run("and back, killed at any write", func(t *testing.T) {
		f.branch.push(at("api"))
		for n := 1; !f.crash(n, n%2 == 0); n++ {
			require.Less(t, n, 100)
			require.NotNil(t, f.get("ConfigMap", "shared"))
		}
		moved("api")
	})
	t.Run("from a release that goes", func(t *testing.T) {
		f.ready(at("web").without("environments/production/api"))
		assert.Nil(t, f.release("api"))
		assert.Equal(t, uid, f.get("ConfigMap", "shared").GetUID())
		assert.Equal(t, []string{"ConfigMap/shared"}, slices.DeleteFunc(f.ownedBy("web"), func(n string) bool { return n != "ConfigMap/shared" }))
		f.ready(at("web"))
	})
	t.Run("by the controller", func(t *testing.T) {
		f.run()
		f.branch.push(at("api"))
		f.eventually("it has moved", func() bool {
			return f.get("ConfigMap", "shared").GetLabels()[v1alpha1.LabelRelease] == "api" && len(f.release("web").Status.Inventory.Entries) == 4
		})
		moved("api")
	})
	t.Run("not from a paused release", func(t *testing.T) {
		content := at("web")
		content["components/api/component.yaml"] += "paused: true\n"
		f.branch.push(content)
		f.eventually("web says why", func() bool { return f.stalled("web") == v1alpha1.ReasonOwnedByAnother })
		assert.Contains(t, f.release("web").Condition(v1alpha1.ConditionStalled).Message, "ConfigMap/shared belongs to release api of environment production, which is paused by components/api/component.yaml")
		f.branch.push(at("web"))
		f.eventually("but when the pause ends", func() bool { return f.get("ConfigMap", "shared").GetLabels()[v1alpha1.LabelRelease] == "web" })
		assert.Equal(t, uid, f.get("ConfigMap", "shared").GetUID())
	})
}

// reply is an answer of the API server.
func reply(r *http.Request, code int, body string) *http.Response {
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

func TestNothingIsDeletedBecauseOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	faults := map[string]func(r *http.Request) (*http.Response, error){
		"500": func(r *http.Request) (*http.Response, error) {
			return reply(r, http.StatusInternalServerError, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500}`), nil
		},
		"503": func(r *http.Request) (*http.Response, error) {
			return reply(r, http.StatusServiceUnavailable, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"ServiceUnavailable","code":503}`), nil
		},
		"a 404 about the path": func(r *http.Request) (*http.Response, error) {
			return reply(r, http.StatusNotFound, "404 page not found"), nil
		},
		"a connection cut":      func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"a timeout":             func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded },
		"an answer of nonsense": func(r *http.Request) (*http.Response, error) { return reply(r, http.StatusOK, "{"), nil },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.ready(project(f.namespace).configured("api", 3))
			// One object cannot be read, and from then on the cluster does not say
			// either which kinds it has.
			var asked atomic.Bool
			l := &line{instead: func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/configmaps") { // or nothing would have to be read
					return reply(r, http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`), nil
				}
				one := strings.HasSuffix(r.URL.Path, "/configmaps/api-2")
				if one {
					asked.Store(true)
				}
				kinds := r.URL.Path == "/api" || r.URL.Path == "/apis" || r.URL.Path == "/api/v1"
				if one || kinds && asked.Load() {
					return fault(r)
				}
				return next.RoundTrip(r)
			}}
			f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
			s := f.until(project(f.namespace).configured("api", 1), "api", func(s reconciler.Status) bool {
				return s.Reason == v1alpha1.ReasonTransientError || s.Reason == v1alpha1.ReasonApplyFailed
			})
			assert.NotEqual(t, reconciler.StateReady, s.State)
			assert.Zero(t, l.count("DELETE "), "not even what could be read")
			assert.Len(t, f.ownedBy("api"), 6)
			assert.Len(t, f.release("api").Status.Inventory.Entries, 6)

			f.engine = f.newEngine()
			f.ready(project(f.namespace).configured("api", 1))
			assert.Len(t, f.ownedBy("api"), 4)
		})
	}
}

func TestNothingIsDeletedWhileKindsAreUnknown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	kind := f.widgets()
	widget := "apiVersion: " + kind.GroupVersion().String() + "\nkind: Widget\nmetadata: {name: one}\n"
	f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": widget}))
	// The version is not served any more, and discovery of its group fails, as that
	// of an aggregated API without endpoints does.
	f.serve(kind.Group, "v1")
	l := &line{instead: func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if strings.HasPrefix(r.URL.Path, "/apis/"+kind.Group) && !strings.Contains(r.URL.Path, "/widgets/") {
			return reply(r, http.StatusServiceUnavailable, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"ServiceUnavailable","code":503}`), nil
		}
		return next.RoundTrip(r)
	}}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.until(project(f.namespace), "api", func(s reconciler.Status) bool {
		return s.State != reconciler.StateReady && s.Message != ""
	})
	assert.Zero(t, l.count("DELETE "))
	assert.Contains(t, fmt.Sprint(f.release("api").Status.Inventory.Entries), "_Widget")
	f.engine = f.newEngine()
	f.ready(project(f.namespace))
	assert.NotContains(t, fmt.Sprint(f.release("api").Status.Inventory.Entries), "_Widget")
}

func TestUnreadableProjectChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(two(f.namespace))
	l, looks := &line{}, make(chan struct{}, 1)
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Source = l.config(f.config), observed{f.branch, looks} })
	f.run()
	f.eventually("the controller is at rest", func() bool { r := f.release("web"); return r != nil && r.Ready() })
	for _, broken := range []string{"apiVersion: sluice.dev/v1alpha1\nkind: Project\n", "environments: [", "", "\x00"} {
		content := two(f.namespace).without("environments/production/web")
		content["sluice.yaml"] = broken
		if broken == "" {
			delete(content, "sluice.yaml")
		}
		f.branch.push(content)
		for range 5 {
			<-looks
		}
	}
	assert.Zero(t, l.count("DELETE "))
	assert.Len(t, f.ownedBy("web"), 4)
	f.branch.push(two(f.namespace).without("environments/production/web"))
	f.eventually("what can be read counts", func() bool { return f.release("web") == nil })
}

func TestWhatALostReleaseOwnedIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(two(f.namespace).configured("api", 3))
	for _, name := range []string{"api", "web"} {
		require.NoError(t, f.api.Delete(context.Background(), f.release(name)))
	}
	f.engine = f.newEngine()
	report := f.ready(two(f.namespace).configured("api", 1).without("environments/production/web"))
	assert.Len(t, report.Releases, 1)
	assert.Len(t, f.ownedBy("api"), 6, "what is declared is taken up again, the rest is nobody's to delete")
	assert.Len(t, f.release("api").Status.Inventory.Entries, 4)
	assert.Len(t, f.ownedBy("web"), 4)
	f.ready(two(f.namespace).configured("api", 3))
	assert.Len(t, f.release("api").Status.Inventory.Entries, 6, "declared again they belong to it again")
	assert.Len(t, f.release("web").Status.Inventory.Entries, 4)
}

func TestProtectedObjectsAreKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	claim := "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n"
	kept := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {sluice.dev/prune: disabled}}\n"
	f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": config("one") + claim + kept}))
	s := statusOf(t, f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")})), "api")
	assert.Equal(t, []string{"kept ConfigMap/kept (sluice.dev/prune is disabled)", "kept PersistentVolumeClaim/data (its kind is protected)"}, s.Notes)
	assert.Equal(t, 1, s.Counts.Pruned)
	assert.NotNil(t, f.get("ConfigMap", "kept"))
	assert.NotNil(t, f.get("PersistentVolumeClaim", "data"))
	assert.Nil(t, f.get("ConfigMap", "api-one"))
}

// decodeOptions reads the body of a DELETE, JSON or protobuf in its envelope.
func decodeOptions(data []byte, options *metav1.DeleteOptions) error {
	enveloped, found := bytes.CutPrefix(data, []byte("k8s\x00"))
	if !found {
		return json.Unmarshal(data, options)
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(enveloped); err != nil {
		return err
	}
	return options.Unmarshal(envelope.Raw)
}

func TestDeletesAreOfThatVeryObjectInTheBackground(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	live := f.get("ConfigMap", "api-one")
	var mu sync.Mutex
	var sent []metav1.DeleteOptions
	// After the decision somebody replaces the object by another of its name.
	replace := sync.OnceFunc(func() {
		require.NoError(t, f.api.Delete(context.Background(), live))
		other := &unstructured.Unstructured{}
		other.SetGroupVersionKind(live.GroupVersionKind())
		other.SetNamespace(f.namespace)
		other.SetName("api-one")
		require.NoError(t, f.api.Create(context.Background(), other))
	})
	l := &line{instead: func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/configmaps/api-one") {
			data, err := io.ReadAll(r.Body)
			var options metav1.DeleteOptions
			if err = errors.Join(err, decodeOptions(data, &options)); err != nil {
				return nil, err
			}
			mu.Lock()
			sent = append(sent, options)
			mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(data))
			replace()
		}
		return next.RoundTrip(r)
	}}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, sent, 1)
	uid, version, background := live.GetUID(), live.GetResourceVersion(), metav1.DeletePropagationBackground
	assert.Equal(t, &background, sent[0].PropagationPolicy)
	assert.Equal(t, &metav1.Preconditions{UID: &uid, ResourceVersion: &version}, sent[0].Preconditions)
	now := f.get("ConfigMap", "api-one")
	require.NotNil(t, now, "it is another object")
	assert.NotEqual(t, live.GetUID(), now.GetUID())
}

func TestObjectOfAnotherToolMeanwhileIsSpared(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	// Another tool takes the label off while the object is ours still.
	require.NoError(t, f.api.Patch(context.Background(), f.get("ConfigMap", "api-one"), client.RawPatch(types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"sluice.dev/release":null,"app.kubernetes.io/managed-by":"Helm"},"annotations":{"meta.helm.sh/release-name":"api"}}}`))))
	f.engine = f.newEngine()
	s := statusOf(t, f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")})), "api")
	assert.Equal(t, []string{"kept ConfigMap/api-one (it does not carry the release's label any more)"}, s.Notes)
	assert.NotNil(t, f.get("ConfigMap", "api-one"))
}
