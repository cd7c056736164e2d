package signature

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// PrivateKey signs commits. No method prints it.
type PrivateKey struct {
	ssh     ssh.Signer
	openPGP *openpgp.Entity
}

// ParsePrivateKey reads an unencrypted private key: an SSH key of ssh-keygen or an
// armored OpenPGP key (gpg --armor --export-secret-keys). Errors hold nothing of it.
func ParsePrivateKey(name string, data []byte) (*PrivateKey, error) {
	if bytes.Contains(data, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----")) {
		list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
		if err != nil || len(list) != 1 || list[0].PrivateKey == nil {
			return nil, fmt.Errorf("%s holds no single armored OpenPGP private key", name)
		}
		key, ok := list[0].SigningKey(time.Now())
		if !ok || key.PrivateKey == nil {
			return nil, fmt.Errorf("the OpenPGP key of %s cannot sign: it has expired, was revoked, or is for other uses", name)
		}
		if key.PrivateKey.Encrypted {
			return nil, &encryptedKeyError{name}
		}
		return &PrivateKey{openPGP: list[0]}, nil
	}
	signer, err := ssh.ParsePrivateKey(data)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		return nil, &encryptedKeyError{name}
	}
	if err != nil {
		return nil, fmt.Errorf("%s holds neither an SSH nor an armored OpenPGP private key", name)
	}
	return &PrivateKey{ssh: signer}, nil
}

// encryptedKeyError says that a key needs a passphrase that nobody can type.
type encryptedKeyError struct{ file string }

func (e *encryptedKeyError) Error() string {
	return e.file + " is encrypted with a passphrase, which nobody is there to type"
}

// Hint tells what to do instead.
func (e *encryptedKeyError) Hint() string {
	return "make a key for this use alone, without a passphrase (ssh-keygen -t ed25519 -N ''), and keep the file where only this process can read it"
}

// Fingerprint names the key.
func (k *PrivateKey) Fingerprint() string {
	if k.ssh != nil {
		return ssh.FingerprintSHA256(k.ssh.PublicKey())
	}
	return entitySigner(k.openPGP).Fingerprint
}

// String leaves out what is secret.
func (k *PrivateKey) String() string { return "private key " + k.Fingerprint() }

// GoString leaves out what is secret.
func (k *PrivateKey) GoString() string { return k.String() }

// MarshalText leaves out what is secret, so that no encoder of a log prints it.
func (k *PrivateKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Sign returns the object of an unsigned commit with a signature.
func (k *PrivateKey) Sign(commit []byte) ([]byte, error) {
	var sig bytes.Buffer
	if k.openPGP != nil {
		if err := openpgp.ArmoredDetachSign(&sig, k.openPGP, bytes.NewReader(commit), &packet.Config{}); err != nil {
			return nil, fmt.Errorf("signing a commit: %w", err)
		}
		return Join(commit, sig.Bytes()), nil
	}
	made, err := sshsig.Sign(bytes.NewReader(commit), k.ssh, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("signing a commit: %w", err)
	}
	return Join(commit, sshsig.Armor(made)), nil
}
