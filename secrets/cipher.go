package secrets

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"go.yaml.in/yaml/v3"
)

// recordingCipher is one operation's cipher (aes.Cipher is not safe for
// concurrent use). It remembers each decrypted value, and where decryption
// failed, so that no error text of SOPS, which may quote plaintext, is needed.
type recordingCipher struct {
	aes    aes.Cipher
	values []string
	seen   map[plainValue][]string // ciphertext by what it stands for; nil: not kept

	field    string // name path of the value last tried
	notPlain bool   // that value is not ciphertext
}

var errCipher = errors.New("value cannot be decrypted")

// Decrypt implements sops.Cipher. The context is the value's path in the file,
// its names joined and ended by colons.
func (c *recordingCipher) Decrypt(ciphertext string, key []byte, context string) (any, error) {
	c.field = oneLine(strings.ReplaceAll(strings.TrimSuffix(context, ":"), ":", "."))
	c.notPlain = ciphertext != "" && !isCiphertext(ciphertext)
	v, err := c.aes.Decrypt(ciphertext, key, context)
	if err != nil {
		return nil, errCipher
	}
	if p, ok := plainValueOf(v, context); ok && c.seen != nil {
		c.seen[p] = append(c.seen[p], ciphertext)
	}
	switch v := v.(type) {
	case string:
		c.values = append(c.values, v)
	case []byte:
		c.values = append(c.values, string(v))
	case int:
		c.values = append(c.values, strconv.Itoa(v))
	case float64:
		c.values = append(c.values, strconv.FormatFloat(v, 'f', -1, 64))
	}
	return v, nil
}

// Encrypt implements sops.Cipher. A value that was decrypted in the same place
// gets the ciphertext that it had, each of those once.
func (c *recordingCipher) Encrypt(plaintext any, key []byte, context string) (string, error) {
	p, ok := plainValueOf(plaintext, context)
	if had := c.seen[p]; ok && len(had) > 0 {
		c.seen[p] = had[1:]
		return had[0], nil
	}
	return c.aes.Encrypt(plaintext, key, context)
}

// again is a cipher that encrypts what this one decrypted.
func (c *recordingCipher) again() *recordingCipher {
	// The cipher of SOPS keeps nonces by value and place: two equal items of a
	// list would get the same one.
	return &recordingCipher{aes: aes.NewCipher(), seen: maps.Clone(c.seen)}
}

// plainValue is a value in its place. Numbers are compared as they are written: an
// editor shows 1.0 as 1.
type plainValue struct{ kind, text, context string }

func plainValueOf(v any, context string) (p plainValue, ok bool) {
	p.context = context
	switch v := v.(type) {
	case string:
		p.kind, p.text = "str", v
	case int:
		p.kind, p.text = "number", strconv.Itoa(v)
	case float64:
		p.kind, p.text = "number", strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		p.kind, p.text = "bool", strconv.FormatBool(v)
	case time.Time:
		p.kind, p.text = "time", v.Format(time.RFC3339Nano)
	case sops.Comment:
		p.kind, p.text = "comment", v.Value
	default:
		return p, false
	}
	return p, true
}

// failure is the error of the value last tried.
func (c *recordingCipher) failure(path string) error {
	if c.notPlain {
		return &FormatError{File: path, Field: c.field, Reason: "the value is not encrypted although the file says it is"}
	}
	return &MACError{File: path, Field: c.field}
}

var _ sops.Cipher = (*recordingCipher)(nil)

// maskable returns the values that may be searched for in other text, in each
// form in which a plaintext file or an object made of it shows them, longest
// first (so that a value is masked before a part of it is).
func maskable(values []string) []string {
	var out []string
	for _, v := range values {
		forms := []string{v, strings.TrimSpace(v)}
		if strings.Contains(v, "\n") {
			forms = append(forms, strings.ReplaceAll(v, "\n", `\n`)) // dotenv writes it so
		}
		for _, f := range forms {
			if !trivial(f) {
				out = append(out, f)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(out)
}

// maxInner bounds the decrypted binary files that are looked into, in bytes.
const maxInner = 256 << 10

// innerValues are the values inside a binary file that was encrypted whole: of a
// JSON patch what it puts in, of other YAML or JSON every text, of lines NAME=value
// what stands behind the sign. Whoever reads the file takes them out one by one.
func innerValues(data string) (out []string) {
	if len(data) > maxInner {
		return nil
	}
	for line := range strings.Lines(data) {
		if _, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out = append(out, strings.TrimSpace(value))
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(data))
	for {
		var doc yaml.Node
		if dec.Decode(&doc) != nil {
			return out
		}
		for _, root := range doc.Content {
			if root.Kind == yaml.SequenceNode && len(root.Content) > 0 && lookup(root.Content[0], "op") != nil {
				for _, operation := range root.Content {
					out = appendTexts(out, lookup(operation, "value"))
				}
			} else if root.Kind != yaml.ScalarNode {
				out = appendTexts(out, root)
			}
		}
	}
}

// appendTexts adds the scalars below a node. Aliases are not followed: what they
// stand for is there once already.
func appendTexts(out []string, n *yaml.Node) []string {
	switch {
	case n == nil:
	case n.Kind == yaml.ScalarNode:
		out = append(out, n.Value)
	case n.Kind == yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			out = appendTexts(out, n.Content[i])
		}
	default:
		for _, item := range n.Content {
			out = appendTexts(out, item)
		}
	}
	return out
}

// trivial reports whether a value is so common that masking it would hide
// ordinary text (ports, replica counts, switches) and protect nothing.
func trivial(v string) bool {
	if len(v) < 4 {
		return true
	}
	switch strings.ToLower(v) {
	case "true", "false", "null", "none":
		return true
	}
	return len(v) < 6 && strings.Trim(v, "0123456789.-+") == ""
}
