package cluster

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// ContextName names the context, cluster and user of every kubeconfig made here.
const ContextName = "devcluster"

// kubeconfig gives the user, by a certificate of its own, to a client.
func (a *authority) kubeconfig(server, user string) ([]byte, error) {
	pair, err := a.client(user)
	if err != nil {
		return nil, err
	}
	config := api.NewConfig()
	config.Clusters[ContextName] = &api.Cluster{Server: server, CertificateAuthorityData: a.pem}
	config.AuthInfos[ContextName] = &api.AuthInfo{ClientCertificateData: pair.certificate, ClientKeyData: pair.key}
	config.Contexts[ContextName] = &api.Context{Cluster: ContextName, AuthInfo: ContextName}
	config.CurrentContext = ContextName
	data, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return data, nil
}

// restConfig reads a kubeconfig and lifts client-go's rate limit of five
// requests a second, which is slower than a cluster on loopback.
func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	return config, nil
}
