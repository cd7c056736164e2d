package secrets

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
