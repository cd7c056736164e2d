package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// signatureHeaders carry the HMAC in hexadecimal digits, some behind "sha256=".
// X-Sluice-Signature-256 is for senders of one's own.
var signatureHeaders = []struct{ name, prefix string }{
	{"X-Hub-Signature-256", "sha256="}, // GitHub, Gitea, Forgejo
	{"X-Gitea-Signature", ""},
	{"X-Forgejo-Signature", ""},
	{"X-Sluice-Signature-256", "sha256="},
}

// signatures are the signatures that a request claims to have; ok is false when
// there is none, or one that is no HMAC with SHA-256.
func signatures(header http.Header) (claims [][]byte, ok bool) {
	for _, h := range signatureHeaders {
		for _, value := range header.Values(h.name) {
			digits, found := strings.CutPrefix(value, h.prefix)
			if !found || len(digits) != 2*sha256.Size {
				return nil, false
			}
			sum, err := hex.DecodeString(digits)
			if err != nil {
				return nil, false
			}
			claims = append(claims, sum)
		}
	}
	return claims, len(claims) > 0 && len(claims) <= len(signatureHeaders)
}

const (
	// MinSecret is the shortest secret, in bytes: shorter ones can be guessed.
	MinSecret  = 16
	maxSecrets = 10
	maxSecret  = 1024
)

// Secrets are what a forge and this program share. Several stand for one while
// it is being replaced. Nothing prints them.
type Secrets struct{ list [][]byte }

// ParseSecrets reads the secrets of a file: one in each line that is not empty,
// without the white space around it. ErrNoSecret when there is none.
func ParseSecrets(text []byte) (Secrets, error) {
	var s Secrets
	for n, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
			continue
		case len(line) < MinSecret:
			return Secrets{}, fmt.Errorf("line %d: a secret has at least %d characters", n+1, MinSecret)
		case len(line) > maxSecret:
			return Secrets{}, fmt.Errorf("line %d: a secret has at most %d characters", n+1, maxSecret)
		}
		s.list = append(s.list, bytes.Clone(line))
	}
	if len(s.list) > maxSecrets {
		return Secrets{}, fmt.Errorf("more than %d secrets", maxSecrets)
	}
	if len(s.list) == 0 {
		return Secrets{}, ErrNoSecret
	}
	return s, nil
}

// Len is how many there are.
func (s Secrets) Len() int { return len(s.list) }

// String tells nothing.
func (s Secrets) String() string { return fmt.Sprintf("%d secrets", len(s.list)) }

// GoString tells nothing.
func (s Secrets) GoString() string { return "webhook.Secrets{" + s.String() + "}" }

// MarshalText refuses, so that no encoder of a log prints them.
func (s Secrets) MarshalText() ([]byte, error) {
	return nil, errors.New("secrets are not for printing")
}

func (s Secrets) empty() bool {
	for _, secret := range s.list {
		if len(secret) == 0 {
			return true
		}
	}
	return len(s.list) == 0
}

// signed reports whether every claim is the HMAC of the body under one of the
// secrets, the same for all. It takes as long whichever that is.
func (s Secrets) signed(claims [][]byte, body []byte) bool {
	if s.empty() || len(claims) == 0 {
		return false
	}
	signed := false
	for _, secret := range s.list {
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		sum := mac.Sum(nil)
		all := true
		for _, claim := range claims {
			equal := hmac.Equal(claim, sum)
			all = all && equal
		}
		signed = signed || all
	}
	return signed
}
