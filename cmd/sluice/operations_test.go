package main

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// TestOperationsPageIsComplete: docs/operations.md says what to do about every reason,
// Event, metric and alert that there is, and about no other.
func TestOperationsPageIsComplete(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	reasons := slices.Concat(reasonsOf(t, "../../api/v1alpha1/release.go"), reasonsOf(t, "../../reconciler/status.go"))
	require.Greater(t, len(reasons), 20)
	_, registry := sampled(t)
	text, err := os.ReadFile(monitoring + "rules.yaml")
	require.NoError(t, err)
	var rules alertGroups
	require.NoError(t, yaml.UnmarshalStrict(text, &rules))
	var alerts []string
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts = append(alerts, r.Alert)
		}
	}
	for heading, want := range map[string][]string{
		"Reasons": reasons,
		"Events":  append(reasonsOf(t, "../../reconciler/events/events.go"), "Ready", "Paused", "Removed"),
		"Metrics": slices.Collect(maps.Keys(families(t, registry))),
		"Alerts":  alerts,
	} {
		assert.ElementsMatch(t, want, rowsOf(t, string(page), heading), heading)
	}
}

// TestEventsReferenceIsComplete: docs/reference/events.md has the Events that tell of
// something good, the one of the repository, and those of reasons as one.
func TestEventsReferenceIsComplete(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/reference/events.md")
	require.NoError(t, err)
	var rows []string
	for _, row := range regexp.MustCompile(`(?m)^\| (.+?) \| (Normal|Warning) \| .+ \| .+ \|$`).FindAllStringSubmatch(string(page), -1) {
		rows = append(rows, row[2]+" "+strings.Trim(row[1], "`"))
	}
	want := []string{"Warning " + reconciler.ReasonCommitRefused, "Warning the reason of condition Ready"}
	for _, reason := range append(reasonsOf(t, "../../reconciler/events/events.go"), v1alpha1.ReasonReady, v1alpha1.ReasonPaused, v1alpha1.ReasonRemoved) {
		want = append(want, "Normal "+reason)
	}
	assert.ElementsMatch(t, want, rows)
}

// rowsOf are the names that begin the rows of the table below a heading. Each says
// something.
func rowsOf(t *testing.T, page, heading string) (names []string) {
	t.Helper()
	_, section, found := strings.Cut(page, "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\| ([^|]+) \\|$").FindAllStringSubmatch(section, -1) {
		assert.NotEmpty(t, strings.TrimSpace(row[2]), row[1])
		for _, name := range strings.Split(row[1], ", ") {
			names = append(names, strings.Trim(name, "`"))
		}
	}
	return names
}

// reasonsOf are the values of a file's constants whose names begin with reason.
func reasonsOf(t *testing.T, file string) (reasons []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(strings.ToLower(spec.Names[0].Name), "reason") || len(spec.Values) != 1 {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			reasons = append(reasons, constant.StringVal(constant.MakeFromLiteral(literal.Value, token.STRING, 0)))
		}
		return true
	})
	return reasons
}
