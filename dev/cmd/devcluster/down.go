package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	// downTimeout is how long a supervisor may take before it is killed. It
	// gives each of three rounds of components 15 seconds.
	downTimeout = time.Minute
	// killTimeout is how long the kernel may take to end what is killed.
	killTimeout = 10 * time.Second
)

func newDownCommand() *cobra.Command {
	var dir string
	command := &cobra.Command{
		Use:   "down",
		Short: "Stop a cluster, wait until its processes have ended, remove its data",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runDown(command.Context(), dir, command.OutOrStdout())
		},
	}
	command.Flags().StringVar(&dir, "dir", defaultDir(), "folder of the cluster")
	return command
}

func runDown(ctx context.Context, dir string, out io.Writer) error {
	begin := time.Now()
	where, err := newHome(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(where.path(lockName)); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(out, "no cluster in %s\n", where.dir)
		return nil
	}
	if err := stopSupervisor(ctx, where); err != nil {
		return err
	}
	if err := where.remove(); err != nil {
		return fmt.Errorf("removing the cluster's data: %w", err)
	}
	fmt.Fprintf(out, "%-24s stopped and removed in %.1f s\n", "cluster", time.Since(begin).Seconds())
	return nil
}

// stopSupervisor ends the supervisor and with it the cluster. The lock guards
// against a process id that has been used again: while it is held, a process of
// the cluster is alive.
func stopSupervisor(ctx context.Context, where home) error {
	running, err := where.running()
	if err != nil || !running {
		return err
	}
	recorded, err := where.readState()
	if err != nil {
		return fmt.Errorf("a cluster is being started in %s: end the command that starts it (%w)", where.dir, err)
	}
	patient, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	if err := signalProcess(recorded.Supervisor, syscall.SIGTERM); err == nil {
		err := where.awaitStopped(patient)
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
	// The supervisor is stuck, or was killed where the kernel does not take its
	// children along.
	_ = signalProcess(recorded.Supervisor, syscall.SIGKILL)
	for _, component := range recorded.Components {
		_ = signalProcess(component.PID, syscall.SIGKILL)
	}
	killed, cancelKilled := context.WithTimeout(ctx, killTimeout)
	defer cancelKilled()
	if err := where.awaitStopped(killed); err != nil {
		return fmt.Errorf("processes of %s still run (hint: %s names them): %w", where.dir, where.path(stateName), err)
	}
	return nil
}

func signalProcess(pid int, signal syscall.Signal) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Signal(signal)
}
