package reports

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/promotion"
)

const stagingRef = "refs/sluice/reports/shop/staging"

// key is a private key that is the same with every run.
func key(seed byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)) }

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// bench is a repository with a writer and a reader, each through a mirror of its own.
type bench struct {
	*testing.T
	dir    string
	now    time.Time
	repo   *gitrepo.Repository // the writer's
	writer *Writer
	reader *Reader
}

func newBench(t *testing.T, start ...string) *bench {
	t.Helper()
	b := &bench{T: t, dir: filepath.Join(t.TempDir(), "environments.git"), now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	out, err := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", b.dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	b.repo = b.connect()
	_, err = b.repo.Update(t.Context(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
		return gitrepo.Edit{Message: "Start" + strings.Join(start, ""), Write: map[string][]byte{"a": []byte("b")}}, nil
	})
	require.NoError(t, err)
	b.writer = b.newWriter(b.repo, key(1))
	b.reader = b.newReader()
	return b
}

func (b *bench) connect() *gitrepo.Repository {
	b.Helper()
	repo, err := gitrepo.Open(b.Context(), gitrepo.Options{URL: b.dir, Branch: "main", Author: "Sluice", Email: "sluice@example.com"})
	require.NoError(b, err)
	b.Cleanup(func() { assert.NoError(b, repo.Close()) })
	return repo
}

func (b *bench) clock() time.Time { return b.now }

func (b *bench) newWriter(repo *gitrepo.Repository, k ed25519.PrivateKey) *Writer {
	return &Writer{Repository: repo, Key: k, Project: "shop", Now: b.clock}
}

func (b *bench) newReader() *Reader {
	return NewReader(b.connect(), "shop", map[string][]ed25519.PublicKey{
		"staging": {public(key(7)), public(key(1))}, "production": {public(key(1))},
	}, b.clock)
}

func (b *bench) write(releases ...Release) time.Time {
	b.Helper()
	renew, err := b.writer.Write(b.Context(), "staging", releases)
	require.NoError(b, err)
	return renew
}

// at is the commit of a ref, and what it holds.
func (b *bench) at(ref string) string {
	b.Helper()
	refs, err := b.repo.FetchRefs(b.Context(), ref)
	require.NoError(b, err)
	return refs[ref]
}

// put has a ref hold files, as anybody may who may push.
func (b *bench) put(ref string, files map[string][]byte) {
	b.Helper()
	commit, err := b.repo.WriteCommit(nil, "", gitrepo.Edit{Message: "By hand", Write: files})
	require.NoError(b, err)
	b.set(ref, commit)
}

func (b *bench) set(ref, commit string) {
	b.Helper()
	require.NoError(b, b.repo.Push(b.Context(), []gitrepo.RefUpdate{{Name: ref, Old: b.at(ref), New: commit}}))
}

func (b *bench) files(ref string) map[string][]byte {
	b.Helper()
	snapshot, err := b.repo.Snapshot(b.at(ref))
	require.NoError(b, err)
	files := map[string][]byte{}
	for _, name := range []string{dataFile, signatureFile} {
		data, err := snapshot.ReadFile(name)
		require.NoError(b, err)
		files[name] = data
	}
	return files
}

// health is what the reader knows of api in an environment.
func (b *bench) health(environment string) promotion.HealthReport {
	b.Helper()
	h, err := b.reader.Release(b.Context(), environment, "api")
	require.NoError(b, err)
	b.now = b.now.Add(fresh) // ask again next time
	return h
}

func (b *bench) ready() promotion.HealthReport {
	since := b.now.Add(-time.Hour)
	return promotion.HealthReport{
		Known: true, Ready: true, Digests: []string{"sha256:b"}, Since: since, Message: "12 objects are as declared", Revision: "9f8e",
		Served: []promotion.Served{{Digest: "sha256:a", Since: since.Add(-time.Hour), Until: since}},
	}
}

func TestWriteAndRead(t *testing.T) {
	b := newBench(t)
	want := b.ready()
	b.write(FromHealth("web", promotion.HealthReport{Failed: true}), FromHealth("api", want))
	assert.Equal(t, want, b.health("staging"))
	web, err := b.reader.Release(t.Context(), "staging", "web")
	require.NoError(t, err)
	assert.Equal(t, promotion.HealthReport{Known: true, Failed: true}, web)

	none, err := b.reader.Release(t.Context(), "staging", "db")
	require.NoError(t, err)
	assert.Equal(t, promotion.HealthReport{Message: "the report of staging has nothing of db"}, none)
	assert.True(t, b.reader.Reports("staging"))
	assert.False(t, b.reader.Reports("development"))
}

// TestReportsByAnotherURL: a repository is the same whatever it is called.
func TestReportsByAnotherURL(t *testing.T) {
	b := newBench(t)
	b.write(FromHealth("api", b.ready()))
	b.dir = "file://" + b.dir
	b.reader = b.newReader()
	assert.True(t, b.health("staging").Ready)
}

func TestNothingNewIsNotWritten(t *testing.T) {
	b := newBench(t)
	api := FromHealth("api", b.ready())
	renew := b.write(api)
	assert.Equal(t, b.now.Add(Validity/2), renew)
	first := b.at(stagingRef)

	b.now = b.now.Add(Validity/2 - time.Second)
	assert.Equal(t, renew, b.write(api))
	assert.Equal(t, first, b.at(stagingRef), "nothing has changed")

	b.now = renew
	b.write(api)
	second := b.at(stagingRef)
	assert.NotEqual(t, first, second, "it is renewed in time")

	api.Ready = false
	b.write(api)
	third := b.at(stagingRef)
	assert.NotEqual(t, second, third, "a change is told at once")
	snapshot, err := b.repo.Snapshot(third)
	require.NoError(t, err)
	assert.Empty(t, snapshot.Commit().Parents, "no history grows")
	assert.False(t, b.health("staging").Ready)
}

func TestReportsOutlastTheirWriter(t *testing.T) {
	b := newBench(t)
	b.write(FromHealth("api", b.ready()))
	var before, after Report
	require.NoError(t, json.Unmarshal(b.files(stagingRef)[dataFile], &before))
	b.now = b.now.Add(-time.Minute) // the clock is put back
	b.writer = b.newWriter(b.connect(), key(1))
	b.write()
	require.NoError(t, json.Unmarshal(b.files(stagingRef)[dataFile], &after))
	assert.Greater(t, after.Sequence, before.Sequence)
}

// TestWhatIsNotBelieved: in each of these cases nothing is known, and why is said.
func TestWhatIsNotBelieved(t *testing.T) {
	tests := []struct {
		name        string
		environment string
		attack      func(b *bench)
		want        string
	}{
		{"there is none", "staging", func(b *bench) { b.set(stagingRef, "") }, "there is none"},
		{"no key", "development", func(b *bench) {}, "there is none"},
		{"another key", "staging", func(b *bench) {
			b.writer = b.newWriter(b.repo, key(2))
			b.write(FromHealth("api", b.ready()))
		}, ErrSignature.Error()},
		{"another text", "staging", func(b *bench) {
			files := b.files(stagingRef)
			files[dataFile] = bytes.Replace(files[dataFile], []byte(`"ready": false`), []byte(`"ready": true`), 1)
			b.put(stagingRef, files)
		}, ErrSignature.Error()},
		{"no signature", "staging", func(b *bench) {
			b.put(stagingRef, map[string][]byte{dataFile: b.files(stagingRef)[dataFile]})
		}, signatureFile},
		{"a signature that is none", "staging", func(b *bench) {
			b.put(stagingRef, map[string][]byte{dataFile: b.files(stagingRef)[dataFile], signatureFile: []byte("!")})
		}, ErrSignature.Error()},
		{"of another environment", "production", func(b *bench) {
			b.set(Ref("shop", "production"), b.at(stagingRef))
		}, ErrSignature.Error()},
		{"of another project", "staging", func(b *bench) {
			b.writer.Project = "books"
			b.write(FromHealth("api", b.ready()))
			b.set(stagingRef, b.at(Ref("books", "staging")))
		}, ErrSignature.Error()},
		{"of another repository", "staging", func(b *bench) {
			other := newBench(b.T, "Another start")
			other.write(FromHealth("api", b.ready())) // by the same key, of the same project and environment
			b.put(stagingRef, other.files(stagingRef))
		}, "it is of another repository, whose history begins with"},
		{"signed, and of another", "staging", func(b *bench) {
			data, err := json.Marshal(Report{Version: version, Project: "shop", Environment: "production", At: b.now, Expires: b.now.Add(time.Hour)})
			require.NoError(b, err)
			b.put(stagingRef, map[string][]byte{dataFile: data, signatureFile: sign(key(1), stagingRef, data)})
		}, "it is of refs/sluice/reports/shop/production"},
		{"signed, and no report", "staging", func(b *bench) {
			b.put(stagingRef, map[string][]byte{dataFile: []byte("{"), signatureFile: sign(key(1), stagingRef, []byte("{"))})
		}, "it cannot be read"},
		{"of a later version", "staging", func(b *bench) {
			data := []byte(`{"version": 3}`)
			b.put(stagingRef, map[string][]byte{dataFile: data, signatureFile: sign(key(1), stagingRef, data)})
		}, "it is of version 3"},
		{"too old", "staging", func(b *bench) { b.now = b.now.Add(Validity) }, "it counted until 2026-11-21T12:20:00Z"},
		{"of tomorrow", "staging", func(b *bench) { b.now = b.now.Add(-maxSkew - time.Second) }, "compare the clocks"},
		{"too long", "staging", func(b *bench) {
			b.put(stagingRef, map[string][]byte{dataFile: make([]byte, maxSize+1), signatureFile: []byte("x")})
		}, "longer than"},
		{"a folder", "staging", func(b *bench) {
			b.put(stagingRef, map[string][]byte{dataFile + "/x": []byte("x"), signatureFile: []byte("x")})
		}, "report.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.write(FromHealth("api", promotion.HealthReport{}))
			tt.attack(b)
			h := b.health(tt.environment)
			assert.Contains(t, h.Message, tt.want)
			assert.Equal(t, promotion.HealthReport{Message: h.Message}, h)
		})
	}
}

// TestAnOldReportIsPutBack: whoever may push can put back what was signed once.
func TestAnOldReportIsPutBack(t *testing.T) {
	b := newBench(t)
	b.write(FromHealth("api", b.ready()))
	old := b.at(stagingRef)
	b.now = b.now.Add(time.Minute)
	b.write(FromHealth("api", promotion.HealthReport{Message: "0/1 pods"}))
	require.False(t, b.health("staging").Ready)

	b.set(stagingRef, old)
	h := b.health("staging")
	assert.False(t, h.Known)
	assert.Contains(t, h.Message, "older than one that was there before")

	b.reader = b.newReader() // one that has seen none before
	b.now = time.Date(2026, 11, 21, 12, 20, 0, 0, time.UTC)
	assert.False(t, b.health("staging").Known, "and it soon counts for nobody")
}

func TestAReportCountsForNoLongerThanReadersAllow(t *testing.T) {
	r := Report{At: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	r.Expires = r.At.Add(1000 * time.Hour)
	require.NoError(t, r.current(r.At.Add(maxValidity-time.Second)))
	require.Error(t, r.current(r.At.Add(maxValidity)))
}

func TestWritersAtTheSameTime(t *testing.T) {
	b := newBench(t)
	var group sync.WaitGroup
	for i := range 3 {
		w := b.newWriter(b.connect(), key(1))
		health := b.ready()
		health.Revision = string(rune('a' + i))
		releases := []Release{FromHealth("api", health)}
		group.Go(func() {
			_, err := w.Write(t.Context(), "staging", releases)
			assert.NoError(t, err)
		})
	}
	group.Wait()
	assert.True(t, b.health("staging").Ready)
}

func TestReadersAskOnceForManyComponents(t *testing.T) {
	b := newBench(t)
	b.write(FromHealth("api", b.ready()))
	_, err := b.reader.Release(t.Context(), "staging", "api")
	require.NoError(t, err)
	b.write(FromHealth("api", promotion.HealthReport{}))
	h, err := b.reader.Release(t.Context(), "staging", "api")
	require.NoError(t, err)
	assert.True(t, h.Ready, "of a moment ago")
	b.now = b.now.Add(fresh)
	assert.False(t, b.health("staging").Ready)
}

func pemOf(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestKeys(t *testing.T) {
	der, err := x509.MarshalPKCS8PrivateKey(key(1))
	private := pemOf(t, "PRIVATE KEY", der, err)
	got, err := ParsePrivateKey(private)
	require.NoError(t, err)
	assert.Equal(t, key(1), got)

	var both []byte
	for _, seed := range []byte{1, 2} {
		der, err := x509.MarshalPKIXPublicKey(public(key(seed)))
		both = append(both, pemOf(t, "PUBLIC KEY", der, err)...)
	}
	keys, err := ParsePublicKeys(both)
	require.NoError(t, err)
	assert.Equal(t, []ed25519.PublicKey{public(key(1)), public(key(2))}, keys)

	for name, parse := range map[string]func() error{
		"public for private": func() error { _, err := ParsePrivateKey(both); return err },
		"private for public": func() error { _, err := ParsePublicKeys(private); return err },
		"nothing":            func() error { _, err := ParsePublicKeys(nil); return err },
		"no PEM":             func() error { _, err := ParsePrivateKey([]byte("secret")); return err },
		"no key in it": func() error {
			_, err := ParsePublicKeys(pemOf(t, "PUBLIC KEY", []byte("secret"), nil))
			return err
		},
		"no private key in it": func() error {
			_, err := ParsePrivateKey(pemOf(t, "PRIVATE KEY", []byte("secret"), nil))
			return err
		},
	} {
		err := parse()
		var keyError *KeyError
		require.ErrorAs(t, err, &keyError, name)
		assert.NotEmpty(t, keyError.Hint())
		assert.NotContains(t, err.Error(), "secret")
	}
}

// FuzzOpen: nothing is decoded, and nothing panics, without a signature; with one,
// what is decoded is of the ref that was asked for.
func FuzzOpen(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte(`{"version":2,"repository":"r","project":"shop","environment":"staging","sequence":1,"at":"2026-11-21T12:00:00Z","expires":"2026-11-21T12:20:00Z","releases":[{"component":"api","ready":true}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys := []ed25519.PublicKey{public(key(1))}
		_, err := open(keys, "r", stagingRef, data, sign(key(2), stagingRef, data))
		require.ErrorIs(t, err, ErrSignature)
		_, err = open(keys, "r", stagingRef, data, data)
		require.ErrorIs(t, err, ErrSignature)
		if r, err := open(keys, "r", stagingRef, data, sign(key(1), stagingRef, data)); err == nil {
			assert.Equal(t, stagingRef, Ref(r.Project, r.Environment))
			assert.Equal(t, "r", r.Repository)
		}
	})
}

// What is read as a key is one, and no error quotes the file.
func FuzzKeys(ff *testing.F) {
	f := mutants.New(ff)
	private, err := x509.MarshalPKCS8PrivateKey(key(1))
	require.NoError(f, err)
	one, err := x509.MarshalPKIXPublicKey(public(key(1)))
	require.NoError(f, err)
	two, err := x509.MarshalPKIXPublicKey(public(key(2)))
	require.NoError(f, err)
	block := func(kind string, data []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}) }
	f.Add(block("PRIVATE KEY", private))
	f.Add(append(block("PUBLIC KEY", one), block("PUBLIC KEY", two)...))
	f.Add(block("CERTIFICATE", one))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParsePublicKeys(data)
		assert.Equal(t, err == nil, len(keys) > 0)
		for _, k := range keys {
			assert.Len(t, k, ed25519.PublicKeySize)
		}
		signer, signerErr := ParsePrivateKey(data)
		if signerErr == nil {
			assert.True(t, ed25519.Verify(public(signer), data, ed25519.Sign(signer, data)))
		}
		for _, err := range []error{err, signerErr} {
			if err == nil {
				continue
			}
			var reason *KeyError
			require.ErrorAs(t, err, &reason)
			assert.Negative(t, strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }), "%q", err)
			for line := range strings.Lines(string(data)) {
				if line = strings.TrimSpace(line); len(line) > 40 {
					assert.NotContains(t, err.Error(), line)
				}
			}
		}
	})
}
