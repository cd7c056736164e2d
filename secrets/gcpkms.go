package secrets

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"

	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/keys"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const gcpAddress = "https://cloudkms.googleapis.com"

// gcpSource asks GCP KMS through its REST interface.
type gcpSource struct {
	resources []string
	endpoint  *endpoint
	tokens    getter[oauth2.TokenSource]
}

var gcpKey = regexp.MustCompile(`^projects/[\w.:-]+/locations/[\w-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+$`)

func (s *gcpSource) remote() bool    { return true }
func (s *gcpSource) names() []string { return s.resources }

func (s *gcpSource) open(ctx context.Context, master keys.MasterKey) ([]byte, error) {
	m, ok := master.(*gcpkms.MasterKey)
	if !ok || !slices.Contains(s.resources, m.ResourceID) {
		return nil, errNotConfigured
	}
	ciphertext, err := base64.StdEncoding.DecodeString(m.EncryptedKey)
	if err != nil {
		return nil, &SourceError{Key: m.ResourceID, Reason: "what is encrypted for it is damaged"}
	}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	err = s.call(ctx, m.ResourceID, "decrypt", map[string][]byte{"ciphertext": ciphertext}, &out)
	if err == nil && len(out.Plaintext) == 0 {
		err = &SourceError{Key: m.ResourceID, Reason: "the answer holds no data key"}
	}
	return out.Plaintext, err
}

func (s *gcpSource) seal(ctx context.Context, master keys.MasterKey, dataKey []byte) error {
	m, ok := master.(*gcpkms.MasterKey)
	if !ok || !slices.Contains(s.resources, m.ResourceID) {
		return errNotConfigured
	}
	var out struct {
		Ciphertext []byte `json:"ciphertext"`
	}
	if err := s.call(ctx, m.ResourceID, "encrypt", map[string][]byte{"plaintext": dataKey}, &out); err != nil {
		return err
	}
	if len(out.Ciphertext) == 0 {
		return &SourceError{Key: m.ResourceID, Reason: "the answer holds no ciphertext"}
	}
	m.EncryptedKey = base64.StdEncoding.EncodeToString(out.Ciphertext)
	return nil
}

func (s *gcpSource) call(ctx context.Context, resource, verb string, in, out any) error {
	source, err := s.tokens.get()
	if err != nil {
		return &SourceError{Key: resource, Reason: err.Error(), Err: err}
	}
	err = s.endpoint.postJSON(ctx, "/v1/"+resource+":"+verb, "application/json", in, out, func(r *http.Request) error {
		token, err := source.Token()
		if err != nil {
			return &SourceError{Reason: "no token can be made with the service account's key"}
		}
		token.SetAuthHeader(r)
		return nil
	}, explainGoogle)
	return ofKey(err, resource)
}

var googleStatus = regexp.MustCompile(`^[A-Z_]{1,40}$`)

// explainGoogle returns the status of an error, such as PERMISSION_DENIED.
func explainGoogle(a answer) string {
	var e struct {
		Error struct {
			Status string `json:"status"`
		} `json:"error"`
	}
	if json.Unmarshal(a.body, &e) != nil || !googleStatus.MatchString(e.Error.Status) {
		return ""
	}
	return "it refuses the request: " + e.Error.Status
}

// parseServiceAccount reads the key file of a service account. Its tokens are
// signed here, so that no other server is asked. Other kinds of credentials
// name servers and programs of their own and are refused.
func parseServiceAccount(name string, data []byte) (oauth2.TokenSource, error) {
	const remedy = "give the key of a service account (gcloud iam service-accounts keys create), or an access token by accessTokenFile"
	var kind struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(data, &kind) != nil {
		return nil, &KeyFileError{File: name, Reason: "it is not JSON", Remedy: remedy}
	}
	if kind.Type != "service_account" {
		return nil, &KeyFileError{File: name, Remedy: remedy,
			Reason: "credentials of type " + oneLine(kind.Type) + " are not supported, only those of a service account"}
	}
	source, err := google.JWTAccessTokenSourceFromJSON(data, gcpAddress+"/")
	if err != nil {
		return nil, &KeyFileError{File: name, Reason: "its private key cannot be read", Remedy: remedy}
	}
	return source, nil
}

// parseAccessToken reads an access token that somebody else renews.
func parseAccessToken(name string, data []byte) (oauth2.TokenSource, error) {
	token, err := parseToken(name, data)
	if err != nil {
		return nil, err
	}
	return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), nil
}
