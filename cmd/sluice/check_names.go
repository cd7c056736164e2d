package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/kubernetes/scheme"

	"github.com/sluice-dev/sluice/envrepo"
)

// A name that leads nowhere decodes well and does nothing: the component is not
// waited for, the kind is not protected. The checks here look such names up.

// dependencies finds what dependsOn orders wrongly: components that do not
// exist, and circles, in which each would wait for the other.
func dependencies(repo *envrepo.Repo) []finding {
	components, err := repo.Components()
	if err != nil {
		return nil // declarations has reported it
	}
	needs := map[string][]string{}
	for _, name := range components {
		if c, err := repo.Component(name); err == nil {
			needs[name] = c.DependsOn
		}
	}
	var found []finding
	for _, name := range components {
		file := "components/" + name + "/component.yaml"
		for i, need := range needs[name] {
			if !slices.Contains(components, need) {
				f := misnamed("error", repo, file, []any{"dependsOn", i}, fmt.Sprintf("depends on %q, which is no component", need), need, components)
				f.Release, f.Hint = name, "correct dependsOn, or add the component"
				found = append(found, f)
			}
		}
		if circle := circleFrom(name, needs); circle != nil && name == slices.Min(circle) {
			f := misnamed("error", repo, file, []any{"dependsOn"}, "depends on itself: "+strings.Join(append(circle, name), " → "), "", nil)
			f.Release, f.Hint = name, "take one of them out of dependsOn: each would wait for the other"
			found = append(found, f)
		}
	}
	return found
}

// misnamed is a finding about a name in a file, with the known name that is meant
// most likely.
func misnamed(severity string, repo *envrepo.Repo, file string, at []any, message, name string, known []string) finding {
	if near := envrepo.Nearest(name, known); near != "" {
		message += fmt.Sprintf(" (did you mean %q?)", near)
	}
	if line := repo.Line(file, at...); line > 0 {
		message = fmt.Sprintf("%s:%d: %s", file, line, message)
	}
	return finding{Severity: severity, File: file, Message: message}
}

// circleFrom is the way from name back to itself, if there is one.
func circleFrom(name string, needs map[string][]string) []string {
	seen := map[string]bool{}
	var walk func(at string, way []string) []string
	walk = func(at string, way []string) []string {
		for _, next := range needs[at] {
			if next == name {
				return way
			}
			if !seen[next] {
				seen[next] = true
				if circle := walk(next, append(slices.Clone(way), next)); circle != nil {
					return circle
				}
			}
		}
		return nil
	}
	return walk(name, []string{name})
}

// acknowledgements finds those for environments that the project does not list.
// That is right for one whose removal is to be allowed, so it is no error.
func acknowledgements(repo *envrepo.Repo) []finding {
	const file = "sluice.yaml"
	project := repo.Project()
	var found []finding
	for i, a := range project.Acknowledgements {
		if hasEnvironment(project, a.Environment) {
			continue
		}
		f := misnamed("warning", repo, file, []any{"acknowledgements", i, "environment"},
			fmt.Sprintf("acknowledges a deletion in %q, which is no environment of the project", a.Environment), a.Environment, environmentNames(project))
		f.Hint = "correct the name; if it is an environment that has left the project, remove the entry once its objects are gone"
		found = append(found, f)
	}
	return found
}

// builtinKinds are the kinds that every cluster has.
var builtinKinds = sync.OnceValue(func() []string {
	kinds := map[string]bool{"CustomResourceDefinition": true, "APIService": true} // of servers that the scheme leaves out
	for kind := range scheme.Scheme.AllKnownTypes() {
		if !strings.HasSuffix(kind.Kind, "List") && !strings.HasSuffix(kind.Kind, "Options") {
			kinds[kind.Kind] = true
		}
	}
	return slices.Sorted(maps.Keys(kinds))
})

// protections finds kinds in prune.protect that nobody knows: no built-in ones, and
// of no object of the project. (CustomResourceDefinitions, being cluster-wide, are
// in no release.) One that is all but the name of a known kind is misspelt, and what
// it was to protect would be deleted: an error. Any other may be a kind of the
// cluster whose last object has just left the project: a warning.
func protections(repo *envrepo.Repo, has componentKinds) []finding {
	known, ok := has.known()
	if !ok {
		return nil // a release does not render: what is in it is not known
	}
	const file = "sluice.yaml"
	var found []finding
	for i, e := range repo.Project().Environments {
		for j, kind := range e.Prune.Protect {
			if slices.Contains(known, kind) {
				continue
			}
			severity, hint := "warning", "correct it, if the cluster has no such kind: nothing is protected by one that does not exist"
			near := nearKnown(kind, known)
			if misspelt(kind, near) {
				severity, hint = "error", "correct it: what it is to protect would be deleted"
			}
			f := misnamed(severity, repo, file, []any{"environments", i, "prune", "protect", j},
				fmt.Sprintf("prune of %s protects kind %q, which is no kind of Kubernetes and of no object of the project", e.Name, kind), kind, []string{near})
			f.Hint = hint
			found = append(found, f)
		}
	}
	return found
}

// nearKnown is the known kind that differs from a kind by a few letters, if any: one
// of which it is merely the beginning is none.
func nearKnown(kind string, known []string) string {
	const few = 3
	near := envrepo.Nearest(kind, known)
	if len(near) > len(kind)+few {
		return ""
	}
	return near
}

// misspelt reports whether a kind can hardly be meant as it is written: it is the
// plural of the known one near it, or so long that few others are as near.
func misspelt(kind, near string) bool {
	const long = 8
	return near != "" && (len(kind) >= long || strings.TrimSuffix(kind, "s") == near || strings.TrimSuffix(kind, "es") == near)
}
