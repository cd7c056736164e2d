package isolation

import (
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	security "k8s.io/pod-security-admission/policy"

	"github.com/sluice-dev/sluice/render"
)

// podSecurity are the checks of Pod Security admission, the API server's own.
var podSecurity = sync.OnceValues(func() (security.Evaluator, error) { return security.NewEvaluator(security.DefaultChecks(), nil) })

// template is what a workload's pods are made from.
type template struct {
	workload
	content map[string]any
}

// unadmitted finds pods that the environment's namespace does not admit by the Pod
// Security labels of its Namespace. A cluster may exempt them, so these are warnings.
func (e *Environment) unadmitted() []Finding {
	open := api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()}
	levels, problems := api.PolicyToEvaluate(e.labels, api.Policy{Enforce: open, Audit: open, Warn: open})
	if len(problems) > 0 {
		return []Finding{{Severity: render.SeverityError, Release: e.name, Object: "Namespace " + e.namespace,
			Message: "would be refused by the API server: " + problems.ToAggregate().Error(), Hint: "the levels are privileged, baseline and restricted"}}
	}
	if levels.Enforce.Level == api.LevelPrivileged {
		return nil
	}
	evaluator, err := podSecurity()
	if err != nil {
		return []Finding{{Severity: render.SeverityWarning, Release: e.name, Message: "pods are not held against Pod Security: " + err.Error()}}
	}
	var found []Finding
	for _, t := range e.templates {
		var metadata metav1.ObjectMeta
		var spec corev1.PodSpec
		if decode(t.content["metadata"], &metadata) != nil || decode(t.content["spec"], &spec) != nil {
			continue // no pod at all
		}
		result := security.AggregateCheckResults(evaluator.EvaluatePod(levels.Enforce, &metadata, &spec))
		if result.Allowed {
			continue
		}
		found = append(found, Finding{Severity: render.SeverityWarning, Release: t.release, Object: t.object(e), Workload: t.kind + " " + t.base,
			Message: fmt.Sprintf("its pods are not admitted at Pod Security level %s: %s", levels.Enforce.Level, strings.Join(strings.Fields(result.ForbiddenDetail()), " ")),
			Hint:    "set what is missing in the pod template, or a weaker level in the environment's namespace.yaml"})
	}
	return found
}

func decode(from any, to any) error {
	m, _ := from.(map[string]any)
	return runtime.DefaultUnstructuredConverter.FromUnstructured(m, to)
}
