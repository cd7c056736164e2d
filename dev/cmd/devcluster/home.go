package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-dev/sluice/dev/cluster"
)

// errRunning says that a folder belongs to a cluster that runs.
var errRunning = errors.New("a cluster runs there")

const (
	lockName  = "lock" // also what marks a folder as devcluster's
	stateName = "devcluster.json"
	logsName  = "logs"
)

// home is the folder of one cluster.
type home struct{ dir string }

// state is what the supervisor writes down for the other commands.
type state struct {
	Supervisor int               `json:"supervisor"`
	Server     string            `json:"server,omitempty"`
	Kubeconfig string            `json:"kubeconfig,omitempty"`
	Components []cluster.Process `json:"components,omitempty"`
}

func newHome(dir string) (home, error) {
	absolute, err := filepath.Abs(dir)
	return home{absolute}, err
}

func (h home) path(name string) string { return filepath.Join(h.dir, name) }

// kubeconfig is the administrator's, as the cluster wrote it.
func (h home) kubeconfig() string { return h.path("kubeconfig") }

// claim makes the folder and locks it for a new cluster. It never takes a folder
// that holds something else. The error is errRunning if the lock is held.
func (h home) claim() (*os.File, error) {
	entries, err := os.ReadDir(h.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := os.Stat(h.path(lockName)); err != nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty and not devcluster's (hint: choose another --dir)", h.dir)
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(h.path(lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", h.dir, errRunning)
		}
		return nil, fmt.Errorf("locking %s: %w", h.dir, err)
	}
	return lock, h.clear()
}

// running reports whether any process of the cluster is left.
func (h home) running() (bool, error) {
	lock, err := os.OpenFile(h.path(lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = lock.Close() }()
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// awaitStopped waits until every process that holds the lock has ended.
func (h home) awaitStopped(ctx context.Context) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		running, err := h.running()
		if !running || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// clear removes what a cluster wrote, but its lock, the named entries, and the
// kubeconfig's copy elsewhere only if it is still that copy.
func (h home) clear(keep ...string) error {
	if state, err := h.readState(); err == nil && state.Kubeconfig != h.kubeconfig() {
		ours, errOurs := os.ReadFile(h.kubeconfig())
		theirs, errTheirs := os.ReadFile(state.Kubeconfig)
		if errOurs == nil && errTheirs == nil && bytes.Equal(ours, theirs) {
			_ = os.Remove(state.Kubeconfig)
		}
	}
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return err
	}
	kept := map[string]bool{lockName: true}
	for _, name := range keep {
		kept[name] = true
	}
	for _, entry := range entries {
		if kept[entry.Name()] {
			continue
		}
		if err := os.RemoveAll(h.path(entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the folder of a cluster that has ended.
func (h home) remove() error {
	if err := h.clear(); err != nil {
		return err
	}
	return os.RemoveAll(h.dir)
}

func (h home) readState() (state, error) {
	data, err := os.ReadFile(h.path(stateName))
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, fmt.Errorf("%s: %w", h.path(stateName), err)
	}
	return s, nil
}

func (h home) writeState(s state) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(h.path(stateName), data)
}

// publish writes the kubeconfig to the cluster's folder and to where the user
// wants it.
func (h home) publish(source, target string) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if err := replaceFile(h.kubeconfig(), data); err != nil || target == h.kubeconfig() {
		return err
	}
	return replaceFile(target, data)
}

// checkKubeconfig refuses to overwrite a kubeconfig that devcluster did not write.
func checkKubeconfig(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return fmt.Errorf("%s exists: %w", path, err)
	}
	if len(config.Clusters) == 0 {
		return nil // an empty file, as mktemp makes
	}
	if config.CurrentContext == cluster.ContextName && len(config.Clusters) == 1 {
		return nil
	}
	return fmt.Errorf("%s exists and was not written by devcluster (hint: choose another --kubeconfig)", path)
}

// replaceFile writes a file in one step: nobody reads half of it.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
