package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/cmd/sops/common"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/config"
)

// Document is a SOPS file whose values can be read and changed: [Keys.Edit] opens
// one, [Keys.NewDocument] starts one, [Document.Encrypt] writes it. What is not
// changed keeps its ciphertext, its comments and its place. Not safe for
// concurrent use.
type Document struct {
	path    string
	format  formats.Format
	sealed  []byte // the file as it was opened; nil for a new one
	opened  []byte // its plaintext then
	tree    sops.Tree
	dataKey []byte
	cipher  *recordingCipher
	hidden  [][]any // names that were set, which must not end in plain text
}

// Edit opens a SOPS file, its message authentication code verified, with the
// errors of [Keys.Open]. A file that is not encrypted is a *FormatError.
func (k *Keys) Edit(ctx context.Context, path string, data []byte) (d *Document, err error) {
	defer recoverDocument(path, &d, &err)
	format, ok := detect(path, data)
	if !ok {
		return nil, notEncrypted(path)
	}
	tree, err := loadTree(path, format, data)
	if err != nil {
		return nil, err
	}
	cipher := &recordingCipher{aes: aes.NewCipher(), seen: map[plainValue][]string{}}
	dataKey, err := decryptTree(ctx, path, tree, k, cipher)
	if err != nil {
		return nil, err
	}
	d = &Document{path: path, format: format, sealed: data, tree: *tree, dataKey: dataKey, cipher: cipher}
	d.opened, err = d.Plaintext()
	return d, err
}

// NewDocument starts an empty file as a creation rule says. For age recipients no
// keys are needed; other keys of the rule must be among k.
func (k *Keys) NewDocument(ctx context.Context, path string, rule Rule) (d *Document, err error) {
	defer recoverDocument(path, &d, &err)
	quiet()
	metadata, err := rule.metadata()
	if err != nil {
		return nil, err
	}
	d = &Document{
		path: path, format: formats.FormatForPath(path), cipher: &recordingCipher{aes: aes.NewCipher()},
		tree: sops.Tree{Branches: sops.TreeBranches{sops.TreeBranch{}}, Metadata: metadata},
	}
	if d.dataKey, err = k.newDataKey(ctx, &d.tree.Metadata); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Plaintext is the decrypted file, to be shown in an editor. That of an empty
// new file is empty.
func (d *Document) Plaintext() (out []byte, err error) {
	defer recoverBytes(d.path, &out, &err)
	if d.sealed == nil && len(d.tree.Branches) == 1 && len(d.tree.Branches[0]) == 0 {
		return nil, nil
	}
	if d.format == formats.Yaml {
		if out, err = d.store().EmitPlainFile(d.tree.Branches); err != nil {
			return nil, &FormatError{File: d.path, Reason: "its values cannot be written as YAML"}
		}
		return out, nil
	}
	return emit(d.path, d.format, d.tree.Branches)
}

// Replace takes another plaintext for the whole file. The document is left as it
// was when that is not valid.
func (d *Document) Replace(plaintext []byte) (err error) {
	var none []byte
	defer func() {
		if f := (*FormatError)(nil); errors.As(err, &f) && f.Remedy == "" {
			f.Remedy = "correct it: what is not valid is not encrypted"
		}
	}()
	defer recoverBytes(d.path, &none, &err)
	if _, encrypted := detect(d.path, plaintext); encrypted {
		return &FormatError{File: d.path, Reason: "it is encrypted already"}
	}
	branches, err := loadPlain(d.path, d.format, plaintext)
	if err != nil {
		return err
	}
	if len(branches) == 0 {
		return &FormatError{File: d.path, Reason: "it is empty"}
	}
	if slices.ContainsFunc(branches, d.store().HasSopsTopLevelKey) {
		return &FormatError{File: d.path, Reason: "the name sops is reserved for the metadata of SOPS"}
	}
	d.tree.Branches, d.hidden = branches, nil
	return nil
}

// Encrypt writes the file. One in which nothing was changed is what it was, byte
// for byte; values that were not changed keep their ciphertext.
func (d *Document) Encrypt() (out []byte, err error) {
	defer recoverBytes(d.path, &out, &err)
	quiet()
	if d.sealed != nil {
		now, err := d.Plaintext()
		if err != nil {
			return nil, err
		}
		if bytes.Equal(now, d.opened) {
			return d.sealed, nil
		}
	}
	tree := sops.Tree{Branches: cloneBranches(d.tree.Branches), Metadata: d.tree.Metadata}
	tree.Metadata.LastModified = time.Now().UTC()
	tree.Metadata.Version = sopsVersion
	if err := seal(d.path, &tree, d.dataKey, d.cipher.again()); err != nil {
		return nil, err
	}
	for _, name := range d.hidden {
		if v, ok := find(tree.Branches, name); ok && v != "" && !isCiphertext(fmt.Sprint(v)) {
			return nil, &NameError{File: d.path, Name: joinName(name), Reason: "the rule of the file leaves this value in plain text",
				Remedy: "if it is no secret, change it in an editor; else choose a name that the rule encrypts, or change what it says of values"}
		}
	}
	return d.emit(tree)
}

// emit writes an encrypted tree.
func (d *Document) emit(tree sops.Tree) ([]byte, error) {
	if d.sealed != nil && !bytes.Contains(d.sealed, []byte("unencrypted_suffix")) {
		tree.Metadata.UnencryptedSuffix = "" // what reading has put in: it goes without saying
	}
	out, err := d.store().EmitEncryptedFile(tree)
	if err != nil {
		return nil, &FormatError{File: d.path, Reason: "it cannot be written in its format"}
	}
	if !bytes.HasSuffix(out, []byte("\n")) && (d.sealed == nil || bytes.HasSuffix(d.sealed, []byte("\n"))) {
		out = append(out, '\n') // as the sops command does where it prints JSON
	}
	return out, nil
}

// seal encrypts the values of a tree, in place, and its message authentication
// code.
func seal(path string, tree *sops.Tree, dataKey []byte, cipher sops.Cipher) error {
	mac, err := tree.Encrypt(dataKey, cipher)
	if err != nil {
		return &FormatError{File: path, Reason: "it holds a value that SOPS cannot encrypt"}
	}
	tree.Metadata.MessageAuthenticationCode, err = aes.NewCipher().Encrypt(mac, dataKey, macContext(tree.Metadata))
	if err != nil {
		return &FormatError{File: path, Reason: "its authentication code could not be made"}
	}
	return nil
}

// store writes the file as whoever wrote it first did.
func (d *Document) store() common.Store { return storeLike(d.format, d.sealed) }

var (
	yamlIndent = regexp.MustCompile(`(?m)^sops:[ \t]*\r?\n( +)[^ ]`)
	jsonIndent = regexp.MustCompile(`^\s*\{\r?\n( +)"`)
)

// storeLike is the store of a format with the indentation of a file: what
// .sops.yaml says of it, or another version of sops, is seen in the file alone.
func storeLike(format formats.Format, data []byte) common.Store {
	c := config.NewStoresConfig()
	if m := yamlIndent.FindSubmatch(data); m != nil && format == formats.Yaml {
		c.YAML.Indent = min(len(m[1]), 9)
	}
	if m := jsonIndent.FindSubmatch(data); m != nil {
		c.JSON.Indent, c.JSONBinary.Indent = min(len(m[1]), 9), min(len(m[1]), 9)
	}
	return common.StoreForFormat(format, c)
}

// cloneBranches copies a tree: encrypting works in place.
func cloneBranches(in sops.TreeBranches) sops.TreeBranches {
	out := slices.Clone(in)
	for i := range out {
		out[i] = clone(out[i]).(sops.TreeBranch)
	}
	return out
}

func clone(v any) any {
	switch v := v.(type) {
	case sops.TreeBranch:
		out := slices.Clone(v)
		for i := range out {
			out[i].Value = clone(out[i].Value)
		}
		return out
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = clone(out[i])
		}
		return out
	}
	return v
}

func notEncrypted(path string) error {
	return &FormatError{File: path, Reason: "it is not encrypted", Remedy: "encrypt it first: sluice secrets encrypt " + oneLine(path)}
}

func recoverDocument(path string, d **Document, err *error) {
	if recover() != nil {
		*d, *err = nil, panicked(path)
	}
}

func recoverBytes(path string, out *[]byte, err *error) {
	if recover() != nil {
		*out, *err = nil, panicked(path)
	}
}
