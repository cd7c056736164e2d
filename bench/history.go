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
	for _, dir := range []string{short, long} {
		if err := git(ctx, dir, nil, "repack", "-adq"); err != nil {
			return err
		}
	}
	if err := clones(ctx, b, of, short, long); err != nil {
		return err
	}
	return commitByCommit(ctx, b, of, long, components)
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
// the long history and, as the baseline of memory, with none.
func clones(ctx context.Context, b *bench, of, short, long string) error {
	b.progress("clones")
	var ours, theirs []time.Duration
	for range b.samples(3, 2) {
		began := time.Now()
		r, err := b.open(ctx, long)
		if err != nil {
			return err
		}
		ours = append(ours, time.Since(began))
		if err := r.Close(); err != nil {
			return err
		}
		dir, err := os.MkdirTemp(b.dir, "clone-")
		if err != nil {
			return err
		}
		began = time.Now()
		if err := git(ctx, "", nil, "clone", "--quiet", "--bare", "file://"+long, dir); err != nil {
			return err
		}
		theirs = append(theirs, time.Since(began))
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	b.record(figures.Figure{Case: of, Measure: "first clone", Unit: figures.Milliseconds, Spread: figures.Durations(ours)}.
		Against("git clone --bare", figures.Durations(theirs)))
	withHistory, err := b.held(ctx, long)
	if err != nil {
		return err
	}
	without, err := b.held(ctx, short)
	if err != nil {
		return err
	}
	b.record(figures.Figure{Case: of, Measure: "live heap, all files read", Unit: figures.MiB, Absolute: true, Spread: figures.SpreadOf(withHistory)}.
		Against("with 1 commit", figures.SpreadOf(without)))
	return nil
}

// held is what an open repository keeps alive when its newest commit has been read.
func (b *bench) held(ctx context.Context, dir string) (float64, error) {
	before := liveHeap()
	r, err := b.open(ctx, dir)
	if err != nil {
		return 0, err
	}
	if err := readAll(r); err != nil {
		return 0, errors.Join(err, r.Close())
	}
	heap := max(0, liveHeap()-before)
	err = b.heapProfile()
	runtime.KeepAlive(r)
	return heap, errors.Join(err, r.Close())
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
func commitByCommit(ctx context.Context, b *bench, of, dir string, components int) (err error) {
	r, err := b.open(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	mirror, err := os.MkdirTemp(b.dir, "mirror-")
	if err != nil {
		return err
	}
	if err := git(ctx, "", nil, "clone", "--quiet", "--mirror", "file://"+dir, mirror); err != nil {
		return err
	}
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
	for range b.samples(3, 2) {
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
