package reconciler_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// writes keeps the writes of an engine in order, as "PATCH deployments/api-blue",
// with their bodies. at is called with each before it is sent.
type writes struct {
	mu   sync.Mutex
	list []write
	at   func(write)
}

type write struct{ what, body string }

func (w *writes) config(c *reconciler.Config) {
	l := &line{instead: func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method != http.MethodGet {
			if err := w.note(r); err != nil {
				return nil, err
			}
		}
		return next.RoundTrip(r)
	}}
	c.REST = l.config(c.REST)
}

func (w *writes) note(r *http.Request) error {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	parts := strings.Split(r.URL.Path, "/")
	one := write{r.Method + " " + strings.Join(parts[max(0, len(parts)-2):], "/"), string(body)}
	w.mu.Lock()
	w.list = append(w.list, one)
	at := w.at
	w.mu.Unlock()
	if at != nil {
		at(one)
	}
	return nil
}

// index is the number of the first (or last) write of that sort, -1 for none.
func (w *writes) index(last bool, what, body string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	of := func(one write) bool { return one.what == what && strings.Contains(one.body, body) }
	if !last {
		return slices.IndexFunc(w.list, of)
	}
	for i := range slices.Backward(w.list) {
		if of(w.list[i]) {
			return i
		}
	}
	return -1
}

// TestStagesComeInOrder moves everything at once: blue gets a new digest and all
// of the traffic, green leaves the list, and a ConfigMap of each leaves the
// repository.
func TestStagesComeInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	with := func(content files, name string) files {
		return content.with(files{
			"components/api/config.yaml":        strings.ReplaceAll(config(name), "api-", "config-"),
			"components/api/kustomization.yaml": kustomization("resources: [deployment.yaml, service.yaml, config.yaml]"),
		})
	}
	f.ready(with(f.bluegreen("weights: {blue: 40, green: 60}", "1", "2"), "one"))
	w := &writes{}
	var blueWhenRouted, greenWhenRouted int64
	w.at = func(one write) {
		if one.what == "PATCH httproutes/api" {
			blueWhenRouted, greenWhenRouted = f.readyReplicas("api-blue"), f.replicas("api-green")
		}
	}
	f.engine = f.newEngine(w.config)
	f.branch.push(with(f.bluegreen("weights: {blue: 40, green: 60}", "1", "2"), "one"))
	f.converge() // nothing but what a restart costs
	w.mu.Lock()
	w.list = nil
	w.mu.Unlock()
	f.ready(with(f.bluegreen("weights: {blue: 100}", "3", "2"), "two"))

	order := []struct {
		name  string
		index int
	}{
		{"the intent", w.index(false, "PATCH api/status", "config-two-blue")},
		{"the new configuration", w.index(true, "PATCH configmaps/config-two-blue", "")},
		{"the new pods", w.index(true, "PATCH deployments/api-blue", "sha256:3")},
		{"the routes, once those are ready", w.index(false, "PATCH httproutes/api", "api-blue")},
		{"the tag that is left, after the drain", w.index(false, "PATCH deployments/api-green", `"replicas":0`)},
		{"what nothing needs any more", w.index(false, "DELETE configmaps/config-one-blue", "")},
	}
	for i, o := range order {
		require.GreaterOrEqual(t, o.index, 0, o.name)
		if i > 0 {
			assert.Greater(t, o.index, order[i-1].index, "%s comes after %s", o.name, order[i-1].name)
		}
	}
	assert.EqualValues(t, 2, blueWhenRouted)
	assert.EqualValues(t, 2, greenWhenRouted, "green serves until the routes have left it")
	assert.EqualValues(t, 0, f.replicas("api-green"))
	assert.Nil(t, f.get("ConfigMap", "config-one-green"))
}

func (f *fixture) readyReplicas(deployment string) int64 {
	f.t.Helper()
	d := f.get("Deployment", deployment)
	require.NotNil(f.t, d, deployment)
	status, _ := d.Object["status"].(map[string]any)
	n, _ := status["readyReplicas"].(int64)
	return n
}

// TestRelistedTagGetsItsWeightWhenItHasTheCapacity lists a retired tag again with
// a share: it comes back at its autoscaler's minimum, which is not enough for that
// share, and is routed to when what it takes is ready.
func TestRelistedTagGetsItsWeightWhenItHasTheCapacity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tags := func(traffic string) files {
		return f.bluegreen(traffic, "1", "2").autoscaled().with(files{
			"components/api/hpa.yaml": strings.ReplaceAll(autoscaler, "minReplicas: 3", "minReplicas: 2"),
		})
	}
	f.ready(tags("weights: {blue: 50, green: 50}"))
	f.ready(tags("weights: {blue: 100}"))
	require.EqualValues(t, 0, f.replicas("api-green"))
	require.EqualValues(t, 4, f.replicas("api-blue"), "two pods have carried a half")

	w := &writes{}
	var routed []int64
	w.at = func(one write) {
		if one.what == "PATCH httproutes/api" && strings.Contains(one.body, "green=75") {
			routed = append(routed, f.readyReplicas("api-green"))
		}
	}
	f.engine = f.newEngine(w.config)
	f.ready(tags("weights: {blue: 25, green: 75}"))
	assert.Equal(t, "api-blue=25 api-green=75", f.weights())
	require.NotEmpty(t, routed)
	assert.EqualValues(t, 3, routed[0], "three of the four pods that take everything")
	assert.NotNil(t, f.get("HorizontalPodAutoscaler", "api-green"))
}

// TestTagThatNobodyAnswersAtIsLeft has a namespace without room for another pod: green
// would need one more for all of the traffic. While blue answers with all of its pods the
// routes stay; when it loses them there is nothing to wait for.
func TestTagThatNobodyAnswersAtIsLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tags := func(traffic string) files { return f.bluegreen(traffic, "1", "2").autoscaled() }
	f.ready(tags("weights: {blue: 75, green: 25}"))
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "full"}}
	pods := func(n int64) {
		t.Helper()
		_, err := controllerutil.CreateOrUpdate(context.Background(), f.api, quota, func() error {
			quota.Spec.Hard = corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(n, resource.DecimalSI)}
			return nil
		})
		require.NoError(t, err)
		f.eventually("the quota is in force", func() bool {
			require.NoError(t, f.api.Get(context.Background(), client.ObjectKeyFromObject(quota), quota))
			return quota.Status.Hard.Pods().Value() == n
		})
	}
	pods(6)
	f.branch.push(tags("weights: {blue: 0, green: 100}"))
	f.run()
	f.eventually("the routes are held", func() bool {
		r := f.release("api")
		return r.Condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonTrafficHeld && f.readyReplicas("api-green") == 3 && f.replicas("api-green") == 4
	})
	assert.Equal(t, "api-blue=75 api-green=25", f.weights())

	pods(3)
	require.NoError(t, f.api.DeleteAllOf(context.Background(), &corev1.Pod{}, client.InNamespace(f.namespace), client.MatchingLabels{v1alpha1.LabelTag: "blue"}))
	f.eventually("blue is left", func() bool { return f.weights() == "api-blue=0 api-green=100" })
	assert.Less(t, f.readyReplicas("api-blue"), int64(3))
	assert.EqualValues(t, 3, f.readyReplicas("api-green"))
}

// TestSickTagLeavesTheRestAsItWas compares all of production, object by object,
// before and after a commit whose tag never becomes ready.
func TestSickTagLeavesTheRestAsItWas(t *testing.T) {
	t.Parallel()
	for sick, problem := range map[string]string{
		"bad":  `pod api-green-\S+: ImagePullBackOff: Back-off pulling image "registry.example.com/shop/api@sha256:bad`,
		"dead": `pod api-green-\S+: CrashLoopBackOff: .+`,
	} {
		t.Run(sick, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.ready(f.bluegreen("weights: {blue: 100, green: 0}", "1", "2"))
			rest := func() map[string]string {
				out := map[string]string{}
				for _, name := range []string{"HTTPRoute/api", "Service/api", "Deployment/api-blue", "Service/api-blue", "Service/api-green"} {
					kind, name, _ := strings.Cut(name, "/")
					o := f.get(kind, name)
					require.NotNil(t, o)
					out[kind+"/"+name] = string(o.GetUID()) + " " + o.GetResourceVersion()
				}
				return out
			}
			f.eventually("the pods are counted", func() bool { return f.readyReplicas("api-blue") == 2 })
			before := rest()
			f.until(f.bluegreen("weights: {blue: 90, green: 10}", "1", sick), "api", func(s reconciler.Status) bool {
				return s.State == reconciler.StateHeld && !strings.Contains(s.Message, "replicas updated")
			})
			f.branch.push(f.bluegreen("weights: {blue: 90, green: 10}", "1", sick))
			report := f.converge()
			assert.Regexp(t, `^routes stay at blue=100 green=0: tag green is not ready: Deployment/api-green: .*: `+problem, statusOf(t, report, "api").Message)
			r := f.release("api")
			assert.Regexp(t, problem, r.Condition(v1alpha1.ConditionReady).Message)
			assert.Equal(t, v1alpha1.ReasonTrafficHeld, r.Condition(v1alpha1.ConditionStalled).Reason)
			assert.Equal(t, before, rest())
		})
	}
}
