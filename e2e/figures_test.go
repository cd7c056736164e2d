//go:build !e2e

package e2e

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheTableIsThatOfTheFigures keeps docs/traffic.md and the figures in step:
// `make e2e` writes both.
func TestTheTableIsThatOfTheFigures(t *testing.T) {
	figures, err := ReadFigures()
	require.NoError(t, err)
	docs, err := os.ReadFile(DocsFile)
	require.NoError(t, err)
	want, err := figures.Tabulated(string(docs))
	require.NoError(t, err)
	require.Equal(t, want, string(docs), "the table of docs/traffic.md is not that of e2e/figures.json")
}

// TestTheFiguresHoldTheClaims: what stands in the documentation was lossless, of
// enough requests, and measured by something that sees losses.
func TestTheFiguresHoldTheClaims(t *testing.T) {
	figures, err := ReadFigures()
	require.NoError(t, err)
	controls := 0
	for _, m := range figures.Measurements {
		if m.Control {
			controls++
			assert.Positive(t, m.Lost, m.What)
			continue
		}
		assert.Zero(t, m.Lost, m.What)
		assert.GreaterOrEqual(t, m.Requests, Enough, m.What)
	}
	assert.GreaterOrEqual(t, controls, 2)
	assert.GreaterOrEqual(t, len(figures.Measurements)-controls, 10)
}
