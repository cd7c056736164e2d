package promotion_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// accepted is a write that somebody was told had succeeded.
type accepted struct {
	what     string
	revision string // of main; "" when nothing had to be written
	file     string // what it wrote there, and a part of it
	content  string
}

// writer does random things to a shop through a mirror of its own.
type writer struct {
	*shop
	id      int
	random  *rand.Rand
	repo    *gitrepo.Repository
	service *promotion.Service
	builds  int
	log     []accepted
	errs    []error
}

// TestInterleavings lets several writers do random things at the same time.
// Whatever the order was: nothing that was accepted is lost, the project is
// valid at every commit, and no branch has two open pull requests.
func TestInterleavings(t *testing.T) {
	const writers, steps, limit = 4, 12, 8 * time.Second
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := newShop(t, "")
	s.record("api", "b")
	s.record("web", "b")
	all := make([]*writer, writers)
	var group sync.WaitGroup
	start := time.Now()
	for i := range all {
		w := &writer{shop: s, id: i, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		w.repo, _, w.service = s.connect()
		all[i] = w
		group.Go(func() {
			for range steps {
				if time.Since(start) > limit {
					return
				}
				w.step()
			}
		})
	}
	group.Wait()

	var log []accepted
	for _, w := range all {
		assert.NoError(t, errors.Join(w.errs...))
		log = append(log, w.log...)
	}
	require.NotEmpty(t, log)
	head := s.main()
	for _, write := range log {
		if write.revision == "" {
			continue
		}
		kept, err := s.repo.IsAncestor(write.revision, head)
		require.NoError(t, err)
		assert.True(t, kept, "%s is in the history", write.what)
		if write.file != "" {
			assert.Contains(t, s.file(write.revision, write.file), write.content, write.what)
		}
	}
	s.validAtEveryCommit(head)
	s.pullRequestsAgree(head)
	out, err := exec.Command("git", "-C", s.dir, "fsck", "--strict", "--no-dangling").CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// validAtEveryCommit decodes every release at every commit of main.
func (s *shop) validAtEveryCommit(head string) {
	s.Helper()
	commits := 0
	for at := head; at != ""; commits++ {
		snapshot, err := s.repo.Snapshot(at)
		require.NoError(s, err)
		repo, err := envrepo.Open(snapshot)
		require.NoError(s, err)
		for _, environment := range repo.Project().Environments {
			for _, name := range []string{"api", "web"} {
				_, err := repo.Release(environment.Name, name)
				assert.NoError(s, err, at)
			}
		}
		at = ""
		if parents := snapshot.Commit().Parents; len(parents) > 0 {
			at = parents[0]
		}
	}
	s.Logf("%d commits", commits)
}

// pullRequestsAgree checks the pull requests against the branches and main.
func (s *shop) pullRequestsAgree(head string) {
	s.Helper()
	list, err := s.service.List(s.Context(), promotion.ListOptions{})
	require.NoError(s, err)
	refs, err := s.repo.FetchRefs(s.Context(), "refs/heads/sluice/promote/*")
	require.NoError(s, err)
	open := map[string]int{}
	numbers := map[int]bool{}
	for _, p := range list {
		assert.False(s, numbers[p.Number])
		numbers[p.Number] = true
		switch p.State {
		case promotion.Open:
			open[p.Branch]++
			assert.Equal(s, p.Head, refs["refs/heads/"+p.Branch])
		case promotion.Merged:
			kept, err := s.repo.IsAncestor(p.MergedRevision, head)
			require.NoError(s, err)
			assert.True(s, kept, "#%d is in the history", p.Number)
		case promotion.Closed:
			assert.NotEmpty(s, p.Reason)
		}
	}
	for branch, n := range open {
		assert.Equal(s, 1, n, branch)
	}
	assert.Len(s, list, len(numbers))
	s.Logf("%d pull requests, %d open", len(list), len(open))
}

func (w *writer) accept(write accepted, err error) {
	// A refusal is fine, it was not accepted; only these may come of a race.
	var gates *promotion.GatesError
	var idle *envrepo.IdleTagError
	var inUse *envrepo.TagInUseError
	switch {
	case err == nil:
		w.log = append(w.log, write)
	case errors.As(err, &gates), errors.As(err, &idle), errors.As(err, &inUse),
		errors.Is(err, promotion.ErrClosed), errors.Is(err, promotion.ErrHeadMoved), errors.Is(err, promotion.ErrMergeConflict):
	default:
		w.errs = append(w.errs, fmt.Errorf("%s: %w", write.what, err))
	}
}

func (w *writer) step() {
	component := []string{"api", "web"}[w.random.IntN(2)]
	switch w.random.IntN(8) {
	case 0, 1:
		w.build(component)
	case 2:
		r := promotion.Request{Components: []string{component}, To: "production"}
		if w.random.IntN(3) == 0 {
			r = promotion.Request{All: true, To: "production"}
		}
		_, err := w.service.Propose(w.Context(), r)
		w.accept(accepted{what: "proposing"}, err)
	case 3:
		w.onOne(func(p promotion.PullRequest) {
			merged, err := w.service.Merge(w.Context(), p.Number, promotion.MergeOptions{Override: "testing"})
			w.accept(accepted{what: fmt.Sprintf("merging #%d", p.Number), revision: merged.Revision}, err)
		})
	case 4:
		w.traffic()
	case 5:
		w.rollBack(component)
	case 6:
		w.onOne(func(p promotion.PullRequest) {
			err := w.service.Close(w.Context(), p.Number, "withdrawn")
			w.accept(accepted{what: fmt.Sprintf("closing #%d", p.Number)}, err)
		})
	case 7:
		w.onOne(w.mergeByHand)
	}
}

// mergeByHand merges as people do, on a forge's page or with Git: nobody is asked, and
// who comes too late has not merged.
func (w *writer) mergeByHand(p promotion.PullRequest) {
	refs, err := w.repo.FetchRefs(w.Context(), "refs/heads/main", "refs/heads/"+p.Branch)
	main, head := refs["refs/heads/main"], refs["refs/heads/"+p.Branch]
	if err != nil || head == "" {
		w.accept(accepted{what: "looking"}, err)
		return
	}
	changes, _, err := promotion.Compare(w.repo, main, head)
	if err != nil || len(changes.Conflicts) > 0 || len(changes.Take) == 0 {
		w.accept(accepted{what: "comparing"}, err)
		return
	}
	edit := gitrepo.Edit{Message: "Merge by hand", Write: map[string][]byte{}}
	files, err := w.repo.Snapshot(head)
	if err != nil {
		w.accept(accepted{what: "reading"}, err)
		return
	}
	for _, name := range changes.Take {
		edit.Write[name], err = files.ReadFile(name)
		assert.NoError(w, err)
	}
	merged, err := w.repo.WriteCommit([]string{main, head}, main, edit)
	if err == nil {
		err = w.repo.Push(w.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/main", Old: main, New: merged}})
	}
	if !errors.Is(err, gitrepo.ErrConflict) {
		w.accept(accepted{what: fmt.Sprintf("merging #%d by hand", p.Number), revision: merged}, err)
	}
}

// rollBack takes staging back to the digest that all began with: at once, or by a
// pull request, which whoever comes upon it may merge.
func (w *writer) rollBack(component string) {
	first := build(component, "b").Digest
	if w.random.IntN(2) == 0 {
		_, err := w.service.Propose(w.Context(), promotion.Request{Components: []string{component}, To: "staging", Digest: first, Back: true})
		w.accept(accepted{what: "proposing a rollback"}, err)
		return
	}
	revision, err := update(w.Context(), w.repo, "", func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Rollback(t, "staging", component, "", first)
	})
	w.accept(accepted{
		what: "rolling back " + component, revision: revision,
		file: "environments/staging/" + component + "/kustomization.yaml", content: first,
	}, err)
}

// build records a build and deploys it to staging.
func (w *writer) build(component string) {
	w.builds++
	b := build(component, "d")
	b.Digest = fmt.Sprintf("sha256:%x%02x%s", w.id, w.builds, strings.Repeat("1", 61))
	revision, err := update(w.Context(), w.repo, "", func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, b) })
	w.accept(accepted{
		what: "recording " + b.ID(), revision: revision, file: "builds/" + component + "/" + b.ID() + ".yaml", content: b.Digest,
	}, err)
	revision, err = update(w.Context(), w.repo, "", func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", component, b.Digest, "", false)
	})
	w.accept(accepted{
		what: "deploying " + b.ID(), revision: revision, file: "environments/staging/" + component + "/kustomization.yaml", content: b.Digest,
	}, err)
	w.health.ready("staging", component, b.Digest, now.Add(-time.Hour))
}

func (w *writer) traffic() {
	blue := w.random.IntN(101)
	revision, err := update(w.Context(), w.repo, "", func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.SetTraffic(t, "production", "api", envrepo.Traffic{
			Weights: []envrepo.Weight{{Tag: "blue", Percent: blue}, {Tag: "green", Percent: 100 - blue}},
		})
	})
	w.accept(accepted{
		what: "setting traffic", revision: revision,
		file: "environments/production/api/traffic.yaml", content: fmt.Sprintf("blue: %d, green: %d", blue, 100-blue),
	}, err)
}

// onOne does something to one of the open pull requests.
func (w *writer) onOne(do func(promotion.PullRequest)) {
	list, err := w.service.List(w.Context(), promotion.ListOptions{State: promotion.Open})
	w.accept(accepted{what: "listing"}, err)
	if len(list) > 0 {
		do(list[w.random.IntN(len(list))])
	}
}
