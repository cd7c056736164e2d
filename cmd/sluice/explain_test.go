package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func digestOf(start string) string { return "sha256:" + start + strings.Repeat("0", 64-len(start)) }

// brokenTag is a release whose new tag does not start.
func brokenTag(now time.Time) explanation {
	since, until, ten := now.Add(-2*time.Minute), now.Add(3*time.Minute), 10
	merge := &provenance{Revision: strings.Repeat("9f8e", 10), Author: "Ada", Time: now.Add(-2 * time.Minute), Subject: "Merge pull request #12: Promote api to production", PullRequest: 12}
	ninety := 90
	return explanation{
		releaseStatus: releaseStatus{Environment: "production", Release: "api", State: "Reconciling", Reason: "TrafficHeld", Since: &since,
			Message: "green: Deployment/api-green: 0 of 2 replicas ready: pod api-green-6f8b7c9d5-x2x4z: ImagePullBackOff: not found", Hint: "fix the tag, or set its weight to 0",
			Revision: strings.Repeat("77ab", 10),
			Running:  []runningState{{Tag: "blue", Digest: digestOf("3f2a9c0d41e7")}, {Tag: "green", Digest: digestOf("bad0bad0bad0")}},
			Pods: []podGroup{{Tag: "blue", Build: "3f2a9c0d41e7", Digest: digestOf("3f2a9c0d41e7"), Pods: 1, Ready: 1},
				{Tag: "green", Build: "9b1c40aa77de", Digest: digestOf("9b1c40aa77de"), Pods: 2, Ready: 1}}},
		Commit: merge, Seen: true, Progress: progress{Stage: "wait"}, Awaited: &awaited{Since: since, Until: &until},
		Deployments: []deploymentChain{
			{Tag: "blue", Digest: digestOf("3f2a9c0d41e7"), Weight: &ninety, Running: &runningState{Build: "3f2a9c0d41e7", Digest: digestOf("3f2a9c0d41e7"), Weight: 100, Ready: true},
				Pinned: &provenance{Revision: strings.Repeat("1234", 10), Author: "Grace", Time: now.Add(-50 * time.Hour), Subject: "deploy api 3f2a9c0d41e7 to production"}},
			{Tag: "green", Digest: digestOf("bad0bad0bad0"), Weight: &ten, Running: &runningState{Build: "bad0bad0bad0", Digest: digestOf("bad0bad0bad0"), Message: "0 of 2 replicas ready"}, Pinned: merge,
				Build: &buildView{CreatedAt: now.Add(-time.Hour), Source: &sourceView{Commit: "9f8e7d6c5b4a9f8e", Message: "Fix cart\n\nReally", URL: "https://github.com/shop/api/commit/9f8e7d6c5b4a"},
					Run: &runView{ID: "8841", URL: "https://ci.example.com/runs/8841"}, Checks: []checkView{{Name: "trivy", Status: "passed", Summary: "0 critical"}, {Name: "e2e", Status: "failed"}}}},
		},
		Workloads: []workloadView{
			{Object: "Deployment/api-blue", Pods: []podView{{Name: "api-blue-5d8-aaaaa", Phase: "Running", Ready: true, Digest: digestOf("3f2a9c0d41e7")}}},
			{Object: "Deployment/api-green", Pods: []podView{{Name: "api-green-6f8-bbbbb", Phase: "Pending", Restarts: 3, Problem: "ImagePullBackOff: Back-off pulling image \"registry.example.com/shop/api\": \x1b]0;not found"}}},
			{Object: "Deployment/api-red"},
		},
	}
}

func TestExplainText(t *testing.T) {
	now := fixedNow()
	e := brokenTag(now)
	text := strings.Join(e.text(now, 80, paint{}), "\n") + "\n"
	assert.Equal(t, `production/api  Reconciling: TrafficHeld, for 2m
  stage     ✓ apply ▸ wait · route · retire · prune
  why       green: Deployment/api-green: 0 of 2 replicas ready: pod
            api-green-6f8b7c9d5-x2x4z: ImagePullBackOff: not found
  hint      fix the tag, or set its weight to 0
  awaited   since 09:58:00 (2m), fails at 10:03:00, in 3m0s

Git
  commit    9f8e9f8e9f8e by Ada, 2026-11-21 09:58 UTC (2m ago)
            Merge pull request #12: Promote api to production
            pull request 12: sluice pr show 12
  taken in  yes
  applied   77ab77ab77ab

Tag blue
  declared  3f2a9c0d41e7 90%
  running   3f2a9c0d41e7 100%, ready
  digest sha256:3f2a9c0d41e70000000000000000000000000000000000000000000000000000
  pinned by 123412341234 by Grace, 2026-11-19 08:00 UTC (2d ago)
            deploy api 3f2a9c0d41e7 to production
  recorded  no: builds/ has nothing of this digest

Tag green
  declared  bad0bad0bad0 10%
  running   bad0bad0bad0 0%, not ready
            0 of 2 replicas ready
  besides   2 pods run 9b1c40aa77de, 1 ready
  digest sha256:bad0bad0bad00000000000000000000000000000000000000000000000000000
  pinned by that commit
  recorded  2026-11-21 09:00 UTC
  source    9f8e7d6c5b4a Fix cart
            https://github.com/shop/api/commit/9f8e7d6c5b4a
  run       8841 https://ci.example.com/runs/8841
  checks    trivy passed (0 critical)
            e2e failed

Deployment/api-blue  1 of 1 pod ready
  Ready  api-blue-5d8-aaaaa  3f2a9c0d41e7

Deployment/api-green  0 of 1 pod ready
  Pending  api-green-6f8-bbbbb  3 restarts
    ImagePullBackOff: Back-off pulling image "registry.example.com/shop/api":
    �]0;not found

Deployment/api-red  no pods
`, text)
	for _, l := range strings.Split(text, "\n") {
		assert.LessOrEqual(t, utf8.RuneCountInString(l), 80, l)
	}
	assert.NotContains(t, text, "\x1b")
	assert.Contains(t, strings.Join(e.text(now, 80, paint{on: true}), "\n"), "\x1b[31mPending\x1b[0m")

	// What is not known is not made up.
	bare := explanation{releaseStatus: releaseStatus{Environment: "production", Release: "web", State: "Unknown"}}
	assert.Equal(t, []string{"production/web  Unknown"}, bare.text(now, 80, paint{}))
}

func TestPinnedBy(t *testing.T) {
	at := func(revision string, states ...releaseState) change {
		return change{Revision: revision, Message: revision + " (#7)\n\nbody", State: states}
	}
	blue := func(digest string) releaseState { return releaseState{Tag: "blue", Digest: digest} }
	changes := []change{at("weights", blue("b")), at("pins", blue("b"), releaseState{Tag: "green", Digest: "a"}), at("before", blue("a")), at("once", blue("b"))}
	assert.Equal(t, &provenance{Revision: "pins", Subject: "pins (#7)", PullRequest: 7}, pinnedBy(changes, blue("b")))
	assert.Nil(t, pinnedBy(changes, blue("c")), "it is on no commit of the branch")
	assert.Nil(t, pinnedBy(nil, blue("b")))
}

func TestMergedPull(t *testing.T) {
	for subject, want := range map[string]int{
		"Merge pull request #12: Promote api": 12, "Merge pull request #3 from shop/x": 3, "Fix cart (#41)": 41,
		"Fix #41": 0, "see (#4) first": 0, "Merge branch 'main'": 0, "Merge pull request #99999999999": 0,
	} {
		assert.Equal(t, want, mergedPull(subject), subject)
	}
}

func TestViewPod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "api-x"}, Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "proxy", Image: "registry.example.com/proxy@" + digestOf("aa")}, {Name: "api", Image: "registry.example.com/shop/api@" + digestOf("bb")}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}},
			ContainerStatuses: []corev1.ContainerStatus{{RestartCount: 1}, {Name: "api", RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"}}}}}}
	assert.Equal(t, podView{Name: "api-x", Phase: "Running", Restarts: 3, Digest: digestOf("bb"), Problem: "CrashLoopBackOff: back-off"}, viewPod(pod, []string{"api"}))
	pod.DeletionTimestamp = &metav1.Time{Time: fixedNow()}
	assert.Equal(t, "Terminating", viewPod(pod, nil).Phase)
}

func TestProgress(t *testing.T) {
	for _, c := range []struct{ state, reason, bar, words string }{
		{"Ready", "Ready", "▰▰▰▰▰", "✓ apply  ✓ wait  ✓ route  ✓ retire  ✓ prune"},
		{"Reconciling", "WaitingForHealth", "▰▰▱▱▱ wait", "✓ apply  ▸ wait  · route  · retire  · prune"},
		{"Stalled", "TrafficRefused", "▰▰▰▱▱ route ✗", "✓ apply  ✓ wait  ✗ route  · retire  · prune"},
		{"Reconciling", "Draining", "▰▰▰▰▱ retire", "✓ apply  ✓ wait  ✓ route  ▸ retire  · prune"},
		{"Paused", "Paused", "", ""},
		{"Reconciling", "TransientError", "", ""},
	} {
		p := progressOf(c.state, c.reason)
		assert.Equal(t, c.bar, p.bar(), c.reason)
		assert.Equal(t, c.words, p.words(), c.reason)
	}
}
