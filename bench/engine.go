package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/render"
)

// concurrency is how many releases, and how many objects of a bare loop, are written
// at the same time. More make neither faster.
const concurrency = 8

// manager is the field manager of the baselines.
const manager = "bench"

// engine is a reconciler in this process that follows a repository.
type engine struct {
	*meter
	namespace string
	dir       string // the bare repository
	notify    chan struct{}
	stop      func() error
}

// engineOptions differ between scenarios.
type engineOptions struct {
	clock        clock.WithTicker // nil: the real one
	pollInterval time.Duration
	resync       time.Duration
}

// start runs an engine for environment production of a repository, until stop is
// called. before, if any, is called with its meter just before it begins.
func (b *bench) start(ctx context.Context, namespace, dir string, o engineOptions, before func(*meter)) (*engine, error) {
	repo, err := b.open(ctx, dir)
	if err != nil {
		return nil, err
	}
	e := &engine{meter: &meter{}, namespace: namespace, dir: dir, notify: make(chan struct{}, 1)}
	r, err := reconciler.New(reconciler.Config{
		REST: e.config(b.config), Source: source{repo, e.meter}, Concurrency: concurrency, Clock: o.clock,
		Environments: []reconciler.EnvironmentConfig{{Name: "production", Namespace: namespace}},
		Reporter:     e.meter,
	})
	if err != nil {
		return nil, errors.Join(err, repo.Close())
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	if before != nil {
		before(e.meter)
	}
	go func() {
		defer close(ended)
		_ = r.Run(running, reconciler.RunOptions{PollInterval: o.pollInterval, Notify: e.notify, Resync: o.resync})
	}()
	e.stop = func() error {
		cancel()
		<-ended
		return repo.Close()
	}
	return e, nil
}

// launch makes a namespace and a repository of so many releases, starts an engine and
// waits until all are ready.
func (b *bench) launch(ctx context.Context, releases, objects int, o engineOptions) (*engine, error) {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := b.repository(ctx, commit{"Start", project(namespace, releases, objects)})
	if err != nil {
		return nil, err
	}
	b.progress("first sync of %d releases", releases)
	var ready <-chan struct{}
	e, err := b.start(ctx, namespace, dir, o, func(m *meter) { ready = m.allReady(componentName(0), releases) })
	if err != nil {
		return nil, err
	}
	if err := await(ctx, ready); err != nil {
		return nil, errors.Join(fmt.Errorf("waiting for %d releases to be ready: %w", releases, err), e.stop())
	}
	return e, e.settle(ctx, 2*time.Second)
}

// grow adds components to the engine's repository, those from one number to before
// another, and waits until their releases are ready.
func (e *engine) grow(ctx context.Context, from, to int, component func(name string) files) error {
	added := files{}
	for i := from; i < to; i++ {
		maps.Copy(added, component(componentName(i)))
	}
	if err := extend(ctx, e.dir, slices.Values([]commit{{"Grow", added}})); err != nil {
		return err
	}
	ready := e.allReady(componentName(from), to-from)
	e.notified()
	if err := await(ctx, ready); err != nil {
		return fmt.Errorf("waiting for %d more releases to be ready: %w", to-from, err)
	}
	return e.settle(ctx, 2*time.Second)
}

// namespace makes one, which is deleted with the run: in a cluster that stays, too.
func (b *bench) namespace(ctx context.Context) (string, error) {
	api, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return "", err
	}
	made, err := api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("making a namespace: %w", err)
	}
	b.atEnd = append(b.atEnd, func() error {
		return api.CoreV1().Namespaces().Delete(context.WithoutCancel(ctx), made.Name, metav1.DeleteOptions{})
	})
	return made.Name, nil
}

// rendered are the objects of all releases of a project, as the reconciler applies them.
func rendered(ctx context.Context, content files, releases int) ([]*unstructured.Unstructured, error) {
	fsys := content.memory()
	opened, err := envrepo.Open(fsys)
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for i := range releases {
		release, err := opened.Release("production", componentName(i))
		if err != nil {
			return nil, err
		}
		result, err := render.Build(ctx, render.Request{FS: fsys, Release: release})
		if err != nil {
			return nil, err
		}
		for _, o := range result.Shared {
			o.SetLabels(owned(o.GetLabels(), componentName(i)))
			all = append(all, o)
		}
	}
	return all, nil
}

// owned adds the labels by which the reconciler knows its objects. They are a part of
// what the API server keeps, and of what its controllers copy.
func owned(labels map[string]string, release string) map[string]string {
	out := map[string]string{"app.kubernetes.io/managed-by": "sluice", v1alpha1.LabelEnvironment: "production", v1alpha1.LabelRelease: release}
	maps.Copy(out, labels)
	return out
}

// patcher is a client that does nothing but apply objects.
type patcher struct {
	client *cluster.Client
}

// newPatcher has found out about the kinds of the objects already.
func (b *bench) newPatcher(objects []*unstructured.Unstructured) (patcher, error) {
	client, err := cluster.New(b.config)
	if err != nil {
		return patcher{}, err
	}
	for _, o := range objects {
		if _, err := client.Namespaced(o.GroupVersionKind()); err != nil {
			return patcher{}, err
		}
	}
	return patcher{client: client}, nil
}

// apply is the bare loop: the server-side-apply patches that the reconciler sends as
// well, by the same client, and nothing else.
func (p patcher) apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for _, o := range objects {
		g.Go(func() error {
			_, _, err := p.client.Apply(ctx, o, nil, cluster.ApplyOptions{Manager: manager})
			return err
		})
	}
	return g.Wait()
}

// prepared are the objects of so many releases in a namespace of their own, and what
// can apply them.
func (b *bench) prepared(ctx context.Context, releases, objects int) (namespace string, all []*unstructured.Unstructured, p patcher, err error) {
	if namespace, err = b.namespace(ctx); err != nil {
		return "", nil, p, err
	}
	if all, err = rendered(ctx, project(namespace, releases, objects), releases); err != nil {
		return "", nil, p, err
	}
	p, err = b.newPatcher(all)
	return namespace, all, p, err
}

// warmUp has the API server do once what it does for the first time.
func (b *bench) warmUp(ctx context.Context) error {
	const releases = 10
	_, objects, p, err := b.prepared(ctx, releases, syncObjects)
	if err != nil {
		return err
	}
	if err := p.apply(ctx, objects...); err != nil {
		return err
	}
	return b.calm(ctx)
}

// takenIn returns what waits until the cluster's controllers have taken in all that is
// in a namespace: until Deployments and budgets are observed, and every Service has its
// endpoints.
func (b *bench) takenIn(namespace string) (func(context.Context) error, error) {
	config := rest.CopyConfig(b.config)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	cached := metav1.ListOptions{ResourceVersion: "0"}
	observed := func(ctx context.Context) (bool, error) {
		endpoints, err := api.DiscoveryV1().EndpointSlices(namespace).List(ctx, cached)
		if err != nil {
			return false, err
		}
		services, err := api.CoreV1().Services(namespace).List(ctx, cached)
		if err != nil || len(endpoints.Items) < len(services.Items) {
			return false, err
		}
		deployments, err := api.AppsV1().Deployments(namespace).List(ctx, cached)
		if err != nil || slices.ContainsFunc(deployments.Items, func(d appsv1.Deployment) bool { return d.Status.ObservedGeneration < d.Generation }) {
			return false, err
		}
		budgets, err := api.PolicyV1().PodDisruptionBudgets(namespace).List(ctx, cached)
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(budgets.Items, func(p policyv1.PodDisruptionBudget) bool { return p.Status.ObservedGeneration < p.Generation }), nil
	}
	return func(ctx context.Context) error {
		for {
			if done, err := observed(ctx); done || err != nil {
				return err
			}
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}, nil
}

// calm waits until the cluster's controllers have done what they had to, so that
// nobody pays for it but who has caused it: until all Deployments are observed and
// the number of EndpointSlices stands.
func (b *bench) calm(ctx context.Context) error {
	api, err := kubernetes.NewForConfig(b.config)
	if err != nil {
		return err
	}
	before := -1
	for calm := 0; calm < 3; {
		deployments, err := api.AppsV1().Deployments("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		observed := true
		for _, d := range deployments.Items {
			observed = observed && d.Status.ObservedGeneration >= d.Generation
		}
		endpoints, err := api.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if calm++; !observed || len(endpoints.Items) != before {
			calm, before = 0, len(endpoints.Items)
		}
		if err := sleep(ctx, time.Second/2); err != nil {
			return err
		}
	}
	return nil
}

// notified tells the engine to look at the branch.
func (e *engine) notified() { e.notify <- struct{}{} }

// pusher is a second view of the engine's repository, for whoever pushes.
func (b *bench) pusher(ctx context.Context, e *engine) (*gitrepo.Repository, error) {
	return b.open(ctx, e.dir)
}
