package signature

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/crypto/ssh"
)

const (
	maxKeyFile = 1 << 20
	maxKeys    = 1000
	minRSABits = 2048
)

// Keys are the public keys that are trusted. The zero value trusts none.
type Keys struct {
	openPGP openpgp.EntityList
	ssh     []sshKey
}

// sshKey is a trusted SSH key.
type sshKey struct {
	key           ssh.PublicKey
	name          string
	after, before time.Time // zero: not bounded
}

// Len is the number of keys.
func (k *Keys) Len() int { return len(k.openPGP) + len(k.ssh) }

// ParseKeys adds the public keys of a file to those that are trusted: an armored
// OpenPGP keyring (gpg --armor --export), public keys of ssh-keygen, or an allowed
// signers file of Git, of whose options namespaces, valid-after and valid-before
// are understood and others refused. name is the file's, for errors.
func (k *Keys) ParseKeys(name string, data []byte) error {
	if len(data) > maxKeyFile {
		return fmt.Errorf("%s has %d bytes; a file of keys has at most %d", name, len(data), maxKeyFile)
	}
	if bytes.Contains(data, []byte("PRIVATE KEY")) {
		return &privateKeyError{name}
	}
	before := k.Len()
	var err error
	if bytes.Contains(data, []byte("-----BEGIN PGP")) {
		err = k.addOpenPGP(data)
	} else {
		err = k.addSSH(data)
	}
	if err == nil && k.Len() == before {
		err = errors.New("there is no key in it")
	}
	if err == nil && k.Len() > maxKeys {
		err = fmt.Errorf("more than %d keys", maxKeys)
	}
	if err != nil {
		return fmt.Errorf("reading the keys of %s: %w", name, err)
	}
	return nil
}

// privateKeyError says that a private key was given where a public one is due.
type privateKeyError struct{ file string }

func (e *privateKeyError) Error() string {
	return e.file + " holds a private key; to verify signatures only the public key is needed"
}

// Hint tells how to get the public key.
func (e *privateKeyError) Hint() string {
	return "give the public key: the .pub file beside an SSH key, or the output of `gpg --armor --export`"
}

// addSSH reads lines of an allowed signers file or of public keys.
func (k *Keys) addSSH(data []byte) error {
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseSSHLine(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		k.ssh = append(k.ssh, key)
	}
	return nil
}

// parseSSHLine reads KEYTYPE KEY [COMMENT], or PRINCIPALS [OPTIONS] KEYTYPE KEY.
// The order of the two is tried as given: a principal is never taken for a type.
func parseSSHLine(line string) (sshKey, error) {
	first, rest := cutField(line)
	if isKeyType(first) {
		key, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return sshKey{}, errors.New("no public key of ssh-keygen")
		}
		return checkedSSH(sshKey{key: key, name: comment})
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return sshKey{}, errors.New("neither a public key of ssh-keygen nor a line of an allowed signers file")
	}
	out := sshKey{key: key, name: strings.Trim(first, `"`)}
	for _, option := range options {
		if err := out.option(option); err != nil {
			return sshKey{}, err
		}
	}
	return checkedSSH(out)
}

// cutField splits off the first field, which may be quoted.
func cutField(line string) (field, rest string) {
	quoted := false
	for i, r := range line {
		switch {
		case r == '"':
			quoted = !quoted
		case (r == ' ' || r == '\t') && !quoted:
			return line[:i], strings.TrimSpace(line[i:])
		}
	}
	return line, ""
}

func isKeyType(field string) bool {
	return strings.HasPrefix(field, "ssh-") || strings.HasPrefix(field, "ecdsa-sha2-") || strings.HasPrefix(field, "sk-")
}

// option applies an option of an allowed signers line. One that is not understood
// would narrow what the key may do, so it cannot be passed over.
func (k *sshKey) option(text string) error {
	name, value, _ := strings.Cut(text, "=")
	value = strings.Trim(value, `"`)
	var err error
	switch strings.ToLower(name) {
	case "namespaces":
		for _, pattern := range strings.Split(value, ",") {
			if pattern == namespace || pattern == "*" {
				return nil
			}
		}
		return fmt.Errorf("the key is for the namespaces %q, and commits are signed in %q", value, namespace)
	case "valid-after":
		k.after, err = parseStamp(value)
	case "valid-before":
		k.before, err = parseStamp(value)
	default:
		return fmt.Errorf("the option %q is not supported", name)
	}
	return err
}

// parseStamp reads YYYYMMDD[HHMM[SS]][Z], as ssh-keygen does. Without Z it means
// the zone of the machine there; here it is UTC, so that every controller decides alike.
func parseStamp(text string) (time.Time, error) {
	trimmed := strings.TrimSuffix(text, "Z")
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(trimmed) == len(layout) {
			if t, err := time.Parse(layout, trimmed); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time of the form YYYYMMDD[HHMM[SS]][Z]", text)
}

// checkedSSH refuses keys that are too weak to trust a deployment to.
func checkedSSH(k sshKey) (sshKey, error) {
	if _, ok := k.key.(*ssh.Certificate); ok {
		return k, errors.New("certificates are not supported; give the public keys themselves")
	}
	if k.key.Type() == "ssh-dss" {
		return k, errDSA
	}
	public, ok := k.key.(ssh.CryptoPublicKey)
	if !ok {
		return k, nil // a key on a device (sk-…), which is ed25519 or ECDSA
	}
	return k, strong(public.CryptoPublicKey())
}
