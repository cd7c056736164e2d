// Package cluster runs a Kubernetes control plane on the loopback interface:
// etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK, which
// plays the kubelet of three nodes. Call [FindAssets] for the programs, then
// [Start]; [Cluster.Stop] ends every process it started.
//
// A cluster is for demonstrations and tests. Its data does not outlive it,
// nothing is synced to disk, no container ever runs. The package never touches
// a process that it did not start. [Install] alone works on any cluster.
package cluster
