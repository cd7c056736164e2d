package promotion

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/envrepo"
)

func TestBeyond(t *testing.T) {
	builds := []envrepo.Build{
		{Digest: digest("c"), CreatedAt: at("2026-11-21T12:00:00Z")},
		{Digest: digest("b"), CreatedAt: at("2026-11-21T11:00:00Z")},
		{Digest: digest("a"), CreatedAt: at("2026-11-21T10:00:00Z")},
	}
	untagged := func(c string) envrepo.Release {
		return envrepo.Release{Name: "web", Environment: envrepo.Environment{Name: "production"}, Digest: digest(c)}
	}
	// tagged has blue with all requests, and green, which is listed or not.
	tagged := func(blue, green string, listed bool) envrepo.Release {
		r := envrepo.Release{Name: "web", Environment: envrepo.Environment{Name: "production"},
			Traffic: &envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}}},
			Tags:    []envrepo.Tag{{Name: "blue", Digest: digest(blue)}, {Name: "green", Digest: digest(green)}}}
		if listed {
			r.Traffic.Weights = append(r.Traffic.Weights, envrepo.Weight{Tag: "green"})
		}
		return r
	}
	const there, newerThere = "web is already at bbbbbbbbbbbb in production", "web is already at cccccccccccc in production, a newer build"
	tests := []struct {
		name      string
		tag       string
		base, now envrepo.Release
		want      string
	}{
		{"nothing happened", "", untagged("a"), untagged("a"), ""},
		{"it is there", "", untagged("a"), untagged("b"), there},
		{"a newer build is there", "", untagged("a"), untagged("c"), newerThere},
		{"another older build is there", "", untagged("a"), untagged("1"), ""},
		{"it goes back", "", untagged("c"), untagged("c"), ""},
		{"it goes back, and is there", "", untagged("c"), untagged("b"), there},
		{"it goes back from one of no record", "", untagged("1"), untagged("c"), newerThere},
		{"nothing happened to the tags", "green", tagged("a", "a", false), tagged("a", "a", false), ""},
		{"the tag has it", "green", tagged("a", "a", true), tagged("a", "b", true), there},
		{"the tag has it, and does not run", "green", tagged("a", "a", false), tagged("a", "b", false), ""},
		{"the other tag has it", "green", tagged("a", "a", false), tagged("b", "a", false), there},
		{"the other tag has a newer build", "green", tagged("a", "a", false), tagged("c", "a", false), newerThere},
		{"the other tag had it before: the tag is to be listed", "green", tagged("b", "b", false), tagged("b", "b", false), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, beyond(digestChange{tag: tt.tag, new: digest("b")}, tt.base, tt.now, builds))
		})
	}
}
