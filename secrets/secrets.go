// Package secrets reads and writes SOPS files: bytes in, bytes out.
//
// Call [LoadAgeKeys] or [LoadKeySources] once for each environment, then
// [Keys.Open] on every file of that environment: a file that SOPS did not write
// comes back as it is. Where no key may be used (pull-request heads, CI without keys) call
// [OpenKeyless], and [Names] to learn which names a file defines. To change a file
// call [Keys.Edit], or [Keys.Rotate] and [Keys.UpdateKeys] for the keys that it is
// encrypted with.
//
// The package never looks for keys: no environment variable, home folder,
// agent, command, metadata service or proxy is consulted, and no address that a
// SOPS file names; only keys, key services and credentials that were given. It
// never writes a file. No error of it holds plaintext or a private
// key; errors of SOPS and of the YAML, JSON and INI parsers do at times, so
// none of their texts is ever passed on.
package secrets

import (
	"bytes"
	"context"
	"crypto/subtle"
	"strings"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/logging"
)

// MaxSize bounds, in bytes, the files that are opened or encrypted. (A
// Kubernetes Secret holds at most 1 MiB.)
const MaxSize = 5 << 20

// Placeholder stands for each value that [OpenKeyless] cannot show.
const Placeholder = "(encrypted)"

// Opened is the outcome of opening one file.
type Opened struct {
	Data      []byte   // the plaintext file, SOPS metadata removed
	Values    []string // decrypted values worth masking, longest first
	Encrypted bool     // it was a SOPS file
	Keyless   bool     // values in Data are placeholders
	Opaque    bool     // it is a binary file, of which nothing shows without a key
}

// IsEncrypted reports whether SOPS wrote the file: it looks for the metadata
// that the format demands, not for words. Path decides the format as it does
// for the sops command, and content where the name says nothing.
func IsEncrypted(path string, data []byte) bool {
	_, ok := detect(path, data)
	return ok
}

// Open decrypts the file with the keys, its message authentication code
// verified, in the way the sops command would. A file that is not a SOPS file
// is returned as it is. Opening an encrypted file without a fitting key, with
// nil or empty Keys included, is a *NoKeyError.
//
// Values holds the decrypted values as text, in every form in which the
// plaintext file shows them, and what stands inside of a binary file that is
// YAML, JSON or dotenv. Values that are too common to be masked are left
// out: shorter than four bytes, numbers of fewer than six digits, booleans and
// nulls; so are encrypted comments.
func (k *Keys) Open(path string, data []byte) (o Opened, err error) {
	format, ok := detect(path, data)
	if !ok {
		return plain(path, data)
	}
	defer recoverAs(path, &o, &err)
	tree, err := loadTree(path, format, data)
	if err != nil {
		return Opened{}, err
	}
	cipher := &recordingCipher{aes: aes.NewCipher()}
	dataKey, err := decryptTree(context.Background(), path, tree, k, cipher)
	if err != nil {
		return Opened{}, err
	}
	clear(dataKey)
	values := cipher.values
	out, err := emit(path, format, tree.Branches)
	if err != nil {
		return Opened{}, err
	}
	if format == formats.Binary {
		values = append(values, innerValues(string(out))...)
	}
	return Opened{Data: out, Values: maskable(values), Encrypted: true, Opaque: format == formats.Binary}, nil
}

// OpenKeyless shows a file without any key: names and plain values are kept,
// each encrypted value becomes [Placeholder], and the SOPS metadata goes. Its
// authenticity cannot be verified. A file that is not a SOPS file is returned
// as it is.
func OpenKeyless(path string, data []byte) (o Opened, err error) {
	format, ok := detect(path, data)
	if !ok {
		return plain(path, data)
	}
	defer recoverAs(path, &o, &err)
	tree, err := loadTree(path, format, data)
	if err != nil {
		return Opened{}, err
	}
	for _, branch := range tree.Branches {
		hideBranch(branch)
	}
	out, err := emit(path, format, tree.Branches)
	if err != nil {
		return Opened{}, err
	}
	return Opened{Data: out, Encrypted: true, Keyless: true, Opaque: format == formats.Binary}, nil
}

// Encrypt makes a new SOPS file from plaintext as a creation rule says. Path decides
// the format as it does for the sops command: dotenv, YAML, JSON, INI, else binary.
// For age recipients no keys are needed; other keys of the rule must be among k.
func (k *Keys) Encrypt(ctx context.Context, path string, plaintext []byte, rule Rule) ([]byte, error) {
	if IsEncrypted(path, plaintext) {
		return nil, &FormatError{File: path, Reason: "it is encrypted already"}
	}
	d, err := k.NewDocument(ctx, path, rule)
	if err != nil {
		return nil, err
	}
	if err := d.Replace(plaintext); err != nil {
		return nil, err
	}
	return d.Encrypt()
}

// sopsVersion is written into new files: the release whose library makes them.
const sopsVersion = "3.13.3"

// plain returns a file that is not a SOPS file. One with SOPS ciphertext but
// no metadata was cut off or pasted together: it would be applied as it is.
func plain(path string, data []byte) (Opened, error) {
	if bytes.Contains(data, ciphertextPrefix) {
		return Opened{}, &FormatError{File: path, Line: lineOf(data, ciphertextPrefix),
			Reason: "it holds values that SOPS encrypted but no SOPS metadata: it is cut off or a part of another file",
			Remedy: "restore the file from Git; encrypted values cannot be copied from one file to another"}
	}
	return Opened{Data: data}, nil
}

// decryptTree replaces the values of tree by their plaintext once its message
// authentication code has been verified, and returns the data key.
func decryptTree(ctx context.Context, path string, tree *sops.Tree, k *Keys, cipher *recordingCipher) ([]byte, error) {
	quiet()
	dataKey, err := k.dataKey(ctx, path, tree.Metadata)
	if err != nil {
		return nil, err
	}
	if err := openTree(path, tree, dataKey, cipher); err != nil {
		clear(dataKey)
		return nil, err
	}
	return dataKey, nil
}

// openTree replaces the values of tree by their plaintext, and verifies them.
func openTree(path string, tree *sops.Tree, dataKey []byte, cipher *recordingCipher) error {
	computed, err := tree.Decrypt(dataKey, cipher)
	if err != nil {
		return cipher.failure(path)
	}
	stored, err := aes.NewCipher().Decrypt(
		tree.Metadata.MessageAuthenticationCode, dataKey, macContext(tree.Metadata))
	if err != nil {
		return &MACError{File: path}
	}
	mac, _ := stored.(string)
	if mac == "" || subtle.ConstantTimeCompare([]byte(mac), []byte(computed)) != 1 {
		return &MACError{File: path}
	}
	return nil
}

const dataKeySize = 32 // AES-256

// macContext is what binds a message authentication code to its file.
func macContext(m sops.Metadata) string { return m.LastModified.Format(time.RFC3339) }

// quiet silences the loggers of SOPS, which print comments of the files they
// read to standard error.
func quiet() { logging.SetLevel(0) }

// recoverAs turns a panic of a library into an error. The panic's value may
// hold plaintext and is dropped.
func recoverAs(path string, o *Opened, err *error) {
	if recover() != nil {
		*o, *err = Opened{}, panicked(path)
	}
}

func panicked(path string) error {
	return &FormatError{File: path, Reason: "it is not a well-formed SOPS file (a library panicked on it)"}
}

// hideBranch replaces ciphertext below branch, in place.
func hideBranch(branch sops.TreeBranch) {
	for i, item := range branch {
		if c, ok := item.Key.(sops.Comment); ok {
			branch[i].Key = hideComment(c)
		}
		branch[i].Value = hide(item.Value)
	}
}

func hide(v any) any {
	switch v := v.(type) {
	case string:
		if isCiphertext(v) {
			return Placeholder
		}
	case sops.Comment:
		return hideComment(v)
	case sops.TreeBranch:
		hideBranch(v)
	case []any:
		for i := range v {
			// SOPS writes a comment in a list as an item.
			if c, ok := v[i].(string); ok && isCiphertext(c) && strings.HasSuffix(c, ",type:comment]") {
				v[i] = sops.Comment{Value: c}
			}
			v[i] = hide(v[i])
		}
	}
	return v
}

func hideComment(c sops.Comment) sops.Comment {
	if isCiphertext(c.Value) {
		c.Value = " " + Placeholder
	}
	return c
}

var ciphertextPrefix = []byte("ENC[AES256_GCM,data:")

func isCiphertext(s string) bool { return strings.HasPrefix(s, string(ciphertextPrefix)) }
