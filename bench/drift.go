package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sluice-dev/sluice/bench/figures"
)

// declared is the value that ConfigMaps have in the repository.
const declared = "one"

// Each release has four ConfigMaps among its objects.
const driftObjects, driftMaps = 8, 4

// runDrift has somebody change and delete ConfigMaps, one and many at once, and measures from
// the first write until a watch has seen all of them as declared. The baseline is a
// bare watch that applies what has changed.
func runDrift(ctx context.Context, b *bench) (err error) {
	releases := b.samples(25, 3)
	// Corrections too close together count as a fight and are made less often: the
	// engine's clock is set forward between rounds.
	clock := clocktesting.NewFakeClock(time.Now())
	e, err := b.launch(ctx, releases, driftObjects, engineOptions{clock: clock, pollInterval: 24 * time.Hour, resync: 1000 * time.Hour})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	bare, err := startBareWatch(ctx, b, releases)
	if err != nil {
		return err
	}
	defer bare.stop()
	for _, c := range []struct {
		objects int
		damage  damage
	}{{1, change}, {1, deletion}, {releases * driftMaps, change}} {
		b.progress("%d objects %s", c.objects, c.damage.name)
		var ours, theirs []time.Duration
		var requests []float64
		for range b.samples(15, 3) {
			clock.Step(pauseBetween)
			e.reset()
			took, err := b.spoil(ctx, e.namespace, c.objects, c.damage)
			if err != nil {
				return err
			}
			alone, err := b.spoil(ctx, bare.namespace, c.objects, c.damage)
			if err != nil {
				return err
			}
			if err := e.settle(ctx, time.Second/2); err != nil {
				return err
			}
			n, _ := e.counts()
			ours, theirs, requests = append(ours, took), append(theirs, alone), append(requests, float64(n))
		}
		of := fmt.Sprintf("%s objects of %d releases", figures.Count(c.objects), releases)
		if c.objects == 1 {
			of = "1 object"
		}
		const against = "bare watch and patch"
		b.record(figures.Figure{Case: of, Measure: c.damage.name + " to restored", Unit: figures.Milliseconds, Spread: figures.Durations(ours)}.
			Against(against, figures.Durations(theirs)))
		b.record(figures.Figure{Case: of, Measure: c.damage.name + ", requests", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(requests...)}.
			Against(against, figures.SpreadOf(float64(c.objects))))
	}
	return nil
}

// pauseBetween is long enough for corrections not to count as a fight.
const pauseBetween = 2 * time.Minute

// damage is what somebody does to a ConfigMap.
type damage struct {
	name string
	do   func(ctx context.Context, maps typed.ConfigMapInterface, name string) error
}

var change = damage{"changed", func(ctx context.Context, maps typed.ConfigMapInterface, name string) error {
	_, err := maps.Patch(ctx, name, types.MergePatchType, []byte(`{"data":{"value":"spoiled"}}`), metav1.PatchOptions{FieldManager: "somebody"})
	return err
}}

var deletion = damage{"deleted", func(ctx context.Context, maps typed.ConfigMapInterface, name string) error {
	return maps.Delete(ctx, name, metav1.DeleteOptions{})
}}

// spoil damages n ConfigMaps of a namespace and returns how long it took until all of
// them had been damaged and were as declared again.
func (b *bench) spoil(ctx context.Context, namespace string, n int, damage damage) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("no correction within a minute"))
	defer cancel()
	api, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return 0, err
	}
	maps := api.CoreV1().ConfigMaps(namespace)
	list, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	chosen := map[string]bool{} // whether it has been seen as damaged
	for _, o := range list.Items {
		if o.Data["value"] == declared && len(chosen) < n {
			chosen[o.Name] = false
		}
	}
	if len(chosen) < n {
		return 0, errors.New("there are too few ConfigMaps as declared to change")
	}
	w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	began := time.Now()
	g, writing := errgroup.WithContext(ctx)
	g.SetLimit(concurrency + 1) // the one that looks on is another
	var names []string
	for name := range chosen {
		names = append(names, name)
	}
	g.Go(func() error { return awaitCorrected(ctx, w, chosen) })
	for _, name := range names {
		g.Go(func() error { return damage.do(writing, maps, name) })
	}
	err = g.Wait()
	return time.Since(began), err
}

// awaitCorrected follows a watch until each of the objects has been seen as damaged,
// and as declared after that.
func awaitCorrected(ctx context.Context, w watch.Interface, left map[string]bool) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case event, open := <-w.ResultChan():
			if !open {
				return errors.New("the watch has ended")
			}
			o, ok := event.Object.(*corev1.ConfigMap)
			if !ok {
				continue
			}
			spoiled, ours := left[o.Name]
			switch {
			case !ours:
			case event.Type == watch.Deleted, o.Data["value"] != declared:
				left[o.Name] = true
			case spoiled:
				delete(left, o.Name)
			}
			if len(left) == 0 {
				return nil
			}
		}
	}
}

// bareWatch corrects ConfigMaps and knows nothing else.
type bareWatch struct {
	namespace string
	stop      func()
}

func startBareWatch(ctx context.Context, b *bench, releases int) (bareWatch, error) {
	namespace, all, p, err := b.prepared(ctx, releases, driftObjects)
	if err != nil {
		return bareWatch{}, err
	}
	if err := p.apply(ctx, all...); err != nil {
		return bareWatch{}, err
	}
	byName := map[string]*unstructured.Unstructured{}
	for _, o := range all {
		if o.GetKind() == "ConfigMap" {
			byName[o.GetName()] = o
		}
	}
	api, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return bareWatch{}, err
	}
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	w, err := watchFrom(watching, api.CoreV1().ConfigMaps(namespace))
	if err != nil {
		cancel()
		return bareWatch{}, err
	}
	go func() {
		defer close(ended)
		correct(watching, w, p, byName)
	}()
	return bareWatch{namespace, func() { cancel(); <-ended }}, nil
}

// watchFrom watches what comes after now.
func watchFrom(ctx context.Context, maps typed.ConfigMapInterface) (watch.Interface, error) {
	list, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return maps.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
}

// correct applies each object that an event shows to be otherwise, until the watch
// ends. A correction that fails shows in the measurement, which then ends without one.
func correct(ctx context.Context, w watch.Interface, p patcher, byName map[string]*unstructured.Unstructured) {
	defer w.Stop()
	var g errgroup.Group
	g.SetLimit(concurrency)
	defer func() { _ = g.Wait() }()
	for event := range w.ResultChan() {
		o, ok := event.Object.(*corev1.ConfigMap)
		if !ok || event.Type != watch.Deleted && o.Data["value"] == declared || byName[o.Name] == nil {
			continue
		}
		g.Go(func() error { return p.apply(ctx, byName[o.Name]) })
	}
}
