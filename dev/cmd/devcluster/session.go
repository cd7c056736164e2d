package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/sluice-dev/sluice/dev/cluster"
)

// session is a supervisor as seen by the command that started it. Closing its
// standard input without a word, which the kernel does for a command that is
// killed, makes it stop the cluster.
type session struct {
	home    home
	command *exec.Cmd
	control io.WriteCloser
	events  *os.File
	// failed is written by relay: the error of a cluster that has ended.
	failed chan error
	ready  chan state
}

// request is what to start.
type request struct {
	home       home
	flags      *clusterFlags
	kubeconfig string
	progress   func(string)
}

// start starts a cluster and returns when it is ready. When it returns an error
// nothing runs. The error is errRunning if a cluster runs in the folder.
func start(ctx context.Context, r request) (*session, state, error) {
	for _, path := range r.flags.manifests {
		if _, err := os.Stat(path); err != nil {
			return nil, state{}, fmt.Errorf("--manifests: %w", err)
		}
	}
	if _, err := r.flags.findAssets(); err != nil { // the supervisor finds them again
		return nil, state{}, assetsHint(err)
	}
	if err := checkKubeconfig(r.kubeconfig); err != nil {
		return nil, state{}, err
	}
	lock, err := r.home.claim()
	if err != nil {
		return nil, state{}, err
	}
	s, err := spawn(r, lock)
	_ = lock.Close() // from here on the supervisor holds it
	if err != nil {
		return nil, state{}, errors.Join(err, r.home.clear())
	}
	go s.relay(r.progress)
	select {
	case ready := <-s.ready:
		return s, ready, nil
	case err := <-s.failed:
		_ = s.stop()
		return nil, state{}, err
	case <-ctx.Done():
		return nil, state{}, errors.Join(ctx.Err(), s.stop())
	}
}

func assetsHint(err error) error {
	if errors.Is(err, cluster.ErrNoAssets) {
		return fmt.Errorf("%w (hint: make -C dev tools BIN=FOLDER, then --assets FOLDER)", err)
	}
	return err
}

// spawn starts the supervisor in a session of its own, so that a Ctrl-C at the
// terminal reaches its starter only.
func spawn(r request, lock *os.File) (*session, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding devcluster itself: %w", err)
	}
	if err := os.MkdirAll(r.home.path(logsName), 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(r.home.path(logsName), "devcluster.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	events, eventsEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = eventsEnd.Close() }()

	args := []string{
		"supervise", "--dir", r.home.dir, "--kubeconfig", r.kubeconfig, "--assets", r.flags.assets, "--gogc", strconv.FormatUint(uint64(r.flags.gogc), 10),
	}
	if r.flags.restart {
		args = append(args, "--restart")
	}
	for _, path := range r.flags.manifests {
		args = append(args, "--manifests", path)
	}
	command := exec.Command(self, args...)
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{lockFile - 3: lock, eventFile - 3: eventsEnd}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	control, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	return &session{
		home: r.home, command: command, control: control, events: events,
		failed: make(chan error, 1), ready: make(chan state, 1),
	}, nil
}

// relay passes on what the supervisor tells, until it ends.
func (s *session) relay(progress func(string)) {
	decoder := json.NewDecoder(s.events)
	for {
		var e event
		if decoder.Decode(&e) != nil {
			s.fail(fmt.Errorf("the supervisor ended; see %s", filepath.Join(s.home.path(logsName), "devcluster.log")))
			return
		}
		switch {
		case e.Progress != "":
			progress(e.Progress)
		case e.Ready != nil:
			s.ready <- *e.Ready
		case e.Error != "":
			s.fail(errors.New(e.Error))
		}
	}
}

// fail keeps the first error: the one after it is that the supervisor is gone.
func (s *session) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// detach lets the cluster outlive this command.
func (s *session) detach() error {
	if _, err := io.WriteString(s.control, detachLine); err != nil {
		return fmt.Errorf("detaching from the supervisor: %w", err)
	}
	return s.control.Close()
}

// stop ends the cluster and returns when all its processes have ended.
func (s *session) stop() error {
	_ = s.control.Close()
	err := s.command.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = nil // it told why by an event
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	return errors.Join(err, s.home.awaitStopped(ctx))
}
