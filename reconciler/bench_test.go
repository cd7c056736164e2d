package reconciler_test

import (
	"bytes"
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
	"github.com/sluice-dev/sluice/reconciler/heap"
	"github.com/sluice-dev/sluice/render"
)

// benchConcurrency is how many releases, and how many objects of the bare loop,
// are written at the same time.
const benchConcurrency = 8

// BenchmarkReconciler is the life of an environment of many releases on a real
// API server, once in each run (-benchtime=1x):
//
//	sync-s, ready-s    time until every object is applied, every release ready
//	bare-s             time of a bare loop of the same patches by the same client,
//	                   before the sync, and bare-after-s of one after it: the API
//	                   server becomes slower with what it holds
//	x-bare             sync-s over the shorter of the two
//	cpu-ms, bare-ms    processor time of this process for each release until every
//	                   object is applied, and in the bare loop
//	req/release        requests of the first sync until all are ready, for each release
//	push-ms, push-req  from a notification until the object of one release is applied
//	                   (median), and the requests of all that it leads to
//	rest-req           requests during a resync and afterwards
//	MiB-heap           live heap of the process, test included
//
// The garbage collector is set as `sluice controller` sets it.
func BenchmarkReconciler(b *testing.B) {
	heap.Relax()
	for _, releases := range []int{100, 1000} {
		b.Run(fmt.Sprintf("releases=%d", releases), func(b *testing.B) {
			for range b.N {
				benchLife(b, releases, 5)
			}
		})
	}
}

func benchLife(b *testing.B, releases, objects int) {
	bare := benchBareLoop(b, releases, objects)
	benchCalm(b)
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
	since := costSince(b)
	running.Go(func() { _ = e.Run(ctx, reconciler.RunOptions{PollInterval: time.Hour, Notify: notify, Resync: resync}) })
	<-applied
	sync := since()
	<-ready
	b.ReportMetric(sync.time.Seconds(), "sync-s")
	b.ReportMetric(sync.cpu.Seconds()*1000/float64(releases), "cpu-ms")
	b.ReportMetric(since().time.Seconds(), "ready-s")
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
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	b.ReportMetric(float64(stats.HeapAlloc)/(1<<20), "MiB-heap")
	b.ReportMetric(0, "ns/op")
	cancel()
	running.Wait()

	again := benchBareLoop(b, releases, objects)
	b.Logf("bare loop before: %s, after: %s", bare.time, again.time)
	b.ReportMetric(bare.time.Seconds(), "bare-s")
	b.ReportMetric(again.time.Seconds(), "bare-after-s")
	b.ReportMetric(sync.time.Seconds()/min(bare.time, again.time).Seconds(), "x-bare")
	b.ReportMetric((bare.cpu+again.cpu).Seconds()/2*1000/float64(releases), "bare-ms")
}

// cost is what something took of the clock, and of the processors in this process.
type cost struct{ time, cpu time.Duration }

func costSince(b *testing.B) func() cost {
	start, used := time.Now(), cpuTime(b)
	return func() cost { return cost{time.Since(start), cpuTime(b) - used} }
}

// cpuTime is the processor time of this process so far.
func cpuTime(b *testing.B) time.Duration {
	stat, err := os.ReadFile("/proc/self/stat")
	require.NoError(b, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(field)
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// benchBareLoop is what nothing but the patches costs.
func benchBareLoop(b *testing.B, releases, objects int) cost {
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
	benchCalm(b)
	since := costSince(b)
	var g errgroup.Group
	g.SetLimit(benchConcurrency)
	for _, o := range all {
		g.Go(func() error {
			_, _, err := client.Apply(context.Background(), o, nil, cluster.ApplyOptions{Manager: "sluice"})
			return err
		})
	}
	require.NoError(b, g.Wait())
	return since()
}

// benchCalm waits until the cluster's controllers have done what they had to, so
// that nobody pays for it but who has caused it: until what earlier benchmarks
// have left is deleted, all Deployments are observed, and nothing has been written
// for a while.
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
		namespaces, err := api.CoreV1().Namespaces().List(b.Context(), metav1.ListOptions{FieldSelector: "status.phase=Terminating"})
		require.NoError(b, err)
		now := fmt.Sprint(observed, len(slices.Items))
		if calm++; !observed || now != before || len(namespaces.Items) > 0 {
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

// BenchmarkController is the memory of `sluice controller`, a process of its own,
// once it has brought up an environment of 1,000 releases of ten objects each:
// resident then, and at most.
func BenchmarkController(b *testing.B) {
	const releases, objects = 1000, 10
	program := filepath.Join(b.TempDir(), "sluice")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "../cmd/sluice")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false") // as make build
	out, err := build.CombinedOutput()
	require.NoError(b, err, "%s", out)
	client, err := cluster.New(testcluster.Start(b))
	require.NoError(b, err)
	for range b.N {
		namespace := testcluster.Namespace(b)
		_, dir := benchRepository(b, benchProject(namespace, releases, objects))
		benchCalm(b)
		var log bytes.Buffer
		controller := exec.Command(program, "controller", "--repo", dir, "--branch", "main", "--environment", "production="+namespace,
			"--kubeconfig", testcluster.Kubeconfig(b), "--concurrency", strconv.Itoa(benchConcurrency), "--log-level", "error")
		controller.Env = append(os.Environ(), "SLUICE_CACHE_DIR="+b.TempDir())
		controller.Stdout, controller.Stderr = &log, &log
		require.NoError(b, controller.Start())
		for ready := 0; ready < releases; time.Sleep(time.Second) {
			list, err := client.Releases(b.Context(), namespace)
			require.NoError(b, err)
			ready = 0
			for _, r := range list {
				if r.Ready() {
					ready++
				}
			}
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", controller.Process.Pid))
		require.NoError(b, controller.Process.Kill())
		_ = controller.Wait()
		require.NoError(b, err, "%s", &log)
		reportMiB(b, string(status), "VmRSS:", "MiB-rss")
		reportMiB(b, string(status), "VmHWM:", "MiB-peak")
		b.ReportMetric(0, "ns/op")
	}
}

func reportMiB(b *testing.B, status, field, unit string) {
	_, rest, found := strings.Cut(status, field)
	require.True(b, found, status)
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	require.NoError(b, err)
	b.ReportMetric(kib/1024, unit)
}
