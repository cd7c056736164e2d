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
	revision string // of main; "" when nothing was to be written there
	onto     string // what it was made on; "": the first parent; revision itself when it had that already
	// files is what it may have changed, each with a part of what it then holds.
	files map[string]string
	head  string // that was merged with git itself
}

// writer does random things to a shop through a mirror of its own, or with git itself
// in a clone of its own.
type writer struct {
	*shop
	clone   clone
	id      int
	random  *rand.Rand
	repo    *gitrepo.Repository
	service *promotion.Service
	builds  int
	log     []accepted
	errs    []error
}

// TestInterleavings lets several writers do random things at the same time, merging
// with git itself among them, of which the service learns by looking only. Whatever the
// order was: nothing that was accepted is lost, and nothing was undone by a write that
// had not seen it; the project is valid at every commit; no branch has two open pull
// requests, and none is open that somebody merged.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	const writers, steps, limit = 4, 16, 12 * time.Second
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := newShop(t, "")
	s.record("api", "b")
	s.record("web", "b")
	s.propose(toProduction)
	s.propose(promotion.Request{Components: []string{"web"}, To: "production"})
	all := make([]*writer, writers)
	var group sync.WaitGroup
	start := time.Now()
	for i := range all {
		w := &writer{shop: s, id: i, random: rand.New(rand.NewPCG(seed, uint64(i))), clone: newClone(t, s.dir, fmt.Sprintf("person%d", i))}
		w.repo, _, w.service = s.connect()
		all[i] = w
		group.Go(func() {
			if i%2 == 0 { // there is something to merge
				w.onOne("api", w.mergeByHand)
			}
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
		if write.revision != "" {
			s.kept(write, head)
		}
	}
	s.validAtEveryCommit(head)
	s.pullRequestsAgree(head, log)
	out, err := exec.Command("git", "-C", s.dir, "fsck", "--strict", "--no-dangling").CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// kept: a write is in the history of main, where it did what it was accepted for and
// nothing else. A write made from files that others had changed since would undo that.
func (s *shop) kept(write accepted, head string) {
	s.Helper()
	kept, err := s.repo.IsAncestor(write.revision, head)
	require.NoError(s, err)
	if !assert.True(s, kept, "%s is in the history", write.what) {
		return
	}
	onto := write.onto
	if onto == "" {
		snapshot, err := s.repo.Snapshot(write.revision)
		require.NoError(s, err)
		onto = snapshot.Commit().Parents[0]
	}
	changed, err := s.repo.Changed(onto, write.revision)
	require.NoError(s, err)
	for _, name := range changed {
		assert.Contains(s, write.files, name, write.what)
	}
	for name, content := range write.files {
		assert.Contains(s, s.file(write.revision, name), content, write.what)
	}
}

// validAtEveryCommit decodes every release at every commit that is in main.
func (s *shop) validAtEveryCommit(head string) {
	s.Helper()
	seen, next := map[string]bool{}, []string{head}
	for len(next) > 0 {
		at := next[0]
		next = next[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
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
		next = append(next, snapshot.Commit().Parents...)
	}
	s.Logf("%d commits", len(seen))
}

// pullRequestsAgree checks the pull requests against the branches, main, and what was
// merged with git itself.
func (s *shop) pullRequestsAgree(head string, log []accepted) {
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
			for _, write := range log {
				assert.NotEqual(s, p.Head, write.head, write.what)
			}
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
	byHand := 0
	for _, write := range log {
		if write.head != "" {
			byHand++
		}
	}
	s.Logf("%d pull requests, %d open, %d merges by hand", len(list), len(open), byHand)
}

// update commits an edit of main.
func (w *writer) update(write accepted, change func(*envrepo.Tree) (envrepo.Summary, error)) {
	changed := false
	revision, err := update(w.Context(), w.repo, "", func(t *envrepo.Tree) (envrepo.Summary, error) {
		summary, err := change(t)
		changed = summary.Changed
		return summary, err
	})
	write.revision = revision
	if !changed {
		write.onto = revision
	}
	w.accept(write, err)
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
	switch w.random.IntN(11) {
	case 0, 1:
		w.build(component)
	case 2:
		w.propose(component)
	case 3, 4:
		w.onOne(component, w.merge)
	case 5:
		w.traffic()
	case 6:
		w.rollBack(component)
	case 7:
		w.onOne(component, func(p promotion.PullRequest) {
			err := w.service.Close(w.Context(), p.Number, "withdrawn")
			w.accept(accepted{what: fmt.Sprintf("closing #%d", p.Number)}, err)
		})
	case 8, 9, 10:
		w.onOne(component, w.mergeByHand)
	}
}

func (w *writer) propose(component string) {
	r := promotion.Request{Components: []string{component}, To: "production"}
	if w.random.IntN(3) == 0 {
		r = promotion.Request{All: true, To: "production"}
	}
	_, err := w.service.Propose(w.Context(), r)
	w.accept(accepted{what: "proposing"}, err)
}

// merge merges through the service, and with it what the head changes.
func (w *writer) merge(p promotion.PullRequest) {
	what := fmt.Sprintf("merging #%d", p.Number)
	merged, err := w.service.Merge(w.Context(), p.Number, promotion.MergeOptions{Override: "testing"})
	if err != nil {
		w.accept(accepted{what: what}, err)
		return
	}
	files, err := w.changed(merged)
	if err != nil {
		w.errs = append(w.errs, fmt.Errorf("%s: %w", what, err))
	}
	w.accept(accepted{what: what, revision: merged.Revision, files: files}, nil)
}

// changed reads the files that a merged head changes, as it has them.
func (w *writer) changed(merged promotion.MergeResult) (map[string]string, error) {
	snapshot, err := w.repo.Snapshot(merged.Revision)
	if err != nil {
		return nil, err
	}
	head := merged.PullRequest.Head
	base, err := w.repo.MergeBase(snapshot.Commit().Parents[0], head)
	if err != nil {
		return nil, err
	}
	names, err := w.repo.Changed(base, head)
	if err != nil {
		return nil, err
	}
	if snapshot, err = w.repo.Snapshot(head); err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range names {
		data, err := snapshot.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files[name] = string(data)
	}
	return files, nil
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
	w.update(accepted{
		what: "rolling back " + component, files: map[string]string{"environments/staging/" + component + "/kustomization.yaml": first},
	}, func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Rollback(t, "staging", component, "", first)
	})
}

// build records a build and deploys it to staging.
func (w *writer) build(component string) {
	w.builds++
	b := build(component, "d")
	b.Digest = fmt.Sprintf("sha256:%x%02x%s", w.id, w.builds, strings.Repeat("1", 61))
	w.update(accepted{what: "recording " + b.ID(), files: map[string]string{
		"builds/" + component + "/" + b.ID() + ".yaml":                  b.Digest,
		"environments/development/" + component + "/kustomization.yaml": "",
	}}, func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, b) })
	w.update(accepted{
		what: "deploying " + b.ID(), files: map[string]string{"environments/staging/" + component + "/kustomization.yaml": b.Digest},
	}, func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", component, b.Digest, "", false)
	})
	w.health.ready("staging", component, b.Digest, now.Add(-time.Hour))
}

func (w *writer) traffic() {
	blue := w.random.IntN(101)
	w.update(accepted{
		what:  "setting traffic",
		files: map[string]string{"environments/production/api/traffic.yaml": fmt.Sprintf("blue: %d, green: %d", blue, 100-blue)},
	}, func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.SetTraffic(t, "production", "api", envrepo.Traffic{
			Weights: []envrepo.Weight{{Tag: "blue", Percent: blue}, {Tag: "green", Percent: 100 - blue}},
		})
	})
}

// onOne does something to one of the open pull requests, and proposes one where there
// is none.
func (w *writer) onOne(component string, do func(promotion.PullRequest)) {
	list, err := w.service.List(w.Context(), promotion.ListOptions{State: promotion.Open})
	w.accept(accepted{what: "listing"}, err)
	if len(list) == 0 {
		w.propose(component)
		return
	}
	do(list[w.random.IntN(len(list))])
}
