package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sluice-dev/sluice/bench/figures"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// runMemory looks at what is resident of the program that is installed, as a process
// of its own: with few releases, with many, and after a long history has gone by.
func runMemory(ctx context.Context, b *bench) error {
	few, err := settled(ctx, b, 10, 0)
	if err != nil {
		return err
	}
	releases, commits := b.samples(1000, 30), b.samples(10_000, 200)
	many, err := settled(ctx, b, releases, commits)
	if err != nil {
		return err
	}
	of := fmt.Sprintf("%s releases, %s objects", figures.Count(releases), figures.Count(releases*memoryObjects))
	b.record(figures.Figure{Case: of, Measure: "after the first sync", Unit: figures.MiB, Absolute: true, Spread: figures.SpreadOf(many.resident...)}.
		Against("10 releases", figures.SpreadOf(few.resident...)))
	b.record(figures.Figure{Case: of, Measure: "at most", Unit: figures.MiB, Absolute: true, Spread: figures.SpreadOf(many.peak)}.
		Against("10 releases", figures.SpreadOf(few.peak)))
	half := figures.Count(commits / 2)
	b.record(figures.Figure{Case: of, Measure: "while " + half + " commits follow", Unit: figures.MiB, Absolute: true, Spread: figures.SpreadOf(many.earlier...)}.
		Against("10 releases, at rest", figures.SpreadOf(few.resident...)))
	b.record(figures.Figure{Case: of, Measure: "while " + half + " more follow", Unit: figures.MiB, Absolute: true, Spread: figures.SpreadOf(many.later...)}.
		Against("the commits before", figures.SpreadOf(many.earlier...)))
	return nil
}

// memoryObjects is how many objects a release has here.
const memoryObjects = 10

// weights are what was resident of a controller, in MiB.
type weights struct {
	resident []float64 // after the first sync
	peak     float64   // at most, until then
	earlier  []float64 // while the first half of the commits came, and went into garbage
	later    []float64 // while the second half did
}

// settled starts a controller on so many releases, waits until all are ready, and has
// it follow a number of commits.
func settled(ctx context.Context, b *bench, releases, commits int) (w weights, err error) {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return w, err
	}
	dir, err := b.repository(ctx, commit{"Start", project(namespace, releases, memoryObjects)})
	if err != nil {
		return w, err
	}
	c, err := b.controller(ctx, namespace, dir)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	b.progress("first sync of %d releases of %d objects", releases, memoryObjects)
	profiled := b.profileController(ctx, c)
	if err := c.awaitReady(ctx, releases); err != nil {
		return w, err
	}
	if err := profiled(); err != nil {
		return w, err
	}
	if w.resident, err = c.resident(ctx); err != nil {
		return w, err
	}
	if w.peak, err = resident(c.cmd.Process.Pid, "VmHWM"); err != nil {
		return w, err
	}
	if commits == 0 {
		return w, nil
	}
	b.progress("%d commits", commits)
	const looks = 20
	for look := range looks {
		if err := extend(ctx, dir, history(look, commits/looks)); err != nil {
			return w, err
		}
		if err := c.follow(ctx, fmt.Sprint(look)); err != nil {
			return w, err
		}
		mib, err := resident(c.cmd.Process.Pid, "VmRSS")
		if err != nil {
			return w, err
		}
		if look < looks/2 {
			w.earlier = append(w.earlier, mib)
		} else {
			w.later = append(w.later, mib)
		}
	}
	if b.profile == "" {
		return w, nil
	}
	return w, b.fetchProfile(ctx, "http://"+c.profiles+"/debug/pprof/heap?gc=1", "controller.heap")
}

// profileController keeps a CPU profile of the beginning of a first sync, and returns
// what waits for it. Of several controllers that of the last one stays.
func (b *bench) profileController(ctx context.Context, c *controller) (wait func() error) {
	if b.profile == "" {
		return func() error { return nil }
	}
	var g errgroup.Group
	g.Go(func() error {
		listening := func() (bool, error) {
			connection, err := net.Dial("tcp", c.profiles)
			if err != nil {
				return false, nil
			}
			return true, connection.Close()
		}
		if err := c.until(ctx, 20*time.Millisecond, listening); err != nil {
			return err
		}
		return b.fetchProfile(ctx, "http://"+c.profiles+"/debug/pprof/profile?seconds="+strconv.Itoa(b.samples(20, 5)), "controller.cpu")
	})
	return g.Wait
}

// history is commits between two looks: records of builds, and at last one that
// concerns a release, by which it is seen that the controller has come so far.
func history(look, commits int) func(yield func(commit) bool) {
	return func(yield func(commit) bool) {
		for i := range commits - 1 {
			name := componentName(i)
			if !yield(commit{"record", files{fmt.Sprintf("builds/%s/%d.txt", name, look): digest(look*commits + i)}}) {
				return
			}
		}
		name := componentName(0)
		yield(commit{"look", files{"environments/production/" + name + "/config.yaml": configMap(name, fmt.Sprint(look))}})
	}
}

// controller is a process of sluice controller.
type controller struct {
	cmd       *exec.Cmd
	log       bytes.Buffer
	ended     chan struct{}
	namespace string
	notify    string // address
	profiles  string // address
	client    *cluster.Client
	api       *kubernetes.Clientset
}

func (b *bench) controller(ctx context.Context, namespace, dir string) (*controller, error) {
	c := &controller{namespace: namespace, ended: make(chan struct{})}
	var err error
	if c.client, err = cluster.New(b.config); err != nil {
		return nil, err
	}
	if c.api, err = kubernetes.NewForConfig(b.config); err != nil {
		return nil, err
	}
	for _, address := range []*string{&c.notify, &c.profiles} {
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	cache, err := os.MkdirTemp(b.dir, "cache-")
	if err != nil {
		return nil, err
	}
	args := []string{"controller", "--repo", dir, "--branch", "main", "--environment", "production=" + namespace, "--notify-address", c.notify,
		"--poll-interval", "1h", "--concurrency", strconv.Itoa(concurrency), "--log-level", "error"}
	if b.profile != "" {
		args = append(args, "--pprof-address", c.profiles)
	}
	c.cmd = exec.CommandContext(ctx, filepath.Join(b.bin, "sluice"), args...)
	c.cmd.Env = append(os.Environ(), "SLUICE_CACHE_DIR="+cache)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	return c, nil
}

// stop ends the process, which is not asked for how it has gone.
func (c *controller) stop() error {
	err := c.cmd.Process.Kill()
	<-c.ended
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sluice controller has ended by itself: %s", bytes.TrimSpace(c.log.Bytes()))
	}
	return err
}

// until asks again and again whether something is so, as long as the process lives.
func (c *controller) until(ctx context.Context, every time.Duration, holds func() (bool, error)) error {
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-c.ended:
			return errors.New("sluice controller has ended")
		default:
		}
		if err := sleep(ctx, every); err != nil {
			return err
		}
	}
}

func (c *controller) awaitReady(ctx context.Context, releases int) error {
	return c.until(ctx, time.Second, func() (bool, error) {
		list, err := c.client.Releases(ctx, c.namespace)
		ready := 0
		for _, r := range list {
			if r.Ready() {
				ready++
			}
		}
		return ready == releases, err
	})
}

// follow notifies the controller and waits until it has applied a value of the first
// component's ConfigMap.
func (c *controller) follow(ctx context.Context, value string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.notify, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	return c.until(ctx, 50*time.Millisecond, func() (bool, error) {
		o, err := c.api.CoreV1().ConfigMaps(c.namespace).Get(ctx, componentName(0), metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return o.Data["value"] == value, nil
	})
}

// resident is what is resident over some seconds of rest.
func (c *controller) resident(ctx context.Context) (out []float64, err error) {
	for range 10 {
		if err := sleep(ctx, time.Second/2); err != nil {
			return nil, err
		}
		mib, err := resident(c.cmd.Process.Pid, "VmRSS")
		if err != nil {
			return nil, err
		}
		out = append(out, mib)
	}
	return out, nil
}

// freeAddress is a loopback address that nobody listens at.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
