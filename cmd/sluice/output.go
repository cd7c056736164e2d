package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	terminal "golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// table collects rows for a person; columns are aligned when it is written.
type table struct {
	rows [][]string // of cells; one cell is a line that takes no part in that
}

func (t *table) header(cells ...string) { t.row(cells...) }

func (t *table) row(cells ...string) {
	for i, c := range cells {
		c = printable(c)
		if c == "" {
			c = "-"
		}
		cells[i] = strings.NewReplacer("\n", " ", "\t", " ").Replace(c)
	}
	t.rows = append(t.rows, cells)
}

// line adds text that takes no part in the alignment.
func (t *table) line(s string) { t.rows = append(t.rows, []string{s}) }

// columnGap is what stands between two columns.
const columnGap = 3

// write writes the rows. Those that are wider than width are cut, 0 is as wide as
// they are; lines never are, as they hold messages and commands.
func (t *table) write(w io.Writer, width int) error {
	limits := t.limits(width)
	tw := tabwriter.NewWriter(w, 0, 8, columnGap, ' ', 0)
	for _, cells := range t.rows {
		if len(cells) > 1 {
			cells = slices.Clone(cells)
			for i := range cells {
				if width > 0 {
					cells[i] = cut(cells[i], limits[i])
				}
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// limits are the widths of the columns with which the rows fit: the widest is
// narrowed first. Those as narrow as a name, a build or a time are never cut: half
// of one is worth nothing.
func (t *table) limits(width int) []int {
	const least, name = 6, 16
	var limits []int
	for _, cells := range t.rows {
		for i, c := range cells {
			if len(cells) == 1 {
				break
			}
			if i == len(limits) {
				limits = append(limits, 0)
			}
			limits[i] = max(limits[i], utf8.RuneCountInString(c))
		}
	}
	total := columnGap * (len(limits) - 1)
	for _, n := range limits {
		total += n
	}
	natural := slices.Clone(limits)
	for ; total > width; total-- {
		widest := -1
		for i, n := range limits {
			if natural[i] > name && n > least && (widest < 0 || n >= limits[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		limits[widest]--
	}
	return limits
}

// width is how wide a table may be: as wide as the terminal, and of any width where
// there is none, or where -o wide asks for all.
func (a *app) width() int {
	f, ok := a.Stdout.(*os.File)
	if !ok || a.output == "wide" {
		return 0
	}
	width, _, err := terminal.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// print writes v in the format of -o; as a table by default.
func (a *app) print(v any, fill func(*table)) error { return a.printAs("table", v, fill) }

// printAs is print with another default format.
func (a *app) printAs(format string, v any, fill func(*table)) error {
	if a.output != "" {
		format = a.output
	}
	switch format {
	case "table", "wide":
		var t table
		fill(&t)
		return t.write(a.Stdout, a.width())
	case "yaml":
		out, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("writing YAML: %w", err)
		}
		_, err = a.Stdout.Write(out)
		return err
	case "json":
		enc := json.NewEncoder(a.Stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	default:
		return fmt.Errorf("unknown output format %q", format) // checkFlags has refused it before
	}
}

// note writes a line about what happened to standard error, so that standard
// output stays what scripts read.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.Stderr, printable(fmt.Sprintf(format, args...)))
}

// say writes a line of the command's own answer.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.Stdout, printable(fmt.Sprintf(format, args...)))
}
