package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/secrets"
)

// view is one state of the project's files that a command reads.
type view struct {
	FS       fs.FS // rooted at the project folder
	Rules    rulesReader
	Repo     *envrepo.Repo
	Revision string              // "" for the working tree
	git      *gitrepo.Repository // nil for the working tree
	worktree string              // root of the working tree; "" for a commit
	project  string              // folder in the repository
	close    func()
}

// Close releases what the view holds.
func (v *view) Close() {
	if v.close != nil {
		v.close()
	}
}

// history is the repository's, as of the view; that of the working tree ends in HEAD.
func (v *view) history() (_ *remoteRepository, done func(), err error) {
	if v.git != nil {
		return &remoteRepository{v.git, v.project, v.Revision}, func() {}, nil
	}
	local, err := gitrepo.OpenLocal(v.worktree)
	if err != nil {
		return nil, nil, err
	}
	return &remoteRepository{local, v.project, "HEAD"}, func() { local.Close() }, nil
}

// name is how the view is called in messages.
func (v *view) name() string {
	if v.Revision == "" {
		return "the working tree"
	}
	return "commit " + short(v.Revision)
}

// readFrom says what a reading command shows when no --ref is given.
type readFrom int

const (
	// fromWorktree: commands about files that are being edited (render, check,
	// diff) show the working tree where there is one.
	fromWorktree readFrom = iota
	// fromBranch: commands about what was decided (build list, traffic get,
	// history, status) show the remote branch, since that is what state
	// changes write; see docs/adr/0003.
	fromBranch
)

// refFlag adds --ref.
func refFlag(c *cobra.Command, ref *string, from readFrom) {
	usual := "the working tree"
	if from == fromBranch {
		usual = "the remote branch; \".\" for the working tree"
	}
	c.Flags().StringVar(ref, "ref", "", "read this `commit, branch or tag` (default: "+usual+")")
}

// openView opens the files that a reading command shows.
func (a *app) openView(ctx context.Context, ref string, from readFrom) (*view, error) {
	p, err := a.locate()
	if err != nil {
		return nil, err
	}
	worktree := p.worktree != "" && (ref == "." || ref == "" && (from == fromWorktree || p.remote == ""))
	switch {
	case worktree:
		return openWorktree(p)
	case ref == ".":
		return nil, withHint(fmt.Errorf("the repository %s has no working tree", p.remote), "leave out --ref to read branch %s", a.branch)
	case ref != "" && p.worktree != "":
		if v, err := openLocalRevision(p, ref); err == nil || !errors.Is(err, gitrepo.ErrUnknownRevision) || p.remote == "" {
			return v, err
		}
	}
	return a.openRemoteRevision(ctx, p, ref)
}

func openWorktree(p place) (*view, error) {
	root, err := os.OpenRoot(filepath.Join(p.worktree, filepath.FromSlash(p.project)))
	if err != nil {
		return nil, fmt.Errorf("opening the project folder: %w", err)
	}
	files := worktreeFS{root}
	repo, err := envrepo.Open(files)
	if err != nil {
		root.Close()
		return nil, err
	}
	return &view{FS: files, Rules: p.rules, Repo: repo, worktree: p.worktree, project: p.project, close: func() { root.Close() }}, nil
}

func openLocalRevision(p place, ref string) (*view, error) {
	local, err := gitrepo.OpenLocal(p.worktree)
	if err != nil {
		return nil, err
	}
	v, err := snapshotView(local, p.project, ref)
	if err != nil {
		local.Close()
		return nil, err
	}
	return v, nil
}

func (a *app) openRemoteRevision(ctx context.Context, p place, ref string) (*view, error) {
	repo, err := a.openRemoteAt(ctx, p)
	if err != nil {
		return nil, err
	}
	if ref == "" {
		ref = "HEAD" // the branch; an empty repository says that it is
	}
	v, err := snapshotView(repo.Repository, p.project, ref)
	if err != nil {
		repo.Close()
		return nil, repo.explain(err)
	}
	return v, nil
}

func snapshotView(repo *gitrepo.Repository, project, ref string) (*view, error) {
	snap, err := repo.Snapshot(ref)
	if err != nil {
		return nil, err
	}
	files, err := subProject(snap, project)
	if err != nil {
		return nil, err
	}
	opened, err := envrepo.Open(files)
	if err != nil {
		return nil, err
	}
	rules := func() (*secrets.Rules, error) { return creationRules(snap, project) }
	return &view{FS: files, Rules: rules, Repo: opened, Revision: snap.Revision(), git: repo, project: project, close: func() { repo.Close() }}, nil
}

// worktreeFS reads a working tree as Git would: os.Root keeps it inside the
// folder, and symbolic links are not followed, so that what a person renders
// locally is what the controller renders.
type worktreeFS struct{ root *os.Root }

func (w worktreeFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	for dir := name; dir != "."; dir = path.Dir(dir) {
		info, err := w.root.Lstat(filepath.FromSlash(dir))
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%s is a symbolic link", dir)}
		}
	}
	return w.root.FS().Open(name)
}

// Lstat and ReadLink make worktreeFS an fs.ReadLinkFS, so that readers can say
// of a symbolic link that it is one.
func (w worktreeFS) Lstat(name string) (fs.FileInfo, error) {
	return w.root.Lstat(filepath.FromSlash(name))
}

func (w worktreeFS) ReadLink(name string) (string, error) {
	return w.root.Readlink(filepath.FromSlash(name))
}

// progress says on a terminal what is being waited for, if it takes over a
// second; the returned function takes the line away again.
func (a *app) progress(what string) (done func()) {
	if !isTerminal(a.Stderr) {
		return func() {}
	}
	finished, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		wait := time.NewTimer(time.Second)
		defer wait.Stop()
		select {
		case <-finished:
		case <-wait.C:
			fmt.Fprintf(a.Stderr, "%s …", what)
			<-finished
			fmt.Fprint(a.Stderr, "\r\x1b[2K")
		}
	}()
	return func() { close(finished); <-stopped }
}
