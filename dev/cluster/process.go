package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// pollInterval is how often a component is asked whether it is ready.
	pollInterval = 25 * time.Millisecond
	// stopTimeout is how long a component may take to end by itself.
	stopTimeout = 15 * time.Second
	// tailLines of a log go into the error about its component.
	tailLines = 12
	// heapLimit bounds what a HeapGrowth above Go's own costs.
	heapLimit = "1200MiB"
)

// component is a program to run and how to tell that it is ready.
type component struct {
	name  string
	path  string
	args  []string
	log   string
	ready func(context.Context) error
}

// process is a running component.
type process struct {
	component
	command *exec.Cmd
	// ended is closed when the process has been reaped.
	ended chan struct{}
	// result is what it ended with, to be read after ended is closed.
	result error
}

// launcher starts processes from one OS thread that lives as long as they do.
// The kernel sends a child its parent-death signal when the *thread* that
// started it ends, and Go ends and makes threads as it likes.
type launcher struct {
	requests chan launch
	// inherit is kept open by every process, so that a lock on it is free only
	// when all have ended.
	inherit []*os.File
	home    string
	gc      []string // the environment for their garbage collector
}

type launch struct {
	command *exec.Cmd
	started chan error
}

func newLauncher(o Options) *launcher {
	l := &launcher{requests: make(chan launch), home: o.Dir, inherit: o.Inherit}
	if o.HeapGrowth != 0 {
		l.gc = []string{"GOGC=" + strconv.FormatUint(uint64(o.HeapGrowth), 10), "GOMEMLIMIT=" + heapLimit}
	}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for request := range l.requests {
			request.started <- request.command.Start()
		}
	}()
	return l
}

// close ends the thread, and with it, where the kernel can, what it started.
func (l *launcher) close() { close(l.requests) }

// start runs the component with an environment of its own: neither a proxy nor
// a file in the user's home can change what it does.
func (l *launcher) start(c component) (*process, error) {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	defer func() { _ = log.Close() }()
	command := exec.Command(c.path, c.args...)
	command.Args[0] = c.name // the multi-call binary goes by it
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.home, "TMPDIR=" + os.TempDir()}, l.gc...)
	command.Dir = l.home
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = l.inherit
	command.SysProcAttr = childAttributes()

	request := launch{command: command, started: make(chan error)}
	l.requests <- request
	if err := <-request.started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	p := &process{component: c, command: command, ended: make(chan struct{})}
	go func() {
		p.result = command.Wait()
		close(p.ended)
	}()
	return p, nil
}

// awaitReady returns when the process says that it is ready, or with an error
// that holds the end of its log when it ends before or ctx does.
func (p *process) awaitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return p.failure("ended before it was ready", p.result)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Cause(ctx)
			}
			return p.failure("is not ready in time", err)
		case <-ticker.C:
		}
	}
}

// failure describes what happened to the component, with the end of its log.
func (p *process) failure(what string, cause error) error {
	reason := "exit status 0"
	if cause != nil {
		reason = cause.Error()
	}
	return fmt.Errorf("%s %s (%s); its log %s ends:\n%s", p.name, what, reason, p.log, tail(p.log))
}

// stop asks the process to end and makes it if it does not; it returns when the
// process has ended.
func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "  " + err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(data)), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return "  " + strings.Join(lines, "\n  ")
}
