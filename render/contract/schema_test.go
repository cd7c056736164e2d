package contract

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
)

const schemaFile = "components/api/config.schema.json"

var withSchema = envrepo.Component{Name: "api", Image: image, ConfigSchema: schemaFile}

func load(t testing.TB, text string) (*Schema, error) {
	t.Helper()
	s, err := LoadSchema(fstest.MapFS{schemaFile: {Data: []byte(text)}}, withSchema)
	if err != nil {
		var schema *SchemaError
		require.ErrorAs(t, err, &schema)
		require.NotEmpty(t, schema.Hint())
	}
	return s, err
}

func TestSchemaJudgesPlainValues(t *testing.T) {
	const all = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
  "properties": {
    "LOG_LEVEL": {"enum": ["debug", "info"]},
    "CACHE_ADDR": {"type": "string", "pattern": "^[a-z]+:[0-9]+$"},
    "PORT": {"$ref": "#/$defs/port"}, "VERBOSE": {"type": "boolean"}, "LIMITS": {"type": "object", "required": ["cpu"]},
    "URL": {"type": "string", "format": "uri"}, "NAME": {"minLength": 3, "maxLength": 5}, "MODE": {"const": "x"}, "SUM": {"anyOf": [{"type": "integer"}, {"const": "auto"}]},
    "DATABASE_URL": {"const": "never judged"}
  },
  "patternProperties": {"_TIMEOUT$": {"type": "number", "exclusiveMinimum": 0}},
  "$defs": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}}
}`
	const at = "Deployment shop/api, container api: "
	env := func(name, value string) string { return fmt.Sprintf("env: [{name: %s, value: %q}]", name, value) }
	for _, test := range []struct{ container, want string }{
		{"env: []", ""},
		{env("PORT", "8080"), ""},
		{env("PORT", "80801"), "PORT must be at most 65535"},
		{env("PORT", "0"), "PORT must be at least 1"},
		{env("PORT", "http"), "PORT must be of type integer"},
		{env("PORT", "8.5"), "PORT must be of type integer"},
		{env("VERBOSE", "true"), ""},
		{env("VERBOSE", "yes"), "VERBOSE must be of type boolean"},
		{env("LOG_LEVEL", "info"), ""},
		{env("LOG_LEVEL", "warn"), `LOG_LEVEL must be one of "debug", "info"`},
		{env("LIMITS", `{"cpu": 1}`), ""},
		{env("LIMITS", `{}`), "LIMITS violates required"},
		{env("LIMITS", `{"cpu": `+strings.Repeat("1", maxParsed)+`}`), "LIMITS must be of type object"},
		{env("READ_TIMEOUT", "0.5"), ""},
		{env("READ_TIMEOUT", "0"), "READ_TIMEOUT violates exclusiveMinimum"},
		{env("URL", "not a uri"), "URL must be of format uri"},
		{env("NAME", "ab"), "NAME must have at least 3 characters"},
		{env("NAME", "abcdef"), "NAME must have at most 5 characters"},
		{env("MODE", "y"), `MODE must be "x"`},
		{env("SUM", "auto"), ""},
		{env("OTHER", "anything"), ""},
		{env("PORT", "$(OTHER)"), ""}, // Kubernetes expands it
		{"env: [{name: PORT, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", ""},
		{"env: [{name: PORT, valueFrom: {configMapKeyRef: {name: api-config, key: CACHE_ADDR}}}]", "PORT must be of type integer"},
		{"env: [{name: PORT, valueFrom: {secretKeyRef: {name: api-secrets, key: TOKEN}}}]", ""},
		{"envFrom: [{configMapRef: {name: api-config}}]", `LOG_LEVEL must be one of "debug", "info"`},
		{"envFrom: [{configMapRef: {name: api-config}}], " + env("LOG_LEVEL", "info"), ""}, // env goes before
		{"envFrom: [{secretRef: {name: api-secrets}}]", ""},
		{"volumeMounts: [{name: v, mountPath: /v}]", `LOG_LEVEL must be one of "debug", "info"`},
	} {
		s, err := load(t, all)
		require.NoError(t, err)
		got := ""
		for _, i := range s.Check(decode(t, deployment(test.container, "{name: v, configMap: {name: api-config}}")), image, nil) {
			got += strings.TrimPrefix(i.String(), at) + "\n"
		}
		if test.want != "" {
			test.want += " (" + schemaFile + ")\n"
		}
		assert.Equal(t, test.want, got, test.container)
	}
}

func TestSchemaJudgesNoSecret(t *testing.T) {
	s, err := load(t, `{"properties": {"A": {"const": "x"}}}`)
	require.NoError(t, err)
	objects := decode(t, deployment(`env: [{name: A, value: "at hunter2:1"}]`, ""))
	assert.Len(t, s.Check(objects, image, nil), 1)
	assert.NotContains(t, s.Check(objects, image, nil)[0].String(), "hunter2", "no value is quoted")
	assert.Empty(t, s.Check(objects, image, []string{"hunter2"}), "a kind that may hold decrypted values")
	assert.Empty(t, s.Check(decode(t, deployment(`env: [{name: A, value: (encrypted)}]`, "")), image, nil), "a rendering without keys")

	closed, err := load(t, `{"properties": {"A": {}}, "additionalProperties": false}`)
	require.NoError(t, err)
	found := closed.Check(decode(t, deployment("envFrom: [{secretRef: {name: api-secrets}}], env: [{name: A, value: a}, {name: B, value: b}]", "")), image, nil)
	require.Len(t, found, 1)
	assert.Equal(t, "is not among the keys of the schema", found[0].Rule)
	var none *Schema
	assert.Empty(t, none.Check(objects, image, nil))
}

func TestSchemasThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{`:    "is not valid JSON",
		`true`: "is not an object",
		`{"properties": {"A": {"type": "text"}}}`:                       "is not a JSON Schema",
		`{"properties": {"A": {"pattern": "(?=x)"}}}`:                   "is not a JSON Schema", // RE2 has no lookahead
		`{"required": ["A"]}`:                                           `"required" is not supported here`,
		`{"if": {}}`:                                                    `"if" is not supported here`,
		`{"type": "array"}`:                                             `its type is not "object"`,
		`{"$schema": "https://example.com/mine"}`:                       "its $schema is not one of json-schema.org",
		`{"properties": {"A": {"$ref": "https://example.com/s.json"}}}`: `$ref "https://example.com/s.json" is not followed`,
		`{"properties": {"A": {"$ref": "file:///etc/passwd"}}}`:         "is not followed",
		`{"properties": {"A": {"$ref": "#"}}}`:                          "is not followed",
		`{"properties": {"A": {"$ref": "#/properties/A"}}}`:             "is not followed",
		`{"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {}}}`: "is not followed: only one to #/$defs/NAME is, and not from there",
		`{"properties": {"A": {"$id": "file:///etc/x"}}}`:               "$id is not supported",
		`{"properties": {"A": {"$dynamicRef": "#x"}}}`:                  "$dynamicRef is not supported",
		`{"properties": {"A": {"$ref": "#/$defs/none"}}}`:               "is not a JSON Schema",
		`{"properties": {` + strings.Repeat(" ", maxSchema) + `}}`:      "is larger than 64 KiB",
		`{"properties": {"A": ` + strings.Repeat(`{"not": `, 20000) + `{}` + strings.Repeat("}", 20000) + "}}": "is larger",
	} {
		_, err := load(t, text)
		assert.ErrorContains(t, err, schemaFile+": ", text[:min(80, len(text))])
		assert.ErrorContains(t, err, want, text[:min(80, len(text))])
	}
	_, err := LoadSchema(fstest.MapFS{}, withSchema)
	assert.EqualError(t, err, schemaFile+": does not exist, and component.yaml names it as config.schema")
	s, err := LoadSchema(fstest.MapFS{}, envrepo.Component{})
	assert.NoError(t, err)
	assert.Nil(t, s)
}

// Whatever a repository has as a schema, it is an error or judges every value in the
// same way twice, and quotes none.
func FuzzSchema(ff *testing.F) {
	f := mutants.New(ff)
	f.Add(`{"properties": {"A": {"type": "integer"}}}`, "8080")
	f.Add(`{"patternProperties": {"^A": {"oneOf": [{"format": "uri"}, {"enum": [1, null]}]}}, "additionalProperties": false}`, "x")
	f.Add(`{"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"A": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"items": {"uniqueItems": true}, "type": "array"}}}`, "[1, 1]")
	f.Fuzz(func(t *testing.T, schema, value string) {
		s, err := load(t, schema)
		if err != nil {
			return
		}
		rule := s.rule("A", value)
		assert.Equal(t, rule, s.rule("A", value))
		if len(value) > 8 && !strings.Contains(schema, value) {
			assert.NotContains(t, rule, value)
		}
	})
}

func TestRemedy(t *testing.T) {
	const dir = "environments/production/api"
	files := fstest.MapFS{dir + "/base/config.env": {Data: []byte("# LOG_LEVEL=x\nLOG_LEVEL=info\nLOG=1\n")}}
	assert.Equal(t, "add it in a clone of the environments repository, commit and push: `echo 'A=…' >> "+dir+"/base/config.env` and `echo 'B=…' >> "+dir+
		"/base/config.env`, or `sluice secrets set "+dir+"/base/secrets.env A` and `sluice secrets set "+dir+"/base/secrets.env B` where it is secret", Remedy(files, dir, "A", "B"))
	assert.Contains(t, Remedy(fstest.MapFS{}, dir, "A"), ">> "+dir+"/config.env`")
	assert.Equal(t, dir+"/base/config.env:2", Declared(files, dir, "LOG_LEVEL"))
	assert.Empty(t, Declared(files, dir, "LEVEL"))
	assert.Empty(t, Declared(fstest.MapFS{}, dir, "LEVEL"))
}
