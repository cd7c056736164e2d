package promotion_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/local"
	"github.com/sluice-dev/sluice/render"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// health is a cluster's report, by environment and component.
type health struct {
	mu      sync.Mutex
	reports map[string]promotion.HealthReport
	err     error
}

func (h *health) Release(_ context.Context, environment, component string) (promotion.HealthReport, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reports[environment+"/"+component], h.err
}

func (h *health) ready(environment, component, digest string, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reports[environment+"/"+component] = promotion.HealthReport{Known: true, Ready: true, Digests: []string{digest}, Since: since}
}

// shop is the project of testdata/shop.txtar in a bare repository.
type shop struct {
	*testing.T
	dir     string // the bare repository
	project string
	repo    *gitrepo.Repository
	service *promotion.Service
	forge   *local.Forge
	health  *health
}

func newShop(t *testing.T, project string) *shop {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "environments.git")
	out, err := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	archive, err := txtar.ParseFile("testdata/shop.txtar")
	require.NoError(t, err)

	s := &shop{T: t, dir: dir, project: project, health: &health{reports: map[string]promotion.HealthReport{}}}
	s.repo, s.forge, s.service = s.connect()
	edit := gitrepo.Edit{Message: "Start", Write: map[string][]byte{}}
	for _, file := range archive.Files {
		edit.Write[path.Join(project, file.Name)] = file.Data
	}
	_, err = s.repo.Update(t.Context(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) { return edit, nil })
	require.NoError(t, err)
	return s
}

// connect opens the repository in a mirror of its own.
func (s *shop) connect() (*gitrepo.Repository, *local.Forge, *promotion.Service) {
	s.Helper()
	clock := func() time.Time { return now }
	repo, err := gitrepo.Open(s.Context(), gitrepo.Options{
		URL: s.dir, Branch: "main", Author: "Ada", Email: "ada@example.com", Now: clock,
	})
	require.NoError(s, err)
	s.Cleanup(func() { assert.NoError(s, repo.Close()) })
	forge := local.New(repo, "main")
	forge.Author, forge.Now = "ada", clock
	return repo, forge, promotion.New(promotion.Options{
		Repository: repo, Forge: forge, Branch: "main", Project: s.project, Health: s.health, Now: clock,
		Decrypt: keyless,
	})
}

// keyless opens files as cmd wires it: names stay, values do not. What is
// encrypted begins with "encrypted:" here.
func keyless(_ string, data []byte) (render.Decrypted, error) {
	before, _, found := strings.Cut(string(data), "encrypted:")
	if !found {
		return render.Decrypted{Data: data}, nil
	}
	return render.Decrypted{Data: []byte(before + "(hidden)\n"), Encrypted: true, Keyless: true}, nil
}

// edit changes the project on main as a command would.
func (s *shop) edit(change func(*envrepo.Tree) (envrepo.Summary, error)) {
	s.Helper()
	_, err := update(s.Context(), s.repo, s.project, change)
	require.NoError(s, err)
}

// update commits an edit of the project to main and returns the revision.
func update(ctx context.Context, repo *gitrepo.Repository, project string, change func(*envrepo.Tree) (envrepo.Summary, error)) (string, error) {
	return repo.Update(ctx, "main", func(snapshot *gitrepo.Snapshot) (gitrepo.Edit, error) {
		sub, err := snapshot.Sub(path.Join(".", project))
		if err != nil {
			return gitrepo.Edit{}, err
		}
		tree := envrepo.NewTree(sub)
		summary, err := change(tree)
		if err != nil {
			return gitrepo.Edit{}, err
		}
		edit := gitrepo.Edit{Message: summary.Message, Write: map[string][]byte{}}
		for name, data := range tree.Writes() {
			edit.Write[path.Join(project, name)] = data
		}
		for _, name := range tree.Deletes() {
			edit.Delete = append(edit.Delete, path.Join(project, name))
		}
		return edit, nil
	})
}

// write changes one file of the project on main.
func (s *shop) write(name, content string) {
	s.Helper()
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Summary{Message: "Change " + name, Changed: true}, t.WriteFile(name, []byte(content))
	})
}

// file reads a file of the project at a revision.
func (s *shop) file(revision, name string) string {
	s.Helper()
	snapshot, err := s.repo.Snapshot(revision)
	require.NoError(s, err)
	data, err := snapshot.ReadFile(path.Join(s.project, name))
	require.NoError(s, err)
	return string(data)
}

func build(component, c string) envrepo.Build {
	return envrepo.Build{
		Component: component, Image: "registry.example.com/shop/" + component, Digest: digest(c),
		CreatedAt: now.Add(-24 * time.Hour).Add(time.Duration(c[0]) * time.Minute),
		Source: envrepo.Source{
			Repository: "https://git.example.com/shop/" + component, Commit: strings.Repeat(c, 40),
			Ref: "refs/heads/main", Message: "Change " + c,
		},
		Run:    envrepo.Run{ID: "88" + c, URL: "https://ci.example.com/runs/88" + c},
		Checks: []envrepo.Check{{Name: "trivy", Status: "passed", Summary: "0 critical"}},
	}
}

// record records a build, and deploys it to staging as a promotion would have.
func (s *shop) record(component, c string) {
	s.Helper()
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, build(component, c)) })
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", component, digest(c), "", false)
	})
	s.health.ready("staging", component, digest(c), now.Add(-time.Hour))
}

func (s *shop) propose(r promotion.Request) promotion.Proposal {
	s.Helper()
	proposal, err := s.service.Propose(s.Context(), r)
	require.NoError(s, err)
	return proposal
}

func (s *shop) get(number int) promotion.PullRequest {
	s.Helper()
	p, err := s.service.Get(s.Context(), number)
	require.NoError(s, err)
	return p
}

// unmet are the gates that a pull request waits for, one a line.
func (s *shop) unmet(number int) string {
	s.Helper()
	gates, err := s.service.Gates(s.Context(), s.get(number))
	require.NoError(s, err)
	return lines(promotion.Unmet(gates))
}

func lines(gates []promotion.Gate) string {
	var list []string
	for _, g := range gates {
		list = append(list, g.String())
	}
	return strings.Join(list, "\n")
}

func (s *shop) main() string {
	s.Helper()
	revision, err := s.repo.Fetch(s.Context())
	require.NoError(s, err)
	return revision
}

var toProduction = promotion.Request{Components: []string{"api"}, To: "production"}

func TestProposeAndMerge(t *testing.T) {
	t.Parallel()
	for name, project := range map[string]string{"root": "", "folder": "projects/shop"} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, project)
			s.record("api", "b")
			proposal := s.propose(toProduction)
			assert.Equal(t, "opened pull request #1: Promote api to production: bbbbbbbbbbbb", proposal.Message)
			assert.Empty(t, promotion.Unmet(proposal.Gates))

			p := s.get(1)
			assert.Equal(t, "sluice/promote/production/api", p.Branch)
			if flag.Lookup("update").Value.String() == "true" {
				require.NoError(t, os.WriteFile("testdata/proposal.md", []byte(p.Body), 0o644))
			}
			want, err := os.ReadFile("testdata/proposal.md")
			require.NoError(t, err)
			assert.Equal(t, string(want), p.Body)
			assert.NotContains(t, p.Body, "production-token")
			assert.Len(t, p.Statuses, 7)

			merged, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
			require.NoError(t, err)
			assert.Equal(t, promotion.Merged, merged.PullRequest.State)
			assert.Equal(t, s.main(), merged.Revision)
			assert.Empty(t, merged.Overridden)
			assert.Contains(t, s.file(merged.Revision, "environments/production/api/green/kustomization.yaml"), digest("b"))
			assert.Contains(t, s.file(merged.Revision, "environments/production/api/traffic.yaml"), "weights: {blue: 100, green: 0}")
			snapshot, err := s.repo.Snapshot(merged.Revision)
			require.NoError(t, err)
			assert.Equal(t, "Merge pull request #1: Promote api to production: bbbbbbbbbbbb", strings.TrimSpace(snapshot.Commit().Message))

			again := s.propose(toProduction)
			assert.True(t, again.Already)
			assert.Equal(t, "api is already at bbbbbbbbbbbb in production (green)", again.Message)
		})
	}
}

func TestProposeAgainChangesNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	first := s.propose(toProduction).PullRequest
	again := s.propose(toProduction)
	assert.Equal(t, "kept pull request #1: Promote api to production: bbbbbbbbbbbb", again.Message)
	assert.Equal(t, first.Head, again.PullRequest.Head)

	s.write("environments/development/web/notes.txt", "nothing to do with it\n")
	assert.Equal(t, first.Head, s.propose(toProduction).PullRequest.Head, "what does not matter does not move the head")

	s.write("environments/production/api/base/config.env", "CACHE_ADDR=elsewhere\n")
	assert.Equal(t, "fresh failed: environments/production/api/base/config.env has changed since on main", s.unmet(1))
	renewed := s.propose(toProduction)
	assert.Equal(t, "updated pull request #1: Promote api to production: bbbbbbbbbbbb", renewed.Message)
	assert.NotEqual(t, first.Head, renewed.PullRequest.Head)
	assert.Empty(t, s.unmet(1))
}

func TestPromotionThatOnlyListsTheTag(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "a")
	proposal := s.propose(promotion.Request{Components: []string{"api"}, To: "production", Tag: "green"})
	assert.Equal(t, "opened pull request #1: Promote api to production: aaaaaaaaaaaa", proposal.Message)
	assert.Contains(t, proposal.PullRequest.Body, "`green` gets the digest and is listed at weight 0, so that its pods start.")
	merged, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
	require.NoError(t, err)
	assert.Contains(t, s.file(merged.Revision, "environments/production/api/traffic.yaml"), "weights: {blue: 100, green: 0}")
}

func TestNewerBuildUpdatesInPlace(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	first := s.propose(toProduction).PullRequest
	s.record("api", "c")
	assert.Equal(t, "order failed: staging has cccccccccccc, not bbbbbbbbbbbb\n"+
		"healthy failed: bbbbbbbbbbbb was not ready in staging when cccccccccccc replaced it\n"+
		"soak failed: bbbbbbbbbbbb was not ready in staging when cccccccccccc replaced it", s.unmet(1))

	second := s.propose(toProduction).PullRequest
	assert.Equal(t, first.Number, second.Number)
	assert.NotEqual(t, first.Head, second.Head)
	assert.Equal(t, "Promote api to production: cccccccccccc", second.Title)
	assert.Contains(t, second.Body, "`cccccccccccc` `Change c`")
}

func TestOvertakenIsClosed(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("web", "b")
	request := promotion.Request{Components: []string{"web"}, To: "production"}
	p := s.propose(request).PullRequest

	// The digest arrives by another road, with other changes to the same file.
	name := "environments/production/web/kustomization.yaml"
	text := strings.ReplaceAll(s.file(s.main(), name), digest("a"), digest("b"))
	s.write(name, "# by hand\n"+text)
	proposal := s.propose(request)
	assert.True(t, proposal.Already)
	assert.Equal(t, []string{"closed pull request #1, which was overtaken"}, proposal.Notes)
	closed := s.get(p.Number)
	assert.Equal(t, promotion.Closed, closed.State)
	assert.Equal(t, "overtaken: web is already at bbbbbbbbbbbb in production", closed.Reason)
}

func TestAllComponentsShareAPullRequest(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.record("web", "b")
	single := s.propose(toProduction).PullRequest
	all := s.propose(promotion.Request{All: true, To: "production"})
	assert.Equal(t, "opened pull request #2: Promote 2 components to production", all.Message)
	assert.Equal(t, []string{"api", "web"}, all.PullRequest.Components)
	assert.Equal(t, "sluice/promote/production/all", all.PullRequest.Branch)
	assert.Contains(t, all.Notes, "#1 is superseded")
	assert.Equal(t, "superseded by #2", s.get(single.Number).Reason)
	assert.Empty(t, promotion.Unmet(all.Gates))

	s.record("api", "c")
	again := s.propose(toProduction)
	assert.Equal(t, 2, again.PullRequest.Number, "one of them stays with the others")
	assert.Equal(t, []string{"api", "web"}, again.PullRequest.Components)

	open, err := s.service.List(t.Context(), promotion.ListOptions{State: promotion.Open, Component: "api", Environment: "production"})
	require.NoError(t, err)
	assert.Len(t, open, 1)

	merged, err := s.service.Merge(t.Context(), 2, promotion.MergeOptions{})
	require.NoError(t, err)
	assert.Contains(t, s.file(merged.Revision, "environments/production/web/kustomization.yaml"), digest("b"))
	assert.Contains(t, s.file(merged.Revision, "environments/production/api/green/kustomization.yaml"), digest("c"))
	assert.Equal(t, "api is already at cccccccccccc in production (green); web is already at bbbbbbbbbbbb in production",
		s.propose(promotion.Request{All: true, To: "production"}).Message)
}

func TestABrokenComponentDoesNotKeepOthersBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("web", "b")
	s.record("api", "b")
	s.write("environments/production/api/traffic.yaml", "broken")
	all := s.propose(promotion.Request{All: true, To: "production"})
	assert.Equal(t, []string{"web"}, all.PullRequest.Components)
	require.Len(t, all.Notes, 1)
	assert.Contains(t, all.Notes[0], "api is left out: environments/production/api/traffic.yaml")
}

func TestMergeNeedsEveryGate(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.health.ready("staging", "api", digest("b"), now.Add(-10*time.Minute))
	s.propose(toProduction)

	_, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
	var gates *promotion.GatesError
	require.ErrorAs(t, err, &gates)
	assert.EqualError(t, err, "pull request #1 may not be merged:\n"+
		"  soak pending: ready in staging since 2026-11-21T11:50:00Z, awaited until 2026-11-21T12:20:00Z")
	assert.Equal(t, "wait until they pass, or merge with --override REASON, which the merge commit records", gates.Hint())
	assert.Equal(t, promotion.Open, s.get(1).State)

	merged, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{Override: "hot fix\n\nSluice-Gate: none"})
	require.NoError(t, err)
	require.Len(t, merged.Overridden, 1)
	snapshot, err := s.repo.Snapshot(merged.Revision)
	require.NoError(t, err)
	assert.Equal(t, `Merge pull request #1: Promote api to production: bbbbbbbbbbbb

Sluice-Override: hot fix Sluice-Gate: none
Sluice-Gate: soak pending: ready in staging since 2026-11-21T11:50:00Z, awaited until 2026-11-21T12:20:00Z`,
		strings.TrimSpace(snapshot.Commit().Message))
	_, err = s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
	require.ErrorIs(t, err, promotion.ErrClosed)
}

func TestNoClusterIsUnknownHealth(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.health.err = errors.New("connecting: refused")
	proposal := s.propose(toProduction)
	assert.Contains(t, proposal.PullRequest.Body, "Unknown: `connecting: refused`")
	assert.Equal(t, "healthy pending: health in staging is not known: connecting: refused\n"+
		"soak pending: 30m of health in staging: health in staging is not known: connecting: refused", lines(promotion.Unmet(proposal.Gates)))
}

// pushed replaces the head of a pull request by a commit that somebody makes.
func (s *shop) pushed(p promotion.PullRequest, files map[string]string) {
	s.Helper()
	edit := gitrepo.Edit{Message: "By hand", Write: map[string][]byte{}}
	for name, data := range files {
		edit.Write[path.Join(s.project, name)] = []byte(data)
	}
	head, err := s.repo.WriteCommit([]string{p.Head}, p.Head, edit)
	require.NoError(s, err)
	require.NoError(s, s.repo.Push(s.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/" + p.Branch, Old: p.Head, New: head}}))
}

// TestAttackWhatRidesAlong: whatever else a head changes, the gates see it, and neither
// what it says about the gates counts nor a status that somebody has set. Promotions
// that nobody had authorised are Kargo CVE-2026-24748 and CVE-2026-27111.
func TestAttackWhatRidesAlong(t *testing.T) {
	t.Parallel()
	overlay := "environments/production/api/green/kustomization.yaml"
	tests := []struct {
		name  string
		files func(s *shop, p promotion.PullRequest) map[string]string
		want  string
	}{
		{"policy", func(s *shop, p promotion.PullRequest) map[string]string {
			return map[string]string{"sluice.yaml": strings.Replace(s.file(p.Head, "sluice.yaml"), "gates: {healthy: true, soak: 30m, checks: [trivy], config: true}", "gates: {}", 1)}
		}, "scope failed: changes more than the digest: sluice.yaml belongs to no release of production"},
		{"build record", func(_ *shop, _ promotion.PullRequest) map[string]string {
			return map[string]string{"builds/api/dddddddddddd.yaml": "x"}
		}, "scope failed: changes more than the digest: builds/api/dddddddddddd.yaml belongs to no release of production"},
		{"configuration", func(_ *shop, _ promotion.PullRequest) map[string]string {
			return map[string]string{"environments/production/api/base/config.env": "CACHE_ADDR=evil\n"}
		}, "scope failed: changes more than the digest: environments/production/api/base/config.env is not what a promotion changes"},
		{"same file", func(s *shop, p promotion.PullRequest) map[string]string {
			return map[string]string{overlay: s.file(p.Head, overlay) + "replicas: [{name: api, count: 0}]\n"}
		}, "scope failed: changes more than the digest: " + overlay + " changes more than a promotion would"},
		{"weights", func(_ *shop, _ promotion.PullRequest) map[string]string {
			return map[string]string{"environments/production/api/traffic.yaml": "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {blue: 0, green: 100}\n"}
		}, "scope failed: changes more than the digest: environments/production/api/traffic.yaml changes more than a promotion would"},
		{"other environment", func(_ *shop, _ promotion.PullRequest) map[string]string {
			return map[string]string{"environments/staging/api/extra.yaml": "x"}
		}, "scope failed: changes more than the digest: environments/staging/api/extra.yaml belongs to no release of production"},
		{"other digest", func(s *shop, p promotion.PullRequest) map[string]string {
			return map[string]string{overlay: strings.ReplaceAll(s.file(p.Head, overlay), digest("b"), digest("e"))}
		}, "scope failed: changes more than the digest: unknown build \"sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\" of api"},
		{"no-op", func(s *shop, p promotion.PullRequest) map[string]string {
			start := s.main()
			return map[string]string{overlay: s.file(start, overlay), "environments/production/api/traffic.yaml": s.file(start, "environments/production/api/traffic.yaml")}
		}, "scope failed: changes no digest"},
		{"not a project any more", func(_ *shop, _ promotion.PullRequest) map[string]string {
			return map[string]string{overlay: "{"}
		}, "scope failed: changes more than the digest: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newShop(t, "")
			s.record("api", "b")
			p := s.propose(toProduction).PullRequest
			s.pushed(p, tt.files(s, p))
			forged := []promotion.Status{{Context: "sluice/scope", State: promotion.StatusSuccess}}
			require.NoError(t, s.forge.SetStatuses(t.Context(), s.get(1).Head, forged))

			assert.Contains(t, s.unmet(1), tt.want)
			before := s.main()
			_, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
			var gates *promotion.GatesError
			require.ErrorAs(t, err, &gates)
			assert.Equal(t, before, s.main(), "nothing was merged")
			for _, status := range s.get(1).Statuses {
				if status.Context == "sluice/scope" {
					assert.Equal(t, promotion.StatusFailure, status.State, "a forged status is replaced")
				}
			}
		})
	}
}

func TestOutsideOfTheProject(t *testing.T) {
	t.Parallel()
	s := newShop(t, "projects/shop")
	s.record("api", "b")
	p := s.propose(toProduction).PullRequest
	s.project = ""
	s.pushed(p, map[string]string{"projects/shop2/sluice.yaml": "x"})
	assert.Contains(t, s.unmet(1), "scope failed: changes more than the digest: projects/shop2/sluice.yaml is outside the project")
}

func TestTrafficMovedToTheTag(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	set := func(blue, green int) {
		s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
			return envrepo.SetTraffic(t, "production", "api", envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: blue}, {Tag: "green", Percent: green}}})
		})
	}
	set(100, 0)
	s.propose(toProduction)
	assert.Empty(t, s.unmet(1))
	set(90, 10)
	assert.Equal(t, "fresh failed: environments/production/api/traffic.yaml has changed since on main", s.unmet(1))
	set(0, 100)
	proposal := s.propose(toProduction)
	assert.Equal(t, 1, proposal.PullRequest.Number)
	assert.Contains(t, proposal.PullRequest.Body, "tag `blue`", "it goes to the tag that is idle now")
}

func TestContractOfTheTarget(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	b := build("api", "b")
	b.Config = &envrepo.Contract{Required: []string{"CACHE_ADDR", "DATABASE_URL"}}
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, b) })
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.Deploy(t, "staging", "api", b.Digest, "", false)
	})
	s.health.ready("staging", "api", b.Digest, now.Add(-time.Hour))
	s.propose(toProduction)
	assert.Contains(t, s.unmet(1), "config failed: bbbbbbbbbbbb (new digest in green) misses ")
	assert.Contains(t, s.unmet(1), "DATABASE_URL")

	s.write("environments/production/api/base/config.env", "CACHE_ADDR=cache\nDATABASE_URL=db\n")
	s.propose(toProduction)
	assert.Empty(t, s.unmet(1))
}

func TestEnvironmentRemoved(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.propose(toProduction)
	text, _, _ := strings.Cut(s.file(s.main(), "sluice.yaml"), "- name: production")
	s.write("sluice.yaml", text)
	assert.Contains(t, s.unmet(1), "order failed: main has no environment production any more")
	_, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
	var gates *promotion.GatesError
	require.ErrorAs(t, err, &gates)
	require.NoError(t, s.service.Close(t.Context(), 1, "no longer wanted"))
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	tests := []struct {
		name    string
		request promotion.Request
		want    string
	}{
		{"no component", promotion.Request{To: "production"}, "promoting: no component is asked for"},
		{"all and some", promotion.Request{All: true, Components: []string{"api"}, To: "production"}, "promoting: all components are asked for, and some by name"},
		{"digest of several", promotion.Request{All: true, To: "production", Digest: digest("a")}, "promoting: a tag or a digest is given for several components"},
		{"path", promotion.Request{Components: []string{"../api"}, To: "production"}, `"../api" is not the name of a component`},
		{"reserved", promotion.Request{Components: []string{"all"}, To: "production"}, `"all" is not the name of a component`},
		{"unknown component", promotion.Request{Components: []string{"apo"}, To: "production"}, `unknown component "apo"`},
		{"unknown environment", promotion.Request{Components: []string{"api"}, To: "produktion"}, `unknown environment "produktion"`},
		{"unknown environment, all", promotion.Request{All: true, To: "produktion"}, `unknown environment "produktion"`},
		{"first environment", promotion.Request{Components: []string{"api"}, To: "development"}, "first environment"},
		{"first environment, all", promotion.Request{All: true, To: "development"}, "no environment comes before development"},
		{"unknown digest", promotion.Request{Components: []string{"api"}, To: "staging", Digest: digest("9")}, "unknown build"},
		{"no digest", promotion.Request{Components: []string{"api"}, To: "staging", Digest: "latest"}, `"latest" is not a digest`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.service.Propose(t.Context(), tt.request)
			require.ErrorContains(t, err, tt.want)
			var hint interface{ Hint() string }
			require.ErrorAs(t, err, &hint)
			assert.NotEmpty(t, hint.Hint())
		})
	}
	list, err := s.service.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list)
}

func TestConcurrentProposals(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	var group sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		_, _, service := s.connect()
		group.Go(func() { _, errs[i] = service.Propose(t.Context(), toProduction) })
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	list, err := s.service.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, list, 1)
	assert.Equal(t, promotion.Open, list[0].State)
}

func TestMergeWhileOthersWrite(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.propose(toProduction)
	var group sync.WaitGroup
	var mergeErr error
	errs := make([]error, 4)
	for i := range errs {
		repo, _, _ := s.connect()
		group.Go(func() {
			for n := range 5 {
				b := build("web", "b")
				b.Digest = fmt.Sprintf("sha256:%02x%02x%s", i, n, strings.Repeat("0", 60))
				_, err := update(t.Context(), repo, "", func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, b) })
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	group.Go(func() { _, mergeErr = s.service.Merge(t.Context(), 1, promotion.MergeOptions{}) })
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, mergeErr, "a busy repository does not keep a pull request from being merged")
	repo, err := s.repo.Snapshot(s.main())
	require.NoError(t, err)
	project, err := envrepo.Open(repo)
	require.NoError(t, err)
	builds, err := project.Builds("web")
	require.NoError(t, err)
	assert.Len(t, builds, 20, "no build is lost")
	assert.Contains(t, s.file(s.main(), "environments/production/api/green/kustomization.yaml"), digest("b"))
}

// A proposal is not replaced by one of an older build, also not when both are made at
// the same time, unless that is meant.
func TestAnOlderBuildReplacesNoNewerProposal(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.record("web", "b")
	s.record("web", "c")
	older := promotion.Request{Components: []string{"web"}, To: "production", Digest: digest("b")}
	var group sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		_, _, service := s.connect()
		r := older
		if i%2 == 0 {
			r.Digest = digest("c")
		}
		group.Go(func() { _, errs[i] = service.Propose(t.Context(), r) })
	}
	group.Wait()
	var refused *promotion.OlderError
	for i, err := range errs {
		if err != nil {
			assert.ErrorAs(t, err, &refused)
			assert.Equal(t, 1, i%2, "the newer one is refused nowhere")
		}
	}
	_, err := s.service.Propose(t.Context(), older)
	require.ErrorAs(t, err, &refused)
	assert.EqualError(t, err, "promoting bbbbbbbbbbbb of web to production: pull request #1 proposes cccccccccccc, a newer build")
	assert.Contains(t, refused.Hint(), "--force")
	assert.Equal(t, "Promote web to production: cccccccccccc", s.get(1).Title)

	older.Force = true
	s.propose(older)
	s.propose(older)
	assert.Equal(t, "Promote web to production: bbbbbbbbbbbb", s.get(1).Title)
	older.Force, older.Digest = false, digest("c")
	s.propose(older)
	assert.Equal(t, "Promote web to production: cccccccccccc", s.get(1).Title)
	list, err := s.service.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, list, 1)
}
