// Package leakscan finds secret values in whatever a program has left: its output,
// its files, the objects that it wrote. Call Values.Add for each value, then Find on
// everything that must not have one.
package leakscan

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Values are what is looked for. The zero value looks for nothing.
type Values struct {
	needles []needle
	known   map[string]bool
}

// needle is one way to write a value.
type needle struct {
	text []byte
	form string
}

// Add adds a value and parts of it that would be too much to tell as well. Each is
// looked for as it is, in hex and base32, quoted as JSON, Go, HTML and URLs do, and
// inside of base64, gzip and zlib; the value also as a digest without a salt, by
// which a short one can be guessed. Parts must be long enough not to occur by chance.
func (v *Values) Add(value string, parts ...string) {
	sha, old, older := sha256.Sum256([]byte(value)), sha1.Sum([]byte(value)), md5.Sum([]byte(value))
	for form, digest := range map[string][]byte{"SHA-256": sha[:], "SHA-1": old[:], "MD5": older[:]} {
		v.add(hex.EncodeToString(digest), form)
		v.add(base64.StdEncoding.EncodeToString(digest), form)
	}
	for i, text := range append([]string{value}, parts...) {
		form := "the value"
		if i > 0 {
			form = "a part"
		}
		quoted, _ := json.Marshal(text) // a string always can be
		for _, encoded := range []struct{ how, text string }{
			{"", text}, {" in JSON", strings.Trim(string(quoted), `"`)}, {" in Go", strings.Trim(strconv.Quote(text), `"`)},
			{" in a query", url.QueryEscape(text)}, {" in a path", url.PathEscape(text)}, {" in HTML", html.EscapeString(text)},
			{" in hex", hex.EncodeToString([]byte(text))}, {" in upper case hex", strings.ToUpper(hex.EncodeToString([]byte(text)))},
			{" in base32", strings.TrimRight(base32.StdEncoding.EncodeToString([]byte(text)), "=")},
		} {
			v.add(encoded.text, form+encoded.how)
		}
	}
}

func (v *Values) add(text, form string) {
	if v.known == nil {
		v.known = map[string]bool{}
	}
	if !v.known[text] { // most values need no quoting
		v.known[text] = true
		v.needles = append(v.needles, needle{[]byte(text), form})
	}
}

var base64Run = regexp.MustCompile(`[A-Za-z0-9+/_-]{12,}`)

// maxDepth bounds encodings within encodings.
const maxDepth = 3

// Find returns what it finds, with the text around it; nil when data has nothing of
// any value.
func (v *Values) Find(data []byte) []string { return v.find(data, "", 0) }

func (v *Values) find(data []byte, within string, depth int) (found []string) {
	for _, n := range v.needles {
		if at := bytes.Index(data, n.text); at >= 0 {
			around := data[max(0, at-60):min(len(data), at+len(n.text)+40)]
			found = append(found, fmt.Sprintf("%s%s: %q", n.form, within, around))
		}
	}
	if depth == maxDepth {
		return found
	}
	if plain := decompressed(data); plain != nil {
		found = append(found, v.find(plain, within+", compressed", depth+1)...)
	}
	for _, run := range base64Run.FindAll(data, -1) {
		for _, plain := range unbase64(run) {
			found = append(found, v.find(plain, within+", in base64", depth+1)...)
		}
	}
	return found
}

// unbase64 decodes a run of base64 from each place where it may begin: what is found
// may be a piece of a longer text.
func unbase64(run []byte) (out [][]byte) {
	text := strings.NewReplacer("-", "+", "_", "/").Replace(string(run))
	for offset := range 4 {
		piece := text[offset:] // the expression has seen to its length
		if plain, err := base64.RawStdEncoding.DecodeString(piece[:len(piece)-len(piece)%4]); err == nil {
			out = append(out, plain)
		}
		if tail := len(piece) % 4; tail > 1 { // the last bytes of what ends here
			if plain, err := base64.RawStdEncoding.DecodeString(piece); err == nil {
				out = append(out, plain)
			}
		}
	}
	return out
}

// decompressed is what data is compressed of; nil when it is not.
func decompressed(data []byte) []byte {
	for _, open := range []func(io.Reader) (io.Reader, error){
		func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
	} {
		r, err := open(bytes.NewReader(data))
		if err != nil {
			continue
		}
		if plain, err := io.ReadAll(r); err == nil {
			return plain
		}
	}
	return nil
}
