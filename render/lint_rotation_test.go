package render_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLintRotation(t *testing.T) {
	const at = "warning environments/production/api/blue: Deployment shop-production/worker-blue reads "
	worker := func(kind, container, volumes string) map[string]string {
		return more(`apiVersion: v1
kind: Secret
metadata: {name: fixed}
stringData: {A: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {A: x}
---
apiVersion: apps/v1
kind: ` + kind + `
metadata: {name: worker, labels: {app.kubernetes.io/name: worker, app.kubernetes.io/instance: api}}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}}
  template:
    metadata: {labels: {app.kubernetes.io/name: api, app.kubernetes.io/instance: api}}
    spec:
      containers: [{name: worker, image: "busybox@sha256:` + zeros + `", ` + container + `}]
      volumes: [` + volumes + `]
`)
	}
	const after = " when it starts, and a change of that does not restart its pods\n"
	for name, test := range map[string]struct{ kind, container, volumes, want string }{
		"generated":             {"Deployment", "envFrom: [{secretRef: {name: api-secrets}}, {configMapRef: {name: api-config}}]", "", ""},
		"made elsewhere":        {"Deployment", "envFrom: [{secretRef: {name: of-an-operator}}]", "", ""},
		"envFrom":               {"Deployment", "envFrom: [{secretRef: {name: fixed}}, {configMapRef: {name: settings}}]", "", at + "ConfigMap settings-blue" + after + at + "Secret fixed-blue" + after},
		"one key, told once":    {"Deployment", "env: [{name: A, valueFrom: {secretKeyRef: {name: fixed, key: A}}}, {name: B, valueFrom: {secretKeyRef: {name: fixed, key: A}}}]", "", at + "Secret fixed-blue" + after},
		"a mounted file":        {"Deployment", "volumeMounts: [{name: v, mountPath: /v}]", "{name: v, secret: {secretName: fixed}}", ""},
		"mounted by subPath":    {"Deployment", "volumeMounts: [{name: v, mountPath: /v, subPath: A}]", "{name: v, secret: {secretName: fixed}}, {name: w, configMap: {name: settings}}", at + "Secret fixed-blue" + after},
		"projected, by subPath": {"Deployment", "volumeMounts: [{name: v, mountPath: /v, subPath: A}]", "{name: v, projected: {sources: [{configMap: {name: settings}}]}}", at + "ConfigMap settings-blue" + after},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.want, lint(t, worker(test.kind, test.container, test.volumes)))
		})
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
