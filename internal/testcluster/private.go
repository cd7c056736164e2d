package testcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// PrivateCluster is a control plane of one test, which may kill and freeze what
// it is made of. What is killed is started again at once, at the same address.
type PrivateCluster struct {
	Kubeconfig string
	dir        string
}

// Private starts one. It ends with the test.
func Private(t testing.TB) *PrivateCluster {
	t.Helper()
	devcluster, manifests, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := &PrivateCluster{dir: filepath.Join(t.TempDir(), "cluster")}
	c, err := own(devcluster, manifests, "--restart", "--dir", p.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Errorf("stopping the private cluster: %v", err)
		}
	})
	p.Kubeconfig = c.kubeconfig
	return p
}

// Config is the configuration of a client for the cluster. It is not throttled.
func (p *PrivateCluster) Config(t testing.TB) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig)
	if err != nil {
		t.Fatalf("reading the kubeconfig of the private cluster: %v", err)
	}
	config.QPS = -1
	return config
}

// Kill ends a component (etcd, kube-apiserver, …) without warning; it is started
// again. AwaitReady waits until the cluster works.
func (p *PrivateCluster) Kill(t testing.TB, component string) {
	t.Helper()
	p.signal(t, component, syscall.SIGKILL)
}

// Freeze stops a component without ending it: its connections stay open, and
// nothing is answered. It returns what lets it go on, which the end of the test does
// as well.
func (p *PrivateCluster) Freeze(t testing.TB, component string) (thaw func()) {
	t.Helper()
	pid := p.signal(t, component, syscall.SIGSTOP)
	thaw = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	t.Cleanup(thaw)
	return thaw
}

func (p *PrivateCluster) signal(t testing.TB, component string, s syscall.Signal) (pid int) {
	t.Helper()
	pid, err := p.pid(component)
	if err == nil {
		err = syscall.Kill(pid, s)
	}
	if err != nil {
		t.Fatalf("%v of %s: %v", s, component, err)
	}
	return pid
}

// pid looks a component up in what devcluster has recorded.
func (p *PrivateCluster) pid(component string) (int, error) {
	data, err := os.ReadFile(filepath.Join(p.dir, "devcluster.json"))
	if err != nil {
		return 0, err
	}
	var state struct {
		Components []struct {
			Name string `json:"name"`
			PID  int    `json:"pid"`
		} `json:"components"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return 0, err
	}
	for _, c := range state.Components {
		if c.Name == component {
			return c.PID, nil
		}
	}
	return 0, fmt.Errorf("devcluster runs no %s", component)
}

// AwaitReady waits until the API server says that it is ready.
func (p *PrivateCluster) AwaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config := p.Config(t)
	config.Timeout = 5 * time.Second
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for {
		err := client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the API server is not ready again: %v", err)
		case <-time.After(50 * time.Millisecond): // there is no event to wait for
		}
	}
}
