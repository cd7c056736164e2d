package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/render"
)

// expressions compiles the health rules of every component, as the reconciler
// will.
func expressions(repo *envrepo.Repo) []finding {
	components, err := repo.Components()
	if err != nil {
		return nil // declarations has reported it
	}
	var found []finding
	for _, name := range components {
		c, err := repo.Component(name)
		if err != nil {
			continue // likewise
		}
		_, err = health.Compile(c.Health)
		for _, problem := range separate(err) {
			f := errorFinding(name, problem)
			if e := (*health.ExpressionError)(nil); errors.As(problem, &e) {
				f.File = e.File
			}
			found = append(found, f)
		}
	}
	return found
}

// separate are the errors that were joined to one.
func separate(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// componentKinds are the kinds of the objects of each component, nil for one of
// which a release does not render.
type componentKinds map[string]map[schema.GroupKind]bool

// missingKinds is no name of a component: it is there when something of the
// project cannot be told.
const missingKinds = ""

func (c componentKinds) add(r *render.Result) {
	objects := slices.Clone(r.Shared)
	for _, t := range r.Tags {
		objects = append(objects, t.Objects...)
		if t.Broken != nil {
			c.unknown(missingKinds)
		}
	}
	kinds, known := c[r.Release.Name]
	if known && kinds == nil {
		return
	}
	if kinds == nil {
		kinds = map[schema.GroupKind]bool{}
		c[r.Release.Name] = kinds
	}
	for _, o := range objects {
		kinds[o.GroupVersionKind().GroupKind()] = true
	}
}

func (c componentKinds) unknown(name string) { c[name] = nil }

// known are the kinds of Kubernetes and of the whole project, sorted; false where
// something of the project is missing.
func (c componentKinds) known() ([]string, bool) {
	known := slices.Clone(builtinKinds())
	for _, kinds := range c {
		if kinds == nil {
			return nil, false
		}
		for kind := range kinds {
			known = append(known, kind.Kind)
		}
	}
	slices.Sort(known)
	return slices.Compact(known), true
}

// unjudged finds health rules about kinds of which the component has no object in
// any environment: most often a misspelt kind or group, which would be silent.
func unjudged(repo *envrepo.Repo, has componentKinds) []finding {
	var found []finding
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if has[name] == nil {
			continue
		}
		c, err := repo.Component(name)
		if err != nil {
			continue // no component, such as the environment's own objects, or reported
		}
		for _, rule := range c.Health {
			if kind := (schema.GroupKind{Group: rule.Group, Kind: rule.Kind}); !has[name][kind] {
				found = append(found, finding{Severity: "warning", Release: name, File: rule.File,
					Message: fmt.Sprintf("%s:%d: health of %s: no release of the component has such an object", rule.File, rule.Ready.Line, kind),
					Hint:    nearKind(kind, has[name])})
			}
		}
	}
	return found
}

// nearKind names what may have been meant.
func nearKind(kind schema.GroupKind, has map[schema.GroupKind]bool) string {
	var names, alike []string
	for k := range has {
		names = append(names, k.Kind)
	}
	slices.Sort(names)
	near := envrepo.Nearest(kind.Kind, names)
	for k := range has {
		if k.Kind == kind.Kind || near != "" && k.Kind == near || k.Group == kind.Group && k.Group != "" {
			alike = append(alike, k.String())
		}
	}
	if len(alike) == 0 {
		return "remove it, or correct its apiVersion and kind"
	}
	slices.Sort(alike)
	return "it has " + strings.Join(alike, ", ")
}
