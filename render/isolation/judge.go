package isolation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/render"
)

// Finding is a way from one environment into another, why it is not known whether
// there is one, or a workload whose pods are not admitted.
type Finding struct {
	Severity string // as package render has them
	Release  string // environment/release, or the environment
	Object   string // Kind namespace/name, where one is to blame
	Message  string
	Hint     string
	Workload string // as in [render.Finding]
}

// Judge finds the ways between environments. They are errors in a project that
// isolates its environments at all: where one has a policy for all of its pods.
// Elsewhere, where nobody has decided on it, they are warnings, one for each
// environment. Environments of which not all is known are to be left away.
//
// The cost grows with the pods and with the openings that lead out of their
// environment, equal ones of different policies being one; not with their product.
func Judge(environments []*Environment) []Finding {
	severity := render.SeverityWarning
	if slices.ContainsFunc(environments, (*Environment).isolates) {
		severity = render.SeverityError
	}
	var found []Finding
	for _, e := range environments {
		e.open()
		found = append(found, e.refused...)
		found = append(found, e.unadmitted()...)
	}
	ways, passed := map[*Environment][]way{}, map[*opening]bool{}
	for _, to := range environments {
		for _, from := range environments {
			if from.namespace == to.namespace {
				continue
			}
			for _, w := range waysBetween(from, to) {
				ways[to] = append(ways[to], w)
				passed[w.in], passed[w.out] = true, true
			}
		}
	}
	for _, e := range environments {
		found = append(found, told(severity, e, ways[e])...)
		if severity == render.SeverityError {
			found = append(found, unrestricted(e, passed)...)
			found = append(found, oneSided(e, environments, passed)...)
		}
		if len(environments) > 1 {
			found = append(found, unproven(severity, e, environments)...)
		}
	}
	return found
}

// isolates reports whether a policy holds for all pods of the environment.
func (e *Environment) isolates() bool {
	return slices.ContainsFunc(e.policies, func(p *policy) bool { return p.pods.Empty() })
}

// way is a possible connection: from pods that an opening lets out to pods that one
// lets in.
type way struct {
	from, to         *Environment
	out, in          *opening
	sources, targets set
	ports            ports
}

// end is an opening as it is towards one other environment.
type end struct {
	*opening
	near     set // pods at its own side
	far      set // pods at the other
	families families
	ports    ports
}

// ends are the openings of an environment in a direction towards another one.
func (e *Environment) ends(direction int, other *Environment) (out []end) {
	for _, o := range e.openings[direction] {
		out = append(out, e.towards(direction, o, other)...)
	}
	return out
}

// towards is one opening of an environment towards another one: none where it does not
// lead there. Ports are those of the pods that are connected to.
func (e *Environment) towards(direction int, o *opening, other *Environment) (out []end) {
	far, families := o.peer.admits(other)
	if far.empty() || families == 0 {
		return nil
	}
	target := e
	if direction == egress {
		target = other
	}
	for _, v := range target.variants(o.ports) {
		x := end{o, o.pods, far, families, v.ports}
		if direction == egress {
			x.far = far.and(v.pods)
		} else {
			x.near = o.pods.and(v.pods)
		}
		if !x.near.empty() && !x.far.empty() {
			out = append(out, x)
		}
	}
	return out
}

// waysBetween are the ways from one environment into another.
func waysBetween(from, to *Environment) []way {
	in := to.ends(ingress, from)
	if len(in) == 0 {
		return nil
	}
	out := from.ends(egress, to)
	var found []way
	for _, i := range in {
		for _, o := range out {
			if i.families&o.families == 0 || !i.near.meets(o.far) || !i.far.meets(o.near) {
				continue
			}
			if ports := i.ports.common(o.ports); len(ports) > 0 {
				found = append(found, way{from, to, o.opening, i.opening, o.near.and(i.far), i.near.and(o.far), ports})
			}
		}
	}
	return found
}

// told makes one finding of all ways through one opening into an environment.
func told(severity string, to *Environment, ways []way) []Finding {
	by := map[*opening][]way{}
	for _, w := range ways {
		by[w.in] = append(by[w.in], w)
	}
	var found []Finding
	for _, in := range to.openings[ingress] {
		through := by[in]
		if len(through) == 0 {
			continue
		}
		targets, reached := newSet(len(to.pods)), ports{}
		for _, w := range through {
			targets.join(w.targets)
			reached = append(reached, w.ports...)
		}
		what := fmt.Sprintf("%s (%s) can be reached from %s", names(to.workloads(targets)), merged(reached), sources(through))
		f := Finding{Severity: severity, Release: to.name}
		if in.rules == nil {
			f.Message = "no NetworkPolicy restricts who connects to pods of " + to.name + ": " + what
			f.Hint = denyHint(to)
		} else {
			first := in.rules[0]
			f.Release, f.Object = first.policy.release, first.policy.object(to)
			f.Message = fmt.Sprintf("%s lets in another environment: %s%s", first.at, what, alike(in))
			f.Hint = in.hint(ingress)
		}
		found = append(found, f)
	}
	return found
}

func denyHint(e *Environment) string {
	return fmt.Sprintf("deny by default in environments/%s: the networkpolicy.yaml that `sluice environment add` writes is to be copied", e.name)
}

// unrestricted warns of pods that no policy restricts, though the other end of every
// way is closed: where environments are isolated, each is to see to that itself.
func unrestricted(e *Environment, passed map[*opening]bool) []Finding {
	var what []string
	for direction, format := range []string{ingress: "who connects to %s", egress: "what %s may connect to"} {
		for _, o := range e.openings[direction] {
			if o.rules == nil && !passed[o] {
				what = append(what, fmt.Sprintf(format, names(e.workloads(o.pods))))
			}
		}
	}
	if what == nil {
		return nil
	}
	return []Finding{{Severity: render.SeverityWarning, Release: e.name,
		Message: "no NetworkPolicy restricts " + strings.Join(what, " and ") + ": only the policies of the other environments keep them apart", Hint: denyHint(e)}}
}

// oneSided warns of rules that lead from or to other environments, of which none is
// open at its end: a rule there would make a way, and here is where nobody would look.
// Ranges of addresses count where they hold all that pods may have: that a smaller one
// holds those of an environment, and not those that it was declared for, nobody can tell.
func oneSided(e *Environment, environments []*Environment, passed map[*opening]bool) (found []Finding) {
	for direction, format := range []string{ingress: "lets pods of %s connect to %s (%s)", egress: "lets %[2]s connect to pods of %[1]s (%[3]s)"} {
		for _, o := range e.openings[direction] {
			if o.rules == nil || passed[o] || o.peer.block != nil && !o.peer.block.whole {
				continue
			}
			var others []string
			near, reached := newSet(len(e.pods)), ports{}
			for _, other := range environments {
				if other.namespace == e.namespace {
					continue
				}
				ends := e.towards(direction, o, other)
				if len(ends) > 0 {
					others = append(others, other.name)
				}
				for _, x := range ends {
					near.join(x.near)
					reached = append(reached, x.ports...)
				}
			}
			if others == nil {
				continue
			}
			first := o.rules[0]
			what := fmt.Sprintf(format, abbreviated(others), names(e.workloads(near)), merged(reached))
			found = append(found, Finding{Severity: render.SeverityWarning, Release: first.policy.release, Object: first.policy.object(e),
				Message: fmt.Sprintf("%s %s: only policies at the other end keep them apart%s", first.at, what, alike(o)), Hint: o.hint(direction)})
		}
	}
	return found
}

// hint says how to close an opening.
func (o *opening) hint(direction int) string {
	switch {
	case o.peer.any && direction == egress:
		return "add to the rule where connections may lead, with to: to lead everywhere is to lead to other environments"
	case o.peer.any:
		return "add to the rule who may connect, with from: to be open to all is to be open to other environments"
	case o.peer.block != nil:
		return "leave the addresses of pods out of the ipBlock, with except"
	}
	return "select only namespaces that are no environments, by " + nameLabel
}

// alike names the other policies that have the same rule.
func alike(o *opening) string {
	var others []string
	for _, r := range o.rules[1:] {
		if r.policy != o.rules[0].policy && !slices.Contains(others, r.policy.name) {
			others = append(others, r.policy.name)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return "; so does NetworkPolicy " + abbreviated(others)
}

// sources says where the ways come from, and what lets them leave.
func sources(ways []way) string {
	var order []*Environment
	causes := map[*Environment][]string{}
	for _, w := range ways {
		if causes[w.from] == nil {
			order = append(order, w.from)
		}
		if c := w.cause(); !slices.Contains(causes[w.from], c) {
			causes[w.from] = append(causes[w.from], c)
		}
	}
	parts := make([]string, len(order))
	for i, e := range order {
		parts[i] = e.name + " (" + abbreviated(causes[e]) + ")"
	}
	return strings.Join(parts, " and ")
}

// cause says what lets the pods at the source leave.
func (w way) cause() string {
	who := names(w.from.workloads(w.sources))
	if w.out.rules == nil {
		return "nothing restricts " + who
	}
	r := w.out.rules[0]
	return fmt.Sprintf("%s of NetworkPolicy %s lets %s out", r.at, r.policy.name, who)
}

// unproven says why the policies do not tell all.
func unproven(severity string, e *Environment, all []*Environment) []Finding {
	var found []Finding
	for _, w := range e.host {
		found = append(found, Finding{Severity: severity, Release: w.release, Object: w.object(e),
			Message: "runs on the network of its node, which no NetworkPolicy restricts: other environments may reach it, and it them", Hint: "leave hostNetwork away, or move it out of the environment"})
	}
	if len(e.others) > 0 {
		first := e.others[0]
		found = append(found, Finding{Severity: render.SeverityWarning, Release: e.name,
			Message: fmt.Sprintf("%s (%s) is not judged: what it allows is not known", names(e.others), first.release),
			Hint:    "allow in it nothing that reaches other environments: only NetworkPolicies of networking.k8s.io are evaluated"})
	}
	if o, by := selectsByLabel(e, all); o != nil && !e.labelled && len(e.pods) > 0 {
		r := o.rules[0]
		found = append(found, Finding{Severity: render.SeverityWarning, Release: e.name,
			Message: fmt.Sprintf("Namespace %s is not rendered, so its labels are not known: %s of NetworkPolicy %s in %s may select it", e.namespace, r.at, r.policy.name, by.name),
			Hint:    fmt.Sprintf("add the Namespace to environments/%s, as `sluice environment add` writes it, or select by %s", e.name, nameLabel)})
	}
	return found
}

// selectsByLabel finds an opening of another environment that selects namespaces by
// labels which anybody may have added.
func selectsByLabel(e *Environment, all []*Environment) (*opening, *Environment) {
	for _, other := range all {
		for _, openings := range other.openings {
			for _, o := range openings {
				if other != e && o.peer.byOtherLabels() {
					return o, other
				}
			}
		}
	}
	return nil, nil
}

func refusal(e *Environment, w workload, err error) Finding {
	return Finding{Severity: render.SeverityError, Release: w.release, Object: w.object(e),
		Message: "would be refused by the API server: " + strings.Join(strings.Fields(err.Error()), " "), Hint: "correct it: nothing is isolated by a policy that is not applied"}
}

func names(list []workload) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = w.String()
	}
	return abbreviated(out)
}

// abbreviated lists a few.
func abbreviated(list []string) string {
	const few = 3
	if len(list) > few+1 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:few], ", "), len(list)-few)
	}
	return strings.Join(list, ", ")
}
