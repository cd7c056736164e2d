package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Repository is a remote repository seen through a local mirror (Open), or a
// repository of the user's machine (OpenLocal). It is safe for concurrent use.
type Repository struct {
	name  string // URL without credentials, or path
	db    *database
	local *localRepository // OpenLocal only

	// The rest is Open's only.
	remote  *remote
	mirror  *mirror
	who     identity
	now     func() time.Time
	backoff func(attempt int, took time.Duration) time.Duration
	writing chan struct{} // Updates of this process queue here rather than race
	damaged atomic.Bool   // the mirror must be made again
	closed  atomic.Bool

	mu      sync.Mutex
	branch  string        // the mirrored branch; "" until the remote named its default
	head    plumbing.Hash // of the branch when last seen; zero before the first commit
	seen    time.Time     // when that was
	known   refs          // branches and tags of the remote when last seen
	rewound bool
	late    error // why nothing could be fetched yet
	pushes  int   // how many pushes succeeded
}

// Open opens a remote repository and fetches one branch of it. A repository
// without commits opens, so that Update can make the first one; everything
// that needs a commit then gives ErrEmpty. Close it after use.
//
// Errors: NotRepositoryError, UnknownBranchError, AccessError, TransportError,
// OptionError.
func Open(ctx context.Context, o Options) (*Repository, error) {
	remote, err := newRemote(o)
	if err != nil {
		return nil, err
	}
	if o.Branch != "" && !validRefName("refs/heads/"+o.Branch) {
		return nil, &OptionError{Repository: remote.name, Reason: fmt.Sprintf("%q is no branch name", printable(o.Branch, 100)), hint: "give the name without refs/heads/"}
	}
	r := &Repository{
		name: remote.name, remote: remote, branch: o.Branch, who: committer(o, remote.config),
		now: o.Now, backoff: backoff, writing: make(chan struct{}, 1),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.mirror, err = openMirror(ctx, o.CacheDir, remote.name); err != nil {
		return nil, fmt.Errorf("opening repository %s: %w", remote.name, err)
	}
	r.db = newDatabase(r.mirror.store, func() { r.damaged.Store(true) })
	_, err = r.Fetch(ctx)
	if err != nil && o.Late && ctx.Err() == nil {
		r.late = err
		return r, nil
	}
	if err != nil && !errors.Is(err, ErrEmpty) {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close releases files and connections, and removes a private mirror.
// Snapshots cannot be read afterwards.
func (r *Repository) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	if r.local != nil {
		return r.local.storage.close()
	}
	r.remote.idle()
	return r.mirror.close()
}

// Name is the repository's URL without credentials, or its path: for messages.
func (r *Repository) Name() string { return r.name }

func (r *Repository) branchName() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.branch == "" {
		return DefaultBranch
	}
	return r.branch
}

// Rewound says whether the last Fetch found that the branch's head does not
// build on the one before: somebody pushed with force. The new head counts.
func (r *Repository) Rewound() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rewound
}

func (r *Repository) writable() error {
	switch {
	case r.local != nil:
		return fmt.Errorf("%s: %w", r.name, ErrReadOnly)
	case r.closed.Load():
		return fmt.Errorf("%s: %w", r.name, ErrClosed)
	}
	return nil
}

// Fetch brings the mirror up to date and returns the head of the branch. When
// nothing is new it costs one listing of refs. A branch that was pushed with
// force is taken over. Errors as Open's, and ErrEmpty.
func (r *Repository) Fetch(ctx context.Context) (rev string, err error) {
	if err := r.writable(); err != nil {
		return "", err
	}
	h, err := r.fetchBranch(ctx, "")
	if err != nil {
		return "", err
	}
	return h.String(), nil
}

// fetchBranch fetches one branch, the mirrored one for "".
func (r *Repository) fetchBranch(ctx context.Context, branch string) (plumbing.Hash, error) {
	var head plumbing.Hash
	mirrored := false
	r.mu.Lock()
	pushes := r.pushes
	r.mu.Unlock()
	err := r.sync(ctx, func(a *advertised) (refs, func(string) bool, error) {
		b := branch
		r.mu.Lock()
		if r.branch == "" && len(a.refs) > 0 {
			r.branch = a.defaultBranch()
		}
		if b == "" {
			b = r.branch
		}
		mirrored = b == r.branch
		r.mu.Unlock()
		name := "refs/heads/" + b
		h, ok := a.refs[name]
		if !ok {
			gone := func(n string) bool { return n == name }
			if len(a.branches()) == 0 {
				return nil, gone, &EmptyError{Repository: r.name, Branch: r.branchName()}
			}
			return nil, gone, &UnknownBranchError{Repository: r.name, Branch: b, Known: a.branches()}
		}
		head = h
		return refs{name: h}, nil, nil
	})
	if mirrored && (err == nil || errors.Is(err, ErrEmpty)) {
		r.moved(head, pushes)
	}
	return head, err
}

func (a *advertised) defaultBranch() string {
	if a.head != "" {
		return a.head
	}
	return DefaultBranch
}

// moved remembers the head of the mirrored branch. pushes is how many pushes
// had succeeded when the remote was asked: a later one may be newer than the answer.
func (r *Repository) moved(head plumbing.Hash, pushes int) {
	r.mu.Lock()
	old := r.head
	r.mu.Unlock()
	forward := old.IsZero() || old == head
	if !forward && !head.IsZero() {
		// Damage shows elsewhere; the flag is a courtesy.
		forward, _ = r.db.isAncestor(old, head)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !forward && r.pushes != pushes || r.head != old {
		return
	}
	r.head, r.seen, r.rewound, r.late = head, time.Now(), !forward, nil
}

// glimpsed is the head of a branch, if it was seen less than so long ago; only the
// mirrored branch is remembered.
func (r *Repository) glimpsed(branch string, ago time.Duration) plumbing.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	if branch != "" && branch != r.branch || time.Since(r.seen) >= ago {
		return plumbing.ZeroHash
	}
	return r.head
}

// FetchRefs fetches every ref of the remote that one of the patterns names (a
// full ref name in which * stands for any characters) with its objects, and
// returns their values. Refs that are gone are not in the result.
func (r *Repository) FetchRefs(ctx context.Context, patterns ...string) (map[string]string, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	matches := func(name string) bool {
		for _, p := range patterns {
			if matchRef(p, name) {
				return true
			}
		}
		return false
	}
	found := map[string]string{}
	err := r.sync(ctx, func(a *advertised) (refs, func(string) bool, error) {
		wanted := refs{}
		for name, h := range a.refs {
			if matches(name) {
				wanted[name], found[name] = h, h.String()
			}
		}
		return wanted, matches, nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// sync calls the remote and lets choose say which of its refs the mirror shall
// have; drop names refs that the mirror shall not have otherwise. Only when
// objects are missing is the mirror locked and a pack transferred.
func (r *Repository) sync(ctx context.Context, choose func(*advertised) (want refs, drop func(string) bool, err error)) error {
	// A second attempt covers what one listing cannot: with HTTP the refs may
	// have moved between it and the request for objects, and a damaged mirror
	// may only show when it is used.
	for attempt := 0; ; attempt++ {
		listed, err := r.syncOnce(ctx, choose)
		if err == nil || !listed || attempt > 0 || ctx.Err() != nil {
			return err
		}
		var broken *TransportError
		switch {
		case errors.Is(err, errCorruptMirror):
			r.damaged.Store(true)
		case !errors.As(err, &broken):
			return err
		}
	}
}

// syncOnce says, beside the error, whether the remote answered with its refs.
func (r *Repository) syncOnce(ctx context.Context, choose func(*advertised) (refs, func(string) bool, error)) (listed bool, err error) {
	u, err := r.remote.openUpload(ctx)
	if err != nil {
		return false, err
	}
	defer hangUp(ctx, u.session)
	r.mu.Lock()
	r.known = u.refs.named()
	r.mu.Unlock()
	want, drop, chooseErr := choose(u.advertised)
	if r.damaged.Load() || !r.mirror.current(want, drop) {
		err := r.mirror.exclusive(ctx, func() error { return r.receive(ctx, u, want, drop) })
		if err != nil {
			return true, err
		}
	}
	return true, chooseErr
}

// named keeps the refs that a revision may be called by.
func (r refs) named() refs {
	kept := refs{}
	for name, h := range r {
		if matchRef("refs/heads/*", name) || matchRef("refs/tags/*", name) {
			kept[name] = h
		}
	}
	return kept
}

// receive makes the mirror hold the wanted refs. It runs under exclusive.
func (r *Repository) receive(ctx context.Context, u *upload, want refs, drop func(string) bool) error {
	if r.damaged.Swap(false) {
		if err := r.mirror.reset(); err != nil {
			return err
		}
	}
	// Another process may have fetched, or thrown the mirror away, meanwhile.
	if err := r.mirror.refresh(); errors.Is(err, errCorruptMirror) {
		if err := r.mirror.reset(); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	var wants []plumbing.Hash
	seen := map[plumbing.Hash]bool{}
	for _, h := range want {
		if !seen[h] && !r.mirror.store.stored(h) {
			wants = append(wants, h)
		}
		seen[h] = true
	}
	if len(wants) > 0 {
		haves, err := r.haves()
		if err != nil {
			return err
		}
		if err := u.fetch(ctx, wants, haves, func(pack io.Reader) error { return r.mirror.install(pack) }); err != nil {
			return err
		}
	}
	for name, h := range want {
		if !r.mirror.store.stored(h) {
			return &TransportError{Repository: r.name, Op: "fetching " + name + " of", err: fmt.Errorf("the remote did not send commit %s", h)}
		}
	}
	return r.mirror.update(want, drop)
}

// haves tells the remote what the mirror has: its refs, and commits ever
// further back, so that after a forced push the common part is still found.
func (r *Repository) haves() ([]plumbing.Hash, error) {
	stored, err := readRefs(r.mirror.dir)
	if err != nil {
		return nil, damage(err)
	}
	seen := map[plumbing.Hash]bool{}
	var haves []plumbing.Hash
	add := func(h plumbing.Hash) {
		if !seen[h] {
			seen[h] = true
			haves = append(haves, h)
		}
	}
	for _, h := range stored {
		add(h)
	}
	r.mu.Lock()
	h, ok := stored["refs/heads/"+r.branch]
	r.mu.Unlock()
	for i, next := 0, 1; ok && i <= 128; i++ {
		c, err := r.db.commit(h)
		if err != nil {
			return nil, damage(err)
		}
		if i == next {
			add(h)
			next *= 2
		}
		if len(c.parents) == 0 {
			break
		}
		h = c.parents[0]
	}
	return haves, nil
}

// Snapshot returns the files of a revision: a full commit hash, a unique
// prefix of at least 4 digits, a branch, a tag, HEAD (the mirrored branch; of
// a local repository its HEAD), or one of these with ~N or ^ behind it. Branches
// and tags are those of the last Fetch. UnknownRevisionError, ErrEmpty.
func (r *Repository) Snapshot(rev string) (*Snapshot, error) {
	c, err := r.resolve(rev)
	if err != nil {
		return nil, err
	}
	return r.snapshot(c), nil
}

func (r *Repository) snapshot(c *commitObject) *Snapshot {
	if c == nil {
		return &Snapshot{db: r.db, root: emptyTree}
	}
	return &Snapshot{db: r.db, commit: c.Commit, root: c.tree}
}

// FoldersRead is how many folders of commits have been read from Git's objects
// until now, those not counted that were still in memory: what snapshots cost.
func (r *Repository) FoldersRead() int64 { return r.db.treesRead.Load() }

// WriteCommit makes a commit that edits the files of revision base ("" for
// none). It stays in memory until it is pushed, and is lost with Close.
// Parents and base are revisions. A commit is made even when the edit changes
// nothing, for instance for a merge. EditError says which path cannot be
// written.
func (r *Repository) WriteCommit(parents []string, base string, e Edit) (hash string, err error) {
	if err := r.writable(); err != nil {
		return "", err
	}
	var from *commitObject
	if base != "" {
		if from, err = r.resolve(base); err != nil {
			return "", err
		}
	}
	var builds []plumbing.Hash
	for _, p := range parents {
		c, err := r.resolve(p)
		if err != nil {
			return "", err
		}
		builds = append(builds, c.hash)
	}
	c, err := makeCommit(r.db, builds, from, e, r.who, r.now())
	if err != nil {
		return "", err
	}
	r.db.pending.put(c)
	return c.hash.String(), nil
}
