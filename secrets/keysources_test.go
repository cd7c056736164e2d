package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keyKind is a kind of key that a test has set up: how .sops.yaml names it, what
// the file of key sources says about it, and what the sops command needs.
type keyKind struct {
	name    string
	rule    string // fields of a creation rule
	group   string // the same as a key group
	sources string // fields of KeySources
	env     []string
	server  *keyServer // nil for local keys
}

const (
	pgpCurveFingerprint = "4D4A1DF18E85876068E5DCB40787BCA4DB776A12"
	pgpRSAFingerprint   = "A55A1C6E4FF1694B0F1212FB089E98B95432D816"
)

// keyKinds sets up every kind of key, its files in dir.
func keyKinds(t testing.TB, dir string) []keyKind {
	t.Helper()
	abs, err := filepath.Abs("testdata")
	require.NoError(t, err)
	file := func(name string) string { return filepath.Join(abs, name) }
	kinds := []keyKind{}
	for _, name := range []string{"development.agekey", "ssh_ed25519", "ssh_rsa"} {
		k, err := LoadAgeKeys(file(name))
		require.NoError(t, err)
		env := "SOPS_AGE_SSH_PRIVATE_KEY_FILE="
		if strings.HasSuffix(name, ".agekey") {
			env = "SOPS_AGE_KEY_FILE="
		}
		kinds = append(kinds, keyKind{
			name: name, rule: "age: " + k.Names()[0], group: fmt.Sprintf("age: [%q]", k.Names()[0]),
			sources: fmt.Sprintf("age: {identityFiles: [%q]}\n", file(name)), env: []string{env + file(name)},
		})
	}
	for name, fp := range map[string]string{"pgp_curve25519.asc": pgpCurveFingerprint, "pgp_rsa.gpg": pgpRSAFingerprint} {
		kinds = append(kinds, keyKind{
			name: name, rule: "pgp: " + fp, group: "pgp: [" + fp + "]",
			sources: fmt.Sprintf("pgp: {keyringFiles: [%q]}\n", file(name)),
		})
	}
	return append(kinds, vaultKind(t, dir, newTransit(t)), awsKind(t, dir), gcpKind(t, dir), azureKind(t, dir))
}

func vaultKind(t testing.TB, dir string, s *keyServer) keyKind {
	token := put(t, dir, "vault-token", vaultTestToken+"\n")
	uri := s.URL + vaultTestPath
	return keyKind{
		name: "vault", rule: "hc_vault_transit_uri: " + uri, group: "hc_vault: [" + uri + "]",
		sources: fmt.Sprintf("vault: [{keys: [%q], tokenFile: %q}]\n", uri, token),
		env:     []string{"VAULT_TOKEN=" + vaultTestToken}, server: s,
	}
}

func awsKind(t testing.TB, dir string) keyKind {
	s := newAWSKMS(t)
	credentials := put(t, dir, "aws", "[other]\naws_access_key_id = x\n\n[default]\naws_access_key_id = "+awsTestID+
		"\naws_secret_access_key="+awsTestSecret+"\naws_session_token = "+awsTestToken+"\n")
	return keyKind{
		name: "aws", rule: "kms: " + awsTestARN, group: "kms: [{arn: " + awsTestARN + ", context: {Project: shop, Role: reader}}]",
		sources: fmt.Sprintf("awsKMS: [{keys: [%q], endpoint: %q, credentialsFile: %q}]\n", awsTestARN, s.URL, credentials),
		env: []string{"AWS_ENDPOINT_URL_KMS=" + s.URL, "AWS_ACCESS_KEY_ID=" + awsTestID, "AWS_SECRET_ACCESS_KEY=" + awsTestSecret,
			"AWS_SESSION_TOKEN=" + awsTestToken}, server: s,
	}
}

func gcpKind(t testing.TB, dir string) keyKind {
	account, public := serviceAccount(t)
	s := newGCPKMS(t, public, "an-access-token")
	return keyKind{
		name: "gcp", rule: "gcp_kms: " + gcpTestKey, group: "gcp_kms: [{resource_id: " + gcpTestKey + "}]",
		sources: fmt.Sprintf("gcpKMS: [{keys: [%q], endpoint: %q, serviceAccountFile: %q}]\n", gcpTestKey, s.URL, put(t, dir, "account.json", account)),
		env:     []string{"SOPS_GCP_KMS_ENDPOINT=" + s.URL, "SOPS_GCP_KMS_CLIENT_TYPE=rest", "GOOGLE_OAUTH_ACCESS_TOKEN=an-access-token"}, server: s,
	}
}

func azureKind(t testing.TB, dir string) keyKind {
	s := newAzureKeyVault(t)
	uri := s.URL + "/keys/production"
	ca := s.ca(t, dir)
	return keyKind{
		name: "azure", rule: "azure_keyvault: " + uri + "/" + azureTestVersion,
		group: fmt.Sprintf("azure_keyvault: [{vaultUrl: %q, key: production, version: %s}]", s.URL, azureTestVersion),
		sources: fmt.Sprintf("azureKeyVault: [{keys: [%q], caFile: %q, tenantID: %s, clientID: %s, clientSecretFile: %q, authority: %q, resource: %q}]\n",
			uri, ca, azureTestTenant, azureTestClient, put(t, dir, "azure-secret", azureTestSecret), s.URL, azureResource(s)),
		env: []string{"IDENTITY_ENDPOINT=" + s.URL + "/identity", "IDENTITY_HEADER=" + azureTestHeader, "SSL_CERT_FILE=" + ca,
			"AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential"}, server: s,
	}
}

const sourcesHeader = "apiVersion: sluice.dev/v1alpha1\nkind: KeySources\n"

// load reads key sources with the given fields.
func load(t testing.TB, fields string) *Keys {
	t.Helper()
	k, err := LoadKeySources(put(t, t.TempDir(), "keys.yaml", sourcesHeader+fields))
	require.NoError(t, err)
	return k
}

func ruleOf(t testing.TB, fields string) Rule {
	t.Helper()
	rules, err := ParseRules(".sops.yaml", []byte("creation_rules:\n- {"+fields+"}\n"))
	require.NoError(t, err)
	rule, ok := rules.For("any")
	require.True(t, ok)
	return rule
}

func TestEveryKindOfKey(t *testing.T) {
	t.Parallel()
	const plain = "TOKEN=canary-token\n"
	for _, kind := range keyKinds(t, t.TempDir()) {
		t.Run(kind.name, func(t *testing.T) {
			keys := load(t, kind.sources)
			for _, fields := range []string{kind.rule, "key_groups: [{" + kind.group + "}]"} {
				sealed, err := keys.Encrypt(t.Context(), "s.env", []byte(plain), ruleOf(t, fields))
				require.NoError(t, err)
				assert.NotContains(t, string(sealed), "canary")
				o, err := keys.Open("s.env", sealed)
				require.NoError(t, err)
				assert.Equal(t, plain, string(o.Data))

				before := 0
				if kind.server != nil {
					before = kind.server.asked()
				}
				_, err = keysOf(t, "production").Open("s.env", sealed)
				var none *NoKeyError
				require.ErrorAs(t, err, &none)
				assert.Len(t, none.Keys, 1)
				assert.Empty(t, none.Failed)
				assertHint(t, err)
				if kind.server != nil {
					assert.Equal(t, before, kind.server.asked(), "what a file names is not contacted")
				}
			}
			for _, text := range []string{fmt.Sprint(keys), fmt.Sprintf("%+v %#v", keys, keys), fmt.Sprintf("%+v %v %#v", *keys, *keys, *keys)} {
				for _, secret := range []string{"SECRET", vaultTestToken, awsTestSecret, azureTestSecret, "PRIVATE"} {
					assert.NotContains(t, text, secret)
				}
			}
		})
	}
}

// Several threads use one set of keys.
func TestEveryKindOfKeyAtOnce(t *testing.T) {
	t.Parallel()
	var all, groups string
	for _, kind := range keyKinds(t, t.TempDir()) {
		switch kind.name {
		case "ssh_ed25519", "ssh_rsa", "pgp_rsa.gpg": // one of each field
			continue
		}
		all += kind.sources
		groups += "{" + kind.group + "},"
	}
	keys := load(t, all)
	sealed, err := keys.Encrypt(t.Context(), "s.env", []byte("TOKEN=canary\n"), ruleOf(t, "key_groups: ["+groups+"], shamir_threshold: 6"))
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			o, err := keys.Open("s.env", sealed)
			assert.NoError(t, err)
			assert.Equal(t, "TOKEN=canary\n", string(o.Data))
		})
	}
	wg.Wait()
}

// Of key groups of mixed kinds, as many as the threshold demands are enough,
// and those that cost a request are only asked when the others are not.
func TestShamirGroupsOfMixedKinds(t *testing.T) {
	t.Parallel()
	byName := map[string]keyKind{}
	for _, k := range keyKinds(t, t.TempDir()) {
		byName[k.name] = k
	}
	ssh, pgp, aws := byName["ssh_ed25519"], byName["pgp_rsa.gpg"], byName["aws"]
	rule := ruleOf(t, "shamir_threshold: 2, key_groups: [{"+aws.group+"}, {"+pgp.group+"}, {"+ssh.group+"}]")
	sealed, err := load(t, ssh.sources+pgp.sources+aws.sources).Encrypt(t.Context(), "s.env", []byte("A=b\n"), rule)
	require.NoError(t, err)
	asked := aws.server.asked()
	for name, tt := range map[string]struct {
		sources  string
		opens    bool
		requests int
	}{
		"two local ones":       {ssh.sources + pgp.sources, true, 0},
		"all":                  {ssh.sources + pgp.sources + aws.sources, true, 0},
		"a local and a remote": {ssh.sources + aws.sources, true, 1},
		"one":                  {pgp.sources, false, 0},
		"the remote one":       {aws.sources, false, 1},
	} {
		_, err := load(t, tt.sources).Open("s.env", sealed)
		assert.Equal(t, tt.opens, err == nil, name)
		assert.Equal(t, tt.requests, aws.server.asked()-asked, name)
		asked = aws.server.asked()
	}
}

// A file that names another key of a configured service, or the same at another
// address, is refused before a connection is made: a repository sends no request, as it
// could in Kargo CVE-2026-32828.
func TestAttackForeignKeyServices(t *testing.T) {
	t.Parallel()
	kinds := map[string]keyKind{}
	for _, k := range keyKinds(t, t.TempDir()) {
		kinds[k.name] = k
	}
	called, foreign := listen(t)
	foreignURL := "http://" + foreign
	tests := []struct{ name, kind, old, new string }{
		{"Vault's address", "vault", kinds["vault"].server.URL, foreignURL},
		{"Vault's address with a user", "vault", kinds["vault"].server.URL, strings.Replace(kinds["vault"].server.URL, "http://", "http://u@", 1)},
		{"Vault's key", "vault", `"key_name": "production"`, `"key_name": "staging"`},
		{"Vault's engine", "vault", `"engine_path": "transit"`, `"engine_path": "transit/../sys"`},
		{"Azure's address", "azure", kinds["azure"].server.URL, "https://" + foreign},
		{"Azure's key", "azure", `"name": "production"`, `"name": "staging"`},
		{"Azure's version", "azure", azureTestVersion, azureTestVersion + "/../../other"},
		{"AWS's key", "aws", "000000000001", "000000000002"},
		{"AWS's region", "aws", "eu-west-1", foreign + "/"},
		{"GCP's key", "gcp", "/production", "/staging"},
		{"GCP's path", "gcp", "/production", "/production/../../../../../other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kind := kinds[tt.kind]
			keys := load(t, kind.sources)
			sealed, err := keys.Encrypt(t.Context(), "c.json", []byte(`{"a": "b"}`), ruleOf(t, kind.rule))
			require.NoError(t, err)
			asked := kind.server.asked()
			_, err = keys.Open("c.json", swap(t, sealed, tt.old, tt.new))
			var none *NoKeyError
			require.ErrorAs(t, err, &none)
			assert.Empty(t, none.Failed)
			assert.False(t, none.Temporary())
			assert.Equal(t, asked, kind.server.asked())
		})
	}
	assert.Zero(t, called.Load())
}

// What the file says of roles and profiles chooses no credentials.
func TestAWSRoleOfAFileIsRefused(t *testing.T) {
	t.Parallel()
	kind := awsKind(t, t.TempDir())
	keys := load(t, kind.sources)
	sealed, err := keys.Encrypt(t.Context(), "c.json", []byte(`{"a": "b"}`), ruleOf(t, kind.rule))
	require.NoError(t, err)
	asked := kind.server.asked()
	_, err = keys.Open("c.json", swap(t, sealed, `"arn":`, `"role": "arn:aws:iam::111122223333:role/admin", "arn":`))
	require.ErrorContains(t, err, "the file asks for the role arn:aws:iam::111122223333:role/admin, and a file chooses no credentials")
	assertHint(t, err)
	assert.Equal(t, asked, kind.server.asked())
}

// Services that fail say why, without what they answered; whether it may pass by
// itself decides whether it is tried again soon.
func TestFailingKeyServices(t *testing.T) {
	t.Parallel()
	stranger := newKeyServer(t, false, func(http.ResponseWriter, *http.Request) {})
	for _, kind := range keyKinds(t, t.TempDir()) {
		if kind.server == nil {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			keys := load(t, kind.sources)
			sealed, err := keys.Encrypt(t.Context(), "s.env", []byte("A=canary\n"), ruleOf(t, kind.rule))
			require.NoError(t, err)
			for _, tt := range []struct {
				status    int
				body      string
				want      string
				temporary bool
			}{
				{403, "canary", "(403 Forbidden)", false},
				{404, "canary", "(404 Not Found)", false},
				{302, "", "it redirects, which is not followed", false},
				{429, "canary", "(429 Too Many Requests)", true},
				{500, "canary", "it answers internal server error", true},
				{999, "canary", "it answers with an unknown status", true},
				{200, "canary", "answers with something else than JSON", false},
				{200, "{}", "the answer holds no data key", false},
				{200, strings.Repeat(" ", 1<<17), "answers with more than 64 KiB", false},
			} {
				kind.server.answer(tt.status, tt.body, stranger.URL)
				o, err := keys.Open("s.env", sealed)
				assert.Equal(t, Opened{}, o)
				require.ErrorContains(t, err, tt.want)
				assertHint(t, err)
				assertNoLeak(t, err)
				var none *NoKeyError
				require.ErrorAs(t, err, &none)
				assert.Equal(t, tt.temporary, none.Temporary(), tt.want)
			}
			kind.server.answer(0, "", "")
			damaged := strings.Replace(string(sealed), "enc=", "enc=AAAA", 1)
			_, err = keys.Open("s.env", []byte(damaged))
			require.Error(t, err)
			assertNoLeak(t, err)
			kind.server.Close()
			_, err = keys.Open("s.env", sealed)
			require.ErrorContains(t, err, "cannot be reached: ")
			assertHint(t, err)
		})
	}
	assert.Zero(t, stranger.asked(), "no redirect is followed")
}

// A hostile file that names one key many times does not make as many requests.
func TestRequestsForAFileAreBounded(t *testing.T) {
	t.Parallel()
	kind := awsKind(t, t.TempDir())
	keys := load(t, kind.sources)
	entry := fmt.Sprintf(`{"arn": %q, "created_at": "2026-01-01T00:00:00Z", "enc": "AAAA"},`, awsTestARN)
	_, err := keys.Open("c.json", swap(t, fixture(t, "sops", "config.json"), `"age": [`, `"kms": [`+strings.TrimSuffix(strings.Repeat(entry, 90), ",")+`], "age": [`))
	require.Error(t, err)
	assert.Equal(t, maxAttempts, kind.server.asked())
}

// Credentials and keys are renewed in place.
func TestCredentialsAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kind := vaultKind(t, dir, newTransit(t))
	keys := load(t, kind.sources)
	sealed, err := keys.Encrypt(t.Context(), "s.env", []byte("A=b\n"), ruleOf(t, kind.rule))
	require.NoError(t, err)
	put(t, dir, "vault-token", "expired-token")
	_, err = keys.Open("s.env", sealed)
	require.ErrorContains(t, err, "the token has expired or may not use the key (403 Forbidden)")
	assert.NotContains(t, err.Error(), "expired-token")
	put(t, dir, "vault-token", "")
	_, err = keys.Open("s.env", sealed)
	require.ErrorContains(t, err, "vault-token: it is empty")
	put(t, dir, "vault-token", vaultTestToken)
	_, err = keys.Open("s.env", sealed)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "vault-token")))
	_, err = keys.Open("s.env", sealed)
	require.ErrorIs(t, err, os.ErrNotExist)

	identity := put(t, dir, "identity", string(fixture(t, "production.agekey")))
	age, err := LoadAgeKeys(identity)
	require.NoError(t, err)
	_, err = age.Open("secrets.env", fixture(t, "sops", "secrets.env"))
	require.Error(t, err)
	put(t, dir, "identity", string(fixture(t, "development.agekey")))
	_, err = age.Open("secrets.env", fixture(t, "sops", "secrets.env"))
	require.NoError(t, err)
}

// A pipe (--age-key-file ENV=<(pass show key)) can be read only once.
func TestKeysFromAPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	_, err = w.Write(fixture(t, "development.agekey"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	path := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skip("the system has no /dev/fd")
	}
	keys, err := LoadAgeKeys(path)
	require.NoError(t, err)
	for range 2 {
		_, err = keys.Open("secrets.env", fixture(t, "sops", "secrets.env"))
		require.NoError(t, err)
	}
}

func TestKeySourcesErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token := put(t, dir, "token", "s.token")
	lines := put(t, dir, "lines", "one\ntwo\n")
	abs, err := filepath.Abs("testdata")
	require.NoError(t, err)
	file := func(name string) string { return filepath.Join(abs, name) }
	exec := put(t, dir, "aws-exec", "[default]\ncredential_process = /bin/canary\n")
	external := put(t, dir, "external.json", `{"type": "external_account", "credential_source": {"url": "http://169.254.169.254"}}`)
	const vaultKey = "https://vault.example.com/v1/transit/keys/a"
	tests := []struct{ name, fields, want string }{
		{"nothing", "", "keys.yaml: it names no key"},
		{"an unknown field", "vualt: []\n", "keys.yaml:3: unknown field vualt: known are age, apiVersion, awsKMS, azureKeyVault, gcpKMS, kind, pgp, vault"},
		{"a field inside", "vault: [{adress: x}]\n", "keys.yaml:3: unknown field adress: known are caFile, endpoint, keys, namespace, tokenFile"},
		{"a field twice", "age: {}\nage: {}\n", "keys.yaml:4: field age is given twice"},
		{"an alias", "age: &a {}\npgp: *a\n", "keys.yaml:3: anchors and aliases are not allowed"},
		{"a scalar for a list", "age: {identityFiles: AGE-SECRET-KEY-1}\n", "keys.yaml:3: age.identityFiles must be a list"},
		{"a number", "age: {identityFiles: [1]}\n", "keys.yaml:3: age.identityFiles[] must be a string that is not empty"},
		{"two documents", "---\na: b\n", "keys.yaml: it holds more than one document"},
		{"no YAML", "age: [\n", "keys.yaml:3: it is not valid YAML"},
		{"no file", "age: {identityFiles: [absent]}\n", "reading age identities: open "},
		{"a protected SSH key", "age: {identityFiles: [" + file("ssh_protected") + "]}\n", "ssh_protected:1: the SSH key is protected by a passphrase, which nobody can type here"},
		{"an ECDSA key", "age: {identityFiles: [" + file("ssh_ecdsa") + "]}\n", "ssh_ecdsa:1: age cannot use SSH keys of type ecdsa-sha2-nistp256"},
		{"a protected OpenPGP key", "pgp: {keyringFiles: [" + file("pgp_protected.asc") + "]}\n", "is protected by a passphrase"},
		{"a wrong passphrase", "pgp: {keyringFiles: [" + file("pgp_protected.asc") + "], passphraseFile: " + token + "}\n", "the passphrase does not open key "},
		{"no OpenPGP key", "pgp: {keyringFiles: [" + token + "]}\n", "token: it holds no OpenPGP key that can be read"},
		{"no keys", "vault: [{tokenFile: " + token + "}]\n", "keys.yaml: vault.keys: is missing"},
		{"no token", "vault: [{keys: [" + vaultKey + "]}]\n", "keys.yaml: vault.tokenFile: is missing"},
		{"a token of two lines", "vault: [{keys: [" + vaultKey + "], tokenFile: " + lines + "}]\n", "lines: it holds more than one line"},
		{"no TLS", "vault: [{keys: [http://vault.example.com/v1/transit/keys/a], tokenFile: " + token + "}]\n", "keys.yaml: vault.keys: is not https"},
		{"a user in an address", "vault: [{keys: [" + vaultKey + "], endpoint: https://u:p@v, tokenFile: " + token + "}]\n", "vault.endpoint: holds a user or password"},
		{"not a key of Vault", "vault: [{keys: [https://vault.example.com/transit/a], tokenFile: " + token + "}]\n", "a key is named https://HOST[:PORT]/v1/ENGINE/keys/NAME"},
		{"a path that climbs", "vault: [{keys: [https://v/v1/transit/keys/..], tokenFile: " + token + "}]\n", "a key is named https://HOST[:PORT]/v1/ENGINE/keys/NAME"},
		{"no certificate", "vault: [{keys: [" + vaultKey + "], caFile: " + token + "}]\n", "token: it holds no certificate"},
		{"not an ARN", "awsKMS: [{keys: [alias/a], credentialsFile: " + token + "}]\n", "a key is named by its ARN"},
		{"an unknown partition", "awsKMS: [{keys: [\"arn:aws-iso:kms:us-iso-east-1:111122223333:key/a\"]}]\n", "awsKMS.endpoint: is missing: the address of KMS in region us-iso-east-1 is not known"},
		{"credentials by program", "awsKMS: [{keys: [\"" + awsTestARN + "\"], credentialsFile: " + exec + "}]\n", "aws-exec:2: credential_process is not supported"},
		{"no such profile", "awsKMS: [{keys: [\"" + awsTestARN + "\"], profile: other, credentialsFile: " + exec + "}]\n", "aws-exec: it holds no credentials for profile other"},
		{"both credentials", "gcpKMS: [{keys: [" + gcpTestKey + "]}]\n", "gcpKMS: give either serviceAccountFile or accessTokenFile"},
		{"federated credentials", "gcpKMS: [{keys: [" + gcpTestKey + "], serviceAccountFile: " + external + "}]\n", "external.json: credentials of type external_account are not supported"},
		{"not a resource", "gcpKMS: [{keys: [a], accessTokenFile: " + token + "}]\n", "a key is named projects/PROJECT/"},
		{"not a vault's key", "azureKeyVault: [{keys: [\"http://shop.vault.azure.net/keys/a\"]}]\n", "a key is named https://VAULT.vault.azure.net/keys/NAME[/VERSION]"},
		{"no tenant", "azureKeyVault: [{keys: [https://shop.vault.azure.net/keys/a]}]\n", "azureKeyVault: give tenantID and clientID"},
		{"no secret", "azureKeyVault: [{keys: [https://shop.vault.azure.net/keys/a], tenantID: a, clientID: b}]\n", "azureKeyVault: give either clientSecretFile or federatedTokenFile"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := LoadKeySources(put(t, t.TempDir(), "keys.yaml", sourcesHeader+tt.fields))
			assert.Nil(t, k)
			require.ErrorContains(t, err, tt.want)
			assertNoLeak(t, err)
			assert.NotContains(t, err.Error(), "s.token")
			if !errors.Is(err, os.ErrNotExist) {
				assertHint(t, err)
			}
		})
	}
	_, err = LoadKeySources(put(t, dir, "kind.yaml", "apiVersion: v1\nkind: Secret\n"))
	require.ErrorContains(t, err, "kind.yaml:1: apiVersion must be sluice.dev/v1alpha1 and kind KeySources")
	_, err = LoadKeySources(put(t, dir, "empty.yaml", ""))
	require.ErrorContains(t, err, "empty.yaml: it is empty")
}

func TestProtectedKeyring(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	abs, err := filepath.Abs("testdata/pgp_protected.asc")
	require.NoError(t, err)
	put(t, dir, "passphrase", "passphrase\n")
	path := put(t, dir, "keys.yaml", sourcesHeader+"pgp: {keyringFiles: ["+abs+"], passphraseFile: passphrase}\n") // relative to the file
	keys, err := LoadKeySources(path)
	require.NoError(t, err)
	sealed, err := keys.Encrypt(t.Context(), "s.env", []byte("A=b\n"), ruleOf(t, "pgp: "+keys.Names()[0]))
	require.NoError(t, err)
	_, err = keys.Open("s.env", sealed)
	require.NoError(t, err)
}

// Public keys will do for encrypting.
func TestEncryptForAPublicOpenPGPKey(t *testing.T) {
	t.Parallel()
	abs, err := filepath.Abs("testdata")
	require.NoError(t, err)
	public := load(t, "pgp: {keyringFiles: ["+filepath.Join(abs, "pgp_public.asc")+"]}\n")
	sealed, err := public.Encrypt(t.Context(), "s.env", []byte("A=b\n"), ruleOf(t, "pgp: "+pgpCurveFingerprint))
	require.NoError(t, err)
	_, err = public.Open("s.env", sealed)
	require.ErrorContains(t, err, "no key opens it: it is encrypted for pgp "+pgpCurveFingerprint)
	_, err = load(t, "pgp: {keyringFiles: ["+filepath.Join(abs, "pgp_curve25519.asc")+"]}\n").Open("s.env", sealed)
	require.NoError(t, err)
	_, err = public.Encrypt(t.Context(), "s.env", []byte("A=b\n"), ruleOf(t, "pgp: "+pgpRSAFingerprint))
	require.ErrorContains(t, err, "pgp "+pgpRSAFingerprint+": it is not configured")
	assertHint(t, errors.Unwrap(err))
}

// The published schema and the decoder know the same fields.
func TestKeySourcesSchema(t *testing.T) {
	published, err := os.ReadFile("keysources.schema.json")
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(published, &schema))
	assert.Equal(t, fieldPaths(reflect.TypeFor[keySources](), ""), schemaPaths(schema, ""))
}

func fieldPaths(t reflect.Type, path string) map[string]bool {
	out := map[string]bool{}
	for t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return out
	}
	for name, f := range fieldsOf(t) {
		out[path+"."+name] = true
		for p := range fieldPaths(f, path+"."+name) {
			out[p] = true
		}
	}
	return out
}

func schemaPaths(schema map[string]any, path string) map[string]bool {
	out := map[string]bool{}
	if items, ok := schema["items"].(map[string]any); ok {
		schema = items
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		out[path+"."+name] = true
		for q := range schemaPaths(p.(map[string]any), path+"."+name) {
			out[q] = true
		}
	}
	return out
}
