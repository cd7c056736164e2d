package isolation

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// What stands here evaluates policies as the documentation of NetworkPolicy reads,
// one pod, one port and one address at a time. It is slow and groups nothing.

type naiveEnvironment struct {
	name     string
	labels   labels.Set
	pods     []naivePod
	policies []networkingv1.NetworkPolicySpec
}

type naivePod struct {
	name   string
	labels labels.Set
	ports  []corev1.ContainerPort
}

// probe is an attempt to connect.
type probe struct {
	from, to string
	protocol corev1.Protocol
	port     int32
}

// naive are the probes that get through.
func naive(from, to naiveEnvironment, ports []int32) map[probe]bool {
	through := map[probe]bool{}
	for _, a := range from.pods {
		for _, b := range to.pods {
			for _, protocol := range []corev1.Protocol{"TCP", "UDP", "SCTP"} {
				for _, port := range ports {
					for _, v6 := range []bool{false, true} {
						if naiveEgress(from, a, to, b, protocol, port, v6) && naiveIngress(from, a, to, b, protocol, port, v6) {
							through[probe{a.name, b.name, protocol, port}] = true
						}
					}
				}
			}
		}
	}
	return through
}

func naiveEgress(from naiveEnvironment, a naivePod, to naiveEnvironment, b naivePod, protocol corev1.Protocol, port int32, v6 bool) bool {
	restricted := false
	for _, spec := range from.policies {
		if !naiveSelects(spec.PodSelector, a.labels) || !naiveRestricts(spec, networkingv1.PolicyTypeEgress) {
			continue
		}
		restricted = true
		for _, r := range spec.Egress {
			if naivePeers(r.To, from, to, b, v6) && naivePorts(r.Ports, b, protocol, port) {
				return true
			}
		}
	}
	return !restricted
}

func naiveIngress(from naiveEnvironment, a naivePod, to naiveEnvironment, b naivePod, protocol corev1.Protocol, port int32, v6 bool) bool {
	restricted := false
	for _, spec := range to.policies {
		if !naiveSelects(spec.PodSelector, b.labels) || !naiveRestricts(spec, networkingv1.PolicyTypeIngress) {
			continue
		}
		restricted = true
		for _, r := range spec.Ingress {
			if naivePeers(r.From, to, from, a, v6) && naivePorts(r.Ports, b, protocol, port) {
				return true
			}
		}
	}
	return !restricted
}

func naiveRestricts(spec networkingv1.NetworkPolicySpec, direction networkingv1.PolicyType) bool {
	if len(spec.PolicyTypes) == 0 {
		return direction == networkingv1.PolicyTypeIngress || len(spec.Egress) > 0
	}
	for _, t := range spec.PolicyTypes {
		if t == direction {
			return true
		}
	}
	return false
}

func naiveSelects(s metav1.LabelSelector, set labels.Set) bool {
	for k, v := range s.MatchLabels {
		if got, ok := set[k]; !ok || got != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		got, has := set[e.Key]
		listed := false
		for _, v := range e.Values {
			listed = listed || has && v == got
		}
		ok := map[metav1.LabelSelectorOperator]bool{"In": listed, "NotIn": !listed, "Exists": has, "DoesNotExist": !has}
		if !ok[e.Operator] {
			return false
		}
	}
	return true
}

// naivePeers: other and pod are at the far end of a policy of own.
func naivePeers(peers []networkingv1.NetworkPolicyPeer, own, other naiveEnvironment, pod naivePod, v6 bool) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		switch {
		case p.IPBlock != nil:
			if naiveBlock(*p.IPBlock, v6) {
				return true
			}
		case p.NamespaceSelector == nil && own.name != other.name:
		case p.NamespaceSelector != nil && !naiveSelects(*p.NamespaceSelector, other.labels):
		case p.PodSelector == nil || naiveSelects(*p.PodSelector, pod.labels):
			return true
		}
	}
	return false
}

// naiveBlock tries every address at which it may change whether it is inside.
func naiveBlock(b networkingv1.IPBlock, v6 bool) bool {
	family := ipv4
	if v6 {
		family = ipv6
	}
	whole := netip.MustParsePrefix(b.CIDR)
	prefixes := append([]netip.Prefix{whole}, podRanges[family]...)
	var except []netip.Prefix
	for _, e := range b.Except {
		except = append(except, netip.MustParsePrefix(e))
	}
	prefixes = append(prefixes, except...)
	var candidates []netip.Addr
	for _, p := range prefixes {
		p = p.Masked()
		last := p.Addr().AsSlice()
		for i := p.Bits(); i < len(last)*8; i++ {
			last[i/8] |= 0x80 >> (i % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		candidates = append(candidates, p.Addr(), end.Next())
	}
	within := func(list []netip.Prefix, a netip.Addr) bool {
		for _, p := range list {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	for _, a := range candidates {
		if a.IsValid() && a.Is6() == v6 && whole.Contains(a) && !within(except, a) && within(podRanges[family], a) {
			return true
		}
	}
	return false
}

func naivePorts(list []networkingv1.NetworkPolicyPort, target naivePod, protocol corev1.Protocol, port int32) bool {
	if len(list) == 0 {
		return true
	}
	for _, p := range list {
		if p.Protocol == nil && protocol != corev1.ProtocolTCP || p.Protocol != nil && *p.Protocol != protocol {
			continue
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			for _, c := range target.ports {
				if c.Name == p.Port.StrVal && c.ContainerPort == port && (c.Protocol == protocol || c.Protocol == "" && protocol == corev1.ProtocolTCP) {
					return true
				}
			}
		case p.EndPort != nil && p.Port.IntVal <= port && port <= *p.EndPort, p.Port.IntVal == port:
			return true
		}
	}
	return false
}
