package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"crypto/x509"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/aws/aws-sdk-go-v2/aws"
	"go.yaml.in/yaml/v3"
	"golang.org/x/oauth2"
)

// The file of --key-sources: every key of an environment by name, each with the
// address and the credentials that go with it. Files in it are relative to it.
type keySources struct {
	APIVersion    string          `yaml:"apiVersion"`
	Kind          string          `yaml:"kind"`
	Age           ageSettings     `yaml:"age"`
	PGP           pgpSettings     `yaml:"pgp"`
	Vault         []vaultSettings `yaml:"vault"`
	AWSKMS        []awsSettings   `yaml:"awsKMS"`
	GCPKMS        []gcpSettings   `yaml:"gcpKMS"`
	AzureKeyVault []azureSettings `yaml:"azureKeyVault"`
}

type ageSettings struct {
	IdentityFiles []string `yaml:"identityFiles"`
}

type pgpSettings struct {
	KeyringFiles   []string `yaml:"keyringFiles"`
	PassphraseFile string   `yaml:"passphraseFile"`
}

// serviceSettings are what all key services have.
type serviceSettings struct {
	Keys     []string `yaml:"keys"`
	Endpoint string   `yaml:"endpoint"`
	CAFile   string   `yaml:"caFile"`
}

type vaultSettings struct {
	serviceSettings `yaml:",inline"`
	TokenFile       string `yaml:"tokenFile"`
	Namespace       string `yaml:"namespace"`
}

type awsSettings struct {
	serviceSettings `yaml:",inline"`
	CredentialsFile string `yaml:"credentialsFile"`
	Profile         string `yaml:"profile"`
}

type gcpSettings struct {
	serviceSettings    `yaml:",inline"`
	ServiceAccountFile string `yaml:"serviceAccountFile"`
	AccessTokenFile    string `yaml:"accessTokenFile"`
}

type azureSettings struct {
	serviceSettings    `yaml:",inline"`
	TenantID           string `yaml:"tenantID"`
	ClientID           string `yaml:"clientID"`
	ClientSecretFile   string `yaml:"clientSecretFile"`
	FederatedTokenFile string `yaml:"federatedTokenFile"`
	Authority          string `yaml:"authority"`
	Resource           string `yaml:"resource"`
}

// LoadKeySources reads a file of kind KeySources, and every file that it names.
// Nothing is contacted. Files of keys and credentials are read again when they
// are used. Errors are *KeyFileError and never quote a key or credential.
func LoadKeySources(path string) (*Keys, error) {
	data, _, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("reading key sources: %w", err)
	}
	c, err := decodeKeySources(path, data)
	if err != nil {
		return nil, err
	}
	b := sourceBuilder{file: path, dir: filepath.Dir(path), keys: &Keys{}}
	for _, build := range []func(keySources) error{b.age, b.pgp, b.vault, b.aws, b.gcp, b.azure} {
		if err := build(c); err != nil {
			return nil, err
		}
	}
	if len(b.keys.sources) == 0 {
		return nil, &KeyFileError{File: path, Reason: "it names no key", Remedy: remedySources}
	}
	return b.keys, nil
}

const (
	keySourcesVersion = "sluice.dev/v1alpha1"
	keySourcesKind    = "KeySources"
	remedySources     = "docs/reference/key-sources.md shows every field"
)

// decodeKeySources decodes strictly. Values are not quoted: one may be a key
// that somebody pasted.
func decodeKeySources(name string, data []byte) (c keySources, err error) {
	refuse := func(line int, format string, args ...any) error {
		return &KeyFileError{File: name, Line: line, Reason: fmt.Sprintf(format, args...), Remedy: remedySources}
	}
	defer func() {
		if recover() != nil {
			err = refuse(0, "it is not valid YAML (a library panicked on it)")
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return c, refuse(0, "it is empty")
	} else if err != nil {
		return c, refuse(lineIn(err), "it is not valid YAML")
	}
	if dec.Decode(&yaml.Node{}) == nil {
		return c, refuse(0, "it holds more than one document")
	}
	if line, problem := strictly(doc.Content[0], reflect.TypeFor[keySources](), ""); problem != "" {
		return c, refuse(line, "%s", problem)
	}
	if err := doc.Decode(&c); err != nil {
		return c, refuse(lineIn(err), "a value is not of the right type")
	}
	if c.APIVersion != keySourcesVersion || c.Kind != keySourcesKind {
		return c, refuse(1, "apiVersion must be %s and kind %s", keySourcesVersion, keySourcesKind)
	}
	return c, nil
}

// strictly returns the first place where a document does not fit a type:
// unknown and repeated fields, anchors, and values of another kind.
func strictly(n *yaml.Node, t reflect.Type, path string) (line int, problem string) {
	where := strings.TrimPrefix(path, ".")
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return n.Line, "anchors and aliases are not allowed"
	}
	switch t.Kind() {
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return n.Line, where + " must be a list"
		}
		for _, item := range n.Content {
			if line, problem = strictly(item, t.Elem(), path+"[]"); problem != "" {
				return line, problem
			}
		}
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			return n.Line, strings.TrimSpace(where + " must be a mapping")
		}
		fields := fieldsOf(t)
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			field, ok := fields[key.Value]
			switch {
			case !ok:
				return key.Line, "unknown field " + oneLine(key.Value) + ": known are " + strings.Join(slices.Sorted(mapKeys(fields)), ", ")
			case seen[key.Value]:
				return key.Line, "field " + key.Value + " is given twice"
			}
			seen[key.Value] = true
			if line, problem = strictly(n.Content[i+1], field, path+"."+key.Value); problem != "" {
				return line, problem
			}
		}
	default:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || n.Value == "" {
			return n.Line, where + " must be a string that is not empty"
		}
	}
	return 0, ""
}

// fieldsOf are the YAML names of a struct's fields.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			for k, v := range fieldsOf(f.Type) {
				out[k] = v
			}
			continue
		}
		out[name] = f.Type
	}
	return out
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// sourceBuilder makes the sources that a file of key sources names.
type sourceBuilder struct {
	file, dir string
	keys      *Keys
}

func (b *sourceBuilder) refuse(field, format string, args ...any) error {
	return &KeyFileError{File: b.file, Reason: field + ": " + fmt.Sprintf(format, args...), Remedy: remedySources}
}

func (b *sourceBuilder) add(s source) { b.keys.sources = append(b.keys.sources, s) }

// path of a file that the configuration names.
func (b *sourceBuilder) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(b.dir, p)
}

// file of keys or credentials, read once now so that mistakes show at the start.
func fileOf[T any](b *sourceBuilder, field, path, what string, parse func(string, []byte) (T, error)) (getter[T], error) {
	if path == "" {
		return nil, b.refuse(field, "is missing")
	}
	f := &watchedFile[T]{path: b.path(path), what: what, parse: parse}
	_, err := f.get()
	return f, err
}

func (b *sourceBuilder) age(c keySources) error {
	for _, file := range c.Age.IdentityFiles {
		ids, err := fileOf(b, "age.identityFiles", file, "age identities", parseAgeIdentities)
		if err != nil {
			return err
		}
		b.add(ageSource{ids})
	}
	return nil
}

func (b *sourceBuilder) pgp(c keySources) error {
	var passphrase getter[string]
	if c.PGP.PassphraseFile != "" {
		var err error
		if passphrase, err = fileOf(b, "pgp.passphraseFile", c.PGP.PassphraseFile, "a passphrase", parseToken); err != nil {
			return err
		}
	}
	for _, file := range c.PGP.KeyringFiles {
		ring, err := fileOf(b, "pgp.keyringFiles", file, "an OpenPGP keyring", func(name string, data []byte) (openpgp.EntityList, error) {
			if passphrase == nil {
				return parseKeyring(name, data, nil)
			}
			p, err := passphrase.get()
			if err != nil {
				return nil, err
			}
			return parseKeyring(name, data, []byte(p))
		})
		if err != nil {
			return err
		}
		b.add(pgpSource{ring})
	}
	return nil
}

// service checks what all key services have. The endpoint is nil when none is
// configured.
func (b *sourceBuilder) service(field string, s serviceSettings) (*endpoint, getter[*x509.CertPool], error) {
	if len(s.Keys) == 0 {
		return nil, nil, b.refuse(field+".keys", "is missing: name each key as .sops.yaml does")
	}
	var ca getter[*x509.CertPool]
	if s.CAFile != "" {
		var err error
		if ca, err = fileOf(b, field+".caFile", s.CAFile, "certificates", parseCertificates); err != nil {
			return nil, nil, err
		}
	}
	if s.Endpoint == "" {
		return nil, ca, nil
	}
	e, err := b.endpoint(field+".endpoint", s.Endpoint, ca)
	return e, ca, err
}

func (b *sourceBuilder) endpoint(field, address string, ca getter[*x509.CertPool]) (*endpoint, error) {
	e, problem := newEndpoint(address, ca)
	if problem != "" {
		return nil, b.refuse(field, "%s", problem)
	}
	return e, nil
}

func (b *sourceBuilder) vault(c keySources) error {
	for _, v := range c.Vault {
		e, ca, err := b.service("vault", v.serviceSettings)
		if err != nil {
			return err
		}
		s := &vaultSource{endpoint: e, endpoints: map[string]*endpoint{}, namespace: v.Namespace}
		for _, uri := range v.Keys {
			key, ok := parseVaultKey(uri)
			if !ok {
				return b.refuse("vault.keys", "a key is named https://HOST[:PORT]/v1/ENGINE/keys/NAME")
			}
			s.keys = append(s.keys, key)
			if e == nil && s.endpoints[key.address] == nil {
				if s.endpoints[key.address], err = b.endpoint("vault.keys", key.address, ca); err != nil {
					return err
				}
			}
		}
		if s.token, err = fileOf(b, "vault.tokenFile", v.TokenFile, "a token of Vault", parseToken); err != nil {
			return err
		}
		b.add(s)
	}
	return nil
}

func (b *sourceBuilder) aws(c keySources) error {
	for _, a := range c.AWSKMS {
		e, ca, err := b.service("awsKMS", a.serviceSettings)
		if err != nil {
			return err
		}
		s := &awsSource{arns: a.Keys, endpoint: e, endpoints: map[string]*endpoint{}}
		for _, arn := range a.Keys {
			region, address, ok := awsRegion(arn)
			switch {
			case !ok:
				return b.refuse("awsKMS.keys", "a key is named by its ARN, arn:aws:kms:REGION:ACCOUNT:key/ID")
			case e == nil && address == "":
				return b.refuse("awsKMS.endpoint", "is missing: the address of KMS in region %s is not known", region)
			case e == nil && s.endpoints[region] == nil:
				if s.endpoints[region], err = b.endpoint("awsKMS.keys", address, ca); err != nil {
					return err
				}
			}
		}
		profile := a.Profile
		if profile == "" {
			profile = "default"
		}
		parse := func(name string, data []byte) (aws.Credentials, error) {
			return parseAWSCredentials(name, profile, data)
		}
		if s.credentials, err = fileOf(b, "awsKMS.credentialsFile", a.CredentialsFile, "credentials for AWS", parse); err != nil {
			return err
		}
		b.add(s)
	}
	return nil
}

func (b *sourceBuilder) gcp(c keySources) error {
	for _, g := range c.GCPKMS {
		e, ca, err := b.service("gcpKMS", g.serviceSettings)
		if err != nil {
			return err
		}
		if e == nil {
			if e, err = b.endpoint("gcpKMS.endpoint", gcpAddress, ca); err != nil {
				return err
			}
		}
		for _, id := range g.Keys {
			if !gcpKey.MatchString(id) {
				return b.refuse("gcpKMS.keys", "a key is named projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
			}
		}
		s := &gcpSource{resources: g.Keys, endpoint: e}
		switch {
		case (g.ServiceAccountFile == "") == (g.AccessTokenFile == ""):
			return b.refuse("gcpKMS", "give either serviceAccountFile or accessTokenFile")
		case g.ServiceAccountFile != "":
			s.tokens, err = fileOf(b, "gcpKMS.serviceAccountFile", g.ServiceAccountFile, "the key of a service account", parseServiceAccount)
		default:
			s.tokens, err = fileOf[oauth2.TokenSource](b, "gcpKMS.accessTokenFile", g.AccessTokenFile, "an access token", parseAccessToken)
		}
		if err != nil {
			return err
		}
		b.add(s)
	}
	return nil
}

var azureID = regexp.MustCompile(`^[0-9A-Za-z.-]{1,100}$`)

func (b *sourceBuilder) azure(c keySources) error {
	for _, a := range c.AzureKeyVault {
		e, ca, err := b.service("azureKeyVault", a.serviceSettings)
		if err != nil {
			return err
		}
		s := &azureSource{endpoint: e, endpoints: map[string]*endpoint{}}
		for _, uri := range a.Keys {
			key, ok := parseAzureKey(uri)
			if !ok {
				return b.refuse("azureKeyVault.keys", "a key is named https://VAULT.vault.azure.net/keys/NAME[/VERSION]")
			}
			s.keys = append(s.keys, key)
			if e == nil && s.endpoints[key.vault] == nil {
				if s.endpoints[key.vault], err = b.endpoint("azureKeyVault.keys", key.vault, ca); err != nil {
					return err
				}
			}
		}
		if s.tokens, err = b.azureTokens(a, s.keys[0], ca); err != nil {
			return err
		}
		b.add(s)
	}
	return nil
}

// azureTokens are the credentials of an application. They go for one resource:
// the service that the vaults belong to.
func (b *sourceBuilder) azureTokens(a azureSettings, first azureKey, ca getter[*x509.CertPool]) (t *azureTokens, err error) {
	if !azureID.MatchString(a.TenantID) || !azureID.MatchString(a.ClientID) {
		return nil, b.refuse("azureKeyVault", "give tenantID and clientID")
	}
	if a.Authority == "" {
		a.Authority = "https://login.microsoftonline.com"
	}
	if a.Resource == "" {
		_, service, _ := strings.Cut(strings.TrimPrefix(first.vault, "https://"), ".")
		a.Resource = "https://" + service
	}
	t = &azureTokens{tenant: a.TenantID, client: a.ClientID, scope: strings.TrimRight(a.Resource, "/") + "/.default"}
	if t.authority, err = b.endpoint("azureKeyVault.authority", a.Authority, ca); err != nil {
		return nil, err
	}
	switch {
	case (a.ClientSecretFile == "") == (a.FederatedTokenFile == ""):
		return nil, b.refuse("azureKeyVault", "give either clientSecretFile or federatedTokenFile")
	case a.ClientSecretFile != "":
		t.secret, err = fileOf(b, "azureKeyVault.clientSecretFile", a.ClientSecretFile, "a client secret", parseToken)
	default:
		t.federated = true
		t.secret, err = fileOf(b, "azureKeyVault.federatedTokenFile", a.FederatedTokenFile, "a federated token", parseToken)
	}
	return t, err
}
