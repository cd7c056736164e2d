package promotion

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
)

func TestSoundPromotionPassesEveryGate(t *testing.T) {
	var got []string
	for _, g := range Judge(sound()) {
		got = append(got, g.String())
	}
	assert.Equal(t, strings.TrimSpace(`
scope passed: changes the digest and nothing else
fresh passed: rests on what main has now
order passed: staging has cccccccccccc
config passed: every required name is there
checks passed: trivy passed
healthy passed: ready in staging
soak passed: ready in staging since 2026-11-21T11:00:00Z, longer than 30m`), strings.Join(got, "\n"))
	assert.Empty(t, Unmet(Judge(sound())))
}

// one changes the only component of an Input.
func one(change func(*ComponentInput)) func(*Input) {
	return func(in *Input) { change(&in.Components[0]) }
}

type gateTest struct {
	name   string
	change func(*Input)
	want   string // the gates that have not passed
	until  string
}

func gateTests() []gateTest {
	return slices.Concat(structureTests(), evidenceTests(), movedOnTests())
}

// structureTests are about what the head changes.
func structureTests() []gateTest {
	return []gateTest{
		{name: "retargeted", change: func(in *Input) { in.Target = "playground" },
			want: "scope failed: merges into playground instead of main"},
		{name: "foreign file", change: func(in *Input) { in.Foreign = []string{"sluice.yaml belongs to no release of production"} },
			want: "scope failed: changes more than the digest: sluice.yaml belongs to no release of production"},
		{name: "no-op commit", change: func(in *Input) { in.Components = nil },
			want: `scope failed: changes no digest
order failed: no digest changes
config failed: no digest changes
checks failed: no digest changes
healthy failed: no digest changes
soak failed: no digest changes`},
		{name: "conflict", change: func(in *Input) { in.Conflicts = []string{"environments/production/api/green/kustomization.yaml"} },
			want: "fresh failed: main has other changes to environments/production/api/green/kustomization.yaml"},
		{name: "stale", change: func(in *Input) { in.Stale = []string{"environments/production/api/base/config.env"} },
			want: "fresh failed: environments/production/api/base/config.env has changed since on main"},
		{name: "environment removed", change: func(in *Input) { in.Declared = false },
			want: "order failed: main has no environment production any more"},
		{name: "first environment", change: func(in *Input) { in.Policy = envrepo.Promotion{} },
			want: "order failed: no environment comes before production"},
		{name: "skips an environment", change: one(func(c *ComponentInput) { c.Source = digest("d") }),
			want: "order failed: staging has dddddddddddd, not cccccccccccc"},
		{name: "source is empty", change: one(func(c *ComponentInput) { c.Source = "" }),
			want: "order failed: staging has no digest of api"},
		{name: "no digest", change: one(func(c *ComponentInput) {
			*c = ComponentInput{Name: "api", RenderError: "traffic.yaml:1: no"}
		}), want: `order failed: no digest can be read: traffic.yaml:1: no
config failed: no digest can be read: traffic.yaml:1: no
checks failed: no digest can be read: traffic.yaml:1: no
healthy failed: no digest can be read: traffic.yaml:1: no
soak failed: no digest can be read: traffic.yaml:1: no`},
	}
}

// evidenceTests are about whether the digest is good.
func evidenceTests() []gateTest {
	return []gateTest{
		{name: "does not render", change: one(func(c *ComponentInput) { c.RenderError = "kustomization.yaml:3: no" }),
			want: "config failed: does not render: kustomization.yaml:3: no"},
		{name: "contract of the new digest", change: one(func(c *ComponentInput) { c.Contracts[0].Missing = []string{"DATABASE_URL"} }),
			want: "config failed: cccccccccccc (new digest in green) misses DATABASE_URL"},
		{name: "contract of a running digest", change: one(func(c *ComponentInput) { c.Contracts[1].Missing = []string{"CACHE_ADDR"} }),
			want: "config failed: bbbbbbbbbbbb (running in blue) misses CACHE_ADDR"},
		{name: "contract not demanded", change: func(in *Input) {
			in.Policy.Gates.Config = false
			in.Components[0].Contracts[0].Missing = []string{"DATABASE_URL"}
		}},
		{name: "check not recorded", change: func(in *Input) { in.Policy.Gates.Checks = []string{"trivy", "sbom"} },
			want: "checks failed: cccccccccccc: sbom is not recorded"},
		{name: "check failed once", change: one(func(c *ComponentInput) {
			c.NewBuild.Checks = append(c.NewBuild.Checks, envrepo.Check{Name: "trivy", Status: "failed"})
		}), want: "checks failed: cccccccccccc: trivy is failed"},
		{name: "no build record", change: one(func(c *ComponentInput) { c.NewBuild = nil }),
			want: "checks failed: no build record of cccccccccccc"},
		{name: "nothing demanded", change: func(in *Input) {
			in.Policy.Gates = envrepo.Gates{}
			in.Components[0].NewBuild = nil
			in.Components[0].Health = HealthReport{}
		}},
		{name: "health unknown", change: one(func(c *ComponentInput) { c.Health = HealthReport{Message: "no cluster is given"} }),
			want: `healthy pending: health in staging is not known: no cluster is given
soak pending: 30m of health in staging: health in staging is not known: no cluster is given`},
		{name: "not ready", change: one(func(c *ComponentInput) { c.Health.Ready = false; c.Health.Message = "1/2 pods\nare ready" }),
			want: `healthy pending: not ready in staging: 1/2 pods are ready
soak pending: 30m of health in staging: not ready in staging: 1/2 pods are ready`},
		{name: "health of another digest", change: one(func(c *ComponentInput) { c.Health.Digests = []string{digest("b")} }),
			want: `healthy pending: staging does not run cccccccccccc yet
soak pending: 30m of health in staging: staging does not run cccccccccccc yet`},
		{name: "soaking", change: one(func(c *ComponentInput) { c.Health.Since = at("2026-11-21T11:30:01Z") }),
			want:  "soak pending: ready in staging since 2026-11-21T11:30:01Z, awaited until 2026-11-21T12:00:01Z",
			until: "2026-11-21T12:00:01Z"},
		{name: "soaked to the second", change: one(func(c *ComponentInput) { c.Health.Since = at("2026-11-21T11:30:00Z") })},
		{name: "since is in the future", change: one(func(c *ComponentInput) { c.Health.Since = at("2026-11-21T13:00:00Z") }),
			want:  "soak pending: ready in staging since 2026-11-21T13:00:00Z, awaited until 2026-11-21T13:30:00Z",
			until: "2026-11-21T13:30:00Z"},
		{name: "since is not known", change: one(func(c *ComponentInput) { c.Health.Since = time.Time{} }),
			want: "soak pending: 30m of health in staging: since when it is ready is not known"},
	}
}

func TestGates(t *testing.T) {
	for _, tt := range gateTests() {
		t.Run(tt.name, func(t *testing.T) {
			in := sound()
			tt.change(&in)
			gates := Judge(in)
			require.Len(t, gates, 7, "every gate is always judged")
			var got []string
			for _, g := range Unmet(gates) {
				got = append(got, g.String())
				if g.State == Failed {
					assert.NotEmpty(t, g.Hint, g.Name)
				}
				if tt.until != "" {
					assert.Equal(t, tt.until, g.Until.Format(time.RFC3339))
				}
			}
			assert.Equal(t, tt.want, strings.Join(got, "\n"))
		})
	}
}

func TestGatesOfSeveralComponents(t *testing.T) {
	in := sound()
	web := sound().Components[0]
	web.Name, web.Health.Since = "web", at("2026-11-21T11:45:00Z")
	in.Components = append(in.Components, web)
	in.Components[0].Health.Since = at("2026-11-21T11:40:00Z")

	unmet := Unmet(Judge(in))
	require.Len(t, unmet, 1)
	assert.Equal(t, "soak pending: api: ready in staging since 2026-11-21T11:40:00Z, awaited until 2026-11-21T12:10:00Z; "+
		"web: ready in staging since 2026-11-21T11:45:00Z, awaited until 2026-11-21T12:15:00Z", unmet[0].String())
	assert.Equal(t, at("2026-11-21T12:15:00Z"), unmet[0].Until, "all have soaked when the last one has")

	in.Components[1].Health = HealthReport{}
	soak := Unmet(Judge(in))[1]
	assert.Zero(t, soak.Until, "when an unknown one has soaked is not known")

	in.Components[1].Source = ""
	assert.Equal(t, "order failed: web: staging has no digest of web", Unmet(Judge(in))[0].String(), "the worst verdict counts")
}

func TestGateStatus(t *testing.T) {
	g := Gate{Name: GateScope, State: Failed, Message: strings.Repeat("ü", 300) + "\nand more"}
	status := g.Status()
	assert.Equal(t, "sluice/scope", status.Context)
	assert.Equal(t, StatusFailure, status.State)
	assert.Len(t, []rune(status.Description), MaxDescription)
	assert.Equal(t, StatusPending, Gate{State: Pending}.Status().State)
	assert.Equal(t, StatusSuccess, Gate{State: Passed}.Status().State)
}

func TestGatesErrorNamesEachGate(t *testing.T) {
	in := sound()
	in.Components[0].Source = digest("d")
	in.Components[0].Health.Since = at("2026-11-21T11:45:00Z")
	err := &GatesError{Number: 3, Gates: Unmet(Judge(in))}
	assert.EqualError(t, err, `pull request #3 may not be merged:
  order failed: staging has dddddddddddd, not cccccccccccc
  soak pending: ready in staging since 2026-11-21T11:45:00Z, awaited until 2026-11-21T12:15:00Z`)
	assert.Equal(t, "`sluice promote api --to production` renews the pull request", err.Hint())
}
