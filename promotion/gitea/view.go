package gitea

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"code.gitea.io/sdk/gitea"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// view is what Git says at one moment: the target and the branches of
// promotions, of a single listing.
type view struct {
	forge  *Forge
	target string
	heads  map[string]string
}

// look reads the branches.
func (f *Forge) look(ctx context.Context) (view, error) {
	target := heads + f.branch
	refs, err := f.repo.FetchRefs(ctx, append(promotion.HeadRefs(), target)...)
	if err != nil {
		return view{}, fmt.Errorf("reading pull requests: %w", err)
	}
	v := view{forge: f, target: refs[target], heads: map[string]string{}}
	if v.target == "" {
		return view{}, fmt.Errorf("reading pull requests: branch %s: %w", f.branch, gitrepo.ErrUnknownBranch)
	}
	for name, hash := range refs {
		if branch, ok := strings.CutPrefix(name, heads); ok && name != target {
			v.heads[branch] = hash
		}
	}
	return v, nil
}

// pull is a pull request: as the server has it, and as it really stands.
type pull struct {
	promotion.PullRequest

	note    promotion.Note
	open    bool // the server has it as open
	ready   bool // the server has found out that it can merge it
	remarks int  // comments of anybody
	number  int64
}

// read makes sense of what the server sent; ok is false for what is not a
// promotion of this repository, such as a pull request from a fork, whose branch
// may be called like one.
func (v view) read(raw *gitea.PullRequest) (p pull, ok bool, err error) {
	if raw == nil || raw.Head == nil || raw.Base == nil || raw.Head.RepoID != raw.Base.RepoID || raw.Index <= 0 {
		return pull{}, false, nil
	}
	environment, component, ok := promotion.ParseBranch(raw.Head.Name)
	if !ok {
		return pull{}, false, nil
	}
	body, note := promotion.SplitNote(raw.Body)
	p = pull{
		PullRequest: promotion.PullRequest{
			Number: int(raw.Index), Title: raw.Title, Body: body, State: promotion.Closed,
			Branch: raw.Head.Name, Target: raw.Base.Name, Head: hashOf(raw.Head.Sha),
			Environment: environment, Components: []string{component},
			CreatedAt: moment(raw.Created), UpdatedAt: moment(raw.Updated), URL: v.forge.page(raw.Index),
		},
		note: note, number: raw.Index, open: raw.State == gitea.StateOpen && !raw.HasMerged, ready: raw.Mergeable, remarks: raw.Comments,
	}
	if component == promotion.AllComponents {
		p.Components = sorted(note.Components)
	}
	if raw.Poster != nil {
		p.Author = raw.Poster.UserName
	}
	for _, label := range raw.Labels {
		if label != nil {
			p.Labels = append(p.Labels, label.Name)
		}
	}
	slices.Sort(p.Labels)
	if raw.HasMerged {
		v.merged(&p, raw.MergedCommitID)
		return p, true, nil
	}
	return p, true, v.settle(&p)
}

// merged fills in what the server merged. Of a merge commit the second parent
// is the head; the server only knows where the branch is now.
func (v view) merged(p *pull, revision *string) {
	p.State = promotion.Merged
	if revision == nil {
		return
	}
	p.MergedRevision = hashOf(*revision)
	if s, err := v.forge.repo.Snapshot(p.MergedRevision); err == nil && len(s.Commit().Parents) == 2 {
		p.Head = s.Commit().Parents[1]
	}
}

// settle says where a pull request stands that the server has not merged: people
// may have merged, pushed to or deleted its branch with plain Git.
func (v view) settle(p *pull) error {
	if !p.open {
		return v.settleClosed(p)
	}
	present := v.heads[p.Branch]
	if present != "" {
		p.Head = present
	}
	revision, err := v.landed(p)
	switch {
	case err != nil:
		return err
	case revision != "":
		p.State, p.MergedRevision = promotion.Merged, revision
	case present == "":
		p.State, p.Reason = promotion.Closed, branchDeleted
	default:
		p.State = promotion.Open
	}
	return nil
}

const branchDeleted = "the branch was deleted"

// settleClosed tells what was closed because it had landed from what was not
// wanted. A note that says so is believed when the target has that revision.
func (v view) settleClosed(p *pull) error {
	if p.note.Head != "" {
		p.Head = p.note.Head
	}
	switch {
	case p.note.Landed != "":
		if ok, err := v.forge.repo.IsAncestor(p.note.Landed, v.target); err == nil && ok {
			p.State, p.MergedRevision = promotion.Merged, p.note.Landed
		}
		return nil
	case p.note.Reason != "":
		p.Reason = p.note.Reason
		return nil
	}
	// Closed by somebody else, or by the server because the branch is gone. Only
	// the very commit counts here: the same content may have come another way.
	if ok, err := v.forge.repo.IsAncestor(p.Head, v.target); err != nil || !ok {
		return nil // an unknown commit is not in the target
	}
	revision, err := v.landed(p)
	if err == nil && revision != "" {
		p.State, p.MergedRevision = promotion.Merged, revision
	}
	return err
}

func (v view) landed(p *pull) (string, error) {
	if p.Head == "" {
		return "", nil
	}
	revision, err := promotion.Landed(v.forge.repo, v.target, p.Head)
	if err != nil {
		return "", fmt.Errorf("pull request #%d: %w", p.Number, err)
	}
	return revision, nil
}

// pulls lists the pull requests of the repository in a state of the server's,
// newest first.
func (f *Forge) pulls(ctx context.Context, v view, state gitea.StateType) ([]pull, error) {
	c, err := f.client(ctx)
	if err != nil {
		return nil, err
	}
	o := gitea.ListPullRequestsOptions{State: state}
	o.Page, o.PageSize = 1, pageSize
	start := time.Now()
	byNumber := map[int]pull{} // pages shift while they are read
	for attempt := range maxPages {
		list, response, err := c.ListRepoPullRequests(f.options.Owner, f.options.Name, o)
		if err != nil {
			late, err := f.noList(ctx, response, err)
			if late && time.Since(start) < f.pace.settle {
				err = pause(ctx, attempt)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		for _, raw := range list {
			p, ok, err := v.read(raw)
			if err != nil {
				return nil, err
			}
			if ok {
				byNumber[p.Number] = p
			}
		}
		if o.Page = response.NextPage; o.Page == 0 {
			return newestFirst(byNumber), nil
		}
	}
	return nil, f.tooMany("listing pull requests")
}

// noList tells a repository that takes no pull requests from one that is not there. One
// that Git knows a branch of takes none as long as the server has not noticed the first
// push into it: then it is late.
func (f *Forge) noList(ctx context.Context, response *gitea.Response, cause error) (late bool, err error) {
	const op = "listing pull requests"
	if response == nil || response.StatusCode != http.StatusNotFound {
		return false, f.failed(op, response, cause)
	}
	c, err := f.client(ctx)
	if err != nil {
		return false, err
	}
	repository, response, err := c.GetRepo(f.options.Owner, f.options.Name)
	if err != nil {
		return false, f.failed(op, response, err)
	}
	return repository.Empty, &Error{Repository: f.repository(), Op: op, err: errNoPulls}
}

func newestFirst(byNumber map[int]pull) []pull {
	list := make([]pull, 0, len(byNumber))
	for _, p := range byNumber {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b pull) int { return b.Number - a.Number })
	return list
}

// get reads one pull request.
func (f *Forge) get(ctx context.Context, v view, number int) (pull, error) {
	if number <= 0 {
		return pull{}, refused(number, promotion.ErrNotFound, "")
	}
	c, err := f.client(ctx)
	if err != nil {
		return pull{}, err
	}
	raw, response, err := c.GetPullRequest(f.options.Owner, f.options.Name, int64(number))
	if err != nil {
		if response != nil && response.StatusCode == http.StatusNotFound {
			return pull{}, f.missing(ctx, number)
		}
		return pull{}, f.failed(fmt.Sprintf("reading pull request #%d", number), response, err)
	}
	p, ok, err := v.read(raw)
	if err == nil && !ok {
		err = refused(number, promotion.ErrNotFound, "that one is not a promotion")
	}
	return p, err
}

// missing tells a pull request that does not exist from a repository that does
// not.
func (f *Forge) missing(ctx context.Context, number int) error {
	if err := f.reachable(ctx, fmt.Sprintf("reading pull request #%d", number)); err != nil {
		return err
	}
	return refused(number, promotion.ErrNotFound, "")
}

// reachable returns why the repository cannot be read, nil when it can.
func (f *Forge) reachable(ctx context.Context, op string) error {
	c, err := f.client(ctx)
	if err != nil {
		return err
	}
	if _, response, err := c.GetRepo(f.options.Owner, f.options.Name); err != nil {
		return f.failed(op, response, err)
	}
	return nil
}

func (f *Forge) tooMany(op string) error {
	return &Error{Repository: f.repository(), Op: op, err: fmt.Errorf("there are more than %d", maxPages*pageSize)}
}

// hashOf keeps a commit's name, and nothing else that a server may send.
func hashOf(s string) string {
	if promotion.IsCommit(s) {
		return s
	}
	return ""
}

func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
