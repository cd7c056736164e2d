package render_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/render"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	basePath  = "environments/production/api/base/"
	bluePath  = "environments/production/api/blue/"
	greenPath = "environments/production/api/green/"
	apiPath   = "environments/production/api/"
)

// lint renders production's api with files changed and prints the findings.
// Blue and green have the same where base is changed: only blue's are kept.
func lint(t *testing.T, files map[string]string) string {
	t.Helper()
	fsys := edited(t, files)
	_, found, err := render.Inspect(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "production", "api"), Decrypt: keyless})
	require.NoError(t, err)
	var b strings.Builder
	for _, f := range found {
		assert.NotEmpty(t, f.Hint)
		if f.File == strings.TrimSuffix(greenPath, "/") || strings.Contains(f.Message, "readinessProbe") || strings.Contains(f.Message, "CPU and memory") {
			continue
		}
		fmt.Fprintf(&b, "%s %s: %s %s\n", f.Severity, f.File, f.Object, f.Message)
	}
	return b.String()
}

// more adds an object to the base of both tags.
func more(objects string) map[string]string {
	return map[string]string{
		basePath + "more.yaml":          objects,
		basePath + "kustomization.yaml": "resources: [../../../../components/api, more.yaml]\nconfigMapGenerator: [{name: api-config, envs: [config.env]}]\nsecretGenerator: [{name: api-secrets, envs: [secrets.env]}]\n",
	}
}

func TestLint(t *testing.T) {
	const labels = "{app.kubernetes.io/name: api, app.kubernetes.io/instance: api}"
	const blue = " environments/production/api/blue: "
	const shared = " environments/production/api: "
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"the layout itself", nil, ""},
		{"what exists once", more(`
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: worker}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec: {template: {metadata: {labels: {a: b}}}}
`), "error" + blue + "DaemonSet shop-production/agent-blue stands in a tag and must exist once: it runs on every node and cannot be scaled to zero\n" +
			"error" + blue + "Ingress shop-production/web-blue stands in a tag and must exist once: it would send traffic past the weights\n" +
			"error" + blue + "PersistentVolumeClaim shop-production/data-blue stands in a tag and must exist once: its data would be split among the tags\n" +
			"error" + blue + "ServiceAccount shop-production/worker-blue stands in a tag and must exist once: its permissions and tokens are bound to its name\n" +
			"error" + blue + "VirtualService shop-production/web-blue stands in a tag and must exist once: it would send traffic past the weights\n"},
		{"policies of Istio for no tag's Service", more(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: mine}
spec: {host: api.shop-production.svc.cluster.local}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: theirs}
spec: {host: db}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ours}
spec: {host: api-blue.shop-production.svc.cluster.local}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: half}
spec: {host: api-blue.shop-production}
`), "error" + blue + "DestinationRule shop-production/half-blue is for host api-blue.shop-production, which Istio takes for a complete name that no Service has\n" +
			"error" + blue + "DestinationRule shop-production/mine-blue is for host api.shop-production.svc.cluster.local, which is no tag's Service\n"},
		{"exposed Services", more(`
apiVersion: v1
kind: Service
metadata: {name: lb}
spec: {type: LoadBalancer, selector: ` + labels + `}
---
apiVersion: v1
kind: Service
metadata: {name: port}
spec: {ports: [{port: 1, nodePort: 30000}], selector: ` + labels + `}
`), "error" + blue + "Service shop-production/lb-blue is reachable from outside the cluster past the weights\n" +
			"error" + blue + "Service shop-production/port-blue is reachable from outside the cluster past the weights\n"},
		{"what works at any weight", more(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: worker, app.kubernetes.io/instance: worker}}
  template: {metadata: {labels: {app.kubernetes.io/name: worker, app.kubernetes.io/instance: worker}}}
`), "warning" + blue + "CronJob shop-production/report-blue runs once for each tag, whatever its weight\n" +
			"warning" + blue + "Deployment shop-production/worker-blue is selected by no Service: if it takes work from a queue it does so at any weight\n"},
		{"names in custom kinds", more(`
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: api}
spec:
  scaleTargetRef: {name: api, kind: Deployment}
  triggers: [{type: cron, name: api}]
  other: {secretName: api-secrets, serviceAccountName: api, name: elsewhere}
`), "error" + blue + "ScaledObject shop-production/api-blue names api in spec.scaleTargetRef.name, which is called api-blue in this tag: Kustomize does not rename it in custom kinds\n" +
			"error" + blue + "ScaledObject shop-production/api-blue names api-secrets in spec.other.secretName, which is called api-secrets-blue-HASH in this tag: Kustomize does not rename it in custom kinds\n"},
		{"names in custom kinds that Kustomize is told of", func() map[string]string {
			files := more("apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: api}\nspec: {scaleTargetRef: {name: api, kind: Deployment}}\n")
			files[basePath+"kustomization.yaml"] += "configurations: [names.yaml]\n"
			files[basePath+"names.yaml"] = "nameReference:\n- kind: Deployment\n  fieldSpecs: [{kind: ScaledObject, path: spec/scaleTargetRef/name}]\n"
			return files
		}(), ""},
		{"a Service api that selects all tags", map[string]string{apiPath + "service.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {selector: {app.kubernetes.io/name: api}}\n"},
			"error" + shared + "Service shop-production/api selects the pods of tag blue and tag green: requests inside the cluster would ignore the weights\n"},
		{"shared objects that select tags", map[string]string{apiPath + "service.yaml": `
apiVersion: v1
kind: Service
metadata: {name: metrics}
spec: {selector: {app.kubernetes.io/name: api}}
---
apiVersion: v1
kind: Service
metadata: {name: debug}
spec: {selector: {app.kubernetes.io/instance: api-green}}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: api}
spec: {selector: {matchExpressions: [{key: app.kubernetes.io/name, operator: In, values: [api]}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: old}
spec: {selector: {matchLabels: {app.kubernetes.io/instance: api-blue}}, template: {metadata: {labels: {app.kubernetes.io/instance: api-blue, app.kubernetes.io/name: api, sluice.dev/tag: blue}}}}
`}, "error" + shared + "Deployment shop-production/old selects the pods of tag blue\n" +
			"error" + shared + "PodDisruptionBudget shop-production/api selects the pods of tag blue and tag green\n" +
			"error" + shared + "Service shop-production/metrics selects the pods of tag blue and tag green past the weights\n" +
			"error" + blue + "Deployment shop-production/api-blue selects the pods of environments/production/api too\n" +
			"error" + blue + "PodDisruptionBudget shop-production/api-blue selects the pods of environments/production/api too\n" +
			"error" + blue + "Service shop-production/api-blue selects the pods of environments/production/api too\n"},
		{"tags without the instance label", map[string]string{bluePath + "kustomization.yaml": "namespace: shop-production\nresources: [../base]\nnameSuffix: -blue\nimages:\n- name: registry.example.com/shop/api\n  digest: sha256:3f2a9c0d41e7aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
			"components/api/deployment.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata: {labels: {app: api}}\n    spec: {containers: [{name: api, image: registry.example.com/shop/api}]}\n",
			"components/api/service.yaml":    "apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {selector: {app: api}}\n",
			"components/api/extra.yaml":      "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: api}\nspec: {selector: {matchLabels: {app: other}}}\n"},
			"error" + blue + "Deployment shop-production/api-blue selects the pods of tag green too\n" +
				"error" + blue + "PodDisruptionBudget shop-production/api-blue selects without app.kubernetes.io/instance: it would select the pods of other tags too\n" +
				"error" + blue + "Service shop-production/api-blue selects the pods of tag green too\n"},
		{"a Job beside the tags", map[string]string{apiPath + "service.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate}\nspec: {template: {spec: {containers: [{name: m, image: 'registry.example.com/shop/api:v1'}]}}}\n"},
			"warning" + shared + "Job shop-production/migrate runs registry.example.com/shop/api:v1: no digest is pinned\n"},
		{"a tag without a digest", map[string]string{bluePath + "kustomization.yaml": "namespace: shop-production\nresources: [../base]\nnameSuffix: -blue\nlabels:\n- pairs: {app.kubernetes.io/instance: api-blue}\n  includeSelectors: true\n"},
			"warning" + blue + "Deployment shop-production/api-blue runs registry.example.com/shop/api:v1: no digest is pinned\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, lint(t, tt.files))
		})
	}
}

func TestLintWorkloads(t *testing.T) {
	res, err := render.Build(context.Background(), render.Request{FS: shop(), Release: releaseOf(t, shop(), "development", "web"), Decrypt: keyless})
	require.NoError(t, err)
	assert.Equal(t, []render.Finding{
		{"warning", "environments/development/web", "CronJob shop-development/dev-web-warm", "has no CPU and memory requests in container warm",
			"add resources.requests: the scheduler and autoscaler count on them", "CronJob dev-web-warm"},
		{"warning", "environments/development/web", "Deployment shop-development/dev-web", "has no CPU and memory requests in container proxy",
			"add resources.requests: the scheduler and autoscaler count on them", "Deployment dev-web"},
		{"warning", "environments/development/web", "Deployment shop-development/dev-web", "has no readinessProbe: it gets requests before it can answer",
			"add a readinessProbe to the container that serves", "Deployment dev-web"},
	}, render.Lint(res))
}

// A tag without nameSuffix declares what the release declares.
func TestBuildDuplicates(t *testing.T) {
	fsys := edited(t, map[string]string{bluePath + "kustomization.yaml": "namespace: shop-production\nresources: [../base]\nimages:\n- name: registry.example.com/shop/api\n  digest: sha256:3f2a9c0d41e7aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"})
	_, err := render.Build(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "production", "api"), Decrypt: keyless})
	assert.EqualError(t, err, "rendering environments/production/api: environments/production/api/blue: Service shop-production/api: is declared in environments/production/api too")
}

// Whatever objects a tag has, it is an error or each finding says in one line what is
// wrong, and how to mend it.
func FuzzLint(ff *testing.F) {
	f := mutants.New(ff)
	for _, objects := range []string{
		"apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: lb}\nspec: {type: LoadBalancer, selector: {a: b}, ports: [{port: 80, nodePort: 30000}]}\n",
		"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly, annotations: {sluice.dev/x: y}}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec: {containers: [{name: c, image: registry.example.com/shop/api, envFrom: [{configMapRef: {name: api-config}}]}]}\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: worker\nspec:\n  selector: {matchLabels: {app.kubernetes.io/instance: api}, matchExpressions: [{key: a, operator: In, values: [b]}]}\n  template:\n    metadata: {labels: {app.kubernetes.io/instance: api}}\n    spec:\n      containers:\n      - name: c\n        image: x\n        resources: {requests: {cpu: 1}}\n",
		"apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: p}\nspec: {minAvailable: 1, selector: {matchLabels: {a: b}}}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec: {host: api, subsets: [{name: v1, labels: {a: b}}]}\n",
		"apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\nspec: {minReplicas: 1, maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: api}}\n---\napiVersion: example.com/v1\nkind: X\nmetadata: {name: x}\nspec: {serviceName: api, url: 'http://api:80/'}\n",
	} {
		f.Add([]byte(objects))
	}
	f.Fuzz(func(t *testing.T, objects []byte) {
		fsys := edited(t, more(string(objects)))
		_, found, err := render.Inspect(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "production", "api"), Decrypt: keyless})
		if err != nil {
			return
		}
		for _, finding := range found {
			assert.NotEmpty(t, finding.Message)
			assert.NotEmpty(t, finding.Hint)
			assert.NotContains(t, finding.String(), "\n")
		}
	})
}
