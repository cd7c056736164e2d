package reconciler_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// rival is a controller that wants something else of ConfigMap api-one, and acts
// as soon as it sees it.
func (d *drift) rival(act func(*corev1.ConfigMap)) (stop func()) {
	d.t.Helper()
	clients, err := kubernetes.NewForConfig(d.config)
	require.NoError(d.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	w, err := clients.CoreV1().ConfigMaps(d.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=api-one"})
	require.NoError(d.t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if c, ok := e.Object.(*corev1.ConfigMap); ok && e.Type != "DELETED" && c.Data["value"] == "one" {
				act(c)
			}
		}
	}()
	stop = func() { cancel(); w.Stop(); <-done }
	d.t.Cleanup(stop)
	return stop
}

// fence has another object put right: what the engine does, it has done by then
// with what it saw before.
func (d *drift) fence(kind string) {
	d.t.Helper()
	switch kind {
	case "Service":
		d.patch("somebody", kind, "api", `{"spec":{"ports":[{"port":80,"targetPort":"admin"}]}}`)
		d.eventually("others are put right", func() bool { return d.has(kind, "api", "http", "spec", "ports", "http", "targetPort") })
	case "HTTPRoute":
		d.patch("somebody", kind, "api", `{"spec":{"parentRefs":[{"name":"other"}]}}`)
		d.eventually("others are put right", func() bool { return d.has(kind, "api", "", "spec", "parentRefs", "shop") })
	}
}

func (d *drift) contested() bool {
	c := d.release("api").Condition(v1alpha1.ConditionStalled)
	return c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonContested
}

func TestFightIsNotFought(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Now())
	d := newDrift(t, func(f *fixture) files { return project(f.namespace) }, func(c *reconciler.Config) { c.Clock = clock })
	const applies = "PATCH /api/v1/namespaces/%s/configmaps/api-one"
	corrections := func() int { return d.line.count(fmt.Sprintf(applies, d.namespace)) }
	d.line.quiet()
	stop := d.rival(func(*corev1.ConfigMap) {
		_ = d.api.Patch(context.Background(), d.ref("ConfigMap", "api-one"), client.RawPatch(types.MergePatchType, []byte(`{"data":{"value":"theirs"}}`)), client.FieldOwner("rival"))
	})
	d.patch("rival", "ConfigMap", "api-one", `{"data":{"value":"theirs"}}`)
	d.eventually("it is reported", d.contested)
	ready := d.release("api").Condition(v1alpha1.ConditionReady)
	assert.Equal(t, metav1.ConditionFalse, ready.Status)
	assert.Equal(t, "ConfigMap/api-one: rival keeps changing data.value; corrected 5 times within 5m, now only at growing intervals of 30s to 10m", ready.Message)
	d.eventually("the rival has the last word", func() bool { return d.has("ConfigMap", "api-one", "theirs", "data", "value") })
	d.fence("Service")
	assert.Equal(t, 5, corrections(), "and keeps it")

	clock.Step(46 * time.Second)
	d.fence("HTTPRoute")
	d.eventually("one more after a pause", func() bool { return corrections() == 6 })
	d.eventually("the rival has the last word again", func() bool { return d.has("ConfigMap", "api-one", "theirs", "data", "value") })
	clock.Step(46 * time.Second)
	d.fence("Service")
	assert.Equal(t, 6, corrections(), "the next pause is longer")
	assert.True(t, d.contested())
	assert.Equal(t, ready.Message, d.release("api").Condition(v1alpha1.ConditionReady).Message, "the message does not change with every try")

	stop()
	clock.Step(46 * time.Second)
	d.fence("HTTPRoute")
	d.eventually("it holds", func() bool { return d.has("ConfigMap", "api-one", "one", "data", "value") })
	assert.True(t, d.contested(), "a quiet moment is no peace")
	clock.Step(2 * time.Minute)
	d.fence("Service")
	d.eventually("api is ready", func() bool { return d.release("api").Ready() })
	d.patch("somebody", "ConfigMap", "api-one", `{"data":{"value":"theirs"}}`)
	d.eventually("and put right at once again", func() bool { return d.has("ConfigMap", "api-one", "one", "data", "value") })
}

func TestCommitEndsAFight(t *testing.T) {
	t.Parallel()
	d := newDrift(t, func(f *fixture) files { return project(f.namespace) })
	d.rival(func(*corev1.ConfigMap) {
		_ = d.api.Patch(context.Background(), d.ref("ConfigMap", "api-one"), client.RawPatch(types.MergePatchType, []byte(`{"data":{"value":"theirs"}}`)), client.FieldOwner("rival"))
	})
	d.patch("rival", "ConfigMap", "api-one", `{"data":{"value":"theirs"}}`)
	d.eventually("it is reported", d.contested)
	d.branch.push(project(d.namespace).with(files{extra: strings.Replace(config("one"), "{value: one}", "{value: settled}", 1)}))
	d.eventually("what the commit declares is applied at once", func() bool { return d.has("ConfigMap", "api-one", "settled", "data", "value") })
	d.eventually("api is ready", func() bool { return d.release("api").Ready() })
}

func TestDeletionsAreNotFoughtEither(t *testing.T) {
	t.Parallel()
	d := newDrift(t, func(f *fixture) files { return project(f.namespace) })
	ref := d.ref("ConfigMap", "api-one")
	d.line.quiet()
	d.rival(func(*corev1.ConfigMap) { _ = d.api.Delete(context.Background(), ref.DeepCopy()) })
	require.NoError(t, client.IgnoreNotFound(d.api.Delete(context.Background(), ref.DeepCopy())))
	d.eventually("it is reported", d.contested)
	assert.Equal(t, "ConfigMap/api-one: another controller keeps deleting it; corrected 5 times within 5m, now only at growing intervals of 30s to 10m",
		d.release("api").Condition(v1alpha1.ConditionReady).Message)
	d.eventually("it is gone", func() bool { return d.get("ConfigMap", "api-one") == nil })
	d.fence("Service")
	assert.Equal(t, 5, d.line.count("PATCH /api/v1/namespaces/"+d.namespace+"/configmaps/api-one"))
	assert.Nil(t, d.get("ConfigMap", "api-one"))
}

// A webhook that changes what is written, another way every time, is no drift:
// what the API server answered is what was applied.
func TestWebhookThatChangesEveryWriteIsNoFight(t *testing.T) {
	t.Parallel()
	var writes atomic.Int64
	d := newDrift(t, func(f *fixture) files {
		f.webhook(func(object map[string]any) []map[string]any {
			n := fmt.Sprint(writes.Add(1))
			return []map[string]any{
				{"op": "replace", "path": "/data/value", "value": n},
				{"op": "add", "path": "/metadata/annotations", "value": map[string]string{"written": n}},
			}
		})
		return project(f.namespace)
	})
	path := "PATCH /api/v1/namespaces/" + d.namespace + "/configmaps/api-one"
	require.Equal(t, 1, d.line.count(path))
	d.calm("nothing comes of it", d.line, func() {})
	d.line.quiet()
	d.patch("somebody", "ConfigMap", "api-one", `{"data":{"value":"theirs"}}`)
	d.eventually("what somebody changes is applied over", func() bool { return d.line.count(path) >= 1 })
	d.calm("once", d.line, func() {})
	assert.Equal(t, 1, d.line.count(path))
	assert.False(t, d.contested())
}

// webhook has the API server send ConfigMaps of the test's namespace through a
// mutating webhook.
func (f *fixture) webhook(mutate func(object map[string]any) []map[string]any) {
	f.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if json.NewDecoder(r.Body).Decode(&review) != nil || review.Request == nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		var object map[string]any
		if json.Unmarshal(review.Request.Object.Raw, &object) == nil && strings.HasPrefix(review.Request.Name, "api-") {
			patch, _ := json.Marshal(mutate(object))
			kind := admissionv1.PatchTypeJSONPatch
			answer.Patch, answer.PatchType = patch, &kind
		} else if review.Request.Name == "probe" {
			answer.Allowed = false
			answer.Result = &metav1.Status{Message: "the webhook is there"}
		}
		review.Response = answer
		_ = json.NewEncoder(w).Encode(review)
	}))
	f.t.Cleanup(server.Close)
	none, url := registrationv1.SideEffectClassNone, server.URL
	hook := &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}, Webhooks: []registrationv1.MutatingWebhook{{
		Name: "mutate.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		ClientConfig:      registrationv1.WebhookClientConfig{URL: &url, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": f.namespace}},
		Rules: []registrationv1.RuleWithOperations{{Operations: []registrationv1.OperationType{registrationv1.Create, registrationv1.Update},
			Rule: registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}},
	}}}
	require.NoError(f.t, f.api.Create(context.Background(), hook))
	f.t.Cleanup(func() { _ = f.api.Delete(context.Background(), hook) })
	f.eventually("the webhook is asked", func() bool {
		err := f.api.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "probe"}}, client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "the webhook is there")
	})
}

func TestFightsForReplicasAreNotFoughtEither(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	project := project(f.namespace).autoscaled().tagged(f.namespace, "weights: {blue: 100}", map[string]string{"blue": digest("1"), "green": digest("2")})
	f.ready(project)
	for name, tt := range map[string]struct {
		replicas int64 // that we want
		theirs   int64
	}{"api-blue": {3, 1}, "api-green": {0, 2}} {
		clients, err := kubernetes.NewForConfig(f.config)
		require.NoError(t, err)
		scale := func() {
			_, _ = clients.AppsV1().Deployments(f.namespace).Patch(context.Background(), name, types.MergePatchType,
				fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, tt.theirs), metav1.PatchOptions{FieldManager: "rival-of-" + name})
		}
		w, err := clients.AppsV1().Deployments(f.namespace).Watch(context.Background(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		require.NoError(t, err)
		t.Cleanup(w.Stop)
		go func() {
			for e := range w.ResultChan() {
				if d, ok := e.Object.(*appsv1.Deployment); ok && int64(*d.Spec.Replicas) == tt.replicas {
					scale()
				}
			}
		}()
	}
	f.run()
	f.eventually("both are reported", func() bool {
		c := f.release("api").Condition(v1alpha1.ConditionStalled)
		return c.Reason == v1alpha1.ReasonContested &&
			strings.Contains(c.Message, "Deployment/api-blue: rival-of-api-blue keeps changing spec.replicas") &&
			strings.Contains(c.Message, "Deployment/api-green: rival-of-api-green keeps changing spec.replicas")
	})
}
