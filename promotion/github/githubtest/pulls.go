package githubtest

import (
	"cmp"
	"errors"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pull is a pull request.
type pull struct {
	id               int64
	number           int
	title, body      string
	state            string // open or closed
	head, base       string // branches
	sha              string // of the head
	fork             bool   // pretends that the head is another repository's
	merged           bool
	revision         string // of the base, once merged
	author           identity
	labels           []string
	created, updated time.Time
	closed           time.Time
}

// PretendFork makes a pull request look as if its head were in somebody's fork.
func (r *Repository) PretendFork(number int) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.pulls[number].fork = true
}

// Crowd adds closed pull requests of other people's, from branches that are gone.
func (r *Repository) Crowd(n int) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for range n {
		r.number++
		p := &pull{id: r.s.id(), number: r.number, title: "Feature", state: "open", head: "feature", base: "main", sha: noCommit,
			author: identity{id: 1, login: "bob", kind: "User"}, created: now()}
		p.settle("")
		r.pulls[p.number] = p
	}
}

// Retarget sends a pull request into another branch, as people do on its page.
func (r *Repository) Retarget(number int, base string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.pulls[number].base = base
}

// settle closes a pull request, as merged when there is a revision.
func (p *pull) settle(revision string) {
	p.state, p.closed, p.updated = "closed", now(), now()
	p.merged, p.revision = revision != "", revision
}

func (c *call) pull() (*pull, error) {
	if p := c.repo.pulls[c.number("number")]; p != nil {
		return p, nil
	}
	return nil, errNotFound
}

// newest returns the pull requests that keep selects, newest first.
func (r *Repository) newest(keep func(*pull) bool) []*pull {
	var list []*pull
	for _, p := range r.pulls {
		if keep(p) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *pull) int { return cmp.Compare(b.number, a.number) })
	return list
}

// listPulls is GET /pulls, with its filters of state, head and base.
func listPulls(c *call) (int, any, error) {
	query := c.URL.Query()
	state := cmp.Or(query.Get("state"), "open")
	owner, branch, headed := strings.Cut(query.Get("head"), ":")
	list := c.repo.newest(func(p *pull) bool {
		return (state == "all" || state == p.state) &&
			(!headed || owner == c.repo.owner() && branch == p.head) &&
			(query.Get("base") == "" || query.Get("base") == p.base)
	})
	if query.Get("direction") == "asc" {
		slices.Reverse(list)
	}
	return http.StatusOK, page(c, list, c.repo.pullSimple), nil
}

// createPull is POST /pulls.
func createPull(c *call) (int, any, error) {
	var in struct{ Title, Body, Head, Base string }
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	in.Head = strings.TrimPrefix(in.Head, c.repo.owner()+":")
	head, base := c.repo.refs[in.Head], c.repo.refs[in.Base]
	switch {
	case in.Title == "":
		return 0, nil, invalid("PullRequest", "title", "missing_field", "")
	case head == "":
		return 0, nil, invalid("PullRequest", "head", "invalid", "")
	case base == "":
		return 0, nil, invalid("PullRequest", "base", "invalid", "")
	case c.repo.contains(base, head):
		return 0, nil, invalid("PullRequest", "", "custom", "No commits between "+in.Base+" and "+in.Head)
	}
	for _, p := range c.repo.pulls {
		if p.state == "open" && p.head == in.Head && p.base == in.Base {
			return 0, nil, invalid("PullRequest", "", "custom", "A pull request already exists for "+c.repo.owner()+":"+in.Head+".")
		}
	}
	c.repo.number++
	p := &pull{
		id: c.s.id(), number: c.repo.number, title: in.Title, body: in.Body, state: "open", head: in.Head, base: in.Base, sha: head,
		author: c.who, created: now(), updated: now(),
	}
	c.repo.pulls[p.number] = p
	c.repo.announcePull(p, "opened")
	return http.StatusCreated, c.repo.pull(p), nil
}

func getPull(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.repo.pull(p), nil
}

// editPull is PATCH /pulls/{number}.
func editPull(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	var in pullEdit
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if err := c.edit(p, in); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.repo.pull(p), nil
}

// pullEdit is what may be changed of a pull request; nil leaves it.
type pullEdit struct{ Title, Body, State, Base *string }

func (c *call) edit(p *pull, in pullEdit) error {
	if in.Base != nil && c.repo.refs[*in.Base] == "" {
		return invalid("PullRequest", "base", "invalid", "")
	}
	if in.State != nil && *in.State == "open" && p.state == "closed" && (p.merged || c.repo.refs[p.head] == "") {
		return invalid("PullRequest", "state", "invalid", "state cannot be changed")
	}
	action := "edited"
	for to, from := range map[*string]*string{&p.title: in.Title, &p.body: in.Body, &p.base: in.Base} {
		if from != nil {
			*to = *from
		}
	}
	p.updated = now()
	if in.State != nil && *in.State != p.state {
		if *in.State == "closed" {
			action = "closed"
			p.settle("")
		} else {
			action, p.state, p.closed = "reopened", "open", time.Time{}
		}
	}
	c.repo.announcePull(p, action)
	return nil
}

// isMerged is GET /pulls/{number}/merge.
func isMerged(c *call) (int, any, error) {
	p, err := c.pull()
	if err == nil && !p.merged {
		err = errNotFound
	}
	return http.StatusNoContent, nil, err
}

// mergePull is PUT /pulls/{number}/merge. As on GitHub a conflict is told with
// the words, and the status, of everything that is not mergeable.
func mergePull(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		SHA     string
		Title   string `json:"commit_title"`
		Message string `json:"commit_message"`
		Method  string `json:"merge_method"`
	}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	notAllowed := func(message string) (int, any, error) {
		return 0, nil, refuse(http.StatusMethodNotAllowed, "%s", message)
	}
	switch reason := c.repo.protected[p.base]; {
	case p.state != "open":
		return notAllowed("Pull Request is not mergeable")
	case in.SHA != "" && in.SHA != p.sha:
		return 0, nil, refuse(http.StatusConflict, "Head branch was modified. Review and try the merge again.")
	case reason != "":
		return notAllowed(reason)
	case in.Method != "" && in.Method != "merge":
		return notAllowed("Merge method " + in.Method + " is not allowed on this repository")
	}
	tree, clean, err := c.repo.mergeTree(p)
	if err != nil {
		return 0, nil, err
	}
	if !clean {
		return notAllowed("Pull Request is not mergeable")
	}
	title := cmp.Or(in.Title, "Merge pull request #"+strconv.Itoa(p.number)+" from "+c.repo.owner()+"/"+p.head)
	message := strings.TrimSpace(title + "\n\n" + in.Message)
	base := c.repo.refs[p.base]
	revision, err := c.repo.gitIn([]byte(message+"\n"), "commit-tree", tree, "-p", base, "-p", p.sha, "-F", "-")
	if err != nil {
		return 0, nil, err
	}
	if _, err := c.repo.git("update-ref", heads+p.base, revision, base); err != nil {
		return notAllowed("Base branch was modified. Review and try the merge again.")
	}
	return http.StatusOK, doc{"sha": revision, "merged": true, "message": "Pull Request successfully merged"}, c.repo.refresh()
}

// mergeTree merges head and base with Git and reports whether that went without
// conflicts.
func (r *Repository) mergeTree(p *pull) (tree string, clean bool, err error) {
	out, err := r.git("merge-tree", "--write-tree", "--no-messages", r.refs[p.base], p.sha)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", false, nil
	}
	tree, _, _ = strings.Cut(out, "\n")
	return tree, err == nil, err
}
