package cluster

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// eventPage is how many Events are asked for at a time: a namespace may have
// thousands.
const eventPage = 500

// Events lists the Events about objects of a namespace; resourceVersion is where
// WatchEvents goes on.
func (c *Client) Events(ctx context.Context, namespace string) (list []eventsv1.Event, resourceVersion string, err error) {
	api, err := eventsclient.NewForConfigAndClient(c.config, c.http)
	if err != nil {
		return nil, "", fmt.Errorf("connecting to cluster %s: %w", c.server, err)
	}
	options := metav1.ListOptions{Limit: eventPage}
	for {
		page, err := c.eventPage(ctx, api, namespace, options)
		if err != nil {
			return nil, "", err
		}
		list = append(list, page.Items...)
		if options.Continue = page.Continue; options.Continue == "" {
			return list, page.ResourceVersion, nil
		}
	}
}

func (c *Client) eventPage(ctx context.Context, api eventsclient.EventsV1Interface, namespace string, o metav1.ListOptions) (*eventsv1.EventList, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	page, err := api.Events(namespace).List(ctx, o)
	if err != nil {
		return nil, c.explain(err, "listing the events of namespace %s", namespace)
	}
	return page, nil
}

// WatchEvents tells of Events from a resource version on, until ctx ends or the
// server ends it, which it does from time to time.
func (c *Client) WatchEvents(ctx context.Context, namespace, resourceVersion string) (watch.Interface, error) {
	api, err := eventsclient.NewForConfigAndClient(c.config, c.http)
	if err != nil {
		return nil, fmt.Errorf("connecting to cluster %s: %w", c.server, err)
	}
	w, err := api.Events(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: resourceVersion})
	if err != nil {
		return nil, c.explain(err, "watching the events of namespace %s", namespace)
	}
	return w, nil
}

// podPage is how many pods are asked for at a time.
const podPage = 500

// AllPods lists every pod that a workload selects; Pods is for who looks for a reason.
func (c *Client) AllPods(ctx context.Context, workload *unstructured.Unstructured) (all []corev1.Pod, err error) {
	selector := podSelector(workload)
	for next := ""; len(selector) > 0; {
		page, err := c.podPage(ctx, selector, client.InNamespace(workload.GetNamespace()), client.Limit(podPage), client.Continue(next))
		if err != nil {
			return nil, c.explain(err, "listing the pods of %s/%s", workload.GetKind(), workload.GetName())
		}
		all = append(all, page.Items...)
		if next = page.Continue; next == "" {
			break
		}
	}
	return all, nil
}

func (c *Client) podPage(ctx context.Context, selector client.MatchingLabels, o ...client.ListOption) (*corev1.PodList, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var page corev1.PodList
	return &page, c.api.List(ctx, &page, append(o, selector)...)
}

// Pod reads a pod, nil when there is none of the name. It is listed, so that who may
// list pods need not have the right to get them.
func (c *Client) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var pods corev1.PodList
	if err := c.api.List(ctx, &pods, client.InNamespace(namespace), client.MatchingFields{metav1.ObjectNameField: name}); err != nil {
		return nil, c.explain(err, "reading Pod/%s", name)
	}
	if len(pods.Items) == 0 {
		return nil, nil
	}
	return &pods.Items[0], nil
}

// Logs reads what a container has written, for as long as ctx lasts.
func (c *Client) Logs(ctx context.Context, namespace, pod string, o corev1.PodLogOptions) (io.ReadCloser, error) {
	api, err := coreclient.NewForConfigAndClient(c.config, c.http)
	if err != nil {
		return nil, fmt.Errorf("connecting to cluster %s: %w", c.server, err)
	}
	stream, err := api.Pods(namespace).GetLogs(pod, &o).Stream(ctx)
	if err != nil {
		return nil, c.explain(err, "reading the log of Pod/%s (container %s)", pod, o.Container)
	}
	return stream, nil
}
