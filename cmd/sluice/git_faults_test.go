package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/faults"
)

const cannotRead = "the repository cannot be taken in; everything stays as it is"

// TestGitServerThatFails breaks the Git server under a real controller: what runs
// is kept and corrected, the log says what is awaited, and the first notification
// after it brings the commits of the outage.
func TestGitServerThatFails(t *testing.T) {
	t.Parallel()
	s := newShop(t, rand.New(rand.NewPCG(1, 1)))
	git, url := serveGit(t, s.bare)
	c := newVictim(t, buildSluice(t), s.namespace, url)
	c.args = append(c.args, "--poll-interval", "10m") // only notifications make it look

	git.Break(faults.Reset)
	c.start()
	defer c.kill()
	s.eventually("it starts without its repository, and says so", c, func() bool { return c.says(cannotRead) == 1 })
	git.Mend()
	c.notify()
	s.awaitConverged(c)

	for i, outage := range []struct {
		name  string
		fault faults.Fault
	}{
		{"resets", faults.Reset},
		{"internal error", faults.Status(http.StatusInternalServerError, 0)},
		{"unavailable", faults.Status(http.StatusServiceUnavailable, 30)},
		{"unauthorized", faults.Status(http.StatusUnauthorized, 0)},
		{"forbidden", faults.Status(http.StatusForbidden, 0)},
		{"not found", faults.Status(http.StatusNotFound, 0)},
		{"garbage", faults.Garbage},
		{"half answers", faults.Truncate},
		{"half packs", faults.Only(func(r *http.Request) bool { return r.Method == http.MethodPost }, faults.Truncate)},
		{"packs of garbage", faults.Only(func(r *http.Request) bool { return r.Method == http.MethodPost }, faults.Garbage)},
	} {
		t.Run(outage.name, func(t *testing.T) {
			before := c.says(cannotRead)
			git.Break(outage.fault)
			s.commit(configure(fmt.Sprintf("outage-%d", i)))
			c.notify()
			s.eventually("it says that it cannot read the repository", c, func() bool { return c.says(cannotRead) > before })
			s.drift(c)
			git.Mend()
			c.notify()
			s.awaitConverged(c)
		})
	}
	s.verify()
}

// TestHistoryThatIsRewritten: the branch is the truth, forced pushes included; a
// branch that is gone is not.
func TestHistoryThatIsRewritten(t *testing.T) {
	t.Parallel()
	s := newShop(t, rand.New(rand.NewPCG(2, 2)))
	c := newVictim(t, buildSluice(t), s.namespace, s.bare)
	c.args = append(c.args, "--poll-interval", "10m")
	c.start()
	defer c.kill()
	s.awaitConverged(c)
	s.commit(configure("two"))
	s.commit(configure("three"))
	c.notify()
	s.awaitConverged(c)

	gone := func(t *testing.T, remove, restore func()) {
		before := c.says(cannotRead)
		remove()
		c.notify()
		s.eventually("it says what is missing", c, func() bool { return c.says(cannotRead) > before })
		s.drift(c)
		restore()
		s.commit(configure(strings.ToLower(filepath.Base(t.Name()))))
		c.notify()
		s.awaitConverged(c)
	}
	t.Run("to an older commit", func(t *testing.T) {
		s.git("update-ref", "refs/heads/main", s.commits[0])
		c.notify()
		s.awaitConverged(c)
	})
	t.Run("to an unrelated history", func(t *testing.T) {
		orphan := s.git("commit-tree", s.commits[len(s.commits)-1]+"^{tree}", "-m", "all anew")
		s.git("update-ref", "refs/heads/main", orphan)
		c.notify()
		s.awaitConverged(c)
	})
	head := func() string { return s.git("rev-parse", "main") }
	t.Run("branch deleted", func(t *testing.T) {
		was := head()
		gone(t, func() {
			s.git("update-ref", "refs/heads/other", was)
			s.git("update-ref", "-d", "refs/heads/main")
		}, func() { s.git("update-ref", "refs/heads/main", was) })
	})
	t.Run("repository emptied", func(t *testing.T) {
		was := head()
		gone(t, func() {
			s.git("update-ref", "-d", "refs/heads/other")
			s.git("update-ref", "-d", "refs/heads/main")
		}, func() { s.git("update-ref", "refs/heads/main", was) })
	})
	t.Run("tree emptied", func(t *testing.T) {
		was := head()
		gone(t, func() {
			empty := s.git("commit-tree", "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "-p", was, "-m", "nothing")
			s.git("update-ref", "refs/heads/main", empty)
		}, func() { s.git("update-ref", "refs/heads/main", was) })
	})
	t.Run("cache damaged", func(t *testing.T) {
		for i, damage := range []func(file string) error{
			func(file string) error { return os.Truncate(file, 7) },
			func(file string) error { return os.WriteFile(file, []byte("garbage"), 0o600) },
			os.Remove,
		} {
			require.NoError(t, filepath.WalkDir(filepath.Join(filepath.Dir(c.logFile), "cache"), func(file string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				_ = os.Chmod(file, 0o600)
				return damage(file)
			}))
			s.commit(configure(fmt.Sprintf("damage-%d", i)))
			c.notify()
			s.awaitConverged(c)
			c.kill() // and at a start
			s.commit(configure(fmt.Sprintf("start-%d", i)))
			c.start()
			s.awaitConverged(c)
		}
	})
	s.verify()
}

// configure changes the configuration of web, and so the name of its ConfigMap.
func configure(value string) draft {
	return func(t *envrepo.Tree) (string, error) {
		return "configure", t.WriteFile("environments/production/web/config.env", fmt.Appendf(nil, "VALUE=%s\n", value))
	}
}

// git runs git in the bare repository.
func (s *shop) git(args ...string) string {
	s.t.Helper()
	command := exec.Command("git", args...)
	command.Dir = s.bare
	command.Env = append(os.Environ(), "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := command.CombinedOutput()
	require.NoError(s.t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

// says counts a text in what the controller has written.
func (c *victim) says(text string) int {
	data, err := os.ReadFile(c.logFile)
	require.NoError(c.t, err)
	return strings.Count(string(data), text)
}

func (s *shop) eventually(what string, c *victim, holds func() bool) {
	s.t.Helper()
	if !assert.Eventually(s.t, holds, awaitTimeout, 50*time.Millisecond, what) {
		require.Fail(s.t, what, "%s", c.log())
	}
}

// drift deletes a Service and waits until it is back. It is another one every
// time: one that is deleted again and again is contested, and given time.
func (s *shop) drift(c *victim) {
	s.t.Helper()
	client := s.resource(schema.GroupVersionKind{Version: "v1", Kind: "Service"})
	services, err := client.List(s.t.Context(), metav1.ListOptions{LabelSelector: v1alpha1.LabelRelease})
	require.NoError(s.t, err)
	require.NotEmpty(s.t, services.Items)
	was := services.Items[s.drifts%len(services.Items)]
	s.drifts++
	require.NoError(s.t, client.Delete(s.t.Context(), was.GetName(), metav1.DeleteOptions{}))
	s.eventually("drift is corrected meanwhile", c, func() bool {
		is, err := client.Get(s.t.Context(), was.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false
		}
		require.NoError(s.t, err)
		return is.GetUID() != was.GetUID()
	})
}
