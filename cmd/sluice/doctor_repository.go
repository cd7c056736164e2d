package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/traffic"
	"github.com/sluice-dev/sluice/secrets"
)

// needs are what an environment's releases need of the cluster.
type needs struct {
	kinds    []schema.GroupVersionKind             // sorted
	names    map[schema.GroupVersionKind][]string  // of the objects of each kind
	gateways map[string]*unstructured.Unstructured // rendered ones, by name
	parents  []parentNeed
}

// parentNeed is a gateway that routes attach to, and how much mirroring they ask for.
type parentNeed struct {
	parent  traffic.ParentRef
	mirrors int // the most of one release
}

// examineRepository finds out whether the branch can be read, and what it declares.
func (d *doctor) examineRepository(ctx context.Context) {
	repo, err := d.openRemote(ctx)
	if err != nil {
		d.failed("repository", "", err)
		return
	}
	d.ok("repository", repo.Name(), "branch %s can be read", d.branch)
	if d.o.writes {
		if err := repo.CheckWrite(ctx); err != nil {
			d.failed("repository", "write access", err)
		} else {
			d.ok("repository", "write access", "the credentials may write")
		}
	}
	if d.view, err = snapshotView(repo.Repository, repo.project, "HEAD"); err != nil {
		repo.Close()
		d.failed("project", "", repo.explain(err))
		return
	}
	for _, e := range d.serves {
		d.examineEnvironment(ctx, e.Name, e.Namespace)
	}
}

// examineEnvironment renders an environment without keys, and opens what is encrypted
// with those that are given.
func (d *doctor) examineEnvironment(ctx context.Context, name, namespace string) {
	subject := "environment " + name
	env, err := d.view.Repo.Environment(name)
	if err == nil && env.Namespace != namespace {
		err = withHint(fmt.Errorf("it is to be namespace %s here, and sluice.yaml says %s", namespace, env.Namespace), "correct sluice.yaml, or install with --environment %s=%s", name, env.Namespace)
	}
	var names []string
	if err == nil {
		names, err = d.view.Repo.ReleaseNames(name)
	}
	if err != nil {
		d.failed("project", subject, err)
		return
	}
	n := &needs{names: map[schema.GroupVersionKind][]string{}, gateways: map[string]*unstructured.Unstructured{}}
	d.needs[name] = n
	var failures []error
	for _, release := range names {
		result, err := renderRelease(ctx, d.view, name, release, keyless)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", release, err))
			continue
		}
		n.add(result)
	}
	slices.SortFunc(n.kinds, func(a, b schema.GroupVersionKind) int { return compareKinds(a, b) })
	if len(failures) > 0 {
		d.failed("project", subject, withHint(errors.Join(failures...), "sluice check says all that is wrong with the repository"))
	} else {
		d.ok("project", subject, "%d releases render", len(names))
	}
	d.examineKeys(name)
}

func compareKinds(a, b schema.GroupVersionKind) int {
	switch {
	case a.String() < b.String():
		return -1
	case a.String() > b.String():
		return 1
	}
	return 0
}

// add notes what a release needs.
func (n *needs) add(result *render.Result) {
	objects := slices.Clone(result.Shared)
	for _, t := range result.Tags {
		objects = append(objects, t.Objects...)
	}
	mirrors := 0
	if result.Release.Tagged() {
		for _, m := range result.Release.Traffic.Mirrors {
			if m.Percent > 0 {
				mirrors++
			}
		}
	}
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		if !slices.Contains(n.kinds, gvk) {
			n.kinds = append(n.kinds, gvk)
		}
		n.names[gvk] = append(n.names[gvk], o.GetName())
		if gvk.Group == gatewayKind.Group && gvk.Kind == gatewayKind.Kind {
			n.gateways[o.GetName()] = o
		}
		for _, p := range traffic.Gateways(o) {
			p.SectionName = ""
			i := slices.IndexFunc(n.parents, func(have parentNeed) bool { return have.parent == p })
			if i < 0 {
				n.parents = append(n.parents, parentNeed{parent: p})
				i = len(n.parents) - 1
			}
			n.parents[i].mirrors = max(n.parents[i].mirrors, mirrors)
		}
	}
}

// examineKeys opens every encrypted file that an environment may read.
func (d *doctor) examineKeys(env string) {
	subject := "environment " + env
	var served []string
	for _, e := range d.serves {
		served = append(served, e.Name)
	}
	files, err := encryptedFiles(d.view.FS, env)
	if err != nil {
		d.failed("keys", subject, err)
		return
	}
	if len(files) == 0 {
		d.ok("keys", subject, "it has no encrypted files")
		return
	}
	if d.account != "" && !d.keysHere {
		d.skipped("keys", subject, "it has %d encrypted files; give --age-key-file %s=FILE or --key-sources to have them opened here", len(files), env)
		return
	}
	keys, err := d.loadKeys(served, append(environmentNames(d.view.Repo.Project()), served...))
	if err != nil {
		d.failed("keys", subject, err)
		return
	}
	var failures []error
	for _, file := range files {
		data, err := fs.ReadFile(d.view.FS, file)
		if err == nil {
			_, err = keys[env].Open(file, data)
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	if len(failures) > 0 {
		d.failed("keys", subject, errors.Join(failures...))
		return
	}
	d.ok("keys", subject, "the keys open all %d encrypted files", len(files))
}

// encryptedFiles are the SOPS files that releases of an environment may read: in its
// own folder, and in components/.
func encryptedFiles(fsys fs.FS, env string) (files []string, err error) {
	for _, dir := range []string{"environments/" + env, "components"} {
		err := fs.WalkDir(fsys, dir, func(p string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && p == dir:
				return nil
			case err != nil:
				return err
			case !entry.Type().IsRegular():
				return nil
			}
			data, err := fs.ReadFile(fsys, p)
			if err == nil && secrets.IsEncrypted(p, data) {
				files = append(files, p)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("looking for encrypted files: %w", err)
		}
	}
	return files, nil
}

// projectName is the project's, "" when it is not known.
func (d *doctor) projectName() string {
	if d.view == nil {
		return ""
	}
	return d.view.Repo.Project().Name
}
