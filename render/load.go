package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	sigsyaml "sigs.k8s.io/yaml"
)

// loader reads the files that the walker found, decrypts and checks them.
type loader struct {
	walker  *walker
	decrypt Decrypt
	files   map[string]*loaded
	failed  map[string]error // files that could not be read: several tags may name them
}

// loaded is a file's content, ready for Kustomize.
type loaded struct {
	data    []byte
	values  []string
	secret  bool // data holds decrypted values
	sealed  bool // the file is encrypted, opened or not: no error quotes it
	keyless bool
	opaque  bool // nothing shows of it without a key
	masked  func() ([]byte, error)
	checked role // roles whose checks it has passed

	standsIn bool // data is noPatch, in place of a patch that is opaque

	objects      int
	lists        bool // one of the objects may be a list
	copies       int
	replacements []types.Replacement
}

// load reads and checks all files of a folder, and what they come to together.
func (l *loader) load(ctx context.Context, in *inputs) error {
	total, objects, copies := 0, 0, in.copies
	replacements := slices.Clone(in.replacements)
	for _, use := range in.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := l.file(use)
		if err != nil {
			return err
		}
		total += use.count * len(f.data)
		objects += use.count * f.objects
		copies += use.count * f.copies
		replacements = append(replacements, f.replacements...)
		if total > MaxTotal {
			return &InputError{File: in.top.file, Reason: fmt.Sprintf("includes files of more than %d MiB together", MaxTotal>>20), Remedy: "split the release"}
		}
		if objects > MaxObjects {
			return &InputError{File: in.top.file, Reason: fmt.Sprintf("includes more than %d objects", MaxObjects), Remedy: "split the release"}
		}
	}
	if copies > MaxCopies {
		return &InputError{File: in.top.file, Reason: fmt.Sprintf("includes more than %d copy operations of JSON patches", MaxCopies), Remedy: "write out what is copied"}
	}
	if r := checkReplacements(replacements); !r.ok() {
		return &InputError{File: in.top.file, Field: "replacements", Reason: r.reason, Remedy: r.remedy}
	}
	return nil
}

// file reads, decrypts and checks one file.
func (l *loader) file(use fileUse) (*loaded, error) {
	f := l.files[use.path]
	if f == nil {
		err := l.failed[use.path]
		if err == nil {
			f, err = l.read(use.path)
		}
		if err != nil {
			l.failed[use.path] = err
			return nil, err
		}
		l.files[use.path] = f
	}
	if err := f.check(use); err != nil {
		return nil, err
	}
	return f, nil
}

// wipe overwrites the decrypted files. What Kustomize made of them lives on, as
// strings, which cannot be overwritten.
func (l *loader) wipe() {
	for _, f := range l.files {
		if f.secret {
			clear(f.data)
		}
	}
}

func (l *loader) read(p string) (*loaded, error) {
	if l.walker.kinds[p].size > MaxFile {
		return nil, tooLarge(p, MaxFile)
	}
	data, err := fs.ReadFile(l.walker.fsys, p)
	if err != nil {
		return nil, reading(p, err)
	}
	if len(data) > MaxFile { // the size in Stat is a claim
		return nil, tooLarge(p, MaxFile)
	}
	if r := isLFS(data); !r.ok() {
		return nil, &InputError{File: p, Reason: r.reason, Remedy: r.remedy}
	}
	if l.decrypt == nil {
		return &loaded{data: data}, nil
	}
	d, err := l.decrypt(p, data)
	if err != nil {
		return nil, err
	}
	if len(d.Data) > MaxFile {
		return nil, tooLarge(p, MaxFile)
	}
	return &loaded{data: d.Data, values: d.Values, secret: d.Encrypted && !d.Keyless, sealed: d.Encrypted, keyless: d.Keyless, opaque: d.Opaque, masked: d.Masked}, nil
}

// check looks at the plaintext of a file as Kustomize will use it. Of a file
// that is encrypted no text of a parser goes into the errors.
func (f *loaded) check(use fileUse) error {
	roles := use.roles &^ f.checked
	fail := func(line int, r refusal) error {
		if r.ok() {
			return nil
		}
		return &InputError{File: use.path, Line: line, Reason: r.reason, Remedy: r.remedy}
	}
	if f.opaque {
		if r := f.checkOpaque(use, roles); !r.ok() {
			return fail(0, r)
		}
	}
	if roles&(roleConfig|roleReplacement|rolePlugin) != 0 && len(f.data) > MaxConfig {
		return tooLarge(use.path, MaxConfig)
	}
	if roles&(roleResource|rolePatch|rolePlugin) != 0 {
		found, err := checkDocuments(f.data)
		var doc *documentError
		switch {
		case errors.As(err, &doc):
			return fail(doc.line, refusal{doc.Error(), doc.remedy})
		case err != nil:
			line, reason := notYAML(f.data, f.sealed)
			return fail(line, refusal{reason, "correct the file: " + use.from.file + " reads it as " + use.ref.field})
		}
		if roles&roleResource != 0 {
			if f.opaque {
				return fail(0, refusal{"is encrypted as a whole, so that nobody knows without a key which objects it holds",
					"encrypt its values only: as YAML, with the extension .yaml"})
			}
			f.objects, f.lists = found.objects, found.lists
		}
	}
	if roles&rolePatch != 0 {
		f.copies = countCopies(f.data)
	}
	if roles&rolePlugin != 0 {
		m, err := newResourceFactory().NewResMapFromBytes(f.data)
		if err != nil {
			return fail(0, refusal{"is not the configuration of a transformer", "give objects of apiVersion builtin"})
		}
		if r := checkPlugins(m); !r.ok() {
			return fail(0, r)
		}
	}
	if roles&roleCRD != 0 {
		if r := checkCRDs(f.data); !r.ok() {
			return fail(0, r)
		}
	}
	if f.secret && strings.Contains(use.ref.field, ".env") {
		if line := nameless(f.data); line > 0 {
			return fail(line, refusal{"has a line that is not NAME=value, which Kustomize takes for a name: names are no secrets",
				"write NAME=value; a value of several lines goes into a file of its own, under files"})
		}
	}
	if roles&roleReplacement != 0 {
		var err error
		if f.replacements, err = decodeReplacements(f.data); err != nil {
			return fail(0, refusal{"is neither a replacement nor a list of them", "give source and targets"})
		}
	}
	if roles&roleConfig != 0 {
		var v map[string]any
		if sigsyaml.Unmarshal(f.data, &v) != nil {
			return fail(0, refusal{"is not a transformer configuration", "give field specifications such as nameReference"})
		}
		if r := checkLongPaths(v); !r.ok() {
			return fail(0, r)
		}
	}
	f.checked |= roles
	return nil
}

// checkOpaque judges a file that is encrypted as a whole. Where it is a patch that
// nobody can read, one that does nothing stands in for it.
func (f *loaded) checkOpaque(use fileUse, roles role) refusal {
	patch := roles&rolePatch != 0
	switch {
	case len(f.data) > MaxConfig && (patch || strings.Contains(use.ref.field, ".env")):
		return refusal{"is encrypted as a whole and larger than 256 KiB: it is not looked into, and nobody could tell where its values surface",
			"encrypt its values only, with the extension .env or .yaml, or part it"}
	case !f.keyless || !patch:
		return refusal{}
	case roles&roleUntargeted != 0:
		return refusal{"is encrypted as a whole, so that nobody knows without a key what it patches",
			"give the patch a target in " + use.from.file + ", or encrypt its values only: as YAML, with the extension .yaml"}
	}
	f.data, f.standsIn = []byte(noPatch), true
	return refusal{}
}

// noPatch is a JSON patch that changes nothing.
const noPatch = `[{"op": "copy", "from": "/kind", "path": "/kind"}]`

// nameless is the first line of an env file that has no value.
func nameless(data []byte) int {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.ContainsRune(line, '=') {
			return n
		}
	}
	return 0
}

type rendition int

const (
	plaintext rendition = iota
	masked
)

var errNoMask = errors.New("a file cannot be masked")

// memory makes the file system that Kustomize works on. It holds what was
// loaded and nothing else.
func (l *loader) memory(r rendition) (*memoryFS, error) {
	mem := newMemoryFS()
	for _, k := range l.walker.kusts {
		if k.err == nil {
			mem.put(k.k.file, k.k.data)
		}
	}
	for p, f := range l.files {
		data := f.data
		if r == masked && f.secret {
			if f.masked == nil {
				return nil, errNoMask
			}
			var err error
			if data, err = f.masked(); err != nil {
				return nil, errNoMask
			}
			if f.opaque && f.checked&rolePatch != 0 {
				data = []byte(noPatch)
			}
		}
		mem.put(p, data)
	}
	l.listings(mem)
	return mem, nil
}

// having are the paths of the files for which that is true, sorted.
func (l *loader) having(is func(*loaded) bool) (paths []string) {
	for p, f := range l.files {
		if is(f) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// decrypted are the files of a folder that hold decrypted values.
func (l *loader) decrypted(in *inputs) []string {
	var out []string
	for _, use := range in.files {
		if f := l.files[use.path]; f != nil && f.secret {
			out = append(out, use.path)
		}
	}
	slices.Sort(out)
	return out
}
