// Package testcluster gives tests a real Kubernetes API server. Start with
// Start, and do everything in a namespace from Namespace.
//
// The cluster is the one of SLUICE_TEST_KUBECONFIG, which `make test` sets, or
// one of the test binary's own, which bin/devcluster starts and which ends with
// the process; Private is one that a test may break. The package never skips a
// test: without a cluster it fails.
package testcluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-dev/sluice/internal/checkout"
)

// Variable names the kubeconfig of a cluster to use.
const Variable = "SLUICE_TEST_KUBECONFIG"

// patience bounds a request, on a machine that is busy with other tests.
const patience = 2 * time.Minute

// Kubeconfig is the path of the cluster's kubeconfig.
func Kubeconfig(t testing.TB) string {
	t.Helper()
	c, err := running()
	if err != nil {
		t.Fatal(err)
	}
	return c.kubeconfig
}

// Start returns the configuration of a client for the cluster, with the Release
// CRD installed. It is not throttled.
func Start(t testing.TB) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", Kubeconfig(t))
	if err != nil {
		t.Fatalf("reading the kubeconfig of the test cluster: %v", err)
	}
	config.QPS = -1
	return config
}

// Namespace makes a namespace with a name of its own, and has it deleted when
// the test ends.
func Namespace(t testing.TB) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(Start(t))
	if err != nil {
		t.Fatalf("connecting to the test cluster: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ns, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("making a namespace: %v", err)
	}
	t.Cleanup(func() { remove(t, client, ns.Name) })
	return ns.Name
}

// Unused is a name for a namespace that does not exist; what a test makes of it
// is deleted when the test ends.
func Unused(t testing.TB) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(Start(t))
	if err != nil {
		t.Fatalf("connecting to the test cluster: %v", err)
	}
	name := fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)
	t.Cleanup(func() { remove(t, client, name) })
	return name
}

func remove(t testing.TB, client kubernetes.Interface, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Logf("deleting namespace %s: %v", name, err)
	}
}

// cluster is one that runs.
type cluster struct {
	kubeconfig string
	// alive is the standard input of a cluster of our own: it runs while this is
	// open.
	alive   io.Closer
	command *exec.Cmd
}

// stop ends a cluster of our own.
func (c cluster) stop() error { return errors.Join(c.alive.Close(), c.command.Wait()) }

// running is found out, and a cluster started, once for the test binary.
var running = sync.OnceValues(func() (cluster, error) {
	if path := os.Getenv(Variable); path != "" {
		return cluster{kubeconfig: path}, nil
	}
	devcluster, manifests, err := programs()
	if err != nil {
		return cluster{}, err
	}
	return own(devcluster, manifests)
})

// programs finds what starts a cluster, and the folder of the Release CRD.
func programs() (devcluster, manifests string, err error) {
	root, err := checkout.Root()
	if err != nil {
		return "", "", err
	}
	devcluster = filepath.Join(root, "bin", "devcluster")
	if _, err := os.Stat(devcluster); err != nil {
		return "", "", fmt.Errorf("there is no cluster to test on: run `make tools` first, or set %s", Variable)
	}
	return devcluster, filepath.Join(root, "deploy", "crds"), nil
}

// own starts a cluster that ends with this process: devcluster stops it when its
// command ends, and the command ends when our end of its standard input closes,
// which the kernel does however we end.
func own(devcluster, manifests string, flags ...string) (cluster, error) {
	log, err := os.CreateTemp("", "devcluster-*.log")
	if err != nil {
		return cluster{}, err
	}
	args := append([]string{"run", "--manifests", manifests}, flags...)
	command := exec.Command(devcluster, append(args, "--", "sh", "-c", `echo "$KUBECONFIG"; cat`)...)
	command.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, Variable+"=") })
	command.Stderr = log
	in, err := command.StdinPipe()
	if err != nil {
		return cluster{}, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return cluster{}, err
	}
	if err := command.Start(); err != nil {
		return cluster{}, fmt.Errorf("starting a cluster: %w", err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		said, _ := os.ReadFile(log.Name())
		return cluster{}, errors.Join(fmt.Errorf("starting a cluster: %s", strings.TrimSpace(string(said))), command.Wait())
	}
	return cluster{kubeconfig: lines.Text(), alive: in, command: command}, os.Remove(log.Name())
}
