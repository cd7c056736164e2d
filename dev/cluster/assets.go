package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The programs of a cluster, in the order in which they start.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
)

// gatewayCRDs is where a folder of assets holds the Gateway API's CRDs.
const gatewayCRDs = "crds/gateway"

// ErrNoAssets says that a program of the control plane has not been built.
var ErrNoAssets = errors.New("not found: run make tools")

// Assets are the programs of a cluster and the CRDs it starts with.
type Assets struct {
	programs map[string]string
	// GatewayCRDs is a folder with the Gateway API's standard channel.
	GatewayCRDs string
}

// FindAssets looks for each program in the given folders, first match wins, so
// that envtest's own set (etcd and kube-apiserver) can be completed from
// another folder. The error is ErrNoAssets if one is in none of them.
func FindAssets(folders ...string) (Assets, error) {
	found := Assets{programs: map[string]string{}}
	for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler, Kwok} {
		path, err := find(name, folders)
		if err != nil {
			return Assets{}, err
		}
		found.programs[name] = path
	}
	path, err := find(gatewayCRDs, folders)
	found.GatewayCRDs = path
	return found, err
}

func find(name string, folders []string) (string, error) {
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("%s in %q %w", name, folders, ErrNoAssets)
}
