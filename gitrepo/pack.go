package gitrepo

import (
	"bufio"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// Bounds of what a remote may make this process hold. Each is far above what
// an environments repository needs and keeps a hostile one from using up the
// memory: git objects compress a thousandfold.
const (
	maxPackBytes   = 4 << 30
	maxPackObjects = 20_000_000
	maxObjectBytes = 128 << 20 // inflated, delta bases included
	maxDeltaDepth  = 4095      // git's own limit
)

// pack is an open packfile. Reading is safe for concurrent use: it goes by
// offset and shares no cursor. go-git's Packfile is not used for reading
// because it is not safe for concurrent use, and because it builds a map of
// the whole pack to follow one offset delta.
type pack struct {
	name  string // checksum in hex
	file  *os.File
	size  int64
	index *idxfile.MemoryIndex
	lost  bool // no longer on disk under its name; still readable
}

func packPath(dir, name, ext string) string {
	return filepath.Join(dir, "pack-"+name+ext)
}

// openPack opens a pack and its index, and checks that both are whole as far
// as that costs no reading of the pack itself.
func openPack(dir, name string) (*pack, error) {
	index, err := readIndex(packPath(dir, name, ".idx"))
	if err != nil {
		return nil, err
	}
	if got := plumbing.Hash(index.PackfileChecksum).String(); got != name {
		return nil, fmt.Errorf("index of pack %s belongs to pack %s", name, got)
	}
	f, err := os.Open(packPath(dir, name, ".pack"))
	if err != nil {
		return nil, err
	}
	p := &pack{name: name, file: f, index: index}
	if err := p.checkTrailer(); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func readIndex(path string) (*idxfile.MemoryIndex, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bufio.NewReaderSize(f, 1<<16)).Decode(index); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(path), err)
	}
	return index, nil
}

// checkTrailer compares the checksum at the pack's end with its name; a
// truncated pack does not have it.
func (p *pack) checkTrailer() error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	var sum plumbing.Hash
	if p.size < int64(len(sum)) {
		return fmt.Errorf("pack %s is truncated", p.name)
	}
	if _, err := p.file.ReadAt(sum[:], p.size-int64(len(sum))); err != nil {
		return err
	}
	if sum.String() != p.name {
		return fmt.Errorf("pack %s is truncated or damaged", p.name)
	}
	return nil
}

// find gives the offset of an object.
func (p *pack) find(h plumbing.Hash) (int64, bool) {
	off, err := p.index.FindOffset(h)
	return off, err == nil
}

// How much is read of a file at a time: whole objects, or only their size.
const (
	objectBuffer = 4096
	sizeBuffer   = 64
)

// packEntry is the head of one object in a pack.
type packEntry struct {
	kind     plumbing.ObjectType
	size     int64         // inflated size of what follows: for a delta, of the delta
	base     plumbing.Hash // of a REF_DELTA
	baseOff  int64         // of an OFS_DELTA
	contents io.Reader     // deflated
}

// entry reads the head of the object at an offset; its contents are read by the
// given number of bytes.
func (p *pack) entry(off int64, buffer int) (packEntry, error) {
	// The checksum at the end is no object.
	if off < 12 || off >= p.size-20 {
		return packEntry{}, fmt.Errorf("offset %d is outside pack %s", off, p.name)
	}
	r := bufio.NewReaderSize(io.NewSectionReader(p.file, off, p.size-20-off), buffer)
	c, err := r.ReadByte()
	if err != nil {
		return packEntry{}, err
	}
	e := packEntry{kind: plumbing.ObjectType(c >> 4 & 7), size: int64(c & 15), contents: r}
	for shift := 4; c&0x80 != 0; shift += 7 {
		if c, err = r.ReadByte(); err != nil {
			return packEntry{}, err
		}
		if shift > 50 {
			return packEntry{}, errors.New("object size overflows")
		}
		e.size |= int64(c&0x7f) << shift
	}
	switch e.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
	case plumbing.REFDeltaObject:
		_, err = io.ReadFull(r, e.base[:])
	case plumbing.OFSDeltaObject:
		e.baseOff, err = baseOffset(r, off)
	default:
		err = fmt.Errorf("unknown object type %d", e.kind)
	}
	return e, err
}

// baseOffset reads the distance of an OFS_DELTA to its base.
func baseOffset(r io.ByteReader, off int64) (int64, error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	distance := int64(c & 0x7f)
	for c&0x80 != 0 {
		if c, err = r.ReadByte(); err != nil {
			return 0, err
		}
		if distance > 1<<50 {
			return 0, errors.New("delta base offset overflows")
		}
		distance = (distance+1)<<7 | int64(c&0x7f)
	}
	if distance <= 0 || distance >= off {
		return 0, errors.New("delta base lies outside the pack")
	}
	return off - distance, nil
}

var inflaters sync.Pool // of io.ReadCloser that is a zlib.Resetter

// inflate reads at most limit bytes of the entry's contents, fewer than its
// size only when limit is.
func (e packEntry) inflate(limit int64) ([]byte, error) {
	var zr io.ReadCloser
	if z, ok := inflaters.Get().(io.ReadCloser); ok {
		if err := z.(zlib.Resetter).Reset(e.contents, nil); err != nil {
			return nil, err
		}
		zr = z
	} else {
		z, err := zlib.NewReader(e.contents)
		if err != nil {
			return nil, err
		}
		zr = z
	}
	defer inflaters.Put(zr)
	if limit < e.size {
		buf := make([]byte, limit)
		n, err := io.ReadFull(zr, buf)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		return buf[:n], err
	}
	buf := make([]byte, e.size)
	if _, err := io.ReadFull(zr, buf); err != nil {
		return nil, err
	}
	// Reading on to the end verifies zlib's checksum and that there is no more.
	if n, err := zr.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return nil, errors.New("object is longer than it says, or its checksum is wrong")
	}
	return buf, nil
}

// deltaTarget reads from a delta's beginning how large its result is.
func deltaTarget(delta []byte) (int64, error) {
	_, n := binary.Uvarint(delta)
	if n <= 0 {
		return 0, packfile.ErrInvalidDelta
	}
	size, m := binary.Uvarint(delta[n:])
	if m <= 0 || size > 1<<62 {
		return 0, packfile.ErrInvalidDelta
	}
	return int64(size), nil
}

// checkPack reads the heads of all objects and refuses a pack that would
// inflate into too much. It runs before go-git's parser, which holds objects in memory.
func checkPack(r io.ReadSeeker, limit int64) (objects uint32, err error) {
	sc := packfile.NewScanner(r)
	_, count, err := sc.Header()
	if err != nil {
		return 0, err
	}
	if count > maxPackObjects {
		return 0, fmt.Errorf("pack of %d objects: %w", count, ErrTooLarge)
	}
	for range count {
		h, err := sc.NextObjectHeader()
		if err != nil {
			return 0, err
		}
		size := h.Length
		if h.Type.IsDelta() && size <= limit {
			head := &headWriter{}
			if _, _, err := sc.NextObject(head); err != nil {
				return 0, err
			}
			target, err := deltaTarget(head.buf)
			if err != nil {
				return 0, err
			}
			size = max(size, target)
		}
		if size > limit {
			return 0, fmt.Errorf("object of %d bytes: %w", size, ErrTooLarge)
		}
	}
	return count, nil
}

// headWriter keeps the first bytes that are written to it.
type headWriter struct{ buf []byte }

func (w *headWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p[:min(len(p), 20-len(w.buf))]...)
	return len(p), nil
}
