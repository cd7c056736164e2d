package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"code.gitea.io/sdk/gitea"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

const (
	maxAttempts = 60  // races lost before giving up
	firstWait   = 3   // of pause, for somebody else's pull request
	maxTitle    = 250 // characters; the server cuts a longer one
)

// BusyError is the end of trying: others wrote first every time.
type BusyError struct {
	Repository string
	Branch     string
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("opening the pull request of %s in %s: others were faster %d times", e.Branch, e.Repository, maxAttempts)
}

// Hint says what to do.
func (e *BusyError) Hint() string { return "run the command again" }

// Open implements promotion.Forge. The server keeps no two open pull requests of
// a branch apart that are made at the same moment, so:
//
//  1. Whoever moves the branch makes it. Others find the branch at Head, and wait
//     for the pull request while the commit is so young that somebody may be
//     about to make one; or they find the branch elsewhere.
//  2. An open one that is settled in truth is closed.
//  3. Should there be several after all, the lowest number is kept and brought up
//     to date, and whoever sees the others closes them.
//  4. After one was made, all is looked at again.
func (f *Forge) Open(ctx context.Context, spec promotion.Spec) (promotion.PullRequest, error) {
	if err := spec.Check(f.branch); err != nil {
		return promotion.PullRequest{}, err
	}
	start, moved, made := f.now(), false, 0
	for attempt := range maxAttempts {
		v, err := f.look(ctx)
		if err != nil {
			return promotion.PullRequest{}, err
		}
		p, found, err := f.current(ctx, v, spec.Branch)
		if err != nil {
			return promotion.PullRequest{}, err
		}
		lost := false
		if v.heads[spec.Branch] != spec.Head {
			if lost, err = f.move(ctx, v, p.Number, spec); err != nil {
				return promotion.PullRequest{}, err
			}
			moved = moved || !lost
		}
		switch {
		case lost:
		case found:
			p, err = f.update(ctx, v, p, spec)
			return p.PullRequest, err
		case made > 0: // it is settled already: the target has what it brings
			p, err = f.get(ctx, v, made)
			return p.PullRequest, err
		case moved || f.now().Sub(start) > opening || f.abandoned(spec.Head):
			if made, err = f.create(ctx, spec); err != nil {
				return promotion.PullRequest{}, err
			}
			if made > 0 {
				continue
			}
		}
		if err := pause(ctx, attempt+firstWait); err != nil {
			return promotion.PullRequest{}, err
		}
	}
	return promotion.PullRequest{}, &BusyError{f.repository(), spec.Branch}
}

// opening is how long whoever moved a branch may take to make its pull request.
const opening = 30 * time.Second

// abandoned reports whether a branch has been at a head for so long that whoever
// moved it there will not make a pull request any more.
func (f *Forge) abandoned(head string) bool {
	s, err := f.repo.Snapshot(head)
	return err != nil || f.now().Sub(s.Commit().Time) > opening
}

// move moves the branch to spec.Head; lost says that somebody else moved it at
// the same time.
func (f *Forge) move(ctx context.Context, v view, number int, spec promotion.Spec) (lost bool, err error) {
	present := v.heads[spec.Branch]
	if present != spec.OldHead {
		return false, refused(number, promotion.ErrHeadMoved, spec.Branch+" is at "+orNothing(present))
	}
	err = f.repo.Push(ctx, []gitrepo.RefUpdate{{Name: heads + spec.Branch, Old: present, New: spec.Head}})
	if errors.Is(err, gitrepo.ErrConflict) {
		return true, nil
	}
	if err == nil {
		v.heads[spec.Branch] = spec.Head
	}
	return false, err
}

// current returns the open pull request of a branch, and closes what the server
// has as open beside it.
func (f *Forge) current(ctx context.Context, v view, branch string) (p pull, found bool, err error) {
	list, err := f.pulls(ctx, v, gitea.StateOpen)
	if err != nil {
		return pull{}, false, err
	}
	for _, candidate := range slices.Backward(list) { // the oldest first
		switch {
		case candidate.Branch != branch || !candidate.open:
		case candidate.State != promotion.Open:
			err = f.finish(ctx, candidate, v.heads[branch] == "")
		case !found:
			p, found = candidate, true
		default:
			err = f.drop(ctx, candidate, fmt.Sprintf("made at the same time as #%d", p.Number))
		}
		if err != nil {
			return pull{}, false, err
		}
	}
	return p, found, nil
}

// finish has the server close what it has not noticed the end of. When the
// branch was deleted it will notice in a moment, and then close whatever is open
// for the branch, a newer pull request too: hence it is waited for.
func (f *Forge) finish(ctx context.Context, p pull, deleted bool) error {
	if err := f.explain(ctx, p, p.Reason); err != nil {
		return err
	}
	if deleted {
		if closed, err := f.awaitClosed(ctx, p); closed || err != nil {
			return err
		}
	}
	return f.shut(ctx, p)
}

// drop closes a pull request and leaves its branch to another.
func (f *Forge) drop(ctx context.Context, p pull, reason string) error {
	if err := f.explain(ctx, p, reason); err != nil {
		return err
	}
	return f.shut(ctx, p)
}

// awaitClosed waits for the server to close a pull request whose branch is gone.
func (f *Forge) awaitClosed(ctx context.Context, p pull) (bool, error) {
	deadline := time.Now().Add(f.pace.settle)
	for attempt := 0; ; attempt++ {
		c, err := f.client(ctx)
		if err != nil {
			return false, err
		}
		raw, response, err := c.GetPullRequest(f.options.Owner, f.options.Name, p.number)
		if err != nil {
			return false, f.failed(fmt.Sprintf("reading pull request #%d", p.number), response, err)
		}
		if raw.State != gitea.StateOpen {
			return true, nil
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		if err := pause(ctx, attempt); err != nil {
			return false, err
		}
	}
}

// create makes a pull request and returns its number, 0 when another was faster:
// that one is found at the next look.
func (f *Forge) create(ctx context.Context, spec promotion.Spec) (int, error) {
	labels, err := f.labelIDs(ctx, spec.Labels)
	if err != nil {
		return 0, err
	}
	c, err := f.client(ctx)
	if err != nil {
		return 0, err
	}
	made, response, err := c.CreatePullRequest(f.options.Owner, f.options.Name, gitea.CreatePullRequestOption{
		Head: spec.Branch, Base: spec.Target, Title: titleOf(spec), Body: noteOf(spec).Append(spec.Body), Labels: labels,
	})
	switch {
	case err == nil:
		return int(made.Index), nil
	case response != nil && response.StatusCode == http.StatusConflict:
		return 0, nil
	}
	return 0, f.failed("opening the pull request of "+spec.Branch, response, err)
}

// update brings an open pull request to what spec says, and writes nothing when
// it is so already. Labels are only added: people may have set some.
func (f *Forge) update(ctx context.Context, v view, p pull, spec promotion.Spec) (pull, error) {
	body := noteOf(spec).Append(spec.Body)
	var edit gitea.EditPullRequestOption
	if p.Title != titleOf(spec) {
		edit.Title = titleOf(spec)
	}
	if p.note.Append(p.Body) != body {
		edit.Body = &body
	}
	if p.Target != spec.Target {
		edit.Base = spec.Target
	}
	missing := slices.DeleteFunc(sorted(spec.Labels), func(l string) bool { return slices.Contains(p.Labels, l) })
	edited := edit.Title != "" || edit.Body != nil || edit.Base != ""
	if !edited && len(missing) == 0 && p.Head == spec.Head {
		return p, nil
	}
	if err := f.label(ctx, p.number, missing); err != nil {
		return pull{}, err
	}
	if edited {
		if err := f.edit(ctx, p, "updating", edit); err != nil {
			return pull{}, err
		}
	}
	return f.get(ctx, v, p.Number)
}

// edit changes fields of a pull request. The server refuses one of two edits at
// the same moment; ours are meant whatever was there before, so it is repeated.
func (f *Forge) edit(ctx context.Context, p pull, verb string, edit gitea.EditPullRequestOption) error {
	for attempt := 0; ; attempt++ {
		c, err := f.client(ctx)
		if err != nil {
			return err
		}
		_, response, err := c.EditPullRequest(f.options.Owner, f.options.Name, p.number, edit)
		if err == nil {
			return nil
		}
		if response == nil || response.StatusCode != http.StatusConflict || attempt == maxAttempts {
			return f.failed(fmt.Sprintf("%s pull request #%d", verb, p.Number), response, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

func titleOf(spec promotion.Spec) string { return promotion.OneLine(spec.Title, maxTitle) }

func noteOf(spec promotion.Spec) promotion.Note {
	if _, component, _ := promotion.ParseBranch(spec.Branch); component != promotion.AllComponents {
		return promotion.Note{}
	}
	return promotion.Note{Components: sorted(spec.Components)}
}

// List implements promotion.Forge.
func (f *Forge) List(ctx context.Context, o promotion.ListOptions) ([]promotion.PullRequest, error) {
	v, err := f.look(ctx)
	if err != nil {
		return nil, err
	}
	state := gitea.StateAll
	if o.State == promotion.Open {
		state = gitea.StateOpen
	}
	pulls, err := f.pulls(ctx, v, state)
	if err != nil {
		return nil, err
	}
	list := []promotion.PullRequest{}
	for _, p := range pulls {
		if o.Selects(p.PullRequest) {
			list = append(list, p.PullRequest)
		}
	}
	return list, nil
}

// Get implements promotion.Forge.
func (f *Forge) Get(ctx context.Context, number int) (promotion.PullRequest, error) {
	v, err := f.look(ctx)
	if err != nil {
		return promotion.PullRequest{}, err
	}
	p, err := f.get(ctx, v, number)
	if err != nil {
		return promotion.PullRequest{}, err
	}
	if p.Head != "" {
		latest, err := f.statuses(ctx, p.Head)
		if err != nil && !errors.Is(err, promotion.ErrNotFound) { // the head of a closed one may be gone
			return promotion.PullRequest{}, err
		}
		p.Statuses = published(latest)
	}
	if p.remarks > 0 {
		p.Comments, err = f.comments(ctx, p.number)
	}
	return p.PullRequest, err
}

// Close implements promotion.Forge.
func (f *Forge) Close(ctx context.Context, number int, reason string) error {
	v, err := f.look(ctx)
	if err != nil {
		return err
	}
	p, err := f.get(ctx, v, number)
	if err != nil {
		return err
	}
	switch p.State {
	case promotion.Merged:
		return refused(number, promotion.ErrClosed, "it has been merged")
	case promotion.Closed:
		return nil
	}
	if err := f.explain(ctx, p, reason); err != nil {
		return err
	}
	// The branch first: then the server closes the pull request because of it,
	// and not at some later moment a newer one of the same branch.
	if f.deleteBranch(ctx, p) {
		if closed, err := f.awaitClosed(ctx, p); closed || err != nil {
			return err
		}
	}
	return f.shut(ctx, p)
}

// explain writes down why a pull request is about to be closed, for people and
// for settleClosed. It comes first, so that a close which breaks off can be
// repeated.
func (f *Forge) explain(ctx context.Context, p pull, reason string) error {
	note := promotion.Note{Components: p.note.Components, Head: p.Head, Reason: promotion.OneLine(reason, maxMessage)}
	if p.State == promotion.Merged {
		note.Landed, note.Reason = p.MergedRevision, ""
		reason = "its changes are in " + p.Target + " as of " + p.MergedRevision
	}
	if err := f.upsert(ctx, p.number, closedKey, promotion.ClosingComment(reason)); err != nil {
		return err
	}
	body := note.Append(p.Body)
	return f.edit(ctx, p, "closing", gitea.EditPullRequestOption{Body: &body})
}

// shut has the server close a pull request.
func (f *Forge) shut(ctx context.Context, p pull) error {
	state := gitea.StateClosed
	return f.edit(ctx, p, "closing", gitea.EditPullRequestOption{State: &state})
}

// deleteBranch deletes the branch of a pull request where it is still at the
// head that was seen, and says whether it did: a newer head, and a forge that
// forbids it, keep the branch, which harms nothing.
func (f *Forge) deleteBranch(ctx context.Context, p pull) bool {
	return f.repo.Push(ctx, []gitrepo.RefUpdate{{Name: heads + p.Branch, Old: p.Head}}) == nil
}

func orNothing(hash string) string {
	if hash == "" {
		return "nothing (it does not exist)"
	}
	return hash
}
