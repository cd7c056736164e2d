package gitrepo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
)

// errCorruptMirror: the mirror cannot be used and will be made again.
var errCorruptMirror = errors.New("the local mirror is damaged")

// damage marks an error of reading the mirror as one that making it again
// cures. A file that may not be opened, now, is no such error.
func damage(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && path.Op != "read" && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("reading the mirror: %w", err)
	}
	return fmt.Errorf("%w: %w", errCorruptMirror, err)
}

// mirror is a bare repository that holds what was fetched. It is a valid Git
// repository: packs, packed-refs, HEAD and a configuration. Everything that
// writes it runs under exclusive.
type mirror struct {
	dir    string
	lock   *fileLock // nil for a private mirror
	turn   chan struct{}
	store  *packStore
	remove string // what Close deletes, "" for a kept mirror

	mu   sync.Mutex
	refs refs // as they were on disk when last read or written
}

// openMirror opens or makes the mirror of a repository. identity is the
// repository's URL without credentials.
func openMirror(ctx context.Context, cacheDir, identity string) (*mirror, error) {
	m := &mirror{turn: make(chan struct{}, 1)}
	if cacheDir == "" {
		dir, err := os.MkdirTemp("", "sluice-mirror-")
		if err != nil {
			return nil, fmt.Errorf("making a mirror: %w", err)
		}
		m.dir, m.remove = dir, dir
	} else {
		if err := os.MkdirAll(cacheDir, 0o700); err != nil {
			return nil, fmt.Errorf("making the cache: %w", err)
		}
		m.dir = filepath.Join(cacheDir, mirrorName(identity))
		m.lock = &fileLock{path: m.dir + ".lock"}
	}
	m.store = newPackStore(filepath.Join(m.dir, "objects", "pack"))
	err := m.exclusive(ctx, func() error {
		if err := m.load(); !errors.Is(err, errCorruptMirror) {
			return err
		}
		return m.reset()
	})
	if err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// mirrorName is a folder name that two repositories never share and that a
// person can still recognise.
func mirrorName(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	base := strings.TrimSuffix(path.Base(strings.TrimRight(filepath.ToSlash(identity), "/")), ".git")
	base = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, base)
	return base[:min(len(base), 40)] + "-" + hex.EncodeToString(sum[:8]) + ".git"
}

// exclusive runs f while no other goroutine or process writes the mirror.
func (m *mirror) exclusive(ctx context.Context, f func() error) error {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if m.lock != nil {
		release, err := m.lock.acquire(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	return f()
}

// load reads the mirror from disk and checks what its refs point at.
func (m *mirror) load() error {
	if err := m.refresh(); err != nil {
		return err
	}
	for name, h := range m.refs {
		if err := m.check(h); err != nil {
			return fmt.Errorf("%w: %s: %w", errCorruptMirror, name, err)
		}
	}
	return nil
}

// refresh takes over what other processes did to the mirror. It belongs under exclusive.
func (m *mirror) refresh() error {
	if _, err := os.Stat(filepath.Join(m.dir, "HEAD")); err != nil {
		return damage(err)
	}
	// Temporary files can only be an interrupted writer's: this one holds the lock.
	m.store.removeTemporary()
	if err := m.store.refresh(); err != nil {
		return err
	}
	stored, err := readRefs(m.dir)
	if err != nil {
		return damage(err)
	}
	for name, h := range stored {
		if !m.store.stored(h) {
			return fmt.Errorf("%w: %s points at nothing", errCorruptMirror, name)
		}
	}
	m.remember(stored)
	return nil
}

func (m *mirror) remember(r refs) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refs = r
}

// current says whether the mirror already has the wanted refs and none to drop.
func (m *mirror) current(want refs, drop func(name string) bool) bool {
	m.mu.Lock()
	have := m.refs
	m.mu.Unlock()
	for name, h := range want {
		if have[name] != h || !m.store.stored(h) {
			return false
		}
	}
	for name := range have {
		if _, wanted := want[name]; !wanted && drop != nil && drop(name) {
			return false
		}
	}
	return true
}

// check reads what a ref points at and, for a commit, its root folder.
func (m *mirror) check(h plumbing.Hash) error {
	kind, data, err := m.store.object(h, maxObjectBytes)
	if err != nil || kind != plumbing.CommitObject {
		return err
	}
	c, err := decodeCommit(h, data)
	if err != nil {
		return err
	}
	_, _, err = m.store.object(c.tree, maxObjectBytes)
	return err
}

// reset throws the mirror away and makes an empty one. Packs that are open
// stay readable for the snapshots that were taken from them.
func (m *mirror) reset() error {
	// Renaming first makes the end of the old mirror one step for other processes.
	trash := m.dir + ".trash"
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("throwing the mirror away: %w", err)
	}
	if err := os.Rename(m.dir, trash); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("throwing the mirror away: %w", err)
	}
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("throwing the mirror away: %w", err)
	}
	m.store.forget()
	m.remember(nil)
	for _, dir := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags"} {
		if err := os.MkdirAll(filepath.Join(m.dir, filepath.FromSlash(dir)), 0o700); err != nil {
			return fmt.Errorf("making a mirror: %w", err)
		}
	}
	files := map[string]string{
		"config": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
		// Its own name, since maintenance by hand would be undone: git gc drops what only snapshots use.
		"description": "Sluice's mirror; may be deleted at any time\n",
		"HEAD":        "ref: refs/heads/" + DefaultBranch + "\n",
	}
	for _, name := range []string{"config", "description", "HEAD"} { // HEAD last: it marks the mirror as made
		if err := replaceFile(filepath.Join(m.dir, name), []byte(files[name])); err != nil {
			return fmt.Errorf("making a mirror: %w", err)
		}
	}
	return nil
}

// update stores new refs; those named in drop go. It belongs under exclusive.
func (m *mirror) update(set refs, drop func(name string) bool) error {
	old, err := readRefs(m.dir)
	if err != nil {
		return err
	}
	now := maps.Clone(old)
	maps.DeleteFunc(now, func(name string, _ plumbing.Hash) bool { return drop != nil && drop(name) })
	maps.Copy(now, set)
	if !now.equal(old) {
		if err := writeRefs(m.dir, now); err != nil {
			return err
		}
	}
	m.remember(now)
	return nil
}

// install stores a pack and joins small packs when there are many. It belongs under exclusive.
func (m *mirror) install(r io.Reader) error {
	if err := m.store.install(r); err != nil {
		return err
	}
	if err := m.store.join(maxPacks); err != nil {
		return damage(err)
	}
	return nil
}

func (m *mirror) close() error {
	m.store.close()
	if m.remove != "" {
		return os.RemoveAll(m.remove)
	}
	return nil
}
