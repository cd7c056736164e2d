package sluice_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// precedents are the vulnerabilities of peers whose classes Sluice must not have.
var precedents = strings.Fields(`
	CVE-2021-41254 CVE-2022-24348 CVE-2022-24817 CVE-2022-24877 CVE-2022-24878 CVE-2022-24904 CVE-2022-31016 CVE-2022-31036
	CVE-2022-39272 CVE-2023-22736 CVE-2023-49569 CVE-2024-31216 CVE-2024-40634 CVE-2025-21613 CVE-2025-23216 CVE-2025-23390
	CVE-2025-47933 CVE-2025-59531 CVE-2026-24748 CVE-2026-27111 CVE-2026-32828 CVE-2026-41050 CVE-2026-41506 CVE-2026-42880
	CVE-2026-44935 CVE-2026-44937 CVE-2026-45737 CVE-2026-71556`)

var (
	cveFormat  = regexp.MustCompile(`CVE-\d{4}-\d+`)
	testFormat = regexp.MustCompile("`(Test\\w+)`")
)

// TestSecurityPage holds docs/security.md against the tests that it names: each is
// there, those of attacks name the precedents of their row, and none is left out.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	require.NoError(t, err)
	comments := testComments(t)
	named := map[string]bool{}
	var covered []string
	for line := range strings.Lines(string(page)) {
		var said []string
		for _, match := range testFormat.FindAllStringSubmatch(line, -1) {
			comment, exists := comments[match[1]]
			assert.True(t, exists, "docs/security.md names %s, which is no test", match[1])
			named[match[1]] = true
			said = append(said, cveFormat.FindAllString(comment, -1)...)
		}
		for _, cve := range cveFormat.FindAllString(line, -1) {
			assert.Contains(t, said, cve, "no test of this row names it: %.60s", line)
			covered = append(covered, cve)
		}
	}
	assert.ElementsMatch(t, precedents, slices.Compact(slices.Sorted(slices.Values(covered))))
	for name, comment := range comments {
		if strings.HasPrefix(name, "TestAttack") {
			assert.True(t, named[name], "docs/security.md does not name %s", name)
			assert.Regexp(t, cveFormat, comment, "%s names no precedent", name)
		}
	}
}

// testComments are the tests of the module, with their comments.
func testComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	require.NoError(t, filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "bin" || d.Name() == "dev" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
				comments[f.Name.Name] = f.Doc.Text()
			}
		}
		return nil
	}))
	return comments
}
