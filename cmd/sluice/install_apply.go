package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/deploy/crds"
	"github.com/sluice-dev/sluice/deploy/manifests"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

var (
	crdResource        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	namespaceResource  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	secretResource     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	podResource        = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	deploymentResource = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	releaseResource    = schema.GroupVersionResource{Group: "sluice.dev", Version: "v1alpha1", Resource: "releases"}
)

// installedKind is a kind of object that install makes.
type installedKind struct {
	kind     string
	resource schema.GroupVersionResource
	manager  string // field manager
}

// installManager is not that of the engine, which owns fields of the environments'
// namespaces, too.
const installManager = "sluice-install"

// installedKinds are in the order in which uninstall takes them away: first what
// works, then the rights it works by.
var installedKinds = []installedKind{
	{"Deployment", deploymentResource, installManager},
	{"Service", schema.GroupVersionResource{Version: "v1", Resource: "services"}, installManager},
	{"PodDisruptionBudget", schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}, installManager},
	{"NetworkPolicy", schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}, installManager},
	{"RoleBinding", rbacResource("rolebindings"), installManager},
	{"ClusterRoleBinding", rbacResource("clusterrolebindings"), installManager},
	{"ServiceAccount", schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, installManager},
	{"Role", rbacResource("roles"), installManager}, // after the accounts, which are known by them
	{"ClusterRole", rbacResource("clusterroles"), installManager},
	{"Namespace", namespaceResource, installManager},
	{"CustomResourceDefinition", crdResource, "sluice"},
}

func rbacResource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: name}
}

// installation is a connection to the cluster of somebody who installs.
type installation struct {
	*app
	client dynamic.Interface
}

// openInstallation connects, and finds out whether the cluster answers.
func (a *app) openInstallation(ctx context.Context) (*installation, error) {
	config, err := a.restConfig()
	if err != nil {
		return nil, err
	}
	reach, err := cluster.New(config)
	if err != nil {
		return nil, err
	}
	if err := reach.Ping(ctx); err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	return &installation{a, client}, err
}

// objects are those of a file of manifests.
func objects(text []byte) (list []*unstructured.Unstructured, err error) {
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			return nil, err
		}
		list = append(list, o)
	}
}

// applyInstall applies the manifests in their order, takes away what an installation
// before this one had and this one has not, and waits for the controller.
func (a *app) applyInstall(ctx context.Context, o manifests.Options, docs []manifests.Document, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	in, err := a.openInstallation(ctx)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, d := range docs {
		list, err := objects(d.YAML)
		if err != nil {
			return fmt.Errorf("reading the manifests of %s: %w", d.Path, err)
		}
		for _, object := range list {
			keep[objectName(object)] = true
			if err := in.apply(ctx, object); err != nil {
				return err
			}
		}
	}
	left, err := in.installed(ctx, o.Namespace)
	if err != nil {
		return err
	}
	for _, object := range left {
		if keep[objectName(object)] {
			continue
		}
		if err := in.remove(ctx, object); err != nil {
			return err
		}
		a.note("removed %s, which is not needed any more", objectName(object))
	}
	in.noteMissing(ctx, o)
	if err := in.awaitAvailable(ctx, o.Namespace, manifests.Controller); err != nil {
		return err
	}
	a.say("Sluice runs in namespace %s", o.Namespace)
	return nil
}

// installCRDs applies nothing but the definition of Release.
func (a *app) installCRDs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*clusterTimeout)
	defer cancel()
	in, err := a.openInstallation(ctx)
	if err != nil {
		return err
	}
	list, err := objects(crds.Release)
	if err != nil {
		return fmt.Errorf("reading the built-in definition: %w", err)
	}
	for _, crd := range list {
		if err := in.apply(ctx, crd); err != nil {
			return err
		}
		a.say("installed %s", crd.GetName())
	}
	return nil
}

// objectName names an object for people.
func objectName(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// apply applies an object of an installed kind; of a definition it waits until it is
// served.
func (in *installation) apply(ctx context.Context, object *unstructured.Unstructured) error {
	kind, err := kindOf(object)
	if err != nil {
		return err
	}
	resource := in.client.Resource(kind.resource).Namespace(object.GetNamespace())
	if _, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: kind.manager, Force: true}); err != nil {
		return installError("applying", object, err)
	}
	if kind.resource == crdResource {
		if err := awaitEstablished(ctx, in.client, object.GetName()); err != nil {
			return err
		}
	}
	in.note("applied %s", objectName(object))
	return nil
}

func kindOf(object *unstructured.Unstructured) (installedKind, error) {
	for _, k := range installedKinds {
		if k.kind == object.GetKind() && k.resource.GroupVersion().String() == object.GetAPIVersion() {
			return k, nil
		}
	}
	return installedKind{}, fmt.Errorf("%s is of no kind that install knows", objectName(object))
}

func installError(doing string, object *unstructured.Unstructured, err error) error {
	wrapped := fmt.Errorf("%s %s: %w", doing, objectName(object), err)
	if apierrors.IsForbidden(err) {
		return withHint(wrapped, "installing takes the rights of a cluster administrator; print the manifests (without --apply) for somebody who has them")
	}
	return wrapped
}

// noteMissing tells of Secrets that the pods would wait for.
func (in *installation) noteMissing(ctx context.Context, o manifests.Options) {
	for _, name := range o.Secrets() {
		_, err := in.client.Resource(secretResource).Namespace(o.Namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			in.note("note: Secret %s/%s does not exist, and the controller does not start without it; make it now: kubectl create secret generic %s -n %s --from-file=…", o.Namespace, name, name, o.Namespace)
		}
	}
}

// awaitEstablished watches a definition until it is served.
func awaitEstablished(ctx context.Context, client dynamic.Interface, name string) error {
	err := awaitObject(ctx, client.Resource(crdResource), name, func(crd *unstructured.Unstructured) bool {
		conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
				return true
			}
		}
		return false
	})
	if err != nil {
		return withHint(fmt.Errorf("the API server does not serve %s yet: %w", name, err), "kubectl describe crd %s", name)
	}
	return nil
}

// awaitObject watches an object until it is as wanted; a watch that ends is begun
// again.
func awaitObject(ctx context.Context, resource dynamic.ResourceInterface, name string, wanted func(*unstructured.Unstructured) bool) error {
	for {
		w, err := resource.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			return fmt.Errorf("watching %s: %w", name, err)
		}
		for event := range w.ResultChan() {
			if o, ok := event.Object.(*unstructured.Unstructured); ok && event.Type != watch.Deleted && wanted(o) {
				w.Stop()
				return nil
			}
		}
		w.Stop()
		if !pause(ctx, time.Second) {
			return context.Cause(ctx)
		}
	}
}

// awaitAvailable waits until all replicas of a Deployment are there, and says of what
// is missing why.
func (in *installation) awaitAvailable(ctx context.Context, namespace, name string) error {
	said := ""
	err := awaitObject(ctx, in.client.Resource(deploymentResource).Namespace(namespace), name, func(d *unstructured.Unstructured) bool {
		ready, text := available(d)
		if !ready && text != said {
			in.note("waiting for the controller: %s", text)
			said = text
		}
		return ready
	})
	if err == nil {
		return nil
	}
	why := said
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), clusterTimeout)
	defer cancel()
	if reasons := in.waiting(asking, namespace); len(reasons) > 0 {
		why = strings.Join(reasons, "; ")
	}
	return codedError{withHint(fmt.Errorf("the controller does not run: %s: %w", why, err), "kubectl describe pods -n %s; the manifests are applied, and the controller starts when what it lacks is there", namespace), exitNotReady}
}

// available reports whether a Deployment has all its replicas, and how far it is.
func available(d *unstructured.Unstructured) (ready bool, text string) {
	count := func(fields ...string) int64 {
		n, _, _ := unstructured.NestedInt64(d.Object, fields...)
		return n
	}
	want, updated, have := count("spec", "replicas"), count("status", "updatedReplicas"), count("status", "availableReplicas")
	current := count("status", "observedGeneration") >= d.GetGeneration()
	all := count("status", "replicas") == want
	return current && all && updated == want && have == want, fmt.Sprintf("%d of %d replicas are available", min(have, updated), want)
}

// waiting is why pods of the controller do not run, as far as they say.
func (in *installation) waiting(ctx context.Context, namespace string) (reasons []string) {
	list, err := in.client.Resource(podResource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=sluice"})
	if err != nil {
		return nil
	}
	for i := range list.Items {
		var pod corev1.Pod
		if runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &pod) != nil {
			continue
		}
		for _, c := range pod.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil && w.Reason != "" {
				reasons = append(reasons, strings.TrimSpace("pod "+pod.Name+": "+w.Reason+" "+w.Message))
			}
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				reasons = append(reasons, "pod "+pod.Name+": "+c.Message)
			}
		}
	}
	return reasons
}
