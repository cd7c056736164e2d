package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/sluice-dev/sluice/bench/figures"
)

// syncObjects is how many objects a release has.
const syncObjects = 5

// runSync measures first syncs beside the bare loop, which is the limit, and beside
// kubectl, a process for each overlay.
func runSync(ctx context.Context, b *bench) error {
	for _, s := range []*synced{
		{releases: b.samples(100, 10), share: b.samples(25, 5)},
		{releases: b.samples(1000, 30), share: b.samples(50, 15)},
	} {
		if err := s.measure(ctx, b); err != nil {
			return err
		}
		s.record(b)
	}
	return nil
}

// synced are samples of a first sync, all of them for one release.
type synced struct {
	releases, share int // share: how many releases a turn is of
	sluice, bare    []turn
	ready           time.Duration
	kubectl         []time.Duration
	requests        float64
}

// measure has the first sync and the bare loop take turns.
func (s *synced) measure(ctx context.Context, b *bench) error {
	b.progress("%d releases", s.releases)
	return b.onControlPlane(ctx, func() error {
		loop, err := s.newLoop(ctx, b)
		if err != nil {
			return err
		}
		err = b.onControlPlane(ctx, func() error {
			first, err := s.newFirstSync(ctx, b)
			if err != nil {
				return err
			}
			defer func() { _ = first.stop() }()
			if err := takeTurns(ctx, s.releases/s.share, loop, first); err != nil {
				return err
			}
			if err := first.samePatches(loop); err != nil {
				return err
			}
			s.sluice, s.bare = first.turns, loop.turns
			return errors.Join(s.finish(ctx, first), b.heapProfile())
		})
		if err != nil {
			return err
		}
		return s.applyByKubectl(ctx, b)
	})
}

func (s *synced) record(b *bench) {
	of, bare := figures.Count(s.releases)+" releases, each", "bare loop of patches"
	figure := func(measure string, its, baseline []time.Duration) figures.Figure {
		return figures.Figure{Case: of, Measure: measure, Unit: figures.Milliseconds, Spread: figures.Durations(its)}.Against(bare, figures.Durations(baseline))
	}
	applied, observed := func(t turn) time.Duration { return t.applied }, func(t turn) time.Duration { return t.observed }
	busy, own := func(t turn) time.Duration { return t.busy }, func(t turn) time.Duration { return t.processor }
	sluice, loop := []turn{whole(s.sluice)}, []turn{whole(s.bare)}
	b.record(figure("until applied", each(s.sluice, applied), each(s.bare, applied)).Against("kubectl apply -k", figures.Durations(s.kubectl)))
	b.record(figure("until observed", each(s.sluice, observed), each(s.bare, observed)))
	b.record(figure("in all, until applied", each(sluice, applied), each(loop, applied)))
	b.record(figure("in all, until observed", each(sluice, observed), each(loop, observed)))
	b.record(figure("until ready", []time.Duration{s.ready}, each(loop, observed)))
	b.record(figure("processor of all", each(s.sluice, busy), each(s.bare, busy)))
	b.record(figure("own processor", each(s.sluice, own), each(s.bare, own)))
	b.record(figures.Figure{Case: of, Measure: "requests until ready", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(s.requests)}.
		Against(bare, figures.SpreadOf(syncObjects)))
}

// bareLoop applies objects that are rendered already.
type bareLoop struct {
	patcher
	share int // objects in a turn
	// objects are JSON: thousands of decoded ones would be looked through whenever the
	// other's garbage is collected.
	objects [][]byte
	example *unstructured.Unstructured // a Deployment
	taken   func(context.Context) error
	turns   []turn
}

// newLoop makes a bare loop over all of the releases. Some objects are applied before:
// what the API server does for the first time is nobody's.
func (s *synced) newLoop(ctx context.Context, b *bench) (*bareLoop, error) {
	namespace, objects, p, err := b.prepared(ctx, s.releases, syncObjects)
	if err != nil {
		return nil, err
	}
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	taken, err := b.takenIn(namespace)
	if err != nil {
		return nil, err
	}
	first := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Deployment" })
	l := &bareLoop{patcher: p, share: s.share * syncObjects, objects: make([][]byte, len(objects)), example: objects[first], taken: taken}
	for i, o := range objects {
		if l.objects[i], err = o.MarshalJSON(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *bareLoop) turn(ctx context.Context) error {
	now := make([]*unstructured.Unstructured, min(l.share, len(l.objects)))
	for i := range now {
		now[i] = &unstructured.Unstructured{}
		if err := now[i].UnmarshalJSON(l.objects[i]); err != nil {
			return err
		}
	}
	t, err := timed(ctx, func() (float64, error) {
		return float64(len(now)) / syncObjects, l.apply(ctx, now...)
	}, l.taken)
	l.objects, l.turns = l.objects[len(now):], append(l.turns, t)
	return err
}

// firstSync is one whose requests can be stopped.
type firstSync struct {
	begin func(context.Context) error // the engine, with the first turn
	*engine
	gate    *gate
	share   int // objects in a turn
	objects int
	ready   <-chan struct{}
	taken   func(context.Context) error
	turns   []turn
}

func (s *synced) newFirstSync(ctx context.Context, b *bench) (*firstSync, error) {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := b.repository(ctx, commit{"Start", project(namespace, s.releases, syncObjects)})
	if err != nil {
		return nil, err
	}
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	taken, err := b.takenIn(namespace)
	if err != nil {
		return nil, err
	}
	f := &firstSync{gate: newGate(), share: s.share * syncObjects, objects: s.releases * syncObjects, taken: taken}
	f.begin = func(ctx context.Context) (err error) {
		f.engine, err = b.start(ctx, namespace, dir, engineOptions{pollInterval: time.Hour}, func(m *meter) {
			m.gate, m.sample = f.gate, "/deployments/"+componentName(0)
			f.ready = m.allReady(componentName(0), s.releases)
		})
		return err
	}
	return f, nil
}

func (f *firstSync) turn(ctx context.Context) error {
	t, err := timed(ctx, func() (float64, error) { return f.proceed(ctx) }, f.taken)
	f.turns = append(f.turns, t)
	return err
}

// proceed lets requests pass until a share of the objects has been applied, and begins
// with the engine.
func (f *firstSync) proceed(ctx context.Context) (releases float64, err error) {
	before := 0
	if f.engine == nil {
		err = f.begin(ctx)
	} else {
		before = f.meter.objects()
	}
	if err != nil {
		return 0, err
	}
	// What was on its way when the gate was shut has been counted by the turn before.
	reached := f.patched("", min(f.share*(len(f.turns)+1), f.objects)-before)
	f.gate.unlock()
	if err := await(ctx, reached); err != nil {
		return 0, err
	}
	err = f.gate.lock(ctx)
	return float64(f.meter.objects()-before) / syncObjects, err
}

// samePatches is an error when the bare loop does not send what the reconciler does: as
// an example, the Deployment of the first release.
func (f *firstSync) samePatches(loop *bareLoop) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sent := &unstructured.Unstructured{}
	if err := json.Unmarshal(f.sent, &sent.Object); err != nil {
		return fmt.Errorf("reading the patch of a Deployment: %w", err)
	}
	sent.SetNamespace(loop.example.GetNamespace())
	if !equality.Semantic.DeepEqual(sent.Object, loop.example.Object) {
		return fmt.Errorf("the reconciler sends %v, the bare loop %v", sent.Object, loop.example.Object)
	}
	return nil
}

// stop ends the engine, if it has begun.
func (f *firstSync) stop() error {
	if f.engine == nil {
		return nil
	}
	return f.engine.stop()
}

// finish waits until all releases are ready.
func (s *synced) finish(ctx context.Context, f *firstSync) error {
	since := costSince()
	f.gate.unlock()
	if err := await(ctx, f.ready); err != nil {
		return err
	}
	c, err := since()
	if err != nil {
		return err
	}
	s.ready = (whole(f.turns).observed + c.time) / time.Duration(s.releases)
	if err := f.settle(ctx, 1200*time.Millisecond); err != nil {
		return err
	}
	requests, _ := f.counts()
	s.requests = float64(requests) / float64(s.releases)
	return nil
}

// kubectlBatch is how many overlays a sample of kubectl is of: each is a process,
// and a thousand of them would take minutes.
const kubectlBatch = 16

func (s *synced) applyByKubectl(ctx context.Context, b *bench) error {
	const batches = 2
	namespace, err := b.namespace(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "overlays-")
	if err != nil {
		return err
	}
	if err := project(namespace, batches*kubectlBatch, syncObjects).write(dir); err != nil {
		return err
	}
	for i := range batches {
		if err := b.calm(ctx); err != nil {
			return err
		}
		began := time.Now()
		var g errgroup.Group
		g.SetLimit(concurrency)
		for n := range kubectlBatch {
			g.Go(func() error {
				overlay := filepath.Join(dir, filepath.Dir(overlayPath(componentName(i*kubectlBatch+n))))
				return b.kubectl(ctx, "apply", "--server-side", "--kustomize", overlay)
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		s.kubectl = append(s.kubectl, time.Since(began)/kubectlBatch)
	}
	return nil
}

func (b *bench) kubectl(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "kubectl"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
