package envrepo

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The published schemas and the decoder know the same fields and demand the same ones.
func TestSchemasHaveTheDecodersFields(t *testing.T) {
	for kind, want := range map[string]fieldTable{"Project": projectFields, "Component": componentFields, "Traffic": trafficFields, "Build": buildFields} {
		t.Run(kind, func(t *testing.T) {
			data, err := Schema(kind)
			require.NoError(t, err)
			var schema map[string]any
			require.NoError(t, json.Unmarshal(data, &schema))
			assert.Equal(t, "https://json-schema.org/draft/2020-12/schema", schema["$schema"])
			assert.Equal(t, kind, schema["title"])

			got := fieldTable{}
			collect(t, schema, schema, "", got)
			for _, table := range []fieldTable{got, want} {
				for path := range table {
					table[path] = slices.Clone(table[path])
					slices.Sort(table[path])
				}
			}
			sorted := fieldTable{}
			for path, fields := range want {
				sorted[path] = slices.Sorted(slices.Values(fields))
			}
			assert.Equal(t, sorted, got)
		})
	}
	_, err := Schema("Biuld")
	require.EqualError(t, err, `unknown kind "Biuld" (did you mean "Build"?)`)
	assert.Equal(t, "known kinds: Project, Component, Traffic, Build", hint(err))
}

// collect gathers the fields of closed objects and looks every reference up.
func collect(t *testing.T, root, schema map[string]any, path string, fields fieldTable) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		target, ok := root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		require.True(t, ok, ref)
		collect(t, root, target, path, fields)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		collect(t, root, items, path+"[]", fields)
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return
	}
	require.Equal(t, false, schema["additionalProperties"], path)
	for name, property := range properties {
		fields[path] = append(fields[path], name)
		collect(t, root, property.(map[string]any), strings.TrimPrefix(path+"."+name, "."), fields)
	}
	if required, ok := schema["required"].([]any); ok {
		for _, name := range required {
			assert.Contains(t, properties, name)
		}
	}
}

// What the schema requires, the decoder misses when it is left out.
func TestSchemasRequireWhatTheDecoderRequires(t *testing.T) {
	minimal := map[string]map[string]string{
		"Project":   {"metadata": "{name: shop}", "environments": "[{name: a, namespace: a}]"},
		"Component": {"metadata": "{name: api}", "image": "a"},
		"Traffic":   {"weights": "{blue: 100}"},
		"Build":     {"component": "api", "image": "a", "digest": digestA},
	}
	for kind, fields := range minimal {
		fields["apiVersion"], fields["kind"] = APIVersion, kind
		data, err := Schema(kind)
		require.NoError(t, err)
		var schema struct{ Required []string }
		require.NoError(t, json.Unmarshal(data, &schema))
		assert.Len(t, schema.Required, len(fields), kind)
		file := func(without string) []byte {
			var out strings.Builder
			for name, value := range fields {
				if name != without {
					out.WriteString(name + ": " + value + "\n")
				}
			}
			return []byte(out.String())
		}
		require.NoError(t, decodeKind(kind, file("")))
		for _, name := range schema.Required {
			require.ErrorContains(t, decodeKind(kind, file(name)), `missing required field "`+name+`"`)
		}
	}
}
