package promotion_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/promotion"
)

// lostPushes is how often a person whose push was rejected starts again.
const lostPushes = 30

// clone is where a person works with git itself.
type clone struct {
	dir string
	env []string
}

func newClone(t *testing.T, url, name string) clone {
	t.Helper()
	c := clone{dir: filepath.Join(t.TempDir(), "clone")}
	date, email := now.Format("2006-01-02T15:04:05Z"), name+"@example.com"
	c.env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME="+name, "GIT_AUTHOR_EMAIL="+email, "GIT_AUTHOR_DATE="+date,
		"GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+email, "GIT_COMMITTER_DATE="+date)
	out, err := exec.Command("git", "clone", "--quiet", url, c.dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return c
}

func (c clone) git(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "gc.auto=0"}, args...)...)
	cmd.Dir, cmd.Env = c.dir, c.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// run runs commands until one fails.
func (c clone) run(commands ...[]string) error {
	for _, args := range commands {
		if _, err := c.git(args...); err != nil {
			return err
		}
	}
	return nil
}

// ways are how people merge a head with git itself. Each begins on main, without a
// branch of its own, and ends on what is to be pushed.
var ways = []struct {
	name     string
	commands func(head string) [][]string
}{
	{"merge commit", func(head string) [][]string {
		return [][]string{{"merge", "--quiet", "--no-ff", "-m", "Merge by hand", head}}
	}},
	{"squash", func(head string) [][]string {
		return [][]string{{"merge", "--quiet", "--squash", head}, {"commit", "--quiet", "--allow-empty", "-m", "Squash by hand"}}
	}},
	{"rebase", func(head string) [][]string {
		return [][]string{{"checkout", "--quiet", head}, {"rebase", "--quiet", "origin/main"}}
	}},
}

// handMerge is a merge that git has pushed.
type handMerge struct {
	head     string
	onto     string // what main was
	revision string // what it became
	files    map[string]string
}

// errConflict: git cannot merge the head.
var errConflict = errors.New("there are conflicts")

// merge merges what a branch has and pushes it, again and again while others push
// first. It is nil when there is nothing to merge: the branch is gone, or main has it.
func (c clone) merge(branch string, commands func(head string) [][]string) (*handMerge, error) {
	var lost error
	for range lostPushes {
		if _, err := c.git("fetch", "--quiet", "--prune", "origin"); err != nil {
			return nil, err
		}
		head, err := c.git("for-each-ref", "--format=%(objectname)", "refs/remotes/origin/"+branch)
		if err != nil || head == "" {
			return nil, err
		}
		m := &handMerge{head: head}
		if m.onto, err = c.git("rev-parse", "origin/main"); err != nil {
			return nil, err
		}
		if err := c.run([]string{"checkout", "--quiet", "--force", "--detach", "origin/main"}); err != nil {
			return nil, err
		}
		if err := c.run(commands(head)...); err != nil {
			return nil, c.abort(err)
		}
		if m.revision, err = c.git("rev-parse", "HEAD"); err != nil {
			return nil, err
		}
		if changes, err := c.git("diff", "--name-only", m.onto, m.revision); err != nil || changes == "" {
			return nil, err // main has it already
		}
		if _, lost = c.git("push", "--quiet", "origin", "HEAD:refs/heads/main"); lost == nil {
			m.files, err = c.changed(m)
			return m, err
		}
	}
	return nil, lost
}

// abort leaves a merge that failed: for conflicts, or for something that must not be.
func (c clone) abort(failure error) error {
	unmerged, err := c.git("ls-files", "--unmerged")
	if err != nil || unmerged == "" {
		return errors.Join(failure, err)
	}
	if _, err := os.Stat(filepath.Join(c.dir, ".git", "rebase-merge")); err == nil {
		if _, err := c.git("rebase", "--abort"); err != nil {
			return err
		}
	}
	if _, err := c.git("reset", "--quiet", "--hard"); err != nil {
		return err
	}
	return errConflict
}

// changed reads the files that a head changes, as it has them.
func (c clone) changed(m *handMerge) (map[string]string, error) {
	names, err := c.git("diff", "--name-only", m.onto+"..."+m.head)
	files := map[string]string{}
	for _, name := range strings.Fields(names) {
		if files[name], err = c.git("show", m.head+":"+name); err != nil {
			return nil, err
		}
	}
	return files, err
}

// remove deletes a branch, whatever it has got meanwhile, unless somebody else was
// faster.
func (c clone) remove(branch string) error {
	var err error
	for range lostPushes {
		if _, err = c.git("push", "--quiet", "origin", "--delete", branch); err == nil {
			return nil
		}
		if left, listErr := c.git("ls-remote", "--heads", "origin", branch); listErr != nil || left == "" {
			return listErr
		}
	}
	return err
}

// mergeByHand merges a pull request with git itself, and mostly deletes its branch then.
func (w *writer) mergeByHand(p promotion.PullRequest) {
	way := ways[w.random.IntN(len(ways))]
	what := fmt.Sprintf("merging #%d by hand (%s)", p.Number, way.name)
	done, err := w.clone.merge(p.Branch, way.commands)
	switch {
	case errors.Is(err, errConflict):
	case err != nil:
		w.errs = append(w.errs, fmt.Errorf("%s: %w", what, err))
	case done != nil:
		w.log = append(w.log, accepted{what: what, revision: done.revision, onto: done.onto, head: done.head, files: done.files})
		if w.random.IntN(4) == 0 {
			return
		}
		if err := w.clone.remove(p.Branch); err != nil {
			w.errs = append(w.errs, fmt.Errorf("deleting the branch of #%d: %w", p.Number, err))
		}
	}
}
