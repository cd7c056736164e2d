package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/render"
)

// TestDeploymentPast: what a rollback brings back, from the commits that changed a
// release, newest first. settled is after how many of them that is certain.
func TestDeploymentPast(t *testing.T) {
	t.Parallel()
	at := func(digest, message string) change {
		return change{Message: message, State: []releaseState{{Digest: "idle", Tag: "green"}, {Digest: digest, Tag: "blue"}}}
	}
	for name, c := range map[string]struct {
		changes []change
		target  string
		settled int // 0: never
	}{
		"no history":                         {nil, "", 0},
		"never another":                      {[]change{at("c", "traffic"), at("c", "deploy")}, "", 0},
		"the one before":                     {[]change{at("c", "traffic"), at("c", "deploy"), at("b", "deploy"), at("a", "deploy")}, "b", 3},
		"not committed yet":                  {[]change{at("b", "deploy"), at("a", "deploy")}, "b", 0},
		"brings back, not committed yet":     {[]change{at("b", "deploy"), at("c", "deploy")}, "", 2},
		"rolled back":                        {[]change{at("c", "roll back api in production to c"), at("b", "deploy"), at("a", "x"), at("c", "deploy")}, "", 4},
		"reverted":                           {[]change{at("c", `Revert "Deploy b"`), at("b", "deploy"), at("c", "deploy")}, "", 3},
		"a pull request as GitHub tries it":  {[]change{at("c", "Merge "+strings.Repeat("a", 40)+" into "+strings.Repeat("b", 40)), at("b", "deploy"), at("c", "deploy")}, "", 3},
		"says so and had never been":         {[]change{at("c", "roll back api"), at("b", "deploy")}, "b", 0},
		"rolled back, and again forward":     {[]change{at("c", "deploy"), at("b", "roll back"), at("c", "deploy"), at("b", "deploy")}, "b", 2},
		"a commit that cannot be read":       {[]change{{Message: "broken"}, at("c", "deploy"), {}, at("b", "deploy")}, "b", 4},
		"other tags and no digest count not": {[]change{at("c", "deploy"), {State: []releaseState{{Digest: "x"}, {Tag: "green", Digest: "y"}, {Tag: "blue"}}}}, "", 0},
	} {
		past, settled := deploymentPast{tag: "blue", present: "c"}, 0
		for i, change := range c.changes {
			past.add(change)
			if settled == 0 && past.settled() {
				settled = i + 1
				assert.Equal(t, c.target, past.target(), "%s: settled", name)
			}
		}
		assert.Equal(t, c.target, past.target(), name)
		assert.Equal(t, c.settled, settled, name)
	}
}

// TestHistoriesThatEnd: where not all commits can be told, nothing is demanded that
// older ones may clear up.
func TestHistoriesThatEnd(t *testing.T) {
	t.Parallel()
	at := func(digest, message string) change {
		return change{Message: message, State: []releaseState{{Digest: digest}}}
	}
	for name, c := range map[string]struct {
		changes                []change
		complete, limited, cut bool // whether the target is known then
	}{
		"nothing else":    {[]change{at("c", "deploy")}, true, false, false},
		"deployed":        {[]change{at("c", "deploy"), at("b", "deploy")}, true, true, true},
		"goes back":       {[]change{at("c", "roll back api"), at("b", "deploy")}, true, false, false},
		"went back":       {[]change{at("c", "roll back api"), at("b", "deploy"), at("c", "deploy")}, true, true, true},
		"not yet pinned":  {[]change{at("b", "deploy")}, true, true, false},
		"nothing is told": {nil, true, false, false},
	} {
		l := &lookback{past: deploymentPast{present: "c"}}
		for _, change := range c.changes {
			l.past.add(change)
		}
		for ended, known := range map[error]bool{nil: c.complete, errLookedBack: c.limited, &gitrepo.ShallowError{}: c.cut} {
			l.ended = ended
			assert.Equal(t, known, l.known(), "%s: %v", name, ended)
		}
	}
}

// TestLookbacks: of the builds that are not pinned, those that lack something which
// nothing else requires, in the deployments that run.
func TestLookbacks(t *testing.T) {
	t.Parallel()
	objects := []*unstructured.Unstructured{{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "api", "namespace": "shop"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{
			"name": "api", "image": "registry.example.com/api@sha256:2", "env": []any{map[string]any{"name": "PRESENT", "value": "1"}},
		}}}}},
	}}}
	component := envrepo.Component{Name: "api", Image: "registry.example.com/api", Config: envrepo.Contract{Required: []string{"DEMANDED"}}}
	build := func(digest string, required ...string) envrepo.Build {
		return envrepo.Build{Digest: digest, Config: &envrepo.Contract{Required: required}}
	}
	builds := []envrepo.Build{
		build("3", "PRESENT", "NEWER"), build("2", "PRESENT", "OWN"), build("1", "PRESENT", "OLD", "OWN", "DEMANDED"), build("0", "OLD", "OLDER"),
		build("whole", "PRESENT", "DEMANDED"), {Digest: "no contract"},
	}
	r := &render.Result{Release: envrepo.Release{Name: "api", Environment: envrepo.Environment{Name: "production"}, Component: component, Digest: "2"}, Shared: objects}

	told := func(list []*lookback) map[string]map[string][]string {
		all := map[string]map[string][]string{}
		for _, l := range list {
			all[l.name()] = map[string][]string{}
			for digest, lacks := range l.lacks {
				for _, m := range lacks {
					all[l.name()][digest] = append(all[l.name()][digest], m.Key)
				}
			}
		}
		return all
	}
	assert.Equal(t, map[string]map[string][]string{"production/api": {"3": {"NEWER"}, "1": {"OLD"}, "0": {"OLD", "OLDER"}}}, told(lookbacks(r, builds)))
	assert.Empty(t, lookbacks(r, builds[4:]), "nothing is lacked: no history is needed")

	r.Release.Traffic = &envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}, {Tag: "green"}}}
	r.Tags = []render.TagObjects{{Name: "blue", Digest: "2"}, {Name: "green", Digest: "1"}, {Name: "unlisted", Digest: "2"}, {Name: "broken", Broken: assert.AnError}}
	assert.Equal(t, map[string]map[string][]string{"production/api (blue)": {"1": {"OLD"}, "0": {"OLD", "OLDER"}}, "production/api (green)": {"0": {"OLDER"}}},
		told(lookbacks(r, builds[1:4])))

	r.Opaque = []string{"patch.bin"}
	for _, l := range lookbacks(r, builds) {
		for _, m := range l.lacks["0"] {
			assert.True(t, m.Unknown, "an encrypted patch may add it")
			assert.Contains(t, m.Reason, ", unless patch.bin does, which is encrypted as a whole")
		}
	}
}
