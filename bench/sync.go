package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-dev/sluice/bench/figures"
)

// syncObjects is how many objects a release has.
const syncObjects = 5

// runSync measures first syncs beside the bare loop, which is the limit, and beside
// kubectl, a process for each overlay.
func runSync(ctx context.Context, b *bench) error {
	for _, c := range []struct{ releases, rounds, kubectl int }{
		{b.samples(100, 10), b.samples(5, 2), b.samples(5, 1)},
		{b.samples(1000, 30), b.samples(2, 1), b.samples(3, 1)},
	} {
		if err := syncOf(ctx, b, c.releases, c.rounds, c.kubectl); err != nil {
			return err
		}
	}
	return nil
}

// synced are samples of a first sync, all of them for one release.
type synced struct {
	applied, ready, processor           []time.Duration
	requests                            []float64
	bare, bareProcessor, kubectlApplied []time.Duration
}

// syncOf alternates between the bare loop and the first sync, each in a namespace of
// its own and with the cluster calm: the API server becomes slower with what it holds,
// and neither is to be the one that always comes later.
func syncOf(ctx context.Context, b *bench, releases, rounds, batches int) error {
	var s synced
	for i := range rounds {
		b.progress("round %d of %d with %d releases", i+1, rounds, releases)
		steps := []func(context.Context, *bench, int) error{s.bareLoop, s.sluice}
		if i%2 == 1 {
			steps[0], steps[1] = steps[1], steps[0]
		}
		for _, step := range steps {
			if err := step(ctx, b, releases); err != nil {
				return err
			}
		}
	}
	b.progress("kubectl apply -k, %d times %d overlays", batches, kubectlBatch)
	if err := s.kubectl(ctx, b, batches); err != nil {
		return err
	}
	of, bare := figures.Count(releases)+" releases, each", "bare loop of patches"
	b.record(figures.Figure{Case: of, Measure: "until applied", Unit: figures.Milliseconds, Spread: figures.Durations(s.applied)}.
		Against(bare, figures.Durations(s.bare)).
		Against("kubectl apply -k", figures.Durations(s.kubectlApplied)))
	b.record(figures.Figure{Case: of, Measure: "until ready", Unit: figures.Milliseconds, Spread: figures.Durations(s.ready)}.
		Against(bare, figures.Durations(s.bare)))
	b.record(figures.Figure{Case: of, Measure: "own processor", Unit: figures.Milliseconds, Spread: figures.Durations(s.processor)}.
		Against(bare, figures.Durations(s.bareProcessor)))
	b.record(figures.Figure{Case: of, Measure: "requests until ready", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(s.requests...)}.
		Against(bare, figures.SpreadOf(syncObjects)))
	return nil
}

// bareLoop applies the objects of all releases, rendered beforehand.
func (s *synced) bareLoop(ctx context.Context, b *bench, releases int) error {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return err
	}
	objects, err := rendered(ctx, project(namespace, releases, syncObjects), releases)
	if err != nil {
		return err
	}
	p, err := b.newPatcher(objects)
	if err != nil {
		return err
	}
	if err := b.calm(ctx); err != nil {
		return err
	}
	since := costSince()
	if err := p.apply(ctx, objects...); err != nil {
		return err
	}
	took, err := since()
	s.bare = append(s.bare, took.time/time.Duration(releases))
	s.bareProcessor = append(s.bareProcessor, took.processor/time.Duration(releases))
	return err
}

func (s *synced) sluice(ctx context.Context, b *bench, releases int) (err error) {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return err
	}
	dir, err := b.repository(ctx, commit{"Start", project(namespace, releases, syncObjects)})
	if err != nil {
		return err
	}
	if err := b.calm(ctx); err != nil {
		return err
	}
	var applied, ready <-chan struct{}
	var since func() (cost, error)
	e, err := b.start(ctx, namespace, dir, engineOptions{pollInterval: time.Hour}, func(m *meter) {
		applied, ready, since = m.patched("", releases*syncObjects), m.allReady(releases), costSince()
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := await(ctx, applied); err != nil {
		return err
	}
	untilApplied, err := since()
	if err != nil {
		return err
	}
	if err := await(ctx, ready); err != nil {
		return err
	}
	untilReady, err := since()
	if err != nil {
		return err
	}
	if err := e.settle(ctx, 1200*time.Millisecond); err != nil {
		return err
	}
	requests, _ := e.counts()
	each := time.Duration(releases)
	s.applied, s.processor = append(s.applied, untilApplied.time/each), append(s.processor, untilApplied.processor/each)
	s.ready, s.requests = append(s.ready, untilReady.time/each), append(s.requests, float64(requests)/float64(releases))
	return b.heapProfile()
}

// kubectlBatch is how many overlays a sample of kubectl is of: each is a process,
// and a thousand of them would take minutes.
const kubectlBatch = 16

func (s *synced) kubectl(ctx context.Context, b *bench, batches int) error {
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
		s.kubectlApplied = append(s.kubectlApplied, time.Since(began)/kubectlBatch)
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
