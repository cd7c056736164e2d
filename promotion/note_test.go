package promotion

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/internal/mutants"
)

func TestNote(t *testing.T) {
	n := Note{
		Components: []string{"api", "web"}, Reason: "ends --> here", Landed: strings.Repeat("a", 40), Head: strings.Repeat("b", 40),
	}
	for _, body := range []string{"", "Evidence.\n", "No end of line", "\n<!-- sluice:pull {} -->\n"} {
		text := n.Append(body)
		assert.Equal(t, 1, strings.Count(text[len(body):], "-->"), "the note ends where it ends")
		for _, form := range []string{text, strings.TrimSpace(text), text + "\n\n"} {
			if strings.TrimSpace(form) == form && strings.TrimLeft(text, "\n ") != text {
				continue // the body itself was trimmed
			}
			got, note := SplitNote(form)
			assert.Equal(t, body, got)
			assert.Equal(t, n, note)
		}
	}
	got, note := SplitNote("Evidence.\r\n" + strings.ReplaceAll(n.Append(""), "\n", "\r\n"))
	assert.Equal(t, "Evidence.\n", got)
	assert.Equal(t, n, note)
}

func TestNoteOfStrangers(t *testing.T) {
	for name, text := range map[string]string{
		"none":                  "Evidence.\n",
		"no JSON":               "x\n<!-- sluice:pull { -->\n",
		"text after it":         Note{Reason: "x"}.Append("x") + "and more",
		"a name that is none":   "x\n<!-- sluice:pull {\"components\":[\"../etc\"]} -->\n",
		"a revision that isn't": "x\n<!-- sluice:pull {\"landed\":\"main\"} -->\n",
		"longer than is read":   Note{Reason: strings.Repeat("x", MaxNote)}.Append("x"),
	} {
		body, n := SplitNote(text)
		assert.Equal(t, text, body, name)
		assert.Equal(t, Note{}, n, name)
	}
}

func TestMarkComment(t *testing.T) {
	text := MarkComment("live/production", "It is live.\n")
	assert.Equal(t, "<!-- sluice:live/production -->\nIt is live.\n", text)
	key, body, ok := SplitComment(strings.ReplaceAll(text, "\n", "\r\n"))
	assert.True(t, ok)
	assert.Equal(t, "live/production", key)
	assert.Equal(t, "It is live.\n", body)
	for _, text := range []string{"", "It is live.\n", "> " + text, "<!-- sluice: -->\n", "<!-- sluice:a b -->\n", "<!-- sluice:pull {} -->", "<!-- sluice:a"} {
		_, _, ok := SplitComment(text)
		assert.False(t, ok, text)
	}
}

func TestClosingComment(t *testing.T) {
	assert.Equal(t, "Closed by Sluice: `overtaken by @everyone #1`\n", ClosingComment("overtaken by\n@everyone #1"))
}

func FuzzSplitNote(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("Evidence.\n", "overtaken", "api")
	f.Add("<!-- sluice:pull {} -->", "-->", "web")
	f.Fuzz(func(t *testing.T, body, reason, component string) {
		SplitNote(body)
		n := Note{Reason: OneLine(reason, maxReason), Components: []string{component}}
		if !n.valid() || strings.Contains(body, "\r") {
			return
		}
		got, note := SplitNote(n.Append(body))
		assert.Equal(t, body, got)
		assert.Equal(t, n, note)
	})
}
