package reconciler_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/reconciler"
)

// remote is a bare Git repository that an engine follows.
type remote struct {
	*gitrepo.Repository                     // the engine's mirror of it
	writer              *gitrepo.Repository // somebody else's
	looks               chan struct{}       // one for each look
	notify              chan struct{}
}

func newRemote(t *testing.T, first files) *remote {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop.git")
	cmd := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	require.NoError(t, cmd.Run())
	r := &remote{looks: make(chan struct{}), notify: make(chan struct{})}
	for _, repo := range []**gitrepo.Repository{&r.writer, &r.Repository} {
		opened, err := gitrepo.Open(context.Background(), gitrepo.Options{URL: dir})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, opened.Close()) })
		*repo = opened
	}
	r.push(t, first)
	return r
}

// push commits changes; an empty content removes the file.
func (r *remote) push(t *testing.T, changes files) {
	t.Helper()
	_, err := r.writer.Update(context.Background(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
		e := gitrepo.Edit{Message: "change", Write: map[string][]byte{}}
		for name, content := range changes {
			if content == "" {
				e.Delete = append(e.Delete, name)
			} else {
				e.Write[name] = []byte(content)
			}
		}
		return e, nil
	})
	require.NoError(t, err)
}

func (r *remote) Snapshot(rev string) (fs.FS, error) { return r.Repository.Snapshot(rev) }

func (r *remote) Fetch(ctx context.Context) (string, error) {
	rev, err := r.Repository.Fetch(ctx)
	if r.looks == nil {
		return rev, err
	}
	select {
	case r.looks <- struct{}{}:
	case <-ctx.Done():
	}
	return rev, err
}

// look has the engine look at the repository, and returns when it has taken in
// what it found.
func (r *remote) look(t *testing.T) {
	t.Helper()
	for range 2 { // the second look begins when the first is over
		for looked := false; !looked; {
			select {
			case r.notify <- struct{}{}:
			case <-r.looks:
				looked = true
			case <-time.After(patience):
				require.FailNow(t, "nobody looks at the repository")
			}
		}
	}
}

// crowd is a project of n releases, a ConfigMap each, with a base that all share.
func crowd(namespace string, n int) files {
	all := files{
		"sluice.yaml":                          project(namespace)["sluice.yaml"],
		"components/common/kustomization.yaml": kustomization("resources: [common.yaml]"),
		"components/common/common.yaml":        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: common}\ndata: {value: one}\n",
	}
	for i := range n {
		name := fmt.Sprintf("c%02d", i)
		all["components/"+name+"/component.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: " + name + "}\nimage: shop/" + name + "\n"
		all["components/"+name+"/kustomization.yaml"] = kustomization("resources: [../common]", "namePrefix: "+name+"-")
		all["environments/production/"+name+"/kustomization.yaml"] = kustomization("namespace: "+namespace, "resources: [../../../components/"+name+"]")
	}
	return all
}

func TestAPushCostsWhatItChanges(t *testing.T) {
	t.Parallel()
	const n = 12
	f := newFixture(t)
	r, l := newRemote(t, crowd(f.namespace, n)), &line{}
	f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Source = l.config(f.config), r })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.engine.Run(ctx, reconciler.RunOptions{PollInterval: time.Hour, Notify: r.notify}) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	r.look(t)
	value := func(i int) string {
		if m := f.get("ConfigMap", fmt.Sprintf("c%02d-common", i)); m != nil {
			return fmt.Sprint(m.Object["data"])
		}
		return ""
	}
	allAre := func(wanted string) func() bool {
		return func() bool {
			for i := range n {
				if rel := f.release(fmt.Sprintf("c%02d", i)); value(i) != "map[value:"+wanted+"]" || rel == nil || !rel.Ready() {
					return false
				}
			}
			return true
		}
	}
	f.eventually("all are ready", allAre("one"))
	f.calm("nothing is sent any more", l, func() { r.look(t) })
	require.Equal(t, int64(n), f.engine.Renders(), "each was rendered once")

	l.quiet()
	r.push(t, files{"builds/c03/0123456789ab.yaml": "anything", "README.md": "hello", "components/unused/component.yaml": "not: used", "environments/staging/c03/kustomization.yaml": "{}"})
	folders := r.FoldersRead()
	r.look(t)
	assert.Empty(t, l.sent(), "a commit that touches nothing relevant costs no request")
	assert.Equal(t, int64(n), f.engine.Renders(), "and no render")
	assert.LessOrEqual(t, r.FoldersRead()-folders, int64(4), "the root, environments, components and the new component")

	r.push(t, files{"components/c07/kustomization.yaml": kustomization("resources: [../common]", "namePrefix: c07-", "commonAnnotations: {a: b}")})
	r.look(t)
	f.eventually("it is applied", func() bool {
		return f.get("ConfigMap", "c07-common").GetAnnotations()["a"] == "b" && f.release("c07").Ready()
	})
	assert.Equal(t, int64(n+1), f.engine.Renders(), "a change of one costs one render")
	for _, request := range l.sent() {
		assert.Contains(t, request, "/c07", "and requests about that one only")
	}

	r.push(t, files{"components/common/common.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: common}\ndata: {value: two}\n"})
	r.look(t)
	f.eventually("what all share changes all", allAre("two"))
	assert.Equal(t, int64(n+1+n), f.engine.Renders())
}

// A commit that is refused is none that the next one is compared with.
func TestARefusedCommitIsNoneToCompareWith(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRemote(t, crowd(f.namespace, 3))
	r.looks = nil // nobody waits for them here
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Source = r })
	f.converge()
	// What the common base says changes in the commit that is refused, and not in
	// the one after it.
	r.push(t, files{
		"sluice.yaml":                   project("elsewhere")["sluice.yaml"],
		"components/common/common.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: common}\ndata: {value: two}\n",
	})
	_, err := f.engine.Converge(context.Background(), "production", "", nil)
	var refused *reconciler.NamespaceError
	require.ErrorAs(t, err, &refused)
	r.push(t, files{"sluice.yaml": project(f.namespace)["sluice.yaml"], "environments/production/c01/kustomization.yaml": ""})
	for _, s := range f.converge().Releases {
		if s.Release == "c01" {
			assert.Equal(t, reconciler.StateRemoved, s.State)
			continue
		}
		assert.Equal(t, reconciler.Counts{Configured: 1}, s.Counts, s.Release)
	}
}
