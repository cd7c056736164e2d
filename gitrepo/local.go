package gitrepo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// errUnsupportedFormat: a repository of a kind that go-git cannot read.
var errUnsupportedFormat = errors.New("the repository format is not supported")

// gitDirs says where the parts of a repository on disk are.
type gitDirs struct {
	work   string // root of the work tree, "" for a bare repository
	git    string // .git, or what a .git file names
	common string // where objects and branches are: git, but for a linked work tree
}

func (d gitDirs) top() string {
	if d.work != "" {
		return d.work
	}
	return d.git
}

// enclosingGitDir finds the repository that a folder belongs to.
func enclosingGitDir(dir string) (gitDirs, error) {
	for {
		dirs, err := findGitDir(dir)
		if err == nil || !errors.Is(err, ErrNotRepository) {
			return dirs, err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return gitDirs{}, ErrNotRepository
		}
		dir = parent
	}
}

// findGitDir finds the repository at a folder: a work tree's root, a linked
// work tree's root, a bare repository, or a .git folder.
func findGitDir(dir string) (gitDirs, error) {
	d := gitDirs{work: dir, git: filepath.Join(dir, ".git")}
	info, err := os.Stat(d.git)
	switch {
	case err == nil && !info.IsDir():
		if d.git, err = readGitFile(d.git); err != nil {
			return gitDirs{}, err
		}
	case err != nil:
		d = gitDirs{git: dir}
		if filepath.Base(dir) == ".git" {
			d.work = filepath.Dir(dir)
		}
	}
	if d.common, err = commonDir(d.git); err != nil {
		return gitDirs{}, err
	}
	for _, need := range []string{filepath.Join(d.git, "HEAD"), filepath.Join(d.common, "objects"), filepath.Join(d.common, "refs")} {
		if _, err := os.Stat(need); err != nil {
			return gitDirs{}, ErrNotRepository
		}
	}
	return d, nil
}

// readGitFile reads the .git file of a linked work tree or a submodule.
func readGitFile(file string) (string, error) {
	data, err := readSmall(file)
	if err != nil {
		return "", ErrNotRepository
	}
	target, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "gitdir:")
	if !ok {
		return "", ErrNotRepository
	}
	return resolvePath(filepath.Dir(file), strings.TrimSpace(target)), nil
}

func commonDir(git string) (string, error) {
	data, err := readSmall(filepath.Join(git, "commondir"))
	if os.IsNotExist(err) {
		return git, nil
	}
	if err != nil {
		return "", ErrNotRepository
	}
	return resolvePath(git, strings.TrimSpace(string(data))), nil
}

func resolvePath(base, p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(base, filepath.FromSlash(p))
}

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// localRepository is what OpenLocal adds to a Repository.
type localRepository struct {
	dirs    gitDirs
	config  *config.Config
	storage *localStorage
}

// cutOff reports whether a commit is one of those at which a shallow clone ends. It
// says so only where the file that git keeps of them can be read.
func (l *localRepository) cutOff(h plumbing.Hash) bool {
	data, err := os.ReadFile(filepath.Join(l.dirs.common, "shallow"))
	return err == nil && slices.Contains(strings.Fields(string(data)), h.String())
}

// OpenLocal opens the repository that a folder belongs to: the work tree (also
// a linked one) or bare repository at the path or above it. It is for reading
// local commits and for finding the remote; Fetch, Update, Push and
// WriteCommit give ErrReadOnly. HEAD is the work tree's.
func OpenLocal(path string) (*Repository, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening repository %s: %w", path, err)
	}
	info, err := os.Stat(abs)
	if err == nil && !info.IsDir() {
		abs = filepath.Dir(abs)
	}
	var dirs gitDirs
	if err == nil {
		dirs, err = enclosingGitDir(abs)
	}
	if err != nil {
		e := &NotRepositoryError{Repository: abs, Reason: "neither the folder nor one above it is a Git repository",
			hint: "run it inside a clone, or name a repository"}
		if os.IsNotExist(err) {
			e.Reason = "there is no such path"
		}
		return nil, e
	}
	cfg := readConfigFile(filepath.Join(dirs.common, "config"))
	if err := checkFormat(cfg); err != nil {
		return nil, formatError(dirs.top(), err)
	}
	l := &localRepository{dirs: dirs, config: cfg, storage: newLocalStorage(dirs)}
	r := &Repository{name: dirs.top(), local: l}
	r.db = newDatabase(l.storage, func() {})
	return r, nil
}

// checkFormat refuses extensions that change how objects and refs are stored.
// Others (partial clone, per-worktree configuration) do no harm here.
func checkFormat(cfg *config.Config) error {
	if cfg == nil {
		return nil
	}
	section := cfg.Raw.Section("extensions")
	if f := section.Option("objectformat"); f != "" && f != "sha1" {
		return fmt.Errorf("its objects are named by %s: %w", f, errUnsupportedFormat)
	}
	if f := section.Option("refstorage"); f != "" && f != "files" {
		return fmt.Errorf("its refs are stored as %s: %w", f, errUnsupportedFormat)
	}
	return nil
}

func formatError(repository string, err error) error {
	return &OptionError{Repository: repository, Reason: err.Error(), hint: "repositories with SHA-1 objects and files as refs are supported"}
}

// Dir is the root of the work tree, or the bare repository itself. It is ""
// for a Repository of Open.
func (r *Repository) Dir() string {
	if r.local == nil {
		return ""
	}
	return r.local.dirs.top()
}

// Bare says whether a repository of OpenLocal has no work tree. It is true for
// a Repository of Open.
func (r *Repository) Bare() bool { return r.local == nil || r.local.dirs.work == "" }

// Branch is the short name of the current branch of a work tree (also before
// its first commit), or of the mirrored branch; "" when HEAD is detached.
func (r *Repository) Branch() string {
	if r.local == nil {
		return r.branchName()
	}
	target, err := r.local.storage.head()
	if err != nil {
		return ""
	}
	branch, ok := strings.CutPrefix(target, "refs/heads/")
	if !ok {
		return ""
	}
	return branch
}

// RemoteURL is where a local repository pushes to: the URL of the remote
// "origin", or of its only remote. It may hold credentials: do not print it.
// For a Repository of Open it is the URL without credentials.
func (r *Repository) RemoteURL() (string, error) {
	if r.local == nil {
		return r.name, nil
	}
	var remotes map[string]*config.RemoteConfig
	if r.local.config != nil {
		remotes = r.local.config.Remotes
	}
	names := make([]string, 0, len(remotes))
	for n := range remotes {
		names = append(names, n)
	}
	sort.Strings(names)
	chosen, ok := remotes["origin"]
	if !ok && len(names) == 1 {
		chosen, ok = remotes[names[0]], true
	}
	if !ok || len(chosen.URLs) == 0 {
		return "", &RemoteError{Repository: r.name, Known: names}
	}
	url := chosen.URLs[0]
	// As git does it: a relative path starts at the work tree.
	if !strings.Contains(url, "://") && !filepath.IsAbs(url) && !isSCP(url) {
		url = resolvePath(r.local.dirs.top(), url)
	}
	return url, nil
}

// Identity is who commits according to a local repository's and the user's
// configuration; for a Repository of Open, who its commits are by.
func (r *Repository) Identity() (name, email string) {
	if r.local == nil {
		return r.who.name, r.who.email
	}
	id := committer(Options{}, r.local.config)
	return id.name, id.email
}

// RemoteError says that a local repository does not tell where it pushes to.
type RemoteError struct {
	Repository string
	Known      []string // names of its remotes
}

// Error names the repository and its remotes.
func (e *RemoteError) Error() string {
	if len(e.Known) == 0 {
		return e.Repository + " has no remote"
	}
	return fmt.Sprintf("%s has no remote origin but %s", e.Repository, enumerate(e.Known, 5))
}

// Hint says what to do.
func (e *RemoteError) Hint() string {
	return "name the repository, or add it: git remote add origin URL"
}

// localStorage reads the objects and refs of a repository that git also
// writes. go-git's storage is not safe for concurrent use, hence the mutex.
type localStorage struct {
	mu sync.Mutex
	s  *filesystem.Storage
}

func newLocalStorage(d gitDirs) *localStorage {
	fsys := osfs.New(d.git)
	all := dotgit.NewRepositoryFilesystem(fsys, nil)
	if d.common != d.git {
		all = dotgit.NewRepositoryFilesystem(fsys, osfs.New(d.common))
	}
	return &localStorage{s: filesystem.NewStorageWithOptions(all, cache.NewObjectLRU(16<<20), filesystem.Options{
		KeepDescriptors: true, LargeObjectThreshold: maxObjectBytes, AlternatesFS: osfs.New("/"),
	})}
}

func (l *localStorage) object(h plumbing.Hash, limit int64) (plumbing.ObjectType, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, err := l.lookup(h)
	if err != nil {
		return 0, nil, err
	}
	if o.Size() > limit {
		return 0, nil, fmt.Errorf("object of %d bytes: %w", o.Size(), ErrTooLarge)
	}
	r, err := o.Reader()
	if err != nil {
		return 0, nil, &CorruptError{h.String(), err.Error()}
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit))
	if err != nil {
		return 0, nil, &CorruptError{h.String(), err.Error()}
	}
	return o.Type(), data, nil
}

func (l *localStorage) lookup(h plumbing.Hash) (plumbing.EncodedObject, error) {
	o, err := l.s.EncodedObject(plumbing.AnyObject, h)
	if errors.Is(err, plumbing.ErrObjectNotFound) || errors.Is(err, dotgit.ErrPackfileNotFound) {
		// git may have packed objects since the index was read.
		l.s.Reindex()
		o, err = l.s.EncodedObject(plumbing.AnyObject, h)
	}
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, errMissing
	}
	if err != nil {
		return nil, &CorruptError{h.String(), err.Error()}
	}
	return o, nil
}

func (l *localStorage) objectSize(h plumbing.Hash) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, err := l.s.EncodedObjectSize(h)
	if err == nil {
		return size, nil
	}
	o, err := l.lookup(h) // in an alternate, or packed since
	if err != nil {
		return 0, err
	}
	return o.Size(), nil
}

func (l *localStorage) has(h plumbing.Hash) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.lookup(h)
	return err == nil
}

func (l *localStorage) withPrefix(prefix string, limit int) ([]plumbing.Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []plumbing.Hash
	// go-git compares whole bytes, so an odd digit is left to the filter.
	raw := plumbing.NewHash(prefix[:len(prefix)/2*2] + strings.Repeat("0", 40-len(prefix)/2*2))
	hashes, err := l.s.HashesWithPrefix(raw[:len(prefix)/2])
	if err != nil {
		return nil, err
	}
	for _, h := range hashes {
		if strings.HasPrefix(h.String(), prefix) && len(found) < limit {
			found = append(found, h)
		}
	}
	return found, nil
}

// ref resolves a full ref name, through symbolic refs.
func (l *localStorage) ref(name string) (plumbing.Hash, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ref, err := storer.ResolveReference(l.s, plumbing.ReferenceName(name))
	if err != nil {
		return plumbing.ZeroHash, false
	}
	return ref.Hash(), true
}

// head is the ref that HEAD points at.
func (l *localStorage) head() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ref, err := l.s.Reference(plumbing.HEAD)
	if err != nil {
		return "", err
	}
	return ref.Target().String(), nil
}

func (l *localStorage) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.Close()
}
