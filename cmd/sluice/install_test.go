package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sluice-dev/sluice/deploy/manifests"
)

// exampleInstall is what deploy/ is an installation of.
var exampleInstall = []string{"install", "--repo", "https://git.example.com/shop/environments.git", "--environment", "production=shop-production"}

// printed runs a command and returns what it prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	code := run(context.Background(), args, process{
		Stdout: &out, Stderr: &errs, Stdin: strings.NewReader(""),
		Getenv: func(string) string { return "" }, Dir: t.TempDir(), Now: fixedNow,
	})
	require.Equal(t, exitOK, code, errs.String())
	return out.String()
}

func byName(t *testing.T, text string) map[string]*unstructured.Unstructured {
	t.Helper()
	list, err := objects([]byte(text))
	require.NoError(t, err)
	named := map[string]*unstructured.Unstructured{}
	for _, o := range list {
		require.NotContains(t, named, objectName(o))
		named[objectName(o)] = o
	}
	return named
}

// TestInstallPrintsDeploy: what install prints is what Kustomize builds from deploy/,
// file by file and as objects.
func TestInstallPrintsDeploy(t *testing.T) {
	t.Parallel()
	o := manifests.Options{
		Namespace: manifests.DefaultHome, Image: imageName + ":" + version, Replicas: 2, Repository: exampleInstall[2],
		Environments: []manifests.Environment{{Name: "production", Namespace: "shop-production", Account: manifests.DefaultApplier}},
	}
	docs, err := o.Documents()
	require.NoError(t, err)
	for _, d := range docs {
		file := filepath.Join("../../deploy", d.Path)
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, d.YAML, 0o644))
		}
		have, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(d.YAML), string(have), "run: go test ./cmd/sluice -run InstallPrintsDeploy -update")
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../deploy")
	require.NoError(t, err)
	text, err := built.AsYaml()
	require.NoError(t, err)
	assert.Equal(t, byName(t, printed(t, exampleInstall...)), byName(t, string(text)))
}

// TestInstallWithEverything: every flag leaves manifests of which the parts fit
// together: what is mounted has a volume, what is named by a flag of the controller is
// mounted, and the controller takes the flags.
func TestInstallWithEverything(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"https": {"--repo", "https://git.example.com:8443/shop/environments.git", "--git-secret", "git", "--ca-secret", "ca"},
		"ssh":   {"--repo", "ssh://git@git.example.com:2222/shop/environments.git", "--git-secret", "git"},
		"forge": {"--repo", "https://github.com/shop/environments", "--github-app-secret", "app"},
	} {
		t.Run(name, func(t *testing.T) {
			named := byName(t, printed(t, append(append([]string{
				"install", "--environment", "staging=shop-staging", "--environment", "production=shop-production", "--age-key-secret", "production=age",
				"--webhook-secret", "hook", "--mount-secret", "keys", "--egress-port", "8200", "--image", "registry.example.com/sluice:1", "--namespace", "gitops", "--applier", "cd",
			}, args...), "--", "--promote", "--verify-key", "/etc/sluice/secrets/keys/signers")...))
			deployment := named["Deployment gitops/sluice-controller"]
			require.NotNil(t, deployment)
			pod, _, err := unstructured.NestedMap(deployment.Object, "spec", "template", "spec")
			require.NoError(t, err)
			container := pod["containers"].([]any)[0].(map[string]any)
			volumes := map[string]bool{}
			for _, v := range pod["volumes"].([]any) {
				volumes[v.(map[string]any)["name"].(string)] = true
			}
			var mounts []string
			for _, m := range container["volumeMounts"].([]any) {
				m := m.(map[string]any)
				assert.True(t, volumes[m["name"].(string)], "%s is mounted and is no volume", m["name"])
				delete(volumes, m["name"].(string))
				mounts = append(mounts, m["mountPath"].(string)+"/")
			}
			assert.Empty(t, volumes, "volumes that are not mounted")
			under := func(file string) bool {
				for _, m := range mounts {
					if strings.HasPrefix(file, m) {
						return true
					}
				}
				return false
			}
			for _, arg := range container["args"].([]any) {
				if i := strings.Index(arg.(string), "/etc/sluice/"); i >= 0 {
					assert.True(t, under(arg.(string)[i:]), "%s is not mounted", arg)
				}
			}
			for _, e := range container["env"].([]any) {
				if value, _ := e.(map[string]any)["value"].(string); strings.HasPrefix(value, "/") {
					assert.True(t, under(value), "%s is not mounted", value)
				}
			}
			assert.Contains(t, container["args"], "--service-account=staging=cd")
			for _, object := range []string{"Role shop-staging/cd", "Role shop-production/sluice-controller", "ClusterRole gitops-namespace-shop-staging", "Service gitops/sluice-controller"} {
				assert.Contains(t, named, object)
			}
		})
	}
}

// TestInstallRefuses what would not work, or would be no least privilege.
func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	repo := slices.Clip(exampleInstall[:3])
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"install", "--repo", "/srv/shop.git", "--environment", "a=b"}, "Git repository"},
		{[]string{"install", "--repo", "file:///srv/shop.git", "--environment", "a=b"}, "none that a pod could reach"},
		{[]string{"install", "--repo", "https://ada:sesame@git.example.com/shop.git", "--environment", "a=b"}, "holds credentials"},
		{append(repo, "--environment", "a=sluice-system"), "the controller's own namespace"},
		{append(repo, "--environment", "a=b", "--environment", "c=b"), "environments a and c share namespace b"},
		{append(repo, "--environment", "a=b", "--environment", "a=c"), "environment a is given twice"},
		{append(repo, "--environment", "a=Not_A_Name"), `"Not_A_Name"`},
		{append(repo, "--environment", "a=b", "--replicas", "0"), "0 replicas"},
		{append(repo, "--environment", "a=b", "--egress-port", "70000"), "70000 is not a port"},
		{append(repo, "--environment", "a=b", "--age-key-secret", "c=age"), "--age-key-secret c=age is not"},
		{append(repo, "--environment", "a=b", "--", "--promot"), "the controller: unknown flag: --promot"},
		{append(repo, "--environment", "a=b", "more"), "flags of the controller go after --"},
		{append(repo, "--environment", "a=b", "--", "--environment=c=d"), "--environment after --: install sets it"},
		{append(repo, "--environment", "a=b", "--", "--service-account=a=kube-system/admin"), "hint: give --environment and --applier before the --"},
		{append(repo, "--environment", "a=b", "--", "--webhook-address", ":9393"), "hint: give --webhook-secret before the --"},
		{append(repo, "--environment", "a=b", "--", "--health-address=:9"), "--health-address after --: install sets it"},
		{append(repo, "--environment", "a=b", "--crds"), "--crds stands alone"},
		{repo, "no environment is given"},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			var out, errs strings.Builder
			code := run(context.Background(), tc.args, process{
				Stdout: &out, Stderr: &errs, Stdin: strings.NewReader(""),
				Getenv: func(string) string { return "" }, Dir: t.TempDir(), Now: fixedNow,
			})
			assert.NotEqual(t, exitOK, code)
			assert.Contains(t, errs.String(), tc.want)
			assert.NotContains(t, errs.String()+out.String(), "sesame")
			assert.Empty(t, out.String())
		})
	}
}

// TestInstallQuotes: what the flags hold reaches the controller as it is, and no other
// place of the manifests.
func TestInstallQuotes(t *testing.T) {
	t.Parallel()
	hostile := "x\"\n---\nkind: ClusterRoleBinding # {{.}} \u2028 <&> 'é'"
	named := byName(t, printed(t, append(exampleInstall[:5:5], "--", "--leader-election-namespace", hostile)...))
	containers, _, err := unstructured.NestedSlice(named["Deployment sluice-system/sluice-controller"].Object, "spec", "template", "spec", "containers")
	require.NoError(t, err)
	assert.Contains(t, containers[0].(map[string]any)["args"], hostile)
	assert.Len(t, named, len(byName(t, printed(t, exampleInstall...))))
}
