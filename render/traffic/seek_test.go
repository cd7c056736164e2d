package traffic

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The forms in which kinds that Sluice does not know name a Service, and what looks
// like one and is none. In each, the plain Service is api and a tag's api-blue, which
// stands for its place.
func TestServicesInUnknownKinds(t *testing.T) {
	for _, test := range []struct {
		name, object string
		sure, guess  []string // fields
	}{
		{"HTTPProxy", "{apiVersion: projectcontour.io/v1, kind: HTTPProxy, spec: {virtualhost: {fqdn: api-blue}, routes: [{conditions: [{prefix: /}], services: [{name: web, port: 80}, {name: api-blue, port: 80, weight: 5}]}]}}",
			[]string{"spec.routes[0].services[1]"}, nil},
		{"TCP of an HTTPProxy", "{apiVersion: projectcontour.io/v1, kind: HTTPProxy, spec: {tcpproxy: {services: [{name: api-blue, port: 80}]}}}", []string{"spec.tcpproxy.services[0]"}, nil},
		{"Route of OpenShift", "{apiVersion: route.openshift.io/v1, kind: Route, spec: {host: api-blue, port: {targetPort: 80}, to: {kind: Service, name: api-blue, weight: 1}, alternateBackends: [{kind: Service, name: api-blue}]}}",
			[]string{"spec.alternateBackends[0]", "spec.to"}, []string{"spec.host"}},
		{"Mapping of Ambassador", "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, spec: {hostname: shop.example.com, prefix: /, service: 'http://api-blue.shop:80'}}", []string{"spec.service"}, nil},
		{"VirtualServer of NGINX", "{apiVersion: k8s.nginx.org/v1, kind: VirtualServer, spec: {upstreams: [{name: other, service: api-blue, port: 80}]}}", []string{"spec.upstreams[0].service"}, nil},
		{"TCPIngress of Kong", "{apiVersion: configuration.konghq.com/v1beta1, kind: TCPIngress, spec: {rules: [{backend: {serviceName: api-blue, servicePort: 80}}]}}", []string{"spec.rules[0].backend.serviceName"}, nil},
		{"HTTPRoute of Linkerd", "{apiVersion: policy.linkerd.io/v1beta3, kind: HTTPRoute, spec: {rules: [{backendRefs: [{name: api-blue, port: 80}]}]}}", []string{"spec.rules[0].backendRefs[0]"}, nil},
		{"TrafficSplit of SMI", "{apiVersion: split.smi-spec.io/v1alpha4, kind: TrafficSplit, spec: {service: web, backends: [{service: api-blue.shop.svc.cluster.local, weight: 5}]}}", []string{"spec.backends[0].service"}, nil},
		{"HTTPScaledObject", "{apiVersion: http.keda.sh/v1alpha1, kind: HTTPScaledObject, spec: {hosts: [api-blue], scaleTargetRef: {name: api-blue, kind: Deployment, service: api-blue, port: 80}}}", []string{"spec.scaleTargetRef.service"}, nil},
		{"Rollout", "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, spec: {strategy: {canary: {stableService: api-blue}}, template: {spec: {containers: [{name: api-blue, livenessProbe: {grpc: {port: 80, service: api-blue}}}]}}}}",
			nil, []string{"spec.strategy.canary.stableService"}},
		{"Backend of Envoy Gateway", "{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: Backend, spec: {endpoints: [{fqdn: {hostname: api-blue.shop.svc.cluster.local, port: 80}}]}}", nil, []string{"spec.endpoints[0].fqdn.hostname"}},
		{"a kind of any name", "{apiVersion: example.com/v1, kind: Example, spec: {service: {name: api-blue, port: 80}}}", nil, []string{"spec.service"}},
		{"another namespace", "{apiVersion: projectcontour.io/v1, kind: HTTPProxy, spec: {routes: [{services: [{name: api-blue, namespace: other, port: 80}, {service: api-blue.other, port: 80}]}]}}", nil, nil},
		{"somebody else's host", "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, spec: {prefix: /, service: 'https://api-blue.example.com'}}", nil, nil},
		{"another kind", "{apiVersion: example.com/v1, kind: ExampleRoute, spec: {backend: {kind: ExternalName, name: api-blue, port: 80}, to: {kind: Service, apiVersion: serving.knative.dev/v1, name: api-blue}}}", nil, nil},

		{"Service", "{apiVersion: v1, kind: Service, spec: {type: ExternalName, externalName: api-blue, ports: [{name: api-blue, port: 80}]}}", nil, nil},
		{"ConfigMap", "{apiVersion: v1, kind: ConfigMap, data: {service: 'http://api-blue:80', host: api-blue, port: '80'}}", nil, nil},
		{"StatefulSet", "{apiVersion: apps/v1, kind: StatefulSet, spec: {serviceName: api-blue, template: {spec: {containers: [{name: api-blue}]}}}}", nil, nil},
		{"HorizontalPodAutoscaler", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, spec: {metrics: [{object: {describedObject: {kind: Service, name: api-blue}}}]}}", nil, nil},
		{"PodDisruptionBudget", "{apiVersion: policy/v1, kind: PodDisruptionBudget, spec: {selector: {matchLabels: {app.kubernetes.io/instance: api-blue}}}}", nil, nil},
		{"NetworkPolicy", "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, spec: {podSelector: {matchLabels: {service: api-blue}}, ingress: [{ports: [{port: 80}]}]}}", nil, nil},
		{"ServiceMonitor", "{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, spec: {jobLabel: api-blue, selector: {matchLabels: {service: api-blue}}, endpoints: [{port: http, path: /metrics, tlsConfig: {serverName: api-blue.shop.svc}}]}}", nil, nil},
		{"PrometheusRule", "{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, spec: {groups: [{name: api-blue, rules: [{alert: Down, expr: 'up{service=\"api-blue\"} == 0', labels: {service: api-blue}}]}]}}", nil, nil},
		{"ScaledObject", "{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, spec: {scaleTargetRef: {name: api-blue}, triggers: [{type: prometheus, metadata: {serverAddress: 'http://api-blue:80', service: 'http://api-blue:80'}}]}}", nil, nil},
		{"Certificate", "{apiVersion: cert-manager.io/v1, kind: Certificate, spec: {commonName: api-blue, dnsNames: [api-blue, api-blue.shop.svc]}}", nil, nil},
		{"a level of service", "{apiVersion: sloth.slok.dev/v1, kind: PrometheusServiceLevel, spec: {service: api-blue, labels: {service: api-blue}}}", nil, nil},
		{"ServiceEntry", "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, spec: {hosts: [api-blue], endpoints: [{address: api-blue, port: 80}]}}", nil, nil},
		{"Middleware", "{apiVersion: traefik.io/v1alpha1, kind: Middleware, spec: {errors: {service: {name: api-blue, port: 80}}}}", nil, nil},
		{"policy for the Service of a tag", "{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, spec: {targetRefs: [{group: '', kind: Service, name: api-blue}]}}", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := decodeOne(t, test.object)
			object.SetNamespace("shop")
			api := Tagged{Environment: "production", Namespace: "shop", Component: "api", Tags: []string{"blue"}}
			var sure, guess []string
			for _, f := range Foreign([]*unstructured.Unstructured{object}, api, []Tagged{api}) {
				message := f.Object + ": " + f.Field + " names Service api-blue of tag blue, which ignores the weights of component api"
				if f.Guess {
					guess = append(guess, f.Field)
					gvk := object.GroupVersionKind()
					message = f.Object + ": " + f.Field + " may mean Service api-blue of tag blue, which ignores the weights of component api: kind " + gvk.GroupKind().String() + " is not known to Sluice"
				} else {
					sure = append(sure, f.Field)
				}
				assert.Equal(t, message, f.Message)
				assert.Equal(t, "use a route of a kind with weights (HTTPRoute, GRPCRoute, VirtualService, IngressRoute) in the release of component api and name Service api", f.Hint)
			}
			assert.Equal(t, test.sure, sure)
			assert.Equal(t, test.guess, guess)
		})
	}
}

// Of the plain Service the same places are told, and policies besides: routes lead
// past them to the Services of the tags.
func TestUnweightedInUnknownKinds(t *testing.T) {
	objects, err := decode([]byte(`apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: shop, namespace: shop-production}
spec: {routes: [{services: [{name: api, port: 80}]}]}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop, namespace: shop-production}
spec: {strategy: {blueGreen: {activeService: api}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: shop, namespace: shop-production}
spec: {targetRefs: [{group: "", kind: Service, name: api}], validation: {hostname: api}}
`))
	require.NoError(t, err)
	api := inProduction("api", "blue", "green")
	for _, own := range []Tagged{api, inProduction("web")} {
		found := Unweighted(objects, own, []Tagged{api})
		require.Len(t, found, 3)
		for _, f := range found {
			assert.False(t, f.Outside, "it is not certain to be a route")
		}
		assert.Equal(t, "HTTPProxy shop-production/shop: spec.routes[0].services[0] names Service api: its requests are not split by the weights, all go to the tag with the highest", found[0].Message)
		assert.Equal(t, "Rollout shop-production/shop: spec.strategy.blueGreen.activeService may mean Service api: kind Rollout.argoproj.io is not known to Sluice", found[1].Message)
		assert.Equal(t, "BackendTLSPolicy shop-production/shop: spec.targetRefs[0] is for Service api: requests that routes send to the Services of its tags are not subject to it", found[2].Message)
		assert.Equal(t, "have it target the Services of the tags (api-blue, …) too", found[2].Hint)
	}
	assert.Empty(t, Unweighted(objects, inProduction("web"), []Tagged{inProduction("api")}), "without tags there is nothing to follow")
}
