package envrepo

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outcome is all that an edit did, as text: its message, its notes, and the
// files it changed.
func outcome(t testing.TB, base fs.FS, do func(*Tree) (Summary, error)) string {
	t.Helper()
	tree := NewTree(base)
	summary, err := do(tree)
	if err != nil {
		assert.True(t, tree.Empty(), "an edit that fails writes nothing")
		out := "error: " + err.Error() + "\n"
		if h := hint(err); h != "" {
			out += "hint: " + h + "\n"
		}
		return digestNames.Replace(out)
	}
	require.Equal(t, summary.Changed, !tree.Empty())
	out := summary.Message + "\n"
	for _, note := range summary.Notes {
		out += "note: " + note + "\n"
	}
	if !summary.Changed {
		out += "(nothing changed)\n"
	}
	return digestNames.Replace(out + diff(t, tree, base))
}

var digestNames = strings.NewReplacer(digestA, "DIGEST-A", digestB, "DIGEST-B", digestC, "DIGEST-C", digestN, "DIGEST-N")

// trim drops the first line break, so that expectations can start on a line of their own.
func trim(s string) string { return strings.TrimPrefix(s, "\n") }

const greenTraffic = header + "Traffic\nweights: {blue: 100, green: 0}\n"

func TestDeploy(t *testing.T) {
	const production = "environments/production/api/"
	type args struct {
		env, component, digest, tag string
		bluegreen                   bool
	}
	for _, test := range []struct {
		name    string
		changes []string
		args    args
		want    string
	}{
		{"untagged", nil, args{"development", "api", digestB, "", false}, `
deploy api 1111bbbb2222 to development
environments/development/api/kustomization.yaml
-        digest: 'DIGEST-A' # bumped by sluice
+        digest: 'DIGEST-B' # bumped by sluice
`},
		{"already there", nil, args{"development", "api", digestA, "", false}, `
api is already at 1111aaaa2222 in development
(nothing changed)
`},
		{"first deployment", []string{"components/web/component.yaml", header + "Component\nmetadata: {name: web}\nimage: registry.example.com/shop/web\npaused: true\n",
			"builds/web/1111bbbb2222.yaml", header + "Build\ncomponent: web\nimage: registry.example.com/shop/web\ndigest: " + digestB + "\n"},
			args{"development", "web", digestB, "", false}, `
deploy web 1111bbbb2222 to development
note: component web is paused: nothing of it is applied until it is resumed
environments/development/web/kustomization.yaml
+images:
+- name: registry.example.com/shop/web
+  digest: DIGEST-B
`},
		{"tag", nil, args{"production", "api", digestB, "green", false}, `
deploy api 1111bbbb2222 to production as green
environments/production/api/green/kustomization.yaml
-- digest: DIGEST-C
+- digest: DIGEST-B
`},
		{"tag, already there", nil, args{"production", "api", digestC, "green", false}, `
api is already at 3333cccc4444 in production (green)
(nothing changed)
`},
		{"tag with traffic", nil, args{"production", "api", digestB, "blue", false}, `
deploy api 1111bbbb2222 to production as blue
note: blue has 100 % of the traffic: its pods are replaced under it
environments/production/api/blue/kustomization.yaml
-  digest: DIGEST-A
+  digest: DIGEST-B
`},
		{"bluegreen", nil, args{"production", "api", digestB, "", true}, `
deploy api 1111bbbb2222 to production as green
environments/production/api/green/kustomization.yaml
-- digest: DIGEST-C
+- digest: DIGEST-B
`},
		{"bluegreen, unlisted tag", []string{production + "traffic.yaml", header + "Traffic\nweights: {blue: 100}\n"}, args{"production", "api", digestC, "", true}, `
deploy api 3333cccc4444 to production as green
note: listed green at weight 0, so that its pods start
environments/production/api/traffic.yaml
-weights: {blue: 100}
+weights: {blue: 100, green: 0}
`},
		{"new tag", nil, args{"production", "api", digestB, "canary", false}, `
deploy api 1111bbbb2222 to production as canary
note: created the overlay environments/production/api/canary
note: listed canary at weight 0, so that its pods start
new environments/production/api/canary/kustomization.yaml
+apiVersion: kustomize.config.k8s.io/v1beta1
+kind: Kustomization
+namespace: shop-production
+resources: [../base]
+nameSuffix: -canary
+labels:
+- pairs: {sluice.dev/tag: canary, app.kubernetes.io/instance: api-canary}
+  includeTemplates: true
+  fields:
+  - {group: apps, kind: Deployment, path: spec/selector/matchLabels, create: true}
+  - {group: apps, kind: StatefulSet, path: spec/selector/matchLabels, create: true}
+  - {version: v1, kind: Service, path: spec/selector, create: true}
+  - {group: policy, kind: PodDisruptionBudget, path: spec/selector/matchLabels, create: true}
+  - {group: apps, kind: Deployment, path: 'spec/template/spec/topologySpreadConstraints[]/labelSelector/matchLabels', create: false}
+images:
+- name: registry.example.com/shop/api
+  digest: DIGEST-B
environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 100, green: 0, canary: 0}     # integers, sum 100
`},
		{"bluegreen before anything runs", []string{production + "blue/kustomization.yaml", "resources: [../base]\n", production + "green/kustomization.yaml", "resources: [../base]\n"},
			args{"production", "api", digestB, "", true}, `
deploy api 1111bbbb2222 to production as blue
environments/production/api/blue/kustomization.yaml
+images:
+- name: registry.example.com/shop/api
+  digest: DIGEST-B
`},
		{"no idle tag", []string{production + "traffic.yaml", header + "Traffic\nweights: {blue: 90, green: 10}\n"}, args{"production", "api", digestB, "", true}, `
error: api has no idle tag in production: every tag has traffic (blue=90, green=10)
hint: take a tag's traffic away first, or name a new tag: ` + "`sluice deploy api --environment production --build BUILD --tag NAME`" + ` creates it
`},
		{"several idle tags", []string{production + "red/kustomization.yaml", "resources: [../base]\n"}, args{"production", "api", digestB, "", true}, `
error: api has several idle tags in production: green, red
hint: choose one with --tag
`},
		{"neither tag nor bluegreen", nil, args{"production", "api", digestB, "", false}, `
error: api runs as tags in production: say which one
hint: give --tag NAME or --bluegreen (the one idle tag); known tags: blue, green
`},
		{"both", nil, args{"production", "api", digestB, "green", true}, `
error: --tag and --bluegreen exclude each other
hint: give one of them
`},
		{"tag in an untagged release", nil, args{"development", "api", digestB, "blue", false}, `
error: api has no tags in development: environments/development/api/traffic.yaml does not exist
hint: turn the overlay into tags with ` + "`sluice component tag api --environment development --tags blue,green`" + `
`},
		{"no record", nil, args{"development", "api", digestN, "", false}, `
error: unknown build "DIGEST-N" of api
hint: known builds: 1111aaaa2222, 1111bbbb2222, 3333cccc4444; list them with ` + "`sluice build list api`" + `
`},
		{"image tag", nil, args{"development", "api", "v1.2", "", false}, `
error: "v1.2" is not a digest: a digest is sha256: and 64 lower-case hex digits
hint: image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (` + "`sluice build list`" + `)
`},
		{"unknown environment", nil, args{"prod", "api", digestB, "", false}, `
error: unknown environment "prod" (did you mean "production"?)
hint: known environments: development, staging, production
`},
		{"unknown component", nil, args{"production", "apis", digestB, "", false}, `
error: unknown component "apis" (did you mean "api"?)
hint: known components: api, web
`},
		{"reserved release", nil, args{"development", "environment", digestB, "", false}, `
error: unknown component "environment"
hint: known components: api, web
`},
		{"no overlay", nil, args{"staging", "web", digestB, "", false}, `
error: component web has no overlay in staging: environments/staging/web/kustomization.yaml does not exist
hint: add the component to the environment with ` + "`sluice component add web --environments staging`" + `
`},
		{"bad name for a new tag", nil, args{"production", "api", digestB, "Canary", false}, `
error: tag "Canary" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit
`},
		{"reserved name for a new tag", nil, args{"production", "api", digestB, "base", false}, `
error: tag "base" is reserved: that folder holds what the tags have in common
`},
		{"new tag whose Service is a component's", []string{production + "../api-canary/kustomization.yaml", "-", "environments/production/api-canary/kustomization.yaml", "{}"},
			args{"production", "api", digestB, "canary", false}, `
error: tag canary of api would share the Service api-canary with api-canary in production
hint: choose another name for the tag
`},
		{"folder in the way of a new tag", []string{production + "canary/notes.txt", "x"}, args{"production", "api", digestB, "canary", false}, `
error: environments/production/api/canary/kustomization.yaml: is missing, and the folder has other files: what runs of the tag is left as it is
hint: restore the file, or take the tag off the list in traffic.yaml and remove its whole folder; what is no tag goes elsewhere, such as into base/
`},
		{"no base", []string{production + "base/kustomization.yaml", "-"}, args{"production", "api", digestB, "canary", false}, `
error: environments/production/api/base/kustomization.yaml: does not exist: the tags of a release share it
hint: move what the tags have in common there
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := test.args
			got := outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) {
				return Deploy(tree, a.env, a.component, a.digest, a.tag, a.bluegreen)
			})
			assert.Equal(t, trim(test.want), got)
		})
	}
}

func TestPromote(t *testing.T) {
	const production = "environments/production/api/"
	paused := strings.Replace(string(shop(t)["sluice.yaml"].Data), "paused: false", "paused: true", 1)
	for _, test := range []struct {
		name      string
		changes   []string
		to, tag   string
		bluegreen bool
		digest    string
		want      string
		from      string // of the PromotionEdit: old new tag
	}{
		{"into an untagged release", nil, "staging", "", false, "", `
promote api 1111aaaa2222 from development to staging
environments/staging/api/kustomization.yaml
-images: [{name: registry.example.com/shop/api, digest: DIGEST-B}]
+images: [{name: registry.example.com/shop/api, digest: DIGEST-A}]
`, "development 1111bbbb2222 1111aaaa2222 "},
		{"a given build", nil, "staging", "", false, digestC, `
promote api 3333cccc4444 from development to staging
environments/staging/api/kustomization.yaml
-images: [{name: registry.example.com/shop/api, digest: DIGEST-B}]
+images: [{name: registry.example.com/shop/api, digest: DIGEST-C}]
`, "development 1111bbbb2222 3333cccc4444 "},
		{"already there", nil, "staging", "", false, digestB, `
api is already at 1111bbbb2222 in staging
(nothing changed)
`, "development 1111bbbb2222 1111bbbb2222 "},
		{"into a tagged release", nil, "production", "", false, "", `
promote api 1111bbbb2222 from staging to production as green
environments/production/api/green/kustomization.yaml
-- digest: DIGEST-C
+- digest: DIGEST-B
`, "staging 3333cccc4444 1111bbbb2222 green"},
		{"into a tagged and paused release, mirrored", []string{"sluice.yaml", paused, production + "traffic.yaml", greenTraffic + "mirror: {green: 5}\n"}, "production", "", true, "", `
promote api 1111bbbb2222 from staging to production as green
note: green receives a mirror of 5 % of the requests
note: environment production is paused: nothing is applied there until it is resumed
environments/production/api/green/kustomization.yaml
-- digest: DIGEST-C
+- digest: DIGEST-B
`, "staging 3333cccc4444 1111bbbb2222 green"},
		{"into an unlisted tag", []string{production + "traffic.yaml", header + "Traffic\nweights: {blue: 100}\n"}, "production", "green", false, "", `
promote api 1111bbbb2222 from staging to production as green
note: listed green at weight 0, so that its pods start
environments/production/api/green/kustomization.yaml
-- digest: DIGEST-C
+- digest: DIGEST-B
environments/production/api/traffic.yaml
-weights: {blue: 100}
+weights: {blue: 100, green: 0}
`, "staging 3333cccc4444 1111bbbb2222 green"},
		{"the tag with the traffic has it", nil, "production", "", false, digestA, `
api is already at 1111aaaa2222 in production (blue)
(nothing changed)
`, "staging 1111aaaa2222 1111aaaa2222 blue"},
		{"the idle tag has it", nil, "production", "", false, digestC, `
api is already at 3333cccc4444 in production (green)
(nothing changed)
`, "staging 3333cccc4444 3333cccc4444 green"},
		{"into the tag with the traffic", nil, "production", "blue", false, "", `
error: tag blue of api in production has 100 % of the traffic
hint: a promotion goes to an idle tag: leave --tag away, or take its traffic away first with ` + "`sluice traffic set`" + `
`, ""},
		{"no idle tag", []string{production + "traffic.yaml", header + "Traffic\nweights: {blue: 90, green: 10}\n"}, "production", "", true, "", `
error: api has no idle tag in production: every tag has traffic (blue=90, green=10)
hint: take a tag's traffic away first, or name a new tag: ` + "`sluice deploy api --environment production --build BUILD --tag NAME`" + ` creates it
`, ""},
		{"unknown tag", nil, "production", "gren", false, "", `
error: unknown tag "gren" of api in production: environments/production/api/gren/kustomization.yaml does not exist (did you mean "green"?)
hint: known tags: blue, green; ` + "`sluice deploy api --environment production --build BUILD --tag gren`" + ` creates one
`, ""},
		{"into the first environment", nil, "development", "", false, "", `
error: nothing is promoted into development: it is the first environment
hint: builds get there with ` + "`sluice deploy api --environment development --build BUILD`" + `
`, ""},
		{"tag in an untagged release", nil, "staging", "blue", false, "", `
error: api has no tags in staging: environments/staging/api/traffic.yaml does not exist
hint: turn the overlay into tags with ` + "`sluice component tag api --environment staging --tags blue,green`" + `
`, ""},
		{"nothing at the source", []string{"environments/development/api/kustomization.yaml", "{}"}, "staging", "", false, "", `
error: api in development has no digest: nothing is deployed there yet
hint: deploy a build there first: ` + "`sluice deploy api --environment development --build BUILD`" + `
`, ""},
		{"no overlay at the source", []string{"environments/development/api/kustomization.yaml", "-"}, "staging", "", false, "", `
error: component api has no overlay in development: environments/development/api/kustomization.yaml does not exist
hint: add the component to the environment with ` + "`sluice component add api --environments development`" + `
`, ""},
		{"a build without record", nil, "staging", "", false, digestN, `
error: unknown build "DIGEST-N" of api
hint: known builds: 1111aaaa2222, 1111bbbb2222, 3333cccc4444; list them with ` + "`sluice build list api`" + `
`, ""},
		{"an image tag", nil, "staging", "", false, "latest", `
error: "latest" is not a digest: a digest is sha256: and 64 lower-case hex digits
hint: image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (` + "`sluice build list`" + `)
`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p PromotionEdit
			got := outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) {
				var err error
				p, err = Promote(tree, "api", test.to, test.tag, test.bluegreen, test.digest)
				return p.Summary, err
			})
			assert.Equal(t, trim(test.want), got)
			if test.from == "" {
				assert.Equal(t, PromotionEdit{}, p)
				return
			}
			assert.Equal(t, test.to, p.To)
			assert.Equal(t, test.from, strings.Join([]string{p.From, ShortDigest(p.OldDigest), ShortDigest(p.NewDigest), p.Tag}, " "))
		})
	}
}

func TestSourceDigest(t *testing.T) {
	tags := []Tag{{Name: "blue", Digest: digestA}, {Name: "green", Digest: digestB}, {Name: "red"}}
	rel := func(weights ...Weight) Release {
		return Release{Name: "api", Environment: Environment{Name: "staging"}, Tags: tags, Traffic: &Traffic{Weights: weights}}
	}
	for _, test := range []struct {
		rel  Release
		want string
	}{
		{Release{Digest: digestC}, digestC},
		{rel(Weight{"blue", 10}, Weight{"green", 90}), digestB},
		{rel(Weight{"green", 50}, Weight{"blue", 50}), digestB},
		{rel(Weight{"blue", 50}, Weight{"green", 50}), digestA},
	} {
		got, err := SourceDigest(test.rel)
		require.NoError(t, err)
		assert.Equal(t, test.want, got)
	}
	_, err := SourceDigest(rel(Weight{"red", 100}))
	require.EqualError(t, err, "api in staging (red) has no digest: nothing is deployed there yet")
}

func TestRollback(t *testing.T) {
	for _, test := range []struct{ name, env, tag, digest, want string }{
		{"untagged", "development", "", digestB, `
roll back api in development to 1111bbbb2222
environments/development/api/kustomization.yaml
-        digest: 'DIGEST-A' # bumped by sluice
+        digest: 'DIGEST-B' # bumped by sluice
`},
		{"tagged", "production", "blue", digestC, `
roll back api in production (blue) to 3333cccc4444
environments/production/api/blue/kustomization.yaml
-  digest: DIGEST-A
+  digest: DIGEST-C
`},
		{"to what has no record", "development", "", digestN, `
roll back api in development to 9999ffff0000
note: no build record of 9999ffff0000
environments/development/api/kustomization.yaml
-        digest: 'DIGEST-A' # bumped by sluice
+        digest: 'DIGEST-N' # bumped by sluice
`},
		{"already there", "production", "blue", digestA, `
api is already at 1111aaaa2222 in production (blue)
(nothing changed)
`},
		{"tagged needs a tag", "production", "", digestA, `
error: api runs as tags in production: say which one
hint: give --tag NAME; known tags: blue, green
`},
		{"untagged has none", "development", "blue", digestA, `
error: api has no tags in development: environments/development/api/traffic.yaml does not exist
hint: turn the overlay into tags with ` + "`sluice component tag api --environment development --tags blue,green`" + `
`},
		{"unknown tag", "production", "pink", digestA, `
error: unknown tag "pink" of api in production: environments/production/api/pink/kustomization.yaml does not exist
hint: known tags: blue, green; ` + "`sluice deploy api --environment production --build BUILD --tag pink`" + ` creates one
`},
		{"no digest", "development", "", "", `
error: no digest given
hint: image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (` + "`sluice build list`" + `)
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, shop(t), func(tree *Tree) (Summary, error) {
				return Rollback(tree, test.env, "api", test.tag, test.digest)
			})
			assert.Equal(t, trim(test.want), got)
		})
	}
}

func TestSetTraffic(t *testing.T) {
	const production = "environments/production/api/"
	weights := func(list ...Weight) Traffic { return Traffic{Weights: list} }
	for _, test := range []struct {
		name    string
		changes []string
		env     string
		traffic Traffic
		want    string
	}{
		{"shift", nil, "production", weights(Weight{"blue", 90}, Weight{"green", 10}), `
set traffic of api in production to blue=90, green=10
environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 90, green: 10}     # integers, sum 100
`},
		{"mirror", nil, "production", Traffic{Weights: []Weight{{"blue", 100}, {"green", 0}}, Mirrors: []Weight{{"green", 5}}}, `
set traffic of api in production to blue=100, green=0, mirror green=5
environments/production/api/traffic.yaml
+mirror: {green: 5}
`},
		{"so already, in another order", nil, "production", weights(Weight{"green", 0}, Weight{"blue", 100}), `
traffic of api in production is blue=100, green=0 already
(nothing changed)
`},
		{"repair", []string{production + "traffic.yaml", header + "Traffic\nweights: {blue: 90, geen: 10} # oops\n"}, "production", weights(Weight{"blue", 90}, Weight{"green", 10}), `
set traffic of api in production to blue=90, green=10
environments/production/api/traffic.yaml
-weights: {blue: 90, geen: 10} # oops
+weights: {blue: 90, green: 10} # oops
`},
		{"sum", nil, "production", weights(Weight{"blue", 90}, Weight{"green", 9}), `
error: traffic of api in production: weights must sum to 100, found 99 (blue=90, green=9)
hint: weights are whole percentages that sum to 100, such as blue=90 and green=10
`},
		{"negative", nil, "production", weights(Weight{"blue", 110}, Weight{"green", -10}), `
error: traffic of api in production: weight of blue must be at most 100, found 110
hint: weights are whole percentages that sum to 100, such as blue=90 and green=10
`},
		{"unknown tag", nil, "production", weights(Weight{"blue", 90}, Weight{"gren", 10}), `
error: unknown tag "gren" of api in production: environments/production/api/gren/kustomization.yaml does not exist (did you mean "green"?)
hint: known tags: blue, green; ` + "`sluice deploy api --environment production --build BUILD --tag gren`" + ` creates one
`},
		{"mirror to an unlisted tag", nil, "production", Traffic{Weights: []Weight{{"blue", 100}}, Mirrors: []Weight{{"green", 5}}}, `
error: traffic of api in production: mirror names tag "green", which weights do not list
hint: list green with weight 0, so that its pods run
`},
		{"twice", nil, "production", weights(Weight{"blue", 50}, Weight{"blue", 50}), `
error: traffic of api in production: weights name tag "blue" twice
hint: name each tag once
`},
		{"none", nil, "production", Traffic{}, `
error: traffic of api in production: weights must list at least one tag
hint: give the tag that has the traffic weight 100
`},
		{"tag without digest", []string{production + "green/kustomization.yaml", "resources: [../base]\n"}, "production", weights(Weight{"blue", 90}, Weight{"green", 10}), `
error: traffic of api in production: tag green has no digest: nothing is deployed there
hint: deploy a build to it first: ` + "`sluice deploy api --environment production --build BUILD --tag green`" + `
`},
		{"untagged", nil, "staging", weights(Weight{"blue", 100}), `
error: api has no tags in staging: environments/staging/api/traffic.yaml does not exist
hint: turn the overlay into tags with ` + "`sluice component tag api --environment staging --tags blue,green`" + `
`},
		{"unknown environment", nil, "live", weights(Weight{"blue", 100}), `
error: unknown environment "live"
hint: known environments: development, staging, production
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) {
				return SetTraffic(tree, test.env, "api", test.traffic)
			})
			assert.Equal(t, trim(test.want), got)
		})
	}
}

func TestPromoteTraffic(t *testing.T) {
	const file = "environments/production/api/traffic.yaml"
	const red = "environments/production/api/red/kustomization.yaml"
	overlay := "resources: [../base]\nimages: [{name: registry.example.com/shop/api, digest: " + digestB + "}]\n"
	for _, test := range []struct {
		name    string
		changes []string
		to      string
		want    string
	}{
		{"to the other", nil, "", `
promote green to all traffic of api in production
environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 0, green: 100}     # integers, sum 100
`},
		{"and back", []string{file, header + "Traffic\nweights: {blue: 0, green: 100}\n"}, "", `
promote blue to all traffic of api in production
environments/production/api/traffic.yaml
-weights: {blue: 0, green: 100}
+weights: {blue: 100, green: 0}
`},
		{"from a split", []string{file, header + "Traffic\nweights: {blue: 90, green: 10}\n"}, "", `
promote green to all traffic of api in production
environments/production/api/traffic.yaml
-weights: {blue: 90, green: 10}
+weights: {blue: 0, green: 100}
`},
		{"clears the mirror", []string{file, greenTraffic + "mirror: {green: 5}\n"}, "", `
promote green to all traffic of api in production
note: cleared the mirror green=5
environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}
-mirror: {green: 5}
+weights: {blue: 0, green: 100}
`},
		{"to a tag that is not listed", []string{file, header + "Traffic\nweights: {blue: 100}\n"}, "", `
promote green to all traffic of api in production
environments/production/api/traffic.yaml
-weights: {blue: 100}
+weights: {blue: 0, green: 100}
`},
		{"listed tags come first", []string{red, overlay}, "", `
promote green to all traffic of api in production
environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 0, green: 100}     # integers, sum 100
`},
		{"named", []string{red, overlay}, "red", `
promote red to all traffic of api in production
environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 0, green: 0, red: 100}     # integers, sum 100
`},
		{"named, so already", nil, "blue", `
blue has all traffic of api in production already
(nothing changed)
`},
		{"equal split", []string{file, header + "Traffic\nweights: {blue: 50, green: 50}\n"}, "", `
error: promoting traffic of api in production: no tag has the largest weight (blue=50, green=50)
hint: name the tag that gets all traffic with --to; known tags: blue, green
`},
		{"several others", []string{red, overlay, file, header + "Traffic\nweights: {blue: 100, green: 0, red: 0}\n"}, "", `
error: promoting traffic of api in production: there are several other tags than blue
hint: name the tag that gets all traffic with --to; known tags: blue, green, red
`},
		{"only one", []string{"environments/production/api/green/kustomization.yaml", "-", file, header + "Traffic\nweights: {blue: 100}\n"}, "", `
error: promoting traffic of api in production: blue is its only tag
hint: ` + "`sluice deploy api --environment production --build BUILD --tag NAME`" + ` creates another
`},
		{"unknown", nil, "bleu", `
error: unknown tag "bleu" of api in production: environments/production/api/bleu/kustomization.yaml does not exist (did you mean "blue"?)
hint: known tags: blue, green; ` + "`sluice deploy api --environment production --build BUILD --tag bleu`" + ` creates one
`},
		{"broken file", []string{file, header + "Traffic\nweights: {blue: 99}\n"}, "", `
error: environments/production/api/traffic.yaml:3: weights must sum to 100, found 99 (blue=99)
hint: weights are whole percentages that sum to 100, such as blue=90 and green=10
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) {
				return PromoteTraffic(tree, "production", "api", test.to)
			})
			assert.Equal(t, trim(test.want), got)
		})
	}
}

func TestSuspendTags(t *testing.T) {
	const file = "environments/production/api/traffic.yaml"
	for _, test := range []struct {
		name    string
		changes []string
		tags    []string
		want    string
	}{
		{"idle tag", nil, []string{"green"}, `
suspend green of api in production
environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 100}     # integers, sum 100
`},
		{"so already", []string{file, header + "Traffic\nweights: {blue: 100}\n"}, []string{"green"}, `
green of api in production is suspended already
(nothing changed)
`},
		{"with weight", nil, []string{"green", "blue"}, `
error: tag blue of api in production has 100 % of the traffic
hint: move its traffic first: ` + "`sluice traffic set api --environment production --tags …`" + `
`},
		{"target of a mirror", []string{file, greenTraffic + "mirror: {green: 5}\n"}, []string{"green"}, `
error: tag green of api in production receives a mirror of 5 % of the requests
hint: clear the mirror first: ` + "`sluice traffic set api --environment production --tags …`" + ` without --mirror
`},
		{"unknown", nil, []string{"gren"}, `
error: unknown tag "gren" of api in production: environments/production/api/gren/kustomization.yaml does not exist (did you mean "green"?)
hint: known tags: blue, green; ` + "`sluice deploy api --environment production --build BUILD --tag gren`" + ` creates one
`},
		{"none", nil, nil, `
error: suspending tags of api in production: none named
hint: name tags with --tags; known tags: blue, green
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) {
				return SuspendTags(tree, "production", "api", test.tags)
			})
			assert.Equal(t, trim(test.want), got)
		})
	}
}

func TestRecordBuild(t *testing.T) {
	build := func(change func(*Build)) Build {
		b := Build{Component: "api", Image: image, Digest: digestN, CreatedAt: time.Date(2026, 11, 21, 12, 0, 0, 5, time.FixedZone("", 7200)),
			Source: Source{Repository: "https://github.com/shop/api", Commit: "1234567", Ref: "refs/heads/main", Message: "Fix: the \"cart\"\n\nIt was # broken\n"},
			Run:    Run{ID: "8841", URL: "https://ci.example.com/8841"},
			Config: &Contract{Required: []string{"DATABASE_URL"}, Optional: []string{"NO"}},
			Checks: []Check{{Name: "trivy", Status: "passed", Summary: "0 critical", URL: "https://ci.example.com/8841/trivy"}, {Name: "unit", Status: "failed"}}}
		if change != nil {
			change(&b)
		}
		return b
	}
	const record = `
new builds/api/9999ffff0000.yaml
+apiVersion: sluice.dev/v1alpha1
+kind: Build
+component: api
+image: registry.example.com/shop/api
+digest: DIGEST-N
+createdAt: 2026-11-21T10:00:00Z
+source:
+  repository: https://github.com/shop/api
+  commit: "1234567"
+  ref: refs/heads/main
+  message: |
+    Fix: the "cart"
+
+    It was # broken
+run:
+  id: "8841"
+  url: https://ci.example.com/8841
+config:
+  required:
+  - DATABASE_URL
+  optional:
+  - "NO"
+checks:
+- name: trivy
+  status: passed
+  summary: 0 critical
+  url: https://ci.example.com/8841/trivy
+- name: unit
+  status: failed
`
	const bare = `
new builds/api/9999ffff0000.yaml
+apiVersion: sluice.dev/v1alpha1
+kind: Build
+component: api
+image: registry.example.com/shop/api
+digest: DIGEST-N
`
	minimal := Build{Component: "api", Digest: digestN}
	const bump = `environments/development/api/kustomization.yaml
-        digest: 'DIGEST-A' # bumped by sluice
+        digest: 'DIGEST-N' # bumped by sluice
`
	const development = "environments/development/api/"
	tagged := []string{development + "base/kustomization.yaml", "{}", development + "traffic.yaml", greenTraffic,
		development + "blue/kustomization.yaml", "images: [{name: registry.example.com/shop/api, digest: " + digestA + "}]\n",
		development + "green/kustomization.yaml", "images: [{name: registry.example.com/shop/api, digest: " + digestB + "}]\n"}
	component := func(extra string) []string {
		return []string{"components/api/component.yaml", header + "Component\nmetadata: {name: api}\nimage: " + image + "\n" + extra}
	}
	for _, test := range []struct {
		name    string
		changes []string
		build   Build
		want    string
	}{
		{"everything", nil, build(nil), "record build api 9999ffff0000, deploy it to development\n" + trim(record) + bump},
		{"nothing but the digest", nil, minimal, "record build api 9999ffff0000, deploy it to development\n" + trim(bare) + bump},
		{"component says no", component("autoDeploy: false\n"), minimal, "record build api 9999ffff0000\n" + trim(bare)},
		{"component says yes", append(component("autoDeploy: true\n"), "sluice.yaml", header+"Project\nmetadata: {name: shop}\nenvironments:\n- {name: development, namespace: d}\n"),
			minimal, "record build api 9999ffff0000, deploy it to development\n" + trim(bare) + bump},
		{"no overlay", []string{development + "kustomization.yaml", "-"}, minimal,
			"record build api 9999ffff0000\nnote: not deployed: api has no overlay in development\n" + trim(bare)},
		{"tagged", tagged, minimal, "record build api 9999ffff0000, deploy it to development as green\n" + trim(bare) + `environments/development/api/green/kustomization.yaml
-images: [{name: registry.example.com/shop/api, digest: DIGEST-B}]
+images: [{name: registry.example.com/shop/api, digest: DIGEST-N}]
`},
		{"tagged, none idle", append(tagged, development+"traffic.yaml", header+"Traffic\nweights: {blue: 90, green: 10}\n"), minimal,
			"record build api 9999ffff0000\nnote: not deployed: api has no idle tag in development: every tag has traffic (blue=90, green=10)\n" + trim(bare)},
		{"a token in a URL", component("autoDeploy: false\n"), Build{Component: "api", Digest: digestN, Source: Source{Repository: "https://x-access-token:s3cret@github.com/shop/api"}},
			"record build api 9999ffff0000\nnote: removed the password from the URL https://github.com/shop/api\n" + trim(bare) + "+source:\n+  repository: https://github.com/shop/api\n"},
		{"a token in a query", component("autoDeploy: false\n"), Build{Component: "api", Digest: digestN, Run: Run{URL: "https://ci.example.com/run?id=5&private_token=s3cret"}},
			"record build api 9999ffff0000\nnote: removed the password from the URL https://ci.example.com/run?id=5\n" + trim(bare) + "+run:\n+  url: https://ci.example.com/run?id=5\n"},
		{"a key that is no secret", component("autoDeploy: false\n"), Build{Component: "api", Digest: digestN, Run: Run{URL: "https://ci.example.com/run?monkey=1&b=2"}},
			"record build api 9999ffff0000\n" + trim(bare) + "+run:\n+  url: https://ci.example.com/run?monkey=1&b=2\n"},
		{"several lines", nil, Build{Component: "api", Digest: digestN, Source: Source{Ref: "refs/heads/a\nb"}}, `
error: recording build 9999ffff0000: the source ref "refs/heads/a\nb" is not one line of printable text
hint: give one line of text
`},
		{"too long", nil, Build{Component: "api", Digest: digestN, Source: Source{Message: strings.Repeat("m", 2001)}}, `
error: recording build 9999ffff0000: the source message has 2001 bytes, more than 2000
hint: shorten it
`},
		{"too many checks", nil, Build{Component: "api", Digest: digestN, Checks: make([]Check, 101)}, `
error: recording build 9999ffff0000: 101 checks, more than 100
hint: record the checks that decide something
`},
		{"empty contract", component("autoDeploy: false\n"), Build{Component: "api", Digest: digestN, Config: &Contract{}},
			"record build api 9999ffff0000\n" + trim(bare) + "+config: {}\n"},
		{"recorded already", nil, build(func(b *Build) {
			*b = Build{Component: "api", Image: image, Digest: digestB, CreatedAt: time.Now()}
		}), "build 1111bbbb2222 of api is already recorded\n(nothing changed)\n"},
		{"recorded otherwise", nil, build(func(b *Build) { b.Digest = digestA }), `
error: builds/api/1111aaaa2222.yaml: the build is already recorded with other content: source, config, checks differ
hint: a record never changes: build again to get a new digest, or record the same content
`},
		{"same first digits", nil, build(func(b *Build) { b.Digest = digestA[:70] + "f" }), `
error: builds/api/1111aaaa2222.yaml: the build is already recorded with other content: digest, source, config, checks differ
hint: a record never changes: build again to get a new digest, or record the same content
`},
		{"unknown component", nil, Build{Component: "ap", Digest: digestN}, `
error: unknown component "ap" (did you mean "api"?)
hint: known components: api, web
`},
		{"image tag", nil, Build{Component: "api", Digest: "v1.2"}, `
error: "v1.2" is not a digest: a digest is sha256: and 64 lower-case hex digits
hint: image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (` + "`sluice build list`" + `)
`},
		{"image with tag", nil, Build{Component: "api", Digest: digestN, Image: image + ":v1"}, `
error: image "registry.example.com/shop/api:v1" must be an image name without tag
hint: write the name alone: the overlays pin the digest
`},
		{"another image", nil, Build{Component: "api", Digest: digestN, Image: "registry.example.com/shop/web"}, `
error: build of image registry.example.com/shop/web, but the image of component api is registry.example.com/shop/api
hint: record it under the component that it is, or correct image in components/api/component.yaml
`},
		{"bad check", nil, Build{Component: "api", Digest: digestN, Checks: []Check{{Name: "a b", Status: "ok"}}}, `
error: builds/api/9999ffff0000.yaml:7: checks[0].name "a b" must be the name of a check
`},
		{"not text", nil, Build{Component: "api", Digest: digestN, Run: Run{ID: "\xff"}}, `
error: recording build 9999ffff0000: "\xff" is not UTF-8 text
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := outcome(t, shop(t, test.changes...), func(tree *Tree) (Summary, error) { return RecordBuild(tree, test.build) })
			want := trim(test.want)
			if strings.HasPrefix(test.name, "same first digits") {
				got = strings.ReplaceAll(got, digestA[:70]+"f", "DIGEST")
			}
			assert.Equal(t, want, got)
		})
	}
}

// Another run of the pipeline that makes the same bytes has nothing to add.
func TestRecordInAnotherRun(t *testing.T) {
	tree := NewTree(shop(t))
	_, err := RecordBuild(tree, Build{Component: "api", Digest: digestN, Run: Run{ID: "1"}})
	require.NoError(t, err)
	summary, err := RecordBuild(tree, Build{Component: "api", Digest: digestN, Run: Run{ID: "2"}, CreatedAt: time.Now()})
	require.NoError(t, err)
	assert.Equal(t, Summary{Message: "build 9999ffff0000 of api is already recorded", Notes: []string{"the record names another run, 1: the first one stays"}}, summary)
}

// A build that is only added is deployed nowhere.
func TestAddBuild(t *testing.T) {
	tree := NewTree(shop(t))
	_, err := AddBuild(tree, Build{Component: "api", Digest: digestN})
	require.NoError(t, err)
	assert.Len(t, tree.Writes(), 1)
	assert.Contains(t, tree.Writes(), "builds/api/9999ffff0000.yaml")
}

// A retried record after a newer one must not deploy the older build again.
func TestRecordAgainDoesNotDeploy(t *testing.T) {
	tree := NewTree(shop(t))
	first := Build{Component: "api", Digest: digestN}
	_, err := RecordBuild(tree, first)
	require.NoError(t, err)
	_, err = Deploy(tree, "development", "api", digestB, "", false)
	require.NoError(t, err)
	summary, err := RecordBuild(tree, first)
	require.NoError(t, err)
	assert.False(t, summary.Changed)
	repo, err := Open(tree)
	require.NoError(t, err)
	rel, err := repo.Release("development", "api")
	require.NoError(t, err)
	assert.Equal(t, digestB, rel.Digest)
}

// What an edit leaves behind is what the next one reads.
func TestEditsCompose(t *testing.T) {
	tree := NewTree(shop(t))
	step := func(summary Summary, err error) {
		t.Helper()
		require.NoError(t, err)
		require.True(t, summary.Changed, summary.Message)
	}
	step(SetTraffic(tree, "production", "api", Traffic{Weights: []Weight{{"blue", 100}}}))
	step(Deploy(tree, "production", "api", digestB, "green", false))
	step(SetTraffic(tree, "production", "api", Traffic{Weights: []Weight{{"blue", 90}, {"green", 10}}}))
	step(PromoteTraffic(tree, "production", "api", ""))
	step(PromoteTraffic(tree, "production", "api", ""))
	step(SuspendTags(tree, "production", "api", []string{"green"}))
	step(Rollback(tree, "production", "api", "green", digestC))
	assert.Equal(t, `environments/production/api/traffic.yaml
-weights: {blue: 100, green: 0}     # integers, sum 100
+weights: {blue: 100}     # integers, sum 100
`, diff(t, tree, shop(t)))
}

func TestEditsOfABrokenProject(t *testing.T) {
	broken := fstest.MapFS{"sluice.yaml": {Data: []byte("kind: Nonsense")}}
	for name, do := range map[string]func(*Tree) (Summary, error){
		"record":   func(tree *Tree) (Summary, error) { return RecordBuild(tree, Build{}) },
		"deploy":   func(tree *Tree) (Summary, error) { return Deploy(tree, "e", "c", digestA, "", false) },
		"traffic":  func(tree *Tree) (Summary, error) { return SetTraffic(tree, "e", "c", Traffic{}) },
		"rollback": func(tree *Tree) (Summary, error) { return Rollback(tree, "e", "c", "", digestA) },
		"add":      func(tree *Tree) (Summary, error) { return AddComponent(tree, ComponentSpec{Name: "c"}) },
		"tag":      func(tree *Tree) (Summary, error) { return TagComponent(tree, "e", "c", nil) },
		"untag":    func(tree *Tree) (Summary, error) { return RemoveTags(tree, "e", "c", nil) },
	} {
		assert.Contains(t, outcome(t, broken, do), "error: sluice.yaml:1: missing required field \"apiVersion\" in Project", name)
		assert.Contains(t, outcome(t, fstest.MapFS{}, do), "error: reading sluice.yaml: no such file", name)
	}
}
