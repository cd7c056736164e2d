// Package render turns a release of the environments repository into
// Kubernetes objects.
//
// Call [Build] for a release, or [BuildPartial] where a tag that does not render
// must not take the others down with it; [Folder] renders one folder as kubectl
// kustomize does. [InputClosure] says, without rendering, which paths decide the outcome.
// [Lint] looks for what is legal but harmful in a rendered release: Build
// refuses its errors, and [Inspect] reports them.
//
// Input is hostile. A guard walks the kustomization files first and refuses
// everything that would reach out of the project, run a program or exhaust the
// process; only files that it has visited are copied, decrypted, to an
// in-memory file system on which Kustomize then works. The package never reads
// the host's files, never fetches, never runs a program and never writes.
// Decrypted values are tracked: no error holds one, and one that surfaces in
// anything but a Secret is an error.
//
// Weights are not applied here: see package render/traffic.
package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-dev/sluice/envrepo"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/types"
)

// Decrypt opens one file of the project; a file that is not encrypted comes
// back as it is. It is called once for each file of a release that is not a
// kustomization, from one goroutine. Its errors must not hold plaintext.
type Decrypt func(path string, data []byte) (Decrypted, error)

// Decrypted is the outcome of opening one file.
type Decrypted struct {
	Data      []byte   // the plaintext; of an encrypted file wiped when rendering is done
	Values    []string // decrypted values, for masking and for tracking
	Encrypted bool     // the file was encrypted
	Keyless   bool     // no key was used: Data holds placeholders
	Opaque    bool     // nothing of the file shows without a key: then Data is one placeholder

	// Masked returns the file with a placeholder for each decrypted value. It
	// is called only to tell a leak from a coincidence and to get an error
	// text without values. When it is nil, or fails, every coincidence counts
	// as a leak and error texts of Kustomize are withheld.
	Masked func() ([]byte, error)
}

// Request says what to render.
type Request struct {
	FS      fs.FS           // the project folder
	Release envrepo.Release // as envrepo read it from FS
	Decrypt Decrypt         // nil: files are taken as they are
}

// Result is a rendered release. Objects stand in Kustomize's order.
type Result struct {
	Release envrepo.Release
	// Shared are all objects of an untagged release; of a tagged one those
	// that exist once, its routes as they were written (see render/traffic).
	Shared []*unstructured.Unstructured
	Tags   []TagObjects // every tag folder, sorted by name; see TagObjects.Broken
	// Values are the decrypted values, for masking, longest first; those that
	// the release holds in plain text as well are left out.
	Values  []string
	Keyless []string // files whose values could not be shown, sorted
	// Opaque are those among them that patch objects, nobody knows how: the patches are
	// left out, so that objects may lack or hold what they would not.
	Opaque []string
	// Plain are the values of Secrets that stand in the repository unencrypted.
	Plain []PlainSecret
}

// TagObjects are the objects of one deployment tag.
type TagObjects struct {
	Name    string
	Digest  string // the digest its overlay pins
	Objects []*unstructured.Unstructured
	// Broken says why the tag could not be rendered. It has no Objects then, which
	// does not mean that none are wanted: what runs of it is to be left alone. Only
	// [BuildPartial] and [Inspect] return such tags.
	Broken error
}

// Build renders a release and checks what must hold of every release: all
// objects are in the environment's namespace, each container of the
// component's image runs the pinned digest and each images entry pins
// something, no object is declared twice, no ciphertext is left, no decrypted
// value surfaces outside a Secret and [Lint] finds no error. The tags of a
// release are rendered in parallel.
//
// Errors are *InputError, *BuildError, *ObjectError, *ImageError, *LintError,
// those of Decrypt and of the context. One tag that fails fails the release.
func Build(ctx context.Context, req Request) (*Result, error) {
	res, found, err := Inspect(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := res.broken(); err != nil {
		return nil, fmt.Errorf("rendering %s: %w", req.Release.Dir, err)
	}
	if found = refused(found); len(found) > 0 {
		return nil, fmt.Errorf("rendering %s: %w", req.Release.Dir, &LintError{Dir: req.Release.Dir, Findings: found})
	}
	return res, nil
}

// BuildPartial renders as [Build] does, but a tag that fails does not fail the
// release: its TagObjects say so in Broken. It fails where Build would for what
// the release has once. It is for those who apply a release, so that traffic can
// be taken off a tag whose files are broken.
//
// An object that two tags declare breaks both, as nobody knows whose it is; one
// that the shared part declares too breaks the tag.
func BuildPartial(ctx context.Context, req Request) (*Result, error) {
	res, found, err := Inspect(ctx, req)
	if err != nil {
		return nil, err
	}
	found = refused(found)
	for i := range res.Tags {
		dir := req.Release.Tags[i].Dir
		of := func(f Finding) bool { return f.File == dir }
		if slices.ContainsFunc(found, of) {
			rest := slices.DeleteFunc(slices.Clone(found), of)
			res.Tags[i].fail(&LintError{Dir: dir, Findings: slices.DeleteFunc(found, func(f Finding) bool { return !of(f) })})
			found = rest
		}
	}
	if len(found) > 0 {
		return nil, fmt.Errorf("rendering %s: %w", req.Release.Dir, &LintError{Dir: req.Release.Dir, Findings: found})
	}
	return res, nil
}

// fail takes the objects away, so that nobody applies half a tag.
func (t *TagObjects) fail(err error) { t.Objects, t.Broken = nil, err }

// broken are the errors of all tags; nil when every tag has been rendered. One
// that several tags have of their base is told once.
func (r *Result) broken() error {
	var errs []error
	for _, t := range r.Tags {
		if t.Broken != nil {
			errs = append(errs, t.Broken)
		}
	}
	if errs = dedupe(errs); len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// Inspect renders as [BuildPartial] does, and returns what [Lint] finds in what
// could be rendered instead of refusing it for that. It is for those who report
// on a release; what is to be applied comes from Build or BuildPartial.
func Inspect(ctx context.Context, req Request) (*Result, []Finding, error) {
	rel := req.Release
	b := newBuilder(req.FS, scope{environment: rel.Environment.Name, release: true}, req.Decrypt)
	defer b.loader.wipe()
	folders := []folder{{inputs: &inputs{dir: rel.Dir}}}
	if rel.Tagged() {
		for _, t := range rel.Tags {
			folders = append(folders, folder{inputs: &inputs{dir: t.Dir}, err: t.Broken})
		}
	}
	if err := b.build(ctx, folders); err != nil {
		return nil, nil, fmt.Errorf("rendering %s: %w", rel.Dir, err)
	}
	if err := b.check(ctx, rel, folders); err != nil {
		return nil, nil, fmt.Errorf("rendering %s: %w", rel.Dir, err)
	}
	res := &Result{Release: rel, Shared: folders[0].objects, Values: b.maskable(), Keyless: b.loader.having(func(f *loaded) bool { return f.keyless }),
		Opaque: b.loader.having(func(f *loaded) bool { return f.standsIn }), Plain: b.plain(folders)}
	for i, f := range folders[1:] {
		t := TagObjects{Name: rel.Tags[i].Name, Digest: rel.Tags[i].Digest, Objects: f.objects}
		if f.err != nil {
			t.fail(f.err)
		}
		res.Tags = append(res.Tags, t)
	}
	return res, Lint(res), nil
}

// check is everything that must hold of the objects of a release. What is wrong
// with a tag is kept in its folder; the error is that of what exists once. Leaks
// come first: the errors of the other checks name objects.
func (b *builder) check(ctx context.Context, rel envrepo.Release, folders []folder) error {
	b.checkLeaks(ctx, folders, b.values(), rel.Component.SecretsIn)
	for i := range folders {
		f := &folders[i]
		for _, check := range []func() error{
			func() error { return checkCiphertext(*f) },
			func() error { return checkNamespaces(rel, *f) },
			func() error { return checkImages(rel, i, *f) },
		} {
			if f.err == nil {
				f.err = check()
			}
		}
	}
	checkDuplicates(folders)
	if err := ctx.Err(); err != nil {
		return err
	}
	return folders[0].err
}

// Folder renders one folder of the project and checks nothing but the input:
// the objects equal those of kubectl kustomize. A folder below
// environments/NAME may not read another environment's.
func Folder(ctx context.Context, fsys fs.FS, dir string, d Decrypt) ([]*unstructured.Unstructured, error) {
	b := newBuilder(fsys, scopeOf(dir), d)
	defer b.loader.wipe()
	folders := []folder{{inputs: &inputs{dir: dir}}}
	if err := b.build(ctx, folders); err != nil {
		return nil, fmt.Errorf("rendering %s: %w", dir, err)
	}
	return folders[0].objects, nil
}

// folder is one folder of a release: what its build reads and what came out.
type folder struct {
	*inputs
	objects []*unstructured.Unstructured
	err     error // why it has no objects; inputs may be incomplete then
}

// overlay is the folder's kustomization file.
func (f folder) overlay() string { return f.top.file }

// builder renders the folders of one release.
type builder struct {
	walker *walker
	loader *loader
	masked map[string][]*unstructured.Unstructured // by folder, see maskedObjects
	public map[string]bool                         // see checkLeaks
}

func newBuilder(fsys fs.FS, s scope, d Decrypt) *builder {
	w := newWalker(fsys, s)
	return &builder{walker: w, loader: &loader{walker: w, decrypt: d, files: map[string]*loaded{}, failed: map[string]error{}},
		masked: map[string][]*unstructured.Unstructured{}, public: map[string]bool{}}
}

// build renders folders: guard, then load and decrypt, then Kustomize. What is
// wrong with one of them is kept there; the error is that of the first, without
// which the others are nothing, or of the context.
func (b *builder) build(ctx context.Context, folders []folder) error {
	for i := range folders {
		if f := &folders[i]; f.err == nil {
			if f.inputs, f.err = b.walker.walk(f.dir); f.err == nil {
				f.err = b.loader.load(ctx, f.inputs)
			}
		}
		if i == 0 && folders[0].err != nil {
			return folders[0].err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	mem, err := b.loader.memory(plaintext)
	if err != nil {
		return err
	}
	kustomize(ctx, mem, folders)
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range folders {
		f, quoting := &folders[i], (*BuildError)(nil)
		if errors.As(f.err, &quoting) {
			f.err = b.presentable(*f, f.err)
		}
	}
	return folders[0].err
}

// kustomize builds the folders without an error, the first one among them: side by side
// if there are several; for one, a goroutine would only have to grow its stack again.
func kustomize(ctx context.Context, mem *memoryFS, folders []folder) {
	build := func(f *folder) {
		if f.err = ctx.Err(); f.err == nil {
			f.objects, f.err = runKustomize(mem, f.dir)
		}
	}
	if len(folders) == 1 {
		build(&folders[0])
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range folders {
		f := &folders[i]
		if f.err != nil {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			build(f)
		})
	}
	wg.Wait()
}

// presentable makes an error of Kustomize fit to be shown. Kustomize quotes
// what it reads, so an error about a folder with decrypted files is taken from
// a second build of the masked files, and withheld when that one succeeds.
func (b *builder) presentable(f folder, err error) error {
	secret := b.loader.decrypted(f.inputs)
	if len(secret) == 0 {
		return err
	}
	if mem, maskErr := b.loader.memory(masked); maskErr == nil {
		if _, err := krustyRun(mem.withoutListings(), f.dir, types.LoadRestrictionsRootOnly); err != nil {
			return err
		}
	}
	return &BuildError{Dir: f.dir, Files: secret}
}

// values are the decrypted values of all files, longest first.
func (b *builder) values() []string {
	var out []string
	for _, f := range b.loader.files {
		out = append(out, f.values...)
	}
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(out)
}

// maskable are the values that are nowhere in plain text.
func (b *builder) maskable() []string {
	return slices.DeleteFunc(b.values(), func(v string) bool { return b.public[v] })
}
