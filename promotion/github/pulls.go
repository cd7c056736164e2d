package github

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

const (
	heads     = "refs/heads/"
	pageSize  = 100
	maxPages  = 50 // of one list
	maxLooks  = 3  // at what GitHub shows only a moment later
	lookAgain = time.Second
)

// Open implements promotion.Forge. Two may find no pull request and both make one:
// GitHub refuses the second, and it then takes the first's.
func (f *Forge) Open(ctx context.Context, spec promotion.Spec) (promotion.PullRequest, error) {
	if err := f.check(spec); err != nil {
		return promotion.PullRequest{}, err
	}
	if err := f.push(ctx, spec); err != nil {
		return promotion.PullRequest{}, err
	}
	p, err := f.ensure(ctx, spec)
	if err != nil {
		return promotion.PullRequest{}, err
	}
	if p, err = f.update(ctx, p, spec); err != nil {
		return promotion.PullRequest{}, err
	}
	result, ok := f.convert(p)
	if !ok {
		return promotion.PullRequest{}, &Error{Site: f.String(), Doing: opening(spec), Message: "GitHub answers with another pull request"}
	}
	result.Head = spec.Head // which GitHub may show a moment later only
	return result, nil
}

func opening(spec promotion.Spec) string { return "opening the pull request of " + spec.Branch }

func (f *Forge) check(spec promotion.Spec) error {
	if err := spec.Check(f.branch); err != nil {
		return err
	}
	if _, component, _ := promotion.ParseBranch(spec.Branch); component == promotion.AllComponents && len(spec.Components) > maxComponents {
		return fmt.Errorf("%s: %d components, at most %d", opening(spec), len(spec.Components), maxComponents)
	}
	return nil
}

// push moves the branch to the head, compare-and-swap.
func (f *Forge) push(ctx context.Context, spec promotion.Spec) error {
	ref := heads + spec.Branch
	for range maxLooks {
		refs, err := f.repo.FetchRefs(ctx, ref)
		if err != nil {
			return fmt.Errorf("%s: %w", opening(spec), err)
		}
		present := refs[ref]
		if present == spec.Head {
			return nil
		}
		if present != spec.OldHead {
			return fmt.Errorf("%s: it is at %s: %w", opening(spec), or(present, "nothing (it does not exist)"), promotion.ErrHeadMoved)
		}
		err = f.repo.Push(ctx, []gitrepo.RefUpdate{{Name: ref, Old: present, New: spec.Head}})
		if err == nil {
			return nil
		}
		if !errors.Is(err, gitrepo.ErrConflict) {
			return fmt.Errorf("%s: %w", opening(spec), err)
		}
	}
	return fmt.Errorf("%s: others were faster: %w", opening(spec), promotion.ErrHeadMoved)
}

// ensure returns the open pull request of the branch, and makes it when there is
// none.
func (f *Forge) ensure(ctx context.Context, spec promotion.Spec) (*github.PullRequest, error) {
	for look := 1; ; look++ {
		p, err := f.openOf(ctx, spec)
		if p != nil || err != nil {
			return p, err
		}
		err = f.call(ctx, opening(spec), repeatable, func(ctx context.Context) (res *github.Response, err error) {
			p, res, err = f.client.PullRequests.Create(ctx, f.owner, f.name, &github.NewPullRequest{
				Title: github.String(spec.Title), Body: github.String(body(spec)),
				Head: github.String(spec.Branch), Base: github.String(spec.Target),
			})
			return res, err
		})
		if err == nil {
			return p, nil
		}
		if status(err) != http.StatusUnprocessableEntity || look == maxLooks {
			return nil, f.explain(ctx, err)
		}
		// Somebody else has made it, or the branch is not seen yet: look again.
		if other, err := f.openOf(ctx, spec); other != nil || err != nil {
			return other, err
		}
		if err := f.pause(ctx, lookAgain); err != nil {
			return nil, err
		}
	}
}

// openOf returns the open pull request of a branch, nil when there is none. People
// can make a second one into another branch; that into the target is ours.
func (f *Forge) openOf(ctx context.Context, spec promotion.Spec) (*github.PullRequest, error) {
	list, err := f.pulls(ctx, &github.PullRequestListOptions{State: "open", Head: f.owner + ":" + spec.Branch})
	if err != nil {
		return nil, err
	}
	var found *github.PullRequest
	for _, p := range list {
		if _, ok := f.convert(p); !ok || p.GetHead().GetRef() != spec.Branch {
			continue
		}
		if found == nil || p.GetBase().GetRef() == spec.Target {
			found = p
		}
	}
	return found, nil
}

// body is the text of a pull request.
func body(spec promotion.Spec) string {
	if _, component, _ := promotion.ParseBranch(spec.Branch); component == promotion.AllComponents {
		return withComponents(spec.Body, spec.Components)
	}
	return cut(normal(spec.Body), maxText)
}

// update makes a pull request say what the specification says, and writes nothing
// when it does.
func (f *Forge) update(ctx context.Context, p *github.PullRequest, spec promotion.Spec) (*github.PullRequest, error) {
	edit := &github.PullRequest{}
	changed := false
	if !same(p.GetTitle(), spec.Title) {
		edit.Title, changed = github.String(spec.Title), true
	}
	if !same(p.GetBody(), body(spec)) {
		edit.Body, changed = github.String(body(spec)), true
	}
	if p.GetBase().GetRef() != spec.Target {
		edit.Base, changed = &github.PullRequestBranch{Ref: github.String(spec.Target)}, true
	}
	doing := fmt.Sprintf("updating pull request #%d", p.GetNumber())
	if changed {
		err := f.call(ctx, doing, repeatable, func(ctx context.Context) (*github.Response, error) {
			edited, res, err := f.client.PullRequests.Edit(ctx, f.owner, f.name, p.GetNumber(), edit)
			if err == nil {
				edited.Labels = p.Labels
				p = edited
			}
			return res, err
		})
		if err != nil {
			return nil, f.explain(ctx, err)
		}
	}
	present := labels(p)
	missing := slices.DeleteFunc(slices.Clone(spec.Labels), func(l string) bool { return slices.Contains(present, l) })
	if len(missing) == 0 {
		return p, nil
	}
	err := f.call(ctx, doing, repeatable, func(ctx context.Context) (*github.Response, error) {
		// The client sends a bare list, which GitHub understands and does not describe.
		path := fmt.Sprintf("repos/%s/%s/issues/%d/labels", f.owner, f.name, p.GetNumber())
		req, err := f.client.NewRequest(http.MethodPost, path, map[string][]string{"labels": missing})
		if err != nil {
			return nil, err
		}
		p.Labels = nil
		return f.client.Do(ctx, req, &p.Labels)
	})
	return p, f.explain(ctx, err)
}

// same compares two texts but for what a server may do to them: line ends, and
// blanks at either end.
func same(a, b string) bool { return strings.TrimSpace(normal(a)) == strings.TrimSpace(normal(b)) }

func labels(p *github.PullRequest) []string {
	var names []string
	for _, l := range p.Labels {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	return names
}

// convert takes a pull request over, if it is a promotion: of a promotion's branch
// of this repository. Whoever has a fork can name a branch there as ours.
func (f *Forge) convert(p *github.PullRequest) (promotion.PullRequest, bool) {
	head, base := p.GetHead(), p.GetBase()
	environment, component, ok := promotion.ParseBranch(head.GetRef())
	if !ok || head.GetRepo().GetID() == 0 || head.GetRepo().GetID() != base.GetRepo().GetID() {
		return promotion.PullRequest{}, false
	}
	result := promotion.PullRequest{
		Number: p.GetNumber(), Title: cut(p.GetTitle(), 1000), Body: normal(p.GetBody()), State: promotion.Open,
		Branch: head.GetRef(), Target: base.GetRef(), Head: head.GetSHA(), Author: p.GetUser().GetLogin(),
		Environment: environment, Components: []string{component}, Labels: labels(p),
		CreatedAt: p.GetCreatedAt().Time, UpdatedAt: p.GetUpdatedAt().Time, URL: p.GetHTMLURL(),
	}
	if component == promotion.AllComponents {
		result.Body, result.Components = splitComponents(p.GetBody())
	}
	switch {
	case p.GetMerged() || p.MergedAt != nil:
		result.State, result.MergedRevision = promotion.Merged, p.GetMergeCommitSHA()
	case p.GetState() == "closed":
		result.State = promotion.Closed
	}
	return result, true
}

// pulls lists pull requests, newest first, page by page.
func (f *Forge) pulls(ctx context.Context, o *github.PullRequestListOptions) ([]*github.PullRequest, error) {
	o.Sort, o.Direction, o.ListOptions = "created", "desc", github.ListOptions{PerPage: pageSize}
	var all []*github.PullRequest
	for range maxPages {
		var page []*github.PullRequest
		var next int
		err := f.call(ctx, "listing pull requests", repeatable, func(ctx context.Context) (*github.Response, error) {
			list, res, err := f.client.PullRequests.List(ctx, f.owner, f.name, o)
			if err == nil {
				page, next = list, res.NextPage
			}
			return res, err
		})
		if err != nil {
			return nil, f.explain(ctx, err)
		}
		all = append(all, page...)
		if next == 0 {
			return all, nil
		}
		o.Page = next
	}
	f.progress(fmt.Sprintf("only the newest %d pull requests of %s are looked at", len(all), f))
	return all, nil
}

// List implements promotion.Forge. Reasons are not filled in: each is a request of
// its own.
func (f *Forge) List(ctx context.Context, o promotion.ListOptions) ([]promotion.PullRequest, error) {
	query := &github.PullRequestListOptions{State: "all"}
	switch o.State {
	case promotion.Open:
		query.State = "open"
	case promotion.Merged, promotion.Closed:
		query.State = "closed"
	}
	list := []promotion.PullRequest{}
	for _, branch := range branches(o) {
		if query.Head = ""; branch != "" {
			query.Head = f.owner + ":" + branch
		}
		found, err := f.pulls(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if promoted, ok := f.convert(p); ok && o.Selects(promoted) {
				list = append(list, promoted)
			}
		}
	}
	slices.SortFunc(list, func(a, b promotion.PullRequest) int { return cmp.Compare(b.Number, a.Number) })
	return slices.CompactFunc(list, func(a, b promotion.PullRequest) bool { return a.Number == b.Number }), nil
}

// branches are the head branches that options select from, "" for all. Those that are
// open are few. Of all others the repository has hundreds of pages, which automation
// must not ask for whenever it looks at a component.
func branches(o promotion.ListOptions) []string {
	switch {
	case o.Branch != "":
		return []string{o.Branch}
	case o.State != promotion.Open && o.Environment != "" && o.Component != "":
		return []string{promotion.BranchName(o.Environment, o.Component), promotion.BranchName(o.Environment, promotion.AllComponents)}
	}
	return []string{""}
}

// Get implements promotion.Forge.
func (f *Forge) Get(ctx context.Context, number int) (promotion.PullRequest, error) {
	_, p, err := f.pull(ctx, number)
	if err != nil {
		return p, err
	}
	comments, reason, err := f.said(ctx, number)
	if err != nil {
		return p, err
	}
	if p.Comments = comments; p.State == promotion.Closed {
		p.Reason = reason
	}
	p.Statuses, err = f.statuses(ctx, p.Head)
	if errors.Is(err, promotion.ErrNotFound) {
		return p, nil // the branch is gone and its commit with it
	}
	return p, err
}

// pull reads one pull request. One that is no promotion does not exist here.
func (f *Forge) pull(ctx context.Context, number int) (*github.PullRequest, promotion.PullRequest, error) {
	none := &promotion.RequestError{Number: number, Reason: promotion.ErrNotFound}
	if number <= 0 {
		return nil, promotion.PullRequest{}, none
	}
	var p *github.PullRequest
	err := f.call(ctx, fmt.Sprintf("reading pull request #%d", number), repeatable, func(ctx context.Context) (res *github.Response, err error) {
		p, res, err = f.client.PullRequests.Get(ctx, f.owner, f.name, number)
		return res, err
	})
	if err != nil {
		return nil, promotion.PullRequest{}, f.missing(ctx, err, none)
	}
	result, ok := f.convert(p)
	if !ok {
		none.Detail = "it is not the pull request of a promotion"
		return nil, promotion.PullRequest{}, none
	}
	return p, result, nil
}

// missing tells a 404 for what is in the repository from one for the repository.
func (f *Forge) missing(ctx context.Context, err, none error) error {
	if status(err) != http.StatusNotFound {
		return f.explain(ctx, err)
	}
	_, gone := f.fullName(ctx)
	if gone != nil {
		return gone
	}
	return none
}

// explain adds to a refusal of a renamed repository what it is called now.
func (f *Forge) explain(ctx context.Context, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Status < 300 || e.Status > 399 {
		return err
	}
	name, asked := f.fullName(ctx)
	if asked != nil {
		return err
	}
	e.Message = "the repository is now called " + printable(name)
	return err
}

// fullName is what the repository is called now.
func (f *Forge) fullName(ctx context.Context) (name string, err error) {
	err = f.call(ctx, "reading the repository", repeatable, func(ctx context.Context) (*github.Response, error) {
		repo, res, err := f.client.Repositories.Get(ctx, f.owner, f.name)
		name = repo.GetFullName()
		return res, err
	})
	return name, err
}

// Close implements promotion.Forge. The reason comes first: a pull request that is
// closed has been given one.
func (f *Forge) Close(ctx context.Context, number int, reason string) error {
	_, p, err := f.pull(ctx, number)
	if err != nil {
		return err
	}
	merged := &promotion.RequestError{Number: number, Reason: promotion.ErrClosed, Detail: "it has been merged"}
	switch p.State {
	case promotion.Merged:
		return merged
	case promotion.Closed:
		return nil
	}
	if err := f.comment(ctx, number, reasonKey, reasonText(reason)); err != nil {
		return err
	}
	var closed *github.PullRequest
	err = f.call(ctx, fmt.Sprintf("closing pull request #%d", number), repeatable, func(ctx context.Context) (res *github.Response, err error) {
		closed, res, err = f.client.PullRequests.Edit(ctx, f.owner, f.name, number, &github.PullRequest{State: github.String("closed")})
		return res, err
	})
	if err != nil {
		return f.explain(ctx, err)
	}
	if closed.GetMerged() {
		return merged
	}
	f.dropBranch(ctx, p.Branch, p.Head)
	return nil
}

// dropBranch deletes a branch that has done its work, unless it has moved. That it
// cannot be deleted fails nothing.
func (f *Forge) dropBranch(ctx context.Context, branch, head string) {
	err := f.repo.Push(ctx, []gitrepo.RefUpdate{{Name: heads + branch, Old: head}})
	if err != nil && !errors.Is(err, gitrepo.ErrConflict) {
		f.progress(fmt.Sprintf("branch %s stays: %v", branch, err))
	}
}
