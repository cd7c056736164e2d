// Package sluice_test holds what is true of the module as a whole.
package sluice_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/sluice-dev/sluice"

// allowed lists, for each top-level package of the module, the siblings it may
// import (docs/adr/0001). A package stands for its subpackages too.
var allowed = map[string][]string{
	"api/v1alpha1": nil,
	"envrepo":      nil,
	"gitrepo":      nil,
	"secrets":      nil,
	"webhook":      nil,
	"deploy":       nil,
	"render":       {"envrepo"},
	"reconciler":   {"render", "envrepo", "gitrepo", "api/v1alpha1"},
	"promotion":    {"render", "envrepo", "gitrepo", "api/v1alpha1"},
	"cmd":          {"api/v1alpha1", "deploy", "envrepo", "gitrepo", "promotion", "reconciler", "render", "secrets", "webhook"},
	"e2e":          nil, // it measures the program as a user runs it
	"internal":     nil, // support for tests, imported by tests only

	// The demo is played on the GitHub server of the tests, too.
	"examples":                    {"promotion/github/githubtest"},
	"promotion/github/githubtest": nil,
}

// confined lists third-party modules that only one package may import, with
// the reason. Their types would otherwise leak through its surface.
var confined = []struct{ prefix, room, reason string }{
	{"github.com/go-git/", "gitrepo", "Git's object model is behind Snapshot and Update"},
	{"github.com/getsops/", "secrets", "SOPS pulls in cloud SDKs and ambient keys; only secrets may see them"},
	{"filippo.io/age", "secrets", "private keys stay in one package"},
	{"github.com/google/go-github/", "promotion/github", "a forge's types stay in its adapter"},
	{"code.gitea.io/sdk/", "promotion/gitea", "a forge's types stay in its adapter"},
	{"github.com/spf13/cobra", "cmd", "the engine has no command line"},
	{"sigs.k8s.io/kustomize/api", "render", "rendering goes through the guard"},
	{"k8s.io/client-go", "reconciler", "only the reconciler talks to a cluster"},
	{"sigs.k8s.io/controller-runtime", "reconciler", "only the reconciler talks to a cluster"},
	{"github.com/prometheus/", "cmd", "the engine tells an Observer and knows no metrics"},
	{"go.opentelemetry.io/", "cmd", "the engine tells an Observer and knows no tracing"},
	{"github.com/fluxcd/", "reconciler", "only the reconciler talks to a cluster"},
}

// confinedExceptions are the rooms beside its own that may import a confined
// module: cmd wires clients, and test support starts clusters.
var confinedExceptions = map[string][]string{
	"k8s.io/client-go":               {"cmd", "internal", "examples"},
	"sigs.k8s.io/controller-runtime": {"cmd", "internal", "api/v1alpha1"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else {
			require.NoError(t, err)
		}
		packages = append(packages, p)
	}
}

// room is the entry of allowed that an import path of this module belongs to, the
// innermost one.
func room(importPath string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
	found := ""
	for name := range allowed {
		if within(rel, name) && len(name) > len(found) {
			found = name
		}
	}
	return cmp.Or(found, rel)
}

func within(rel, name string) bool { return rel == name || strings.HasPrefix(rel, name+"/") }

func TestImportsPointOneWay(t *testing.T) {
	packages := listPackages(t)
	require.NotEmpty(t, packages)
	for _, p := range packages {
		if p.ImportPath == module {
			continue
		}
		from := room(p.ImportPath)
		siblings, known := allowed[from]
		if !known {
			t.Errorf("%s has no entry in allowed: say there what it may import", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			if to := room(imported); to != from && !slices.Contains(siblings, to) {
				t.Errorf("%s imports %s: %s may import %v only", p.ImportPath, imported, from, siblings)
			}
		}
	}
}

func TestThirdPartyTypesStayInTheirRoom(t *testing.T) {
	for _, p := range listPackages(t) {
		rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, imported := range p.Imports {
			for _, c := range confined {
				if !strings.HasPrefix(imported, c.prefix) || within(rel, c.room) {
					continue
				}
				if !containsRoom(confinedExceptions[c.prefix], rel) {
					t.Errorf("%s imports %s, which belongs in %s: %s", p.ImportPath, imported, c.room, c.reason)
				}
			}
		}
	}
}

func containsRoom(rooms []string, rel string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool { return within(rel, r) })
}
