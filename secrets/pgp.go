package secrets

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/getsops/sops/v3/keys"
	sopspgp "github.com/getsops/sops/v3/pgp"
)

// pgpSource opens data keys with the OpenPGP keys of a file, in memory: no gpg,
// agent or keyring of the user takes part (docs/adr/0026).
type pgpSource struct {
	keyring getter[openpgp.EntityList]
}

func (s pgpSource) remote() bool { return false }

func (s pgpSource) names() []string {
	ring, _ := s.keyring.get()
	var out []string
	for _, e := range ring {
		out = append(out, fingerprint(e.PrimaryKey))
	}
	return out
}

func fingerprint(k *packet.PublicKey) string {
	return strings.ToUpper(hex.EncodeToString(k.Fingerprint))
}

func (s pgpSource) open(_ context.Context, master keys.MasterKey) ([]byte, error) {
	m, ok := master.(*sopspgp.MasterKey)
	if !ok {
		return nil, errNotConfigured
	}
	fail := func(reason string) error { return &SourceError{Key: masterKeyName(master), Reason: reason} }
	ring, err := s.keyring.get()
	if err != nil {
		return nil, &SourceError{Key: masterKeyName(master), Reason: err.Error(), Err: err}
	}
	block, err := armor.Decode(bytes.NewReader(m.EncryptedDataKey()))
	if err != nil {
		return nil, errNotConfigured
	}
	// Which key opens the message stands in the message; the fingerprint in the
	// file is not looked at. Without a prompt nothing is opened by passphrase.
	message, err := openpgp.ReadMessage(block.Body, ring, nil, nil)
	if errors.Is(err, pgperrors.ErrKeyIncorrect) {
		return nil, errNotConfigured
	}
	if err != nil {
		return nil, fail("what is encrypted for it is damaged, or of a kind that is not supported")
	}
	if !message.IsEncrypted {
		return nil, fail("what should be encrypted for it is not encrypted")
	}
	// The modification detection code is verified at the end of the message.
	key, err := io.ReadAll(io.LimitReader(message.UnverifiedBody, maxDataKey+1))
	if err != nil || len(key) > maxDataKey {
		return nil, fail("what is encrypted for it is damaged")
	}
	return key, nil
}

func (s pgpSource) seal(_ context.Context, master keys.MasterKey, dataKey []byte) error {
	m, ok := master.(*sopspgp.MasterKey)
	if !ok {
		return errNotConfigured
	}
	ring, err := s.keyring.get()
	if err != nil {
		return &SourceError{Key: masterKeyName(master), Reason: err.Error(), Err: err}
	}
	entity := entityOf(ring, m.Fingerprint)
	if entity == nil {
		return errNotConfigured
	}
	var buf bytes.Buffer
	armored, err := armor.Encode(&buf, "PGP MESSAGE", nil)
	if err == nil {
		var w io.WriteCloser
		if w, err = openpgp.Encrypt(armored, openpgp.EntityList{entity}, nil, &openpgp.FileHints{IsBinary: true}, nil); err == nil {
			_, err = w.Write(dataKey)
			err = errors.Join(err, w.Close(), armored.Close())
		}
	}
	if err != nil {
		return &SourceError{Key: masterKeyName(master), Reason: "it cannot encrypt: it has expired, is revoked or has no key for encryption"}
	}
	m.SetEncryptedDataKey(buf.Bytes())
	return nil
}

// entityOf finds the key with the fingerprint, of the primary key or of a
// subkey, which is long enough not to be chosen by others (at least 64 bits, as
// SOPS writes them shortened too).
func entityOf(ring openpgp.EntityList, wanted string) *openpgp.Entity {
	wanted = strings.ToUpper(strings.TrimSuffix(strings.ReplaceAll(wanted, " ", ""), "!"))
	if len(wanted) < 40 {
		return nil
	}
	for _, e := range ring {
		if fingerprint(e.PrimaryKey) == wanted {
			return e
		}
		for _, sub := range e.Subkeys {
			if fingerprint(sub.PublicKey) == wanted {
				return e
			}
		}
	}
	return nil
}

// parseKeyring reads what gpg --export-secret-keys writes, armored or not, and
// unlocks protected keys with the passphrase, which is nil when none is given.
func parseKeyring(name string, data, passphrase []byte) (openpgp.EntityList, error) {
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	ring, err := read(bytes.NewReader(data))
	if err != nil || len(ring) == 0 {
		return nil, &KeyFileError{File: name, Reason: "it holds no OpenPGP key that can be read",
			Remedy: "write it with: gpg --export-secret-keys --armor FINGERPRINT"}
	}
	for _, e := range ring {
		for _, private := range privateKeys(e) {
			if !private.Encrypted {
				continue
			}
			if passphrase == nil {
				return nil, &KeyFileError{File: name, Reason: "key " + fingerprint(e.PrimaryKey) + " is protected by a passphrase",
					Remedy: "give the passphrase in a file of its own: passphraseFile"}
			}
			if private.Decrypt(passphrase) != nil {
				return nil, &KeyFileError{File: name, Reason: "the passphrase does not open key " + fingerprint(e.PrimaryKey),
					Remedy: "correct the file that passphraseFile names; one newline at its end is ignored"}
			}
		}
	}
	return ring, nil
}

// privateKeys are those of an entity that are in the file: not those on a smart
// card, nor a primary key that is kept elsewhere.
func privateKeys(e *openpgp.Entity) []*packet.PrivateKey {
	var out []*packet.PrivateKey
	if e.PrivateKey != nil && !e.PrivateKey.Dummy() {
		out = append(out, e.PrivateKey)
	}
	for _, sub := range e.Subkeys {
		if sub.PrivateKey != nil && !sub.PrivateKey.Dummy() {
			out = append(out, sub.PrivateKey)
		}
	}
	return out
}
