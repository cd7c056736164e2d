package envrepo

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// decodeKind decodes a file of a kind as the repository would.
func decodeKind(kind string, data []byte) error {
	var err error
	switch kind {
	case "Project":
		_, err = decodeProject("sluice.yaml", data)
	case "Component":
		_, err = decodeComponent("components/api/component.yaml", "api", data)
	case "Traffic":
		_, err = decodeTraffic("environments/production/api/traffic.yaml", []string{"blue", "green", "red"}, data)
	case "Build":
		_, err = decodeBuild("builds/api/1111aaaa2222.yaml", data)
	}
	return err
}

const header = "apiVersion: sluice.dev/v1alpha1\nkind: "

func TestStrictDecoding(t *testing.T) {
	traffic := func(rest string) string { return header + "Traffic\n" + rest }
	const good = "weights: {blue: 100}\n"
	for _, test := range []struct{ name, data, want, hint string }{
		{"unknown field", traffic("# comment\nwieghts: {blue: 100}\n"),
			`environments/production/api/traffic.yaml:1: missing required field "weights" in Traffic` + "\n" +
				`environments/production/api/traffic.yaml:4: unknown field "wieghts" in Traffic (did you mean "weights"?)`,
			"known fields: apiVersion, kind, weights, mirror"},
		{"unknown field, nothing near", traffic(good + "color: red\n"),
			`environments/production/api/traffic.yaml:4: unknown field "color" in Traffic`,
			"known fields: apiVersion, kind, weights, mirror"},
		{"duplicate field", traffic(good + good),
			`environments/production/api/traffic.yaml:4: duplicate field "weights" in Traffic, first given in line 3`, "remove one of them"},
		{"duplicate tag", traffic("weights:\n  blue: 50\n  blue: 50\n"),
			`environments/production/api/traffic.yaml:5: duplicate field "blue" in Traffic weights, first given in line 4`, "remove one of them"},
		{"name is no string", traffic(good + "7: x\n"),
			`environments/production/api/traffic.yaml:4: a name in Traffic must be a string, found 7`, "quote it"},
		{"no apiVersion", "kind: Traffic\n" + good,
			`environments/production/api/traffic.yaml:1: missing required field "apiVersion" in Traffic`, "add the line apiVersion: sluice.dev/v1alpha1"},
		{"other apiVersion", "apiVersion: sluice.dev/v2\nkind: Traffic\n" + good,
			`environments/production/api/traffic.yaml:1: apiVersion must be sluice.dev/v1alpha1, found "sluice.dev/v2"`, ""},
		{"other kind, whose fields are not complained about", header + "Project\nenvironments: []\n",
			`environments/production/api/traffic.yaml:2: kind must be Traffic, found "Project"`, ""},
		{"not a mapping", "- a\n",
			`environments/production/api/traffic.yaml:1: must be a mapping, found a list`, ""},
		{"a scalar", "hello\n",
			`environments/production/api/traffic.yaml:1: must be a mapping, found "hello"`, ""},
		{"empty", "", `environments/production/api/traffic.yaml: is empty`, ""},
		{"comments only", "# nothing\n", `environments/production/api/traffic.yaml: is empty`, ""},
		{"null document", "---\n", `environments/production/api/traffic.yaml: is empty`, ""},
		{"two documents", traffic(good + "---\na: b\n"),
			`environments/production/api/traffic.yaml:4: holds several YAML documents, one is due`, "remove what follows the line ---"},
		{"broken second document", traffic(good + "---\na: [\n"),
			`environments/production/api/traffic.yaml:6: parsing YAML: did not find expected node content`, ""},
		{"syntax", traffic("weights: {blue: 100\n"),
			`environments/production/api/traffic.yaml:3: parsing YAML: did not find expected ',' or '}'`, ""},
		{"not UTF-8", traffic("weights: \xff\n"), `environments/production/api/traffic.yaml: is not UTF-8 text`, "save it as UTF-8"},
		{"UTF-16", "\xff\xfea\x00", `environments/production/api/traffic.yaml: is not UTF-8 text`, "save it as UTF-8"},
		{"too large", traffic(good) + strings.Repeat("# padding\n", 110_000), `environments/production/api/traffic.yaml: is larger than 1 MiB`, ""},
		{"alias", traffic("weights: &w {blue: 100}\nmirror: *w\n"),
			"environments/production/api/traffic.yaml:3: YAML anchor &w is not supported\n" +
				"environments/production/api/traffic.yaml:4: YAML alias *w is not supported", "remove the anchor"},
		{"explicit tag", traffic("weights: {blue: !!str 100}\n"),
			`environments/production/api/traffic.yaml:3: YAML tag !!str is not supported`, "remove the tag"},
		{"merge key", traffic(good + "<<: {mirror: {}}\n"),
			`environments/production/api/traffic.yaml:4: a name in Traffic must be a string, found <<`, "quote it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := decodeKind("Traffic", []byte(test.data))
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
		})
	}
}

// A small file whose aliases expand to gigabytes is refused without expanding
// it, with a bounded message: Argo CD CVE-2022-31016.
func TestAttackAliasBomb(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString(header + "Build\na: &a [x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c <= 'z'; c++ {
		p := string(c - 1)
		bomb.WriteString(string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+", ", 8) + "*" + p + "]\n")
	}
	for _, kind := range Kinds() {
		err := decodeKind(kind, []byte(bomb.String()))
		require.Error(t, err)
		assert.Less(t, len(err.Error()), 4000)
	}
	_, err := parseKustomization("kustomization.yaml", []byte(bomb.String()))
	require.NoError(t, err, "Kustomize's own files may have aliases; they are not expanded")
}

func TestDecodeProjectErrors(t *testing.T) {
	project := func(environments string) string {
		return header + "Project\nmetadata: {name: shop}\nenvironments:\n" + environments
	}
	const first = "- {name: development, namespace: shop-development}\n"
	for _, test := range []struct{ name, data, want, hint string }{
		{"nothing", header + "Project\n",
			"sluice.yaml:1: missing required field \"metadata\" in Project\nsluice.yaml:1: missing required field \"environments\" in Project", ""},
		{"no environments", header + "Project\nmetadata: {name: shop}\nenvironments: []\n",
			"sluice.yaml:4: environments must list at least one environment", ""},
		{"metadata of another type", header + "Project\nmetadata: shop\nenvironments:\n" + first,
			`sluice.yaml:3: metadata must be a mapping, found "shop"`, ""},
		{"environments of another type", project("  development: {}\n"),
			"sluice.yaml:5: environments must be a list, found a mapping", ""},
		{"several problems", project("- {name: Dev, autodeploy: true, paused: maybe}\n- name: 7\n  namespace: shop_production\n"),
			`sluice.yaml:5: unknown field "autodeploy" in Project environments[0] (did you mean "autoDeploy"?)
sluice.yaml:5: environments[0].name "Dev" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit
sluice.yaml:5: environments[0].paused must be true or false, found "maybe"
sluice.yaml:5: missing required field "namespace" in Project environments[0]
sluice.yaml:6: environments[1].name must be a string, found 7
sluice.yaml:7: environments[1].namespace "shop_production" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit`,
			"known fields: name, namespace, autoDeploy, promotion, traffic, prune, paused"},
		{"same name", project(first + "- {name: development, namespace: b}\n"),
			`sluice.yaml:6: environments[1].name "development" is already the environment of line 5`, "give every environment a name of its own"},
		{"shared namespace", project(first + "- name: production\n  namespace: shop-development\n"),
			`sluice.yaml:7: environments[1].namespace "shop-development" is already the namespace of environment development: development and production share it`,
			"give every environment a namespace of its own: two in one would prune each other's objects"},
		{"autoDeploy elsewhere", project(first + "- {name: production, namespace: p, autoDeploy: true}\n"),
			`sluice.yaml:6: environments[1].autoDeploy is for the first environment only, which is development`, "builds reach the others by promotion"},
		{"promotion into the first", project("- {name: development, namespace: d, promotion: {auto: true}}\n"),
			`sluice.yaml:5: environments[0].promotion is not for the first environment: there is none to promote from`,
			"remove it; builds land here with autoDeploy or `sluice deploy`"},
		{"promotion from itself", project(first + "- {name: production, namespace: p, promotion: {from: production}}\n"),
			`sluice.yaml:6: environments[1].promotion.from "production" is the environment itself: name an earlier one`, ""},
		{"promotion from a later one", project(first + "- {name: staging, namespace: s, promotion: {from: production}}\n- {name: production, namespace: p}\n"),
			`sluice.yaml:6: environments[1].promotion.from "production" is not an earlier environment`, ""},
		{"promotion from a misspelt one", project(first + "- {name: production, namespace: p, promotion: {from: developmnet}}\n"),
			`sluice.yaml:6: environments[1].promotion.from "developmnet" is not an earlier environment (did you mean "development"?)`, ""},
		{"gates", project(first + "- name: production\n  namespace: p\n  promotion:\n    gates: {healthy: yes, soak: 1000h, checks: [trivy, trivy, 'a b'], confg: true}\n"),
			`sluice.yaml:9: unknown field "confg" in Project environments[1].promotion.gates (did you mean "config"?)
sluice.yaml:9: environments[1].promotion.gates.healthy must be true or false, found "yes"
sluice.yaml:9: environments[1].promotion.gates.soak must be between 0s and 720h, found 1000h
sluice.yaml:9: environments[1].promotion.gates.checks[1] "trivy" is listed twice
sluice.yaml:9: environments[1].promotion.gates.checks[2] "a b" must be the name of a check`,
			"known fields: healthy, soak, checks, config"},
		{"durations", project("- {name: a, namespace: a, traffic: {drain: 15}}\n- {name: b, namespace: b, traffic: {drain: -1s}}\n- {name: c, namespace: c, traffic: {drain: 15 seconds, via: email}}\n"),
			`sluice.yaml:5: environments[0].traffic.drain must be a duration such as 30s or 5m, found 15
sluice.yaml:6: environments[1].traffic.drain must be between 0s and 1h, found -1s
sluice.yaml:7: environments[2].traffic.via "email" must be commit or pullRequest
sluice.yaml:7: environments[2].traffic.drain must be a duration such as 30s or 5m, found "15 seconds"`,
			"give a unit: 15s"},
		{"prune", project("- {name: a, namespace: a, prune: {protect: [persistentvolumeclaims]}}\n"),
			`sluice.yaml:5: environments[0].prune.protect[0] "persistentvolumeclaims" must be a kind such as PersistentVolumeClaim`, ""},
		{"share of a prune", project("- {name: a, namespace: a, prune: {maxShare: 101}}\n- {name: b, namespace: b, prune: {maxShare: half}}\n"),
			`sluice.yaml:5: environments[0].prune.maxShare must be 0 to 100, found 101
sluice.yaml:6: environments[1].prune.maxShare must be a whole number, found "half"`,
			"percent of the environment's objects; 100 holds nothing but the removal of the whole environment"},
		{"acknowledgements", project(first + "acknowledgements:\n- {environment: Staging, prune: a00000000001}\n- {environment: staging, prune: 3fa9c1b2d4e5}\n- {environment: staging, pune: yes}\n"),
			`sluice.yaml:7: acknowledgements[0].environment "Staging" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit
sluice.yaml:8: acknowledgements[1].prune "3fa9c1b2d4e5" must be the 12 hex digits that the held releases name
sluice.yaml:9: unknown field "pune" in Project acknowledgements[2] (did you mean "prune"?)
sluice.yaml:9: missing required field "prune" in Project acknowledgements[2]`,
			"known fields: environment, prune"},
		{"nothing where something is due", project("- {name: a, namespace: a, prune: , paused: }\n"),
			`sluice.yaml:5: environments[0].paused must be true or false, found nothing
sluice.yaml:5: environments[0].prune must be a mapping, found nothing`, ""},
		{"too many", project(strings.Repeat(first, 65)),
			"sluice.yaml:5: environments must list at most 64 environments, found 65", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := decodeKind("Project", []byte(test.data))
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
		})
	}
}

func TestDecodeComponentErrors(t *testing.T) {
	component := func(rest string) string { return header + "Component\n" + rest }
	const good = "metadata: {name: api}\nimage: registry.example.com:5000/shop/api\n"
	for _, test := range []struct{ name, data, want, hint string }{
		{"nothing", component(""),
			"components/api/component.yaml:1: missing required field \"metadata\" in Component\ncomponents/api/component.yaml:1: missing required field \"image\" in Component", ""},
		{"another name", component("metadata: {name: apo}\nimage: a\n"),
			`components/api/component.yaml:3: metadata.name is "apo", but the folder is components/api`, "rename one of them"},
		{"image with tag", component("metadata: {name: api}\nimage: localhost:5000/api:v1\n"),
			`components/api/component.yaml:4: image "localhost:5000/api:v1" must be an image name without tag`, "write the name alone: the overlays pin the digest"},
		{"image with digest", component("metadata: {name: api}\nimage: a@sha256:1\n"),
			`components/api/component.yaml:4: image "a@sha256:1" must be an image name without digest`, "write the name alone: the overlays pin the digest"},
		{"no image name", component("metadata: {name: api}\nimage: https://example.com/API\n"),
			`components/api/component.yaml:4: image "https://example.com/API" must be an image name such as registry.example.com/shop/api`, ""},
		{"image is a number", component("metadata: {name: api}\nimage: 5\n"),
			`components/api/component.yaml:4: image must be a string, found 5`, `quote it: "5"`},
		{"contract", component(good + "config: {required: [A, A, B, \"C D\"], optional: [B, 1]}\n"),
			`components/api/component.yaml:5: config.required[1] "A" is listed twice
components/api/component.yaml:5: config.required[3] "C D" must be the name of an environment variable or a key
components/api/component.yaml:5: config.optional[0] "B" is required already
components/api/component.yaml:5: config.optional[1] must be a string, found 1`, "remove one of them"},
		{"dependsOn", component(good + "dependsOn: [db, api, environment, DB]\n"),
			`components/api/component.yaml:5: dependsOn[1] "api" is the component itself
components/api/component.yaml:5: dependsOn[2] "environment" is reserved for the environment's own objects
components/api/component.yaml:5: dependsOn[3] "DB" must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit`, ""},
		{"healthTimeout", component(good + "healthTimeout: 0s\n"),
			"components/api/component.yaml:5: healthTimeout must be between 1s and 24h, found 0s", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := decodeKind("Component", []byte(test.data))
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
		})
	}
	for name, want := range map[string]string{
		"environment":            "is reserved for the environment's own objects",
		"3scale":                 "must start with a letter: the name of a Service does",
		strings.Repeat("a", 64):  "must have at most 63 characters",
		"":                       "must not be empty",
		"api":                    "",
		"a":                      "",
		"api-":                   "must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit",
		"api\nkind: Something":   "must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit",
		strings.Repeat("ab-", 5): "must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit",
	} {
		assert.Equal(t, want, componentNameProblem(name), name)
	}
	assert.Equal(t, "is too long: the name of the Service "+strings.Repeat("a", 40)+"-"+strings.Repeat("b", 23)+" would exceed 63 characters",
		tagNameProblem(strings.Repeat("a", 40), strings.Repeat("b", 23)))
	assert.Empty(t, tagNameProblem(strings.Repeat("a", 40), strings.Repeat("b", 22)))
}

func TestDecodeTrafficErrors(t *testing.T) {
	const file = "environments/production/api/traffic.yaml"
	for _, test := range []struct{ name, data, want, hint string }{
		{"sum", "weights:\n  blue: 90\n  green: 9\n", file + ":4: weights must sum to 100, found 99 (blue=90, green=9)", weightHint},
		{"negative", "weights:\n  blue: 110\n  green: -10\n",
			file + ":4: weight of blue must be at most 100, found 110\n" + file + ":5: weight of green must not be negative, found -10", weightHint},
		{"no overlay", "weights: {blue: 90, gren: 10}\n",
			file + `:3: weights name tag "gren", which has no overlay (did you mean "green"?)`, "known tags: blue, green, red"},
		{"base", "weights: {base: 100}\n",
			file + `:3: weights name tag "base", which has no overlay`, "known tags: blue, green, red"},
		{"empty", "weights: {}\n", file + ":3: weights must list at least one tag", "give the tag that has the traffic weight 100"},
		{"a list", "weights: [blue, green]\n", file + ":3: weights must be a mapping, found a list", ""},
		{"not whole", "weights: {blue: 99.5, green: 0.5}\n",
			file + ":3: weights.blue must be a whole number, found 99.5\n" + file + ":3: weights.green must be a whole number, found 0.5", ""},
		{"quoted", "weights: {blue: \"100\"}\n", file + `:3: weights.blue must be a whole number, found "100"`, "remove the quotes"},
		{"odd notation", "weights: {blue: 0x64}\n", file + ":3: weights.blue must be a whole number, found 0x64", ""},
		{"huge", "weights: {blue: 99999999999999999999}\n", file + ":3: weights.blue must be a whole number, found 99999999999999999999", ""},
		{"mirror of an unlisted tag", "weights: {blue: 100}\nmirror: {green: 5}\n",
			file + `:4: mirror names tag "green", which weights do not list`, "list green with weight 0, so that its pods run"},
		{"mirror of an unknown tag", "weights: {blue: 100}\nmirror: {grene: 5}\n",
			file + `:4: mirror names tag "grene", which has no overlay (did you mean "green"?)`, "known tags: blue, green, red"},
		{"mirror of a weighted tag", "weights: {blue: 90, green: 10}\nmirror: {green: 5}\n",
			file + `:4: mirror names tag "green", which has weight 10: it would see the same requests twice`, "mirror to a tag of weight 0, or give the tag no mirror"},
		{"mirror percent", "weights: {blue: 100, green: 0, red: 0}\nmirror: {green: 0, red: 101}\n",
			file + ":4: mirror of green must be 1 to 100 percent, found 0\n" + file + ":4: mirror of red must be 1 to 100 percent, found 101", "a mirror copies that percentage of production requests"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := decodeKind("Traffic", []byte(header+"Traffic\n"+test.data))
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
		})
	}
}

func TestDecodeTraffic(t *testing.T) {
	got, err := decodeTraffic("traffic.yaml", []string{"blue", "green", "red"},
		[]byte(header+"Traffic\nweights: {red: 0, blue: 100, green: 0}\nmirror:\n  green: 5\n"))
	require.NoError(t, err)
	assert.Equal(t, Traffic{Weights: []Weight{{"red", 0}, {"blue", 100}, {"green", 0}}, Mirrors: []Weight{{"green", 5}}}, got)
	assert.Equal(t, "red=0, blue=100, green=0, mirror green=5", got.String())
	percent, listed := got.Weight("red")
	assert.Equal(t, 0, percent)
	assert.True(t, listed)
	_, listed = got.Weight("pink")
	assert.False(t, listed)
}

func TestDecodeBuildErrors(t *testing.T) {
	build := func(rest string) string {
		return header + "Build\ncomponent: api\nimage: a/b\ndigest: " + digestA + "\n" + rest
	}
	const file = "builds/api/1111aaaa2222.yaml"
	for _, test := range []struct{ name, data, want, hint string }{
		{"nothing", header + "Build\n", file + ":1: missing required field \"component\" in Build\n" +
			file + ":1: missing required field \"image\" in Build\n" + file + ":1: missing required field \"digest\" in Build", ""},
		{"another component", header + "Build\ncomponent: web\nimage: a/b\ndigest: " + digestA + "\n",
			file + `:3: component is "web", but the folder is builds/api`, "move the file or correct the field"},
		{"another digest", header + "Build\ncomponent: api\nimage: a/b\ndigest: " + digestB + "\n",
			file + ":5: digest starts with 1111bbbb2222, but the file is 1111aaaa2222.yaml", "the file is named by the digest's first 12 hex digits"},
		{"tag for digest", header + "Build\ncomponent: api\nimage: a/b\ndigest: v1.2\n",
			file + `:5: digest "v1.2" must be a digest: sha256: and 64 lower-case hex digits`, ""},
		{"short digest", header + "Build\ncomponent: api\nimage: a/b\ndigest: sha256:1111aaaa2222\n",
			file + `:5: digest "sha256:1111aaaa2222" must be a digest: sha256: and 64 lower-case hex digits`, ""},
		{"time", build("createdAt: yesterday\n"), file + `:6: createdAt must be a time such as 2026-11-21T10:00:00Z, found "yesterday"`, ""},
		{"date only", build("createdAt: 2026-11-21\n"), file + `:6: createdAt must be a time such as 2026-11-21T10:00:00Z, found 2026-11-21`, ""},
		{"run id is a number", build("run: {id: 8841}\n"), file + ":6: run.id must be a string, found 8841", `quote it: "8841"`},
		{"checks", build("checks:\n- {name: trivy, status: passed}\n- {name: trivy, status: Passed!}\n- {nam: x}\n"),
			file + `:8: checks[1].status "Passed!" must be a word such as passed or failed
` + file + `:8: checks[1].name "trivy" is already the check of line 7
` + file + `:9: unknown field "nam" in Build checks[2] (did you mean "name"?)
` + file + `:9: missing required field "name" in Build checks[2]
` + file + `:9: missing required field "status" in Build checks[2]`, "remove one of them"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := decodeKind("Build", []byte(test.data))
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
		})
	}
}

func TestFileErrors(t *testing.T) {
	err := decodeKind("Traffic", []byte(header+"Traffic\nwieghts: {blue: 100}\n"))
	var several *FileErrors
	require.ErrorAs(t, err, &several)
	require.Len(t, several.Problems, 2)
	p := several.Problems[1]
	assert.Equal(t, "environments/production/api/traffic.yaml", p.File)
	assert.Equal(t, 3, p.Line)
	assert.Equal(t, "wieghts", p.Field)
	var one *FileError
	require.ErrorAs(t, err, &one)
	assert.Equal(t, several.Problems[0], one)
	assert.NotErrorIs(t, err, errors.ErrUnsupported)
}

func TestNearest(t *testing.T) {
	known := []string{"development", "staging", "production"}
	for name, want := range map[string]string{
		"developement": "development", "dev": "development", "prod": "production", "stagign": "staging", "production": "",
		"xyz": "", "": "", "s": "", "Staging": "staging",
	} {
		assert.Equal(t, want, Nearest(name, known), name)
	}
	assert.Empty(t, Nearest("api", []string{"api-a", "api-b"}), "two are equally near by their start")
	assert.Equal(t, "a, b and 1 more", strings.Replace(abbreviate(append([]string{"a", "b"}, make([]string, 11)...)), strings.Repeat(", ", 10), "", 1))
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		30 * time.Minute: "30m", time.Hour: "1h", 90 * time.Minute: "1h30m", 15 * time.Second: "15s", 0: "0s",
		time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m", 20 * time.Hour: "20h", 100 * time.Second: "1m40s",
	} {
		assert.Equal(t, want, formatDuration(d))
	}
}

// A duration that cannot be is an error of its line, not of the program: Flux
// CVE-2022-39272.
func TestAttackDurations(t *testing.T) {
	for _, value := range []string{"-1h", "1e999h", "9999999999999h", "NaNs", strings.Repeat("1h", 10_000), "0x10s", "1h\x00", "9223372036854775807ns", "[5m]", "{a: 5m}", "null", "''"} {
		quoted := value
		if !strings.ContainsAny(value, "[{'") && value != "null" {
			quoted = strconv.Quote(value)
		}
		for kind, text := range map[string]string{
			"Component": "metadata: {name: api}\nimage: example.com/api\nhealthTimeout: " + quoted + "\n",
			"Project": "metadata: {name: shop}\nenvironments:\n- {name: a, namespace: a}\n- name: b\n  namespace: b\n  traffic: {drain: " + quoted + "}\n" +
				"  promotion: {gates: {soak: " + quoted + "}}\n",
		} {
			err := decodeKind(kind, []byte(header+kind+"\n"+text))
			require.ErrorContains(t, err, "must be", "%s: %.40s", kind, value)
			assert.Less(t, len(err.Error()), 1000)
		}
	}
}
