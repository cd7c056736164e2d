// Package examples_test proves the repository layout: every folder of the
// example and of what the scaffolds write builds, and what it builds to hangs
// together.
package examples_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/secrets"
)

func keyless(file string, data []byte) (render.Decrypted, error) {
	opened, err := secrets.OpenKeyless(file, data)
	return render.Decrypted{Data: opened.Data, Values: opened.Values, Encrypted: opened.Encrypted, Keyless: opened.Keyless}, err
}

// scaffolded is a repository as `sluice init`, `component add` and `component
// tag` write it.
func scaffolded(t *testing.T) fs.FS {
	t.Helper()
	tree := envrepo.NewTree(fstest.MapFS{})
	_, err := envrepo.Init(tree, "shop", []envrepo.EnvironmentSpec{
		{Name: "development", Namespace: "shop-development"},
		{Name: "staging", Namespace: "shop-staging"},
		{Name: "production", Namespace: "shop-production"},
	})
	require.NoError(t, err)
	for _, name := range []string{"web", "api"} {
		_, err := envrepo.AddComponent(tree, envrepo.ComponentSpec{
			Name: name, Image: "registry.example.com/shop/" + name, Port: 8080, Replicas: 2, Host: name + ".example.com",
		})
		require.NoError(t, err)
	}
	_, err = envrepo.TagComponent(tree, "production", "api", []string{"blue", "green"})
	require.NoError(t, err)
	return tree
}

func TestLayout(t *testing.T) {
	for name, files := range map[string]fs.FS{"example": os.DirFS("shop"), "scaffold": scaffolded(t)} {
		t.Run(name, func(t *testing.T) {
			buildEveryFolder(t, files)
			repo, err := envrepo.Open(files)
			require.NoError(t, err)
			for _, env := range repo.Project().Environments {
				releases, err := repo.ReleaseNames(env.Name)
				require.NoError(t, err)
				require.Equal(t, envrepo.EnvironmentRelease, releases[0])
				for _, release := range releases {
					checkRelease(t, repo, env, release)
				}
			}
		})
	}
}

// buildEveryFolder builds each folder with a kustomization on its own, as
// `kubectl kustomize` would.
func buildEveryFolder(t *testing.T, files fs.FS) {
	built := 0
	require.NoError(t, fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Base(name) != "kustomization.yaml" {
			return err
		}
		objects, err := render.Folder(context.Background(), files, path.Dir(name), keyless)
		require.NoError(t, err, name)
		require.NotEmpty(t, objects, name)
		built++
		return nil
	}))
	require.Greater(t, built, 10)
}

func checkRelease(t *testing.T, repo *envrepo.Repo, env envrepo.Environment, name string) {
	rel, err := repo.Release(env.Name, name)
	require.NoError(t, err)
	res, err := render.Build(context.Background(), render.Request{FS: repo.FS(), Release: rel, Decrypt: keyless})
	require.NoError(t, err, "%s/%s", env.Name, name)
	for _, f := range render.Lint(res) {
		require.NotEqual(t, "error", f.Severity, "%s/%s: %s %s", env.Name, name, f.Object, f.Message)
	}
	if !rel.Tagged() {
		checkObjects(t, res.Shared, res.Shared, env.Namespace, name)
		return
	}
	require.GreaterOrEqual(t, len(res.Tags), 2)
	for _, tag := range res.Tags {
		all := append(slices.Clone(res.Shared), tag.Objects...)
		checkObjects(t, tag.Objects, all, env.Namespace, name+"-"+tag.Name)
		for _, o := range tag.Objects {
			require.Contains(t, o.GetName(), "-"+tag.Name, "%s of tag %s", o.GetKind(), tag.Name)
			require.Equal(t, tag.Name, o.GetLabels()["sluice.dev/tag"])
		}
	}
}

// checkObjects checks namespaces, selectors and references of the objects of
// one deployment; all holds what they may refer to.
func checkObjects(t *testing.T, objects, all []*unstructured.Unstructured, namespace, instance string) {
	known := map[string]bool{}
	for _, o := range all {
		known[o.GetKind()+"/"+o.GetName()] = true
	}
	for _, o := range objects {
		id := fmt.Sprintf("%s/%s in %s", o.GetKind(), o.GetName(), namespace)
		if o.GetKind() != "Namespace" {
			require.Equal(t, namespace, o.GetNamespace(), id)
		}
		for _, s := range selectors(o) {
			require.Equal(t, instance, s["app.kubernetes.io/instance"], "selector of %s", id)
		}
		for _, ref := range references(o) {
			require.True(t, known[ref], "%s refers to %s, which is not among the release's objects", id, ref)
		}
	}
}

// selectors are the label selectors that must name one deployment only.
func selectors(o *unstructured.Unstructured) []map[string]string {
	var paths [][]string
	switch o.GetKind() {
	case "Service":
		paths = [][]string{{"spec", "selector"}}
	case "Deployment":
		paths = [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}}
	case "PodDisruptionBudget":
		paths = [][]string{{"spec", "selector", "matchLabels"}}
	}
	var found []map[string]string
	for _, p := range paths {
		m, _, _ := unstructured.NestedStringMap(o.Object, p...)
		found = append(found, m)
	}
	return found
}

// references are the objects of the same release that o names.
func references(o *unstructured.Unstructured) []string {
	var refs []string
	add := func(kind string, m map[string]any, path ...string) {
		if optional, _, _ := unstructured.NestedBool(m, append(slices.Clone(path[:len(path)-1]), "optional")...); optional {
			return
		}
		if name, ok, _ := unstructured.NestedString(m, path...); ok {
			refs = append(refs, kind+"/"+name)
		}
	}
	switch o.GetKind() {
	case "HorizontalPodAutoscaler":
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "kind")
		add(kind, o.Object, "spec", "scaleTargetRef", "name")
	case "Deployment":
		add("ServiceAccount", o.Object, "spec", "template", "spec", "serviceAccountName")
		for _, c := range maps(o.Object, "spec", "template", "spec", "containers") {
			for _, from := range maps(c, "envFrom") {
				add("ConfigMap", from, "configMapRef", "name")
				add("Secret", from, "secretRef", "name")
			}
			for _, env := range maps(c, "env") {
				add("ConfigMap", env, "valueFrom", "configMapKeyRef", "name")
				add("Secret", env, "valueFrom", "secretKeyRef", "name")
			}
		}
		for _, v := range maps(o.Object, "spec", "template", "spec", "volumes") {
			add("ConfigMap", v, "configMap", "name")
			add("Secret", v, "secret", "secretName")
		}
	}
	return refs
}

func maps(m map[string]any, path ...string) []map[string]any {
	list, _, _ := unstructured.NestedSlice(m, path...)
	var found []map[string]any
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			found = append(found, m)
		}
	}
	return found
}

// TestScaffoldsMakeTheExample: `init` and the `add` commands make a repository
// with the same releases, tags and contracts as the example.
func TestScaffoldsMakeTheExample(t *testing.T) {
	describe := func(files fs.FS) string {
		repo, err := envrepo.Open(files)
		require.NoError(t, err)
		var b strings.Builder
		for _, env := range repo.Project().Environments {
			names, err := repo.ReleaseNames(env.Name)
			require.NoError(t, err)
			for _, name := range names {
				rel, err := repo.Release(env.Name, name)
				require.NoError(t, err)
				fmt.Fprintf(&b, "%s %s in %s", env.Name, name, env.Namespace)
				for _, tag := range rel.Tags {
					fmt.Fprintf(&b, " %s", tag.Name)
				}
				res, err := render.Build(context.Background(), render.Request{FS: files, Release: rel, Decrypt: keyless})
				require.NoError(t, err)
				kinds := map[string]bool{}
				for _, o := range res.Shared {
					kinds[o.GetKind()] = true
				}
				fmt.Fprintf(&b, ": routed=%v\n", kinds["HTTPRoute"])
			}
		}
		return b.String()
	}
	require.Equal(t, describe(os.DirFS("shop")), describe(scaffolded(t)))
}
