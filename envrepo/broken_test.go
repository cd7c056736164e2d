package envrepo

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// brokenGreen gives tag green an overlay that does not load.
var brokenGreen = []string{"environments/production/api/green/kustomization.yaml",
	"resources: [../base]\nnameSuffix: -green\nimages:\n- {name: registry.example.com/shop/apy, digest: " + digestC + "}\n"}

const brokenGreenError = `environments/production/api/green/kustomization.yaml:4: images entry "registry.example.com/shop/apy" pins nothing: ` +
	`the component's image is "registry.example.com/shop/api"`

func TestPartialReleaseKeepsBrokenTagsApart(t *testing.T) {
	for name, change := range map[string][]string{
		"pins nothing": brokenGreen,
		"no YAML":      {"environments/production/api/green/kustomization.yaml", "images: ["},
		"a bad name":   {"environments/production/api/Green_2/kustomization.yaml", "resources: [../base]\n"},
		"lost":         {"environments/production/api/green/kustomization.yaml", "-", "environments/production/api/green/patch.yaml", "spec: {}"},
		"lost and unlisted": {"environments/production/api/green/kustomization.yaml", "-", "environments/production/api/green/config.env", "A=1",
			"environments/production/api/traffic.yaml", header + "Traffic\nweights: {blue: 100}\n"},
		"lost but for a folder": {"environments/production/api/green/kustomization.yaml", "-", "environments/production/api/green/patches/a.yaml", "spec: {}"},
		"too large":             {"environments/production/api/green/kustomization.yaml", string(make([]byte, maxFile+1))},
	} {
		t.Run(name, func(t *testing.T) {
			repo := openShop(t, change...)
			rel, err := repo.PartialRelease("production", "api")
			require.NoError(t, err)
			var broken error
			for _, tag := range rel.Tags {
				if tag.Name == "blue" {
					assert.NoError(t, tag.Broken)
					assert.Equal(t, digestA, tag.Digest)
				} else if tag.Broken != nil {
					broken = tag.Broken
					assert.Empty(t, tag.Digest)
				}
			}
			require.Error(t, broken)
			_, err = repo.Release("production", "api")
			assert.Equal(t, broken, err, "Release does not overlook it")
		})
	}
}

// What another folder of the release reads from is where the user keeps things, and
// so is a folder that no tag may be named as.
func TestFoldersThatAreNoTags(t *testing.T) {
	const dir = "environments/production/api/"
	for name, test := range map[string]struct {
		changes []string
		want    string
	}{
		"a file of the base":            {[]string{dir + "patches/a.yaml", "spec: {}", dir + "base/kustomization.yaml", "patches:\n- path: ../patches/a.yaml\n"}, "blue green"},
		"a file of a tag's generator":   {[]string{dir + "files/nginx.conf", "", dir + "red/kustomization.yaml", "configMapGenerator:\n- {name: a, files: [default.conf=../files/nginx.conf]}\n"}, "blue green red"},
		"a file of the release":         {[]string{dir + "routes/a.yaml", "", dir + "kustomization.yaml", "resources: [./routes/a.yaml]\n"}, "blue green"},
		"a folder of a reserved name":   {[]string{dir + "shared/a.yaml", ""}, "blue green"},
		"a file beside the tags":        {[]string{dir + "README.md", ""}, "blue green"},
		"a folder that nobody reads":    {[]string{dir + "patches/a.yaml", ""}, "blue green patches"},
		"a file whose folder is longer": {[]string{dir + "patches/a.yaml", "", dir + "patches-2/b.yaml", "", dir + "kustomization.yaml", "resources: [patches-2/b.yaml]\n"}, "blue green patches"},
	} {
		t.Run(name, func(t *testing.T) {
			rel, err := openShop(t, test.changes...).PartialRelease("production", "api")
			require.NoError(t, err)
			assert.Equal(t, test.want, strings.Join(rel.tagNames(), " "))
		})
	}
}

// TestEditsBesideABrokenTag shows that what is wrong with one tag keeps nobody
// from leaving it, nor from working on another.
func TestEditsBesideABrokenTag(t *testing.T) {
	weights := func(blue, green int) Traffic {
		return Traffic{Weights: []Weight{{"blue", blue}, {"green", green}}}
	}
	at := func(traffic string) []string {
		return append([]string{"environments/production/api/traffic.yaml", header + "Traffic\n" + traffic}, brokenGreen...)
	}
	refused := "error: traffic of api in production: tag green: " + brokenGreenError + "\n"
	for _, test := range []struct {
		name    string
		changes []string
		do      func(*Tree) (Summary, error)
		want    string // the message, or all of an error
	}{
		{"lowering", at("weights: {blue: 50, green: 50}\n"), func(t *Tree) (Summary, error) { return SetTraffic(t, "production", "api", weights(90, 10)) },
			"set traffic of api in production to blue=90, green=10"},
		{"leaving", at("weights: {blue: 50, green: 50}\n"), func(t *Tree) (Summary, error) { return PromoteTraffic(t, "production", "api", "blue") },
			"promote blue to all traffic of api in production"},
		{"suspending", at("weights: {blue: 100, green: 0}\n"), func(t *Tree) (Summary, error) { return SuspendTags(t, "production", "api", []string{"green"}) },
			"suspend green of api in production"},
		{"deploying another", at("weights: {blue: 50, green: 50}\n"), func(t *Tree) (Summary, error) { return Deploy(t, "production", "api", digestB, "blue", false) },
			"deploy api 1111bbbb2222 to production as blue"},
		{"deploying a new one", at("weights: {blue: 0, green: 100}\n"), func(t *Tree) (Summary, error) { return Deploy(t, "production", "api", digestB, "red", false) },
			"deploy api 1111bbbb2222 to production as red"},
		{"rolling another back", at("weights: {blue: 50, green: 50}\n"), func(t *Tree) (Summary, error) { return Rollback(t, "production", "api", "blue", digestB) },
			"roll back api in production (blue) to 1111bbbb2222"},
		{"raising it", at("weights: {blue: 100, green: 0}\n"), func(t *Tree) (Summary, error) { return SetTraffic(t, "production", "api", weights(90, 10)) }, refused},
		{"listing it", at("weights: {blue: 100}\n"), func(t *Tree) (Summary, error) { return SetTraffic(t, "production", "api", weights(100, 0)) }, refused},
		{"promoting to it", at("weights: {blue: 100, green: 0}\n"), func(t *Tree) (Summary, error) { return PromoteTraffic(t, "production", "api", "") }, refused},
		{"deploying it", at("weights: {blue: 100, green: 0}\n"), func(t *Tree) (Summary, error) { return Deploy(t, "production", "api", digestB, "green", false) },
			"error: " + brokenGreenError + "\n"},
		{"deploying to the idle tag, which it is", at("weights: {blue: 100, green: 0}\n"), func(t *Tree) (Summary, error) { return Deploy(t, "production", "api", digestB, "", true) },
			"error: " + brokenGreenError + "\n"},
		{"not taking it for one without a digest", at("weights: {blue: 0, green: 100}\n"), func(t *Tree) (Summary, error) { return Deploy(t, "production", "api", digestB, "", true) },
			"deploy api 1111bbbb2222 to production as blue"},
		{"promoting a build to it", at("weights: {blue: 50, green: 50}\n"), func(t *Tree) (Summary, error) {
			p, err := Promote(t, "api", "production", "green", false, digestB)
			return p.Summary, err
		}, "error: " + brokenGreenError + "\n"},
		{"rolling it back", at("weights: {blue: 50, green: 50}\n"), func(t *Tree) (Summary, error) { return Rollback(t, "production", "api", "green", digestB) },
			"error: " + brokenGreenError + "\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, shop(t, test.changes...), test.do)
			assert.Contains(t, "\n"+got, "\n"+digestNames.Replace(test.want))
			if test.want[:5] != "error" {
				assert.NotContains(t, got, "(nothing changed)")
			}
		})
	}
}
