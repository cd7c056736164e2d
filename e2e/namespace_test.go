//go:build e2e && linux

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// A run is three processes that start each other, each with the same arguments:
//
//  1. the one that `go test` starts makes a network namespace and a process
//     namespace for the second and waits;
//  2. the second is alone in them. It gives the loopback interface the addresses
//     of all pods and becomes devcluster, which starts a control plane there;
//  3. the third, started by devcluster, runs the tests.
//
// Nothing of it can be left behind: the second ends with the first, the kernel
// ends everything in a process namespace with its first process, and a network
// namespace without processes is gone. No packet leaves it either.
const stageVariable = "SLUICE_E2E_STAGE"

const (
	stageIsolated = "isolated"
	stageInside   = "inside"
)

// podRange is where KWOK takes the addresses of pods from.
const podRange = "10.244.0.0/16"

func TestMain(m *testing.M) {
	flag.Parse()
	var code int
	var err error
	switch os.Getenv(stageVariable) {
	case stageInside:
		code, err = measure(m)
	case stageIsolated:
		err = enter()
	default:
		code, err = isolate()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// isolate runs this program again in namespaces of its own and returns its exit
// code. Whoever is not root becomes it in a user namespace.
func isolate() (int, error) {
	runtime.LockOSThread() // the death signal is sent when the thread ends that started the child
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), stageVariable+"="+stageIsolated)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if os.Geteuid() != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := child.Start(); err != nil {
		return 1, fmt.Errorf("making a network namespace: %w (run it as root, or allow user namespaces)", err)
	}
	go func() {
		for received := range signals {
			_ = child.Process.Signal(received)
		}
	}()
	err := child.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// enter makes every pod address one of this machine, as far as the namespace
// goes, and becomes devcluster.
func enter() error {
	for _, command := range []string{"ip link set lo up", "ip route add local " + podRange + " dev lo"} {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s (ip is in the package iproute2)", command, err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin, err := programs()
	if err != nil {
		return err
	}
	env := []string{stageVariable + "=" + stageInside}
	for _, entry := range os.Environ() {
		switch name, _, _ := strings.Cut(entry, "="); name {
		case stageVariable, "SLUICE_TEST_KUBECONFIG", "KUBECONFIG": // another cluster than the one of this namespace
		default:
			env = append(env, entry)
		}
	}
	devcluster := filepath.Join(bin, "devcluster")
	args := []string{devcluster, "run"}
	for _, manifests := range []string{filepath.Join(bin, "crds", "sluice"), filepath.Join(bin, "crds", "traefik"), filepath.Join("testdata", "cluster")} {
		args = append(args, "--manifests", manifests)
	}
	args = append(append(args, "--", self), os.Args[1:]...)
	// The death signal belongs to a thread, and only the one that calls Exec stays.
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0); errno != 0 {
		return fmt.Errorf("asking to end with the process that waits: %w", errno)
	}
	return fmt.Errorf("starting %s: %w", devcluster, syscall.Exec(devcluster, args, env))
}

// programs is the folder of sluice, devcluster and, unless SLUICE_E2E_TRAEFIK
// names another one, traefik.
func programs() (string, error) {
	bin := os.Getenv("SLUICE_E2E_BIN")
	if bin == "" {
		bin = filepath.Join("..", "bin")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"sluice", "devcluster", "crds/sluice", "crds/traefik"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return "", fmt.Errorf("%w: run `make e2e`, which builds what is missing", err)
		}
	}
	return bin, nil
}
