package envrepo

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRemoveTags(t *testing.T) {
	const dir = "environments/production/api/"
	const file = dir + "traffic.yaml"
	const onlyBlue = header + "Traffic\nweights: {blue: 100}\n"
	for _, test := range []struct {
		name    string
		changes []string
		env     string
		tags    []string
		want    string
	}{
		{"not listed", []string{file, onlyBlue, dir + "green/patch.yaml", "{}"}, "production", []string{"green"}, `
remove green of api in production
note: removed the overlay environments/production/api/green: what is left of the tag in the cluster is deleted
deleted environments/production/api/green/kustomization.yaml
deleted environments/production/api/green/patch.yaml
`},
		{"broken", []string{file, onlyBlue, dir + "green/kustomization.yaml", "images: ["}, "production", []string{"green"}, `
remove green of api in production
note: removed the overlay environments/production/api/green: what is left of the tag in the cluster is deleted
deleted environments/production/api/green/kustomization.yaml
`},
		{"with weight", nil, "production", []string{"green", "blue"}, `
error: tag blue of api in production has 100 % of the traffic
hint: move its traffic first: ` + "`sluice traffic set api --environment production --tags …`" + `
`},
		{"listed at weight 0", nil, "production", []string{"green"}, `
error: tag green of api in production is listed at weight 0: its pods run
hint: scale it to zero first: ` + "`sluice traffic suspend api --environment production --tags green`" + `
`},
		{"target of a mirror", []string{file, greenTraffic + "mirror: {green: 5}\n"}, "production", []string{"green"}, `
error: tag green of api in production receives a mirror of 5 % of the requests
hint: clear the mirror first: ` + "`sluice traffic set api --environment production --tags …`" + ` without --mirror
`},
		{"read by another tag", []string{file, onlyBlue, dir + "blue/kustomization.yaml", "resources: [../green]\nimages: [{name: " + image + ", digest: " + digestA + "}]\n"}, "production", []string{"green"}, `
error: removing tag green of api in production: environments/production/api/blue/kustomization.yaml reads environments/production/api/green
hint: move the files that both need to environments/production/api/base
`},
		{"read by another release", []string{file, onlyBlue, "environments/production/web/kustomization.yaml", "resources: [../../../components/web]\npatches: [{path: ../api/green/patch.yaml}]\n",
			"components/web/component.yaml", header + "Component\nmetadata: {name: web}\nimage: " + image + "\n", "components/web/kustomization.yaml", "resources: []\n"}, "production", []string{"green"}, `
error: removing tag green of api in production: environments/production/web/kustomization.yaml reads environments/production/api/green/patch.yaml
hint: move the files that both need to environments/production/api/base
`},
		{"unknown", nil, "production", []string{"gren"}, `
error: unknown tag "gren" of api in production: environments/production/api/gren/kustomization.yaml does not exist (did you mean "green"?)
hint: known tags: blue, green; ` + "`sluice deploy api --environment production --build BUILD --tag gren`" + ` creates one
`},
		{"none", nil, "production", nil, `
error: removing tags of api in production: none named
hint: name tags with --tags; known tags: blue, green
`},
		{"untagged", nil, "staging", []string{"green"}, `
error: api has no tags in staging: environments/staging/api/traffic.yaml does not exist
hint: turn the overlay into tags with ` + "`sluice component tag api --environment staging --tags blue,green`" + `
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) {
				return RemoveTags(tree, test.env, "api", test.tags)
			})
			assert.Equal(t, trim(test.want), got)
		})
	}
}

func TestRequireTraffic(t *testing.T) {
	tree := NewTree(shop(t))
	require.NoError(t, RequireTraffic(tree, "production", "api", []Weight{{"green", 0}, {"blue", 100}}), "order does not matter")
	for _, other := range [][]Weight{nil, {{"blue", 100}}, {{"blue", 90}, {"green", 10}}, {{"blue", 100}, {"blue", 100}}, {{"blue", 100}, {"green", 0}, {"red", 0}}} {
		err := RequireTraffic(tree, "production", "api", other)
		var changed *TrafficChangedError
		require.ErrorAs(t, err, &changed, "%v", other)
		assert.Equal(t, "blue=100, green=0", changed.Current.String())
		assert.Equal(t, "traffic of api in production is blue=100, green=0 now, not "+formatWeights(other)+": nothing was changed", err.Error())
		assert.Contains(t, hint(err), "`sluice traffic get api --environment production`")
	}
	var untagged *UntaggedError
	require.ErrorAs(t, RequireTraffic(tree, "staging", "api", nil), &untagged)
}

// Whatever was there, a list that is set is there afterwards, whole: of two people's
// changes that are made one after the other nothing of the first is left. The file of
// the same list is the same whatever came before it, but for the order of the tags.
func TestSettingTrafficLeavesNothingOfTheOneBefore(t *testing.T) {
	const dir = "environments/production/api/"
	tags := []string{"blue", "green", "red", "black"}
	files := []string{dir + "traffic.yaml", greenTraffic}
	for _, tag := range tags {
		files = append(files, dir+tag+"/kustomization.yaml", "resources: [../base]\nimages: [{name: "+image+", digest: "+digestA+"}]\n")
	}
	rng := rand.New(rand.NewPCG(5, 2))
	tree := NewTree(shop(t, files...))
	for i := range 300 {
		want := drawTraffic(rng, tags)
		before := tree.Writes()
		_, err := SetTraffic(tree, "production", "api", want)
		require.NoError(t, err, "%d: %s after %s", i, want, before[dir+"traffic.yaml"])
		repo, err := Open(tree)
		require.NoError(t, err)
		rel, err := repo.Release("production", "api")
		require.NoError(t, err)
		require.True(t, rel.Traffic.Equal(want), "%d: %s is not %s", i, rel.Traffic, want)
		require.NoError(t, RequireTraffic(tree, "production", "api", want.Weights))

		fresh := NewTree(shop(t, files...))
		_, err = SetTraffic(fresh, "production", "api", want)
		require.NoError(t, err)
		require.Equal(t, unordered(t, fresh, dir+"traffic.yaml"), unordered(t, tree, dir+"traffic.yaml"), "%d: after %s", i, before[dir+"traffic.yaml"])
	}
}

// unordered is a file with the entries of each mapping on one line in order.
func unordered(t *testing.T, tree *Tree, file string) string {
	t.Helper()
	data, err := fs.ReadFile(tree, file)
	require.NoError(t, err)
	return regexp.MustCompile(`\{[^}]*\}`).ReplaceAllStringFunc(string(data), func(mapping string) string {
		entries := strings.Split(strings.Trim(mapping, "{}"), ", ")
		slices.Sort(entries)
		return "{" + strings.Join(entries, ", ") + "}"
	})
}

// drawTraffic draws weights of some tags that sum to 100, with mirrors to those of 0.
func drawTraffic(rng *rand.Rand, tags []string) Traffic {
	listed := slices.Clone(tags)
	rng.Shuffle(len(listed), func(i, j int) { listed[i], listed[j] = listed[j], listed[i] })
	listed = listed[:1+rng.IntN(len(listed))]
	var t Traffic
	left := 100
	for i, tag := range listed {
		share := left
		if i < len(listed)-1 {
			share = rng.IntN(left+1) * rng.IntN(2)
		}
		left -= share
		t.Weights = append(t.Weights, Weight{tag, share})
		if share == 0 && rng.IntN(2) == 0 {
			t.Mirrors = append(t.Mirrors, Weight{tag, 1 + rng.IntN(100)})
		}
	}
	return t
}

func TestSetTrafficMirrorsToSeveralTags(t *testing.T) {
	const dir = "environments/production/api/"
	files := shop(t, dir+"red/kustomization.yaml", "resources: [../base]\nimages: [{name: "+image+", digest: "+digestA+"}]\n")
	want := Traffic{Weights: []Weight{{"blue", 100}, {"green", 0}, {"red", 0}}, Mirrors: []Weight{{"green", 5}, {"red", 10}}}
	got := outcome(t, files, func(tree *Tree) (Summary, error) { return SetTraffic(tree, "production", "api", want) })
	assert.Equal(t, fmt.Sprintf(`set traffic of api in production to %s
%straffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 100, green: 0, red: 0}     # integers, sum 100
+mirror: {green: 5, red: 10}
`, want, dir), got)
}
