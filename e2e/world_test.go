//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	environment   = "production"
	notifyAddress = "127.0.0.1:9292"

	// The first gateway serves everything, the second, which does not take Services
	// without endpoints, IngressRoutes only.
	gatewayAddress = "127.0.0.1:8000"
	strictAddress  = "127.0.0.1:8001"

	// patience is how long anything may take that is waited for: the machine may be
	// busy with other things.
	patience = 90 * time.Second
)

var (
	releases    = schema.GroupVersionResource{Group: "sluice.dev", Version: "v1alpha1", Resource: "releases"}
	routes      = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	autoscalers = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
	budgets     = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
)

// world is what the tests share: a cluster with a gateway, pods that answer, a
// repository and the controller that follows it.
type world struct {
	dir, bin, traefik string
	env               []string
	kube              kubernetes.Interface
	objects           dynamic.Interface
	pods              *simulator
	figures           Figures

	cancel    context.CancelFunc
	processes []*exec.Cmd
	logs      []*os.File
}

// shared is the world of the run. There is one, as it takes a while to make.
var shared *world

// measure makes the world, runs the tests, and writes the figures if all of them
// ran and passed.
func measure(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := &world{}
	defer func() { err = errors.Join(err, w.close(code != 0 || err != nil)) }()
	if err := w.open(ctx); err != nil {
		return 1, err
	}
	shared = w
	done := make(chan int)
	go func() { done <- m.Run() }()
	select {
	case <-ctx.Done():
		return 130, errors.New("interrupted")
	case code = <-done:
	}
	if code == 0 && wholeRun() {
		err = w.figures.write()
	}
	return code, err
}

// open starts everything. What it has started is closed by close, even after an
// error.
func (w *world) open(ctx context.Context) (err error) {
	ctx, w.cancel = context.WithCancel(ctx)
	if w.dir, err = os.MkdirTemp("", "sluice-e2e-"); err != nil {
		return err
	}
	if w.bin, err = programs(); err != nil {
		return err
	}
	if w.traefik = os.Getenv("SLUICE_E2E_TRAEFIK"); w.traefik == "" {
		w.traefik = filepath.Join(w.bin, "traefik")
	}
	w.env = append(os.Environ(),
		"SLUICE_REPO="+w.path("store.git"), "SLUICE_CACHE_DIR="+w.path("cache"),
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com")
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS = -1
	if w.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if w.objects, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	if w.pods, err = newSimulator(ctx, w.kube); err != nil {
		return err
	}
	if err := w.makeRepository(ctx); err != nil {
		return err
	}
	for name, args := range map[string][]string{
		"gateway": {"--entrypoints.web.address=" + gatewayAddress, "--providers.kubernetesgateway", "--providers.kubernetescrd.allowemptyservices",
			"--accesslog.filepath=" + w.path("refused.log"), "--accesslog.filters.statuscodes=400-599"},
		"strict": {"--entrypoints.web.address=" + strictAddress, "--providers.kubernetescrd"},
	} {
		args = append(args, "--log.level=INFO", "--log.nocolor", "--global.checknewversion=false", "--global.sendanonymoususage=false")
		if err := w.start(name, w.traefik, args...); err != nil {
			return err
		}
	}
	err = w.start("controller", filepath.Join(w.bin, "sluice"), "controller", "--environment", environment+"="+namespace,
		"--poll-interval", "30s", "--notify-address", notifyAddress)
	if err != nil {
		return err
	}
	if err := w.figures.describe(ctx, w); err != nil {
		return err
	}
	return w.startNeighbour(ctx)
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.dir}, elements...)...)
}

// makeRepository makes a bare repository of testdata/repository, and a clone of
// it.
func (w *world) makeRepository(ctx context.Context) error {
	if err := os.CopyFS(w.path("store"), os.DirFS(filepath.Join("testdata", "repository"))); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", w.path("store.git")},
		{"-C", w.path("store"), "init", "-q", "-b", "main"},
		{"-C", w.path("store"), "remote", "add", "origin", w.path("store.git")},
		{"-C", w.path("store"), "add", "-A"},
		{"-C", w.path("store"), "commit", "-q", "-m", "The store as it runs today"},
		{"-C", w.path("store"), "push", "-q", "-u", "origin", "main"},
	} {
		if out, err := w.command(ctx, "git", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

func (w *world) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, program, args...)
	c.Env = w.env
	return c
}

// start runs a program until close, with a log of its own.
func (w *world) start(name, program string, args ...string) error {
	log, err := os.Create(w.path(name + ".log"))
	if err != nil {
		return err
	}
	w.logs = append(w.logs, log)
	c := w.command(context.Background(), program, args...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return fmt.Errorf("starting the %s: %w", name, err)
	}
	w.processes = append(w.processes, c)
	return nil
}

// startNeighbour changes a route of somebody else twice a second. So the gateway
// always has a change to take in, and another one waits for the rest of its
// throttle interval of two seconds, as in a cluster in which something happens.
func (w *world) startNeighbour(ctx context.Context) error {
	route := func(n int) []byte {
		return fmt.Appendf(nil, `{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "neighbour", "namespace": "default"},
			"spec": {"parentRefs": [{"name": "neighbour"}], "hostnames": ["neighbour.example.com"], "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/%d"}}]}]}}`, n)
	}
	gateway := []byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "neighbour", "namespace": "default"},
		"spec": {"gatewayClassName": "traefik", "listeners": [{"name": "http", "port": 8000, "protocol": "HTTP"}]}}`)
	options := metav1.PatchOptions{FieldManager: "neighbour"}
	gateways := schema.GroupVersionResource{Group: routes.Group, Version: routes.Version, Resource: "gateways"}
	if _, err := w.objects.Resource(gateways).Namespace("default").Patch(ctx, "neighbour", types.ApplyPatchType, gateway, options); err != nil {
		return fmt.Errorf("making the neighbour's gateway: %w", err)
	}
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			_, _ = w.objects.Resource(routes).Namespace("default").Patch(ctx, "neighbour", types.ApplyPatchType, route(n), options)
			time.Sleep(500 * time.Millisecond)
		}
	}()
	return nil
}

// close ends what was started and removes its files; after a failure it tells
// what the programs said last.
func (w *world) close(failed bool) error {
	var errs []error
	for _, p := range slices.Backward(w.processes) {
		_ = p.Process.Signal(syscall.SIGTERM)
		ended := time.AfterFunc(30*time.Second, func() { _ = p.Process.Kill() })
		if err := p.Wait(); err != nil && !failed {
			errs = append(errs, fmt.Errorf("%s did not end well: %w", filepath.Base(p.Path), err))
		}
		ended.Stop()
	}
	if w.cancel != nil {
		w.cancel()
	}
	for _, log := range w.logs {
		_ = log.Close()
	}
	if failed {
		for _, name := range []string{"controller.log", "gateway.log", "refused.log"} {
			data, _ := os.ReadFile(w.path(name))
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			fmt.Fprintf(os.Stderr, "\nthe end of %s:\n%s\n", name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
		}
	}
	if w.dir != "" && os.Getenv("SLUICE_E2E_KEEP") == "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// run runs a program to its end and returns what it printed.
func (w *world) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // that of a test has ended in its clean-up
	defer cancel()
	var stdout, stderr bytes.Buffer
	c := w.command(ctx, program, args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	require.NoError(t, err, "%s %s: %s%s", filepath.Base(program), strings.Join(args, " "), stdout.String(), stderr.String())
	return stdout.String()
}

// sluice runs a command that commits to the repository, and has the controller
// look there, as a forge's webhook does. It returns when the commit was made.
func (w *world) sluice(t *testing.T, args ...string) time.Time {
	t.Helper()
	w.run(t, filepath.Join(w.bin, "sluice"), args...)
	return w.committed(t)
}

func (w *world) committed(t *testing.T) time.Time {
	t.Helper()
	at := time.Now()
	require.True(t, within(patience, func() bool { // only right after the start does it not listen yet
		response, err := http.Post("http://"+notifyAddress, "", nil)
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusAccepted
	}), "the controller takes no notification")
	return at
}

// traffic sets the weights of a component, and waits for nothing.
func (w *world) traffic(t *testing.T, component, tags string, more ...string) time.Time {
	t.Helper()
	return w.sluice(t, append([]string{"traffic", "set", component, "--environment", environment, "--tags", tags}, more...)...)
}

// deploy records a build and pins it.
func (w *world) deploy(t *testing.T, component, digest string, more ...string) time.Time {
	t.Helper()
	w.run(t, filepath.Join(w.bin, "sluice"), "build", "record", "--component", component, "--digest", "sha256:"+digest+strings.Repeat("0", 64-len(digest)))
	return w.sluice(t, append([]string{"deploy", component, "--environment", environment, "--build", digest}, more...)...)
}

// edit commits a change of the files, as somebody does by hand.
func (w *world) edit(t *testing.T, message string, change func(dir string)) time.Time {
	t.Helper()
	clone := w.path("store")
	w.run(t, "git", "-C", clone, "pull", "-q", "--ff-only")
	change(clone)
	w.run(t, "git", "-C", clone, "add", "-A")
	w.run(t, "git", "-C", clone, "commit", "-q", "-m", message)
	w.run(t, "git", "-C", clone, "push", "-q")
	return w.committed(t)
}

// settled waits until a release is Ready with the newest commit: everything is
// done that it asks for.
func (w *world) settled(t *testing.T, release string) {
	t.Helper()
	head := strings.TrimSpace(w.run(t, "git", "-C", w.path("store.git"), "log", "-1", "--format=%H", "--", "environments/"+environment+"/"+release, "components/"+release))
	said := "nothing"
	ready := func() bool {
		r, err := w.objects.Resource(releases).Namespace(namespace).Get(t.Context(), release, metav1.GetOptions{})
		if err != nil {
			said = err.Error()
			return false
		}
		applied, _, _ := unstructured.NestedString(r.Object, "status", "lastAppliedRevision")
		status, message := condition(r, "Ready")
		said = fmt.Sprintf("applied %.7s, Ready=%s: %s", applied, status, message)
		return status == "True" && w.contains(t, applied, head)
	}
	if !within(patience, ready) {
		t.Fatalf("release %s is not settled at %.7s: %s", release, head, said)
	}
}

// contains reports whether a commit is another one or comes after it.
func (w *world) contains(t *testing.T, commit, other string) bool {
	return commit != "" && w.command(t.Context(), "git", "-C", w.path("store.git"), "merge-base", "--is-ancestor", other, commit).Run() == nil
}

// within asks again and again until the answer is yes, or for so long.
func within(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return false
}

func condition(o *unstructured.Unstructured, kind string) (status, message string) {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, _ := c.(map[string]any); c["type"] == kind {
			return fmt.Sprint(c["status"]), fmt.Sprint(c["message"])
		}
	}
	return "", ""
}

// get reads an object; nil when there is none.
func (w *world) get(t *testing.T, resource schema.GroupVersionResource, name string) *unstructured.Unstructured {
	t.Helper()
	list, err := w.objects.Resource(resource).Namespace(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	require.NoError(t, err)
	if len(list.Items) == 0 {
		return nil
	}
	return &list.Items[0]
}
