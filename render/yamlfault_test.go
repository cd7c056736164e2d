package render

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

func TestDiagnose(t *testing.T) {
	const object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: api\n  labels: {a: b}\n"
	tests := []struct {
		name, text string
		line       int
		reason     string
	}{
		{"fine", object, 0, ""},
		{"empty", "", 0, ""},
		// The parser says line 3: that before the mapping around the fault.
		{"indented too deep", object + "   x: y\ndata: {}\n", 6, "did not find expected key"},
		{"no colon", object + "data\nkind: x\n", 6, "could not find expected ':'"},
		{"two colons", object + "data: a: b\n", 6, "mapping values are not allowed in this context"},
		{"a tab", object + "\tdata: a\n", 6, "found character that cannot start any token"},
		{"an open brace", object + "data: {a: b\nkind: x\n", 6, "did not find expected ',' or '}'"},
		{"an open quote", object + "data: 'a\nkind: x\n", 6, "found unexpected end of stream"},
		{"the first line", "a: b: c\n", 1, "mapping values are not allowed in this context"},
		{"another document", object + "--- # next\n\n---\n" + object + "   x: y\n", 14, "did not find expected key"},
		{"after a separator", object + "--- kind: x\na: b\n", 6, "only a comment may follow --- on its line"},
		{"Windows lines", strings.ReplaceAll(object+"---\n"+object+"   x: y\n", "\n", "\r\n"), 12, "did not find expected key"},
		{"no anchor", object + "data: *a\nkind: x\n", 6, "unknown anchor 'a' referenced"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			line, reason := diagnose([]byte(tt.text))
			assert.Equal(t, tt.reason, reason)
			assert.Equal(t, tt.line, line)
			_, err := checkDocuments([]byte(tt.text))
			assert.Equal(t, tt.reason == "", err == nil)
		})
	}
}

// Lines count from the start of the file, not of the document.
func TestDocumentErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\nb: 2\na: 3\n":                          "3: has a name twice in one mapping, first in line 1|keep one of the two",
		"---\n# none\n---\nx: y\n---\n\na: 1\na: 3\n": "8: has a name twice in one mapping, first in line 7|keep one of the two",
		"a: 1\n---\nb: .inf\n":                        "3: has a number that JSON cannot hold|quote it if it is text; otherwise give a finite number",
		"a: !!int x\n":                                "1: has a value that its tag does not allow|remove the tag (the word that starts with !), or correct the value",
		"a: &a [*a]\n":                                "1: has an alias inside its own anchor|write out what the alias stands for",
		"? [a]\n: b\n":                                "1: has a name that is not a string|give each field a plain name; quote text that starts with a bracket or a brace",
	} {
		_, err := Build(context.Background(), Request{FS: project(map[string]string{
			overlayFile: "resources: [t.yaml]\n", overlayDir + "/t.yaml": text}), Release: development()})
		message, hint, _ := strings.Cut(want, "|")
		assert.EqualError(t, err, "rendering "+overlayDir+": "+overlayDir+"/t.yaml:"+message)
		var input *InputError
		require.ErrorAs(t, err, &input, text)
		assert.Equal(t, hint, input.Hint())
	}
	_, err := Build(context.Background(), Request{FS: project(map[string]string{
		overlayFile: "patches:\n- patch: '{a: b, a: c}'\n"}), Release: development()})
	var input *InputError
	require.ErrorAs(t, err, &input)
	assert.Equal(t, "keep one of the two", input.Hint())
}

// The parser quotes names of anchors. Of a file that is encrypted nothing of
// what it says is shown, whether there is a key or not.
func TestReasonsAreWithheldOfEncryptedFiles(t *testing.T) {
	for name, keyless := range map[string]bool{"opened": false, "keyless": true} {
		t.Run(name, func(t *testing.T) {
			decrypt := func(path string, data []byte) (Decrypted, error) {
				return Decrypted{Data: data, Encrypted: path == overlayDir+"/t.yaml", Keyless: keyless}, nil
			}
			_, err := Build(context.Background(), Request{FS: project(map[string]string{
				overlayFile: "resources: [t.yaml]\n", overlayDir + "/t.yaml": "a: b\nc: *canary\n"}), Release: development(), Decrypt: decrypt})
			assert.EqualError(t, err, "rendering "+overlayDir+": "+overlayDir+"/t.yaml:2: is not valid YAML")
		})
	}
}

func FuzzDiagnose(ff *testing.F) {
	f := mutants.New(ff)
	for _, text := range []string{"a: b: c\n", "a: {b\n---\nc: d", "--- x\n", "a:\n  b: c\n   d: e\n---\n", "\x00", "a: \"\\z\"", "- a\nb: c\r\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		line, reason := diagnose(data)
		if lines := strings.Count(string(data), "\n") + 1; line < 0 || line > lines {
			t.Errorf("line %d of %d", line, lines)
		}
		if strings.ContainsAny(reason, "\n\r\x1b") {
			t.Errorf("%q is not one line of text", reason)
		}
		if _, err := checkDocuments(data); err == nil && reason != "" {
			t.Errorf("%q was said of what Kustomize reads", reason)
		}
	})
}
