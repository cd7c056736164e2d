package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-dev/sluice/dev/cluster"
)

const (
	// asDevcluster makes this test binary be devcluster: what is tested is the
	// source as it is, not what was built before.
	asDevcluster = "DEVCLUSTER_TEST_MAIN"
	// patience is for a machine that is busy with other things.
	patience = 3 * time.Minute
	// digestRest completes the first letters of a digest, of at most four.
	digestRest = "000000000000000000000000000000000000000000000000000000000000"
)

func TestMain(m *testing.M) {
	if os.Getenv(asDevcluster) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// assetsFolder is where `make tools` has put the programs.
func assetsFolder(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("SLUICE_DEV_BIN")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "bin")
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kwok", "crds/gateway"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Fatalf("%v: run make tools (make -C dev tools BIN=FOLDER, and set SLUICE_DEV_BIN=FOLDER if it is not bin)", err)
		}
	}
	return folder
}

// devcluster is a call of the command, whose temporary folders are below scratch.
func devcluster(t *testing.T, scratch string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self, args...)
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, kubeconfigVariable+"=") {
			command.Env = append(command.Env, entry)
		}
	}
	command.Env = append(command.Env, asDevcluster+"=1", "TMPDIR="+scratch, "KUBEBUILDER_ASSETS="+assetsFolder(t))
	return command
}

// call runs devcluster and returns what it printed.
func call(t *testing.T, scratch string, args ...string) string {
	t.Helper()
	output, err := devcluster(t, scratch, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("devcluster %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

// newScratch is a folder in which no process may work after the test.
func newScratch(t *testing.T) string {
	t.Helper()
	scratch := t.TempDir()
	t.Cleanup(func() {
		for _, left := range processesIn(t, scratch) {
			t.Errorf("a process is left behind: %s", left)
			_ = syscall.Kill(left.pid, syscall.SIGKILL)
		}
	})
	return scratch
}

type found struct {
	pid  int
	line string
}

func (f found) String() string { return fmt.Sprintf("%d %.120s", f.pid, f.line) }

// processesIn finds the processes that have the folder on their command line,
// which those of a cluster all have.
func processesIn(t *testing.T, folder string) []found {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var list []found
	for _, path := range lines {
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte(folder)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil && pid != os.Getpid() {
			list = append(list, found{pid, string(bytes.ReplaceAll(data, []byte{0}, []byte{' '}))})
		}
	}
	return list
}

func TestUpStatusDown(t *testing.T) {
	t.Parallel()
	scratch := newScratch(t)
	dir, kubeconfig := filepath.Join(scratch, "cluster"), filepath.Join(scratch, "kubeconfig")
	manifests := filepath.Join("testdata", "manifests")

	t.Log(call(t, scratch, "up", "--dir", dir, "--kubeconfig", kubeconfig, "--manifests", manifests))
	t.Cleanup(func() { _ = devcluster(t, scratch, "down", "--dir", dir).Run() })
	where := home{dir}
	recorded, err := where.readState()
	if err != nil || len(recorded.Components) != 5 {
		t.Fatalf("state: %+v, %v; want five components", recorded, err)
	}
	if status := call(t, scratch, "status", "--dir", dir); strings.Count(status, " runs, ") != 5 {
		t.Errorf("status does not say that five components run:\n%s", status)
	}
	if again := call(t, scratch, "up", "--dir", dir, "--manifests", manifests); !strings.Contains(again, "applied 2 objects") {
		t.Errorf("a second up does not apply the manifests:\n%s", again)
	}
	if used := call(t, scratch, "up", "--use-kubeconfig", kubeconfig); !strings.Contains(used, "present, left alone") {
		t.Errorf("up --use-kubeconfig does not find the Gateway API:\n%s", used)
	}
	t.Run("behaves", func(t *testing.T) { testBehaviour(t, kubeconfig) })

	t.Log(call(t, scratch, "down", "--dir", dir))
	for _, component := range recorded.Components {
		if err := syscall.Kill(component.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s, pid %d, runs after down: %v", component.Name, component.PID, err)
		}
	}
	for _, path := range []string{dir, kubeconfig} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there after down: %v", path, err)
		}
	}
	if output, err := devcluster(t, scratch, "status", "--dir", dir).CombinedOutput(); codeOf("status", err) != exitCode(1) {
		t.Errorf("status after down: %v\n%s", err, output)
	}
}

// testBehaviour checks what the simulated kubelet is relied upon for.
func testBehaviour(t *testing.T, kubeconfig string) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	bad, dead := "app@sha256:bad0"+digestRest, "app@sha256:dead"+digestRest
	deploy(ctx, t, client, "good", "app@sha256:600d"+digestRest)
	deploy(ctx, t, client, "bad", bad)
	deploy(ctx, t, client, "dead", dead)

	awaitDeployment(ctx, t, client, "good", func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 2 })
	pod := awaitPod(ctx, t, client, "bad", func(pod *corev1.Pod) bool { return waitingFor(pod) == "ImagePullBackOff" })
	if message := pod.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(message, bad) {
		t.Errorf("the message does not name the image: %q", message)
	}
	awaitPod(ctx, t, client, "dead", func(pod *corev1.Pod) bool {
		return waitingFor(pod) == "CrashLoopBackOff" && pod.Status.ContainerStatuses[0].RestartCount >= 2
	})
	for _, name := range []string{"bad", "dead"} {
		deployment, err := client.AppsV1().Deployments("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil || deployment.Status.ReadyReplicas != 0 {
			t.Errorf("%s has %d ready replicas, want none (%v)", name, deployment.Status.ReadyReplicas, err)
		}
		removeDeployment(ctx, t, client, name)
	}
	testGateAndHook(ctx, t, client)
}

// testGateAndHook checks that a pod with a readiness gate is ready as its owner
// says, and that one that sleeps before it stops is there meanwhile.
func testGateAndHook(ctx context.Context, t *testing.T, client kubernetes.Interface) {
	t.Helper()
	const gate, sleep = "example.com/serving", 2
	pods := client.CoreV1().Pods("default")
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "gated", Labels: map[string]string{"app": "gated"}},
		Spec: corev1.PodSpec{
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: gate}},
			Containers: []corev1.Container{{
				Name: "app", Image: "app@sha256:600d" + digestRest,
				Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: sleep}}},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	has := func(kind corev1.PodConditionType, status corev1.ConditionStatus) func(*corev1.Pod) bool {
		return func(pod *corev1.Pod) bool {
			return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind && c.Status == status })
		}
	}
	awaitPod(ctx, t, client, "gated", has(corev1.ContainersReady, corev1.ConditionTrue)) // and not ready
	watcher, err := pods.Watch(ctx, metav1.ListOptions{LabelSelector: "app=gated"})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	for _, status := range []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionTrue} {
		patch := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q}]}}`, gate, status)
		if _, err := pods.Patch(ctx, "gated", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		await(ctx, t, watcher, fmt.Sprintf("readiness %s of a pod whose gate is %s", status, status), func(e watch.Event) bool {
			pod, ok := e.Object.(*corev1.Pod)
			return ok && has(gate, status)(pod) && has(corev1.PodReady, status)(pod)
		})
	}
	begin := time.Now()
	if err := pods.Delete(ctx, "gated", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, watcher, "the pod to be gone", func(e watch.Event) bool { return e.Type == watch.Deleted })
	if took := time.Since(begin); took < (sleep-1)*time.Second {
		t.Errorf("the pod was gone after %s, before its hook had slept", took)
	}
}

// removeDeployment deletes it with its pods and waits until it is gone, which it
// is after them.
func removeDeployment(ctx context.Context, t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	foreground := metav1.DeletePropagationForeground
	watcher, err := client.AppsV1().Deployments("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	begin := time.Now()
	if err := client.AppsV1().Deployments("default").Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, watcher, name+" to be gone", func(e watch.Event) bool { return e.Type == watch.Deleted })
	t.Logf("%s was gone after %s", name, time.Since(begin).Round(time.Millisecond))
}

func waitingFor(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Waiting != nil && !status.Ready {
			return status.State.Waiting.Reason
		}
	}
	return ""
}

func deploy(ctx context.Context, t *testing.T, client kubernetes.Interface, name, image string) {
	t.Helper()
	replicas, labels := int32(2), map[string]string{"app": name}
	_, err := client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func awaitDeployment(ctx context.Context, t *testing.T, client kubernetes.Interface, name string, want func(*appsv1.Deployment) bool) {
	t.Helper()
	watcher, err := client.AppsV1().Deployments("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	await(ctx, t, watcher, "the Deployment "+name, func(e watch.Event) bool {
		deployment, ok := e.Object.(*appsv1.Deployment)
		return ok && want(deployment)
	})
}

// awaitPod watches the pods of a Deployment until one is as wanted. None of them
// may be ready at any time.
func awaitPod(ctx context.Context, t *testing.T, client kubernetes.Interface, name string, want func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	watcher, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	event := await(ctx, t, watcher, "a pod of "+name, func(e watch.Event) bool {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			return false
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				t.Errorf("pod %s became ready", pod.Name)
			}
		}
		return want(pod)
	})
	return event.Object.(*corev1.Pod)
}

func await(ctx context.Context, t *testing.T, watcher watch.Interface, what string, done func(watch.Event) bool) watch.Event {
	t.Helper()
	for {
		select {
		case event, ok := <-watcher.ResultChan():
			if !ok {
				t.Fatalf("the watch ended before %s was as wanted", what)
			}
			if done(event) {
				return event
			}
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		}
	}
}

// A run inside a run uses the cluster of the outer one.
func TestRun(t *testing.T) {
	t.Parallel()
	scratch := newScratch(t)
	inner := fmt.Sprintf(`%q run --manifests testdata/manifests -- sh -c 'test "$KUBECONFIG" = "$%s" && echo inner $KUBECONFIG; exit 7'`,
		os.Args[0], kubeconfigVariable)
	command := devcluster(t, scratch, "run", "--", "sh", "-c", "echo outer $KUBECONFIG; "+inner)
	var output, progress bytes.Buffer
	command.Stdout, command.Stderr = &output, &progress
	err := command.Run()
	if codeOf("run", err) != exitCode(7) {
		t.Errorf("got %v, want exit code 7\n%s", err, progress.String())
	}
	lines := strings.Fields(output.String())
	if len(lines) != 4 || lines[0] != "outer" || lines[2] != "inner" || lines[1] != lines[3] {
		t.Errorf("outer and inner do not share a kubeconfig:\n%s", output.String())
	}
	if left, err := filepath.Glob(filepath.Join(scratch, "devcluster-[^p]*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestRunPassesSignalsOn(t *testing.T) {
	t.Parallel()
	scratch := newScratch(t)
	command := devcluster(t, scratch, "run", "--", "sh", "-c", "trap 'exit 9' TERM; echo started; while :; do sleep 0.1; done")
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = bufio.NewReader(output).ReadString('\n')
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); codeOf("run", err) != exitCode(9) {
		t.Errorf("got %v, want the command's exit code 9", err)
	}
}

func TestInterruptedUpLeavesNothing(t *testing.T) {
	t.Parallel()
	scratch := newScratch(t)
	dir := filepath.Join(scratch, "cluster")
	command := devcluster(t, scratch, "up", "--dir", dir)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = bufio.NewReader(output).ReadString('\n') // etcd is ready
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); codeOf("up", err) != exitCode(130) {
		t.Errorf("got %v, want exit code 130", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there: %v", dir, err)
	}
}

// Neither `run` nor its supervisor gets a chance to clean up when it is killed.
func TestKilledProcessesTakeTheClusterAlong(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"run", "supervisor"} {
		t.Run(victim, func(t *testing.T) {
			scratch := newScratch(t)
			dir := filepath.Join(scratch, "cluster")
			command := devcluster(t, scratch, "run", "--dir", dir, "--", "sh", "-c", "echo started; exec sleep 3")
			output, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			_, _ = bufio.NewReader(output).ReadString('\n')
			recorded, err := home{dir}.readState()
			if err != nil {
				t.Fatal(err)
			}
			pid := map[string]int{"run": command.Process.Pid, "supervisor": recorded.Supervisor}[victim]
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := (home{dir}).awaitStopped(ctx); err != nil {
				t.Error(err)
			}
			_ = command.Wait()
		})
	}
}

// What tests of crashes rely on: a killed component comes back at its address, with
// what was stored, and is recorded; down still ends everything.
func TestRestartBringsComponentsBack(t *testing.T) {
	t.Parallel()
	scratch := newScratch(t)
	dir := filepath.Join(scratch, "cluster")
	t.Log(call(t, scratch, "up", "--dir", dir, "--restart"))
	t.Cleanup(func() { _ = devcluster(t, scratch, "down", "--dir", dir).Run() })
	where := home{dir}
	before, err := where.readState()
	if err != nil {
		t.Fatal(err)
	}
	for _, component := range before.Components[:2] { // etcd and kube-apiserver
		if err := syscall.Kill(component.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := cluster.Version(where.kubeconfig())
		after, stateErr := where.readState()
		if err == nil && stateErr == nil && after.Components[0].PID != before.Components[0].PID && after.Components[1].PID != before.Components[1].PID {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("they are not back: %v, %v", err, stateErr)
		case <-time.After(50 * time.Millisecond): // there is no event to wait for
		}
	}
	t.Log(call(t, scratch, "down", "--dir", dir))
}

func TestFailedStartNamesTheComponent(t *testing.T) {
	t.Parallel()
	scratch := newScratch(t)
	broken := t.TempDir() // not in scratch
	script := "#!/bin/sh\necho it cannot be\nexit 3\n"
	if err := os.WriteFile(filepath.Join(broken, "kube-apiserver"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	complete := assetsFolder(t)
	for _, name := range []string{"etcd", "kube-controller-manager", "kube-scheduler", "kwok", "crds"} {
		if err := os.Symlink(filepath.Join(complete, name), filepath.Join(broken, name)); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(scratch, "cluster")
	output, err := devcluster(t, scratch, "up", "--dir", dir, "--assets", broken).CombinedOutput()
	if codeOf("up", err) != exitCode(1) {
		t.Errorf("got %v, want exit code 1", err)
	}
	for _, want := range []string{"kube-apiserver", "exit status 3", "it cannot be", filepath.Join(dir, "logs", "kube-apiserver.log")} {
		if !strings.Contains(string(output), want) {
			t.Errorf("the error does not say %q:\n%s", want, output)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "logs", "kube-apiserver.log")); err != nil {
		t.Errorf("the log is not kept: %v", err)
	}
}

func TestForeignFilesAreNotTouched(t *testing.T) {
	t.Parallel()
	scratch := newScratch(t)
	precious := filepath.Join(scratch, "precious")
	content := "apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters: [{name: work, cluster: {server: https://127.0.0.1:1}}]\n"
	if err := os.WriteFile(precious, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"folder":     {"up", "--dir", scratch},
		"kubeconfig": {"up", "--dir", filepath.Join(scratch, "cluster"), "--kubeconfig", precious},
	} {
		output, err := devcluster(t, scratch, args...).CombinedOutput()
		if codeOf("up", err) != exitCode(1) || !strings.Contains(string(output), "hint: choose another") {
			t.Errorf("%s: got %v\n%s", name, err, output)
		}
	}
	call(t, scratch, "down", "--dir", scratch)
	if data, err := os.ReadFile(precious); err != nil || string(data) != content {
		t.Errorf("got %q, %v", data, err)
	}
}
