package main

import (
	"fmt"
	"io"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/dev/cluster"
)

func newStatusCommand() *cobra.Command {
	var dir string
	command := &cobra.Command{
		Use:   "status",
		Short: "Say whether a cluster runs; exit code 1 if it does not",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runStatus(dir, command.OutOrStdout())
		},
	}
	command.Flags().StringVar(&dir, "dir", defaultDir(), "folder of the cluster")
	return command
}

func runStatus(dir string, out io.Writer) error {
	where, err := newHome(dir)
	if err != nil {
		return err
	}
	running, err := where.running()
	if err != nil {
		return err
	}
	if !running {
		fmt.Fprintf(out, "no cluster runs in %s\n", where.dir)
		return exitCode(1)
	}
	recorded, err := where.readState()
	if err != nil || recorded.Server == "" {
		fmt.Fprintf(out, "a cluster is being started or stopped in %s\n", where.dir)
		return exitCode(1)
	}
	fmt.Fprintf(out, "%-24s pid %d\n", "supervisor", recorded.Supervisor)
	for _, component := range recorded.Components {
		what := "runs"
		if signalProcess(component.PID, syscall.Signal(0)) != nil {
			what = "ended"
		}
		fmt.Fprintf(out, "%-24s pid %d %s, log %s\n", component.Name, component.PID, what, component.Log)
	}
	version, err := cluster.Version(where.kubeconfig())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-24s %s answers, version %s\n", "server", recorded.Server, version)
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", recorded.Kubeconfig)
	return nil
}
