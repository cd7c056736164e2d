// Package cluster is the reconciler's hands: what it reads from and writes to one
// Kubernetes API server. Start with New, then Ping.
//
// Every call is bounded in time and every error names its object and, where
// there is something to do about it, has a Hint. The package decides nothing: it
// never retries, never waits for health, and never deletes an object that is not
// the very one it was shown.
package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// requestTimeout bounds every request but watches.
const requestTimeout = 30 * time.Second

// pingTimeout bounds finding out whether there is a cluster at all.
const pingTimeout = 10 * time.Second

// Client talks to one API server. It is safe for concurrent use.
type Client struct {
	config *rest.Config
	http   *http.Client
	mapper meta.RESTMapper
	api    client.Client
	// metadata is for watches.
	metadata metadata.Interface
	// scopes are whether objects of a kind live in namespaces, by schema.GroupVersionKind, as
	// the mapper has said, which takes its time: it is asked for every object of a render.
	// Who defines a kind anew with another scope has to restart us.
	scopes sync.Map
	server string // without credentials
	as     string // who is impersonated; "": nobody
}

// New prepares a client; nothing is sent. The configuration is copied, and not
// throttled on the client's side: the API server's priority and fairness does
// that better.
func New(config *rest.Config) (*Client, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	if config.UserAgent == "" {
		config.UserAgent = "sluice"
	}
	return connect(config, nil)
}

// As is a client that does everything as another user, by impersonation; c itself
// for "". What kinds there are it knows from c.
func (c *Client) As(user string) (*Client, error) {
	if user == "" {
		return c, nil
	}
	config := rest.CopyConfig(c.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	return connect(config, c.mapper)
}

// connect makes a client; mapper may be nil.
func connect(config *rest.Config, mapper meta.RESTMapper) (*Client, error) {
	c := &Client{config: config, server: serverName(config.Host), as: config.Impersonate.UserName, mapper: mapper}
	var err error
	if c.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("connecting to cluster %s: %w", c.server, err)
	}
	if c.mapper == nil {
		if c.mapper, err = apiutil.NewDynamicRESTMapper(config, c.http); err != nil {
			return nil, fmt.Errorf("connecting to cluster %s: %w", c.server, err)
		}
	}
	if c.metadata, err = metadata.NewForConfigAndClient(config, c.http); err != nil {
		return nil, fmt.Errorf("connecting to cluster %s: %w", c.server, err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, v1alpha1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering types: %w", err)
		}
	}
	c.api, err = client.New(config, client.Options{HTTPClient: c.http, Scheme: scheme, Mapper: c.mapper})
	if err != nil {
		return nil, fmt.Errorf("connecting to cluster %s: %w", c.server, err)
	}
	return c, nil
}

// serverName is the address of a server without user, password and query.
func serverName(host string) string {
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
		return "(unnamed)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// Server is the address of the API server, without credentials.
func (c *Client) Server() string { return c.server }

// Ping finds out whether the API server answers, within a bounded time.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	d, err := discovery.NewDiscoveryClientForConfigAndClient(c.config, c.http)
	if err != nil {
		return fmt.Errorf("connecting to cluster %s: %w", c.server, err)
	}
	if err := d.RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
		return c.explain(err, "reading the server's version")
	}
	return nil
}

// metadataOnly are the kinds whose content is not read: it may be large, or
// secret, and nothing is decided by it.
var metadataOnly = map[schema.GroupKind]bool{{Kind: "Secret"}: true, {Kind: "ConfigMap"}: true}

// MetadataOnly reports whether Get and Apply leave the content of a kind out.
func MetadataOnly(kind schema.GroupKind) bool { return metadataOnly[kind] }

// Get reads an object; nil when it does not exist or its kind is not known to
// the cluster. Where the cluster has ceased to serve the version that is asked
// for, the object comes in another one: it exists all the same. Of Secrets and
// ConfigMaps only the metadata is read.
func (c *Client) Get(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	return c.get(ctx, gvk, namespace, name, metadataOnly[gvk.GroupKind()])
}

// GetWhole is Get with the content of Secrets and ConfigMaps.
func (c *Client) GetWhole(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	return c.get(ctx, gvk, namespace, name, false)
}

func (c *Client) get(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string, metadataOnly bool) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	key := client.ObjectKey{Namespace: namespace, Name: name}
	object, err := c.read(ctx, gvk, key, metadataOnly)
	if unserved(err) {
		served, found, discoverErr := c.servedAs(ctx, gvk.GroupKind())
		switch {
		case discoverErr != nil:
			return nil, c.explain(discoverErr, "looking up kind %s", gvk.Kind)
		case !found:
			return nil, nil
		}
		object, err = c.read(ctx, served, key, metadataOnly)
	}
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, c.explain(err, "reading %s/%s", gvk.Kind, name)
	}
	return object, nil
}

func (c *Client) read(ctx context.Context, gvk schema.GroupVersionKind, key client.ObjectKey, metadataOnly bool) (object *unstructured.Unstructured, err error) {
	if metadataOnly {
		partial := &metav1.PartialObjectMetadata{}
		partial.SetGroupVersionKind(gvk)
		if err = c.api.Get(ctx, key, partial); err == nil {
			object, err = fromPartial(partial, gvk)
		}
	} else {
		object = &unstructured.Unstructured{}
		object.SetGroupVersionKind(gvk)
		err = c.api.Get(ctx, key, object)
	}
	return object, err
}

func fromPartial(partial *metav1.PartialObjectMetadata, gvk schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(partial)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{Object: fields}
	object.SetGroupVersionKind(gvk)
	return object, nil
}

// withoutContent is what is remembered of an object that was written.
func withoutContent(object *unstructured.Unstructured) *unstructured.Unstructured {
	if !metadataOnly[object.GroupVersionKind().GroupKind()] {
		return object
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(), "metadata": object.Object["metadata"],
	}}
}

// Namespaced reports whether objects of a kind live in namespaces. A kind the
// cluster does not know is an error.
func (c *Client) Namespaced(gvk schema.GroupVersionKind) (bool, error) {
	if namespaced, known := c.scopes.Load(gvk); known {
		return namespaced.(bool), nil
	}
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return false, c.explain(err, "looking up kind %s", gvk.Kind)
	}
	namespaced := mapping.Scope.Name() == meta.RESTScopeNameNamespace
	c.scopes.Store(gvk, namespaced)
	return namespaced, nil
}

// Resource is where objects of a kind are found; ok is false for a kind that
// the cluster does not know.
func (c *Client) Resource(gvk schema.GroupVersionKind) (resource schema.GroupVersionResource, ok bool) {
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return schema.GroupVersionResource{}, false
	}
	return mapping.Resource, true
}

// NamespaceExists reports whether a namespace exists. Who may not ask is
// believed to have been given one.
func (c *Client) NamespaceExists(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var ns corev1.Namespace
	err := c.api.Get(ctx, client.ObjectKey{Name: name}, &ns)
	switch {
	case err == nil, apierrors.IsForbidden(err):
		return true, nil
	case absent(err):
		return false, nil
	}
	return false, c.explain(err, "reading Namespace/%s", name)
}

func podSelector(workload *unstructured.Unstructured) client.MatchingLabels {
	selector, _, _ := unstructured.NestedStringMap(workload.Object, "spec", "selector", "matchLabels")
	return selector
}

// Pods lists the first pods that a workload selects.
func (c *Client) Pods(ctx context.Context, workload *unstructured.Unstructured) ([]corev1.Pod, error) {
	selector := podSelector(workload)
	if len(selector) == 0 {
		return nil, nil
	}
	page, err := c.podPage(ctx, selector, client.InNamespace(workload.GetNamespace()), client.Limit(100))
	if err != nil {
		return nil, c.explain(err, "listing the pods of %s/%s", workload.GetKind(), workload.GetName())
	}
	return page.Items, nil
}

// EndpointSlices lists the endpoints of a Service.
func (c *Client) EndpointSlices(ctx context.Context, namespace, service string) ([]discoveryv1.EndpointSlice, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var slices discoveryv1.EndpointSliceList
	err := c.api.List(ctx, &slices, client.InNamespace(namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service})
	if err != nil {
		return nil, c.explain(err, "listing the endpoints of Service/%s", service)
	}
	return slices.Items, nil
}
