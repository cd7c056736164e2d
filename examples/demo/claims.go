package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

var (
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	routes      = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	releases    = schema.GroupVersionResource{Group: "sluice.dev", Version: "v1alpha1", Resource: "releases"}
)

// patience is how long a claim may take to become true.
const patience = 60 * time.Second

// claim waits until what it says is true of the cluster, and fails with what
// was true instead.
func (s *stage) claim(ctx context.Context, text string, holds func(ctx context.Context) (string, bool)) error {
	began := time.Now()
	last := "nothing was read"
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		got, ok := holds(ctx)
		last = got
		return ok, nil
	})
	if err != nil {
		return fmt.Errorf("claim does not hold: %s; the cluster says: %s", text, last)
	}
	s.claims++
	fmt.Printf("✓ %s (%.1fs)\n", text, time.Since(began).Seconds())
	return nil
}

// runs claims that a Deployment runs a digest and is available.
func (s *stage) runs(ctx context.Context, namespace, name, digest string) error {
	return s.claim(ctx, fmt.Sprintf("%s/%s runs %s", namespace, name, buildID(digest)), func(ctx context.Context) (string, bool) {
		d, err := s.cluster.Resource(deployments).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		image := imageOf(d)
		ready, _, _ := unstructured.NestedInt64(d.Object, "status", "readyReplicas")
		updated, _, _ := unstructured.NestedInt64(d.Object, "status", "updatedReplicas")
		total, _, _ := unstructured.NestedInt64(d.Object, "status", "replicas")
		want, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
		text := fmt.Sprintf("image %s, %d of %d ready", image, ready, want)
		return text, strings.HasSuffix(image, "@"+digest) && want > 0 && ready == want && updated == want && total == want
	})
}

// scaled claims that a Deployment has at least n pods ready.
func (s *stage) scaled(ctx context.Context, namespace, name string, n int64) error {
	return s.claim(ctx, fmt.Sprintf("%s/%s has its pods: at least %d ready", namespace, name, n), func(ctx context.Context) (string, bool) {
		d, err := s.cluster.Resource(deployments).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		ready, _, _ := unstructured.NestedInt64(d.Object, "status", "readyReplicas")
		return fmt.Sprintf("%d ready", ready), ready >= n
	})
}

// routed claims what the route of a release says, such as "api-blue:90 api-green:10".
func (s *stage) routed(ctx context.Context, namespace, name, want string) error {
	return s.claim(ctx, fmt.Sprintf("the route of %s/%s is %s", namespace, name, want), func(ctx context.Context) (string, bool) {
		got, err := s.route(ctx, namespace, name)
		if err != nil {
			return err.Error(), false
		}
		return got, got == want
	})
}

// route is the first rule of an HTTPRoute in a few words.
func (s *stage) route(ctx context.Context, namespace, name string) (string, error) {
	r, err := s.cluster.Resource(routes).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	rules, _, _ := unstructured.NestedSlice(r.Object, "spec", "rules")
	if len(rules) == 0 {
		return "no rules", nil
	}
	rule := rules[0].(map[string]any)
	var parts []string
	backends, _, _ := unstructured.NestedSlice(rule, "backendRefs")
	for _, b := range backends {
		ref := b.(map[string]any)
		weight := int64(1)
		if w, ok := ref["weight"].(int64); ok {
			weight = w
		}
		parts = append(parts, fmt.Sprintf("%s:%d", ref["name"], weight))
	}
	sort.Strings(parts)
	filters, _, _ := unstructured.NestedSlice(rule, "filters")
	for _, f := range filters {
		if mirror, ok, _ := unstructured.NestedMap(f.(map[string]any), "requestMirror"); ok {
			target, _, _ := unstructured.NestedString(mirror, "backendRef", "name")
			percent, _, _ := unstructured.NestedInt64(mirror, "percent")
			parts = append(parts, fmt.Sprintf("mirror %s:%d", target, percent))
		}
	}
	return strings.Join(parts, " "), nil
}

// condition claims the status of a condition of a Release, and that its
// message contains what it must tell.
func (s *stage) condition(ctx context.Context, namespace, name, kind, status, message string) error {
	text := fmt.Sprintf("release %s/%s is %s=%s", namespace, name, kind, status)
	if message != "" {
		text += fmt.Sprintf(" and says %q", message)
	}
	return s.claim(ctx, text, func(ctx context.Context) (string, bool) {
		r, err := s.cluster.Resource(releases).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		conditions, _, _ := unstructured.NestedSlice(r.Object, "status", "conditions")
		got := "no such condition"
		for _, c := range conditions {
			c := c.(map[string]any)
			if c["type"] != kind {
				continue
			}
			got = fmt.Sprintf("%s=%s %s: %s", kind, c["status"], c["reason"], c["message"])
			return got, c["status"] == status && strings.Contains(fmt.Sprint(c["message"]), message)
		}
		return got, false
	})
}

// untouched records everything of a namespace that a release consists of, and
// returns a claim that nothing of it has changed since.
func (s *stage) untouched(ctx context.Context, namespace string, names ...string) (func(context.Context) error, error) {
	read := func(ctx context.Context) (string, error) {
		var parts []string
		for _, name := range names {
			d, err := s.cluster.Resource(deployments).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			ready, _, _ := unstructured.NestedInt64(d.Object, "status", "readyReplicas")
			parts = append(parts, fmt.Sprintf("%s generation %d, %d ready", name, d.GetGeneration(), ready))
		}
		svc, err := s.cluster.Resource(services).Namespace(namespace).Get(ctx, "api", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		route, err := s.route(ctx, namespace, "api")
		selector, _, _ := unstructured.NestedStringMap(svc.Object, "spec", "selector")
		return fmt.Sprintf("%s; route %s; service to %s", strings.Join(parts, ", "), route, selector["app.kubernetes.io/instance"]), err
	}
	before, err := read(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return s.claim(ctx, namespace+" is as it was: "+before, func(ctx context.Context) (string, bool) {
			after, err := read(ctx)
			if err != nil {
				return err.Error(), false
			}
			return after, after == before
		})
	}, nil
}

// imageOf is the image of a Deployment's first container.
func imageOf(d *unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
	if len(containers) == 0 {
		return ""
	}
	image, _, _ := unstructured.NestedString(containers[0].(map[string]any), "image")
	return image
}

func buildID(digest string) string { return strings.TrimPrefix(digest, "sha256:")[:12] }
