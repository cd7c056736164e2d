package secrets

import (
	"bytes"
	"errors"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/getsops/sops/v3"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/kms"
	sopspgp "github.com/getsops/sops/v3/pgp"
	"go.yaml.in/yaml/v3"
)

// RulesFile is where SOPS looks for creation rules, in the project's folder or the
// nearest above it.
const RulesFile = ".sops.yaml"

// Rules are the creation rules of .sops.yaml: for whom, and how, a new file is
// encrypted.
type Rules struct {
	rules []pathRule
	below string // where the files are that it is asked for; see Below
}

type pathRule struct {
	path *regexp.Regexp // nil: every file
	Rule
}

// Rule says for which keys a file is encrypted, and which of its values. Take
// that of a path from [Rules].
type Rule struct {
	groups    func() []sops.KeyGroup // new ones: encrypting writes into them
	threshold int
	values    valueRule
}

// valueRule chooses the values of a file that are encrypted; at most one is set.
type valueRule struct {
	UnencryptedSuffix       string `yaml:"unencrypted_suffix"`
	EncryptedSuffix         string `yaml:"encrypted_suffix"`
	UnencryptedRegex        string `yaml:"unencrypted_regex"`
	EncryptedRegex          string `yaml:"encrypted_regex"`
	UnencryptedCommentRegex string `yaml:"unencrypted_comment_regex"`
	EncryptedCommentRegex   string `yaml:"encrypted_comment_regex"`
	MACOnlyEncrypted        bool   `yaml:"mac_only_encrypted"`
}

// sopsConfig is .sops.yaml, as far as encrypting goes. What else may stand
// there is the sops command's.
type sopsConfig struct {
	CreationRules []creationRule `yaml:"creation_rules"`
}

type creationRule struct {
	PathRegex       string      `yaml:"path_regex"`
	Age             textList    `yaml:"age"`
	PGP             textList    `yaml:"pgp"`
	KMS             textList    `yaml:"kms"`
	GCPKMS          textList    `yaml:"gcp_kms"`
	AzureKeyVault   textList    `yaml:"azure_keyvault"`
	Vault           textList    `yaml:"hc_vault_transit_uri"`
	KeyGroups       []ruleGroup `yaml:"key_groups"`
	ShamirThreshold int         `yaml:"shamir_threshold"`
	valueRule       `yaml:",inline"`
}

// ruleGroup is a key group, whose parts SOPS spells in another way.
type ruleGroup struct {
	Merge []ruleGroup `yaml:"merge"`
	Age   []string    `yaml:"age"`
	PGP   []string    `yaml:"pgp"`
	Vault []string    `yaml:"hc_vault"`
	KMS   []struct {
		ARN     string            `yaml:"arn"`
		Role    string            `yaml:"role"`
		Context map[string]string `yaml:"context"`
	} `yaml:"kms"`
	GCPKMS []struct {
		ResourceID string `yaml:"resource_id"`
	} `yaml:"gcp_kms"`
	AzureKeyVault []struct {
		VaultURL string `yaml:"vaultUrl"`
		Key      string `yaml:"key"`
		Version  string `yaml:"version"`
	} `yaml:"azure_keyvault"`
}

// textList is a list of strings or one string with commas: SOPS takes both.
type textList []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *textList) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		var list []string
		err := n.Decode(&list)
		*l = list
		return err
	}
	var s string
	if err := n.Decode(&s); err != nil {
		return err
	}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	return nil
}

// ParseRules reads .sops.yaml. Name is used in errors, which are *FormatError.
func ParseRules(name string, data []byte) (r *Rules, err error) {
	defer func() {
		if recover() != nil {
			r, err = nil, &FormatError{File: name, Reason: "it is not valid YAML (a library panicked on it)"}
		}
		if f := (*FormatError)(nil); errors.As(err, &f) {
			f.Remedy = "correct the rules: the sops command reads them, too"
		}
	}()
	if len(data) > maxKeyFile {
		return nil, &FormatError{File: name, Reason: "it is larger than 1 MiB"}
	}
	var config sopsConfig
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		return nil, &FormatError{File: name, Line: lineIn(err), Reason: "it is not what SOPS reads as creation rules"}
	}
	r = &Rules{}
	for i, c := range config.CreationRules {
		rule, reason := c.rule()
		if reason != "" {
			return nil, &FormatError{File: name, Field: "creation_rules[" + strconv.Itoa(i) + "]", Reason: reason}
		}
		r.rules = append(r.rules, rule)
	}
	return r, nil
}

func (c creationRule) rule() (p pathRule, reason string) {
	if c.PathRegex != "" {
		re, err := regexp.Compile(c.PathRegex)
		if err != nil || len(c.PathRegex) > maxRule {
			return pathRule{}, "its path_regex is no regular expression, or longer than 1 KiB"
		}
		p.path = re
	}
	groups := c.KeyGroups
	if len(groups) == 0 {
		g := ruleGroup{Age: c.Age, PGP: c.PGP, Vault: c.Vault}
		if _, reason := g.keys(); reason != "" {
			return pathRule{}, reason
		}
		p.groups = func() []sops.KeyGroup {
			keys, _ := g.keys()
			return []sops.KeyGroup{append(keys, c.named()...)}
		}
	} else {
		for _, g := range groups {
			if _, reason := g.keys(); reason != "" {
				return pathRule{}, reason
			}
		}
		p.groups = func() (out []sops.KeyGroup) {
			for _, g := range groups {
				keys, _ := g.keys()
				out = append(out, keys)
			}
			return out
		}
	}
	p.threshold, p.values = c.ShamirThreshold, c.valueRule
	return p, ""
}

// named are the keys of key services that a rule lists by name.
func (c creationRule) named() (g sops.KeyGroup) {
	for _, arn := range c.KMS {
		g = append(g, kms.NewMasterKeyFromArn(arn, nil, ""))
	}
	for _, id := range c.GCPKMS {
		g = append(g, gcpkms.NewMasterKeyFromResourceID(id))
	}
	for _, uri := range c.AzureKeyVault {
		// SOPS asks the vault for a missing version; ours comes with sealing.
		if k, ok := parseAzureKey(uri); ok {
			g = append(g, azkv.NewMasterKey(k.vault, k.name, k.version))
		} else {
			g = append(g, azkv.NewMasterKey(uri, "", ""))
		}
	}
	return g
}

// keys makes the master keys of a group.
func (g ruleGroup) keys() (out sops.KeyGroup, reason string) {
	for _, m := range g.Merge {
		merged, reason := m.keys()
		if reason != "" {
			return nil, reason
		}
		out = append(out, merged...)
	}
	for _, list := range g.Age {
		for r := range strings.SplitSeq(list, ",") {
			r = strings.TrimSpace(r)
			if _, reason := parseAgeRecipient(r); reason != "" {
				return nil, "age: " + reason
			}
			out = append(out, &sopsage.MasterKey{Recipient: r})
		}
	}
	for _, fp := range g.PGP {
		out = append(out, sopspgp.NewMasterKeyFromFingerprint(fp))
	}
	for _, uri := range g.Vault {
		k, ok := parseVaultKey(uri)
		if !ok {
			return nil, "a key of Vault is named https://HOST[:PORT]/v1/ENGINE/keys/NAME"
		}
		out = append(out, hcvault.NewMasterKey(k.address, k.engine, k.name))
	}
	for _, k := range g.KMS {
		context := map[string]*string{}
		for name, value := range k.Context {
			context[name] = &value
		}
		out = append(out, kms.NewMasterKey(k.ARN, k.Role, context))
	}
	for _, k := range g.GCPKMS {
		out = append(out, gcpkms.NewMasterKeyFromResourceID(k.ResourceID))
	}
	for _, k := range g.AzureKeyVault {
		out = append(out, azkv.NewMasterKey(k.VaultURL, k.Key, k.Version))
	}
	return out, ""
}

// For returns the first rule that goes for a file, named relative to the folder
// of .sops.yaml (see Below); ok is false when none does.
func (r *Rules) For(file string) (rule Rule, ok bool) {
	if p := r.match(file); p != nil {
		return p.Rule, true
	}
	return Rule{}, false
}

// Below are the same rules for files that are named relative to a folder below that
// of .sops.yaml.
func (r *Rules) Below(dir string) *Rules {
	if r == nil {
		return nil
	}
	return &Rules{rules: r.rules, below: path.Join(r.below, dir)}
}

func (r *Rules) match(file string) *pathRule {
	if r == nil {
		return nil
	}
	file = path.Join(r.below, file)
	for i, p := range r.rules {
		if p.path == nil || p.path.MatchString(file) {
			return &r.rules[i]
		}
	}
	return nil
}

// Demands reports whether the rules say of a file itself that it is encrypted:
// one goes for it that chooses by more than the folder. A rule that goes for the
// folder's kustomization.yaml as well, which cannot be encrypted, only says for
// whom those files are encrypted that are.
func (r *Rules) Demands(file string) bool {
	p := r.match(file)
	if p == nil || p.path == nil {
		return false
	}
	dir := path.Join(r.below, path.Dir(file))
	return !p.path.MatchString(path.Join(dir, "kustomization.yaml")) && !p.path.MatchString(path.Join(dir, "kustomization.yml"))
}

// metadata is the metadata of a new file, without a data key.
func (r Rule) metadata() (sops.Metadata, error) {
	m := sops.Metadata{
		ShamirThreshold:         r.threshold,
		UnencryptedSuffix:       r.values.UnencryptedSuffix,
		EncryptedSuffix:         r.values.EncryptedSuffix,
		UnencryptedRegex:        r.values.UnencryptedRegex,
		EncryptedRegex:          r.values.EncryptedRegex,
		UnencryptedCommentRegex: r.values.UnencryptedCommentRegex,
		EncryptedCommentRegex:   r.values.EncryptedCommentRegex,
		MACOnlyEncrypted:        r.values.MACOnlyEncrypted,
		LastModified:            time.Now().UTC(),
		Version:                 sopsVersion,
	}
	for _, re := range []string{m.UnencryptedRegex, m.EncryptedRegex, m.UnencryptedCommentRegex, m.EncryptedCommentRegex} {
		if _, err := regexp.Compile(re); err != nil || len(re) > maxRule {
			return m, &RecipientError{Reason: "the creation rule chooses values by something that is no regular expression"}
		}
	}
	if r.values == (valueRule{MACOnlyEncrypted: r.values.MACOnlyEncrypted}) {
		m.UnencryptedSuffix = sops.DefaultUnencryptedSuffix
	}
	if r.groups != nil {
		m.KeyGroups = r.groups()
	}
	for _, g := range m.KeyGroups {
		if len(g) == 0 {
			return m, &RecipientError{Reason: "the creation rule names no key, or an empty key group"}
		}
	}
	if len(m.KeyGroups) == 0 {
		return m, &RecipientError{Reason: "no recipient was given"}
	}
	return m, nil
}
