package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
)

// patience bounds what a test waits for, on a machine that is busy with other tests.
const patience = 2 * time.Minute

// tick is how often it looks.
const tick = 100 * time.Millisecond

// digest is an image digest that starts as given: "bad" cannot be pulled, "dead"
// crashes.
func digest(start string) string {
	return "sha256:" + start + strings.Repeat("0", 64-len(start))
}

// files is a project folder.
type files map[string]string

// with is a copy with changes; an empty content removes the file.
func (f files) with(changes files) files {
	out := maps.Clone(f)
	for name, content := range changes {
		if content == "" {
			delete(out, name)
		} else {
			out[name] = content
		}
	}
	return out
}

// project has component api, untagged, in environment production.
func project(namespace string) files {
	return files{
		"sluice.yaml": fmt.Sprintf(`apiVersion: sluice.dev/v1alpha1
kind: Project
metadata: {name: shop}
environments:
- name: production
  namespace: %s
  traffic: {drain: 1s}
`, namespace),
		"components/api/component.yaml": `apiVersion: sluice.dev/v1alpha1
kind: Component
metadata: {name: api}
image: registry.example.com/shop/api
healthTimeout: 15s
`,
		"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml]"),
		"components/api/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
  labels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}
spec:
  replicas: 2
  selector: {matchLabels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}}
  template:
    metadata: {labels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: api, image: registry.example.com/shop/api, ports: [{name: http, containerPort: 8080}]}]
`,
		"components/api/service.yaml": `apiVersion: v1
kind: Service
metadata: {name: api}
spec:
  selector: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}
  ports: [{name: http, port: 80, targetPort: http}]
`,
		"environments/production/api/kustomization.yaml": overlay(namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("1")),
		"environments/production/api/route.yaml":         route,
		"environments/production/api/config.yaml":        config("one"),
	}
}

const route = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
spec:
  parentRefs: [{name: shop}]
  rules: [{backendRefs: [{name: api, port: 80}]}]
`

const autoscaler = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: api}
spec: {minReplicas: 3, maxReplicas: 10, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: api}}
`

func config(value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: api-%[1]s}\ndata: {value: %[1]s}\n", value)
}

func kustomization(lines ...string) string {
	return "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" + strings.Join(lines, "\n") + "\n"
}

func overlay(namespace, resources, digest string) string {
	return kustomization("namespace: "+namespace, resources, "images:", "- {name: registry.example.com/shop/api, digest: "+digest+"}")
}

// tagged turns component api into a tagged one: weights as in traffic.yaml, and
// a digest for each tag.
func (f files) tagged(namespace, traffic string, digests map[string]string) files {
	out := f.with(files{
		"environments/production/api/kustomization.yaml":      kustomization("namespace: "+namespace, "resources: [route.yaml, service.yaml]"),
		"environments/production/api/service.yaml":            f["components/api/service.yaml"],
		"environments/production/api/config.yaml":             "",
		"environments/production/api/base/kustomization.yaml": kustomization("resources: [../../../../components/api]"),
		"environments/production/api/traffic.yaml":            "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\n" + traffic + "\n",
	})
	for tag, digest := range digests {
		out["environments/production/api/"+tag+"/kustomization.yaml"] = fmt.Sprintf(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: %[1]s
resources: [../base]
nameSuffix: -%[2]s
labels:
- pairs: {sluice.dev/tag: %[2]s, app.kubernetes.io/instance: api-%[2]s}
  includeTemplates: true
  fields:
  - {group: apps, kind: Deployment, path: spec/selector/matchLabels, create: true}
  - {group: apps, kind: StatefulSet, path: spec/selector/matchLabels, create: true}
  - {version: v1, kind: Service, path: spec/selector, create: true}
  - {group: policy, kind: PodDisruptionBudget, path: spec/selector/matchLabels, create: true}
  - {group: apps, kind: Deployment, path: "spec/template/spec/topologySpreadConstraints[]/labelSelector/matchLabels", create: false}
images:
- {name: registry.example.com/shop/api, digest: %[3]s}
`, namespace, tag, digest)
	}
	return out
}

// autoscaled adds a HorizontalPodAutoscaler of at least three replicas.
func (f files) autoscaled() files {
	return f.with(files{
		"components/api/hpa.yaml":           autoscaler,
		"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml, hpa.yaml]"),
	})
}

// branch is a repository in memory: every push is a commit.
type branch struct {
	mu      sync.Mutex
	commits []fs.FS
	err     error // of Fetch
	notify  chan struct{}
}

func newBranch(first files) *branch {
	b := &branch{notify: make(chan struct{}, 1)}
	b.push(first)
	return b
}

// push commits, and tells whoever listens.
func (b *branch) push(f files) (rev string) {
	m := fstest.MapFS{}
	for name, content := range f {
		m[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	b.mu.Lock()
	b.commits = append(b.commits, m)
	n := len(b.commits)
	b.mu.Unlock()
	select {
	case b.notify <- struct{}{}:
	default:
	}
	return revision(n)
}

func revision(n int) string { return fmt.Sprintf("c0ffee%034d", n) }

func (b *branch) Fetch(context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return revision(len(b.commits)), b.err
}

func (b *branch) Snapshot(rev string) (fs.FS, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range b.commits {
		if revision(i+1) == rev {
			return c, nil
		}
	}
	return nil, errors.New("unknown revision " + rev)
}

// fixture is a test's namespace, branch and engine.
type fixture struct {
	t         testing.TB
	namespace string
	branch    *branch
	api       client.Client
	config    *rest.Config
	http      *http.Client // for what api has a cache of
	engine    *reconciler.Engine
}

// kinds are those that tests read as Go types. To register them takes longer than some
// of these tests.
var kinds = sync.OnceValue(func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)))
	return scheme
})

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureIn(t, testcluster.Namespace(t))
}

func newFixtureIn(t testing.TB, namespace string) *fixture {
	t.Helper()
	return newFixtureOn(t, testcluster.Start(t), namespace)
}

func newFixtureOn(t testing.TB, config *rest.Config, namespace string) *fixture {
	t.Helper()
	f := &fixture{t: t, namespace: namespace, config: config}
	var err error
	f.api, err = client.New(f.config, client.Options{Scheme: kinds()})
	require.NoError(t, err)
	f.http, err = rest.HTTPClientFor(f.config)
	require.NoError(t, err)
	f.branch = newBranch(project(namespace))
	f.engine = f.newEngine()
	return f
}

// newEngine is an engine that remembers nothing.
func (f *fixture) newEngine(change ...func(*reconciler.Config)) *reconciler.Engine {
	f.t.Helper()
	cfg := reconciler.Config{
		REST: f.config, Source: f.branch,
		Environments: []reconciler.EnvironmentConfig{{Name: "production", Namespace: f.namespace}},
	}
	for _, c := range change {
		c(&cfg)
	}
	e, err := reconciler.New(cfg)
	require.NoError(f.t, err)
	return e
}

// apply pushes and converges.
func (f *fixture) apply(content files) reconciler.Report {
	f.t.Helper()
	f.branch.push(content)
	return f.converge()
}

func (f *fixture) converge(releases ...string) reconciler.Report {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	report, err := f.engine.Converge(ctx, "production", "", func(s reconciler.Status) {
		f.t.Logf("%s %s: %s %s: %s", time.Now().Format("05.000"), s.Release, s.State, s.Reason, s.Message)
	}, releases...)
	require.NoError(f.t, err)
	return report
}

// until pushes, and converges until a status of a release is as wanted.
func (f *fixture) until(content files, release string, wanted func(reconciler.Status) bool) reconciler.Status {
	f.t.Helper()
	f.branch.push(content)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var seen reconciler.Status
	_, err := f.engine.Converge(ctx, "production", "", func(s reconciler.Status) {
		f.t.Logf("%s %s: %s %s: %s", time.Now().Format("05.000"), s.Release, s.State, s.Reason, s.Message)
		if seen.Release == "" && s.Release == release && wanted(s) {
			seen = s
			cancel()
		}
	})
	if seen.Release == "" {
		require.NoError(f.t, err)
		require.Fail(f.t, "no status was as wanted")
	}
	return seen
}

// ready converges and requires that all went well.
func (f *fixture) ready(content files) reconciler.Report {
	f.t.Helper()
	report := f.apply(content)
	for _, s := range report.Releases {
		require.Contains(f.t, []reconciler.State{reconciler.StateReady, reconciler.StateRemoved}, s.State, "%s: %s: %s", s.Release, s.Reason, s.Message)
	}
	return report
}

// run follows the branch in the background until the test ends.
func (f *fixture) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- f.engine.Run(ctx, reconciler.RunOptions{PollInterval: time.Minute, Notify: f.branch.notify})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(f.t, <-done)
	})
	f.t.Cleanup(stop)
	return stop
}

// get reads an object; nil when there is none.
func (f *fixture) get(kind, name string) *unstructured.Unstructured {
	f.t.Helper()
	o, err := f.read(kind, name)
	require.NoError(f.t, err)
	return o
}

// read is get for a cluster that may not answer.
func (f *fixture) read(kind, name string) (*unstructured.Unstructured, error) {
	group := map[string]schema.GroupVersion{
		"Deployment": {Group: "apps", Version: "v1"}, "HorizontalPodAutoscaler": {Group: "autoscaling", Version: "v2"},
		"StatefulSet": {Group: "apps", Version: "v1"}, "Job": {Group: "batch", Version: "v1"},
		"HTTPRoute":    {Group: "gateway.networking.k8s.io", Version: "v1"},
		"IngressRoute": {Group: "traefik.io", Version: "v1alpha1"}, "TraefikService": {Group: "traefik.io", Version: "v1alpha1"},
	}
	gv, ok := group[kind]
	if !ok {
		gv = schema.GroupVersion{Version: "v1"}
	}
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(gv.WithKind(kind))
	err := f.api.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: name}, o)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return o, nil
}

func (f *fixture) release(name string) *v1alpha1.Release {
	f.t.Helper()
	var r v1alpha1.Release
	if err := f.api.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: name}, &r); err != nil {
		require.NoError(f.t, client.IgnoreNotFound(err))
		return nil
	}
	return &r
}

// ownedBy lists what carries a release's label, as Kind/name.
func (f *fixture) ownedBy(release string) []string {
	f.t.Helper()
	var names []string
	for _, gvk := range []schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "DeploymentList"}, {Version: "v1", Kind: "ServiceList"}, {Version: "v1", Kind: "ConfigMapList"},
		{Version: "v1", Kind: "PersistentVolumeClaimList"}, {Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRouteList"},
		{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscalerList"},
	} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		require.NoError(f.t, f.api.List(context.Background(), list, client.InNamespace(f.namespace), client.MatchingLabels{v1alpha1.LabelRelease: release}))
		require.NoError(f.t, meta.EachListItem(list, func(o runtime.Object) error {
			u := o.(*unstructured.Unstructured)
			if u.GetDeletionTimestamp() == nil {
				names = append(names, u.GetKind()+"/"+u.GetName())
			}
			return nil
		}))
	}
	return names
}

// eventually waits for something about the cluster.
func (f *fixture) eventually(what string, holds func() bool) {
	f.t.Helper()
	require.Eventually(f.t, holds, patience, tick, what)
}

func (f *fixture) image(deployment string) string {
	f.t.Helper()
	d := f.get("Deployment", deployment)
	if d == nil {
		return ""
	}
	containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
	image, _ := containers[0].(map[string]any)["image"].(string)
	return image
}

func (f *fixture) replicas(deployment string) int64 {
	f.t.Helper()
	d := f.get("Deployment", deployment)
	require.NotNil(f.t, d, deployment)
	n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
	return n
}

// weights are the backends of the HTTPRoute as "api-blue=90 api-green=10".
func (f *fixture) weights() string {
	f.t.Helper()
	r := f.get("HTTPRoute", "api")
	if r == nil {
		return ""
	}
	rules, _, _ := unstructured.NestedSlice(r.Object, "spec", "rules")
	rule := rules[0].(map[string]any)
	var parts []string
	for _, b := range rule["backendRefs"].([]any) {
		fields := b.(map[string]any)
		parts = append(parts, fmt.Sprintf("%v=%v", fields["name"], fields["weight"]))
	}
	filters, _ := rule["filters"].([]any)
	for _, raw := range filters {
		mirror, _, _ := unstructured.NestedMap(raw.(map[string]any), "requestMirror")
		name, _, _ := unstructured.NestedString(mirror, "backendRef", "name")
		parts = append(parts, fmt.Sprintf("mirror:%s=%v", name, mirror["percent"]))
	}
	return strings.Join(parts, " ")
}

// cutComponent turns a path of component api into one of component web.
func cutComponent(name string) (string, bool) {
	out := strings.ReplaceAll(strings.ReplaceAll(name, "components/api/", "components/web/"), "/api/", "/web/")
	return out, out != name
}

// renamed turns the content of component api into that of component web.
func renamed(content string) string {
	return strings.NewReplacer("name: api", "name: web", "instance: api", "instance: web", "shop/api", "shop/web", "components/api", "components/web",
		"api-", "web-").Replace(content)
}
