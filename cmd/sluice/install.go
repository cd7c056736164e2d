package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/deploy/crds"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

var crdResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

func newInstallCommand(a *app) *cobra.Command {
	var onlyCRDs, printOnly bool
	c := &cobra.Command{
		Use:   "install --crds",
		Short: "Install the Release custom resource into a cluster",
		Long: `Installs the definition of Release, in which the reconciler keeps its inventory
and reports how each release is doing. Run it once for a cluster, and again
after an upgrade.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !onlyCRDs {
				return withHint(usagef("install needs --crds"), "the controller itself runs outside the cluster for now: sluice controller --help")
			}
			if printOnly {
				_, err := a.Stdout.Write(crds.Release)
				return err
			}
			return a.installCRDs(c.Context())
		},
	}
	c.Flags().BoolVar(&onlyCRDs, "crds", false, "install the custom resource definitions")
	c.Flags().BoolVar(&printOnly, "print", false, "print the manifests instead of applying them")
	return c
}

// installCRDs applies the definition and waits until the API server serves it.
func (a *app) installCRDs(ctx context.Context) error {
	config, err := a.restConfig()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*clusterTimeout)
	defer cancel()
	reach, err := cluster.New(config)
	if err != nil {
		return err
	}
	if err := reach.Ping(ctx); err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	var crd unstructured.Unstructured
	if err := yaml.Unmarshal(crds.Release, &crd.Object); err != nil {
		return fmt.Errorf("reading the built-in definition: %w", err)
	}
	if _, err := client.Resource(crdResource).Apply(ctx, crd.GetName(), &crd, metav1.ApplyOptions{FieldManager: "sluice", Force: true}); err != nil {
		return fmt.Errorf("applying %s: %w", crd.GetName(), err)
	}
	if err := awaitEstablished(ctx, client, crd.GetName()); err != nil {
		return err
	}
	a.say("installed %s", crd.GetName())
	return nil
}

// awaitEstablished watches a definition until it is served.
func awaitEstablished(ctx context.Context, client dynamic.Interface, name string) error {
	w, err := client.Resource(crdResource).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return fmt.Errorf("watching %s: %w", name, err)
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		crd, ok := event.Object.(*unstructured.Unstructured)
		if !ok || event.Type == watch.Deleted {
			continue
		}
		conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
				return nil
			}
		}
	}
	return withHint(fmt.Errorf("the API server does not serve %s yet", name), "kubectl describe crd %s", name)
}
