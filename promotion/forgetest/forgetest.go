// Package forgetest is the suite that every promotion.Forge must pass.
//
// Call Run from a test of the forge. The suite works on a real repository,
// with a fresh one for each of its tests, and uses plain Git (through gitrepo)
// for what people do beside the forge.
package forgetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// Client is a forge under test and the repository that it is the host of.
type Client struct {
	Forge      promotion.Forge
	Repository *gitrepo.Repository
}

// Remote is a fresh repository and its forge. The branch has one commit with a
// file README at least, and there is no pull request.
type Remote struct {
	Branch string
	// Connect makes a client; the suite calls it several times, and the clients
	// share nothing but the remote.
	Connect func(t *testing.T) Client
	// GuardsTarget: Merge honours MergeSpec.Target, if only by a look right before.
	GuardsTarget bool
	// Statuses tells what the forge shows of a commit, the newest of each context.
	Statuses func(t *testing.T, commit string) []promotion.Status
	// Deployments tells what the forge shows of deployments, one each for an
	// environment, a component and a revision, in the order in which they were
	// first recorded. nil: the forge has none.
	Deployments func(t *testing.T) []promotion.Deployment
}

// Run runs the suite; fresh makes the remote of one test.
func Run(t *testing.T, fresh func(t *testing.T) Remote) {
	tests := map[string]func(*testing.T, *bench){
		"Open":                   testOpen,
		"OpenIsIdempotent":       testOpenIsIdempotent,
		"UpdateInPlace":          testUpdateInPlace,
		"OpenGuardsTheBranch":    testOpenGuardsTheBranch,
		"ConcurrentOpens":        testConcurrentOpens,
		"ConcurrentNumbers":      testConcurrentNumbers,
		"CloseAndOpenAgain":      testCloseAndOpenAgain,
		"NotFound":               testNotFound,
		"Merge":                  testMerge,
		"MergeGuardsTheHead":     testMergeGuardsTheHead,
		"MergeGuardsTheTarget":   testMergeGuardsTheTarget,
		"MergeKeepsOtherChanges": testMergeKeepsOtherChanges,
		"MergeConflict":          testMergeConflict,
		"MergeOnce":              testMergeOnce,
		"MergedWithPlainGit":     testMergedWithPlainGit,
		"BranchDeleted":          testBranchDeleted,
		"PushedToByHand":         testPushedToByHand,
		"Statuses":               testStatuses,
		"StatusesStayBehind":     testStatusesStayBehind,
		"List":                   testList,
		"Traffic":                testTraffic,
		"Comment":                testComment,
		"CommentWhateverState":   testCommentWhateverState,
		"Deploy":                 testDeploy,
		"Announce":               testAnnounce,
		"AnnounceOvertaken":      testAnnounceOvertaken,
		"Automation":             testAutomation,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			remote := fresh(t)
			test(t, &bench{T: t, remote: remote, Client: remote.Connect(t)})
		})
	}
}

// bench is one test's view of its remote.
type bench struct {
	*testing.T
	Client
	remote Remote
}

func (b *bench) ctx() context.Context { return b.Context() }

// refs reads the remote's branches.
func (b *bench) refs() map[string]string {
	b.Helper()
	refs, err := b.Repository.FetchRefs(b.ctx(), "refs/heads/*")
	require.NoError(b, err)
	return refs
}

func (b *bench) target() string {
	b.Helper()
	return b.refs()["refs/heads/"+b.remote.Branch]
}

// commit makes a local commit on top of another, which changes files.
func (c Client) commit(t *testing.T, parent string, files map[string]string) string {
	t.Helper()
	edit := gitrepo.Edit{Message: "Change files", Write: map[string][]byte{}}
	for name, data := range files {
		edit.Write[name] = []byte(data)
	}
	hash, err := c.Repository.WriteCommit([]string{parent}, parent, edit)
	require.NoError(t, err)
	return hash
}

// push moves a ref of the remote with plain Git.
func (b *bench) push(branch, old, new string) {
	b.Helper()
	err := b.Repository.Push(b.ctx(), []gitrepo.RefUpdate{{Name: "refs/heads/" + branch, Old: old, New: new}})
	require.NoError(b, err)
}

// file reads a file of the target branch, "" when it has none.
func (b *bench) file(name string) string {
	b.Helper()
	snapshot, err := b.Repository.Snapshot(b.target())
	require.NoError(b, err)
	if _, ok := snapshot.Hash(name); !ok {
		return ""
	}
	data, err := snapshot.ReadFile(name)
	require.NoError(b, err)
	return string(data)
}

// spec is a pull request of component c to staging.
func (b *bench) spec(component, head string) promotion.Spec {
	return promotion.Spec{
		Branch: promotion.BranchName("staging", component), Target: b.remote.Branch, Head: head,
		Title: "Promote " + component + " to staging", Body: "Evidence about `" + component + "`.\n",
		Environment: "staging", Components: []string{component}, Labels: []string{"sluice/promotion"},
	}
}

// open opens a pull request of a component, whose file becomes content.
func (b *bench) open(component, content string) promotion.PullRequest {
	b.Helper()
	head := b.commit(b.T, b.target(), map[string]string{component: content})
	p, err := b.Forge.Open(b.ctx(), b.spec(component, head))
	require.NoError(b, err)
	return p
}

func (b *bench) get(number int) promotion.PullRequest {
	b.Helper()
	p, err := b.Forge.Get(b.ctx(), number)
	require.NoError(b, err)
	return p
}

func (b *bench) list(o promotion.ListOptions) []promotion.PullRequest {
	b.Helper()
	list, err := b.Forge.List(b.ctx(), o)
	require.NoError(b, err)
	return list
}

func numbers(list []promotion.PullRequest) []int {
	out := []int{}
	for _, p := range list {
		out = append(out, p.Number)
	}
	return out
}

func testOpen(t *testing.T, b *bench) {
	head := b.commit(t, b.target(), map[string]string{"api": "1"})
	spec := b.spec("api", head)
	p, err := b.Forge.Open(t.Context(), spec)
	require.NoError(t, err)

	assert.Positive(t, p.Number)
	for _, got := range append(b.list(promotion.ListOptions{}), p, b.get(p.Number)) {
		assert.Equal(t, p.Number, got.Number)
		assert.Equal(t, spec.Title, got.Title)
		assert.Equal(t, spec.Body, got.Body)
		assert.Equal(t, promotion.Open, got.State)
		assert.Equal(t, spec.Branch, got.Branch)
		assert.Equal(t, spec.Target, got.Target)
		assert.Equal(t, head, got.Head)
		assert.Equal(t, "staging", got.Environment)
		assert.Equal(t, []string{"api"}, got.Components)
		assert.Contains(t, got.Labels, "sluice/promotion")
		assert.False(t, got.CreatedAt.IsZero())
		assert.Empty(t, got.MergedRevision)
	}
	assert.Equal(t, head, b.refs()["refs/heads/"+spec.Branch], "the branch is pushed")
	assert.Empty(t, b.file("api"), "the target is as it was")
}

func testOpenIsIdempotent(t *testing.T, b *bench) {
	p := b.get(b.open("api", "1").Number) // with the times after all that opening writes
	spec := b.spec("api", p.Head)
	for _, old := range []string{"", p.Head} {
		spec.OldHead = old
		again, err := b.Forge.Open(t.Context(), spec)
		require.NoError(t, err)
		assert.Equal(t, p.Number, again.Number)
		assert.Equal(t, p.UpdatedAt, again.UpdatedAt, "nothing was written")
	}
	assert.Len(t, b.list(promotion.ListOptions{}), 1)
}

func testUpdateInPlace(t *testing.T, b *bench) {
	p := b.open("api", "1")
	spec := b.spec("api", b.commit(t, b.target(), map[string]string{"api": "2"}))
	spec.OldHead, spec.Title, spec.Body = p.Head, "Another title", "Another body.\n"
	updated, err := b.Forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, p.Number, updated.Number)

	got := b.get(p.Number)
	assert.Equal(t, spec.Head, got.Head)
	assert.Equal(t, "Another title", got.Title)
	assert.Equal(t, "Another body.\n", got.Body)
	assert.Equal(t, promotion.Open, got.State)
	assert.Len(t, b.list(promotion.ListOptions{}), 1)
}

func testOpenGuardsTheBranch(t *testing.T, b *bench) {
	p := b.open("api", "1")
	spec := b.spec("api", b.commit(t, b.target(), map[string]string{"api": "2"}))
	for name, old := range map[string]string{"was not there": "", "was elsewhere": b.target()} {
		spec.OldHead = old
		_, err := b.Forge.Open(t.Context(), spec)
		require.ErrorIs(t, err, promotion.ErrHeadMoved, name)
	}
	assert.Equal(t, p.Head, b.get(p.Number).Head)
}

func testConcurrentOpens(t *testing.T, b *bench) {
	const writers = 20
	target := b.target()
	results := make([]promotion.PullRequest, writers)
	errs := make([]error, writers)
	clients := make([]Client, writers)
	heads := make([]string, writers)
	for i := range writers {
		clients[i] = b.remote.Connect(t)
		_, err := clients[i].Repository.FetchRefs(t.Context(), "refs/heads/*")
		require.NoError(t, err)
		heads[i] = clients[i].commit(t, target, map[string]string{"api": "1"})
	}
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			results[i], errs[i] = clients[i].Forge.Open(t.Context(), b.spec("api", heads[i]))
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			// Another commit was there first; nothing else may go wrong.
			require.ErrorIs(t, err, promotion.ErrHeadMoved)
			continue
		}
		assert.Equal(t, b.list(promotion.ListOptions{})[0].Number, results[i].Number)
	}
	assert.Len(t, b.list(promotion.ListOptions{}), 1, "there is one pull request")
}

func testConcurrentNumbers(t *testing.T, b *bench) {
	const writers = 8
	target := b.target()
	results := make([]promotion.PullRequest, writers)
	errs := make([]error, writers)
	var group sync.WaitGroup
	for i := range writers {
		client := b.remote.Connect(t)
		_, err := client.Repository.FetchRefs(t.Context(), "refs/heads/*")
		require.NoError(t, err)
		component := fmt.Sprintf("api-%d", i)
		spec := b.spec(component, client.commit(t, target, map[string]string{component: "1"}))
		group.Go(func() { results[i], errs[i] = client.Forge.Open(t.Context(), spec) })
	}
	group.Wait()
	seen := map[int]bool{}
	for i := range writers {
		require.NoError(t, errs[i])
		assert.False(t, seen[results[i].Number], "number %d is given twice", results[i].Number)
		seen[results[i].Number] = true
	}
	assert.Len(t, b.list(promotion.ListOptions{State: promotion.Open}), writers)
}

func testCloseAndOpenAgain(t *testing.T, b *bench) {
	p := b.open("api", "1")
	require.NoError(t, b.Forge.Close(t.Context(), p.Number, "overtaken by 3f2a"))
	require.NoError(t, b.Forge.Close(t.Context(), p.Number, "again"), "closing is idempotent")

	closed := b.get(p.Number)
	assert.Equal(t, promotion.Closed, closed.State)
	assert.Equal(t, "overtaken by 3f2a", closed.Reason)
	_, err := b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrClosed)

	spec := b.spec("api", p.Head)
	spec.OldHead = b.refs()["refs/heads/"+spec.Branch]
	again, err := b.Forge.Open(t.Context(), spec)
	require.NoError(t, err)
	assert.Greater(t, again.Number, p.Number, "a closed one is not revived")
	assert.Equal(t, promotion.Open, b.get(again.Number).State)
	assert.Equal(t, promotion.Closed, b.get(p.Number).State)
	assert.Equal(t, []int{again.Number}, numbers(b.list(promotion.ListOptions{State: promotion.Open})))
}

func testNotFound(t *testing.T, b *bench) {
	b.open("api", "1")
	for _, number := range []int{-1, 0, 4711} {
		_, err := b.Forge.Get(t.Context(), number)
		require.ErrorIs(t, err, promotion.ErrNotFound)
		require.ErrorIs(t, b.Forge.Close(t.Context(), number, "no"), promotion.ErrNotFound)
		_, err = b.Forge.Merge(t.Context(), number, promotion.MergeSpec{Head: b.target()})
		require.ErrorIs(t, err, promotion.ErrNotFound)
	}
}

func testMerge(t *testing.T, b *bench) {
	p := b.open("api", "1")
	before := b.target()
	revision, err := b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{
		Head: p.Head, Target: before, Message: "Merge it\n\nSluice-Override: none",
	})
	require.NoError(t, err)
	assert.Equal(t, revision, b.target())
	assert.Equal(t, "1", b.file("api"))

	snapshot, err := b.Repository.Snapshot(revision)
	require.NoError(t, err)
	commit := snapshot.Commit()
	assert.Equal(t, []string{before, p.Head}, commit.Parents)
	assert.Contains(t, commit.Message, "Merge it\n\nSluice-Override: none")

	merged := b.get(p.Number)
	assert.Equal(t, promotion.Merged, merged.State)
	assert.Equal(t, revision, merged.MergedRevision)
	assert.Empty(t, b.list(promotion.ListOptions{State: promotion.Open}))
	require.ErrorIs(t, b.Forge.Close(t.Context(), p.Number, "too late"), promotion.ErrClosed)
}

func testMergeGuardsTheHead(t *testing.T, b *bench) {
	p := b.open("api", "1")
	before := b.target()
	spec := b.spec("api", b.commit(t, before, map[string]string{"api": "2"}))
	spec.OldHead = p.Head
	_, err := b.Forge.Open(t.Context(), spec)
	require.NoError(t, err)

	_, err = b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrHeadMoved)
	assert.Equal(t, before, b.target(), "nothing was merged")
	assert.Equal(t, promotion.Open, b.get(p.Number).State)
}

func testMergeGuardsTheTarget(t *testing.T, b *bench) {
	p := b.open("api", "1")
	before := b.target()
	after := b.commit(t, before, map[string]string{"web": "1"})
	b.push(b.remote.Branch, before, after)

	_, err := b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head, Target: before})
	if !b.remote.GuardsTarget {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, promotion.ErrTargetMoved)
	assert.Equal(t, after, b.target(), "nothing was merged")
	_, err = b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head, Target: after})
	require.NoError(t, err)
}

func testMergeKeepsOtherChanges(t *testing.T, b *bench) {
	p := b.open("api", "1")
	before := b.target()
	b.push(b.remote.Branch, before, b.commit(t, before, map[string]string{"web": "1", "README": "changed\n"}))
	_, err := b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.NoError(t, err)
	assert.Equal(t, "1", b.file("api"))
	assert.Equal(t, "1", b.file("web"))
	assert.Equal(t, "changed\n", b.file("README"))
}

func testMergeConflict(t *testing.T, b *bench) {
	p := b.open("api", "1")
	before := b.target()
	after := b.commit(t, before, map[string]string{"api": "2"})
	b.push(b.remote.Branch, before, after)

	_, err := b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrMergeConflict)
	assert.Equal(t, after, b.target(), "nothing was merged")
	assert.Equal(t, promotion.Open, b.get(p.Number).State)
}

func testMergeOnce(t *testing.T, b *bench) {
	const writers = 8
	p := b.open("api", "1")
	revisions := make([]string, writers)
	errs := make([]error, writers)
	var group sync.WaitGroup
	for i := range writers {
		client := b.remote.Connect(t)
		group.Go(func() {
			revisions[i], errs[i] = client.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
		})
	}
	group.Wait()
	merged := 0
	for i, err := range errs {
		if err != nil {
			require.ErrorIs(t, err, promotion.ErrClosed)
			continue
		}
		merged++
		assert.Equal(t, b.target(), revisions[i])
	}
	assert.Equal(t, 1, merged)
}

func testMergedWithPlainGit(t *testing.T, b *bench) {
	p := b.open("api", "1")
	before := b.target()
	merge, err := b.Repository.WriteCommit([]string{before, p.Head}, before, gitrepo.Edit{
		Message: "Merge by hand", Write: map[string][]byte{"api": []byte("1")},
	})
	require.NoError(t, err)
	b.push(b.remote.Branch, before, merge)
	b.push(b.remote.Branch, merge, b.commit(t, merge, map[string]string{"web": "1"}))

	got := b.get(p.Number)
	assert.Equal(t, promotion.Merged, got.State)
	assert.Equal(t, merge, got.MergedRevision)
	assert.Empty(t, b.list(promotion.ListOptions{State: promotion.Open}))
	_, err = b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrClosed)

	next := b.spec("api", b.commit(t, b.target(), map[string]string{"api": "2"}))
	next.OldHead = p.Head
	again, err := b.Forge.Open(t.Context(), next)
	require.NoError(t, err)
	assert.Greater(t, again.Number, p.Number)
	assert.Equal(t, promotion.Merged, b.get(p.Number).State, "what was merged stays merged")
}

func testBranchDeleted(t *testing.T, b *bench) {
	p := b.open("api", "1")
	b.push(p.Branch, p.Head, "")
	assert.Equal(t, promotion.Closed, b.get(p.Number).State)
	assert.Equal(t, []int{p.Number}, numbers(b.list(promotion.ListOptions{State: promotion.Closed})))

	again := b.open("api", "1")
	assert.Greater(t, again.Number, p.Number)
	assert.Equal(t, promotion.Closed, b.get(p.Number).State)
}

func testPushedToByHand(t *testing.T, b *bench) {
	p := b.open("api", "1")
	head := b.commit(t, p.Head, map[string]string{"api": "evil"})
	b.push(p.Branch, p.Head, head)

	got := b.get(p.Number)
	assert.Equal(t, promotion.Open, got.State)
	assert.Equal(t, head, got.Head, "the head is where the branch is")
	_, err := b.Forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrHeadMoved)

	spec := b.spec("api", p.Head)
	spec.OldHead = head
	_, err = b.Forge.Open(t.Context(), spec)
	require.NoError(t, err, "the branch is taken back")
	assert.Equal(t, p.Head, b.get(p.Number).Head)
}

func testStatuses(t *testing.T, b *bench) {
	p := b.open("api", "1")
	soak := promotion.Status{Context: "sluice/soak", State: promotion.StatusPending, Description: "until 12:00"}
	scope := promotion.Status{Context: "sluice/scope", State: promotion.StatusSuccess, Description: "only the digest"}
	require.NoError(t, b.Forge.SetStatuses(t.Context(), p.Head, []promotion.Status{soak, scope}))
	assert.Equal(t, []promotion.Status{scope, soak}, b.get(p.Number).Statuses)

	soak.State, soak.Description = promotion.StatusSuccess, "soaked"
	for range 2 {
		require.NoError(t, b.Forge.SetStatuses(t.Context(), p.Head, []promotion.Status{soak}))
		assert.Equal(t, []promotion.Status{scope, soak}, b.get(p.Number).Statuses)
	}
	require.NoError(t, b.Forge.SetStatuses(t.Context(), b.target(), []promotion.Status{scope}), "of any commit")
	err := b.Forge.SetStatuses(t.Context(), "4711471147114711471147114711471147114711", []promotion.Status{scope})
	require.ErrorIs(t, err, promotion.ErrNotFound)
}

func testStatusesStayBehind(t *testing.T, b *bench) {
	p := b.open("api", "1")
	ok := promotion.Status{Context: "sluice/scope", State: promotion.StatusSuccess, Description: "only the digest"}
	require.NoError(t, b.Forge.SetStatuses(t.Context(), p.Head, []promotion.Status{ok}))
	b.push(p.Branch, p.Head, b.commit(t, p.Head, map[string]string{"api": "evil"}))
	assert.Empty(t, b.get(p.Number).Statuses, "another head has none of them")
}

// A change of traffic stands beside a promotion of the same component: neither takes the
// other's place, and each can be merged and closed.
func testTraffic(t *testing.T, b *bench) {
	promoted := b.open("api", "1")
	spec := b.spec("api", b.commit(t, b.target(), map[string]string{"traffic": "90"}))
	spec.Branch, spec.Title, spec.Labels = promotion.TrafficBranch("staging", "api"), "Set traffic", []string{"sluice/traffic"}
	shifted, err := b.Forge.Open(t.Context(), spec)
	require.NoError(t, err)
	require.NotEqual(t, promoted.Number, shifted.Number)
	require.Equal(t, "sluice/traffic/staging/api", shifted.Branch)
	require.Equal(t, "staging", shifted.Environment)
	require.Equal(t, []string{"api"}, shifted.Components)

	spec.OldHead, spec.Head = spec.Head, b.commit(t, b.target(), map[string]string{"traffic": "80"})
	again, err := b.Forge.Open(t.Context(), spec)
	require.NoError(t, err)
	require.Equal(t, shifted.Number, again.Number, "it is renewed in place")
	for kind, want := range map[promotion.Kind][]int{promotion.KindTraffic: {shifted.Number}, promotion.KindPromotion: {promoted.Number}, "": {shifted.Number, promoted.Number}} {
		list, err := b.Forge.List(t.Context(), promotion.ListOptions{Kind: kind, State: promotion.Open})
		require.NoError(t, err)
		require.Equal(t, want, numbers(list), kind)
	}
	_, err = b.Forge.Merge(t.Context(), shifted.Number, promotion.MergeSpec{Head: spec.Head, Target: b.target()})
	require.NoError(t, err)
	require.Equal(t, "80", b.file("traffic"))
	require.Equal(t, promotion.Merged, b.get(shifted.Number).State)
	require.Equal(t, promotion.Open, b.get(promoted.Number).State)
}

func testList(t *testing.T, b *bench) {
	api := b.open("api", "1")
	web := b.open("web", "1")
	spec := b.spec("api", b.commit(t, b.target(), map[string]string{"api": "3", "db": "3"}))
	spec.Branch = promotion.BranchName("production", promotion.AllComponents)
	spec.Environment, spec.Components = "production", []string{"db", "api"}
	all, err := b.Forge.Open(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, b.Forge.Close(t.Context(), web.Number, "withdrawn"))

	tests := []struct {
		name string
		o    promotion.ListOptions
		want []int
	}{
		{"all, newest first", promotion.ListOptions{}, []int{all.Number, web.Number, api.Number}},
		{"open", promotion.ListOptions{State: promotion.Open}, []int{all.Number, api.Number}},
		{"closed", promotion.ListOptions{State: promotion.Closed}, []int{web.Number}},
		{"merged", promotion.ListOptions{State: promotion.Merged}, []int{}},
		{"environment", promotion.ListOptions{Environment: "staging"}, []int{web.Number, api.Number}},
		{"component", promotion.ListOptions{Component: "api"}, []int{all.Number, api.Number}},
		{"one of several components", promotion.ListOptions{Component: "db"}, []int{all.Number}},
		{"branch", promotion.ListOptions{Branch: api.Branch}, []int{api.Number}},
		{"nothing", promotion.ListOptions{Component: "api", Environment: "development"}, []int{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, numbers(b.list(tt.o))) })
	}
}

func (b *bench) announcer() promotion.Announcer {
	b.Helper()
	announcer, ok := b.Forge.(promotion.Announcer)
	require.True(b, ok, "every forge is an Announcer")
	return announcer
}

func testComment(t *testing.T, b *bench) {
	p := b.open("api", "1")
	a := b.announcer()
	require.NoError(t, a.Comment(t.Context(), p.Number, "live/staging", "It is **live**.\n"))
	require.NoError(t, a.Comment(t.Context(), p.Number, "live/production", "Waiting.\n"))
	want := []promotion.Comment{{Key: "live/production", Body: "Waiting.\n"}, {Key: "live/staging", Body: "It is **live**.\n"}}
	before := b.get(p.Number)
	assert.Equal(t, want, before.Comments)
	assert.Equal(t, p.Body, before.Body, "the body is another thing")

	// By another process as well: the comment is replaced, and not repeated.
	again := b.remote.Connect(t).Forge.(promotion.Announcer)
	for range 2 {
		require.NoError(t, again.Comment(t.Context(), p.Number, "live/staging", "It has failed.\n\n<!-- sluice:live/production -->\n"))
		want[1].Body = "It has failed.\n\n<!-- sluice:live/production -->\n"
		assert.Equal(t, want, b.get(p.Number).Comments)
	}

	require.ErrorIs(t, a.Comment(t.Context(), 4711, "live/staging", "no"), promotion.ErrNotFound)
	require.ErrorIs(t, a.Comment(t.Context(), 0, "live/staging", "no"), promotion.ErrNotFound)
	for _, key := range []string{"", "-->", "a b", "A", "a\nb"} {
		require.Error(t, a.Comment(t.Context(), p.Number, key, "no"), "key %q", key)
	}
	assert.Equal(t, want, b.get(p.Number).Comments)
}

func testCommentWhateverState(t *testing.T, b *bench) {
	merged, closed := b.open("api", "1"), b.open("web", "1")
	_, err := b.Forge.Merge(t.Context(), merged.Number, promotion.MergeSpec{Head: merged.Head})
	require.NoError(t, err)
	require.NoError(t, b.Forge.Close(t.Context(), closed.Number, "overtaken"))
	for _, p := range []promotion.PullRequest{b.get(merged.Number), b.get(closed.Number)} {
		require.NoError(t, b.announcer().Comment(t.Context(), p.Number, "live", "It is live."))
		after := b.get(p.Number)
		require.Len(t, after.Comments, 1)
		assert.Equal(t, "It is live.", after.Comments[0].Body)
		assert.Equal(t, p.State, after.State)
		assert.Equal(t, p.Reason, after.Reason)
		assert.Equal(t, p.MergedRevision, after.MergedRevision)
	}
}

func testDeploy(t *testing.T, b *bench) {
	a := b.announcer()
	first := promotion.Deployment{
		Environment: "staging", Component: "api", Revision: b.target(), State: promotion.DeploymentInProgress, Description: "rolling out",
	}
	if b.remote.Deployments == nil {
		require.ErrorIs(t, a.Deploy(t.Context(), first), promotion.ErrUnsupported)
		return
	}
	require.NoError(t, a.Deploy(t.Context(), first))
	first.State, first.Description, first.URL = promotion.DeploymentSuccess, "all are ready", "https://api.example.com/"
	web := promotion.Deployment{Environment: "staging", Component: "web", Revision: b.target(), State: promotion.DeploymentFailure, Description: "no image"}
	for range 2 {
		require.NoError(t, a.Deploy(t.Context(), first))
		require.NoError(t, a.Deploy(t.Context(), web))
	}
	next := first
	next.Revision = b.commit(t, b.target(), map[string]string{"api": "2"})
	b.push(b.remote.Branch, b.target(), next.Revision)
	next.State = promotion.DeploymentFailure
	require.NoError(t, a.Deploy(t.Context(), next))
	assert.Equal(t, []promotion.Deployment{first, web, next}, b.remote.Deployments(t))

	next.Revision = "4711471147114711471147114711471147114711"
	require.ErrorIs(t, a.Deploy(t.Context(), next), promotion.ErrNotFound)
}
