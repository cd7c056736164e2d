package traffic

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

const release = `apiVersion: v1
kind: ServiceAccount
metadata: {name: api}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api}
---
apiVersion: v1
kind: Service
metadata: {name: api-blue}
---
apiVersion: v1
kind: Service
metadata: {name: api}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shop}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: api}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: api}
`

func TestRoutes(t *testing.T) {
	objects, err := decode([]byte(release))
	require.NoError(t, err)
	routes, rest := Routes(objects, "api")
	assert.Equal(t, []string{"HTTPRoute api", "Service api", "ReferenceGrant api", "GRPCRoute api"}, names(routes))
	assert.Equal(t, []string{"ServiceAccount api", "Service api-blue", "Gateway shop"}, names(rest))
}

func names(objects []*unstructured.Unstructured) []string {
	var all []string
	for _, object := range objects {
		all = append(all, describe(object))
	}
	return all
}

func TestGateways(t *testing.T) {
	route := decodeOne(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api, namespace: shop-production}
spec:
  parentRefs:
  - {name: shop}
  - {name: edge, namespace: gateways, sectionName: https}
  - {group: "", kind: Service, name: api}
  - {sectionName: http}
  - 7
`)
	assert.Equal(t, []ParentRef{
		{Group: "gateway.networking.k8s.io", Kind: "Gateway", Namespace: "shop-production", Name: "shop"},
		{Group: "gateway.networking.k8s.io", Kind: "Gateway", Namespace: "gateways", Name: "edge", SectionName: "https"},
		{Group: "", Kind: "Service", Namespace: "shop-production", Name: "api"},
	}, Gateways(route))
	assert.Empty(t, Gateways(decodeOne(t, "{apiVersion: v1, kind: Service, metadata: {name: api}, spec: {parentRefs: [{name: shop}]}}")))
}

func TestCombine(t *testing.T) {
	all := Support{Known: true, PercentageMirror: true, MultipleMirrors: true, Class: "a"}
	for _, test := range []struct {
		name string
		in   []Support
		want Support
	}{
		{"none", nil, Support{}},
		{"one", []Support{all}, all},
		{"one lacks percent", []Support{all, {Known: true, Class: "b"}}, Support{Known: true, Class: "b"}},
		{"one lacks several", []Support{all, {Known: true, PercentageMirror: true, Class: "b"}}, Support{Known: true, PercentageMirror: true, Class: "b"}},
		{"one is unknown", []Support{all, {Class: "b"}}, Support{Class: "b"}},
		{"first is unknown", []Support{{Class: "b"}, all}, Support{Class: "b"}},
		{"one is missing", []Support{all, {Missing: "Gateway shop/b does not exist"}}, Support{Missing: "Gateway shop/b does not exist"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, Combine(test.in...))
		})
	}
}

const others = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop-production}
spec:
  rules:
  - backendRefs: [{name: web, port: 80}]
  - backendRefs: [{name: api, port: 80}, {name: api-green, port: 80}, {name: api-green, namespace: shop-staging, port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: shop-production}
spec:
  defaultBackend: {service: {name: api-blue, port: {number: 80}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop-production}
spec:
  tls:
  - route: [{destination: {host: api-green.shop-production.svc.cluster.local}}]
  http:
  - route: [{destination: {host: api-blue.shop-production}}, {destination: {host: api.shop-production}}, {destination: {host: api-blue.example.com}}]
  - delegate: {name: elsewhere}
  - delegate: {name: shop, namespace: shop-production}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRouteTCP
metadata: {name: shop, namespace: shop-production}
spec: {routes: [{services: [{name: api-green}, {name: api}, {name: web}]}]}
---
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: shop, namespace: shop-production}
spec: {mirroring: {name: web, mirrors: [{name: api-green}]}, weighted: {services: [{name: api-blue@kubernetescrd}, {kind: TraefikService, name: shop}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: over, namespace: shop-production}
spec:
  rules:
  - backendRefs: [{group: traefik.io, kind: TraefikService, name: elsewhere}, {group: traefik.io, kind: TraefikService, name: api@internal}, {group: networking.istio.io, kind: Hostname, name: api-blue.shop-production.svc.cluster.local}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: broken, namespace: shop-production}
spec: {rules: [{backendRefs: {}}]}
`

func TestForeign(t *testing.T) {
	objects, err := decode([]byte(others))
	require.NoError(t, err)
	hint := "move the route into the release of component api and name Service api"
	assert.Equal(t, []Finding{
		{Object: "HTTPRoute shop-production/shop", Field: "spec.rules[1].backendRefs[1]", Service: "api-green", Component: "api", Tag: "green", Hint: hint,
			Message: "HTTPRoute shop-production/shop: spec.rules[1].backendRefs[1] names Service api-green of tag green, which ignores the weights of component api"},
		{Object: "Ingress shop-production/shop", Field: "spec.defaultBackend", Service: "api-blue", Component: "api", Tag: "blue", Hint: hint,
			Message: "Ingress shop-production/shop: spec.defaultBackend names Service api-blue of tag blue, which ignores the weights of component api"},
		{Object: "VirtualService shop-production/shop", Field: "spec.http[0].route[0]", Service: "api-blue", Component: "api", Tag: "blue", Hint: hint,
			Message: `VirtualService shop-production/shop: spec.http[0].route[0] may mean Service api-blue of tag blue, which ignores the weights of component api: Istio takes host "api-blue.shop-production" for a complete name, which no Service has; the short one is api-blue`},
		{Object: "VirtualService shop-production/shop", Field: "spec.tls[0].route[0]", Service: "api-green", Component: "api", Tag: "green", Hint: hint,
			Message: "VirtualService shop-production/shop: spec.tls[0].route[0] names Service api-green of tag green, which ignores the weights of component api"},
		{Object: "IngressRouteTCP shop-production/shop", Field: "spec.routes[0].services[0]", Service: "api-green", Component: "api", Tag: "green", Hint: hint,
			Message: "IngressRouteTCP shop-production/shop: spec.routes[0].services[0] names Service api-green of tag green, which ignores the weights of component api"},
		{Object: "TraefikService shop-production/shop", Field: "spec.weighted.services[0]", Service: "api-blue", Component: "api", Tag: "blue", Hint: hint,
			Message: "TraefikService shop-production/shop: spec.weighted.services[0] names Service api-blue of tag blue, which ignores the weights of component api"},
		{Object: "TraefikService shop-production/shop", Field: "spec.mirroring.mirrors[0]", Service: "api-green", Component: "api", Tag: "green",
			Hint:    "name Service api there, or write the mirror into traffic.yaml of component api",
			Message: "TraefikService shop-production/shop: spec.mirroring.mirrors[0] names Service api-green of tag green, which ignores the weights of component api"},
		{Object: "HTTPRoute shop-production/over", Field: "spec.rules[0].backendRefs[2]", Service: "api-blue", Component: "api", Tag: "blue", Hint: hint,
			Message: "HTTPRoute shop-production/over: spec.rules[0].backendRefs[2] may mean Service api-blue of tag blue, which ignores the weights of component api: weights are not written into references of kind Hostname"},
		{Object: "TLSRoute shop-production/broken", Hint: "correct the route so that its backends can be read",
			Message: "TLSRoute shop-production/broken: spec.rules[0].backendRefs is not a list"},
	}, Foreign(objects, inProduction("shop"), []Tagged{inProduction("api", "blue", "green"), inProduction("web", "a")}))
}

func inProduction(component string, tags ...string) Tagged {
	return Tagged{Environment: "production", Namespace: "shop-production", Component: component, Tags: tags}
}

// TestForeignOfAnotherEnvironment: whatever the environment, whoever names the Service
// of a tag is found, in every form that reaches another namespace; the same names in
// the environment of the route are not.
func TestForeignOfAnotherEnvironment(t *testing.T) {
	objects, err := decode([]byte(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop-staging}
spec: {rules: [{backendRefs: [{name: api-blue}, {name: api-blue, namespace: shop-production}, {name: api, namespace: shop-production},
  {group: core, kind: Service, name: api-blue, namespace: shop-production}, {group: net.gke.io, kind: ServiceImport, name: api-blue, namespace: shop-production}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: shop, namespace: shop-staging}
spec: {rules: [{backendRefs: [{name: api-blue, namespace: shop-production}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: shop, namespace: shop-staging}
spec: {rules: [{backendRefs: [{name: api-blue, namespace: shop-production}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop-staging}
spec:
  http:
  - route: [{destination: {host: api-blue}}, {destination: {host: api-blue.shop-production.svc.cluster.local}}, {destination: {host: api-blue.shop-production}}]
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: shop, namespace: shop-staging}
spec:
  routes:
  - services: [{name: api-blue, port: 80}, {name: api-blue, namespace: shop-production, port: 80}, {kind: TraefikService, name: shop-production-api-blue-80@kubernetescrd}]
---
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: shop, namespace: shop-staging}
spec: {routes: [{services: [{name: api-blue, port: 80}, {name: api-blue, namespace: shop-production, port: 80}]}]}
`))
	require.NoError(t, err)
	staging, api := Tagged{Environment: "staging", Namespace: "shop-staging", Component: "web"}, inProduction("api", "blue", "green")
	var found []string
	for _, f := range Foreign(objects, staging, []Tagged{api}) {
		assert.Contains(t, f.Hint, "the release of component api in environment production and name Service api", f.Message)
		assert.False(t, f.Guess)
		found = append(found, f.Message)
	}
	const named = " names Service api-blue of tag blue, which ignores the weights of component api in environment production"
	const maybe = " may mean Service api-blue of tag blue, which ignores the weights of component api in environment production: "
	assert.Equal(t, []string{
		"HTTPRoute shop-staging/shop: spec.rules[0].backendRefs[1]" + named,
		"HTTPRoute shop-staging/shop: spec.rules[0].backendRefs[3]" + named,
		"HTTPRoute shop-staging/shop: spec.rules[0].backendRefs[4]" + maybe + "a ServiceImport is the Service of all clusters, which has no tags",
		"GRPCRoute shop-staging/shop: spec.rules[0].backendRefs[0]" + named,
		"TCPRoute shop-staging/shop: spec.rules[0].backendRefs[0]" + named,
		"VirtualService shop-staging/shop: spec.http[0].route[1]" + named,
		"VirtualService shop-staging/shop: spec.http[0].route[2]" + maybe + `Istio takes host "api-blue.shop-production" for a complete name, which no Service has; the short one is api-blue`,
		"IngressRoute shop-staging/shop: spec.routes[0].services[1]" + named,
		"IngressRoute shop-staging/shop: spec.routes[0].services[2]" + maybe + `Traefik gives the balancer of a Service a name such as "shop-production-api-blue-80@kubernetescrd"`,
		"HTTPProxy shop-staging/shop: spec.routes[0].services[1]" + named,
	}, found)

	plain := Unweighted(objects, staging, []Tagged{api})
	require.Len(t, plain, 1)
	assert.Equal(t, "HTTPRoute shop-staging/shop: spec.rules[0].backendRefs[2] names Service api: its requests are not split by the weights, all go to the tag with the highest", plain[0].Message)
	assert.Equal(t, "move the route into the release of component api in environment production", plain[0].Hint)
	assert.True(t, plain[0].Outside)
}

// Mirrors of another release to the Service of a tag are found as backends are, and the
// plain Service may be mirrored to. A DestinationRule elsewhere is a policy that holds
// for no tag. In the release itself a user's own mirrors are left.
func TestMirrorsAndPoliciesElsewhere(t *testing.T) {
	objects, err := decode([]byte(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop-production}
spec:
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: api, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: api-green, port: 80}}}
    backendRefs: [{name: web, filters: [{type: RequestMirror, requestMirror: {backendRef: {group: core, kind: Service, name: api-green}}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop-production}
spec:
  http:
  - {route: [{destination: {host: web}}], mirror: {host: api-green}}
  - {route: [{destination: {host: web}}], mirrors: [{destination: {host: api}}, {destination: {host: api-green.shop-production.svc.cluster.local}}]}
---
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: web, namespace: shop-production}
spec: {mirroring: {name: web, port: 80, mirrors: [{name: api-green, port: 80, percent: 5}, {kind: TraefikService, name: api-green}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop-production}
spec: {host: api}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far, namespace: shop-staging}
spec: {host: api.shop-production.svc.cluster.local}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: others, namespace: shop-staging}
spec: {host: api}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tags, namespace: shop-staging}
spec: {host: api-green.shop-production.svc.cluster.local}
`))
	require.NoError(t, err)
	api, web := inProduction("api", "blue", "green"), inProduction("web")
	var mirrors []string
	for _, f := range Foreign(objects, web, []Tagged{api}) {
		assert.False(t, f.Guess)
		assert.Equal(t, "name Service api there, or write the mirror into traffic.yaml of component api", f.Hint)
		mirrors = append(mirrors, f.Message)
	}
	const named = " names Service api-green of tag green, which ignores the weights of component api"
	assert.Equal(t, []string{
		"HTTPRoute shop-production/web: spec.rules[0].filters[1].requestMirror.backendRef" + named,
		"HTTPRoute shop-production/web: spec.rules[0].backendRefs[0].filters[0].requestMirror.backendRef" + named,
		"VirtualService shop-production/web: spec.http[0].mirror" + named,
		"VirtualService shop-production/web: spec.http[1].mirrors[1]" + named,
		"TraefikService shop-production/web: spec.mirroring.mirrors[0]" + named,
	}, mirrors)
	assert.Empty(t, Foreign(objects, api, []Tagged{api}))

	var policies []string
	for _, f := range Unweighted(objects, web, []Tagged{api}) {
		assert.False(t, f.Outside, "it leads no requests")
		hint := "move it into the release of component api, where it is copied for each tag"
		if f.Tag != "" {
			hint = "move it into the release of component api, or into the overlay of tag green there"
		}
		assert.Equal(t, hint, f.Hint)
		policies = append(policies, f.Message)
	}
	const past = ": spec.host is for Service api: requests that routes send to the Services of its tags are not subject to it"
	assert.Equal(t, []string{"DestinationRule shop-production/web" + past, "DestinationRule shop-staging/far" + past,
		"DestinationRule shop-staging/tags: spec.host is for Service api-green of tag green: Istio takes one DestinationRule for a host, this one or that of the tag's own release"}, policies)
	assert.Empty(t, Unweighted(objects, api, []Tagged{api}))
}

func TestUnweighted(t *testing.T) {
	objects, err := decode([]byte(others))
	require.NoError(t, err)
	api, web := inProduction("api", "blue", "green"), inProduction("web", "a")
	of := func(own Tagged) (messages []string) {
		for _, finding := range Unweighted(objects[:len(objects)-1], own, []Tagged{api, web}) {
			messages = append(messages, finding.Message)
			certain := finding.Service != "" && !strings.Contains(finding.Message, " may mean ")
			assert.Equal(t, certain && finding.Component != own.Component, finding.Outside, finding.Message)
		}
		return messages
	}
	said := func(place, service string) string {
		return place + " names Service " + service + ": its requests are not split by the weights, all go to the tag with the highest"
	}
	half := `VirtualService shop-production/shop: spec.http[0].route[1] may mean Service api: Istio takes host "api.shop-production" for a complete name, which no Service has; the short one is api`
	toWeb, toAPI := said("HTTPRoute shop-production/shop: spec.rules[0].backendRefs[0]", "web"), said("HTTPRoute shop-production/shop: spec.rules[1].backendRefs[0]", "api")
	tcpAPI, tcpWeb := said("IngressRouteTCP shop-production/shop: spec.routes[0].services[1]", "api"), said("IngressRouteTCP shop-production/shop: spec.routes[0].services[2]", "web")
	mirroring := said("TraefikService shop-production/shop: spec.mirroring", "web")
	assert.Equal(t, []string{toWeb, toAPI, half, tcpAPI, tcpWeb, mirroring}, of(inProduction("shop")))
	assert.Equal(t, []string{toWeb,
		`VirtualService shop-production/shop: spec.http[1].delegate names VirtualService "elsewhere", which is not in the release: whether its requests are split by the weights is not known`,
		tcpWeb, mirroring,
		`HTTPRoute shop-production/over: spec.rules[0].backendRefs[0] names TraefikService "elsewhere", which is not in the release: whether its requests are split by the weights is not known`}, of(api))
}

func TestMessagesCannotSteerATerminal(t *testing.T) {
	object := &unstructured.Unstructured{Object: map[string]any{"kind": "HTTPRoute", "metadata": map[string]any{"name": "a\x1b[2J"}}}
	assert.Equal(t, `"HTTPRoute a\x1b[2J"`, describe(object))
}

// TestMalformed: what has not the shape of its kind is reported, not guessed.
func TestMalformed(t *testing.T) {
	traffic := envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}, {Tag: "green"}}}
	mirrored := traffic
	mirrored.Mirrors = []envrepo.Weight{{Tag: "green", Percent: 5}}
	for _, test := range []struct {
		kind, spec string
		traffic    envrepo.Traffic
		want       string
	}{
		{"HTTPRoute", "7", traffic, "spec is not a mapping"},
		{"HTTPRoute", "{rules: [null]}", traffic, "spec.rules[0] is not a mapping"},
		{"HTTPRoute", "{rules: [{}, {backendRefs: [api]}]}", traffic, "spec.rules[1].backendRefs[0] is not a mapping"},
		{"HTTPRoute", "{rules: [{backendRefs: [{name: [api]}]}]}", traffic, "spec.rules[0].backendRefs[0].name is not a string"},
		{"HTTPRoute", "{rules: [{backendRefs: [{name: api, weight: 1.5}]}]}", traffic, "spec.rules[0].backendRefs[0].weight is not a whole number from 0 to 1000000"},
		{"HTTPRoute", "{rules: [{backendRefs: [{name: api, weight: 1000001}]}]}", traffic, "spec.rules[0].backendRefs[0].weight is not a whole number from 0 to 1000000"},
		{"HTTPRoute", "{rules: [{backendRefs: [{name: api, weight: -1}]}]}", traffic, "spec.rules[0].backendRefs[0].weight is not a whole number from 0 to 1000000"},
		{"HTTPRoute", "{rules: [{backendRefs: [{name: api}], filters: {}}]}", mirrored, "spec.rules[0].filters is not a list"},
		{"HTTPRoute", "{rules: [{backendRefs: [{name: api, filters: 1}]}]}", mirrored, "spec.rules[0].backendRefs[0].filters is not a list"},
		{"GRPCRoute", "{rules: {}}", traffic, "spec.rules is not a list"},
		{"ReferenceGrant", "[]", traffic, "spec is not a mapping"},
		{"ReferenceGrant", "{to: {}}", traffic, "spec.to is not a list"},
		{"ReferenceGrant", "{to: [1]}", traffic, "spec.to[0] is not a mapping"},
		{"ReferenceGrant", "{to: [{group: 1}]}", traffic, "spec.to[0].group is not a string"},
		{"ReferenceGrant", "{to: [{kind: 1}]}", traffic, "spec.to[0].kind is not a string"},
		{"ReferenceGrant", "{to: [{kind: Service, name: 1}]}", traffic, "spec.to[0].name is not a string"},
		{"Ingress", "1", traffic, "spec is not a mapping"},
		{"Ingress", "{rules: 1}", traffic, "spec.rules is not a list"},
		{"Ingress", "{rules: [1]}", traffic, "spec.rules[0] is not a mapping"},
		{"Ingress", "{rules: [{http: {paths: 1}}]}", traffic, "spec.rules[0].http.paths is not a list"},
		{"VirtualService", "1", traffic, "spec is not a mapping"},
		{"VirtualService", "{http: {}}", traffic, "spec.http is not a list"},
		{"VirtualService", "{tcp: [1]}", traffic, "spec.tcp[0] is not a mapping"},
		{"VirtualService", "{http: [{route: {}}]}", traffic, "spec.http[0].route is not a list"},
		{"VirtualService", "{http: [{route: [{}]}]}", traffic, "spec.http[0].route[0].destination is not a mapping"},
		{"VirtualService", "{http: [{route: [{destination: {}}]}]}", traffic, "spec.http[0].route[0].destination.host is not a host"},
		{"VirtualService", "{tls: [{route: [{destination: {host: api, subset: 1}}]}]}", traffic, "spec.tls[0].route[0].destination.subset is not a string"},
		{"VirtualService", "{http: [{route: [{destination: {host: api}, weight: -1}]}]}", traffic, "spec.http[0].route[0].weight is not a whole number from 0 to 2147483647"},
		{"VirtualService", "{http: [{mirrors: 1, route: [{destination: {host: api}}]}]}", mirrored, "spec.http[0].mirrors is not a list"},
		{"IngressRoute", "1", traffic, "spec is not a mapping"},
		{"IngressRoute", "{routes: 1}", traffic, "spec.routes is not a list"},
		{"IngressRoute", "{routes: [1]}", traffic, "spec.routes[0] is not a mapping"},
		{"IngressRoute", "{routes: [{services: 1}]}", traffic, "spec.routes[0].services is not a list"},
		{"IngressRoute", "{routes: [{services: [{port: 80}]}]}", traffic, "spec.routes[0].services[0].name is not a name"},
		{"IngressRoute", "{routes: [{services: [{name: api, weight: 0.5}]}]}", traffic, "spec.routes[0].services[0].weight is not a whole number from 0 to 2147483647"},
		{"TraefikService", "{weighted: 1}", traffic, "spec.weighted is not a mapping"},
		{"TraefikService", "{mirroring: {name: api, mirrors: 1}}", traffic, "spec.mirroring.mirrors is not a list"},
		{"Service", "1", traffic, "spec is not a mapping"},
		{"Service", "{selector: 1}", traffic, "spec.selector is not a mapping"},
	} {
		t.Run(test.kind+" "+test.spec, func(t *testing.T) {
			group := map[string]string{"Ingress": "networking.k8s.io/v1", "Service": "v1", "VirtualService": "networking.istio.io/v1",
				"IngressRoute": "traefik.io/v1alpha1", "TraefikService": "traefik.io/v1alpha1"}[test.kind]
			if group == "" {
				group = "gateway.networking.k8s.io/v1"
			}
			object := decodeOne(t, "{apiVersion: "+group+", kind: "+test.kind+", metadata: {name: api}, spec: "+test.spec+"}")
			_, err := Transform([]*unstructured.Unstructured{object}, nil, "api", test.traffic, []string{"blue", "green"}, Support{Known: true, PercentageMirror: true})
			var malformed *MalformedError
			require.ErrorAs(t, err, &malformed)
			assert.EqualError(t, err, test.kind+" api: "+test.want)
		})
	}
}

func TestTrafficThatCannotBeMeant(t *testing.T) {
	weights := func(all ...envrepo.Weight) envrepo.Traffic { return envrepo.Traffic{Weights: all} }
	mirrored := func(all ...envrepo.Weight) envrepo.Traffic {
		return envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}, {Tag: "green"}}, Mirrors: all}
	}
	for _, test := range []struct {
		name, component string
		traffic         envrepo.Traffic
		want            string
	}{
		{"no component", "", weights(envrepo.Weight{Tag: "blue", Percent: 100}), `traffic of component "": the release has no component`},
		{"no weights", "api", weights(), `traffic of component "api": the weights do not sum to 100`},
		{"negative", "api", weights(envrepo.Weight{Tag: "blue", Percent: 100}, envrepo.Weight{Tag: "green", Percent: -1}), `traffic of component "api": weight of tag "green" is not between 0 and 100`},
		{"twice", "api", weights(envrepo.Weight{Tag: "blue", Percent: 50}, envrepo.Weight{Tag: "blue", Percent: 50}), `traffic of component "api": tag "blue" is listed twice`},
		{"mirror of too much", "api", mirrored(envrepo.Weight{Tag: "green", Percent: 101}), `traffic of component "api": mirror to tag "green" is not between 0 and 100 percent`},
		{"mirror twice", "api", mirrored(envrepo.Weight{Tag: "green", Percent: 1}, envrepo.Weight{Tag: "green", Percent: 1}), `traffic of component "api": tag "green" is mirrored to twice`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Transform(nil, nil, test.component, test.traffic, []string{"blue", "green"}, Support{})
			var invalid *TrafficError
			require.ErrorAs(t, err, &invalid)
			assert.EqualError(t, err, test.want)
		})
	}
}

// A backend of a kind that is not known is told of in a release with tags, unless the
// release has the object: then that is looked through.
func TestUnweightedOverUnknownBackends(t *testing.T) {
	objects, err := decode([]byte(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop-production}
spec: {rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: far}, {group: gateway.envoyproxy.io, kind: Backend, name: near}]}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: near, namespace: shop-production}
spec: {endpoints: [{fqdn: {hostname: pay.example.com, port: 443}}]}
`))
	require.NoError(t, err)
	api := inProduction("api", "blue")
	found := Unweighted(objects, api, []Tagged{api})
	require.Len(t, found, 1)
	assert.Equal(t, `HTTPRoute shop-production/shop: spec.rules[0].backendRefs[0] names Backend "far", which is not in the release: whether its requests are split by the weights is not known`, found[0].Message)
	assert.Equal(t, "name Service api there, if the requests are for it", found[0].Hint)
	assert.False(t, found[0].Outside)
	assert.Empty(t, Unweighted(objects, inProduction("web"), []Tagged{api}), "a release without tags has no weights")
}
