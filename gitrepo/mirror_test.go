package gitrepo

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// posts counts how often a server is asked for objects.
func posts(n *atomic.Int32) func(http.Handler) http.Handler {
	return func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPost {
				n.Add(1)
			}
			backend.ServeHTTP(w, req)
		})
	}
}

func TestCacheIsUsedAgain(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	var transfers atomic.Int32
	o := serveHTTP(t, dir, posts(&transfers))
	o.CacheDir = filepath.Join(t.TempDir(), "cache", "deep")
	first, err := Open(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	assert.EqualValues(t, 1, transfers.Load())

	second := open(t, o)
	assert.EqualValues(t, 1, transfers.Load(), "all objects are in the cache")
	assert.Equal(t, "1", read(t, snapshot(t, second, "HEAD"), "a"))
	commitFiles(t, dir, "main", "more", map[string]string{"a": "2"})
	_, err = second.Fetch(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 2, transfers.Load())
	_, err = second.Update(t.Context(), "main", write("mine", map[string]string{"a": "3"}))
	require.NoError(t, err)
	assert.EqualValues(t, 3, transfers.Load(), "one push")
	_, err = second.Fetch(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 3, transfers.Load(), "what was pushed is not fetched")
	fsck(t, second.mirror.dir)

	info, err := os.Stat(o.CacheDir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "others may not read it")
	require.NoError(t, filepath.WalkDir(o.CacheDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		assert.NotContains(t, string(data), testToken, path)
		return err
	}))
}

func TestCacheIsSharedByRepositories(t *testing.T) {
	cache := t.TempDir()
	one := bare(t, map[string]string{"a": "one"})
	two := bare(t, map[string]string{"a": "two"})
	a, b := open(t, Options{URL: one, CacheDir: cache}), open(t, Options{URL: two, CacheDir: cache})
	assert.Equal(t, "one", read(t, snapshot(t, a, "HEAD"), "a"))
	assert.Equal(t, "two", read(t, snapshot(t, b, "HEAD"), "a"))
}

// Two handles on one cache stand for two processes.
func TestCacheIsSharedByProcesses(t *testing.T) {
	t.Parallel()
	dir := bare(t, map[string]string{"a": "1"})
	var transfers atomic.Int32
	o := serveHTTP(t, dir, posts(&transfers))
	o.CacheDir = t.TempDir()
	a, b := open(t, o), open(t, o)
	for i := range maxPacks + 10 { // enough that a joins packs behind b's back
		rev := commitFiles(t, dir, "main", "more", map[string]string{"a": fmt.Sprint(i)})
		_, err := a.Fetch(t.Context())
		require.NoError(t, err)
		if i%15 == 0 {
			before := transfers.Load()
			got, err := b.Fetch(t.Context())
			require.NoError(t, err)
			assert.Equal(t, rev, got)
			assert.Equal(t, before, transfers.Load(), "a has fetched it already")
		}
	}
	s := snapshot(t, b, "HEAD")
	_, err := b.Fetch(t.Context())
	require.NoError(t, err)
	for range 20 {
		_, err := s.ReadFile("a")
		require.NoError(t, err)
		s = snapshot(t, b, s.Revision()+"~1")
	}
	packs, err := packNames(a.mirror.store.dir)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(packs), maxPacks)
	assert.LessOrEqual(t, len(b.mirror.store.packs), maxPacks+1)
}

func TestPacksAreJoined(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	r := open(t, Options{URL: dir})
	revs := []string{}
	for i := range maxPacks*2 + 5 {
		rev, err := r.Update(t.Context(), "main", write(fmt.Sprint("update ", i), map[string]string{"a": fmt.Sprint(i), fmt.Sprint("d/f", i): "x"}))
		require.NoError(t, err)
		revs = append(revs, rev)
		assert.LessOrEqual(t, len(r.mirror.store.packs), maxPacks)
	}
	for i, rev := range revs {
		assert.Equal(t, fmt.Sprint(i), read(t, snapshot(t, r, rev), "a"))
	}
	fsck(t, r.mirror.dir)
	fsck(t, dir)
	left, err := filepath.Glob(filepath.Join(r.mirror.store.dir, "tmp_*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestJoinable(t *testing.T) {
	for _, c := range []struct {
		sizes []int64
		want  int
	}{
		{[]int64{10, 10, 10, 10}, 4},
		{[]int64{10, 10, 10, 10, 1000}, 4},
		{[]int64{10, 10, 10, 10, 10, 1000, 2000, 3000}, 5},
		{[]int64{10, 20, 40, 80}, 0},
		{[]int64{10, 10, 10, 10, maxJoinBytes}, 4},
		{[]int64{maxJoinBytes, maxJoinBytes, maxJoinBytes}, 0},
		{nil, 0},
	} {
		var packs []*pack
		for _, s := range c.sizes {
			packs = append(packs, &pack{size: s})
		}
		assert.Len(t, joinable(packs), c.want, "%v", c.sizes)
	}
}

// A damaged cache is made again, whatever is wrong with it.
func TestCorruptCache(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"truncated pack":  func(t *testing.T, dir string) { require.NoError(t, os.Truncate(only(t, dir, "*.pack"), 40)) },
		"missing index":   func(t *testing.T, dir string) { require.NoError(t, os.Remove(only(t, dir, "*.idx"))) },
		"garbage index":   func(t *testing.T, dir string) { overwrite(t, only(t, dir, "*.idx"), "garbage") },
		"missing pack":    func(t *testing.T, dir string) { require.NoError(t, os.Remove(only(t, dir, "*.pack"))) },
		"damaged objects": func(t *testing.T, dir string) { flip(t, only(t, dir, "*.pack")) },
		"garbage refs":    func(t *testing.T, dir string) { overwrite(t, filepath.Join(dir, "packed-refs"), "garbage\n") },
		"refs to nothing": func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, "packed-refs"), strings.Repeat("1", 40)+" refs/heads/main\n")
		},
		"no HEAD":    func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "HEAD"))) },
		"no objects": func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "objects"))) },
		"a file":     func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(dir)); overwrite(t, dir, "x") },
		"interrupted pack": func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, "objects", "pack", "tmp_pack_1"), "PACK")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := bare(t, map[string]string{"a": "1"})
			o := Options{URL: dir, CacheDir: t.TempDir()}
			r, err := Open(t.Context(), o)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			damage(t, r.mirror.dir)
			r = open(t, o)
			assert.Equal(t, "1", read(t, snapshot(t, r, "HEAD"), "a"))
			fsck(t, r.mirror.dir)
			left, err := filepath.Glob(filepath.Join(r.mirror.store.dir, "tmp_*"))
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "objects", "pack", pattern))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

func overwrite(t *testing.T, file, data string) {
	t.Helper()
	os.Chmod(file, 0o600)
	require.NoError(t, os.WriteFile(file, []byte(data), 0o600))
}

// flip damages the objects of a pack, but not its length or trailer.
func flip(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	for i := 12; i < len(data)-20; i++ {
		data[i] ^= 0x55
	}
	require.NoError(t, os.WriteFile(file, data, 0o600))
}

// A cache that is damaged while it is in use fails the read and heals with the next fetch.
func TestCacheHealsWhileInUse(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1", "b/c": "2"})
	r := open(t, Options{URL: dir, CacheDir: t.TempDir()})
	flip(t, only(t, r.mirror.dir, "*.pack"))
	r.mirror.store.inflated = newLRU[packOffset, packObject](0)
	s := snapshot2(t, r)
	_, err := s.ReadFile("b/c")
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	assert.Contains(t, hint(t, err), "next fetch")
	rev, err := r.Fetch(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "2", read(t, snapshot(t, r, rev), "b/c"))
}

// A pack that turns out to be damaged when packs are joined costs a new clone, not an error.
func TestCacheHealsWhenPacksAreJoined(t *testing.T) {
	dir := bare(t, map[string]string{"a": "0"})
	r := open(t, Options{URL: dir, CacheDir: t.TempDir()})
	flip(t, only(t, r.mirror.dir, "*.pack"))
	r.mirror.store.inflated = newLRU[packOffset, packObject](0)
	for i := range maxPacks + 1 {
		rev := commitFiles(t, dir, "main", "more", map[string]string{"a": fmt.Sprint(i)})
		got, err := r.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, rev, got)
	}
	fsck(t, r.mirror.dir)
	assert.Equal(t, fmt.Sprint(maxPacks), read(t, snapshot(t, r, "HEAD"), "a"))
}

// snapshot2 makes a snapshot without reading the commit.
func snapshot2(t *testing.T, r *Repository) *Snapshot {
	t.Helper()
	tree := git(t, r.name, "rev-parse", "main^{tree}")
	return &Snapshot{db: r.db, root: plumbing.NewHash(tree)}
}

func TestLockWaitsAndIsLeftByTheDead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.lock")
	release, err := fileLock{file}.acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = fileLock{file}.acquire(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Contains(t, err.Error(), "waiting for another process that uses the cache")
	release()
	// The waiter that was given up must not keep the lock it gets in the end.
	release, err = fileLock{file}.acquire(t.Context())
	require.NoError(t, err)
	release()

	// A process that dies holding the lock leaves it.
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), lockHolder+"="+file)
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	_, err = holder.StdinPipe() // what the holder waits for
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	_, err = io.ReadFull(out, make([]byte, 5))
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		release, err := fileLock{file}.acquire(context.Background())
		if err == nil {
			release()
		}
		got <- err
	}()
	require.NoError(t, holder.Process.Kill())
	require.NoError(t, <-got)
	_ = holder.Wait()
}

// lockHolder names the variable that makes this test binary hold a lock until
// its standard input ends.
const lockHolder = "GITREPO_TEST_LOCK"

func holdLock(file string) int {
	if _, err := (fileLock{file}).acquire(context.Background()); err != nil {
		return 1
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestInstallRefusesBadPacks(t *testing.T) {
	dir := bare(t, map[string]string{"a": strings.Repeat("some text\n", 1000)})
	cmd := exec.Command("git", "pack-objects", "--stdout", "-q", "--all")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader("")
	good, err := cmd.Output()
	require.NoError(t, err)
	bomb := packOf(t, make([]byte, 1<<20+1))
	for name, data := range map[string][]byte{
		"empty": {}, "garbage": []byte("garbage"), "truncated": good[:len(good)-30], "bad checksum": append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"too large object": bomb, "many objects": []byte("PACK\x00\x00\x00\x02\xff\xff\xff\xff"),
	} {
		store := newPackStore(t.TempDir())
		store.limit = 1 << 20
		require.Error(t, store.install(bytes.NewReader(data)), name)
		left, err := os.ReadDir(store.dir)
		require.NoError(t, err)
		assert.Empty(t, left, name)
	}
	store := newPackStore(t.TempDir())
	store.limit = 1 << 20
	require.ErrorIs(t, store.install(bytes.NewReader(bomb)), ErrTooLarge)
	require.NoError(t, store.install(bytes.NewReader(good)))
	require.NoError(t, store.install(bytes.NewReader(good)), "twice")
	assert.Len(t, store.packs, 1)
	require.NoError(t, store.install(bytes.NewReader(packOf(t))), "a pack without objects")
	assert.Len(t, store.packs, 1)
	store.close()
}

// packOf encodes blobs as a pack.
func packOf(t *testing.T, blobs ...[]byte) []byte {
	t.Helper()
	c := &pendingCommit{objects: map[plumbing.Hash]packObject{}}
	for _, b := range blobs {
		c.add(plumbing.BlobObject, b)
	}
	pack, err := packCommits([]*pendingCommit{c})
	require.NoError(t, err)
	return pack
}

// Objects of every kind and of any delta depth read as git reads them.
func TestPacksReadAsGitReadsThem(t *testing.T) {
	dir := emptyBare(t)
	var commits []importedCommit
	text := strings.Repeat("line of text that deltas well\n", 300)
	for i := range 60 {
		text = strings.Replace(text, "line", fmt.Sprint("changed ", i), 1)
		commits = append(commits, importedCommit{fmt.Sprint("c", i), map[string]string{"file": text, fmt.Sprint("d/", i%7): fmt.Sprint(i)}})
	}
	importCommits(t, dir, "main", commits)
	git(t, dir, "repack", "-adfq", "--depth=50", "--window=50")
	for _, refDelta := range []bool{false, true} {
		args := []string{"pack-objects", "--stdout", "-q", "--all", "--depth=50"}
		if !refDelta {
			args = append(args, "--delta-base-offset")
		}
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader("")
		data, err := cmd.Output()
		require.NoError(t, err)
		store := newPackStore(t.TempDir())
		require.NoError(t, store.install(bytes.NewReader(data)))
		for _, line := range strings.Split(git(t, dir, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype) %(objectsize)"), "\n") {
			f := strings.Fields(line)
			kind, content, err := store.object(plumbing.NewHash(f[0]), maxObjectBytes)
			require.NoError(t, err)
			assert.Equal(t, f[1], kind.String())
			assert.Equal(t, f[2], fmt.Sprint(len(content)))
			store.inflated = newLRU[packOffset, packObject](0) // sizes from the pack, not from memory
			size, err := store.objectSize(plumbing.NewHash(f[0]))
			require.NoError(t, err)
			assert.Equal(t, f[2], fmt.Sprint(size))
		}
		_, _, err = store.object(plumbing.ZeroHash, 1)
		require.ErrorIs(t, err, errMissing)
		store.close()
	}
}

// FuzzPackEntry: reading at any place of a damaged pack ends in an error or in
// the object's own content, never in a panic.
func FuzzPackEntry(ff *testing.F) {
	f := mutants.New(ff)
	c := &pendingCommit{objects: map[plumbing.Hash]packObject{}}
	c.add(plumbing.BlobObject, []byte("content of a file"))
	good, err := packCommits([]*pendingCommit{c})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, int64(12))
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x6f\x01xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), int64(12))
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffxxxxxxxxxxxxxxxxxxxxxxx"), int64(12))
	read := packReader(f)
	f.Fuzz(func(t *testing.T, data []byte, off int64) {
		p, s := read(t, data)
		if e, err := p.entry(off, objectBuffer); err == nil && e.kind != plumbing.REFDeltaObject && e.size < 1<<20 {
			_, _ = s.read(p, off, 0)
		}
	})
}

// packReader returns a function that opens a pack; the next call overwrites it.
func packReader(f *mutants.F) func(*testing.T, []byte) (*pack, *packStore) {
	dir := f.TempDir()
	file, err := os.Create(filepath.Join(dir, "pack"))
	require.NoError(f, err)
	f.Cleanup(func() { file.Close() })
	return func(t *testing.T, data []byte) (*pack, *packStore) {
		require.NoError(t, file.Truncate(0))
		_, err := file.WriteAt(data, 0)
		require.NoError(t, err)
		return &pack{file: file, size: int64(len(data))}, newPackStore(dir)
	}
}

// FuzzDelta: of a base and a delta comes what the format's description says, or an
// error, and never more than the limit.
func FuzzDelta(ff *testing.F) {
	f := mutants.New(ff)
	base := []byte("weights: {blue: 90, green: 10}\n")
	f.Add(base, []byte("\x1f\x1f\x90\x1f"))
	f.Add(base, []byte("\x1f\x22\x90\x0f\x03: 1\x91\x0f\x10"))
	f.Add(base, []byte("\x1f\x80\x80\x04\x80\x80"))
	f.Add(base, []byte("\x1f\x05\x05green\x00"))
	read := packReader(f)
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		var data bytes.Buffer
		data.WriteString("PACK\x00\x00\x00\x02\x00\x00\x00\x02")
		writeEntry(t, &data, plumbing.BlobObject, nil, base)
		at := data.Len()
		writeEntry(t, &data, plumbing.OFSDeltaObject, distance(at-12), delta)
		data.Write(make([]byte, 20))

		p, s := read(t, data.Bytes())
		s.limit = 1 << 17
		got, err := s.read(p, int64(at), 0)
		want, ok := patched(base, delta)
		if err == nil {
			require.True(t, ok, "it is no delta of this base")
			require.Equal(t, want, string(got.data))
		} else if ok && len(want) > 0 && int64(len(want)) <= s.limit && len(base) > 0 && len(delta) >= 4 {
			require.NoError(t, err)
		}
	})
}

// writeEntry writes an object into a pack.
func writeEntry(t testing.TB, w *bytes.Buffer, kind plumbing.ObjectType, base, data []byte) {
	t.Helper()
	size := len(data)
	c := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		w.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	w.WriteByte(c)
	w.Write(base)
	z := zlib.NewWriter(w)
	_, err := z.Write(data)
	require.NoError(t, err)
	require.NoError(t, z.Close())
}

// distance writes how far back the base of an OFS_DELTA lies.
func distance(n int) []byte {
	out := []byte{byte(n & 0x7f)}
	for n >>= 7; n > 0; n >>= 7 {
		n--
		out = append([]byte{0x80 | byte(n&0x7f)}, out...)
	}
	return out
}

// patched applies a delta word by word of Documentation/gitformat-pack.
func patched(base, delta []byte) (string, bool) {
	from, n := binary.Uvarint(delta)
	if n <= 0 || from != uint64(len(base)) {
		return "", false
	}
	size, m := binary.Uvarint(delta[n:])
	if m <= 0 {
		return "", false
	}
	var out strings.Builder
	for rest := delta[n+m:]; len(rest) > 0; {
		op := rest[0]
		rest = rest[1:]
		switch {
		case op == 0:
			return "", false
		case op < 0x80:
			if len(rest) < int(op) {
				return "", false
			}
			out.Write(rest[:op])
			rest = rest[op:]
			continue
		}
		var numbers [7]int
		for i := range numbers {
			if op&(1<<i) == 0 {
				continue
			}
			if len(rest) == 0 {
				return "", false
			}
			numbers[i], rest = int(rest[0]), rest[1:]
		}
		at := numbers[0] | numbers[1]<<8 | numbers[2]<<16 | numbers[3]<<24
		length := cmp.Or(numbers[4]|numbers[5]<<8|numbers[6]<<16, 0x10000)
		if at+length > len(base) {
			return "", false
		}
		out.Write(base[at : at+length])
	}
	return out.String(), uint64(out.Len()) == size
}

func TestMirrorName(t *testing.T) {
	assert.Regexp(t, `^shop-[0-9a-f]{16}\.git$`, mirrorName("https://example.com/x/shop.git"))
	assert.NotEqual(t, mirrorName("https://example.com/a/shop"), mirrorName("https://example.com/b/shop"))
	assert.Regexp(t, `^--[0-9a-f]{16}\.git$|^-[0-9a-f]{16}\.git$`, mirrorName("/"))
}

func TestPackedRefs(t *testing.T) {
	one, two := strings.Repeat("1", 40), strings.Repeat("2", 40)
	r, err := decodePackedRefs([]byte("# pack-refs with: peeled fully-peeled sorted \n" + two + " refs/tags/v1\n^" + one + "\n" + one + " refs/heads/main\n"))
	require.NoError(t, err)
	assert.Equal(t, "# pack-refs with: sorted \n"+one+" refs/heads/main\n"+two+" refs/tags/v1\n", string(r.encode()))
	for _, bad := range []string{"x", one, one + " main\n", one + " refs/heads/../x\n", "1234 refs/heads/main\n"} {
		_, err := decodePackedRefs([]byte(bad))
		require.Error(t, err, bad)
	}
}

func FuzzPackedRefs(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte("# x\n" + strings.Repeat("1", 40) + " refs/heads/main\n"))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodePackedRefs(data)
		if err != nil {
			return
		}
		again, err := decodePackedRefs(r.encode())
		require.NoError(t, err)
		require.True(t, r.equal(again))
	})
}

// FuzzRefName compares with go-git's check of the same rules.
func FuzzRefName(ff *testing.F) {
	f := mutants.New(ff)
	for _, n := range []string{"refs/heads/main", "refs/heads/a..b", "refs/", "refs/heads/", "refs/heads/.x", "refs/heads/x.lock", "refs/heads/x.", "refs//x", "refs/heads/a b",
		"refs/heads/a@{b", "refs/heads/@", "refs/heads/a~1", "refs/heads/a\\b", "HEAD", "main", "refs/heads/x.lock/y", "refs/heads/ü", "refs/../config", "refs/heads/a\x7f"} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ref := plumbing.ReferenceName(name)
		if validRefName(name) {
			require.True(t, strings.HasPrefix(name, "refs/"))
			require.True(t, ref.IsSafe())
			require.NoError(t, ref.Validate())
		} else if len(name) <= 1024 && strings.HasPrefix(name, "refs/") && ref.IsSafe() {
			require.Error(t, ref.Validate())
		}
	})
}

func TestMatchRef(t *testing.T) {
	assert.True(t, matchRef("refs/heads/sluice/*", "refs/heads/sluice/a/b"))
	assert.True(t, matchRef("refs/heads/main", "refs/heads/main"))
	assert.True(t, matchRef("refs/*/head", "refs/pull/1/head"))
	assert.False(t, matchRef("refs/heads/main", "refs/heads/mainline"))
	assert.False(t, matchRef("refs/a*a", "refs/a"))
}

func TestPendingCommitsAreBounded(t *testing.T) {
	var p pendingCommits
	hash := func(i int) plumbing.Hash { return plumbing.NewHash(fmt.Sprintf("%040x", i+1)) }
	for i := range 10 {
		p.put(&pendingCommit{hash: hash(i), bytes: maxPendingBytes / 4})
	}
	assert.Len(t, p.order, 4)
	assert.Contains(t, p.commits, hash(9))
	assert.NotContains(t, p.commits, hash(0))
	p.put(&pendingCommit{hash: hash(9)})
	p.drop(hash(9), hash(9), hash(0))
	assert.Len(t, p.commits, 3)
	assert.Equal(t, maxPendingBytes/4*3, p.bytes)
}

func TestLRU(t *testing.T) {
	c := newLRU[int, string](100)
	for i := range 10 {
		c.put(i, "x", 20)
		c.get(0)
	}
	_, kept := c.get(0)
	assert.True(t, kept, "used all the time")
	_, kept = c.get(1)
	assert.False(t, kept)
	c.put(99, "large", 26)
	_, kept = c.get(99)
	assert.False(t, kept)
	c.put(9, "again", 20)
	v, _ := c.get(9)
	assert.Equal(t, "x", v)
	assert.LessOrEqual(t, c.size, 100)
}

func TestAwaitHandsOverLateResults(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	start, late := make(chan struct{}), make(chan int)
	cancel()
	_, err := await(ctx, func() (int, error) { <-start; return 7, nil }, func(n int) { late <- n })
	require.ErrorIs(t, err, context.Canceled)
	close(start)
	assert.Equal(t, 7, <-late)
	boom := errors.New("boom")
	_, err = await(t.Context(), func() (int, error) { return 0, boom }, nil)
	assert.Equal(t, boom, err)
}
