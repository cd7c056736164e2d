package figures

import (
	"fmt"
	"regexp"
	"strings"
)

// A document quotes the figures between comments, which a page does not show. All of
// them, as tables:
//
//	<!-- figures -->
//	<!-- /figures -->
//
// and one of them within a sentence, by scenario, case and measure:
//
//	<!-- figure sync; 100 releases; until applied -->20 ms<!-- /figure -->
//
// A fourth part says what else than its median: `of BASELINE` is that of a baseline,
// `× BASELINE` the ratio to it, and `of` or `×` alone mean the first baseline.
var (
	allOfThem = regexp.MustCompile(`(?s)(<!-- figures -->\n).*?(<!-- /figures -->)`)
	oneOfThem = regexp.MustCompile(`(?s)<!-- figure (.*?) -->.*?<!-- /figure -->`)
)

// Filled is a document in which everything that it quotes is as in the figures. path
// is from the document's folder to the one of the plots, and ends with a slash.
func (f Figures) Filled(document, path string) (string, error) {
	tables := f.Markdown(path)
	var failed error
	document = oneOfThem.ReplaceAllStringFunc(document, func(found string) string {
		name := oneOfThem.FindStringSubmatch(found)[1]
		value, err := f.quoted(name)
		if err != nil {
			failed = err
			return found
		}
		return "<!-- figure " + name + " -->" + value + "<!-- /figure -->"
	})
	document = allOfThem.ReplaceAllStringFunc(document, func(found string) string {
		marks := allOfThem.FindStringSubmatch(found)
		return marks[1] + tables + marks[2]
	})
	return document, failed
}

// quoted is what a comment asks for.
func (f Figures) quoted(name string) (string, error) {
	if strings.Contains(name, "--") {
		return "", fmt.Errorf("the figure %q has two hyphens in its name, which end a comment on some pages", name)
	}
	parts := strings.Split(name, "; ")
	if len(parts) < 3 || len(parts) > 4 {
		return "", fmt.Errorf("the figure %q is not named by scenario; case; measure", name)
	}
	for _, figure := range f.Figures {
		if figure.key() != [3]string{parts[0], parts[1], parts[2]} {
			continue
		}
		if len(parts) == 3 {
			return number(figure.Median, figure.Unit), nil
		}
		what, baseline, _ := strings.Cut(parts[3], " ")
		for _, b := range figure.Baselines {
			switch {
			case baseline != "" && b.Name != baseline:
			case what == "of":
				return number(b.Median, figure.Unit), nil
			case what == "×":
				return times(b.Ratio), nil
			}
		}
	}
	return "", fmt.Errorf("there is no figure %q", name)
}

// Markdown is the table in Markdown, with a plot for each scenario, whose files are
// in the folder that path leads to.
func (f Figures) Markdown(path string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n", strings.ReplaceAll(f.heading(), "\n", "  \n"))
	for _, title := range f.Scenarios {
		its := f.of(title.Scenario)
		if len(its) == 0 {
			continue
		}
		fmt.Fprintf(&out, "\n### %s\n\n![%s](%s%s.svg)\n\n", title.Text, title.Text, path, title.Scenario)
		out.WriteString("| | median | middle half | n | against | its median | × |\n| --- | ---: | ---: | ---: | --- | ---: | ---: |\n")
		for _, figure := range its {
			cells := figure.cells()
			cells[0][0] = figure.name()
			for _, row := range cells {
				fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
			}
		}
	}
	return out.String()
}
