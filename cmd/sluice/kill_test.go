package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"math/rand/v2"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/internal/faults"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/internal/testseed"
)

// TestKilledAtRandomMoments kills a real controller at random moments, while
// commits arrive and somebody meddles with what it has applied. In the end the
// cluster has to be exactly what the repository says, and what belongs to others
// as it was.
func TestKilledAtRandomMoments(t *testing.T) {
	seed := testseed.Of(t)
	binary := buildSluice(t)
	var kills atomic.Int64
	t.Run("while", func(t *testing.T) {
		for i, variant := range []struct {
			name  string
			lives int
			serve func(t *testing.T, bare string) string
		}{
			{"it reads a path", 105, func(_ *testing.T, bare string) string { return bare }},
			{"it reads over HTTP", 100, func(t *testing.T, bare string) string { _, url := serveGit(t, bare); return url }},
		} {
			t.Run(variant.name, func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				s := newShop(t, rng)
				c := newVictim(t, binary, s.namespace, variant.serve(t, s.bare))
				for range variant.lives {
					live(s, c, rng)
				}
				kills.Add(int64(variant.lives))
				s.heal()
				c.start()
				defer c.kill()
				s.awaitConverged(c)
				s.verify()
				sent := c.proxy.Requests()
				writes := len(slices.DeleteFunc(slices.Clone(sent), func(r string) bool { return strings.HasPrefix(r, "GET ") || strings.HasPrefix(r, "WATCH ") }))
				t.Logf("%d kills, %d commits, %d requests, %d of them writes", variant.lives, len(s.commits), len(sent), writes)
				assert.Greater(t, writes, variant.lives, "it was killed at work")
			})
		}
	})
	assert.GreaterOrEqual(t, kills.Load(), int64(200), "kills")
}

// live starts the controller, commits, meddles, and kills it: some time after
// its start, or with its nth request, whichever was drawn. What is drawn is drawn
// before anything happens, so that a seed means the same again.
func live(s *shop, c *victim, rng *rand.Rand) {
	moment, request := time.Duration(rng.Int64N(int64(700*time.Millisecond))), 0
	if rng.IntN(2) == 0 {
		request, moment = 1+rng.IntN(60), time.Second
	}
	var changes []draft
	for range rng.IntN(3) {
		changes = append(changes, s.draw())
	}
	meddling := s.drawMeddling()
	killed := make(chan struct{})
	if request > 0 {
		c.proxy.After(request, func() { close(killed) })
	}
	c.start()
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		for _, d := range changes {
			s.commit(d)
			c.notify()
		}
		meddling()
	}()
	select {
	case <-killed:
	case <-time.After(moment): // the moment of a kill is a time, and nothing to wait for
	case <-c.ended:
		require.Failf(s.t, "the controller ended by itself", "%s", c.log())
	}
	c.kill()
	c.proxy.After(0, nil)
	<-busy
}

// built is the program as `make build` makes it, made once and removed by TestMain:
// without the race detector, which would make it ten times slower.
var built struct {
	dir  string
	once sync.Once
	err  error
}

func buildSluice(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "sluice-"); built.err != nil {
			return
		}
		if out, err := buildCommand(built.dir).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	require.NoError(t, built.err)
	return filepath.Join(built.dir, "sluice")
}

// buildCommand builds the program of the folder that it is run in.
func buildCommand(out string) *exec.Cmd {
	command := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, ".")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	return command
}

// victim is a controller process that is started and killed again and again.
type victim struct {
	t       *testing.T
	proxy   *faults.Proxy // between it and the API server
	binary  string
	args    []string
	env     []string
	address string // where it is notified
	logFile string

	process *exec.Cmd
	ended   chan struct{}
}

func newVictim(t *testing.T, binary, namespace, repository string) *victim {
	t.Helper()
	home := t.TempDir()
	c := &victim{
		t: t, proxy: faults.New(t, testcluster.Start(t)), binary: binary,
		address: freeAddress(t), logFile: filepath.Join(home, "log"),
		env: append(os.Environ(), "HOME="+home, "SLUICE_CACHE_DIR="+filepath.Join(home, "cache"), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1"),
	}
	c.args = []string{"controller", "--repo", repository, "--branch", "main", "--environment", "production=" + namespace,
		"--kubeconfig", c.proxy.Kubeconfig(t), "--poll-interval", "2s", "--notify-address", c.address, "--log-level", "debug"}
	return c
}

func (c *victim) start() {
	log, err := os.OpenFile(c.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(c.t, err)
	defer log.Close()
	c.process = exec.Command(c.binary, c.args...)
	c.process.Env, c.process.Stdout, c.process.Stderr = c.env, log, log
	require.NoError(c.t, c.process.Start())
	process, ended := c.process, make(chan struct{})
	c.ended = ended
	go func() {
		_ = process.Wait()
		close(ended)
	}()
}

func (c *victim) kill() {
	_ = c.process.Process.Kill()
	<-c.ended
}

// notify posts to the controller, where one listens.
func (c *victim) notify() {
	if response, err := http.Post("http://"+c.address, "", nil); err == nil {
		_ = response.Body.Close()
	}
}

// log is the end of what it has written.
func (c *victim) log() string {
	data, err := os.ReadFile(c.logFile)
	require.NoError(c.t, err)
	lines := strings.Split(string(bytes.TrimSpace(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// serveGit serves a bare repository over smart HTTP, through a proxy that the test
// can break.
func serveGit(t *testing.T, bare string) (p *faults.Proxy, url string) {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	require.NoError(t, err)
	p = faults.Over(t, &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1"},
	})
	return p, p.URL + "/" + filepath.Base(bare)
}

// awaitConverged waits until every Release is ready at the head, which the
// watches of the API server tell.
func (s *shop) awaitConverged(c *victim) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), awaitTimeout)
	defer cancel()
	last, x := "nothing", s.expected()
	for ctx.Err() == nil {
		// Anew after a while: what is mended last may leave no trace in a Release.
		w, err := s.releases().Watch(ctx, metav1.ListOptions{TimeoutSeconds: new(int64(10))})
		require.NoError(s.t, err)
		for {
			done, why := s.converged(ctx, x)
			if last = why; done {
				w.Stop()
				return
			}
			if _, open := <-w.ResultChan(); !open {
				break
			}
		}
	}
	require.Fail(s.t, "it does not converge", "%s\n%s", last, c.log())
}
