package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sluice-dev/sluice/bench/figures"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

// runRender renders overlays on one core and on all, by three means in turn.
func runRender(ctx context.Context, b *bench) error {
	overlays := b.samples(100, 20)
	content := project("bench", overlays, 5)
	fsys := content.memory()
	opened, err := envrepo.Open(fsys)
	if err != nil {
		return err
	}
	mem := filesys.MakeFsInMemory()
	for name, text := range content {
		if err := mem.WriteFile("/"+name, []byte(text)); err != nil {
			return err
		}
	}
	disk, err := os.MkdirTemp(b.dir, "overlays-")
	if err != nil {
		return err
	}
	if err := content.write(disk); err != nil {
		return err
	}
	folder := func(i int) string { return filepath.Dir(overlayPath(componentName(i))) }
	sluice := func(i int) error {
		release, err := opened.Release("production", componentName(i))
		if err != nil {
			return err
		}
		_, err = render.Build(ctx, render.Request{FS: fsys, Release: release})
		return err
	}
	alone := func(i int) error {
		_, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(mem, "/"+folder(i))
		return err
	}
	process := func(i int) error { return b.kubectl(ctx, "kustomize", filepath.Join(disk, folder(i))) }

	cores := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(cores)
	for _, n := range []int{1, cores} {
		runtime.GOMAXPROCS(n)
		var ours, limit, processes []float64
		for i := range b.samples(9, 3) {
			b.progress("round %d on %d cores", i+1, n)
			for _, step := range []struct {
				rates    *[]float64
				overlays int
				one      func(int) error
			}{{&ours, overlays, sluice}, {&limit, overlays, alone}, {&processes, min(overlays, 12), process}} {
				rate, err := perSecond(step.overlays, n, step.one)
				if err != nil {
					return err
				}
				*step.rates = append(*step.rates, rate)
			}
		}
		of := fmt.Sprintf("%d at a time", n)
		if n == cores {
			of += ", all cores"
		}
		b.record(figures.Figure{Case: of, Measure: "overlays rendered", Unit: figures.PerSecond, HigherIsBetter: true, Spread: figures.SpreadOf(ours...)}.
			Against("krusty alone", figures.SpreadOf(limit...)).
			Against("kubectl kustomize", figures.SpreadOf(processes...)))
	}
	return nil
}

// perSecond is how many of n things are done in a second, so many at a time.
func perSecond(n, atATime int, one func(i int) error) (float64, error) {
	var g errgroup.Group
	g.SetLimit(atATime)
	began := time.Now()
	for i := range n {
		g.Go(func() error { return one(i) })
	}
	err := g.Wait()
	return float64(n) / time.Since(began).Seconds(), err
}
