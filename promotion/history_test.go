package promotion

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/envrepo"
)

func TestMovedOn(t *testing.T) {
	builds := []envrepo.Build{
		{Digest: "d"}, // no time
		{Digest: "c", CreatedAt: at("2026-11-21T12:00:00Z")},
		{Digest: "b", CreatedAt: at("2026-11-21T11:00:00Z")},
		{Digest: "a", CreatedAt: at("2026-11-21T10:00:00Z")},
	}
	tests := []struct {
		name    string
		history string // newest first
		want    bool
	}{
		{"a newer build came", "cba", true},
		{"two newer builds came", "cba", true},
		{"it is declared now", "ba", false},
		{"it was never declared", "ca", false},
		{"it was taken back", "ab", false},
		{"it was taken back before a newer one came", "caba", false},
		{"and is declared again", "cbaba", true},
		{"what came has no record", "xb", false},
		{"what came has no time", "db", false},
		{"what came is the same", "cbb", true},
		{"no history", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var history []declaration
			for _, digest := range tt.history {
				history = append(history, declaration{digest: string(digest)})
			}
			assert.Equal(t, tt.want, movedOn(history, builds, "b"))
		})
	}
	assert.False(t, newer(builds, "b", "b"))
}

// movedOnTests are about a digest that the source environment has replaced.
func movedOnTests() []gateTest {
	moved := func(since, until time.Time) func(*Input) {
		return one(func(c *ComponentInput) {
			c.Source, c.MovedOn = digest("d"), true
			c.Health.Digests = []string{digest("d")}
			c.Health.Served = []Served{{Digest: c.New, Since: since, Until: until}}
		})
	}
	return []gateTest{
		{name: "replaced after its soak", change: moved(at("2026-11-21T10:00:00Z"), at("2026-11-21T10:30:00Z"))},
		{name: "replaced after its soak, the new one is broken", change: func(in *Input) {
			moved(at("2026-11-21T10:00:00Z"), at("2026-11-21T10:30:00Z"))(in)
			in.Components[0].Health.Ready = false
		}},
		{name: "replaced in its soak", change: moved(at("2026-11-21T10:00:00Z"), at("2026-11-21T10:29:59Z")),
			want: `order failed: staging has dddddddddddd, not cccccccccccc
soak failed: ready in staging from 2026-11-21T10:00:00Z to 2026-11-21T10:29:59Z only, shorter than 30m`},
		{name: "replaced before it was ready", change: func(in *Input) {
			moved(time.Time{}, time.Time{})(in)
			in.Components[0].Health.Served = nil
		}, want: `order failed: staging has dddddddddddd, not cccccccccccc
healthy failed: cccccccccccc was not ready in staging when dddddddddddd replaced it
soak failed: cccccccccccc was not ready in staging when dddddddddddd replaced it`},
		{name: "being replaced", change: func(in *Input) {
			moved(time.Time{}, time.Time{})(in)
			in.Components[0].Health.Served, in.Components[0].Health.Digests = nil, []string{digest("c")}
		}, want: `order pending: staging goes on from cccccccccccc to dddddddddddd
healthy pending: staging goes on from cccccccccccc to dddddddddddd
soak pending: staging goes on from cccccccccccc to dddddddddddd`},
		{name: "replaced, and health is not known", change: func(in *Input) {
			moved(time.Time{}, time.Time{})(in)
			in.Components[0].Health = HealthReport{}
		}, want: `order pending: health in staging is not known: nobody reports it
healthy pending: health in staging is not known: nobody reports it
soak pending: health in staging is not known: nobody reports it`},
		{name: "replaced without proof where nothing is demanded", change: func(in *Input) {
			moved(time.Time{}, time.Time{})(in)
			in.Policy.Gates = envrepo.Gates{}
			in.Components[0].Health.Served = nil
		}, want: "order failed: staging has dddddddddddd, not cccccccccccc"},
	}
}

func TestPlausible(t *testing.T) {
	now := at("2026-11-21T12:00:00Z")
	built := func(c, when string) envrepo.Build { return envrepo.Build{Digest: digest(c), CreatedAt: at(when)} }
	builds := []envrepo.Build{built("e", "2026-11-21T12:04:00Z"), built("d", "2027-01-01T00:00:00Z"), built("c", "2026-11-21T11:00:00Z"), built("a", "2026-11-21T09:00:00Z")}
	order := func(builds []envrepo.Build) (text string) {
		for _, b := range builds {
			text += b.Digest[7:8]
		}
		return text
	}
	alone := plausible(builds, now)
	assert.Equal(t, "ecad", order(alone), "nobody knows when d was made; e's clock goes fast")
	assert.False(t, newer(alone, digest("d"), digest("a")))
	assert.True(t, builds[1].CreatedAt.Equal(at("2027-01-01T00:00:00Z")), "what was given is left as it is")

	had := declaration{digest: digest("d"), at: at("2026-11-21T10:00:00Z")}
	for _, then := range []time.Time{now, at("2027-02-01T00:00:00Z")} {
		declared := plausible(builds, then, declaration{digest: digest("d"), at: at("2026-11-21T11:30:00Z")}, had)
		assert.Equal(t, "ecda", order(declared), "it was made before it was declared, also when its own time has come")
		assert.True(t, newer(declared, digest("c"), digest("d")))
	}
}
