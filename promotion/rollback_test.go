package promotion

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestJudgeReturns: what a rollback asks of the environment that it goes back in,
// and that it asks nothing of the one before.
func TestJudgeReturns(t *testing.T) {
	served := []Served{{Digest: digest("c"), Since: at("2026-11-20T08:00:00Z"), Until: at("2026-11-20T09:00:00Z")}}
	for _, test := range []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"served", func(in *Input) { in.Components[0].Here = HealthReport{Known: true, Served: served} }, `
order passed: a rollback: production has had cccccccccccc before
healthy passed: was ready in production from 2026-11-20T08:00:00Z to 2026-11-20T09:00:00Z
soak passed: a rollback waits for no soak`},
		{"first environment", func(in *Input) {
			in.Policy.From = ""
			in.Components[0].Here = HealthReport{Known: true, Served: served}
		}, `
order passed: a rollback: production has had cccccccccccc before
healthy passed: was ready in production from 2026-11-20T08:00:00Z to 2026-11-20T09:00:00Z
soak passed: a rollback waits for no soak`},
		{"runs elsewhere", func(in *Input) {
			in.Components[0].Here = HealthReport{Known: true, Ready: true, Digests: []string{digest("c")}}
		}, `
order passed: a rollback: production has had cccccccccccc before
healthy passed: is ready in production under another tag
soak passed: a rollback waits for no soak`},
		{"never served", func(in *Input) { in.Components[0].Here = HealthReport{Known: true, Ready: true} }, `
order passed: a rollback: production has had cccccccccccc before
healthy failed: cccccccccccc is not known to have been ready in production
soak passed: a rollback waits for no soak`},
		{"not known", func(in *Input) { in.Components[0].Here = HealthReport{Message: "no cluster"} }, `
order passed: a rollback: production has had cccccccccccc before
healthy pending: health in production is not known: no cluster
soak passed: a rollback waits for no soak`},
		{"the source vouches for it, too", func(in *Input) { in.Components[0].Source = digest("c") }, `
order passed: a rollback: production has had cccccccccccc before
healthy passed: ready in staging
soak passed: a rollback waits for no soak`},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := sound()
			in.Components[0].Returns = true
			in.Components[0].Source = digest("d")
			test.change(&in)
			var got strings.Builder
			for _, g := range Judge(in) {
				if g.Name == GateOrder || g.Name == GateHealthy || g.Name == GateSoak {
					got.WriteString("\n" + g.String())
				}
			}
			assert.Equal(t, test.want, got.String())
			assert.Contains(t, Body(in), "Back to a digest that")
			assert.Equal(t, "Roll back api in production: cccccccccccc", Title(in))
		})
	}
}
