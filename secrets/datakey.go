package secrets

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/shamir"
)

const (
	// openTimeout bounds what all key services together take for one file.
	openTimeout = 30 * time.Second
	// maxAttempts bounds the requests that one file may cause: a hostile one
	// could name a key that is configured a hundred times.
	maxAttempts = 10
)

// dataKey recovers the data key of a file: of each key group the first key that
// opens it, local ones before those that cost a request; of several groups as
// many as their threshold demands, put together (Shamir's secret sharing).
func (k *Keys) dataKey(ctx context.Context, path string, m sops.Metadata) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	a := attempt{ctx: ctx}
	a.locals, a.remotes = k.split()
	// Shares that need no request first: those may be enough.
	parts := make([][]byte, len(m.KeyGroups))
	need := threshold(m)
	for _, sources := range []func() []source{func() []source { return a.locals }, func() []source { return a.remotes }} {
		for i, group := range m.KeyGroups {
			if parts[i] == nil && count(parts) < need {
				parts[i] = a.open(sources(), group)
			}
		}
	}
	if count(parts) < need {
		return nil, newNoKeyError(path, m, a.failed)
	}
	parts = slices.DeleteFunc(parts, func(p []byte) bool { return p == nil })
	key := parts[0]
	if len(m.KeyGroups) > 1 {
		var err error
		if key, err = shamir.Combine(parts); err != nil {
			return nil, newNoKeyError(path, m, a.failed)
		}
	}
	if len(key) != dataKeySize {
		return nil, newNoKeyError(path, m, a.failed)
	}
	return key, nil
}

// threshold is how many key groups must be opened.
func threshold(m sops.Metadata) int {
	if len(m.KeyGroups) < 2 {
		return 1
	}
	if m.ShamirThreshold > 0 {
		return m.ShamirThreshold
	}
	return len(m.KeyGroups)
}

func count(parts [][]byte) int {
	n := 0
	for _, p := range parts {
		if p != nil {
			n++
		}
	}
	return n
}

// attempt is one try to recover a data key.
type attempt struct {
	ctx             context.Context
	locals, remotes []source
	requests        int
	failed          []error // of keys that are configured
}

// open returns what the first of the group's keys gives, nil when none does.
func (a *attempt) open(sources []source, group sops.KeyGroup) []byte {
	for _, master := range group {
		for _, s := range sources {
			if s.remote() && a.requests >= maxAttempts {
				return nil
			}
			part, err := s.open(a.ctx, master)
			if err == nil && len(part) > 0 {
				return part
			}
			if errors.Is(err, errNotConfigured) {
				continue
			}
			if s.remote() {
				a.requests++
			}
			if err != nil {
				a.failed = append(a.failed, err)
			}
		}
	}
	return nil
}

// newDataKey makes a data key and seals it, or a share of it, for each group.
func (k *Keys) newDataKey(ctx context.Context, m *sops.Metadata) ([]byte, error) {
	key := make([]byte, dataKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	return key, k.sealDataKey(ctx, m, key)
}

// sealDataKey seals a data key, or a share of it, for every key of each group.
func (k *Keys) sealDataKey(ctx context.Context, m *sops.Metadata, key []byte) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	parts := [][]byte{key}
	if len(m.KeyGroups) > 1 {
		if m.ShamirThreshold == 0 {
			m.ShamirThreshold = len(m.KeyGroups)
		}
		var err error
		if parts, err = shamir.Split(key, len(m.KeyGroups), m.ShamirThreshold); err != nil {
			return &RecipientError{Reason: "the data key cannot be split: the threshold is from 2 to the number of key groups"}
		}
	}
	for i, group := range m.KeyGroups {
		for _, master := range group {
			if err := k.seal(ctx, master, parts[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// seal encrypts a data key for one master key. For age that takes no more than
// the recipient, which the key itself names.
func (k *Keys) seal(ctx context.Context, master keys.MasterKey, dataKey []byte) error {
	locals, remotes := k.split()
	for _, s := range slices.Concat([]source{ageSource{}}, locals, remotes) {
		if err := s.seal(ctx, master, dataKey); !errors.Is(err, errNotConfigured) {
			return err
		}
	}
	return &SourceError{Key: masterKeyName(master), Reason: "it is not configured",
		Remedy: "name the key in the file of --key-sources"}
}
