package reconciler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// two is project with a second component, web.
func two(namespace string) files {
	both := project(namespace)
	for name, content := range project(namespace) {
		if other, ok := cutComponent(name); ok {
			both[other] = renamed(content)
		}
	}
	return both
}

func TestBrokenReleaseDoesNotBlockAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	broken := two(f.namespace)
	broken["environments/production/api/kustomization.yaml"] = overlay(f.namespace, "resources: [../../../components/api, missing.yaml]", digest("1"))
	f.branch.push(broken)
	f.run()
	f.eventually("web is ready", func() bool { r := f.release("web"); return r != nil && r.Ready() })
	f.eventually("api says why it is not", func() bool {
		r := f.release("api")
		return r != nil && r.Condition(v1alpha1.ConditionStalled).Reason == v1alpha1.ReasonRenderFailed
	})
	f.branch.push(two(f.namespace))
	f.eventually("api is ready once it is fixed", func() bool { return f.release("api").Ready() })
}

func TestDriftIsCorrected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.branch.push(project(f.namespace))
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	ctx := context.Background()

	require.NoError(t, f.api.Delete(ctx, f.get("ConfigMap", "api-one")))
	f.eventually("a deleted object comes back", func() bool { return f.get("ConfigMap", "api-one") != nil })

	live := f.get("ConfigMap", "api-one")
	require.NoError(t, unstructured.SetNestedField(live.Object, "planted", "data", "value"))
	require.NoError(t, f.api.Update(ctx, live, client.FieldOwner("somebody")))
	f.eventually("a changed field is put right", func() bool {
		value, _, _ := unstructured.NestedString(f.get("ConfigMap", "api-one").Object, "data", "value")
		return value == "one"
	})

	live = f.get("Service", "api")
	live.SetLabels(nil)
	require.NoError(t, f.api.Update(ctx, live, client.FieldOwner("somebody")))
	f.eventually("our label is put back", func() bool { return f.get("Service", "api").GetLabels()[v1alpha1.LabelRelease] == "api" })

	require.NoError(t, f.api.Delete(ctx, f.release("api")))
	f.eventually("so is the release's report", func() bool {
		r := f.release("api")
		return r != nil && r.Ready() && len(r.Status.Inventory.Entries) == 4
	})
}

func TestNothingChangedCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	reads := make(chan struct{}, 100)
	f.engine = f.newEngine(func(c *reconciler.Config) {
		c.REST = l.config(f.config)
		c.Source = observed{f.branch, reads}
	})
	f.branch.push(two(f.namespace))
	f.run()
	f.eventually("both are ready", func() bool {
		api, web := f.release("api"), f.release("web")
		return api != nil && web != nil && api.Ready() && web.Ready()
	})
	n := 0
	f.calm("a commit that changes nothing sends nothing", l, func() {
		n++
		drain(reads)
		f.branch.push(two(f.namespace).with(files{"README.md": fmt.Sprint(n)}))
		<-reads
		<-reads // the second look comes after the first commit was taken in
	})

	t.Run("a change of one costs one", func(t *testing.T) {
		l.quiet()
		f.branch.push(two(f.namespace).with(files{"README.md": "hello", "environments/production/web/config.yaml": renamed(config("two"))}))
		f.eventually("it is applied", func() bool { return f.get("ConfigMap", "web-two") != nil && f.release("web").Ready() })
		for _, r := range l.sent() {
			assert.NotRegexp(t, `/api(-one)?$`, r)
		}
		assert.Equal(t, 1, l.count("PATCH /api/v1/namespaces/"+f.namespace+"/configmaps/"))
		assert.Zero(t, l.count("PATCH /apis/apps/"))
	})
}

// observed is a branch that tells when somebody looks.
type observed struct {
	*branch
	looks chan struct{}
}

func (o observed) Fetch(ctx context.Context) (string, error) {
	rev, err := o.branch.Fetch(ctx)
	select {
	case o.looks <- struct{}{}:
	default:
	}
	// Look again, so that a test can wait for the end of a look.
	go func() {
		select {
		case o.notify <- struct{}{}:
		case <-time.After(time.Second):
		}
	}()
	return rev, err
}

func drain(c chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

func TestDependenciesOrderChangesOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.engine = f.newEngine()
	content := two(f.namespace)
	content["components/web/component.yaml"] += "dependsOn: [api]\n"
	f.ready(content)

	broken := content.with(files{
		"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("bad")),
	})
	f.until(broken, "api", func(s reconciler.Status) bool { return s.Reason == v1alpha1.ReasonWaitingForHealth })
	assert.True(t, f.release("web").Ready(), "web has not changed and waits for nothing")

	changed := broken.with(files{"environments/production/web/config.yaml": renamed(config("two"))})
	s := f.until(changed, "web", func(s reconciler.Status) bool { return s.Reason == v1alpha1.ReasonDependencyNotReady })
	assert.Contains(t, s.Message, "release api is not ready: ")
	assert.Nil(t, f.get("ConfigMap", "web-two"))

	f.ready(content.with(files{"environments/production/web/config.yaml": renamed(config("two"))}))
	assert.NotNil(t, f.get("ConfigMap", "web-two"))
}

func TestNamespaceOfTheEnvironment(t *testing.T) {
	t.Parallel()
	t.Run("is made by the environment's own release", func(t *testing.T) {
		t.Parallel()
		f := newFixtureIn(t, testcluster.Unused(t))
		f.ready(project(f.namespace).with(files{
			"environments/production/kustomization.yaml": kustomization("resources: [namespace.yaml]"),
			"environments/production/namespace.yaml":     "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + f.namespace + "}\n",
		}))
		assert.True(t, f.release("environment").Ready())
		assert.Len(t, f.ownedBy("api"), 4)
	})
	t.Run("is asked for otherwise", func(t *testing.T) {
		t.Parallel()
		f := newFixtureIn(t, testcluster.Unused(t))
		report := f.apply(project(f.namespace))
		s := report.Releases[0]
		assert.Equal(t, reconciler.StateFailed, s.State)
		assert.Equal(t, "namespace "+f.namespace+" does not exist", s.Message)
		assert.Contains(t, s.Hint, "kubectl create namespace "+f.namespace)
	})
	t.Run("is created where the configuration says so", func(t *testing.T) {
		t.Parallel()
		f := newFixtureIn(t, testcluster.Unused(t))
		f.engine = f.newEngine(func(c *reconciler.Config) { c.CreateNamespaces = true })
		f.ready(project(f.namespace))
	})
	t.Run("is not moved by the repository", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.engine = f.newEngine(func(c *reconciler.Config) { c.Environments[0].Namespace = "" })
		f.ready(project(f.namespace)) // pins it
		elsewhere := testcluster.Namespace(t)
		f.branch.push(project(elsewhere))
		_, err := f.engine.Converge(context.Background(), "production", "", nil)
		var refused *reconciler.NamespaceError
		require.ErrorAs(t, err, &refused)
		assert.NotEmpty(t, refused.Hint())
		assert.Len(t, f.ownedBy("api"), 4)
		var list v1alpha1.ReleaseList
		require.NoError(t, f.api.List(context.Background(), &list, client.InNamespace(elsewhere)))
		assert.Empty(t, list.Items)
	})
	t.Run("which the controller says on the releases", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.branch.push(project(f.namespace))
		f.run()
		f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
		f.branch.push(project("elsewhere"))
		f.eventually("api says why not", func() bool {
			return f.release("api").Condition(v1alpha1.ConditionStalled).Reason == v1alpha1.ReasonNamespaceRefused
		})
		f.branch.push(project(f.namespace))
		f.eventually("api is ready again", func() bool { return f.release("api").Ready() })
	})
}

func TestClusterThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	e, err := reconciler.New(reconciler.Config{
		REST:         &rest.Config{Host: "https://admin:hunter2@127.0.0.1:1"},
		Source:       newBranch(project("shop")),
		Environments: []reconciler.EnvironmentConfig{{Name: "production", Namespace: "shop"}},
	})
	require.NoError(t, err)
	for name, call := range map[string]func(context.Context) error{
		"converge": func(ctx context.Context) error { _, err := e.Converge(ctx, "production", "", nil); return err },
		"run":      func(ctx context.Context) error { return e.Run(ctx, reconciler.RunOptions{}) },
		"plan":     func(ctx context.Context) error { _, err := e.PlanEnvironment(ctx, "production", nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := call(context.Background())
			var unreachable *cluster.UnreachableError
			require.ErrorAs(t, err, &unreachable)
			assert.Contains(t, err.Error(), "cluster https://127.0.0.1:1 does not answer: ")
			assert.NotContains(t, err.Error(), "hunter2")
			assert.NotEmpty(t, unreachable.Hint())
		})
	}
}

func TestClusterWithoutTheCRD(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{instead: withoutReleases}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.branch.push(project(f.namespace))
	_, err := f.engine.Converge(context.Background(), "production", "", nil)
	var missing *cluster.MissingCRDError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, "install it once for each cluster: sluice install --crds", missing.Hint())
	require.ErrorAs(t, f.engine.Run(context.Background(), reconciler.RunOptions{}), &missing)
	assert.Empty(t, f.ownedBy("api"))
}

// withoutReleases answers as a server does that lacks our group.
func withoutReleases(r *http.Request, next http.RoundTripper) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/apis/sluice.dev") {
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	response, err := next.RoundTrip(r)
	if err != nil || r.URL.Path != "/apis" {
		return response, err
	}
	defer func() { _ = response.Body.Close() }()
	var groups map[string]any
	if err := json.NewDecoder(response.Body).Decode(&groups); err != nil {
		return nil, err
	}
	for _, field := range []string{"items", "groups"} {
		list, ok := groups[field].([]any)
		if !ok {
			continue
		}
		groups[field] = slices.DeleteFunc(list, func(g any) bool {
			name, _, _ := unstructured.NestedString(g.(map[string]any), "metadata", "name")
			return name == "sluice.dev" || g.(map[string]any)["name"] == "sluice.dev"
		})
	}
	body, err := json.Marshal(groups)
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.Header.Del("Content-Length")
	return response, err
}

func TestReleaseFollowsItsPods(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.branch.push(project(f.namespace))
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	pods := func() []string {
		var list corev1.PodList
		require.NoError(t, f.api.List(context.Background(), &list, client.InNamespace(f.namespace)))
		names := make([]string, len(list.Items))
		for i, p := range list.Items {
			names[i] = p.Name
		}
		return names
	}
	before := pods()
	require.NoError(t, f.api.DeleteAllOf(context.Background(), &corev1.Pod{}, client.InNamespace(f.namespace)))
	f.eventually("there are other pods, and it is ready", func() bool {
		now := pods()
		return len(now) == 2 && !slices.ContainsFunc(now, func(p string) bool { return slices.Contains(before, p) }) && f.release("api").Ready()
	})
}

// unlistable is a commit whose environments cannot be listed, as in a mirror that
// is damaged.
type unlistable struct{ fs.FS }

func (u unlistable) Open(name string) (fs.File, error) {
	if name == "environments/production" {
		return nil, errors.New("its tree is damaged")
	}
	return u.FS.Open(name)
}

// problems are the statuses about the repository itself.
type problems chan reconciler.Status

func (p problems) Report(_ context.Context, s reconciler.Status) {
	if s.Reason == "RepositoryUnreadable" {
		p <- s
	}
}

func TestReleasesAreLeftAloneUntilAFirstCommitIsTakenIn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))

	f.branch.mu.Lock()
	f.branch.commits = append(f.branch.commits, unlistable{f.branch.commits[0]})
	f.branch.mu.Unlock()
	said := make(problems, 10)
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Reporter = said })
	f.run()
	assert.Contains(t, (<-said).Message, "its tree is damaged")
	// An event of a release of which nobody knows yet what is wanted.
	r := f.release("api")
	r.Labels["touched"] = "true"
	require.NoError(t, f.api.Update(context.Background(), r))

	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	f.eventually("the next commit is applied", func() bool { return f.get("ConfigMap", "api-two") != nil })
}
