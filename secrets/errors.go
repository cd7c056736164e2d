package secrets

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/getsops/sops/v3"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/hckms"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/kms"
	sopspgp "github.com/getsops/sops/v3/pgp"
)

// NoKeyError says that none of the given keys opens the file.
type NoKeyError struct {
	File string
	// Keys are what the file is encrypted for, as .sops.yaml names it: age
	// recipients, fingerprints, addresses and resource names.
	Keys []string
	// Failed are the errors of those that are configured, each a *SourceError.
	Failed []error
}

func (e *NoKeyError) Error() string {
	msg := fmt.Sprintf("%s: no key opens it: it is encrypted for %s", e.File, strings.Join(e.Keys, ", "))
	for _, err := range e.Failed {
		msg += "; " + err.Error()
	}
	return msg
}

func (e *NoKeyError) Unwrap() []error { return e.Failed }

// Temporary reports whether it may pass by itself: a key service did not answer.
func (e *NoKeyError) Temporary() bool {
	return slices.ContainsFunc(e.Failed, func(err error) bool {
		t, ok := err.(interface{ Temporary() bool })
		return ok && t.Temporary()
	})
}

// Hint says how to give a key.
func (e *NoKeyError) Hint() string {
	for _, err := range e.Failed {
		if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
			return h.Hint()
		}
	}
	if slices.ContainsFunc(e.Keys, func(k string) bool { return strings.HasPrefix(k, "age1") || strings.HasPrefix(k, "ssh-") }) {
		return "give the identity of one of these recipients with --age-key-file ENVIRONMENT=PATH"
	}
	return "name one of these keys, with its credentials, in the file of --key-sources ENVIRONMENT=FILE: keys that a file names are not used otherwise"
}

func newNoKeyError(path string, m sops.Metadata, failed []error) *NoKeyError {
	e := &NoKeyError{File: path, Failed: failed}
	for _, group := range m.KeyGroups {
		for _, key := range group {
			if name := masterKeyName(key); !slices.Contains(e.Keys, name) {
				e.Keys = append(e.Keys, name)
			}
		}
	}
	return e
}

// SourceError says that a key which is configured cannot be used.
type SourceError struct {
	Key       string // as .sops.yaml names it
	Reason    string
	Remedy    string
	Transient bool // it may pass by itself
	Err       error
}

func (e *SourceError) Error() string { return e.Key + ": " + e.Reason }

func (e *SourceError) Unwrap() error { return e.Err }

// Temporary reports whether it may pass by itself.
func (e *SourceError) Temporary() bool { return e.Transient }

// Hint says what to do about it.
func (e *SourceError) Hint() string {
	var file *KeyFileError
	switch {
	case e.Remedy != "":
		return e.Remedy
	case errors.As(e.Err, &file):
		return file.Hint()
	case e.Transient:
		return "the key service is asked again by itself; see that it is up and can be reached"
	}
	return "see the key, its address and the credentials in the file of --key-sources"
}

// ofKey says which key an error of a request is about.
func ofKey(err error, key string) error {
	if s := (*SourceError)(nil); errors.As(err, &s) && s.Key == "" {
		s.Key = key
	}
	return err
}

// masterKeyName is a key that a file names, as .sops.yaml would. The file may
// be hostile.
func masterKeyName(key keys.MasterKey) string {
	switch k := key.(type) {
	case *sopsage.MasterKey:
		return printable(k.Recipient)
	case *sopspgp.MasterKey:
		return "pgp " + oneLine(k.Fingerprint)
	case *kms.MasterKey:
		return oneLine(k.Arn)
	case *hckms.MasterKey:
		return "hckms " + oneLine(k.KeyID) + " (not supported)"
	}
	return oneLine(key.ToString())
}

// printable keeps a recipient of a hostile file from breaking a terminal or a
// log line. A private key that stands where a recipient should is not shown.
func printable(s string) string {
	if !strings.HasPrefix(s, "age1") && !strings.HasPrefix(s, "ssh-") {
		return "(malformed recipient)"
	}
	return oneLine(s)
}

func oneLine(s string) string {
	if len(s) > 128 {
		s = s[:128] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// MACError says that a file was changed after SOPS encrypted it.
type MACError struct {
	File  string
	Field string // the value that fails, "" when only the whole does
}

func (e *MACError) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s fails authentication: the file was changed without sops", e.File, e.Field)
	}
	return fmt.Sprintf("%s: the message authentication code does not match: the file was changed without sops", e.File)
}

// Hint says how such a file comes about.
func (e *MACError) Hint() string {
	return "restore the file from Git and change it with sops; a merge conflict resolved by hand breaks it too"
}

// FormatError says that a file is not what it seems to be.
type FormatError struct {
	File   string
	Line   int    // 0 when unknown
	Field  string // name of the value, "" when it is not about one
	Reason string
	Remedy string // "": look at the file
}

func (e *FormatError) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d", where, e.Line)
	}
	if e.Field != "" {
		where += ": " + e.Field
	}
	return where + ": " + e.Reason
}

// Hint says what to do about it, or how to look at the file.
func (e *FormatError) Hint() string {
	if e.Remedy != "" {
		return e.Remedy
	}
	return "check the file with: sops decrypt " + oneLine(e.File)
}

// NameError says that a value of a file cannot be read or changed by its name.
// It never holds a value.
type NameError struct {
	File   string
	Name   string
	Reason string
	Remedy string
	// Missing reports that the file has no such value.
	Missing bool
}

func (e *NameError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.File, oneLine(e.Name), e.Reason)
}

// Hint says what to do about it.
func (e *NameError) Hint() string { return e.Remedy }

// KeyFileError says what is wrong with a file of keys or credentials. It never
// quotes it.
type KeyFileError struct {
	File   string
	Line   int
	Reason string
	Remedy string
}

func (e *KeyFileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
	}
	return e.File + ": " + e.Reason
}

// Hint says what such a file holds.
func (e *KeyFileError) Hint() string {
	if e.Remedy != "" {
		return e.Remedy
	}
	return "an identity file holds lines AGE-SECRET-KEY-1…, as age-keygen writes them, or one SSH private key"
}

// RecipientError says that a new file cannot be encrypted for its recipients.
type RecipientError struct {
	Reason string
}

func (e *RecipientError) Error() string { return e.Reason }

// Hint says what a recipient is.
func (e *RecipientError) Hint() string {
	return "a recipient is an age public key, age1… as age-keygen -y prints it, or an SSH public key"
}
