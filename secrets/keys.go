package secrets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/getsops/sops/v3/keys"
)

// Keys are the key sources of one environment: identities that were read from
// files, and key services that are asked. The zero value and nil hold none.
// Keys are safe for concurrent use once they are put together.
type Keys struct {
	sources []source
}

// source opens and seals data keys with the master keys that it was configured
// for. It never uses an address, a key or a credential that a SOPS file names:
// what the file says is compared with the configuration and nothing else.
type source interface {
	// open decrypts the data key that the master key of a file holds. The error
	// is errNotConfigured when the source has no such key, else a *SourceError.
	open(ctx context.Context, master keys.MasterKey) ([]byte, error)
	// seal encrypts a data key into the master key, with the errors of open.
	seal(ctx context.Context, master keys.MasterKey, dataKey []byte) error
	// names are what the source opens, as .sops.yaml names it: public keys,
	// fingerprints, addresses and resource names.
	names() []string
	// remote sources send requests; they are asked after the others.
	remote() bool
}

// errNotConfigured says that a master key is none of the source's.
var errNotConfigured = errors.New("the key is not configured")

// Add adds the key sources of other.
func (k *Keys) Add(other *Keys) {
	if other != nil {
		k.sources = append(k.sources, other.sources...)
	}
}

// Names returns what the keys open, as .sops.yaml names it: age recipients,
// fingerprints of OpenPGP keys and the names of keys in key services, in the
// order of loading. None of it is secret.
func (k *Keys) Names() []string {
	var out []string
	if k != nil {
		for _, s := range k.sources {
			out = append(out, s.names()...)
		}
	}
	return out
}

// Recipients returns the age recipients (age1…, ssh-…) in the order of loading.
func (k *Keys) Recipients() []string {
	return slices.DeleteFunc(k.Names(), func(n string) bool {
		return !strings.HasPrefix(n, "age1") && !strings.HasPrefix(n, "ssh-")
	})
}

// String shows public names only, so that keys which slip into a log line say
// nothing.
func (k *Keys) String() string { return "keys for " + strings.Join(k.Names(), ", ") }

// GoString is String: %#v would walk into the private keys.
func (k *Keys) GoString() string { return k.String() }

// Format is String whatever the verb: %+v of a value, not a pointer, would
// walk into them too.
func (k Keys) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// locals are the sources that need no request, remotes the others.
func (k *Keys) split() (locals, remotes []source) {
	if k == nil {
		return nil, nil
	}
	for _, s := range k.sources {
		if s.remote() {
			remotes = append(remotes, s)
		} else {
			locals = append(locals, s)
		}
	}
	return locals, remotes
}
