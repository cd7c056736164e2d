package secrets

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/kms"
)

// awsSource asks AWS KMS. Requests are signed by AWS's own signer; the rest of
// its SDK stays out, as it consults the environment.
type awsSource struct {
	arns        []string
	endpoint    *endpoint            // nil: that of the key's region
	endpoints   map[string]*endpoint // by region
	credentials getter[aws.Credentials]
}

var awsKey = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:([a-z0-9-]+):[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$`)

// awsRegion returns the region of a key and the address of its service; ok is
// false when the ARN is none of a key in KMS.
func awsRegion(arn string) (region, address string, ok bool) {
	m := awsKey.FindStringSubmatch(arn)
	if m == nil {
		return "", "", false
	}
	switch m[1] {
	case "aws", "aws-us-gov":
		address = "https://kms." + m[2] + ".amazonaws.com"
	case "aws-cn":
		address = "https://kms." + m[2] + ".amazonaws.com.cn"
	}
	return m[2], address, true
}

func (s *awsSource) remote() bool    { return true }
func (s *awsSource) names() []string { return s.arns }

func (s *awsSource) open(ctx context.Context, master keys.MasterKey) ([]byte, error) {
	m, ok := master.(*kms.MasterKey)
	if !ok || !slices.Contains(s.arns, m.Arn) {
		return nil, errNotConfigured
	}
	blob, err := base64.StdEncoding.DecodeString(m.EncryptedKey)
	if err != nil {
		return nil, &SourceError{Key: m.Arn, Reason: "what is encrypted for it is damaged"}
	}
	var out struct{ Plaintext []byte }
	err = s.call(ctx, m, "Decrypt", map[string]any{"KeyId": m.Arn, "CiphertextBlob": blob}, &out)
	if err == nil && len(out.Plaintext) == 0 {
		err = &SourceError{Key: m.Arn, Reason: "the answer holds no data key"}
	}
	return out.Plaintext, err
}

func (s *awsSource) seal(ctx context.Context, master keys.MasterKey, dataKey []byte) error {
	m, ok := master.(*kms.MasterKey)
	if !ok || !slices.Contains(s.arns, m.Arn) {
		return errNotConfigured
	}
	var out struct{ CiphertextBlob []byte }
	if err := s.call(ctx, m, "Encrypt", map[string]any{"KeyId": m.Arn, "Plaintext": dataKey}, &out); err != nil {
		return err
	}
	if len(out.CiphertextBlob) == 0 {
		return &SourceError{Key: m.Arn, Reason: "the answer holds no ciphertext"}
	}
	m.EncryptedKey = base64.StdEncoding.EncodeToString(out.CiphertextBlob)
	return nil
}

// call sends one operation. The encryption context comes from the file: it is
// no secret and chooses nothing, KMS only compares it.
func (s *awsSource) call(ctx context.Context, m *kms.MasterKey, operation string, in map[string]any, out any) error {
	if m.Role != "" {
		return &SourceError{Key: m.Arn, Reason: "the file asks for the role " + oneLine(m.Role) + ", and a file chooses no credentials",
			Remedy: "give credentials that may use the key themselves, and take the role out of .sops.yaml"}
	}
	if len(m.EncryptionContext) > 0 {
		context := map[string]string{}
		for k, v := range m.EncryptionContext {
			if v != nil {
				context[k] = *v
			}
		}
		in["EncryptionContext"] = context
	}
	credentials, err := s.credentials.get()
	if err != nil {
		return &SourceError{Key: m.Arn, Reason: err.Error(), Err: err}
	}
	region, _, _ := awsRegion(m.Arn)
	e := s.endpoint
	if e == nil {
		e = s.endpoints[region]
	}
	body, err := json.Marshal(in)
	if err != nil {
		return &SourceError{Key: m.Arn, Reason: "the request cannot be written"}
	}
	sum := sha256.Sum256(body)
	a, err := e.post(ctx, "/", "application/x-amz-json-1.1", body, func(r *http.Request) error {
		r.Header.Set("X-Amz-Target", "TrentService."+operation)
		return v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), "kms", region, time.Now())
	})
	if err == nil {
		err = e.read(a, out, explainAWS)
	}
	return ofKey(err, m.Arn)
}

var awsErrorType = regexp.MustCompile(`^(?:[A-Za-z0-9.]{1,100}#)?([A-Za-z]{1,80})$`)

// explainAWS returns the type of an error of KMS, such as AccessDeniedException.
func explainAWS(a answer) string {
	var e struct {
		Type string `json:"__type"`
	}
	_ = json.Unmarshal(a.body, &e) // of no use otherwise, and then empty
	m := awsErrorType.FindStringSubmatch(e.Type)
	if m == nil {
		return ""
	}
	return "it refuses the request: " + m[1]
}

// parseAWSCredentials reads a profile of a credentials file as the AWS command
// writes it. Settings that run a program or ask another service for
// credentials are refused.
func parseAWSCredentials(name, profile string, data []byte) (aws.Credentials, error) {
	var c aws.Credentials
	found, in := false, false
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			in = strings.TrimSpace(strings.Trim(line, "[]")) == profile
			found = found || in
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return aws.Credentials{}, &KeyFileError{File: name, Line: n, Reason: "the line is neither [PROFILE] nor NAME = VALUE", Remedy: remedyAWS}
		}
		if !in {
			continue
		}
		value = strings.TrimSpace(value)
		key = strings.TrimSpace(key)
		switch strings.ToLower(key) {
		case "aws_access_key_id":
			c.AccessKeyID = value
		case "aws_secret_access_key":
			c.SecretAccessKey = value
		case "aws_session_token":
			c.SessionToken = value
		case "region", "output":
		default:
			if len(key) > 30 || !awsSetting.MatchString(key) {
				key = "the setting"
			}
			return aws.Credentials{}, &KeyFileError{File: name, Line: n, Remedy: remedyAWS,
				Reason: key + " is not supported: credentials come from this file and from nowhere else"}
		}
	}
	if !found || c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return aws.Credentials{}, &KeyFileError{File: name, Reason: "it holds no credentials for profile " + profile, Remedy: remedyAWS}
	}
	return c, nil
}

// awsSetting is what names of settings look like: a line of another one may be half
// of a key.
var awsSetting = regexp.MustCompile(`^[a-z]{1,20}(_[a-z]{1,20}){1,5}$`)

const remedyAWS = "give aws_access_key_id, aws_secret_access_key and, for temporary ones, aws_session_token under [default], or name the profile"
