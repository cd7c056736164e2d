package diff

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Mask says what must not be shown.
type Mask struct {
	// Values are secret values in clear text. A string that contains one is shown
	// as "(masked)", of a string of several lines each line that has a part of one;
	// the same holds for the value in base64, JSON or URL encoding, and for each
	// longer line of a value of several lines. Values of less than 4 bytes and the
	// words true, false and null cannot be masked: they stand everywhere.
	Values []string
}

// Text masks a single text, such as a message about an object.
func (m Mask) Text(s string) string { return newMasker(m.Values).text(s) }

const (
	masked        = "(masked)"
	minValue      = 4 // bytes of a value below which nothing is masked
	minLine       = 8 // bytes of a single line of a value
	minFragment   = 8 // characters of base64 in the midst of a longer text
	secretOnly    = "(secret)"
	secretSame    = "(secret, unchanged)"
	secretChanged = "(secret, changed)"
	secretAdded   = "(secret, added)"
	secretRemoved = "(secret, removed)"
)

// secretFields of a Secret are never shown. Its annotations neither: tools keep
// copies of the whole object there.
var secretFields = [...]string{"data", "stringData", "binaryData"}

// userKeys are the maps whose keys a user chooses; elsewhere a key of letters
// only is a field of the API.
var userKeys = [...]string{"annotations", "labels", "matchLabels", "nodeSelector", "data", "binaryData", "stringData"}

// masker finds values in texts.
type masker struct {
	values []string // all forms of all values
	// mixed are the values that are not letters only: those that field names of
	// the API do not contain by chance, and that can stretch over the syntax of
	// YAML.
	mixed []string
}

func newMasker(values []string) *masker {
	m := &masker{}
	for _, value := range values {
		value = strings.TrimSpace(value)
		if len(value) < minValue || value == "true" || value == "false" || value == "null" {
			continue
		}
		m.values = append(m.values, Forms(value)...)
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= minLine {
				m.values = append(m.values, line)
			}
		}
	}
	slices.Sort(m.values)
	m.values = slices.Compact(m.values)
	for _, value := range m.values {
		if strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) }) {
			m.mixed = append(m.mixed, value)
		}
	}
	return m
}

// Forms are the ways in which a value may be written: as it is, in JSON, in a URL,
// in base64 on its own and, where long enough, in the midst of a longer base64
// text, where its form depends on where it begins.
func Forms(value string) []string {
	quoted, _ := json.Marshal(value) // never fails for a string
	all := []string{value, strings.Trim(string(quoted), `"`), url.QueryEscape(value), url.PathEscape(value),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.URLEncoding.EncodeToString([]byte(value)),
		base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value))}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for offset := range 3 {
			text := encoding.EncodeToString(append(make([]byte, offset), value...))
			// Of each 6 bits: the first that are all the value's, to the last.
			begin, end := (offset*8+5)/6, (offset+len(value))*8/6
			if end-begin >= minFragment {
				all = append(all, text[begin:end])
			}
		}
	}
	return all
}

func contains(text string, values []string) bool {
	return slices.ContainsFunc(values, func(value string) bool { return strings.Contains(text, value) })
}

// text masks a text that a user wrote.
func (m *masker) text(s string) string { return maskLines(s, m.values) }

// apiName masks what is most likely a name of the API.
func (m *masker) apiName(s string) string { return maskLines(s, m.mixed) }

// maskLines replaces each line that has a part of a value in it; neighbouring
// lines become one, so that the number of lines says nothing.
func maskLines(text string, values []string) string {
	if !contains(text, values) {
		return text
	}
	lines := strings.SplitAfter(text, "\n")
	hidden := make([]bool, len(lines))
	for _, value := range values {
		markLines(text, value, lines, hidden)
	}
	var b strings.Builder
	for i, line := range lines {
		switch {
		case !hidden[i]:
			b.WriteString(line)
		case i == 0 || !hidden[i-1]:
			b.WriteString(masked)
			if i < len(lines)-1 {
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

// markLines marks the lines of text that any occurrence of value touches.
// Occurrences are visited in order, so the line they begin in only moves forward.
func markLines(text, value string, lines []string, hidden []bool) {
	line, start := 0, 0 // the line of the last occurrence, and where it starts
	for from := 0; ; from++ {
		at := strings.Index(text[from:], value)
		if at < 0 {
			return
		}
		from += at
		for start+len(lines[line]) <= from {
			start += len(lines[line])
			line++
		}
		for i, position := line, start; i < len(lines) && position < from+len(value); i++ {
			hidden[i] = true
			position += len(lines[i])
		}
	}
}

// show writes a normalized object as masked YAML. other is the same object on the
// other side of the comparison, nil when there is none.
func show(object, other map[string]any, hide *masker, isOld bool) string {
	tree, _ := hide.tree(object, "").(map[string]any)
	for _, key := range [...]string{"apiVersion", "kind"} {
		if name, ok := object[key].(string); ok {
			tree[key] = hide.apiName(name)
		}
	}
	if isSecret(object) {
		for _, field := range secretFields {
			if object[field] != nil {
				tree[field] = hide.states(object[field], other[field], isOld)
			}
		}
		metadata, _ := object["metadata"].(map[string]any)
		otherMetadata, _ := other["metadata"].(map[string]any)
		if shown, ok := tree["metadata"].(map[string]any); ok && metadata["annotations"] != nil {
			shown["annotations"] = hide.states(metadata["annotations"], otherMetadata["annotations"], isOld)
		}
	}
	// Values that stretch over keys, or over several lines of the YAML, are found
	// only now. Those within our own words are not looked for: they were masked.
	spanning := slices.DeleteFunc(slices.Clone(hide.mixed), func(value string) bool {
		return slices.ContainsFunc([]string{masked, secretSame, secretChanged, secretAdded, secretRemoved},
			func(word string) bool { return strings.Contains(word, value) })
	})
	return maskLines(encode(tree), spanning)
}

// states shows of secret data whether it changed: each key, or the whole where it
// is no map. The old side of a changed value says less, so that the two lines
// differ.
func (m *masker) states(value, other any, isOld bool) any {
	if data, ok := value.(map[string]any); ok {
		others, _ := other.(map[string]any)
		out := make(map[string]any, len(data))
		for _, key := range slices.Sorted(maps.Keys(data)) {
			put(out, m.text(key), state(data[key], others[key], isOld))
		}
		return out
	}
	return state(value, other, isOld)
}

func state(value, other any, isOld bool) string {
	switch {
	case reflect.DeepEqual(value, other):
		return secretSame
	case other == nil && isOld:
		return secretRemoved
	case other == nil:
		return secretAdded
	case isOld:
		return secretOnly
	default:
		return secretChanged
	}
}

// tree copies a value with all its texts masked. A Secret within (in a List or a
// template) shows its keys alone.
func (m *masker) tree(value any, parent string) any {
	switch v := value.(type) {
	case string:
		return m.text(v)
	case map[string]any:
		keyName := m.apiName
		if slices.Contains(userKeys[:], parent) {
			keyName = m.text
		}
		secret := isSecret(v)
		out := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if secret && slices.Contains(secretFields[:], key) {
				put(out, key, m.withheld(v[key]))
			} else {
				put(out, keyName(key), m.tree(v[key], key))
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = m.tree(item, parent)
		}
		return out
	case nil, bool:
		return v
	default:
		if contains(fmt.Sprint(v), m.values) {
			return masked
		}
		return v
	}
}

// withheld replaces all that lies below a field of a Secret.
func (m *masker) withheld(value any) any {
	data, ok := value.(map[string]any)
	if !ok {
		return secretOnly
	}
	out := make(map[string]any, len(data))
	for _, key := range slices.Sorted(maps.Keys(data)) {
		put(out, m.text(key), secretOnly)
	}
	return out
}

// put adds an entry under a key that masking may have made equal to another.
func put(fields map[string]any, key string, value any) {
	name := key
	for n := 2; ; n++ {
		if _, taken := fields[name]; !taken {
			fields[name] = value
			return
		}
		name = fmt.Sprintf("%s %d", key, n)
	}
}
