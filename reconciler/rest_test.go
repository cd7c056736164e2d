package reconciler_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
)

// served counts the requests that the API server says it has had for a kind, but
// watches and lists: those are of whoever follows all kinds. The kind is the
// test's own, so nobody else asks for it.
func (f *fixture) served(group string) int {
	f.t.Helper()
	response, err := f.http.Get(f.config.Host + "/metrics")
	require.NoError(f.t, err)
	defer func() { _ = response.Body.Close() }()
	require.Equal(f.t, http.StatusOK, response.StatusCode)
	n := 0
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `group="`+group+`"`) ||
			strings.Contains(line, `verb="WATCH"`) || strings.Contains(line, `verb="LIST"`) {
			continue
		}
		count, err := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
		require.NoError(f.t, err)
		n += count
	}
	require.NoError(f.t, lines.Err())
	return n
}

func TestRestCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	kind := f.widgets()
	l := &line{}
	clock := clocktesting.NewFakeClock(time.Now())
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Clock = l.config(f.config), clock })
	content := project(f.namespace).autoscaled().with(files{
		"environments/production/api/config.yaml": config("one") + "---\napiVersion: " + kind.GroupVersion().String() + "\nkind: Widget\nmetadata: {name: one}\n",
	})
	f.branch.push(content)
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })

	n := 0
	for what, do := range map[string]func(){
		"a minute":                   func() { clock.Step(time.Minute) },
		"a resync":                   func() { clock.Step(2 * time.Hour) },
		"a commit of something else": func() { n++; f.branch.push(content.with(files{"README.md": fmt.Sprint(n)})) },
		"an object that is nobody's": func() { n++; f.create(fmt.Sprintf("other-%d", n)) },
	} {
		f.calm(what+" sends nothing", l, do)
		f.eventually(what+": the API server counts nothing either", func() bool {
			before := f.served(kind.Group)
			assert.Positive(t, before, "the API server counts")
			f.calm(what+" sends nothing", l, do)
			return f.served(kind.Group) == before
		})
	}
}

// create makes a ConfigMap that no release has anything to do with.
func (f *fixture) create(name string) {
	f.t.Helper()
	require.NoError(f.t, f.api.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}}))
}

func TestFirstSyncReadsNothingThatIsNotThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.ready(project(f.namespace))
	prefix := "/namespaces/" + f.namespace
	counts := map[string]int{}
	for _, r := range l.sent() {
		method, path, _ := strings.Cut(r, " ")
		if _, what, ok := strings.Cut(path, prefix+"/"); ok && strings.Contains(what, "/") || method == http.MethodPost {
			counts[method+" "+what]++
		}
	}
	for r := range maps.Keys(counts) {
		// The Deployment reports a few times; nothing else is looked at.
		assert.Contains(t, []string{"GET deployments/api", "POST releases", "PATCH releases/api/status", "PATCH configmaps/api-one", "PATCH services/api",
			"PATCH deployments/api", "PATCH httproutes/api"}, r)
	}
	for _, once := range []string{"POST releases", "PATCH configmaps/api-one", "PATCH services/api", "PATCH deployments/api", "PATCH httproutes/api"} {
		assert.Equal(t, 1, counts[once], once)
	}
}

func TestRestartReadsNoReleaseOneByOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(two(f.namespace))
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.converge()
	assert.Zero(t, l.count("GET /api/v1/namespaces/"+f.namespace+"/configmaps/"))
	assert.Zero(t, l.count("GET /api/v1/namespaces/"+f.namespace+"/services/"))
	assert.Zero(t, l.count("GET /apis/sluice.dev/v1alpha1/namespaces/"+f.namespace+"/releases/"))
	assert.Equal(t, 2, l.count("PATCH /api/v1/namespaces/"+f.namespace+"/configmaps/"))
}

// refusing is a line on which whole kinds may not be listed or watched.
func refusing(kinds ...string) *line {
	return &line{instead: func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodGet && slices.ContainsFunc(kinds, func(k string) bool { return strings.HasSuffix(r.URL.Path, "/"+k) }) {
			body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`
			return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
		}
		return next.RoundTrip(r)
	}}
}

func TestWithoutWatchesEverythingIsRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := refusing("configmaps", "services", "deployments", "httproutes", "namespaces", "endpointslices")
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.ready(project(f.namespace))
	assert.Positive(t, l.count("GET /api/v1/namespaces/"+f.namespace+"/configmaps/"))
	f.ready(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	assert.ElementsMatch(t, []string{"Deployment/api", "Service/api", "ConfigMap/api-two", "HTTPRoute/api"}, f.ownedBy("api"))
}

func TestObjectInTheWayIsSeenToGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "api-one", Labels: map[string]string{"app.kubernetes.io/managed-by": "terraform"}}}
	require.NoError(t, f.api.Create(context.Background(), foreign))
	f.branch.push(project(f.namespace))
	f.run()
	f.eventually("api says what is in the way", func() bool {
		r := f.release("api")
		return r != nil && r.Condition(v1alpha1.ConditionStalled).Reason == v1alpha1.ReasonOwnedByAnother
	})
	require.NoError(t, f.api.Delete(context.Background(), foreign))
	f.eventually("and goes on without being asked to", func() bool { return f.release("api").Ready() })
}

func TestNamespaceThatIsDeletedComesBackWhole(t *testing.T) {
	t.Parallel()
	f := newFixtureIn(t, testcluster.Unused(t))
	f.engine = f.newEngine(func(c *reconciler.Config) { c.CreateNamespaces = true })
	f.branch.push(two(f.namespace))
	f.run()
	ready := func() bool {
		api, web := f.release("api"), f.release("web")
		return api != nil && web != nil && api.Ready() && web.Ready()
	}
	f.eventually("both are ready", ready)
	before := f.release("api").UID
	require.NoError(t, f.api.Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}))
	f.eventually("both are ready again", func() bool {
		api := f.release("api") // which may go between two looks
		return api != nil && api.UID != before && ready()
	})
	assert.Len(t, f.ownedBy("api"), 4)
	assert.Len(t, f.ownedBy("web"), 4)
}

func TestTrafficOvertakesABulkSync(t *testing.T) {
	t.Parallel()
	const many = 25
	f := newFixture(t)
	content := func(traffic, value string) files {
		all := bulk(f.namespace, many, 5)
		for i := range many {
			name := fmt.Sprintf("c%d", i)
			all["environments/production/"+name+"/config.yaml"] = bulkConfig(name, value)
		}
		maps.Copy(all, project(f.namespace).tagged(f.namespace, traffic, map[string]string{"blue": digest("1"), "green": digest("2")}))
		return all
	}
	f.ready(content("weights: {blue: 100, green: 0}", "one"))

	// A commit changes them all, and they are applied one after the other. With the
	// first of them on its way, the traffic is moved.
	l, looks := &line{}, make(chan struct{}, 1)
	configMaps := "/api/v1/namespaces/" + f.namespace + "/configmaps/c"
	onItsWay := make(chan string, 1)
	move := sync.OnceFunc(func() {
		f.branch.push(content("weights: {blue: 0, green: 100}", "two"))
		drain(looks)
		for range 3 {
			<-looks // the last look comes after the commit was taken in
		}
		l.quiet()
	})
	l.instead = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodPatch && strings.HasPrefix(r.URL.Path, configMaps) {
			select {
			case onItsWay <- "PATCH " + r.URL.Path: // tried or written; the write may come yet
			default:
			}
			move()
		}
		return next.RoundTrip(r)
	}
	f.engine = f.newEngine(func(c *reconciler.Config) {
		c.REST, c.Source, c.Concurrency = l.config(f.config), observed{f.branch, looks}, 1
	})
	f.branch.push(content("weights: {blue: 100, green: 0}", "two"))
	f.run()
	f.eventually("the traffic has moved", func() bool { return f.weights() == "api-blue=0 api-green=100" })
	sent := l.sent()
	at := slices.IndexFunc(sent, func(r string) bool { return strings.HasSuffix(r, "/httproutes/api") && strings.HasPrefix(r, "PATCH ") })
	require.GreaterOrEqual(t, at, 0, sent)
	first := <-onItsWay
	for _, r := range sent[:at] {
		assert.NotContains(t, strings.TrimPrefix(r, first), "PATCH "+configMaps, "only what was on its way already comes before it")
	}
}

// bulk has releases of objects each: a Deployment, a Service, a
// ServiceAccount, a budget and ConfigMaps.
func bulk(namespace string, releases, objects int) files {
	out := files{"sluice.yaml": project(namespace)["sluice.yaml"]}
	for i := range releases {
		name := fmt.Sprintf("c%d", i)
		renamed := strings.NewReplacer("name: api", "name: "+name, "instance: api", "instance: "+name, "shop/api", "shop/"+name, "replicas: 2", "replicas: 0")
		base := "components/" + name + "/"
		for _, file := range []string{"component.yaml", "kustomization.yaml", "deployment.yaml", "service.yaml"} {
			out[base+file] = renamed.Replace(project(namespace)["components/api/"+file])
		}
		own := "environments/production/" + name + "/"
		out[own+"config.yaml"] = bulkConfig(name, "one")
		out[own+"account.yaml"] = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: " + name + "}\n" +
			"---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: " + name + "}\nspec: {maxUnavailable: 1, selector: {matchLabels: {app.kubernetes.io/instance: " + name + "}}}\n"
		var more strings.Builder
		for n := 5; n < objects; n++ {
			more.WriteString("---\n" + bulkConfig(fmt.Sprintf("%s-%d", name, n), "one"))
		}
		out[own+"account.yaml"] += more.String()
		out[own+"kustomization.yaml"] = kustomization("namespace: "+namespace, "resources: [../../../components/"+name+", account.yaml, config.yaml]",
			"images:", "- {name: registry.example.com/shop/"+name+", digest: "+digest("1")+"}")
	}
	return out
}

func bulkConfig(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}
