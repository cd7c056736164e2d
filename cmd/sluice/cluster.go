package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterTimeout bounds a request to the API server that is not a watch, so
// that a cluster which does not answer is an error and not a hang.
const clusterTimeout = 15 * time.Second

// errNoCluster is why there is no cluster to ask: none is configured.
type errNoCluster struct{ cause error }

func (e errNoCluster) Error() string { return fmt.Sprintf("no cluster is configured: %v", e.cause) }
func (e errNoCluster) Unwrap() error { return e.cause }
func (e errNoCluster) Hint() string {
	return "name one with --kubeconfig FILE (and --context NAME), or set KUBECONFIG"
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
		return nil, errNoCluster{fmt.Errorf("%s", strings.TrimSpace(err.Error()))}
	}
	config.QPS = -1
	config.UserAgent = "sluice/" + version
	return config, nil
}
