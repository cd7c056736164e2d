package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// fieldManager owns what devcluster applies.
const fieldManager = "devcluster"

var (
	definitionResource     = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	nodeResource           = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	serviceAccountResource = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
)

// client applies manifests and waits for what they need.
type client struct {
	dynamic   dynamic.Interface
	discovery discovery.DiscoveryInterface
	mapper    meta.ResettableRESTMapper
	defined   map[schema.GroupVersionKind]bool // by this client, and served
}

func connect(kubeconfig string) (*client, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("using kubeconfig %s: %w", kubeconfig, err)
	}
	discoveryClient, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("using kubeconfig %s: %w", kubeconfig, err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discoveryClient))
	return &client{dynamic: dynamicClient, discovery: discoveryClient, mapper: mapper, defined: map[schema.GroupVersionKind]bool{}}, nil
}

// Version asks the cluster of a kubeconfig for its version: whether it answers.
func Version(kubeconfig string) (string, error) {
	c, err := connect(kubeconfig)
	if err != nil {
		return "", err
	}
	info, err := c.discovery.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("asking the cluster of %s: %w", kubeconfig, err)
	}
	return info.GitVersion, nil
}

// Install applies manifests to the cluster of a kubeconfig, started here or not,
// and returns when the CustomResourceDefinitions among them are served. It
// returns how many objects it applied.
func Install(ctx context.Context, kubeconfig string, manifests ...string) (int, error) {
	list, err := load(manifests...)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	c, err := connect(kubeconfig)
	if err != nil {
		return 0, err
	}
	if err := c.define(ctx, list.definitions()); err != nil {
		return 0, err
	}
	return len(list), c.apply(ctx, list.others())
}

// InstallGateway installs the Gateway API's CRDs, found in the folders as by
// FindAssets, unless the cluster has the Gateway API already. It reports whether
// it installed them.
func InstallGateway(ctx context.Context, kubeconfig string, folders ...string) (bool, error) {
	c, err := connect(kubeconfig)
	if err != nil {
		return false, err
	}
	_, err = c.dynamic.Resource(definitionResource).Get(ctx, "httproutes.gateway.networking.k8s.io", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return false, err
	}
	path, err := find(gatewayCRDs, folders)
	if err != nil {
		return false, err
	}
	_, err = Install(ctx, kubeconfig, path)
	return err == nil, err
}

// define applies CustomResourceDefinitions and waits until they are served.
func (c *client) define(ctx context.Context, definitions objects) error {
	results := make([]error, len(definitions))
	var group sync.WaitGroup
	for i, definition := range definitions {
		group.Go(func() {
			if results[i] = c.applyTo(ctx, c.dynamic.Resource(definitionResource), definition); results[i] == nil {
				results[i] = c.awaitServed(ctx, definition)
			}
		})
	}
	group.Wait()
	c.mapper.Reset()
	for _, definition := range definitions {
		for _, kind := range servedKinds(definition) {
			c.defined[kind] = true
		}
	}
	return errors.Join(results...)
}

// awaitServed waits until the new resource can be listed. Its Established
// condition is true a moment earlier.
func (c *client) awaitServed(ctx context.Context, definition *unstructured.Unstructured) error {
	resource := servedResource(definition)
	if resource.Version == "" {
		return fmt.Errorf("%s serves no version", describe(definition))
	}
	err := poll(ctx, func() (bool, error) {
		_, err := c.dynamic.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("waiting for %s to be established: %w", describe(definition), err)
	}
	return nil
}

// servedKinds are the versions of what is defined that the API server answers for.
func servedKinds(definition *unstructured.Unstructured) (kinds []schema.GroupVersionKind) {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, version := range versions {
		fields, _ := version.(map[string]any)
		if served, _ := fields["served"].(bool); served {
			name, _ := fields["name"].(string)
			kinds = append(kinds, schema.GroupVersionKind{Group: group, Version: name, Kind: kind})
		}
	}
	return kinds
}

func servedResource(definition *unstructured.Unstructured) schema.GroupVersionResource {
	kinds := servedKinds(definition)
	if len(kinds) == 0 {
		return schema.GroupVersionResource{}
	}
	plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
	return kinds[0].GroupVersion().WithResource(plural)
}

// apply applies objects one after the other, each with its status if it has one.
func (c *client) apply(ctx context.Context, list objects) error {
	for _, object := range list {
		kind := object.GroupVersionKind()
		mapping, err := c.mapping(ctx, kind)
		if err != nil {
			return fmt.Errorf("applying %s: %w", describe(object), err)
		}
		var target dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			if object.GetNamespace() == "" {
				object.SetNamespace(metav1.NamespaceDefault)
			}
			target = c.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}
		if err := c.applyTo(ctx, target, object); err != nil {
			return err
		}
	}
	return nil
}

// mapping finds the resource of a kind. One that was just defined is served before the
// API server lists it among what it serves.
func (c *client) mapping(ctx context.Context, kind schema.GroupVersionKind) (mapping *meta.RESTMapping, err error) {
	err = poll(ctx, func() (bool, error) {
		mapping, err = c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if meta.IsNoMatchError(err) && c.defined[kind] {
			c.mapper.Reset()
			return false, nil
		}
		return err == nil, err
	})
	return mapping, err
}

func (c *client) applyTo(ctx context.Context, target dynamic.ResourceInterface, object *unstructured.Unstructured) error {
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if _, err := target.Apply(ctx, object.GetName(), object, options); err != nil {
		return fmt.Errorf("applying %s: %w", describe(object), err)
	}
	if _, has := object.Object["status"]; !has || object.GetKind() == definitionKind {
		return nil
	}
	if _, err := target.ApplyStatus(ctx, object.GetName(), object, options); err != nil {
		return fmt.Errorf("applying the status of %s: %w", describe(object), err)
	}
	return nil
}

// nodesReady is nil when every node is Ready.
func (c *client) nodesReady(ctx context.Context) error {
	list, err := c.dynamic.Resource(nodeResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range list.Items {
		if !isReady(&node) {
			return fmt.Errorf("%s is not ready", describe(&node))
		}
	}
	return nil
}

func isReady(object *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, condition := range conditions {
		fields, _ := condition.(map[string]any)
		if fields["type"] == "Ready" {
			return fields["status"] == "True"
		}
	}
	return false
}

// serviceAccountExists is nil when the namespace "default" has its ServiceAccount.
func (c *client) serviceAccountExists(ctx context.Context) error {
	accounts := c.dynamic.Resource(serviceAccountResource).Namespace(metav1.NamespaceDefault)
	_, err := accounts.Get(ctx, "default", metav1.GetOptions{})
	return err
}

// poll asks until the answer is yes, an error, or ctx ends.
func poll(ctx context.Context, ask func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
