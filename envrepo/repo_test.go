package envrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOpen(t *testing.T) {
	project := openShop(t).Project()
	protect := []string{"PersistentVolumeClaim", "Namespace", "CustomResourceDefinition"}
	assert.Equal(t, Project{Name: "shop", Environments: []Environment{
		{Name: "development", Namespace: "shop-development", AutoDeploy: true,
			Traffic: TrafficPolicy{Via: "commit", Drain: 15 * time.Second}, Prune: PrunePolicy{Protect: protect, MaxShare: 50}},
		{Name: "staging", Namespace: "shop-staging", Promotion: Promotion{From: "development", Gates: Gates{Healthy: true}},
			Traffic: TrafficPolicy{Via: "commit", Drain: 15 * time.Second}, Prune: PrunePolicy{Protect: protect, MaxShare: 50}},
		{Name: "production", Namespace: "shop-production",
			Promotion: Promotion{From: "staging", Gates: Gates{Healthy: true, Soak: 30 * time.Minute, Checks: []string{"trivy"}, Config: true}},
			Traffic:   TrafficPolicy{Via: "commit", Drain: 20 * time.Second}, Prune: PrunePolicy{Protect: []string{"PersistentVolumeClaim"}, MaxShare: 50}},
	}}, project)

	_, err := Open(fstest.MapFS{})
	var not *NotProjectError
	require.ErrorAs(t, err, &not)
	require.EqualError(t, err, "reading sluice.yaml: no such file: this is not the folder of a project")
	assert.Equal(t, "name the project's folder with --project, or start a project with `sluice init`", hint(err))
}

func TestAcknowledgements(t *testing.T) {
	repo, err := Open(fstest.MapFS{"sluice.yaml": {Data: []byte(header + `Project
metadata: {name: shop}
environments:
- {name: production, namespace: p, prune: {maxShare: 0}}
acknowledgements:
- {environment: staging, prune: a00000000001}
- {environment: production, prune: b00000000002}
- {environment: staging, prune: c00000000003}
`)}})
	require.NoError(t, err)
	project := repo.Project()
	assert.Equal(t, 0, project.Environments[0].Prune.MaxShare, "0 is not the default")
	assert.Equal(t, []string{"a00000000001", "c00000000003"}, project.Acknowledged("staging"), "an environment that is not listed any more")
	assert.Equal(t, []string{"b00000000002"}, project.Acknowledged("production"))
	assert.Empty(t, project.Acknowledged("development"))
}

func TestComponents(t *testing.T) {
	repo := openShop(t)
	names, err := repo.Components()
	require.NoError(t, err)
	assert.Equal(t, []string{"api", "web"}, names)

	api, err := repo.Component("api")
	require.NoError(t, err)
	assert.Equal(t, Component{Name: "api", Image: image, HealthTimeout: 2 * time.Minute, DependsOn: []string{"db"},
		Config: Contract{Required: []string{"DATABASE_URL", "CACHE_ADDR"}, Optional: []string{"LOG_LEVEL"}}}, api)

	web, err := repo.Component("web")
	require.NoError(t, err)
	off := false
	assert.Equal(t, Component{Name: "web", Image: "registry.example.com/shop/web", HealthTimeout: 5 * time.Minute, AutoDeploy: &off}, web)
}

func TestReleaseNames(t *testing.T) {
	repo := openShop(t,
		"environments/development/README.md", "no release",
		"environments/development/notes/x.txt", "no release",
		"environments/development/Odd_Name/kustomization.yml", "not: decoded")
	names, err := repo.ReleaseNames("development")
	require.NoError(t, err)
	assert.Equal(t, []string{"environment", "Odd_Name", "api", "web"}, names)
	names, err = repo.ReleaseNames("production")
	require.NoError(t, err)
	assert.Equal(t, []string{"api"}, names)

	empty := openShop(t, "environments/staging/api/kustomization.yaml", "-")
	names, err = empty.ReleaseNames("staging")
	require.NoError(t, err)
	assert.Empty(t, names, "an environment may have no folder yet")
}

func TestRelease(t *testing.T) {
	repo := openShop(t)
	development, _ := repo.Environment("development")
	production, _ := repo.Environment("production")
	api, _ := repo.Component("api")
	web, _ := repo.Component("web")
	for _, want := range []Release{
		{Environment: development, Name: "environment", Dir: "environments/development"},
		{Environment: development, Component: api, Name: "api", Dir: "environments/development/api", Digest: digestA},
		{Environment: development, Component: web, Name: "web", Dir: "environments/development/web"},
		{Environment: production, Component: api, Name: "api", Dir: "environments/production/api",
			Traffic: &Traffic{Weights: []Weight{{"blue", 100}, {"green", 0}}},
			Tags: []Tag{
				{Name: "blue", Dir: "environments/production/api/blue", Digest: digestA},
				{Name: "green", Dir: "environments/production/api/green", Digest: digestC},
			}},
	} {
		got, err := repo.Release(want.Environment.Name, want.Name)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

// One broken overlay, and one mistake at a time.
func TestReleaseErrors(t *testing.T) {
	const overlay = "environments/development/api/kustomization.yaml"
	const traffic = "environments/production/api/traffic.yaml"
	images := func(list string) string { return "resources: [a.yaml]\nimages:\n" + list }
	for _, test := range []struct {
		name       string
		changes    []string
		env, comp  string
		want, hint string
		is         error
	}{
		{name: "unknown environment", env: "prodution", comp: "api",
			want: `unknown environment "prodution" (did you mean "production"?)`,
			hint: "known environments: development, staging, production"},
		{name: "environment by its start", env: "prod", comp: "api",
			want: `unknown environment "prod" (did you mean "production"?)`,
			hint: "known environments: development, staging, production"},
		{name: "unknown component", env: "production", comp: "apy",
			want: `unknown component "apy" (did you mean "api"?)`,
			hint: "known components: api, web"},
		{name: "component by a path", env: "production", comp: "../../etc",
			want: `unknown component "../../etc"`,
			hint: "known components: api, web"},
		{name: "no overlay", env: "production", comp: "web",
			want: "component web has no overlay in production: environments/production/web/kustomization.yaml does not exist",
			hint: "add the component to the environment with `sluice component add web --environments production`"},
		{name: "no objects of its own", env: "production", comp: "environment",
			want: "environment production has no objects of its own: environments/production/kustomization.yaml does not exist",
			hint: "add the file with the objects that belong to the environment"},
		{name: "reserved folder", env: "development", comp: "environment",
			changes: []string{"environments/development/environment/kustomization.yaml", "{}"},
			want:    "environments/development/environment: the name environment is reserved for the environment's own objects",
			hint:    "rename the folder and the component"},
		{name: "overlay without component", env: "development", comp: "job",
			changes: []string{"environments/development/job/kustomization.yaml", "{}"},
			want:    `environments/development/job: overlay of component "job", but components/job/component.yaml does not exist`,
			hint:    "add the component, or remove the overlay"},
		{name: "other file name", env: "development", comp: "api",
			changes: []string{overlay, "-", "environments/development/api/kustomization.yml", "{}"},
			want:    "environments/development/api/kustomization.yml: must be named kustomization.yaml",
			hint:    "rename the file"},
		{name: "tag pin", env: "development", comp: "api",
			changes: []string{overlay, images("- name: registry.example.com/shop/api\n  newTag: v1.2\n")},
			want:    overlay + `:4: registry.example.com/shop/api is pinned by tag "v1.2": a digest is due`,
			hint:    "image tags can be moved: replace newTag by digest: sha256:…", is: ErrTagPin},
		{name: "tag as digest", env: "development", comp: "api",
			changes: []string{overlay, images("- name: registry.example.com/shop/api\n  digest: v1.2\n")},
			want:    overlay + `:4: images[0].digest must be sha256: and 64 lower-case hex digits, found "v1.2"`,
			hint:    "write the image's digest, not its tag", is: ErrTagPin},
		{name: "pins nothing", env: "development", comp: "api",
			changes: []string{overlay, images("- name: envoy\n  newTag: v1\n- name: registry.example.com/shop/appi\n  digest: " + digestA + "\n")},
			want:    overlay + `:5: images entry "registry.example.com/shop/appi" pins nothing: the component's image is "registry.example.com/shop/api"`,
			hint:    "write name: registry.example.com/shop/api, or add an entry of that name", is: ErrPinsNothing},
		{name: "pinned twice", env: "development", comp: "api",
			changes: []string{overlay, images("- {name: registry.example.com/shop/api, digest: '" + digestA + "'}\n- name: registry.example.com/shop/api\n")},
			want:    overlay + ":4: images pin registry.example.com/shop/api twice, first in line 3",
			hint:    "remove one of them"},
		{name: "two digests", env: "development", comp: "api",
			changes: []string{overlay, images("- name: registry.example.com/shop/api\n  digest: " + digestA + "\n  digest: " + digestB + "\n")},
			want:    overlay + `:5: duplicate field "images[0].digest", first given in line 4`,
			hint:    "remove one of them"},
		{name: "two lists of images", env: "development", comp: "api",
			changes: []string{overlay, "images: []\nimages: []\n"},
			want:    overlay + `:2: duplicate field "images", first given in line 1`,
			hint:    "remove one of them"},
		{name: "images is a mapping", env: "development", comp: "api",
			changes: []string{overlay, "images: {name: x}\n"},
			want:    overlay + ":1: images must be a list, found a mapping"},
		{name: "not a kustomization", env: "development", comp: "api",
			changes: []string{overlay, "- a\n"},
			want:    overlay + ":1: must be a mapping, found a list"},
		{name: "not YAML", env: "development", comp: "api",
			changes: []string{overlay, "a: [b\nc: d\n"},
			want:    overlay + ":2: parsing YAML: did not find expected ',' or ']'"},
		{name: "traffic.yaml lost", env: "production", comp: "api",
			changes: []string{traffic, "-"},
			want:    traffic + ": is missing beside the tag overlays blue, green",
			hint:    "restore the file: it says which tags run"},
		{name: "traffic.yaml without tags", env: "development", comp: "api",
			changes: []string{"environments/development/api/traffic.yaml", header + "Traffic\nweights: {blue: 100}\n"},
			want:    `environments/development/api/traffic.yaml:3: weights name tag "blue", which has no overlay`,
			hint:    "the release has no tags: make them with `sluice component tag`, or remove the file"},
		{name: "tag name", env: "production", comp: "api",
			changes: []string{"environments/production/api/Red/kustomization.yaml", "{}"},
			want:    `environments/production/api/Red: tag "Red" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit`,
			hint:    "rename the folder"},
		{name: "reserved tag name", env: "production", comp: "api",
			changes: []string{"environments/production/api/shared/kustomization.yaml", "{}"},
			want:    `environments/production/api/shared: tag "shared" is reserved: that folder holds what the tags have in common`,
			hint:    "rename the folder"},
		{name: "component named as a tag's Service, seen from the tag", env: "production", comp: "api",
			changes: []string{"environments/production/api-blue/kustomization.yaml", "{}"},
			want:    "environments/production/api: api (tag blue) and api-blue would both have the Service api-blue in production",
			hint:    "rename the component or the tag"},
		{name: "component named as a tag's Service, seen from the component", env: "production", comp: "api-blue",
			changes: []string{"environments/production/api-blue/kustomization.yaml", "{}",
				"components/api-blue/component.yaml", "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: api-blue}\nimage: a/b\n"},
			want: "environments/production/api-blue: api-blue and api (tag blue) would both have the Service api-blue in production",
			hint: "rename the component or the tag"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := openShop(t, test.changes...).Release(test.env, test.comp)
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
			if test.is != nil {
				assert.ErrorIs(t, err, test.is)
			}
		})
	}
}

// A broken release is no other release's problem.
func TestReleasesAreIndependent(t *testing.T) {
	repo := openShop(t, "environments/development/api/kustomization.yaml", "][", "components/web/component.yaml", "kind: Nonsense")
	_, err := repo.Release("production", "api")
	require.NoError(t, err)
	_, err = repo.Release("development", "environment")
	require.NoError(t, err)
}

func TestBuilds(t *testing.T) {
	builds, err := openShop(t, "builds/api/README.md", "no record").Builds("api")
	require.NoError(t, err)
	var ids []string
	for _, b := range builds {
		ids = append(ids, b.ID())
	}
	assert.Equal(t, []string{"1111bbbb2222", "1111aaaa2222", "3333cccc4444"}, ids, "newest first, those without a time last")
	assert.Equal(t, Build{Component: "api", Image: image, Digest: digestA, CreatedAt: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC),
		Source: Source{Repository: "https://github.com/shop/api", Commit: "9f8e7d6c", Ref: "refs/heads/main", Message: "Fix cart"},
		Run:    Run{ID: "8841", URL: "https://ci.example.com/8841"},
		Config: &Contract{Required: []string{"DATABASE_URL", "CACHE_ADDR"}},
		Checks: []Check{{Name: "trivy", Status: "passed", Summary: "0 critical"}}}, builds[1])

	none, err := openShop(t).Builds("web")
	require.NoError(t, err)
	assert.Empty(t, none)
	_, err = openShop(t).Builds("apo")
	require.EqualError(t, err, `unknown component "apo" (did you mean "api"?)`)
	_, err = openShop(t, "builds/api/1111aaaa2222.yaml", "a: b", "builds/api/3333cccc4444.yaml", "a: b").Builds("api")
	require.ErrorContains(t, err, "builds/api/1111aaaa2222.yaml:1: missing required field")
	require.ErrorContains(t, err, "builds/api/3333cccc4444.yaml:1: missing required field")
}

func TestBuild(t *testing.T) {
	repo := openShop(t, "builds/api/1111bbbb2222.yaml", "broken: yes")
	for _, ref := range []string{"1111aaaa2222", "1111a", "sha256:1111a", digestA, digestA[:30], "1111aaaa22220"} {
		b, err := repo.Build("api", ref)
		require.NoError(t, err, ref)
		assert.Equal(t, digestA, b.Digest)
	}
	for _, test := range []struct {
		ref, want, hint string
		target          any
	}{
		{"v1.2", `"v1.2" is not a digest: builds are named by digest, not by image tag`,
			"image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (`sluice build list`)", new(*NotDigestError)},
		{"111", `"111" does not name a build: a build is named by 4 to 64 hex digits of its digest`,
			"image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (`sluice build list`)", new(*NotDigestError)},
		{"", "no digest given",
			"image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (`sluice build list`)", new(*NotDigestError)},
		{"1111", `build "1111" of api is ambiguous: it is the start of 1111aaaa2222, 1111bbbb2222`,
			"give more digits of the digest", new(*AmbiguousBuildError)},
		{"3333cccc4445", `unknown build "3333cccc4445" of api (did you mean "3333cccc4444"?)`,
			"known builds: 1111aaaa2222, 1111bbbb2222, 3333cccc4444; list them with `sluice build list api`", new(*UnknownBuildError)},
		{digestC[:50] + "ffff", `unknown build "` + digestC[:50] + `ffff" of api`,
			"known builds: 1111aaaa2222, 1111bbbb2222, 3333cccc4444; list them with `sluice build list api`", new(*UnknownBuildError)},
	} {
		t.Run(test.ref, func(t *testing.T) {
			_, err := repo.Build("api", test.ref)
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
			assert.ErrorAs(t, err, test.target)
		})
	}
	_, err := repo.Build("web", digestA)
	require.EqualError(t, err, fmt.Sprintf("unknown build %q of web", digestA))
	assert.Equal(t, "web has no builds yet: record one with `sluice build record --component web --digest …`", hint(err))
}

// Records say by themselves what was built, whatever has become of the component since.
func TestBuildDoesNotReadTheComponent(t *testing.T) {
	for _, content := range []string{"", "broken: yes"} {
		repo := openShop(t, "components/api/component.yaml", content)
		b, err := repo.Build("api", "1111a")
		require.NoError(t, err)
		assert.Equal(t, digestA, b.Digest)
	}
	for _, name := range []string{"shipping", "../builds/api", ""} {
		_, err := openShop(t).Build(name, "1111a")
		var unknown *UnknownComponentError
		require.ErrorAs(t, err, &unknown, name)
	}
	_, err := openShop(t, "components/web/component.yaml", "broken: yes").Build("web", digestA)
	require.ErrorContains(t, err, "components/web/component.yaml")
}

// failingFS fails on one path in a way that is not "does not exist".
type failingFS struct {
	fs.FS
	path string
}

func (f failingFS) Open(name string) (fs.File, error) {
	if name == f.path {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("disk on fire")}
	}
	return f.FS.Open(name)
}

// A failed read is never taken for an absent file: what is absent is pruned.
func TestFailedReadsAreErrors(t *testing.T) {
	for _, path := range []string{"environments/production/api", "environments/production", "environments/production/api/traffic.yaml",
		"environments/production/api/kustomization.yaml", "environments/production/api/green/kustomization.yaml"} {
		t.Run(path, func(t *testing.T) {
			repo, err := Open(failingFS{shop(t), path})
			require.NoError(t, err)
			_, namesErr := repo.ReleaseNames("production")
			_, err = repo.Release("production", "api")
			err = errors.Join(namesErr, err)
			require.ErrorContains(t, err, "disk on fire")
			require.ErrorContains(t, err, "reading ")
		})
	}
}
