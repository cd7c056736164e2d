package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/diff"
)

// changePreview is what a change of the repository would do.
type changePreview struct {
	DryRun  bool         `json:"dryRun"`
	Message string       `json:"message"`
	Changed bool         `json:"changed"`
	Via     string       `json:"via"` // commit or pullRequest
	Notes   []string     `json:"notes,omitempty"`
	Changes []objectDiff `json:"changes"` // of traffic.yaml, then of the objects
	Problem string       `json:"problem,omitempty"`
}

// preview shows what an edit would do to the files of the branch, and changes nothing.
// beyond, if there is one, adds what follows from it; its error is what the change would
// fail with, and is returned when all is shown.
func (a *app) preview(ctx context.Context, e edit, beyond func(p *changePreview, before fs.FS, after *envrepo.Tree) error) error {
	repo, err := a.openRemote(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	before, err := repo.snapshot("HEAD")
	if err != nil {
		return repo.explain(err)
	}
	after := envrepo.NewTree(before)
	summary, err := e(after)
	if err != nil {
		return repo.explain(err)
	}
	shown := changePreview{DryRun: true, Message: summary.Message, Changed: summary.Changed, Via: envrepo.ViaCommit, Notes: summary.Notes, Changes: []objectDiff{}}
	if err := shown.addFiles(before, after); err != nil {
		return err
	}
	var problem error
	if beyond != nil {
		if problem = beyond(&shown, before, after); problem != nil {
			shown.Problem = problem.Error()
		}
	}
	if err := a.printPreview(shown); err != nil {
		return err
	}
	return problem
}

// previewTraffic shows what a change would do to the file and to the routes. It asks no
// cluster and needs no key.
func (a *app) previewTraffic(ctx context.Context, component string, o trafficOptions, e edit) error {
	return a.preview(ctx, e, func(p *changePreview, before fs.FS, after *envrepo.Tree) (err error) {
		if p.Via, err = trafficVia(after, o); err != nil {
			return err
		}
		changes, problem := routesDifference(ctx, before, after, o.environment, component)
		p.add(changes...)
		return problem
	})
}

func (a *app) printPreview(p changePreview) error {
	for _, n := range p.Notes {
		a.note("note: %s", n)
	}
	return a.print(p, func(t *table) { previewLines(t, p) })
}

// addFiles adds how the files differ that an edit has written.
func (p *changePreview) addFiles(before fs.FS, after *envrepo.Tree) error {
	for _, name := range slices.Sorted(maps.Keys(after.Writes())) {
		old, err := fs.ReadFile(before, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p.add(diff.File(name, old, after.Writes()[name]))
	}
	return nil
}

func (p *changePreview) add(changes ...diff.Change) {
	for _, c := range changes {
		if c.Kind != diff.None {
			p.Changes = append(p.Changes, objectDiff{c.ID, c.Kind, c.Text})
		}
	}
}

// routesDifference is how the objects that a release has once, its routes among them,
// differ between two states of the project. Where the state before does not render,
// all of them are new.
func routesDifference(ctx context.Context, before, after fs.FS, environment, component string) ([]diff.Change, error) {
	old, oldValues, _ := routesOf(ctx, before, environment, component)
	now, values, err := routesOf(ctx, after, environment, component)
	if err != nil {
		return nil, fmt.Errorf("the routes of %s would stay as they are: %w", path.Join(environment, component), err)
	}
	return diff.Objects(old, now, diff.Mask{Values: slices.Concat(oldValues, values)}), nil
}

func routesOf(ctx context.Context, fsys fs.FS, environment, component string) (objects []*unstructured.Unstructured, values []string, err error) {
	repo, err := envrepo.Open(fsys)
	if err != nil {
		return nil, nil, err
	}
	rel, err := repo.PartialRelease(environment, component)
	if err != nil {
		return nil, nil, err
	}
	result, err := render.BuildPartial(ctx, render.Request{FS: fsys, Release: rel, Decrypt: keyless})
	if err != nil {
		return nil, nil, err
	}
	objects, err = routed(result)
	return objects, result.Values, err
}

func previewLines(t *table, p changePreview) {
	if !p.Changed {
		t.line(printable(p.Message))
		return
	}
	verb := "would commit: "
	if p.Via == envrepo.ViaPullRequest {
		verb = "would open a pull request: "
	}
	t.line(printable(verb + p.Message))
	for _, c := range p.Changes {
		t.line("")
		t.line(printable(c.Change + " " + c.Object))
		t.line(printable(strings.TrimRight(c.Diff, "\n")))
	}
}
