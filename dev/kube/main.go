// Command kube is a Kubernetes control plane in one binary: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler, chosen by the
// name it is called by (hard links beside it, made by the Makefile). One
// binary rather than four shares most of its code and one link step, which
// saves some 300 MB and several minutes.
//
// It holds nothing of its own: each component is the upstream command.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	if name == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	command, ok := commands()[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "kube: called as %q: call it through a link named etcd, kube-apiserver, "+
			"kube-controller-manager or kube-scheduler (hint: `make -C dev tools BIN=…` makes them)\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(command()))
}

// commands maps a program name to its constructor. Constructors rather than
// commands: building one registers flags globally, and two would collide.
func commands() map[string]func() *cobra.Command {
	return map[string]func() *cobra.Command{
		"kube-apiserver":          func() *cobra.Command { return apiserver.NewAPIServerCommand() },
		"kube-controller-manager": func() *cobra.Command { return controllermanager.NewControllerManagerCommand() },
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	}
}
