package reconciler_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// refused gives tag green a Deployment that renders and that the API server
// refuses.
func (f files) refused() files {
	return f.with(files{greenOverlay: f[greenOverlay] +
		"patches:\n- target: {kind: Deployment}\n  patch: '[{\"op\": \"add\", \"path\": \"/spec/replicas\", \"value\": -1}]'\n"})
}

func TestRefusedTagCanBeLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2"))
	green := f.generations()
	t.Run("its weight may not rise, and the other tag is rolled out", func(t *testing.T) {
		s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 40, green: 60}", "3", "2").refused()), "api")
		assert.Equal(t, reconciler.StateFailed, s.State)
		assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason)
		assert.Contains(t, s.Message, "spec.replicas")
		assert.NotEmpty(t, s.Hint)
		assert.Equal(t, "blue=50 green=50", s.Traffic)
		assert.Contains(t, f.image("api-blue"), digest("3"))
		assert.Equal(t, "api-blue=50 api-green=50", f.weights())
		assert.Equal(t, green, f.generations(), "what runs of green runs on")
	})
	t.Run("its weight falls", func(t *testing.T) {
		f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "3", "2").refused())
		f.run()
		f.eventually("green is left", func() bool {
			s := f.release("api").Status
			return s.Traffic.Weights[0].Percent == 100 && s.Tags[0].Weight == 100 && s.Tags[1].Weight == 0
		})
		assert.Equal(t, "api-blue=100 api-green=0", f.weights())
		stalled := f.release("api").Condition(v1alpha1.ConditionStalled)
		assert.Equal(t, v1alpha1.ReasonApplyFailed, stalled.Reason)
		assert.Contains(t, stalled.Message, "spec.replicas")
		assert.Equal(t, green, f.generations(), "what runs of green runs on")
	})
	t.Run("repaired it is ready", func(t *testing.T) {
		f.branch.push(f.bluegreen("weights: {blue: 100, green: 0}", "3", "2"))
		f.eventually("it is", func() bool { return f.release("api").Ready() })
	})
}

func TestTagCanBeLeftBehindADependencyThatFailed(t *testing.T) {
	for name, restart := range map[string]bool{"by who has applied it": false, "by who has just started": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2"))
			green := f.generations()
			if restart {
				f.engine = f.newEngine()
			}
			s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 100, green: 0}", "1", "3").with(files{
				"environments/production/kustomization.yaml": kustomization("namespace: "+f.namespace, "resources: [refused.yaml]"),
				"environments/production/refused.yaml":       "apiVersion: v1\nkind: Service\nmetadata: {name: refused}\nspec: {ports: [{port: 99999}]}\n",
			})), "api")
			assert.Equal(t, v1alpha1.ReasonDependencyNotReady, s.Reason)
			assert.Equal(t, "blue=100 green=0", s.Traffic)
			assert.Equal(t, "api-blue=100 api-green=0", f.weights())
			assert.Equal(t, green, f.generations(), "the change of green is held back")
		})
	}
}

// selects has the Service select pods by a label that the Deployment gives them.
func (f files) selects(value string, replicas int) files {
	label := fmt.Sprintf(", generation: %s}", value)
	return f.with(files{
		"components/api/service.yaml": strings.Replace(f["components/api/service.yaml"], "instance: api}\n  ports", "instance: api"+label+"\n  ports", 1),
		"components/api/deployment.yaml": strings.NewReplacer(
			"template:\n    metadata: {labels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}", "template:\n    metadata: {labels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api"+label,
			"replicas: 2", fmt.Sprintf("replicas: %d", replicas)).Replace(f["components/api/deployment.yaml"]),
	})
}

// A Service must not select by a label that the refused Deployment would have
// given its pods.
func TestACommitIsNotAppliedInPart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST = l.config(f.config) })
	f.ready(project(f.namespace).selects("one", 2))
	sent := func() int { return l.count("PATCH ") }
	before, service := sent(), f.get("Service", "api").GetResourceVersion()

	s := statusOf(t, f.apply(project(f.namespace).selects("two", -1)), "api")
	assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason)
	assert.Contains(t, s.Message, "applying Deployment/api: ")
	assert.Contains(t, s.Message, "spec.replicas")
	assert.NotEmpty(t, s.Hint)
	assert.Equal(t, service, f.get("Service", "api").GetResourceVersion(), "nothing of the commit is applied")
	assert.NotContains(t, fmt.Sprint(f.get("Service", "api").Object["spec"]), "generation:two")
	s = statusOf(t, f.apply(project(f.namespace).selects("two", -1).with(files{
		"components/api/deployment.yaml": strings.Replace(project(f.namespace)["components/api/deployment.yaml"], "replicas: 2", "replicas: two", 1)})), "api")
	assert.Contains(t, s.Message, "spec.replicas")
	assert.Equal(t, service, f.get("Service", "api").GetResourceVersion(), "nor where its schema is the reason")
	require.Greater(t, sent(), before)

	l.quiet()
	f.ready(project(f.namespace).selects("two", 2))
	assert.Contains(t, fmt.Sprint(f.get("Service", "api").Object["spec"]), "generation:two")
	assert.Contains(t, fmt.Sprint(f.get("Deployment", "api").Object["spec"]), "generation:two")
	assert.Equal(t, 1, l.count("PATCH /api/v1/namespaces/"+f.namespace+"/services/api"), "the first of two is its own trial")
	assert.Equal(t, 2, l.count("PATCH /apis/apps/v1/namespaces/"+f.namespace+"/deployments/api"))
}

// nodePorts adds two Services with a node port each.
func (f files) nodePorts(first, second int) files {
	balancer := func(name string, port int) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {type: NodePort, selector: {app.kubernetes.io/name: api}, ports: [{port: 80, nodePort: %d}]}\n", name, port)
	}
	return f.with(files{
		"components/api/first.yaml":         balancer("first", first),
		"components/api/second.yaml":        balancer("second", second),
		"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml, first.yaml, second.yaml]"),
	})
}

// A port that one Service gives up and another takes over with the same commit is
// not free when either is tried.
func TestNodePortMovesWithOneCommit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// Of the part of the range from which none is given out unasked.
	f.ready(project(f.namespace).nodePorts(30010, 30011))
	has := func(service string, port int) bool {
		return strings.Contains(fmt.Sprint(f.get("Service", service).Object["spec"]), fmt.Sprint("nodePort:", port))
	}
	f.apply(project(f.namespace).nodePorts(30012, 30010))
	assert.True(t, has("first", 30012) && has("second", 30010), "to the one that is sent later")
	f.apply(project(f.namespace).nodePorts(30010, 30011)) // refused, until the other has given it up
	f.ready(project(f.namespace).nodePorts(30010, 30011))
	assert.True(t, has("first", 30010) && has("second", 30011), "to the one that is sent earlier")
	s := statusOf(t, f.apply(project(f.namespace).nodePorts(30012, 30012)), "api")
	assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason, "to both")
}

// demandLimits has a policy refuse Deployments of the test's namespace that are
// annotated to keep limits, unless ConfigMap limits is there.
func (f *fixture) demandLimits() {
	f.t.Helper()
	ctx, deny := context.Background(), admissionv1.ParameterNotFoundActionType("Deny")
	name := metav1.ObjectMeta{Name: f.namespace}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: name, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		ParamKind: &admissionv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": f.namespace}},
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
			}}},
		},
		MatchConditions: []admissionv1.MatchCondition{{Name: "keeps-limits", Expression: "has(object.metadata.annotations) && 'limits' in object.metadata.annotations"}},
		Validations:     []admissionv1.Validation{{Expression: "true"}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: name, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: f.namespace, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		ParamRef: &admissionv1.ParamRef{Name: "limits", ParameterNotFoundAction: &deny},
	}}
	require.NoError(f.t, f.api.Create(ctx, policy))
	require.NoError(f.t, f.api.Create(ctx, binding))
	f.t.Cleanup(func() { _, _ = f.api.Delete(ctx, binding), f.api.Delete(ctx, policy) })
	f.eventually("the policy holds", func() bool {
		return f.api.Patch(ctx, f.get("Deployment", "api"), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"limits":"yes"}}}`)), client.DryRunAll) != nil
	})
}

// What a policy looks up may come with the same commit: it is not there when the
// object that needs it is tried.
func TestPolicyLooksUpWhatTheCommitCreates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	f.demandLimits()
	f.branch.push(project(f.namespace).with(files{
		"environments/production/api/config.yaml": config("one") + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: limits}\n",
		"components/api/deployment.yaml":          strings.Replace(project(f.namespace)["components/api/deployment.yaml"], "  name: api\n", "  name: api\n  annotations: {limits: \"yes\"}\n", 1),
		"components/api/service.yaml":             strings.Replace(project(f.namespace)["components/api/service.yaml"], "{name: api}", "{name: api, annotations: {limits: \"yes\"}}", 1),
	}))
	f.run()
	f.eventually("all of it is applied", func() bool {
		return f.release("api").Ready() && f.get("Deployment", "api").GetAnnotations()["limits"] == "yes" && f.get("Service", "api").GetAnnotations()["limits"] == "yes"
	})
}
