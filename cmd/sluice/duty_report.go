package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion/reports"
)

// report writes signed reports of the environments that releases were reported of:
// when one has changed, and before the last report is over.
func (d *duties) report(ctx context.Context, writer *reports.Writer, releases *clusterReleases) {
	try := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.stale:
		case <-timer.C:
		}
		if !pause(ctx, spacing) { // more may change in a moment
			return
		}
		renew, err := d.reportAll(ctx, writer, releases)
		d.problem("reporting health", err)
		wait := renew.Sub(d.app.Now())
		if err != nil {
			try++
			wait = dutyBackoff(try)
		} else {
			try = 0
		}
		timer.Stop()
		if err != nil || !renew.IsZero() {
			timer.Reset(max(wait, 0))
		}
	}
}

// reportAll writes each report that says something new, and says when the first has
// to be renewed. What cannot be read from the cluster is not reported on: the report
// that is there runs out.
func (d *duties) reportAll(ctx context.Context, writer *reports.Writer, releases *clusterReleases) (renew time.Time, err error) {
	d.mu.Lock()
	namespaces := maps.Clone(d.namespaces)
	d.mu.Unlock()
	for _, environment := range slices.Sorted(maps.Keys(namespaces)) {
		list, err := releases.client.Releases(ctx, namespaces[environment])
		if err != nil {
			return renew, err
		}
		said := []reports.Release{}
		for i := range list {
			rel := &list[i]
			if rel.Spec.Environment == environment && rel.Name != envrepo.EnvironmentRelease {
				said = append(said, reports.FromHealth(rel.Name, healthReport(rel)))
			}
		}
		next, err := writer.Write(ctx, environment, said)
		if err != nil {
			return renew, err
		}
		if renew.IsZero() || next.Before(renew) {
			renew = next
		}
	}
	return renew, nil
}
