package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/bench/figures"
	"github.com/sluice-dev/sluice/gitrepo"
)

// pushObjects is how many objects a release has here.
const pushObjects = 4

// runPush measures the time from a push's end until the API server has the new digest
// of one component out of ever more, and what the push leads to. The environment grows
// meanwhile. The baseline fetches the same commits with the git program, and applies a
// Deployment with the same digest.
func runPush(ctx context.Context, b *bench) (err error) {
	sizes := b.sizes([]int{10, 100, 1000, 5000}, []int{10, 100})
	e, err := b.launch(ctx, sizes[0], pushObjects, engineOptions{pollInterval: time.Hour})
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
	pushed := map[string]bool{}
	for _, components := range sizes {
		for _, name := range b.pushTargets(components) {
			pushed[name] = true
		}
	}
	for i, components := range sizes {
		if i > 0 {
			b.progress("first sync of %d more releases", components-sizes[i-1])
			if err := e.grow(ctx, sizes[i-1], components, func(name string) files {
				if pushed[name] {
					return component(e.namespace, name, pushObjects)
				}
				return bystander(e.namespace, name)
			}); err != nil {
				return err
			}
		}
		if err := b.calm(ctx); err != nil {
			return err
		}
		b.progress("pushes to one of %d components", components)
		if err := b.pushes(ctx, e, pusher, bare, components); err != nil {
			return err
		}
	}
	return b.heapProfile()
}

// pushWarm is how many pushes are not counted: the first ones make connections, and
// fetch what came meanwhile.
const pushWarm = 2

// pushTargets are the components of an environment that are pushed to, all over it.
func (b *bench) pushTargets(components int) (out []string) {
	rounds := b.samples(10, 5) + pushWarm
	for i := range rounds {
		out = append(out, componentName(i*components/rounds))
	}
	return out
}

// pushes pushes new digests of single components, one after the other.
func (b *bench) pushes(ctx context.Context, e *engine, pusher *gitrepo.Repository, bare barePush, components int) error {
	var times, baseline []time.Duration
	var requests, renders []float64
	for i, name := range b.pushTargets(components) {
		digest := digest(components + i)
		if err := push(ctx, pusher, "deploy "+name, files{overlayPath(name): overlayOf(e.namespace, name, digest)}); err != nil {
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
		alone, err := bare.once(ctx, digest)
		if err != nil {
			return err
		}
		if i >= pushWarm {
			times, baseline = append(times, took), append(baseline, alone)
			requests, renders = append(requests, float64(n)), append(renders, float64(r))
		}
	}
	of, against := "1 of "+figures.Count(components)+" components", "git fetch + bare patch"
	b.record(figures.Figure{Case: of, Measure: "push to applied", Unit: figures.Milliseconds, Spread: figures.Durations(times)}.
		Against(against, figures.Durations(baseline)))
	b.record(figures.Figure{Case: of, Measure: "requests", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(requests...)}.
		Against(against, figures.SpreadOf(1)))
	b.record(figures.Figure{Case: of, Measure: "releases rendered", Unit: figures.Renders, Absolute: true, Spread: figures.SpreadOf(renders...)}.
		Against("releases changed", figures.SpreadOf(1)))
	return nil
}

// barePush is the least that whoever follows a branch has to do.
type barePush struct {
	patcher
	mirror     string
	deployment *unstructured.Unstructured
}

func newBarePush(ctx context.Context, b *bench, dir string) (barePush, error) {
	_, objects, patcher, err := b.prepared(ctx, 1, pushObjects)
	if err != nil {
		return barePush{}, err
	}
	p := barePush{patcher: patcher}
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
