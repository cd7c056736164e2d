package reconciler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/render"
)

// gitCommit is one commit of a test's history: contents by path, "" removes;
// "-> target" makes a symbolic link.
type gitCommit map[string]string

// history makes a bare repository whose commits follow each other, and opens it.
func history(t testing.TB, commits []gitCommit) (*gitrepo.Repository, []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop.git")
	var stream bytes.Buffer
	for i, c := range commits {
		fmt.Fprintf(&stream, "commit refs/heads/main\ncommitter Ann <ann@example.com> %d +0000\ndata 1\nx\n", i+1)
		for _, p := range slices.Sorted(maps.Keys(c)) {
			target, link := strings.CutPrefix(c[p], "-> ")
			switch {
			case c[p] == "":
				fmt.Fprintf(&stream, "D %s\n", p)
			case link:
				fmt.Fprintf(&stream, "M 120000 inline %s\ndata %d\n%s\n", p, len(target), target)
			default:
				fmt.Fprintf(&stream, "M 100644 inline %s\ndata %d\n%s\n", p, len(c[p]), c[p])
			}
		}
	}
	runGit(t, nil, "init", "--quiet", "--bare", "--initial-branch=main", dir)
	runGit(t, &stream, "-C", dir, "fast-import", "--quiet")
	revs := strings.Fields(runGit(t, nil, "-C", dir, "rev-list", "--reverse", "main"))
	require.Len(t, revs, len(commits))
	r, err := gitrepo.Open(context.Background(), gitrepo.Options{URL: dir})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r, revs
}

func runGit(t testing.TB, stdin *bytes.Buffer, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

func at(t testing.TB, r *gitrepo.Repository, rev string) *gitrepo.Snapshot {
	t.Helper()
	s, err := r.Snapshot(rev)
	require.NoError(t, err)
	return s
}

// takeIn is what an engine does with a commit, of the inputs alone.
func takeIn(t testing.TB, in *inputs, env string, fsys fs.FS) *inputs {
	t.Helper()
	next := compared(t, in, env, fsys)
	return next.after()
}

func compared(t testing.TB, in *inputs, env string, fsys fs.FS) *intake {
	t.Helper()
	repo, err := envrepo.Open(fsys)
	require.NoError(t, err)
	declared, err := repo.Environment(env)
	require.NoError(t, err)
	next, err := in.compare(fsys, repo, declared, func() []string { return slices.Collect(maps.Keys(in.releases)) })
	require.NoError(t, err)
	return next
}

// oracle recomputes all releases from the hashes of all paths of their closures,
// as the reconciler did before it compared commits.
type oracle map[string]*content

func (o oracle) takeIn(t testing.TB, env string, fsys fs.FS) oracle {
	t.Helper()
	repo, err := envrepo.Open(fsys)
	require.NoError(t, err)
	declared, err := repo.Environment(env)
	require.NoError(t, err)
	names, err := repo.ReleaseNames(env)
	require.NoError(t, err)
	after := oracle{}
	for _, name := range names {
		after[name] = o.contentOf(t, fsys, repo, declared, name)
	}
	return after
}

func (o oracle) contentOf(t testing.TB, fsys fs.FS, repo *envrepo.Repo, env envrepo.Environment, name string) *content {
	t.Helper()
	if before := o[name]; before != nil && before.err == nil {
		hash, err := hashPaths(fsys, before.paths, policyOf(env))
		require.NoError(t, err)
		if hash == before.hash {
			return before
		}
	}
	release, err := repo.PartialRelease(env.Name, name)
	if err != nil {
		return &content{err: err}
	}
	closure, err := render.InputClosure(fsys, release)
	for _, t := range release.Tags {
		err = errors.Join(err, t.Broken)
	}
	if err != nil && !release.Tagged() {
		return &content{err: err}
	}
	c := &content{paths: slices.DeleteFunc(closure.Paths, func(p string) bool { return p == "sluice.yaml" })}
	if err != nil { // one tag may be broken and the others not
		c.paths = append(c.paths, traced(fsys, repo, env, name)...)
		slices.Sort(c.paths)
		c.paths = slices.Compact(c.paths)
	}
	c.paths = append(c.paths, contracted(release)...)
	c.hash, err = hashPaths(fsys, c.paths, policyOf(env))
	require.NoError(t, err)
	return c
}

func listed(releases map[string]*content) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(releases)) {
		if c := releases[name]; c.err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, c.err)
		} else {
			fmt.Fprintf(&b, "%s: %s %v\n", name, c.hash, c.paths)
		}
	}
	return b.String()
}

// edits are random commits over few names, so that they meet.
type edits struct{ *rand.Rand }

func (e edits) pick(from ...string) string { return from[e.IntN(len(from))] }

func (e edits) component() string { return e.pick("a", "b", "c", "a-blue") }

func (e edits) environment() string { return e.pick("production", "production", "staging") }

// folder is one that something may be in.
func (e edits) folder() string {
	component := "components/" + e.component()
	release := "environments/" + e.environment() + "/" + e.component()
	return e.pick(component, component+"/shared", release, release, release+"/base", release+"/blue", release+"/green", "environments/"+e.environment(),
		"environments/"+e.environment()+"/policies", "environments/"+e.environment()+"/environment")
}

func (e edits) kustomization() string {
	if e.IntN(2) == 0 {
		return "resources: [../../../components/" + e.component() + "]\n"
	}
	resources := e.pick("../../../components/"+e.component(), "../../../components/"+e.component()+"/shared", "x.yaml", "policies", "y", "../base", "../../../../components/"+e.component(), "..")
	return e.pick(
		"resources: ["+resources+"]\n",
		"resources: ["+resources+", x.yaml]\nimages: [{name: shop/a, digest: sha256:"+strings.Repeat(e.pick("0", "1"), 64)+"}]\n",
		"resources: [x.yaml]\nconfigMapGenerator: [{name: c, envs: [config.env], files: [k=y/z]}]\n",
		"components: ["+resources+"]\n",
		"patches: [{path: x.yaml}]\n",
		"resources: []\n",
		"resources: [\n")
}

func (e edits) project() string {
	return "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments:\n" +
		"- {name: staging, namespace: s, paused: " + e.pick("true", "false") + "}\n- {name: production, namespace: p, traffic: {drain: " + e.pick("1s", "1s", "1s", "2s") + "}}\n"
}

// sound makes a component and its releases load.
func (e edits) sound(c gitCommit, name string) {
	const kustomization = "resources: [x.yaml]\n"
	c["components/"+name] = ""
	c["components/"+name+"/component.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: " + name + "}\nimage: shop/a\n"
	c["components/"+name+"/kustomization.yaml"] = e.pick(kustomization, "resources: [x.yaml]\nconfigMapGenerator: [{name: c, envs: [config.env]}]\n")
	c["components/"+name+"/x.yaml"], c["components/"+name+"/config.env"] = "one", "a=b"
	c["components/"+name+"/shared/kustomization.yaml"], c["components/"+name+"/shared/x.yaml"] = kustomization, "one"
	for _, env := range []string{"production", "staging"} {
		dir := "environments/" + env + "/" + name
		c[dir] = ""
		c[dir+"/kustomization.yaml"] = "resources: [../../../components/" + e.pick(name, name+"/shared", "a") + "]\n"
		if e.IntN(3) > 0 {
			continue
		}
		c[dir+"/traffic.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {blue: 100}\n"
		c[dir+"/kustomization.yaml"] = "resources: []\n"
		c[dir+"/base/kustomization.yaml"] = "resources: [../../../../components/" + name + "]\n"
		c[dir+"/blue/kustomization.yaml"] = "resources: [../base]\nimages: [{name: shop/a, digest: sha256:" + strings.Repeat("0", 64) + "}]\n"
	}
}

// change makes one edit.
func (e edits) change(c gitCommit) {
	folder := e.folder()
	switch e.IntN(30) {
	default:
		e.sound(c, e.component())
	case 0, 1, 2:
		c[folder+"/kustomization.yaml"] = e.kustomization()
	case 3:
		name := e.component()
		c["components/"+name+"/component.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: " + name + "}\nimage: shop/" + e.pick("a", "b") + "\n"
	case 4:
		c["environments/"+e.environment()+"/"+e.component()+"/traffic.yaml"] = "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\nweights: {" + e.pick("blue: 100", "blue: 50, green: 50", "green: 100") + "}\n"
	case 5, 6:
		c[folder+"/"+e.pick("x.yaml", "config.env", "y/z", "y", "other")] = e.pick("one", "two", "a: [")
	case 7:
		c[e.pick(folder, folder+"/x.yaml", folder+"/kustomization.yaml", "components/"+e.component())] = "-> " + e.pick("x.yaml", "../a")
	case 8, 9:
		c[e.pick(folder, folder+"/x.yaml", folder+"/kustomization.yaml", folder+"/traffic.yaml", "components/"+e.component()+"/component.yaml")] = ""
	case 10:
		c[folder] = "a file"
	case 11:
		c["sluice.yaml"] = e.project()
	case 12:
		c[e.pick("builds/"+e.component()+"/0.yaml", "README.md", "environments/README.md", "environments/x.yaml")] = e.pick("one", "two")
	case 13:
		c["environments/"+e.environment()+"/"+e.pick("kustomization.yml", "Kustomization", "x.yaml")] = e.kustomization()
	}
}

// commits that build up and tear down the environments; the folder of an
// environment itself stays, as its loss is refused elsewhere.
func (e edits) commits(n int) []gitCommit {
	first := gitCommit{"sluice.yaml": e.project(), "environments/production/keep": "1", "environments/staging/keep": "1"}
	for _, name := range []string{"a", "b", "c"} {
		e.sound(first, name)
	}
	for range 15 {
		e.change(first)
	}
	maps.DeleteFunc(first, func(_ string, content string) bool { return content == "" })
	all := []gitCommit{first}
	for len(all) < n {
		c := gitCommit{}
		for range 1 + e.IntN(3) {
			e.change(c)
		}
		delete(c, "environments/production")
		delete(c, "environments/staging")
		all = append(all, c)
	}
	return all
}

// checkIntake asserts that what is found by comparing commits equals what looking
// at everything finds, whatever the order of the commits.
func checkIntake(t *testing.T, seed uint64) {
	e := edits{rand.New(rand.NewPCG(seed, 0))}
	repo, revs := history(t, e.commits(100))
	for _, env := range []string{"production", "staging"} {
		in, all := &inputs{}, oracle{}
		for i, rev := range revs {
			if e.IntN(8) == 0 { // a branch that was forced
				rev = revs[e.IntN(len(revs))]
			}
			s := at(t, repo, rev)
			in, all = takeIn(t, in, env, s), all.takeIn(t, env, s)
			require.Equal(t, listed(all), listed(in.releases), "seed %d, commit %d %s of %s", seed, i, rev, env)
		}
		fresh := newClosures()
		for name, c := range in.releases {
			fresh.replace(name, nil, c.paths)
		}
		require.Equal(t, fmt.Sprint(fresh), fmt.Sprint(in.closures), "the index is that of the closures")
	}
}

func TestIntakeEqualsLookingAtEverything(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		checkIntake(t, seed)
	}
}

func FuzzIntake(ff *testing.F) {
	f := mutants.New(ff)
	f.Add(uint64(99))
	f.Fuzz(checkIntake)
}

// TestIntakeReadsWhatDiffers: in a repository of 1,000 releases.
func TestIntakeReadsWhatDiffers(t *testing.T) {
	t.Parallel()
	const n = 1000
	shared := "components/common/policy.yaml"
	first := many(n)
	first["builds/c00500/1.yaml"] = "x"
	repo, revs := history(t, []gitCommit{first,
		{"environments/production/c00500/kustomization.yaml": overlayOf("c00500", 1)},
		{"builds/c00500/0.yaml": "x", "README.md": "x", "components/unused/component.yaml": "x", "environments/staging/c00500/kustomization.yaml": "x"},
		{"environments/production/new/kustomization.yaml": "x", "environments/production/c00001": ""},
		{shared: "x"},
	})
	in := takeIn(t, &inputs{}, "production", at(t, repo, revs[0]))
	require.Len(t, in.releases, n+1)
	for i, want := range []struct {
		looked  []string
		folders int64
	}{
		{[]string{"c00500"}, 4 + 4}, // the root, environments, production, the release: of the commit before too, where they are not at hand any more
		{[]string{"unused"}, 4 + 4}, // the root, components, unused, environments; builds and c00500 in it, before and after
		{[]string{"c00001", "new"}, 4},
	} {
		read := repo.FoldersRead()
		next := compared(t, in, "production", at(t, repo, revs[i+1]))
		assert.Equal(t, want.looked, slices.Sorted(maps.Keys(next.looked)))
		in = next.after()
		assert.LessOrEqual(t, repo.FoldersRead()-read, want.folders, "commit %d", i+1)
		require.Len(t, in.releases, n+1)
	}
	next := compared(t, in, "production", at(t, repo, revs[4]))
	assert.Len(t, next.looked, n, "the 999 that share it, and what has its name")
}

// faulty is a snapshot of which a path cannot be read.
type faulty struct {
	*gitrepo.Snapshot
	path string
}

func (f faulty) Diff(before fs.FS, visit func(string) bool) error {
	if b, ok := before.(faulty); ok {
		before = b.Snapshot
	}
	return f.Snapshot.Diff(before, visit)
}

func (f faulty) Open(name string) (fs.File, error) {
	if name == f.path {
		return nil, &gitrepo.CorruptError{Object: "0123", Reason: "it is missing"}
	}
	return f.Snapshot.Open(name)
}

// What could not be read says nothing: it is read again though nothing differs.
func TestWhatCannotBeReadIsReadAgain(t *testing.T) {
	t.Parallel()
	repo, revs := history(t, []gitCommit{many(3)})
	s := at(t, repo, revs[0])
	sound := takeIn(t, &inputs{}, "production", s)
	in := takeIn(t, &inputs{}, "production", faulty{s, "components/c00001/component.yaml"})
	require.ErrorContains(t, in.releases["c00001"].err, "it is missing")
	assert.Equal(t, map[string]bool{"c00001": true}, in.unsure)
	in = takeIn(t, in, "production", faulty{s, "components/c00001/component.yaml"})
	assert.Equal(t, map[string]bool{"c00001": true}, in.unsure)
	in = takeIn(t, in, "production", faulty{s, ""})
	assert.Empty(t, in.unsure)
	assert.Equal(t, listed(sound.releases), listed(in.releases))
}

// An environment that leaves the project leaves with all its releases, and comes
// back with them although nothing of them differs.
func TestAnEnvironmentThatComesBack(t *testing.T) {
	t.Parallel()
	project := many(3)["sluice.yaml"]
	repo, revs := history(t, []gitCommit{many(3), {"sluice.yaml": strings.ReplaceAll(project, "production", "other")}, {"sluice.yaml": project}})
	in := takeIn(t, &inputs{}, "production", at(t, repo, revs[0]))
	before := listed(in.releases)
	away, back := at(t, repo, revs[1]), at(t, repo, revs[2])
	opened, err := envrepo.Open(away)
	require.NoError(t, err)
	next, err := in.compare(away, opened, envrepo.Environment{Name: "production"}, func() []string { return slices.Collect(maps.Keys(in.releases)) })
	require.NoError(t, err)
	assert.Zero(t, next.size)
	for _, name := range []string{"c00000", "c00001", "c00002", "environment"} {
		assert.True(t, next.looked[name].gone, name)
	}
	in = takeIn(t, next.after(), "production", back)
	assert.Equal(t, before, listed(in.releases))
}

// What was lost by a bad merge does not read as removed (docs/adr/0009).
func TestALostFileIsNoRemovedRelease(t *testing.T) {
	t.Parallel()
	repo, revs := history(t, []gitCommit{many(4),
		{"environments/production/c00001/kustomization.yaml": "", "environments/production/kustomization.yaml": ""},
		{"environments/production/c00002": "-> ../../components/c00002"},
		{"environments/production/c00003": ""},
		{"environments/production/quota.yaml": ""},
	})
	in := &inputs{}
	var states []string
	for _, rev := range revs {
		in = takeIn(t, in, "production", at(t, repo, rev))
		var state []string
		for _, name := range slices.Sorted(maps.Keys(in.releases)) {
			if in.releases[name].err != nil {
				name += "!"
			}
			state = append(state, name)
		}
		states = append(states, strings.Join(state, " "))
	}
	assert.Equal(t, []string{
		"c00000 c00001 c00002 c00003 environment",
		"c00000 c00001! c00002 c00003 environment!",
		"c00000 c00001! c00002! c00003 environment!",
		"c00000 c00001! c00002! environment!",
		"c00000 c00001! c00002!",
	}, states)
}
