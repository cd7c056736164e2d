package reconciler

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/traffic"
)

// verdicts are a way to each reason. Each leaves the world with the Release that
// the pass before has reported, and returns what the next one concludes.
var verdicts = []struct {
	name string
	of   func(*world) Verdict
	want string // conditions, and what kstatus makes of them
}{
	{"ready", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"))
		return w.concluded()
	}, "Ready=True(Ready) Reconciling=False(Ready) Stalled=False(Ready): Current"},
	{"objects are being applied", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"))
		w.ensure()
		return Decide(w.in).Verdict
	}, "Ready=False(Applying) Reconciling=True(Applying) Stalled=False(Applying): InProgress"},
	{"pods are awaited", func(w *world) Verdict {
		w.untagged("sha256:one", deployment("api", "one", 2))
		return w.concluded()
	}, "Ready=False(WaitingForHealth) Reconciling=True(WaitingForHealth) Stalled=False(WaitingForHealth): InProgress"},
	{"pods were awaited for too long", func(w *world) Verdict {
		w.untagged("sha256:one", deployment("api", "one", 2))
		w.pass()
		w.after(time.Hour)
		return w.concluded()
	}, "Ready=False(HealthTimeout) Reconciling=False(HealthTimeout) Stalled=True(HealthTimeout): Failed"},
	{"a workload has failed", func(w *world) Verdict {
		w.untagged("sha256:one", deployment("api", "one", 2))
		w.pass()
		w.deployment("api").Object["status"] = map[string]any{"observedGeneration": int64(1), "conditions": []any{
			map[string]any{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}}}
		return w.concluded()
	}, "Ready=False(HealthFailed) Reconciling=False(HealthFailed) Stalled=True(HealthFailed): Failed"},
	{"routes are held", func(w *world) Verdict {
		w.blueToGreen()
		return w.concluded()
	}, "Ready=False(TrafficHeld) Reconciling=True(TrafficHeld) Stalled=False(TrafficHeld): InProgress"},
	{"routes were held for too long", func(w *world) Verdict {
		w.blueToGreen()
		w.pass()
		w.after(time.Hour)
		return w.concluded()
	}, "Ready=False(TrafficHeld) Reconciling=False(TrafficHeld) Stalled=True(TrafficHeld): Failed"},
	{"a mirror that the gateway cannot do", func(w *world) Verdict {
		w.in.Support = traffic.Support{Known: true, Class: "plain"}
		w.tagged("blue=100 green=0 mirror:green=5", sharedObjects(), tag("blue", "one", 1), tag("green", "two", 1))
		w.pass()
		w.up("api-blue", "api-green")
		return w.concluded()
	}, "Ready=False(TrafficRefused) Reconciling=False(TrafficRefused) Stalled=True(TrafficRefused): Failed"},
	{"a route is refused", func(w *world) Verdict {
		w.untagged("sha256:one", service("api", "api"), httpRoute())
		w.pass()
		w.set(inventory.ID{Namespace: "shop", Name: "api", Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"}, map[string]any{"parents": []any{map[string]any{
			"parentRef": map[string]any{"name": "shop"}, "conditions": []any{map[string]any{"type": "Accepted", "status": "False", "reason": "NoMatch", "message": "no listener"}}}}})
		return w.concluded()
	}, "Ready=False(RouteNotAccepted) Reconciling=True(RouteNotAccepted) Stalled=False(RouteNotAccepted): InProgress"},
	{"ready, and requests still end", func(w *world) Verdict {
		w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 1), tag("green", "two", 1))
		w.pass()
		w.up("api-blue", "api-green")
		w.pass()
		w.commit(2)
		w.tagged("green=100", sharedObjects(), tag("blue", "one", 1), tag("green", "two", 1))
		return w.concluded()
	}, "Ready=True(Ready) Reconciling=True(Draining) Stalled=False(Ready): InProgress"},
	{"a dependency", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"))
		w.ensure()
		w.in.Dependencies = []Dependency{{Name: "db", Message: "pods"}}
		return w.concluded()
	}, "Ready=False(DependencyNotReady) Reconciling=True(DependencyNotReady) Stalled=False(DependencyNotReady): InProgress"},
	{"paused", func(w *world) Verdict {
		w.ensure()
		w.in.Paused = "paused by sluice.yaml"
		return w.concluded()
	}, "Ready=Unknown(Paused) Reconciling=False(Paused) Stalled=False(Paused): InProgress"},
	{"an empty render", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"))
		w.pass()
		w.in.Rendered = &render.Result{}
		return w.concluded()
	}, "Ready=False(EmptyRender) Reconciling=False(EmptyRender) Stalled=True(EmptyRender): Failed"},
	{"an object of another release", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"))
		w.pass()
		for _, o := range w.in.Live {
			o.SetLabels(map[string]string{v1alpha1.LabelRelease: "web", v1alpha1.LabelEnvironment: "production"})
		}
		return w.concluded()
	}, "Ready=False(OwnedByAnother) Reconciling=False(OwnedByAnother) Stalled=True(OwnedByAnother): Failed"},
	{"no namespace", func(w *world) Verdict {
		w.ensure()
		w.in.Namespace.Exists = false
		return w.concluded()
	}, "Ready=False(NamespaceMissing) Reconciling=False(NamespaceMissing) Stalled=True(NamespaceMissing): Failed"},
	{"an object outside of it", func(w *world) Verdict {
		w.ensure()
		o := configMap("a", "1")
		o.SetNamespace("other")
		w.untagged("sha256:one", o)
		return w.concluded()
	}, "Ready=False(NamespaceRefused) Reconciling=False(NamespaceRefused) Stalled=True(NamespaceRefused): Failed"},
	{"an environment that has vanished", func(w *world) Verdict {
		w.ensure()
		w.untagged("", configMap("a", "1"))
		w.pass()
		w.in.Rendered, w.in.Gone = nil, true
		w.in.Ruling.Held = &Hold{Reason: v1alpha1.ReasonEnvironmentHeld, Message: "gone"}
		return w.concluded()
	}, "Ready=False(EnvironmentHeld) Reconciling=False(EnvironmentHeld) Stalled=True(EnvironmentHeld): Failed"},
	{"a large deletion that is not acknowledged", func(w *world) Verdict {
		w.untagged("", configMap("a", "1"), configMap("b", "1"))
		w.pass()
		w.untagged("", configMap("a", "1"))
		w.in.Ruling.Held = &Hold{Reason: v1alpha1.ReasonPruneHeld, Message: "held"}
		return w.concluded()
	}, "Ready=True(PruneHeld) Reconciling=False(PruneHeld) Stalled=True(PruneHeld): Failed"},
	{"a kept route that leads to an unlisted tag", func(w *world) Verdict {
		blue, green := tag("blue", "one", 1), tag("green", "two", 1)
		w.tagged("blue=90 green=10", onlyWith(never(httpRoute())), blue, green)
		w.pass()
		w.up("api-blue", "api-green")
		w.pass()
		w.tagged("blue=100", onlyWith(named("shop")), blue, green)
		w.pass()
		w.after(time.Hour)
		w.in.routed = nil
		return w.concluded()
	}, "Ready=True(RetireHeld) Reconciling=False(RetireHeld) Stalled=True(RetireHeld): Failed"},
	{"left the repository, and requests still end", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"), service("api", "api"), httpRoute())
		w.pass()
		w.in.Release, w.in.Rendered, w.in.Gone = envrepo.Release{Name: "api", Environment: w.in.Release.Environment}, nil, true
		return w.concluded()
	}, "Ready=False(Removed) Reconciling=True(Removed) Stalled=False(Removed): InProgress"},
	{"an object that has to go before it is created anew", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"))
		w.pass()
		for _, o := range w.in.Live {
			o.SetDeletionTimestamp(&metav1.Time{Time: w.in.Now})
			w.bump(o, true)
		}
		return w.concluded()
	}, "Ready=False(Terminating) Reconciling=True(Terminating) Stalled=False(Terminating): InProgress"},
	{"a fight with another controller", func(w *world) Verdict {
		w.untagged("sha256:one", configMap("a", "1"))
		w.pass()
		for id, mark := range w.in.Marks {
			w.in.Contested = map[inventory.ID]Contest{id: {Rendered: mark.Rendered, Last: w.in.Now, Next: w.in.Now.Add(contestMin)}}
		}
		return w.concluded()
	}, "Ready=False(Contested) Reconciling=False(Contested) Stalled=True(Contested): Failed"},
	{"files that do not render", func(w *world) Verdict {
		w.ensure()
		return failure(&RenderError{Release: "api", Err: errors.New("no")})
	}, "Ready=False(RenderFailed) Reconciling=False(RenderFailed) Stalled=True(RenderFailed): Failed"},
	{"a key service that does not answer", func(w *world) Verdict {
		w.ensure()
		return failure(&RenderError{Release: "api", Err: fmt.Errorf("rendering: %w", unanswered{})})
	}, "Ready=False(TransientError) Reconciling=True(TransientError) Stalled=False(TransientError): InProgress"},
	{"a refused object", func(w *world) Verdict {
		w.ensure()
		return failure(&ApplyError{Objects: []*ObjectError{{inventory.ID{Name: "a"}, invalid}}})
	}, "Ready=False(ApplyFailed) Reconciling=False(ApplyFailed) Stalled=True(ApplyFailed): Failed"},
	{"an object that cannot be deleted", func(w *world) Verdict {
		w.ensure()
		return failure(&PruneError{Objects: []*ObjectError{{inventory.ID{Name: "a"}, invalid}}})
	}, "Ready=False(PruneFailed) Reconciling=False(PruneFailed) Stalled=True(PruneFailed): Failed"},
	{"an inventory that cannot be read", func(w *world) Verdict {
		w.ensure()
		return failure(&InventoryError{Release: "api", Namespace: "shop", Err: errors.New("no")})
	}, "Ready=False(InventoryUnreadable) Reconciling=False(InventoryUnreadable) Stalled=True(InventoryUnreadable): Failed"},
	{"a server that is down", func(w *world) Verdict {
		w.ensure()
		return failure(errors.New("connection refused"))
	}, "Ready=False(TransientError) Reconciling=True(TransientError) Stalled=False(TransientError): InProgress"},
}

var invalid = apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, "a", nil)

// concluded does what the next pass does and returns its verdict, unreported.
func (w *world) concluded() Verdict {
	for {
		plan := Decide(w.in)
		if !plan.Writes() {
			return plan.Verdict
		}
		w.execute(plan)
	}
}

// blueToGreen leaves weights that cannot move yet.
func (w *world) blueToGreen() {
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 1), tag("green", "two", 1))
	w.pass()
	w.up("api-blue")
	w.pass()
	w.commit(2)
	w.tagged("blue=50 green=50", sharedObjects(), tag("blue", "one", 1), tag("green", "two", 1))
}

// Every reason is reached and documented; the conditions that it comes with are
// what kstatus and `kubectl wait` go by; and reported twice they are the same.
func TestReasonsAndConditions(t *testing.T) {
	reached := map[string]bool{v1alpha1.ReasonRemoved: true} // of what no Release is left of, too
	for _, test := range verdicts {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			v := test.of(w)
			w.report(v)
			assert.Equal(t, test.want, conditionsOf(t, w.in.Last))
			for _, c := range w.in.Last.Status.Conditions {
				reached[c.Reason] = true
				if c.Type == v1alpha1.ConditionReady {
					assert.Equal(t, v.Message, c.Message)
				}
			}
			before := w.in.Last.DeepCopy()
			w.after(time.Second)
			again := statusAfter(&w.in, v)
			assert.True(t, sameStatus(before.Status, again), "reported again it is the same")
		})
	}
	docs, err := os.ReadFile("../docs/reference/release.md")
	require.NoError(t, err)
	for _, reason := range reasons(t) {
		assert.True(t, reached[reason], "nothing in the table leads to reason %s", reason)
		assert.Contains(t, string(docs), "| `"+reason+"` |", "docs/reference/release.md does not explain reason %s", reason)
	}
	_, table, _ := strings.Cut(string(docs), "| reason | when |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, row := range strings.Split(table, "\n")[2:] {
		assert.Contains(t, reasons(t), strings.Split(row, "`")[1], "docs/reference/release.md explains a reason that there is not")
	}
}

// conditionsOf are the conditions in their order, and what kstatus says.
func conditionsOf(t *testing.T, r *v1alpha1.Release) string {
	t.Helper()
	var parts []string
	for _, c := range r.Status.Conditions {
		parts = append(parts, fmt.Sprintf("%s=%s(%s)", c.Type, c.Status, c.Reason))
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r)
	require.NoError(t, err)
	result, err := status.Compute(&unstructured.Unstructured{Object: fields})
	require.NoError(t, err)
	return strings.Join(parts, " ") + ": " + result.Status.String()
}

// reasons are the values of the constants ReasonXxx of the API.
func reasons(t *testing.T) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../api/v1alpha1/release.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		values = append(values, strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		return true
	})
	require.NotEmpty(t, values)
	return values
}

// Between a Release's creation, its intent and its first report nobody takes it
// for done; nor after its spec has changed.
func TestReleaseBeforeItsStatus(t *testing.T) {
	w := newWorld(t)
	w.untagged("sha256:one", configMap("a", "1"))
	w.ensure()
	w.in.Last.Status.ObservedGeneration = -1 // the CRD's default
	assert.Equal(t, ": InProgress", conditionsOf(t, w.in.Last))
	w.in.Last.Status.Inventory = inventory.Of(configMap("a", "1")).Status()
	assert.Equal(t, ": InProgress", conditionsOf(t, w.in.Last), "with its intent")
	w.pass()
	assert.Contains(t, conditionsOf(t, w.in.Last), ": Current")
	w.in.Last.Generation++
	assert.Contains(t, conditionsOf(t, w.in.Last), ": InProgress")
	w.pass()
	assert.Contains(t, conditionsOf(t, w.in.Last), ": Current")
	now := metav1.NewTime(start)
	w.in.Last.DeletionTimestamp = &now
	assert.Contains(t, conditionsOf(t, w.in.Last), ": Terminating")
}

// unanswered is an error of rendering that may pass by itself.
type unanswered struct{}

func (unanswered) Error() string   { return "the key service does not answer" }
func (unanswered) Temporary() bool { return true }

// What a key service keeps from being rendered is tried again soon, files that do
// not render are not.
func TestRetriesOfWhatDoesNotRender(t *testing.T) {
	broken := func(errs ...error) *render.Result {
		r := &render.Result{}
		for _, err := range errs {
			r.Tags = append(r.Tags, render.TagObjects{Broken: err})
		}
		return r
	}
	assert.Equal(t, retryRender, retryBroken(broken(nil, errors.New("no"))))
	assert.Equal(t, retryMax, retryBroken(broken(errors.New("no"), fmt.Errorf("tag: %w", unanswered{}))))
	assert.True(t, temporary(&RenderError{Err: errors.Join(errors.New("no"), unanswered{})}))
	assert.False(t, temporary(&RenderError{Err: errors.New("no")}))
}
