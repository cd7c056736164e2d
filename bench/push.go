package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/bench/figures"
)

// runPush measures the time from a push's end until the API server has the new digest
// of one component out of ever more, and what the push leads to.
func runPush(ctx context.Context, b *bench) error {
	for _, components := range b.sizes([]int{10, 100, 1000, 5000}, []int{10, 100}) {
		if err := pushInto(ctx, b, components); err != nil {
			return err
		}
	}
	return nil
}

// pushInto pushes into an environment of so many components. Its baseline fetches the
// same commits with the git program, and applies a Deployment with the same digest.
func pushInto(ctx context.Context, b *bench, components int) (err error) {
	e, err := b.launch(ctx, components, 4, engineOptions{pollInterval: time.Hour})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	bare, err := newBarePush(ctx, b, e.dir)
	if err != nil {
		return err
	}
	pusher, err := b.pusher(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pusher.Close()) }()
	if err := b.calm(ctx); err != nil {
		return err
	}
	b.progress("pushes to one of %d components", components)
	var times, baseline []time.Duration
	var requests, renders []float64
	const warm = 2 // the first ones make connections
	rounds := b.samples(30, 5) + warm
	for i := range rounds {
		name := componentName(i * components / rounds)
		if err := push(ctx, pusher, "deploy "+name, files{overlayPath(name): overlayOf(e.namespace, name, digest(i+1))}); err != nil {
			return err
		}
		e.reset()
		applied := e.patched("/deployments/"+name, 1)
		began := time.Now()
		e.notified()
		if err := await(ctx, applied); err != nil {
			return err
		}
		took := time.Since(began)
		if err := e.settle(ctx, time.Second/2); err != nil {
			return err
		}
		n, r := e.counts()
		alone, err := bare.once(ctx, digest(i+1))
		if err != nil {
			return err
		}
		if i >= warm {
			times, baseline = append(times, took), append(baseline, alone)
			requests, renders = append(requests, float64(n)), append(renders, float64(r))
		}
	}
	of := "1 of " + figures.Count(components) + " components"
	b.record(figures.Figure{Case: of, Measure: "push to applied", Unit: figures.Milliseconds, Spread: figures.Durations(times)}.
		Against("git fetch + bare patch", figures.Durations(baseline)))
	b.record(figures.Figure{Case: of, Measure: "requests", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(requests...)})
	b.record(figures.Figure{Case: of, Measure: "releases rendered", Unit: figures.Renders, Absolute: true, Spread: figures.SpreadOf(renders...)})
	return b.heapProfile()
}

// barePush is the least that whoever follows a branch has to do.
type barePush struct {
	patcher
	mirror     string
	deployment *unstructured.Unstructured
}

func newBarePush(ctx context.Context, b *bench, dir string) (barePush, error) {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return barePush{}, err
	}
	objects, err := rendered(ctx, project(namespace, 1, 4), 1)
	if err != nil {
		return barePush{}, err
	}
	p := barePush{}
	if p.patcher, err = b.newPatcher(objects); err != nil {
		return p, err
	}
	for _, o := range objects {
		if o.GetKind() == "Deployment" {
			p.deployment = o
		}
	}
	if p.mirror, err = os.MkdirTemp(b.dir, "mirror-"); err != nil {
		return p, err
	}
	if err := git(ctx, "", nil, "clone", "--quiet", "--mirror", "file://"+dir, p.mirror); err != nil {
		return p, err
	}
	return p, p.apply(ctx, objects...)
}

// once fetches what was pushed and applies the Deployment with a digest.
func (p barePush) once(ctx context.Context, digest string) (time.Duration, error) {
	containers, _, err := unstructured.NestedSlice(p.deployment.Object, "spec", "template", "spec", "containers")
	if err != nil {
		return 0, err
	}
	container := containers[0].(map[string]any)
	name, _, _ := strings.Cut(container["image"].(string), "@")
	container["image"] = name + "@" + digest
	if err := unstructured.SetNestedSlice(p.deployment.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := git(ctx, p.mirror, nil, "fetch", "--quiet"); err != nil {
		return 0, err
	}
	err = p.apply(ctx, p.deployment)
	return time.Since(began), err
}
