package mutants

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
)

// longest is how long a mutant gets, unless its seed is longer already: enough for
// what depends on lengths and depths, and little enough to be tried by the hundred.
const longest = 1 << 16

// mutator draws mutants. It knows the other seeds of the target to take parts of.
type mutator struct {
	*rand.Rand
	seeds [][]any
}

// mutate returns the seed with one argument changed, at times several.
func (m mutator) mutate(seed []any) []any {
	mutant := slices.Clone(seed)
	for i, v := range mutant {
		if data, ok := v.([]byte); ok {
			mutant[i] = bytes.Clone(data) // the target may keep it, or write into it
		}
	}
	for {
		i := m.IntN(len(seed))
		mutant[i] = m.value(mutant[i], m.donor(i))
		if m.IntN(3) > 0 {
			return mutant
		}
	}
}

// donor is the same argument of any seed.
func (m mutator) donor(i int) any { return m.seeds[m.IntN(len(m.seeds))][i] }

func (m mutator) value(v, donor any) any {
	switch v := v.(type) {
	case []byte:
		return m.text(v, donor.([]byte))
	case string:
		return string(m.text([]byte(v), []byte(donor.(string))))
	case bool:
		return m.IntN(2) == 0
	}
	if m.IntN(4) == 0 {
		return donor
	}
	number := reflect.New(reflect.TypeOf(v)).Elem()
	switch old := reflect.ValueOf(v); {
	case number.CanInt():
		number.SetInt(m.integer(old.Int()))
	case number.CanUint():
		number.SetUint(uint64(m.integer(int64(old.Uint()))))
	default:
		number.SetFloat(m.pick(0, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, old.Float()*m.NormFloat64()))
	}
	return number.Interface()
}

func (m mutator) pick(of ...float64) float64 { return of[m.IntN(len(of))] }

// integer is near to the old one, near to a bound of some type, or any. What does
// not fit into the argument's type is cut.
func (m mutator) integer(old int64) int64 {
	switch m.IntN(3) {
	case 0:
		return old + int64(m.IntN(5)) - 2
	case 1:
		return int64(uint64(1)<<m.IntN(64)) + int64(m.IntN(3)) - 1
	default:
		return int64(m.Uint64())
	}
}

// operators of a text. Each returns a new text, or one of its arguments unchanged.
var operators = []func(m mutator, text, donor []byte) []byte{
	mutator.flip, mutator.cut, mutator.double, mutator.move, mutator.splice, mutator.insert, mutator.insert,
	mutator.word, mutator.word, mutator.entry, mutator.entry, mutator.line, mutator.line, mutator.indent, mutator.run,
}

func (m mutator) text(text, donor []byte) []byte {
	most := max(longest, len(text))
	for {
		next := operators[m.IntN(len(operators))](m, text, donor)
		text = next[:min(len(next), most)]
		if m.IntN(3) == 0 {
			return bytes.Clone(text)
		}
	}
}

// span draws a part of a text: mostly a short one.
func (m mutator) span(text []byte) (from, to int) {
	from = m.IntN(len(text) + 1)
	length := 1 + m.IntN(16)
	if m.IntN(4) == 0 {
		length = 1 + m.IntN(len(text)+1)
	}
	return from, min(len(text), from+length)
}

// flip changes a byte.
func (m mutator) flip(text, _ []byte) []byte {
	if len(text) == 0 {
		return []byte{byte(m.IntN(256))}
	}
	out := bytes.Clone(text)
	if i := m.IntN(len(out)); m.IntN(2) == 0 {
		out[i] ^= 1 << m.IntN(8)
	} else {
		out[i] = byte(m.IntN(256))
	}
	return out
}

// cut leaves out a part, or everything from there.
func (m mutator) cut(text, _ []byte) []byte {
	from, to := m.span(text)
	if m.IntN(8) == 0 {
		to = len(text)
	}
	return slices.Concat(text[:from], text[to:])
}

// double has a part twice.
func (m mutator) double(text, _ []byte) []byte {
	from, to := m.span(text)
	return slices.Concat(text[:to], text[from:to], text[to:])
}

// move has a part at another place.
func (m mutator) move(text, _ []byte) []byte {
	from, to := m.span(text)
	rest := slices.Concat(text[:from], text[to:])
	at := m.IntN(len(rest) + 1)
	return slices.Concat(rest[:at], text[from:to], rest[at:])
}

// splice goes on as another seed does, or has a part of it.
func (m mutator) splice(text, donor []byte) []byte {
	at, there := m.IntN(len(text)+1), m.IntN(len(donor)+1)
	if m.IntN(2) == 0 {
		return slices.Concat(text[:at], donor[there:])
	}
	from, to := m.span(donor)
	return slices.Concat(text[:at], donor[from:to], text[at:])
}

func (m mutator) insert(text, _ []byte) []byte {
	at := m.IntN(len(text) + 1)
	return slices.Concat(text[:at], m.token(), text[at:])
}

// word puts another word in the place of one.
func (m mutator) word(text, donor []byte) []byte {
	from, to := m.wordOf(text)
	with := m.token()
	switch f, t := m.wordOf(donor); m.IntN(4) {
	case 0:
		with = donor[f:t]
	case 1:
		f, t = m.wordOf(text)
		with = text[f:t]
	}
	return slices.Concat(text[:from], with, text[to:])
}

// wordOf draws a word of a text; an empty one where it has none.
func (m mutator) wordOf(text []byte) (from, to int) {
	part := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
	}
	from = m.IntN(len(text) + 1)
	for from < len(text) && !part(text[from]) {
		from++
	}
	for from > 0 && part(text[from-1]) {
		from--
	}
	for to = from; to < len(text) && part(text[to]); to++ {
	}
	return from, to
}

// entry gives the key of a line another value: of YAML, JSON, dotenv or a header.
func (m mutator) entry(text, donor []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	i := m.IntN(len(lines))
	at := bytes.IndexAny(lines[i], ":=-")
	if at < 0 {
		return text
	}
	value := m.token()
	if m.IntN(2) == 0 {
		others := bytes.SplitAfter(donor, []byte("\n"))
		_, value, _ = bytes.Cut(others[m.IntN(len(others))], []byte(":"))
		value = bytes.TrimSpace(value)
	}
	lines[i] = slices.Concat(lines[i][:at+1], []byte(" "), value, []byte("\n"))
	return slices.Concat(lines...)
}

// line leaves out a line, has it twice or elsewhere, or takes one of another seed.
func (m mutator) line(text, donor []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	i, j := m.IntN(len(lines)), m.IntN(len(lines))
	switch m.IntN(4) {
	case 0:
		lines = slices.Delete(lines, i, i+1)
	case 1:
		lines = slices.Insert(lines, j, lines[i])
	case 2:
		lines[i], lines[j] = lines[j], lines[i]
	default:
		others := bytes.SplitAfter(donor, []byte("\n"))
		lines = slices.Insert(lines, i, others[m.IntN(len(others))])
	}
	return slices.Concat(lines...)
}

// indent moves a line in or out, which in YAML gives it another parent.
func (m mutator) indent(text, _ []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	i := m.IntN(len(lines))
	if m.IntN(2) == 0 {
		lines[i] = slices.Concat([]byte("    ")[:1+m.IntN(4)], lines[i])
	} else {
		lines[i] = bytes.TrimPrefix(lines[i], []byte("  "))
	}
	return slices.Concat(lines...)
}

// run has a token or a part so often that lengths and depths count.
func (m mutator) run(text, _ []byte) []byte {
	what := m.token()
	if m.IntN(2) == 0 {
		from, to := m.span(text)
		what = text[from:to]
	}
	often := 1 << m.IntN(13)
	often = min(often, longest/max(1, len(what)))
	at := m.IntN(len(text) + 1)
	return slices.Concat(text[:at], bytes.Repeat(what, often), text[at:])
}

func (m mutator) token() []byte { return []byte(tokens[m.IntN(len(tokens))]) }

// tokens are what parsers of the formats that are read here take for something else
// than text, or take wrongly.
var tokens = []string{
	// YAML and JSON
	"{", "}", "[", "]", "{}", "[]", "null", "~", "true", `""`, "''", `"`, "'", ":", ": ", ",", "- ", "? ", " #", "\n", "\n\n", "  ", "\t",
	"---\n", "\n---\n", "--- ", "...\n", "%YAML 1.2\n---\n", "&a ", "*a", "a: &a [*a]\n", "<<: *a", "<<: {}", "!!binary ", "!!str ", "!!float ", "!!set ", "!a ", "|\n", ">-\n", "|9",
	`\u0000`, `\ud800`, `\x00`,
	// numbers, times, shares
	"0", "-0", "-1", "1", "100", "101", "1.5", "1e3", "1e999", "0x10", "0o17", "017", "1_000", ".nan", "-.inf", "9007199254740993", "9223372036854775807",
	"9223372036854775808", "18446744073709551616", "99999999999999999999999999999999", "2026-11-21", "10m", "-1h", "99999999h", "blue", "green", "mirror",
	// bytes that are no text, and text that is not what it looks like
	"\x00", "\x01", "\x7f", "\x80", "\xff", "\xc3", "\xed\xa0\x80", "\xef\xbb\xbf", "\r", "\r\n", "\x1b[31m", "\u0085", "\u00a0", "\u200b", "\u202e", "\u2028", "\ufffd", "é", "e\u0301", "İ", "ß", "\U0001f6a2",
	// paths, addresses, revisions
	"..", "../", "/..", "./", "/", "//", "\\", "..\\", "%2e%2e/", "%2f", "%00", "%", ".git", "~1", "~99999999999", "^", "@{", "@", "#", "?", "*", "$", "${A}", "$(A)",
	"https://", "http://a:b@", "file:///", "ssh://-o", "git@", "git::", "::1", "0.0.0.0/0", "::/0", "refs/heads/", "refs/", "sluice/promote/", "sha256:",
	// markup, and the frames of what is signed or encrypted
	"`", "```\n", "<!--", "-->", "</details>", "](", "@a", "-----BEGIN ", "-----END ", "-----\n", "gpgsig ", "\n ", "tree ", "parent ", "ENC[AES256_GCM,data:,iv:,tag:,type:str]", "sops: {}\n", "sops_", "=",
	"PACK", "0000", "0004", "ffff", "\x00\x00\x00\x02", "\xff\xff\xff\xff", "\x78\x9c",
}
