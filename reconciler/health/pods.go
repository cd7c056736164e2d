package health

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// PodProblem says which of the pods of a workload keeps it from being ready, and
// why: "pod api-6f8-x2: ImagePullBackOff: Back-off pulling image …". It is the
// gravest problem, of the first pod by name; "" when no pod has one.
func PodProblem(pods []corev1.Pod) string {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	worst, message := 0, ""
	for i := range pods {
		if pods[i].DeletionTimestamp != nil {
			continue
		}
		p := podProblem(&pods[i])
		if p.gravity > worst {
			worst = p.gravity
			message = fmt.Sprintf("pod %s: %s", pods[i].Name, clip(p.reason))
			if p.message != "" {
				message += ": " + clip(p.message)
			}
		}
	}
	return message
}

type problem struct {
	gravity         int // 0: none
	reason, message string
}

// podProblem looks at a pod in the order in which it starts: scheduling, init
// containers, containers, readiness.
func podProblem(pod *corev1.Pod) problem {
	worst := problem{}
	take := func(p problem) {
		if p.gravity > worst.gravity {
			worst = p
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			take(problem{4, cmp.Or(c.Reason, "NotScheduled"), c.Message})
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		take(containerProblem(s))
	}
	if pod.Status.Phase == corev1.PodFailed {
		take(problem{4, cmp.Or(pod.Status.Reason, "Failed"), pod.Status.Message})
	}
	if worst.gravity == 0 && pod.Status.Phase == corev1.PodRunning {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse {
				take(problem{1, "NotReady", c.Message})
			}
		}
	}
	return worst
}

// containerProblem reads one container's state. The back-off of a crash loop
// grows with every restart, so what is told is how the container ended; the two
// reasons that the kubelet alternates between while an image cannot be pulled
// are told as one. Both keep a message from changing with every retry.
func containerProblem(s corev1.ContainerStatus) problem {
	if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
		return problem{3, cmp.Or(t.Reason, "Error"), ended(s.Name, t)}
	}
	w := s.State.Waiting
	if w == nil {
		return problem{}
	}
	switch w.Reason {
	case "", "ContainerCreating", "PodInitializing":
		return problem{}
	case "CrashLoopBackOff":
		if t := s.LastTerminationState.Terminated; t != nil {
			return problem{5, w.Reason, ended(s.Name, t)}
		}
		return problem{5, w.Reason, w.Message}
	case "ErrImagePull", "ImagePullBackOff":
		return problem{5, "ImagePullBackOff", w.Message}
	}
	return problem{5, w.Reason, w.Message} // InvalidImageName, CreateContainerConfigError, …
}

func ended(container string, t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("container %s exited with code %d", container, t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		text += " (" + t.Reason + ")"
	}
	if t.Message != "" {
		text += ": " + t.Message
	}
	return text
}

// ReadyEndpoints counts the endpoints of a Service's slices that take requests.
func ReadyEndpoints(endpoints []discoveryv1.EndpointSlice) int {
	n := 0
	for _, slice := range endpoints {
		for _, e := range slice.Endpoints {
			terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
			if (e.Conditions.Ready == nil || *e.Conditions.Ready) && !terminating && len(e.Addresses) > 0 {
				n++
			}
		}
	}
	return n
}
