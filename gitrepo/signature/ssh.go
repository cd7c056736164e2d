package signature

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// namespace is what Git signs in.
const namespace = "git"

var errDSA = errors.New("a DSA key, which is not accepted any more")

// strong refuses keys of sizes that do not prove anything any more.
func strong(public any) error {
	if key, ok := public.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
		return fmt.Errorf("an RSA key of %d bits; at least %d are needed", key.N.BitLen(), minRSABits)
	}
	return nil
}

func (k *Keys) verifySSH(payload, armored []byte, now time.Time) (Signer, error) {
	sig, err := sshsig.Unarmor(armored)
	if err != nil {
		return Signer{}, refused(ErrInvalid, "no SSH signature can be read from it")
	}
	fingerprint := ssh.FingerprintSHA256(sig.PublicKey)
	key, known := k.sshKey(sig.PublicKey, now)
	if !known {
		return Signer{}, refused(ErrUnknownKey, "%s", fingerprint)
	}
	if sig.HashAlgorithm != sshsig.HashSHA256 && sig.HashAlgorithm != sshsig.HashSHA512 {
		return Signer{}, refused(ErrUnsupported, "hash %q", sig.HashAlgorithm)
	}
	// The key is the trusted one, not the copy in the signature.
	if err := sshsig.Verify(bytes.NewReader(payload), sig, key.key, sig.HashAlgorithm, namespace); err != nil {
		return Signer{}, refused(ErrInvalid, "%s", fingerprint)
	}
	signer := Signer{Name: key.name, Fingerprint: fingerprint}
	if !key.validAt(now) {
		return Signer{}, refused(ErrKeyEnded, "%s", signer)
	}
	return signer, nil
}

// sshKey finds a trusted key, one that is valid before one that is not: a file may
// name the same key for several spans of time.
func (k *Keys) sshKey(public ssh.PublicKey, now time.Time) (found sshKey, known bool) {
	for _, key := range k.ssh {
		if bytes.Equal(key.key.Marshal(), public.Marshal()) {
			found, known = key, true
			if key.validAt(now) {
				break
			}
		}
	}
	return found, known
}

func (k sshKey) validAt(now time.Time) bool {
	return (k.after.IsZero() || !now.Before(k.after)) && (k.before.IsZero() || now.Before(k.before))
}
