package secrets

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/getsops/sops/v3"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/keyservice"
)

// ageServer answers SOPS's questions for data keys with the identities it was
// given and nothing else. SOPS's own server would read the environment, run
// commands and connect to whatever address the file names.
type ageServer struct {
	keyservice.UnimplementedKeyServiceServer
	identities []age.Identity
}

var errDenied = errors.New("key type denied")

// maxDataKey bounds a decrypted data key (or Shamir share of one), in bytes.
const maxDataKey = 1 << 10

// Decrypt implements keyservice.KeyServiceServer for age.
func (s *ageServer) Decrypt(_ context.Context, r *keyservice.DecryptRequest) (*keyservice.DecryptResponse, error) {
	if _, ok := r.GetKey().GetKeyType().(*keyservice.Key_AgeKey); !ok {
		return nil, errDenied
	}
	// age.Decrypt refuses an empty list; SOPS would go and look for keys.
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(r.GetCiphertext())), s.identities...)
	if err != nil {
		return nil, err
	}
	key, err := io.ReadAll(io.LimitReader(plain, maxDataKey))
	if err != nil {
		return nil, err
	}
	return &keyservice.DecryptResponse{Plaintext: key}, nil
}

// Encrypt implements keyservice.KeyServiceServer for age.
func (s *ageServer) Encrypt(_ context.Context, r *keyservice.EncryptRequest) (*keyservice.EncryptResponse, error) {
	key, ok := r.GetKey().GetKeyType().(*keyservice.Key_AgeKey)
	if !ok {
		return nil, errDenied
	}
	recipient, err := age.ParseX25519Recipient(key.AgeKey.GetRecipient())
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	armored := armor.NewWriter(&buf)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(r.GetPlaintext()); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := armored.Close(); err != nil {
		return nil, err
	}
	return &keyservice.EncryptResponse{Ciphertext: buf.Bytes()}, nil
}

// keyGroup makes the master keys of a new file.
func keyGroup(recipients []string) (sops.KeyGroup, error) {
	if len(recipients) == 0 {
		return nil, &RecipientError{Reason: "no recipient was given"}
	}
	var group sops.KeyGroup
	for i, r := range recipients {
		if _, err := age.ParseX25519Recipient(r); err != nil {
			// It may be a private key, given by mistake: it is not quoted.
			return nil, &RecipientError{Number: i + 1, Reason: "it is not an age X25519 recipient"}
		}
		if !slices.Contains(recipients[:i], r) {
			group = append(group, &sopsage.MasterKey{Recipient: r})
		}
	}
	return group, nil
}
