package gitea

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"code.gitea.io/sdk/gitea"

	"github.com/sluice-dev/sluice/promotion"
)

// Merge implements promotion.Forge. The head is guarded by the server, which
// merges the commit that it is told or nothing. The target it does not guard:
// that is looked at just before, so that what is judged is out of date by one
// request at most. The server is asked again while it has not caught up with a
// push, and only then is a refusal believed.
func (f *Forge) Merge(ctx context.Context, number int, m promotion.MergeSpec) (string, error) {
	start, denied := time.Now(), 0
	for attempt := 0; ; attempt++ {
		v, err := f.look(ctx)
		if err != nil {
			return "", err
		}
		p, err := f.get(ctx, v, number)
		if err != nil {
			return "", err
		}
		if err := f.mergeable(v, p, m); err != nil {
			return "", err
		}
		answer, err := f.tryMerge(ctx, p, m)
		if err != nil {
			return "", err
		}
		if answer.done {
			return f.afterMerge(ctx, p)
		}
		if denied++; !p.ready || answer.status != http.StatusMethodNotAllowed {
			denied = 0
		}
		if err := f.judge(v, p, answer, denied, time.Since(start)); err != nil {
			return "", err
		}
		if err := pause(ctx, attempt); err != nil {
			return "", err
		}
	}
}

// mergeable holds a pull request against what is asked to be merged.
func (f *Forge) mergeable(v view, p pull, m promotion.MergeSpec) error {
	switch {
	case p.State != promotion.Open:
		return refused(p.Number, promotion.ErrClosed, "it is "+string(p.State))
	case p.Target != f.branch:
		return refused(p.Number, promotion.ErrRefused, fmt.Sprintf("it merges into %s, not %s", promotion.OneLine(p.Target, 100), f.branch))
	case p.Head != m.Head:
		return refused(p.Number, promotion.ErrHeadMoved, "it is at "+p.Head)
	case m.Target != "" && m.Target != v.target:
		return refused(p.Number, promotion.ErrTargetMoved, "it is at "+v.target)
	}
	return nil
}

// mergeAnswer is what the server said to one request.
type mergeAnswer struct {
	done   bool
	cause  error // an *Error, when not done
	status int
}

// tryMerge asks the server once. An error is one after which asking again makes
// no sense.
func (f *Forge) tryMerge(ctx context.Context, p pull, m promotion.MergeSpec) (mergeAnswer, error) {
	c, err := f.client(ctx)
	if err != nil {
		return mergeAnswer{}, err
	}
	title, message, _ := strings.Cut(m.Message, "\n")
	op := fmt.Sprintf("merging pull request #%d", p.Number)
	done, response, err := c.MergePullRequest(f.options.Owner, f.options.Name, p.number, gitea.MergePullRequestOption{
		Style: gitea.MergeStyleMerge, Title: title, Message: strings.TrimSpace(message), HeadCommitId: m.Head,
		DeleteBranchAfterMerge: gitea.OptionalBool(false),
	})
	if err != nil {
		return mergeAnswer{}, f.failed(op, response, err)
	}
	if done {
		return mergeAnswer{done: true}, nil
	}
	answer := mergeAnswer{status: response.StatusCode, cause: f.failed(op, response, nil)}
	switch response.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusConflict, http.StatusInternalServerError:
		return answer, nil // closed, not yet, not so, or a race lost: the next look tells
	}
	return mergeAnswer{}, answer.cause
}

// maxDenied is how often in a row the server denies what it calls ready to be merged,
// until its rules are the reason. It may have begun to examine the pull request anew
// after it was looked at, since its target has moved, and denies until that is over.
const maxDenied = 3

// judge says what a refusal means when the pull request still stands as it did:
// nil as long as the server may not have caught up. Whether it can be merged is
// what the server found out before the target moved, so Git is asked, too. denied is
// how often in a row it has refused what it calls ready.
func (f *Forge) judge(v view, p pull, answer mergeAnswer, denied int, waited time.Duration) error {
	changes, related, err := promotion.Compare(f.repo, v.target, p.Head)
	conflicts := err == nil && len(changes.Conflicts) > 0
	if denied >= maxDenied && !conflicts {
		return f.refusal(p, answer.cause) // nothing to wait for: its rules forbid it
	}
	if waited < f.pace.conflict {
		return nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("merging pull request #%d: %w", p.Number, err)
	case !related:
		return refused(p.Number, promotion.ErrMergeConflict, "its history has nothing in common with the target")
	case conflicts:
		return &promotion.ConflictError{Number: p.Number, Files: changes.Conflicts}
	case waited < f.pace.check:
		return nil
	case answer.status == http.StatusInternalServerError:
		return answer.cause
	}
	return f.refusal(p, answer.cause)
}

// refusal is the server's own rules, in its words.
func (f *Forge) refusal(p pull, cause error) error {
	return &promotion.RequestError{
		Number: p.Number, Reason: promotion.ErrRefused, Detail: cause.Error(),
		Remedy: "look at what the page of the pull request says, " + p.URL +
			", and at the branch protection and the merge styles in " + f.repository() + "/settings: the token's user must be allowed to make merge commits",
	}
}

// afterMerge finds out the revision. The branch stays for the next promotion to move:
// the server closes what is open for a branch some time after it was deleted, and there
// is no sign of its having done so when nothing was open.
func (f *Forge) afterMerge(ctx context.Context, p pull) (string, error) {
	c, err := f.client(ctx)
	if err != nil {
		return "", err
	}
	raw, response, err := c.GetPullRequest(f.options.Owner, f.options.Name, p.number)
	if err != nil {
		return "", f.failed(fmt.Sprintf("reading pull request #%d, which is merged,", p.Number), response, err)
	}
	if raw.Base != nil && raw.Base.Name != f.branch { // sent there after the look at it: the server has no guard
		return "", &Error{Repository: f.repository(), Op: fmt.Sprintf("merging pull request #%d", p.Number),
			err: fmt.Errorf("%w: into %s, not into %s", errStrayed, promotion.OneLine(raw.Base.Name, 100), f.branch)}
	}
	if raw.MergedCommitID == nil || hashOf(*raw.MergedCommitID) == "" {
		return "", &Error{Repository: f.repository(), Op: fmt.Sprintf("merging pull request #%d", p.Number),
			err: fmt.Errorf("it is merged, but the server does not say as which commit")}
	}
	return *raw.MergedCommitID, nil
}
