package isolation

import (
	"encoding/json"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// policy is a NetworkPolicy, as far as it concerns other namespaces.
type policy struct {
	workload
	pods      selector
	restricts [2]bool // by direction
	rules     [2][]rule
}

// rule is one peer of one rule of a policy.
type rule struct {
	policy *policy
	at     string // spec.ingress[0].from[1]
	peer   peer
	ports  portRule
	text   string // equal for rules that allow the same
}

// peer is who may be at the other end.
type peer struct {
	any        bool
	namespaces *selector
	pods       *selector // in these namespaces; nil: all
	block      *block
}

// selector is a compiled label selector.
type selector struct {
	labels.Selector
	text  string
	exact []label // what it demands; it may demand more
}

func newSelector(at string, s metav1.LabelSelector) (selector, error) {
	compiled, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return selector{}, fmt.Errorf("%s: %w", at, err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return selector{}, fmt.Errorf("%s: %w", at, err)
	}
	out := selector{Selector: compiled, text: string(text)}
	for k, v := range s.MatchLabels {
		out.exact = append(out.exact, label{k, v})
	}
	return out, nil
}

// parsePolicy reads a policy strictly: its errors are what the API server would
// refuse it for.
func parsePolicy(o *unstructured.Unstructured) (*policy, error) {
	var np networkingv1.NetworkPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &np, true); err != nil {
		return nil, err
	}
	p := &policy{}
	var err error
	if p.pods, err = newSelector("spec.podSelector", np.Spec.PodSelector); err != nil {
		return nil, err
	}
	if p.restricts, err = directions(np.Spec); err != nil {
		return nil, err
	}
	for i, r := range np.Spec.Ingress {
		if err := p.addRule(ingress, fmt.Sprintf("spec.ingress[%d]", i), "from", r.From, r.Ports); err != nil {
			return nil, err
		}
	}
	for i, r := range np.Spec.Egress {
		if err := p.addRule(egress, fmt.Sprintf("spec.egress[%d]", i), "to", r.To, r.Ports); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// directions are those that a policy restricts. Where it does not say so, ingress is
// one of them, and egress if there are rules for it.
func directions(spec networkingv1.NetworkPolicySpec) (out [2]bool, err error) {
	if len(spec.PolicyTypes) == 0 {
		return [2]bool{ingress: true, egress: len(spec.Egress) > 0}, nil
	}
	for i, t := range spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			out[ingress] = true
		case networkingv1.PolicyTypeEgress:
			out[egress] = true
		default:
			return out, fmt.Errorf("spec.policyTypes[%d]: %q is neither Ingress nor Egress", i, t)
		}
	}
	return out, nil
}

// addRule adds a rule, one entry for each peer.
func (p *policy) addRule(direction int, at, field string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) error {
	allowed, err := parsePorts(at+".ports", ports)
	if err != nil {
		return err
	}
	if len(peers) == 0 {
		return p.add(direction, rule{at: at, peer: peer{any: true}, ports: allowed}, nil, ports)
	}
	for i, raw := range peers {
		at := fmt.Sprintf("%s.%s[%d]", at, field, i)
		parsed, err := parsePeer(at, raw)
		if err != nil {
			return err
		}
		if parsed.namespaces == nil && parsed.block == nil {
			continue // its own namespace
		}
		if err := p.add(direction, rule{at: at, peer: parsed, ports: allowed}, &raw, ports); err != nil {
			return err
		}
	}
	return nil
}

func (p *policy) add(direction int, r rule, raw *networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) error {
	text, err := json.Marshal([]any{raw, ports})
	if err != nil {
		return fmt.Errorf("%s: %w", r.at, err)
	}
	r.policy, r.text = p, string(text)
	p.rules[direction] = append(p.rules[direction], r)
	return nil
}

func parsePeer(at string, raw networkingv1.NetworkPolicyPeer) (peer, error) {
	var p peer
	if raw.IPBlock != nil {
		if raw.PodSelector != nil || raw.NamespaceSelector != nil {
			return p, fmt.Errorf("%s: has an ipBlock and a selector: one of them may be given", at)
		}
		b, err := parseBlock(at+".ipBlock", *raw.IPBlock)
		p.block = &b
		return p, err
	}
	if raw.PodSelector == nil && raw.NamespaceSelector == nil {
		return p, fmt.Errorf("%s: is empty: it must select something", at)
	}
	for _, s := range []struct {
		raw   *metav1.LabelSelector
		field string
		to    **selector
	}{{raw.PodSelector, "podSelector", &p.pods}, {raw.NamespaceSelector, "namespaceSelector", &p.namespaces}} {
		if s.raw == nil {
			continue
		}
		compiled, err := newSelector(at+"."+s.field, *s.raw)
		if err != nil {
			return p, err
		}
		*s.to = &compiled
	}
	return p, nil
}

// admits are the pods of another environment that the peer may be, and over which
// address families.
func (p peer) admits(other *Environment) (set, families) {
	switch {
	case p.any:
		return other.all(), everyFamily
	case p.block != nil:
		return other.all(), p.block.pods
	case p.namespaces == nil || !p.namespaces.Matches(other.labels):
		return newSet(len(other.pods)), everyFamily
	case p.pods == nil:
		return other.all(), everyFamily
	}
	return other.matching(*p.pods), everyFamily
}

// byOtherLabels reports whether the peer selects namespaces by more than their name.
func (p peer) byOtherLabels() bool {
	if p.namespaces == nil {
		return false
	}
	requirements, _ := p.namespaces.Requirements()
	for _, r := range requirements {
		if r.Key() != nameLabel {
			return true
		}
	}
	return false
}
