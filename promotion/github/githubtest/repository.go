package githubtest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const heads = "refs/heads/"

// Repository is one repository of the server.
type Repository struct {
	// Dir is the bare repository; what is done there directly is noticed with the
	// next request.
	Dir string

	s           *Server
	id          int64
	name        string // OWNER/NAME
	created     time.Time
	pulls       map[int]*pull
	number      int // the last one given to a pull request
	comments    []*comment
	labels      []label
	statuses    map[string][]*status // by commit, oldest first
	deployments []*deployment
	protected   map[string]string // why a branch may not be merged into
	hooks       []hook
	refs        map[string]string // as last seen
}

// Create makes an empty repository; its default branch is main.
func (s *Server) Create(name string) *Repository {
	s.t.Helper()
	r := &Repository{
		Dir: filepath.Join(s.root, name+".git"), s: s, name: name, created: now(), pulls: map[int]*pull{},
		statuses: map[string][]*status{}, protected: map[string]string{}, refs: map[string]string{},
	}
	if out, err := exec.Command("git", "init", "-q", "--bare", "-b", "main", r.Dir).CombinedOutput(); err != nil {
		s.t.Fatalf("git init: %v: %s", err, out)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.id = s.id()
	s.repos[name] = r
	return r
}

// Seed makes the first commit of main, with a file README.
func (r *Repository) Seed() {
	r.s.t.Helper()
	blob := r.must([]byte("Environments.\n"), "hash-object", "-w", "--stdin")
	tree := r.must([]byte("100644 blob "+blob+"\tREADME\n"), "mktree")
	r.must(nil, "update-ref", heads+"main", r.must(nil, "commit-tree", tree, "-m", "Start"))
}

func (r *Repository) must(stdin []byte, args ...string) string {
	r.s.t.Helper()
	out, err := r.gitIn(stdin, args...)
	if err != nil {
		r.s.t.Fatalf("githubtest: %v", err)
	}
	return out
}

// URL is where Git reaches the repository; the token goes with it as password.
func (r *Repository) URL() string { return r.s.URL + "/" + r.name + ".git" }

// Protect makes merges into a branch fail for a reason; "" lifts it.
func (r *Repository) Protect(branch, reason string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.protected[branch] = reason
}

// Rename gives the repository another name; the old one leads there.
func (r *Repository) Rename(name string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	delete(r.s.repos, r.name)
	r.s.renamed[r.name] = name
	r.name = name
	r.s.repos[name] = r
}

// Delete removes the repository.
func (r *Repository) Delete() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	delete(r.s.repos, r.name)
}

// git runs git in the repository and returns its output without the last newline.
func (r *Repository) git(args ...string) (string, error) { return r.gitIn(nil, args...) }

func (r *Repository) gitIn(stdin []byte, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", r.Dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=githubtest", "GIT_AUTHOR_EMAIL=githubtest@example.com",
		"GIT_COMMITTER_NAME=githubtest", "GIT_COMMITTER_EMAIL=githubtest@example.com")
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSuffix(string(out), "\n"), err
}

// owns reports whether the repository has a commit.
func (r *Repository) owns(commit string) bool {
	_, err := r.git("cat-file", "-e", commit+"^{commit}")
	return err == nil
}

func (r *Repository) contains(branch, commit string) bool {
	_, err := r.git("merge-base", "--is-ancestor", commit, branch)
	return err == nil
}

// refresh lets the pull requests follow the branches, and tells the webhooks
// which branches have moved.
func (r *Repository) refresh() error {
	out, err := r.git("for-each-ref", "--format=%(objectname) %(refname)", heads)
	if err != nil {
		return err
	}
	refs := map[string]string{}
	for line := range strings.Lines(out) {
		hash, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs[strings.TrimPrefix(name, heads)] = hash
	}
	before := r.refs
	r.refs = refs
	for _, p := range r.pulls {
		if p.state == "open" && (before[p.head] != refs[p.head] || before[p.base] != refs[p.base]) {
			if err := r.follow(p); err != nil {
				return err
			}
		}
	}
	r.announcePushes(before)
	return nil
}

// follow settles one open pull request after its head or its base has moved.
func (r *Repository) follow(p *pull) error {
	head, exists := r.refs[p.head]
	moved := exists && head != p.sha
	if moved {
		p.sha, p.updated = head, now()
	}
	base, based := r.refs[p.base]
	switch {
	case based && r.contains(base, p.sha):
		revision, err := r.landed(base, p.sha)
		if err != nil {
			return err
		}
		p.settle(revision)
		r.announcePull(p, "closed")
	case !exists || !based:
		p.settle("")
		r.announcePull(p, "closed")
	case moved:
		r.announcePull(p, "synchronize")
	}
	return nil
}

// landed is the revision of a branch with which a commit came into it.
func (r *Repository) landed(base, commit string) (string, error) {
	out, err := r.git("rev-list", "--first-parent", base)
	if err != nil {
		return "", err
	}
	found := base
	for revision := range strings.Lines(out) {
		if revision = strings.TrimSpace(revision); !r.contains(revision, commit) {
			break
		}
		found = revision
	}
	return found, nil
}

// git serves the repositories by smart HTTP.
func (s *Server) git(w http.ResponseWriter, r *http.Request) {
	name, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	_, token, _ := r.BasicAuth()
	s.mu.Lock()
	who, known := s.tokens[token]
	if to, moved := s.renamed[name]; moved {
		s.mu.Unlock()
		http.Redirect(w, r, strings.Replace(r.URL.String(), name, to, 1), http.StatusMovedPermanently)
		return
	}
	repo := s.repos[name]
	s.mu.Unlock()
	writes := strings.HasSuffix(r.URL.Path, "/git-receive-pack") || r.URL.Query().Get("service") == "git-receive-pack"
	switch {
	case !known:
		w.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
		http.Error(w, "Invalid username or token.", http.StatusUnauthorized)
		return
	case !ok || repo == nil || who.access == NoAccess:
		http.Error(w, "Repository not found.", http.StatusNotFound)
		return
	case writes && who.access != Write:
		http.Error(w, "Write access to repository not granted.", http.StatusForbidden)
		return
	}
	backend := &cgi.Handler{
		Path: "/usr/bin/env", Args: []string{"git", "http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + s.root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + who.login,
			"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "PATH=" + os.Getenv("PATH")},
	}
	r.URL.Path = strings.Replace(r.URL.Path, "/"+name+".git", "/"+strings.TrimPrefix(filepath.ToSlash(repo.Dir), filepath.ToSlash(s.root)+"/"), 1)
	backend.ServeHTTP(w, r)
	if writes {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := repo.refresh(); err != nil {
			s.t.Errorf("githubtest: %v", err)
		}
	}
}

// Server is where the repository is.
func (r *Repository) Server() *Server { return r.s }

// Name is OWNER/NAME.
func (r *Repository) Name() string {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.name
}
