package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"
)

// table collects rows for a person; columns are aligned when it is written.
type table struct {
	rows []string
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
	t.rows = append(t.rows, strings.Join(cells, "\t"))
}

// line adds text that takes no part in the alignment.
func (t *table) line(s string) { t.rows = append(t.rows, s) }

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, r := range t.rows {
		fmt.Fprintln(tw, r)
	}
	return tw.Flush()
}

// print writes v in the format of -o; as a table by default.
func (a *app) print(v any, fill func(*table)) error { return a.printAs("table", v, fill) }

// printAs is print with another default format.
func (a *app) printAs(format string, v any, fill func(*table)) error {
	if a.output != "" {
		format = a.output
	}
	switch format {
	case "table":
		var t table
		fill(&t)
		return t.write(a.Stdout)
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
