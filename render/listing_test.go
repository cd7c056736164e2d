package render

import (
	"cmp"
	"context"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/sluice-dev/sluice/internal/mutants"
)

const listingOverlay = "environments/production/api"

// overlaid is an overlay over a base of two files.
func overlaid(base, one, two, overlay string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range map[string]string{
		"components/api/kustomization.yaml":       base,
		"components/api/one.yaml":                 one,
		"components/api/two.yaml":                 two,
		listingOverlay + "/kustomization.yaml":    "resources: [../../../components/api, own.yaml]\n" + overlay,
		listingOverlay + "/own.yaml":              configMap("own"),
		listingOverlay + "/own-config.yaml":       "commonLabels: [{kind: Deployment, path: metadata/labels, create: true}]\n",
		listingOverlay + "/own-crd.json":          "{}\n",
		"components/component/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [cm.yaml]\n",
		"components/component/cm.yaml":            configMap("component"),
	} {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// loadedFrom is the file system that Kustomize works on; nil where the guard refuses.
func loadedFrom(fsys fstest.MapFS, d Decrypt) *memoryFS {
	b := newBuilder(fsys, scopeOf(listingOverlay), d)
	if in, err := b.walker.walk(listingOverlay); err != nil || b.loader.load(context.Background(), in) != nil {
		return nil
	}
	mem, _ := b.loader.memory(plaintext)
	return mem
}

// A folder that only lists files is read as one file, and what comes out is the same.
func TestListings(t *testing.T) {
	const base = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [one.yaml, two.yaml]\n"
	one, two := configMap("one"), "# of two documents\n---\n"+configMap("two")+"--- # and\n"+configMap("three")
	block := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata:\n  a: |+\n    text\n\n"
	list := "apiVersion: v1\nkind: List\nitems:\n- " + `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}` + "\n"
	tests := []struct {
		name                    string
		base, one, two, overlay string
		want, fails             bool
	}{
		{name: "files alone", want: true},
		{name: "without its kind", base: "resources: [one.yaml, two.yaml]\n", want: true},
		{name: "in another order", base: "resources: [./two.yaml, one.yaml]\n", want: true},
		{name: "an empty document at the end", two: two + "---\n", want: true},
		{name: "a comment only", one: "# nothing\n", want: true},
		{name: "a block scalar that keeps its line ends", one: block, want: true},
		{name: "line ends of Windows", one: "apiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: one}\r\n", want: true},
		{name: "the last line of the last file without an end", two: two + "# end", want: true},
		{name: "what the overlay does", want: true, overlay: "namespace: shop\nnamePrefix: a-\nnameSuffix: -b\nlabels: [{pairs: {a: b}, includeSelectors: true}]\n" +
			"patches: [{target: {kind: ConfigMap, name: two}, patch: '- {op: add, path: /data/x, value: y}'}]\n" +
			"configMapGenerator: [{name: one, behavior: merge, literals: [c=d]}]\ncomponents: [../../../components/component]\n"},

		{name: "a file without a line end", one: one[:len(one)-1]},
		{name: "a file that ends with a separator", one: one + "...\n---\n", two: "---# no: separator\n" + configMap("two")},
		{name: "files that are too large", one: one + strings.Repeat("#\n", maxListing/2)},
		{name: "a list", one: list},
		{name: "a kind behind an alias", one: "apiVersion: &kind List\nkind: *kind\nmetadata: {name: one}\n"},
		{name: "a folder", base: "resources: [one.yaml, ../../environments/production/common]\n"},
		{name: "a transformation", base: "namePrefix: a-\nresources: [one.yaml, two.yaml]\n"},
		{name: "a field that is empty", base: "labels: []\nresources: [one.yaml, two.yaml]\n"},
		{name: "a name", base: "metadata: {name: base}\nresources: [one.yaml, two.yaml]\n"},
		{name: "labels for one kind more", overlay: "commonLabels: {a: b}\nconfigurations: [own-config.yaml]\n"},
		{name: "definitions of kinds", overlay: "crds: [own-crd.json]\n"},
		{name: "where objects are from is noted", overlay: "buildMetadata: [originAnnotations]\n"},
		{name: "the same file twice", base: "resources: [one.yaml, one.yaml]\n", want: true, fails: true},
		{name: "another kind of folder", base: "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\nresources: [one.yaml]\n", fails: true},
		{name: "no kustomization", base: "apiVersion: v2\nresources: [one.yaml]\n", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := overlaid(cmp.Or(tt.base, base), cmp.Or(tt.one, one), cmp.Or(tt.two, two), tt.overlay)
			for name, text := range map[string]string{"kustomization.yaml": "resources: [cm.yaml]\n", "cm.yaml": configMap("common")} {
				fsys["environments/production/common/"+name] = &fstest.MapFile{Data: []byte(text)}
			}
			mem := loadedFrom(fsys, nil)
			require.NotNil(t, mem)
			assert.Equal(t, tt.want, mem.listings["/components/api"] != nil)
			want, wantErr := runKustomize(mem.withoutListings(), listingOverlay)
			got, err := runKustomize(mem, listingOverlay)
			assert.Equal(t, textOf(wantErr), textOf(err))
			assert.Equal(t, tt.fails, err != nil, "%v", err)
			assert.Equal(t, want, got)
			if tt.want && !tt.fails {
				delete(mem.files, "/components/api/kustomization.yaml")
				got, err = runKustomize(mem, listingOverlay)
				require.NoError(t, err, "it was not read as a folder")
				assert.Equal(t, want, got)
			}
		})
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What is decrypted is wiped, so it is not copied into a text of several files.
func TestListingsHaveNoDecryptedFile(t *testing.T) {
	open := func(p string, data []byte) (Decrypted, error) {
		return Decrypted{Data: data, Encrypted: p == "components/api/two.yaml"}, nil
	}
	fsys := overlaid("resources: [one.yaml, two.yaml]\n", configMap("one"), configMap("two"), "")
	assert.Empty(t, loadedFrom(fsys, open).listings["/components/api"])
	assert.NotEmpty(t, loadedFrom(fsys, nil).listings["/components/api"])
}

// Whatever the files of a base hold: read as one they give what Kustomize makes of the
// folder.
func FuzzListing(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte(configMap("one")), []byte(configMap("two")), []byte("namespace: shop\nnameSuffix: -b\n"))
	f.Add([]byte("# a\n---\n"+configMap("one")+"...\n---\n"), []byte("---\n"+configMap("two")+"---\n"+configMap("three")), []byte("commonLabels: {a: b}\nnamePrefix: a-\n"))
	f.Add([]byte(configMap("one")+"---\n"), []byte("---# no: separator\n"+configMap("two")+"---#\n"), []byte("configurations: [own-config.yaml]\ncommonLabels: {a: b}\n"))
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata:\n  a: |+\n    text\n\n"), []byte("--- # b\n"+configMap("two")), []byte("images: [{name: a, newName: b}]\nreplicas: [{name: one, count: 2}]\n"))
	f.Add([]byte("%YAML 1.1\n---\n"+configMap("one")), []byte("\ufeff"+configMap("two")), []byte("patches: [{patch: \"- {op: add, path: /data/x, value: y}\", target: {kind: ConfigMap}}]\n"))
	f.Add([]byte("kind: \"Li\\u0073t\"\napiVersion: v1\nitems: [{kind: A, apiVersion: v1, metadata: {name: b}}]\n"), []byte("<<: {kind: FooList}\nitems: []\n"), []byte("configMapGenerator: [{name: one, behavior: merge, literals: [c=d]}]\ncomponents: [../../../components/component]\n"))
	f.Fuzz(func(t *testing.T, one, two, overlay []byte) {
		mem := loadedFrom(overlaid("resources: [one.yaml, two.yaml]\n", string(one), string(two), string(overlay)), nil)
		if mem == nil || mem.listings["/components/api"] == nil {
			return
		}
		got, err := krustyRun(mem, listingOverlay, types.LoadRestrictionsNone)
		if err != nil {
			return // the folder is taken, then
		}
		want, err := runKustomize(mem.withoutListings(), listingOverlay)
		require.NoError(t, err)
		assert.Equal(t, objectsOf(want), objectsOf(got))
	})
}

func objectsOf(objects []*unstructured.Unstructured) (out []map[string]any) {
	for _, o := range objects {
		out = append(out, o.Object)
	}
	return out
}
