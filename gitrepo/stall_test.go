package gitrepo

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A remote that hangs is given up by itself, without anybody's context: a process
// that follows a branch must not wait for it for ever. Where it hangs does not
// matter.
func TestRemoteThatHangsIsGivenUp(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	var hang atomic.Value
	hang.Store("")
	o := serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			at := hang.Load().(string)
			switch {
			case at == "in the pack" && strings.HasSuffix(req.URL.Path, "/git-upload-pack"):
				backend.ServeHTTP(&halfWriter{w, 20}, req)
			case at == "" || !strings.Contains(req.URL.String(), at):
				backend.ServeHTTP(w, req)
				return
			}
			_, _ = io.Copy(io.Discard, req.Body) // only then is the end of the connection noticed
			<-req.Context().Done()
		})
	})
	r := open(t, o)
	for _, at := range []string{"service=git-upload-pack", "/git-upload-pack", "in the pack"} {
		rev := commitFiles(t, dir, "main", "more", map[string]string{"a": at})
		r.remote.patience = 100 * time.Millisecond
		hang.Store(at)
		_, err := r.Fetch(t.Context())
		var transport *TransportError
		require.ErrorAs(t, err, &transport, at)
		assert.Contains(t, err.Error(), "nothing came from the remote for ", at)
		assert.NotEmpty(t, hint(t, err))

		hang.Store("")
		r.remote.patience = stallTimeout
		got, err := r.Fetch(t.Context())
		require.NoError(t, err, at)
		assert.Equal(t, rev, got)
		assert.Equal(t, at, read(t, snapshot(t, r, "HEAD"), "a"))
	}
}

// halfWriter sends so many bytes of a body and swallows the rest.
type halfWriter struct {
	http.ResponseWriter
	left int
}

func (h *halfWriter) Write(p []byte) (int, error) {
	send := p[:min(h.left, len(p))]
	h.left -= len(send)
	if _, err := h.ResponseWriter.Write(send); err != nil {
		return 0, err
	}
	_ = http.NewResponseController(h.ResponseWriter).Flush()
	return len(p), nil
}

// A remote that is slow but goes on is not given up.
func TestSlowRemoteIsWaitedFor(t *testing.T) {
	dir := bare(t, map[string]string{"a": strings.Repeat("x", 1000)})
	o := serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPost {
				w = &slowWriter{w}
			}
			backend.ServeHTTP(w, req)
		})
	})
	r := open(t, o)
	r.remote.patience = 450 * time.Millisecond
	rev := commitFiles(t, dir, "main", "more", map[string]string{"a": "2"})
	got, err := r.Fetch(t.Context())
	require.NoError(t, err)
	assert.Equal(t, rev, got)
}

// slowWriter sends a body in pieces, with pauses that are shorter than patience
// and together longer.
type slowWriter struct{ http.ResponseWriter }

func (s *slowWriter) Write(p []byte) (int, error) {
	const pieces = 8
	sent := 0
	for i := range pieces {
		n, err := s.ResponseWriter.Write(p[i*len(p)/pieces : (i+1)*len(p)/pieces])
		if sent += n; err != nil {
			return sent, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		<-time.After(40 * time.Millisecond)
	}
	return sent, nil
}

// A process that stays opens a repository that cannot be read yet, and reads it
// when it can.
func TestOpenLate(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	var down atomic.Bool
	down.Store(true)
	o := serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if down.Load() {
				http.Error(w, "maintenance", http.StatusServiceUnavailable)
				return
			}
			backend.ServeHTTP(w, req)
		})
	})
	_, err := Open(t.Context(), o)
	require.Error(t, err)
	o.Late = true
	r := open(t, o)
	_, late := r.Snapshot("HEAD")
	assert.Equal(t, err.Error(), late.Error())
	assert.False(t, errors.Is(late, ErrEmpty), "nobody knows that")
	_, err = r.Fetch(t.Context())
	require.Error(t, err)
	down.Store(false)
	_, err = r.Fetch(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1", read(t, snapshot(t, r, "HEAD"), "a"))
}
