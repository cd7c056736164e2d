package contract

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
)

const image = "registry.example.com/shop/api"

const sources = `apiVersion: v1
kind: ConfigMap
metadata: {name: api-config, namespace: shop}
data: {CACHE_ADDR: "redis:6379", LOG_LEVEL: ""}
binaryData: {BLOB: AAAA}
---
apiVersion: v1
kind: Secret
metadata: {name: api-secrets, namespace: shop}
data: {DATABASE_URL: KGVuY3J5cHRlZCk=}
stringData: {TOKEN: (encrypted)}
---
apiVersion: v1
kind: Secret
metadata: {name: elsewhere, namespace: other}
data: {FOREIGN: eA==}
---
`

func deployment(container, volumes string) string {
	return sources + `apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  template:
    spec:
      containers:
      - {name: proxy, image: registry.example.com/proxy}
      - {name: api, image: "registry.example.com/shop/api:v1@sha256:0123", ` + container + `}
      volumes: [` + volumes + `]
`
}

func decode(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for _, document := range bytes.Split([]byte(text), []byte("---\n")) {
		raw, err := yaml.YAMLToJSON(document)
		require.NoError(t, err)
		object := &unstructured.Unstructured{}
		require.NoError(t, object.UnmarshalJSON(raw))
		objects = append(objects, object)
	}
	return objects
}

func report(missing []Missing) string {
	var lines []string
	for _, m := range missing {
		line := m.String()
		if m.Unknown {
			line = "unknown: " + line
		}
		lines = append(lines, line+"\n  hint: "+m.Hint)
	}
	return strings.Join(lines, "\n")
}

func TestCheck(t *testing.T) {
	const at = "Deployment shop/api, container api: "
	for _, test := range []struct {
		name      string
		container string
		volumes   string
		required  string
		want      string
		keys      string
	}{
		{name: "nothing required", container: "env: []"},
		{name: "literals, also empty ones", container: "env: [{name: A, value: a}, {name: B}]", required: "A B", keys: "A B"},
		{name: "fields of the pod and resources",
			container: "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]",
			required:  "A B", keys: "A B"},
		{name: "all keys of a ConfigMap and a Secret, placeholders too",
			container: "envFrom: [{configMapRef: {name: api-config}}, {secretRef: {name: api-secrets}}]",
			required:  "CACHE_ADDR LOG_LEVEL DATABASE_URL TOKEN", keys: "CACHE_ADDR DATABASE_URL LOG_LEVEL TOKEN"},
		{name: "binary data is no environment variable",
			container: "envFrom: [{configMapRef: {name: api-config}}]", required: "BLOB", keys: "CACHE_ADDR LOG_LEVEL",
			want: at + "BLOB: no env, envFrom or mounted file of the container provides it\n  hint: add BLOB to config.env or secrets.env of the release, or to the container's env"},
		{name: "prefix",
			container: "envFrom: [{prefix: APP_, configMapRef: {name: api-config}}]", required: "APP_CACHE_ADDR", keys: "APP_CACHE_ADDR APP_LOG_LEVEL"},
		{name: "single keys under another name",
			container: "env: [{name: DB, valueFrom: {secretKeyRef: {name: api-secrets, key: DATABASE_URL}}}, {name: CACHE, valueFrom: {configMapKeyRef: {name: api-config, key: CACHE_ADDR}}}]",
			required:  "DB CACHE", keys: "CACHE DB"},
		{name: "a reference to a key that is not there keeps the container from starting, whatever else provides the name",
			container: "envFrom: [{secretRef: {name: api-secrets}}], env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: api-secrets, key: token}}}]",
			required:  "TOKEN", keys: "DATABASE_URL TOKEN",
			want: at + "TOKEN: its env reads key \"token\" of Secret shop/api-secrets, which has no such key\n  hint: add the key there, or correct the reference"},
		{name: "an optional reference that finds nothing",
			container: "env: [{name: EXTRA, valueFrom: {configMapKeyRef: {name: api-config, key: EXTRA, optional: true}}}]", required: "EXTRA",
			want: at + "EXTRA: its env reads key \"EXTRA\" of ConfigMap shop/api-config, which has no such key\n  hint: add EXTRA to config.env or secrets.env of the release, or to the container's env"},
		{name: "an optional reference leaves what envFrom provides",
			container: "envFrom: [{secretRef: {name: api-secrets}}], env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: api-secrets, key: x, optional: true}}}]",
			required:  "TOKEN", keys: "DATABASE_URL TOKEN"},
		{name: "misspelt",
			container: "envFrom: [{secretRef: {name: api-secrets}}]", required: "DATABASE_URI database-url", keys: "DATABASE_URL TOKEN",
			want: at + "DATABASE_URI: no env, envFrom or mounted file of the container provides it\n  hint: the container sees DATABASE_URL: is one of the two misspelt?\n" +
				at + "database-url: no env, envFrom or mounted file of the container provides it\n  hint: the container sees DATABASE_URL: is one of the two misspelt?"},
		{name: "a longer name is not misspelt",
			container: "envFrom: [{secretRef: {name: api-secrets}}]", required: "DATABASE", keys: "DATABASE_URL TOKEN",
			want: at + "DATABASE: no env, envFrom or mounted file of the container provides it\n  hint: add DATABASE to config.env or secrets.env of the release, or to the container's env"},
		{name: "objects created elsewhere may have it; what is found otherwise is not asked of them",
			container: "envFrom: [{prefix: TLS_, secretRef: {name: tls}}, {configMapRef: {name: api-config}}], env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]",
			required:  "CACHE_ADDR TLS_CERT PASSWORD OTHER", keys: "CACHE_ADDR LOG_LEVEL",
			want: "unknown: " + at + "TLS_CERT: it may come from Secret shop/tls, which is created elsewhere\n  hint: make sure that it has the key, or add the key to the release's own config.env or secrets.env\n" +
				"unknown: " + at + "PASSWORD: it may come from key \"password\" of Secret shop/db, which is created elsewhere\n  hint: make sure that it has the key, or add the key to the release's own config.env or secrets.env\n" +
				at + "OTHER: no env, envFrom or mounted file of the container provides it\n  hint: add OTHER to config.env or secrets.env of the release, or to the container's env"},
		{name: "an object of another namespace is not the one meant",
			container: "envFrom: [{secretRef: {name: elsewhere}}]", required: "FOREIGN",
			want: "unknown: " + at + "FOREIGN: it may come from Secret shop/elsewhere, which is created elsewhere\n  hint: make sure that it has the key, or add the key to the release's own config.env or secrets.env"},
		{name: "mounted files",
			container: "volumeMounts: [{name: config, mountPath: /etc/config}, {name: secrets, mountPath: /run/secrets}]",
			volumes:   "{name: config, configMap: {name: api-config}}, {name: secrets, secret: {secretName: api-secrets, items: [{key: TOKEN, path: api/token}, {key: NONE, path: none}]}}",
			required:  "CACHE_ADDR BLOB token", keys: "BLOB CACHE_ADDR LOG_LEVEL token"},
		{name: "a volume that is not mounted",
			container: "volumeMounts: []", volumes: "{name: config, configMap: {name: api-config}}", required: "CACHE_ADDR",
			want: at + "CACHE_ADDR: no env, envFrom or mounted file of the container provides it\n  hint: add CACHE_ADDR to config.env or secrets.env of the release, or to the container's env"},
		{name: "projected volume",
			container: "volumeMounts: [{name: all, mountPath: /etc/all}]",
			volumes:   "{name: all, projected: {sources: [{secret: {name: api-secrets}}, {configMap: {name: api-config, items: [{key: LOG_LEVEL, path: level}]}}, {downwardAPI: {items: [{path: labels}]}}]}}",
			required:  "DATABASE_URL TOKEN level labels", keys: "DATABASE_URL TOKEN labels level"},
		{name: "one file by subPath, under the name of the mount point",
			container: "volumeMounts: [{name: secrets, mountPath: /etc/api/DATABASE_URL_FILE, subPath: DATABASE_URL}]",
			volumes:   "{name: secrets, secret: {secretName: api-secrets}}", required: "DATABASE_URL_FILE", keys: "DATABASE_URL_FILE"},
		{name: "volumes created elsewhere",
			container: "volumeMounts: [{name: vault, mountPath: /vault}, {name: db, mountPath: /db}]",
			volumes:   "{name: vault, csi: {driver: secrets-store.csi.k8s.io}}, {name: db, secret: {secretName: db, items: [{key: p, path: PASSWORD}]}}", required: "PASSWORD",
			want: "unknown: " + at + "PASSWORD: it may come from volume \"vault\" of driver \"secrets-store.csi.k8s.io\", which is created elsewhere\n  hint: make sure that it has the key, or add the key to the release's own config.env or secrets.env"},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := decode(t, deployment(test.container, test.volumes))
			component := envrepo.Component{Name: "api", Image: image, Config: envrepo.Contract{Required: strings.Fields(test.required)}}
			assert.Equal(t, test.want, report(Check(objects, component, nil)))
			assert.Equal(t, test.keys, strings.Join(Keys(objects, image), " "))
		})
	}
}

func TestCheckTakesTheUnionOfComponentAndBuild(t *testing.T) {
	objects := decode(t, deployment("env: [{name: A}]", ""))
	component := envrepo.Component{Name: "api", Image: image, Config: envrepo.Contract{Required: []string{"A", "OLD"}, Optional: []string{"LOG_LEVEL"}}}
	var got []string
	for _, m := range Check(objects, component, &envrepo.Contract{Required: []string{"NEW", "OLD"}, Optional: []string{"MORE"}}) {
		got = append(got, m.Component+" "+m.Key)
	}
	assert.Equal(t, []string{"api OLD", "api NEW"}, got)
}

func TestCheckNamesAnImageThatNothingRuns(t *testing.T) {
	component := envrepo.Component{Name: "api", Image: "registry.example.com/shop/app", Config: envrepo.Contract{Required: []string{"A"}}}
	assert.Equal(t, []Missing{{Key: "A", Component: "api",
		Reason: "no container runs the image registry.example.com/shop/app, so nothing can see it",
		Hint:   "check image in component.yaml and the image of the workload's container"}},
		Check(decode(t, deployment("env: []", "")), component, nil))
}

const kinds = `apiVersion: batch/v1
kind: CronJob
metadata: {name: c}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: x, image: "registry.example.com/shop/api@sha256:01"}]}}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: other, image: "registry.example.com/shop/api2:1"}]
  initContainers:
  - {name: migrate, image: registry.example.com/shop/api}
  - {name: sidecar, image: registry.example.com/shop/api, restartPolicy: Always}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: r}
spec: {template: {spec: {containers: [{name: x, image: "registry.example.com/shop/api:5000"}, {name: y, image: registry.example.com:5000/shop/api}]}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: 7
spec: {template: {spec: {containers: [1, {name: "\u001b[2J", image: registry.example.com/shop/api, env: {}, envFrom: [null], volumeMounts: 3}]}}}
`

func TestCheckFindsEveryWorkload(t *testing.T) {
	component := envrepo.Component{Name: "api", Image: image, Config: envrepo.Contract{Required: []string{"A"}}}
	var got []string
	for _, m := range Check(decode(t, kinds), component, nil) {
		got = append(got, m.Workload)
	}
	assert.Equal(t, []string{"CronJob c, container x", "Pod p, container sidecar", "Rollout r, container x", `StatefulSet , container "\x1b[2J"`}, got)
}

// Objects have whatever shape a repository gives them: nothing panics, only what is
// required is missing, once more the same, and nothing for certain where a patch is
// hidden; what Keys sees is not missing.
func FuzzCheck(ff *testing.F) {
	f := mutants.New(ff)
	f.Add(deployment("envFrom: [{configMapRef: {name: api-config}}]", ""), "CACHE_ADDR")
	f.Add(deployment("envFrom: [{configMapRef: {name: api-config}, prefix: P_}, {secretRef: {name: api-secrets}}]", ""), "CACHE_ADDR")
	f.Add(deployment("env: [{name: A, valueFrom: {secretKeyRef: {name: api-secrets, key: TOKEN}}}]", ""), "A")
	f.Add(deployment("volumeMounts: [{name: v, mountPath: /A, subPath: b/A}]", "{name: v, projected: {sources: [{configMap: {name: api-config, items: [{key: BLOB, path: b/A}]}}, {downwardAPI: {items: [{path: c}]}}]}}"), "A")
	f.Add(deployment("volumeMounts: [{name: v, mountPath: /v}]", "{name: v, csi: {driver: d}}"), "A")
	f.Add("kind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {containers: [1, {image: "+image+", env: x}], initContainers: {}}}}}}\n", "A")
	f.Fuzz(func(t *testing.T, text, key string) {
		var objects []*unstructured.Unstructured
		for document := range strings.SplitSeq(text, "---\n") {
			object := &unstructured.Unstructured{}
			if yaml.Unmarshal([]byte(document), &object.Object) == nil && object.Object != nil {
				objects = append(objects, object)
			}
		}
		component := envrepo.Component{Name: "api", Image: image, Config: envrepo.Contract{Required: []string{key}}}
		missing := Check(objects, component, nil)
		require.Equal(t, missing, Check(objects, component, nil))
		for _, m := range missing {
			require.Equal(t, key, m.Key)
			require.NotEmpty(t, m.Reason)
			require.NotEmpty(t, m.Hint)
		}
		if len(missing) == 0 {
			require.Contains(t, Keys(objects, image), key)
		}
		hidden := Check(objects, component, nil, "patch.bin")
		require.Len(t, hidden, len(missing))
		for _, m := range hidden {
			require.True(t, m.Unknown || m.Workload == "")
		}
	})
}
