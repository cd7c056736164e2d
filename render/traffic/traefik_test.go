package traffic

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

// randomTraefik makes a route with services api and others, some without a weight.
func randomTraefik(r *rand.Rand) *unstructured.Unstructured {
	list := func() []any {
		services := []any{}
		for range r.IntN(4) {
			s := map[string]any{"name": []string{"api", "api", "web", "old"}[r.IntN(4)], "port": int64(80 + r.IntN(2))}
			if r.IntN(2) == 0 {
				s["weight"] = int64([]int{0, 1, 2, 3, 5, 100, 333, 10_000}[r.IntN(8)])
			}
			if r.IntN(3) == 0 {
				s["sticky"] = map[string]any{"cookie": map[string]any{}}
			}
			services = append(services, s)
		}
		return services
	}
	kind, spec := "IngressRoute", map[string]any{}
	switch r.IntN(3) {
	case 0:
		kind = "TraefikService"
		spec["weighted"] = map[string]any{"services": list(), "sticky": map[string]any{"cookie": map[string]any{}}}
	case 1:
		kind = "TraefikService"
		spec["mirroring"] = map[string]any{"name": "api", "port": int64(80), "mirrors": []any{map[string]any{"name": "audit", "percent": int64(10)}}}
	default:
		var routes []any
		for range r.IntN(3) {
			routes = append(routes, map[string]any{"match": "PathPrefix(`/`)", "services": list()})
		}
		spec["routes"] = routes
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "traefik.io/v1alpha1", "kind": kind,
		"metadata": map[string]any{"name": "shop", "namespace": "shop-production"}, "spec": spec}}
}

// traefikShares is what each Service and port gets of the requests of an object's
// lists and main service, and what each is copied; TraefikServices that were
// written are followed.
func traefikShares(t *testing.T, object *unstructured.Unstructured, written map[string]*unstructured.Unstructured) (shares, copies []map[string]*big.Rat) {
	t.Helper()
	read, err := readTraefik(object)
	require.NoError(t, err)
	for _, list := range read.lists {
		share, copied := map[string]*big.Rat{}, map[string]*big.Rat{}
		total := new(big.Rat)
		for _, e := range list.targets {
			if list.soleAll && len(list.targets) == 1 {
				e.weight = 1
			}
			total.Add(total, new(big.Rat).SetInt64(e.weight))
			addShares(t, e, new(big.Rat).SetInt64(e.weight), written, share, copied)
		}
		for _, all := range []map[string]*big.Rat{share, copied} {
			for key, n := range all {
				if n.Sign() == 0 {
					delete(all, key)
					continue
				}
				n.Quo(n, total)
			}
		}
		shares, copies = append(shares, share), append(copies, copied)
	}
	if read.mirroring != nil {
		share, copied := map[string]*big.Rat{}, map[string]*big.Rat{}
		mirrorShares(t, object, big.NewRat(1, 1), written, share, copied)
		shares, copies = append(shares, share), append(copies, copied)
	}
	return shares, copies
}

func addShares(t *testing.T, e entry, weight *big.Rat, written map[string]*unstructured.Unstructured, shares, copies map[string]*big.Rat) {
	t.Helper()
	if e.traefik == "" {
		sum(shares, fmt.Sprint(e.service, ":", e.fields["port"]), weight)
		return
	}
	object := written[e.traefik]
	require.NotNil(t, object, e.traefik)
	if _, mirroring := object.Object["spec"].(map[string]any)["mirroring"]; mirroring {
		mirrorShares(t, object, weight, written, shares, copies)
		return
	}
	inner, _ := traefikShares(t, object, written)
	for key, share := range inner[0] {
		sum(shares, key, new(big.Rat).Mul(share, weight))
	}
}

func mirrorShares(t *testing.T, object *unstructured.Unstructured, weight *big.Rat, written map[string]*unstructured.Unstructured, shares, copies map[string]*big.Rat) {
	t.Helper()
	read, err := readTraefik(object)
	require.NoError(t, err)
	addShares(t, *read.mirroring, weight, written, shares, copies)
	mirrors, _, _ := unstructured.NestedSlice(object.Object, "spec", "mirroring", "mirrors")
	for _, m := range mirrors {
		fields := m.(map[string]any)
		sum(copies, fmt.Sprint(fields["name"]), new(big.Rat).Mul(weight, big.NewRat(fields["percent"].(int64), 100)))
	}
}

func sum(into map[string]*big.Rat, key string, n *big.Rat) {
	if into[key] == nil {
		into[key] = new(big.Rat)
	}
	into[key].Add(into[key], n)
}

// TestTraefikSharesAreExact: every tag gets exactly its percent of what the user
// gave api, every other backend exactly what it had, and every mirror its percent
// of the requests to api and of no others. Nothing else is changed.
func TestTraefikSharesAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	tags := []string{"blue", "canary", "green"}
	for range 5000 {
		object, traffic := randomTraefik(r), randomTraffic(r, tags)
		for _, w := range traffic.Weights {
			if w.Percent == 0 && r.IntN(2) == 0 {
				traffic.Mirrors = append(traffic.Mirrors, envrepo.Weight{Tag: w.Tag, Percent: 1 + r.IntN(100)})
			}
		}
		var mirrorless *MirrorError
		got, err := Transform([]*unstructured.Unstructured{object}, nil, "api", traffic, tags, Support{})
		if len(traffic.Mirrors) > 0 && err != nil {
			require.ErrorAs(t, err, &mirrorless)
			require.Empty(t, mirrorless.Object, "only for want of a route")
			continue
		}
		require.NoError(t, err)
		possible := map[string]bool{}
		for _, c := range Companions([]*unstructured.Unstructured{object}, "api", tags) {
			possible[identity(c)] = true
		}
		written := map[string]*unstructured.Unstructured{}
		for _, o := range got[:len(got)-1] {
			require.True(t, possible[identity(o)], "%s is no companion", describe(o))
			written[o.GetName()] = o
		}
		before, copiedBefore := traefikShares(t, object, nil)
		after, copiedAfter := traefikShares(t, got[len(got)-1], written)
		for i := range before {
			want, copied := map[string]*big.Rat{}, copiedBefore[i]
			for key, share := range before[i] {
				if key != "api:80" && key != "api:81" {
					want[key] = share
					continue
				}
				for _, w := range traffic.Weights {
					if w.Percent > 0 {
						want["api-"+w.Tag+key[len("api"):]] = new(big.Rat).Mul(share, big.NewRat(int64(w.Percent), 100))
					}
				}
				for _, m := range traffic.Mirrors {
					sum(copied, "api-"+m.Tag, new(big.Rat).Mul(share, big.NewRat(int64(m.Percent), 100)))
				}
			}
			assert.Equal(t, printed(want), printed(after[i]))
			assert.Equal(t, printed(copied), printed(copiedAfter[i]))
		}
	}
}

func printed(shares map[string]*big.Rat) map[string]string {
	out := map[string]string{}
	for key, share := range shares {
		out[key] = share.RatString()
	}
	return out
}

// TestTraefikNamesWhatItWrites: one name for what is equal, two for what is not.
func TestTraefikNamesWhatItWrites(t *testing.T) {
	fields := func(text string) map[string]any {
		return decodeOne(t, "{kind: X, spec: "+text+"}").Object["spec"].(map[string]any)
	}
	name := func(text string) string { return mirrorName("api", "blue", fields(text)) }
	assert.Regexp(t, "^api-blue-mirror-[0-9a-f]{10}$", name("{name: api, port: 80}"))
	assert.Equal(t, name("{name: api, port: 80}"), name("{name: api, port: 80, weight: 3, kind: Service, namespace: shop}"))
	assert.NotEqual(t, name("{name: api, port: 80}"), name("{name: api, port: 81}"))
	assert.NotEqual(t, name("{name: api, port: 80}"), name("{name: api, port: 80, sticky: {cookie: {}}}"))
}

func TestTakenName(t *testing.T) {
	route := decodeOne(t, "{apiVersion: traefik.io/v1alpha1, kind: IngressRoute, metadata: {name: shop}, spec: {routes: [{services: [{name: api, port: 80}]}]}}")
	theirs := decodeOne(t, "{apiVersion: traefik.io/v1alpha1, kind: TraefikService, metadata: {name: api-blue-mirror-6d6fe54d68}, spec: {weighted: {}}}")
	traffic := envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}, {Tag: "green"}}, Mirrors: []envrepo.Weight{{Tag: "green", Percent: 5}}}
	_, err := Transform([]*unstructured.Unstructured{route, theirs}, nil, "api", traffic, []string{"blue", "green"}, Support{})
	var taken *TakenError
	require.ErrorAs(t, err, &taken)
	assert.EqualError(t, err, "IngressRoute shop: TraefikService api-blue-mirror-6d6fe54d68 would be written for it, which the release declares itself")
}
