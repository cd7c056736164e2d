package githubtest

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"
)

// doc is a JSON object.
type doc map[string]any

// epoch is when everything came to be that has no history of its own.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// GitHub's documents are full of links, which are made from their names.
var (
	userLinks = strings.Fields(`events_url followers_url following_url gists_url organizations_url
		received_events_url repos_url starred_url subscriptions_url`)
	rootLinks = strings.Fields(`authorizations_url code_search_url commit_search_url current_user_authorizations_html_url
		current_user_repositories_url current_user_url emails_url emojis_url events_url feeds_url followers_url
		following_url gists_url issue_search_url issues_url keys_url label_search_url notifications_url
		organization_repositories_url organization_teams_url organization_url public_gists_url rate_limit_url
		repository_search_url repository_url starred_gists_url starred_url user_organizations_url
		user_repositories_url user_search_url user_url`)
	repositoryLinks = strings.Fields(`archive_url assignees_url blobs_url branches_url collaborators_url comments_url
		commits_url compare_url contents_url contributors_url deployments_url downloads_url events_url forks_url
		git_commits_url git_refs_url git_tags_url hooks_url issue_comment_url issue_events_url issues_url keys_url
		labels_url languages_url merges_url milestones_url notifications_url pulls_url releases_url stargazers_url
		statuses_url subscribers_url subscription_url tags_url teams_url trees_url`)
	repositoryFlags = strings.Fields(`fork private has_projects has_wiki has_pages has_discussions archived disabled`)
	repositorySums  = strings.Fields(`forks forks_count open_issues open_issues_count size stargazers_count watchers
		watchers_count network_count subscribers_count`)
)

func links(d doc, base string, names []string) {
	for _, name := range names {
		d[name] = base + "/" + strings.TrimSuffix(name, "_url")
	}
}

func (s *Server) user(who identity) doc {
	d := doc{
		"login": who.login, "id": who.id, "node_id": fmt.Sprintf("U_%d", who.id), "type": who.kind, "site_admin": false,
		"avatar_url": s.URL + "/avatars/" + who.login, "gravatar_id": "", "html_url": s.URL + "/" + who.login,
		"url": s.URL + apiPrefix + "/users/" + who.login,
	}
	links(d, d["url"].(string), userLinks)
	return d
}

func (r *Repository) owner() string {
	owner, _, _ := strings.Cut(r.name, "/")
	return owner
}

func (r *Repository) api() string { return r.s.URL + apiPrefix + "/repos/" + r.name }

func (r *Repository) web() string { return r.s.URL + "/" + r.name }

func (s *Server) repository(r *Repository) doc {
	_, name, _ := strings.Cut(r.name, "/")
	d := doc{
		"id": r.id, "node_id": fmt.Sprintf("R_%d", r.id), "name": name, "full_name": r.name, "description": nil,
		"owner": s.user(identity{id: 1, login: r.owner(), kind: "Organization"}), "html_url": r.web(), "url": r.api(),
		"clone_url": r.URL(), "git_url": r.URL(), "ssh_url": "git@example.com:" + r.name + ".git", "svn_url": r.web(),
		"mirror_url": nil, "homepage": nil, "language": nil, "license": nil, "default_branch": "main",
		"has_issues": true, "has_downloads": true, "created_at": r.created, "updated_at": r.created, "pushed_at": r.created,
	}
	links(d, r.api(), repositoryLinks)
	for _, name := range repositoryFlags {
		d[name] = false
	}
	for _, name := range repositorySums {
		d[name] = 0
	}
	return d
}

// end is one end of a pull request.
func (r *Repository) end(branch, sha string) doc {
	return doc{
		"label": r.owner() + ":" + branch, "ref": branch, "sha": sha, "repo": r.s.repository(r),
		"user": r.s.user(identity{id: 1, login: r.owner(), kind: "Organization"}),
	}
}

// headOf is the head of a pull request, which may pretend to be a fork's.
func (r *Repository) headOf(p *pull) doc {
	end := r.end(p.head, p.sha)
	if p.fork {
		fork := r.s.repository(r)
		fork["id"], fork["full_name"], fork["fork"] = r.id+1_000_000, "mallory/fork", true
		end["repo"], end["label"] = fork, "mallory:"+p.head
	}
	return end
}

// orNull is a time, or null for none.
func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// pullSimple is a pull request as lists show it.
func (r *Repository) pullSimple(p *pull) doc {
	self, issue := fmt.Sprintf("%s/pulls/%d", r.api(), p.number), fmt.Sprintf("%s/issues/%d", r.api(), p.number)
	web := fmt.Sprintf("%s/pull/%d", r.web(), p.number)
	d := doc{
		"id": p.id, "node_id": fmt.Sprintf("PR_%d", p.id), "number": p.number, "state": p.state, "locked": false, "draft": false,
		"title": p.title, "body": p.body, "user": r.s.user(p.author), "author_association": "MEMBER",
		"url": self, "html_url": web, "diff_url": web + ".diff", "patch_url": web + ".patch", "issue_url": issue,
		"commits_url": self + "/commits", "comments_url": issue + "/comments", "statuses_url": r.api() + "/statuses/" + p.sha,
		"review_comments_url": self + "/comments", "review_comment_url": self + "/comments{/number}",
		"created_at": p.created, "updated_at": p.updated, "closed_at": orNull(p.closed), "merged_at": nil, "merge_commit_sha": nil,
		"head": r.headOf(p), "base": r.end(p.base, r.refs[p.base]), "labels": r.labelsOf(p),
		"assignee": nil, "assignees": []doc{}, "milestone": nil, "auto_merge": nil,
		"requested_reviewers": []doc{}, "requested_teams": []doc{},
	}
	if p.merged {
		d["merged_at"], d["merge_commit_sha"] = p.closed, p.revision
	}
	related := doc{}
	for name, url := range map[string]string{
		"self": "url", "html": "html_url", "issue": "issue_url", "comments": "comments_url", "commits": "commits_url",
		"statuses": "statuses_url", "review_comments": "review_comments_url", "review_comment": "review_comment_url",
	} {
		related[name] = doc{"href": d[url]}
	}
	d["_links"] = related
	return d
}

// pull is a pull request as it is shown alone: with whether it can be merged.
func (r *Repository) pull(p *pull) doc {
	d := r.pullSimple(p)
	maps.Copy(d, doc{
		"merged": p.merged, "mergeable": nil, "mergeable_state": "unknown", "rebaseable": nil, "merged_by": nil,
		"additions": 0, "deletions": 0, "changed_files": 1, "commits": 1, "comments": len(r.remarks(p)), "review_comments": 0,
		"maintainer_can_modify": false,
	})
	if p.merged {
		d["merged_by"] = r.s.user(p.author)
	}
	if p.state != "open" {
		return d
	}
	if _, clean, err := r.mergeTree(p); err == nil {
		d["mergeable"], d["mergeable_state"] = clean, "clean"
		if !clean {
			d["mergeable_state"] = "dirty"
		} else if r.protected[p.base] != "" {
			d["mergeable_state"] = "blocked"
		}
	}
	return d
}

func (r *Repository) issue(p *pull) doc {
	self := fmt.Sprintf("%s/issues/%d", r.api(), p.number)
	return doc{
		"id": p.id, "node_id": fmt.Sprintf("I_%d", p.id), "number": p.number, "state": p.state, "locked": false, "title": p.title,
		"body": p.body, "user": r.s.user(p.author), "labels": r.labelsOf(p), "assignee": nil, "assignees": []doc{}, "milestone": nil,
		"comments": len(r.remarks(p)), "created_at": p.created, "updated_at": p.updated, "closed_at": orNull(p.closed), "author_association": "MEMBER",
		"url": self, "html_url": fmt.Sprintf("%s/pull/%d", r.web(), p.number), "repository_url": r.api(),
		"comments_url": self + "/comments", "events_url": self + "/events", "labels_url": self + "/labels{/name}",
		"pull_request": doc{
			"url": fmt.Sprintf("%s/pulls/%d", r.api(), p.number), "html_url": fmt.Sprintf("%s/pull/%d", r.web(), p.number),
			"diff_url": fmt.Sprintf("%s/pull/%d.diff", r.web(), p.number), "patch_url": fmt.Sprintf("%s/pull/%d.patch", r.web(), p.number),
		},
	}
}

func (r *Repository) label(l label) doc {
	return doc{
		"id": l.id, "node_id": fmt.Sprintf("LA_%d", l.id), "name": l.name, "description": l.description, "color": l.color, "default": false,
		"url": r.api() + "/labels/" + url.PathEscape(l.name),
	}
}

func (r *Repository) labelsOf(p *pull) []doc {
	list := []doc{}
	for _, l := range r.labelled(p) {
		list = append(list, r.label(l))
	}
	return list
}

// association is how a user stands to the repositories; Apps are nobody's members.
func (s *Server) association(who identity) string {
	if who.kind == "Bot" || s.outside[who.login] {
		return "NONE"
	}
	return "MEMBER"
}

func (r *Repository) comment(m *comment) doc {
	return doc{
		"id": m.id, "node_id": fmt.Sprintf("IC_%d", m.id), "body": m.body, "user": r.s.user(m.author), "author_association": r.s.association(m.author),
		"url": fmt.Sprintf("%s/issues/comments/%d", r.api(), m.id), "issue_url": fmt.Sprintf("%s/issues/%d", r.api(), m.number),
		"html_url": fmt.Sprintf("%s/pull/%d#issuecomment-%d", r.web(), m.number, m.id), "created_at": m.created, "updated_at": m.updated,
	}
}

func (r *Repository) status(commit string) func(*status) doc {
	return func(st *status) doc {
		var target any
		if st.targetURL != "" {
			target = st.targetURL
		}
		return doc{
			"id": st.id, "node_id": fmt.Sprintf("SC_%d", st.id), "state": st.state, "context": st.context, "description": st.description,
			"target_url": target, "url": r.api() + "/statuses/" + commit, "avatar_url": r.s.URL + "/avatars/" + st.creator.login,
			"creator": r.s.user(st.creator), "created_at": st.created, "updated_at": st.created,
		}
	}
}

func (r *Repository) deployment(d *deployment) doc {
	self := fmt.Sprintf("%s/deployments/%d", r.api(), d.id)
	payload := d.payload
	if payload == nil {
		payload = ""
	}
	return doc{
		"id": d.id, "node_id": fmt.Sprintf("DE_%d", d.id), "sha": d.sha, "ref": d.ref, "task": d.task, "environment": d.environment,
		"description": d.description, "payload": payload, "creator": r.s.user(d.creator), "url": self, "statuses_url": self + "/statuses",
		"repository_url": r.api(), "created_at": d.created, "updated_at": d.created,
	}
}

func (r *Repository) deploymentStatus(d *deployment) func(*deploymentStatus) doc {
	self := fmt.Sprintf("%s/deployments/%d", r.api(), d.id)
	return func(st *deploymentStatus) doc {
		return doc{
			"id": st.id, "node_id": fmt.Sprintf("DES_%d", st.id), "state": st.state, "description": st.description,
			"environment": d.environment, "environment_url": st.environmentURL, "target_url": "", "log_url": "",
			"creator": r.s.user(st.creator), "url": fmt.Sprintf("%s/statuses/%d", self, st.id), "deployment_url": self,
			"repository_url": r.api(), "created_at": st.created, "updated_at": st.created,
		}
	}
}
