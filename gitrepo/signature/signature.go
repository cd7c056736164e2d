// Package signature verifies and makes the signatures of Git commits: OpenPGP
// and SSH, with keys that are given and no others.
//
// Call ParseKeys with the public keys that are trusted and Keys.Verify with a
// commit; ParsePrivateKey and PrivateKey.Sign make signatures.
//
// The package never runs gpg or ssh-keygen, never consults a keyring, an agent,
// an environment variable or a home folder, and never takes a key from what is
// being verified.
package signature

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Sentinels for errors.Is: why a signature is not accepted.
var (
	// ErrUnsigned: the commit has no signature.
	ErrUnsigned = errors.New("it is not signed")
	// ErrUnknownKey: the key that signed is not one of those given.
	ErrUnknownKey = errors.New("it is signed by a key that is not trusted")
	// ErrInvalid: the signature is not one of this content, or is damaged.
	ErrInvalid = errors.New("its signature does not fit its content")
	// ErrKeyEnded: the key has expired, was revoked, or is not valid yet.
	ErrKeyEnded = errors.New("the key that signed it is not valid now")
	// ErrUnsupported: the form of the signature, or an algorithm in it, is not accepted.
	ErrUnsupported = errors.New("its signature is of a kind that is not accepted")
)

// Error is a signature that is not accepted.
type Error struct {
	Reason error  // one of the sentinels
	Detail string // what was found: a fingerprint, an algorithm; may be empty
}

// Error is the reason with its detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Reason.Error()
	}
	return fmt.Sprintf("%v (%s)", e.Reason, e.Detail)
}

// Unwrap is the reason.
func (e *Error) Unwrap() error { return e.Reason }

func refused(reason error, format string, args ...any) error {
	return &Error{reason, fmt.Sprintf(format, args...)}
}

// Signer is the key that made a signature.
type Signer struct {
	Name        string // as the key file calls it: a user ID, a principal or a comment; may be empty
	Fingerprint string // SHA256:… of an SSH key, hex digits of an OpenPGP key
}

// String is the name and the fingerprint.
func (s Signer) String() string {
	if s.Name == "" {
		return s.Fingerprint
	}
	return s.Name + " (" + s.Fingerprint + ")"
}

// Verify finds out which of the keys signed a commit, given as the bytes of its
// Git object. now decides whether the key is valid: a key that has ended signs
// nothing any more, whatever date stands in the commit, as whoever holds it could
// write any. The error is an *Error.
func (k *Keys) Verify(commit []byte, now time.Time) (Signer, error) {
	payload, sig, err := Split(commit)
	if err != nil {
		return Signer{}, err
	}
	switch {
	case len(sig) == 0:
		return Signer{}, &Error{Reason: ErrUnsigned}
	case bytes.HasPrefix(sig, []byte("-----BEGIN PGP SIGNATURE-----")):
		return k.verifyOpenPGP(payload, sig, now)
	case bytes.HasPrefix(sig, []byte("-----BEGIN SSH SIGNATURE-----")):
		return k.verifySSH(payload, sig, now)
	}
	return Signer{}, refused(ErrUnsupported, "neither OpenPGP nor SSH")
}

// headers that hold signatures: the second is that of the other object format of
// a repository with two, and no part of what either signs.
var (
	header      = []byte("gpgsig ")
	otherHeader = []byte("gpgsig-sha256 ")
)

// Split takes the signature out of a commit's object: what was signed is the
// object without it, to the byte. sig is empty where there is none. A commit with
// several signatures is refused, as readers differ in which one they take, and so is
// one whose signature stands above its committer: readers stop looking for parents
// and people there, so that who moves it up makes another commit of what was signed.
func Split(commit []byte) (payload, sig []byte, err error) {
	head, message, found := bytes.Cut(commit, []byte("\n\n"))
	if !found {
		head, message = bytes.TrimSuffix(commit, []byte("\n")), nil
	}
	var into *[]byte // continuation lines begin with a blank
	var other []byte
	complete := false
	for _, line := range bytes.Split(head, []byte("\n")) {
		switch {
		case bytes.HasPrefix(line, []byte(" ")) && into != nil:
			*into = append(append(*into, line[1:]...), '\n')
			continue
		case bytes.HasPrefix(line, header):
			if sig != nil {
				return nil, nil, refused(ErrUnsupported, "there are several")
			}
			if !complete {
				return nil, nil, refused(ErrUnsupported, "it stands above the committer")
			}
			sig = append(append([]byte{}, line[len(header):]...), '\n')
			into = &sig
			continue
		case bytes.HasPrefix(line, otherHeader):
			if !complete {
				return nil, nil, refused(ErrUnsupported, "it stands above the committer")
			}
			into = &other
			continue
		}
		into = nil
		complete = complete || bytes.HasPrefix(line, []byte("committer "))
		payload = append(append(payload, line...), '\n')
	}
	if found {
		payload = append(append(payload, '\n'), message...)
	}
	return payload, sig, nil
}

// Join puts a signature into the object of an unsigned commit, behind its other
// headers, as git does.
func Join(payload, sig []byte) []byte {
	head, message, _ := bytes.Cut(payload, []byte("\n\n"))
	var out bytes.Buffer
	out.Write(head)
	out.WriteByte('\n')
	out.Write(header)
	out.Write(bytes.ReplaceAll(bytes.TrimRight(sig, "\n"), []byte("\n"), []byte("\n ")))
	out.WriteString("\n\n")
	out.Write(message)
	return out.Bytes()
}
