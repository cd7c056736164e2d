package figures

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFilled(t *testing.T) {
	const quoting = `A push takes <!-- figure push; 1 of 10 components; push to applied -->1 h<!-- /figure -->, which is
<!-- figure push; 1 of 10 components; push to applied; × -->?<!-- /figure --> times the
<!-- figure push; 1 of 10 components; push to applied; of git fetch + bare patch --><!-- /figure --> of the least, and
<!-- figure render; all cores; overlays rendered; × kubectl <kustomize> -->?<!-- /figure -->
times a process of kubectl.
`
	filled, err := sample().Filled(quoting, "benchmarks/")
	require.NoError(t, err)
	assert.Equal(t, `A push takes <!-- figure push; 1 of 10 components; push to applied -->22 ms<!-- /figure -->, which is
<!-- figure push; 1 of 10 components; push to applied; × -->1.22<!-- /figure --> times the
<!-- figure push; 1 of 10 components; push to applied; of git fetch + bare patch -->18 ms<!-- /figure --> of the least, and
<!-- figure render; all cores; overlays rendered; × kubectl <kustomize> -->0.006<!-- /figure -->
times a process of kubectl.
`, filled)
	for _, name := range []string{"push", "push; 1 of 10 components; pushes", "push; 1 of 10 components; push to applied; × somebody",
		"push; 1 of 10 components; requests; ×", "push; 1 of 10 components; push to applied; against git", "push; a --b; c"} {
		_, err := sample().Filled("<!-- figure "+name+" -->?<!-- /figure -->", "")
		assert.ErrorContains(t, err, name)
	}
}

func TestFilledWithAllOfThem(t *testing.T) {
	empty := "before\n<!-- figures -->\n<!-- /figures -->\nafter\n"
	filled, err := sample().Filled(empty, "benchmarks/")
	require.NoError(t, err)
	golden(t, "testdata/docs.golden", filled)
	again, err := sample().Filled(filled, "benchmarks/")
	require.NoError(t, err)
	assert.Equal(t, filled, again)
}

// TestDocumentsQuoteTheFigures holds what the documentation says, and the plots, against
// the stored figures.
func TestDocumentsQuoteTheFigures(t *testing.T) {
	const docs = "../../docs"
	f, err := os.Open(docs + "/benchmarks/figures.json")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	stored, err := Read(f)
	require.NoError(t, err)
	assert.Equal(t, "full", stored.Size)
	const remedy = "after a change that is wanted: make bench-docs"
	for document, path := range map[string]string{docs + "/benchmarks.md": "benchmarks/", "../../README.md": "docs/benchmarks/"} {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		assert.Contains(t, string(text), "<!-- figure", document)
		filled, err := stored.Filled(string(text), path)
		require.NoError(t, err, document)
		assert.Equal(t, filled, string(text), remedy)
	}
	plots := stored.Plots()
	for name, drawing := range plots {
		drawn, err := os.ReadFile(filepath.Join(docs, "benchmarks", name+".svg"))
		require.NoError(t, err)
		assert.Equal(t, drawing, string(drawn), remedy)
	}
	drawn, err := filepath.Glob(docs + "/benchmarks/*.svg")
	require.NoError(t, err)
	assert.Len(t, drawn, len(plots), "a plot of nothing that is measured")
}
