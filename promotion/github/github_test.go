package github_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/github"
	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// bench is a forge and the server that it talks to.
type bench struct {
	*testing.T
	server *githubtest.Server
	repo   *githubtest.Repository
	forge  *github.Forge
	git    *gitrepo.Repository
	token  string
	told   []string        // progress
	pauses []time.Duration // asked for, and not made
}

func newBench(t *testing.T, change ...func(*github.Options)) *bench {
	t.Helper()
	b := &bench{T: t, server: githubtest.New(t)}
	b.repo = b.server.Create("shop/environments")
	b.repo.Seed()
	b.token = b.server.Token("ada", githubtest.Write)
	o := github.Options{Token: b.token, Progress: func(text string) { b.told = append(b.told, text) }}
	for _, c := range change {
		c(&o)
	}
	b.forge, b.git = connect(t, b.repo, o)
	b.forge.Pauses(&b.pauses)
	return b
}

// spec is a pull request of component api, whose file becomes content.
func (b *bench) spec(content string) promotion.Spec {
	b.Helper()
	refs, err := b.git.FetchRefs(b.Context(), "refs/heads/*")
	require.NoError(b, err)
	main := refs["refs/heads/main"]
	head, err := b.git.WriteCommit([]string{main}, main, gitrepo.Edit{Message: "Promote", Write: map[string][]byte{"api": []byte(content)}})
	require.NoError(b, err)
	branch := promotion.BranchName("staging", "api")
	return promotion.Spec{
		Branch: branch, Target: "main", Head: head, OldHead: refs["refs/heads/"+branch], Title: "Promote api", Body: "Evidence.",
		Environment: "staging", Components: []string{"api"}, Labels: []string{"sluice/promotion"},
	}
}

func (b *bench) open(content string) promotion.PullRequest {
	b.Helper()
	p, err := b.forge.Open(b.Context(), b.spec(content))
	require.NoError(b, err)
	b.server.Requests()
	return p
}

// requests are what was asked since the last call, without the repository.
func (b *bench) requests() []string {
	var list []string
	for _, r := range b.server.Requests() {
		list = append(list, strings.Replace(r.String(), "/repos/shop/environments", "", 1))
	}
	return list
}

// fail expects an error that names the repository, holds a text and gives advice,
// and has no token in it.
func (b *bench) fail(err error, text, hint string) {
	b.Helper()
	require.Error(b, err)
	assert.Contains(b, err.Error(), text)
	assert.Contains(b, err.Error(), "/shop/environments")
	assert.NotContains(b, fmt.Sprintf("%+v %#v", err, err), b.token)
	hinted, ok := err.(interface{ Hint() string })
	require.True(b, ok, "%T has no hint", err)
	assert.Contains(b, hinted.Hint(), hint)
}

// A repetition reads, and writes nothing.
func TestOpenAgainOnlyReads(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("1")
	spec := b.spec("1")
	spec.Head = p.Head
	for _, want := range []string{"GET /pulls 200", "GET /pulls 304"} {
		_, err := b.forge.Open(t.Context(), spec)
		require.NoError(t, err)
		assert.Equal(t, []string{want}, b.requests())
	}
	require.NoError(t, b.forge.SetStatuses(t.Context(), p.Head, []promotion.Status{{Context: "sluice/soak", State: "pending", Description: strings.Repeat("é", 200)}}))
	b.requests()
	require.NoError(t, b.forge.SetStatuses(t.Context(), p.Head, []promotion.Status{{Context: "sluice/soak", State: "pending", Description: strings.Repeat("é", 200)}}))
	assert.Equal(t, []string{"GET /commits/" + p.Head + "/status 200"}, b.requests())
}

func filter(list []string, text string) []string {
	var out []string
	for _, s := range list {
		if strings.Contains(s, text) {
			out = append(out, s)
		}
	}
	return out
}

// What has not changed is not charged for.
func TestUnchangedIsFree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("1")
	first, err := b.forge.Get(t.Context(), p.Number)
	require.NoError(t, err)
	used := b.server.Used()
	for range 3 {
		again, err := b.forge.Get(t.Context(), p.Number)
		require.NoError(t, err)
		assert.Equal(t, first, again)
	}
	assert.Equal(t, used, b.server.Used())
	require.NoError(t, b.forge.Comment(t.Context(), p.Number, "live", "It is live."))
	again, err := b.forge.Get(t.Context(), p.Number)
	require.NoError(t, err)
	assert.Len(t, again.Comments, 1, "what has changed is read")
}

func TestManyPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first := b.open("1")
	require.NoError(t, b.forge.Close(t.Context(), first.Number, "overtaken"))
	b.repo.Crowd(150)
	second := b.open("2")
	for i := range 120 {
		require.NoError(t, b.forge.Comment(t.Context(), second.Number, fmt.Sprint("note/", i), "Noted."))
	}
	b.requests()
	list, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, []int{152, 1}, []int{list[0].Number, list[1].Number}, "newest first, and those of others passed over")
	assert.Equal(t, []string{"GET /pulls 200", "GET /pulls 200"}, b.requests())
	assert.Len(t, must(b.forge.Get(t.Context(), second.Number)).Comments, 120)
}

// What was closed of one component costs no look at all that ever was.
func TestClosedOnesOfAComponent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("1")
	require.NoError(t, b.forge.Close(t.Context(), p.Number, "overtaken"))
	refs, err := b.git.FetchRefs(t.Context(), "refs/heads/main")
	require.NoError(t, err)
	main := refs["refs/heads/main"]
	shared := promotion.Spec{Branch: promotion.BranchName("staging", promotion.AllComponents), Target: "main", Title: "Promote 2", Environment: "staging", Components: []string{"api", "web"}}
	shared.Head, err = b.git.WriteCommit([]string{main}, main, gitrepo.Edit{Message: "Promote", Write: map[string][]byte{"web": []byte("1")}})
	require.NoError(t, err)
	both, err := b.forge.Open(t.Context(), shared)
	require.NoError(t, err)
	require.NoError(t, b.forge.Close(t.Context(), both.Number, "overtaken"))
	b.repo.Crowd(350)
	for component, want := range map[string][]int{"api": {both.Number, p.Number}, "web": {both.Number}} {
		b.requests()
		list, err := b.forge.List(t.Context(), promotion.ListOptions{State: promotion.Closed, Environment: "staging", Component: component})
		require.NoError(t, err)
		var numbers []int
		for _, p := range list {
			numbers = append(numbers, p.Number)
		}
		assert.Equal(t, want, numbers)
		assert.Len(t, b.requests(), 2)
	}
}

func TestServerErrors(t *testing.T) {
	t.Parallel()
	t.Run("reads are tried again", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		b.server.Inject(githubtest.Fault{Method: "GET", Status: 502, Times: 3, Body: "<html>Unicorn</html>"})
		_, err := b.forge.Get(t.Context(), p.Number)
		require.NoError(t, err)
		require.Len(t, b.pauses, 3)
		for i, pause := range b.pauses {
			full := 500 * time.Millisecond << i
			assert.GreaterOrEqual(t, pause, full/2)
			assert.LessOrEqual(t, pause, full)
		}
	})
	t.Run("but not for ever", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		b.server.Inject(githubtest.Fault{Method: "GET", Status: 503})
		_, err := b.forge.Get(t.Context(), p.Number)
		b.fail(err, "reading pull request #1 on 127.0.0.1", "")
		assert.Contains(t, err.Error(), "GitHub failed (503): Service Unavailable")
		assert.Len(t, b.requests(), 4)
	})
	t.Run("an answer that was lost makes no second pull request", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.server.Inject(githubtest.Fault{Method: "POST", Path: regexp.MustCompile(`/pulls$`), Status: 502, Times: 1, After: true})
		p, err := b.forge.Open(t.Context(), b.spec("1"))
		require.NoError(t, err)
		assert.Equal(t, 1, p.Number)
		assert.Equal(t, []string{"POST /pulls 502", "POST /pulls 422"}, filter(b.requests(), "POST /pulls"))
	})
	t.Run("a merge whose answer was lost is a merge", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		b.server.Inject(githubtest.Fault{Method: "PUT", Status: 504, Times: 1, After: true})
		revision, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
		require.NoError(t, err)
		assert.Equal(t, gitOutput(t, b.repo.Dir, "rev-parse", "main"), revision)
	})
	t.Run("a merge that failed is not asked for twice", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		b.server.Inject(githubtest.Fault{Method: "PUT", Status: 500, Times: 1})
		_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
		b.fail(err, "merging pull request #1", "")
		assert.Len(t, filter(b.requests(), "PUT"), 1)
	})
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, func(o *github.Options) { o.Timeout = 50 * time.Millisecond })
		b.server.Inject(githubtest.Fault{Method: "GET", Hang: true})
		_, err := b.forge.List(t.Context(), promotion.ListOptions{})
		b.fail(err, "no answer within 50ms", "check the network")
		assert.Len(t, b.pauses, 3)
	})
	t.Run("the caller gives up", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		b.server.Inject(githubtest.Fault{Method: "GET", Hang: true})
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := b.forge.List(ctx, promotion.ListOptions{})
		require.ErrorIs(t, err, context.Canceled)
		assert.Empty(t, b.pauses)
	})
	t.Run("an endless answer", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.server.Inject(githubtest.Fault{Method: "GET", Status: 200, Body: `[{"title":"` + strings.Repeat("x", 17<<20) + `"}]`})
		_, err := b.forge.List(t.Context(), promotion.ListOptions{})
		b.fail(err, "the answer is longer than 16 MiB", "")
	})
	t.Run("not JSON", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.server.Inject(githubtest.Fault{Method: "GET", Status: 200, Body: `<html>`})
		_, err := b.forge.List(t.Context(), promotion.ListOptions{})
		b.fail(err, "the answer cannot be read", "--github-url")
		assert.Len(t, b.requests(), 1)
	})
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	t.Run("the hour's is used up for long", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		reset := time.Now().Add(30 * time.Minute)
		b.server.Exhaust(0, reset)
		for range 2 {
			_, err := b.forge.List(t.Context(), promotion.ListOptions{})
			b.fail(err, "GitHub's rate limit is used up until "+reset.UTC().Truncate(time.Second).Format(time.RFC3339), "try again then")
		}
		assert.Len(t, b.requests(), 1, "nobody asks until then")
		assert.Empty(t, b.pauses)
	})
	t.Run("the hour is over in a moment", func(t *testing.T) {
		t.Parallel()
		server := githubtest.New(t)
		repo := server.Create("shop/environments")
		repo.Seed()
		forge, _ := connect(t, repo, github.Options{Token: server.Token("ada", githubtest.Write)})
		server.Exhaust(0, time.Now().Add(time.Second))
		list, err := forge.List(t.Context(), promotion.ListOptions{}) // this one does wait
		require.NoError(t, err)
		assert.Empty(t, list)
	})
	t.Run("the hour is nearly over", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.server.Exhaust(0, time.Now().Add(10*time.Second))
		_, err := b.forge.List(t.Context(), promotion.ListOptions{})
		b.fail(err, "GitHub's rate limit is used up", "")
		assert.NotEmpty(t, b.pauses)
		total := time.Duration(0)
		for _, pause := range b.pauses {
			total += pause
		}
		assert.LessOrEqual(t, total, time.Minute, "waiting is bounded, though it helped nothing")
		assert.Regexp(t, `^GitHub's rate limit is used up; waiting until \d\d:\d\d:\d\d UTC$`, b.told[0])
	})
	for name, status := range map[string]int{"as 403": 403, "as 429": 429} {
		t.Run("the secondary one "+name, func(t *testing.T) {
			t.Parallel()
			clock := time.Now()
			b := newBench(t, func(o *github.Options) { o.Now = func() time.Time { return clock } })
			b.forge.PausesMove(&b.pauses, &clock)
			b.server.Throttle("POST", 2, status, 20*time.Second)
			p, err := b.forge.Open(t.Context(), b.spec("1"))
			require.NoError(t, err, "a request that was not carried out is sent again, whole")
			assert.Equal(t, "Promote api", p.Title)
			assert.Equal(t, []time.Duration{21 * time.Second, 21 * time.Second}, b.pauses)
			assert.Contains(t, b.told[0], "GitHub asks to slow down; waiting until")

			b.server.Throttle("GET", 1, status, 10*time.Minute)
			_, err = b.forge.Get(t.Context(), p.Number)
			b.fail(err, "GitHub asks to slow down until "+clock.Add(10*time.Minute).UTC().Format(time.RFC3339), "try again then")
			b.requests()
			_, err = b.forge.Get(t.Context(), p.Number)
			b.fail(err, "GitHub asks to slow down", "")
			assert.Empty(t, b.requests(), "GitHub is left alone until then")
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	t.Run("a token without rights", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		reader, _ := connect(t, b.repo, github.Options{Token: b.server.Token("eve", githubtest.Read)})
		err := reader.SetStatuses(t.Context(), p.Head, []promotion.Status{{Context: "sluice/soak", State: promotion.StatusSuccess}})
		b.fail(err, "the token may not do this: Resource not accessible by personal access token", "contents=write; pull_requests=write")
		b.fail(reader.Close(t.Context(), p.Number, "mine"), "the token may not do this", "")
	})
	t.Run("a token that was revoked", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.server.Inject(githubtest.Fault{Status: 401, Body: `{"message":"Bad credentials, you sent ghp_0123456789abcdefABCDEF"}`})
		_, err := b.forge.List(t.Context(), promotion.ListOptions{})
		b.fail(err, "GitHub does not accept the token: Bad credentials, you sent ***", "set SLUICE_GITHUB_TOKEN anew")
	})
	t.Run("the repository is gone", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		b.repo.Delete()
		_, err := b.forge.Get(t.Context(), p.Number)
		b.fail(err, "Not Found", "check the name of the repository")
		require.NotErrorIs(t, err, promotion.ErrNotFound, "it is not the pull request that is missing")
	})
	t.Run("the repository was renamed", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		b.repo.Rename("shop/deployments")
		got, err := b.forge.Get(t.Context(), p.Number)
		require.NoError(t, err, "reads follow")
		assert.Equal(t, p.Head, got.Head)
		_, err = b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
		b.fail(err, "the repository is now called shop/deployments", "--repo with the repository's new name")
		assert.Equal(t, promotion.Open, got.State)
	})
	t.Run("a redirect to somebody else", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		var asked []string
		elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Header.Get("Authorization"))
		}))
		t.Cleanup(elsewhere.Close)
		b.server.Inject(githubtest.Fault{Status: 301, Header: http.Header{"Location": {elsewhere.URL + "/api/v3/"}}})
		_, err := b.forge.List(t.Context(), promotion.ListOptions{})
		b.fail(err, "a token is not sent to another host", "")
		assert.Empty(t, asked)
	})
	t.Run("the branch is protected", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		b.repo.Protect("main", "At least 1 approving review is required by reviewers with write access.")
		_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
		require.ErrorIs(t, err, promotion.ErrRefused)
		assert.Equal(t, "pull request #1: the forge refuses: At least 1 approving review is required by reviewers with write access.", err.Error())
		assert.Len(t, filter(b.requests(), "PUT"), 1)
	})
	t.Run("something is wrong with what is asked", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.server.Inject(githubtest.Fault{Method: "POST", Path: regexp.MustCompile(`/pulls$`), Status: 422,
			Body: `{"message":"Validation Failed","errors":[{"resource":"PullRequest","field":"base","code":"invalid"},{"resource":"PullRequest","code":"custom","message":"No commits between\n\u001b[31mmain"}]}`})
		_, err := b.forge.Open(t.Context(), b.spec("1"))
		b.fail(err, "opening the pull request of sluice/promote/staging/api", "")
		assert.Contains(t, err.Error(), "GitHub refused (422): Validation Failed; base is invalid; No commits between [31mmain")
	})
}

// Two merge at once and the branch moves under one: GitHub says no more than that
// it cannot be merged, and the second try does it.
func TestMergeLosesARace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("1")
	start := gitOutput(t, b.repo.Dir, "rev-parse", "main")
	moved, commits := false, 0
	b.server.Before("PUT", func() {
		if !moved {
			moved = true
			commits++
			other := gitOutput(t, b.repo.Dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit-tree", start+"^{tree}", "-p", start, "-m", fmt.Sprint("Other ", commits))
			gitOutput(t, b.repo.Dir, "update-ref", "refs/heads/main", other)
			b.server.Inject(githubtest.Fault{Method: "PUT", Status: 405, Times: 1, Body: `{"message":"Base branch was modified. Review and try the merge again."}`})
		}
	})
	_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head, Target: start})
	require.ErrorIs(t, err, promotion.ErrTargetMoved, "who judged by a target is told that it has moved")

	moved = false
	_, err = b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.NoError(t, err)
	assert.Equal(t, promotion.Merged, must(b.forge.Get(t.Context(), p.Number)).State)
}

// What is merged is what was judged, though somebody acts between the look at the pull
// request and the merge: a newer head is refused by GitHub, and a merge into another
// branch, which is not, is no success.
func TestMergeMeetsAnAttacker(t *testing.T) {
	t.Parallel()
	t.Run("another head", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		before := gitOutput(t, b.repo.Dir, "rev-parse", "main")
		b.server.Before("PUT", func() {
			evil := gitOutput(t, b.repo.Dir, "-c", "user.name=Eve", "-c", "user.email=eve@example.com", "commit-tree", p.Head+"^{tree}", "-p", p.Head, "-m", "One more")
			gitOutput(t, b.repo.Dir, "update-ref", "refs/heads/"+p.Branch, evil)
		})
		_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head, Target: before})
		require.ErrorIs(t, err, promotion.ErrHeadMoved)
		assert.Equal(t, before, gitOutput(t, b.repo.Dir, "rev-parse", "main"))
		assert.Len(t, filter(b.requests(), "PUT"), 1, "GitHub was asked, and refused")
	})
	t.Run("another target", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		p := b.open("1")
		before := gitOutput(t, b.repo.Dir, "rev-parse", "main")
		gitOutput(t, b.repo.Dir, "update-ref", "refs/heads/other", before)
		b.server.Before("PUT", func() { b.repo.Retarget(p.Number, "other") })
		_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head, Target: before})
		b.fail(err, "into branch other at that moment, and it was merged there, not into main", "revert ")
		assert.Equal(t, before, gitOutput(t, b.repo.Dir, "rev-parse", "main"))
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// A GitHub App signs in by itself, and its comments are found again though REST does
// not tell it who it is.
func TestApp(t *testing.T) {
	t.Parallel()
	server := githubtest.New(t)
	repo := server.Create("shop/environments")
	repo.Seed()
	app := server.App("sluice", githubtest.Write)
	file := filepath.Join(t.TempDir(), "app.pem")
	require.NoError(t, os.WriteFile(file, app.Key, 0o600))
	o := github.Options{App: &github.App{ID: app.ID, Installation: app.Installation, KeyFile: file}, URL: described(t, server)}
	forge, git := connect(t, repo, o)
	b := &bench{T: t, server: server, repo: repo, forge: forge, git: git, token: "ghs_"}
	p := b.open("1")
	assert.Equal(t, "sluice[bot]", p.Author)
	for _, text := range []string{"Waiting.", "It is live."} {
		require.NoError(t, forge.Comment(t.Context(), p.Number, "live", text))
	}
	assert.Equal(t, []string{"<!-- sluice:live -->\nIt is live."}, repo.Comments(p.Number))

	_, err := git.Fetch(t.Context())
	require.NoError(t, err, "Git signs in with the installation's token")
	server.Rekey(app)
	_, err = git.Fetch(t.Context())
	require.ErrorContains(t, err, "authentication required")
	require.NoError(t, os.WriteFile(file, app.Key, 0o600))
	_, err = git.Fetch(t.Context())
	require.NoError(t, err, "a key that was replaced is read again")
	require.NoError(t, forge.Comment(t.Context(), p.Number, "live", "It is live still."))
	require.NoError(t, os.Remove(file))
	_, err = git.Fetch(t.Context())
	require.ErrorContains(t, err, "reading the App's key")
	b.fail(forge.Comment(t.Context(), p.Number, "live", "It is not."), "reading the App's key", "names the App's .pem file")
	require.NoError(t, os.WriteFile(file, app.Key, 0o600))

	o.App = &github.App{ID: app.ID, Installation: app.Installation + 1, KeyFile: file}
	o.Repository = repo.Name()
	site, err := github.Connect(o)
	require.NoError(t, err)
	_, err = site.Token(t.Context())
	b.fail(err, "signing in as a GitHub App on 127.0.0.1", "check the App's id")

	require.NoError(t, os.WriteFile(file, []byte("-----BEGIN RSA PRIVATE KEY-----\nsecret"), 0o600))
	_, err = github.Connect(o)
	require.ErrorContains(t, err, file+" holds no RSA private key")
	assert.NotContains(t, err.Error(), "secret")
}

// Others may write the same marker: theirs is never edited, and an outsider's is not
// taken for ours.
func TestCommentsOfOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("1")
	eve, _ := connect(t, b.repo, github.Options{Token: b.server.Token("eve", githubtest.Write)})
	require.NoError(t, eve.Comment(t.Context(), p.Number, "live", "All is well."))
	require.NoError(t, b.forge.Comment(t.Context(), p.Number, "live", "It has failed."))
	require.NoError(t, b.forge.Comment(t.Context(), p.Number, "live", "It is live."))
	assert.Equal(t, []string{"<!-- sluice:live -->\nAll is well.", "<!-- sluice:live -->\nIt is live."}, b.repo.Comments(p.Number))

	b.server.Outsider("mallory")
	mallory, _ := connect(t, b.repo, github.Options{Token: b.server.Token("mallory", githubtest.Write)})
	require.NoError(t, mallory.Comment(t.Context(), p.Number, "live", "Nothing to see."))
	assert.Equal(t, []promotion.Comment{{Key: "live", Body: "It is live."}}, must(b.forge.Get(t.Context(), p.Number)).Comments)
}

// Somebody's fork can have a branch of any name: it is no promotion.
func TestPullRequestOfAFork(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("1")
	b.repo.PretendFork(p.Number)
	list, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list)
	_, err = b.forge.Get(t.Context(), p.Number)
	require.ErrorIs(t, err, promotion.ErrNotFound)
	_, err = b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrNotFound)
	require.ErrorIs(t, b.forge.Close(t.Context(), p.Number, "no"), promotion.ErrNotFound)
}

// A pull request that was sent into another branch is set right by the next
// promotion, and not merged before.
func TestRetargeted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("1")
	start := gitOutput(t, b.repo.Dir, "rev-parse", "main")
	gitOutput(t, b.repo.Dir, "update-ref", "refs/heads/other", start)
	b.repo.Retarget(p.Number, "other")
	_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrRefused)
	spec := b.spec("1")
	spec.Head = p.Head
	again, err := b.forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, p.Number, again.Number)
	assert.Equal(t, "main", again.Target)
}

// Options that cannot be used are refused before anything is sent, and never quoted
// where they may hold a secret.
func TestConnect(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		o   github.Options
		err string
	}{
		"no repository":       {github.Options{Repository: "shop", Token: "t"}, `"shop" is not OWNER/NAME`},
		"a path":              {github.Options{Repository: "shop/..", Token: "t"}, "is not OWNER/NAME"},
		"a deep path":         {github.Options{Repository: "shop/a/b", Token: "t"}, "is not OWNER/NAME"},
		"no token":            {github.Options{Repository: "shop/e"}, "there is no token"},
		"two lines":           {github.Options{Repository: "shop/e", Token: "secret\nline"}, "characters that no token has"},
		"no https":            {github.Options{Repository: "shop/e", Token: "t", URL: "http://example.com"}, "is not https"},
		"a password":          {github.Options{Repository: "shop/e", Token: "t", URL: "https://ada:secret@example.com"}, "not a plain URL"},
		"no key":              {github.Options{Repository: "shop/e", App: &github.App{KeyFile: "nothing.pem"}}, "nothing.pem"},
		"a folder for a key":  {github.Options{Repository: "shop/e", App: &github.App{KeyFile: "."}}, "not a key file"},
		"not even an address": {github.Options{Repository: "shop/e", Token: "t", URL: "://"}, "not a plain URL"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := github.Connect(tt.o)
			require.ErrorContains(t, err, tt.err)
			assert.NotContains(t, err.Error(), "secret")
			assert.NotEmpty(t, err.(interface{ Hint() string }).Hint())
		})
	}
	for given, host := range map[string]string{
		"": "github.com", "https://github.com": "github.com", "https://api.github.com/": "github.com", "https://GHE.example.com": "ghe.example.com",
		"https://shop.ghe.com": "shop.ghe.com", "https://api.shop.ghe.com": "shop.ghe.com", "https://api.example.com": "api.example.com", "https://ghe.example.com:8443/api/v3": "ghe.example.com:8443",
	} {
		site, err := github.Connect(github.Options{Repository: "shop/e", Token: "t", URL: given})
		require.NoError(t, err)
		assert.Equal(t, host, site.Host())
		assert.Equal(t, host+"/shop/e", site.String())
	}
}

// The server sends signed events for what happens by Git and by the API.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var mu sync.Mutex
	var events []string
	seen := map[string]bool{}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte("hush"))
		mac.Write(body)
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, "sha256="+hex.EncodeToString(mac.Sum(nil)), r.Header.Get("X-Hub-Signature-256"))
		assert.False(t, seen[r.Header.Get("X-GitHub-Delivery")], "every delivery has an id of its own")
		seen[r.Header.Get("X-GitHub-Delivery")] = true
		var event struct{ Action, Ref, Context string }
		assert.NoError(t, json.Unmarshal(body, &event))
		events = append(events, strings.TrimSpace(r.Header.Get("X-GitHub-Event")+" "+event.Action+event.Ref+event.Context))
	}))
	t.Cleanup(receiver.Close)
	b.repo.Hook(receiver.URL, "hush", "push", "pull_request", "status")
	p := b.open("1")
	require.NoError(t, b.forge.SetStatuses(t.Context(), p.Head, []promotion.Status{{Context: "sluice/soak", State: promotion.StatusSuccess}}))
	_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.NoError(t, err)
	b.server.Delivered()
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{
		"push refs/heads/main", "push refs/heads/sluice/promote/staging/api", "pull_request opened", "status sluice/soak",
		"pull_request closed", "push refs/heads/main", "push refs/heads/sluice/promote/staging/api",
	}, events)
}
