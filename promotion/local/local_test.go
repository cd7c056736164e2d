package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/forgetest"
)

// git runs Git in a folder and returns what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com",
		"GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "git %s: %s", strings.Join(args, " "), out)
	return strings.TrimSpace(string(out))
}

// bare makes a bare repository with one commit on main.
func bare(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "environments.git")
	require.NoError(t, os.Mkdir(dir, 0o755))
	git(t, dir, "init", "--quiet", "--bare", "--initial-branch=main")
	git(t, dir, "config", "http.receivepack", "true")
	_, err := connect(t, dir).Repository.Update(t.Context(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
		return gitrepo.Edit{Message: "Start", Write: map[string][]byte{"README": []byte("first\n")}}, nil
	})
	require.NoError(t, err)
	return dir
}

// connect opens a remote in a mirror of its own.
func connect(t *testing.T, url string) forgetest.Client {
	t.Helper()
	repo, err := gitrepo.Open(t.Context(), gitrepo.Options{URL: url, Branch: "main", Author: "Test", Email: "test@example.com"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, repo.Close()) })
	forge := New(repo, "main")
	forge.Author = "ada"
	return forgetest.Client{Forge: forge, Repository: repo}
}

// serve serves the folder of a bare repository with git http-backend.
func serve(t *testing.T, dir string) string {
	t.Helper()
	backend := &cgi.Handler{
		Path:   filepath.Join(git(t, dir, "--exec-path"), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1"},
		Stderr: io.Discard,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// CGI wants the length, which a chunked request does not give.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/" + filepath.Base(dir)
}

func TestConformance(t *testing.T) {
	transports := map[string]func(*testing.T) string{
		"file": bare,
		"http": func(t *testing.T) string { return serve(t, bare(t)) },
	}
	for name, remote := range transports {
		t.Run(name, func(t *testing.T) {
			forgetest.Run(t, func(t *testing.T) forgetest.Remote {
				url := remote(t)
				return forgetest.Remote{
					Branch: "main", GuardsTarget: true,
					Connect: func(t *testing.T) forgetest.Client { return connect(t, url) },
					Statuses: func(t *testing.T, commit string) []promotion.Status {
						return statusesAt(t, connect(t, url).Forge.(*Forge), commit)
					},
				}
			})
		})
	}
}

// statusesAt are the statuses of any commit.
func statusesAt(t *testing.T, f *Forge, commit string) (list []promotion.Status) {
	t.Helper()
	v, err := f.look(t.Context())
	require.NoError(t, err)
	list, err = v.statuses(commit)
	require.NoError(t, err)
	return list
}

// bench is a repository with a client, for what only this forge does.
type bench struct {
	*testing.T
	dir   string
	repo  *gitrepo.Repository
	forge *Forge
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := bare(t)
	client := connect(t, dir)
	forge := client.Forge.(*Forge)
	forge.Now = func() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }
	return &bench{T: t, dir: dir, repo: client.Repository, forge: forge}
}

func (b *bench) git(args ...string) string { b.Helper(); return git(b.T, b.dir, args...) }

// put commits a file on top of a commit, locally.
func (b *bench) put(parent, name, content string) string {
	b.Helper()
	hash, err := b.repo.WriteCommit([]string{parent}, parent, gitrepo.Edit{
		Message: "Change " + name, Write: map[string][]byte{name: []byte(content)},
	})
	require.NoError(b, err)
	return hash
}

func (b *bench) push(ref, old, new string) {
	b.Helper()
	require.NoError(b, b.repo.Push(b.Context(), []gitrepo.RefUpdate{{Name: ref, Old: old, New: new}}))
}

func (b *bench) main() string {
	b.Helper()
	refs, err := b.repo.FetchRefs(b.Context(), "refs/heads/main")
	require.NoError(b, err)
	return refs["refs/heads/main"]
}

func (b *bench) open(component, content string) promotion.PullRequest {
	b.Helper()
	p, err := b.forge.Open(b.Context(), promotion.Spec{
		Branch: promotion.BranchName("staging", component), Target: "main", Head: b.put(b.main(), component, content),
		Title: "Promote " + component + " to staging", Body: "Evidence.\n\n- one\n",
		Environment: "staging", Components: []string{component},
	})
	require.NoError(b, err)
	return p
}

func (b *bench) get(number int) promotion.PullRequest {
	b.Helper()
	p, err := b.forge.Get(b.Context(), number)
	require.NoError(b, err)
	return p
}

func TestWhatIsStored(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	require.NoError(t, b.forge.SetStatuses(t.Context(), p.Head, []promotion.Status{
		{Context: "sluice/soak", State: promotion.StatusPending, Description: "awaited"},
	}))
	assert.Equal(t, `body: |
  Evidence.

  - one
author: ada
branch: sluice/promote/staging/api
components:
- api
created: "2026-11-21T10:00:00Z"
environment: staging
head: `+p.Head+`
number: 1
state: open
target: main
title: Promote api to staging
updated: "2026-11-21T10:00:00Z"`, reorder(b.git("show", Ref+":1.yaml")))

	_, err := b.forge.Merge(t.Context(), 1, promotion.MergeSpec{Head: p.Head})
	require.NoError(t, err)
	second := b.open("api", "2")
	require.NoError(t, b.forge.Close(t.Context(), second.Number, "withdrawn\nfor a reason"))
	assert.Equal(t, "archive/0/1.yaml\narchive/0/2.yaml", b.git("ls-tree", "-r", "--name-only", Ref))
	assert.Contains(t, b.git("show", Ref+":archive/0/1.yaml"), "context: sluice/soak")
	assert.Equal(t, "awaited", b.get(1).Statuses[0].Description)
	assert.Equal(t, `Close #2: withdrawn
Open #2: Promote api to staging
Merge #1: Promote api to staging
Set statuses of `+p.Head[:12]+`
Open #1: Promote api to staging`, b.git("log", "--format=%s", Ref))
	assert.Equal(t, "refs/heads/main\n"+Ref, b.git("for-each-ref", "--format=%(refname)"), "no branch is left behind")
	b.git("fsck", "--strict", "--no-dangling")
}

// reorder puts the body first: the encoder sorts it between other fields.
func reorder(text string) string {
	var body, rest []string
	inside := false
	for _, line := range strings.Split(text, "\n") {
		inside = strings.HasPrefix(line, "body:") || inside && (line == "" || strings.HasPrefix(line, " "))
		if inside {
			body = append(body, line)
		} else {
			rest = append(rest, line)
		}
	}
	return strings.Join(append(body, rest...), "\n")
}

func TestSquashedByHandIsMerged(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	start := b.main()
	squashed := b.put(start, "api", "1")
	b.push("refs/heads/main", start, squashed)
	got := b.get(p.Number)
	assert.Equal(t, promotion.Merged, got.State)
	assert.Equal(t, squashed, got.MergedRevision)

	b.push("refs/heads/main", squashed, b.put(squashed, "api", "2"))
	got = b.get(p.Number)
	assert.Equal(t, promotion.Merged, got.State, "a later change does not open it again")
	assert.Equal(t, squashed, got.MergedRevision)
}

// The statuses of a head that somebody merges meanwhile go where those go that it has.
func TestStatusesOfWhatIsMergedByHand(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	first := promotion.Status{Context: "sluice/soak", State: promotion.StatusPending, Description: "25m"}
	require.NoError(t, b.forge.SetStatuses(t.Context(), p.Head, []promotion.Status{first}))
	start := b.main()
	b.push("refs/heads/main", start, b.put(start, "api", "1"))

	second := promotion.Status{Context: "sluice/scope", State: promotion.StatusSuccess, Description: "only the digest"}
	require.NoError(t, b.forge.SetStatuses(t.Context(), p.Head, []promotion.Status{second}))
	got := b.get(p.Number)
	assert.Equal(t, promotion.Merged, got.State)
	assert.Equal(t, []promotion.Status{second, first}, got.Statuses)
	assert.Equal(t, "archive/0/1.yaml", b.git("ls-tree", "-r", "--name-only", Ref), "nothing is left behind")
}

func TestGoingBackIsNotMergedYet(t *testing.T) {
	b := newBench(t)
	first := b.put(b.main(), "api", "1")
	b.push("refs/heads/main", b.main(), first)
	b.push("refs/heads/main", first, b.put(first, "api", "2"))
	p := b.open("api", "1")
	assert.Equal(t, promotion.Open, b.get(p.Number).State, "that main had it once is no merge")
	b.push("refs/heads/main", b.main(), b.put(b.main(), "web", "1"))
	assert.Equal(t, promotion.Open, b.get(p.Number).State)
}

func TestBranchDeletedAndCollected(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	b.git("update-ref", "-d", "refs/heads/"+p.Branch)
	b.git("gc", "--quiet", "--prune=now")

	other := connect(t, b.dir)
	got, err := other.Forge.Get(t.Context(), p.Number)
	require.NoError(t, err)
	assert.Equal(t, promotion.Closed, got.State)
	assert.Equal(t, "the branch was deleted", got.Reason)
}

func TestConflictNamesTheFiles(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	b.push("refs/heads/main", b.main(), b.put(b.main(), "api", "2"))
	_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	var conflict *promotion.ConflictError
	require.ErrorAs(t, err, &conflict)
	assert.Equal(t, []string{"api"}, conflict.Files)
	assert.EqualError(t, err, "pull request #1: the pull request conflicts with its target: both changed api")
}

func TestArchiveByHundreds(t *testing.T) {
	b := newBench(t)
	b.open("api", "1")
	record := strings.NewReplacer("number: 1\n", "number: 4711\n", "state: open", "state: closed").Replace(b.git("show", Ref+":1.yaml"))
	refs, err := b.repo.FetchRefs(t.Context(), Ref)
	require.NoError(t, err)
	later, err := b.repo.WriteCommit([]string{refs[Ref]}, refs[Ref], gitrepo.Edit{Message: "Later", Write: map[string][]byte{
		"archive/47/4711.yaml": []byte(record),
		"archive/9/999.yaml":   []byte(strings.Replace(record, "4711", "999", 1)),
		"archive/README":       []byte("no record"),
	}})
	require.NoError(t, err)
	b.push(Ref, refs[Ref], later)

	assert.Equal(t, 4712, b.open("web", "1").Number)
	assert.Equal(t, promotion.Closed, b.get(4711).State)
	list, err := b.forge.List(t.Context(), promotion.ListOptions{})
	require.NoError(t, err)
	var numbers []int
	for _, p := range list {
		numbers = append(numbers, p.Number)
	}
	assert.Equal(t, []int{4712, 4711, 999, 1}, numbers)
}

// TestHostileRecords: whoever may push can write anything into Ref. No record
// makes this forge act on a branch that is not the record's own, and a broken
// one hides no other.
func TestHostileRecords(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	good := b.git("show", Ref+":1.yaml")
	tests := []struct{ name, record, reason string }{
		{"branch is main", strings.Replace(good, "branch: sluice/promote/staging/api", "branch: main", 1), `"main" is not the branch of a promotion`},
		{"branch leaves its folder", strings.Replace(good, "staging/api", "../../main", 1), "is not the branch of a promotion"},
		{"other number", strings.Replace(good, "number: 1", "number: 7", 1), "number is 7"},
		{"no state", strings.Replace(good, "state: open", "state: approved", 1), `unknown state "approved"`},
		{"head is an option", strings.Replace(good, "head: "+p.Head, "head: --upload-pack=evil", 1), "is not a commit"},
		{"other environment", strings.Replace(good, "environment: staging", "environment: production", 1), `environment "production" is not the branch's`},
		{"other components", strings.Replace(good, "- api", "- api\n- web", 1), "are not the branch's"},
		{"unknown field", good + "\napproved: true\n", "approved"},
		{"no YAML", "{", "yaml"},
		{"huge", good + "\n#" + strings.Repeat("x", maxRecord), "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			record := strings.Replace(tt.record, "number: 1\n", "number: 2\n", 1)
			refs, err := b.repo.FetchRefs(t.Context(), Ref)
			require.NoError(t, err)
			bad, err := b.repo.WriteCommit([]string{refs[Ref]}, refs[Ref], gitrepo.Edit{
				Message: "Evil", Write: map[string][]byte{"2.yaml": []byte(record)},
			})
			require.NoError(t, err)
			b.push(Ref, refs[Ref], bad)

			got := b.get(2)
			assert.Equal(t, promotion.Closed, got.State)
			assert.Contains(t, got.Reason, tt.reason)
			assert.Equal(t, promotion.Open, b.get(p.Number).State)
			require.NoError(t, b.forge.Close(t.Context(), 2, "away"))
			_, err = b.forge.Merge(t.Context(), 2, promotion.MergeSpec{Head: p.Head})
			require.ErrorIs(t, err, promotion.ErrClosed)
			assert.Equal(t, "refs/heads/main\nrefs/heads/sluice/promote/staging/api", b.git("for-each-ref", "--format=%(refname)", "refs/heads"))
		})
	}
}

func TestRecordWithAnotherTargetIsNotMerged(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	refs, err := b.repo.FetchRefs(t.Context(), Ref)
	require.NoError(t, err)
	record := strings.Replace(b.git("show", Ref+":1.yaml"), "target: main", "target: playground", 1)
	bad, err := b.repo.WriteCommit([]string{refs[Ref]}, refs[Ref], gitrepo.Edit{Message: "Retarget", Write: map[string][]byte{"1.yaml": []byte(record)}})
	require.NoError(t, err)
	b.push(Ref, refs[Ref], bad)
	_, err = b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: p.Head})
	require.ErrorIs(t, err, promotion.ErrRefused)
}

func TestWhatMayNotBeMergedByContent(t *testing.T) {
	b := newBench(t)
	p := b.open("api", "1")
	work := t.TempDir()
	git(t, work, "clone", "--quiet", b.dir, ".")
	git(t, work, "checkout", "--quiet", p.Branch)
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(work, "link")))
	git(t, work, "add", "link")
	git(t, work, "commit", "--quiet", "-m", "Link")
	git(t, work, "push", "--quiet", "origin", p.Branch)

	head := b.get(p.Number).Head
	_, err := b.forge.Merge(t.Context(), p.Number, promotion.MergeSpec{Head: head})
	require.ErrorIs(t, err, promotion.ErrRefused)
	assert.ErrorContains(t, err, "link is not a regular file")
}

func TestOpenRefuses(t *testing.T) {
	b := newBench(t)
	good := promotion.Spec{Branch: "sluice/promote/staging/api", Target: "main", Head: b.main(), Title: "x"}
	for name, change := range map[string]func(*promotion.Spec){
		"a branch that is no promotion's": func(s *promotion.Spec) { s.Branch = "main" },
		"another target":                  func(s *promotion.Spec) { s.Target = "playground" },
		"a short commit":                  func(s *promotion.Spec) { s.Head = "abc" },
		"no title":                        func(s *promotion.Spec) { s.Title = " " },
	} {
		spec := good
		change(&spec)
		_, err := b.forge.Open(t.Context(), spec)
		require.Error(t, err, name)
	}
	assert.Equal(t, "refs/heads/main", b.git("for-each-ref", "--format=%(refname)"))
}

// What is written can be read again: a comment that would make the record
// unreadable is refused.
func TestCommentsAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.open("api", "1")
	forge := b.forge
	full := b.git("show", Ref+":1.yaml") + "\ncomments:\n"
	for i := range maxComments {
		full += fmt.Sprintf("- {key: note/%02d, body: Noted.}\n", i)
	}
	refs, err := b.repo.FetchRefs(t.Context(), Ref)
	require.NoError(t, err)
	b.push(Ref, refs[Ref], b.put(refs[Ref], "1.yaml", full))
	require.ErrorContains(t, forge.Comment(t.Context(), p.Number, "one/more", "Noted."), "it has 100 comments, and keeps no more")
	require.NoError(t, forge.Comment(t.Context(), p.Number, "note/07", "Changed."))
	require.ErrorContains(t, forge.Comment(t.Context(), p.Number, "note/07", strings.Repeat("x", maxRecord)), "is longer than")
	assert.Len(t, b.get(p.Number).Comments, maxComments)
}

func TestUnknownBranch(t *testing.T) {
	b := newBench(t)
	_, err := New(b.repo, "trunk").List(t.Context(), promotion.ListOptions{})
	require.ErrorIs(t, err, gitrepo.ErrUnknownBranch)
}

func TestBusyError(t *testing.T) {
	var hint interface{ Hint() string }
	require.True(t, errors.As(error(&BusyError{Attempts: 3}), &hint))
	assert.EqualError(t, &BusyError{Attempts: 3}, "writing refs/sluice/pulls: other writers were faster 3 times")
}

func FuzzDecode(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte("number: 1\ntitle: x\nstate: open\nbranch: sluice/promote/staging/api\ntarget: main\nenvironment: staging\ncomponents: [api]\n" +
		"head: 0123456789012345678901234567890123456789\ncreated: 2026-11-21T10:00:00Z\nupdated: 2026-11-21T10:00:00Z\nbody: |\n  x\n"))
	f.Add([]byte("number: 1\nstate: merged\nbranch: sluice/promote/production/all\nenvironment: production\ncomponents: [api, web]\nhead: 0123456789012345678901234567890123456789\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decode(1, data)
		if err != nil {
			return
		}
		_, _, ok := promotion.ParseBranch(rec.Branch)
		assert.True(t, ok, "a record that is acted upon names a promotion's branch")
		encoded, err := rec.encode()
		require.NoError(t, err)
		again, err := decode(1, encoded)
		require.NoError(t, err)
		assert.True(t, rec.equal(again))
	})
}

func FuzzDecodeStatuses(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte("statuses:\n- {context: sluice/soak, state: pending, description: x}\n"))
	f.Add([]byte("statuses: 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		statuses, err := decodeStatuses(data)
		if err == nil {
			assert.LessOrEqual(t, len(statuses), maxStatuses)
		}
	})
}
