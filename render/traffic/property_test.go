package traffic

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
)

// randomTraffic gives some of the tags weights that sum to 100.
func randomTraffic(r *rand.Rand, tags []string) envrepo.Traffic {
	var t envrepo.Traffic
	rest := 100
	for i, at := range r.Perm(len(tags))[:1+r.IntN(len(tags))] {
		percent := r.IntN(rest + 1)
		if i == 0 && r.IntN(3) == 0 {
			percent = rest
		}
		rest -= percent
		t.Weights = append(t.Weights, envrepo.Weight{Tag: tags[at], Percent: percent})
	}
	t.Weights[0].Percent += rest
	return t
}

// randomRoute makes a route with references to api and to others, some without
// a weight.
func randomRoute(r *rand.Rand, services []string) *unstructured.Unstructured {
	rules := []any{}
	for range r.IntN(4) {
		refs := []any{}
		for range r.IntN(4) {
			ref := map[string]any{"name": services[r.IntN(len(services))], "port": int64(80 + r.IntN(2))}
			if r.IntN(2) == 0 {
				ref["weight"] = int64([]int{0, 1, 2, 3, 5, 100, 333, 10_000}[r.IntN(8)])
			}
			refs = append(refs, ref)
		}
		kept := map[string]any{"backendRefs": refs, "name": "kept", "timeouts": map[string]any{"request": "1s"}}
		if r.IntN(2) == 0 {
			kept["filters"] = []any{map[string]any{"type": "RequestMirror", "requestMirror": map[string]any{"backendRef": map[string]any{"name": "api", "port": int64(80)}}}}
		}
		rules = append(rules, kept)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1",
		"kind":       []string{"HTTPRoute", "GRPCRoute"}[r.IntN(2)],
		"metadata":   map[string]any{"name": "route", "namespace": "shop-production"},
		"spec":       map[string]any{"rules": rules},
	}}
}

// shares is what each Service and port gets of a rule's requests; nil when the
// rule sends none anywhere.
func shares(rule rule) map[string]*big.Rat {
	total := new(big.Rat)
	sums := map[string]*big.Rat{}
	for _, b := range rule.entries {
		weight := new(big.Rat).SetInt64(b.weight)
		total.Add(total, weight)
		key := fmt.Sprint(b.service, ":", b.fields["port"])
		if sums[key] == nil {
			sums[key] = new(big.Rat)
		}
		sums[key].Add(sums[key], weight)
	}
	if total.Sign() == 0 {
		return nil
	}
	for _, sum := range sums {
		sum.Quo(sum, total)
	}
	return sums
}

// TestSharesAreExact: every tag gets exactly its percent of what the user gave
// api, and every other backend exactly what it had. Everything else stays.
func TestSharesAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tags := []string{"blue", "canary", "green"}
	for range 5000 {
		route, traffic := randomRoute(r, []string{"api", "web", "old"}), randomTraffic(r, tags)
		before := route.DeepCopy()
		got, err := Transform([]*unstructured.Unstructured{route}, nil, "api", traffic, tags, Support{})
		require.Equal(t, before, route, "the input changed")
		require.NoError(t, err)

		rulesBefore, err := gatewayRules(before)
		require.NoError(t, err)
		rulesAfter, err := gatewayRules(got[0])
		require.NoError(t, err)
		require.Len(t, rulesAfter, len(rulesBefore))
		for i := range rulesBefore {
			want := map[string]*big.Rat{}
			for key, share := range shares(rulesBefore[i]) {
				service, port, _ := strings.Cut(key, ":")
				if service != "api" {
					want[key] = share
					continue
				}
				for _, w := range traffic.Weights {
					want["api-"+w.Tag+":"+port] = new(big.Rat).Mul(share, big.NewRat(int64(w.Percent), 100))
				}
			}
			got := shares(rulesAfter[i])
			require.Len(t, got, len(want))
			for key, share := range want {
				require.Zero(t, share.Cmp(got[key]), "%s: want %s, got %s", key, share, got[key])
			}
			rulesBefore[i].fields["backendRefs"], rulesAfter[i].fields["backendRefs"] = nil, nil
		}
		require.Equal(t, before, got[0])
	}
}

// TestWithoutReferenceNothingChanges: objects that do not name api come out equal,
// however often.
func TestWithoutReferenceNothingChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	tags := []string{"blue", "green"}
	for range 1000 {
		objects := []*unstructured.Unstructured{randomRoute(r, []string{"web", "old"})}
		for range 2 {
			got, err := Transform(objects, nil, "api", randomTraffic(r, tags), tags, Support{})
			require.NoError(t, err)
			require.Equal(t, objects, got)
			objects = got
		}
	}
}

// FuzzTransform: whatever the objects look like, Transform does not panic or
// change them, and what it lets through keeps the limits and names no plain
// Service in a rule any more.
func FuzzTransform(ff *testing.F) {
	f := mutants.New(ff)
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		for _, section := range txtar.Parse(data).Files {
			if section.Name == "input.yaml" {
				f.Add(section.Data, uint8(90), uint8(5))
				f.Add(section.Data, uint8(100), uint8(5))
			}
		}
	}
	f.Add([]byte("{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: 1, spec: {rules: [null, 1, {backendRefs: [{name: api, weight: 1.5}]}]}}"), uint8(1), uint8(0))
	f.Add([]byte("{apiVersion: projectcontour.io/v1, kind: HTTPProxy, spec: {routes: [{services: [{name: api, port: 80}, {name: 1}, null]}], to: [{kind: Service, name: api-blue}], canaryService: 'http://api:80/'}}"), uint8(1), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, blue, mirror uint8) {
		objects, err := decode(data)
		if err != nil {
			return
		}
		blue %= 101
		traffic := envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: int(blue)}, {Tag: "green", Percent: 100 - int(blue)}}}
		if blue == 100 {
			traffic.Mirrors = []envrepo.Weight{{Tag: "green", Percent: int(mirror % 101)}}
		}
		before := slices.Clone(objects)
		for i := range before {
			before[i] = before[i].DeepCopy()
		}
		api := Tagged{Component: "api", Tags: []string{"blue", "green"}}
		for _, f := range append(Foreign(objects, api, []Tagged{api}), Unweighted(objects, api, []Tagged{api})...) {
			require.NotEmpty(t, f.Message)
			require.NotEmpty(t, f.Hint)
		}
		got, err := Transform(objects, nil, "api", traffic, []string{"blue", "green"}, Support{Known: true, PercentageMirror: true})
		require.Equal(t, before, objects)
		if err != nil {
			var hinted interface{ Hint() string }
			require.ErrorAs(t, err, &hinted)
			require.NotEmpty(t, hinted.Hint())
			return
		}
		possible := map[string]bool{}
		for _, o := range slices.Concat(objects, Companions(objects, "api", []string{"blue", "green"})) {
			possible[identity(o)] = true
		}
		require.GreaterOrEqual(t, len(got), len(objects))
		routes, rest := Routes(got, "api")
		require.Len(t, got, len(routes)+len(rest))
		for _, object := range got {
			assert.True(t, possible[identity(object)], describe(object))
			Gateways(object)
			if kind := object.GroupVersionKind(); kind.Group != gatewayGroup || kind.Kind != "HTTPRoute" {
				continue
			}
			rules, err := gatewayRules(object)
			require.NoError(t, err)
			for _, rule := range rules {
				for _, b := range rule.entries {
					assert.False(t, b.service == "api" && b.namespace == object.GetNamespace())
					assert.LessOrEqual(t, b.weight, int64(maxWeight))
				}
			}
		}
	})
}
