package promotion

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/internal/mutants"
)

func TestParseBranch(t *testing.T) {
	tests := []struct{ branch, environment, component string }{
		{"sluice/promote/production/api", "production", "api"},
		{"sluice/promote/production/all", "production", AllComponents},
		{"sluice/promote/production", "", ""},
		{"sluice/promote/production/api/blue", "", ""},
		{"sluice/promote/../main", "", ""},
		{"sluice/promote//api", "", ""},
		{"sluice/promote/production/-api", "", ""},
		{"sluice/promote/production/Api", "", ""},
		{"sluice/promote/production/api\n", "", ""},
		{"sluice/traffic/production/api", "production", "api"},
		{"sluice/traffic/production/all", "", ""},
		{"sluice/traffic/production", "", ""},
		{"sluice/traffic/production/sluice/promote", "", ""},
		{"main", "", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.branch, func(t *testing.T) {
			environment, component, ok := ParseBranch(tt.branch)
			assert.Equal(t, tt.environment, environment)
			assert.Equal(t, tt.component, component)
			assert.Equal(t, tt.component != "", ok)
		})
	}
}

func FuzzParseBranch(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("sluice/promote/production/api")
	f.Add("sluice/promote/a/b/c")
	f.Add("sluice/traffic/production/api")
	f.Add("main")
	f.Fuzz(func(t *testing.T, branch string) {
		if environment, component, ok := ParseBranch(branch); ok {
			names := map[Kind]string{KindPromotion: BranchName(environment, component), KindTraffic: TrafficBranch(environment, component)}
			assert.Equal(t, branch, names[KindOf(branch)])
		}
	})
}
