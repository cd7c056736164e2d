package secrets

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/keys"
)

// azureSource asks Azure Key Vault.
type azureSource struct {
	keys      []azureKey
	endpoint  *endpoint            // nil: the vault's own
	endpoints map[string]*endpoint // by address of the vault
	tokens    *azureTokens
}

// azureKey is a key of a vault. Without a version it stands for each of them.
type azureKey struct {
	vault, name, version string
}

func (k azureKey) String() string {
	if k.version == "" {
		return k.vault + "/keys/" + k.name
	}
	return k.vault + "/keys/" + k.name + "/" + k.version
}

var (
	azureName    = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	azureVersion = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)
)

// parseAzureKey reads a key as .sops.yaml names it,
// https://VAULT/keys/NAME[/VERSION].
func parseAzureKey(uri string) (azureKey, bool) {
	u, err := url.Parse(uri)
	if err != nil {
		return azureKey{}, false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "keys" {
		return azureKey{}, false
	}
	version := ""
	if len(parts) == 3 {
		version = parts[2]
	}
	u.Path = ""
	return newAzureKey(u.String(), parts[1], version)
}

// newAzureKey brings a key into the form in which keys are compared.
func newAzureKey(vault, name, version string) (azureKey, bool) {
	u, err := url.Parse(strings.TrimRight(vault, "/"))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return azureKey{}, false
	}
	ok := azureName.MatchString(name) && (version == "" || azureVersion.MatchString(version))
	return azureKey{"https://" + strings.ToLower(u.Host), name, version}, ok
}

func (s *azureSource) remote() bool { return true }

func (s *azureSource) names() []string {
	var out []string
	for _, k := range s.keys {
		out = append(out, k.String())
	}
	return out
}

// find is the configured key that a master key means, with its version.
func (s *azureSource) find(m *azkv.MasterKey) (azureKey, bool) {
	wanted, ok := newAzureKey(m.VaultURL, m.Name, m.Version)
	if ok {
		for _, k := range s.keys {
			if k.vault == wanted.vault && k.name == wanted.name && (k.version == "" || k.version == wanted.version) {
				return wanted, true
			}
		}
	}
	return azureKey{}, false
}

// azureOperation is a request to use a key, and azureResult its answer.
type azureOperation struct {
	Algorithm string `json:"alg"`
	Value     string `json:"value"`
}

type azureResult struct {
	Key   string `json:"kid"`
	Value string `json:"value"`
}

func (s *azureSource) open(ctx context.Context, master keys.MasterKey) ([]byte, error) {
	m, ok := master.(*azkv.MasterKey)
	if !ok {
		return nil, errNotConfigured
	}
	key, ok := s.find(m)
	if !ok {
		return nil, errNotConfigured
	}
	if _, err := base64.RawURLEncoding.DecodeString(m.EncryptedKey); err != nil {
		return nil, &SourceError{Key: key.String(), Reason: "what is encrypted for it is damaged"}
	}
	out, err := s.call(ctx, key, "decrypt", m.EncryptedKey)
	if err != nil {
		return nil, err
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(out.Value, "="))
	if err != nil || len(data) == 0 {
		return nil, &SourceError{Key: key.String(), Reason: "the answer holds no data key"}
	}
	return data, nil
}

func (s *azureSource) seal(ctx context.Context, master keys.MasterKey, dataKey []byte) error {
	m, ok := master.(*azkv.MasterKey)
	if !ok {
		return errNotConfigured
	}
	key, ok := s.find(m)
	if !ok {
		return errNotConfigured
	}
	out, err := s.call(ctx, key, "encrypt", base64.RawURLEncoding.EncodeToString(dataKey))
	if err != nil {
		return err
	}
	// The file has to name the version that was used.
	used, ok := parseAzureKey(out.Key)
	if !ok || used.version == "" || used.name != key.name || out.Value == "" {
		return &SourceError{Key: key.String(), Reason: "the answer holds no ciphertext, or not the key's version"}
	}
	m.Version, m.EncryptedKey = used.version, strings.TrimRight(out.Value, "=")
	return nil
}

func (s *azureSource) call(ctx context.Context, key azureKey, verb, value string) (azureResult, error) {
	var out azureResult
	token, err := s.tokens.get(ctx)
	if err != nil {
		return out, ofKey(err, key.String())
	}
	e := s.endpoint
	if e == nil {
		e = s.endpoints[key.vault]
	}
	path := "/keys/" + key.name + "/"
	if key.version != "" {
		path += key.version + "/"
	}
	err = e.postJSON(ctx, path+verb+"?api-version=7.4", "application/json", azureOperation{"RSA-OAEP-256", value}, &out,
		func(r *http.Request) error { r.Header.Set("Authorization", "Bearer "+token); return nil }, explainAzure)
	return out, ofKey(err, key.String())
}

var azureCode = regexp.MustCompile(`^[A-Za-z_]{1,60}$`)

// explainAzure returns the code of an error, such as Forbidden.
func explainAzure(a answer) string {
	var vault struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(a.body, &vault) != nil || !azureCode.MatchString(vault.Error.Code) {
		return ""
	}
	return "it refuses the request: " + vault.Error.Code
}

// azureTokens gets tokens of an application from Microsoft Entra ID, with a
// client secret or with the token of a federated identity.
type azureTokens struct {
	authority *endpoint
	tenant    string
	client    string
	scope     string
	secret    getter[string]
	federated bool // secret is an assertion, such as a ServiceAccount's token

	mu      sync.Mutex
	of      string // the secret that token was got with
	token   string
	expires time.Time
}

func (t *azureTokens) get(ctx context.Context) (string, error) {
	secret, err := t.secret.get()
	if err != nil {
		return "", &SourceError{Reason: err.Error(), Err: err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == secret && time.Now().Before(t.expires) {
		return t.token, nil
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {t.client}, "scope": {t.scope}}
	if t.federated {
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", secret)
	} else {
		form.Set("client_secret", secret)
	}
	a, err := t.authority.post(ctx, "/"+t.tenant+"/oauth2/v2.0/token", "application/x-www-form-urlencoded", []byte(form.Encode()), nil)
	if err != nil {
		return "", err
	}
	var out struct {
		Token     string `json:"access_token"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := t.authority.read(a, &out, explainOAuth); err != nil {
		return "", err
	}
	if out.Token == "" || out.ExpiresIn <= 0 {
		return "", &SourceError{Reason: t.authority.base + " answers without a token"}
	}
	t.of, t.token = secret, out.Token
	t.expires = time.Now().Add(time.Duration(out.ExpiresIn)*time.Second - time.Minute)
	return t.token, nil
}

// explainOAuth returns the code of an error, such as invalid_client.
func explainOAuth(a answer) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(a.body, &e) != nil || !azureCode.MatchString(e.Error) {
		return ""
	}
	return "it gives no token: " + e.Error
}
