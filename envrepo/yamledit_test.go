package envrepo

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// OLD and NEW stand for digests. Everything else must come out as it went in.
func TestDigestEdits(t *testing.T) {
	const img = "registry.example.com/shop/api"
	for _, test := range []struct{ name, before, after string }{
		{"block", "images:\n- name: IMG\n  digest: OLD\n", "images:\n- name: IMG\n  digest: NEW\n"},
		{"no line break at the end", "images:\n- name: IMG\n  digest: OLD", "images:\n- name: IMG\n  digest: NEW"},
		{"comments and blank lines everywhere",
			"# top\n\nimages:   # list\n\n# head\n-   name: IMG # n\n\n    # before\n    digest:    OLD   # after\n\n# tail\n",
			"# top\n\nimages:   # list\n\n# head\n-   name: IMG # n\n\n    # before\n    digest:    NEW   # after\n\n# tail\n"},
		{"digest first, wide indentation", "images:\n    -   digest: OLD\n        name: IMG\n", "images:\n    -   digest: NEW\n        name: IMG\n"},
		{"dash on a line of its own", "images:\n-\n  name: IMG\n  digest: OLD\n", "images:\n-\n  name: IMG\n  digest: NEW\n"},
		{"value on the next line", "images:\n- name: IMG\n  digest:\n    OLD\n", "images:\n- name: IMG\n  digest:\n    NEW\n"},
		{"double quotes", "images:\n- \"name\": \"IMG\"\n  \"digest\": \"OLD\"\n", "images:\n- \"name\": \"IMG\"\n  \"digest\": \"NEW\"\n"},
		{"single quotes", "images: [{name: 'IMG', digest: 'OLD'}]\n", "images: [{name: 'IMG', digest: 'NEW'}]\n"},
		{"flow", "images: [ {digest: OLD , name: IMG} , {name: other, newTag: v1} ]\n", "images: [ {digest: NEW , name: IMG} , {name: other, newTag: v1} ]\n"},
		{"flow over lines", "images: [\n  {\n    name: IMG,\n    digest: OLD,  # x\n  },\n]\n", "images: [\n  {\n    name: IMG,\n    digest: NEW,  # x\n  },\n]\n"},
		{"JSON", "{\"images\":[{\"name\":\"IMG\",\"digest\":\"OLD\"}],\"namespace\":\"a\"}", "{\"images\":[{\"name\":\"IMG\",\"digest\":\"NEW\"}],\"namespace\":\"a\"}"},
		{"JSON with tabs", "{\n\t\"images\": [\n\t\t{\"name\": \"IMG\", \"digest\": \"OLD\"}\n\t]\n}\n", "{\n\t\"images\": [\n\t\t{\"name\": \"IMG\", \"digest\": \"NEW\"}\n\t]\n}\n"},
		{"complex keys", "? images\n: - ? name\n    : IMG\n    ? digest\n    : OLD\n", "? images\n: - ? name\n    : IMG\n    ? digest\n    : NEW\n"},
		{"Windows line breaks", "images:\r\n- name: IMG\r\n  digest: OLD\r\n", "images:\r\n- name: IMG\r\n  digest: NEW\r\n"},
		{"byte order mark", "\uFEFFimages:\n- name: IMG\n  digest: OLD\n", "\uFEFFimages:\n- name: IMG\n  digest: NEW\n"},
		{"other line breaks and letters", "# é\u0085# 日本\u2028images: [{name: IMG, x: 'ünïcödé 日本', digest: OLD}] # ü\n", "# é\u0085# 日本\u2028images: [{name: IMG, x: 'ünïcödé 日本', digest: NEW}] # ü\n"},
		{"document markers", "%YAML 1.1\n---\nimages:\n- name: IMG\n  digest: OLD\n...\n", "%YAML 1.1\n---\nimages:\n- name: IMG\n  digest: NEW\n...\n"},
		{"the digest elsewhere too", "# OLD\nimages:\n- name: other\n  digest: OLD\n- name: IMG\n  digest: OLD # OLD\nx: OLD\n",
			"# OLD\nimages:\n- name: other\n  digest: OLD\n- name: IMG\n  digest: NEW # OLD\nx: OLD\n"},
		{"behind a block scalar", "x: |2\n    images:\n  - name: IMG\nimages:\n- name: IMG\n  digest: OLD\n", "x: |2\n    images:\n  - name: IMG\nimages:\n- name: IMG\n  digest: NEW\n"},
		{"anchors elsewhere", "x: &a {b: c}\ny: *a\nimages:\n- &i\n  name: IMG\n  digest: OLD\n", "x: &a {b: c}\ny: *a\nimages:\n- &i\n  name: IMG\n  digest: NEW\n"},

		{"first digest", "images:\n- name: IMG # ours\n- name: other\n  digest: OLD\n", "images:\n- name: IMG # ours\n  digest: NEW\n- name: other\n  digest: OLD\n"},
		{"first digest, no line break at the end", "images:\n  - name: IMG", "images:\n  - name: IMG\n    digest: NEW\n"},
		{"first digest, Windows line breaks", "images:\r\n- name: IMG\r\nx: y\r\n", "images:\r\n- name: IMG\r\n  digest: NEW\r\nx: y\r\n"},
		{"first digest, flow", "images: [{name: IMG}, {name: b}] # x\n", "images: [{name: IMG, digest: NEW}, {name: b}] # x\n"},
		{"first digest, flow with comma", "images: [{name: IMG, }]\n", "images: [{name: IMG, digest: NEW, }]\n"},
		{"first digest, flow over lines", "images:\n- {\n    name: IMG # ours\n  }\n", "images:\n- {\n    name: IMG, # ours\n    digest: NEW\n  }\n"},
		{"first digest, JSON", "{\"images\":[{\"name\":\"IMG\"}]}\n", "{\"images\":[{\"name\":\"IMG\", \"digest\": \"NEW\"}]}\n"},
		{"first entry", "resources: [a]\n", "resources: [a]\nimages:\n- name: IMG\n  digest: NEW\n"},
		{"first entry, indented as the others", "resources:\n  - a\n# end\n\n", "resources:\n  - a\n# end\nimages:\n  - name: IMG\n    digest: NEW\n\n"},
		{"first entry, not indented as the others", "resources:\n- a", "resources:\n- a\nimages:\n- name: IMG\n  digest: NEW\n"},
		{"first entry before the end marker", "resources: [a]\n...\n", "resources: [a]\nimages:\n- name: IMG\n  digest: NEW\n...\n"},
		{"first entry after a block scalar", "x: |\n  images:\n\n  y\n", "x: |\n  images:\n\n  y\nimages:\n- name: IMG\n  digest: NEW\n"},
		{"first entry, indented document", "  resources: [a]\n", "  resources: [a]\n  images:\n  - name: IMG\n    digest: NEW\n"},
		{"first entry, JSON", "{\"resources\":[\"a\"]}", "{\"resources\":[\"a\"], \"images\": [{\"name\": \"IMG\", \"digest\": \"NEW\"}]}"},
		{"first entry behind every kind of scalar",
			"{a: 'it''s, [', \"b\": \"q\\\"}, {\", c: two\n  words  there, d: , e: it's, f: [x, {y}], g: ~, h: &i {}, 'j': &k l}\n",
			"{a: 'it''s, [', \"b\": \"q\\\"}, {\", c: two\n  words  there, d: , e: it's, f: [x, {y}], g: ~, h: &i {}, 'j': &k l, images: [{name: IMG, digest: 'NEW'}]}\n"},
		{"first entry behind a quoted value over lines", "{a: \"one\n  two\", b: 'three\n  four'} # x\n", "{a: \"one\n  two\", b: 'three\n  four', images: [{name: IMG, digest: 'NEW'}]} # x\n"},
		{"empty list", "images: [] # none yet\nx: y\n", "images: [{name: IMG, digest: 'NEW'}] # none yet\nx: y\n"},
		{"empty document", "{}\n", "{images: [{name: IMG, digest: 'NEW'}]}\n"},

		// No way in place: printed anew, comments and order kept.
		{"empty field", "images: # none yet\nx:   y\n", "images: # none yet\n- name: IMG\n  digest: NEW\nx: y\n"},
		{"explicit tag", "images:\n- name: IMG\n  digest:   !!str OLD # x\n", "images:\n- name: IMG\n  digest: NEW # x\n"},
		{"block scalar as the digest", "images:\n- name: IMG\n  digest: >-\n    OLD\nx:   y\n", "images:\n- name: IMG\n  digest: NEW\nx: y\n"},
		{"an alias for the digest", "a: &d OLD\nimages:\n    - name: IMG\n      digest: *d\n", "a: &d OLD\nimages:\n  - name: IMG\n    digest: NEW\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fill := strings.NewReplacer("IMG", img, "OLD", digestA, "NEW", digestB)
			before, after := fill.Replace(test.before), fill.Replace(test.after)
			got, err := withDigest("kustomization.yaml", []byte(before), img, digestB)
			require.NoError(t, err)
			assert.Equal(t, after, string(got))
			again, err := withDigest("kustomization.yaml", got, img, digestB)
			require.NoError(t, err)
			assert.Equal(t, after, string(again), "a second time")
		})
	}
}

func TestDigestEditsThatFail(t *testing.T) {
	for before, want := range map[string]string{
		"images: [{name: other}]\n":                                  `kustomization.yaml:1: images entry "other" pins nothing: the component's image is "registry.example.com/shop/api"`,
		"images: [{name: registry.example.com/shop/api, newTag: a}]": `kustomization.yaml:1: registry.example.com/shop/api is pinned by tag "a": a digest is due`,
		"- a\n":       "kustomization.yaml:1: must be a mapping, found a list",
		"a: [\n":      "kustomization.yaml:2: parsing YAML: did not find expected node content",
		"a: b\t: c\n": "kustomization.yaml: parsing YAML: mapping values are not allowed in this context",
		// The digest is used elsewhere: it cannot change here alone.
		"images: [{name: registry.example.com/shop/api, digest: &d " + digestA + "}]\nx: *d\n": "x",
	} {
		_, err := withDigest("kustomization.yaml", []byte(before), image, digestB)
		require.Error(t, err, before)
		if want != "x" {
			assert.EqualError(t, err, want)
		}
	}
}

func TestTrafficEdits(t *testing.T) {
	blue100 := Traffic{Weights: []Weight{{"blue", 100}, {"green", 0}}}
	split := Traffic{Weights: []Weight{{"green", 10}, {"blue", 90}}}
	alone := Traffic{Weights: []Weight{{"blue", 100}}}
	three := Traffic{Weights: []Weight{{"blue", 80}, {"green", 10}, {"red", 10}}}
	swapped := Traffic{Weights: []Weight{{"blue", 0}, {"red", 100}}}
	others := Traffic{Weights: []Weight{{"red", 60}, {"pink", 40}}}
	mirrored := Traffic{Weights: []Weight{{"blue", 100}, {"green", 0}}, Mirrors: []Weight{{"green", 5}}}
	const flow = "# h\nweights: {blue: 100, green: 0}     # integers\n"
	const block = "weights:\n  # stable\n  blue: 100   # b\n\n  # canary\n  green: 0\n"
	const lines = "weights: {\n  blue: 100, # b\n  green: 0\n}\n"
	for _, test := range []struct {
		name, before string
		want         Traffic
		after        string
	}{
		{"flow: shift", flow, split, "# h\nweights: {blue: 90, green: 10}     # integers\n"},
		{"flow: drop the last", flow, alone, "# h\nweights: {blue: 100}     # integers\n"},
		{"flow: drop the first", "weights: { green: 0 , blue: 100 }\n", alone, "weights: { blue: 100 }\n"},
		{"flow: add", flow, three, "# h\nweights: {blue: 80, green: 10, red: 10}     # integers\n"},
		{"flow: drop and add", flow, swapped, "# h\nweights: {blue: 0, red: 100}     # integers\n"},
		{"flow: all others", flow, others, "# h\nweights: {red: 60, pink: 40}     # integers\n"},
		{"flow: drop between", "weights: {blue: 0, green: 100, red: 0}\n", swapped, "weights: {blue: 0, red: 100}\n"},
		{"flow: drop two at the end", "weights: {blue: 50, green: 0, red: 50}\n", alone, "weights: {blue: 100}\n"},
		{"flow: comma at the end", "weights: {blue: 50, green: 50,}\n", alone, "weights: {blue: 100,}\n"},
		{"flow: add after a comma at the end", "weights: {blue: 50, green: 50, }\n", three, "weights: {blue: 80, green: 10, red: 10, }\n"},
		{"block: shift", block, split, "weights:\n  # stable\n  blue: 90   # b\n\n  # canary\n  green: 10\n"},
		{"block: drop", block, alone, "weights:\n  # stable\n  blue: 100   # b\n\n  # canary\n"},
		{"block: add", block, three, "weights:\n  # stable\n  blue: 80   # b\n\n  # canary\n  green: 10\n  red: 10\n"},
		{"block: drop and add", block, swapped, "weights:\n  # stable\n  blue: 0   # b\n  red: 100\n\n  # canary\n"},
		{"block: all others", block, others, "weights:\n  # stable\n\n  # canary\n  red: 60\n  pink: 40\n"},
		{"block: no line break at the end", "weights:\n    blue: 100\n    green: 0", three, "weights:\n    blue: 80\n    green: 10\n    red: 10\n"},
		{"lines: shift", lines, split, "weights: {\n  blue: 90, # b\n  green: 10\n}\n"},
		{"lines: drop the last", lines, alone, "weights: {\n  blue: 100 # b\n}\n"},
		{"lines: drop the first", "weights: {\n  green: 0, # g\n  blue: 100\n}\n", alone, "weights: {\n  blue: 100\n}\n"},
		{"lines: add", lines, three, "weights: {\n  blue: 80, # b\n  green: 10,\n  red: 10\n}\n"},
		{"lines: add with comma", "weights: {\n  blue: 100,\n  green: 0, # g\n}\n", three, "weights: {\n  blue: 80,\n  green: 10, # g\n  red: 10,\n}\n"},
		{"lines: drop and add", lines, swapped, "weights: {\n  blue: 0, # b\n  red: 100\n}\n"},
		{"lines: bracket on the last line", "weights: {\n  blue: 100,\n  green: 0}\n", three, "weights: {\n  blue: 80,\n  green: 10, red: 10}\n"},
		{"JSON", `{"weights":{"blue":100,"green":0}}`, three, `{"weights":{"blue":80,"green":10, "red": 10}}`},
		{"quoted tags", "weights: {'blue': 100, \"green\": 0}\n", split, "weights: {'blue': 90, \"green\": 10}\n"},
		{"same", flow, blue100, flow},

		{"mirror: add in flow", flow, mirrored, flow + "mirror: {green: 5}\n"},
		{"mirror: add in block", block, mirrored, block + "mirror:\n  green: 5\n"},
		{"mirror: add in JSON", `{"weights":{"blue":100,"green":0}}`, mirrored, `{"weights":{"blue":100,"green":0}, "mirror": {"green": 5}}`},
		{"mirror: change", flow + "mirror: {green: 1}\n", mirrored, flow + "mirror: {green: 5}\n"},
		{"mirror: fill", flow + "mirror: {} # nobody\n", mirrored, flow + "mirror: {green: 5} # nobody\n"},
		{"mirror: clear", flow + "mirror: {green: 5}\n# end\n", split, "# h\nweights: {blue: 90, green: 10}     # integers\n# end\n"},
		{"mirror: clear, its comment stays", flow + "mirror: {green: 5}   # copies\n", blue100, flow + "mirror: {}   # copies\n"},
		{"mirror: clear in block", "mirror:\n  green: 5\n" + block, blue100, block},
		{"mirror: clear in JSON", `{"weights":{"blue":100,"green":0}, "mirror": {"green": 5}}`, blue100, `{"weights":{"blue":100,"green":0}}`},
		{"mirror: another", flow + "mirror: {green: 5}\n", Traffic{Weights: []Weight{{"blue", 100}, {"green", 0}, {"red", 0}}, Mirrors: []Weight{{"red", 7}}},
			"# h\nweights: {blue: 100, green: 0, red: 0}     # integers\nmirror: {red: 7}\n"},

		{"repair the sum", "weights: {blue: 1, green: 1}\n", split, "weights: {blue: 90, green: 10}\n"},
		{"repair a lost tag", "weights: {gone: 100}\n", alone, "weights: {blue: 100}\n"},
		{"repair quotes", "weights: {blue: '100'}\n", alone, "weights: {blue: 100}\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			head := strings.ReplaceAll(header, "\n", "\r\n")
			tags := []string{"blue", "green", "pink", "red"}
			for name, convert := range map[string]func(string) string{
				"unix":    func(s string) string { return s },
				"windows": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
			} {
				wrap := func(s string) []byte {
					if rest, ok := strings.CutPrefix(s, "{"); ok {
						return []byte(`{"apiVersion":"sluice.dev/v1alpha1","kind":"Traffic",` + rest)
					}
					if name == "windows" {
						return []byte(head + "Traffic\r\n" + convert(s))
					}
					return []byte(header + "Traffic\n" + s)
				}
				if strings.HasPrefix(test.before, "{") && name == "windows" {
					continue
				}
				got, err := withTraffic("traffic.yaml", wrap(test.before), tags, test.want)
				require.NoError(t, err)
				assert.Equal(t, string(wrap(test.after)), string(got), name)
			}
		})
	}
}

func TestTrafficEditsThatFail(t *testing.T) {
	for before, want := range map[string]string{
		header + "Traffic\n":                                    `traffic.yaml:1: missing required field "weights" in Traffic`,
		header + "Traffic\nweights: [a]\n":                      "traffic.yaml:3: weights must be a mapping, found a list",
		header + "Traffic\nweights: {blue: 100}\nmirror: 5\n":   "traffic.yaml:4: mirror must be a mapping, found 5",
		header + "Traffic\nweights: {blue: 1}\ncolor: red\n":    `traffic.yaml:4: unknown field "color" in Traffic`,
		header + "Traffic\nweights: {blue: 1, blue: 2}\n":       `traffic.yaml:3: duplicate field "blue" in Traffic weights, first given in line 3`,
		header + "Traffic\nweights: &w {blue: 1}\nmirror: *w\n": "",
		header + "Project\nweights: {blue: 100}\n":              `traffic.yaml:2: kind must be Traffic, found "Project"`,
		"- a\n": "traffic.yaml:1: must be a mapping, found a list",
	} {
		_, err := withTraffic("traffic.yaml", []byte(before), []string{"blue"}, Traffic{Weights: []Weight{{"blue", 100}}})
		require.Error(t, err, before)
		if want != "" {
			assert.EqualError(t, err, want)
		}
	}
}
