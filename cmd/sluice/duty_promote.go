package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/webhook"
)

// reasonTransient is that of a failure which passes by itself.
const reasonTransient = v1alpha1.ReasonTransientError

// clusterNow is health out of the cluster, with the namespaces that the target
// branch declares now.
type clusterNow struct {
	duties  *duties
	cluster clusterHealth
}

// Release reports on a component in an environment. Of those that this controller
// serves, what it has not looked at itself is not known: it may have changed while none
// ran. What others serve counts while they live.
func (h clusterNow) Release(ctx context.Context, environment, component string) (promotion.HealthReport, error) {
	d, health := h.duties, h.cluster
	d.mu.Lock()
	health.project.Environments = d.known
	looked := d.reported[reconciler.Key{Environment: environment, Release: component}]
	d.mu.Unlock()
	if !slices.Contains(d.served, environment) {
		report, err := health.Release(ctx, environment, component)
		if err != nil || !report.Known {
			d.mu.Lock()
			d.unknown = true
			d.mu.Unlock()
		}
		return report, err
	}
	rel, report, err := health.find(ctx, environment, component)
	switch {
	case rel == nil:
		return report, err
	case !looked:
		return promotion.HealthReport{Message: "the controller has started and not looked at it yet"}, nil
	}
	return healthReport(rel), nil
}

// unknownPause is when health that was not known is asked for again: of a controller
// that comes back nothing tells but its lease.
const unknownPause = time.Minute

// spacing is the least time between two looks at promotions: a rollout reports
// several times in a row.
const spacing = time.Second

// attend looks after the promotions into the environments that are served: after a
// look at the branch that shows something new, when a release has changed, and when
// a gate said it would pass. What a webhook said of one pull request makes it look
// after that one.
func (d *duties) attend(ctx context.Context, service *promotion.Service, releases *clusterReleases, vouched func(context.Context) error) {
	watched := map[string]bool{}
	seen, try := "", 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	var due time.Time // when to look though nothing happens; zero: then only
	for {
		forced := true
		var asked []webhook.Event
		select {
		case <-ctx.Done():
			return
		case <-d.looked:
			forced = false
		case <-d.changed:
		case <-timer.C:
		case <-d.asked.Ready():
			asked = d.asked.Take()
		}
		if seen != "" && answerable(asked) {
			due = earlier(due, d.answer(ctx, service, asked, vouched))
		} else {
			position, err := "", vouched(ctx)
			if err == nil {
				position, err = service.Position(ctx)
			}
			if err == nil && position == seen && !forced {
				continue
			}
			if err == nil {
				due, err = d.turn(ctx, service, releases, watched)
			}
			d.problem("looking after promotions", err)
			if err != nil {
				try++
				due = d.app.Now().Add(dutyBackoff(try))
			} else {
				seen, try = position, 0
			}
		}
		timer.Stop()
		if !due.IsZero() {
			timer.Reset(max(due.Sub(d.app.Now()), 0))
		}
		if !pause(ctx, spacing) {
			return
		}
	}
}

// maxAnswered is how many pull requests are looked after one by one: looking at all
// of an environment costs less than many of them.
const maxAnswered = 10

// answerable reports whether events are about few pull requests.
func answerable(events []webhook.Event) bool {
	return len(events) > 0 && len(events) <= maxAnswered && !slices.Contains(events, webhook.Event{Kind: webhook.Anything})
}

// answer looks after the pull requests that events are about, and says when to look
// at all of them though nothing happens: soon, after a failure.
func (d *duties) answer(ctx context.Context, service *promotion.Service, events []webhook.Event, vouched func(context.Context) error) (due time.Time) {
	failures := []error{vouched(ctx)}
	if failures[0] != nil {
		events = nil // what the branch says is not believed
	}
	for _, e := range events {
		var a promotion.Advance
		var err error
		if e.Kind == webhook.PullRequest {
			a, err = service.AdvanceOne(ctx, e.Number, d.served)
		} else {
			a, err = service.AdvanceHead(ctx, e.Commit, d.served)
		}
		failures = append(append(failures, err), a.Failures...)
		due = earlier(due, d.advanced(a))
		if err == nil {
			d.gates(a, false)
		}
	}
	err := errors.Join(failures...)
	if d.problem("looking after a pull request", err); err != nil {
		due = earlier(due, d.app.Now().Add(dutyBackoff(1)))
	}
	return due
}

// advanced tells what was done, and says when to look again though nothing happens.
func (d *duties) advanced(a promotion.Advance) time.Time {
	d.tell(a)
	if len(a.Merged) > 0 {
		poke(d.nudge)
	}
	return a.Until
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// turn looks after all environments once, and says when to look again though nothing
// happens.
func (d *duties) turn(ctx context.Context, service *promotion.Service, releases *clusterReleases, watched map[string]bool) (until time.Time, err error) {
	environments, err := service.Environments(ctx)
	if err != nil {
		return until, err
	}
	d.mu.Lock()
	d.known, d.unknown = environments, false
	d.mu.Unlock()
	d.watchSources(ctx, environments, releases, watched)
	var failures []error
	for _, name := range d.served {
		a, err := service.Advance(ctx, name)
		failures = append(append(failures, err), a.Failures...)
		until = earlier(until, d.advanced(a))
		if err == nil {
			d.gates(a, true)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if again := d.app.Now().Add(unknownPause); d.unknown && (until.IsZero() || again.Before(until)) {
		until = again
	}
	return until, errors.Join(failures...)
}

// watchSources follows the releases of environments that are promoted from, run in
// this cluster and are another controller's to serve.
func (d *duties) watchSources(ctx context.Context, environments []envrepo.Environment, releases *clusterReleases, watched map[string]bool) {
	for _, target := range environments {
		from := target.Promotion.From
		i := slices.IndexFunc(environments, func(e envrepo.Environment) bool { return e.Name == from })
		if i < 0 || !slices.Contains(d.served, target.Name) || slices.Contains(d.served, from) || len(d.keys[from]) > 0 {
			continue
		}
		if namespace := environments[i].Namespace; !watched[namespace] {
			watched[namespace] = true
			releases.client.Watch(ctx, namespace, v1alpha1.GroupVersion.WithKind(v1alpha1.ReleaseKind), cluster.WatchOptions{
				Event: func(*cluster.Metadata, bool) { poke(d.changed) }, Failed: func(error) {},
			})
		}
	}
}

// tell logs what was done, and what automation awaits when that has changed.
func (d *duties) tell(a promotion.Advance) {
	for _, p := range a.Proposed {
		d.tellOnce("proposed "+fmt.Sprint(p.PullRequest.Number), p.Message, "environment", a.Environment)
	}
	for _, t := range a.Tended {
		if t.Closed != "" {
			d.log.Info("closed a pull request", "number", t.PullRequest.Number, "environment", a.Environment, "reason", t.Closed)
		}
	}
	for _, number := range a.Merged {
		d.log.Info("merged a pull request", "number", number, "environment", a.Environment)
	}
	for _, s := range a.Steps {
		d.tellOnce("step "+a.Environment+" "+s.Component, s.Message, "environment", a.Environment, "component", s.Component)
	}
}

// tellOnce logs a text when it differs from the one before about the same.
func (d *duties) tellOnce(subject, text string, pairs ...any) {
	text = strings.TrimSpace(text)
	d.mu.Lock()
	same := d.said[subject] == text
	d.said[subject] = text
	d.mu.Unlock()
	if !same {
		d.log.Info(text, pairs...)
	}
}
