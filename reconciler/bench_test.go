package reconciler_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/render"
)

// benchConcurrency is how many releases, and how many objects of the bare loop,
// are written at the same time.
const benchConcurrency = 8

// BenchmarkReconciler is the life of an environment of many releases on a real
// API server, once in each run (-benchtime=1x):
//
//	sync-s, ready-s    time until every object is applied, every release ready
//	x-bare             time until every object is applied, over that of a bare loop
//	                   of the same patches by the same client
//	req/release        requests of the first sync until all are ready, for each release
//	push-ms, push-req  from a notification until the object of one release is applied
//	                   (median), and the requests of all that it leads to
//	rest-req           requests during a resync and afterwards
//	MiB-heap, MiB-rss  of the process, test included
func BenchmarkReconciler(b *testing.B) {
	for _, size := range []struct{ releases, objects int }{{100, 5}, {1000, 5}, {1000, 10}} {
		b.Run(fmt.Sprintf("releases=%d/objects=%d", size.releases, size.objects), func(b *testing.B) {
			for range b.N {
				benchLife(b, size.releases, size.objects)
			}
		})
	}
}

func benchLife(b *testing.B, releases, objects int) {
	var bare time.Duration
	if objects == 5 { // with more it is about memory
		bare = benchBareLoop(b, releases, objects)
		benchCalm(b)
	}
	namespace := testcluster.Namespace(b)
	repo, dir := benchRepository(b, benchProject(namespace, releases, objects))
	notify, resync := make(chan struct{}, 1), 20*time.Second
	m := &meter{}
	e, err := reconciler.New(reconciler.Config{
		REST: m.config(testcluster.Start(b)), Source: benchSource{repo}, Concurrency: benchConcurrency,
		Environments: []reconciler.EnvironmentConfig{{Name: "production", Namespace: namespace}},
		Reporter:     m,
	})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	applied, ready := m.expect(releases*objects), m.expectReady(releases)
	start := time.Now()
	running.Go(func() { _ = e.Run(ctx, reconciler.RunOptions{PollInterval: time.Hour, Notify: notify, Resync: resync}) })
	<-applied
	took := time.Since(start)
	<-ready
	b.ReportMetric(took.Seconds(), "sync-s")
	if bare > 0 {
		b.ReportMetric(bare.Seconds(), "bare-s")
		b.ReportMetric(took.Seconds()/bare.Seconds(), "x-bare")
	}
	b.ReportMetric(time.Since(start).Seconds(), "ready-s")
	b.ReportMetric(float64(m.settle())/float64(releases), "req/release")
	b.Log(m.byKind())

	pusher, err := gitrepo.Open(ctx, gitrepo.Options{URL: dir, Branch: "main", Author: "Test", Email: "test@example.com"})
	require.NoError(b, err)
	defer func() { _ = pusher.Close() }()
	var times []time.Duration
	pushed := 0
	for i := range 21 {
		name := fmt.Sprintf("c%d", i*releases/21)
		m.reset()
		done := m.expectWrite("/configmaps/" + name)
		_, err := pusher.Update(ctx, "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
			return gitrepo.Edit{Message: "push", Write: map[string][]byte{
				"environments/production/" + name + "/config.yaml": []byte(benchConfig(name, fmt.Sprint(i)))}}, nil
		})
		require.NoError(b, err)
		begin := time.Now()
		notify <- struct{}{}
		<-done
		times = append(times, time.Since(begin))
		pushed += m.settle()
	}
	b.Log(m.byKind())
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "push-ms")
	b.ReportMetric(float64(pushed)/float64(len(times)), "push-req")

	m.reset()
	time.Sleep(resync * 3 / 2)
	b.ReportMetric(float64(m.settle()), "rest-req")
	b.Log(m.byKind())
	heap, rss := benchMemory(b)
	b.ReportMetric(heap, "MiB-heap")
	b.ReportMetric(rss, "MiB-rss")
	b.ReportMetric(0, "ns/op")
}

// benchBareLoop is the time that nothing but the patches takes.
func benchBareLoop(b *testing.B, releases, objects int) time.Duration {
	b.Helper()
	namespace := testcluster.Namespace(b)
	repo, _ := benchRepository(b, benchProject(namespace, releases, objects))
	rev, err := repo.Fetch(b.Context())
	require.NoError(b, err)
	fsys, err := benchSource{repo}.Snapshot(rev)
	require.NoError(b, err)
	opened, err := envrepo.Open(fsys)
	require.NoError(b, err)
	var all []*unstructured.Unstructured
	for i := range releases {
		release, err := opened.Release("production", fmt.Sprintf("c%d", i))
		require.NoError(b, err)
		result, err := render.Build(b.Context(), render.Request{FS: fsys, Release: release})
		require.NoError(b, err)
		all = append(all, result.Shared...)
	}
	require.Len(b, all, releases*objects)
	client, err := cluster.New(testcluster.Start(b))
	require.NoError(b, err)
	for _, o := range all {
		_, err := client.Namespaced(o.GroupVersionKind()) // discovery
		require.NoError(b, err)
	}
	start := time.Now()
	var g errgroup.Group
	g.SetLimit(benchConcurrency)
	for _, o := range all {
		g.Go(func() error {
			_, _, err := client.Apply(context.Background(), o, nil, cluster.ApplyOptions{Manager: "sluice"})
			return err
		})
	}
	require.NoError(b, g.Wait())
	return time.Since(start)
}

// benchCalm waits until the cluster's controllers have done what they had to, so
// that nobody pays for it but who has caused it: until all Deployments are
// observed, and nothing has been written for a while.
func benchCalm(b *testing.B) {
	b.Helper()
	api, err := kubernetes.NewForConfig(testcluster.Start(b))
	require.NoError(b, err)
	before := ""
	for calm := 0; calm < 3; time.Sleep(time.Second) {
		list, err := api.AppsV1().Deployments("").List(b.Context(), metav1.ListOptions{})
		require.NoError(b, err)
		observed := !slices.ContainsFunc(list.Items, func(d appsv1.Deployment) bool { return d.Status.ObservedGeneration < d.Generation })
		slices, err := api.DiscoveryV1().EndpointSlices("").List(b.Context(), metav1.ListOptions{})
		require.NoError(b, err)
		now := fmt.Sprint(observed, len(slices.Items))
		if calm++; !observed || now != before {
			calm, before = 0, now
		}
	}
}

// benchProject has releases of objects each: a Deployment, a Service, a
// ServiceAccount, a budget and ConfigMaps.
func benchProject(namespace string, releases, objects int) files {
	out := files{"sluice.yaml": project(namespace)["sluice.yaml"]}
	for i := range releases {
		name := fmt.Sprintf("c%d", i)
		renamed := strings.NewReplacer("name: api", "name: "+name, "instance: api", "instance: "+name, "shop/api", "shop/"+name, "replicas: 2", "replicas: "+benchReplicas())
		base := "components/" + name + "/"
		for _, file := range []string{"component.yaml", "kustomization.yaml", "deployment.yaml", "service.yaml"} {
			out[base+file] = renamed.Replace(project(namespace)["components/api/"+file])
		}
		own := "environments/production/" + name + "/"
		out[own+"config.yaml"] = benchConfig(name, "one")
		out[own+"account.yaml"] = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: " + name + "}\n" +
			"---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: " + name + "}\nspec: {maxUnavailable: 1, selector: {matchLabels: {app.kubernetes.io/instance: " + name + "}}}\n"
		var more strings.Builder
		for n := 5; n < objects; n++ {
			more.WriteString("---\n" + benchConfig(fmt.Sprintf("%s-%d", name, n), "one"))
		}
		out[own+"account.yaml"] += more.String()
		out[own+"kustomization.yaml"] = kustomization("namespace: "+namespace, "resources: [../../../components/"+name+", account.yaml, config.yaml]",
			"images:", "- {name: registry.example.com/shop/"+name+", digest: "+digest("1")+"}")
	}
	return out
}

func benchConfig(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

// benchReplicas are none by default: pods are the work of others, on the same
// cores.
func benchReplicas() string {
	if n := os.Getenv("SLUICE_BENCH_REPLICAS"); n != "" {
		return n
	}
	return "0"
}

func benchRepository(b *testing.B, content files) (*gitrepo.Repository, string) {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "environments.git")
	out, err := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", dir).CombinedOutput()
	require.NoError(b, err, "%s", out)
	repo, err := gitrepo.Open(b.Context(), gitrepo.Options{URL: dir, Branch: "main", Author: "Test", Email: "test@example.com"})
	require.NoError(b, err)
	b.Cleanup(func() { _ = repo.Close() })
	edit := gitrepo.Edit{Message: "Start", Write: map[string][]byte{}}
	for name, text := range content {
		edit.Write[name] = []byte(text)
	}
	_, err = repo.Update(b.Context(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) { return edit, nil })
	require.NoError(b, err)
	return repo, dir
}

type benchSource struct{ *gitrepo.Repository }

func (s benchSource) Snapshot(rev string) (fs.FS, error) { return s.Repository.Snapshot(rev) }

// meter counts what an engine sends and says.
type meter struct {
	mu       sync.Mutex
	requests map[string]int // by method and resource
	writes   int            // of objects that are no Releases
	last     time.Time
	wanted   int
	reached  chan struct{}
	path     string
	ready    map[string]bool
	allReady int
	isReady  chan struct{}
}

func (m *meter) config(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			m.saw(r, err == nil && response.StatusCode < 300)
			return response, err
		})
	})
	return c
}

func (m *meter) saw(r *http.Request, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.URL.Query().Get("watch") != "" {
		return
	}
	if m.requests == nil {
		m.requests = map[string]int{}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	at := slices.Index(parts, "namespaces")
	what := r.URL.Path
	if at >= 0 && at+2 < len(parts) {
		what = parts[at+2]
		if len(parts) > at+4 {
			what += "/" + parts[at+4]
		}
	}
	m.requests[r.Method+" "+what]++
	m.last = time.Now()
	if r.Method != http.MethodPatch || !ok || strings.HasPrefix(what, "releases") || !strings.Contains(r.URL.Path, m.path) {
		return
	}
	if m.writes++; m.writes == m.wanted {
		close(m.reached)
	}
}

func (m *meter) Report(_ context.Context, s reconciler.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.State != reconciler.StateReady || m.ready[s.Release] || m.isReady == nil {
		return
	}
	m.ready[s.Release] = true
	if len(m.ready) == m.allReady {
		close(m.isReady)
	}
}

func (m *meter) expect(writes int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes, m.wanted, m.reached = 0, writes, make(chan struct{})
	return m.reached
}

func (m *meter) expectWrite(path string) <-chan struct{} {
	m.mu.Lock()
	m.path = path
	m.mu.Unlock()
	return m.expect(1)
}

func (m *meter) expectReady(n int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready, m.allReady, m.isReady = map[string]bool{}, n, make(chan struct{})
	return m.isReady
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests, m.last = nil, time.Now()
}

// settle waits until nothing is sent for a while, and counts what was.
func (m *meter) settle() int {
	const quiet = 1200 * time.Millisecond
	for {
		m.mu.Lock()
		left, n := quiet-time.Since(m.last), 0
		for _, count := range m.requests {
			n += count
		}
		m.mu.Unlock()
		if left <= 0 {
			return n
		}
		time.Sleep(left)
	}
}

func (m *meter) byKind() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprint(m.requests)
}

func benchMemory(b *testing.B) (heap, rss float64) {
	b.Helper()
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			require.NoError(b, err)
			rss = kib / 1024
		}
	}
	return float64(stats.HeapAlloc) / (1 << 20), rss
}
