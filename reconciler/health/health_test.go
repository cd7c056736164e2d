package health_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/reconciler/health"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	o := &unstructured.Unstructured{}
	require.NoError(t, o.UnmarshalJSON(data))
	return o
}

const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, generation: 2}\n"

func TestOf(t *testing.T) {
	tests := []struct {
		name, object string
		want         health.State
		serving      bool
	}{
		{"nothing there", "", health.State{Status: health.Progressing, Message: "does not exist yet"}, false},
		{"configuration", "{apiVersion: v1, kind: ConfigMap, metadata: {name: api}}", health.State{Status: health.Current}, true},
		{"just created", deployment + "spec: {replicas: 2}\n", health.State{Status: health.Progressing, Message: "0 of 2 replicas updated"}, false},
		{"not taken in", deployment + "spec: {replicas: 2}\nstatus: {observedGeneration: 1, replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2}\n",
			health.State{Status: health.Progressing, Message: "its controller has not taken the last change in yet"}, false},
		{"starting", deployment + `spec: {replicas: 2, progressDeadlineSeconds: 600}
status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 1, availableReplicas: 1, conditions: [{type: Available, status: "False"}]}
`, health.State{Status: health.Progressing, Message: "1 of 2 replicas ready"}, false},
		{"up", deployment + `spec: {replicas: 2, progressDeadlineSeconds: 600}
status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2, conditions: [{type: Progressing, status: "True", reason: NewReplicaSetAvailable}, {type: Available, status: "True"}]}
`, health.State{Status: health.Current}, true},
		{"scaling up", deployment + `spec: {replicas: 4, progressDeadlineSeconds: 600}
status: {observedGeneration: 2, replicas: 4, updatedReplicas: 4, readyReplicas: 2, availableReplicas: 2, conditions: [{type: Progressing, status: "True", reason: NewReplicaSetAvailable}, {type: Available, status: "True"}]}
`, health.State{Status: health.Progressing, Message: "2 of 4 replicas ready"}, true},
		{"no quota", deployment + `spec: {replicas: 2}
status: {observedGeneration: 2, conditions: [{type: ReplicaFailure, status: "True", message: "pods \"api-1\" is forbidden: exceeded quota"}]}
`, health.State{Status: health.Progressing, Message: `pods "api-1" is forbidden: exceeded quota`}, false},
		{"given up", deployment + `spec: {replicas: 2, progressDeadlineSeconds: 600}
status: {observedGeneration: 2, conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded}]}
`, health.State{Status: health.Failed, Message: "did not progress within its progressDeadlineSeconds"}, false},
		{"job running", "{apiVersion: batch/v1, kind: Job, metadata: {name: migrate}, status: {startTime: \"2026-01-01T00:00:00Z\", active: 1}}",
			health.State{Status: health.Progressing, Message: "has not completed"}, false},
		{"job done", "{apiVersion: batch/v1, kind: Job, metadata: {name: migrate}, status: {succeeded: 1, conditions: [{type: Complete, status: \"True\"}]}}",
			health.State{Status: health.Current}, true},
		{"job failed", "{apiVersion: batch/v1, kind: Job, metadata: {name: migrate}, status: {failed: 6, conditions: [{type: Failed, status: \"True\"}]}}",
			health.State{Status: health.Failed, Message: "Job Failed. failed: 6/1"}, false},
		{"custom and not ready", "{apiVersion: example.com/v1, kind: Database, metadata: {name: db}, status: {conditions: [{type: Ready, status: \"False\", reason: Starting, message: creating the volume}]}}",
			health.State{Status: health.Progressing, Message: "creating the volume"}, false},
		{"custom and ready", "{apiVersion: example.com/v1, kind: Database, metadata: {name: db}, status: {conditions: [{type: Ready, status: \"True\"}]}}",
			health.State{Status: health.Current}, true},
		{"being deleted", "{apiVersion: v1, kind: ConfigMap, metadata: {name: api, deletionTimestamp: \"2026-01-01T00:00:00Z\"}}",
			health.State{Status: health.Progressing, Message: "is being deleted"}, false},
		{"nonsense", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: api}, status: {conditions: 3}}",
			health.State{Status: health.Progressing, Message: "has a status that cannot be read: unable to convert object map into ObjectWithConditions type"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var o *unstructured.Unstructured
			if tt.object != "" {
				o = object(t, tt.object)
			}
			got := health.Of(o)
			if tt.name == "nonsense" { // the rest of the message is the library's
				got.Message, tt.want.Message = "", ""
			}
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.serving, health.Serving(o))
		})
	}
}

func TestRolledOut(t *testing.T) {
	assert.False(t, health.RolledOut(nil))
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"pods are missing":      {"{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 3}, spec: {replicas: 20}, status: {observedGeneration: 3, replicas: 20, updatedReplicas: 20, readyReplicas: 5}}", true},
		"pods are not admitted": {"{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 3}, spec: {replicas: 20}, status: {observedGeneration: 3, replicas: 5, updatedReplicas: 5}}", true},
		"an old one is left":    {"{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 3}, status: {observedGeneration: 3, replicas: 5, updatedReplicas: 4}}", false},
		"not looked at":         {"{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 3}, status: {observedGeneration: 2, replicas: 5, updatedReplicas: 5}}", false},
		"being deleted":         {"{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 3, deletionTimestamp: \"2026-11-21T10:00:00Z\"}, status: {observedGeneration: 3}}", false},
		"does not say":          {"{apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 3}, status: {observedGeneration: 3, replicas: 5}}", false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tt.want, health.RolledOut(object(t, tt.text)))
		})
	}
}

func TestAccepted(t *testing.T) {
	route := func(status string) *unstructured.Unstructured {
		return object(t, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: api, generation: 3}\n"+status)
	}
	parent := func(name, kind, status, generation string) string {
		return "{parentRef: {name: " + name + "}, conditions: [{type: " + kind + ", status: \"" + status + "\", reason: Because, message: it says so, observedGeneration: " + generation + "}]}"
	}
	analysis := func(level, generation string) string {
		return "status: {observedGeneration: " + generation + ", validationMessages: [{level: " + level +
			", type: {code: IST0101, name: ReferencedResourceNotFound}, documentationUrl: \"https://istio.io/x\"}]}"
	}
	tests := []struct {
		name, status string
		pending      bool
		refusal      string
	}{
		{"nobody looks at routes", "", false, ""},
		{"accepted", "status: {parents: [" + parent("shop", "Accepted", "True", "3") + "]}", false, ""},
		{"not looked at since", "status: {parents: [" + parent("shop", "Accepted", "True", "2") + "]}", true, ""},
		{"refused", "status: {parents: [" + parent("shop", "Accepted", "True", "3") + ", " + parent("other", "Accepted", "False", "3") + "]}", false, "other Because: it says so"},
		{"without its backends", "status: {parents: [" + parent("shop", "ResolvedRefs", "False", "3") + "]}", false, "shop Because: it says so"},
		{"something else", "status: {parents: [" + parent("shop", "Programmed", "False", "3") + "]}", false, ""},
		{"analysed", analysis("ERROR", "3"), false, "Istio's analysis: IST0101 ReferencedResourceNotFound, see https://istio.io/x"},
		{"analysed, in numbers that are strings", analysis("ERROR", `"3"`), false, "Istio's analysis: IST0101 ReferencedResourceNotFound, see https://istio.io/x"},
		{"warned of", analysis("WARNING", "3"), false, ""},
		{"analysed before", analysis("ERROR", "2"), false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pending, refusal := health.Accepted(route(tt.status))
			assert.Equal(t, tt.pending, pending)
			assert.Equal(t, tt.refusal, refusal)
		})
	}
}

func pod(name string, change func(*corev1.PodStatus)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	change(&p.Status)
	return p
}

func waiting(reason, message string, last *corev1.ContainerStateTerminated) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: "api",
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
			LastTerminationState: corev1.ContainerState{Terminated: last}}}
	}
}

func TestPodProblem(t *testing.T) {
	fine := pod("api-0", func(*corev1.PodStatus) {})
	killed := &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
	tests := []struct {
		name string
		pods []corev1.Pod
		want string
	}{
		{"none", nil, ""},
		{"fine", []corev1.Pod{fine}, ""},
		{"starting", []corev1.Pod{pod("api-1", waiting("ContainerCreating", "", nil))}, ""},
		{"image, while pulling", []corev1.Pod{pod("api-1", waiting("ErrImagePull", "manifest unknown", nil))}, "pod api-1: ImagePullBackOff: manifest unknown"},
		{"image, backing off", []corev1.Pod{fine, pod("api-1", waiting("ImagePullBackOff", "Back-off pulling image", nil))}, "pod api-1: ImagePullBackOff: Back-off pulling image"},
		{"crash loop tells how it ended, not how long it waits", []corev1.Pod{pod("api-1", waiting("CrashLoopBackOff", "back-off 2m40s restarting", killed))},
			"pod api-1: CrashLoopBackOff: container api exited with code 137 (OOMKilled)"},
		{"first by name", []corev1.Pod{pod("api-2", waiting("InvalidImageName", "", nil)), pod("api-1", waiting("InvalidImageName", "", nil))}, "pod api-1: InvalidImageName"},
		{"gravest first", []corev1.Pod{
			pod("api-1", func(s *corev1.PodStatus) {
				s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "containers with unready status: [api]"}}
			}),
			pod("api-2", waiting("CreateContainerConfigError", `secret "api" not found`, nil)),
		}, `pod api-2: CreateContainerConfigError: secret "api" not found`},
		{"not scheduled", []corev1.Pod{pod("api-1", func(s *corev1.PodStatus) {
			s.Phase = corev1.PodPending
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available"}}
		})}, "pod api-1: Unschedulable: 0/3 nodes are available"},
		{"readiness probe", []corev1.Pod{pod("api-1", func(s *corev1.PodStatus) {
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "containers with unready status: [api]"}}
		})}, "pod api-1: NotReady: containers with unready status: [api]"},
		{"one line, and not for ever", []corev1.Pod{pod("api-1", waiting("ErrImagePull", strings.Repeat("no\n", 500), nil))}, "pod api-1: ImagePullBackOff: " + strings.Repeat("no ", 100) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, health.PodProblem(tt.pods))
		})
	}
	gone := metav1.Now()
	ending := pod("api-1", waiting("ImagePullBackOff", "", nil))
	ending.DeletionTimestamp = &gone
	assert.Empty(t, health.PodProblem([]corev1.Pod{ending}))
}

func TestReadyEndpoints(t *testing.T) {
	yes, no := true, false
	slices := []discoveryv1.EndpointSlice{
		{Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}},
			{Addresses: []string{"10.0.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
			{Addresses: []string{"10.0.0.4"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Terminating: &yes}},
		}},
		{Endpoints: []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: &yes}}}},
	}
	assert.Equal(t, 2, health.ReadyEndpoints(slices))
	assert.Zero(t, health.ReadyEndpoints(nil))
}

// Whatever a live object looks like, its state is one line that says what is missing,
// or nothing where nothing is.
func FuzzOf(ff *testing.F) {
	f := mutants.New(ff)
	for _, text := range []string{
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, generation: 2}, spec: {replicas: 2}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 1, conditions: [{type: Available, status: \"True\"}]}}",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  replicas: 2\nstatus:\n  conditions:\n  - type: ReplicaFailure\n    status: \"True\"\n    message: exceeded quota\n",
		"apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nstatus:\n  conditions:\n  - type: Failed\n    status: \"True\"\n    message: deadline\n",
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  generation: 2\nstatus:\n  parents:\n  - parentRef: {name: public}\n    conditions:\n    - {type: Accepted, status: \"False\", observedGeneration: 2, reason: No, message: why}\n",
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nstatus:\n  observedGeneration: \"0\"\n  validationMessages:\n  - {level: ERROR, type: {code: IST0101, name: x}, documentationUrl: u}\n",
		"apiVersion: example.com/v1\nkind: X\nmetadata: {name: a, deletionTimestamp: 2026-11-21T10:00:00Z}\nstatus:\n  conditions:\n  - {type: Ready, status: \"False\", message: \"a\\nb\"}\n  - {type: Stalled, status: \"True\"}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus:\n  phase: Running\n  containerStatuses:\n  - name: c\n    state: {waiting: {reason: CrashLoopBackOff, message: x}}\n    lastState: {terminated: {exitCode: 1, reason: OOMKilled, message: y}}\n",
		"{apiVersion: example.com/v1, kind: X, metadata: {name: a}, status: {conditions: [{type: Stalled, status: \"True\"}]}}",
		"{apiVersion: v1, kind: Pod, status: {phase: Running, containerStatuses: [{state: null}]}}",
		"{apiVersion: v1, kind: Pod, status: {phase: " + strings.Repeat("x", 3000) + "}}",
		"{kind: HTTPRoute, status: {parents: [{conditions: [{type: Accepted, status: \"False\", reason: " + strings.Repeat("x", 3000) + "}]}]}}",
	} {
		f.Add([]byte(text))
	}
	oneLine := func(t *testing.T, message string) {
		assert.NotContains(t, message, "\n")
		assert.Less(t, len(message), 1000)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		object := &unstructured.Unstructured{}
		if yaml.Unmarshal(data, &object.Object) != nil || object.Object == nil {
			return
		}
		if text, err := object.MarshalJSON(); err != nil || object.UnmarshalJSON(text) != nil {
			return // no API server has it
		}
		state := health.Of(object)
		assert.Equal(t, state.Status == health.Current, state.Message == "", "%+v", state)
		oneLine(t, state.Message)
		health.Serving(object)
		health.RolledOut(object)
		health.Replicas(object)
		_, refusal := health.Accepted(object)
		oneLine(t, refusal)
		var pod corev1.Pod
		if runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &pod) == nil {
			pod.Name = "api-1" // names are short, or no API server takes them
			oneLine(t, health.PodProblem([]corev1.Pod{pod}))
		}
	})
}
