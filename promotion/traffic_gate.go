package promotion

import (
	"fmt"
	"strings"
)

// trafficGates are the gates of a change of traffic: those that promotions have, so
// that a branch can require the same statuses of every pull request. Readiness is told
// and not demanded (docs/adr/0025): the controller raises no weight of a tag that is
// not ready, and a tag that begins to run with the change cannot be ready before it.
var trafficGates = []rule{
	{GateScope, judgeTrafficScope},
	{GateFresh, judgeFresh},
	{GateOrder, judgeTrafficOrder},
	{GateConfig, judgeTrafficConfig},
	{GateChecks, func(Input) Gate { return passed("no digest changes") }},
	{GateHealthy, judgeTrafficHealthy},
	{GateSoak, func(Input) Gate { return passed("no digest changes") }},
}

// judgeTrafficScope demands that the head changes the traffic of one release and
// nothing else.
func judgeTrafficScope(in Input) Gate {
	switch {
	case in.Target != in.Branch:
		return failed("close the pull request and propose again with `sluice traffic`", "merges into %s instead of %s", in.Target, in.Branch)
	case len(in.Foreign) > 0:
		return failed(promoteAgain(in), "changes more than the traffic: %s", strings.Join(in.Foreign, "; "))
	}
	return passed("changes the traffic and nothing else")
}

// judgeTrafficOrder only demands that the environment is still there.
func judgeTrafficOrder(in Input) Gate {
	if !in.Declared {
		return failed("close the pull request", "%s has no environment %s any more", in.Branch, in.Environment)
	}
	return passed("no digest changes")
}

// judgeTrafficConfig demands that the release can be routed, and of the tags that gain
// that they render and find the configuration which their builds require. What is
// wrong with a tag that does not gain keeps nobody from leaving it.
func judgeTrafficConfig(in Input) Gate {
	for _, c := range in.Components {
		if c.RenderError != "" {
			return failed("`sluice check` shows it", "does not render: %s", c.RenderError)
		}
		for _, share := range c.Shares {
			if share.Gains() && share.Broken != "" {
				return failed("`sluice check` shows it", "%s does not render: %s", share.Tag, share.Broken)
			}
		}
		if !in.Policy.Gates.Config {
			continue
		}
		var broken []string
		for _, contract := range c.Contracts {
			if contract.Broken() {
				broken = append(broken, fmt.Sprintf("%s (%s) %s", short(contract.Digest), contract.Tag, contract.faults()))
			}
		}
		if len(broken) > 0 {
			return failed(remedy(c.Contracts, in.Environment), "%s", strings.Join(broken, "; "))
		}
	}
	if !in.Policy.Gates.Config {
		return passed("the contract is not demanded in %s", in.Environment)
	}
	return passed("every required name is there")
}

// judgeTrafficHealthy tells how the tags that gain are doing.
func judgeTrafficHealthy(in Input) Gate {
	var told []string
	for _, c := range in.Components {
		for _, share := range c.Shares {
			if share.Gains() {
				told = append(told, share.Tag+" "+share.readiness())
			}
		}
	}
	if len(told) == 0 {
		return passed("no tag gains")
	}
	return passed("not demanded, as the controller waits for it: %s", strings.Join(told, ", "))
}

// readiness says in a few words whether a tag is ready.
func (s Share) readiness() string {
	switch {
	case s.Broken != "":
		return "does not render"
	case !s.Old.Listed:
		return "starts with the change"
	case s.Health == nil:
		return "is not known to be ready"
	case s.Health.Digest != s.Digest:
		return "does not run " + short(s.Digest) + " yet"
	case s.Health.Ready:
		return "is ready"
	}
	return "is not ready: " + orElse(s.Health.Message, "no reason is reported")
}
