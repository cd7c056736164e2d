package promotion

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/envrepo"
)

// shifted is the Input of a change of traffic from blue=100 to blue=90, green=10.
func shifted() Input {
	in := sound()
	in.Kind, in.Head = KindTraffic, TrafficBranch("production", "api")
	c := in.Components[0]
	in.Components = []ComponentInput{{
		Name:       "api",
		OldTraffic: &envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}, {Tag: "green", Percent: 0}}},
		NewTraffic: &envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 90}, {Tag: "green", Percent: 10}}},
		Contracts:  []ContractInput{{Role: "gains", Tag: "green", Digest: c.New, Known: true, Required: []string{"CACHE_ADDR"}}},
		Shares: []Share{
			{Tag: "blue", Digest: c.Old, Old: Portion{Listed: true, Weight: 100}, New: Portion{Listed: true, Weight: 90}},
			{Tag: "green", Digest: c.New, Old: Portion{Listed: true}, New: Portion{Listed: true, Weight: 10},
				Health: &TagHealth{Tag: "green", Digest: c.New, Ready: true}},
		},
	}}
	return in
}

func TestJudgeTraffic(t *testing.T) {
	blue := func(in *Input) *Share { return &in.Components[0].Shares[0] }
	green := func(in *Input) *Share { return &in.Components[0].Shares[1] }
	for name, test := range map[string]struct {
		change func(*Input)
		want   string // of the gates that are not as in a sound one
	}{
		"sound":                {func(*Input) {}, ""},
		"foreign":              {func(in *Input) { in.Foreign = []string{"x is not what a change of traffic changes"} }, "scope failed: changes more than the traffic: x is not what a change of traffic changes"},
		"elsewhere":            {func(in *Input) { in.Target = "evil" }, "scope failed: merges into evil instead of main"},
		"conflict":             {func(in *Input) { in.Conflicts = []string{"traffic.yaml"} }, "fresh failed: main has other changes to traffic.yaml"},
		"environment gone":     {func(in *Input) { in.Declared = false }, "order failed: main has no environment production any more"},
		"does not render":      {func(in *Input) { in.Components[0].RenderError = "no route" }, "config failed: does not render: no route"},
		"what gains is broken": {func(in *Input) { green(in).Broken = "line 3" }, "config failed: green does not render: line 3\nhealthy passed: not demanded, as the controller waits for it: green does not render"},
		"what loses is broken": {func(in *Input) { blue(in).Broken = "line 3" }, ""},
		"a key is missing": {func(in *Input) { in.Components[0].Contracts[0].Missing = []string{"CACHE_ADDR"} },
			"config failed: cccccccccccc (green) misses CACHE_ADDR"},
		"a key is missing, not demanded": {func(in *Input) {
			in.Components[0].Contracts[0].Missing, in.Policy.Gates.Config = []string{"CACHE_ADDR"}, false
		}, "config passed: the contract is not demanded in production"},
		"not ready": {func(in *Input) { green(in).Health = &TagHealth{Digest: green(in).Digest, Message: "0 of 2 pods"} },
			"healthy passed: not demanded, as the controller waits for it: green is not ready: 0 of 2 pods"},
		"not known":      {func(in *Input) { green(in).Health = nil }, "healthy passed: not demanded, as the controller waits for it: green is not known to be ready"},
		"another digest": {func(in *Input) { green(in).Digest = digest("d") }, "healthy passed: not demanded, as the controller waits for it: green does not run dddddddddddd yet"},
		"starts":         {func(in *Input) { green(in).Old = Portion{} }, "healthy passed: not demanded, as the controller waits for it: green starts with the change"},
		"nothing gains":  {func(in *Input) { in.Components[0].Shares = in.Components[0].Shares[:1] }, "healthy passed: no tag gains"},
	} {
		t.Run(name, func(t *testing.T) {
			usual := map[string]string{}
			for _, g := range Judge(shifted()) {
				assert.Equal(t, Passed, g.State, g)
				usual[g.Name] = g.String()
			}
			assert.Len(t, usual, 7)
			in := shifted()
			test.change(&in)
			var got []string
			for _, g := range Judge(in) {
				if g.String() != usual[g.Name] {
					got = append(got, g.String())
					assert.True(t, g.State == Passed || g.Hint != "", g)
				}
			}
			assert.Equal(t, test.want, strings.Join(got, "\n"))
			assert.NotEmpty(t, Body(in))
			assert.Equal(t, "Set traffic of api in production: blue=90, green=10", Title(in))
		})
	}
}

// What a tag gains is what it must be ready for; to keep, to lose and to be left out is
// no reason to wait for it.
func TestShareGains(t *testing.T) {
	for _, test := range []struct {
		old, new Portion
		want     bool
	}{
		{Portion{}, Portion{}, false},
		{Portion{}, Portion{Listed: true}, true},
		{Portion{Listed: true}, Portion{}, false},
		{Portion{Listed: true, Weight: 10}, Portion{Listed: true, Weight: 10}, false},
		{Portion{Listed: true, Weight: 10}, Portion{Listed: true, Weight: 11}, true},
		{Portion{Listed: true, Weight: 10}, Portion{Listed: true, Weight: 9}, false},
		{Portion{Listed: true, Mirror: 5}, Portion{Listed: true, Mirror: 6}, true},
		{Portion{Listed: true, Mirror: 5}, Portion{Listed: true}, false},
		{Portion{Listed: true, Weight: 100}, Portion{}, false},
	} {
		assert.Equal(t, test.want, Share{Old: test.old, New: test.new}.Gains(), "%+v → %+v", test.old, test.new)
	}
}
