package github

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-github/v60/github"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/promotion"
)

func TestReason(t *testing.T) {
	for _, reason := range []string{
		"superseded by #7", "", "with `code` in it", "`", "``a`", " two  blanks ", "a\nb", "<!-- sluice:closed -->", "@everyone *now*",
	} {
		text := reasonText(reason)
		key, body, ok := promotion.SplitComment(text)
		require.True(t, ok)
		assert.Equal(t, reasonKey, key)
		assert.Equal(t, printable(reason), readReason(body), "%q", text)
	}
	assert.Empty(t, readReason("Open: `x`"))
	assert.Equal(t, "plain", readReason("Closed: plain"))
	assert.Equal(t, "once", readReason("Closed: `once`\nmore"))
}

func TestComponents(t *testing.T) {
	text := withComponents("Evidence.\n", []string{"web", "api", "web"})
	assert.Equal(t, "Evidence.\n\n<!-- sluice:components api,web -->", text)
	body, components := splitComponents(text)
	assert.Equal(t, "Evidence.\n", body)
	assert.Equal(t, []string{"api", "web"}, components)
	body, _ = splitComponents(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n")
	assert.Equal(t, "Evidence.\n", body, "edited with a browser")

	for _, text := range []string{
		"Evidence.\n", "", "<!-- sluice:components api -->", "x\n<!-- sluice:components API -->", "x\n<!-- sluice:components  -->",
		"x\n<!-- sluice:components api", "x\n<!-- sluice:components api --> and more", "x\n<!-- sluice:components all -->",
		"x\n<!-- sluice:components api/../../main -->", "x\n<!-- sluice:components " + strings.Repeat("a,", maxComponents) + "a -->",
	} {
		body, components := splitComponents(text)
		assert.Equal(t, text, body)
		assert.Empty(t, components)
	}
	long := withComponents(strings.Repeat("é", maxText), []string{"api"})
	assert.LessOrEqual(t, utf8.RuneCountInString(long), maxText)
	_, components = splitComponents(long)
	assert.Equal(t, []string{"api"}, components, "a long body does not lose them")
}

func TestSplit(t *testing.T) {
	for text, want := range map[string]string{
		"<!-- sluice:live -->\nText":           "live",
		"<!-- sluice:live/staging -->\r\nText": "live/staging",
		"<!-- sluice:live --> ":                "live",
		"> <!-- sluice:live -->":               "",
		"Text\n<!-- sluice:live -->":           "",
		"<!-- sluice:live -->Text":             "",
		"<!-- sluice:a b -->":                  "",
		"<!-- sluice: -->":                     "",
	} {
		key, _, ok := promotion.SplitComment(text)
		assert.Equal(t, want, key, text)
		assert.Equal(t, want != "", ok, text)
	}
}

// Whatever a body, a comment or a reason says, it comes back as it was written, and
// reading it finds no names that cannot be.
func FuzzText(ff *testing.F) {
	f := mutants.New(ff)
	for _, seed := range []string{"", "Evidence.\n", "a\r\nb", "a\r\r\nb", "<!-- sluice:closed -->\nClosed: `x`", "\n<!-- sluice:components api,web -->", "``` ` ```", "é\x00\u202e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if line := printable(text); unspan(span(line)) != line {
			t.Errorf("span(%q) is read as %q", line, unspan(span(line)))
		}
		if key, body, ok := promotion.SplitComment(mark("live", text)); utf8.RuneCountInString(text) < 1000 && (!ok || key != "live" || body != normal(text)) {
			t.Errorf("the comment %q is read as %q", text, body)
		}
		_, components := splitComponents(text)
		for _, name := range components {
			if _, _, ok := promotion.ParseBranch(promotion.BranchName("any", name)); !ok {
				t.Errorf("component %q", name)
			}
		}
		if _, got := splitComponents(withComponents(text, []string{"web", "api"})); !slices.Equal(got, []string{"api", "web"}) {
			t.Errorf("with the text %q the components are %q", text, got)
		}
		if line := printable(text); utf8.RuneCountInString(line) > 500 || strings.ContainsAny(line, "\n\r\x1b") {
			t.Errorf("printable(%q) = %q", text, line)
		}
	})
}

// Whatever a forge answers, a pull request is of this repository's promotion
// branches or it is none, and reading it ends well.
func FuzzPullRequest(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte(`{"number":1,"state":"open","head":{"ref":"sluice/promote/staging/api","sha":"1","repo":{"id":1}},"base":{"ref":"main","repo":{"id":1}}}`))
	f.Add([]byte(`{"number":2,"merged_at":"2026-01-01T00:00:00Z","head":{"ref":"sluice/promote/staging/all","repo":{"id":1}},"base":{"repo":{"id":1}},"body":"x\n<!-- sluice:components api -->"}`))
	f.Add([]byte(`{"head":{"ref":"sluice/promote/staging/api","repo":null},"base":null,"labels":[{}],"user":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p github.PullRequest
		if json.Unmarshal(data, &p) != nil {
			return
		}
		got, ok := (&Forge{}).convert(&p)
		if !ok {
			return
		}
		environment, _, promotes := promotion.ParseBranch(got.Branch)
		if !promotes || environment != got.Environment {
			t.Errorf("%+v is taken for a promotion", got)
		}
		if p.GetHead().GetRepo().GetID() != p.GetBase().GetRepo().GetID() || p.GetHead().GetRepo().GetID() == 0 {
			t.Errorf("%+v is a fork's", got)
		}
	})
}
