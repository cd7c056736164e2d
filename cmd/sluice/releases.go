package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// clusterReleases reads Release objects: what the reconciler reported.
type clusterReleases struct {
	client *cluster.Client

	mu     sync.Mutex
	leases map[string]leaseRead // those that were read lately
}

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
	return &clusterReleases{client: client, leases: map[string]leaseRead{}}, nil
}

// clusterHealth is promotion.Health out of Release objects.
type clusterHealth struct {
	releases   *clusterReleases
	missing    error // why there are none
	project    envrepo.Project
	repository string // identity, as Releases have it
	now        func() time.Time
}

// health connects promotion's gates to the cluster. Without a cluster, health
// is unknown, and a gate that asks for it waits.
func (a *app) health(repo *remoteRepository, project envrepo.Project) clusterHealth {
	releases, err := a.openReleases()
	return clusterHealth{releases, err, project, repositoryIdentity(repo.Name()), a.Now}
}

// Release reports on a component in an environment. What nobody keeps up to date any
// more is not known.
func (h clusterHealth) Release(ctx context.Context, environment, component string) (promotion.HealthReport, error) {
	rel, report, err := h.find(ctx, environment, component)
	if rel == nil {
		return report, err
	}
	problem, err := h.releases.unkept(ctx, rel.Spec.Lease, h.now())
	if problem != "" {
		return promotion.HealthReport{Message: problem}, err
	}
	return healthReport(rel), nil
}

// find reads the Release of a component in an environment, however old it is; where
// there is none that is ours, the report says so.
func (h clusterHealth) find(ctx context.Context, environment, component string) (*v1alpha1.Release, promotion.HealthReport, error) {
	unknown := func(err error, format string, args ...any) (*v1alpha1.Release, promotion.HealthReport, error) {
		return nil, promotion.HealthReport{Message: fmt.Sprintf(format, args...)}, err
	}
	if h.missing != nil {
		return unknown(nil, "%v", h.missing)
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
		return unknown(err, "the cluster could not be asked")
	case rel == nil:
		return unknown(nil, "the cluster has no release %s in namespace %s", component, namespace)
	case rel.Spec.Environment != environment:
		return unknown(nil, "release %s in namespace %s is of environment %q", component, namespace, rel.Spec.Environment)
	case rel.Spec.Project != h.project.Name:
		return unknown(nil, "release %s in namespace %s is of project %q", component, namespace, rel.Spec.Project)
	case rel.Spec.Repository != "" && rel.Spec.Repository != h.repository: // older versions wrote none
		return unknown(nil, "release %s in namespace %s is of a project %s in another repository", component, namespace, rel.Spec.Project)
	}
	return rel, promotion.HealthReport{}, nil
}

// healthReport is what a Release object says about itself.
func healthReport(rel *v1alpha1.Release) promotion.HealthReport {
	ready := rel.Condition(v1alpha1.ConditionReady)
	report := promotion.HealthReport{Known: true, Ready: rel.Ready(), Digests: rel.Digests(), Message: ready.Message, Revision: rel.Status.ObservedRevision}
	if report.Ready {
		report.Since = ready.LastTransitionTime.Time
	}
	report.Failed = !report.Ready && rel.Condition(v1alpha1.ConditionStalled).Status == metav1.ConditionTrue
	for _, t := range rel.Status.Tags {
		report.Tags = append(report.Tags, promotion.TagHealth{Tag: t.Name, Digest: t.Digest, Ready: t.Ready, Message: t.Message})
	}
	for _, s := range rel.Status.Served {
		report.Served = append(report.Served, promotion.Served{Digest: s.Digest, Since: s.Since.Time, Until: s.Until.Time})
	}
	return report
}

// watch sends on changed whenever a release of a namespace may have changed, until
// ctx ends.
func (r *clusterReleases) watch(ctx context.Context, namespace string, changed chan<- struct{}) {
	// A watch that breaks off is begun again by itself, and what changed meanwhile
	// is told then.
	r.client.Watch(ctx, namespace, v1alpha1.GroupVersion.WithKind(v1alpha1.ReleaseKind), notifying(changed))
}

// notifying are the options of a watch that tells of nothing but that there is news.
func notifying(changed chan<- struct{}) cluster.WatchOptions {
	return cluster.WatchOptions{Event: func(*cluster.Metadata, bool) { notify(changed) }, Failed: func(error) {}}
}

// notify says that there is news, where that has not been said and not heard yet: the
// channel has room for one.
func notify(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
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
