package gitea

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/internal/testgitea"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/forgetest"
)

// bench is a repository of the real server with a client, for what only this
// forge does.
type bench struct {
	*testing.T
	server *testgitea.Server
	at     testgitea.Repository
	repo   *gitrepo.Repository
	forge  *Forge
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	s := testgitea.Start(t)
	at := s.Repository(t)
	client := connect(t, s, at, s.Token)
	return &bench{T: t, server: s, at: at, repo: client.Repository, forge: client.Forge.(*Forge)}
}

func (b *bench) main() string {
	b.Helper()
	rev, err := b.repo.Fetch(b.Context())
	require.NoError(b, err)
	return rev
}

func (b *bench) commit(parent, name, content string) string {
	b.Helper()
	hash, err := b.repo.WriteCommit([]string{parent}, parent, gitrepo.Edit{
		Message: "Change " + name, Write: map[string][]byte{name: []byte(content)},
	})
	require.NoError(b, err)
	return hash
}

func (b *bench) spec(component string) promotion.Spec {
	return promotion.Spec{
		Branch: promotion.BranchName("staging", component), Target: "main", Head: b.commit(b.main(), component, "1"),
		Title: "Promote " + component + " to staging", Body: "Evidence.\n", Environment: "staging", Components: []string{component},
	}
}

func (b *bench) open(component string) promotion.PullRequest {
	b.Helper()
	p, err := b.forge.Open(b.Context(), b.spec(component))
	require.NoError(b, err)
	return p
}

// as is a client with another user's token.
func (b *bench) as(token string) forgetest.Client { return connect(b.T, b.server, b.at, token) }

// comments are the bodies of the comments on a pull request.
func (b *bench) comments(number int) []string {
	b.Helper()
	var list []struct{ Body string }
	b.server.Must(b, http.MethodGet, b.at.API("/issues/"+itoa(number)+"/comments"), nil, &list)
	bodies := []string{}
	for _, c := range list {
		bodies = append(bodies, c.Body)
	}
	return bodies
}

func (b *bench) collaborator(permission string, scopes ...string) string {
	b.Helper()
	name, token := b.server.User(b, scopes...)
	b.server.Must(b, http.MethodPut, b.at.API("/collaborators/"+name), map[string]any{"permission": permission}, nil)
	return token
}

var allScopes = []string{"write:repository", "write:issue", "read:user"}

func TestComments(t *testing.T) {
	b := newBench(t)
	p := b.open("api")
	stranger := b.as(b.collaborator("write", allScopes...)).Forge.(*Forge)
	require.NoError(t, stranger.Comment(t.Context(), p.Number, "live/staging", "A stranger's.\n"))
	for range 2 {
		require.NoError(t, b.forge.Comment(t.Context(), p.Number, "live/staging", "On its way.\n"))
	}
	require.NoError(t, b.forge.Comment(t.Context(), p.Number, "live/production", "Another.\n"))
	require.NoError(t, b.forge.Comment(t.Context(), p.Number, "live/staging", "It is live.\n"))
	marker := "<!-- sluice:live/staging -->\n"
	assert.Equal(t, []string{marker + "A stranger's.\n", marker + "It is live.\n", "<!-- sluice:live/production -->\nAnother.\n"}, b.comments(p.Number))

	require.ErrorIs(t, b.forge.Comment(t.Context(), 4711, "k", "x"), promotion.ErrNotFound)
	require.ErrorContains(t, b.forge.Comment(t.Context(), p.Number, "-->", "x"), "cannot be the key of a comment")
}

func TestReasonIsAComment(t *testing.T) {
	b := newBench(t)
	p := b.open("api")
	require.NoError(t, b.forge.Close(t.Context(), p.Number, "overtaken by @everyone"))
	assert.Equal(t, []string{"<!-- sluice:closed -->\nClosed by Sluice: `overtaken by @everyone`\n"}, b.comments(p.Number))
	list, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "overtaken by @everyone", list[0].Reason)
	assert.Equal(t, "Evidence.\n", list[0].Body)
	assert.Equal(t, p.Head, list[0].Head)
	assert.Equal(t, b.server.URL+"/"+b.at.Owner+"/"+b.at.Name+"/pulls/"+itoa(p.Number), list[0].URL)
}

func TestRetargeted(t *testing.T) {
	b := newBench(t)
	p := b.open("api")
	b.server.Must(t, http.MethodPost, b.at.API("/branches"), map[string]any{"new_branch_name": "other", "old_branch_name": "main"}, nil)
	b.server.Must(t, http.MethodPatch, b.at.API("/pulls/"+itoa(p.Number)), map[string]any{"base": "other", "title": "Edited by hand"}, nil)

	_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrRefused)
	require.ErrorContains(t, err, "it merges into other, not main")

	spec := b.spec("api")
	spec.OldHead = p.Head
	again, err := b.forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, p.Number, again.Number, "it is taken back, not made a second time")
	assert.Equal(t, "main", again.Target)
	assert.Equal(t, "Promote api to staging", again.Title)
}

// A protected branch is the forge's rule, and its words are passed on.
func TestProtectedBranch(t *testing.T) {
	b := newBench(t)
	p := b.open("api")
	b.server.Must(t, http.MethodPost, b.at.API("/branch_protections"), map[string]any{"rule_name": "main", "required_approvals": 1}, nil)
	before := b.main()
	_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrRefused)
	assert.ErrorContains(t, err, "approvals")
	assert.Equal(t, before, b.main())
	assert.Contains(t, hint(t, err), p.URL)
}

// Pull requests of people, and of forks whose branch is called like a
// promotion's, are none of ours.
func TestForeignPullRequests(t *testing.T) {
	b := newBench(t)
	b.server.Must(t, http.MethodPost, b.at.API("/contents/notes"), map[string]any{
		"new_branch": "people", "branch": "main", "message": "Notes", "content": "eA==",
	}, nil)
	var made struct{ Number int }
	b.server.Must(t, http.MethodPost, b.at.API("/pulls"), map[string]any{"head": "people", "base": "main", "title": "Notes"}, &made)

	list, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list)
	require.ErrorIs(t, b.forge.Close(t.Context(), made.Number, "no"), promotion.ErrNotFound)
	_, err = b.forge.Merge(t.Context(), made.Number, promotion.MergeSpec{Head: b.main()})
	require.ErrorIs(t, err, promotion.ErrNotFound)
}

// What a person closes on the page is closed; the same content by another way
// does not make it merged.
func TestClosedByHand(t *testing.T) {
	b := newBench(t)
	p := b.open("api")
	b.server.Must(t, http.MethodPatch, b.at.API("/pulls/"+itoa(p.Number)), map[string]any{"state": "closed"}, nil)
	_, err := b.repo.Update(t.Context(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
		return gitrepo.Edit{Message: "The same", Write: map[string][]byte{"api": []byte("1")}}, nil
	})
	require.NoError(t, err)
	got, err := b.forge.Get(t.Context(), p.Number)
	require.NoError(t, err)
	assert.Equal(t, promotion.Closed, got.State)
}

// What is in the target already makes one pull request, and that is merged.
func TestOpenWhatHasLanded(t *testing.T) {
	b := newBench(t)
	spec := b.spec("api")
	_, err := b.repo.Update(t.Context(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
		return gitrepo.Edit{Message: "By hand", Write: map[string][]byte{"api": []byte("1")}}, nil
	})
	require.NoError(t, err)
	p, err := b.forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, promotion.Merged, p.State)
	assert.Equal(t, b.main(), p.MergedRevision)
	list, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, list, 1)
}

// Whoever moved the branch died before it made the pull request.
func TestAbandonedBranch(t *testing.T) {
	b := newBench(t)
	spec := b.spec("api")
	require.NoError(t, b.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: heads + spec.Branch, New: spec.Head}}))
	b.forge.now = func() time.Time { return time.Now().Add(2 * opening) }
	p, err := b.forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, promotion.Open, p.State)
	assert.Equal(t, spec.Head, p.Head)
}

// Two that were made at the same moment become one.
func TestTwins(t *testing.T) {
	b := newBench(t)
	b.server.Must(t, http.MethodPost, b.at.API("/branches"), map[string]any{"new_branch_name": "other", "old_branch_name": "main"}, nil)
	p := b.open("api")
	b.server.Must(t, http.MethodPost, b.at.API("/pulls"), map[string]any{"head": p.Branch, "base": "other", "title": "A twin"}, nil)
	spec := b.spec("api")
	spec.OldHead = p.Head
	again, err := b.forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, p.Number, again.Number)
	list, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, promotion.Closed, list[0].State)
	assert.Equal(t, "made at the same time as #"+itoa(p.Number), list[0].Reason)
	assert.Equal(t, spec.Head, list[1].Head, "the branch is left to the other")
}

func TestSeveralComponents(t *testing.T) {
	b := newBench(t)
	spec := b.spec(promotion.AllComponents)
	spec.Components = []string{"web", "api"}
	p, err := b.forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, []string{"api", "web"}, p.Components)

	b.server.Must(t, http.MethodPatch, b.at.API("/pulls/"+itoa(p.Number)), map[string]any{"body": "Edited by hand"}, nil)
	got, err := b.forge.Get(t.Context(), p.Number)
	require.NoError(t, err)
	assert.Equal(t, "Edited by hand", got.Body)
	assert.Empty(t, got.Components)
	spec.OldHead = p.Head
	again, err := b.forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, "Evidence.\n", again.Body, "what was edited is put right")
	assert.Equal(t, []string{"api", "web"}, again.Components)
}

func TestDeployIsUnsupported(t *testing.T) {
	site, err := Connect(Options{URL: "https://git.example.com", Owner: "shop", Name: "environments", Token: "t"})
	require.NoError(t, err)
	err = site.Forge(nil, "main").Deploy(t.Context(), promotion.Deployment{Environment: "production", Component: "api"})
	require.ErrorIs(t, err, promotion.ErrUnsupported)
	assert.ErrorContains(t, err, "Gitea has no deployments")
}

func TestTokens(t *testing.T) {
	b := newBench(t)
	b.open("api")
	reader := b.collaborator("read", allScopes...)
	scopeless := b.collaborator("write", "read:repository")
	_, outsider := b.server.User(t, allScopes...)
	tests := []struct {
		name, token, cause, remedy string
		call                       func(*Forge) error
	}{
		{"unknown", "0123456789012345678901234567890123456789", "status 401", "unknown or has expired", statusOf(b)},
		{"may only read", reader, "status 403", "write access", statusOf(b)},
		{"without the scope", scopeless, "status 403", "write:repository", statusOf(b)},
		{"may not see it", outsider, "status 404", "the user's access", statusOf(b)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			site, err := Connect(Options{URL: b.server.URL, Owner: b.at.Owner, Name: b.at.Name, Token: tt.token})
			require.NoError(t, err)
			err = tt.call(site.Forge(b.repo, "main"))
			require.ErrorContains(t, err, tt.cause)
			assert.ErrorContains(t, err, b.at.Name, "it names the repository")
			assert.NotContains(t, err.Error(), tt.token)
			assert.Contains(t, hint(t, err), tt.remedy)
		})
	}
}

func statusOf(b *bench) func(*Forge) error {
	head := b.main()
	return func(f *Forge) error {
		return f.SetStatuses(b.Context(), head, []promotion.Status{{Context: "sluice/soak", State: promotion.StatusPending}})
	}
}

// A repository that was renamed answers from another address, which is named
// and not followed.
func TestRenamedAndGone(t *testing.T) {
	b := newBench(t)
	p := b.open("api")
	b.server.Must(t, http.MethodPatch, b.at.API(""), map[string]any{"name": b.at.Name + "-renamed"}, nil)
	err := b.forge.Comment(context.WithoutCancel(t.Context()), p.Number, "k", "x")
	require.Error(t, err)
	assert.Contains(t, hint(t, err), "renamed")

	b.at.Name += "-renamed"
	b.server.Must(t, http.MethodDelete, b.at.API(""), nil, nil)
	v := view{forge: b.forge, target: p.Head, heads: map[string]string{}}
	_, err = b.forge.get(t.Context(), v, p.Number)
	require.Error(t, err)
	require.NotErrorIs(t, err, promotion.ErrNotFound, "it is the repository that is not there")
	assert.Contains(t, hint(t, err), "renamed or deleted")
}

func TestPullRequestsAreOff(t *testing.T) {
	b := newBench(t)
	b.server.Must(t, http.MethodPatch, b.at.API(""), map[string]any{"has_pull_requests": false}, nil)
	_, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.ErrorContains(t, err, "it takes none")
	assert.Contains(t, hint(t, err), "switch pull requests on")
}

func hint(t *testing.T, err error) string {
	t.Helper()
	var h interface{ Hint() string }
	require.ErrorAs(t, err, &h)
	return strings.TrimSpace(h.Hint())
}

// A promotion that is opened right after a merge of the same component stays open: the
// server closes what is open for a branch some time after the branch was deleted, so a
// merge deletes none, whatever the repository's settings say.
func TestOpenRightAfterMerge(t *testing.T) {
	b := newBench(t)
	b.server.Must(t, http.MethodPatch, b.at.API(""), map[string]any{"has_pull_requests": true, "default_delete_branch_after_merge": true}, nil)
	p := b.open("api")
	for i := range 2 {
		revision, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
		require.NoError(t, err)
		spec := promotion.Spec{
			Branch: p.Branch, Target: "main", Head: b.commit(b.main(), "api", itoa(i+2)), OldHead: p.Head,
			Title: "Promote api to staging", Body: "Evidence.\n", Environment: "staging", Components: []string{"api"},
		}
		next, err := b.forge.Open(t.Context(), spec)
		require.NoError(t, err, "the branch is where the merge left it")
		require.Greater(t, next.Number, p.Number)
		require.Equal(t, revision, b.main())
		p = next
	}
	// Closing has the server work through its queue, and deletes the branch.
	require.NoError(t, b.forge.Close(t.Context(), b.open("web").Number, "done"))
	list, err := b.forge.List(t.Context(), promotion.ListOptions{Component: "api"})
	require.NoError(t, err)
	require.Len(t, list, 3)
	assert.Equal(t, promotion.Open, list[0].State)
	for _, merged := range list[1:] {
		assert.Equal(t, promotion.Merged, merged.State)
	}
	refs, err := b.repo.FetchRefs(t.Context(), heads+promotion.BranchPrefix+"*")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{heads + p.Branch: p.Head}, refs)
}

// A forced push to the head between judging and merging: the server's own guard refuses
// what was judged, though the pull request can be merged as it is now.
func TestServerGuardsTheHead(t *testing.T) {
	b := newBench(t)
	p := b.open("api")
	v, err := b.forge.look(t.Context())
	require.NoError(t, err)
	judged, err := b.forge.get(t.Context(), v, p.Number)
	require.NoError(t, err)
	before := b.main()
	forced := b.commit(before, "api", "evil")
	require.NoError(t, b.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: heads + p.Branch, Old: p.Head, New: forced}}))

	for attempt := 0; ; attempt++ {
		answer, err := b.forge.tryMerge(t.Context(), judged, promotion.MergeSpec{Head: judged.Head})
		require.NoError(t, err)
		require.False(t, answer.done)
		if answer.status == http.StatusConflict {
			break
		}
		require.Equal(t, http.StatusMethodNotAllowed, answer.status, "it looks at the new head first")
		require.NoError(t, pause(t.Context(), attempt))
	}
	assert.Equal(t, before, b.main())
	_, err = b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: judged.Head})
	require.ErrorIs(t, err, promotion.ErrHeadMoved)
	_, err = b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: forced})
	require.NoError(t, err, "it was the guard that refused")
}
