package githubtest

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// handler answers one kind of request. A nil document is no content.
type handler func(c *call) (status int, document any, err error)

// routes lists what the server knows of the REST API.
func (s *Server) routes() {
	for pattern, h := range map[string]handler{
		"GET /{$}":        root,
		"GET /user":       viewer,
		"GET /rate_limit": rateLimit,
		"GET /app":        app,
		"POST /graphql":   graphql,
		"POST /app/installations/{id}/access_tokens": installationToken,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, h) })
	}
	for pattern, h := range map[string]handler{
		"GET ":                            getRepository,
		"GET /git/ref/{ref...}":           getRef,
		"DELETE /git/refs/{ref...}":       deleteRef,
		"GET /pulls":                      listPulls,
		"POST /pulls":                     createPull,
		"GET /pulls/{number}":             getPull,
		"PATCH /pulls/{number}":           editPull,
		"GET /pulls/{number}/merge":       isMerged,
		"PUT /pulls/{number}/merge":       mergePull,
		"GET /labels":                     listRepositoryLabels,
		"POST /labels":                    createLabel,
		"GET /issues":                     listIssues,
		"GET /issues/{number}":            getIssue,
		"PATCH /issues/{number}":          editIssue,
		"GET /issues/{number}/{what}":     ofIssue,
		"POST /issues/{number}/labels":    addLabels,
		"PUT /issues/{number}/labels":     setLabels,
		"POST /issues/{number}/comments":  createComment,
		"PATCH /issues/comments/{id}":     editComment,
		"DELETE /issues/comments/{id}":    deleteComment,
		"GET /commits/{ref...}":           ofCommit,
		"POST /statuses/{ref}":            createStatus,
		"GET /deployments":                listDeployments,
		"POST /deployments":               createDeployment,
		"GET /deployments/{id}":           getDeployment,
		"GET /deployments/{id}/statuses":  listDeploymentStatuses,
		"POST /deployments/{id}/statuses": createDeploymentStatus,

		"DELETE /issues/{number}/labels/{name...}": removeLabel,
		"GET /deployments/{id}/statuses/{status}":  getDeploymentStatus,
	} {
		method, rest, _ := strings.Cut(pattern, " ")
		s.mux.HandleFunc(method+" /repos/{owner}/{repo}"+rest, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, inRepository(h)) })
	}
}

// serve runs a handler under the server's lock, which answer holds.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, h handler) {
	c := r.Context().Value(callKey{}).(*call)
	c.Request = r
	s.charge(w.Header(), 1)
	status, document, err := h(c)
	s.write(w, r, status, document, err)
}

// inRepository finds the repository, and refuses who may not see or change it.
func inRepository(h handler) handler {
	return func(c *call) (int, any, error) {
		name := c.PathValue("owner") + "/" + c.PathValue("repo")
		if to, ok := c.s.renamed[name]; ok && c.who.access != NoAccess {
			return c.moved(name, to)
		}
		c.repo = c.s.repos[name]
		if c.repo == nil || c.who.access == NoAccess || c.who.kind == "App" {
			return 0, nil, errNotFound
		}
		if c.Method != http.MethodGet && c.who.access != Write {
			e := refuse(http.StatusForbidden, "Resource not accessible by personal access token")
			e.header = http.Header{"X-Accepted-Github-Permissions": {"contents=write; pull_requests=write"}}
			return 0, nil, e
		}
		if err := c.repo.refresh(); err != nil {
			return 0, nil, err
		}
		return h(c)
	}
}

// moved sends the client to the repository's new name.
func (c *call) moved(from, to string) (int, any, error) {
	status := http.StatusTemporaryRedirect
	if c.Method == http.MethodGet {
		status = http.StatusMovedPermanently
	}
	target := c.s.URL + apiPrefix + strings.Replace(c.URL.Path, "/repos/"+from, "/repos/"+to, 1)
	if c.URL.RawQuery != "" {
		target += "?" + c.URL.RawQuery
	}
	c.header.Set("Location", target)
	return status, doc{"message": "Moved Permanently", "url": target, "documentation_url": "https://docs.github.com/rest"}, nil
}

// number is a path's number, 0 for anything else.
func (c *call) number(name string) int {
	n, err := strconv.Atoi(c.PathValue(name))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// page cuts a list to the page that is asked for and links its neighbours.
func page[T any](c *call, list []T, show func(T) doc) []doc {
	query := c.URL.Query()
	size, number := queryNumber(query, "per_page", 30), queryNumber(query, "page", 1)
	size = min(size, 100)
	last := max(1, (len(list)+size-1)/size)
	var links []string
	link := func(rel string, n int) {
		q := url.Values{}
		for k, v := range query {
			q[k] = v
		}
		q.Set("page", strconv.Itoa(n))
		links = append(links, fmt.Sprintf(`<%s%s%s?%s>; rel=%q`, c.s.URL, apiPrefix, c.URL.EscapedPath(), q.Encode(), rel))
	}
	if number > 1 {
		link("prev", number-1)
		link("first", 1)
	}
	if number < last {
		link("next", number+1)
		link("last", last)
	}
	if len(links) > 0 {
		c.header.Set("Link", strings.Join(links, ", "))
	}
	out := []doc{}
	for _, item := range list[min(len(list), (number-1)*size):min(len(list), number*size)] {
		out = append(out, show(item))
	}
	return out
}

func queryNumber(query url.Values, name string, fallback int) int {
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < 1 {
		return fallback
	}
	return n
}

// root is GET /, with which clients find out whether their token is known.
func root(c *call) (int, any, error) {
	d := doc{}
	links(d, c.s.URL+apiPrefix, rootLinks)
	return http.StatusOK, d, nil
}

// rateLimit is GET /rate_limit, which costs nothing.
func rateLimit(c *call) (int, any, error) {
	c.s.charge(c.header, -1)
	left := max(0, c.s.left)
	core := doc{"limit": quota, "remaining": left, "used": quota - left, "reset": c.s.reset.Unix()}
	return http.StatusOK, doc{"resources": doc{"core": core, "search": core}, "rate": core}, nil
}

func getRepository(c *call) (int, any, error) { return http.StatusOK, c.s.repository(c.repo), nil }

// getRef is GET /git/ref/heads/NAME.
func getRef(c *call) (int, any, error) {
	branch, ok := strings.CutPrefix(c.PathValue("ref"), "heads/")
	hash, exists := c.repo.refs[branch]
	if !ok || !exists {
		return 0, nil, errNotFound
	}
	base := c.repo.api()
	return http.StatusOK, doc{
		"ref": heads + branch, "node_id": "R_1", "url": base + "/git/refs/heads/" + branch,
		"object": doc{"type": "commit", "sha": hash, "url": base + "/git/commits/" + hash},
	}, nil
}

// deleteRef is DELETE /git/refs/heads/NAME.
func deleteRef(c *call) (int, any, error) {
	branch, ok := strings.CutPrefix(c.PathValue("ref"), "heads/")
	if _, exists := c.repo.refs[branch]; !ok || !exists {
		return 0, nil, refuse(http.StatusUnprocessableEntity, "Reference does not exist")
	}
	if _, err := c.repo.git("update-ref", "-d", heads+branch); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, c.repo.refresh()
}
