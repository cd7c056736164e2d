package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/deploy/manifests"
)

type uninstallOptions struct {
	namespace string
	crds, yes bool
	timeout   time.Duration
}

func newUninstallCommand(a *app) *cobra.Command {
	var o uninstallOptions
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove Sluice from a cluster; what it has deployed stays",
		Long: `Lists what "sluice install" has made, asks, and deletes it: the controller, its
rights and service accounts, and its namespace with the Secrets in it. The
namespaces of the environments stay with all that runs there, and so do the
Releases: installed again, Sluice goes on where it stopped.

With --crds the definition of Release goes too, and with it every Release of the
cluster, those of other controllers included. They hold the inventories: what
leaves the repository while there are none is not deleted when Sluice is
installed again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runUninstall(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.namespace, "namespace", manifests.DefaultHome, "`namespace` of the controller")
	f.BoolVar(&o.crds, "crds", false, "delete the definition of Release, and all Releases")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long to wait until everything is gone")
	return c
}

func (a *app) runUninstall(ctx context.Context, o uninstallOptions) error {
	connecting, cancel := context.WithTimeout(ctx, 2*clusterTimeout)
	defer cancel()
	in, err := a.openInstallation(connecting)
	if err != nil {
		return err
	}
	doomed, notes, err := in.doomed(connecting, o)
	if err != nil {
		return err
	}
	if len(doomed) == 0 {
		a.say("Sluice is not installed with namespace %s: nothing to delete", o.namespace)
		return nil
	}
	for _, object := range doomed {
		a.note("will delete %s", objectName(object))
	}
	for _, n := range notes {
		a.note("note: %s", n)
	}
	if !o.yes {
		if err := a.confirm("Delete these? Workloads of the environments stay. [y/N] "); err != nil {
			return err
		}
	}
	ctx, cancel = context.WithTimeout(ctx, o.timeout)
	defer cancel()
	for _, object := range doomed {
		if err := in.remove(ctx, object); err != nil {
			return err
		}
	}
	for _, object := range doomed {
		if err := in.awaitGone(ctx, object); err != nil {
			return err
		}
	}
	a.say("uninstalled; %d objects deleted", len(doomed))
	return nil
}

// errDeclined says that somebody was asked and did not say yes.
var errDeclined = errors.New("nothing was deleted")

// confirm asks on standard error, and takes anything but yes for no.
func (a *app) confirm(question string) error {
	fmt.Fprint(a.Stderr, question)
	answer, err := bufio.NewReader(a.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	case "":
		fmt.Fprintln(a.Stderr)
	}
	return withHint(errDeclined, "answer y, or give --yes where nobody can be asked")
}

// installed are the objects of an installation, in the order in which they go.
func (in *installation) installed(ctx context.Context, home string) (found []*unstructured.Unstructured, err error) {
	for _, k := range installedKinds {
		list, err := in.client.Resource(k.resource).List(ctx, metav1.ListOptions{LabelSelector: manifests.Label + "=" + home})
		if err != nil {
			return nil, fmt.Errorf("looking for what is installed: listing %s: %w", k.resource.Resource, err)
		}
		for i := range list.Items {
			found = append(found, &list.Items[i])
		}
	}
	return slices.DeleteFunc(found, func(o *unstructured.Unstructured) bool { return !isInstalled(o, home, found) }), nil
}

// isInstalled reports whether install makes such an object. The label alone proves
// nothing: the repository may put it on what it declares, the Namespace of an
// environment included. It writes no roles, which is how an environment's service
// account is told from one of the repository's.
func isInstalled(o *unstructured.Unstructured, home string, labelled []*unstructured.Unstructured) bool {
	switch o.GetKind() {
	case "Namespace":
		return o.GetName() == home
	case "CustomResourceDefinition":
		return false // it is every installation's
	case "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding":
		return true
	case "ServiceAccount":
		if o.GetNamespace() == home {
			return o.GetName() == manifests.Controller
		}
		return o.GetName() != manifests.Controller && slices.ContainsFunc(labelled, func(r *unstructured.Unstructured) bool {
			return r.GetKind() == "Role" && r.GetNamespace() == o.GetNamespace() && r.GetName() == o.GetName()
		})
	}
	return o.GetNamespace() == home && o.GetName() == manifests.Controller
}

// doomed are the objects that uninstall deletes, and what is to be known about them.
func (in *installation) doomed(ctx context.Context, o uninstallOptions) (found []*unstructured.Unstructured, notes []string, err error) {
	if found, err = in.installed(ctx, o.namespace); err != nil {
		return nil, nil, err
	}
	for i, object := range found {
		if object.GetKind() != "Namespace" {
			continue
		}
		stays, err := in.inhabited(ctx, object.GetName())
		if err != nil {
			return nil, nil, err
		}
		if stays != "" {
			found = append(found[:i:i], found[i+1:]...)
			notes = append(notes, fmt.Sprintf("namespace %s stays: %s", object.GetName(), stays))
			break
		}
		notes = append(notes, fmt.Sprintf("the Secrets in namespace %s go with it", object.GetName()))
		break
	}
	if o.crds {
		more, more2, err := in.definition(ctx, releaseResource)
		if err != nil {
			return nil, nil, err
		}
		found, notes = append(found, more...), append(notes, more2...)
	}
	return found, notes, nil
}

// definition is the definition of Releases, and what goes with it.
func (in *installation) definition(ctx context.Context, resource schema.GroupVersionResource) (found []*unstructured.Unstructured, notes []string, err error) {
	crd, err := in.client.Resource(crdResource).Get(ctx, resource.GroupResource().String(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the definition of Release: %w", err)
	}
	releases, err := in.client.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("listing the Releases: %w", err)
	}
	if n := len(releases.Items); n > 0 {
		notes = []string{fmt.Sprintf("%d Releases go with their definition, and with them the inventories of what was applied", n)}
	}
	return []*unstructured.Unstructured{crd}, notes, nil
}

// inhabited says what keeps a namespace from being deleted: workloads or Releases
// that are not the installation's.
func (in *installation) inhabited(ctx context.Context, namespace string) (why string, err error) {
	for _, k := range []struct {
		what string
		list func() (*unstructured.UnstructuredList, error)
	}{
		{"pods", func() (*unstructured.UnstructuredList, error) {
			return in.client.Resource(podResource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name!=sluice", Limit: 1})
		}},
		{"Releases", func() (*unstructured.UnstructuredList, error) {
			return in.client.Resource(releaseResource).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: 1})
		}},
	} {
		list, err := k.list()
		if err != nil && !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("listing the %s of namespace %s: %w", k.what, namespace, err)
		}
		if err == nil && len(list.Items) > 0 {
			return fmt.Sprintf("it has %s that are not the controller's", k.what), nil
		}
	}
	return "", nil
}

// remove deletes the object that was seen. A Deployment is gone when its pods are, so
// that the controller ends in good order while it still has its rights.
func (in *installation) remove(ctx context.Context, object *unstructured.Unstructured) error {
	kind, err := kindOf(object)
	if err != nil {
		return err
	}
	uid, policy := object.GetUID(), metav1.DeletePropagationBackground
	if kind.resource == deploymentResource {
		policy = metav1.DeletePropagationForeground
	}
	err = in.client.Resource(kind.resource).Namespace(object.GetNamespace()).Delete(ctx, object.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &policy})
	if err != nil && !apierrors.IsNotFound(err) {
		return installError("deleting", object, err)
	}
	if kind.resource == deploymentResource {
		return in.awaitGone(ctx, object)
	}
	return nil
}

// awaitGone waits until the object that was seen is no more.
func (in *installation) awaitGone(ctx context.Context, object *unstructured.Unstructured) error {
	kind, err := kindOf(object)
	if err != nil {
		return err
	}
	resource := in.client.Resource(kind.resource).Namespace(object.GetNamespace())
	for {
		present, err := resource.Get(ctx, object.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && present.GetUID() != object.GetUID():
			return nil
		case err != nil && ctx.Err() == nil:
			return installError("looking for", object, err)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return withHint(fmt.Errorf("%s is still being deleted: %w", objectName(object), context.Cause(ctx)), "see what holds it: kubectl get %s %s -o yaml", strings.ToLower(object.GetKind()), object.GetName())
		}
	}
}
