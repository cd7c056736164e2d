package secrets

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/keys"
)

// Rotate encrypts every value of a SOPS file again, with a new data key, for the
// keys that the file is encrypted for. For age recipients no more is needed of k than
// what opens the file; other keys of the file must be among k.
func (k *Keys) Rotate(ctx context.Context, path string, data []byte) (out []byte, err error) {
	defer recoverBytes(path, &out, &err)
	d, err := k.Edit(ctx, path, data)
	if err != nil {
		return nil, err
	}
	tree := d.tree
	tree.Metadata.LastModified, tree.Metadata.Version = time.Now().UTC(), sopsVersion
	dataKey, err := k.newDataKey(ctx, &tree.Metadata)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer clear(dataKey)
	if err := seal(path, &tree, dataKey, aes.NewCipher()); err != nil {
		return nil, err
	}
	return d.emit(tree)
}

// KeyChange is how the keys that a file is encrypted for differ from those of its
// creation rule, named as in .sops.yaml.
type KeyChange struct {
	Added   []string `json:"added,omitempty"`   // the rule names them, the file does not
	Removed []string `json:"removed,omitempty"` // the other way round
	// Regrouped reports that the same keys form other key groups, or that another
	// number of groups is needed.
	Regrouped bool `json:"regrouped,omitempty"`
}

// None reports whether nothing differs.
func (c KeyChange) None() bool { return len(c.Added)+len(c.Removed) == 0 && !c.Regrouped }

// CompareKeys compares the keys of a SOPS file with those of a rule. No key is needed.
// What a file says of its keys is not authenticated: a file may name a key and be
// encrypted for another one.
func CompareKeys(path string, data []byte, rule Rule) (c KeyChange, err error) {
	var none []byte
	defer recoverBytes(path, &none, &err)
	tree, wanted, err := loadForKeys(path, data, rule)
	if err != nil {
		return KeyChange{}, err
	}
	return keyChange(tree.Metadata, wanted), nil
}

// UpdateKeys encrypts the data key of a SOPS file for the keys of a rule. Values
// keep their ciphertext, and a file whose keys are those of the rule is returned as it
// is. Keys that are no age recipients must be among k.
func (k *Keys) UpdateKeys(ctx context.Context, path string, data []byte, rule Rule) (out []byte, c KeyChange, err error) {
	defer recoverBytes(path, &out, &err)
	tree, wanted, err := loadForKeys(path, data, rule)
	if err != nil {
		return nil, KeyChange{}, err
	}
	if c = keyChange(tree.Metadata, wanted); c.None() {
		return data, c, nil
	}
	d, err := k.Edit(ctx, path, data) // verified, though only its key is needed
	if err != nil {
		return nil, KeyChange{}, err
	}
	tree.Metadata.KeyGroups, tree.Metadata.ShamirThreshold = wanted.KeyGroups, wanted.ShamirThreshold
	if err := k.sealDataKey(ctx, &tree.Metadata, d.dataKey); err != nil {
		return nil, KeyChange{}, fmt.Errorf("%s: %w", path, err)
	}
	out, err = d.emit(*tree)
	return out, c, err
}

// loadForKeys reads a file as it is encrypted, and the metadata that a rule gives.
func loadForKeys(path string, data []byte, rule Rule) (*sops.Tree, sops.Metadata, error) {
	quiet()
	format, ok := detect(path, data)
	if !ok {
		return nil, sops.Metadata{}, notEncrypted(path)
	}
	wanted, err := rule.metadata()
	if err != nil {
		return nil, sops.Metadata{}, fmt.Errorf("%s: %w", path, err)
	}
	tree, err := loadTree(path, format, data)
	return tree, wanted, err
}

func keyChange(have, want sops.Metadata) (c KeyChange) {
	had, wanted := slices.Concat(have.KeyGroups...), slices.Concat(want.KeyGroups...)
	c.Added, c.Removed = lacking(had, wanted), lacking(wanted, had)
	if len(c.Added)+len(c.Removed) > 0 {
		return c
	}
	c.Regrouped = len(have.KeyGroups) != len(want.KeyGroups) || threshold(have) != threshold(want)
	for i := range have.KeyGroups {
		if !c.Regrouped {
			a, b := have.KeyGroups[i], want.KeyGroups[i]
			c.Regrouped = len(lacking(a, b))+len(lacking(b, a)) > 0
		}
	}
	return c
}

// lacking are the names of those of keys that are not among have.
func lacking(have, list sops.KeyGroup) (names []string) {
	for _, k := range list {
		name := masterKeyName(k)
		if !slices.ContainsFunc(have, func(h keys.MasterKey) bool { return sameKey(h, k) }) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// sameKey compares master keys of a file and of a rule, in which the version of a key
// in Azure Key Vault may be missing.
func sameKey(a, b keys.MasterKey) bool {
	if x, ok := a.(*azkv.MasterKey); ok {
		y, ok := b.(*azkv.MasterKey)
		return ok && x.VaultURL == y.VaultURL && x.Name == y.Name && (x.Version == y.Version || x.Version == "" || y.Version == "")
	}
	return a.TypeToIdentifier() == b.TypeToIdentifier() && a.ToString() == b.ToString()
}

// Recipients are the keys that a SOPS file says it is encrypted for, as .sops.yaml
// names them.
func Recipients(path string, data []byte) (names []string, err error) {
	var none []byte
	defer recoverBytes(path, &none, &err)
	format, ok := detect(path, data)
	if !ok {
		return nil, notEncrypted(path)
	}
	tree, err := loadTree(path, format, data)
	if err != nil {
		return nil, err
	}
	return lacking(nil, slices.Concat(tree.Metadata.KeyGroups...)), nil
}

// Recipients are the keys of a rule, as .sops.yaml names them.
func (r Rule) Recipients() []string {
	if r.groups == nil {
		return nil
	}
	return lacking(nil, slices.Concat(r.groups()...))
}
