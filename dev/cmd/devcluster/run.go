package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sluice-dev/sluice/dev/cluster"
)

// kubeconfigVariable tells tests which cluster to use. One that is set already
// makes `run` use that cluster instead of starting one.
const kubeconfigVariable = "SLUICE_TEST_KUBECONFIG"

func newRunCommand() *cobra.Command {
	var flags clusterFlags
	command := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command with a cluster of its own, which ends with it",
		Long: "Run a command with a cluster of its own, which ends with it. The command finds the\n" +
			"kubeconfig in KUBECONFIG and " + kubeconfigVariable + ", the programs in KUBEBUILDER_ASSETS;\n" +
			"its exit code is returned. If " + kubeconfigVariable + " is set already, that cluster\n" +
			"is used: nothing is started, only the manifests are applied.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return runRun(command.Context(), flags, args)
		},
	}
	flags.add(command, "", "folder of the cluster, whose logs are kept there (default: a temporary one, removed)")
	command.Flags().SetInterspersed(false)
	return command
}

func runRun(ctx context.Context, flags clusterFlags, args []string) error {
	if given := os.Getenv(kubeconfigVariable); given != "" {
		if _, err := cluster.Install(ctx, given, flags.manifests...); err != nil {
			return err
		}
		return execute(ctx, args, given, flags.assets, nil)
	}
	begin := time.Now()
	where, finish, err := runHome(flags.dir)
	if err != nil {
		return err
	}
	session, _, err := start(ctx, request{
		home: where, flags: &flags, kubeconfig: where.kubeconfig(),
		progress: func(line string) { fmt.Fprintln(os.Stderr, line) },
	})
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.Join(err, finish())
		}
		return err // a failed start keeps its logs, which the error names
	}
	fmt.Fprintf(os.Stderr, "%-24s ready in %.1f s\n", "cluster", time.Since(begin).Seconds())
	result := execute(ctx, args, where.kubeconfig(), flags.assets, session.failed)
	if err := errors.Join(session.stop(), finish()); err != nil {
		fmt.Fprintf(os.Stderr, "devcluster: stopping the cluster: %v\n", err)
		if result == nil {
			return exitCode(1)
		}
	}
	return result
}

// runHome is the folder of the cluster and what to do with it at the end.
func runHome(dir string) (home, func() error, error) {
	if dir != "" {
		where, err := newHome(dir)
		return where, func() error { return nil }, err
	}
	dir, err := os.MkdirTemp("", "devcluster-")
	if err != nil {
		return home{}, nil, err
	}
	where := home{dir}
	return where, where.remove, nil
}

// execute runs the command, passes signals on to it and returns its exit code.
func execute(ctx context.Context, args []string, kubeconfig, assets string, failed <-chan error) error {
	if assets == "" {
		folders, err := (&clusterFlags{}).assetFolders()
		if err != nil {
			return err
		}
		assets = folders[0]
	}
	command := exec.Command(args[0], args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(),
		"KUBECONFIG="+kubeconfig, kubeconfigVariable+"="+kubeconfig, "KUBEBUILDER_ASSETS="+assets)
	// At a terminal the command shares our process group: it can read, and a
	// Ctrl-C reaches it without us. Elsewhere it gets a group of its own, so that
	// a signal can be passed on to all that it started.
	interactive := term.IsTerminal(int(os.Stdin.Fd()))
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: !interactive}

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("running %s: %w", args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		select {
		case received := <-signals:
			forward(command, received, interactive)
		case err := <-failed:
			fmt.Fprintf(os.Stderr, "devcluster: the cluster has failed under the command: %v\n", err)
		case err := <-ended:
			return codeOf(args[0], err)
		}
	}
}

func forward(command *exec.Cmd, received os.Signal, interactive bool) {
	number, ok := received.(syscall.Signal)
	switch {
	case !ok, interactive && number == syscall.SIGINT: // the terminal has sent it
	case interactive:
		_ = command.Process.Signal(number)
	default:
		_ = syscall.Kill(-command.Process.Pid, number)
	}
}

// codeOf turns the end of a command into devcluster's: 128 plus the number of
// the signal that killed it, as in a shell.
func codeOf(name string, err error) error {
	exit := (*exec.ExitError)(nil)
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("running %s: %w", name, err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitCode(128 + int(status.Signal()))
	}
	return exitCode(exit.ExitCode())
}
