package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// rewatchEvents is how long is waited before a watch that has ended is begun again.
const rewatchEvents = time.Second

// watchEvents prints Events as they come until ctx ends: those that there are first.
func (a *app) watchEvents(ctx context.Context, releases *clusterReleases, chosen []v1alpha1.Release) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches, changed := make(chan []eventsv1.Event), make(chan struct{}, 1)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel(nil)
	for _, namespace := range namespacesOf(chosen) {
		following.Go(func() {
			if err := followEvents(ctx, releases.client, namespace, batches); err != nil {
				cancel(err)
			}
		})
		releases.watch(ctx, namespace, changed)
	}
	owned := ownedBy(chosen)
	seen := map[string]string{} // version by uid
	for {
		select {
		case <-ctx.Done():
			return causeUnlessAsked(ctx)
		case <-changed:
			// What belongs to the releases has changed with them.
			if now, err := releases.again(ctx, chosen); err == nil {
				owned = ownedBy(now)
			}
		case batch := <-batches:
			for _, v := range viewEvents(batch, owned) {
				if seen[v.uid] == v.version {
					continue
				}
				seen[v.uid] = v.version
				if err := a.printEvent(v); err != nil {
					return err
				}
			}
		}
	}
}

// causeUnlessAsked is why ctx has ended; nil where a person has ended it.
func causeUnlessAsked(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return cause
	}
	return nil
}

// again reads Releases anew; those that are gone are left out.
func (r *clusterReleases) again(ctx context.Context, chosen []v1alpha1.Release) ([]v1alpha1.Release, error) {
	were := map[string]bool{}
	for _, c := range chosen {
		were[c.Namespace+"/"+c.Name] = true
	}
	var now []v1alpha1.Release
	for _, namespace := range namespacesOf(chosen) {
		list, err := r.client.Releases(ctx, namespace)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			if were[l.Namespace+"/"+l.Name] {
				now = append(now, l)
			}
		}
	}
	return now, nil
}

// followEvents sends the Events of a namespace, all that there are first. It fails
// when these cannot be listed; what breaks off later is begun again.
func followEvents(ctx context.Context, client *cluster.Client, namespace string, batches chan<- []eventsv1.Event) error {
	send := func(batch []eventsv1.Event) {
		select {
		case batches <- batch:
		case <-ctx.Done():
		}
	}
	for first := true; ctx.Err() == nil; first = false {
		list, version, err := client.Events(ctx, namespace)
		if err != nil && first {
			return err
		}
		send(list)
		if w, err := client.WatchEvents(ctx, namespace, version); err == nil {
			for event := range w.ResultChan() {
				if e, ok := event.Object.(*eventsv1.Event); ok && event.Type != "DELETED" {
					send([]eventsv1.Event{*e})
				}
			}
			w.Stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(rewatchEvents):
		}
	}
	return nil
}

// printEvent prints one Event: of JSON a line, of YAML a document.
func (a *app) printEvent(v eventView) error {
	switch a.output {
	case "json":
		return json.NewEncoder(a.Stdout).Encode(v)
	case "yaml":
		out, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("writing YAML: %w", err)
		}
		_, err = fmt.Fprintf(a.Stdout, "---\n%s", out)
		return err
	}
	for _, l := range v.lines(a.Now(), a.width(), a.painter(a.Stdout)) {
		if _, err := fmt.Fprintln(a.Stdout, l); err != nil {
			return err
		}
	}
	return nil
}
