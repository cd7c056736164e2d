package render

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/kyaml/kio"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// viaJSON is the conversion of Kustomize's own output.
func viaJSON(n *yaml.RNode) (*unstructured.Unstructured, error) {
	data, err := n.MarshalJSON()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	err = utiljson.Unmarshal(data, &u.Object)
	return u, err
}

const scalars = `apiVersion: v1
kind: ConfigMap
metadata: {name: x}
a: [1, -1, +1, 01, 0o17, 0x1F, 1_000, 9223372036854775807, 9223372036854775808, 1.5, 1.0, 1e3, 1e-7, -0, -0.0, .5]
b: [true, True, TRUE, yes, on, null, ~, "null", 'true', "1", !!str 1, !!int "1", !!float 1, !!bool "true"]
c: [2001-01-01, 2001-01-01T00:00:00Z, "2001-01-01", 12:30:45, 1.2.3, "", '']
d: {}
e: []
f:
g: |
  text
  text
h: >-
  folded
  text
i: !!binary aGVsbG8=
j: "\u00e9\x01 \t"
`

func TestToObjectEqualsJSON(t *testing.T) {
	nodes, err := kio.FromBytes([]byte(scalars))
	require.NoError(t, err)
	want, err := viaJSON(nodes[0].Copy())
	require.NoError(t, err)
	got, err := toObject(nodes[0])
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got.DeepCopy() // panics on types that JSON does not have
}

// quoteBlocks has block scalars printed in quotes. The long way prints YAML and reads
// it again, and a folded text with indented lines comes back with more line ends.
func quoteBlocks(n *yaml.Node) {
	if n.Style&(yaml.FoldedStyle|yaml.LiteralStyle) != 0 {
		n.Style = n.Style&^(yaml.FoldedStyle|yaml.LiteralStyle) | yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		quoteBlocks(c)
	}
}

// The short way gives what the long way gives, or takes it.
func FuzzToObject(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte(scalars))
	f.Add([]byte("kind: X\n1: a\n"))
	f.Add([]byte("kind: X\na: >-\n\n  b:\n    c: d\n    e: f\n  g: h\n"))
	f.Add([]byte("a: .nan\nb: !!foo c\n? [x]\n: y\n"))
	golden, err := filepath.Glob("testdata/golden/*.yaml")
	require.NoError(f, err)
	for _, g := range golden {
		data, err := os.ReadFile(g)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := checkDocuments(data); err != nil {
			return // never reaches Kustomize
		}
		nodes, err := kio.FromBytes(data)
		if err != nil {
			return
		}
		for _, n := range nodes {
			if n.YNode() == nil || n.YNode().Kind != yaml.MappingNode {
				continue
			}
			quoteBlocks(n.YNode())
			want, wantErr := viaJSON(n.Copy())
			got, gotErr := toObject(n)
			if wantErr != nil {
				continue // then the short way may know better
			}
			require.NoError(t, gotErr)
			require.Equal(t, want, got)
		}
	})
}
