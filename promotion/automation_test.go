package promotion

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/envrepo"
)

// occasion is one on which automation proposes c: staging has had it for an hour,
// production has a.
func occasion() Occasion {
	built := func(c, when string) envrepo.Build { return envrepo.Build{Digest: digest(c), CreatedAt: at(when)} }
	return Occasion{
		Now: at("2026-11-21T12:00:00Z"), Environment: "production", Component: "api",
		Policy: envrepo.Promotion{From: "staging", Auto: true, Gates: envrepo.Gates{Healthy: true, Soak: 30 * time.Minute}},
		Builds: []envrepo.Build{
			built("d", "2026-11-21T11:50:00Z"), built("c", "2026-11-21T10:30:00Z"), built("b", "2026-11-21T10:00:00Z"), built("a", "2026-11-20T10:00:00Z"),
		},
		Source:       digest("c"),
		SourceHealth: HealthReport{Known: true, Ready: true, Digests: []string{digest("c")}, Since: at("2026-11-21T11:00:00Z")},
		Pins:         []string{digest("a")},
		Wanted:       []string{digest("a")},
		Had:          []declaration{{digest: digest("a"), at: at("2026-11-20T11:00:00Z")}},
		TargetHealth: HealthReport{Known: true, Ready: true, Digests: []string{digest("a")}, Since: at("2026-11-20T11:10:00Z")},
	}
}

type occasionTest struct {
	name    string
	change  func(*Occasion)
	digest  string // "": nothing is proposed
	message string
	until   string
}

// movesOn has staging go on to d, which soaks, after c was ready for as long as
// given.
func movesOn(length time.Duration) func(*Occasion) {
	return func(o *Occasion) {
		o.Source, o.MovedOn = digest("d"), []string{digest("c")}
		until := at("2026-11-21T11:55:00Z")
		o.SourceHealth = HealthReport{Known: true, Ready: true, Digests: []string{digest("d")}, Since: until,
			Served: []Served{{Digest: digest("c"), Since: until.Add(-length), Until: until}}}
	}
}

func sourceTests() []occasionTest {
	return []occasionTest{
		{name: "it has soaked", change: func(*Occasion) {}, digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "it soaks", change: func(o *Occasion) { o.SourceHealth.Since = at("2026-11-21T11:45:00Z") },
			message: "ready in staging since 2026-11-21T11:45:00Z, awaited until 2026-11-21T12:15:00Z", until: "2026-11-21T12:15:00Z"},
		{name: "it is not ready", change: func(o *Occasion) { o.SourceHealth.Ready = false; o.SourceHealth.Message = "0/1 pods" },
			message: "not ready in staging: 0/1 pods"},
		{name: "its health is not known", change: func(o *Occasion) { o.SourceHealth = HealthReport{Message: "the report is too old"} },
			message: "health in staging is not known: the report is too old"},
		{name: "nothing is demanded", change: func(o *Occasion) { o.Policy.Gates, o.SourceHealth = envrepo.Gates{}, HealthReport{} },
			digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "it has no record", change: func(o *Occasion) { o.Builds = o.Builds[2:] }, message: "nothing newer is in staging"},
		{name: "the target has it", change: func(o *Occasion) { o.Pins = []string{digest("c")} }, message: "nothing newer is in staging"},
		{name: "the idle tag of the target has it", change: func(o *Occasion) { o.Pins = []string{digest("a"), digest("c")} }, message: "nothing newer is in staging"},
		{name: "the target has a newer one", change: func(o *Occasion) { o.Pins = []string{digest("d")} }, message: "nothing newer is in staging"},
		{name: "what the target has is not recorded", change: func(o *Occasion) {
			o.Wanted, o.TargetHealth.Digests = []string{digest("e")}, []string{digest("e")}
			o.Pins, o.Had = []string{digest("e")}, []declaration{{digest: digest("e"), at: at("2026-11-20T11:00:00Z")}}
		}, digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "the source has moved on, the one before has soaked", change: movesOn(40 * time.Minute),
			digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "the source has moved on too soon", change: movesOn(20 * time.Minute),
			message: "ready in staging since 2026-11-21T11:55:00Z, awaited until 2026-11-21T12:25:00Z", until: "2026-11-21T12:25:00Z"},
		{name: "the source has taken it back", change: func(o *Occasion) { movesOn(40 * time.Minute)(o); o.MovedOn = nil },
			message: "ready in staging since 2026-11-21T11:55:00Z, awaited until 2026-11-21T12:25:00Z", until: "2026-11-21T12:25:00Z"},
		{name: "the newest of several that have soaked", change: func(o *Occasion) {
			movesOn(40 * time.Minute)(o)
			o.SourceHealth.Since = at("2026-11-21T11:00:00Z")
		}, digest: "d", message: "dddddddddddd has proved itself in staging"},
	}
}

func targetTests() []occasionTest {
	fails := func(o *Occasion) {
		o.Pins, o.Wanted = []string{digest("b")}, []string{digest("b")}
		o.Had = []declaration{{digest: digest("b"), at: at("2026-11-21T10:50:00Z")}, {digest: digest("a"), at: at("2026-11-20T11:00:00Z")}}
		o.TargetHealth = HealthReport{Known: true, Failed: true, Digests: []string{digest("b")}, Message: "not ready within 5m"}
	}
	return []occasionTest{
		{name: "the target is not ready", change: func(o *Occasion) { o.TargetHealth.Ready = false; o.TargetHealth.Message = "1/2 pods" },
			message: "production is not ready: 1/2 pods"},
		{name: "health of the target is not known", change: func(o *Occasion) { o.TargetHealth = HealthReport{} },
			message: "health in production is not known: nobody reports it"},
		{name: "the target is ready with what it had before its last commit", change: func(o *Occasion) {
			o.Pins, o.Wanted = []string{digest("b")}, []string{digest("b")}
			o.Had = slices.Insert(o.Had, 0, declaration{digest: digest("b"), at: at("2026-11-21T11:59:00Z")})
		}, message: "production does not run bbbbbbbbbbbb yet"},
		{name: "one of its tags is not what the last commit made it", change: func(o *Occasion) {
			o.Pins, o.Wanted = []string{digest("a"), digest("b")}, []string{digest("a"), digest("b")}
		}, message: "production does not run bbbbbbbbbbbb yet"},
		{name: "the target failed with what it had before its last commit", change: func(o *Occasion) {
			fails(o)
			o.Had[0].at, o.TargetHealth.Digests = at("2026-11-21T10:20:00Z"), []string{digest("a")}
		}, message: "production does not run bbbbbbbbbbbb yet"},
		{name: "the target failed before it ran anything of its last commit", change: func(o *Occasion) {
			fails(o)
			o.TargetSeen, o.TargetHealth.Digests = true, []string{digest("a")}
		}, message: "production has failed: not ready within 5m: a build made since, or a person, goes on"},
		{name: "nothing runs in the target yet", change: func(o *Occasion) { o.Pins, o.Had, o.TargetHealth = nil, nil, HealthReport{} },
			digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "the target failed, and this was built before", change: fails,
			message: "production has failed: not ready within 5m: a build made since, or a person, goes on"},
		{name: "the target failed, and this was built since", change: func(o *Occasion) {
			fails(o)
			o.Had[0].at = at("2026-11-21T10:20:00Z")
		}, digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "it failed, and a person went back", change: func(o *Occasion) {
			o.Had = []declaration{{digest: digest("a"), at: at("2026-11-21T11:59:00Z")}, {digest: digest("c"), at: at("2026-11-21T11:40:00Z")}, {digest: digest("a"), at: at("2026-11-20T11:00:00Z")}}
		}, message: "production has had cccccccccccc: going back to it, or past it, is for a person"},
		{name: "a person went back, past it", change: func(o *Occasion) {
			o.Had = []declaration{{digest: digest("a"), at: at("2026-11-21T11:59:00Z")}, {digest: digest("d"), at: at("2026-11-21T11:55:00Z")}}
		}, message: "production has had dddddddddddd: going back to it, or past it, is for a person"},
	}
}

func pullTests() []occasionTest {
	return []occasionTest{
		{name: "it is proposed", change: func(o *Occasion) { o.Open = []string{digest("c")} }, digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "an older one is proposed", change: func(o *Occasion) { o.Open = []string{digest("b")} }, digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "a newer one is proposed", change: func(o *Occasion) { o.Open = []string{digest("d")} }, message: "a newer build is proposed already"},
		{name: "a rollback is proposed", change: func(o *Occasion) { o.Open, o.Back = []string{digest("b")}, 9 },
			message: "pull request #9 goes back in production: it is for a person to merge or to close"},
		{name: "it was withdrawn", change: func(o *Occasion) {
			o.Withdrawn = []Withdrawal{{Number: 7, Digests: []string{digest("c")}, At: at("2026-11-21T10:00:00Z")}}
		}, message: "pull request #7 was closed: a newer build, or a person, goes on"},
		{name: "it was withdrawn, and a person proposed it again", change: func(o *Occasion) {
			o.Withdrawn, o.Open = []Withdrawal{{Number: 7, Digests: []string{digest("c")}}}, []string{digest("c")}
		}, digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "another one was withdrawn", change: func(o *Occasion) {
			o.Withdrawn = []Withdrawal{{Number: 7, Digests: []string{digest("b")}, At: at("2026-11-21T11:59:00Z")}}
		}, digest: "c", message: "cccccccccccc has proved itself in staging"},
		{name: "something was withdrawn since it was built", change: func(o *Occasion) {
			o.Withdrawn = []Withdrawal{{Number: 7, At: at("2026-11-21T10:31:00Z")}}
		}, message: "pull request #7 was closed: a newer build, or a person, goes on"},
		{name: "something was withdrawn before it was built", change: func(o *Occasion) {
			o.Withdrawn = []Withdrawal{{Number: 7, At: at("2026-11-21T10:29:00Z")}}
		}, digest: "c", message: "cccccccccccc has proved itself in staging"},
	}
}

func TestNext(t *testing.T) {
	for _, tests := range [][]occasionTest{sourceTests(), targetTests(), pullTests()} {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				o := occasion()
				tt.change(&o)
				step := o.Next()
				want := ""
				if tt.digest != "" {
					want = digest(tt.digest)
				}
				assert.Equal(t, want, step.Digest)
				assert.Equal(t, tt.message, step.Message)
				if tt.until == "" {
					assert.Zero(t, step.Until)
				} else {
					assert.Equal(t, tt.until, step.Until.Format(time.RFC3339))
				}
			})
		}
	}
}
