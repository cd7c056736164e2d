package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

func eventAbout(apiVersion, kind, name, reason, note string, at time.Time) eventsv1.Event {
	return eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name + reason}, EventTime: metav1.MicroTime{Time: at}, Type: "Normal",
		Regarding: corev1.ObjectReference{APIVersion: apiVersion, Kind: kind, Namespace: "shop", Name: name}, Reason: reason, Note: note}
}

func TestViewEvents(t *testing.T) {
	now := fixedNow()
	api := v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api"}, Spec: v1alpha1.ReleaseSpec{Environment: "production"},
		Status: v1alpha1.ReleaseStatus{Inventory: &v1alpha1.Inventory{Entries: []v1alpha1.ResourceRef{{ID: "shop_api_apps_Deployment", Version: "v1"}, {ID: "shop_api__Service", Version: "v1"}}}}}
	repeated := eventAbout("v1", "Pod", "api-6f8b7c9d5-x2x4z", "BackOff", "Back-off pulling image \"registry.example.com/shop/api@sha256:bad0bad0\": it is \x1b[2Jnot there", now.Add(-time.Hour))
	repeated.Type, repeated.Series = "Warning", &eventsv1.EventSeries{Count: 12, LastObservedTime: metav1.MicroTime{Time: now.Add(-time.Minute)}}
	old := eventAbout("", "Service", "api", "Old", "as core/v1 wrote it", time.Time{})
	old.DeprecatedLastTimestamp, old.DeprecatedCount = metav1.NewTime(now.Add(-48*time.Hour)), 3
	elsewhere := eventAbout("sluice.dev/v1alpha1", "Release", "api", "Ready", "another namespace's", now)
	elsewhere.Namespace, elsewhere.Regarding.Namespace = "other", "other"
	views := viewEvents([]eventsv1.Event{
		repeated, elsewhere, old,
		eventAbout("sluice.dev/v1alpha1", "Release", "api", "HealthTimeout", "not ready within 5m", now.Add(-2*time.Minute)),
		eventAbout("apps/v1", "Deployment", "api", "ScalingReplicaSet", "Scaled up", now.Add(-3*time.Minute)),
		eventAbout("extensions/v1beta1", "Deployment", "api", "None", "of another group", now),
		eventAbout("v1", "Pod", "api-gateway-6f8b7c9d5-x2x4z", "None", "of another release", now),
		eventAbout("sluice.dev/v1alpha1", "Release", "web", "None", "another release", now),
	}, ownedBy([]v1alpha1.Release{api}))
	var piped, shown []string
	for _, v := range views {
		piped = append(piped, v.lines(now, 0, paint{})...)
		shown = append(shown, v.lines(now, 80, paint{})...)
	}
	assert.Equal(t, strings.TrimSpace(`
2026-11-19T10:00:00Z Normal  production/api Service/api Old ×3: as core/v1 wrote it
2026-11-21T09:57:00Z Normal  production/api Deployment/api ScalingReplicaSet: Scaled up
2026-11-21T09:58:00Z Normal  production/api Release/api HealthTimeout: not ready within 5m
2026-11-21T09:59:00Z Warning production/api Pod/api-6f8b7c9d5-x2x4z BackOff ×12: Back-off pulling image "registry.example.com/shop/api@sha256:bad0bad0": it is �[2Jnot there
`), strings.Join(piped, "\n"))
	assert.Equal(t, strings.TrimSpace(`
2026-11-19T10:00:00Z Normal  production/api Service/api Old ×3
         as core/v1 wrote it
09:57:00 Normal  production/api Deployment/api ScalingReplicaSet
         Scaled up
09:58:00 Normal  production/api Release/api HealthTimeout
         not ready within 5m
09:59:00 Warning production/api Pod/api-6f8b7c9d5-x2x4z BackOff ×12
         Back-off pulling image "registry.example.com/shop/api@sha256:bad0bad0":
         it is �[2Jnot there
`), strings.Join(shown, "\n"))
	assert.Equal(t, "\x1b[2m09:59:00\x1b[0m \x1b[33mWarning\x1b[0m production/api Pod/api-6f8b7c9d5-x2x4z \x1b[1mBackOff ×12\x1b[0m", views[3].lines(now, 80, paint{true})[0])
}
