package promotion

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/render/diff"
)

func TestCode(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "Fix cart", "`Fix cart`"},
		{"empty", " \n", "(empty)"},
		{"lines", "one\r\n\r\n# two", "`one # two`"},
		{"mention", "thanks @admin, closes #12", "`thanks @admin, closes #12`"},
		{"html", "<img src=x onerror=alert(1)>", "`<img src=x onerror=alert(1)>`"},
		{"backtick", "a ` b", "``a ` b``"},
		{"leaving the span", "``` </details> ```", "```` ``` </details> ``` ````"},
		{"bidirectional override", "a\u202Eb", "`a\\u202Eb`"},
		{"mark", "<!-- sluice:key -->", "`<! -- sluice:key -->`"},
		{"control characters", "a\x1b[31mb\x00", "`a\\u001B[31mb\\u0000`"},
		{"no text", "a\xffb", "`a\uFFFDb`"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, code(tt.in)) })
	}
}

func TestBlock(t *testing.T) {
	assert.Equal(t, "```diff\n+a\n```\n", block("diff", "+a\n\n"))
	assert.Equal(t, "`````diff\n+a: |\n+ ````\n+ </details>\n`````\n", block("diff", "+a: |\n+ ````\n+ </details>\n"))
	assert.Equal(t, "```\na\\u0000\\u2066\tb\n```\n", block("", "a\x00\u2066\tb"))
}

// Links of builds lead to pages only: Argo CD CVE-2025-47933.
func TestAttackLinks(t *testing.T) {
	tests := []struct {
		name, address string
		linked        bool
	}{
		{"https", "https://ci.example.com:8443/runs/8841?attempt=2#log", true},
		{"http", "http://ci.example.com", true},
		{"script", "javascript:alert(1)", false},
		{"data", "data:text/html,x", false},
		{"user name", "https://user:secret@ci.example.com/", false},
		{"closing parenthesis", "https://ci.example.com/a)[x](https://evil.example.com", false},
		{"space", "https://ci.example.com/a b", false},
		{"line", "https://ci.example.com/\n# heading", false},
		{"html", "https://ci.example.com/<b>", false},
		{"issue", "https://git.example.com/shop/api/issues/1", false},
		{"mention", "https://ci.example.com/@admin", false},
		{"long", "https://ci.example.com/" + strings.Repeat("a", 500), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := "run " + code(tt.address)
			if tt.linked {
				want = "[run](" + tt.address + ")"
			}
			assert.Equal(t, want, link("run", tt.address))
		})
	}
}

// TestAttackMarkup puts hostile text everywhere that foreign text can stand in a pull
// request, and looks for what is left of it outside of code. There is no page of our own;
// of one, Argo CD CVE-2025-47933.
func TestAttackMarkup(t *testing.T) {
	attacks := []string{
		"@everyone", "#1", "GH-1", "shop/api#1", "<script>alert(1)</script>", "</summary></details><h1>Approved</h1>",
		"![x](https://evil.example.com/x.png)", "[x](https://evil.example.com)", "https://evil.example.com/ x",
		"\n\n# All gates passed\n", "\n```\n</details>\n@everyone", "`@everyone`", "``` @everyone", "| a | b |\n|---|---|",
		"<!-- hidden -->", "~~~\n@everyone", "evil@example.com", "\u202E@everyone", "<details open>", "&#64;everyone", "\\`@everyone\\`",
	}
	for _, attack := range attacks {
		t.Run(attack, func(t *testing.T) {
			text := Body(poisoned(attack))
			assert.NotContains(t, text, "<!--", "marks cannot be forged, not even in code")
			rest := strings.ToLower(outsideCode(t, text))
			for _, bad := range []string{"everyone", "script", "evil", "approved", "all gates", "hidden", "#1", "gh-1", "|", "open>", "~~~"} {
				assert.NotContains(t, rest, bad)
			}
		})
	}
}

func poisoned(attack string) Input {
	in := sound()
	c := &in.Components[0]
	in.Policy.Gates.Checks = []string{attack}
	b := *c.NewBuild
	b.Source = envrepo.Source{Repository: attack, Commit: attack, Message: attack}
	b.Run = envrepo.Run{ID: attack, URL: attack}
	b.Checks = []envrepo.Check{{Name: attack, Status: attack, Summary: attack, URL: attack}, {Name: "x", Status: "passed", URL: "https://evil.example.com/](javascript:x)"}}
	c.NewBuild = &b
	c.OldBuild = &b
	c.Between = []envrepo.Build{b}
	c.Contracts[0].Missing = []string{attack}
	c.Contracts[1].Required = []string{attack}
	c.Health = HealthReport{Known: true, Digests: []string{c.New}, Message: attack}
	c.OldError = attack
	c.Keyless = []string{attack}
	c.Objects = []diff.Change{
		{ID: attack, Kind: "update", Text: "+" + strings.ReplaceAll(attack, "\n", "\n+") + "\n"},
		{ID: attack, Kind: "update", Text: strings.Repeat("+"+strings.ReplaceAll(attack, "\n", "\n+")+"\n", 50)},
		{ID: attack, Kind: "update", Text: strings.Repeat("+"+attack+strings.Repeat("x", 1000)+"\n", 250)},
	}
	return in
}

// outsideCode removes code spans, fenced blocks and <code> elements as a
// CommonMark reader finds them, and fails on one that does not end.
func outsideCode(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	fence := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimRight(line, "\n")
		if fence != "" {
			if strings.Trim(trimmed, "`") == "" && len(trimmed) >= len(fence) {
				fence = ""
			}
			continue
		}
		if run := longestPrefix(trimmed); run >= 3 && !strings.Contains(trimmed[run:], "`") {
			fence = trimmed[:run]
			continue
		}
		out.WriteString(outsideSpans(t, line))
	}
	require.Empty(t, fence, "a fenced block does not end")
	return out.String()
}

func longestPrefix(line string) int {
	n := 0
	for n < len(line) && line[n] == '`' {
		n++
	}
	return n
}

func outsideSpans(t *testing.T, line string) string {
	t.Helper()
	var out strings.Builder
	for line != "" {
		if rest, ok := strings.CutPrefix(line, "<code>"); ok {
			inner, after, ok := strings.Cut(rest, "</code>")
			require.True(t, ok, "a <code> does not end")
			require.NotContains(t, inner, "<")
			line = after
			continue
		}
		run := longestPrefix(line)
		if run == 0 {
			out.WriteByte(line[0])
			line = line[1:]
			continue
		}
		end := closing(line[run:], run)
		require.GreaterOrEqual(t, end, 0, "a code span does not end: %q", line)
		line = line[run+end+run:]
	}
	return out.String()
}

// closing finds a run of exactly n backticks.
func closing(text string, n int) int {
	for i := 0; i < len(text); {
		run := longestPrefix(text[i:])
		if run == n {
			return i
		}
		i += max(run, 1)
	}
	return -1
}

func FuzzCode(ff *testing.F) {
	f := mutants.New(ff)
	for _, seed := range []string{"", "a", "`", "``a`", "a\nb", "@x #1", "\u202E", "\xff", "</details>", "\u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		span := code(text)
		assert.NotContains(t, span, "<!--")
		if span == "(empty)" {
			return
		}
		assert.Empty(t, outsideSpans(t, span), "all of it is one code span")
		for _, r := range span {
			assert.False(t, unicode.IsControl(r) || unicode.Is(unicode.Cf, r), "%U", r)
		}
		fenced := block("", text)
		assert.Empty(t, outsideCode(t, fenced), "all of it is one block")
	})
}
