package secrets

import (
	"fmt"
	"slices"
	"strings"

	"github.com/getsops/sops/v3"
	sopsage "github.com/getsops/sops/v3/age"
)

// NoKeyError says that none of the given keys opens the file.
type NoKeyError struct {
	File       string
	Recipients []string // age public keys the file is encrypted for
	OtherTypes []string // key types in the file that are not supported, such as pgp
}

func (e *NoKeyError) Error() string {
	if len(e.Recipients) == 0 {
		return fmt.Sprintf("%s: no key opens it: it is encrypted for %s keys only, which are not supported",
			e.File, strings.Join(e.OtherTypes, ", "))
	}
	return fmt.Sprintf("%s: no key opens it: it is encrypted for %s", e.File, strings.Join(e.Recipients, ", "))
}

// Hint says how to give a key.
func (e *NoKeyError) Hint() string {
	if len(e.Recipients) == 0 {
		return "encrypt it for an age recipient (sops updatekeys), then give its identity with --age-key-file ENVIRONMENT=PATH"
	}
	return "give the identity of one of these recipients with --age-key-file ENVIRONMENT=PATH"
}

func newNoKeyError(path string, m sops.Metadata) *NoKeyError {
	e := &NoKeyError{File: path}
	for _, group := range m.KeyGroups {
		for _, key := range group {
			list, name := &e.OtherTypes, key.TypeToIdentifier()
			if a, ok := key.(*sopsage.MasterKey); ok {
				list, name = &e.Recipients, printable(a.Recipient)
			}
			if !slices.Contains(*list, name) {
				*list = append(*list, name)
			}
		}
	}
	return e
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

// Hint says how to look at the file.
func (e *FormatError) Hint() string {
	return "check the file with: sops decrypt " + oneLine(e.File)
}

// KeyFileError says what is wrong with an identity file. It never quotes it.
type KeyFileError struct {
	File   string
	Line   int
	Reason string
}

func (e *KeyFileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
	}
	return e.File + ": " + e.Reason
}

// Hint says what an identity file holds.
func (e *KeyFileError) Hint() string {
	return "an identity file holds lines AGE-SECRET-KEY-1…, as age-keygen writes them"
}

// RecipientError says that a new file cannot be encrypted for its recipients.
type RecipientError struct {
	Number int // which recipient, from 1; 0 for all
	Reason string
}

func (e *RecipientError) Error() string {
	if e.Number > 0 {
		return fmt.Sprintf("recipient %d: %s", e.Number, e.Reason)
	}
	return e.Reason
}

// Hint says what a recipient is.
func (e *RecipientError) Hint() string {
	return "a recipient is an age public key, age1…, as age-keygen -y prints it"
}
