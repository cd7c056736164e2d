package render

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// lintRollout warns of updates during which a Service may have no pod left.
func (l *linter) lintRollout(p part, u *subject) {
	if !u.served {
		return
	}
	pods, ok := l.floors[u.GetKind()+"/"+u.GetName()] // the fewest that an autoscaler leaves
	if !ok {
		pods = number(mapAt(u.Object, "spec")["replicas"], 1)
	}
	var message, hint string
	switch u.GetKind() {
	case "Deployment":
		message, hint = deploymentGap(mapAt(u.Object, "spec", "strategy"), pods)
	case "StatefulSet":
		message, hint = statefulSetGap(mapAt(u.Object, "spec", "updateStrategy"), pods)
	case "DaemonSet":
		message, hint = daemonSetGap(mapAt(u.Object, "spec", "updateStrategy"))
	}
	if message != "" {
		l.addWorkload(p, u, message, hint)
	}
}

// deploymentGap says why an update may leave no pod of a Deployment that runs so many.
func deploymentGap(strategy map[string]any, pods int) (message, hint string) {
	if strategy["type"] == "Recreate" && pods > 0 {
		return "stops all of its pods before it starts new ones (strategy Recreate): requests fail meanwhile",
			"use strategy RollingUpdate with maxUnavailable: 0, where two versions may run side by side"
	}
	rolling := mapAt(strategy, "rollingUpdate")
	stopped := scaled(rolling["maxUnavailable"], "25%", pods, false)
	if stopped == 0 && scaled(rolling["maxSurge"], "25%", pods, true) == 0 {
		stopped = 1 // it could not begin otherwise
	}
	return allStopped(pods, stopped), "set spec.strategy.rollingUpdate.maxUnavailable: 0"
}

// statefulSetGap is the same for a StatefulSet, which never starts a pod before it has
// stopped the one of the same name.
func statefulSetGap(strategy map[string]any, pods int) (message, hint string) {
	switch {
	case strategy["type"] == "OnDelete":
		return "", ""
	case pods == 1:
		return "has one pod, which an update stops before it starts another: requests fail meanwhile", "run two replicas at least, where the service can"
	}
	stopped := max(1, scaled(mapAt(strategy, "rollingUpdate")["maxUnavailable"], "1", pods, true))
	return allStopped(pods, stopped), "leave spec.updateStrategy.rollingUpdate.maxUnavailable at 1"
}

// daemonSetGap is the same for a DaemonSet: how many nodes there are is not known, so
// that only a share can be all.
func daemonSetGap(strategy map[string]any) (message, hint string) {
	const nodes = 100
	share, ok := mapAt(strategy, "rollingUpdate")["maxUnavailable"].(string)
	if !ok || strategy["type"] == "OnDelete" || scaled(share, "", nodes, false) < nodes {
		return "", ""
	}
	return "may have all of its pods stopped at once by an update (maxUnavailable)", "set spec.updateStrategy.rollingUpdate.maxUnavailable: 1"
}

// allStopped is what is wrong when an update may stop so many of some pods at once,
// "" for nothing.
func allStopped(pods, stopped int) string {
	switch {
	case pods == 0 || stopped < pods:
		return ""
	case pods == 1:
		return "may have its only pod stopped by an update before another is ready (maxUnavailable)"
	}
	return fmt.Sprintf("may have all of its %d pods stopped at once by an update (maxUnavailable)", pods)
}

// scaled is a number or percentage of pods; 0 for what the API server would refuse.
func scaled(v any, otherwise string, pods int, up bool) int {
	value := intstr.Parse(otherwise)
	switch v := v.(type) {
	case string:
		value = intstr.FromString(v)
	case int:
		value = intstr.FromInt32(int32(v))
	case int64:
		value = intstr.FromInt32(int32(v))
	case float64:
		value = intstr.FromInt32(int32(v))
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&value, pods, up)
	if err != nil {
		return 0
	}
	return n
}

// noteFloor remembers how few pods an autoscaler leaves its workload.
func (l *linter) noteFloor(u *unstructured.Unstructured) {
	if u.GetKind() != "HorizontalPodAutoscaler" {
		return
	}
	spec := mapAt(u.Object, "spec")
	target := mapAt(spec, "scaleTargetRef")
	kind, _ := target["kind"].(string)
	name, _ := target["name"].(string)
	l.floors[kind+"/"+name] = number(spec["minReplicas"], 1)
}

func number(v any, otherwise int) int {
	switch v := v.(type) {
	case int:
		return v
	case int64:
		return int(v)
	case float64:
		return int(v)
	}
	return otherwise
}
