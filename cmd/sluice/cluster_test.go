package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/jsonpath"

	"github.com/sluice-dev/sluice/internal/testcluster"
)

// awaitTimeout bounds how long a script waits for the cluster, on a machine that is
// busy with other tests.
const awaitTimeout = 2 * time.Minute

// TestClusterScript runs the scripts that need a cluster. Each has namespaces
// of its own, named by $NS.
func TestClusterScript(t *testing.T) {
	t.Parallel()
	client, err := dynamic.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	c := clusterCommands{client}
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/cluster",
		Setup: func(env *testscript.Env) error {
			if err := setupScript(env); err != nil {
				return err
			}
			return setupCluster(t, env, client)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"example": cmdExample, "bare": cmdBare, "replace": cmdReplace, "github": cmdGitHub, "announced": cmdAnnounced,
			"await": c.await, "get": c.get, "delete": c.delete, "post": cmdPost, "webhook": cmdWebhook, "probe": cmdProbe, "terminate": cmdTerminate,
			"signin": cmdSignIn, "can": cmdCan,
		},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// setupCluster gives a script the cluster, a prefix for its namespaces, which
// are deleted afterwards, and addresses to be notified and probed at.
func setupCluster(t *testing.T, env *testscript.Env, client dynamic.Interface) error {
	kubeconfig, err := os.ReadFile(testcluster.Kubeconfig(t))
	if err != nil {
		return err
	}
	file := filepath.Join(env.WorkDir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return err
	}
	for _, name := range []string{"NOTIFY", "HEALTH", "STANDBY"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close() // all at the end, so that they differ
		env.Vars = append(env.Vars, name+"="+listener.Addr().String())
	}
	prefix := fmt.Sprintf("s%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)
	env.Vars = append(env.Vars, "KUBECONFIG="+file, "NS="+prefix)
	env.Defer(func() {
		namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
		for _, name := range []string{"development", "staging", "production", "system"} {
			ctx, cancel := context.WithTimeout(context.Background(), awaitTimeout)
			_ = client.Resource(namespaces).Delete(ctx, prefix+"-"+name, metav1.DeleteOptions{})
			cancel()
		}
	})
	return nil
}

// clusterCommands are the commands of scripts that look into the cluster.
type clusterCommands struct{ client dynamic.Interface }

// resources are the kinds that scripts look at.
var resources = map[string]schema.GroupVersionResource{
	"deployment": {Group: "apps", Version: "v1", Resource: "deployments"},
	"release":    {Group: "sluice.dev", Version: "v1alpha1", Resource: "releases"},
	"httproute":  {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
	"service":    {Version: "v1", Resource: "services"},
	"configmap":  {Version: "v1", Resource: "configmaps"},
	"namespace":  {Version: "v1", Resource: "namespaces"},
	"lease":      {Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},

	"resourcequota":  {Version: "v1", Resource: "resourcequotas"},
	"limitrange":     {Version: "v1", Resource: "limitranges"},
	"serviceaccount": {Version: "v1", Resource: "serviceaccounts"},
	"role":           rbacResource("roles"),
	"clusterrole":    rbacResource("clusterroles"),
}

// object splits KIND NAMESPACE/NAME.
func (c clusterCommands) object(ts *testscript.TestScript, kind, id string) (dynamic.ResourceInterface, string) {
	gvr, ok := resources[kind]
	if !ok {
		ts.Fatalf("unknown kind %q", kind)
	}
	namespace, name, ok := strings.Cut(id, "/")
	if !ok {
		return c.client.Resource(gvr), id
	}
	return c.client.Resource(gvr).Namespace(namespace), name
}

// await waits until a field of an object matches, or with ! until the object
// is gone: await KIND NAMESPACE/NAME JSONPATH REGEXP.
func (c clusterCommands) await(ts *testscript.TestScript, neg bool, args []string) {
	if !neg && len(args) != 4 || neg && len(args) != 2 {
		ts.Fatalf("usage: await KIND NAMESPACE/NAME JSONPATH REGEXP, or ! await KIND NAMESPACE/NAME")
	}
	client, name := c.object(ts, args[0], args[1])
	ctx, cancel := context.WithTimeout(context.Background(), awaitTimeout)
	defer cancel()
	last := "it does not exist"
	for ctx.Err() == nil {
		w, err := client.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		ts.Check(err)
		if _, err := client.Get(ctx, name, metav1.GetOptions{}); neg && err != nil {
			w.Stop()
			return
		}
		for event := range w.ResultChan() {
			if neg && event.Type == watch.Deleted {
				w.Stop()
				return
			}
			o, ok := event.Object.(*unstructured.Unstructured)
			if neg || !ok {
				continue
			}
			if last = field(ts, o, args[2]); regexp.MustCompile(args[3]).MatchString(last) {
				w.Stop()
				return
			}
		}
	}
	ts.Fatalf("%s %s: %v after %s; it is %q", args[0], args[1], args[2:], awaitTimeout, last)
}

// get prints a field of an object: get KIND NAMESPACE/NAME JSONPATH.
func (c clusterCommands) get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 && !(neg && len(args) == 2) {
		ts.Fatalf("usage: get KIND NAMESPACE/NAME JSONPATH, or ! get KIND NAMESPACE/NAME")
	}
	client, name := c.object(ts, args[0], args[1])
	o, err := client.Get(context.Background(), name, metav1.GetOptions{})
	if neg {
		if err == nil {
			ts.Fatalf("%s %s exists", args[0], args[1])
		}
		return
	}
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), field(ts, o, args[2]))
}

// delete deletes an object as somebody with kubectl would: delete KIND NAMESPACE/NAME.
func (c clusterCommands) delete(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: delete KIND NAMESPACE/NAME")
	}
	client, name := c.object(ts, args[0], args[1])
	ts.Check(client.Delete(context.Background(), name, metav1.DeleteOptions{}))
}

// field evaluates a JSONPath such as {.spec.replicas}.
func field(ts *testscript.TestScript, o *unstructured.Unstructured, path string) string {
	j := jsonpath.New("field").AllowMissingKeys(true)
	ts.Check(j.Parse(path))
	var out bytes.Buffer
	ts.Check(j.Execute(&out, o.Object))
	return out.String()
}

// cmdPost posts to a notify address that a process in the background listens
// on, and waits for it to listen: post ADDRESS.
func cmdPost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: post ADDRESS")
	}
	for began := time.Now(); ; {
		resp, err := http.Post("http://"+args[0], "", nil)
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Since(began) > awaitTimeout {
			ts.Fatalf("nobody listens on %s: %v", args[0], err)
		}
		time.Sleep(20 * time.Millisecond) // there is no event for a port that is opened
	}
}

// cmdProbe asks a process in the background how it is, until the answer matches:
// probe ADDRESS/PATH REGEXP.
func cmdProbe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: probe ADDRESS/PATH REGEXP")
	}
	wanted := regexp.MustCompile("(?s)" + args[1])
	last := "nobody listens"
	for began := time.Now(); time.Since(began) < awaitTimeout; time.Sleep(20 * time.Millisecond) { // a probe has no event to wait for
		resp, err := http.Get("http://" + args[0])
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if last = fmt.Sprintf("%d\n%s", resp.StatusCode, body); wanted.MatchString(last) {
			return
		}
	}
	ts.Fatalf("%s does not answer %q:\n%s", args[0], args[1], last)
}

// cmdTerminate sends SIGTERM to the processes in the background that were started
// with an argument: terminate ARGUMENT.
func cmdTerminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: terminate ARGUMENT")
	}
	for _, c := range ts.BackgroundCmds() {
		if slices.Contains(c.Args, args[0]) && c.ProcessState == nil {
			ts.Check(c.Process.Signal(syscall.SIGTERM))
		}
	}
}
