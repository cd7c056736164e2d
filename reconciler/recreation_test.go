package reconciler_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

const extra = "environments/production/api/config.yaml"

// with extra as the release's own object; annotated, its manifest asks for
// recreation.
func (f *fixture) holding(object string) files {
	return project(f.namespace).with(files{extra: object})
}

func asksForIt(object string) string {
	changed := strings.Replace(object, "metadata: {", `metadata: {annotations: {sluice.dev/recreate: "true"}, `, 1)
	if changed == object {
		panic("no metadata: " + object)
	}
	return changed
}

func job(image string) string {
	return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate}\nspec: {backoffLimit: 1, template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: " + image + "}]}}}\n"
}

func statefulSet(service string) string {
	return "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: store}\nspec: {replicas: 1, serviceName: " + service +
		", selector: {matchLabels: {app: store}}, template: {metadata: {labels: {app: store}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: store, image: store}]}}}\n"
}

func selecting(label string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: worker}\nspec: {replicas: 1, selector: {matchLabels: {app: " + label +
		"}}, template: {metadata: {labels: {app: " + label + "}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: worker, image: worker}]}}}\n"
}

func fixed(value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {value: " + value + "}\n"
}

func headless(ip string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: extra}\nspec: {" + ip + "selector: {app: store}, ports: [{name: http, port: 80}]}\n"
}

// identity is the UID of an object, "" when there is none.
func (f *fixture) identity(kind, name string) types.UID {
	f.t.Helper()
	if o := f.get(kind, name); o != nil {
		return o.GetUID()
	}
	return ""
}

func TestRecreatesOnlyWhatTheManifestAsksFor(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind, name, field string
		before, after     string
	}{
		"the template of a Job":         {"Job", "migrate", "spec.template", job("one"), job("two")},
		"the Service of a StatefulSet":  {"StatefulSet", "store", "spec", statefulSet("a"), statefulSet("b")},
		"the address of a Service":      {"Service", "extra", "spec.clusterIPs[0]", headless(""), headless("clusterIP: None, ")},
		"the selector of a Deployment":  {"Deployment", "worker", "spec.selector", selecting("a"), selecting("b")},
		"the data of a fixed ConfigMap": {"ConfigMap", "fixed", "data", fixed("a"), fixed("b")},
		"the type of a Secret":          {"Secret", "typed", "type", "apiVersion: v1\nkind: Secret\nmetadata: {name: typed}\ntype: a/a\n", "apiVersion: v1\nkind: Secret\nmetadata: {name: typed}\ntype: b/b\n"},
		"what a claim asks for, mostly": {"PersistentVolumeClaim", "data", "", claimOf("ReadWriteOnce"), claimOf("ReadWriteMany")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			l := &line{}
			f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
			f.ready(f.holding(tt.before))
			was := f.identity(tt.kind, tt.name)
			require.NotEmpty(t, was)
			object := tt.kind + "/" + tt.name

			// The cluster grants nothing: an annotation there is no permission.
			require.NoError(t, f.api.Patch(context.Background(), f.get(tt.kind, tt.name), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"sluice.dev/recreate":"true"}}}`))))
			s := statusOf(t, f.apply(f.holding(tt.after)), "api")
			assert.Equal(t, reconciler.StateFailed, s.State)
			assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason)
			assert.Equal(t, was, f.identity(tt.kind, tt.name))
			assert.Zero(t, l.count("DELETE "))
			assert.Contains(t, s.Message, "applying "+object+": the API server does not let "+tt.field)
			assert.Contains(t, s.Hint, `sluice.dev/recreate: "true"`)
			assert.Contains(t, s.Hint, "pods")

			asked := f.holding(asksForIt(tt.after))
			if tt.kind == "PersistentVolumeClaim" {
				s := statusOf(t, f.apply(asked), "api")
				assert.Equal(t, reconciler.StateFailed, s.State)
				assert.Contains(t, s.Message, "it is not recreated (sluice.dev/recreate): its kind is protected")
				assert.Equal(t, was, f.identity(tt.kind, tt.name))
				assert.Zero(t, l.count("DELETE "))
				return
			}
			s = statusOf(t, f.ready(asked), "api")
			assert.NotEqual(t, was, f.identity(tt.kind, tt.name))
			assert.Contains(t, s.Notes, "recreated "+object)
			assert.Equal(t, 1, l.count("DELETE "), l.sent())

			is := f.identity(tt.kind, tt.name)
			f.ready(asked.with(files{extra: strings.Replace(asked[extra], "metadata: {", "metadata: {labels: {more: yes-please}, ", 1)}))
			assert.Equal(t, is, f.identity(tt.kind, tt.name), "what can be changed is changed")
		})
	}
}

func claimOf(mode string) string {
	return "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [" + mode + "], resources: {requests: {storage: 1Gi}}}\n"
}

// A Service that keeps its node port while its address changes: nobody else can
// have the port as long as it is there.
func TestRecreatesWhatHoldsSomethingUnique(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.holding(headless("type: NodePort, ")))
	live := f.get("Service", "extra")
	address, _, _ := unstructured.NestedString(live.Object, "spec", "clusterIP")
	ports, _, _ := unstructured.NestedSlice(live.Object, "spec", "ports")
	port := ports[0].(map[string]any)["nodePort"]
	other := regexp.MustCompile(`\.\d+\.(\d+)$`).ReplaceAllString(address, ".213.$1")
	pinned := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: extra}\nspec: {type: NodePort, clusterIP: %s, selector: {app: store}, ports: [{name: http, port: 80, nodePort: %v}]}\n", other, port)
	f.ready(f.holding(asksForIt(pinned)))
	live = f.get("Service", "extra")
	now, _, _ := unstructured.NestedString(live.Object, "spec", "clusterIP")
	ports, _, _ = unstructured.NestedSlice(live.Object, "spec", "ports")
	assert.Equal(t, other, now)
	assert.Equal(t, port, ports[0].(map[string]any)["nodePort"])
}

// A rule about changes in the schema of a custom resource counts as well.
func TestRecreatesACustomResource(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	kind := f.hooks()
	hook := func(value string) string {
		return "apiVersion: " + kind.GroupVersion().String() + "\nkind: Hook\nmetadata: {name: one}\nspec: {fixed: " + value + "}\n"
	}
	uid := func() types.UID {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(kind)
		require.NoError(t, f.api.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: "one"}, o))
		return o.GetUID()
	}
	f.ready(f.holding(hook("a")))
	was := uid()
	s := statusOf(t, f.apply(f.holding(hook("b"))), "api")
	assert.Equal(t, "applying Hook/one: the API server does not let spec.fixed of an existing object change", s.Message)
	f.ready(f.holding(asksForIt(hook("b"))))
	assert.NotEqual(t, was, uid())
}

func TestNothingElseDeletesToApply(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		after    string
		sabotage func(*fixture, *line)
		says     string
	}{
		"what is wrong in itself":      {after: strings.Replace(selecting("a"), "replicas: 1", "replicas: -1", 1), says: "spec.replicas"},
		"nor if it cannot change, too": {after: strings.Replace(selecting("b"), "replicas: 1", "replicas: -1", 1), says: "spec.replicas"},
		"what does not fit its schema": {after: strings.Replace(selecting("b"), "replicas: 1", "replicas: [1]", 1), says: "worker"},
		"a policy about changes":       {after: selecting("a") + "\n", sabotage: func(f *fixture, _ *line) { f.forbidUpdates() }, says: "not on a Friday"},
		"what there is no room to try": {after: selecting("b"), sabotage: func(f *fixture, _ *line) {
			quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "full"},
				Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/deployments.apps": resource.MustParse("2")}}}
			require.NoError(f.t, f.api.Create(context.Background(), quota))
			f.eventually("the quota is full", func() bool {
				require.NoError(f.t, f.api.Get(context.Background(), client.ObjectKeyFromObject(quota), quota))
				used := quota.Status.Used["count/deployments.apps"]
				return used.Value() == 2
			})
		}, says: "whether it would be taken as a new object cannot be told: "},
		"a conflict": {after: selecting("b"), sabotage: func(_ *fixture, l *line) {
			l.instead = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if r.Method != http.MethodPatch || !strings.HasSuffix(r.URL.Path, "/deployments/worker") {
					return next.RoundTrip(r)
				}
				body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409,"message":"somebody was faster","details":{"causes":[{"field":"spec.selector"}]}}`
				return &http.Response{StatusCode: http.StatusConflict, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader([]byte(body))), Request: r}, nil
			}
		}, says: "somebody was faster"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.ready(f.holding(asksForIt(selecting("a"))))
			was := f.identity("Deployment", "worker")
			l := &line{}
			if tt.sabotage != nil {
				tt.sabotage(f, l)
			}
			f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
			after := strings.Replace(asksForIt(tt.after), "metadata: {", "metadata: {labels: {changed: very}, ", 1)
			s := f.until(f.holding(after), "api", func(s reconciler.Status) bool { return strings.Contains(s.Message, "applying Deployment/worker: ") })
			assert.NotEqual(t, reconciler.StateReady, s.State)
			assert.Contains(t, s.Message, tt.says)
			assert.Equal(t, was, f.identity("Deployment", "worker"))
			assert.Zero(t, l.count("DELETE "))
		})
	}
}

// forbidUpdates has a policy refuse changes of Deployments in the test's
// namespace, with the code of what is invalid.
func (f *fixture) forbidUpdates() {
	f.t.Helper()
	ctx := context.Background()
	invalid := metav1.StatusReasonInvalid
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": f.namespace}},
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
			}}},
		},
		Validations: []admissionv1.Validation{{Expression: "object.metadata.labels == oldObject.metadata.labels", Message: "not on a Friday", Reason: &invalid}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: f.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: f.namespace, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}}
	require.NoError(f.t, f.api.Create(ctx, policy))
	require.NoError(f.t, f.api.Create(ctx, binding))
	f.t.Cleanup(func() { _, _ = f.api.Delete(ctx, binding), f.api.Delete(ctx, policy) })
	f.eventually("the policy holds", func() bool {
		err := f.api.Patch(ctx, f.get("Deployment", "worker"), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"tried":"yes"}}}`)), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "not on a Friday")
	})
}

func TestPlanShowsRecreation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.holding(job("one")))
	plan := func(content files) reconciler.Plan {
		m := fstest.MapFS{}
		for name, text := range content {
			m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		}
		f.engine = f.newEngine()
		return f.planOf("api", m)
	}
	was := f.identity("Job", "migrate")
	with := plan(f.holding(asksForIt(job("two"))))
	assert.Contains(t, with.String(), "recreate workloads\n  Job/migrate (spec.template cannot change)\n")
	assert.Empty(t, with.Refused())
	without := plan(f.holding(job("two")))
	assert.NotContains(t, without.String(), "recreate")
	require.Len(t, without.Refused(), 1)
	assert.Equal(t, "applying Job/migrate: the API server does not let spec.template of an existing object change", without.Refused()[0].Error())
	var hinted interface{ Hint() string }
	require.ErrorAs(t, without.Refused()[0], &hinted)
	assert.Contains(t, hinted.Hint(), v1alpha1.AnnotationRecreate)
	assert.Equal(t, was, f.identity("Job", "migrate"))
}

func TestRecreationWaitsForFinalizers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.branch.push(f.holding(job("one")))
	f.run()
	f.eventually("it is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	was := f.identity("Job", "migrate")
	finalize := func(list string) {
		require.NoError(t, f.api.Patch(context.Background(), f.get("Job", "migrate"), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":`+list+`}}`)), client.FieldOwner("accountant")))
	}
	finalize(`["example.com/accounting"]`)
	f.branch.push(f.holding(asksForIt(job("two"))))
	f.eventually("it says what is waited for", func() bool {
		c := f.release("api").Condition(v1alpha1.ConditionReady)
		return c.Reason == v1alpha1.ReasonTerminating && c.Message == "Job/migrate is being deleted and will be created anew when its finalizers have ended: example.com/accounting"
	})
	assert.Equal(t, was, f.identity("Job", "migrate"))
	assert.Contains(t, f.release("api").Status.Inventory.Entries, v1alpha1.ResourceRef{ID: f.namespace + "_migrate_batch_Job", Version: "v1"})
	finalize("[]")
	f.eventually("it is there again", func() bool { return f.release("api").Ready() })
	assert.NotEqual(t, was, f.identity("Job", "migrate"))
}

func TestRecreationSurvivesBeingKilled(t *testing.T) {
	t.Parallel()
	for _, lose := range []bool{false, true} {
		t.Run(map[bool]string{false: "before the write", true: "after the write"}[lose], func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.ready(f.holding(selecting("zero")))
			for _, label := range []string{"one", "two"} {
				f.branch.push(f.holding(asksForIt(selecting(label))))
				was, n := f.identity("Deployment", "worker"), 1
				for ; !f.crash(n, lose); n++ {
					require.Less(t, n, 50)
					assert.Empty(t, f.orphans("api"))
				}
				f.settled(fmt.Sprintf("%s after %d crashes", label, n-1))
				assert.NotEqual(t, was, f.identity("Deployment", "worker"))
			}
		})
	}
}

func TestRecreatedTagsCarryWeightOnlyWhenReady(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := func(weights, selector, green string) files {
		c := f.bluegreen(weights, "1", green)
		return c.with(files{"components/api/deployment.yaml": strings.NewReplacer(
			"  name: api\n", "  name: api\n  annotations: {sluice.dev/recreate: \"true\"}\n",
			"app.kubernetes.io/instance: api}}\n", "app.kubernetes.io/instance: api, generation: "+selector+"}}\n",
		).Replace(c["components/api/deployment.yaml"])})
	}
	f.ready(content("weights: {blue: 50, green: 50}", "first", "1"))
	blue, green := f.identity("Deployment", "api-blue"), f.identity("Deployment", "api-green")
	s := f.until(content("weights: {blue: 20, green: 80}", "second", "bad"), "api", func(s reconciler.Status) bool { return strings.Contains(s.Message, "ImagePullBackOff") })
	assert.Equal(t, v1alpha1.ReasonTrafficHeld, s.Reason)
	assert.Equal(t, "api-blue=50 api-green=50", f.weights(), "the weight does not rise on a tag that does not run")
	assert.NotEqual(t, blue, f.identity("Deployment", "api-blue"))
	assert.NotEqual(t, green, f.identity("Deployment", "api-green"))
	f.ready(content("weights: {blue: 20, green: 80}", "second", "2"))
	assert.Equal(t, "api-blue=20 api-green=80", f.weights())
}
