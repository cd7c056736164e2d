package traffic

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

// randomVirtualService makes one whose destinations are api, in both forms, and
// others, some without a weight.
func randomVirtualService(r *rand.Rand) *unstructured.Unstructured {
	hosts := []string{"api", "api.shop-production.svc.cluster.local", "web", "api.shop-staging.svc.cluster.local", "api.example.com"}
	spec := map[string]any{"hosts": []any{"shop.example.com"}}
	for _, section := range []string{"http", "tcp", "tls"} {
		var routes []any
		for range r.IntN(3) {
			var list []any
			for range r.IntN(4) {
				entry := map[string]any{"destination": map[string]any{"host": hosts[r.IntN(len(hosts))], "port": map[string]any{"number": int64(80 + r.IntN(2))}}}
				if r.IntN(3) > 0 {
					entry["weight"] = int64([]int{0, 1, 2, 3, 5, 100, 333, 10_000}[r.IntN(8)])
				}
				list = append(list, entry)
			}
			routes = append(routes, map[string]any{"name": "kept", "route": list})
		}
		spec[section] = routes
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"name": "shop", "namespace": "shop-production"}, "spec": spec}}
}

// istioShares is what each host and port gets of a route's requests.
func istioShares(r rule) map[string]*big.Rat {
	shares, total := map[string]*big.Rat{}, new(big.Rat)
	for _, d := range r.entries {
		weight := new(big.Rat).SetInt64(d.weight)
		total.Add(total, weight)
		destination := d.fields["destination"].(map[string]any)
		sum(shares, fmt.Sprint(destination["host"], " ", destination["port"]), weight)
	}
	for key, share := range shares {
		if share.Sign() == 0 {
			delete(shares, key)
			continue
		}
		share.Quo(share, total)
	}
	return shares
}

// TestIstioSharesAreExact: every tag gets exactly its percent of what the user gave
// api, in the form in which it is named, and every other host exactly what it had.
func TestIstioSharesAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	tags := []string{"blue", "canary", "green"}
	for range 3000 {
		object, traffic := randomVirtualService(r), randomTraffic(r, tags)
		got, err := Transform([]*unstructured.Unstructured{object}, nil, "api", traffic, tags, Support{})
		require.NoError(t, err)
		require.Len(t, got, 1)
		before, err := readVirtualService(object)
		require.NoError(t, err)
		after, err := readVirtualService(got[0])
		require.NoError(t, err)
		require.Len(t, after, len(before))
		for i := range before {
			want := map[string]*big.Rat{}
			for key, share := range istioShares(before[i]) {
				if !strings.HasPrefix(key, "api map") && !strings.HasPrefix(key, "api.shop-production.svc") {
					want[key] = share
					continue
				}
				for _, w := range traffic.Weights {
					if w.Percent > 0 {
						sum(want, "api-"+w.Tag+key[len("api"):], new(big.Rat).Mul(share, big.NewRat(int64(w.Percent), 100)))
					}
				}
			}
			assert.Equal(t, printed(want), printed(istioShares(after[i])))
			before[i].fields["route"], after[i].fields["route"] = nil, nil
			assert.Equal(t, before[i].fields, after[i].fields)
		}
	}
}

func TestIstioHosts(t *testing.T) {
	for _, test := range []struct{ host, service, namespace, doubt string }{
		{"api", "api", "shop", ""},
		{"api.shop.svc.cluster.local", "api", "shop", ""},
		{"api.other.svc.example.org", "api", "other", ""},
		{"api.shop", "api", "shop", `Istio takes host "api.shop" for a complete name, which no Service has; the short one is api`},
		{"api.shop.svc", "api", "shop", `Istio takes host "api.shop.svc" for a complete name, which no Service has; the short one is api`},
		{"api.shop.svc.clusterset.local", "api", "shop", `host "api.shop.svc.clusterset.local" is the Service of all clusters, which has no tags`},
		{"api.example.com", "", "", ""},
		{"*.shop.svc.cluster.local", "*", "shop", ""},
	} {
		service, namespace, doubt := istioService(test.host, "shop")
		assert.Equal(t, test, struct{ host, service, namespace, doubt string }{test.host, service, namespace, doubt})
	}
	assert.Equal(t, "api-blue", istioHost("api", "api-blue"))
	assert.Equal(t, "api-blue.shop.svc.cluster.local", istioHost("api.shop.svc.cluster.local", "api-blue"))
}

// TestCarried reads back what was written, in every kind.
func TestCarried(t *testing.T) {
	for _, text := range []string{
		"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: shop}, spec: {rules: [{backendRefs: [{name: api}, {name: web}]}, {backendRefs: [{name: web}]}]}}",
		"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: shop}, spec: {tcp: [{route: [{destination: {host: api}}]}], http: [{delegate: {name: x}}]}}",
		"{apiVersion: traefik.io/v1alpha1, kind: IngressRouteTCP, metadata: {name: shop}, spec: {routes: [{services: [{name: api, port: 80}]}]}}",
		"{apiVersion: traefik.io/v1alpha1, kind: TraefikService, metadata: {name: shop}, spec: {weighted: {services: [{name: api, port: 80}, {name: web}]}}}",
	} {
		object := decodeOne(t, text)
		t.Run(object.GetKind(), func(t *testing.T) {
			traffic := envrepo.Traffic{Weights: parseWeights(t, []string{"blue=75", "green=25"})}
			got, err := Transform([]*unstructured.Unstructured{object}, nil, "api", traffic, []string{"blue", "green"}, Support{})
			require.NoError(t, err)
			carried := Carried(got[0], "api", []string{"blue", "green"})
			require.Len(t, carried, 1)
			assert.Equal(t, 3*carried[0]["green"], carried[0]["blue"])
			assert.Empty(t, Carried(object, "api", []string{"blue", "green"}), "before, no tag was named")
		})
	}
	mirrored := decodeOne(t, "{apiVersion: traefik.io/v1alpha1, kind: IngressRoute, metadata: {name: shop}, spec: {routes: [{services: [{name: api, port: 80}, {name: web}]}]}}")
	traffic := envrepo.Traffic{Weights: parseWeights(t, []string{"blue=60", "canary=40", "green=0"}), Mirrors: parseWeights(t, []string{"green=5"})}
	got, err := Transform([]*unstructured.Unstructured{mirrored}, nil, "api", traffic, []string{"blue", "canary", "green"}, Support{})
	require.NoError(t, err)
	require.Len(t, got, 3)
	assert.Equal(t, []map[string]int64{{"blue": 3, "canary": 2}}, Carried(got[2], "api", []string{"blue", "canary", "green"}))
}
