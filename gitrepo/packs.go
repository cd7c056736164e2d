package gitrepo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// errMissing: the object is not there. It never leaves the package.
var errMissing = errors.New("object not found")

// packStore is the object database of a mirror: packs and nothing else. Reads
// are safe for concurrent use. Writes (install, remove, refresh) belong to
// whoever holds the mirror's lock.
type packStore struct {
	dir string // objects/pack

	mu     sync.RWMutex // guards packs and their files' being open
	packs  []*pack
	closed bool

	// limit is the largest object that is stored or inflated.
	limit int64
	// inflated holds delta bases and small objects; 16 MiB.
	inflated *lru[packOffset, packObject]
}

type packOffset struct {
	pack *pack
	off  int64
}

type packObject struct {
	kind plumbing.ObjectType
	data []byte
}

func newPackStore(dir string) *packStore {
	return &packStore{dir: dir, limit: maxObjectBytes, inflated: newLRU[packOffset, packObject](16 << 20)}
}

// refresh makes the list of packs equal to the folder: another process may
// have added packs, joined them or thrown the mirror away. Packs that are gone
// stay readable while they hold objects that no other pack has.
func (s *packStore) refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, err := packNames(s.dir)
	if err != nil {
		return damage(err)
	}
	onDisk := map[string]bool{}
	for _, n := range names {
		onDisk[n] = true
	}
	known := map[string]bool{}
	for _, p := range s.packs {
		p.lost = !onDisk[p.name]
		known[p.name] = true
	}
	for _, n := range names {
		if known[n] {
			continue
		}
		p, err := openPack(s.dir, n)
		if err != nil {
			return damage(err)
		}
		s.packs = append(s.packs, p)
	}
	s.dropCovered()
	return nil
}

// packNames lists the packs of a folder.
func packNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, isPack := strings.CutSuffix(e.Name(), ".pack")
		name, named := strings.CutPrefix(name, "pack-")
		if isPack && named && plumbing.IsHash(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// dropCovered closes lost packs whose objects are all in packs on disk.
func (s *packStore) dropCovered() {
	var kept []*pack
	for _, p := range s.packs {
		if p.lost && s.covered(p) {
			p.file.Close()
			continue
		}
		kept = append(kept, p)
	}
	s.packs = kept
}

func (s *packStore) covered(lost *pack) bool {
	hashes, err := lost.hashes()
	if err != nil {
		return true // unreadable either way
	}
	for _, h := range hashes {
		if !s.find(h, true) {
			return false
		}
	}
	return true
}

func (p *pack) hashes() ([]plumbing.Hash, error) {
	it, err := p.index.Entries()
	if err != nil {
		return nil, err
	}
	var hashes []plumbing.Hash
	for {
		e, err := it.Next()
		if errors.Is(err, io.EOF) {
			return hashes, nil
		}
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, e.Hash)
	}
}

func (s *packStore) find(h plumbing.Hash, onDisk bool) bool {
	for _, p := range s.packs {
		if onDisk && p.lost {
			continue
		}
		if ok, _ := p.index.Contains(h); ok {
			return true
		}
	}
	return false
}

// has says whether the object can be read.
func (s *packStore) has(h plumbing.Hash) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.find(h, false)
}

// stored says whether the object is in the mirror's folder, and so part of
// what the mirror may tell the remote it has.
func (s *packStore) stored(h plumbing.Hash) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.find(h, true)
}

// object reads an object of at most limit bytes. The data must not be changed.
func (s *packStore) object(h plumbing.Hash, limit int64) (plumbing.ObjectType, []byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	// The newest packs come last and hold what is asked for most.
	for i := len(s.packs) - 1; i >= 0; i-- {
		p := s.packs[i]
		off, ok := p.find(h)
		if !ok {
			continue
		}
		if size, err := s.sizeAt(p, off); err != nil {
			return 0, nil, &CorruptError{h.String(), err.Error()}
		} else if size > limit {
			return 0, nil, fmt.Errorf("object of %d bytes: %w", size, ErrTooLarge)
		}
		obj, err := s.read(p, off, 0)
		if err != nil {
			return 0, nil, &CorruptError{h.String(), err.Error()}
		}
		if got := plumbing.ComputeHash(obj.kind, obj.data); got != h {
			return 0, nil, &CorruptError{h.String(), "its content hashes to " + got.String()}
		}
		return obj.kind, obj.data, nil
	}
	return 0, nil, s.absent()
}

// size of an object, without inflating it whole.
func (s *packStore) objectSize(h plumbing.Hash) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := len(s.packs) - 1; i >= 0; i-- {
		if off, ok := s.packs[i].find(h); ok {
			size, err := s.sizeAt(s.packs[i], off)
			if err != nil {
				return 0, &CorruptError{h.String(), err.Error()}
			}
			return size, nil
		}
	}
	return 0, s.absent()
}

func (s *packStore) sizeAt(p *pack, off int64) (int64, error) {
	if obj, ok := s.inflated.get(packOffset{p, off}); ok {
		return int64(len(obj.data)), nil
	}
	e, err := p.entry(off, sizeBuffer)
	if err != nil || !e.kind.IsDelta() {
		return e.size, err
	}
	head, err := e.inflate(20)
	if err != nil {
		return 0, err
	}
	return deltaTarget(head)
}

// read resolves the object at an offset, deltas included.
func (s *packStore) read(p *pack, off int64, depth int) (packObject, error) {
	key := packOffset{p, off}
	if obj, ok := s.inflated.get(key); ok {
		return obj, nil
	}
	if depth > maxDeltaDepth {
		return packObject{}, errors.New("delta chain is too long")
	}
	e, err := p.entry(off, objectBuffer)
	if err != nil {
		return packObject{}, err
	}
	if e.size > s.limit {
		return packObject{}, ErrTooLarge
	}
	data, err := e.inflate(e.size)
	if err != nil {
		return packObject{}, err
	}
	obj := packObject{e.kind, data}
	if e.kind.IsDelta() {
		if obj, err = s.patch(p, e, data, depth); err != nil {
			return packObject{}, err
		}
	}
	s.inflated.put(key, obj, len(obj.data)+200)
	return obj, nil
}

func (s *packStore) patch(p *pack, e packEntry, delta []byte, depth int) (packObject, error) {
	if size, err := deltaTarget(delta); err != nil {
		return packObject{}, err
	} else if size > s.limit {
		return packObject{}, ErrTooLarge
	}
	off := e.baseOff
	if e.kind == plumbing.REFDeltaObject {
		var ok bool
		if off, ok = p.find(e.base); !ok {
			return packObject{}, fmt.Errorf("delta base %s is not in the pack", e.base)
		}
	}
	base, err := s.read(p, off, depth+1)
	if err != nil {
		return packObject{}, err
	}
	data, err := packfile.PatchDelta(base.data, delta)
	return packObject{base.kind, data}, err
}

// withPrefix returns the objects whose hash begins with hex digits, at most limit.
func (s *packStore) withPrefix(prefix string, limit int) ([]plumbing.Hash, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	seen := map[plumbing.Hash]bool{}
	var found []plumbing.Hash
	for _, p := range s.packs {
		for _, h := range indexPrefix(p.index, prefix) {
			if !seen[h] {
				seen[h] = true
				found = append(found, h)
			}
			if len(found) >= limit {
				return found, nil
			}
		}
	}
	return found, nil
}

// indexPrefix scans one bucket of the index's fan-out: 1/256 of the objects.
func indexPrefix(index *idxfile.MemoryIndex, prefix string) []plumbing.Hash {
	bucket := index.FanoutMapping[plumbing.NewHash(prefix[:2] + strings.Repeat("0", 38))[0]]
	if bucket < 0 || bucket >= len(index.Names) {
		return nil
	}
	var found []plumbing.Hash
	for names := index.Names[bucket]; len(names) >= 20; names = names[20:] {
		if h := plumbing.Hash(names[:20]); strings.HasPrefix(h.String(), prefix) {
			found = append(found, h)
		}
	}
	return found
}

// install stores a pack. A pack that is broken, too large, or refers to
// objects outside itself leaves nothing behind.
func (s *packStore) install(r io.Reader) error {
	f, err := os.CreateTemp(s.dir, "tmp_pack_")
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if n, err := io.Copy(f, io.LimitReader(r, maxPackBytes+1)); err != nil {
		return err
	} else if n > maxPackBytes {
		return fmt.Errorf("pack of more than %d bytes: %w", int64(maxPackBytes), ErrTooLarge)
	}
	p, err := indexPack(f, s.limit)
	if err != nil || p == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.packs {
		if old.name == p.name && !old.lost {
			return nil // the same objects, fetched twice
		}
	}
	if err := s.publish(p); err != nil {
		return err
	}
	keep = true
	s.packs = append(s.packs, p)
	return nil
}

// indexPack checks the pack in f and computes its index. A pack without
// objects gives nil.
func indexPack(f *os.File, limit int64) (*pack, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	count, err := checkPack(f, limit)
	if err != nil {
		return nil, fmt.Errorf("checking the pack: %w", err)
	}
	if count == 0 {
		return nil, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	w := &idxfile.Writer{}
	parser, err := packfile.NewParser(packfile.NewScanner(f), w)
	if err != nil {
		return nil, err
	}
	sum, err := parser.Parse()
	if err != nil {
		return nil, fmt.Errorf("indexing the pack: %w", err)
	}
	index, err := w.Index()
	if err != nil {
		return nil, err
	}
	p := &pack{name: sum.String(), file: f, index: index}
	return p, p.checkTrailer()
}

// publish gives the pack its name. The index comes first: whoever sees the
// pack may rely on it.
func (s *packStore) publish(p *pack) error {
	idx, err := os.CreateTemp(s.dir, "tmp_idx_")
	if err != nil {
		return err
	}
	defer os.Remove(idx.Name())
	if _, err := idxfile.NewEncoder(idx).Encode(p.index); err != nil {
		idx.Close()
		return err
	}
	if err := idx.Close(); err != nil {
		return err
	}
	if err := os.Rename(idx.Name(), packPath(s.dir, p.name, ".idx")); err != nil {
		return err
	}
	return os.Rename(p.file.Name(), packPath(s.dir, p.name, ".pack"))
}

// forget drops every pack from memory but keeps them readable; the mirror's
// folder was thrown away.
func (s *packStore) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.packs {
		p.lost = true
	}
}

// close releases the files. Reads fail afterwards.
func (s *packStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.packs {
		p.file.Close()
	}
	s.packs, s.closed = nil, true
}

// absent is the error for an object that no pack has.
func (s *packStore) absent() error {
	if s.closed {
		return ErrClosed
	}
	return errMissing
}

// removeTemporary deletes what an interrupted writer left.
func (s *packStore) removeTemporary() {
	left, _ := filepath.Glob(filepath.Join(s.dir, "tmp_*"))
	for _, f := range left {
		os.Remove(f)
	}
}
