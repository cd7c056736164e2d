package render_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

func TestLintRollouts(t *testing.T) {
	const meanwhile = "stops all of its pods before it starts new ones (strategy Recreate): requests fail meanwhile"
	const only = "may have its only pod stopped by an update before another is ready (maxUnavailable)"
	for _, tt := range []struct{ name, kind, spec, more, want string }{
		{"the defaults", "Deployment", "{}", "", ""},
		{"the defaults for many", "Deployment", "{replicas: 40}", "", ""},
		{"none unavailable", "Deployment", "{strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 25%}}}", "", ""},
		{"recreated", "Deployment", "{replicas: 2, strategy: {type: Recreate}}", "", meanwhile},
		{"recreated, none running", "Deployment", "{replicas: 0, strategy: {type: Recreate}}", "", ""},
		{"recreated, no Service", "Deployment", "{strategy: {type: Recreate}, template: {metadata: {labels: {app: other}}}}", "", ""},
		{"the only one", "Deployment", "{strategy: {rollingUpdate: {maxUnavailable: 1}}}", "", only},
		{"the only one, as nothing may surge", "Deployment", "{strategy: {rollingUpdate: {maxSurge: 0}}}", "", only},
		{"one of two", "Deployment", "{replicas: 2, strategy: {rollingUpdate: {maxUnavailable: 1}}}", "", ""},
		{"both", "Deployment", "{replicas: 2, strategy: {rollingUpdate: {maxUnavailable: 100%}}}", "", "may have all of its 2 pods stopped at once by an update (maxUnavailable)"},
		{"more than there are", "Deployment", "{replicas: 3, strategy: {rollingUpdate: {maxUnavailable: 5}}}", "", "may have all of its 3 pods stopped at once by an update (maxUnavailable)"},
		{"what an autoscaler leaves", "Deployment", "{strategy: {rollingUpdate: {maxUnavailable: 1}}}", "{scaleTargetRef: {kind: Deployment, name: web}, minReplicas: 2, maxReplicas: 4}", ""},
		{"what another leaves", "Deployment", "{strategy: {rollingUpdate: {maxUnavailable: 1}}}", "{scaleTargetRef: {kind: StatefulSet, name: web}, minReplicas: 2}", only},
		{"all that an autoscaler leaves", "Deployment", "{replicas: 5, strategy: {rollingUpdate: {maxUnavailable: 1}}}", "{scaleTargetRef: {kind: Deployment, name: web}}", only},
		{"nonsense", "Deployment", "{replicas: x, strategy: {rollingUpdate: {maxUnavailable: many, maxSurge: {}}}}", "", ""},
		{"a single member", "StatefulSet", "{}", "", "has one pod, which an update stops before it starts another: requests fail meanwhile"},
		{"a single member, on deletion", "StatefulSet", "{updateStrategy: {type: OnDelete}}", "", ""},
		{"members", "StatefulSet", "{replicas: 3}", "", ""},
		{"all members", "StatefulSet", "{replicas: 3, updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}}", "", "may have all of its 3 pods stopped at once by an update (maxUnavailable)"},
		{"on nodes", "DaemonSet", "{}", "", ""},
		{"on all nodes", "DaemonSet", "{updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}}", "", "may have all of its pods stopped at once by an update (maxUnavailable)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			workload := object(t, "{apiVersion: apps/v1, kind: "+tt.kind+", metadata: {name: web, namespace: shop}, spec: "+tt.spec+"}")
			template := map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "web"}}}
			if _, ok, _ := unstructured.NestedMap(workload.Object, "spec", "template"); !ok {
				require.NoError(t, unstructured.SetNestedMap(workload.Object, template, "spec", "template"))
			}
			objects := []*unstructured.Unstructured{workload, object(t, "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}}}")}
			if tt.more != "" {
				objects = append(objects, object(t, "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web, namespace: shop}, spec: "+tt.more+"}"))
			}
			var found []string
			for _, f := range render.Lint(&render.Result{Release: envrepo.Release{Name: "web", Dir: "environments/production/web"}, Shared: objects}) {
				assert.NotEmpty(t, f.Hint)
				assert.Equal(t, tt.kind+" web", f.Workload)
				if !strings.Contains(f.Message, "readinessProbe") {
					found = append(found, f.Message)
				}
			}
			assert.Equal(t, tt.want, strings.Join(found, "; "))
		})
	}
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &o.Object))
	return o
}
