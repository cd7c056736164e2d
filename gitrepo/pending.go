package gitrepo

import (
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

// pendingCommits are commits that WriteCommit made, with the objects that
// their edits added, until they are pushed. They live in memory: a mirror
// holds only what the remote has.
type pendingCommits struct {
	mu      sync.RWMutex
	commits map[plumbing.Hash]*pendingCommit
	order   []plumbing.Hash
	bytes   int
}

// maxPendingBytes bounds commits that nobody pushes. The oldest go first.
const maxPendingBytes = 128 << 20

// pendingCommit is one commit and every object of it that the commits it
// builds on do not have at the same path.
type pendingCommit struct {
	hash    plumbing.Hash
	tree    plumbing.Hash
	builds  []plumbing.Hash // parents, and the commit whose tree was edited
	objects map[plumbing.Hash]packObject
	bytes   int
}

func (c *pendingCommit) add(kind plumbing.ObjectType, data []byte) plumbing.Hash {
	h := plumbing.ComputeHash(kind, data)
	if _, ok := c.objects[h]; !ok {
		c.objects[h] = packObject{kind, data}
		c.bytes += len(data)
	}
	return h
}

func (p *pendingCommits) put(c *pendingCommit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.commits[c.hash]; ok {
		return
	}
	if p.commits == nil {
		p.commits = map[plumbing.Hash]*pendingCommit{}
	}
	p.commits[c.hash] = c
	p.order = append(p.order, c.hash)
	p.bytes += c.bytes
	for p.bytes > maxPendingBytes && len(p.order) > 1 {
		p.remove(p.order[0])
	}
}

func (p *pendingCommits) drop(hashes ...plumbing.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range hashes {
		p.remove(h)
	}
}

func (p *pendingCommits) remove(h plumbing.Hash) {
	c, ok := p.commits[h]
	if !ok {
		return
	}
	delete(p.commits, h)
	p.bytes -= c.bytes
	for i, o := range p.order {
		if o == h {
			p.order = append(p.order[:i:i], p.order[i+1:]...)
			break
		}
	}
}

func (p *pendingCommits) object(h plumbing.Hash) (plumbing.ObjectType, []byte, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, c := range p.commits {
		if o, ok := c.objects[h]; ok {
			return o.kind, o.data, true
		}
	}
	return 0, nil, false
}

// closure returns the pending commits that a push of tips must carry.
func (p *pendingCommits) closure(tips []plumbing.Hash) []*pendingCommit {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var found []*pendingCommit
	seen := map[plumbing.Hash]bool{}
	for next := tips; len(next) > 0; {
		h := next[0]
		next = next[1:]
		c, ok := p.commits[h]
		if !ok || seen[h] {
			continue
		}
		seen[h] = true
		found = append(found, c)
		next = append(next[:len(next):len(next)], c.builds...)
	}
	return found
}
