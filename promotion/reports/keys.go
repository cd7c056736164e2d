package reports

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// KeyError is a file that holds no key of the kind that is asked for. Nothing of
// the file is in it.
type KeyError struct{ Reason string }

func (e *KeyError) Error() string { return "reading an ed25519 key: " + e.Reason }

// Hint says how a key is made.
func (e *KeyError) Hint() string {
	return "openssl genpkey -algorithm ed25519 -out report.key; openssl pkey -in report.key -pubout -out report.pub"
}

// ParsePrivateKey reads the private key that reports are signed with: PEM, PKCS #8.
func ParsePrivateKey(data []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, &KeyError{"there is no PRIVATE KEY in PEM"}
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, &KeyError{"the private key cannot be read"}
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, &KeyError{fmt.Sprintf("the private key is %T", key)}
	}
	return private, nil
}

// ParsePublicKeys reads the public keys that reports are verified with: PEM, one or
// several, so that a key can be replaced without a gap.
func ParsePublicKeys(data []byte) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, &KeyError{fmt.Sprintf("there is a %s where a PUBLIC KEY should be", block.Type)}
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, &KeyError{"a public key cannot be read"}
		}
		public, ok := key.(ed25519.PublicKey)
		if !ok {
			return nil, &KeyError{fmt.Sprintf("a public key is %T", key)}
		}
		keys = append(keys, public)
	}
	if len(keys) == 0 {
		return nil, &KeyError{"there is no PUBLIC KEY in PEM"}
	}
	return keys, nil
}
