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
	// Restart starts a component again that has ended by itself, as a kubelet
	// would. Without it that is the end of the cluster: see Failed.
	Restart bool
	// HeapGrowth is by how many percent a component's heap grows before it is
	// collected; 0 leaves that to Go. A cluster that is small and busy spends a
	// seventh of its processor time on collecting with Go's 100.
	HeapGrowth uint
}

// Cluster is a running control plane.
type Cluster struct {
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string
	// Server is the URL of kube-apiserver.
	Server string

	ports     *ports
	launcher  *launcher
	progress  func(string)
	reporting sync.Mutex

	mu        sync.Mutex // guards processes once the cluster runs, and that none is started while it stops
	processes []*process
	stopped   bool

	restart   bool
	restarted chan struct{}
	failures  chan error
	stopOnce  sync.Once
	stopping  chan struct{}
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
		ports: reserved, launcher: newLauncher(o), progress: o.Progress,
		restart: o.Restart, restarted: make(chan struct{}, 1), failures: make(chan error, 1), stopping: make(chan struct{}),
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

// restartPause is between the end of a component and its next start, so that one
// that cannot start does not take the machine.
const restartPause = 100 * time.Millisecond

// watch looks after every process: see keep.
func (c *Cluster) watch() {
	for n := range c.processes {
		go c.keep(n, c.processes[n])
	}
}

// keep reports the end of the nth process, or starts it again where that is asked
// for, until the cluster stops.
func (c *Cluster) keep(n int, p *process) {
	for {
		select {
		case <-c.stopping:
			return
		case <-p.ended:
		}
		err := p.failure("ended unexpectedly", p.result)
		if c.restart {
			p, err = c.again(n, p)
		}
		if err == nil && p != nil {
			continue
		}
		if err != nil {
			select {
			case c.failures <- err:
			default:
			}
		}
		return
	}
}

// again starts the nth process once more; nil when the cluster stops.
func (c *Cluster) again(n int, p *process) (*process, error) {
	select {
	case <-c.stopping:
		return nil, nil
	case <-time.After(restartPause):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, nil
	}
	next, err := c.launcher.start(p.component)
	if err != nil {
		return nil, err
	}
	c.processes[n] = next
	select {
	case c.restarted <- struct{}{}:
	default: // who is told looks at all processes
	}
	return next, nil
}

// Restarted delivers after components were started again: Processes has changed.
func (c *Cluster) Restarted() <-chan struct{} { return c.restarted }

// Failed delivers an error when a component ends by itself. The cluster is of
// no use then: call Stop.
func (c *Cluster) Failed() <-chan error { return c.failures }

// Processes are the processes of the cluster, in the order they were started.
func (c *Cluster) Processes() []Process {
	c.mu.Lock()
	defer c.mu.Unlock()
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
		c.mu.Lock()
		c.stopped = true // from here on the processes stay as they are
		c.mu.Unlock()
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
