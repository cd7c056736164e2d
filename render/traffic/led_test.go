package traffic

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What requests of a route reach, over whatever stands between. The first object is the
// route.
func TestLed(t *testing.T) {
	const wrr = "{apiVersion: traefik.io/v1alpha1, kind: TraefikService, metadata: {name: wrr}, spec: {weighted: {services: [{name: api-blue, port: 80}, {name: again, kind: TraefikService}, {name: api-idle, port: 80, weight: 0}]}}}"
	const again = "{apiVersion: traefik.io/v1alpha1, kind: TraefikService, metadata: {name: again}, spec: {mirroring: {name: wrr, kind: TraefikService, mirrors: [{name: api-green, port: 80, percent: 5}]}}}"
	for _, test := range []struct {
		name     string
		objects  string
		services string
		over     string
	}{
		{"HTTPRoute", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: [{backendRefs: [{name: api-blue, port: 80, weight: 9}, {name: api-green, port: 80, weight: 0}, {name: web, namespace: other, port: 80}, {name: b, group: example.com, kind: Backend}]}, {backendRefs: [{name: web, port: 80}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: api-red, port: 80}}}]}]}}",
			"api-blue api-red web", ""},
		{"TCPRoute", "{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TCPRoute, metadata: {name: a}, spec: {rules: [{backendRefs: [{name: api-blue, port: 80}]}]}}", "api-blue", ""},
		{"Ingress", "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a}, spec: {defaultBackend: {service: {name: api-blue, port: {number: 80}}}}}", "api-blue", ""},
		{"VirtualService with a delegate", "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a}, spec: {http: [{route: [{destination: {host: api-blue.shop.svc.cluster.local}, weight: 0}]}, {delegate: {name: b}}]}}\n---\n" +
			"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: b}, spec: {http: [{route: [{destination: {host: api-green}, weight: 100}, {destination: {host: api-red}}]}]}}", "api-blue api-green", "b"},
		{"IngressRoute over TraefikServices in a circle", "{apiVersion: traefik.io/v1alpha1, kind: IngressRoute, metadata: {name: a}, spec: {routes: [{services: [{name: shop-wrr@kubernetescrd, kind: TraefikService}]}]}}\n---\n" + wrr + "\n---\n" + again,
			"api-blue api-green", "wrr again"},
		{"HTTPRoute over a TraefikService", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: [{backendRefs: [{group: traefik.io, kind: TraefikService, name: wrr}]}]}}\n---\n" + wrr, "api-blue", "wrr"},
		{"DestinationRule", "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: api-blue}}", "", ""},
		{"one that cannot be read", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: 7}}", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects, err := decode([]byte(test.objects))
			require.NoError(t, err)
			for _, o := range objects {
				o.SetNamespace("shop")
			}
			services, over := Led(objects[0], objects)
			assert.Equal(t, test.services, strings.Join(services, " "))
			names := make([]string, len(over))
			for i, o := range over {
				names[i] = o.GetName()
			}
			assert.Equal(t, test.over, strings.Join(names, " "))
		})
	}
}

func TestSends(t *testing.T) {
	for _, kind := range []string{"HTTPRoute.gateway.networking.k8s.io", "TLSRoute.gateway.networking.k8s.io", "VirtualService.networking.istio.io", "TraefikService.traefik.io", "Ingress.networking.k8s.io"} {
		assert.True(t, Sends(schema.ParseGroupKind(kind)), kind)
	}
	for _, kind := range []string{"Gateway.gateway.networking.k8s.io", "ReferenceGrant.gateway.networking.k8s.io", "DestinationRule.networking.istio.io", "Middleware.traefik.io", "NetworkPolicy.networking.k8s.io", "Service"} {
		assert.False(t, Sends(schema.ParseGroupKind(kind)), kind)
	}
}

func TestGoverned(t *testing.T) {
	rule := decodeOne(t, "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a, namespace: shop}, spec: {host: api-blue.shop.svc.cluster.local}}")
	assert.Equal(t, "api-blue", Governed(rule))
	assert.Empty(t, Governed(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Service", "spec": map[string]any{"host": "api"}}}))
}
