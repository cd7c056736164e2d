package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/dev/cluster"
)

type upOptions struct {
	clusterFlags
	kubeconfig    string
	useKubeconfig string
}

func newUpCommand() *cobra.Command {
	var o upOptions
	command := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster in the background and write its kubeconfig",
		Long: "Start a cluster in the background and write its kubeconfig.\n\n" +
			"If one runs in --dir already, only the manifests are applied.",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runUp(command.Context(), o, command.OutOrStdout())
		},
	}
	o.add(command, defaultDir(), "folder of the cluster's data and logs")
	command.Flags().StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig to write (default DIR/kubeconfig)")
	command.Flags().StringVar(&o.useKubeconfig, "use-kubeconfig", "",
		"use the cluster of this kubeconfig: start nothing, install the Gateway API (if absent) and the manifests")
	command.MarkFlagsMutuallyExclusive("use-kubeconfig", "kubeconfig")
	command.MarkFlagsMutuallyExclusive("use-kubeconfig", "dir")
	return command
}

func runUp(ctx context.Context, o upOptions, out io.Writer) error {
	begin := time.Now()
	if o.useKubeconfig != "" {
		return useCluster(ctx, o, out)
	}
	where, err := newHome(o.dir)
	if err != nil {
		return err
	}
	kubeconfig := where.kubeconfig()
	if o.kubeconfig != "" {
		if kubeconfig, err = filepath.Abs(o.kubeconfig); err != nil {
			return err
		}
	}
	session, ready, err := start(ctx, request{
		home: where, flags: &o.clusterFlags, kubeconfig: kubeconfig,
		progress: func(line string) { fmt.Fprintln(out, line) },
	})
	if errors.Is(err, errRunning) {
		return applyToRunning(ctx, where, o, out)
	}
	if errors.Is(err, context.Canceled) {
		return errors.Join(err, where.remove())
	}
	if err != nil {
		return err
	}
	if err := session.detach(); err != nil {
		return errors.Join(err, session.stop())
	}
	fmt.Fprintf(out, "%-24s ready in %.1f s at %s\n", "cluster", time.Since(begin).Seconds(), ready.Server)
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", ready.Kubeconfig)
	return nil
}

// applyToRunning makes a second `up` a way to apply manifests.
func applyToRunning(ctx context.Context, where home, o upOptions, out io.Writer) error {
	running, err := where.readState()
	if err != nil || running.Server == "" {
		return fmt.Errorf("a cluster is being started or stopped in %s: wait, or choose another --dir", where.dir)
	}
	if o.kubeconfig != "" {
		return fmt.Errorf("a cluster runs in %s already, with kubeconfig %s (hint: run down first, or leave out --kubeconfig)",
			where.dir, running.Kubeconfig)
	}
	applied, err := cluster.Install(ctx, where.kubeconfig(), o.manifests...)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the cluster in %s runs already; applied %d objects\n", where.dir, applied)
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", running.Kubeconfig)
	return nil
}

// useCluster prepares a cluster that somebody else owns.
func useCluster(ctx context.Context, o upOptions, out io.Writer) error {
	version, err := cluster.Version(o.useKubeconfig)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-24s answers, version %s\n", "cluster", version)
	folders, err := o.assetFolders()
	if err != nil {
		return err
	}
	installed, err := cluster.InstallGateway(ctx, o.useKubeconfig, folders...)
	if err != nil {
		return assetsHint(err)
	}
	what := "present, left alone"
	if installed {
		what = "installed"
	}
	fmt.Fprintf(out, "%-24s %s\n", "Gateway API", what)
	applied, err := cluster.Install(ctx, o.useKubeconfig, o.manifests...)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-24s %d objects applied\n", "manifests", applied)
	return nil
}
