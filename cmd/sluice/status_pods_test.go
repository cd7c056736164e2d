package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func imageOf(digest string) string { return "registry.example.com/shop/api@" + digestOf(digest) }

// TestPodGroups: what counts is what the component's container runs, of pods that are
// there to stay.
func TestPodGroups(t *testing.T) {
	pod := func(phase corev1.PodPhase, ready corev1.ConditionStatus, images ...string) corev1.Pod {
		p := corev1.Pod{Status: corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}}
		for i, name := range []string{"proxy", "api"}[:len(images)] {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: images[i]})
		}
		return p
	}
	proxy := "registry.example.com/proxy@" + digestOf("cc")
	old, now := pod("Running", "True", proxy, imageOf("aa")), pod("Pending", "False", proxy, imageOf("bb"))
	ending := pod("Running", "True", proxy, imageOf("aa"))
	ending.DeletionTimestamp = &metav1.Time{Time: fixedNow()}
	images := map[string]string{"proxy": proxy, "api": imageOf("bb")}
	workloads := []workload{
		{tag: "green", images: images, pods: []corev1.Pod{now, old, old, ending, pod("Succeeded", "False", proxy, imageOf("aa")), pod("Running", "True", proxy, "registry.example.com/shop/api:latest")}},
		{tag: "blue", images: map[string]string{"proxy": proxy, "api": imageOf("aa")}, pods: []corev1.Pod{old}},
		{images: map[string]string{"api": "redis@" + digestOf("dd")}, pods: []corev1.Pod{pod("Running", "True", proxy, "redis@"+digestOf("dd"))}},
		{id: inventory.ID{Group: "batch", Kind: "Job"}, images: images, pods: []corev1.Pod{old}},
	}
	groups := podGroups(workloads, []string{digestOf("aa"), digestOf("bb")})
	assert.Equal(t, []podGroup{
		{Tag: "blue", Build: buildID(digestOf("aa")), Digest: digestOf("aa"), Pods: 1, Ready: 1},
		{Tag: "green", Build: buildID(digestOf("aa")), Digest: digestOf("aa"), Pods: 2, Ready: 2},
		{Tag: "green", Build: buildID(digestOf("bb")), Digest: digestOf("bb"), Pods: 1},
	}, groups)

	row := releaseStatus{Running: []runningState{{Tag: "blue", Digest: digestOf("aa")}, {Tag: "green", Digest: digestOf("bb")}}, Pods: groups,
		Declared: []releaseState{{Tag: "green", Digest: digestOf("ee")}, {Tag: "blue"}}}
	assert.Equal(t, []string{digestOf("aa"), digestOf("bb"), digestOf("ee")}, row.digests())
	assert.Equal(t, "green: 2 pods run aa0000000000", othersText(row.others()))
	row.Pods = append(row.Pods, podGroup{Build: "cc0000000000", Digest: digestOf("cc"), Pods: 1})
	assert.Equal(t, "green: 2 pods run aa0000000000, 1 pod runs cc0000000000", othersText(row.others()), "of a release that is converted")
	assert.Empty(t, othersText((&releaseStatus{}).others()))
}

func TestTemplateImages(t *testing.T) {
	containers := map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "api", "image": "a"}, map[string]any{"name": "proxy"}}}}
	want := map[string]string{"api": "a", "proxy": ""}
	for kind, spec := range map[string]map[string]any{
		"Deployment": {"template": containers},
		"CronJob":    {"jobTemplate": map[string]any{"spec": map[string]any{"template": containers}}},
	} {
		assert.Equal(t, want, templateImages(&unstructured.Unstructured{Object: map[string]any{"kind": kind, "spec": spec}}), kind)
	}
	assert.Empty(t, templateImages(&unstructured.Unstructured{Object: map[string]any{"kind": "Rollout", "spec": map[string]any{"workloadRef": "x"}}}))
}

// TestStatusSaysWhatRuns beside what was applied, in a table, a frame and a line.
func TestStatusSaysWhatRuns(t *testing.T) {
	row := releaseStatus{Environment: "production", Release: "web", State: "Reconciling", Reason: "WaitingForHealth", Message: "Deployment/web: 1 of 2 replicas updated",
		Running: []runningState{{Digest: digestOf("bb")}}, Pods: []podGroup{{Build: "9b1c40aa77de", Digest: digestOf("9b1c40aa77de"), Pods: 2, Ready: 2}, {Digest: digestOf("bb"), Pods: 1}},
		summary: v1alpha1.Summary{Digests: "3f2a9c0d41e7"}}
	var out bytes.Buffer
	a := &app{process: process{Stdout: &out, Now: fixedNow}}
	require.NoError(t, a.print([]releaseStatus{row}, func(table *table) { a.statusTable(table, []releaseStatus{row}) }))
	assert.Contains(t, out.String(), "3f2a9c0d41e7 (2 pods run 9b1c40aa77de)")
	assert.Contains(t, strings.Join(frame{fixedNow(), 80, 20, paint{}}.lines([]releaseStatus{row}), "\n"),
		"\nproduction/web: 2 pods run 9b1c40aa77de; WaitingForHealth: Deployment/web: 1\n  of 2 replicas updated")
	assert.Contains(t, changeLine(fixedNow(), row), "Reconciling 3f2a9c0d41e7 (2 pods run 9b1c40aa77de): WaitingForHealth")
}

// TestStatusOfSeveralProjects: without a repository that says which is meant, none is
// mixed with another, and each says whose it is.
func TestStatusOfSeveralProjects(t *testing.T) {
	release := func(project, repository, namespace, name, state string) v1alpha1.Release {
		r := v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Project: project, Repository: repository, Environment: "production"}}
		r.Name, r.Namespace = name, namespace
		r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStalled, Status: "True", Reason: "ApplyFailed", Message: state}}
		return r
	}
	shop, blog := release("shop", "a", "shop-production", "api", "of the shop"), release("blog", "b", "blog-production", "api", "of the blog")
	blog.Status.Held = &v1alpha1.HeldStatus{Token: "a00000000001"}
	sides := &statusSides{reported: []v1alpha1.Release{shop, blog, release("shop", "a", "shop-production", "web", "")}}
	environments, err := sides.environments([]string{"production"})
	require.NoError(t, err)
	var said []string
	for _, env := range environments {
		rows, err := sides.rows(env, nil)
		require.NoError(t, err)
		for _, r := range rows {
			r.hold(heldDeletions(sides.in(env)))
			assert.Equal(t, r.Project == "blog", r.Held != nil)
			said = append(said, r.where()+"/"+r.Release+" in "+r.Namespace+": "+r.Message)
		}
	}
	assert.Equal(t, []string{"blog/production/api in blog-production: of the blog", "shop/production/api in shop-production: of the shop", "shop/production/web in shop-production: "}, said)
	_, err = sides.environments([]string{"prod"})
	assert.EqualError(t, err, `unknown environment "prod" (did you mean "production"?)`)

	sides.reported = []v1alpha1.Release{shop}
	environments, err = sides.environments(nil)
	require.NoError(t, err)
	rows, err := sides.rows(environments[0], nil)
	require.NoError(t, err)
	assert.Equal(t, "production", rows[0].where(), "of one project it need not be said")
	assert.Equal(t, "shop", rows[0].Project)
}
