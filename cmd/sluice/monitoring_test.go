package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/reconciler"
)

const monitoring = "../../deploy/monitoring/"

// alertGroups are the rules as Prometheus reads them.
type alertGroups struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			For         string            `json:"for"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

// knownMetrics checks that an expression uses metrics that there are, with labels and
// states that they have.
func knownMetrics(t *testing.T) func(where, expr string) {
	t.Helper()
	_, registry := sampled(t)
	gathered := families(t, registry)
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	selector := regexp.MustCompile(`(sluice_[a-z_]+)(?:\{([^}]*)\})?`)
	label := regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	return func(where, expr string) {
		uses := selector.FindAllStringSubmatch(expr, -1)
		assert.NotEmpty(t, uses, "%s uses no metric: %s", where, expr)
		for _, use := range uses {
			name := use[1]
			if f := gathered[suffix.ReplaceAllString(name, "")]; f != nil && f.GetType().String() == "HISTOGRAM" {
				assert.Regexp(t, suffix, name, "%s: a histogram has no such series", where)
				name = suffix.ReplaceAllString(name, "")
			}
			if !assert.NotNil(t, gathered[name], "%s uses %s, which does not exist", where, name) {
				continue
			}
			for _, l := range label.FindAllStringSubmatch(use[2], -1) {
				assert.Contains(t, labelsOf(gathered[name]), l[1], "%s: %s", where, name)
				if l[1] == "state" && name == "sluice_release_state" {
					for _, word := range strings.Split(l[2], "|") {
						assert.True(t, slices.ContainsFunc(states, func(s reconciler.State) bool { return string(s) == word }), "%s: state %s", where, word)
					}
				}
			}
		}
		by := regexp.MustCompile(`by \(([a-z, ]+)\)`)
		have := []string{"le", "pod", "namespace"} // of histograms, and of how Prometheus names a target
		for _, use := range uses {
			if f := gathered[suffix.ReplaceAllString(use[1], "")]; f != nil {
				have = append(have, labelsOf(f)...)
			}
		}
		for _, list := range by.FindAllStringSubmatch(expr, -1) {
			for _, l := range strings.Split(list[1], ", ") {
				assert.Contains(t, have, l, "%s: %s", where, expr)
			}
		}
	}
}

func TestAlertsUseMetricsThatExist(t *testing.T) {
	t.Parallel()
	check := knownMetrics(t)
	text, err := os.ReadFile(monitoring + "rules.yaml")
	require.NoError(t, err)
	var rules alertGroups
	require.NoError(t, yaml.UnmarshalStrict(text, &rules))
	for _, g := range rules.Groups {
		require.NotEmpty(t, g.Rules)
		for _, r := range g.Rules {
			check(r.Alert, r.Expr)
			assert.NotEmpty(t, r.Labels["severity"], r.Alert)
			assert.NotEmpty(t, r.Annotations["summary"], r.Alert)
			assert.NotEmpty(t, r.Annotations["description"], r.Alert)
		}
	}

	text, err = os.ReadFile(monitoring + "prometheusrule.yaml")
	require.NoError(t, err)
	var object struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       alertGroups    `json:"spec"`
	}
	require.NoError(t, yaml.UnmarshalStrict(text, &object))
	assert.Equal(t, "monitoring.coreos.com/v1 PrometheusRule", object.APIVersion+" "+object.Kind)
	assert.Equal(t, rules, object.Spec, "the two files have become different")
}

func TestPromtoolTakesTheAlerts(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: apt-get install prometheus")
	}
	out, err := exec.Command(promtool, "check", "rules", "--lint=all", "--lint-fatal", monitoring+"rules.yaml").CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestTheDashboardUsesMetricsThatExist(t *testing.T) {
	t.Parallel()
	check := knownMetrics(t)
	text, err := os.ReadFile(monitoring + "dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID          int    `json:"id"`
			Type        string `json:"type"`
			Title       string `json:"title"`
			Description string `json:"description"`
			GridPos     struct{ H, W, X, Y int }
			Targets     []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
		Templating struct {
			List []struct {
				Query string `json:"query"`
				Type  string `json:"type"`
			} `json:"list"`
		} `json:"templating"`
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		assert.False(t, ids[p.ID], "two panels have id %d", p.ID)
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				assert.Empty(t, taken[at], "%s covers another panel", p.Title)
				assert.Less(t, at[0], 24, p.Title)
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" {
			check("a variable", v.Query)
		}
	}
}
