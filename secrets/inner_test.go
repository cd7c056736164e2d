package secrets

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// Kustomize takes single values out of files that were encrypted whole.
func TestValuesInsideOfBinaryFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		data string
		want []string
	}{
		"a JSON patch":     {`[{"op": "add", "path": "/data/token", "value": {"a": "canary-one", "b": ["canary-two"]}}]`, []string{"canary-one", "canary-two"}},
		"a YAML patch":     {"- op: replace\n  path: /data/token\n  value: canary-one\n", []string{"canary-one"}},
		"a manifest":       {"kind: Secret\ndata: {a: canary-one}\n---\nb: canary-two\n", []string{"Secret", "canary-one", "canary-two"}},
		"dotenv":           {"# x\nA=canary-one\nB = canary=two\n", []string{"canary-one", "canary=two"}},
		"a token":          {"canary-one\n", nil},
		"broken YAML":      {"a: canary-one\nb: c: d\n", nil},
		"an alias bomb":    {"a: &a [canary-one]\nb: &b [*a, *a]\nc: [*b, *b]\n", []string{"canary-one"}},
		"a self-reference": {"a: &a {b: *a, c: canary-one}\n", []string{"canary-one"}},
	} {
		assert.Equal(t, tt.want, innerValues(tt.data), name)
	}
	o, err := keysOf(t, "development").Open("opaque.env", fixture(t, "sops", "opaque.env"))
	require.NoError(t, err)
	assert.Contains(t, o.Values, "canary-token-8fd2")
}

// Whoever knows the public key decides what is inside: nothing panics or takes long, and
// a plain value behind a sign is found whatever stands around it.
func FuzzInnerValues(ff *testing.F) {
	f := mutants.New(ff)
	for _, data := range []string{"- {op: add, path: /a, value: [b, &c d, *c]}\n", "a: &a {b: *a}\n---\n- - - !!binary eA==\n", "{\"op\": [", "? {a: b}\n: c\n", "\tA = b = c"} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data string) {
		if len(data) > maxInner {
			require.Nil(t, innerValues(data))
			return
		}
		size := 0
		for _, value := range innerValues(data) {
			size += len(value)
		}
		require.LessOrEqual(t, size, 8*len(data), "nothing is multiplied")
		if !strings.Contains(data, "\n") {
			require.Contains(t, innerValues("NAME=canary-one\n"+data), "canary-one")
		}
	})
}
