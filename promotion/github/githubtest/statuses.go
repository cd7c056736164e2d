package githubtest

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const maxDescription = 140

var fullHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// status is one status that was set on a commit.
type status struct {
	id                                     int64
	state, context, description, targetURL string
	creator                                identity
	created                                time.Time
}

// Posted is a status of a commit.
type Posted struct{ Context, State, Description string }

// Statuses tells what a commit's statuses say, the newest of each context, in the
// order in which these were last set.
func (r *Repository) Statuses(commit string) []Posted {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	var list []Posted
	for _, st := range slices.Backward(r.latest(commit)) {
		list = append(list, Posted{st.context, st.state, st.description})
	}
	return list
}

// commit resolves a commit or a branch of the path.
func (c *call) commit() (string, error) {
	ref := c.PathValue("ref")
	if hash, ok := c.repo.refs[strings.TrimPrefix(ref, "heads/")]; ok {
		return hash, nil
	}
	if !fullHash.MatchString(ref) || !c.repo.owns(ref) {
		return "", refuse(http.StatusUnprocessableEntity, "No commit found for SHA: %s", ref)
	}
	return ref, nil
}

// latest are the statuses of a commit, the newest of each context.
func (r *Repository) latest(commit string) []*status {
	var list []*status
	for _, st := range slices.Backward(r.statuses[commit]) {
		if !slices.ContainsFunc(list, func(o *status) bool { return strings.EqualFold(o.context, st.context) }) {
			list = append(list, st)
		}
	}
	return list
}

// ofCommit is GET /commits/{ref}/status and statuses, where the ref may be a branch with
// slashes, escaped or not.
func ofCommit(c *call) (int, any, error) {
	ref := c.PathValue("ref")
	for suffix, h := range map[string]handler{"/status": combinedStatus, "/statuses": listStatuses} {
		if name, ok := strings.CutSuffix(ref, suffix); ok {
			c.SetPathValue("ref", name)
			return h(c)
		}
	}
	return 0, nil, errNotFound
}

// combinedStatus is GET /commits/{ref}/status.
func combinedStatus(c *call) (int, any, error) {
	commit, err := c.commit()
	if err != nil {
		return 0, nil, err
	}
	list := c.repo.latest(commit)
	state := "success"
	for _, st := range list {
		if st.state == "failure" || st.state == "error" {
			state = "failure"
			break
		}
		if st.state == "pending" {
			state = "pending"
		}
	}
	if len(list) == 0 {
		state = "pending"
	}
	return http.StatusOK, doc{
		"state": state, "sha": commit, "total_count": len(list), "statuses": page(c, list, c.repo.status(commit)),
		"repository": c.s.repository(c.repo), "commit_url": c.repo.api() + "/commits/" + commit, "url": c.repo.api() + "/commits/" + commit + "/status",
	}, nil
}

func listStatuses(c *call) (int, any, error) {
	commit, err := c.commit()
	if err != nil {
		return 0, nil, err
	}
	list := slices.Clone(c.repo.statuses[commit])
	slices.Reverse(list)
	return http.StatusOK, page(c, list, c.repo.status(commit)), nil
}

// createStatus is POST /statuses/{sha}.
func createStatus(c *call) (int, any, error) {
	commit, err := c.commit()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		State, Context, Description string
		TargetURL                   string `json:"target_url"`
	}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	switch {
	case !slices.Contains([]string{"error", "failure", "pending", "success"}, in.State):
		return 0, nil, invalid("Status", "state", "invalid", "")
	case utf8.RuneCountInString(in.Description) > maxDescription:
		return 0, nil, invalid("Status", "description", "custom", "description is too long (maximum is 140 characters)")
	}
	st := &status{
		id: c.s.id(), state: in.State, context: cmp.Or(in.Context, "default"), description: in.Description, targetURL: in.TargetURL,
		creator: c.who, created: now(),
	}
	c.repo.statuses[commit] = append(c.repo.statuses[commit], st)
	c.repo.announceStatus(commit, st)
	return http.StatusCreated, c.repo.status(commit)(st), nil
}

// deployment is one deployment and what was said of it, oldest first.
type deployment struct {
	id                          int64
	sha, ref, task, environment string
	description                 string
	payload                     any
	creator                     identity
	created                     time.Time
	statuses                    []*deploymentStatus
}

type deploymentStatus struct {
	id                                 int64
	state, description, environmentURL string
	creator                            identity
	created                            time.Time
}

// Deployed is a deployment of a repository.
type Deployed struct {
	Environment, Revision string
	States                []string // all that was said of it, oldest first
	Description, URL      string   // the last
}

// Deployments tells what a repository's deployments say, oldest first.
func (r *Repository) Deployments() []Deployed {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	var list []Deployed
	for _, d := range r.deployments {
		out := Deployed{Environment: d.environment, Revision: d.sha}
		for _, st := range d.statuses {
			out.States = append(out.States, st.state)
			out.Description, out.URL = st.description, st.environmentURL
		}
		list = append(list, out)
	}
	return list
}

func listDeployments(c *call) (int, any, error) {
	query := c.URL.Query()
	var list []*deployment
	for _, d := range slices.Backward(c.repo.deployments) {
		if matchQuery(query.Get("sha"), d.sha) && matchQuery(query.Get("ref"), d.ref) &&
			matchQuery(query.Get("task"), d.task) && matchQuery(query.Get("environment"), d.environment) {
			list = append(list, d)
		}
	}
	return http.StatusOK, page(c, list, c.repo.deployment), nil
}

func matchQuery(want, have string) bool { return want == "" || want == have }

// createDeployment is POST /deployments. Contexts that are not named are
// required, as on GitHub.
func createDeployment(c *call) (int, any, error) {
	in := struct {
		Ref, Task, Environment, Description string
		Payload                             any
		AutoMerge                           *bool     `json:"auto_merge"`
		Contexts                            *[]string `json:"required_contexts"`
	}{Task: "deploy", Environment: "production"}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	commit := in.Ref
	if hash, ok := c.repo.refs[in.Ref]; ok {
		commit = hash
	} else if !fullHash.MatchString(in.Ref) || !c.repo.owns(in.Ref) {
		return 0, nil, refuse(http.StatusUnprocessableEntity, "No ref found for: %s", in.Ref)
	}
	for _, st := range c.repo.latest(commit) {
		if st.state != "success" && (in.Contexts == nil || slices.Contains(*in.Contexts, st.context)) {
			return 0, nil, refuse(http.StatusConflict, "Conflict: Commit status checks failed for %s.", in.Ref)
		}
	}
	d := &deployment{
		id: c.s.id(), sha: commit, ref: in.Ref, task: in.Task, environment: in.Environment, description: in.Description,
		payload: in.Payload, creator: c.who, created: now(),
	}
	c.repo.deployments = append(c.repo.deployments, d)
	return http.StatusCreated, c.repo.deployment(d), nil
}

func (c *call) deployment() (*deployment, error) {
	for _, d := range c.repo.deployments {
		if d.id == int64(c.number("id")) {
			return d, nil
		}
	}
	return nil, errNotFound
}

func getDeployment(c *call) (int, any, error) {
	d, err := c.deployment()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c.repo.deployment(d), nil
}

func getDeploymentStatus(c *call) (int, any, error) {
	d, err := c.deployment()
	if err != nil {
		return 0, nil, err
	}
	for _, st := range d.statuses {
		if st.id == int64(c.number("status")) {
			return http.StatusOK, c.repo.deploymentStatus(d)(st), nil
		}
	}
	return 0, nil, errNotFound
}

func listDeploymentStatuses(c *call) (int, any, error) {
	d, err := c.deployment()
	if err != nil {
		return 0, nil, err
	}
	list := slices.Clone(d.statuses)
	slices.Reverse(list)
	return http.StatusOK, page(c, list, c.repo.deploymentStatus(d)), nil
}

// createDeploymentStatus is POST /deployments/{id}/statuses. Success makes the
// environment's earlier deployments inactive, unless it is told not to.
func createDeploymentStatus(c *call) (int, any, error) {
	d, err := c.deployment()
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		State, Description string
		URL                string `json:"environment_url"`
		AutoInactive       *bool  `json:"auto_inactive"`
	}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if !slices.Contains([]string{"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}, in.State) {
		return 0, nil, invalid("DeploymentStatus", "state", "invalid", "")
	}
	if utf8.RuneCountInString(in.Description) > maxDescription {
		return 0, nil, invalid("DeploymentStatus", "description", "custom", "description is too long (maximum is 140 characters)")
	}
	st := &deploymentStatus{id: c.s.id(), state: in.State, description: in.Description, environmentURL: in.URL, creator: c.who, created: now()}
	d.statuses = append(d.statuses, st)
	if in.State == "success" && (in.AutoInactive == nil || *in.AutoInactive) {
		for _, other := range c.repo.deployments {
			if n := len(other.statuses); other.id < d.id && other.environment == d.environment && n > 0 && other.statuses[n-1].state == "success" {
				other.statuses = append(other.statuses, &deploymentStatus{id: c.s.id(), state: "inactive", creator: c.who, created: now()})
			}
		}
	}
	return http.StatusCreated, c.repo.deploymentStatus(d)(st), nil
}
