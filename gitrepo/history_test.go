package gitrepo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// project is a history with a merge:
//
//	first ── api1 ── web1 ─────── merge ── api2   (main)
//	            └── staging ──┘
func project(t *testing.T) (dir string, revs map[string]string) {
	t.Helper()
	dir = emptyBare(t)
	revs = map[string]string{}
	commit := func(name string, files map[string]string) {
		revs[name] = commitFiles(t, dir, "main", name, files)
	}
	commit("first", map[string]string{"sluice.yaml": "x", "production/api/digest": "0", "production/web/digest": "0", "staging/api/digest": "0"})
	commit("api1", map[string]string{"production/api/digest": "1"})
	git(t, dir, "branch", "staging", "main")
	commit("web1", map[string]string{"production/web/digest": "1"})
	revs["staging"] = commitFiles(t, dir, "staging", "staging", map[string]string{"staging/api/digest": "1"})
	tree := gitTree(t, dir, map[string]string{"sluice.yaml": "x", "production/api/digest": "1", "production/web/digest": "1", "staging/api/digest": "1"}, func(string) string { return "100644" })
	revs["merge"] = git(t, dir, "commit-tree", "-m", "merge", "-p", revs["web1"], "-p", revs["staging"], tree)
	git(t, dir, "update-ref", "refs/heads/main", revs["merge"])
	commit("api2", map[string]string{"production/api/digest": "2"})
	return dir, revs
}

func subjects(commits []Commit) string {
	var names []string
	for _, c := range commits {
		names = append(names, c.Subject())
	}
	return strings.Join(names, " ")
}

func TestHistory(t *testing.T) {
	dir, revs := project(t)
	r := open(t, Options{URL: dir})
	for _, c := range []struct {
		rev   string
		paths []string
		limit int
		want  string
	}{
		{"HEAD", nil, 0, "api2 merge web1 api1 first"},
		{"HEAD", []string{"."}, 0, "api2 merge web1 api1 first"},
		{"HEAD", []string{"production/api"}, 0, "api2 api1 first"},
		{"HEAD", []string{"production/api/digest"}, 2, "api2 api1"},
		{"HEAD", []string{"staging"}, 0, "merge first"},
		{"HEAD", []string{"staging", "production/web"}, 0, "merge web1 first"},
		{"HEAD", []string{"sluice.yaml"}, 0, "first"},
		{"HEAD", []string{"none", "sluice.yaml/x"}, 0, ""},
		{revs["web1"], []string{"production/web"}, 0, "web1 first"},
		{"staging", []string{"staging"}, 0, "staging first"},
	} {
		got, err := r.History(t.Context(), c.rev, c.paths, c.limit)
		require.NoError(t, err)
		assert.Equal(t, c.want, subjects(got), "%s %v", c.rev, c.paths)
	}
	got, err := r.History(t.Context(), "HEAD", []string{"production/api"}, 1)
	require.NoError(t, err)
	assert.Equal(t, []Commit{{Hash: revs["api2"], Author: "Ann", Email: "ann@example.com", Message: "api2", Time: got[0].Time, Parents: []string{revs["merge"]}}}, got)

	_, err = r.History(t.Context(), "none", nil, 0)
	require.ErrorIs(t, err, ErrUnknownRevision)
	_, err = r.History(t.Context(), "HEAD", []string{"../x"}, 0)
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.History(ctx, "HEAD", nil, 0)
	require.ErrorIs(t, err, context.Canceled)
}

// TestWalk: each commit with what it changed, of nested paths and of files that were
// folders, until the visitor has seen enough.
func TestWalk(t *testing.T) {
	dir, _ := project(t)
	commitFiles(t, dir, "main", "file", map[string]string{"staging": "was a folder"})
	r := open(t, Options{URL: dir})
	walk := func(most int, paths ...string) (told []string) {
		t.Helper()
		require.NoError(t, r.Walk(t.Context(), "HEAD", paths, func(c Commit, changed []string) bool {
			told = append(told, fmt.Sprint(c.Subject(), changed))
			return len(told) < most
		}))
		return told
	}
	assert.Equal(t, []string{
		"file[staging staging/api]", "api2[production/api]", "merge[staging staging/api]", "web1[]", "api1[production/api]", "first[production/api staging staging/api]",
	}, walk(100, "staging", "staging/api", "production/api"))
	assert.Equal(t, []string{"file[.]", "api2[.]"}, walk(2, "."))
	assert.Equal(t, []string{"file[]"}, walk(1))
}

// TestWalkReadsWhatChanged: a commit that changes no path costs its root folder, however
// many paths there are.
func TestWalkReadsWhatChanged(t *testing.T) {
	t.Parallel()
	dir := emptyBare(t)
	var commits []importedCommit
	files, paths := map[string]string{}, []string{}
	for i := range 50 {
		name := fmt.Sprintf("environments/production/c%d", i)
		files[name+"/digest"], paths = "0", append(paths, name)
	}
	commits = append(commits, importedCommit{"first", files}, importedCommit{"promoted", map[string]string{"environments/production/c7/digest": "1"}})
	for i := range 100 {
		commits = append(commits, importedCommit{"build", map[string]string{fmt.Sprintf("builds/c%d/%d.yaml", i%50, i): "x"}})
	}
	importCommits(t, dir, "main", commits)
	r := open(t, Options{URL: dir})
	var changes []string
	require.NoError(t, r.Walk(t.Context(), "HEAD", paths, func(c Commit, changed []string) bool {
		if len(changed) > 0 {
			changes = append(changes, fmt.Sprint(c.Subject(), changed))
		}
		return len(changes) == 0
	}))
	assert.Equal(t, []string{"promoted[environments/production/c7]"}, changes)
	const roots, onTheWay = 102, 2 * 2
	assert.EqualValues(t, roots+onTheWay, r.FoldersRead())
}

// TestWalkOfAShallowClone: the commits that it has, and that there were more.
func TestWalkOfAShallowClone(t *testing.T) {
	t.Parallel()
	dir, _ := project(t)
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, "", "clone", "--quiet", "--depth=2", "file://"+dir, clone)
	var told []string
	err := openLocal(t, clone).Walk(t.Context(), "HEAD", nil, func(c Commit, _ []string) bool {
		told = append(told, c.Subject())
		return true
	})
	var shallow *ShallowError
	require.ErrorAs(t, err, &shallow)
	assert.Contains(t, err.Error(), clone+" is a shallow clone, whose history begins at commit "+shallow.Last[:12])
	assert.Contains(t, hint(t, err), "git fetch --unshallow")
	assert.Equal(t, []string{"api2", "merge"}, told)
}

func TestHistorySeesModes(t *testing.T) {
	dir := emptyBare(t)
	withEntries(t, dir, map[string]string{"run.sh": "100644 x"})
	tree := gitTree(t, dir, map[string]string{"run.sh": "x"}, func(string) string { return "100755" })
	git(t, dir, "update-ref", "refs/heads/main", git(t, dir, "commit-tree", "-m", "executable", "-p", git(t, dir, "rev-parse", "main"), tree))
	r := open(t, Options{URL: dir})
	got, err := r.History(t.Context(), "HEAD", []string{"run.sh"}, 0)
	require.NoError(t, err)
	assert.Equal(t, "executable special", subjects(got))
	changed, err := r.Changed("HEAD~1", "HEAD")
	require.NoError(t, err)
	assert.Equal(t, []string{"run.sh"}, changed)
}

func TestChanged(t *testing.T) {
	dir, revs := project(t)
	r := open(t, Options{URL: dir})
	for _, c := range []struct{ from, to, want string }{
		{"HEAD", "HEAD", ""},
		{"HEAD~1", "HEAD", "production/api/digest"},
		{revs["first"], "HEAD", "production/api/digest production/web/digest staging/api/digest"},
		{"HEAD", revs["first"], "production/api/digest production/web/digest staging/api/digest"},
		{"", revs["first"], "production/api/digest production/web/digest sluice.yaml staging/api/digest"},
		{revs["first"], "", "production/api/digest production/web/digest sluice.yaml staging/api/digest"},
	} {
		got, err := r.Changed(c.from, c.to)
		require.NoError(t, err)
		assert.Equal(t, c.want, strings.Join(got, " "), c)
	}
	_, err := r.Changed("none", "HEAD")
	require.ErrorIs(t, err, ErrUnknownRevision)
}

// TestChangedEqualsGit compares with git diff-tree on random trees, folders
// that become files included.
func TestChangedEqualsGit(t *testing.T) {
	t.Parallel()
	dir := emptyBare(t)
	last := ""
	for seed := range uint64(30) {
		c := randomCase(rand.New(rand.NewPCG(seed, 2)))
		rev := git(t, dir, "commit-tree", "-m", "m", gitTree(t, dir, c.files, func(n string) string { return c.modes[n] }))
		git(t, dir, "update-ref", "refs/heads/main", rev)
		r := open(t, Options{URL: dir})
		if last != "" {
			git(t, dir, "update-ref", "refs/heads/last", last)
			_, err := r.FetchRefs(t.Context(), "refs/heads/last")
			require.NoError(t, err)
			got, err := r.Changed(last, rev)
			require.NoError(t, err)
			want := git(t, dir, "diff-tree", "-r", "--name-only", "--no-renames", last, rev)
			wanted := strings.Fields(want)
			sort.Strings(wanted)
			assert.Equal(t, strings.Join(wanted, " "), strings.Join(got, " "))
		}
		last = rev
	}
}

func TestMergeBase(t *testing.T) {
	dir, revs := project(t)
	unrelated := git(t, dir, "commit-tree", "-m", "unrelated", git(t, dir, "rev-parse", "main^{tree}"))
	git(t, dir, "update-ref", "refs/heads/unrelated", unrelated)
	r := open(t, Options{URL: dir})
	for _, c := range []struct{ a, b, want string }{
		{"main", "staging", revs["staging"]},
		{revs["web1"], "staging", revs["api1"]},
		{"staging", revs["web1"], revs["api1"]},
		{"main", "main", revs["api2"]},
		{"main", revs["first"], revs["first"]},
		{"main", "unrelated", ""},
	} {
		got, err := r.MergeBase(c.a, c.b)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%s %s", c.a, c.b)
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{{"main", "main", true}, {"staging", "main", true}, {"main", "staging", false}, {revs["first"], "main", true}, {"unrelated", "main", false}} {
		got, err := r.IsAncestor(c.a, c.b)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%s %s", c.a, c.b)
	}
	for rev, want := range map[string]string{"main": revs["first"], "staging": revs["first"], revs["first"]: revs["first"], "unrelated": unrelated} {
		got, err := r.Root(t.Context(), rev)
		require.NoError(t, err)
		assert.Equal(t, want, got, rev)
	}
	_, err := r.MergeBase("none", "main")
	require.ErrorIs(t, err, ErrUnknownRevision)
	_, err = r.MergeBase("main", "none")
	require.ErrorIs(t, err, ErrUnknownRevision)
}

// TestMergeBaseEqualsGit compares with git merge-base on random histories,
// with clocks that run backwards.
func TestMergeBaseEqualsGit(t *testing.T) {
	t.Parallel()
	dir := emptyBare(t)
	random := rand.New(rand.NewPCG(1, 2))
	r := open(t, Options{URL: dir})
	at := clock()
	r.now = func() time.Time { return at.Add(time.Duration(random.IntN(40)) * time.Minute) }
	var revs []string
	updates := []RefUpdate{}
	for i := range 40 {
		var parents []string
		for range min(i, 1+random.IntN(2)) {
			p := revs[max(0, i-1-random.IntN(6))]
			if len(parents) == 0 || parents[0] != p {
				parents = append(parents, p)
			}
		}
		c, err := r.WriteCommit(parents, "", Edit{Message: fmt.Sprint(i), Write: map[string][]byte{"a": []byte(fmt.Sprint(i))}})
		require.NoError(t, err)
		revs = append(revs, c)
		updates = append(updates, RefUpdate{Name: fmt.Sprint("refs/heads/b", i), New: c})
	}
	require.NoError(t, r.Push(t.Context(), updates))
	for range 60 {
		a, b := revs[random.IntN(40)], revs[random.IntN(40)]
		got, err := r.MergeBases(a, b)
		require.NoError(t, err)
		assert.ElementsMatch(t, strings.Fields(git(t, dir, "merge-base", "--all", a, b)), got)
		ancestor, err := r.IsAncestor(a, b)
		require.NoError(t, err)
		assert.Equal(t, git(t, dir, "rev-list", "--count", a, "^"+b) == "0", ancestor)
	}
}

func TestRevisions(t *testing.T) {
	dir, revs := project(t)
	git(t, dir, "tag", "v1", revs["web1"])
	git(t, dir, "tag", "-a", "-m", "annotated", "v2", revs["merge"])
	git(t, dir, "tag", "-a", "-m", "tag of a tag", "v3", "v2")
	git(t, dir, "tag", "blob", "main:sluice.yaml")
	r := open(t, Options{URL: dir})
	for rev, want := range map[string]string{
		"HEAD": "api2", "main": "api2", "refs/heads/main": "api2", "HEAD~1": "merge", "HEAD~": "merge", "HEAD^": "merge", "HEAD~~": "web1", "HEAD^~1^": "api1",
		"HEAD~4": "first", "HEAD~0": "api2", "staging": "staging", "v1": "web1", "v2": "merge", "v3": "merge", "v2~1": "web1", "refs/tags/v1": "web1",
		revs["api1"]: "api1", revs["api1"][:12]: "api1", revs["web1"][:7] + "~1": "api1", "~1": "merge",
	} {
		s, err := r.Snapshot(rev)
		require.NoError(t, err, rev)
		assert.Equal(t, want, s.Commit().Subject(), rev)
	}
	tree := git(t, dir, "rev-parse", "main^{tree}")
	for rev, want := range map[string]string{
		"none": `REPO has no revision "none"`, "": "", "HEAD~5": `REPO has no revision "HEAD~5": there are only 4 commits before HEAD`,
		"HEAD~99999999999999999999":       `REPO has no revision "HEAD~99999999999999999999": the number after ~ is too large`,
		strings.Repeat("0", 40):           `REPO has no revision "0000000000000000000000000000000000000000"`,
		"abc":                             `REPO has no revision "abc"`,
		tree:                              fmt.Sprintf("REPO has no revision %q: %s is a tree, not a commit", tree, tree[:12]),
		"blob":                            fmt.Sprintf("REPO has no revision \"blob\": %s is a blob, not a commit", git(t, dir, "rev-parse", "main:sluice.yaml")[:12]),
		"HEAD\x1b[31m":                    `REPO has no revision "HEAD[31m"`,
		"main:sluice.yaml":                `REPO has no revision "main:sluice.yaml"`,
		"@{u}":                            `REPO has no revision "@{u}"`,
		revs["api1"] + "0":                fmt.Sprintf("REPO has no revision %q", revs["api1"]+"0"),
		strings.ToUpper(revs["api1"][:8]): fmt.Sprintf("REPO has no revision %q", strings.ToUpper(revs["api1"][:8])),
		"../../config":                    `REPO has no revision "../../config"`,
	} {
		if want == "" {
			continue
		}
		_, err := r.Snapshot(rev)
		require.ErrorIs(t, err, ErrUnknownRevision, rev)
		assert.Equal(t, want, strings.ReplaceAll(err.Error(), dir, "REPO"), rev)
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	t.Parallel()
	dir := emptyBare(t)
	// Commits until two of them share four digits; the birthday paradox needs some hundred.
	var commits []importedCommit
	for i := range 1200 {
		commits = append(commits, importedCommit{fmt.Sprint(i), nil})
	}
	importCommits(t, dir, "main", commits)
	seen, prefix := map[string]string{}, ""
	for _, h := range strings.Fields(git(t, dir, "log", "--format=%H", "main")) {
		if seen[h[:4]] != "" {
			prefix = h[:4]
		}
		seen[h[:4]] = h
	}
	require.NotEmpty(t, prefix)
	r := open(t, Options{URL: dir})
	_, err := r.Snapshot(prefix)
	require.ErrorIs(t, err, ErrUnknownRevision)
	assert.Contains(t, err.Error(), "is ambiguous: it begins "+prefix)
	assert.Equal(t, "give more digits of the hash", hint(t, err))
}

// FuzzRevision: what is parsed is a name and a number that git would give the same meaning.
func FuzzRevision(ff *testing.F) {
	f := mutants.New(ff)
	for _, s := range []string{"HEAD", "main~2", "v1^^~3", "~", "^", "a~b", "~99999999999", "x~1y", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rev string) {
		name, back, err := parseRevision(rev)
		if err != nil {
			return
		}
		require.NotEmpty(t, name)
		require.GreaterOrEqual(t, back, 0)
		require.False(t, strings.HasSuffix(name, "^") || strings.HasSuffix(name, "~"))
		again, more, err := parseRevision(fmt.Sprintf("%s~%d^", name, back))
		require.NoError(t, err)
		require.Equal(t, name, again)
		require.Equal(t, min(back+1, 1_000_000), more)
	})
}
