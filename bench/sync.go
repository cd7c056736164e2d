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
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-dev/sluice/bench/figures"
)

// syncObjects is how many objects a release has.
const syncObjects = 5

// runSync measures first syncs beside the bare loop, which is the limit, and beside
// kubectl, a process for each overlay.
func runSync(ctx context.Context, b *bench) error {
	few := synced{releases: b.samples(100, 10), share: b.samples(50, 5)}
	many := synced{releases: b.samples(1000, 30), share: b.samples(100, 15)}
	for _, s := range []*synced{&few, &many} {
		for i := range b.samples(2, 1) {
			b.progress("round %d with %d releases", i+1, s.releases)
			if err := s.round(ctx, b); err != nil {
				return err
			}
		}
		s.record(b)
	}
	return nil
}

// synced are samples of a first sync, all of them for one release.
type synced struct {
	releases, share           int // of releases, of which a sample is
	applied, ready, processor []time.Duration
	requests                  []float64
	bare, bareProcessor       []time.Duration
	kubectlApplied            []time.Duration
	rounds                    int
}

// round has the bare loop and the first sync on a control plane of its own each, since
// the API server becomes slower with what it holds, and every time in the other order,
// since the machine may become slower as well.
func (s *synced) round(ctx context.Context, b *bench) error {
	steps := [][]step{{warmUp, s.bareLoop, s.kubectl}, {warmUp, s.sluice}}
	if s.rounds++; s.rounds%2 == 0 {
		slices.Reverse(steps)
	}
	for _, all := range steps {
		err := b.onControlPlane(ctx, func() error {
			for _, one := range all {
				if err := one(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type step func(ctx context.Context, b *bench) error

// warmUp has the API server do once what it does for the first time.
func warmUp(ctx context.Context, b *bench) error {
	const releases = 10
	unmeasured := synced{releases: releases, share: releases}
	return unmeasured.bareLoop(ctx, b)
}

func (s *synced) record(b *bench) {
	of, bare := figures.Count(s.releases)+" releases, each", "bare loop of patches"
	b.record(figures.Figure{Case: of, Measure: "until applied", Unit: figures.Milliseconds, Spread: figures.Durations(s.applied)}.
		Against(bare, figures.Durations(s.bare)).
		Against("kubectl apply -k", figures.Durations(s.kubectlApplied)))
	b.record(figures.Figure{Case: of, Measure: "until ready", Unit: figures.Milliseconds, Spread: figures.Durations(s.ready)}.
		Against(bare, figures.Durations(s.bare)))
	b.record(figures.Figure{Case: of, Measure: "own processor", Unit: figures.Milliseconds, Spread: figures.Durations(s.processor)}.
		Against(bare, figures.Durations(s.bareProcessor)))
	b.record(figures.Figure{Case: of, Measure: "requests until ready", Unit: figures.Requests, Absolute: true, Spread: figures.SpreadOf(s.requests...)}.
		Against(bare, figures.SpreadOf(syncObjects)))
}

// shares takes the cost of every so many things that are done, for one release.
type shares struct {
	mu              sync.Mutex
	every, releases int // things, and releases that they come to
	done            int
	since           func() (cost, error)
	last            cost
	times           []time.Duration
	processor       []time.Duration
	err             error
}

// one more thing is done.
func (s *shares) one() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done++; s.done%s.every != 0 {
		return
	}
	now, err := s.since()
	s.err = errors.Join(s.err, err)
	s.times = append(s.times, (now.time-s.last.time)/time.Duration(s.releases))
	s.processor = append(s.processor, (now.processor-s.last.processor)/time.Duration(s.releases))
	s.last = now
}

// bareLoop applies the objects of all releases, rendered beforehand.
func (s *synced) bareLoop(ctx context.Context, b *bench) error {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return err
	}
	objects, err := rendered(ctx, project(namespace, s.releases, syncObjects), s.releases)
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
	bare := &shares{every: s.share * syncObjects, releases: s.share, since: costSince()}
	p.applied = bare.one
	if err := p.apply(ctx, objects...); err != nil {
		return err
	}
	s.bare, s.bareProcessor = append(s.bare, bare.times...), append(s.bareProcessor, bare.processor...)
	return bare.err
}

func (s *synced) sluice(ctx context.Context, b *bench) (err error) {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return err
	}
	dir, err := b.repository(ctx, commit{"Start", project(namespace, s.releases, syncObjects)})
	if err != nil {
		return err
	}
	if err := b.calm(ctx); err != nil {
		return err
	}
	var applied, ready <-chan struct{}
	patches, releases := &shares{every: s.share * syncObjects, releases: s.share}, &shares{every: s.releases, releases: s.releases} // that all are ready is one event
	e, err := b.start(ctx, namespace, dir, engineOptions{pollInterval: time.Hour}, func(m *meter) {
		patches.since, releases.since = costSince(), costSince()
		m.onPatched, m.onReady = patches.one, releases.one
		applied, ready = m.patched("", s.releases*syncObjects), m.allReady(componentName(0), s.releases)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := await(ctx, applied); err != nil {
		return err
	}
	if err := await(ctx, ready); err != nil {
		return err
	}
	if err := e.settle(ctx, 1200*time.Millisecond); err != nil {
		return err
	}
	requests, _ := e.counts()
	s.applied, s.processor = append(s.applied, patches.times...), append(s.processor, patches.processor...)
	s.ready, s.requests = append(s.ready, releases.times...), append(s.requests, float64(requests)/float64(s.releases))
	return errors.Join(patches.err, releases.err, b.heapProfile())
}

// kubectlBatch is how many overlays a sample of kubectl is of: each is a process,
// and a thousand of them would take minutes.
const kubectlBatch = 16

func (s *synced) kubectl(ctx context.Context, b *bench) error {
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
