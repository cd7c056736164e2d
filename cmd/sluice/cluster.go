package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterTimeout bounds what a command asks of the API server itself, so that
// a cluster which does not answer is an error and not a hang.
const clusterTimeout = 15 * time.Second

// errNoCluster is why there is no cluster to ask: none is configured.
type errNoCluster struct{ cause error }

func (e errNoCluster) Error() string { return fmt.Sprintf("no cluster is configured: %v", e.cause) }
func (e errNoCluster) Unwrap() error { return e.cause }
func (e errNoCluster) Hint() string {
	return "name one with --kubeconfig FILE (and --context NAME), or set KUBECONFIG"
}

// noCluster explains why there is no connection. What a flag names must be
// there; without one, a missing cluster is a state that some commands can live
// with.
func (a *app) noCluster(files []string, err error) error {
	if a.kubeconfig != "" || a.context != "" {
		return withHint(fmt.Errorf("reading the kubeconfig: %w", err), "check --kubeconfig and --context; kubectl config get-contexts lists the contexts")
	}
	if named := a.Getenv("KUBECONFIG"); named != "" && !slices.ContainsFunc(files, fileExists) {
		return errNoCluster{fmt.Errorf("KUBECONFIG names %s, which does not exist", named)}
	}
	if !slices.ContainsFunc(files, fileExists) {
		return errNoCluster{errors.New("there is no kubeconfig")}
	}
	return errNoCluster{errors.New(strings.TrimSpace(err.Error()))}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// restConfig is the connection to the cluster: --kubeconfig, then KUBECONFIG,
// then the usual places, then the service account of the pod it runs in.
// Client-side throttling is off: the API server's own fairness does that job.
func (a *app) restConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if env := a.Getenv("KUBECONFIG"); env != "" {
		rules.Precedence = filepath.SplitList(env)
	}
	if a.kubeconfig != "" {
		rules.ExplicitPath = a.abs(a.kubeconfig)
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: a.context}).ClientConfig()
	if err != nil {
		return nil, a.noCluster(rules.Precedence, err)
	}
	config.QPS = -1
	config.UserAgent = "sluice/" + version
	return config, nil
}
