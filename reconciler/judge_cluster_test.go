package reconciler_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// databases installs kind Database of a group of the test's own, and returns the
// group.
func (f *fixture) databases() string {
	f.t.Helper()
	group := f.namespace + ".example.com"
	var crd apiextensionsv1.CustomResourceDefinition
	require.NoError(f.t, yaml.UnmarshalStrict([]byte(strings.ReplaceAll(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: databases.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {kind: Database, listKind: DatabaseList, plural: databases, singular: database}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`, "GROUP", group)), &crd))
	scheme := runtime.NewScheme()
	require.NoError(f.t, apiextensionsv1.AddToScheme(scheme))
	api, err := client.New(f.config, client.Options{Scheme: scheme})
	require.NoError(f.t, err)
	require.NoError(f.t, api.Create(context.Background(), &crd))
	f.t.Cleanup(func() { _ = api.Delete(context.Background(), &crd) })
	f.eventually("Database is served", func() bool {
		return api.Get(context.Background(), client.ObjectKeyFromObject(&crd), &crd) == nil && established(crd)
	})
	return group
}

func established(crd apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// withDatabase is the project with a Database, judged by its phase.
func (f *fixture) withDatabase(group string) files {
	p := project(f.namespace)
	return p.with(files{
		"components/api/component.yaml": p["components/api/component.yaml"] + fmt.Sprintf(`health:
- apiVersion: %s/v1
  kind: Database
  ready: object.status.phase == "Running"
  failed: object.status.phase == "Lost"
  message: '"phase " + object.status.phase'
`, group),
		"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml, database.yaml]"),
		"components/api/database.yaml":      fmt.Sprintf("apiVersion: %s/v1\nkind: Database\nmetadata: {name: orders}\nspec: {size: 1}\n", group),
	})
}

// phase writes the status of the Database as its operator would.
func (f *fixture) phase(group, phase string) {
	f.t.Helper()
	db := &unstructured.Unstructured{}
	db.SetAPIVersion(group + "/v1")
	db.SetKind("Database")
	db.SetNamespace(f.namespace)
	db.SetName("orders")
	patch := fmt.Sprintf(`{"status": {"phase": %q}}`, phase)
	require.NoError(f.t, f.api.Status().Patch(context.Background(), db, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

// An operator's status is all that changes: it wakes the release at once, whatever
// it was waiting for, and moves the condition to and fro.
func TestReadinessExpressionOfACustomResource(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	group := f.databases()
	f.branch.push(f.withDatabase(group))
	f.run()
	condition := func(want string) {
		t.Helper()
		f.eventually(want, func() bool {
			r := f.release("api")
			if r == nil {
				return false
			}
			c := r.Condition("Ready")
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message) == want
		})
	}
	condition("False WaitingForHealth: Database/orders: not ready: no such key: status")
	assert.Empty(t, f.weights(), "nothing is routed before the release is ready")
	f.phase(group, "Starting")
	condition("False WaitingForHealth: Database/orders: phase Starting")
	f.phase(group, "Lost")
	condition("False HealthFailed: Database/orders: phase Lost")
	f.phase(group, "Running")
	condition("True Ready: 5 objects are as declared")
	assert.Equal(t, "api=1", f.weights())

	// At rest there is no timer that would look: only the watch tells.
	f.phase(group, "Starting")
	condition("False WaitingForHealth: Database/orders: phase Starting")
	f.phase(group, "Running")
	condition("True Ready: 5 objects are as declared")
}

// A release with an expression that does not compile fails alone, and what runs
// is left as it is.
func TestReadinessExpressionThatDoesNotCompile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(two(f.namespace))
	bad := two(f.namespace).with(files{"environments/production/api/config.yaml": config("two"), "environments/production/web/config.yaml": renamed(config("two")),
		"environments/production/api/kustomization.yaml": overlay(f.namespace, "resources: [../../../components/api, route.yaml, config.yaml]", digest("2"))})
	bad["components/api/component.yaml"] += "health:\n- apiVersion: apps/v1\n  kind: Deployment\n  ready: objct.ok\n"
	report := f.apply(bad)
	states := map[string]string{}
	for _, s := range report.Releases {
		states[s.Release] = fmt.Sprintf("%s %s: %s", s.State, s.Reason, s.Message)
		if s.Release == "api" {
			assert.Contains(t, s.Hint, "docs/guides/readiness.md")
		}
	}
	assert.Equal(t, map[string]string{
		"api": "Failed RenderFailed: rendering api: components/api/component.yaml:9: health of Deployment.apps: ready: undeclared reference to 'objct' (at character 1 of the expression's line)",
		"web": "Ready Ready: 4 objects are as declared",
	}, states)
	assert.Contains(t, f.image("api"), digest("1"), "nothing of it is applied")

	bad["components/api/component.yaml"] = strings.ReplaceAll(bad["components/api/component.yaml"], "objct.ok", "object.status.readyReplicas >= 1")
	report = f.apply(bad)
	require.True(t, report.OK(), "%+v", report)
	assert.Contains(t, f.image("api"), digest("2"))
}
