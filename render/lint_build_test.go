package render_test

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-dev/sluice/render"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blue is the shop's blue overlay with its labels block changed.
func blue(t testing.TB, edit func(labels string) string) map[string]string {
	t.Helper()
	data, err := fs.ReadFile(shop(), bluePath+"kustomization.yaml")
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(data), "labels:\n")
	require.True(t, ok)
	labels, tail, ok := strings.Cut(rest, "images:\n")
	require.True(t, ok)
	return map[string]string{bluePath + "kustomization.yaml": head + edit("labels:\n"+labels) + "images:\n" + tail}
}

func replacing(old, text string) func(string) string {
	return func(labels string) string { return strings.ReplaceAll(labels, old, text) }
}

// A tag whose objects agree on a label that is not the tag's own gets ready,
// and Service api, which Sluice points at api-blue, has no endpoints.
func TestLintInstance(t *testing.T) {
	const at = "environments/production/api/blue: "
	const deployment, service, budget = at + "Deployment shop-production/api-blue ", at + "Service shop-production/api-blue ", at + "PodDisruptionBudget shop-production/api-blue "
	const unfound = " where api-blue is due: Service api, which Sluice points at api-blue, would not find its pods\n"
	const mislabelled = "error " + deployment + "has app.kubernetes.io/instance: api in its selector and pod template" + unfound +
		"error " + service + "has app.kubernetes.io/instance: api in its selector where api-blue is due: it would not find the pods of tag blue\n" +
		"warning " + budget + "has app.kubernetes.io/instance: api in its selector where api-blue is due: it selects no pods of tag blue\n"
	patched := func(edit func(string) string, patch string) map[string]string {
		files := blue(t, edit)
		files[bluePath+"kustomization.yaml"] += "patches:\n- target: {kind: Deployment}\n  patch: '" + patch + "'\n"
		return files
	}
	selecting := func(expression string) map[string]string {
		return patched(replacing("  - {group: apps, kind: Deployment, path: spec/selector/matchLabels, create: true}\n", ""),
			`[{"op": "replace", "path": "/spec/selector", "value": {"matchExpressions": [`+expression+`]}}]`)
	}
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"the component's own label", blue(t, replacing("instance: api-blue", "instance: api")), mislabelled},
		{"no labels block", blue(t, func(string) string { return "" }), mislabelled},
		{"another tag's label", blue(t, replacing("instance: api-blue", "instance: api-red")), strings.ReplaceAll(mislabelled, "instance: api ", "instance: api-red ")},
		{"no field for Services", blue(t, replacing("  - {version: v1, kind: Service, path: spec/selector, create: true}\n", "")),
			"error " + service + "has app.kubernetes.io/instance: api in its selector where api-blue is due: it would not find the pods of tag blue\n"},
		{"no field for Deployments", blue(t, replacing("  - {group: apps, kind: Deployment, path: spec/selector/matchLabels, create: true}\n", "")),
			"error " + deployment + "has app.kubernetes.io/instance: api in its selector" + unfound},
		{"not in the pods", blue(t, replacing("includeTemplates: true", "includeTemplates: false")),
			"error " + deployment + "has app.kubernetes.io/instance: api in its pod template" + unfound +
				"warning " + deployment + "is selected by no Service: if it takes work from a queue it does so at any weight\n"},
		{"pods without a label", patched(replacing("includeTemplates: true", "includeTemplates: false"), `[{"op": "remove", "path": "/spec/template/metadata/labels/app.kubernetes.io~1instance"}]`),
			"error " + deployment + "has no app.kubernetes.io/instance in its pod template" + unfound +
				"warning " + deployment + "is selected by no Service: if it takes work from a queue it does so at any weight\n"},
		{"an expression that comes to the same", selecting(`{"key": "app.kubernetes.io/instance", "operator": "In", "values": ["api-blue"]}`), ""},
		{"an expression of another tag", selecting(`{"key": "app.kubernetes.io/instance", "operator": "In", "values": ["api-red", "api-pink"]}`),
			"error " + deployment + "has app.kubernetes.io/instance in (api-pink,api-red) in its selector" + unfound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, lint(t, tt.files))
		})
	}
}

// The hint is a block that can be copied.
func TestLintInstanceHint(t *testing.T) {
	fsys := edited(t, blue(t, func(string) string { return "" }))
	request := func(fsys fs.FS) render.Request {
		return render.Request{FS: fsys, Release: releaseOf(t, fsys, "production", "api"), Decrypt: keyless}
	}
	_, err := render.Build(context.Background(), request(fsys))
	var refused *render.LintError
	require.ErrorAs(t, err, &refused)
	before, block, ok := strings.Cut(refused.Hint(), ": labels: ")
	require.True(t, ok)
	assert.Equal(t, "give environments/production/api/blue/kustomization.yaml the labels of a scaffolded tag", before)
	repaired, err := render.Build(context.Background(), request(edited(t, blue(t, func(string) string { return "labels: " + block + "\n" }))))
	require.NoError(t, err)
	scaffolded, err := render.Build(context.Background(), request(shop()))
	require.NoError(t, err)
	assert.Equal(t, toYAML(t, scaffolded.Tags[0].Objects), toYAML(t, repaired.Tags[0].Objects))
}

// Overlaps name the remedy that fits: who lacks the label, and who has another's.
func TestLintOverlapHints(t *testing.T) {
	hints := func(files map[string]string) []string {
		fsys := edited(t, files)
		_, found, err := render.Inspect(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "production", "api"), Decrypt: keyless})
		require.NoError(t, err)
		var out []string
		for _, f := range found {
			if f.Severity == render.SeverityError && strings.HasPrefix(f.Object, "Deployment") {
				hint, _, _ := strings.Cut(f.Hint, ": labels: ")
				out = append(out, f.File+" "+f.Message+": "+hint)
			}
		}
		return out
	}
	assert.Equal(t, []string{
		"environments/production/api/blue has app.kubernetes.io/instance: api-green in its selector and pod template where api-blue is due: Service api, which Sluice points at api-blue, would not find its pods: give environments/production/api/blue/kustomization.yaml the labels of a scaffolded tag",
	}, hints(blue(t, replacing("instance: api-blue", "instance: api-green"))), "sluice.dev/tag keeps the selectors apart")
	assert.Equal(t, []string{
		"environments/production/api/blue selects the pods of tag green too: give environments/production/api/blue/kustomization.yaml the labels of a scaffolded tag",
	}, hints(blue(t, replacing("sluice.dev/tag: blue, app.kubernetes.io/instance: api-blue", "app.kubernetes.io/instance: api-green"))))
}

// Build refuses what Lint finds, so that nothing of it is applied.
func TestBuildRefusesLintErrors(t *testing.T) {
	files := more("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n")
	fsys := edited(t, files)
	for name, decrypt := range map[string]render.Decrypt{"keyless": keyless, "with keys": keyed(t, "production")} {
		t.Run(name, func(t *testing.T) {
			res, err := render.Build(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "production", "api"), Decrypt: decrypt})
			assert.Nil(t, res)
			assert.EqualError(t, err, "rendering environments/production/api: 2 findings in environments/production/api:\n"+
				"environments/production/api/blue: PersistentVolumeClaim shop-production/data-blue stands in a tag and must exist once: its data would be split among the tags\n"+
				"environments/production/api/green: PersistentVolumeClaim shop-production/data-green stands in a tag and must exist once: its data would be split among the tags")
			var refused *render.LintError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, "environments/production/api", refused.Dir)
			assert.Len(t, refused.Findings, 2, "warnings are left out")
			assert.Equal(t, "move it to environments/production/api or the component's shared folder", refused.Hint())
		})
	}
}

func TestLintErrorText(t *testing.T) {
	f := func(object, hint string) render.Finding {
		return render.Finding{Severity: render.SeverityError, File: "e/p/api/blue", Object: object, Message: "is wrong", Hint: hint}
	}
	one := &render.LintError{Dir: "e/p/api", Findings: []render.Finding{f("Service p/a\nb\x1b", "one")}}
	assert.EqualError(t, one, "e/p/api/blue: Service p/a b\x1b is wrong")
	many := &render.LintError{Dir: "e/p/api", Findings: []render.Finding{f("A p/a", "one"), f("B p/b", "one"), f("C p/c", ""), f("D p/d", "two"), f("E p/e", "three"), f("F p/f", "four")}}
	assert.EqualError(t, many, "6 findings in e/p/api:\ne/p/api/blue: A p/a is wrong\ne/p/api/blue: B p/b is wrong\ne/p/api/blue: C p/c is wrong\n"+
		"e/p/api/blue: D p/d is wrong\ne/p/api/blue: E p/e is wrong\ne/p/api/blue: F p/f is wrong")
	assert.Equal(t, "one; two; three", many.Hint())
}

// What check finds without keys is what the reconciler refuses with them, to
// the letter: no finding holds a hash of decrypted values.
func TestLintNeedsNoKeys(t *testing.T) {
	files := more("apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: api}\nspec: {other: {secretName: api-secrets}}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}\n")
	for p, text := range blue(t, replacing("instance: api-blue", "instance: api")) {
		files[p] = text
	}
	fsys := edited(t, files)
	var outcomes [2][]render.Finding
	for i, decrypt := range []render.Decrypt{keyless, keyed(t, "production")} {
		res, found, err := render.Inspect(context.Background(), render.Request{FS: fsys, Release: releaseOf(t, fsys, "production", "api"), Decrypt: decrypt})
		require.NoError(t, err)
		assert.Equal(t, render.Lint(res), found)
		outcomes[i] = found
	}
	assert.Equal(t, outcomes[0], outcomes[1])
	assert.True(t, len(outcomes[0]) > 4)
	hash := regexp.MustCompile(`-[bcdfghkmt2456789]{10}\b`)
	for _, f := range outcomes[0] {
		assert.NotRegexp(t, hash, f.String()+f.Hint)
	}
}

// Every render pays for lint. Allocations stand for time, which a test cannot
// hold to a bound.
func TestLintIsCheap(t *testing.T) {
	request := render.Request{FS: shop(), Release: releaseOf(t, shop(), "production", "api"), Decrypt: keyless}
	res, err := render.Build(context.Background(), request)
	require.NoError(t, err)
	lint := testing.AllocsPerRun(10, func() { render.Lint(res) })
	build := testing.AllocsPerRun(10, func() {
		if _, err := render.Build(context.Background(), request); err != nil {
			t.Error(err)
		}
	})
	assert.Less(t, lint, build/20, "allocations of Lint, and a twentieth of those of Build")
}

var errUnreadable = errors.New("cannot be opened here")

// locked refuses to open what it lists as links, as a working tree does that is
// read as Git would.
type locked struct{ fs.FS }

func (l locked) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "link.yaml") || strings.HasSuffix(name, "locked.yaml") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errUnreadable}
	}
	return l.FS.Open(name)
}

func TestLinksThatCannotBeOpened(t *testing.T) {
	build := func(name string) error {
		fsys := symlinked(t, map[string]string{
			"environments/development/api/kustomization.yaml": "namespace: shop-development\nresources: [" + name + "]\n"}, "environments/development/api/link.yaml")
		rel := releaseOf(t, shop(), "development", "api")
		_, err := render.Build(context.Background(), render.Request{FS: locked{fsys}, Release: rel})
		return err
	}
	err := build("link.yaml")
	assert.EqualError(t, err, `rendering environments/development/api: environments/development/api/kustomization.yaml:2: resources: "link.yaml" is or lies behind a symbolic link`)
	var input *render.InputError
	require.ErrorAs(t, err, &input)
	assert.Equal(t, "replace the link by the file: links are not followed", input.Hint())
	err = build("locked.yaml")
	assert.EqualError(t, err, "rendering environments/development/api: reading environments/development/api/locked.yaml: cannot be opened here")
	assert.ErrorIs(t, err, errUnreadable)
}
