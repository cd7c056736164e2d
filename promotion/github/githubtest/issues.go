package githubtest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// comment is a comment on a pull request.
type comment struct {
	id               int64
	number           int
	body             string
	author           identity
	created, updated time.Time
}

// Comments returns the texts of a pull request's comments, oldest first.
func (r *Repository) Comments(number int) []string {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	var list []string
	for _, m := range r.comments {
		if m.number == number {
			list = append(list, m.body)
		}
	}
	return list
}

// listIssues is GET /issues: every pull request is an issue too. It filters by
// state and labels.
func listIssues(c *call) (int, any, error) {
	query := c.URL.Query()
	var labels []string
	if query.Get("labels") != "" {
		labels = strings.Split(query.Get("labels"), ",")
	}
	list := c.repo.newest(func(p *pull) bool {
		for _, l := range labels {
			if !slices.Contains(p.labels, l) {
				return false
			}
		}
		state := query.Get("state")
		return state == "all" || state == p.state || state == "" && p.state == "open"
	})
	return http.StatusOK, page(c, list, c.repo.issue), nil
}

func getIssue(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.repo.issue(p), nil
}

// editIssue is PATCH /issues/{number}.
func editIssue(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Title, Body, State *string
		Labels             *[]string
	}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if err := c.edit(p, pullEdit{Title: in.Title, Body: in.Body, State: in.State}); err != nil {
		return 0, nil, err
	}
	if in.Labels != nil {
		p.labels = nil
		c.attach(p, *in.Labels)
	}
	return http.StatusOK, c.repo.issue(p), nil
}

// ofIssue is GET /issues/{number}/labels and comments, and /issues/comments/{id},
// which one pattern must tell apart.
func ofIssue(c *call) (int, any, error) {
	switch what := c.PathValue("what"); {
	case c.PathValue("number") == "comments":
		c.SetPathValue("id", what)
		return getComment(c)
	case what == "labels":
		return listLabels(c)
	case what == "comments":
		return listComments(c)
	}
	return 0, nil, errNotFound
}

func listComments(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, page(c, c.repo.remarks(p), c.repo.comment), nil
}

// remarks are the comments on a pull request, oldest first.
func (r *Repository) remarks(p *pull) []*comment {
	var list []*comment
	for _, m := range r.comments {
		if m.number == p.number {
			list = append(list, m)
		}
	}
	return list
}

func createComment(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	var in struct{ Body string }
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if strings.TrimSpace(in.Body) == "" {
		return 0, nil, invalid("IssueComment", "body", "missing_field", "")
	}
	m := &comment{id: c.s.id(), number: p.number, body: in.Body, author: c.who, created: now(), updated: now()}
	c.repo.comments = append(c.repo.comments, m)
	return http.StatusCreated, c.repo.comment(m), nil
}

func (c *call) comment() (*comment, error) {
	for _, m := range c.repo.comments {
		if m.id == int64(c.number("id")) {
			return m, nil
		}
	}
	return nil, errNotFound
}

func getComment(c *call) (int, any, error) {
	m, err := c.comment()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.repo.comment(m), nil
}

func editComment(c *call) (int, any, error) {
	m, err := c.comment()
	if err != nil {
		return 0, nil, err
	}
	var in struct{ Body string }
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	m.body, m.updated = in.Body, now()
	return http.StatusOK, c.repo.comment(m), nil
}

func deleteComment(c *call) (int, any, error) {
	m, err := c.comment()
	if err != nil {
		return 0, nil, err
	}
	c.repo.comments = slices.DeleteFunc(c.repo.comments, func(o *comment) bool { return o == m })
	return http.StatusNoContent, nil, nil
}
