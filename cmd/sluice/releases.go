package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// clusterReleases reads Release objects: what the reconciler reported.
type clusterReleases struct{ client client.WithWatch }

// openReleases connects to the cluster.
func (a *app) openReleases() (*clusterReleases, error) {
	config, err := a.restConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = clusterTimeout
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, clusterError(config.Host, err)
	}
	return &clusterReleases{c}, nil
}

// list reads the releases of a namespace by name.
func (r *clusterReleases) list(ctx context.Context, namespace string) (map[string]*v1alpha1.Release, error) {
	var list v1alpha1.ReleaseList
	if err := r.client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, clusterError("", err)
	}
	found := map[string]*v1alpha1.Release{}
	for i := range list.Items {
		found[list.Items[i].Name] = &list.Items[i]
	}
	return found, nil
}

// clusterError says what the usual failures of a cluster mean.
func clusterError(host string, err error) error {
	switch {
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		return withHint(fmt.Errorf("the cluster does not know Release objects: %w", err), "sluice install --crds")
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		return withHint(fmt.Errorf("the cluster refuses: %w", err), "check the user of the kubeconfig's context, and its rights")
	}
	if host != "" {
		err = fmt.Errorf("the cluster at %s does not answer: %w", host, err)
	} else {
		err = fmt.Errorf("the cluster does not answer: %w", err)
	}
	return withHint(err, "check that it runs and that --kubeconfig and --context name the right one")
}

// clusterHealth is promotion.Health out of Release objects.
type clusterHealth struct {
	releases *clusterReleases
	missing  error // why there are none
	project  envrepo.Project
}

// health connects promotion's gates to the cluster. Without a cluster, health
// is unknown, and a gate that asks for it waits.
func (a *app) health(project envrepo.Project) clusterHealth {
	releases, err := a.openReleases()
	return clusterHealth{releases, err, project}
}

// Release reports on a component in an environment.
func (h clusterHealth) Release(ctx context.Context, environment, component string) (promotion.HealthReport, error) {
	if h.missing != nil {
		return promotion.HealthReport{Message: h.missing.Error()}, nil
	}
	namespace := ""
	for _, e := range h.project.Environments {
		if e.Name == environment {
			namespace = e.Namespace
		}
	}
	var rel v1alpha1.Release
	err := h.releases.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: component}, &rel)
	switch {
	case apierrors.IsNotFound(err):
		return promotion.HealthReport{Message: fmt.Sprintf("the cluster has no release %s in namespace %s", component, namespace)}, nil
	case err != nil:
		return promotion.HealthReport{Message: "the cluster could not be asked"}, clusterError("", err)
	case rel.Spec.Environment != environment:
		return promotion.HealthReport{Message: fmt.Sprintf("release %s in namespace %s is of environment %q", component, namespace, rel.Spec.Environment)}, nil
	}
	return healthReport(&rel), nil
}

// healthReport is what a Release object says about itself.
func healthReport(rel *v1alpha1.Release) promotion.HealthReport {
	ready := rel.Condition(v1alpha1.ConditionReady)
	report := promotion.HealthReport{Known: true, Ready: rel.Ready(), Digests: rel.Digests(), Message: ready.Message}
	if report.Ready {
		report.Since = ready.LastTransitionTime.Time
	}
	return report
}

// watch sends on the returned channel whenever a release of a namespace may
// have changed, until ctx ends. A watch that the API server ends is begun
// again, at most once a second, and counts as a change.
func (r *clusterReleases) watch(ctx context.Context, namespaces []string) <-chan struct{} {
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, namespace := range namespaces {
		go wait.UntilWithContext(ctx, func(ctx context.Context) {
			w, err := r.client.Watch(ctx, &v1alpha1.ReleaseList{}, client.InNamespace(namespace))
			if err != nil {
				return
			}
			defer w.Stop()
			for range w.ResultChan() {
				notify()
			}
			notify()
		}, time.Second)
	}
	return changed
}

// age is a duration as kubectl prints it.
func age(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	d := now.Sub(then)
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// isNoCluster reports whether err says that no cluster is configured.
func isNoCluster(err error) bool {
	var none errNoCluster
	return errors.As(err, &none)
}
