package promotion_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

const trafficFile = "environments/production/api/traffic.yaml"

// shiftTo is a request for weights such as "blue=90 green=10", of the api in production.
func shiftTo(weights string) promotion.Shift {
	var want envrepo.Traffic
	for _, field := range strings.Fields(weights) {
		var w envrepo.Weight
		tag, percent, _ := strings.Cut(field, "=")
		_, _ = fmt.Sscan(percent, &w.Percent)
		w.Tag = strings.TrimPrefix(tag, "mirror:")
		if w.Tag != tag {
			want.Mirrors = append(want.Mirrors, w)
			continue
		}
		want.Weights = append(want.Weights, w)
	}
	return promotion.Shift{Environment: "production", Component: "api", Edit: func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.SetTraffic(t, "production", "api", want)
	}}
}

func (s *shop) proposeTraffic(weights string) promotion.Proposal {
	s.Helper()
	proposal, err := s.service.ProposeTraffic(s.Context(), shiftTo(weights))
	require.NoError(s, err)
	return proposal
}

func (s *shop) setTraffic(weights string) {
	s.Helper()
	s.edit(shiftTo(weights).Edit)
}

// pushHead puts an edit of files on the branch of the traffic pull request.
func (s *shop) pushHead(files map[string]string) {
	s.Helper()
	branch := "refs/heads/" + promotion.TrafficBranch("production", "api")
	refs, err := s.repo.FetchRefs(s.Context(), branch)
	require.NoError(s, err)
	edit := gitrepo.Edit{Message: "By hand", Write: map[string][]byte{}}
	for name, text := range files {
		edit.Write[name] = []byte(text)
	}
	head, err := s.repo.WriteCommit([]string{refs[branch]}, refs[branch], edit)
	require.NoError(s, err)
	require.NoError(s, s.repo.Push(s.Context(), []gitrepo.RefUpdate{{Name: branch, Old: refs[branch], New: head}}))
}

func TestProposeTrafficAndMerge(t *testing.T) {
	s := newShop(t, "")
	s.health.reports["production/api"] = promotion.HealthReport{Known: true, Tags: []promotion.TagHealth{
		{Tag: "blue", Digest: digest("a"), Ready: true}, {Tag: "green", Digest: digest("a"), Message: "scaled to zero"},
	}}
	proposal := s.proposeTraffic("blue=90 green=10")
	assert.Equal(t, "opened pull request #1: Set traffic of api in production: blue=90, green=10", proposal.Message)
	assert.Empty(t, promotion.Unmet(proposal.Gates))
	p := s.get(1)
	assert.Equal(t, "sluice/traffic/production/api", p.Branch)
	assert.Equal(t, []string{"sluice/environment:production", "sluice/traffic"}, p.Labels)
	assert.Len(t, p.Statuses, 7, "a branch can require the same statuses of every pull request")
	if flag.Lookup("update").Value.String() == "true" {
		require.NoError(t, os.WriteFile("testdata/traffic.md", []byte(p.Body), 0o644))
	}
	want, err := os.ReadFile("testdata/traffic.md")
	require.NoError(t, err)
	assert.Equal(t, string(want), p.Body)
	assert.Equal(t, "weights: {blue: 100}\n", lastLine(s.file(s.main(), trafficFile)), "nothing is committed")

	// Asked again, nothing changes; asked for something else, the same one is renewed.
	assert.Equal(t, "kept pull request #1: Set traffic of api in production: blue=90, green=10", s.proposeTraffic("green=10 blue=90").Message)
	assert.Equal(t, p.Head, s.get(1).Head)
	assert.Equal(t, "updated pull request #1: Set traffic of api in production: blue=100, green=0, mirror green=5", s.proposeTraffic("blue=100 green=0 mirror:green=5").Message)
	assert.Contains(t, s.get(1).Body, "its pods start, and it gets 0 % of the requests, a copy of 5 % of the requests goes to it")
	s.proposeTraffic("blue=90 green=10")

	merged, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
	require.NoError(t, err)
	assert.Equal(t, "weights: {blue: 90, green: 10}\n", lastLine(s.file(merged.Revision, trafficFile)))

	// What is so already is not proposed; to leave a tag out is a change of its own.
	assert.True(t, s.proposeTraffic("blue=90 green=10").Already)
	s.proposeTraffic("blue=100")
	body := s.get(2).Body
	assert.Contains(t, body, "from 90 % to **100 %** of the requests")
	assert.Contains(t, body, "from 10 % to **0 %** of the requests, it is scaled to zero 15s after the routes have left it")
}

func lastLine(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return lines[len(lines)-2]
}

// The head is anybody's to push to: what it changes beside the traffic passes no gate.
func TestTrafficScope(t *testing.T) {
	kustomization := "environments/production/api/kustomization.yaml"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"another file":      {map[string]string{kustomization: "resources: []\n"}, kustomization + " is not what a change of traffic changes"},
		"outside":           {map[string]string{"README.md": "hello"}, "README.md belongs to no release of production"},
		"a comment":         {map[string]string{trafficFile: "# evil\napiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {blue: 90, green: 10}\n"}, trafficFile + " changes more than a change of traffic would"},
		"no traffic at all": {map[string]string{trafficFile: "kind: Nonsense\n"}, trafficFile + ":1: missing required field"},
		"another component": {map[string]string{"environments/production/web/kustomization.yaml": "resources: []\n"}, "environments/production/web/kustomization.yaml is not what a change of traffic changes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "")
			s.proposeTraffic("blue=90 green=10")
			s.pushHead(test.files)
			assert.Contains(t, s.unmet(1), "scope failed: changes more than the traffic: "+test.want)
			_, err := s.service.Merge(t.Context(), 1, promotion.MergeOptions{})
			var gates *promotion.GatesError
			require.ErrorAs(t, err, &gates)
		})
	}
	t.Run("other weights", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, "")
		s.proposeTraffic("blue=90 green=10")
		s.pushHead(map[string]string{trafficFile: "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {blue: 80, green: 20}\n"})
		assert.Empty(t, s.unmet(1), "they are what is judged, and what would be merged")
	})
}

// What people looked at is what merging makes: the build of the tag that gains, the
// route and the weights that were there.
func TestTrafficFresh(t *testing.T) {
	for name, test := range map[string]struct {
		meanwhile func(*shop)
		want      string
	}{
		"other weights": {func(s *shop) { s.setTraffic("blue=50 green=50") }, "fresh failed: main has other changes to " + trafficFile},
		"another build that gains": {func(s *shop) {
			s.record("api", "b")
			s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.SetTraffic(t, "production", "api", envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}}})
			})
			s.write("environments/production/api/green/kustomization.yaml", strings.Replace(s.file(s.main(), "environments/production/api/green/kustomization.yaml"), digest("a"), digest("b"), 1))
		}, "fresh failed: environments/production/api/green/kustomization.yaml has changed since on main"},
		"another build that loses": {func(s *shop) {
			s.write("environments/production/api/blue/kustomization.yaml", strings.Replace(s.file(s.main(), "environments/production/api/blue/kustomization.yaml"), digest("a"), digest("b"), 1))
		}, ""},
		"another route": {func(s *shop) {
			s.write("environments/production/api/route.yaml", strings.Replace(s.file(s.main(), "environments/production/api/route.yaml"), "port: 80", "port: 81", 1))
		}, "fresh failed: environments/production/api/route.yaml has changed since on main"},
		"another component": {func(s *shop) { s.record("web", "b") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "")
			s.proposeTraffic("blue=0 green=100")
			test.meanwhile(s)
			assert.Equal(t, test.want, s.unmet(1))
			if test.want != "" {
				s.proposeTraffic("blue=0 green=100")
				assert.Empty(t, s.unmet(1), "asked for again, it rests on what there is now")
			}
		})
	}
}

// Tending closes what is overtaken, and automation merges no change of traffic.
func TestTrafficIsTended(t *testing.T) {
	tend := func(s *shop) promotion.Tended {
		list, err := s.service.Tend(s.Context(), []string{"production"})
		require.NoError(s, err)
		require.Len(s, list, 1)
		require.NoError(s, list[0].Err)
		return list[0]
	}
	t.Run("overtaken by a commit", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, "")
		s.proposeTraffic("blue=90 green=10")
		assert.Empty(t, tend(s).Closed)
		s.setTraffic("green=10 blue=90")
		s.write("README.md", "# Shop\n")
		list, err := s.service.Tend(t.Context(), []string{"production"})
		require.NoError(t, err)
		for _, tended := range list { // a forge that saw it land says so by itself
			assert.Equal(t, "overtaken: traffic of api in production is blue=90, green=10 already", tended.Closed)
		}
		assert.NotEqual(t, promotion.Open, s.get(1).State)
	})
	t.Run("without tags any more", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, "")
		s.proposeTraffic("blue=90 green=10")
		s.edit(func(t *envrepo.Tree) (envrepo.Summary, error) {
			return envrepo.Summary{Message: "Remove api", Changed: true}, removeBelow(t, "environments/production/api")
		})
		assert.Equal(t, "overtaken: component api has no overlay in production: environments/production/api/kustomization.yaml does not exist", tend(s).Closed)
	})
	t.Run("automation", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, "")
		s.write("sluice.yaml", strings.Replace(s.file(s.main(), "sluice.yaml"), "    from: staging\n", "    from: staging\n    auto: true\n", 1))
		s.proposeTraffic("blue=90 green=10")
		a, err := s.service.Advance(t.Context(), "production")
		require.NoError(t, err)
		require.Empty(t, a.Failures)
		assert.Empty(t, a.Merged)
		assert.Equal(t, promotion.Open, s.get(1).State)
	})
	t.Run("beside a promotion of all", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, "")
		s.proposeTraffic("blue=90 green=10")
		s.record("api", "b")
		s.record("web", "b")
		all := s.propose(promotion.Request{All: true, To: "production"})
		assert.Equal(t, "sluice/promote/production/all", all.PullRequest.Branch)
		s.proposeTraffic("blue=80 green=20")
		assert.Equal(t, promotion.Open, s.get(1).State)
		assert.Equal(t, promotion.Open, s.get(2).State)
	})
}

func removeBelow(t *envrepo.Tree, dir string) error {
	entries, err := t.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := dir + "/" + entry.Name()
		if entry.IsDir() {
			err = removeBelow(t, name)
		} else {
			err = t.Remove(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A tag that does not render can be left by pull request, and none can be moved to it.
func TestTrafficLeavesABrokenTag(t *testing.T) {
	s := newShop(t, "")
	s.setTraffic("blue=50 green=50")
	s.write("environments/production/api/blue/kustomization.yaml", "images: [\n")
	proposal := s.proposeTraffic("blue=0 green=100")
	assert.Empty(t, lines(promotion.Unmet(proposal.Gates)))
	_, err := s.service.ProposeTraffic(t.Context(), shiftTo("blue=60 green=40"))
	require.ErrorContains(t, err, "tag blue")
	// It breaks once the proposal is there.
	s = newShop(t, "")
	s.proposeTraffic("blue=90 green=10")
	s.write("environments/production/api/green/kustomization.yaml", "images: [\n")
	assert.Contains(t, s.unmet(1), "config failed: green does not render: ")
}

// Of two people who propose at the same time, the list of one stands in the end, in one
// pull request.
func TestTrafficProposedAtTheSameTime(t *testing.T) {
	s := newShop(t, "")
	lists := map[string]bool{}
	var wg sync.WaitGroup
	for i := range 4 {
		_, _, service := s.connect()
		blue := 20 + i*20
		lists[fmt.Sprintf("weights: {blue: %d, green: %d}\n", blue, 100-blue)] = true
		wg.Go(func() {
			_, err := service.ProposeTraffic(t.Context(), shiftTo(fmt.Sprintf("blue=%d green=%d", blue, 100-blue)))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	list, err := s.service.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Contains(t, lists, lastLine(s.file(list[0].Head, trafficFile)))
	assert.Empty(t, s.unmet(list[0].Number))
}

func TestProposeTrafficRefuses(t *testing.T) {
	s := newShop(t, "")
	for environment, component := range map[string]string{"../main": "api", "production": "all", "staging": "a/b"} {
		_, err := s.service.ProposeTraffic(t.Context(), promotion.Shift{Environment: environment, Component: component})
		var name *promotion.NameError
		require.ErrorAs(t, err, &name)
	}
	_, err := s.service.ProposeTraffic(t.Context(), promotion.Shift{Environment: "production", Component: "web", Edit: func(t *envrepo.Tree) (envrepo.Summary, error) {
		return envrepo.SetTraffic(t, "production", "web", envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}}})
	}})
	var untagged *envrepo.UntaggedError
	require.ErrorAs(t, err, &untagged)
}
