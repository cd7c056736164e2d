package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReachedLinesAreFolded(t *testing.T) {
	var lines table
	r := reached{Environment: "production", Component: "api", Files: []string{"components/api/deployment.yaml"}}
	for i := range 8 {
		r.Changes = append(r.Changes, objectDiff{Object: fmt.Sprintf("ConfigMap shop/c%d\x1b[2J", i), Change: "update", Diff: strings.Repeat("+line\n", 40)})
	}
	reachedLines(&lines, r)
	var text []string
	for _, row := range lines.rows {
		text = append(text, strings.Join(row, " "))
	}
	all := strings.Join(text, "\n")
	assert.Equal(t, maxShownRelease, strings.Count(all, "    +line"))
	assert.Equal(t, 6, strings.Count(all, "    … 10 more lines: -o yaml shows all"), "each object is cut")
	assert.Contains(t, all, "update ConfigMap shop/c7", "the last is named at least")
	assert.Contains(t, all, "    … 40 more lines: -o yaml shows all")
	assert.NotContains(t, all, "\x1b")

	lines = table{}
	reachedLines(&lines, reached{Environment: "production", Component: "api", Files: []string{"f"}, Problem: "the result does not render: no image"})
	assert.Equal(t, []string{"reached: production/api is changed without a promotion by f"}, lines.rows[0])
	assert.Equal(t, []string{"  the result does not render: no image"}, lines.rows[1])
}
