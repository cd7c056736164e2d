package github

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-github/v60/github"

	"github.com/sluice-dev/sluice/promotion"
)

// deployTask tells Sluice's deployments from those of other programs.
const deployTask = "sluice"

// SetStatuses implements promotion.Forge.
func (f *Forge) SetStatuses(ctx context.Context, commit string, statuses []promotion.Status) error {
	if len(statuses) == 0 {
		return nil
	}
	present, err := f.statuses(ctx, commit)
	if err != nil {
		return err
	}
	for _, s := range statuses {
		s.Description = oneLine(s.Description)
		if slices.Contains(present, s) {
			continue
		}
		status := &github.RepoStatus{State: github.String(string(s.State)), Context: github.String(s.Context), Description: github.String(s.Description)}
		if s.URL != "" {
			status.TargetURL = github.String(s.URL)
		}
		err := f.call(ctx, "setting status "+s.Context+" of "+short(commit), repeatable, func(ctx context.Context) (*github.Response, error) {
			_, res, err := f.client.Repositories.CreateStatus(ctx, f.owner, f.name, commit, status)
			return res, err
		})
		if err != nil {
			return f.explain(ctx, err)
		}
	}
	return nil
}

// oneLine fits a description into a status.
func oneLine(text string) string {
	return cut(strings.Join(strings.Fields(text), " "), promotion.MaxDescription)
}

func short(commit string) string { return commit[:min(12, len(commit))] }

// statuses reads the statuses of a commit, sorted by context.
func (f *Forge) statuses(ctx context.Context, commit string) ([]promotion.Status, error) {
	o := &github.ListOptions{PerPage: pageSize}
	var all []promotion.Status
	for range maxPages {
		var page *github.CombinedStatus
		var next int
		err := f.call(ctx, "reading the statuses of "+short(commit), repeatable, func(ctx context.Context) (*github.Response, error) {
			list, res, err := f.client.Repositories.GetCombinedStatus(ctx, f.owner, f.name, commit, o)
			if err == nil {
				page, next = list, res.NextPage
			}
			return res, err
		})
		if err != nil {
			return nil, f.noCommit(ctx, commit, err)
		}
		for _, s := range page.Statuses {
			all = append(all, promotion.Status{
				Context: s.GetContext(), State: state(s.GetState()), Description: oneLine(s.GetDescription()), URL: s.GetTargetURL(),
			})
		}
		if next == 0 {
			break
		}
		o.Page = next
	}
	slices.SortFunc(all, func(a, b promotion.Status) int { return strings.Compare(a.Context, b.Context) })
	return all, nil
}

func state(s string) promotion.StatusState {
	switch s {
	case "success":
		return promotion.StatusSuccess
	case "pending":
		return promotion.StatusPending
	}
	return promotion.StatusFailure
}

// noCommit recognises that a commit is not in the repository.
func (f *Forge) noCommit(ctx context.Context, commit string, err error) error {
	if code := status(err); code == http.StatusUnprocessableEntity || code == http.StatusNotFound {
		return f.missing(ctx, &Error{Status: http.StatusNotFound}, fmt.Errorf("%s has no commit %s: %w", f, short(commit), promotion.ErrNotFound))
	}
	return f.explain(ctx, err)
}

// Comment implements promotion.Announcer. Only a comment of our own is ever edited,
// whatever marker another one has.
func (f *Forge) Comment(ctx context.Context, number int, key, body string) error {
	if err := promotion.CheckKey(key); err != nil || key == reasonKey {
		return fmt.Errorf("commenting on pull request #%d: %w", number, or(err, errReserved))
	}
	return f.comment(ctx, number, key, mark(key, body))
}

var errReserved = errors.New("the key " + reasonKey + " is taken")

func (f *Forge) comment(ctx context.Context, number int, key, text string) error {
	list, err := f.comments(ctx, number)
	if err != nil {
		return err
	}
	self, err := f.self(ctx)
	if err != nil {
		return err
	}
	doing := fmt.Sprintf("commenting on pull request #%d", number)
	for _, c := range list {
		if present, _, ok := promotion.SplitComment(c.GetBody()); !ok || present != key || !wrote(c, self) {
			continue
		}
		if same(c.GetBody(), text) {
			return nil
		}
		return f.call(ctx, doing, repeatable, func(ctx context.Context) (*github.Response, error) {
			_, res, err := f.client.Issues.EditComment(ctx, f.owner, f.name, c.GetID(), &github.IssueComment{Body: &text})
			return res, err
		})
	}
	err = f.call(ctx, doing, once, func(ctx context.Context) (*github.Response, error) {
		_, res, err := f.client.Issues.CreateComment(ctx, f.owner, f.name, number, &github.IssueComment{Body: &text})
		return res, err
	})
	return f.explain(ctx, err)
}

// wrote reports whether a comment is that of an account. Only some APIs end the
// names of Apps with [bot].
func wrote(c *github.IssueComment, self string) bool {
	author := c.GetUser().GetLogin()
	return author == self || c.GetUser().GetType() == "Bot" && strings.TrimSuffix(author, "[bot]") == strings.TrimSuffix(self, "[bot]")
}

// comments lists the comments of a pull request, oldest first.
func (f *Forge) comments(ctx context.Context, number int) ([]*github.IssueComment, error) {
	none := &promotion.RequestError{Number: number, Reason: promotion.ErrNotFound}
	if number <= 0 {
		return nil, none
	}
	o := &github.IssueListCommentsOptions{ListOptions: github.ListOptions{PerPage: pageSize}}
	var all []*github.IssueComment
	for range maxPages {
		var page []*github.IssueComment
		var next int
		err := f.call(ctx, fmt.Sprintf("reading the comments of pull request #%d", number), repeatable, func(ctx context.Context) (*github.Response, error) {
			list, res, err := f.client.Issues.ListComments(ctx, f.owner, f.name, number, o)
			if err == nil {
				page, next = list, res.NextPage
			}
			return res, err
		})
		if err != nil {
			return nil, f.missing(ctx, err, none)
		}
		all = append(all, page...)
		if next == 0 {
			break
		}
		o.Page = next
	}
	return all, nil
}

// said reads what Sluice wrote on a pull request, and why it was closed. On a
// public repository anybody may comment, so only those are heard who belong to it.
func (f *Forge) said(ctx context.Context, number int) (comments []promotion.Comment, reason string, err error) {
	list, err := f.comments(ctx, number)
	if err != nil {
		return nil, "", err
	}
	byKey := map[string]string{}
	for _, c := range list {
		if key, body, ok := promotion.SplitComment(c.GetBody()); ok && belongs(c) {
			byKey[key] = body
		}
	}
	reason = readReason(byKey[reasonKey])
	delete(byKey, reasonKey)
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		comments = append(comments, promotion.Comment{Key: key, Body: byKey[key]})
	}
	return comments, reason, nil
}

// belongs reports whether a comment's author may write to the repository, or is an
// App, which only its owners install.
func belongs(c *github.IssueComment) bool {
	switch c.GetAuthorAssociation() {
	case "OWNER", "MEMBER", "COLLABORATOR":
		return true
	}
	return c.GetUser().GetType() == "Bot"
}

// Deploy implements promotion.Announcer. GitHub makes what came before in an
// environment inactive, so each release is an environment of its own there,
// ENVIRONMENT/COMPONENT.
func (f *Forge) Deploy(ctx context.Context, d promotion.Deployment) error {
	environment := d.Environment + "/" + d.Component
	doing := "recording the deployment of " + environment
	deployment, err := f.deployment(ctx, doing, environment, d.Revision)
	if err != nil {
		return err
	}
	last, err := f.lastSaid(ctx, doing, deployment)
	if err != nil {
		return err
	}
	description := oneLine(d.Description)
	if last.GetState() == string(d.State) && last.GetDescription() == description && last.GetEnvironmentURL() == d.URL {
		return nil
	}
	said := &github.DeploymentStatusRequest{State: github.String(string(d.State)), Description: &description}
	if d.URL != "" {
		said.EnvironmentURL = &d.URL
	}
	err = f.call(ctx, doing, repeatable, func(ctx context.Context) (*github.Response, error) {
		_, res, err := f.client.Repositories.CreateDeploymentStatus(ctx, f.owner, f.name, deployment.GetID(), said)
		return res, err
	})
	return f.explain(ctx, err)
}

// lastSaid is what was said last of a deployment, nil when nothing was.
func (f *Forge) lastSaid(ctx context.Context, doing string, d *github.Deployment) (*github.DeploymentStatus, error) {
	var list []*github.DeploymentStatus
	err := f.call(ctx, doing, repeatable, func(ctx context.Context) (res *github.Response, err error) {
		list, res, err = f.client.Repositories.ListDeploymentStatuses(ctx, f.owner, f.name, d.GetID(), &github.ListOptions{PerPage: 1})
		return res, err
	})
	if err != nil || len(list) == 0 {
		return nil, f.explain(ctx, err)
	}
	return list[0], nil
}

// Unfinished implements promotion.Announcer. It costs one request for the hundred
// newest deployments, and one for each release among them, as the listing does not
// tell states: 101 of the 5,000 an hour at most, and a controller asks once, when it
// starts.
func (f *Forge) Unfinished(ctx context.Context, environments []string) ([]promotion.Deployment, error) {
	const doing = "looking for deployments in progress"
	var list []*github.Deployment
	err := f.call(ctx, doing, repeatable, func(ctx context.Context) (res *github.Response, err error) {
		list, res, err = f.client.Repositories.ListDeployments(ctx, f.owner, f.name, &github.DeploymentsListOptions{
			Task: deployTask, ListOptions: github.ListOptions{PerPage: pageSize},
		})
		return res, err
	})
	if err != nil {
		return nil, f.explain(ctx, err)
	}
	var unfinished []promotion.Deployment
	seen := map[string]bool{}
	for _, d := range list[:min(len(list), pageSize)] {
		environment, component, ok := strings.Cut(d.GetEnvironment(), "/")
		if !ok || seen[d.GetEnvironment()] || !slices.Contains(environments, environment) || !promotion.IsCommit(d.GetSHA()) {
			continue
		}
		seen[d.GetEnvironment()] = true
		last, err := f.lastSaid(ctx, doing, d)
		if err != nil {
			return nil, err
		}
		if promotion.DeploymentState(last.GetState()) == promotion.DeploymentInProgress {
			unfinished = append(unfinished, promotion.Deployment{
				Environment: environment, Component: component, Revision: d.GetSHA(), State: promotion.DeploymentInProgress,
				Description: oneLine(last.GetDescription()), URL: last.GetEnvironmentURL(),
			})
		}
	}
	return unfinished, nil
}

// deployment finds the deployment of a revision in an environment, or makes it.
func (f *Forge) deployment(ctx context.Context, doing, environment, revision string) (*github.Deployment, error) {
	var list []*github.Deployment
	err := f.call(ctx, doing, repeatable, func(ctx context.Context) (res *github.Response, err error) {
		list, res, err = f.client.Repositories.ListDeployments(ctx, f.owner, f.name, &github.DeploymentsListOptions{
			SHA: revision, Task: deployTask, Environment: environment, ListOptions: github.ListOptions{PerPage: 1},
		})
		return res, err
	})
	if err != nil {
		return nil, f.explain(ctx, err)
	}
	if len(list) > 0 {
		return list[0], nil
	}
	var made *github.Deployment
	err = f.call(ctx, doing, once, func(ctx context.Context) (res *github.Response, err error) {
		made, res, err = f.client.Repositories.CreateDeployment(ctx, f.owner, f.name, &github.DeploymentRequest{
			Ref: &revision, Task: github.String(deployTask), Environment: &environment,
			AutoMerge: github.Bool(false), RequiredContexts: &[]string{}, Description: github.String(""),
		})
		return res, err
	})
	if status(err) == http.StatusUnprocessableEntity {
		if _, missing := f.statuses(ctx, revision); missing != nil {
			return nil, missing // which says so when it is the revision that is wrong
		}
	}
	return made, f.explain(ctx, err)
}
