package promotion_test

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// deploy pins a digest in production as a person would, past all pull requests, with
// another change to the same file: the content alone would read as merged.
func (s *shop) deploy(component, c, tag string) {
	s.Helper()
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		summary, err := envrepo.Deploy(t, "production", component, digest(c), tag, false)
		if err != nil {
			return summary, err
		}
		name := path.Join("environments/production", component, tag, "kustomization.yaml")
		data, err := fs.ReadFile(t, name)
		if err != nil {
			return summary, err
		}
		return summary, t.WriteFile(name, append([]byte("# by hand\n"), data...))
	})
}

func (s *shop) tend() []promotion.Tended {
	s.Helper()
	list, err := s.service.Tend(s.Context(), []string{"production"})
	require.NoError(s, err)
	return list
}

func TestTendClosesWhatIsOvertaken(t *testing.T) {
	t.Parallel()
	web := promotion.Request{Components: []string{"web"}, To: "production"}
	tests := []struct {
		name    string
		request promotion.Request
		then    func(*shop)
		want    string // reason; "": it stays open
	}{
		{"nothing happens", toProduction, func(*shop) {}, ""},
		{"a newer build got there", web, func(s *shop) { s.deploy("web", "c", "") },
			"overtaken: web is already at cccccccccccc in production, a newer build"},
		{"in the tag", toProduction, func(s *shop) { s.deploy("api", "b", "green") }, "overtaken: api is already at bbbbbbbbbbbb in production"},
		{"a tag that only gets listed", promotion.Request{Components: []string{"api"}, To: "production", Tag: "green", Digest: digest("a")},
			func(*shop) {}, ""},
		{"both", promotion.Request{All: true, To: "production"}, func(s *shop) {
			s.deploy("web", "b", "")
			s.deploy("api", "b", "green")
		}, "overtaken: api is already at bbbbbbbbbbbb in production; web is already at bbbbbbbbbbbb in production"},
		{"the environment is removed", web, func(s *shop) {
			text, _, _ := strings.Cut(s.file(s.main(), "sluice.yaml"), "- name: production")
			s.write("sluice.yaml", text)
		}, "main has no environment production any more"},
		{"the component is removed", web, func(s *shop) {
			s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.Summary{Message: "Remove web", Changed: true}, t.Remove("environments/production/web/kustomization.yaml")
			})
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "")
			s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
				var errs []error
				for _, component := range []string{"web", "api"} {
					for _, c := range []string{"1", "a", "b", "c"} {
						_, err := envrepo.RecordBuild(t, build(component, c))
						errs = append(errs, err)
					}
					_, err := envrepo.Deploy(t, "staging", component, digest("b"), "", false)
					errs = append(errs, err)
				}
				return envrepo.Summary{Message: "Record builds", Changed: true}, errors.Join(errs...)
			})
			number := s.propose(tt.request).PullRequest.Number
			tt.then(s)
			tended := s.tend()
			require.Len(t, tended, 1)
			assert.Equal(t, tt.want, tended[0].Closed)
			require.NoError(t, tended[0].Err)
			p := s.get(number)
			assert.Equal(t, tt.want, p.Reason)
			assert.Equal(t, tt.want == "", p.State == promotion.Open)
		})
	}
}

// TestTendGoesBack: a pull request that takes an older build is not overtaken by
// the newer one that it replaces.
func TestTendGoesBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, build("web", "b")) })
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, build("web", "c")) })
	s.deploy("web", "c", "")
	s.propose(promotion.Request{Components: []string{"web"}, To: "production", Digest: digest("b")})
	assert.Empty(t, s.tend()[0].Closed)
}

func TestTendPublishesAndRests(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	p := s.propose(toProduction).PullRequest
	forged := []promotion.Status{{Context: "sluice/soak", State: promotion.StatusFailure, Description: "never"}}
	require.NoError(t, s.forge.SetStatuses(t.Context(), p.Head, forged))

	assert.Len(t, s.tend()[0].Gates, 7)
	for _, status := range s.get(1).Statuses {
		assert.Equal(t, promotion.StatusSuccess, status.State, status.Context)
	}
	before := s.refs()
	s.tend()
	assert.Equal(t, before, s.refs(), "nothing is written")
}

func (s *shop) refs() map[string]string {
	s.Helper()
	refs, err := s.repo.FetchRefs(s.Context(), "refs/heads/*", "refs/sluice/*")
	require.NoError(s, err)
	return refs
}

// TestTendJudgesTheOthers: one pull request that cannot be judged keeps none of the
// others from it.
func TestTendJudgesTheOthers(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.record("web", "b")
	api := s.propose(toProduction).PullRequest
	s.propose(promotion.Request{Components: []string{"web"}, To: "production"})
	orphan, err := s.repo.WriteCommit(nil, "", gitrepo.Edit{Message: "Nothing in common", Write: map[string][]byte{"a": []byte("b")}})
	require.NoError(t, err)
	require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/" + api.Branch, Old: api.Head, New: orphan}}))

	for _, tended := range s.tend() {
		if tended.PullRequest.Number == api.Number {
			require.ErrorIs(t, tended.Err, promotion.ErrMergeConflict)
		} else {
			assert.Len(t, tended.Gates, 7)
		}
	}
}

func TestWithdrawnAndProposedAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	require.NoError(t, s.service.Close(t.Context(), s.propose(toProduction).PullRequest.Number, "withdrawn"))
	again := s.propose(toProduction)
	assert.Equal(t, "opened pull request #2: Promote api to production: bbbbbbbbbbbb", again.Message)
	assert.Empty(t, promotion.Unmet(again.Gates))
	assert.Equal(t, "withdrawn", s.get(1).Reason)
}

// TestOneAndAllAtOnce: whoever is first, at the end each component has one open
// pull request.
func TestOneAndAllAtOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.record("web", "b")
	requests := []promotion.Request{toProduction, {All: true, To: "production"}}
	errs := make([]error, 8)
	var group sync.WaitGroup
	for i := range errs {
		_, _, service := s.connect()
		group.Go(func() { _, errs[i] = service.Propose(t.Context(), requests[i%2]) })
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	open, err := s.service.List(t.Context(), promotion.ListOptions{State: promotion.Open})
	require.NoError(t, err)
	require.Len(t, open, 1)
	assert.Equal(t, []string{"api", "web"}, open[0].Components)
}
