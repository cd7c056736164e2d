package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
)

// place says where a command finds the environments repository.
type place struct {
	remote   string // URL or path that is fetched from and pushed to; "" when there is none
	worktree string // root folder of the working tree; "" when there is none
	project  string // folder of sluice.yaml in the repository, "." for its root
}

// locate finds the repository: --repo (or SLUICE_REPO), else the current
// folder's. A path may be a bare repository or a working tree; of a working
// tree the remote is its origin.
func (a *app) locate() (place, error) {
	target := a.repo
	if target != "" && isRemoteURL(target) {
		return place{remote: target, project: cleanProject(a.project)}, nil
	}
	dir := a.Dir
	if target != "" {
		dir = a.abs(target)
	}
	local, err := gitrepo.OpenLocal(dir)
	if err != nil {
		if target == "" && errors.Is(err, gitrepo.ErrNotRepository) {
			return place{}, withHint(fmt.Errorf("%s is not in a Git repository", dir), "name the environments repository with --repo or SLUICE_REPO, or change to a clone of it")
		}
		return place{}, err
	}
	defer local.Close()
	if local.Bare() {
		return place{remote: local.Dir(), project: cleanProject(a.project)}, nil
	}
	p := place{worktree: local.Dir(), project: cleanProject(a.project)}
	// A working tree without a remote can still be read.
	if remote, err := local.RemoteURL(); err == nil {
		p.remote = remote
	}
	if a.project == "" && target == "" {
		p.project = nearestProject(p.worktree, a.Dir)
	}
	return p, nil
}

func (a *app) abs(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(a.Dir, p)
}

// isRemoteURL tells URLs and scp-like addresses from paths, as git does.
func isRemoteURL(s string) bool {
	if strings.Contains(s, "://") {
		return true
	}
	colon := strings.Index(s, ":")
	return colon > 1 && !strings.Contains(s[:colon], "/") && !strings.Contains(s[:colon], `\`)
}

func cleanProject(p string) string {
	return path.Clean(strings.TrimPrefix(filepath.ToSlash(p), "/"))
}

// nearestProject is the nearest folder with a sluice.yaml from dir up to root.
func nearestProject(root, dir string) string {
	rel, err := filepath.Rel(root, dir)
	if err != nil || strings.HasPrefix(rel, "..") {
		return "."
	}
	for p := filepath.ToSlash(rel); ; p = path.Dir(p) {
		if info, err := os.Stat(filepath.Join(root, filepath.FromSlash(p), "sluice.yaml")); err == nil && info.Mode().IsRegular() {
			return p
		}
		if p == "." {
			return "."
		}
	}
}

// remoteRepository is the repository behind a place, opened once per command.
type remoteRepository struct {
	*gitrepo.Repository
	project string
	branch  string
}

// openRemote opens the remote repository and fetches the branch.
func (a *app) openRemote(ctx context.Context, change ...func(*gitrepo.Options)) (*remoteRepository, error) {
	p, err := a.locate()
	if err != nil {
		return nil, err
	}
	return a.openRemoteAt(ctx, p, change...)
}

func (a *app) openRemoteAt(ctx context.Context, p place, change ...func(*gitrepo.Options)) (_ *remoteRepository, err error) {
	if p.remote == "" {
		return nil, withHint(fmt.Errorf("the repository %s has no remote to commit to", p.worktree), "add one (git remote add origin URL) or name the repository with --repo")
	}
	done := a.progress("fetching the environments repository")
	defer done()
	options, err := a.gitOptions(p.remote)
	if err != nil {
		return nil, err
	}
	for _, c := range change {
		c(&options)
	}
	repo, err := gitrepo.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	return &remoteRepository{repo, p.project, a.branch}, nil
}

// gitOptions are the options of every repository that a command opens.
func (a *app) gitOptions(remote string) (gitrepo.Options, error) {
	o := gitrepo.Options{URL: remote, Branch: a.branch, CacheDir: a.cacheDir(), DisallowFile: a.remoteOnly}
	network, err := a.network()
	if err != nil {
		return o, err
	}
	o.Transport, o.SSHProxy = network.http, network.sshProxy
	if a.signingKeyFile != "" {
		if _, err := a.signingKey(); err != nil {
			return o, err // now, and not only with the first commit
		}
		o.SigningKey = a.signingKey
	}
	o.Credentials, err = a.gitCredentials(remote)
	return o, err
}

// snapshot is the project as of rev.
func (r *remoteRepository) snapshot(rev string) (*gitrepo.Snapshot, error) {
	snap, err := r.Snapshot(rev)
	if err != nil {
		return nil, err
	}
	return subProject(snap, r.project)
}

// open reads the project as the branch has it.
func (r *remoteRepository) open() (*envrepo.Repo, error) {
	snap, err := r.snapshot("HEAD")
	if err != nil {
		return nil, err
	}
	repo, err := envrepo.Open(snap)
	return repo, r.explain(err)
}

// subProject narrows a snapshot to the project folder.
func subProject(snap *gitrepo.Snapshot, project string) (*gitrepo.Snapshot, error) {
	if project == "." {
		return snap, nil
	}
	sub, err := snap.Sub(project)
	if err != nil {
		return nil, withHint(fmt.Errorf("the repository has no folder %s at %s: %w", project, short(snap.Revision()), err), "--project names the folder of sluice.yaml in the repository")
	}
	return sub, nil
}

// explain says of a repository without sluice.yaml which one it is, and the
// usual reason: what init wrote has not been pushed.
func (r *remoteRepository) explain(err error) error {
	var none *envrepo.NotProjectError
	if !errors.As(err, &none) {
		return err
	}
	at := "its root"
	if r.project != "." {
		at = "folder " + r.project
	}
	return withHint(fmt.Errorf("%s has no sluice.yaml in %s on branch %s", r.Name(), at, r.branch),
		"commit and push what `sluice init` wrote; or name the folder with --project, the branch with --branch")
}

// committed is what a state change did.
type committed struct {
	Message  string   `json:"message"`
	Changed  bool     `json:"changed"`
	Revision string   `json:"revision"`
	Notes    []string `json:"notes,omitempty"`
}

// edit is a pure change of the project's files.
type edit func(t *envrepo.Tree) (envrepo.Summary, error)

// change makes one commit on the remote branch. The edit is called again on
// fresh files when the branch has moved in between, so it must derive all it
// writes from the tree it is given.
func (r *remoteRepository) change(ctx context.Context, e edit) (committed, error) {
	return r.changeAt(ctx, func(_ *gitrepo.Snapshot, t *envrepo.Tree) (envrepo.Summary, error) { return e(t) })
}

// changeAt is change for an edit that also reads above the project folder.
func (r *remoteRepository) changeAt(ctx context.Context, e func(*gitrepo.Snapshot, *envrepo.Tree) (envrepo.Summary, error)) (committed, error) {
	var summary envrepo.Summary
	rev, err := r.Update(ctx, r.branch, func(snap *gitrepo.Snapshot) (gitrepo.Edit, error) {
		files := fs.FS(snap)
		if r.project != "." {
			sub, err := fs.Sub(snap, r.project)
			if err != nil {
				return gitrepo.Edit{}, err
			}
			files = sub
		}
		tree := envrepo.NewTree(files)
		var err error
		summary, err = e(snap, tree)
		if err != nil {
			return gitrepo.Edit{}, err
		}
		return gitEdit(summary.Message, r.project, tree), nil
	})
	if err != nil {
		return committed{}, r.explain(err)
	}
	return committed{summary.Message, summary.Changed, rev, summary.Notes}, nil
}

// gitEdit is what tree changed, with paths of the repository.
func gitEdit(message, project string, tree *envrepo.Tree) gitrepo.Edit {
	e := gitrepo.Edit{Message: message, Write: map[string][]byte{}}
	for name, data := range tree.Writes() {
		e.Write[path.Join(project, name)] = data
	}
	for _, name := range tree.Deletes() {
		e.Delete = append(e.Delete, path.Join(project, name))
	}
	return e
}

// changeRemote opens the remote repository, makes one commit and prints it.
func (a *app) changeRemote(ctx context.Context, e edit) error {
	repo, err := a.openRemote(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	done, err := repo.change(ctx, e)
	if err != nil {
		return err
	}
	return a.printCommitted(done)
}

func (a *app) printCommitted(c committed) error {
	for _, n := range c.Notes {
		a.note("note: %s", n)
	}
	return a.print(c, func(t *table) {
		if c.Changed {
			t.line(fmt.Sprintf("%s (%s)", printable(c.Message), short(c.Revision)))
			return
		}
		t.line(printable(c.Message))
	})
}

// short is how commits are named to people.
func short(rev string) string { return rev[:min(12, len(rev))] }

// cacheDir is the folder in which repositories are kept between commands; ""
// (a temporary folder) when there is no place for it.
func (a *app) cacheDir() string {
	if dir := a.Getenv("SLUICE_CACHE_DIR"); dir != "" {
		return dir
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(user, "sluice")
}
