package gitrepo

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"sort"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/memory"
)

const (
	// maxPacks bounds how many packs a mirror has. Every fetch and every push
	// makes one, and a lookup asks each.
	maxPacks = 32
	// maxJoinBytes bounds the packs that are joined, since joining holds their objects in memory.
	maxJoinBytes = 8 << 20
)

// join merges small packs into one when there are more than limit. No object
// is dropped: snapshots of any age stay readable.
//
// Packs are chosen as in git's geometric repacking. Going from the largest
// down, a pack is left alone while it is at least half as large as all smaller
// ones together; the rest is joined. Sizes then grow geometrically, so that
// each object is rewritten a logarithmic number of times.
func (s *packStore) join(limit int) error {
	s.mu.RLock()
	var packs []*pack
	for _, p := range s.packs {
		if !p.lost {
			packs = append(packs, p)
		}
	}
	s.mu.RUnlock()
	if len(packs) <= limit {
		return nil
	}
	chosen := joinable(packs)
	if len(chosen) < 2 {
		return nil
	}
	data, err := s.joined(chosen)
	if err != nil {
		return fmt.Errorf("joining packs: %w", err)
	}
	name := hex.EncodeToString(data.Bytes()[data.Len()-20:])
	if err := s.install(data); err != nil {
		return fmt.Errorf("joining packs: %w", err)
	}
	for _, p := range chosen {
		if p.name == name { // it held the others' objects already
			continue
		}
		// The index goes last: whoever sees the pack may rely on it.
		os.Remove(packPath(s.dir, p.name, ".pack"))
		os.Remove(packPath(s.dir, p.name, ".idx"))
	}
	return s.refresh()
}

func joinable(packs []*pack) []*pack {
	sort.Slice(packs, func(i, j int) bool { return packs[i].size < packs[j].size })
	var sum int64
	smaller := make([]int64, len(packs)) // sum of the sizes before each
	for i, p := range packs {
		smaller[i] = sum
		sum += p.size
	}
	n := len(packs)
	for n > 0 && (2*packs[n-1].size >= smaller[n-1] || smaller[n-1]+packs[n-1].size > maxJoinBytes) {
		n--
	}
	return packs[:n]
}

// joined encodes the objects of packs as one pack.
func (s *packStore) joined(packs []*pack) (*bytes.Buffer, error) {
	objects := memory.NewStorage()
	var hashes []plumbing.Hash
	for _, p := range packs {
		in, err := p.hashes()
		if err != nil {
			return nil, err
		}
		for _, h := range in {
			if objects.HasEncodedObject(h) == nil {
				continue
			}
			kind, data, err := s.object(h, maxObjectBytes)
			if err != nil {
				return nil, err
			}
			if _, err := objects.SetEncodedObject(encodedObject(kind, data)); err != nil {
				return nil, err
			}
			hashes = append(hashes, h)
		}
	}
	return encodePack(objects, hashes, 10)
}

// encodePack makes a pack that stands by itself. window is how many objects
// are compared for deltas, 0 for none.
func encodePack(objects storer.EncodedObjectStorer, hashes []plumbing.Hash, window uint) (*bytes.Buffer, error) {
	var b bytes.Buffer
	_, err := packfile.NewEncoder(&b, objects, false).Encode(hashes, window)
	return &b, err
}

func encodedObject(kind plumbing.ObjectType, data []byte) plumbing.EncodedObject {
	o := &plumbing.MemoryObject{}
	o.SetType(kind)
	o.Write(data) // writing to memory cannot fail
	return o
}
