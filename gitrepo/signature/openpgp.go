package signature

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// addOpenPGP reads one or several armored keyrings.
func (k *Keys) addOpenPGP(data []byte) error {
	const end = "-----END PGP PUBLIC KEY BLOCK-----"
	for rest := string(data); strings.Contains(rest, end); {
		at := strings.Index(rest, end) + len(end)
		list, err := openpgp.ReadArmoredKeyRing(strings.NewReader(rest[:at]))
		if err != nil {
			return errors.New("no armored OpenPGP public key can be read from it")
		}
		for _, entity := range list {
			if err := strongEntity(entity); err != nil {
				return err
			}
		}
		k.openPGP = append(k.openPGP, list...)
		rest = rest[at:]
	}
	return nil
}

// strongEntity judges the keys that may sign.
func strongEntity(e *openpgp.Entity) error {
	if err := strongKey(e.PrimaryKey); err != nil {
		return err
	}
	for _, sub := range e.Subkeys {
		if sub.Sig != nil && sub.Sig.FlagsValid && !sub.Sig.FlagSign {
			continue
		}
		if err := strongKey(sub.PublicKey); err != nil {
			return err
		}
	}
	return nil
}

func strongKey(k *packet.PublicKey) error {
	if k.PubKeyAlgo == packet.PubKeyAlgoDSA {
		return errDSA
	}
	return strong(k.PublicKey)
}

// hashes are those that an OpenPGP signature may be made over.
var hashes = map[crypto.Hash]bool{crypto.SHA256: true, crypto.SHA384: true, crypto.SHA512: true, crypto.SHA3_256: true, crypto.SHA3_512: true}

func (k *Keys) verifyOpenPGP(payload, armored []byte, now time.Time) (signer Signer, err error) {
	// What is read is a stranger's: a panic of the library is a bad signature.
	defer func() {
		if recover() != nil {
			signer, err = Signer{}, refused(ErrInvalid, "no OpenPGP signature can be read from it")
		}
	}()
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil || block.Type != openpgp.SignatureType {
		return Signer{}, refused(ErrInvalid, "no OpenPGP signature can be read from it")
	}
	sig, entity, err := openpgp.VerifyDetachedSignature(k.openPGP, bytes.NewReader(payload), block.Body,
		&packet.Config{Time: func() time.Time { return now }})
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return Signer{}, &Error{Reason: ErrUnknownKey, Detail: issuer(armored)}
	case entity == nil:
		return Signer{}, &Error{Reason: ErrInvalid}
	}
	signer = entitySigner(entity)
	switch {
	case errors.Is(err, pgperrors.ErrKeyExpired), errors.Is(err, pgperrors.ErrKeyRevoked), errors.Is(err, pgperrors.ErrSignatureExpired):
		return Signer{}, refused(ErrKeyEnded, "%s: %v", signer, err)
	case err != nil:
		return Signer{}, refused(ErrUnsupported, "%s: %v", signer, err)
	case !hashes[sig.Hash]:
		return Signer{}, refused(ErrUnsupported, "hash %v", sig.Hash)
	case sig.SigType != packet.SigTypeBinary: // what Git makes; one of a text would be of several contents
		return Signer{}, refused(ErrUnsupported, "an OpenPGP signature that is not one of bytes")
	}
	return signer, nil
}

func entitySigner(e *openpgp.Entity) Signer {
	s := Signer{Fingerprint: strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))}
	if id := e.PrimaryIdentity(); id != nil {
		s.Name = id.Name
	}
	return s
}

// issuer is the key ID that a signature claims, "" where it claims none.
func issuer(armored []byte) string {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return ""
	}
	p, err := packet.NewReader(block.Body).Next()
	sig, ok := p.(*packet.Signature)
	if err != nil || !ok || sig.IssuerKeyId == nil {
		return ""
	}
	id := make([]byte, 8)
	for i := range id {
		id[i] = byte(*sig.IssuerKeyId >> (8 * (7 - i)))
	}
	return "key " + strings.ToUpper(hex.EncodeToString(id))
}
