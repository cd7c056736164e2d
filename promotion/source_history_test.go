package promotion_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// servedBefore has the source report that a digest was ready for a time, until it
// was replaced.
func (h *health) servedBefore(environment, component, digest string, length time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	report := h.reports[environment+"/"+component]
	report.Served = append(report.Served, promotion.Served{Digest: digest, Since: now.Add(-length), Until: now})
	h.reports[environment+"/"+component] = report
}

// TestTheSourceMovesOn: a fast source environment does not keep a promotion from
// being merged that has soaked there.
func TestTheSourceMovesOn(t *testing.T) {
	t.Parallel()
	s := newShop(t, "projects/shop")
	s.record("api", "b")
	p := s.propose(toProduction).PullRequest
	s.record("api", "c")
	s.health.servedBefore("staging", "api", digest("b"), 40*time.Minute)
	assert.Empty(t, s.unmet(p.Number))

	again := s.propose(promotion.Request{Components: []string{"api"}, To: "production", Digest: digest("b")})
	assert.Equal(t, p.Head, again.PullRequest.Head)
	assert.Contains(t, again.PullRequest.Body, "Has gone on to `cccccccccccc`. This digest was ready there from 2026-11-21T11:20:00Z to 2026-11-21T12:00:00Z.")
	merged, err := s.service.Merge(t.Context(), p.Number, promotion.MergeOptions{})
	require.NoError(t, err)
	assert.Contains(t, s.file(merged.Revision, "environments/production/api/green/kustomization.yaml"), digest("b"))
}

// TestTheSourceGoesBack: a digest that the source environment has taken back does
// not go on, however long it was ready there.
func TestTheSourceGoesBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.propose(toProduction)
	s.record("api", "c")
	s.health.servedBefore("staging", "api", digest("b"), 40*time.Minute)
	require.Empty(t, s.unmet(1))
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", "api", digest("b"), "", false)
	})
	s.record("api", "d")
	s.health.servedBefore("staging", "api", digest("b"), 40*time.Minute)
	require.NotContains(t, s.unmet(1), "order failed", "c was taken back, b was not")

	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.RecordBuild(t, olderBuild())
	})
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", "api", digest("1"), "", false)
	})
	assert.Contains(t, s.unmet(1), "order failed: staging has 111111111111, not bbbbbbbbbbbb")
}

// olderBuild is older than all others.
func olderBuild() envrepo.Build { return build("api", "1") }
