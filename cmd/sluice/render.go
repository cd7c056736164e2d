package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/diff"
	"github.com/sluice-dev/sluice/render/traffic"
)

func newRenderCommand(a *app) *cobra.Command {
	var environment, ref string
	c := &cobra.Command{
		Use:   "render [COMPONENT…] --environment ENVIRONMENT",
		Short: "Print the objects of releases, weights and decryption applied",
		Long: `Prints what the reconciler would apply: Kustomize's output with encrypted files
decrypted (where keys are given) and routes carrying the weights.
Decrypted values are masked; without keys a placeholder stands for them.`,
		RunE: func(c *cobra.Command, args []string) error {
			v, err := a.openView(c.Context(), ref, fromWorktree)
			if err != nil {
				return err
			}
			defer v.Close()
			return a.runRender(c.Context(), v, environment, args)
		},
	}
	environmentFlag(c, &environment)
	refFlag(c, &ref, fromWorktree)
	return c
}

func (a *app) runRender(ctx context.Context, v *view, environment string, names []string) error {
	if _, err := v.Repo.Environment(environment); err != nil {
		return err
	}
	keys, err := a.loadKeys([]string{environment}, environmentNames(v.Repo.Project()))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if names, err = v.Repo.ReleaseNames(environment); err != nil {
			return err
		}
	}
	var all []*unstructured.Unstructured
	for _, name := range names {
		result, err := renderRelease(ctx, v, environment, name, keys.show(environment))
		if err != nil {
			return err
		}
		objects, err := displayed(result)
		if err != nil {
			return err
		}
		all = append(all, objects...)
		for _, file := range result.Keyless {
			what := "its values are"
			if slices.Contains(result.Opaque, file) {
				what = "what it patches is"
			}
			a.note("note: %s is encrypted and no key for %s was given: %s not shown", file, environment, what)
		}
	}
	return a.printObjects(all)
}

// renderRelease renders one release of a view.
func renderRelease(ctx context.Context, v *view, environment, name string, decrypt render.Decrypt) (*render.Result, error) {
	rel, err := v.Repo.Release(environment, name)
	if err != nil {
		return nil, err
	}
	return render.Build(ctx, render.Request{FS: v.FS, Release: rel, Decrypt: decrypt})
}

// displayed is everything of a rendered release as it would be applied,
// decrypted values masked.
func displayed(result *render.Result) ([]*unstructured.Unstructured, error) {
	shared, err := routed(result)
	if err != nil {
		return nil, err
	}
	objects := slices.Concat(shared, ofTags(result))
	mask := diff.Mask{Values: result.Values}
	for i, o := range objects {
		objects[i] = mask.Object(o)
	}
	return objects, nil
}

// ofTags are the objects of all tag overlays.
func ofTags(result *render.Result) (objects []*unstructured.Unstructured) {
	for _, t := range result.Tags {
		objects = append(objects, t.Objects...)
	}
	return objects
}

// routed is what a rendered release has once, with its traffic in the routes.
func routed(result *render.Result) ([]*unstructured.Unstructured, error) {
	rel := result.Release
	if !rel.Tagged() {
		return result.Shared, nil
	}
	return traffic.Transform(result.Shared, ofTags(result), rel.Name, *rel.Traffic, tagNames(result), everything)
}

// everything is taken for the support of gateways here: which one will read the routes
// is not known, so nothing is refused for want of it.
var everything = traffic.Support{Known: true, PercentageMirror: true, MultipleMirrors: true}

// tagNames are the tags that a release has an overlay for.
func tagNames(result *render.Result) (names []string) {
	for _, t := range result.Tags {
		names = append(names, t.Name)
	}
	return names
}

// printObjects writes objects as a YAML stream, or as a JSON list.
func (a *app) printObjects(objects []*unstructured.Unstructured) error {
	if a.output == "json" {
		list := make([]map[string]any, 0, len(objects))
		for _, o := range objects {
			list = append(list, o.Object)
		}
		return a.print(map[string]any{"apiVersion": "v1", "kind": "List", "items": list}, nil)
	}
	if a.output == "table" {
		return a.print(nil, func(t *table) {
			t.header("KIND", "NAMESPACE", "NAME")
			for _, o := range objects {
				t.row(o.GetKind(), o.GetNamespace(), o.GetName())
			}
		})
	}
	var out strings.Builder
	for i, o := range objects {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return fmt.Errorf("writing %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	_, err := a.Stdout.Write([]byte(out.String()))
	return err
}
