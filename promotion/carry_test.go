package promotion_test

import (
	"context"
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
	"github.com/sluice-dev/sluice/promotion/local"
)

// approved is a pull request all of whose gates have passed and are published.
func approved(t *testing.T) (*shop, promotion.PullRequest) {
	t.Helper()
	t.Parallel()
	s := newShop(t, "")
	s.record("api", "b")
	s.propose(toProduction)
	p := s.get(1)
	require.Empty(t, s.unmet(1))
	for _, status := range p.Statuses {
		require.Equal(t, promotion.StatusSuccess, status.State)
	}
	return s, p
}

// refused merges, and wants the gates to say why not.
func (s *shop) refused(want string) {
	s.Helper()
	before := s.main()
	_, err := s.service.Merge(s.Context(), 1, promotion.MergeOptions{})
	var gates *promotion.GatesError
	require.ErrorAs(s, err, &gates)
	assert.Contains(s, err.Error(), want)
	assert.Equal(s, before, s.main(), "nothing was merged")
}

// TestForcePushCarriesNothingOver: another head has none of the old one's verdicts.
func TestForcePushCarriesNothingOver(t *testing.T) {
	s, p := approved(t)
	s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) { return envrepo.RecordBuild(t, build("api", "e")) })
	overlay := "environments/production/api/green/kustomization.yaml"
	traffic := "environments/production/api/traffic.yaml"
	head, err := s.repo.WriteCommit([]string{s.main()}, s.main(), gitrepo.Edit{
		Message: "Promote api to production: bbbbbbbbbbbb", // as the approved one said
		Write: map[string][]byte{
			overlay: []byte(strings.ReplaceAll(s.file(p.Head, overlay), digest("b"), digest("e"))), traffic: []byte(s.file(p.Head, traffic)),
		},
	})
	require.NoError(t, err)
	require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/" + p.Branch, Old: p.Head, New: head}}))

	assert.Empty(t, s.get(1).Statuses)
	s.refused("order failed: staging has bbbbbbbbbbbb, not eeeeeeeeeeee")
}

// TestNoOpCommitCarriesNothingOver: a commit that changes nothing is another head
// too: it is judged, and what it is judged by is the digest, not the commit.
func TestNoOpCommitCarriesNothingOver(t *testing.T) {
	s, p := approved(t)
	s.health.fails("staging", "api", digest("b"), "CrashLoopBackOff")
	head, err := s.repo.WriteCommit([]string{p.Head}, p.Head, gitrepo.Edit{Message: "Nothing"})
	require.NoError(t, err)
	require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/" + p.Branch, Old: p.Head, New: head}}))
	assert.Empty(t, s.get(1).Statuses)
	s.refused("healthy pending: not ready in staging: CrashLoopBackOff")
}

// retargeted is a forge on which somebody has set another target.
type retargeted struct{ *local.Forge }

func (f retargeted) Get(ctx context.Context, number int) (promotion.PullRequest, error) {
	p, err := f.Forge.Get(ctx, number)
	p.Target = "playground"
	return p, err
}

func TestRetargetedIsNotMerged(t *testing.T) {
	s, _ := approved(t)
	s.service = promotion.New(promotion.Options{Repository: s.repo, Forge: retargeted{s.forge}, Branch: "main", Health: s.health, Decrypt: keyless})
	s.refused("scope failed: merges into playground instead of main")
}

// moving is a forge on which the head moves after it was judged.
type moving struct {
	*local.Forge
	move func()
}

func (f moving) Merge(ctx context.Context, number int, m promotion.MergeSpec) (string, error) {
	f.move()
	return f.Forge.Merge(ctx, number, m)
}

func TestHeadMovesBetweenJudgingAndMerging(t *testing.T) {
	s, p := approved(t)
	forge := moving{s.forge, func() {
		s.pushed(p, map[string]string{"environments/production/api/base/config.env": "CACHE_ADDR=evil\n"})
	}}
	s.service = promotion.New(promotion.Options{Repository: s.repo, Forge: forge, Branch: "main", Health: s.health, Decrypt: keyless})
	before := s.main()
	_, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{Override: "whatever"})
	require.ErrorIs(t, err, promotion.ErrHeadMoved)
	assert.Equal(t, before, s.main())
}

// TestHistoryThatIsCrossed: a head that builds on both sides of an earlier merge, with
// the files of one of them, changes nothing but the digest since that side, and by
// merging it Git takes back what the other side brought.
func TestHistoryThatIsCrossed(t *testing.T) {
	s, p := approved(t)
	before := s.main()
	stricter := strings.Replace(s.file(before, "sluice.yaml"), "soak: 30m", "soak: 90m", 1)
	side, err := s.repo.WriteCommit([]string{before}, before, gitrepo.Edit{Message: "Soak longer", Write: map[string][]byte{"sluice.yaml": []byte(stricter)}})
	require.NoError(t, err)
	s.write("environments/development/web/notes.txt", "x\n")
	left := s.main()
	merged, err := s.repo.WriteCommit([]string{left, side}, left, gitrepo.Edit{Message: "Merge", Write: map[string][]byte{"sluice.yaml": []byte(stricter)}})
	require.NoError(t, err)
	require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/main", Old: left, New: merged}}))

	files := map[string][]byte{}
	for _, name := range []string{"environments/production/api/green/kustomization.yaml", "environments/production/api/traffic.yaml"} {
		files[name] = []byte(s.file(p.Head, name))
	}
	head, err := s.repo.WriteCommit([]string{left, side}, left, gitrepo.Edit{Message: "Promote", Write: files})
	require.NoError(t, err)
	require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/" + p.Branch, Old: p.Head, New: head}}))
	out, err := exec.Command("git", "-C", s.dir, "merge-tree", "--write-tree", "main", head).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command("git", "-C", s.dir, "show", strings.TrimSpace(string(out))+":sluice.yaml").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "soak: 30m", "as Git would merge it")
	s.refused("scope failed: changes more than the digest: its history leaves that of main in 2 places")
}

// TestTheBaseMovesWhileItIsMerged: what a head changes is told from where it leaves the
// target. When that is elsewhere after the target has moved, it is judged anew: here a
// head has a commit below it that it takes back, and that is merged at this moment.
func TestTheBaseMovesWhileItIsMerged(t *testing.T) {
	s, p := approved(t)
	before := s.main()
	notes := map[string][]byte{"environments/development/web/notes.txt": []byte("mended\n")}
	below, err := s.repo.WriteCommit([]string{before}, before, gitrepo.Edit{Message: "Mend", Write: notes})
	require.NoError(t, err)
	files := map[string][]byte{}
	for _, name := range []string{"environments/production/api/green/kustomization.yaml", "environments/production/api/traffic.yaml"} {
		files[name] = []byte(s.file(p.Head, name))
	}
	head, err := s.repo.WriteCommit([]string{below}, before, gitrepo.Edit{Message: "Promote", Write: files})
	require.NoError(t, err)
	require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/" + p.Branch, Old: p.Head, New: head}}))
	require.Empty(t, s.unmet(1))

	var once sync.Once
	forge := moving{s.forge, func() {
		once.Do(func() {
			require.NoError(t, s.repo.Push(t.Context(), []gitrepo.RefUpdate{{Name: "refs/heads/main", Old: before, New: below}}))
		})
	}}
	s.service = promotion.New(promotion.Options{Repository: s.repo, Forge: forge, Branch: "main", Health: s.health, Decrypt: keyless, Now: func() time.Time { return now }})
	_, err = s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
	require.ErrorContains(t, err, "scope failed: changes more than the digest: environments/development/web/notes.txt belongs to no release of production")
	assert.Equal(t, below, s.main())
}
