package secrets

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keys"
)

// vaultSource asks a Vault (or OpenBao) transit engine.
type vaultSource struct {
	keys      []vaultKey
	endpoint  *endpoint // nil: the address in the key's name
	endpoints map[string]*endpoint
	namespace string
	token     getter[string]
}

// vaultKey is a key of a transit engine.
type vaultKey struct {
	address, engine, name string
}

func (k vaultKey) String() string { return k.address + "/v1/" + k.engine + "/keys/" + k.name }

var (
	vaultEngine  = regexp.MustCompile(`^[\w.~-]+(/[\w.~-]+)*$`)
	vaultKeyName = regexp.MustCompile(`^[\w.~-]+$`)
)

// parseVaultKey reads a key as .sops.yaml names it,
// https://HOST[:PORT]/v1/ENGINE/keys/NAME.
func parseVaultKey(uri string) (vaultKey, bool) {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.RawPath != "" {
		return vaultKey{}, false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	n := len(parts)
	if n < 4 || parts[0] != "v1" || parts[n-2] != "keys" {
		return vaultKey{}, false
	}
	return newVaultKey(u.Scheme+"://"+u.Host, strings.Join(parts[1:n-2], "/"), parts[n-1])
}

// newVaultKey brings a key into the form in which keys are compared.
func newVaultKey(address, engine, name string) (vaultKey, bool) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return vaultKey{}, false
	}
	k := vaultKey{address: strings.ToLower(u.Scheme + "://" + u.Host), engine: strings.Trim(engine, "/"), name: name}
	ok := vaultEngine.MatchString(k.engine) && vaultKeyName.MatchString(k.name) && !dotted(k.engine) && !dotted(k.name)
	return k, ok
}

// dotted reports whether a path has a part that servers may resolve.
func dotted(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

func (s *vaultSource) remote() bool { return true }

func (s *vaultSource) names() []string {
	var out []string
	for _, k := range s.keys {
		out = append(out, k.String())
	}
	return out
}

// find is the configured key that a master key means.
func (s *vaultSource) find(m *hcvault.MasterKey) (vaultKey, bool) {
	wanted, ok := newVaultKey(m.VaultAddress, m.EnginePath, m.KeyName)
	if ok {
		for _, k := range s.keys {
			if k == wanted {
				return k, true
			}
		}
	}
	return vaultKey{}, false
}

func (s *vaultSource) open(ctx context.Context, master keys.MasterKey) ([]byte, error) {
	m, ok := master.(*hcvault.MasterKey)
	if !ok {
		return nil, errNotConfigured
	}
	key, ok := s.find(m)
	if !ok {
		return nil, errNotConfigured
	}
	var out struct {
		Data struct {
			Plaintext string `json:"plaintext"`
		} `json:"data"`
	}
	if err := s.call(ctx, key, "decrypt", map[string]string{"ciphertext": m.EncryptedKey}, &out); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(out.Data.Plaintext)
	if err != nil || len(data) == 0 {
		return nil, &SourceError{Key: key.String(), Reason: "the answer holds no data key"}
	}
	return data, nil
}

func (s *vaultSource) seal(ctx context.Context, master keys.MasterKey, dataKey []byte) error {
	m, ok := master.(*hcvault.MasterKey)
	if !ok {
		return errNotConfigured
	}
	key, ok := s.find(m)
	if !ok {
		return errNotConfigured
	}
	var out struct {
		Data struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
	if err := s.call(ctx, key, "encrypt", map[string]string{"plaintext": base64.StdEncoding.EncodeToString(dataKey)}, &out); err != nil {
		return err
	}
	if !strings.HasPrefix(out.Data.Ciphertext, "vault:v") {
		return &SourceError{Key: key.String(), Reason: "the answer holds no ciphertext"}
	}
	m.EncryptedKey = out.Data.Ciphertext
	return nil
}

func (s *vaultSource) call(ctx context.Context, key vaultKey, verb string, in, out any) error {
	token, err := s.token.get()
	if err != nil {
		return &SourceError{Key: key.String(), Reason: err.Error(), Err: err}
	}
	e := s.endpoint
	if e == nil {
		e = s.endpoints[key.address]
	}
	err = e.postJSON(ctx, "/v1/"+key.engine+"/"+verb+"/"+key.name, "application/json", in, out, func(r *http.Request) error {
		r.Header.Set("X-Vault-Token", token)
		r.Header.Set("X-Vault-Request", "true")
		if s.namespace != "" {
			r.Header.Set("X-Vault-Namespace", s.namespace)
		}
		return nil
	}, explainVault)
	return ofKey(err, key.String())
}

func explainVault(a answer) string {
	switch a.status {
	case http.StatusBadRequest:
		return "it refuses the request: the key is another than the file was encrypted with, or was not allowed to decrypt (400 Bad Request)"
	case http.StatusForbidden:
		return "the token has expired or may not use the key (403 Forbidden)"
	case http.StatusNotFound:
		return "there is no such transit engine or key (404 Not Found)"
	case http.StatusServiceUnavailable:
		return "it is sealed or not ready (503 Service Unavailable)"
	}
	return ""
}
