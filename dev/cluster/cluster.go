package cluster

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// startTimeout bounds the start of a whole cluster. An idle machine of two cores
// takes about eight seconds; the rest is for a machine that is not idle.
const startTimeout = 3 * time.Minute

// Options describe the cluster to start.
type Options struct {
	// Dir holds everything the cluster writes. It should be empty.
	Dir    string
	Assets Assets
	// Manifests are YAML files, or folders of them, that are applied before
	// Start returns: CustomResourceDefinitions first.
	Manifests []string
	// Inherit are files that every process of the cluster keeps open.
	Inherit []*os.File
	// Progress is told, a line at a time, what has become ready.
	Progress func(string)
}

// Cluster is a running control plane.
type Cluster struct {
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string
	// Server is the URL of kube-apiserver.
	Server string

	ports     *ports
	launcher  *launcher
	processes []*process
	progress  func(string)
	reporting sync.Mutex

	failures chan error
	stopOnce sync.Once
	stopping chan struct{}
}

// Process is a process that a cluster started.
type Process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	Log  string `json:"log"`
}

// Start starts a cluster and returns when it is ready to use. An error names
// the component, its log file and the log's last lines; nothing runs then. A
// cancelled ctx gives context.Canceled. Later, ctx has no effect.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %s", startTimeout))
	defer cancel()
	manifests, err := load(o.Manifests...)
	if err != nil {
		return nil, err
	}
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	reserved, err := reservePorts(5)
	if err != nil {
		return nil, err
	}
	l := newLayout(o.Dir, o.Assets, reserved, ca.pem)
	c := &Cluster{
		Kubeconfig: l.kubeconfig("admin"), Server: l.server(),
		ports: reserved, launcher: newLauncher(o.Dir, o.Inherit), progress: o.Progress,
		failures: make(chan error, 1), stopping: make(chan struct{}),
	}
	err = l.write(ca)
	if err == nil {
		err = c.bringUp(ctx, l, manifests)
	}
	if err != nil {
		c.Stop()
		return nil, err
	}
	c.watch()
	return c, nil
}

// bringUp starts the components. CustomResourceDefinitions come before the
// controllers: the garbage collector learns of later ones only every 30 s.
func (c *Cluster) bringUp(ctx context.Context, l *layout, manifests objects) error {
	if err := c.run(ctx, l.etcd()); err != nil {
		return err
	}
	if err := c.run(ctx, l.apiServer()); err != nil {
		return err
	}
	client, err := connect(c.Kubeconfig)
	if err != nil {
		return err
	}
	gateway, err := load(l.assets.GatewayCRDs)
	if err != nil {
		return err
	}
	err = c.step("definitions", func() (string, error) {
		definitions := append(gateway.definitions(), manifests.definitions()...)
		return fmt.Sprintf("%d custom resources established", len(definitions)), client.define(ctx, definitions)
	})
	if err != nil {
		return err
	}
	if err := client.apply(ctx, append(gateway.others(), builtin()...)); err != nil {
		return err
	}
	if err := c.run(ctx, l.controllerManager(client), l.scheduler(), l.kwok(client)); err != nil {
		return err
	}
	return client.apply(ctx, manifests.others())
}

// run starts components at the same time and returns when all are ready.
func (c *Cluster) run(ctx context.Context, components ...component) error {
	begin := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, p := range c.processes { // what the new ones depend on
		go func() {
			select {
			case <-p.ended:
				cancel(p.failure("ended unexpectedly", p.result))
			case <-ctx.Done():
			}
		}()
	}
	started := make([]*process, 0, len(components))
	for _, component := range components {
		p, err := c.launcher.start(component)
		if err != nil {
			return err
		}
		c.processes = append(c.processes, p)
		started = append(started, p)
	}
	ready := make(chan error, len(started))
	for _, p := range started {
		go func() {
			err := p.awaitReady(ctx)
			if err == nil {
				c.report(p.name, "ready", begin)
			}
			ready <- err
		}()
	}
	var first error
	for range started {
		if err := <-ready; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (c *Cluster) step(name string, do func() (string, error)) error {
	begin := time.Now()
	what, err := do()
	if err == nil {
		c.report(name, what, begin)
	}
	return err
}

func (c *Cluster) report(name, what string, begin time.Time) {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	if c.progress != nil {
		c.progress(fmt.Sprintf("%-24s %s in %.1f s", name, what, time.Since(begin).Seconds()))
	}
}

// watch reports the first process that ends while it should not.
func (c *Cluster) watch() {
	for _, p := range c.processes {
		go func() {
			select {
			case <-c.stopping:
			case <-p.ended:
				select {
				case c.failures <- p.failure("ended unexpectedly", p.result):
				default:
				}
			}
		}()
	}
}

// Failed delivers an error when a component ends by itself. The cluster is of
// no use then: call Stop.
func (c *Cluster) Failed() <-chan error { return c.failures }

// Processes are the processes of the cluster, in the order they were started.
func (c *Cluster) Processes() []Process {
	list := make([]Process, 0, len(c.processes))
	for _, p := range c.processes {
		list = append(list, Process{Name: p.name, PID: p.command.Process.Pid, Log: p.log})
	}
	return list
}

// Stop ends every process: the clients of kube-apiserver, then it, then etcd.
// It returns when all have ended. A second call has no effect.
func (c *Cluster) Stop() {
	c.stopOnce.Do(func() {
		close(c.stopping)
		var clients sync.WaitGroup
		for _, p := range c.processes[min(2, len(c.processes)):] {
			clients.Go(p.stop)
		}
		clients.Wait()
		for i := min(2, len(c.processes)) - 1; i >= 0; i-- {
			c.processes[i].stop()
		}
		c.launcher.close()
		c.ports.release()
	})
}
