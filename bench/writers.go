package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-dev/sluice/bench/figures"
)

// runWriters has commands write to one repository at the same time, each a process
// that has never seen the repository, as in a pipeline. Every write must be there
// afterwards. The bare loop does with git what it takes at least: clone, commit, push,
// and again when somebody was faster.
func runWriters(ctx context.Context, b *bench) error {
	for _, writers := range b.sizes([]int{1, 10, 50}, []int{1, 5}) {
		rounds := 1
		if writers < 10 {
			rounds = b.samples(10, 2)
		} else if writers < 50 {
			rounds = b.samples(3, 1)
		}
		if err := writersAtOnce(ctx, b, writers, rounds); err != nil {
			return err
		}
	}
	return nil
}

// writer is what one writer does, in the given round's repository.
type writer func(ctx context.Context, b *bench, url string, number int) error

func writersAtOnce(ctx context.Context, b *bench, n, rounds int) error {
	of := strconv.Itoa(n) + " at a time"
	if n == 1 {
		of = "1 alone"
	}
	baseline, err := race(ctx, b, n, rounds, bareWriter)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		one  writer
	}{{"build record", recordBuild}, {"traffic set", setTraffic}} {
		r, err := race(ctx, b, n, rounds, c.one)
		if err != nil {
			return err
		}
		against := "git clone, commit, push"
		b.record(figures.Figure{Case: of, Measure: c.name + ", landed", Unit: figures.Milliseconds, Spread: figures.Durations(r.times)}.
			Against(against, figures.Durations(baseline.times)))
		if n > 1 {
			b.record(figures.Figure{Case: of, Measure: c.name + ", slowest", Unit: figures.Milliseconds, Spread: figures.Durations(r.slowest)}.
				Against(against, figures.Durations(baseline.slowest)))
			b.record(figures.Figure{Case: of, Measure: c.name + ", throughput", Unit: figures.PerSecond, HigherIsBetter: true, Spread: figures.SpreadOf(r.rates...)}.
				Against(against, figures.SpreadOf(baseline.rates...)))
		}
	}
	return nil
}

// raced is what became of writers that began at once.
type raced struct {
	times   []time.Duration // of every writer of every round
	slowest []time.Duration // of each round
	rates   []float64       // writes a second, of each round
}

// race runs n writers at once, on a new repository each round, and fails if one of
// their commits is not in the branch afterwards.
func race(ctx context.Context, b *bench, n, rounds int, one writer) (r raced, err error) {
	for round := range rounds {
		b.progress("%d writers at a time, round %d of %d", n, round+1, rounds)
		dir, err := b.repository(ctx, commit{"Start", writersProject()})
		if err != nil {
			return r, err
		}
		times := make([]time.Duration, n)
		g, ctx := errgroup.WithContext(ctx)
		began := time.Now()
		for i := range n {
			g.Go(func() error {
				err := one(ctx, b, "file://"+dir, i)
				times[i] = time.Since(began)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return r, err
		}
		took := time.Since(began)
		out, err := exec.Command("git", "-C", dir, "rev-list", "--count", "main").Output()
		if err != nil {
			return r, err
		}
		if commits := strings.TrimSpace(string(out)); commits != strconv.Itoa(n+1) {
			return r, fmt.Errorf("%d writers made %s commits, the first one included: a write is lost", n, commits)
		}
		r.times = append(r.times, times...)
		r.slowest, r.rates = append(r.slowest, took), append(r.rates, float64(n)/took.Seconds())
	}
	return r, nil
}

// writersProject has component api, untagged in development, where builds go, and with
// two tags in production.
func writersProject() files {
	overlay := func(path, digest string) string {
		return kustomization + "namespace: shop\nresources: [" + path + "]\nimages: [{name: registry.example.com/shop/api, digest: \"" + digest + "\"}]\n"
	}
	out := component("shop", "api", 5)
	for name := range out {
		if strings.HasPrefix(name, "environments/") {
			delete(out, name)
		}
	}
	out["sluice.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments:\n" +
		"- {name: development, namespace: shop-development, autoDeploy: true}\n- {name: production, namespace: shop}\n"
	out["environments/development/api/kustomization.yaml"] = overlay("../../../components/api", digest(0))
	production := "environments/production/api/"
	out[production+"kustomization.yaml"] = kustomization + "namespace: shop\nresources: [service.yaml]\n"
	out[production+"service.yaml"] = "apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {selector: {app.kubernetes.io/name: api}, ports: [{port: 80}]}\n"
	out[production+"base/kustomization.yaml"] = kustomization + "resources: [../../../../components/api]\n"
	out[production+"traffic.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {blue: 100, green: 0}\n"
	for i, tag := range []string{"blue", "green"} {
		out[production+tag+"/kustomization.yaml"] = overlay("../base", digest(i)) + "nameSuffix: -" + tag + "\n"
	}
	return out
}

// recordBuild runs sluice build record, with a build of its own for each writer.
func recordBuild(ctx context.Context, b *bench, url string, number int) error {
	return b.sluice(ctx, "build", "record", "--repo", url, "--component", "api", "--digest", digest(100+number), "--no-ci")
}

// setTraffic runs sluice traffic set, with weights of its own for each writer: a list
// that stands already would be no commit.
func setTraffic(ctx context.Context, b *bench, url string, number int) error {
	weights := fmt.Sprintf("blue=%d,green=%d", 1+number, 99-number)
	return b.sluice(ctx, "traffic", "set", "api", "--repo", url, "--environment", "production", "--tags", weights)
}

func (b *bench) sluice(ctx context.Context, args ...string) error {
	cache, err := os.MkdirTemp(b.dir, "cache-")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "sluice"), args...)
	cmd.Env = append(os.Environ(), "SLUICE_CACHE_DIR="+cache, "GIT_AUTHOR_NAME=Bench", "GIT_AUTHOR_EMAIL=bench@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sluice %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// bareWriter adds a file with the git program.
func bareWriter(ctx context.Context, b *bench, url string, number int) error {
	dir, err := os.MkdirTemp(b.dir, "clone-")
	if err != nil {
		return err
	}
	if err := git(ctx, "", nil, "clone", "--quiet", "--depth=1", url, dir); err != nil {
		return err
	}
	name := fmt.Sprintf("write-%d.yaml", number)
	if err := os.WriteFile(filepath.Join(dir, name), []byte("digest: "+digest(number)+"\n"), 0o644); err != nil {
		return err
	}
	if err := git(ctx, dir, nil, "add", name); err != nil {
		return err
	}
	if err := git(ctx, dir, nil, "commit", "--quiet", "--message=write"); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if git(ctx, dir, nil, "push", "--quiet", "origin", "main") == nil {
			return nil
		}
		if err := git(ctx, dir, nil, "pull", "--quiet", "--rebase", "origin", "main"); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
