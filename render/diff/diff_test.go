package diff

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

func decode(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, document := range bytes.Split(data, []byte("\n---\n")) {
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		raw, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// TestGolden compares whole diffs. Each file in testdata holds old.yaml,
// new.yaml, the values to mask and what is printed.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			require.NoError(t, err)
			sections := map[string]string{}
			for _, f := range archive.Files {
				sections[f.Name] = string(f.Data)
			}
			old, err := decode([]byte(sections["old.yaml"]))
			require.NoError(t, err)
			new, err := decode([]byte(sections["new.yaml"]))
			require.NoError(t, err)
			got := Text(Objects(old, new, Mask{Values: strings.Split(sections["mask"], "\n")}))
			if *update {
				archive.Files = archive.Files[:0]
				for _, name := range []string{"mask", "old.yaml", "new.yaml"} {
					archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(sections[name])})
				}
				archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
				require.NoError(t, os.WriteFile(file, txtar.Format(archive), 0o644))
				return
			}
			assert.Equal(t, sections["want"], got)
		})
	}
}

func configMap(data map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "c"}, "data": data}}
}

func TestObjectsDoesNotChangeItsInput(t *testing.T) {
	data, err := os.ReadFile("testdata/secret.txtar")
	require.NoError(t, err)
	read := func(name string) []*unstructured.Unstructured {
		for _, f := range txtar.Parse(data).Files {
			if f.Name == name {
				objects, err := decode(f.Data)
				require.NoError(t, err)
				return objects
			}
		}
		return nil
	}
	old, new := read("old.yaml"), read("new.yaml")
	Objects(old, new, Mask{Values: []string{"postgres"}})
	assert.Equal(t, read("old.yaml"), old)
	assert.Equal(t, read("new.yaml"), new)
}

func TestObjectsIsStable(t *testing.T) {
	data, err := os.ReadFile("testdata/release.txtar")
	require.NoError(t, err)
	objects, err := decode(txtar.Parse(data).Files[2].Data)
	require.NoError(t, err)
	reversed := make([]*unstructured.Unstructured, 0, len(objects))
	for _, o := range objects {
		reversed = append([]*unstructured.Unstructured{o}, reversed...)
	}
	want := Text(Objects(nil, objects, Mask{}))
	for range 20 {
		require.Equal(t, want, Text(Objects(nil, reversed, Mask{})))
	}
}

func TestLongTextIsCut(t *testing.T) {
	long := strings.Repeat("x", 500)
	changes := Objects([]*unstructured.Unstructured{configMap(map[string]any{"a": long + "1"})},
		[]*unstructured.Unstructured{configMap(map[string]any{"a": long + "2"})}, Mask{})
	require.Len(t, changes, 1)
	assert.Equal(t, `@@ -1,6 +1,6 @@
 apiVersion: v1
 data:
-  a: `+long[:154]+` … 307 more characters … `+long[:39]+`1
+  a: `+long[:154]+` … 307 more characters … `+long[:39]+`2
 kind: ConfigMap
 metadata:
   name: c
`, changes[0].Text)

	changes = Objects(nil, []*unstructured.Unstructured{configMap(map[string]any{"a": strings.Repeat("line\n", 1000)})}, Mask{})
	lines := strings.Split(changes[0].Text, "\n")
	assert.Len(t, lines, maxLines+2)
	assert.Equal(t, " … 606 more lines", lines[maxLines])
}

func TestTextCannotSteerATerminal(t *testing.T) {
	object := configMap(map[string]any{"a": "\x1b[2J\u202eevil\n\tb\n", "b\x07": "\xff"})
	object.SetName("n\x1b\n+ Service x")
	assert.Equal(t, `+ ConfigMap n\u001b\u000a+ Service x
+apiVersion: v1
+data:
+  a: "\e[2J\u202eevil\n\tb\n"
+  "b\a": �
+kind: ConfigMap
+metadata:
+  name: "n\e\n+ Service x"

1 to create, 0 to update, 0 to delete, 0 unchanged
`, Text(Objects(nil, []*unstructured.Unstructured{object}, Mask{})))
}

func TestMaskText(t *testing.T) {
	const secret = "hunter2/&x"
	m := Mask{Values: []string{secret, "hunt\ner", "tok-1\n", "abc", "true", "", "-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\n"}}
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "nothing here", "nothing here"},
		{"alone", secret, masked},
		{"within", "postgres://u:" + secret + "@db", masked},
		{"one line of several", "a\nb=" + secret + "\nc\n", "a\n(masked)\nc\n"},
		{"neighbours become one", secret + "\n" + secret + "\nc", "(masked)\nc"},
		{"at the end", "a\n" + secret, "a\n(masked)"},
		{"base64", base64.StdEncoding.EncodeToString([]byte(secret)), masked},
		{"base64 within a longer text", base64.StdEncoding.EncodeToString([]byte("user:" + secret + "\n")), masked},
		{"base64 for URLs", base64.URLEncoding.EncodeToString([]byte("us:" + secret + "??")), masked},
		{"JSON", `{"p":"hunter2/\u0026x"}`, masked},
		{"URL", "postgres://u:hunter2%2F%26x@db", masked},
		{"a line of a value of several", "key: MIIEvQIBADAN", masked},
		{"all lines", "x\n-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\ny", "x\n(masked)\ny"},
		{"over the end of a line", "a\nb hunt\ner c\nd", "a\n(masked)\nd"},
		{"without the newline of its file", "a tok-1 b", masked},
		{"too short", "abc", "abc"},
		{"true", "true", "true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, m.Text(test.in))
		})
	}
}

// kubectl keeps a whole copy of what it applies in an annotation, Secrets in clear: no
// difference shows it, nor a copy of a Secret's value elsewhere. Argo CD CVE-2026-45737
// and CVE-2026-42880.
func TestAttackLastApplied(t *testing.T) {
	secret := func(value string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret",
			"metadata": map[string]any{"name": "s", "annotations": map[string]any{
				"kubectl.kubernetes.io/last-applied-configuration": `{"kind":"Secret","stringData":{"token":"` + value + `"}}`,
				"example.com/copy": "token=" + value,
			}},
			"data": map[string]any{"token": base64.StdEncoding.EncodeToString([]byte(value))}}}
	}
	before := configMap(map[string]any{"a": "1"})
	before.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": `{"data":{"old":"canary-one"}}`})
	text := Text(Objects([]*unstructured.Unstructured{secret("canary-one"), before}, []*unstructured.Unstructured{secret("canary-two"), configMap(map[string]any{"a": "2"})}, Mask{}))
	assert.Contains(t, text, "ConfigMap c")
	assert.Contains(t, text, "Secret s")
	assert.NotContains(t, text, "canary")
	assert.NotContains(t, text, "last-applied")
}
