package secrets

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/keys"
	"golang.org/x/crypto/ssh"
)

// LoadAgeKeys reads age identities from a file: lines AGE-SECRET-KEY-…, as
// age-keygen writes them (empty lines and lines that start with # are skipped),
// or one SSH private key of type ed25519 or RSA without a passphrase. A regular
// file is read again when it is used, so that identities can be replaced.
func LoadAgeKeys(path string) (*Keys, error) {
	file := &watchedFile[[]ageIdentity]{path: path, what: "age identities", parse: parseAgeIdentities}
	if _, err := file.get(); err != nil {
		return nil, err
	}
	return &Keys{sources: []source{ageSource{file}}}, nil
}

// ParseAgeKeys reads age identities as [LoadAgeKeys] does. Name is used in
// errors, which are *KeyFileError and never quote the input.
func ParseAgeKeys(name string, data []byte) (*Keys, error) {
	ids, err := parseAgeIdentities(name, data)
	if err != nil {
		return nil, err
	}
	return &Keys{sources: []source{ageSource{constant[[]ageIdentity]{ids}}}}, nil
}

// ageIdentity is a private key and its recipient, as text.
type ageIdentity struct {
	age.Identity
	recipient string
}

// ageSource opens data keys with age identities.
type ageSource struct {
	identities getter[[]ageIdentity]
}

func (s ageSource) remote() bool { return false }

func (s ageSource) names() []string {
	ids, _ := s.identities.get()
	var out []string
	for _, id := range ids {
		out = append(out, id.recipient)
	}
	return out
}

// maxDataKey bounds a decrypted data key (or Shamir share of one), in bytes.
const maxDataKey = 1 << 10

func (s ageSource) open(_ context.Context, master keys.MasterKey) ([]byte, error) {
	m, ok := master.(*sopsage.MasterKey)
	if !ok {
		return nil, errNotConfigured
	}
	ids, err := s.identities.get()
	if err != nil {
		return nil, &SourceError{Key: printable(m.Recipient), Reason: err.Error(), Err: err}
	}
	var list []age.Identity
	for _, id := range ids {
		list = append(list, id.Identity)
	}
	// The recipient that the file names is not looked at: it may be wrong.
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(m.EncryptedDataKey())), list...)
	if err != nil {
		return nil, errNotConfigured // of an error of age no text is shown
	}
	key, err := io.ReadAll(io.LimitReader(plain, maxDataKey))
	if err != nil {
		return nil, &SourceError{Key: printable(m.Recipient), Reason: "what is encrypted for it is damaged"}
	}
	return key, nil
}

// seal needs no identity, only the recipient.
func (s ageSource) seal(_ context.Context, master keys.MasterKey, dataKey []byte) error {
	m, ok := master.(*sopsage.MasterKey)
	if !ok {
		return errNotConfigured
	}
	recipient, reason := parseAgeRecipient(m.Recipient)
	if reason != "" {
		return &SourceError{Key: printable(m.Recipient), Reason: reason}
	}
	var buf bytes.Buffer
	armored := armor.NewWriter(&buf)
	w, err := age.Encrypt(armored, recipient)
	if err == nil {
		_, err = w.Write(dataKey)
	}
	if err == nil {
		err = errors.Join(w.Close(), armored.Close())
	}
	if err != nil {
		return &SourceError{Key: printable(m.Recipient), Reason: "age cannot encrypt for it"}
	}
	m.SetEncryptedDataKey(buf.Bytes())
	return nil
}

// parseAgeRecipient reads a public key. The reason is empty when it is one; it
// does not quote the text, which may be a private key given by mistake.
func parseAgeRecipient(s string) (r age.Recipient, reason string) {
	var err error
	switch {
	case strings.HasPrefix(s, "age1pq1"):
		r, err = age.ParseHybridRecipient(s)
	case strings.HasPrefix(s, "age1") && strings.Count(s, "1") > 1:
		return nil, "age plugins are not supported: they run programs"
	case strings.HasPrefix(s, "age1"):
		r, err = age.ParseX25519Recipient(s)
	case strings.HasPrefix(s, "ssh-"):
		r, err = agessh.ParseRecipient(s)
	default:
		return nil, "it is not an age recipient"
	}
	if err != nil {
		return nil, "it is a malformed age recipient"
	}
	return r, ""
}

// parseAgeIdentities reads an identity file.
func parseAgeIdentities(name string, data []byte) ([]ageIdentity, error) {
	if len(data) > maxKeyFile {
		return nil, &KeyFileError{File: name, Reason: "it is larger than 1 MiB"}
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		return parseSSHIdentity(name, bytes.TrimSpace(data))
	}
	var ids []ageIdentity
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, ok := parseAgeIdentity(line)
		if !ok {
			// The error of age may quote parts of a mistyped key.
			return nil, notAnIdentity(name, n, line)
		}
		ids = append(ids, id)
	}
	if sc.Err() != nil {
		return nil, &KeyFileError{File: name, Reason: "it has a line that is too long"}
	}
	if len(ids) == 0 {
		return nil, &KeyFileError{File: name, Reason: "it holds no age identity"}
	}
	return ids, nil
}

func parseAgeIdentity(line string) (ageIdentity, bool) {
	if strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1") {
		id, err := age.ParseHybridIdentity(line)
		if err != nil {
			return ageIdentity{}, false
		}
		return ageIdentity{id, id.Recipient().String()}, true
	}
	id, err := age.ParseX25519Identity(line)
	if err != nil {
		return ageIdentity{}, false
	}
	return ageIdentity{id, id.Recipient().String()}, true
}

// parseSSHIdentity reads an SSH private key, which age uses as an identity.
func parseSSHIdentity(name string, data []byte) ([]ageIdentity, error) {
	refuse := func(reason, remedy string) ([]ageIdentity, error) {
		return nil, &KeyFileError{File: name, Line: 1, Reason: reason, Remedy: remedy}
	}
	const which = "give an SSH key of type ed25519 or RSA (2048 bits or more), or an age identity as age-keygen writes it"
	signer, err := ssh.ParsePrivateKey(data)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return refuse("the SSH key is protected by a passphrase, which nobody can type here",
			`give a copy of it without one (ssh-keygen -p -N "" -f COPY), or make a key of its own with age-keygen`)
	}
	if err != nil {
		return refuse("the SSH key cannot be read", which)
	}
	id, err := agessh.ParseIdentity(data)
	if err != nil {
		return refuse("age cannot use SSH keys of type "+oneLine(signer.PublicKey().Type()), which)
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return []ageIdentity{{id, public}}, nil
}

// notAnIdentity says what a line is that should be an identity.
func notAnIdentity(name string, n int, line string) *KeyFileError {
	e := &KeyFileError{File: name, Line: n, Reason: "this is not an age identity"}
	switch {
	case strings.HasPrefix(line, "age1"), strings.HasPrefix(line, "ssh-"):
		e.Reason = "this is a recipient (public key), not an identity"
	case strings.HasPrefix(line, "-----BEGIN"):
		e.Reason = "an SSH key must be the only thing in its file"
		e.Remedy = "give each SSH key by its own --age-key-file"
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		e.Reason = "age plugins are not supported: they run programs"
		e.Remedy = "encrypt for an age key as age-keygen makes it, or for a key in a key service (--key-sources)"
	case strings.HasPrefix(line, "AGE-SECRET-KEY-"):
		e.Reason = "the identity is malformed or of an unknown type"
	}
	return e
}
