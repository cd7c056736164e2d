package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/contract"
)

// ConfigError says that a deployment would not see the configuration that its
// component, or the build which it pins, requires.
type ConfigError struct {
	Environment string
	Faults      []string // each with the key and the container
	Remedy      string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("configuration in %s: %s", e.Environment, strings.Join(e.Faults, "; "))
}

// Hint tells what to do.
func (e *ConfigError) Hint() string { return e.Remedy }

// configured holds every deployment of a rendered release against the contracts of its
// component and of the build that it pins, and against the component's schema. A tag
// that lacks something is broken, as one that does not render is (docs/adr/0016): what
// runs of it is left alone. For an untagged release it is the error. What is not
// certain, as another object may provide it, holds nothing up.
func configured(repo *envrepo.Repo, result *render.Result) error {
	rel := result.Release
	if rel.Name == envrepo.EnvironmentRelease || !demandsConfig(rel.Environment) {
		return nil
	}
	if !rel.Tagged() {
		return lacking(repo, result, result.Shared, rel.Digest)
	}
	for i := range result.Tags {
		t := &result.Tags[i]
		if t.Broken != nil {
			continue
		}
		if err := lacking(repo, result, slices.Concat(result.Shared, t.Objects), t.Digest); err != nil {
			t.Objects, t.Broken = nil, err
		}
	}
	return nil
}

// demandsConfig reports whether configuration has to be complete: where promotions into
// an environment do not demand it (gates.config), it does not have to be here either.
func demandsConfig(env envrepo.Environment) bool {
	return env.Promotion.From == "" || env.Promotion.Gates.Config
}

// lacking is what a deployment lacks; nil when nothing.
func lacking(repo *envrepo.Repo, result *render.Result, objects []*unstructured.Unstructured, digest string) error {
	rel := result.Release
	e := &ConfigError{Environment: rel.Environment.Name, Remedy: "correct the configuration of " + rel.Dir}
	var recorded *envrepo.Contract
	if digest != "" {
		if build, err := repo.Build(rel.Name, digest); err == nil {
			recorded = build.Config
		}
	}
	var add []string
	for _, m := range contract.Check(objects, rel.Component, recorded) {
		if m.Unknown {
			continue
		}
		e.Faults = append(e.Faults, "required key "+m.Key+" is missing: "+m.String())
		if e.Remedy = m.Hint; m.Add {
			add = append(add, m.Key)
		}
	}
	if len(add) > 0 {
		slices.Sort(add)
		e.Remedy = contract.Remedy(repo.FS(), rel.Dir, slices.Compact(add)...)
	}
	schema, err := contract.LoadSchema(repo.FS(), rel.Component)
	if err != nil {
		e.Faults = append(e.Faults, err.Error())
	}
	for _, invalid := range schema.Check(objects, rel.Component.Image, result.Values) {
		e.Faults = append(e.Faults, invalid.String())
	}
	if len(e.Faults) == 0 {
		return nil
	}
	return e
}

// contracted are the files beside a release's own that decide whether its
// configuration is complete: the records of its builds, and the schema.
func contracted(rel envrepo.Release) (paths []string) {
	if rel.Name == envrepo.EnvironmentRelease {
		return nil
	}
	if rel.Component.ConfigSchema != "" {
		paths = append(paths, rel.Component.ConfigSchema)
	}
	digests := []string{rel.Digest}
	for _, t := range rel.Tags {
		digests = append(digests, t.Digest)
	}
	slices.Sort(digests)
	for _, digest := range slices.Compact(digests) {
		if digest != "" {
			paths = append(paths, shared("builds/"+rel.Name+"/"+envrepo.Build{Digest: digest}.ID()+".yaml"))
		}
	}
	return paths
}
