package isolation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ports are ranges of ports that do not touch each other, sorted.
type ports []portRange

type portRange struct {
	Protocol  corev1.Protocol
	Low, High int32
}

const maxPort = 65535

// everyPort is what is allowed where nothing is said of ports.
var everyPort = ports{{corev1.ProtocolSCTP, 1, maxPort}, {corev1.ProtocolTCP, 1, maxPort}, {corev1.ProtocolUDP, 1, maxPort}}

// portRule is what a rule says of ports: numbers, and names that the pod which is
// connected to explains.
type portRule struct {
	fixed ports
	named []namedPort
}

type namedPort struct {
	protocol corev1.Protocol
	name     string
}

func parsePorts(at string, raw []networkingv1.NetworkPolicyPort) (portRule, error) {
	if len(raw) == 0 {
		return portRule{fixed: everyPort}, nil
	}
	var out portRule
	for i, p := range raw {
		r, name, err := parsePort(p)
		switch {
		case err != nil:
			return portRule{}, fmt.Errorf("%s[%d]: %w", at, i, err)
		case name != "":
			out.named = append(out.named, namedPort{r.Protocol, name})
		default:
			out.fixed = append(out.fixed, r)
		}
	}
	out.fixed = merged(out.fixed)
	return out, nil
}

// parsePort reads a range, or the name of a port and its protocol.
func parsePort(raw networkingv1.NetworkPolicyPort) (portRange, string, error) {
	r := portRange{corev1.ProtocolTCP, 1, maxPort}
	if raw.Protocol != nil {
		r.Protocol = *raw.Protocol
	}
	if !slices.ContainsFunc(everyPort, func(p portRange) bool { return p.Protocol == r.Protocol }) {
		return r, "", fmt.Errorf("protocol %q is not TCP, UDP or SCTP", r.Protocol)
	}
	numbered := raw.Port != nil && raw.Port.Type == intstr.Int
	if raw.EndPort != nil && !numbered {
		return r, "", fmt.Errorf("endPort needs a port with a number")
	}
	switch {
	case raw.Port == nil:
		return r, "", nil
	case !numbered && raw.Port.StrVal == "":
		return r, "", fmt.Errorf("the name of the port is empty")
	case !numbered:
		return r, raw.Port.StrVal, nil
	}
	r.Low, r.High = raw.Port.IntVal, raw.Port.IntVal
	if raw.EndPort != nil {
		r.High = *raw.EndPort
	}
	if r.Low < 1 || r.High > maxPort || r.High < r.Low {
		return r, "", fmt.Errorf("ports %d to %d are none", r.Low, r.High)
	}
	return r, "", nil
}

// merged sorts ranges and joins those that touch.
func merged(list ports) ports {
	slices.SortFunc(list, compareRanges)
	var out ports
	for _, r := range list {
		if last := len(out) - 1; last >= 0 && out[last].Protocol == r.Protocol && r.Low <= out[last].High+1 {
			out[last].High = max(out[last].High, r.High)
			continue
		}
		out = append(out, r)
	}
	return out
}

func compareRanges(a, b portRange) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Low, b.Low), cmp.Compare(a.High, b.High))
}

// namedPorts are the named ports of a pod's containers.
func namedPorts(spec map[string]any) map[string]ports {
	found := map[string]ports{}
	for _, field := range []string{"containers", "initContainers"} {
		containers, _ := spec[field].([]any)
		for _, c := range containers {
			container, _ := c.(map[string]any)
			list, _ := container["ports"].([]any)
			for _, p := range list {
				port, _ := p.(map[string]any)
				name, _ := port["name"].(string)
				number, ok := portNumber(port["containerPort"])
				if name == "" || !ok {
					continue
				}
				protocol := corev1.ProtocolTCP
				if s, ok := port["protocol"].(string); ok {
					protocol = corev1.Protocol(s)
				}
				found[name] = append(found[name], portRange{protocol, number, number})
			}
		}
	}
	return found
}

// portNumber reads a number as whichever decoder has left it.
func portNumber(v any) (int32, bool) {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case float64:
		n = int64(v)
	}
	return int32(n), n >= 1 && n <= maxPort
}

// variant are the pods of an environment for which a rule's ports are these.
type variant struct {
	ports ports
	pods  set
}

// variants says which ports a rule means. Only where it names some do the pods
// differ in that.
func (e *Environment) variants(r portRule) []variant {
	if len(r.named) == 0 {
		return []variant{{r.fixed, e.all()}}
	}
	known := map[string]int{}
	var out []variant
	for i, p := range e.pods {
		resolved := slices.Clone(r.fixed)
		for _, n := range r.named {
			for _, port := range p.ports[n.name] {
				if port.Protocol == n.protocol {
					resolved = append(resolved, port)
				}
			}
		}
		if resolved = merged(resolved); len(resolved) == 0 {
			continue
		}
		text, _ := json.Marshal(resolved)
		at, ok := known[string(text)]
		if !ok {
			at = len(out)
			known[string(text)] = at
			out = append(out, variant{resolved, newSet(len(e.pods))})
		}
		out[at].pods.add(i)
	}
	return out
}

// common are the ports that are in both.
func (p ports) common(other ports) ports {
	var out ports
	for len(p) > 0 && len(other) > 0 {
		a, b := p[0], other[0]
		if low, high := max(a.Low, b.Low), min(a.High, b.High); a.Protocol == b.Protocol && low <= high {
			out = append(out, portRange{a.Protocol, low, high})
		}
		if cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.High, b.High)) < 0 {
			p = p[1:]
		} else {
			other = other[1:]
		}
	}
	return out
}

func (p ports) String() string {
	if slices.Equal(p, everyPort) {
		return "every port"
	}
	var out []string
	for _, r := range p {
		switch {
		case r.Low == 1 && r.High == maxPort:
			out = append(out, string(r.Protocol))
		case r.Low == r.High:
			out = append(out, fmt.Sprintf("%s %d", r.Protocol, r.Low))
		default:
			out = append(out, fmt.Sprintf("%s %d–%d", r.Protocol, r.Low, r.High))
		}
	}
	return abbreviated(out)
}
