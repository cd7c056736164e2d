package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
)

// walker follows kustomization files from a folder to everything they name. It
// reads kustomization files only; what is read of other files is the loader's.
// It is the guard of DESIGN §8: nothing that it has not visited reaches
// Kustomize. Not safe for concurrent use.
type walker struct {
	fsys  fs.FS
	scope scope
	kinds map[string]statResult
	kusts map[string]kustResult // by folder

	// tolerant walkers note errors and go on: a closure holds whatever could
	// be found.
	tolerant bool
	errs     []error
}

type statResult struct {
	mode fs.FileMode
	size int64
	err  error
}

type kustResult struct {
	k   *kustomization
	err error
}

func newWalker(fsys fs.FS, s scope) *walker {
	return &walker{fsys: fsys, scope: s, kinds: map[string]statResult{}, kusts: map[string]kustResult{}}
}

// inputs are what one folder's build reads.
type inputs struct {
	dir      string
	top      *kustomization  // of the folder itself
	dirs     []string        // every folder entered or missing, the first included
	files    []fileUse       // every file named, in order of the walk
	byPath   map[string]int  // index in files
	seen     map[string]bool // dirs
	includes int             // kustomizations entered, each as often as it is
	refs     int             // paths named in them
	copies   int

	replacements []types.Replacement
}

// fileUse is a file and all that Kustomize does with it in one build.
type fileUse struct {
	path  string
	roles role
	count int // how often it is read
	from  *kustomization
	ref   reference // the first one
}

// walk visits a folder and all it includes.
func (w *walker) walk(dir string) (*inputs, error) {
	in := &inputs{dir: dir, byPath: map[string]int{}, seen: map[string]bool{}}
	if err := w.checkDir(dir); err != nil {
		in.addDir(dir)
		return in, w.fail(err)
	}
	err := w.enter(in, dir, nil)
	return in, err
}

// checkDir checks the folder that a build starts from, which no kustomization
// names.
func (w *walker) checkDir(dir string) error {
	if !fs.ValidPath(dir) {
		return &InputError{File: dir, Reason: "is not a path in the project", Remedy: remedyInside}
	}
	mode, err := w.lstatAll(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && mode.IsRegular():
		return &InputError{File: dir, Reason: "is not a folder", Remedy: "name a folder with a kustomization.yaml"}
	case err != nil:
		return err
	}
	if r := specialFile(mode); !r.ok() {
		return &InputError{File: dir, Reason: r.reason, Remedy: r.remedy}
	}
	return nil
}

// maxNoted bounds the errors of a tolerant walker.
const maxNoted = 100

// fail returns an error, or notes it when the walker is tolerant.
func (w *walker) fail(err error) error {
	if err == nil || !w.tolerant {
		return err
	}
	if len(w.errs) < maxNoted {
		w.errs = append(w.errs, err)
	}
	return nil
}

// enter visits the kustomization of a folder; stack holds the folders that led
// to it, outermost first.
func (w *walker) enter(in *inputs, dir string, stack []string) error {
	in.addDir(dir)
	k, err := w.kustomization(dir)
	if err != nil {
		return w.fail(err)
	}
	if in.top == nil {
		in.top = k
	}
	if in.includes++; in.includes > MaxIncludes {
		return &InputError{File: k.file, Reason: fmt.Sprintf("is one of more than %d kustomizations that %s includes", MaxIncludes, in.dir),
			Remedy: "include each base once"}
	}
	if in.refs += len(k.refs); in.refs > MaxReferences {
		return &InputError{File: k.file, Reason: fmt.Sprintf("brings the paths that %s includes to more than %d", in.dir, MaxReferences),
			Remedy: "split the release"}
	}
	in.copies += k.copies
	in.replacements = append(in.replacements, k.replacements...)
	stack = append(slices.Clip(stack), dir)
	for _, ref := range k.refs {
		if err := w.follow(in, k, ref, stack); err != nil {
			if err = w.fail(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// kustomization reads the kustomization of a folder once.
func (w *walker) kustomization(dir string) (*kustomization, error) {
	if r, ok := w.kusts[dir]; ok {
		return r.k, r.err
	}
	k, err := w.readKustomization(dir)
	w.kusts[dir] = kustResult{k, err}
	return k, err
}

func (w *walker) readKustomization(dir string) (*kustomization, error) {
	file, err := w.findKustomization(dir)
	if err != nil {
		return nil, err
	}
	if file == "" {
		return nil, &InputError{File: dir, Reason: "has no kustomization.yaml", Remedy: "add one, or name files instead of the folder"}
	}
	if w.kinds[file].size > MaxConfig {
		return nil, tooLarge(file, MaxConfig)
	}
	data, err := fs.ReadFile(w.fsys, file)
	if err != nil {
		return nil, reading(file, err)
	}
	return parseKustomization(file, data)
}

// follow visits what one reference names.
func (w *walker) follow(in *inputs, k *kustomization, ref reference, stack []string) error {
	refuse := func(r refusal) error {
		return k.refuse(ref, r.reason, r.remedy)
	}
	p, r := resolve(k.dir, ref.value)
	if r.ok() {
		r = w.scope.check(p)
	}
	if !r.ok() {
		return refuse(r)
	}
	mode, err := w.lstatAll(p)
	if errors.Is(err, fs.ErrNotExist) {
		in.missing(p, k, ref)
		return refuse(refusal{"does not exist", "correct the path, which is relative to " + k.dir + ", or add the file"})
	}
	if err != nil {
		return err
	}
	if r := specialFile(mode); !r.ok() {
		return refuse(r)
	}
	if mode.IsDir() {
		if !ref.dir {
			return refuse(refusal{"is a folder where a file is due", "name a file"})
		}
		if ambiguous(ref.value) {
			return refuse(refusal{"is ambiguous", "look for list items that YAML has joined because of their indentation"})
		}
		return w.include(in, k, ref, p, stack)
	}
	if !ref.file {
		return refuse(refusal{"is a file where a folder is due", "name a folder with a kustomization.yaml"})
	}
	if !below(p, k.dir) {
		return refuse(refusal{"is a file outside " + k.dir, "move it there, or include its folder: Kustomize reads files only below the kustomization that names them"})
	}
	in.use(p, k, ref)
	return nil
}

// include enters a base after checking that it is none of those that led to it
// or contains one of them, as Kustomize does.
func (w *walker) include(in *inputs, k *kustomization, ref reference, dir string, stack []string) error {
	for _, seen := range stack {
		if below(seen, dir) {
			return k.refuse(ref, "leads back to "+seen+", which includes it", "remove the cycle")
		}
	}
	if len(stack) >= MaxDepth {
		return k.refuse(ref, fmt.Sprintf("is included more than %d levels deep", MaxDepth), "flatten the bases")
	}
	return w.enter(in, dir, stack)
}

func (in *inputs) use(p string, k *kustomization, ref reference) {
	if i, ok := in.byPath[p]; ok {
		in.files[i].roles |= ref.role
		in.files[i].count++
		return
	}
	in.byPath[p] = len(in.files)
	in.files = append(in.files, fileUse{path: p, roles: ref.role, count: 1, from: k, ref: ref})
}

// missing notes a path that does not exist, for closures: its appearance
// changes the outcome.
func (in *inputs) missing(p string, k *kustomization, ref reference) {
	if ref.file && below(p, k.dir) {
		in.use(p, k, ref)
		return
	}
	in.addDir(p)
}

func (in *inputs) addDir(dir string) {
	if !in.seen[dir] {
		in.seen[dir] = true
		in.dirs = append(in.dirs, dir)
	}
}

// lstatAll returns the mode of a path, or of the first of its parents that is
// neither a folder nor a file: nothing is reached through a symbolic link.
func (w *walker) lstatAll(p string) (fs.FileMode, error) {
	for i, c := range p {
		if c != '/' {
			continue
		}
		mode, err := w.lstat(p[:i])
		if err != nil || mode.Type()&^fs.ModeDir != 0 {
			return mode, err
		}
		if !mode.IsDir() {
			return 0, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
		}
	}
	return w.lstat(p)
}

// lstat does not follow symbolic links, provided that the file system either
// implements fs.ReadLinkFS or does not follow them itself. One that refuses to
// open them cannot be asked directly; the folder's list says what they are.
func (w *walker) lstat(p string) (fs.FileMode, error) {
	r, ok := w.kinds[p]
	if !ok {
		info, err := fs.Lstat(w.fsys, p)
		switch {
		case err == nil:
			r.mode, r.size = info.Mode(), info.Size()
		case errors.Is(err, fs.ErrNotExist):
			r.err = err
		default:
			if r.mode, ok = w.listed(p); !ok {
				r.err = reading(p, err)
			}
		}
		w.kinds[p] = r
	}
	return r.mode, r.err
}

// listed is the type of what is neither a file nor a folder, as its folder
// lists it.
func (w *walker) listed(p string) (fs.FileMode, bool) {
	entries, err := fs.ReadDir(w.fsys, path.Dir(p))
	if err != nil {
		return 0, false
	}
	for _, e := range entries {
		if e.Name() == path.Base(p) {
			return e.Type(), !specialFile(e.Type()).ok()
		}
	}
	return 0, false
}

// reading says that a file cannot be read, its path once.
func reading(p string, err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("reading %s: %w", p, err)
}

// specialFile refuses what is neither a folder nor a regular file.
func specialFile(mode fs.FileMode) refusal {
	switch {
	case mode.IsDir(), mode.IsRegular():
		return refusal{}
	case mode&fs.ModeSymlink != 0:
		return refusal{"is or lies behind a symbolic link", "replace the link by the file: links are not followed"}
	case mode&fs.ModeIrregular != 0:
		return refusal{"is or lies in a submodule", "copy the files into the repository: submodules are not fetched"}
	}
	return refusal{"is not a regular file", "replace it by a regular file"}
}

// kustomizationNames are all paths that Kustomize would read as the
// kustomization of a folder.
func kustomizationNames(dir string, names []string) []string {
	paths := make([]string, 0, len(names))
	for _, n := range names {
		paths = append(paths, path.Join(dir, n))
	}
	return paths
}

// minimal sorts, and drops what lies below one of the folders.
func minimal(folders, files []string) []string {
	var out []string
	slices.Sort(folders)
	for _, d := range slices.Compact(folders) {
		if !coveredBy(d, out) {
			out = append(out, d)
		}
	}
	dirs := slices.Clone(out)
	for _, f := range files {
		if !coveredBy(f, dirs) {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// coveredBy reports whether p is or lies below one of the folders.
func coveredBy(p string, folders []string) bool {
	for d := p; ; {
		if slices.Contains(folders, d) {
			return true
		}
		i := strings.LastIndexByte(d, '/')
		if i < 0 {
			return slices.Contains(folders, ".")
		}
		d = d[:i]
	}
}
