package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-github/v60/github"

	"github.com/sluice-dev/sluice/promotion"
)

// Merge implements promotion.Forge: GitHub makes the merge commit, and refuses when
// the head is another one. It has no guard for the target branch; that is looked at
// right before.
func (f *Forge) Merge(ctx context.Context, number int, m promotion.MergeSpec) (string, error) {
	for attempt := 1; ; attempt++ {
		_, p, err := f.pull(ctx, number)
		if err != nil {
			return "", err
		}
		if err := f.mergeable(p, m); err != nil {
			return "", err
		}
		before, err := f.targetHead(ctx)
		if err != nil {
			return "", err
		}
		if m.Target != "" && m.Target != before {
			return "", &promotion.RequestError{Number: number, Reason: promotion.ErrTargetMoved, Detail: "it is at " + before}
		}
		revision, err := f.put(ctx, number, m)
		if err != nil {
			revision, err = f.refused(ctx, number, m, before, err)
		}
		switch {
		case err == nil:
			f.dropBranch(ctx, p.Branch, m.Head)
			return revision, f.strayed(ctx, number, revision)
		case err == errTryAgain && attempt < maxAttempts:
			if err := f.pause(ctx, lookAgain); err != nil {
				return "", err
			}
		case err == errTryAgain:
			return "", &promotion.RequestError{Number: number, Reason: promotion.ErrTargetMoved, Detail: "others were faster"}
		default:
			return "", err
		}
	}
}

// strayed is an error when a pull request was sent into another branch between the
// look at it and the merge, which GitHub has no guard against: what was judged is not
// in the target then. That it cannot be read makes no merge undone.
func (f *Forge) strayed(ctx context.Context, number int, revision string) error {
	_, p, err := f.pull(ctx, number)
	if err != nil || p.Target == f.branch {
		return nil
	}
	return &Error{Site: f.String(), Doing: fmt.Sprintf("merging pull request #%d", number),
		Message: fmt.Sprintf("somebody sent it into branch %s at that moment, and it was merged there, not into %s", printable(p.Target), f.branch),
		Remedy:  "revert " + short(revision) + " there, and propose again with `sluice promote`"}
}

// errTryAgain is a merge that lost a race which another try may win.
var errTryAgain = errors.New("the target branch moved during the merge")

// mergeable holds a pull request against what is asked to be merged.
func (f *Forge) mergeable(p promotion.PullRequest, m promotion.MergeSpec) error {
	switch {
	case p.State != promotion.Open:
		return &promotion.RequestError{Number: p.Number, Reason: promotion.ErrClosed, Detail: "it is " + string(p.State)}
	case p.Target != f.branch:
		return &promotion.RequestError{Number: p.Number, Reason: promotion.ErrRefused,
			Detail: fmt.Sprintf("it merges into %s, not %s", printable(p.Target), f.branch), Remedy: "propose it again, which sets it right"}
	case p.Head != m.Head:
		return &promotion.RequestError{Number: p.Number, Reason: promotion.ErrHeadMoved, Detail: "it is at " + printable(p.Head)}
	}
	return nil
}

func (f *Forge) targetHead(ctx context.Context) (commit string, err error) {
	err = f.call(ctx, "reading branch "+f.branch, repeatable, func(ctx context.Context) (*github.Response, error) {
		ref, res, err := f.client.Git.GetRef(ctx, f.owner, f.name, heads+f.branch)
		commit = ref.GetObject().GetSHA()
		return res, err
	})
	return commit, f.explain(ctx, err)
}

// put asks for the merge, once: what came of it is told by the pull request.
func (f *Forge) put(ctx context.Context, number int, m promotion.MergeSpec) (revision string, err error) {
	title, rest, _ := strings.Cut(strings.TrimSpace(m.Message), "\n")
	err = f.call(ctx, fmt.Sprintf("merging pull request #%d", number), once, func(ctx context.Context) (*github.Response, error) {
		merged, res, err := f.client.PullRequests.Merge(ctx, f.owner, f.name, number, strings.TrimSpace(rest), &github.PullRequestOptions{
			SHA: m.Head, MergeMethod: "merge", CommitTitle: title, DontDefaultIfBlank: title != "",
		})
		revision = merged.GetSHA()
		return res, err
	})
	return revision, err
}

// refused finds out what a merge came to that GitHub did not confirm. Its words and
// status are the same for a conflict, a rule and a lost race, so the pull request
// and the branch themselves are looked at.
func (f *Forge) refused(ctx context.Context, number int, m promotion.MergeSpec, before string, refusal error) (string, error) {
	raw, p, err := f.settled(ctx, number)
	if err != nil {
		return "", fmt.Errorf("%w; and then: %w", refusal, err)
	}
	if unknown(refusal) && p.State == promotion.Merged && p.Head == m.Head {
		return p.MergedRevision, nil // it was carried out, only the answer was lost
	}
	if err := f.mergeable(p, m); err != nil {
		return "", err
	}
	switch status(refusal) {
	case http.StatusMethodNotAllowed, http.StatusConflict, http.StatusUnprocessableEntity:
	default:
		return "", f.explain(ctx, refusal)
	}
	if raw.Mergeable != nil && !raw.GetMergeable() && raw.GetMergeableState() == "dirty" {
		return "", &promotion.RequestError{Number: number, Reason: promotion.ErrMergeConflict,
			Remedy: "propose it again (`sluice promote`, `sluice traffic set --pr`): that renews the pull request from what is live now"}
	}
	now, err := f.targetHead(ctx)
	switch {
	case err != nil:
		return "", err
	case now != before && m.Target != "":
		return "", &promotion.RequestError{Number: number, Reason: promotion.ErrTargetMoved, Detail: "it is at " + now}
	case now != before:
		return "", errTryAgain
	}
	return "", &promotion.RequestError{Number: number, Reason: promotion.ErrRefused, Detail: refusalText(refusal),
		Remedy: "the rules of branch " + f.branch + " do not let it be merged yet: " + or(p.URL, "the pull request's page") + " shows what is missing"}
}

// refusalText is GitHub's own reason.
func refusalText(err error) string {
	if e, ok := err.(*Error); ok {
		return e.Message
	}
	return err.Error()
}

// settled reads a pull request until GitHub knows whether it can be merged, which
// it works out after it was asked.
func (f *Forge) settled(ctx context.Context, number int) (*github.PullRequest, promotion.PullRequest, error) {
	for look := 1; ; look++ {
		raw, p, err := f.pull(ctx, number)
		if err != nil || p.State != promotion.Open || raw.Mergeable != nil || look == maxLooks {
			return raw, p, err
		}
		if err := f.pause(ctx, lookAgain); err != nil {
			return nil, promotion.PullRequest{}, err
		}
	}
}
