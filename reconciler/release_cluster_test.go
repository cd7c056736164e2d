package reconciler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/cmd/wait"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
)

// kubectlGet is what `kubectl get releases -A` prints of the test's namespace:
// the API server makes the table, kubectl's printer the text.
func (f *fixture) kubectlGet() string {
	f.t.Helper()
	request, err := http.NewRequest(http.MethodGet, f.config.Host+"/apis/sluice.dev/v1alpha1/namespaces/"+f.namespace+"/releases", nil)
	require.NoError(f.t, err)
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := f.http.Do(request)
	require.NoError(f.t, err)
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	require.NoError(f.t, err)
	var table metav1.Table
	require.NoError(f.t, json.Unmarshal(data, &table))
	for i := range table.Rows {
		var object metav1.PartialObjectMetadata
		require.NoError(f.t, json.Unmarshal(table.Rows[i].Object.Raw, &object))
		table.Rows[i].Object.Object = &object
	}
	var out bytes.Buffer
	require.NoError(f.t, printers.NewTablePrinter(printers.PrintOptions{WithNamespace: true}).PrintObj(&table, &out))
	text := strings.ReplaceAll(out.String(), f.namespace, "NAMESPACE_"[:len(f.namespace)])
	return regexp.MustCompile(` [0-9]{1,2}s +`).ReplaceAllString(text, " 5s    ")
}

func TestColumnsOfKubectlGet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := two(f.namespace).tagged(f.namespace, "weights: {blue: 90, green: 10}", map[string]string{"blue": digest("1"), "green": digest("2")})
	f.ready(content)
	assert.Equal(t, strings.TrimLeft(`
NAMESPACE    NAME   ENVIRONMENT   READY   DIGESTS                                TRAFFIC            REVISION       AGE   MESSAGE
NAMESPACE_   api    production    True    blue=100000000000 green=200000000000   blue=90 green=10   c0ffee000000   5s    6 objects are as declared
NAMESPACE_   web    production    True    100000000000                                              c0ffee000000   5s    4 objects are as declared
`, "\n"), f.kubectlGet())
}

// testGetter gives kubectl's commands a client.
type testGetter struct {
	*genericclioptions.ConfigFlags
	config *rest.Config
}

func (g testGetter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

// kubectlWait is `kubectl wait --for=condition=Ready release/api`.
func (f *fixture) kubectlWait(timeout time.Duration) (string, error) {
	kubeconfig := testcluster.Kubeconfig(f.t)
	getter := testGetter{genericclioptions.NewConfigFlags(true), f.config}
	getter.KubeConfig, getter.Namespace = &kubeconfig, &f.namespace
	streams, _, out, _ := genericiooptions.NewTestIOStreams()
	flags := wait.NewWaitFlags(getter, streams)
	flags.ForCondition, flags.Timeout = []string{"condition=Ready"}, timeout
	options, err := flags.ToOptions([]string{"release/api"})
	if err != nil {
		return "", err
	}
	err = options.RunWaitContext(context.Background())
	return out.String(), err
}

func TestKubectlWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	broken := project(f.namespace).with(files{
		"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("bad")),
	})
	f.branch.push(broken)
	f.run()
	f.eventually("the release waits", func() bool {
		r := f.release("api")
		return r != nil && r.Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonWaitingForHealth
	})
	assert.Equal(t, "InProgress", judge(t, f.release("api")))
	_, err := f.kubectlWait(0)
	require.EqualError(t, err, "condition not met for releases/api")

	type result struct {
		out string
		err error
	}
	waited := make(chan result, 1)
	go func() {
		out, err := f.kubectlWait(patience)
		waited <- result{out, err}
	}()
	f.branch.push(project(f.namespace))
	r := <-waited
	require.NoError(t, r.err)
	assert.Equal(t, "release.sluice.dev/api condition met\n", r.out)
	assert.Equal(t, "Current", judge(t, f.release("api")))
	assert.Equal(t, digest("1"), f.release("api").Status.Digest)
}

// A Release that was created and not reported on yet is not taken for done.
func TestNewReleaseIsInProgress(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: f.namespace}, Spec: v1alpha1.ReleaseSpec{Project: "shop", Environment: "production", Component: "api"}}
	require.NoError(t, f.api.Create(context.Background(), r))
	assert.EqualValues(t, -1, f.release("api").Status.ObservedGeneration)
	assert.Equal(t, "InProgress", judge(t, f.release("api")))
	f.ready(project(f.namespace))
	assert.Equal(t, "Current", judge(t, f.release("api")))
	assert.Equal(t, f.release("api").Generation, f.release("api").Status.ObservedGeneration)
}

// configuration is a release of ConfigMaps only, which has nothing to wait for.
func configuration(namespace string, names ...string) files {
	var text strings.Builder
	for _, name := range names {
		text.WriteString("---\n" + config(name))
	}
	p := project(namespace)
	return files{
		"sluice.yaml":                                    p["sluice.yaml"],
		"components/api/component.yaml":                  p["components/api/component.yaml"],
		"components/api/kustomization.yaml":              kustomization("resources: [config.yaml]"),
		"components/api/config.yaml":                     text.String(),
		"environments/production/api/kustomization.yaml": kustomization("namespace: "+namespace, "resources: [../../../components/api]"),
	}
}

// toReleases are the writes to Releases among the requests.
func (l *line) toReleases() (writes []string) {
	for _, r := range l.sent() {
		if method, path, _ := strings.Cut(r, " "); method != http.MethodGet && strings.Contains(path, "/releases") {
			writes = append(writes, method+" "+path[strings.Index(path, "/releases"):])
		}
	}
	return writes
}

func TestStatusIsPatchedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(c.REST) })
	step := func(what string, content files, want ...string) {
		t.Helper()
		l.quiet()
		f.ready(content)
		assert.Equal(t, want, l.toReleases(), what)
	}
	const status = "PATCH /releases/api/status"
	one := configuration(f.namespace, "one", "two")
	step("created: the object with its intent, the report", one, "POST /releases", status)
	step("a changed object", one.with(files{"components/api/config.yaml": strings.ReplaceAll(one["components/api/config.yaml"], "value: one", "value: uno")}), status)
	step("a file that decides nothing", one.with(files{"README.md": "hello"}), status) // reverts the change above as well
	step("again", one.with(files{"README.md": "hello again"}))
	step("one more: intent and report", configuration(f.namespace, "one", "two", "three"), status, status)
	step("one less", configuration(f.namespace, "one", "three"), status)
}

func TestStatusIsPatchedOnceForTraffic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(c.REST) })
	digests := map[string]string{"blue": digest("1"), "green": digest("2")}
	f.ready(project(f.namespace).tagged(f.namespace, "weights: {blue: 100, green: 0}", digests))
	l.quiet()
	f.ready(project(f.namespace).tagged(f.namespace, "weights: {blue: 20, green: 80}", digests))
	assert.Equal(t, []string{"PATCH /releases/api/status"}, l.toReleases())
	r := f.release("api")
	assert.Equal(t, "api-blue=20 api-green=80", f.weights())
	assert.Equal(t, []v1alpha1.TagStatus{
		{Name: "blue", Digest: digest("1"), Listed: true, Weight: 20, Ready: true},
		{Name: "green", Digest: digest("2"), Listed: true, Weight: 80, Ready: true},
	}, r.Status.Tags)
	assert.Equal(t, revision(3), r.Status.ObservedRevision)
	assert.Len(t, r.Status.Inventory.Entries, 6)
	for _, c := range r.Status.Conditions {
		assert.Equal(t, r.Generation, c.ObservedGeneration, c.Type)
	}

	// A commit that leaves the release as it is costs nothing, and so is not seen in
	// it: docs/reference/release.md says what that means.
	l.quiet()
	f.ready(project(f.namespace).tagged(f.namespace, "weights: {blue: 20, green: 80}", digests).with(files{"README.md": "hello"}))
	assert.Empty(t, l.toReleases())
	assert.Equal(t, revision(3), f.release("api").Status.ObservedRevision)
}
