package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/sluice-dev/sluice/bench/figures"
	"github.com/sluice-dev/sluice/gitrepo"
)

// runGit looks at what the reconciler asks of a repository, beside the git program
// asked for the same.
func runGit(ctx context.Context, b *bench) error {
	components, commits := b.samples(5000, 100), b.samples(20_000, 500)
	of := fmt.Sprintf("%s components, %s commits", figures.Count(components), figures.Count(commits))
	b.progress("making a repository of %s", of)
	content := project("bench", components, 4)
	short, err := b.repository(ctx, commit{"Start", content})
	if err != nil {
		return err
	}
	long, err := b.repository(ctx, commit{"Start", content})
	if err != nil {
		return err
	}
	if err := extend(ctx, long, deployments(components, commits-1)); err != nil {
		return err
	}
	// What fast-import writes is many times as large as what a server has packed.
	if err := git(ctx, long, nil, "repack", "-adq"); err != nil {
		return err
	}
	r, mirror, err := clones(ctx, b, of, short, long)
	if err != nil {
		return err
	}
	return errors.Join(commitByCommit(ctx, b, of, r, long, mirror, components), r.Close())
}

// deployments is a history in which each commit pins a digest.
func deployments(components, commits int) func(yield func(commit) bool) {
	return func(yield func(commit) bool) {
		for i := range commits {
			name := componentName(i % components)
			if !yield(commit{"deploy " + name, files{overlayPath(name): overlayOf("bench", name, digest(i+1))}}) {
				return
			}
		}
	}
}

// clones measures the first sight of a repository, and what is held afterwards: with
// the long history and, as the baseline of memory, with none. It returns what it has
// opened last, and a mirror that git has made.
func clones(ctx context.Context, b *bench, of, short, long string) (last *gitrepo.Repository, mirror string, err error) {
	b.progress("clones")
	without, r, err := b.held(ctx, short, new(time.Duration))
	if err != nil {
		return nil, "", err
	}
	if err := r.Close(); err != nil {
		return nil, "", err
	}
	var ours, theirs []time.Duration
	var held float64
	for range b.samples(2, 2) {
		if last != nil {
			if err := last.Close(); err != nil {
				return nil, "", err
			}
		}
		var took time.Duration
		if held, last, err = b.held(ctx, long, &took); err != nil {
			return nil, "", err
		}
		ours = append(ours, took)
		if mirror, err = os.MkdirTemp(b.dir, "mirror-"); err != nil {
			return nil, "", errors.Join(err, last.Close())
		}
		began := time.Now()
		if err := git(ctx, "", nil, "clone", "--quiet", "--mirror", "file://"+long, mirror); err != nil {
			return nil, "", errors.Join(err, last.Close())
		}
		theirs = append(theirs, time.Since(began))
	}
	b.record(figures.Figure{Case: of, Measure: "first clone", Unit: figures.Milliseconds, Spread: figures.Durations(ours)}.
		Against("git clone", figures.Durations(theirs)))
	b.record(figures.Figure{Case: of, Measure: "live heap, all files read", Unit: figures.MiB, Absolute: true, Spread: figures.SpreadOf(held)}.
		Against("with 1 commit", figures.SpreadOf(without)))
	return last, mirror, nil
}

// held opens a repository, which takes some time, and says what that keeps alive when
// its newest commit has been read.
func (b *bench) held(ctx context.Context, dir string, took *time.Duration) (float64, *gitrepo.Repository, error) {
	before := liveHeap()
	began := time.Now()
	r, err := b.open(ctx, dir)
	if err != nil {
		return 0, nil, err
	}
	*took = time.Since(began)
	if err := readAll(r); err != nil {
		return 0, nil, errors.Join(err, r.Close())
	}
	heap := max(0, liveHeap()-before)
	if err := b.heapProfile(); err != nil {
		return 0, nil, errors.Join(err, r.Close())
	}
	runtime.KeepAlive(r)
	return heap, r, nil
}

// readAll takes a snapshot of the newest commit and reads every file of it.
func readAll(r *gitrepo.Repository) error {
	snapshot, err := r.Snapshot("HEAD")
	if err != nil {
		return err
	}
	return fs.WalkDir(snapshot, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			_, err = snapshot.ReadFile(name)
		}
		return err
	})
}

// commitByCommit measures what one more commit costs, and a snapshot of all files.
func commitByCommit(ctx context.Context, b *bench, of string, r *gitrepo.Repository, dir, mirror string, components int) error {
	b.progress("fetches and comparisons")
	var fetch, gitFetch, compare, gitCompare []time.Duration
	for i := range b.samples(30, 5) {
		before, err := r.Snapshot("HEAD")
		if err != nil {
			return err
		}
		name := componentName(i * 7 % components)
		changes := []commit{{"deploy " + name, files{overlayPath(name): overlayOf("bench", name, digest(1_000_000+i))}}}
		if err := extend(ctx, dir, func(yield func(commit) bool) { yield(changes[0]) }); err != nil {
			return err
		}
		for _, step := range []struct {
			times *[]time.Duration
			do    func() error
		}{
			{&fetch, func() error { _, err := r.Fetch(ctx); return err }},
			{&gitFetch, func() error { return git(ctx, mirror, nil, "fetch", "--quiet") }},
			{&compare, func() error { return changed(r, before) }},
			{&gitCompare, func() error { return git(ctx, mirror, nil, "diff-tree", "-r", "--name-only", "main~1", "main") }},
		} {
			began := time.Now()
			if err := step.do(); err != nil {
				return err
			}
			*step.times = append(*step.times, time.Since(began))
		}
	}
	b.record(figures.Figure{Case: of, Measure: "fetch of one commit", Unit: figures.Milliseconds, Spread: figures.Durations(fetch)}.
		Against("git fetch", figures.Durations(gitFetch)))
	b.record(figures.Figure{Case: of, Measure: "what has changed", Unit: figures.Milliseconds, Spread: figures.Durations(compare)}.
		Against("git diff-tree", figures.Durations(gitCompare)))
	return wholeSnapshot(ctx, b, of, dir, r)
}

// wholeSnapshot reads all files of a commit, which only a first look does.
func wholeSnapshot(ctx context.Context, b *bench, of, dir string, r *gitrepo.Repository) error {
	b.progress("snapshots")
	var ours, theirs []time.Duration
	for range b.samples(5, 2) {
		began := time.Now()
		if err := readAll(r); err != nil {
			return err
		}
		ours = append(ours, time.Since(began))
		began = time.Now()
		archive := exec.CommandContext(ctx, "git", "-C", dir, "archive", "--format=tar", "main")
		archive.Stdout = io.Discard
		if err := archive.Run(); err != nil {
			return fmt.Errorf("git archive: %w", err)
		}
		theirs = append(theirs, time.Since(began))
	}
	b.record(figures.Figure{Case: of, Measure: "all files of a commit", Unit: figures.Milliseconds, Spread: figures.Durations(ours)}.
		Against("git archive", figures.Durations(theirs)))
	return nil
}

// changed compares the newest commit with another.
func changed(r *gitrepo.Repository, before *gitrepo.Snapshot) error {
	after, err := r.Snapshot("HEAD")
	if err != nil {
		return err
	}
	paths := 0
	if err := after.Diff(before, func(string) bool { paths++; return true }); err != nil {
		return err
	}
	if paths == 0 {
		return errors.New("one commit later nothing has changed")
	}
	return nil
}
