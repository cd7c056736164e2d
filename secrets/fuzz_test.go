package secrets

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// What is read as key sources names their kind, and no error quotes a key.
func FuzzKeySources(ff *testing.F) {
	f := mutants.New(ff)
	for _, fields := range []string{
		"age: {identityFiles: [a]}\n", "pgp: {keyringFiles: [a], passphraseFile: b}\n",
		"vault: [{keys: [https://v/v1/t/keys/a], tokenFile: t, namespace: n, caFile: c, endpoint: https://e}]\n",
		"age: &a [*a]\n", "awsKMS: [{keys: [a], keys: [b]}]\n", "azureKeyVault: [{}, {tenantID: 1}]\n", "vault: {<<: {}}\n",
	} {
		f.Add([]byte(sourcesHeader + fields))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeKeySources("k", append([]byte("#AGE-SECRET-KEY-\n"), data...))
		if err != nil {
			assertHint(t, err)
			return
		}
		if c.Kind != keySourcesKind || c.APIVersion != keySourcesVersion {
			t.Errorf("decoded kind %q of %q", c.Kind, c.APIVersion)
		}
	})
}

// A rule that is read can be asked about any file and used.
func FuzzRules(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte("creation_rules:\n- {path_regex: 'a/.*\\.env$', age: age1x}\n"), "a/b.env")
	f.Add([]byte("creation_rules:\n- {pgp: 'A, B', key_groups: [{merge: [{age: []}]}], shamir_threshold: -1}\n"), "x")
	f.Add([]byte("creation_rules: [{kms: a+arn:b, gcp_kms: [c], azure_keyvault: 'https://v/keys/n', encrypted_regex: '('}]\n"), "x")
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		rules, err := ParseRules(RulesFile, data)
		if err != nil {
			assertHint(t, err)
			return
		}
		rule, ok := rules.For(path)
		if rules.Demands(path) && !ok {
			t.Error("a file is demanded to be encrypted, and no rule says how")
		}
		if ok {
			_, _ = rule.metadata()
		}
	})
}

// Whatever stands in a file of keys or credentials, nothing panics and no error
// quotes it.
func FuzzKeyFiles(ff *testing.F) {
	f := mutants.New(ff)
	for _, name := range []string{"development.agekey", "ssh_ed25519", "ssh_rsa", "ssh_protected", "ssh_ecdsa", "pgp_curve25519.asc", "pgp_rsa.gpg", "pgp_protected.asc"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"))
	f.Add([]byte("[default]\nwJalrXUtnFEMIwJalrXUtnFEMIwJalrXUtnFEMIwJalrXUtnFEMI==\n"))
	f.Add([]byte("[default]\naws_secret_access_keyFEMIwJalrXUtnFE_wJalrXUtnFEMI = b\n"))
	f.Add([]byte(`{"type": "service_account", "private_key": "x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, ageErr := parseAgeIdentities("k", data)
		_, pgpErr := parseKeyring("k", data, []byte("p"))
		_, awsErr := parseAWSCredentials("k", "default", data)
		_, gcpErr := parseServiceAccount("k", data)
		_, caErr := parseCertificates("k", data)
		_, tokenErr := parseToken("k", data)
		for _, err := range []error{ageErr, pgpErr, awsErr, gcpErr, caErr, tokenErr} {
			if err == nil {
				continue
			}
			assertHint(t, err)
			for line := range strings.Lines(string(data)) {
				line = strings.ToLower(strings.TrimSpace(line))
				if len(line) > 40 && strings.Contains(strings.ToLower(err.Error()), line[:40]) {
					t.Errorf("the error quotes the file")
				}
			}
		}
	})
}

// Names of keys come from hostile files: what is taken for a key of a service is
// in the one form that addresses are made of.
func FuzzKeyNames(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("https://vault.example.com:8200/v1/a/b/keys/c")
	f.Add("https://shop.vault.azure.net/keys/a/0123")
	f.Add(awsTestARN)
	f.Fuzz(func(t *testing.T, name string) {
		if k, ok := parseVaultKey(name); ok {
			if again, ok := parseVaultKey(k.String()); !ok || again != k || strings.Contains(k.String(), "..") && strings.Contains(k.engine+k.name, "/../") {
				t.Errorf("%q is read as %q", name, k)
			}
		}
		if k, ok := parseAzureKey(name); ok {
			if again, ok := parseAzureKey(k.String()); !ok || again != k {
				t.Errorf("%q is read as %q", name, k)
			}
		}
		if _, address, ok := awsRegion(name); ok && address != "" && !strings.Contains(address, ".amazonaws.com") {
			t.Errorf("%q leads to %q", name, address)
		}
	})
}

// Whatever a key service answers, an error is one short line of our words and at most
// a code of its own.
func FuzzAnswers(ff *testing.F) {
	f := mutants.New(ff)
	f.Add(200, []byte(`{"data":{"plaintext":"aGk="}}`))
	f.Add(400, []byte(`{"__type":"com.amazonaws.kms#AccessDeniedException","message":"x"}`))
	f.Add(403, []byte(`{"error":{"code":"Forbidden","status":"PERMISSION_DENIED","message":"x"}}`))
	f.Add(401, []byte(`{"error":"invalid_client","error_description":"x"}`))
	f.Add(400, []byte(`{"__type":"a#b/https://example.com#x"}`))
	f.Add(599, []byte(`{"errors":["x"]}`))
	code := regexp.MustCompile(`^k: https://kms\.example\.com(: [a-zA-Z0-9 (),:_'.-]*| answers with something else than JSON)$`)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := &endpoint{base: "https://kms.example.com"}
		for _, explain := range []func(answer) string{nil, explainAWS, explainAzure, explainGoogle, explainOAuth} {
			var out struct {
				Data map[string]string
			}
			err := e.read(answer{status, body}, &out, explain)
			if err == nil {
				require.Equal(t, http.StatusOK, status)
				continue
			}
			err = ofKey(err, "k")
			assertHint(t, err)
			require.Regexp(t, code, err.Error())
			require.Less(t, len(err.Error()), 200)
		}
	})
}
