package gitea

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"code.gitea.io/sdk/gitea"

	"github.com/sluice-dev/sluice/promotion"
)

// SetStatuses implements promotion.Forge.
func (f *Forge) SetStatuses(ctx context.Context, commit string, statuses []promotion.Status) error {
	if len(statuses) == 0 {
		return nil
	}
	if !promotion.IsCommit(commit) {
		return fmt.Errorf("setting a status: %q is not a commit: %w", promotion.OneLine(commit, 80), promotion.ErrNotFound)
	}
	present, err := f.statuses(ctx, commit)
	if err != nil {
		return err
	}
	c, err := f.client(ctx)
	if err != nil {
		return err
	}
	for _, s := range statuses {
		s.Description = shorten(s.Description)
		if has, ok := present[s.Context]; ok && has.Status == s {
			continue
		}
		_, response, err := c.CreateStatus(f.options.Owner, f.options.Name, commit, gitea.CreateStatusOption{
			State: gitea.StatusState(s.State), TargetURL: s.URL, Description: s.Description, Context: s.Context,
		})
		if err != nil {
			return f.failed(fmt.Sprintf("setting the status %s of %s", s.Context, commit[:12]), response, err)
		}
	}
	return nil
}

// latest is a status and its place among those of the same context.
type latest struct {
	promotion.Status
	id int64
}

// statuses are the statuses of a commit by context. The server keeps every one
// that was ever set, and lists them by time in seconds: the number decides.
func (f *Forge) statuses(ctx context.Context, commit string) (map[string]latest, error) {
	c, err := f.client(ctx)
	if err != nil {
		return nil, err
	}
	byContext := map[string]latest{}
	o := gitea.ListStatusesOption{ListOptions: gitea.ListOptions{Page: 1, PageSize: pageSize}}
	for range maxPages {
		list, response, err := c.ListStatuses(f.options.Owner, f.options.Name, commit, o)
		if err != nil {
			return nil, f.noStatuses(ctx, commit, response, err)
		}
		for _, s := range list {
			if s != nil && s.ID >= byContext[s.Context].id {
				byContext[s.Context] = latest{id: s.ID, Status: promotion.Status{
					Context: s.Context, State: stateOf(s.State), Description: shorten(s.Description), URL: s.TargetURL,
				}}
			}
		}
		if o.Page = response.NextPage; o.Page == 0 {
			return byContext, nil
		}
	}
	return nil, f.tooMany("reading the statuses of " + commit[:12])
}

// noStatuses tells a commit that does not exist from a repository that does not.
func (f *Forge) noStatuses(ctx context.Context, commit string, response *gitea.Response, err error) error {
	op := "reading the statuses of " + commit[:12]
	if response == nil || response.StatusCode != http.StatusNotFound {
		return f.failed(op, response, err)
	}
	if err := f.reachable(ctx, op); err != nil {
		return err
	}
	return fmt.Errorf("%s: %s has no such commit: %w", op, f.repository(), promotion.ErrNotFound)
}

// published is a commit's statuses in order.
func published(byContext map[string]latest) []promotion.Status {
	var list []promotion.Status
	for _, s := range byContext {
		list = append(list, s.Status)
	}
	slices.SortFunc(list, func(a, b promotion.Status) int { return strings.Compare(a.Context, b.Context) })
	return list
}

// stateOf maps the outcomes that Gitea has beside ours.
func stateOf(s gitea.StatusState) promotion.StatusState {
	switch s {
	case gitea.StatusSuccess, gitea.StatusPending, gitea.StatusFailure:
		return promotion.StatusState(s)
	case gitea.StatusWarning, "skipped":
		return promotion.StatusSuccess // neither keeps Gitea from merging
	}
	return promotion.StatusFailure
}

func shorten(description string) string {
	if runes := []rune(description); len(runes) > promotion.MaxDescription {
		return string(runes[:promotion.MaxDescription])
	}
	return description
}

// Comment implements promotion.Announcer.
func (f *Forge) Comment(ctx context.Context, number int, key, body string) error {
	v, err := f.look(ctx)
	if err != nil {
		return err
	}
	p, err := f.get(ctx, v, number)
	if err != nil {
		return err
	}
	return f.upsert(ctx, p.number, key, body)
}

// Deploy implements promotion.Announcer: Gitea has no deployments.
func (f *Forge) Deploy(_ context.Context, d promotion.Deployment) error {
	return fmt.Errorf("recording the deployment of %s to %s: Gitea has no deployments: %w", d.Component, d.Environment, promotion.ErrUnsupported)
}

// Unfinished implements promotion.Announcer.
func (f *Forge) Unfinished(context.Context, []string) ([]promotion.Deployment, error) {
	return nil, fmt.Errorf("listing deployments: Gitea has none: %w", promotion.ErrUnsupported)
}

// upsert writes the comment of a key. Only comments of the token's own user are
// touched: anybody may write a marker.
func (f *Forge) upsert(ctx context.Context, number int64, key, body string) error {
	op := fmt.Sprintf("commenting on pull request #%d", number)
	if err := promotion.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	own, err := f.ownComments(ctx, number)
	if err != nil {
		return err
	}
	own = slices.DeleteFunc(own, func(c comment) bool { return c.Key != key })
	c, err := f.client(ctx)
	if err != nil {
		return err
	}
	text := promotion.MarkComment(key, body)
	if len(own) == 0 {
		_, response, err := c.CreateIssueComment(f.options.Owner, f.options.Name, number, gitea.CreateIssueCommentOption{Body: text})
		if err != nil {
			return f.failed(op, response, err)
		}
		return nil
	}
	if own[0].Body != body {
		_, response, err := c.EditIssueComment(f.options.Owner, f.options.Name, own[0].id, gitea.EditIssueCommentOption{Body: text})
		if err != nil {
			return f.failed(op, response, err)
		}
	}
	for _, twin := range own[1:] { // made at the same moment by another process
		response, err := c.DeleteIssueComment(f.options.Owner, f.options.Name, twin.id)
		if err != nil && (response == nil || response.StatusCode != http.StatusNotFound) {
			return f.failed(op, response, err)
		}
	}
	return nil
}

// comment is one of ours.
type comment struct {
	promotion.Comment
	id int64
}

// closedKey is the key of the comment that says why a pull request was closed;
// the reason has a field of its own.
const closedKey = "closed"

// comments are what the token's user wrote with Comment, by key.
func (f *Forge) comments(ctx context.Context, number int64) ([]promotion.Comment, error) {
	own, err := f.ownComments(ctx, number)
	if err != nil {
		return nil, err
	}
	var list []promotion.Comment
	for _, c := range own {
		if c.Key != closedKey && !slices.ContainsFunc(list, func(o promotion.Comment) bool { return o.Key == c.Key }) {
			list = append(list, c.Comment)
		}
	}
	slices.SortFunc(list, func(a, b promotion.Comment) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}

// ownComments are the comments with a marker that the token's user wrote, oldest
// first.
func (f *Forge) ownComments(ctx context.Context, number int64) ([]comment, error) {
	me, err := f.me(ctx)
	if err != nil {
		return nil, err
	}
	c, err := f.client(ctx)
	if err != nil {
		return nil, err
	}
	var own []comment
	op := fmt.Sprintf("reading the comments on pull request #%d", number)
	o := gitea.ListIssueCommentOptions{ListOptions: gitea.ListOptions{Page: 1, PageSize: pageSize}}
	for range maxPages {
		list, response, err := c.ListIssueComments(f.options.Owner, f.options.Name, number, o)
		if err != nil {
			return nil, f.failed(op, response, err)
		}
		for _, raw := range list {
			if raw == nil || raw.Poster == nil || raw.Poster.UserName != me {
				continue
			}
			if key, body, ok := promotion.SplitComment(raw.Body); ok {
				own = append(own, comment{promotion.Comment{Key: key, Body: body}, raw.ID})
			}
		}
		if o.Page = response.NextPage; o.Page == 0 {
			slices.SortFunc(own, func(a, b comment) int { return cmp.Compare(a.id, b.id) })
			return own, nil
		}
	}
	return nil, f.tooMany(op)
}
