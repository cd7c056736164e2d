package promotion_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/local"
)

// automatic is a shop whose production is promoted to automatically, and is well.
func automatic(t *testing.T) *shop {
	t.Helper()
	s := newShop(t, "")
	s.write("sluice.yaml", strings.Replace(s.file(s.main(), "sluice.yaml"), "    from: staging\n", "    from: staging\n    auto: true\n", 1))
	for _, component := range []string{"api", "web"} {
		s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, build(component, "a")) })
		s.health.ready("production", component, digest("a"), now.Add(-time.Hour))
	}
	return s
}

func (s *shop) advance() promotion.Advance {
	s.Helper()
	a, err := s.service.Advance(s.Context(), "production")
	require.NoError(s, err)
	require.NoError(s, errors.Join(a.Failures...))
	return a
}

// step is what automation says about a component.
func step(a promotion.Advance, component string) string {
	for _, s := range a.Steps {
		if s.Component == component {
			return s.Message
		}
	}
	return "nothing"
}

func (s *shop) pulls() []promotion.PullRequest {
	s.Helper()
	list, err := s.service.List(s.Context(), promotion.ListOptions{})
	require.NoError(s, err)
	return list
}

func TestAdvance(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	rests := s.advance()
	assert.Equal(t, "nothing newer is in staging", step(rests, "web"))
	assert.Zero(t, rests.Until)

	s.record("web", "b")
	s.health.ready("staging", "web", digest("b"), now.Add(-10*time.Minute))
	soaks := s.advance()
	assert.Equal(t, "ready in staging since 2026-11-21T11:50:00Z, awaited until 2026-11-21T12:20:00Z", step(soaks, "web"))
	assert.Equal(t, now.Add(20*time.Minute), soaks.Until, "nobody has to ask before")
	assert.Empty(t, s.pulls(), "it is proposed when it has soaked")

	s.health.ready("staging", "web", digest("b"), now.Add(-30*time.Minute))
	soaked := s.advance()
	assert.Equal(t, []int{1}, soaked.Merged)
	assert.Contains(t, s.file(s.main(), "environments/production/web/kustomization.yaml"), digest("b"))
	before := s.refs()
	assert.Equal(t, "nothing newer is in staging", step(s.advance(), "web"))
	assert.Equal(t, before, s.refs(), "at rest nothing is written")
}

// TestAdvanceStopsAfterAFailure: what failed in the target is left to a person or a
// newer build, also after the person has gone back.
func TestAdvanceStopsAfterAFailure(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("web", "b")
	s.record("web", "c")
	s.deploy("web", "b", "")
	s.health.fails("production", "web", digest("b"), "not ready within 5m")
	assert.Equal(t, "production has failed: not ready within 5m: a build made since, or a person, goes on", step(s.advance(), "web"))
	assert.Empty(t, s.pulls())

	s.deploy("web", "a", "")
	s.health.ready("production", "web", digest("a"), now)
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", "web", digest("b"), "", false)
	})
	s.health.ready("staging", "web", digest("b"), now.Add(-time.Hour))
	assert.Equal(t, "production has had bbbbbbbbbbbb: going back to it, or past it, is for a person", step(s.advance(), "web"))
	assert.Empty(t, s.pulls())

	s.health.fails("production", "web", digest("a"), "not ready within 5m")
	fix := build("web", "d")
	fix.CreatedAt = now.Add(time.Minute)
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, fix) })
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", "web", digest("d"), "", false)
	})
	s.health.ready("staging", "web", digest("d"), now.Add(-time.Hour))
	assert.Equal(t, []int{1}, s.advance().Merged, "a newer build goes on")
}

// TestAdvanceGoesByWhatIsDeployedNow: that the target was ready with the digest before
// its last merge says nothing of the digest that this brought.
func TestAdvanceGoesByWhatIsDeployedNow(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("web", "b")
	require.Equal(t, []int{1}, s.advance().Merged)
	s.record("web", "c")
	a := s.advance() // the controller has not looked at the merge yet
	assert.Empty(t, a.Merged)
	assert.Equal(t, "production does not run bbbbbbbbbbbb yet", step(a, "web"))

	// It has, and failed before anything of it ran; c was built before that merge.
	s.health.fails("production", "web", digest("a"), "it does not render")
	assert.Equal(t, "production does not run bbbbbbbbbbbb yet", step(s.advance(), "web"), "what failed may have been a")
	s.health.seen("production", "web", s.main())
	assert.Equal(t, "production has failed: it does not render: a build made since, or a person, goes on", step(s.advance(), "web"))

	s.health.ready("production", "web", digest("b"), now)
	assert.Equal(t, []int{2}, s.advance().Merged)
}

func (h *health) seen(environment, component, revision string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	report := h.reports[environment+"/"+component]
	report.Revision = revision
	h.reports[environment+"/"+component] = report
}

func (h *health) fails(environment, component, digest, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reports[environment+"/"+component] = promotion.HealthReport{Known: true, Failed: true, Digests: []string{digest}, Message: message}
}

// TestAdvanceAwaits: whatever keeps automation from merging is said on the pull
// request; a forged status hurries nothing.
func TestAdvanceAwaits(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("api", "b")
	s.health.ready("staging", "api", digest("b"), now)
	p := s.propose(toProduction).PullRequest // by a person, before the soak is over
	forged := []promotion.Status{{Context: "sluice/soak", State: promotion.StatusSuccess}, {Context: "sluice/auto", State: promotion.StatusSuccess}}
	require.NoError(t, s.forge.SetStatuses(t.Context(), p.Head, forged))
	assert.Empty(t, s.advance().Merged)
	auto := func() promotion.Status {
		for _, status := range s.get(p.Number).Statuses {
			if status.Context == promotion.ContextAuto {
				return status
			}
		}
		return promotion.Status{}
	}
	assert.Equal(t, promotion.Status{Context: "sluice/auto", State: promotion.StatusPending,
		Description: "awaits: soak pending: ready in staging since 2026-11-21T12:00:00Z, awaited until 2026-11-21T12:30:00Z"}, auto())

	s.health.ready("staging", "api", digest("b"), now.Add(-time.Hour))
	s.health.fails("production", "api", digest("a"), "0/2 pods")
	assert.Empty(t, s.advance().Merged)
	assert.Contains(t, auto().Description, "awaits: production has failed: 0/2 pods")

	s.health.ready("production", "api", digest("a"), now)
	assert.Equal(t, []int{p.Number}, s.advance().Merged)
}

// TestAdvanceMergesNothingElse: what somebody makes of a pull request by hand is not
// merged, nor is one that goes back.
func TestAdvanceMergesNothingElse(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("api", "b")
	p := s.propose(toProduction).PullRequest
	s.pushed(p, map[string]string{"environments/production/api/base/config.env": "CACHE_ADDR=evil\n"})
	s.write("environments/development/web/notes.txt", "x\n")
	s.health.ready("staging", "api", digest("b"), now) // it is not proposed anew, and so not put right
	assert.Empty(t, s.advance().Merged)

	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, build("web", "c")) })
	s.record("web", "b")
	s.deploy("web", "c", "")
	back := s.propose(promotion.Request{Components: []string{"web"}, To: "production"})
	require.Empty(t, promotion.Unmet(back.Gates))
	assert.Empty(t, s.advance().Merged)
	assert.Equal(t, promotion.Open, s.get(back.PullRequest.Number).State)
}

func TestAdvanceOnlyWhereItIsAsked(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("web", "b")
	s.health.ready("production", "web", digest("a"), now.Add(-time.Hour))
	a := s.advance()
	assert.Empty(t, a.Steps)
	assert.Empty(t, s.pulls())

	s.propose(promotion.Request{Components: []string{"web"}, To: "production"})
	a = s.advance()
	assert.Empty(t, a.Merged, "merging is for people here")
	assert.Len(t, a.Tended, 1)
	text, _, _ := strings.Cut(s.file(s.main(), "sluice.yaml"), "- name: production")
	s.write("sluice.yaml", text)
	assert.Equal(t, "main has no environment production any more", s.advance().Tended[0].Closed)
}

func TestAdvanceLeavesWithdrawnOnes(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("web", "b")
	request := promotion.Request{Components: []string{"web"}, To: "production"}
	require.NoError(t, s.service.Close(t.Context(), s.propose(request).PullRequest.Number, "not today"))
	assert.Equal(t, "pull request #1 was closed: a newer build, or a person, goes on", step(s.advance(), "web"))
	s.propose(request)
	assert.Equal(t, []int{2}, s.advance().Merged)
}

// TestAdvanceAtTheSameTime: controllers that think they lead at the same time make
// one pull request and merge it once.
func TestAdvanceAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("web", "b")
	var group sync.WaitGroup
	var mu sync.Mutex
	merged := 0
	for range 4 {
		_, _, service := s.connect()
		group.Go(func() {
			a, err := service.Advance(t.Context(), "production")
			mu.Lock()
			defer mu.Unlock()
			merged += len(a.Merged)
			assert.NoError(t, err)
		})
	}
	group.Wait()
	assert.Equal(t, 1, merged)
	assert.Len(t, s.pulls(), 1)
	assert.Contains(t, s.file(s.main(), "environments/production/web/kustomization.yaml"), digest("b"))
}

// wentTo is a shop that was promoted from a to b, and whose staging has had c since.
func wentTo(t *testing.T) (s *shop, back promotion.Request) {
	t.Helper()
	s = automatic(t)
	s.record("web", "b")
	require.Equal(t, []int{1}, s.advance().Merged)
	s.health.ready("production", "web", digest("b"), now)
	s.record("web", "c")
	return s, promotion.Request{Components: []string{"web"}, To: "production", Digest: digest("a"), Back: true}
}

// TestAdvanceLeavesAnOpenRollback: what somebody proposes to go back by is not made a
// promotion, though the two have one branch.
func TestAdvanceLeavesAnOpenRollback(t *testing.T) {
	t.Parallel()
	s, back := wentTo(t)
	p := s.propose(back).PullRequest
	require.Equal(t, "Roll back web in production: aaaaaaaaaaaa", p.Title)
	a := s.advance()
	assert.Empty(t, a.Merged)
	assert.Equal(t, "pull request #2 goes back in production: it is for a person to merge or to close", step(a, "web"))
	assert.Equal(t, p.Head, s.get(p.Number).Head)

	require.NoError(t, s.service.Close(t.Context(), p.Number, "b is mended"))
	assert.Len(t, s.advance().Merged, 1, "then it goes on")
}

// onClosed is a forge on which something happens when closed pull requests are listed.
type onClosed struct {
	*local.Forge
	do func()
}

func (f onClosed) List(ctx context.Context, o promotion.ListOptions) ([]promotion.PullRequest, error) {
	if o.State == promotion.Closed {
		f.do()
	}
	return f.Forge.List(ctx, o)
}

// TestRollbackWhileAutomationDecides: nor is one that was opened after automation had
// looked.
func TestRollbackWhileAutomationDecides(t *testing.T) {
	t.Parallel()
	s, back := wentTo(t)
	_, _, person := s.connect()
	var once sync.Once
	a := s.advanceWhile(func() {
		once.Do(func() {
			_, err := person.Propose(t.Context(), back)
			assert.NoError(t, err)
		})
	})
	assert.ErrorContains(t, errors.Join(a.Failures...), "it goes back in production, which automation leaves alone")
	assert.Empty(t, a.Merged)
	assert.Equal(t, "Roll back web in production: aaaaaaaaaaaa", s.get(2).Title)
}

// TestClosedWhileAutomationDecides: nor is one opened again, and merged, that a person
// closed after automation had looked.
func TestClosedWhileAutomationDecides(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("web", "b")
	p := s.propose(promotion.Request{Components: []string{"web"}, To: "production"}).PullRequest
	_, _, person := s.connect()
	var once sync.Once
	a := s.advanceWhile(func() {
		once.Do(func() { assert.NoError(t, person.Close(t.Context(), p.Number, "not today")) })
	})
	assert.ErrorContains(t, errors.Join(a.Failures...), "it is not open any more, and automation looks again")
	assert.Empty(t, a.Merged)
	assert.Equal(t, "pull request #1 was closed: a newer build, or a person, goes on", step(s.advance(), "web"))
	assert.Len(t, s.pulls(), 1)
}

// advanceWhile lets automation decide, and something happen when it looks at the
// pull requests that are closed.
func (s *shop) advanceWhile(do func()) promotion.Advance {
	s.Helper()
	service := promotion.New(promotion.Options{Repository: s.repo, Forge: onClosed{s.forge, do}, Branch: "main", Health: s.health, Decrypt: keyless,
		Now: func() time.Time { return now }})
	a, err := service.Advance(s.Context(), "production")
	require.NoError(s, err)
	return a
}

// TestAdvanceThatOutlastsTheSoak: a soak that ends while the forge is being asked is
// awaited still, as nothing else has its build looked at again.
func TestAdvanceThatOutlastsTheSoak(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("web", "b")
	s.health.ready("staging", "web", digest("b"), now.Add(-29*time.Minute))
	var late atomic.Bool
	service := promotion.New(promotion.Options{Repository: s.repo, Forge: onClosed{s.forge, func() { late.Store(true) }}, Branch: "main",
		Health: s.health, Decrypt: keyless, Now: func() time.Time {
			if late.Load() {
				return now.Add(time.Hour)
			}
			return now
		}})
	a, err := service.Advance(t.Context(), "production")
	require.NoError(t, err)
	assert.Equal(t, "ready in staging since 2026-11-21T11:31:00Z, awaited until 2026-11-21T12:01:00Z", step(a, "web"))
	assert.Equal(t, now.Add(time.Minute), a.Until)
}

// TestAdvanceAfterABuildOfTheFuture: a record that claims to be made in a year, and
// runs in the target, keeps no later build from being promoted.
func TestAdvanceAfterABuildOfTheFuture(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	future := build("web", "b")
	future.CreatedAt = now.AddDate(1, 0, 0)
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, future) })
	s.deploy("web", "b", "")
	s.health.ready("production", "web", digest("b"), now.Add(-time.Hour))
	next := build("web", "c")
	next.CreatedAt = now.Add(30 * time.Second)
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, next) })
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", "web", next.Digest, "", false)
	})
	s.health.ready("staging", "web", next.Digest, now.Add(-time.Hour))
	assert.Equal(t, []int{1}, s.advance().Merged)
	assert.Contains(t, s.file(s.main(), "environments/production/web/kustomization.yaml"), next.Digest)
}

// TestNothingIsPromotedOntoACommitThatIsNotVouchedFor: whoever pushes after the branch
// was vouched for has nothing merged or committed on top of that.
func TestNothingIsPromotedOntoACommitThatIsNotVouchedFor(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("web", "b")
	s.propose(promotion.Request{Components: []string{"web"}, To: "production"})
	signed := s.main()
	s.record("api", "b") // by somebody who does not sign
	before := s.main()
	guarded := s.service.OnlyOnto(func(_ context.Context, revision string) error {
		if revision == signed {
			return nil
		}
		return errors.New("nobody signed it")
	})
	a, err := guarded.Advance(t.Context(), "production")
	require.NoError(t, err)
	err = errors.Join(a.Failures...)
	assert.ErrorContains(t, err, "merging pull request #1 onto "+before[:12]+": nobody signed it")
	assert.ErrorContains(t, err, "promoting to production: on top of "+before[:12]+": nobody signed it")
	assert.Empty(t, a.Merged)
	assert.Len(t, s.pulls(), 1)
	assert.Equal(t, before, s.main())

	signed = before
	a, err = guarded.Advance(t.Context(), "production")
	require.NoError(t, err)
	assert.Equal(t, []int{2}, a.Merged, "onto the merge nothing is merged until it is vouched for, too")
}

// TestARevertIsFinal: automation does not go on to what a person went back from,
// however often traffic is set since.
func TestARevertIsFinal(t *testing.T) {
	t.Parallel()
	s := automatic(t)
	s.record("api", "b")
	s.deploy("api", "b", "green")
	s.deploy("api", "a", "green")
	s.health.ready("production", "api", digest("a"), now)
	const reverted = "production has had bbbbbbbbbbbb: going back to it, or past it, is for a person"
	require.Equal(t, reverted, step(s.advance(), "api"))

	before := s.main()
	head := before
	for i := range 120 {
		traffic := fmt.Sprintf("apiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {blue: %d, green: %d}\n", 100-i%2, i%2)
		var err error
		head, err = s.repo.WriteCommit([]string{head}, head, gitrepo.Edit{Message: "Set traffic", Write: map[string][]byte{"environments/production/api/traffic.yaml": []byte(traffic)}})
		require.NoError(t, err)
	}
	require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/main", Old: before, New: head}}))
	assert.Equal(t, reverted, step(s.advance(), "api"))
	assert.Empty(t, s.pulls())
}
