package isolation

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/render"
)

// objects reads YAML documents.
func objects(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	var list []*unstructured.Unstructured
	for doc := range strings.SplitSeq(text, "---\n") {
		o := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(doc), &o.Object), doc)
		if len(o.Object) > 0 {
			list = append(list, o)
		}
	}
	return list
}

func result(name string, objects []*unstructured.Unstructured) *render.Result {
	return &render.Result{Release: envrepo.Release{Name: name}, Shared: objects}
}

// environment is one whose release api has these objects.
func environment(t testing.TB, name, text string) *Environment {
	e := NewEnvironment(envrepo.Environment{Name: name, Namespace: "shop-" + name})
	e.Add(result("api", objects(t, text)))
	return e
}

const (
	workloadText = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: api, ports: [{name: http, containerPort: 8080}]}]}
---
`
	denyText = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
`
	namespaceText = `
apiVersion: v1
kind: Namespace
metadata: {name: shop-%s, labels: {team: shop}}
---
`
)

// policyText is one more policy for all pods.
func policyText(name, rules string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name + "}\nspec:\n  podSelector: {}\n" +
		"  " + strings.ReplaceAll(rules, "\n", "\n  ") + "\n---\n"
}

func TestJudge(t *testing.T) {
	anyEgress := policyText("out", "policyTypes: [Ingress, Egress]\negress: [{}]")
	internet := policyText("internet", "policyTypes: [Ingress, Egress]\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")
	tests := []struct {
		name string
		dev  string // beside the workload
		prod string
		want string
	}{
		{"denied both ways", denyText, denyText, ""},
		{"nothing decided", "", "", `
warning dev: no NetworkPolicy restricts who connects to pods of dev: Deployment api (every port) can be reached from prod (nothing restricts Deployment api)
warning prod: no NetworkPolicy restricts who connects to pods of prod: Deployment api (every port) can be reached from dev (nothing restricts Deployment api)`},
		{"one that denies suffices for both", denyText, "", `
warning prod: no NetworkPolicy restricts who connects to Deployment api and what Deployment api may connect to: only the policies of the other environments keep them apart`},
		{"egress closed, ingress open", policyText("out", "policyTypes: [Egress]\negress: [{to: [{podSelector: {}}]}]"), "", `
error dev: no NetworkPolicy restricts who connects to pods of dev: Deployment api (every port) can be reached from prod (nothing restricts Deployment api)
warning prod: no NetworkPolicy restricts who connects to Deployment api: only the policies of the other environments keep them apart`},
		{"ingress by default, egress with rules only", policyText("in", "ingress: [{from: [{podSelector: {}}]}]"), policyText("in", "ingress: [{from: [{podSelector: {}}]}]\negress: [{to: [{podSelector: {}}]}]"), `
warning dev: no NetworkPolicy restricts what Deployment api may connect to: only the policies of the other environments keep them apart`},
		{"open to every namespace", anyEgress, denyText + policyText("in", "policyTypes: [Ingress]\ningress:\n- from: [{podSelector: {}}]\n- from: [{namespaceSelector: {}}]\n  ports: [{port: http}]"), `
error prod/api NetworkPolicy shop-prod/in: spec.ingress[1].from[0] lets in another environment: Deployment api (TCP 8080) can be reached from dev (spec.egress[0] of NetworkPolicy out lets Deployment api out)`},
		{"ports that do not meet", policyText("out", "policyTypes: [Ingress, Egress]\negress: [{ports: [{protocol: UDP, port: 53}, {port: 53}]}]"),
			policyText("in", "policyTypes: [Ingress, Egress]\ningress: [{from: [{namespaceSelector: {}}], ports: [{port: http}]}]"), `
warning dev/api NetworkPolicy shop-dev/out: spec.egress[0] lets Deployment api connect to pods of prod (TCP 53, UDP 53): only policies at the other end keep them apart
warning prod/api NetworkPolicy shop-prod/in: spec.ingress[0].from[0] lets pods of dev connect to Deployment api (TCP 8080): only policies at the other end keep them apart`},
		{"ports that meet in a range", policyText("out", "policyTypes: [Ingress, Egress]\negress: [{ports: [{port: 8000, endPort: 9000}]}]"),
			policyText("in", "policyTypes: [Ingress, Egress]\ningress: [{from: [{namespaceSelector: {}}], ports: [{port: 8500, endPort: 9500}, {port: http}]}]"), `
error prod/api NetworkPolicy shop-prod/in: spec.ingress[0].from[0] lets in another environment: Deployment api (TCP 8080, TCP 8500–9000) can be reached from dev (spec.egress[0] of NetworkPolicy out lets Deployment api out)`},
		{"by the namespace's name", anyEgress, denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop-dev}}}]}]"), `
error prod/api NetworkPolicy shop-prod/in: spec.ingress[0].from[0] lets in another environment: Deployment api (every port) can be reached from dev (spec.egress[0] of NetworkPolicy out lets Deployment api out)`},
		{"by another's name", anyEgress, denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: gateways}}}]}]"), `
warning dev/api NetworkPolicy shop-dev/out: spec.egress[0] lets Deployment api connect to pods of prod (every port): only policies at the other end keep them apart`},
		{"by a label of the namespace", anyEgress + fmt.Sprintf(namespaceText, "dev"), denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {matchLabels: {team: shop}}, podSelector: {matchLabels: {app: api}}}]}]"), `
error prod/api NetworkPolicy shop-prod/in: spec.ingress[0].from[0] lets in another environment: Deployment api (every port) can be reached from dev (spec.egress[0] of NetworkPolicy out lets Deployment api out)`},
		{"by a label that is not known", anyEgress, denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {matchLabels: {team: shop}}}]}]"), `
warning dev/api NetworkPolicy shop-dev/out: spec.egress[0] lets Deployment api connect to pods of prod (every port): only policies at the other end keep them apart
warning dev: Namespace shop-dev is not rendered, so its labels are not known: spec.ingress[0].from[0] of NetworkPolicy in in prod may select it`},
		{"by other pods' labels", anyEgress, denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]"), `
warning dev/api NetworkPolicy shop-dev/out: spec.egress[0] lets Deployment api connect to pods of prod (every port): only policies at the other end keep them apart`},
		{"internet to pods that are denied", internet, denyText, `
warning dev/api NetworkPolicy shop-dev/internet: spec.egress[0].to[0] lets Deployment api connect to pods of prod (every port): only policies at the other end keep them apart`},
		{"declared addresses, which are some pods' perhaps", policyText("out", "policyTypes: [Ingress, Egress]\negress: [{to: [{ipBlock: {cidr: 10.20.0.0/24}}, {ipBlock: {cidr: 'fd00::/8'}}]}]"), denyText, ""},
		{"internet to pods that are open to it", internet + denyText, denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"), `
error prod/api NetworkPolicy shop-prod/in: spec.ingress[0].from[0] lets in another environment: Deployment api (every port) can be reached from dev (spec.egress[0].to[0] of NetworkPolicy internet lets Deployment api out)`},
		{"the internet without the pods", internet + denyText, denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 198.18.0.0/15, 240.0.0.0/4]}}, {ipBlock: {cidr: 203.0.113.0/24}}]}]"), `
warning dev/api NetworkPolicy shop-dev/internet: spec.egress[0].to[0] lets Deployment api connect to pods of prod (every port): only policies at the other end keep them apart`},
		{"another family of addresses", internet + denyText, denyText + policyText("in", "policyTypes: [Ingress]\ningress: [{from: [{ipBlock: {cidr: '::/0'}}]}]"), `
warning dev/api NetworkPolicy shop-dev/internet: spec.egress[0].to[0] lets Deployment api connect to pods of prod (every port): only policies at the other end keep them apart
warning prod/api NetworkPolicy shop-prod/in: spec.ingress[0].from[0] lets pods of dev connect to Deployment api (every port): only policies at the other end keep them apart`},
		{"equal rules are told once", anyEgress, denyText + policyText("a", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {}}]}]") + policyText("b", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {}}]}]"), `
error prod/api NetworkPolicy shop-prod/a: spec.ingress[0].from[0] lets in another environment: Deployment api (every port) can be reached from dev (spec.egress[0] of NetworkPolicy out lets Deployment api out); so does NetworkPolicy b`},
		{"the host's network", denyText, denyText + "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: node}\nspec: {template: {spec: {hostNetwork: true, containers: []}}}\n", `
error prod/api DaemonSet shop-prod/node: runs on the network of its node, which no NetworkPolicy restricts: other environments may reach it, and it them`},
		{"pods of custom kinds and of CronJobs", "", policyText("api", "ingress: []") + "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r}\nspec: {template: {metadata: {labels: {app: r}}, spec: {containers: []}}}\n---\n" +
			"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {metadata: {labels: {app: c}}, spec: {containers: []}}}}}\n", `
error dev: no NetworkPolicy restricts who connects to pods of dev: Deployment api (every port) can be reached from prod (nothing restricts Deployment api, Rollout r, CronJob c)
warning dev: no NetworkPolicy restricts what Deployment api may connect to: only the policies of the other environments keep them apart`},
		{"policies of other kinds", denyText, denyText + "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: l7}\n", `
warning prod: CiliumNetworkPolicy l7 (prod/api) is not judged: what it allows is not known`},
		{"what the API server refuses", denyText, denyText + policyText("x", "ingres: []"), `
error prod/api NetworkPolicy shop-prod/x: would be refused by the API server: strict decoding error: unknown field "spec.ingres"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			for _, f := range Judge([]*Environment{environment(t, "dev", workloadText+tt.dev), environment(t, "prod", workloadText+tt.prod)}) {
				assert.NotEmpty(t, f.Hint)
				fmt.Fprintf(&b, "\n%s %s: %s", f.Severity, strings.TrimSpace(f.Release+" "+f.Object), f.Message)
			}
			assert.Equal(t, tt.want, b.String())
		})
	}
}

func TestUnadmitted(t *testing.T) {
	namespace := func(labels string) *unstructured.Unstructured {
		return objects(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop-prod, labels: {"+labels+"}}")[0]
	}
	const enforce = "pod-security.kubernetes.io/enforce: "
	pod := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api-blue}\nspec: {template: {spec: {containers: [{name: a, securityContext: {%s}}], securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}}}}"
	const good, bad = "allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}", "privileged: true"
	for _, tt := range []struct{ name, labels, context, want string }{
		{"nothing is said", "", bad, ""},
		{"privileged", enforce + "privileged", bad, ""},
		{"warned of only", "pod-security.kubernetes.io/warn: restricted", bad, ""},
		{"restricted", enforce + "restricted", good, ""},
		{"not restricted", enforce + "restricted", "capabilities: {drop: [ALL]}",
			`warning prod/api Deployment shop-prod/api-blue (Deployment api): its pods are not admitted at Pod Security level restricted: allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)`},
		{"baseline", enforce + "baseline", "", ""},
		{"not even baseline", enforce + "baseline", bad,
			`warning prod/api Deployment shop-prod/api-blue (Deployment api): its pods are not admitted at Pod Security level baseline: privileged (container "a" must not set securityContext.privileged=true)`},
		{"no level", enforce + "strict", good,
			`error prod Namespace shop-prod (): would be refused by the API server: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted`},
		{"no pod", enforce + "restricted", "capabilities: 7", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := NewEnvironment(envrepo.Environment{Name: "prod", Namespace: "shop-prod"})
			e.Add(&render.Result{Release: envrepo.Release{Name: "api"}, Tags: []render.TagObjects{{Name: "blue", Objects: objects(t, fmt.Sprintf(pod, tt.context))}}})
			e.Add(result(envrepo.EnvironmentRelease, []*unstructured.Unstructured{namespace(tt.labels)}))
			var found []string
			for _, f := range Judge([]*Environment{e}) {
				assert.NotEmpty(t, f.Hint)
				found = append(found, fmt.Sprintf("%s %s %s (%s): %s", f.Severity, f.Release, f.Object, f.Workload, f.Message))
			}
			assert.Equal(t, tt.want, strings.Join(found, "\n"))
		})
	}
}

func TestRefusedPolicies(t *testing.T) {
	for _, tt := range []struct{ spec, want string }{
		{"ingress: [{from: [{}]}]", "spec.ingress[0].from[0]: is empty: it must select something"},
		{"ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]", "spec.ingress[0].from[0]: has an ipBlock and a selector: one of them may be given"},
		{"egress: [{to: [{ipBlock: {cidr: 10.0.0.1}}]}]", `spec.egress[0].to[0].ipBlock.cidr: "10.0.0.1" is not a range of addresses such as 10.20.0.0/16`},
		{"egress: [{to: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]", `spec.egress[0].to[0].ipBlock.cidr: "::ffff:10.0.0.0/104" is not a range of addresses such as 10.20.0.0/16`},
		{"egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]", "spec.egress[0].to[0].ipBlock.except[0]: 11.0.0.0/9 is no part of 10.0.0.0/8"},
		{"ingress: [{ports: [{port: 0}]}]", "spec.ingress[0].ports[0]: ports 0 to 0 are none"},
		{"ingress: [{ports: [{port: 9, endPort: 8}]}]", "spec.ingress[0].ports[0]: ports 9 to 8 are none"},
		{"ingress: [{ports: [{port: http, endPort: 8}]}]", "spec.ingress[0].ports[0]: endPort needs a port with a number"},
		{"ingress: [{ports: [{protocol: ICMP}]}]", `spec.ingress[0].ports[0]: protocol "ICMP" is not TCP, UDP or SCTP`},
		{"policyTypes: [Both]", `spec.policyTypes[0]: "Both" is neither Ingress nor Egress`},
		{"ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Near}]}}]}]", `spec.ingress[0].from[0].podSelector: "Near" is not a valid label selector operator`},
	} {
		_, err := parsePolicy(objects(t, policyText("x", tt.spec))[0])
		assert.EqualError(t, err, tt.want)
	}
}

// reached are the probes that the evaluator lets through.
func reached(from, to *Environment, ports []int32) map[probe]bool {
	through := map[probe]bool{}
	for _, w := range waysBetween(from, to) {
		for _, a := range from.workloads(w.sources) {
			for _, b := range to.workloads(w.targets) {
				for _, r := range w.ports {
					for _, port := range ports {
						if r.Low <= port && port <= r.High {
							through[probe{a.name, b.name, r.Protocol, port}] = true
						}
					}
				}
			}
		}
	}
	return through
}

var probedPorts = []int32{1, 52, 53, 54, 8079, 8080, 8081, 9000, maxPort}

// TestEvaluation holds the evaluator, which groups pods and rules, against one that
// looks at each connection for itself.
func TestEvaluation(t *testing.T) {
	t.Parallel()
	some := 0
	for seed := range uint64(500) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		a, b := g.environment("a"), g.environment("b")
		x, y := a.parsed(t), b.parsed(t)
		x.open()
		y.open()
		for _, pair := range []struct {
			from, to         naiveEnvironment
			parsedFrom, into *Environment
		}{{a, b, x, y}, {b, a, y, x}} {
			for _, w := range waysBetween(pair.parsedFrom, pair.into) {
				require.False(t, w.sources.empty() || w.targets.empty() || len(w.ports) == 0, "seed %d: a way for nobody", seed)
			}
			want := naive(pair.from, pair.to, probedPorts)
			some += len(want)
			require.Equal(t, want, reached(pair.parsedFrom, pair.into, probedPorts), "seed %d", seed)
		}
	}
	require.NotZero(t, some, "the policies allow something")
}

// generator draws small environments in which much coincides.
type generator struct{ *rand.Rand }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) labels() map[string]string {
	set := map[string]string{}
	for _, key := range []string{"app", "tier"} {
		if v := pick(g, "", "x", "y"); v != "" {
			set[key] = v
		}
	}
	return set
}

func (g generator) selector() metav1.LabelSelector {
	s := metav1.LabelSelector{}
	if g.IntN(2) == 0 {
		s.MatchLabels = g.labels()
	}
	if g.IntN(4) == 0 {
		e := metav1.LabelSelectorRequirement{Key: pick(g, "app", "tier"), Operator: pick(g, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = []string{pick(g, "x", "y")}
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func (g generator) environment(name string) naiveEnvironment {
	e := naiveEnvironment{name: name, labels: labels.Set(g.labels())}
	e.labels[nameLabel], e.labels["pod-security.kubernetes.io/enforce"] = "shop-"+name, "restricted"
	for i := range 1 + g.IntN(4) {
		p := naivePod{name: fmt.Sprintf("pod-%d", i), labels: g.labels()}
		for range g.IntN(3) {
			p.ports = append(p.ports, corev1.ContainerPort{Name: pick(g, "http", "metrics"), ContainerPort: pick(g, int32(8080), 9000), Protocol: pick(g, "", corev1.ProtocolTCP, corev1.ProtocolUDP)})
		}
		e.pods = append(e.pods, p)
	}
	for range g.IntN(4) {
		e.policies = append(e.policies, g.policy())
	}
	return e
}

func (g generator) policy() networkingv1.NetworkPolicySpec {
	spec := networkingv1.NetworkPolicySpec{PodSelector: g.selector()}
	for _, t := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
		if g.IntN(2) == 0 {
			spec.PolicyTypes = append(spec.PolicyTypes, t)
		}
	}
	for range g.IntN(3) {
		spec.Ingress = append(spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: g.peers(), Ports: g.ports()})
	}
	for range g.IntN(3) {
		spec.Egress = append(spec.Egress, networkingv1.NetworkPolicyEgressRule{To: g.peers(), Ports: g.ports()})
	}
	return spec
}

func (g generator) peers() []networkingv1.NetworkPolicyPeer {
	var list []networkingv1.NetworkPolicyPeer
	for range g.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		switch g.IntN(4) {
		case 0:
			p.IPBlock = &networkingv1.IPBlock{CIDR: pick(g, "0.0.0.0/0", "10.0.0.0/8", "203.0.113.0/24", "::/0", "fd00::/8", "192.168.4.0/22")}
			for _, except := range map[string][]string{
				"0.0.0.0/0":      {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "224.0.0.0/3"},
				"10.0.0.0/8":     {"10.0.0.0/9", "10.128.0.0/9"},
				"192.168.4.0/22": {"192.168.4.0/23", "192.168.6.0/24", "192.168.7.0/25", "192.168.7.128/25"},
				"fd00::/8":       {"fd00::/9", "fd80::/9"},
			}[p.IPBlock.CIDR] {
				if g.IntN(8) > 0 {
					p.IPBlock.Except = append(p.IPBlock.Except, except)
				}
			}
		case 1:
			p.PodSelector = new(g.selector())
		case 2:
			p.NamespaceSelector = new(g.selector())
		default:
			p.PodSelector, p.NamespaceSelector = new(g.selector()), new(g.selector())
		}
		list = append(list, p)
	}
	return list
}

func (g generator) ports() []networkingv1.NetworkPolicyPort {
	var list []networkingv1.NetworkPolicyPort
	for range g.IntN(3) {
		var p networkingv1.NetworkPolicyPort
		if g.IntN(2) == 0 {
			p.Protocol = new(pick(g, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP))
		}
		switch g.IntN(4) {
		case 0:
			p.Port = new(intstr.FromString(pick(g, "http", "metrics")))
		case 1:
			p.Port = new(intstr.FromInt32(pick(g, int32(53), 8080, 9000)))
		case 2:
			p.Port, p.EndPort = new(intstr.FromInt32(pick(g, int32(1), 53, 8000))), new(pick(g, int32(53), 8080, maxPort))
			if *p.EndPort < p.Port.IntVal {
				p.EndPort = nil
			}
		}
		list = append(list, p)
	}
	return list
}

// parsed is the environment as it is rendered.
func (n naiveEnvironment) parsed(t testing.TB) *Environment {
	t.Helper()
	e := NewEnvironment(envrepo.Environment{Name: n.name, Namespace: "shop-" + n.name})
	list := []any{&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "shop-" + n.name, Labels: n.labels}}}
	for _, p := range n.pods {
		list = append(list, &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: p.name, Labels: p.labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: p.ports}}}})
	}
	for i, spec := range n.policies {
		list = append(list, &networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", i)}, Spec: spec})
	}
	var all []*unstructured.Unstructured
	for _, o := range list {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		require.NoError(t, err)
		all = append(all, &unstructured.Unstructured{Object: m})
	}
	e.Add(result("r", all))
	require.Empty(t, e.refused)
	return e
}

// FuzzPolicy: whatever the text, nothing panics, and a policy that is taken means
// what the naive evaluator makes of it.
func FuzzPolicy(ff *testing.F) {
	f := mutants.New(ff)
	for _, seed := range []string{denyText, policyText("a", "ingress: [{from: [{namespaceSelector: {}}], ports: [{port: http}, {port: 1, endPort: 9}]}]"),
		policyText("a", "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {podSelector: {}}]}]"),
		policyText("a", "ingress: [null, {from: [null], ports: [null]}]\npolicyTypes: [null]"), workloadText,
		"apiVersion: v1\nkind: Pod\nspec: {containers: [{ports: [{name: 3, containerPort: x}]}, 7]}\n",
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nspec: []\n"} {
		f.Add([]byte(strings.TrimSuffix(seed, "---\n")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o := &unstructured.Unstructured{}
		if len(text) > 1<<14 || yaml.Unmarshal(text, &o.Object) != nil || o.Object == nil {
			return
		}
		g := generator{rand.New(rand.NewPCG(1, 2))}
		a, b := g.environment("a"), g.environment("b")
		x, y := a.parsed(t), b.parsed(t)
		y.Add(result("fuzzed", []*unstructured.Unstructured{o}))
		for _, f := range Judge([]*Environment{x, y}) {
			require.NotContains(t, f.Message, "\n")
		}
		var np networkingv1.NetworkPolicy
		if len(y.policies) == len(b.policies) {
			return
		}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &np))
		b.policies = append(b.policies, np.Spec)
		require.Equal(t, naive(a, b, probedPorts), reached(x, y, probedPorts))
		require.Equal(t, naive(b, a, probedPorts), reached(y, x, probedPorts))
	})
}

// BenchmarkJudge: three environments of a thousand releases with policies of their
// own, each different.
func BenchmarkJudge(b *testing.B) {
	const releases = 1000
	var all []*Environment
	for _, name := range []string{"dev", "staging", "prod"} {
		e := environment(b, name, denyText)
		for i := range releases {
			id := fmt.Sprintf("c%d", i)
			e.Add(result(id, objects(b, strings.ReplaceAll(workloadText, "api", id)+
				fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s}\nspec: {podSelector: {matchLabels: {app: %s}}, policyTypes: [Ingress, Egress], "+
					"ingress: [{from: [{namespaceSelector: {}}], ports: [{port: %d}]}], egress: [{to: [{namespaceSelector: {}}], ports: [{port: %d}]}]}", id, id, 2000+i, 10000+i))))
		}
		all = append(all, e)
	}
	for b.Loop() {
		require.Empty(b, Judge(all), "no two of their ports meet")
	}
}

func TestCoveredRanges(t *testing.T) {
	ranges := map[string]families{"0.0.0.0/0": ipv4, "::/0": ipv6, "203.0.113.0/24": 0, "8.0.0.0/7": 0, "8.0.0.0/6": ipv4, "10.1.2.3/32": ipv4, "2a00::/16": ipv6, "fe80::/10": 0}
	for _, cidr := range slices.Sorted(maps.Keys(ranges)) {
		b, err := parseBlock("cidr", networkingv1.IPBlock{CIDR: cidr})
		require.NoError(t, err)
		assert.Equal(t, ranges[cidr], b.pods, cidr)
	}
	// Single addresses, all of a range: they are joined again.
	ip := networkingv1.IPBlock{CIDR: "10.0.0.0/24"}
	for i := range 256 {
		ip.Except = append(ip.Except, fmt.Sprintf("10.0.0.%d/32", i))
	}
	b, err := parseBlock("cidr", ip)
	require.NoError(t, err)
	assert.Zero(t, b.pods)
	ip.Except = ip.Except[1:]
	b, err = parseBlock("cidr", ip)
	require.NoError(t, err)
	assert.Equal(t, ipv4, b.pods)
}
