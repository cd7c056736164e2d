package traffic

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
)

// Each row is a change of traffic, and what it brings about and what there was before.
// In each the routes of the release are those that are named.
func TestFaults(t *testing.T) {
	const (
		large  = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: large}, spec: {rules: [{backendRefs: [{name: api, weight: 999983}, {name: web, weight: 1}]}]}}"
		small  = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: small}, spec: {rules: [{backendRefs: [{name: api}]}]}}"
		grpc   = "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: grpc}, spec: {rules: [{backendRefs: [{name: api}]}]}}"
		tcp    = "{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: tcp}, spec: {rules: [{backendRefs: [{name: api}]}]}}"
		direct = "{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: direct}, spec: {rules: [{backendRefs: [{name: api-green}]}]}}"
		subset = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: subset}, spec: {http: [{route: [{destination: {host: api, subset: v1}}]}]}}"
		policy = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: blue}, spec: {host: api-blue, subsets: [{name: v1}]}}"
	)
	for _, test := range []struct {
		name             string
		objects          []string
		before, now      string
		mirror           string // of now
		caused, standing []string
	}{
		{"over the limit", []string{large, small}, "blue=100 green=0", "blue=89 green=11", "", []string{"HTTPRoute large"}, nil},
		{"over the limit as before", []string{large, small}, "blue=89 green=11", "blue=90 green=10", "", nil, []string{"HTTPRoute large"}},
		{"below it again", []string{large, small}, "blue=89 green=11", "blue=100 green=0", "", nil, nil},
		{"one of two was there", []string{direct, large}, "blue=100 green=0", "blue=89 green=11", "", []string{"HTTPRoute large"}, []string{"TCPRoute direct"}},
		{"nothing known of before", []string{large}, "", "blue=89 green=11", "", []string{"HTTPRoute large"}, nil},
		{"a tag without the subset", []string{subset, policy}, "blue=100", "blue=100 green=0", "", []string{"VirtualService subset"}, nil},
		{"leaving the tag without the subset", []string{subset, policy}, "blue=10 green=90", "blue=100 green=0", "", nil, []string{"VirtualService subset"}},
		{"no route that follows", []string{tcp}, "blue=100 green=0", "blue=90 green=10", "", []string{"TCPRoute tcp"}, nil},
		{"none as before", []string{tcp}, "blue=90 green=10", "blue=80 green=20", "", nil, []string{"TCPRoute tcp"}},
		{"a mirror", []string{grpc}, "blue=90 green=10", "blue=100 green=0", "green=5", []string{"GRPCRoute grpc"}, nil},
		{"a mirror beside a standing fault", []string{grpc, direct}, "blue=100 green=0", "blue=100 green=0", "green=5", []string{"GRPCRoute grpc"}, []string{"TCPRoute direct"}},
		{"a mirror that nothing takes", []string{tcp}, "blue=100 green=0", "blue=100 green=0", "green=5", []string{"mirror to tag green"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			release, err := decode([]byte(strings.Join(test.objects, "\n---\n")))
			require.NoError(t, err)
			traffic := func(weights, mirrors string) envrepo.Traffic {
				return envrepo.Traffic{Weights: parseWeights(t, strings.Fields(weights)), Mirrors: parseWeights(t, strings.Fields(mirrors))}
			}
			caused, standing := Faults(release, nil, "api", traffic(test.before, ""), traffic(test.now, test.mirror), []string{"blue", "green"},
				Support{Known: true, PercentageMirror: true, MultipleMirrors: true})
			begins := func(want []string, errs []error) {
				require.Len(t, errs, len(want), "%v", errs)
				for i, err := range errs {
					assert.Regexp(t, "^"+want[i], err.Error())
				}
			}
			begins(test.caused, caused)
			begins(test.standing, standing)
		})
	}
}
