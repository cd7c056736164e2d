package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Figures are what a run of `make e2e` has measured. They are written to
// FiguresFile, and their tables into docs/traffic.md.
type Figures struct {
	Date     string   `json:"date"`
	Machine  string   `json:"machine"`
	Versions []string `json:"versions"`
	Load     string   `json:"load"`
	// Measurements are in the order of the tests.
	Measurements []Measurement `json:"measurements"`
}

// Measurement is one line of the table.
type Measurement struct {
	What     string `json:"what"`
	Requests int    `json:"requests"`
	Lost     int    `json:"lost"`
	Found    string `json:"found"`
	// Control marks what is done wrong on purpose, to see that losses are seen.
	Control bool `json:"control,omitempty"`
}

// Enough is how many requests every claim rests on, at least.
const Enough = 20_000

// Where the figures and their tables are, from the folder of this package.
const (
	FiguresFile = "figures.json"
	DocsFile    = "../docs/traffic.md"

	tableBegin = "<!-- figures: made by `make e2e` -->\n"
	tableEnd   = "<!-- end of figures -->\n"
)

// Table is the part of docs/traffic.md that the figures are.
func (f Figures) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s on %s, with %s. %s\n\n", f.Date, f.Machine, strings.Join(f.Versions, ", "), f.Load)
	f.rows(&b, "| what is done meanwhile | requests | lost | found |", false)
	b.WriteString("\nControls, which do it wrong on purpose: the same measurement sees what is lost then.\n\n")
	f.rows(&b, "| what is done wrong | requests | lost | found |", true)
	return b.String()
}

func (f Figures) rows(b *strings.Builder, head string, control bool) {
	fmt.Fprintf(b, "%s\n| --- | ---: | ---: | --- |\n", head)
	for _, m := range f.Measurements {
		if m.Control == control {
			fmt.Fprintf(b, "| %s | %s | %d | %s |\n", m.What, thousands(m.Requests), m.Lost, m.Found)
		}
	}
}

// thousands writes 20000 as 20,000.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// ReadFigures reads the figures of the last run.
func ReadFigures() (f Figures, err error) {
	data, err := os.ReadFile(FiguresFile)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("reading %s: %w", FiguresFile, err)
	}
	return f, nil
}

// Tabulated is the text of docs/traffic.md with the table of these figures.
func (f Figures) Tabulated(docs string) (string, error) {
	before, rest, begins := strings.Cut(docs, tableBegin)
	_, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		return "", fmt.Errorf("%s has no place for the figures: between %q and %q", DocsFile, tableBegin, tableEnd)
	}
	return before + tableBegin + f.Table() + tableEnd + after, nil
}
