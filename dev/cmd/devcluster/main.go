// Command devcluster runs a Kubernetes control plane on the loopback interface,
// for demonstrations and tests: see ../../README.md and package cluster.
//
// `up` starts a supervisor in the background, which owns every process of the
// cluster; `down` ends it. `run` does both around a command. Three things keep
// processes from being left behind: the supervisor ends the cluster when the
// command that started it goes away before the cluster is ready; the kernel
// kills the components when the supervisor is killed; and all of them hold one
// lock, which is free only when the last has ended.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/sluice-dev/sluice/dev/cluster"
)

func main() { os.Exit(run(os.Args[1:])) }

// exitCode is an error that ends devcluster with a code and no message: it has
// been said already, or is the code of the command of `run`.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func run(args []string) int {
	klog.LogToStderr(false) // client-go's log: what matters comes back as an error
	klog.SetOutput(discard{})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "devcluster",
		Short:         "A Kubernetes control plane on loopback, for demonstrations and tests",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newUpCommand(), newDownCommand(), newStatusCommand(), newRunCommand(), newSuperviseCommand())
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "devcluster: interrupted")
		return 130
	}
	fmt.Fprintln(os.Stderr, "devcluster:", err)
	return 1
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// clusterFlags are what `up` and `run` have in common.
type clusterFlags struct {
	dir       string
	assets    string
	manifests []string
	restart   bool
	gogc      uint
}

func (f *clusterFlags) add(command *cobra.Command, defaultDir, dirUsage string) {
	flags := command.Flags()
	flags.StringVar(&f.dir, "dir", defaultDir, dirUsage)
	flags.StringVar(&f.assets, "assets", os.Getenv("KUBEBUILDER_ASSETS"),
		"folder of etcd, kube-apiserver and the rest; what it lacks is taken from devcluster's own folder (default $KUBEBUILDER_ASSETS)")
	flags.StringArrayVar(&f.manifests, "manifests", defaultManifests(),
		"YAML file or folder to apply once the cluster is up; may be repeated")
	flags.BoolVar(&f.restart, "restart", false, "start a component again that ends by itself, instead of ending the cluster")
	flags.UintVar(&f.gogc, "gogc", 400, "percent by which the components' heaps grow before they are collected, to spare the processor; 0: as Go has it")
}

// defaultManifests is the folder of Sluice's own definitions, where `make
// tools` has put it beside the programs.
func defaultManifests() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	folder := filepath.Join(filepath.Dir(self), "crds", "sluice")
	if _, err := os.Stat(folder); err != nil {
		return nil
	}
	return []string{folder}
}

// assetFolders are where programs are looked for, in this order.
func (f *clusterFlags) assetFolders() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding devcluster's own folder: %w", err)
	}
	folders := []string{filepath.Dir(self)}
	if f.assets != "" {
		folders = append([]string{f.assets}, folders...)
	}
	return folders, nil
}

func (f *clusterFlags) findAssets() (cluster.Assets, error) {
	folders, err := f.assetFolders()
	if err != nil {
		return cluster.Assets{}, err
	}
	return cluster.FindAssets(folders...)
}

// defaultDir is where `up` and `down` keep a cluster that is given no folder.
func defaultDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("devcluster-%d", os.Getuid()))
}
