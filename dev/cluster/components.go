package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed config/scheduler.yaml
var schedulerConfig string

//go:embed config/kwok.yaml
var kwokConfig []byte

// serviceRange is wider than envtest's /24, which refuses the 254th Service.
const serviceRange = "10.0.0.0/16"

// layout is where a cluster keeps its files and listens.
type layout struct {
	dir    string
	assets Assets
	ports  map[string]int
	probe  *http.Client
}

// peerPort is etcd's second port: it wants one even when it is alone.
const peerPort = "etcd-peer"

func newLayout(dir string, assets Assets, reserved *ports, ca []byte) *layout {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	l := &layout{dir: dir, assets: assets, ports: map[string]int{}}
	for i, name := range []string{Etcd, peerPort, APIServer, ControllerManager, Scheduler} {
		l.ports[name] = reserved.numbers[i]
	}
	l.probe = &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	}
	return l
}

func (l *layout) path(elements ...string) string {
	return filepath.Join(append([]string{l.dir}, elements...)...)
}

func (l *layout) cert(name string) string       { return l.path("certs", name) }
func (l *layout) kubeconfig(user string) string { return l.path("users", user+".kubeconfig") }
func (l *layout) log(name string) string        { return l.path("logs", name+".log") }
func (l *layout) server() string                { return "https://" + loopback(l.ports[APIServer]) }

func (l *layout) component(name string, ready func(context.Context) error, args ...string) component {
	return component{name: name, path: l.assets.programs[name], args: args, log: l.log(name), ready: ready}
}

// serves is the part of the arguments that the three components which serve
// HTTPS have in common.
func (l *layout) serves(name string, args ...string) []string {
	return append([]string{
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(l.ports[name]),
		"--tls-cert-file=" + l.cert("serving.crt"),
		"--tls-private-key-file=" + l.cert("serving.key"),
		"--profiling=false",
	}, args...)
}

func (l *layout) etcd() component {
	client := "http://" + loopback(l.ports[Etcd])
	peer := "http://" + loopback(l.ports[peerPort])
	return l.component(Etcd, l.healthy(client+"/readyz"),
		"--name=devcluster",
		"--data-dir="+l.path("etcd"),
		"--listen-client-urls="+client,
		"--advertise-client-urls="+client,
		"--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer,
		"--initial-cluster=devcluster="+peer,
		// The data dies with the cluster: nothing is worth waiting for the disk.
		"--unsafe-no-fsync",
		"--quota-backend-bytes="+strconv.Itoa(4<<30),
		"--log-level=warn",
	)
}

func (l *layout) apiServer() component {
	return l.component(APIServer, l.healthy(l.server()+"/readyz"), l.serves(APIServer,
		"--etcd-servers=http://"+loopback(l.ports[Etcd]),
		// Both keep it from asking for the machine's default route, which a
		// network namespace may not have.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--authorization-mode=RBAC",
		"--client-ca-file="+l.cert("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+l.cert("serviceaccount.key"),
		"--service-account-signing-key-file="+l.cert("serviceaccount.key"),
		"--service-cluster-ip-range="+serviceRange,
		// Nobody would lift the taint: the node lifecycle controller does not run.
		"--disable-admission-plugins=TaintNodesByCondition",
		"--allow-privileged=true",
		"--max-requests-inflight=4000",
		"--max-mutating-requests-inflight=2000",
	)...)
}

// controllerManager is ready when it has made the first ServiceAccount: no pod is
// admitted before.
func (l *layout) controllerManager(client *client) component {
	args := l.serves(ControllerManager,
		"--kubeconfig="+l.kubeconfig(ControllerManager),
		"--leader-elect=false",
		// Without it a busy machine cannot make a node NotReady (KWOK being late).
		"--controllers=*,-node-lifecycle-controller",
		"--service-account-private-key-file="+l.cert("serviceaccount.key"),
		"--root-ca-file="+l.cert("ca.crt"),
		"--cluster-signing-cert-file="+l.cert("ca.crt"),
		"--cluster-signing-key-file="+l.cert("ca.key"),
		"--service-cluster-ip-range="+serviceRange,
		// By default it makes a folder in /usr.
		"--flex-volume-plugin-dir="+l.path("flexvolume"),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	)
	for _, what := range []string{
		"deployment", "replicaset", "statefulset", "daemonset", "job", "namespace", "gc", "service-endpoint",
		"endpoint", "serviceaccount-token", "resource-quota", "horizontal-pod-autoscaler",
	} {
		args = append(args, "--concurrent-"+what+"-syncs=20")
	}
	return l.component(ControllerManager, client.serviceAccountExists, args...)
}

func (l *layout) scheduler() component {
	return l.component(Scheduler, l.healthy(l.https(Scheduler, "/readyz")), l.serves(Scheduler,
		"--config="+l.path("config", "scheduler.yaml"),
	)...)
}

// kwok is ready when it has made the nodes Ready: no pod is placed before.
func (l *layout) kwok(client *client) component {
	return l.component(Kwok, client.nodesReady,
		"--kubeconfig="+l.kubeconfig(Kwok),
		"--config="+l.path("config", "kwok.yaml"),
	)
}

// write puts the files that the components read beside the certificates.
func (l *layout) write(ca *authority) error {
	if err := ca.write(l.path("certs")); err != nil {
		return err
	}
	users := map[string][]byte{}
	for _, user := range []string{"admin", ControllerManager, Scheduler, Kwok} {
		data, err := ca.kubeconfig(l.server(), user)
		if err != nil {
			return err
		}
		users[user+".kubeconfig"] = data
	}
	if err := writeFiles(l.path("users"), users); err != nil {
		return err
	}
	if err := writeFiles(l.path("logs"), nil); err != nil {
		return err
	}
	return writeFiles(l.path("config"), map[string][]byte{
		"kwok.yaml":      kwokConfig,
		"scheduler.yaml": []byte(strings.ReplaceAll(schedulerConfig, "$KUBECONFIG", strconv.Quote(l.kubeconfig(Scheduler)))),
	})
}

func (l *layout) https(name, path string) string {
	return "https://" + loopback(l.ports[name]) + path
}

// healthy asks a component for its health.
func (l *layout) healthy(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := l.probe.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
		return fmt.Errorf("%s answers %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
}
