package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// clusterReleases reads Release objects: what the reconciler reported.
type clusterReleases struct{ client *cluster.Client }

// openReleases connects to the cluster.
func (a *app) openReleases() (*clusterReleases, error) {
	config, err := a.restConfig()
	if err != nil {
		return nil, err
	}
	client, err := cluster.New(config)
	if err != nil {
		return nil, err
	}
	return &clusterReleases{client}, nil
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
	rel, err := h.releases.client.Release(ctx, namespace, component)
	switch {
	case err != nil:
		return promotion.HealthReport{Message: "the cluster could not be asked"}, err
	case rel == nil:
		return promotion.HealthReport{Message: fmt.Sprintf("the cluster has no release %s in namespace %s", component, namespace)}, nil
	case rel.Spec.Environment != environment:
		return promotion.HealthReport{Message: fmt.Sprintf("release %s in namespace %s is of environment %q", component, namespace, rel.Spec.Environment)}, nil
	}
	return healthReport(rel), nil
}

// healthReport is what a Release object says about itself.
func healthReport(rel *v1alpha1.Release) promotion.HealthReport {
	ready := rel.Condition(v1alpha1.ConditionReady)
	report := promotion.HealthReport{Known: true, Ready: rel.Ready(), Digests: rel.Digests(), Message: ready.Message, Revision: rel.Status.ObservedRevision}
	if report.Ready {
		report.Since = ready.LastTransitionTime.Time
	}
	report.Failed = !report.Ready && rel.Condition(v1alpha1.ConditionStalled).Status == metav1.ConditionTrue
	for _, s := range rel.Status.Served {
		report.Served = append(report.Served, promotion.Served{Digest: s.Digest, Since: s.Since.Time, Until: s.Until.Time})
	}
	return report
}

// watch sends on changed whenever a release of a namespace may have changed, until
// ctx ends.
func (r *clusterReleases) watch(ctx context.Context, namespace string, changed chan<- struct{}) {
	notify := func(*cluster.Metadata, bool) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	// A watch that breaks off is begun again by itself, and what changed meanwhile
	// is told then.
	r.client.Watch(ctx, namespace, v1alpha1.GroupVersion.WithKind(v1alpha1.ReleaseKind), cluster.WatchOptions{Event: notify, Failed: func(error) {}})
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
