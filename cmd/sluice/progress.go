package main

import (
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// stages are what a release goes through on its way to what the repository declares,
// in order.
var stages = []string{"apply", "wait", "route", "retire", "prune"}

// progress is how far a release has come.
type progress struct {
	Stage  string `json:"stage,omitempty"` // where it stands; "" where that cannot be told
	Done   bool   `json:"done,omitempty"`  // through all of them
	Failed bool   `json:"failed,omitempty"`
}

// stageOf is where a release stands whose condition has a reason.
var stageOf = map[string]string{
	v1alpha1.ReasonApplying: "apply", v1alpha1.ReasonDependencyNotReady: "apply", v1alpha1.ReasonRenderFailed: "apply",
	v1alpha1.ReasonEmptyRender: "apply", v1alpha1.ReasonTerminating: "apply", v1alpha1.ReasonContested: "apply",
	v1alpha1.ReasonApplyFailed: "apply", v1alpha1.ReasonOwnedByAnother: "apply", v1alpha1.ReasonNamespaceMissing: "apply",
	v1alpha1.ReasonNamespaceRefused: "apply", v1alpha1.ReasonInventoryUnreadable: "apply",
	v1alpha1.ReasonWaitingForHealth: "wait", v1alpha1.ReasonHealthTimeout: "wait", v1alpha1.ReasonHealthFailed: "wait",
	v1alpha1.ReasonTrafficHeld:      "wait",
	v1alpha1.ReasonRouteNotAccepted: "route", v1alpha1.ReasonTrafficRefused: "route",
	v1alpha1.ReasonDraining: "retire", v1alpha1.ReasonRetireHeld: "retire",
	v1alpha1.ReasonPruneFailed: "prune", v1alpha1.ReasonPruneHeld: "prune", v1alpha1.ReasonEnvironmentHeld: "prune", v1alpha1.ReasonRemoved: "prune",
}

// progressOf reads how far a release has come from what is said of it.
func progressOf(state, reason string) progress {
	switch state {
	case v1alpha1.ConditionReady:
		return progress{Done: true}
	case v1alpha1.ConditionStalled:
		return progress{Stage: stageOf[reason], Failed: true}
	case v1alpha1.ConditionReconciling, "NotReady":
		return progress{Stage: stageOf[reason]}
	case "OutOfSync":
		return progress{Stage: "apply"}
	}
	return progress{}
}

// bar is the progress in few columns: "▰▰▱▱▱ wait".
func (p progress) bar() string {
	at := slices.Index(stages, p.Stage)
	switch {
	case p.Done:
		return strings.Repeat("▰", len(stages))
	case at < 0:
		return ""
	}
	text := strings.Repeat("▰", at+1) + strings.Repeat("▱", len(stages)-at-1) + " " + p.Stage
	if p.Failed {
		text += " ✗"
	}
	return text
}

// words is the progress by name: "✓ apply  ▸ wait  · route  · retire  · prune".
func (p progress) words() string {
	at := slices.Index(stages, p.Stage)
	if p.Done {
		at = len(stages)
	}
	if at < 0 {
		return ""
	}
	parts := make([]string, len(stages))
	for i, s := range stages {
		mark := "·"
		switch {
		case i < at:
			mark = "✓"
		case i == at && p.Failed:
			mark = "✗"
		case i == at:
			mark = "▸"
		}
		parts[i] = mark + " " + s
	}
	return strings.Join(parts, "  ")
}
