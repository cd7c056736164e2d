package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// onDemand bounds the fetch of a branch or tag that Snapshot is asked for and
// the mirror does not hold.
const onDemand = 2 * time.Minute

var (
	revisionSteps = regexp.MustCompile(`(?:~[0-9]*|\^)+$`)
	hashPrefix    = regexp.MustCompile(`^[0-9a-f]{4,40}$`)
)

// parseRevision splits REV~2^~ into REV and the number of first parents to go back.
func parseRevision(rev string) (name string, back int, err error) {
	suffix := revisionSteps.FindString(rev)
	name = strings.TrimSuffix(rev, suffix)
	if name == "" {
		name = "HEAD"
	}
	for len(suffix) > 0 {
		op := suffix[0]
		suffix = suffix[1:]
		digits := 0
		for digits < len(suffix) && suffix[digits] >= '0' && suffix[digits] <= '9' {
			digits++
		}
		n := 1
		if op == '~' && digits > 0 {
			if n, err = strconv.Atoi(suffix[:digits]); err != nil || n > 1_000_000 {
				return "", 0, errors.New("the number after ~ is too large")
			}
		}
		suffix = suffix[digits:]
		back = min(back+n, 1_000_000)
	}
	return name, back, nil
}

// resolve finds the commit that a revision names.
func (r *Repository) resolve(rev string) (*commitObject, error) {
	if r.closed.Load() {
		return nil, fmt.Errorf("%s: %w", r.name, ErrClosed)
	}
	unknown := &UnknownRevisionError{Repository: r.name, Revision: printable(rev, 200)}
	name, back, err := parseRevision(rev)
	if err != nil {
		unknown.Reason = err.Error()
		return nil, unknown
	}
	h, err := r.lookup(name, unknown)
	if err != nil {
		return nil, err
	}
	c, err := r.db.peel(h)
	if errors.Is(err, errMissing) {
		return nil, unknown
	}
	if err != nil {
		unknown.Reason = err.Error()
		return nil, unknown
	}
	for i := range back {
		if len(c.parents) == 0 {
			unknown.Reason = fmt.Sprintf("there are only %d commits before %s", i, printable(name, 100))
			return nil, unknown
		}
		if c, err = r.db.commit(c.parents[0]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// lookup finds the object that a name without ~N stands for.
func (r *Repository) lookup(name string, unknown *UnknownRevisionError) (plumbing.Hash, error) {
	if plumbing.IsHash(name) && r.db.has(plumbing.NewHash(name)) {
		return plumbing.NewHash(name), nil
	}
	h, ok, err := r.named(name)
	if ok || err != nil {
		return h, err
	}
	if !hashPrefix.MatchString(name) {
		return plumbing.ZeroHash, unknown
	}
	found, err := r.db.reader.withPrefix(name, 100)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	var commits []plumbing.Hash
	for _, f := range found {
		// A prefix may be shared with files and folders; only commits are meant.
		if _, err := r.db.peel(f); err == nil {
			commits = append(commits, f)
			unknown.Candidates = append(unknown.Candidates, short(f.String()))
		}
	}
	if len(commits) == 1 {
		return commits[0], nil
	}
	return plumbing.ZeroHash, unknown
}

// named resolves HEAD, branches and tags.
func (r *Repository) named(name string) (plumbing.Hash, bool, error) {
	candidates := []string{"refs/heads/" + name, "refs/tags/" + name, "refs/remotes/" + name}
	if strings.HasPrefix(name, "refs/") {
		candidates = []string{name}
	}
	if r.local != nil {
		if name == "HEAD" {
			candidates = []string{name}
		}
		for _, c := range candidates {
			if h, ok := r.local.storage.ref(c); ok {
				return h, true, nil
			}
		}
		if _, err := r.local.storage.head(); name == "HEAD" && err == nil {
			return plumbing.ZeroHash, false, &EmptyError{Repository: r.name, Branch: r.Branch()}
		}
		return plumbing.ZeroHash, false, nil
	}
	r.mu.Lock()
	head, known, late := r.head, r.known, r.late
	r.mu.Unlock()
	if name == "HEAD" {
		if late != nil {
			return head, false, late
		}
		if head.IsZero() {
			return head, false, &EmptyError{Repository: r.name, Branch: r.branchName()}
		}
		return head, true, nil
	}
	for _, c := range candidates {
		h, ok := known[c]
		if !ok {
			continue
		}
		if !r.db.has(h) {
			ctx, cancel := context.WithTimeout(context.Background(), onDemand)
			defer cancel()
			now, err := r.FetchRefs(ctx, c)
			if err != nil {
				return plumbing.ZeroHash, false, err
			}
			if now[c] == "" {
				continue // deleted since
			}
			h = plumbing.NewHash(now[c])
		}
		return h, true, nil
	}
	return plumbing.ZeroHash, false, nil
}
