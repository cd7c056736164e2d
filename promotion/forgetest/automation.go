package forgetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// automatic is a project in the forge's repository that promotes from staging to
// production by itself, and the health of both.
type automatic struct {
	*bench
	service *promotion.Service
	health  map[string]promotion.HealthReport // by environment
	start   time.Time
}

const automaticProject = `apiVersion: sluice.dev/v1alpha1
kind: Project
metadata: {name: shop}
environments:
- name: staging
  namespace: shop-staging
  autoDeploy: true
- name: production
  namespace: shop-production
  promotion: {from: staging, auto: true, gates: {healthy: true, soak: 30m, checks: [trivy], config: true}}
`

// Release is promotion.Health.
func (a *automatic) Release(_ context.Context, environment, _ string) (promotion.HealthReport, error) {
	return a.health[environment], nil
}

func (b *bench) automatic() *automatic {
	b.Helper()
	a := &automatic{bench: b, health: map[string]promotion.HealthReport{}, start: time.Now().Truncate(time.Second).Add(-time.Hour)}
	a.service = promotion.New(promotion.Options{Repository: b.Repository, Forge: b.Forge, Branch: b.remote.Branch, Health: a})
	a.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		summary, err := envrepo.Init(t, "shop", []envrepo.EnvironmentSpec{{Name: "staging"}, {Name: "production"}})
		if err != nil {
			return summary, err
		}
		if err := t.WriteFile("sluice.yaml", []byte(automaticProject)); err != nil {
			return summary, err
		}
		return envrepo.AddComponent(t, envrepo.ComponentSpec{Name: "api", Image: "registry.example.com/shop/api", Port: 8080})
	})
	a.record("a", 0)
	a.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "production", "api", digest("a"), "", false)
	})
	a.ready("production", "a", 0)
	return a
}

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func (a *automatic) edit(change func(*envrepo.Tree) (envrepo.Summary, error)) {
	a.Helper()
	_, err := a.Repository.Update(a.ctx(), a.remote.Branch, func(snapshot *gitrepo.Snapshot) (gitrepo.Edit, error) {
		tree := envrepo.NewTree(snapshot)
		summary, err := change(tree)
		return gitrepo.Edit{Message: summary.Message, Write: tree.Writes(), Delete: tree.Deletes()}, err
	})
	require.NoError(a, err)
}

// record records a build, made some time after the start, which lands in staging.
func (a *automatic) record(c string, after time.Duration) {
	a.Helper()
	a.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.RecordBuild(t, envrepo.Build{
			Component: "api", Image: "registry.example.com/shop/api", Digest: digest(c), CreatedAt: a.start.Add(after),
			Checks: []envrepo.Check{{Name: "trivy", Status: "passed"}},
		})
	})
}

func (a *automatic) ready(environment, c string, after time.Duration) {
	a.health[environment] = promotion.HealthReport{Known: true, Ready: true, Digests: []string{digest(c)}, Since: a.start.Add(after)}
}

// advance has automation look, and returns what it says of the component.
func (a *automatic) advance() (says string, merged []int) {
	a.Helper()
	done, err := a.service.Advance(a.ctx(), "production")
	require.NoError(a, err)
	require.NoError(a, errors.Join(done.Failures...))
	require.Len(a, done.Steps, 1)
	return done.Steps[0].Message, done.Merged
}

// auto is what a pull request says of automation.
func (a *automatic) auto(number int) string {
	a.Helper()
	for _, s := range a.get(number).Statuses {
		if s.Context == promotion.ContextAuto {
			return string(s.State) + ": " + s.Description
		}
	}
	return "nothing"
}

// testAutomation is the way of a build into production without a person: it awaits a
// source that is not well, is proposed and merged when the gates pass, and the next one
// awaits what became of it.
func testAutomation(t *testing.T, b *bench) {
	a := b.automatic()
	a.record("b", time.Minute)
	a.health["staging"] = promotion.HealthReport{Known: true, Digests: []string{digest("b")}, Message: "0/2 pods"}
	says, _ := a.advance()
	assert.Equal(t, "not ready in staging: 0/2 pods", says)
	assert.Empty(t, b.list(promotion.ListOptions{}), "it is not proposed before")

	// By a person it may be: then the pull request says what is awaited.
	proposal, err := a.service.Propose(t.Context(), promotion.Request{Components: []string{"api"}, To: "production"})
	require.NoError(t, err)
	number := proposal.PullRequest.Number
	forged := []promotion.Status{{Context: "sluice/healthy", State: promotion.StatusSuccess}}
	require.NoError(t, b.Forge.SetStatuses(t.Context(), proposal.PullRequest.Head, forged))
	_, merged := a.advance()
	assert.Empty(t, merged)
	assert.Equal(t, "pending: awaits: healthy pending: not ready in staging: 0/2 pods", a.auto(number))

	a.ready("staging", "b", 2*time.Minute)
	_, merged = a.advance()
	assert.Equal(t, []int{number}, merged)
	assert.Equal(t, "success: merges it", a.auto(number))
	overlay := "environments/production/api/kustomization.yaml"
	assert.Contains(t, b.file(overlay), digest("b"))

	// The next build waits for that one to run there, and stops when it fails.
	a.record("c", 3*time.Minute)
	a.ready("staging", "c", 4*time.Minute)
	says, _ = a.advance()
	assert.Equal(t, "production does not run bbbbbbbbbbbb yet", says)
	a.health["production"] = promotion.HealthReport{Known: true, Failed: true, Digests: []string{digest("b")}, Message: "ImagePullBackOff"}
	says, merged = a.advance()
	assert.Equal(t, "production has failed: ImagePullBackOff: a build made since, or a person, goes on", says)
	assert.Empty(t, merged)
	assert.Empty(t, b.list(promotion.ListOptions{State: promotion.Open}))

	// Commits count in seconds: one that was made in the same second was not made since.
	a.record("d", time.Hour+2*time.Minute)
	a.ready("staging", "d", 4*time.Minute)
	says, merged = a.advance()
	assert.Len(t, merged, 1, "a build made since goes on: "+says)
	assert.Contains(t, b.file(overlay), digest("d"))
}
