package render

import (
	"cmp"
	"errors"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// What stands in this file is for error messages only: it finds where in a file
// a fault is, and what the parser has to say about it.

// separator is how kio.ByteReader splits documents: by hand, for the sake of
// the comments between them.
var separator = regexp.MustCompile(`\n---.*\n`)

// document is one YAML document of a file.
type document struct {
	text  string
	above int // lines of the file before it
}

// documents splits a file as kio.ByteReader does, which refuses separators that
// anything but a comment follows: fault is the line of one.
func documents(data []byte) (docs []document, fault int) {
	s := strings.ReplaceAll(string(data), "\r\n", "\n")
	start, above := 0, 0
	for _, at := range separator.FindAllStringIndex(s, -1) {
		docs = append(docs, document{s[start : at[0]+1], above})
		above += strings.Count(s[start:at[1]], "\n")
		start = at[1]
		if after := strings.TrimSpace(s[at[0]+len("\n---") : at[1]]); after != "" && after[0] != '#' && fault == 0 {
			fault = above
		}
	}
	return append(docs, document{s[start:], above}), fault
}

// linesAbove is the number of lines before the document of the i-th node that
// kio.ByteReader returns; it leaves out empty documents.
func linesAbove(data []byte, i int) int {
	docs, _ := documents(data)
	for _, d := range docs {
		nodes, _ := readNodes([]byte(d.text))
		if i -= len(nodes); i < 0 {
			return d.above
		}
	}
	return 0
}

// diagnose finds the first line that is not YAML, 0 when it is not known, and
// the parser's reason, which may quote a few words of the file.
func diagnose(data []byte) (line int, reason string) {
	docs, fault := documents(data)
	if fault > 0 {
		return fault, "only a comment may follow --- on its line"
	}
	for _, d := range docs {
		err := parse(d.text)
		if err == nil {
			continue
		}
		line, reason := parserSays(err)
		if line == 0 || strings.HasPrefix(reason, expected) {
			line = cmp.Or(faultLine(d.text, err.Error()), line)
		}
		if line > 0 { // the parser counts carriage returns and the end of the file too
			line = d.above + min(line, 1+strings.Count(strings.TrimSuffix(d.text, "\n"), "\n"))
		}
		return line, reason
	}
	return 0, ""
}

func parse(text string) error {
	var n yaml.Node
	err := yaml.NewDecoder(strings.NewReader(text)).Decode(&n)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

var saysLine = regexp.MustCompile(`^line (\d+): `)

// parserSays takes an error of the parser apart, and makes its text fit for
// one line.
func parserSays(err error) (line int, reason string) {
	reason = strings.TrimPrefix(firstLine(err.Error()), "yaml: ")
	if m := saysLine.FindStringSubmatch(reason); m != nil {
		line, _ = strconv.Atoi(m[1])
		reason = reason[len(m[0]):]
	}
	reason = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, reason)
	const limit = 200
	if len(reason) > limit {
		reason = strings.ToValidUTF8(reason[:limit], "") + "…"
	}
	return line, reason
}

// expected begins the errors whose line is that of the mapping or list around
// the fault, or even the line before. The parser gives no line at all for the
// first one, and for aliases without an anchor.
const expected = "did not find expected "

// faultLine finds the line at which the parser gives up. It says the same of
// every start of the text that reaches the fault; of a shorter one it says
// nothing, or something else. Long texts are not looked at.
func faultLine(text, fault string) int {
	if len(text) > MaxConfig {
		return 0
	}
	var ends []int
	for i := range len(text) {
		if text[i] == '\n' || i == len(text)-1 {
			ends = append(ends, i+1)
		}
	}
	i := sort.Search(len(ends), func(i int) bool {
		err := parse(text[:ends[i]])
		return err != nil && err.Error() == fault
	})
	return min(i+1, len(ends))
}

// notYAML is the refusal of a file that cannot be parsed. Of an encrypted file
// it says nothing that the parser says.
func notYAML(data []byte, sealed bool) (line int, reason string) {
	line, reason = diagnose(data)
	if sealed || reason == "" {
		return line, errNotYAML.Error()
	}
	return line, errNotYAML.Error() + ": " + reason
}
