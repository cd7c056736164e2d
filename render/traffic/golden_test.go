package traffic

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/envrepo"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// request is the section "traffic" of a golden file, one word and its values a line.
type request struct {
	component string
	traffic   envrepo.Traffic
	tags      []string
	support   Support
}

func parseRequest(t testing.TB, text string) request {
	t.Helper()
	var r request
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch words[0] {
		case "component":
			r.component = words[1]
		case "tags":
			r.tags = words[1:]
		case "weights":
			r.traffic.Weights = parseWeights(t, words[1:])
		case "mirror":
			r.traffic.Mirrors = parseWeights(t, words[1:])
		case "class":
			r.support.Class = words[1]
			for _, word := range words[2:] {
				r.support.Known = true
				r.support.PercentageMirror = r.support.PercentageMirror || word == "percentage"
				r.support.MultipleMirrors = r.support.MultipleMirrors || word == "multiple"
			}
		case "missing":
			r.support.Missing = strings.Join(words[1:], " ")
		default:
			t.Fatalf("unknown word %q", words[0])
		}
	}
	return r
}

func parseWeights(t testing.TB, words []string) []envrepo.Weight {
	t.Helper()
	var weights []envrepo.Weight
	for _, word := range words {
		tag, percent, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(percent)
		require.NoError(t, err)
		weights = append(weights, envrepo.Weight{Tag: tag, Percent: n})
	}
	return weights
}

func decode(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, document := range bytes.Split(data, []byte("\n---\n")) {
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		raw, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func encode(t testing.TB, objects []*unstructured.Unstructured) string {
	t.Helper()
	var documents []string
	for _, object := range objects {
		data, err := yaml.Marshal(object.Object)
		require.NoError(t, err)
		documents = append(documents, string(data))
	}
	return strings.Join(documents, "---\n")
}

// TestGolden compares whole objects. Each file in testdata holds input.yaml, the
// request, and want.yaml or the error and hint; some hold in beside.yaml what else
// the release has.
func TestGolden(t *testing.T) {
	validate := validator(t)
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			require.NoError(t, err)
			sections := map[string]string{}
			for _, f := range archive.Files {
				sections[f.Name] = string(f.Data)
			}
			objects, err := decode([]byte(sections["input.yaml"]))
			require.NoError(t, err)
			beside, err := decode([]byte(sections["beside.yaml"]))
			require.NoError(t, err)
			for _, object := range slices.Concat(objects, beside) {
				if !strings.HasPrefix(filepath.Base(file), "error-malformed") {
					validate(t, object)
				}
			}
			r := parseRequest(t, sections["traffic"])

			got, err := Transform(objects, beside, r.component, r.traffic, r.tags, r.support)

			name, text := "want.yaml", encode(t, got)
			if err != nil {
				var hinted interface{ Hint() string }
				require.ErrorAs(t, err, &hinted)
				name, text = "error", "error: "+err.Error()+"\nhint: "+hinted.Hint()+"\n"
			}
			for _, object := range got {
				validate(t, object)
			}
			if *update {
				archive.Files = append(archive.Files[:0], txtar.File{Name: "traffic", Data: []byte(sections["traffic"])},
					txtar.File{Name: "input.yaml", Data: []byte(encode(t, objects))})
				if len(beside) > 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "beside.yaml", Data: []byte(encode(t, beside))})
				}
				archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(text)})
				require.NoError(t, os.WriteFile(file, txtar.Format(archive), 0o644))
				return
			}
			assert.Equal(t, sections["input.yaml"], encode(t, objects), "the input must not change, and stand in the file as the encoder writes it")
			assert.Equal(t, sections["beside.yaml"], encode(t, beside), "nor may what stands beside it")
			assert.Equal(t, sections[name], text)
		})
	}
}

func TestErrorTypes(t *testing.T) {
	var (
		route   = decodeOne(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: api}, spec: {rules: [{backendRefs: [{name: api, port: 80}]}]}}")
		traffic = envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}, {Tag: "green"}}, Mirrors: []envrepo.Weight{{Tag: "green", Percent: 5}}}
	)
	_, err := Transform([]*unstructured.Unstructured{route}, nil, "api", traffic, []string{"blue", "green"}, Support{})
	var unknown *UnknownSupportError
	require.ErrorAs(t, err, &unknown)
	var refused *MirrorError
	assert.False(t, errors.As(err, &refused), "unknown support is told apart from a refusal")

	_, err = Transform([]*unstructured.Unstructured{route}, nil, "api", traffic, []string{"blue", "green"}, Support{Known: true, Class: "example"})
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "green", refused.Tag)

	traffic.Mirrors = nil
	_, err = Transform([]*unstructured.Unstructured{route}, nil, "api", traffic, []string{"blue", "green"}, Support{})
	assert.NoError(t, err, "without mirrors no support is needed")
}

func decodeOne(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	objects, err := decode([]byte(text))
	require.NoError(t, err)
	require.Len(t, objects, 1)
	return objects[0]
}
