package secrets

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Key services as their providers describe them, for tests: each keeps keys,
// checks credentials as strictly as the original and speaks its protocol, so that
// the sops command works with them too. (Vault's is the original, see vault_test.go.)

// sealer encrypts with a key that never leaves it.
type sealer struct{ aead cipher.AEAD }

func newSealer() sealer {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	return sealer{aead}
}

func (s sealer) seal(plain, context []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce)
	return s.aead.Seal(nonce, nonce, plain, context)
}

func (s sealer) open(sealed, context []byte) ([]byte, bool) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, false
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], context)
	return plain, err == nil
}

// keyServer is a running key service: where it is, what it was asked, and an
// answer that it gives instead of its own.
type keyServer struct {
	*httptest.Server
	mu       sync.Mutex
	requests int
	status   int    // 0: its own answers
	body     string // with status
	location string // with status
}

// newKeyServer starts a server, with TLS or without.
func newKeyServer(t testing.TB, secure bool, handle http.HandlerFunc) *keyServer {
	t.Helper()
	s := &keyServer{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests++
		status, body, location := s.status, s.body, s.location
		s.mu.Unlock()
		if status == 0 {
			handle(w, r)
			return
		}
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	s.Server = httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = nil
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) answer(status int, body, location string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body, s.location = status, body, location
}

func (s *keyServer) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// ca writes the certificate of a server with TLS into a file.
func (s *keyServer) ca(t testing.TB, dir string) string {
	t.Helper()
	return put(t, dir, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

func put(t testing.TB, dir, name, content string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
	return p
}

func writeJSON200(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuseJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

const (
	awsTestARN    = "arn:aws:kms:eu-west-1:111122223333:key/0b1c2d3e-0000-4000-8000-000000000001"
	awsTestID     = "AKIDEXAMPLE"
	awsTestSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	awsTestToken  = "session-token"
)

// newAWSKMS verifies Signature Version 4 with AWS's own signer.
func newAWSKMS(t testing.TB) *keyServer {
	key := newSealer()
	return newKeyServer(t, false, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !signedByUs(r, body) {
			refuseJSON(w, 400, map[string]string{"__type": "InvalidSignatureException"})
			return
		}
		var in struct {
			KeyId                     string
			Plaintext, CiphertextBlob []byte
			EncryptionContext         map[string]string
		}
		if json.Unmarshal(body, &in) != nil {
			refuseJSON(w, 400, map[string]string{"__type": "SerializationException"})
			return
		}
		if in.KeyId != awsTestARN {
			refuseJSON(w, 400, map[string]string{"__type": "com.amazonaws.kms#NotFoundException"})
			return
		}
		context, _ := json.Marshal(in.EncryptionContext) // maps are sorted
		if len(in.EncryptionContext) == 0 {
			context = nil
		}
		switch r.Header.Get("X-Amz-Target") {
		case "TrentService.Encrypt":
			writeJSON200(w, map[string]any{"KeyId": in.KeyId, "CiphertextBlob": key.seal(in.Plaintext, context)})
		case "TrentService.Decrypt":
			plain, ok := key.open(in.CiphertextBlob, context)
			if !ok {
				refuseJSON(w, 400, map[string]string{"__type": "InvalidCiphertextException"})
				return
			}
			writeJSON200(w, map[string]any{"KeyId": in.KeyId, "Plaintext": plain})
		default:
			refuseJSON(w, 400, map[string]string{"__type": "UnknownOperationException"})
		}
	})
}

// signedByUs signs the request once more and compares.
func signedByUs(r *http.Request, body []byte) bool {
	_, signed, ok := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	if !ok {
		return false
	}
	signed, _, _ = strings.Cut(signed, ",")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute || r.Header.Get("X-Amz-Security-Token") != awsTestToken {
		return false
	}
	again, _ := http.NewRequest(r.Method, "http://"+r.Host+r.URL.Path, bytes.NewReader(body))
	for _, name := range strings.Split(signed, ";") {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header.Set(name, r.Header.Get(name))
		}
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: awsTestID, SecretAccessKey: awsTestSecret, SessionToken: awsTestToken},
		again, hex.EncodeToString(sum[:]), "kms", "eu-west-1", at)
	return err == nil && again.Header.Get("Authorization") == r.Header.Get("Authorization")
}

const gcpTestKey = "projects/shop/locations/europe-west1/keyRings/sops/cryptoKeys/production"

// newGCPKMS speaks the REST form of Google's own protocol buffers. It takes a
// token that a service account signed for it, or the given access token.
func newGCPKMS(t testing.TB, account *rsa.PublicKey, accessToken string) *keyServer {
	key := newSealer()
	return newKeyServer(t, false, func(w http.ResponseWriter, r *http.Request) {
		refuse := func(code int, status string) {
			refuseJSON(w, code, map[string]any{"error": map[string]any{"code": code, "status": status, "message": "canary: not for logs"}})
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token != accessToken && !validAssertion(account, token) {
			refuse(401, "UNAUTHENTICATED")
			return
		}
		body, _ := io.ReadAll(r.Body)
		strict := protojson.UnmarshalOptions{}
		reply := func(m proto.Message) {
			out, _ := protojson.Marshal(m)
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(out)
		}
		switch name, verb, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), ":"); {
		case name != gcpTestKey:
			refuse(403, "PERMISSION_DENIED")
		case verb == "encrypt":
			var in kmspb.EncryptRequest
			if strict.Unmarshal(body, &in) != nil {
				refuse(400, "INVALID_ARGUMENT")
				return
			}
			reply(&kmspb.EncryptResponse{Name: name + "/cryptoKeyVersions/1", Ciphertext: key.seal(in.Plaintext, []byte(name))})
		case verb == "decrypt":
			var in kmspb.DecryptRequest
			if strict.Unmarshal(body, &in) != nil {
				refuse(400, "INVALID_ARGUMENT")
				return
			}
			plain, ok := key.open(in.Ciphertext, []byte(name))
			if !ok {
				refuse(400, "INVALID_ARGUMENT")
				return
			}
			reply(&kmspb.DecryptResponse{Plaintext: plain})
		default:
			refuse(404, "NOT_FOUND")
		}
	})
}

// validAssertion checks a token that a service account signs itself.
func validAssertion(account *rsa.PublicKey, token string) bool {
	parts := strings.Split(token, ".")
	if account == nil || len(parts) != 3 {
		return false
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(account, crypto.SHA256, sum[:], sig) != nil {
		return false
	}
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Iss, Aud string
		Exp      int64
	}
	return json.Unmarshal(claims, &c) == nil && c.Aud == "https://cloudkms.googleapis.com/" &&
		c.Iss == "sluice@shop.iam.gserviceaccount.com" && time.Unix(c.Exp, 0).After(time.Now())
}

// serviceAccount is the key file of a service account, and its public key.
func serviceAccount(t testing.TB) (file string, public *rsa.PublicKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	data, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "sluice@shop.iam.gserviceaccount.com", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "http://127.0.0.1:1/token",
	})
	require.NoError(t, err)
	return string(data), &key.PublicKey
}

const (
	azureTestTenant  = "00000000-0000-4000-8000-00000000000a"
	azureTestClient  = "00000000-0000-4000-8000-00000000000b"
	azureTestSecret  = "client-secret~1"
	azureTestVersion = "0123456789abcdef0123456789abcdef"
	azureTestToken   = "azure-access-token"
	azureTestHeader  = "identity-header"
)

// newAzureKeyVault is a vault and, on the same address, what gives tokens for
// it: Entra ID for us, an App Service's identity for the sops command. Without a
// token it sends the challenge that the SDK asks for.
func newAzureKeyVault(t testing.TB) *keyServer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	var s *keyServer
	mux := http.NewServeMux()
	mux.HandleFunc("POST /"+azureTestTenant+"/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		ok := r.FormValue("client_secret") == azureTestSecret ||
			r.FormValue("client_assertion") == "federated-token" && r.FormValue("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
		if !ok || r.FormValue("client_id") != azureTestClient || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != azureResource(s)+"/.default" {
			refuseJSON(w, 401, map[string]string{"error": "invalid_client", "error_description": "canary: not for logs"})
			return
		}
		writeJSON200(w, map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": azureTestToken})
	})
	mux.HandleFunc("GET /identity", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-IDENTITY-HEADER") != azureTestHeader {
			w.WriteHeader(401)
			return
		}
		writeJSON200(w, map[string]any{"token_type": "Bearer", "access_token": azureTestToken, "resource": r.FormValue("resource"),
			"expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix())})
	})
	operate := func(work func(value []byte) ([]byte, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+azureTestToken {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="%s/%s", resource="%s"`, s.URL, azureTestTenant, azureResource(s)))
				refuseJSON(w, 401, map[string]any{"error": map[string]string{"code": "Unauthorized"}})
				return
			}
			var in struct{ Alg, Value string }
			_ = json.NewDecoder(r.Body).Decode(&in)
			value, err := base64.RawURLEncoding.DecodeString(in.Value)
			version := r.PathValue("version")
			if err != nil || in.Alg != "RSA-OAEP-256" || r.FormValue("api-version") == "" || version != "" && version != azureTestVersion {
				refuseJSON(w, 400, map[string]any{"error": map[string]string{"code": "BadParameter"}})
				return
			}
			out, err := work(value)
			if err != nil {
				refuseJSON(w, 400, map[string]any{"error": map[string]string{"code": "BadParameter", "message": "canary: not for logs"}})
				return
			}
			writeJSON200(w, map[string]string{"kid": s.URL + "/keys/production/" + azureTestVersion, "value": base64.RawURLEncoding.EncodeToString(out)})
		}
	}
	encrypt := operate(func(v []byte) ([]byte, error) {
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, v, nil)
	})
	decrypt := operate(func(v []byte) ([]byte, error) { return rsa.DecryptOAEP(sha256.New(), nil, key, v, nil) })
	mux.HandleFunc("POST /keys/production/encrypt", encrypt)
	mux.HandleFunc("POST /keys/production/{version}/encrypt", encrypt)
	mux.HandleFunc("POST /keys/production/{version}/decrypt", decrypt)
	s = newKeyServer(t, true, mux.ServeHTTP)
	return s
}

// azureResource is what tokens for the test vault are for. The SDK demands that
// the vault's host ends with it.
func azureResource(s *keyServer) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), ".")
	return "https://" + rest
}

const (
	vaultTestToken = "test-root-token"
	vaultTestPath  = "/v1/transit/keys/production"
)

// newTransit is the part of Vault's transit engine that data keys need, for the
// tests of failures; the engine itself is tested against in vault_test.go.
func newTransit(t testing.TB) *keyServer {
	key := newSealer()
	return newKeyServer(t, false, func(w http.ResponseWriter, r *http.Request) {
		refuse := func(status int) { refuseJSON(w, status, map[string][]string{"errors": {"canary: not for logs"}}) }
		var in struct{ Plaintext, Ciphertext []byte }
		var raw map[string]string
		_ = json.NewDecoder(r.Body).Decode(&raw)
		in.Plaintext, _ = base64.StdEncoding.DecodeString(raw["plaintext"])
		in.Ciphertext, _ = base64.StdEncoding.DecodeString(strings.TrimPrefix(raw["ciphertext"], "vault:v1:"))
		switch {
		case r.Header.Get("X-Vault-Token") != vaultTestToken:
			refuse(403)
		case r.URL.Path == "/v1/transit/encrypt/production":
			writeJSON200(w, map[string]any{"data": map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(key.seal(in.Plaintext, nil)), "key_version": 1}})
		case r.URL.Path == "/v1/transit/decrypt/production":
			plain, ok := key.open(in.Ciphertext, nil)
			if !ok {
				refuse(400)
				return
			}
			writeJSON200(w, map[string]any{"data": map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)}})
		default:
			refuse(404)
		}
	})
}
