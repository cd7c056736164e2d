package main

import (
	"io"
	"strings"
	"unicode/utf8"
)

// paint colours texts for people; the zero value leaves them as they are.
type paint struct{ on bool }

// painter is the paint for what is written to w.
func (a *app) painter(w io.Writer) paint { return paint{a.colour(w)} }

func (p paint) with(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) red(s string) string    { return p.with("31", s) }
func (p paint) green(s string) string  { return p.with("32", s) }
func (p paint) yellow(s string) string { return p.with("33", s) }
func (p paint) dim(s string) string    { return p.with("2", s) }
func (p paint) bold(s string) string   { return p.with("1", s) }

// wrapped breaks a text into lines of at most width columns at its spaces; 0 breaks
// nothing. A word that is wider stands alone: half a digest or URL is worth nothing.
func wrapped(text string, width int) []string {
	var lines []string
	for _, paragraph := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		line, n := "", 0
		for _, word := range strings.Fields(paragraph) {
			w := utf8.RuneCountInString(word)
			switch {
			case n == 0:
				line, n = word, w
			case width > 0 && n+1+w > width:
				lines = append(lines, line)
				line, n = word, w
			default:
				line, n = line+" "+word, n+1+w
			}
		}
		lines = append(lines, line)
	}
	return lines
}
