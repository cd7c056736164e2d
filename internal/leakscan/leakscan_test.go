package leakscan

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func zipped(t *testing.T, text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func TestFind(t *testing.T) {
	const value = `a1b2c3d4e5f6&"<ü' 0f1e2d3c4b5a`
	var v Values
	v.Add(value, "a1b2c3d4e5f6", "0f1e2d3c4b5a")
	encode := base64.StdEncoding.EncodeToString
	sum := sha256.Sum256([]byte(value))
	for name, text := range map[string]string{
		"as it is":          "x" + value + "y",
		"quoted":            fmt.Sprintf("%q", value),
		"first half":        "… a1b2c3d4e5f6…",
		"second half":       "…0f1e2d3c4b5a",
		"query":             "?q=" + url.QueryEscape(value),
		"hex":               hex.EncodeToString([]byte(value)),
		"hex of a half":     hex.EncodeToString([]byte("a1b2c3d4e5f6")),
		"base64":            encode([]byte(value)),
		"base64 for URLs":   base64.RawURLEncoding.EncodeToString([]byte("???" + value)),
		"one byte before":   encode([]byte("x" + value + "yz")),
		"two bytes before":  encode([]byte("xx" + value + "y")),
		"twice base64":      encode([]byte("{" + encode([]byte(" "+value)) + "}")),
		"in letters":        "key" + encode([]byte(value)) + "more",
		"gzip":              zipped(t, value),
		"gzip in base64":    encode([]byte(zipped(t, "xyz "+value))),
		"digest":            "sha256:" + hex.EncodeToString(sum[:]),
		"the end in base64": encode([]byte("0f1e2d3c4b5a")),
	} {
		assert.NotEmpty(t, v.Find([]byte(text)), name)
	}
	for name, text := range map[string]string{
		"nothing": "", "another": "a1b2c3d4e5f7 0f1e2d3c4b5b", "too little": "a1b2c3 4b5a", "other base64": encode([]byte("a1b2c3d4e5f7")),
	} {
		assert.Empty(t, v.Find([]byte(text)), name)
	}
}
