package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// The kubelets of the test cluster run no containers, so a server answers as the API
// server does.
func TestLogsOfAContainer(t *testing.T) {
	t.Parallel()
	asked := make(chan url.Values, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/shop/pods/api-x/log" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"pods \"gone\" not found","code":404}`)
			return
		}
		asked <- r.URL.Query()
		fmt.Fprint(w, "one\n\x1b[31mtwo\x1b[0m\x1b[2J\nthree")
	}))
	defer server.Close()
	client, err := cluster.New(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	var out bytes.Buffer
	l := &logs{client: client, out: &out, raw: true, now: fixedNow, options: logsOptions{since: time.Minute, tail: 3}}
	require.NoError(t, l.copy(context.Background(), "shop", logSource{pod: "api-x", container: "api"}))
	assert.Equal(t, "api-x api one\napi-x api \x1b[31mtwo\x1b[0m\x1b[2J\napi-x api three\n", out.String())
	assert.Equal(t, url.Values{"container": {"api"}, "sinceTime": {"2026-11-21T09:59:00Z"}, "tailLines": {"3"}}, <-asked)

	out.Reset()
	l.raw, l.options = false, logsOptions{previous: true, tail: -1}
	require.NoError(t, l.copy(context.Background(), "shop", logSource{pod: "api-x", container: "api"}))
	assert.Equal(t, "api-x api one\napi-x api two�[2J\napi-x api three\n", out.String())
	assert.Equal(t, url.Values{"container": {"api"}, "previous": {"true"}}, <-asked)

	err = l.copy(context.Background(), "shop", logSource{pod: "gone", container: "api"})
	require.ErrorContains(t, err, "reading the log of Pod/gone (container api)")
}

// TestLogsAreFollowed: with pods of a real cluster, whose logs a proxy makes up. Pods that
// come are taken in, and it ends without an error when the release and its pods are gone.
func TestLogsAreFollowed(t *testing.T) {
	t.Parallel()
	config, namespace := testcluster.Start(t), testcluster.Namespace(t)
	target, err := url.Parse(config.Host)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.Transport, err = rest.TransportFor(config)
	require.NoError(t, err)
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/log") {
			proxy.ServeHTTP(w, r)
			return
		}
		fmt.Fprintln(w, "2026-11-21T10:00:00.5Z begun")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	defer server.Close()

	api, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	labels, one := map[string]string{"app": "api"}, int32(1)
	_, err = api.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "api"},
		Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example.com/api"}}},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	client, err := cluster.New(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	rel := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: namespace}}
	rel.Status.Inventory = &v1alpha1.Inventory{Entries: []v1alpha1.ResourceRef{{ID: namespace + "_api_apps_Deployment", Version: "v1"}}}

	ctx, cancel := context.WithTimeout(t.Context(), awaitTimeout)
	defer cancel()
	lines, ended := make(written, 10), make(chan error, 1)
	l := &logs{client: client, out: lines, raw: true, now: fixedNow, options: logsOptions{follow: true, tail: -1}, wait: pause, warn: t.Logf}
	go func() { ended <- l.follow(ctx, &clusterReleases{client: client}, rel) }()
	first := lines.next(ctx, t)
	_, err = api.AppsV1().Deployments(namespace).Patch(t.Context(), "api", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	second := lines.next(ctx, t)
	assert.NotEqual(t, first, second, "each pod is read once")
	for _, line := range []string{first, second} {
		assert.Regexp(t, "^api-[a-z0-9]+-[a-z0-9]+ main begun\n$", line)
	}
	policy := metav1.DeletePropagationBackground
	require.NoError(t, api.AppsV1().Deployments(namespace).Delete(t.Context(), "api", metav1.DeleteOptions{PropagationPolicy: &policy}))
	close(over)
	assert.NoError(t, <-ended)
	require.NoError(t, ctx.Err(), "it ends by itself")
	assert.Empty(t, lines, "what was printed is not printed again")
}

// written are the lines that are printed.
type written chan string

func (w written) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func (w written) next(ctx context.Context, t *testing.T) string {
	t.Helper()
	select {
	case line := <-w:
		return line
	case <-ctx.Done():
		require.Fail(t, "nothing is printed")
		return ""
	}
}

func TestTame(t *testing.T) {
	assert.Equal(t, "a \x1b[1;31mb\x1b[0m c\x1b[0m", tame("a \x1b[1;31mb\x1b[0m c", true))
	assert.Equal(t, "a b c", tame("a \x1b[1;31mb\x1b[0m c", false))
	assert.Equal(t, "�]0;title� plain", tame("\x1b]0;title\a plain", true))
}

func TestLogSources(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "api-x", UID: "u"}, Status: corev1.PodStatus{
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "init", State: ended}},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "api", State: running, RestartCount: 2, LastTerminationState: ended},
			{Name: "loop", State: waiting, RestartCount: 5, LastTerminationState: ended},
			{Name: "pulling", State: waiting},
		}}}
	names := func(o logsOptions) (names []string) {
		for _, s := range logSources(pod, o) {
			names = append(names, fmt.Sprintf("%s %s/%d", s.container, s.uid, s.restarts))
		}
		return names
	}
	assert.Equal(t, []string{"init u/0", "api u/2", "loop u/5"}, names(logsOptions{}))
	assert.Equal(t, []string{"api u/2", "loop u/5"}, names(logsOptions{previous: true}))
	assert.Equal(t, []string{"api u/2"}, names(logsOptions{container: "api"}))
	assert.Empty(t, names(logsOptions{container: "other"}))
}
