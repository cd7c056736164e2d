package gitrepo

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/stretchr/testify/require"
)

// large makes a repository like an environments repository that has been in
// use for a while: 2,000 files, and 2,000 commits that each change one.
func large(tb testing.TB) string {
	tb.Helper()
	return grown(tb, 2000)
}

func grown(tb testing.TB, commits int) string {
	tb.Helper()
	dir := emptyBare(tb)
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("environments/e%d/c%d/f%d.yaml", i%4, i/4%100, i/400)] = strings.Repeat(fmt.Sprintf("key%d: value\n", i), 40)
	}
	imported := []importedCommit{{"first", files}}
	for i := range commits - 1 {
		imported = append(imported, importedCommit{fmt.Sprint("deploy ", i), map[string]string{fmt.Sprintf("environments/e%d/c%d/f0.yaml", i%4, i%100): fmt.Sprint("digest: ", i)}})
	}
	importCommits(tb, dir, "main", imported)
	git(tb, dir, "repack", "-adq")
	return dir
}

// BenchmarkClone is Open without a cache.
func BenchmarkClone(b *testing.B) {
	dir := large(b)
	for b.Loop() {
		r, err := Open(context.Background(), Options{URL: dir})
		require.NoError(b, err)
		require.NoError(b, r.Close())
	}
}

// BenchmarkOpenCached is Open with everything in the cache.
func BenchmarkOpenCached(b *testing.B) {
	o := Options{URL: large(b), CacheDir: b.TempDir()}
	open(b, o)
	for b.Loop() {
		r, err := Open(context.Background(), o)
		require.NoError(b, err)
		require.NoError(b, r.Close())
	}
}

// BenchmarkFetchNothing is the poll of a controller at rest.
func BenchmarkFetchNothing(b *testing.B) {
	for _, s := range servings {
		b.Run(s.name, func(b *testing.B) {
			dir := large(b)
			r := open(b, s.serve(b, dir))
			for b.Loop() {
				_, err := r.Fetch(context.Background())
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkFetchNothingManyRefs: the protocol lists all refs each time.
func BenchmarkFetchNothingManyRefs(b *testing.B) {
	dir := large(b)
	head := git(b, dir, "rev-parse", "main")
	var in strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&in, "create refs/pull/%d/head %s\n", i, head)
	}
	gitInput(b, dir, in.String(), "update-ref", "--stdin")
	git(b, dir, "pack-refs", "--all")
	r := open(b, Options{URL: dir})
	for b.Loop() {
		_, err := r.Fetch(context.Background())
		require.NoError(b, err)
	}
}

// BenchmarkFetchOne fetches one new commit. Making it is not timed.
func BenchmarkFetchOne(b *testing.B) {
	dir := large(b)
	r, other := open(b, Options{URL: dir}), open(b, Options{URL: dir})
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		_, err := other.Update(context.Background(), "main", write("x", map[string]string{"environments/e1/c1/f0.yaml": fmt.Sprint(i)}))
		require.NoError(b, err)
		b.StartTimer()
		_, err = r.Fetch(context.Background())
		require.NoError(b, err)
	}
}

// BenchmarkUpdate commits and pushes a change of one file: fetch, edit, push.
func BenchmarkUpdate(b *testing.B) {
	for _, s := range servings {
		b.Run(s.name, func(b *testing.B) {
			dir := large(b)
			r := open(b, s.serve(b, dir))
			for i := 0; b.Loop(); i++ {
				_, err := r.Update(context.Background(), "main", write("x", map[string]string{"environments/e1/c1/f0.yaml": fmt.Sprint(i)}))
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkWriteCommit is the part of Update that needs no remote.
func BenchmarkWriteCommit(b *testing.B) {
	r := open(b, Options{URL: large(b)})
	for i := 0; b.Loop(); i++ {
		c, err := r.WriteCommit([]string{"HEAD"}, "HEAD", Edit{Message: "x", Write: map[string][]byte{"environments/e1/c1/f0.yaml": []byte(fmt.Sprint(i))}})
		require.NoError(b, err)
		_, err = r.newPush([]RefUpdate{{Name: "refs/heads/x", New: c}})
		require.NoError(b, err)
		r.db.pending.drop(snapshotHash(c))
	}
}

// BenchmarkReadAll reads all 2,000 files; cold is with empty caches.
func BenchmarkReadAll(b *testing.B) {
	r := open(b, Options{URL: large(b)})
	s := snapshot(b, r, "HEAD")
	readAll := func() {
		require.NoError(b, fs.WalkDir(s, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = s.ReadFile(name)
			}
			return err
		}))
	}
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			readAll()
		}
	})
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			r.mirror.store.inflated = newLRU[packOffset, packObject](16 << 20)
			r.db.trees = newLRU[plumbing.Hash, tree](100_000)
			readAll()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				readAll()
			}
		})
	})
}

// BenchmarkHash compares 400 folders with those of another commit, as the
// controller does with every release for every commit.
func BenchmarkHash(b *testing.B) {
	r := open(b, Options{URL: large(b)})
	for b.Loop() {
		old, s := snapshot(b, r, "HEAD~1"), snapshot(b, r, "HEAD")
		changed := 0
		for i := range 400 {
			dir := fmt.Sprintf("environments/e%d/c%d", i%4, i/4)
			a, _ := old.Hash(dir)
			if h, _ := s.Hash(dir); h != a {
				changed++
			}
		}
		require.Equal(b, 1, changed)
	}
}

// BenchmarkHistory walks 2,000 commits.
func BenchmarkHistory(b *testing.B) {
	r := open(b, Options{URL: large(b)})
	for b.Loop() {
		found, err := r.History(context.Background(), "HEAD", []string{"environments/e1/c1"}, 0)
		require.NoError(b, err)
		require.Len(b, found, 21)
	}
}

// TestCostOfAPush: what is sent for a change does not grow with the repository.
func TestCostOfAPush(t *testing.T) {
	dir := grown(t, 300)
	var sent atomic.Int64
	r := open(t, serveHTTP(t, dir, receiving(func(w http.ResponseWriter, req *http.Request, backend http.Handler) {
		sent.Add(req.ContentLength)
		backend.ServeHTTP(w, req)
	})))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Update(t.Context(), "main", write("x", map[string]string{"environments/e1/c1/f0.yaml": "digest: new"}))
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.Less(t, sent.Load(), int64(8<<10), "bytes sent")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "bytes allocated")
}
