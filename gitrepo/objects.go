package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const (
	// MaxFileBytes is the largest file that a Snapshot reads and an Edit writes.
	MaxFileBytes = 16 << 20

	maxTreeBytes   = 16 << 20
	maxCommitBytes = 1 << 20
)

// Commit is one commit.
type Commit struct {
	Hash    string
	Author  string
	Email   string    // the author's
	Message string    // whole, as written
	Time    time.Time // of committing, not of authoring
	Parents []string  // hashes
}

// Subject is the first line of the message.
func (c Commit) Subject() string {
	line, _, _ := bytes.Cut([]byte(c.Message), []byte("\n"))
	return string(line)
}

// objectReader is where objects come from: a mirror or the user's repository.
// It is safe for concurrent use.
type objectReader interface {
	// object returns an object of at most limit bytes, errMissing, ErrTooLarge
	// or a CorruptError. The data must not be changed.
	object(h plumbing.Hash, limit int64) (plumbing.ObjectType, []byte, error)
	objectSize(h plumbing.Hash) (int64, error)
	has(h plumbing.Hash) bool
	// withPrefix returns at most limit objects whose hash begins with the hex digits, of which there are at least 4.
	withPrefix(prefix string, limit int) ([]plumbing.Hash, error)
}

// commitObject is a parsed commit.
type commitObject struct {
	Commit
	hash    plumbing.Hash
	tree    plumbing.Hash
	parents []plumbing.Hash
}

func decodeCommit(h plumbing.Hash, data []byte) (*commitObject, error) {
	var c object.Commit
	if err := c.Decode(encodedObject(plumbing.CommitObject, data)); err != nil {
		return nil, &CorruptError{h.String(), err.Error()}
	}
	if c.TreeHash.IsZero() {
		return nil, &CorruptError{h.String(), "the commit has no tree"}
	}
	out := &commitObject{
		Commit: Commit{Hash: h.String(), Author: c.Author.Name, Email: c.Author.Email, Message: c.Message, Time: c.Committer.When},
		hash:   h, tree: c.TreeHash, parents: c.ParentHashes,
	}
	for _, p := range c.ParentHashes {
		out.Parents = append(out.Parents, p.String())
	}
	return out, nil
}

// database reads parsed objects: first those that WriteCommit made and nobody
// pushed yet, then those of the reader. It is safe for concurrent use.
type database struct {
	reader  objectReader
	pending pendingCommits
	// trees are shared by all snapshots, since most of them are the same from
	// commit to commit; the limit counts entries, about 8 MB.
	trees *lru[plumbing.Hash, tree]
	// treesRead counts the folders that were not among them.
	treesRead atomic.Int64
	// damaged is called when an object that must exist does not, or is broken.
	damaged func()
}

func newDatabase(reader objectReader, damaged func()) *database {
	return &database{reader: reader, trees: newLRU[plumbing.Hash, tree](100_000), damaged: damaged}
}

func (db *database) object(h plumbing.Hash, limit int64) (plumbing.ObjectType, []byte, error) {
	if kind, data, ok := db.pending.object(h); ok {
		if int64(len(data)) > limit {
			return 0, nil, fmt.Errorf("object of %d bytes: %w", len(data), ErrTooLarge)
		}
		return kind, data, nil
	}
	return db.reader.object(h, limit)
}

func (db *database) has(h plumbing.Hash) bool {
	_, _, ok := db.pending.object(h)
	return ok || db.reader.has(h)
}

// needed reads an object that another one refers to: its absence is damage.
func (db *database) needed(want plumbing.ObjectType, h plumbing.Hash, limit int64) ([]byte, error) {
	kind, data, err := db.object(h, limit)
	var corrupt *CorruptError
	switch {
	case errors.Is(err, errMissing):
		err = &CorruptError{h.String(), "it is missing"}
		db.damaged()
	case errors.As(err, &corrupt):
		db.damaged()
	case err == nil && kind != want:
		err = &CorruptError{h.String(), fmt.Sprintf("it is a %s where a %s is due", kind, want)}
	}
	return data, err
}

func (db *database) commit(h plumbing.Hash) (*commitObject, error) {
	data, err := db.needed(plumbing.CommitObject, h, maxCommitBytes)
	if err != nil {
		return nil, err
	}
	return decodeCommit(h, data)
}

// emptyTree is the hash of a folder without entries. Git does not always store it.
var emptyTree = plumbing.ComputeHash(plumbing.TreeObject, nil)

func (db *database) tree(h plumbing.Hash) (tree, error) {
	if h == emptyTree {
		return nil, nil
	}
	if t, ok := db.trees.get(h); ok {
		return t, nil
	}
	db.treesRead.Add(1)
	data, err := db.needed(plumbing.TreeObject, h, maxTreeBytes)
	if err != nil {
		return nil, err
	}
	t, err := decodeTree(data)
	if err != nil {
		return nil, &CorruptError{h.String(), err.Error()}
	}
	db.trees.put(h, t, len(t)+1)
	return t, nil
}

func (db *database) blob(h plumbing.Hash) ([]byte, error) {
	return db.needed(plumbing.BlobObject, h, MaxFileBytes)
}

func (db *database) blobSize(h plumbing.Hash) (int64, error) {
	if _, data, ok := db.pending.object(h); ok {
		return int64(len(data)), nil
	}
	size, err := db.reader.objectSize(h)
	if errors.Is(err, errMissing) {
		db.damaged()
		err = &CorruptError{h.String(), "it is missing"}
	}
	return size, err
}

// peel follows annotated tags to a commit.
func (db *database) peel(h plumbing.Hash) (*commitObject, error) {
	for range 10 { // tags of tags
		kind, data, err := db.object(h, maxCommitBytes)
		if err != nil {
			return nil, err
		}
		switch kind {
		case plumbing.CommitObject:
			return decodeCommit(h, data)
		case plumbing.TagObject:
			var t object.Tag
			if err := t.Decode(encodedObject(kind, data)); err != nil {
				return nil, &CorruptError{h.String(), err.Error()}
			}
			h = t.Target
		default:
			return nil, fmt.Errorf("%s is a %s, not a commit", short(h.String()), kind)
		}
	}
	return nil, fmt.Errorf("%s is a tag of too many tags", short(h.String()))
}
