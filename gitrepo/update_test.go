package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestConcurrentWriters: every writer appends a line to one shared file, so
// that a lost update would show as a missing line, and a doubled one twice.
func TestConcurrentWriters(t *testing.T) {
	for _, c := range []struct {
		name    string
		writers int
		serve   func(t testing.TB, dir string) Options
		shared  bool // one handle for all, otherwise each has a mirror of its own
		cache   bool // own handles on one cache folder, as several processes have
	}{
		{"one handle", 50, servings[0].serve, true, false},
		{"a handle each", 50, servings[0].serve, false, false},
		{"a handle each on one cache", 12, servings[0].serve, false, true},
		{"a handle each over http", 12, servings[2].serve, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := bare(t, map[string]string{"log": ""})
			o := c.serve(t, dir)
			if c.cache {
				o.CacheDir = t.TempDir()
			}
			handles := make([]*Repository, c.writers)
			for i := range handles {
				if i == 0 || !c.shared {
					handles[i] = open(t, o)
				} else {
					handles[i] = handles[0]
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			revs, errs := make([]string, c.writers), make([]error, c.writers)
			for i := range c.writers {
				wg.Go(func() {
					revs[i], errs[i] = handles[i].Update(ctx, "main", func(s *Snapshot) (Edit, error) {
						old, err := s.ReadFile("log")
						line := fmt.Sprintf("writer %d\n", i)
						return Edit{Message: strings.TrimSpace(line), Write: map[string][]byte{"log": append(old, line...)}}, err
					})
				})
			}
			wg.Wait()
			var want []string
			for i := range c.writers {
				require.NoError(t, errs[i])
				want = append(want, fmt.Sprintf("writer %d", i))
			}
			lines := strings.Split(git(t, dir, "show", "main:log"), "\n")
			assert.ElementsMatch(t, want, lines)
			// One parent each, in the order of the lines: linear.
			history := strings.Split(git(t, dir, "log", "--reverse", "--format=%s %p", "main"), "\n")[1:]
			require.Len(t, history, c.writers)
			for i, h := range history {
				assert.Len(t, strings.Fields(h), 3, h)
				assert.True(t, strings.HasPrefix(h, lines[i]+" "), h)
			}
			slices.Sort(revs)
			assert.Len(t, slices.Compact(revs), c.writers, "each has a revision of its own")
			fsck(t, dir)
		})
	}
}

// receiving intercepts pushes on their way to git http-backend.
func receiving(intercept func(w http.ResponseWriter, req *http.Request, backend http.Handler)) func(http.Handler) http.Handler {
	return func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/git-receive-pack") {
				intercept(w, req, backend)
				return
			}
			backend.ServeHTTP(w, req)
		})
	}
}

func hangUpOn(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// counting is an edit that is not idempotent, like traffic promote: doing it
// twice would show.
func counting(calls *atomic.Int32) func(*Snapshot) (Edit, error) {
	return func(s *Snapshot) (Edit, error) {
		calls.Add(1)
		old, _ := s.ReadFile("count")
		return Edit{Message: "count", Write: map[string][]byte{"count": append(bytes.Clone(old), '+')}}, nil
	}
}

func TestPushWhoseAnswerIsLost(t *testing.T) {
	dir := bare(t, map[string]string{"count": ""})
	var pushes, calls atomic.Int32
	r := open(t, serveHTTP(t, dir, receiving(func(w http.ResponseWriter, req *http.Request, backend http.Handler) {
		backend.ServeHTTP(httptest.NewRecorder(), req) // it happens, and nobody hears of it
		pushes.Add(1)
		hangUpOn(w)
	})))
	rev, err := r.Update(context.Background(), "main", counting(&calls))
	require.NoError(t, err)
	assert.Equal(t, rev, git(t, dir, "rev-parse", "main"))
	assert.Equal(t, "+", git(t, dir, "show", "main:count"))
	assert.EqualValues(t, 1, pushes.Load())
	assert.EqualValues(t, 1, calls.Load())
}

func TestPushThatNeverArrived(t *testing.T) {
	dir := bare(t, map[string]string{"count": ""})
	var pushes, calls atomic.Int32
	r := open(t, serveHTTP(t, dir, receiving(func(w http.ResponseWriter, req *http.Request, backend http.Handler) {
		if pushes.Add(1) == 1 {
			hangUpOn(w)
			return
		}
		backend.ServeHTTP(w, req)
	})))
	rev, err := r.Update(context.Background(), "main", counting(&calls))
	require.NoError(t, err)
	assert.Equal(t, rev, git(t, dir, "rev-parse", "main"))
	assert.Equal(t, "+", git(t, dir, "show", "main:count"))
	assert.EqualValues(t, 2, pushes.Load())
}

// The first push is held back until the second one is on its way: the second
// must lose, and the first then counts.
func TestPushThatArrivesLate(t *testing.T) {
	dir := bare(t, map[string]string{"count": ""})
	var pushes, calls atomic.Int32
	var held []byte
	r := open(t, serveHTTP(t, dir, receiving(func(w http.ResponseWriter, req *http.Request, backend http.Handler) {
		if pushes.Add(1) == 1 {
			held, _ = io.ReadAll(req.Body)
			hangUpOn(w)
			return
		}
		late := req.Clone(context.Background())
		late.Body, late.ContentLength = io.NopCloser(bytes.NewReader(held)), int64(len(held))
		late.Header.Set("Content-Length", fmt.Sprint(len(held)))
		backend.ServeHTTP(httptest.NewRecorder(), late)
		backend.ServeHTTP(w, req)
	})))
	tick := clock()
	r.now = func() time.Time { tick = tick.Add(time.Second); return tick } // no two commits are the same
	rev, err := r.Update(context.Background(), "main", counting(&calls))
	require.NoError(t, err)
	assert.Equal(t, rev, git(t, dir, "rev-parse", "main"))
	assert.Equal(t, "+", git(t, dir, "show", "main:count"), "done once")
	assert.EqualValues(t, 2, calls.Load(), "the edit is not called again once the first push shows")
	assert.EqualValues(t, 2, pushes.Load())
}

// Another writer builds on the commit whose push broke off.
func TestPushWhoseAnswerIsLostAndOthersWentOn(t *testing.T) {
	dir := bare(t, map[string]string{"count": ""})
	var calls atomic.Int32
	var first string
	r := open(t, serveHTTP(t, dir, receiving(func(w http.ResponseWriter, req *http.Request, backend http.Handler) {
		backend.ServeHTTP(httptest.NewRecorder(), req)
		first = git(t, dir, "rev-parse", "main")
		commitFiles(t, dir, "main", "on top", map[string]string{"other": "x"})
		hangUpOn(w)
	})))
	rev, err := r.Update(context.Background(), "main", counting(&calls))
	require.NoError(t, err)
	assert.Equal(t, first, rev)
	assert.Equal(t, "on top\ncount\nfirst", git(t, dir, "log", "--format=%s", "main"))
	assert.EqualValues(t, 1, calls.Load())
}

func TestPushThatKeepsFailing(t *testing.T) {
	dir := bare(t, map[string]string{"count": ""})
	var calls atomic.Int32
	r := open(t, serveHTTP(t, dir, receiving(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, "bad gateway", http.StatusBadGateway)
	})))
	r.backoff = func(int, time.Duration) time.Duration { return 0 }
	_, err := r.Update(context.Background(), "main", counting(&calls))
	require.ErrorIs(t, err, ErrUncertain)
	assert.Contains(t, err.Error(), "status code: 502; the outcome of the push is unknown")
	assert.Equal(t, "look at the repository before trying again: the commit may have arrived", hint(t, err))
	assert.EqualValues(t, maxFailures, calls.Load())
	assert.Empty(t, git(t, dir, "show", "main:count"))
}

func TestUpdateStopsWithItsContext(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	r := open(t, Options{URL: dir})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := r.Update(ctx, "main", func(*Snapshot) (Edit, error) {
		commitFiles(t, dir, "main", "faster", map[string]string{"a": "x"})
		cancel()
		return Edit{Message: "m", Write: map[string][]byte{"a": []byte("2")}}, nil
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, "x", git(t, dir, "show", "main:a"))
	rev, err := r.Update(context.Background(), "main", write("after", map[string]string{"a": "3"}))
	require.NoError(t, err, "the handle stays usable")
	assert.Equal(t, rev, git(t, dir, "rev-parse", "main"))
}

// A remote that cannot take the ref's lock although nobody moves the ref: the
// push is repeated, and given up as refused.
func TestPushToBusyRemote(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	r := open(t, Options{URL: dir})
	lock := filepath.Join(dir, "refs", "heads", "main.lock")
	require.NoError(t, os.WriteFile(lock, nil, 0o600))
	waits := 0
	r.backoff = func(int, time.Duration) time.Duration { waits++; return 0 }
	_, err := r.Update(context.Background(), "main", write("m", map[string]string{"a": "2"}))
	var rejected *RejectedError
	require.ErrorAs(t, err, &rejected)
	assert.Equal(t, "failed to update ref", rejected.Reason)
	assert.Equal(t, busyAttempts, waits)

	r.backoff = func(int, time.Duration) time.Duration { os.Remove(lock); return 0 }
	_, err = r.Update(context.Background(), "main", write("m", map[string]string{"a": "2"}))
	require.NoError(t, err, "it is only retried while it is busy")
	assert.Equal(t, "2", git(t, dir, "show", "main:a"))
}

func TestPushToCheckedOutBranch(t *testing.T) {
	work := t.TempDir()
	git(t, work, "init", "--quiet", "--initial-branch=main")
	git(t, work, "commit", "--quiet", "--allow-empty", "-m", "first")
	r := open(t, Options{URL: work})
	_, err := r.Update(context.Background(), "main", write("m", map[string]string{"a": "2"}))
	var rejected *RejectedError
	require.ErrorAs(t, err, &rejected)
	assert.Equal(t, "branch is currently checked out", rejected.Reason)
	assert.Contains(t, hint(t, err), "push to a bare repository")
}

func TestPushOfOneDeclinedRefAmongSeveral(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	hook := "#!/bin/sh\ncase $1 in refs/heads/main) echo main is closed >&2; exit 1;; esac\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hooks", "update"), []byte(hook), 0o755))
	r := open(t, Options{URL: dir})
	main := git(t, dir, "rev-parse", "main")
	c, err := r.WriteCommit([]string{"main"}, "main", Edit{Message: "m", Write: map[string][]byte{"a": []byte("2")}})
	require.NoError(t, err)
	err = r.Push(context.Background(), []RefUpdate{{Name: "refs/heads/a", New: c}, {Name: "refs/heads/main", Old: main, New: c}, {Name: "refs/heads/z", New: c}})
	var rejected *RejectedError
	require.ErrorAs(t, err, &rejected)
	assert.Equal(t, "refs/heads/main", rejected.Ref)
	assert.Equal(t, "hook declined", rejected.Reason)
	assert.Equal(t, []string{"main is closed", "error: hook declined to update refs/heads/main"}, rejected.Messages)
	assert.Equal(t, "refs/heads/main", git(t, dir, "for-each-ref", "--format=%(refname)"))
}

func TestPushOfBadUpdates(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	r := open(t, Options{URL: dir})
	main := git(t, dir, "rev-parse", "main")
	for _, c := range []struct {
		updates []RefUpdate
		want    string
	}{
		{[]RefUpdate{{Name: "main", Old: main, New: main}}, "pushing main to REPO: it is no full ref name"},
		{[]RefUpdate{{Name: "refs/heads/a..b", New: main}}, "pushing refs/heads/a..b to REPO: it is no full ref name"},
		{[]RefUpdate{{Name: "refs/../config", New: main}}, "pushing refs/../config to REPO: it is no full ref name"},
		{[]RefUpdate{{Name: "refs/heads/x", New: "main"}}, `pushing refs/heads/x to REPO: "main" is no full hash`},
		{[]RefUpdate{{Name: "refs/heads/x"}}, "pushing refs/heads/x to REPO: neither the old nor the new value is given"},
		{[]RefUpdate{{Name: "refs/heads/x", New: main}, {Name: "refs/heads/x", New: main}}, "pushing refs/heads/x to REPO: the ref is named twice"},
		{[]RefUpdate{{Name: "refs/heads/x", New: strings.Repeat("1", 40)}}, `REPO has no revision "1111111111111111111111111111111111111111"`},
	} {
		err := r.Push(context.Background(), c.updates)
		require.Error(t, err)
		assert.Equal(t, c.want, strings.ReplaceAll(err.Error(), dir, "REPO"))
	}
	require.NoError(t, r.Push(context.Background(), nil))
}

func TestErrorsOfEdits(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	r := open(t, Options{URL: dir})
	_, err := r.Update(context.Background(), "main", func(*Snapshot) (Edit, error) {
		return Edit{Message: "m", Write: map[string][]byte{"../x": nil}}, nil
	})
	var edit *EditError
	require.ErrorAs(t, err, &edit)
	_, err = r.Update(context.Background(), "main", func(*Snapshot) (Edit, error) {
		return Edit{Message: " \n", Write: map[string][]byte{"x": nil}}, nil
	})
	require.ErrorAs(t, err, &edit)
	assert.Equal(t, "", edit.Path)
	boom := errors.New("boom")
	_, err = r.Update(context.Background(), "main", func(*Snapshot) (Edit, error) { return Edit{}, boom })
	assert.Same(t, boom, err)
}

func TestBackoffStaysInItsBounds(t *testing.T) {
	for _, took := range []time.Duration{-1, 0, time.Millisecond, 300 * time.Millisecond, time.Hour} {
		for attempt := -1; attempt < 600; attempt++ {
			d := backoff(attempt, took)
			assert.GreaterOrEqual(t, d, time.Duration(0))
			assert.Less(t, d, min(max(took, 10*time.Millisecond), time.Second)<<min(max(attempt, 0), 5))
		}
	}
}

// TestUpdateOfABranchJustSeen: what Open has seen is not asked for again, unless the
// push, or an edit that fails or changes nothing, shows that it may be outdated.
func TestUpdateOfABranchJustSeen(t *testing.T) {
	dir := bare(t, map[string]string{"count": "1"})
	var listings atomic.Int32
	o := serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Query().Get("service") == "git-upload-pack" {
				listings.Add(1)
			}
			backend.ServeHTTP(w, req)
		})
	})
	ctx := context.Background()
	// counted is an edit that notes which files it was called with.
	counted := func(seen *[]string, edit func(old string) (Edit, error)) func(*Snapshot) (Edit, error) {
		return func(s *Snapshot) (Edit, error) {
			old, err := s.ReadFile("count")
			if err != nil {
				return Edit{}, err
			}
			*seen = append(*seen, string(old))
			return edit(string(old))
		}
	}
	add := func(old string) (Edit, error) {
		return Edit{Message: "add", Write: map[string][]byte{"count": []byte(old + "1")}}, nil
	}
	nothing := func(string) (Edit, error) { return Edit{}, nil }
	refusal := errors.New("refused")
	for _, c := range []struct {
		name      string
		meanwhile bool // somebody else pushes between Open and Update
		edit      func(string) (Edit, error)
		seen      []string
		listings  int // after Open's
		err       error
	}{
		{"nobody else", false, add, []string{"1"}, 0, nil},
		{"somebody was faster", true, add, []string{"1", "2"}, 1, nil},
		{"nothing to change, as far as was seen", true, nothing, []string{"1", "2"}, 1, nil},
		{"nothing to change", false, nothing, []string{"1", "1"}, 1, nil},
		{"refused, as far as was seen", true, func(string) (Edit, error) { return Edit{}, refusal }, []string{"1", "2"}, 1, refusal},
		{"refused only by what was seen", true, func(old string) (Edit, error) {
			if old == "1" {
				return Edit{}, refusal
			}
			return add(old)
		}, []string{"1", "2"}, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			commitFiles(t, dir, "main", "start", map[string]string{"count": "1"})
			r := open(t, o)
			if c.meanwhile {
				commitFiles(t, dir, "main", "meanwhile", map[string]string{"count": "2"})
			}
			listings.Store(0)
			r.seen = time.Now() // however slow the machine is
			var seen []string
			rev, err := r.Update(ctx, "main", counted(&seen, c.edit))
			assert.Equal(t, c.seen, seen)
			assert.EqualValues(t, c.listings, listings.Load())
			require.ErrorIs(t, err, c.err)
			if err == nil {
				assert.Equal(t, git(t, dir, "rev-parse", "main"), rev)
			}
		})
	}
}

// TestUpdateOfABranchSeenLongAgo asks first.
func TestUpdateOfABranchSeenLongAgo(t *testing.T) {
	dir := bare(t, map[string]string{"count": ""})
	r := open(t, Options{URL: dir, Branch: "main"})
	r.seen = r.seen.Add(-glimpse)
	commitFiles(t, dir, "main", "meanwhile", map[string]string{"count": "+"})
	var calls atomic.Int32
	_, err := r.Update(context.Background(), "main", counting(&calls))
	require.NoError(t, err)
	assert.EqualValues(t, 1, calls.Load())
	assert.Equal(t, "++", git(t, dir, "show", "main:count"))
}
