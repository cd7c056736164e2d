package reconciler

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/mutants"
)

func TestLargerNeverLosesAShare(t *testing.T) {
	shares := func(text string) []v1alpha1.TagPercent { s, _, _ := parseTraffic(text); return s }
	tests := []struct{ a, b, want string }{
		{"blue=100", "blue=100", "blue=100"},
		{"blue=100 green=0", "blue=90 green=10", "blue=100 green=10"},
		{"blue=100", "green=100", "blue=100 green=100"},
		{"", "blue=100", "blue=100"},
	}
	for _, tt := range tests {
		assert.Equal(t, shares(tt.want), larger(shares(tt.a), shares(tt.b)), "%s and %s", tt.a, tt.b)
	}
}

func FuzzParseTraffic(ff *testing.F) {
	f := mutants.New(ff)
	for _, s := range []string{"blue=90 green=10", "blue=100 green=0 mirror:green=5", "", "blue", "=", "mirror:=1", "blue=101", "blue=-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		weights, mirrors, ok := parseTraffic(s)
		if !ok {
			return
		}
		again, alsoMirrors, ok := parseTraffic(formatTraffic(weights, mirrors))
		if !ok || !equalShares(weights, again) || !equalShares(mirrors, alsoMirrors) {
			t.Errorf("%q reads as %v %v, which reads as %v %v", s, weights, mirrors, again, alsoMirrors)
		}
	})
}

func TestMaskedTakesSecretsOut(t *testing.T) {
	assert.Equal(t, "data.key: expected (secret), got (secret) and no",
		masked("data.key:\n  expected hunter2, got aHVudGVyMg== and no", []string{"hunter2", "no"}))
}

func TestScalers(t *testing.T) {
	tests := []struct {
		name, object       string
		target             string
		min, max, lifted20 int64
	}{
		{"autoscaler", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {minReplicas: 2, maxReplicas: 10, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: api}}}",
			"shop_api_apps_Deployment", 2, 10, 10},
		{"without a minimum", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 30, scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: api}}}",
			"shop_api_apps_StatefulSet", 1, 30, 20},
		{"KEDA", "{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: a}, spec: {scaleTargetRef: {name: api}}}",
			"shop_api_apps_Deployment", 0, 100, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := asScaler(object(tt.object))
			assert.Equal(t, tt.target, s.target.String())
			assert.Equal(t, []int64{tt.min, tt.max}, []int64{s.min, s.max})
			assert.Equal(t, lift{tt.lifted20, 25}, s.liveLift(s.withLift(lift{20, 25})))
			assert.Same(t, s.object, s.withLift(lift{tt.min, 25}))
			assert.Zero(t, s.liveLift(s.object))
		})
	}
	assert.Nil(t, asScaler(object("{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {scaleTargetRef: 3}}")))
	assert.Nil(t, asScaler(configMap("a", "1")))
}
