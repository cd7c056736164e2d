package secrets

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
)

// Keys are the private keys of one environment. The zero value and nil hold
// none. Keys are safe for concurrent use once loaded.
type Keys struct {
	identities []age.Identity
	recipients []string
}

// maxKeyFile bounds an identity file, in bytes.
const maxKeyFile = 1 << 20

// LoadAgeKeys reads age identities (AGE-SECRET-KEY-1…, one a line) from the
// file. Empty lines and lines that start with # are skipped.
func LoadAgeKeys(path string) (*Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading age identities: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading age identities: %w", err)
	}
	return ParseAgeKeys(path, data)
}

// ParseAgeKeys reads age identities as [LoadAgeKeys] does. Name is used in
// errors, which are *KeyFileError and never quote the input.
func ParseAgeKeys(name string, data []byte) (*Keys, error) {
	if len(data) > maxKeyFile {
		return nil, &KeyFileError{File: name, Reason: "it is larger than 1 MiB"}
	}
	k := &Keys{}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, err := age.ParseX25519Identity(line)
		if err != nil {
			// The error of age may quote parts of a mistyped key.
			return nil, &KeyFileError{File: name, Line: n, Reason: notAnIdentity(line)}
		}
		k.identities = append(k.identities, id)
		k.recipients = append(k.recipients, id.Recipient().String())
	}
	if sc.Err() != nil {
		return nil, &KeyFileError{File: name, Reason: "it has a line that is too long"}
	}
	if len(k.identities) == 0 {
		return nil, &KeyFileError{File: name, Reason: "it holds no age identity"}
	}
	return k, nil
}

// notAnIdentity says what a line is that should be an identity.
func notAnIdentity(line string) string {
	switch {
	case strings.HasPrefix(line, "age1"):
		return "this is a recipient (public key), not an identity"
	case strings.HasPrefix(line, "-----BEGIN"):
		return "SSH and PEM keys are not supported, only age X25519 identities"
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return "age plugins are not supported: they run programs"
	case strings.HasPrefix(line, "AGE-SECRET-KEY-"):
		return "the identity is malformed or not of type X25519"
	}
	return "this is not an age identity"
}

// Add adds the keys of other.
func (k *Keys) Add(other *Keys) {
	if other == nil {
		return
	}
	k.identities = append(k.identities, other.identities...)
	k.recipients = append(k.recipients, other.recipients...)
}

// Recipients returns the public keys (age1…) in the order of loading.
func (k *Keys) Recipients() []string {
	if k == nil {
		return nil
	}
	return append([]string(nil), k.recipients...)
}

// String shows public keys only, so that keys which slip into a log line say
// nothing.
func (k *Keys) String() string { return "age keys for " + strings.Join(k.Recipients(), ", ") }

// GoString is String: %#v would walk into the private keys.
func (k *Keys) GoString() string { return k.String() }
