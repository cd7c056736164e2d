// Package local keeps pull requests in the Git repository itself, so that
// promotions work with nothing but a bare repository.
//
// Call New. A pull request is a head branch (sluice/promote/… or sluice/traffic/…) and a record in
// the ref refs/sluice/pulls, whose history is the log of everything that was
// done to pull requests and whose tree holds
//
//	103.yaml                an open pull request
//	archive/1/102.yaml      a merged or closed one, by hundreds
//	statuses/<commit>.yaml  statuses published on a commit; those of a merged or
//	                        closed head move into its record
//
// Branch, target and record move in one atomic compare-and-swap push, so any
// number of writers agree without a server. People may still merge or delete
// the branch with plain Git: what they did is seen when pull requests are next
// read, and recorded with the next write.
//
// The package never rewrites the target branch, never touches a branch outside
// sluice/promote/ and sluice/traffic/, and never trusts a record to name one.
package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// Ref is where the records live.
const Ref = "refs/sluice/pulls"

const (
	heads       = "refs/heads/"
	maxAttempts = 60 // lost compare-and-swaps before giving up
)

// Forge is a promotion.Forge whose pull requests live in the repository.
type Forge struct {
	// Author is recorded as who opened a pull request.
	Author string
	// Now is the clock.
	Now func() time.Time

	repo   *gitrepo.Repository
	branch string
}

var (
	_ promotion.Forge     = (*Forge)(nil)
	_ promotion.Announcer = (*Forge)(nil)
)

// New returns the forge of a repository. Pull requests merge into branch.
func New(repo *gitrepo.Repository, branch string) *Forge {
	return &Forge{Now: time.Now, repo: repo, branch: branch}
}

// BusyError is the end of trying: others wrote first every time.
type BusyError struct{ Attempts int }

func (e *BusyError) Error() string {
	return fmt.Sprintf("writing %s: other writers were faster %d times", Ref, e.Attempts)
}

// Hint says what to do.
func (e *BusyError) Hint() string { return "run the command again" }

// transaction is what one write changes, all of it or nothing.
type transaction struct {
	message string
	write   map[string][]byte // files of Ref
	remove  []string
	refs    []gitrepo.RefUpdate // beside Ref
}

func (t *transaction) empty() bool {
	return len(t.write) == 0 && len(t.remove) == 0 && len(t.refs) == 0
}

func (t *transaction) put(path string, data []byte) {
	if t.write == nil {
		t.write = map[string][]byte{}
	}
	t.write[path] = data
}

// update lets change decide on a fresh view and pushes what it decided; when
// another writer was faster it starts again.
func (f *Forge) update(ctx context.Context, change func(view) (transaction, error)) error {
	for attempt := range maxAttempts {
		if err := pause(ctx, attempt); err != nil {
			return err
		}
		v, err := f.look(ctx)
		if err != nil {
			return err
		}
		t, err := change(v)
		if err != nil || t.empty() {
			return err
		}
		if err := v.sweep(&t); err != nil {
			return err
		}
		commit, err := f.repo.WriteCommit(nonEmpty(v.pulls), v.pulls, gitrepo.Edit{
			Message: t.message, Write: t.write, Delete: t.remove,
		})
		if err != nil {
			return fmt.Errorf("writing %s: %w", Ref, err)
		}
		updates := append(slices.Clone(t.refs), gitrepo.RefUpdate{Name: Ref, Old: v.pulls, New: commit})
		err = f.repo.Push(ctx, updates)
		if err == nil || !errors.Is(err, gitrepo.ErrConflict) {
			return err
		}
	}
	return &BusyError{Attempts: maxAttempts}
}

// pause waits a little longer after each lost attempt, not at all before the
// first; the jitter keeps losers from meeting again.
func pause(ctx context.Context, attempt int) error {
	if attempt == 0 {
		return ctx.Err()
	}
	limit := time.Duration(min(attempt, 10)) * 20 * time.Millisecond
	timer := time.NewTimer(rand.N(limit))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func nonEmpty(hash string) []string {
	if hash == "" {
		return nil
	}
	return []string{hash}
}

// Open implements promotion.Forge.
func (f *Forge) Open(ctx context.Context, spec promotion.Spec) (promotion.PullRequest, error) {
	if err := spec.Check(f.branch); err != nil {
		return promotion.PullRequest{}, err
	}
	var result record
	err := f.update(ctx, func(v view) (transaction, error) {
		present := v.heads[spec.Branch]
		rec, open := v.open(spec.Branch)
		if present != spec.Head && present != spec.OldHead {
			return transaction{}, &promotion.RequestError{
				Number: rec.Number, Reason: promotion.ErrHeadMoved, Detail: spec.Branch + " is at " + orNothing(present),
			}
		}
		now := f.Now().UTC().Truncate(time.Second)
		verb := "Update"
		if !open {
			verb = "Open"
			rec = record{Number: v.nextNumber, State: promotion.Open, Author: f.Author, CreatedAt: now}
		}
		before := rec.clone()
		rec.apply(spec)
		result = rec
		var t transaction
		if present != spec.Head {
			t.refs = []gitrepo.RefUpdate{{Name: heads + spec.Branch, Old: present, New: spec.Head}}
			if present != "" && v.has(statusPath(present)) {
				t.remove = append(t.remove, statusPath(present)) // nothing carries over to another head
			}
		}
		if open && before.equal(rec) && v.stored(rec) && len(t.refs) == 0 {
			return transaction{}, nil
		}
		rec.UpdatedAt = now
		result = rec
		data, err := rec.encode()
		if err != nil {
			return transaction{}, err
		}
		t.put(openPath(rec.Number), data)
		t.message = fmt.Sprintf("%s #%d: %s", verb, rec.Number, rec.Title)
		return t, nil
	})
	if err != nil {
		return promotion.PullRequest{}, err
	}
	return result.pullRequest(), nil
}

// List implements promotion.Forge.
func (f *Forge) List(ctx context.Context, o promotion.ListOptions) ([]promotion.PullRequest, error) {
	v, err := f.look(ctx)
	if err != nil {
		return nil, err
	}
	records := v.current
	if o.State != promotion.Open {
		archived, err := v.archive()
		if err != nil {
			return nil, err
		}
		records = append(slices.Clone(records), archived...)
	}
	list := []promotion.PullRequest{}
	for _, rec := range records {
		if p := rec.pullRequest(); o.Selects(p) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b promotion.PullRequest) int { return b.Number - a.Number })
	return list, nil
}

// Get implements promotion.Forge.
func (f *Forge) Get(ctx context.Context, number int) (promotion.PullRequest, error) {
	v, err := f.look(ctx)
	if err != nil {
		return promotion.PullRequest{}, err
	}
	rec, err := v.get(number)
	if err != nil {
		return promotion.PullRequest{}, err
	}
	p := rec.pullRequest()
	published, err := v.statuses(p.Head)
	p.Statuses = mergeStatuses(rec.Statuses, published)
	p.Comments = slices.Clone(rec.Comments)
	return p, err
}

// Close implements promotion.Forge.
func (f *Forge) Close(ctx context.Context, number int, reason string) error {
	return f.update(ctx, func(v view) (transaction, error) {
		rec, err := v.get(number)
		if err != nil {
			return transaction{}, err
		}
		switch rec.State {
		case promotion.Merged:
			return transaction{}, &promotion.RequestError{Number: number, Reason: promotion.ErrClosed, Detail: "it has been merged"}
		case promotion.Closed:
			return transaction{}, nil
		}
		rec.State, rec.Reason, rec.UpdatedAt = promotion.Closed, firstLine(reason), f.Now().UTC().Truncate(time.Second)
		t := transaction{
			message: fmt.Sprintf("Close #%d: %s", number, rec.Reason),
			refs:    []gitrepo.RefUpdate{{Name: heads + rec.Branch, Old: rec.Head}},
		}
		return t, v.file(&t, rec)
	})
}

// SetStatuses implements promotion.Forge.
func (f *Forge) SetStatuses(ctx context.Context, commit string, statuses []promotion.Status) error {
	if len(statuses) == 0 {
		return nil
	}
	return f.update(ctx, func(v view) (transaction, error) {
		if err := f.known(commit); err != nil {
			return transaction{}, err
		}
		present, err := v.statuses(commit)
		if err != nil {
			return transaction{}, err
		}
		merged := mergeStatuses(present, statuses)
		if slices.Equal(present, merged) {
			return transaction{}, nil
		}
		data, err := encodeStatuses(merged)
		t := transaction{message: "Set statuses of " + commit[:12]}
		t.put(statusPath(commit), data)
		return t, err
	})
}

// Comment implements promotion.Announcer: comments are kept in the record.
func (f *Forge) Comment(ctx context.Context, number int, key, body string) error {
	if err := promotion.CheckKey(key); err != nil {
		return fmt.Errorf("commenting on pull request #%d: %w", number, err)
	}
	return f.update(ctx, func(v view) (transaction, error) {
		rec, err := v.get(number)
		if err != nil {
			return transaction{}, err
		}
		rec = rec.clone()
		switch changed := rec.comment(key, body); {
		case rec.unreadable:
			return transaction{}, fmt.Errorf("commenting on pull request #%d: %s", number, rec.Reason)
		case len(rec.Comments) > maxComments:
			return transaction{}, fmt.Errorf("commenting on pull request #%d: it has %d comments, and keeps no more", number, maxComments)
		case !changed:
			return transaction{}, nil
		}
		t := transaction{message: fmt.Sprintf("Comment on #%d: %s", number, key)}
		if rec.State != promotion.Open {
			return t, v.file(&t, rec)
		}
		data, err := rec.encode()
		t.put(openPath(number), data)
		return t, err
	})
}

// Deploy implements promotion.Announcer: there is no page to show deployments on.
func (f *Forge) Deploy(context.Context, promotion.Deployment) error {
	return fmt.Errorf("recording a deployment: pull requests are in the repository itself: %w", promotion.ErrUnsupported)
}

// Unfinished implements promotion.Announcer.
func (f *Forge) Unfinished(context.Context, []string) ([]promotion.Deployment, error) {
	return nil, fmt.Errorf("listing deployments: pull requests are in the repository itself: %w", promotion.ErrUnsupported)
}

// known reports a commit that the repository does not have.
func (f *Forge) known(commit string) error {
	if !promotion.IsCommit(commit) {
		return fmt.Errorf("setting a status: %q is not a commit: %w", commit, promotion.ErrNotFound)
	}
	if _, err := f.repo.Snapshot(commit); err != nil {
		return fmt.Errorf("setting a status of %s: %w", commit[:12], errors.Join(promotion.ErrNotFound, err))
	}
	return nil
}

// firstLine keeps a reason to one line of bounded length.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line[:min(len(line), 500)]
}

func orNothing(hash string) string {
	if hash == "" {
		return "nothing (it does not exist)"
	}
	return hash
}
