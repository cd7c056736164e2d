package reconciler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// drift is a release that is followed while somebody else writes to its objects.
type drift struct {
	*fixture
	line *line
	kind map[string]schema.GroupVersionKind // beside those that the fixture knows
}

func newDrift(t testing.TB, content func(*fixture) files, change ...func(*reconciler.Config)) *drift {
	t.Helper()
	d := &drift{fixture: newFixture(t), line: &line{}, kind: map[string]schema.GroupVersionKind{}}
	d.engine = d.newEngine(append(change, func(c *reconciler.Config) { c.REST = d.line.config(d.config) })...)
	d.branch.push(content(d.fixture))
	d.run()
	d.eventually("api is ready", func() bool { r := d.release("api"); return r != nil && r.Ready() })
	return d
}

// ref is the identity of an object, for a patch.
func (d *drift) ref(kind, name string) *unstructured.Unstructured {
	d.t.Helper()
	o := &unstructured.Unstructured{}
	if gvk, ok := d.kind[kind]; ok {
		o.SetGroupVersionKind(gvk)
	} else {
		o.SetGroupVersionKind(d.get(kind, name).GroupVersionKind())
	}
	o.SetNamespace(d.namespace)
	o.SetName(name)
	return o
}

func (d *drift) live(kind, name string) *unstructured.Unstructured {
	d.t.Helper()
	o := d.ref(kind, name)
	require.NoError(d.t, d.api.Get(context.Background(), client.ObjectKeyFromObject(o), o))
	return o
}

// patch changes an object as a client with an Update does.
func (d *drift) patch(manager, kind, name, patch string) {
	d.t.Helper()
	o := d.ref(kind, name)
	as := types.StrategicMergePatchType
	if _, custom := d.kind[kind]; custom || kind == "HTTPRoute" {
		as = types.MergePatchType
	}
	require.NoError(d.t, d.api.Patch(context.Background(), o, client.RawPatch(as, []byte(patch)), client.FieldOwner(manager)))
}

// seize applies fields on the server's side, by force.
func (d *drift) seize(manager, kind, name, fields string) {
	d.t.Helper()
	o := d.ref(kind, name)
	mergeInto(o.Object, yamlObject(d.t, fields))
	require.NoError(d.t, d.api.Apply(context.Background(), client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager), client.ForceOwnership))
}

func mergeInto(a, b map[string]any) {
	for k, v := range b {
		below, ok := a[k].(map[string]any)
		if more, both := v.(map[string]any); ok && both {
			mergeInto(below, more)
		} else {
			a[k] = v
		}
	}
}

// has reports whether an object has a value at a path of fields; names select
// items of a list. Without a value, whether it has any.
func (d *drift) has(kind, name, value string, path ...string) bool {
	d.t.Helper()
	var at any = d.live(kind, name).Object
	for _, step := range path {
		switch v := at.(type) {
		case map[string]any:
			at = v[step]
		case []any:
			i := slices.IndexFunc(v, func(item any) bool {
				fields, ok := item.(map[string]any)
				return ok && fmt.Sprint(fields["name"]) == step || fmt.Sprint(item) == step
			})
			if i < 0 {
				return false
			}
			at = v[i]
		default:
			return false
		}
	}
	return at != nil && (value == "" || fmt.Sprint(at) == value)
}

// costs does something, waits until all is as it should be, and requires that
// nothing was written but the named object, and the release's report.
func (d *drift) costs(path string, do func(), restored func() bool) {
	d.t.Helper()
	d.line.quiet()
	do()
	d.eventually("it is put right", restored)
	d.eventually("api is ready", func() bool {
		if !d.release("api").Ready() {
			d.t.Log(d.release("api").Condition("Ready").Message)
		}
		return d.release("api").Ready()
	})
	own := []string{"/" + path, "/releases/api/status"}
	for _, r := range d.line.sent() {
		if strings.HasPrefix(r, "GET ") {
			continue
		}
		assert.True(d.t, slices.ContainsFunc(own, func(p string) bool { return strings.HasSuffix(r, p) }), "only %s is sent: %s", path, r)
	}
}

func TestDriftIsPutRight(t *testing.T) {
	t.Parallel()
	const container = `{"spec":{"template":{"spec":{"containers":[{"name":"api",%s}]}}}}`
	template := []string{"spec", "template", "spec", "containers"}
	tests := []struct {
		name, path string
		do         func(*drift)
		restored   func(*drift) bool
	}{
		{"a changed field", "services/api",
			func(d *drift) {
				d.patch("somebody", "Service", "api", `{"spec":{"sessionAffinity":"ClientIP","ports":[{"port":80,"targetPort":"admin"}]}}`)
			},
			func(d *drift) bool { return d.has("Service", "api", "http", "spec", "ports", "http", "targetPort") }},
		{"changed data", "configmaps/api-one",
			func(d *drift) { d.patch("somebody", "ConfigMap", "api-one", `{"data":{"value":"theirs"}}`) },
			func(d *drift) bool { return d.has("ConfigMap", "api-one", "one", "data", "value") }},
		{"a field of a custom kind", "httproutes/api",
			func(d *drift) { d.patch("somebody", "HTTPRoute", "api", `{"spec":{"parentRefs":[{"name":"other"}]}}`) },
			func(d *drift) bool {
				return d.has("HTTPRoute", "api", "", "spec", "parentRefs", "shop") && !d.has("HTTPRoute", "api", "", "spec", "parentRefs", "other")
			}},
		{"removed data", "configmaps/api-one",
			func(d *drift) { d.patch("somebody", "ConfigMap", "api-one", `{"data":null}`) },
			func(d *drift) bool { return d.has("ConfigMap", "api-one", "one", "data", "value") }},
		{"a field that somebody has taken by force", "deployments/api",
			func(d *drift) { d.seize("rogue", "Deployment", "api", "{spec: {replicas: 5}}") },
			func(d *drift) bool { return d.has("Deployment", "api", "2", "spec", "replicas") }},
		{"a replica count that somebody has scaled", "deployments/api",
			func(d *drift) {
				require.NoError(d.t, d.api.SubResource("scale").Patch(context.Background(), d.live("Deployment", "api"), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":4}}`)), client.FieldOwner("somebody")))
			},
			func(d *drift) bool { return d.has("Deployment", "api", "2", "spec", "replicas") }},
		{"our label, removed from what has a generation", "deployments/api",
			func(d *drift) {
				d.patch("somebody", "Deployment", "api", `{"metadata":{"labels":{"sluice.dev/release":null}}}`)
			},
			func(d *drift) bool {
				return d.has("Deployment", "api", "api", "metadata", "labels", v1alpha1.LabelRelease)
			}},
		{"our label, removed from what has none", "configmaps/api-one",
			func(d *drift) { d.patch("somebody", "ConfigMap", "api-one", `{"metadata":{"labels":null}}`) },
			func(d *drift) bool {
				return d.has("ConfigMap", "api-one", "api", "metadata", "labels", v1alpha1.LabelRelease)
			}},
		{"a label that is declared", "deployments/api",
			func(d *drift) {
				d.patch("somebody", "Deployment", "api", `{"metadata":{"labels":{"app.kubernetes.io/name":"theirs"}}}`)
			},
			func(d *drift) bool {
				return d.has("Deployment", "api", "api", "metadata", "labels", "app.kubernetes.io/name")
			}},
		{"what kubectl edit has planted", "deployments/api",
			func(d *drift) {
				d.patch("kubectl-edit", "Deployment", "api", `{"metadata":{"labels":{"planted":"yes"}},"spec":{"paused":true,"template":{"spec":{"containers":[{"name":"api","env":[{"name":"PLANTED","value":"yes"}]},{"name":"planted","image":"planted"}]}}}}`)
			},
			func(d *drift) bool {
				return !d.has("Deployment", "api", "", "metadata", "labels", "planted") && !d.has("Deployment", "api", "", "spec", "paused") &&
					!d.has("Deployment", "api", "", append(template, "planted")...) && !d.has("Deployment", "api", "", append(template, "api", "env", "PLANTED")...)
			}},
		{"what kubectl set has planted", "deployments/api",
			func(d *drift) {
				d.patch("kubectl-set", "Deployment", "api", fmt.Sprintf(container, `"env":[{"name":"PLANTED","value":"yes"}]`))
			},
			func(d *drift) bool {
				return !d.has("Deployment", "api", "", append(template, "api", "env", "PLANTED")...)
			}},
		{"what client-side apply has planted", "configmaps/api-one",
			func(d *drift) {
				d.patch("kubectl-client-side-apply", "ConfigMap", "api-one", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}},"data":{"planted":"yes"}}`)
			},
			func(d *drift) bool {
				return !d.has("ConfigMap", "api-one", "", "data", "planted") && !d.has("ConfigMap", "api-one", "", "metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration")
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDrift(t, func(f *fixture) files { return project(f.namespace) })
			d.costs(tt.path, func() { tt.do(d) }, func() bool { return tt.restored(d) })
		})
	}
}

func TestDeletedObjectsComeBack(t *testing.T) {
	t.Parallel()
	d := newDrift(t, func(f *fixture) files { return project(f.namespace) })
	for kind, path := range map[string]string{"ConfigMap": "configmaps/api-one", "Service": "services/api", "Deployment": "deployments/api", "HTTPRoute": "httproutes/api"} {
		t.Run(kind, func(t *testing.T) {
			name := path[strings.Index(path, "/")+1:]
			was := d.live(kind, name)
			d.costs(path, func() {
				require.NoError(t, d.api.Delete(context.Background(), d.ref(kind, name)))
			}, func() bool { o := d.get(kind, name); return o != nil && o.GetUID() != was.GetUID() })
		})
	}
}

func TestAddedOwnersGo(t *testing.T) {
	t.Parallel()
	d := newDrift(t, func(f *fixture) files { return project(f.namespace) })
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "owner"}}
	require.NoError(t, d.api.Create(context.Background(), owner))
	references := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":%q}]}}`, owner.UID)
	for kind, path := range map[string]string{"ConfigMap": "configmaps/api-one", "Deployment": "deployments/api"} {
		name := path[strings.Index(path, "/")+1:]
		t.Run(kind, func(t *testing.T) {
			d.costs(path, func() { d.patch("somebody", kind, name, references) }, func() bool { return len(d.live(kind, name).GetOwnerReferences()) == 0 })
		})
	}
}

// What others own is left alone, also when something else of the object is put
// right: which shows that it was looked at.
func TestWhatOthersOwnStays(t *testing.T) {
	t.Parallel()
	right := func(d *drift, kind string) (spoil func(), restored func() bool) {
		if kind == "ConfigMap" {
			return func() { d.patch("somebody", kind, "api-one", `{"data":{"value":"theirs"}}`) }, func() bool { return d.has(kind, "api-one", "one", "data", "value") }
		}
		return func() {
				d.patch("somebody", kind, "api", `{"metadata":{"labels":{"app.kubernetes.io/name":"theirs"}}}`)
			}, func() bool {
				return d.has(kind, "api", "api", "metadata", "labels", "app.kubernetes.io/name")
			}
	}
	tests := []struct {
		name, kind, path string
		do               func(*drift)
		stays            func(*drift) bool
	}{
		{"an annotation", "Deployment", "deployments/api",
			func(d *drift) {
				d.patch("somebody", "Deployment", "api", `{"metadata":{"annotations":{"their":"own"}}}`)
			},
			func(d *drift) bool { return d.has("Deployment", "api", "own", "metadata", "annotations", "their") }},
		{"a restart", "Deployment", "deployments/api",
			func(d *drift) {
				d.patch("kubectl-rollout", "Deployment", "api", `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`)
			},
			func(d *drift) bool {
				return d.has("Deployment", "api", "now", "spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt")
			}},
		{"a finalizer", "ConfigMap", "configmaps/api-one",
			func(d *drift) {
				d.patch("somebody", "ConfigMap", "api-one", `{"metadata":{"finalizers":["example.com/theirs"]}}`)
			},
			func(d *drift) bool {
				return d.has("ConfigMap", "api-one", "", "metadata", "finalizers", "example.com/theirs")
			}},
		{"a key of the data", "ConfigMap", "configmaps/api-one",
			func(d *drift) { d.seize("friend", "ConfigMap", "api-one", "{data: {their: own}}") },
			func(d *drift) bool { return d.has("ConfigMap", "api-one", "own", "data", "their") }},
		{"a sidecar", "Deployment", "deployments/api",
			func(d *drift) {
				d.seize("injector", "Deployment", "api", "{spec: {template: {spec: {containers: [{name: sidecar, image: sidecar}]}}}}")
			},
			func(d *drift) bool {
				return d.has("Deployment", "api", "sidecar", "spec", "template", "spec", "containers", "sidecar", "image")
			}},
		{"the replicas under an autoscaler", "Deployment", "deployments/api",
			func(d *drift) {
				require.NoError(d.t, d.api.SubResource("scale").Patch(context.Background(), d.live("Deployment", "api"), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":7}}`)), client.FieldOwner("autoscaler")))
			},
			func(d *drift) bool { return d.has("Deployment", "api", "7", "spec", "replicas") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDrift(t, func(f *fixture) files { return project(f.namespace).autoscaled() })
			spoil, restored := right(d, tt.kind)
			d.costs(tt.path, func() { tt.do(d); spoil() }, restored)
			assert.True(t, tt.stays(d))
			d.patch("somebody", "ConfigMap", "api-one", `{"metadata":{"finalizers":null}}`) // or the namespace stays
		})
	}
}

func TestWhatOthersOwnOfACustomResourceStays(t *testing.T) {
	t.Parallel()
	var kind schema.GroupVersionKind
	d := newDrift(t, func(f *fixture) files {
		kind = f.hooks()
		return f.holding("apiVersion: " + kind.GroupVersion().String() + "\nkind: Hook\nmetadata: {name: one}\nspec: {client: {url: ours}}\n")
	})
	d.kind["Hook"] = kind
	d.patch("injector", "Hook", "one", `{"spec":{"client":{"caBundle":"dGhlaXJz"}}}`)
	o := d.ref("Hook", "one")
	require.NoError(t, d.api.Status().Patch(context.Background(), o, client.RawPatch(types.MergePatchType, []byte(`{"status":{"seen":true}}`))))
	d.costs("hooks/one", func() { d.patch("somebody", "Hook", "one", `{"spec":{"client":{"url":"theirs"}}}`) },
		func() bool { return d.has("Hook", "one", "ours", "spec", "client", "url") })
	assert.True(t, d.has("Hook", "one", "dGhlaXJz", "spec", "client", "caBundle"))
	assert.True(t, d.has("Hook", "one", "true", "status", "seen"))
}

// hooks installs a kind of the test's own, with a schema and a status.
func (f *fixture) hooks() schema.GroupVersionKind {
	f.t.Helper()
	group := f.namespace + ".example.com"
	crd := yamlObject(f.t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: hooks.`+group+`}
spec:
  group: `+group+`
  scope: Namespaced
  names: {plural: hooks, singular: hook, kind: Hook, listKind: HookList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {fixed: {type: string, x-kubernetes-validations: [{rule: self == oldSelf}]}, client: {type: object, properties: {url: {type: string}, caBundle: {type: string}}}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
`)
	object := &unstructured.Unstructured{Object: crd}
	require.NoError(f.t, f.api.Create(context.Background(), object))
	f.t.Cleanup(func() { _ = f.api.Delete(context.Background(), object) })
	f.eventually("hooks are served", func() bool {
		r, err := f.http.Get(f.config.Host + "/apis/" + group + "/v1/namespaces/" + f.namespace + "/hooks")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == 200
	})
	return schema.GroupVersionKind{Group: group, Version: "v1", Kind: "Hook"}
}

func yamlObject(t testing.TB, text string) map[string]any {
	t.Helper()
	var fields map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &fields))
	return fields
}
