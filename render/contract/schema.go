package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

// Bounds of a schema and of what is held against it.
const (
	maxSchema = 64 << 10 // bytes of the file
	maxParsed = 4 << 10  // bytes of a value that is read as something else than text
	maxRules  = 10       // of a message
)

// Schema is what a component demands of the values of its configuration: a JSON
// Schema with a property for each key. See [LoadSchema].
type Schema struct {
	file     string
	compiled *jsonschema.Schema
}

// SchemaError says that a component's schema cannot be used.
type SchemaError struct {
	File   string
	Reason string
}

func (e *SchemaError) Error() string { return e.File + ": " + e.Reason }

// Hint tells what to do.
func (e *SchemaError) Hint() string {
	return "a schema of configuration has properties, patternProperties, additionalProperties and $defs; see docs/concepts.md"
}

// Invalid is a plain value that the schema does not allow. It never quotes one.
type Invalid struct {
	Key      string
	Workload string // kind namespace/name, container name
	Rule     string // what is demanded
	Schema   string // the file that demands it
}

func (i Invalid) String() string {
	return fmt.Sprintf("%s: %s %s (%s)", i.Workload, i.Key, i.Rule, i.Schema)
}

// LoadSchema reads the schema that component.yaml names; nil when it names none.
// Every error is a *SchemaError. It resolves no reference out of the file.
func LoadSchema(files fs.FS, component envrepo.Component) (s *Schema, err error) {
	file := component.ConfigSchema
	if file == "" {
		return nil, nil
	}
	fail := func(format string, args ...any) (*Schema, error) {
		return nil, &SchemaError{File: file, Reason: fmt.Sprintf(format, args...)}
	}
	defer func() {
		if recover() != nil {
			s, err = fail("is not a JSON Schema (a library panicked on it)")
		}
	}()
	info, err := fs.Stat(files, file)
	if err != nil {
		return fail("does not exist, and component.yaml names it as config.schema")
	}
	if info.Size() > maxSchema {
		return fail("is larger than %d KiB", maxSchema>>10)
	}
	data, err := fs.ReadFile(files, file)
	if err != nil {
		return fail("cannot be read: %v", err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		return fail("is not valid JSON")
	}
	if reason := checkSchema(document); reason != "" {
		return fail("%s", reason)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	compiler.AssertFormat()
	if err := compiler.AddResource(schemaURL, document); err != nil {
		return fail("is not a JSON Schema")
	}
	compiled, err := compiler.Compile(schemaURL)
	if err != nil {
		return fail("is not a JSON Schema: %s", strings.ReplaceAll(err.Error(), schemaURL, file))
	}
	return &Schema{file: file, compiled: compiled}, nil
}

// schemaURL stands for the file in the compiler, which knows only URLs.
const schemaURL = "schema:///config"

// noLoader loads nothing: a schema is one file.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(string) (any, error) {
	return nil, errors.New("a reference out of the file is not followed")
}

var (
	topKeywords = []string{"$schema", "$comment", "$defs", "title", "description", "type", "properties", "patternProperties", "additionalProperties"}
	dialects    = regexp.MustCompile(`^https?://json-schema\.org/(draft-0[467]|draft/20(19-09|20-12))/schema#?$`)
	ownRef      = regexp.MustCompile(`^#/\$defs/[^/%~]+$`)
)

// checkSchema refuses what could not be judged value by value, as secret values are
// not known; references out of the file; and chains of references, by which a small
// schema can demand any amount of work.
func checkSchema(document any) string {
	top, ok := document.(map[string]any)
	if !ok {
		return "is not an object"
	}
	for _, name := range slices.Sorted(maps.Keys(top)) {
		if !slices.Contains(topKeywords, name) {
			return fmt.Sprintf("%q is not supported here: values are judged one by one (what is required stands in config.required)", name)
		}
	}
	if t, ok := top["type"]; ok && t != "object" {
		return `its type is not "object"`
	}
	if dialect, ok := top["$schema"].(string); top["$schema"] != nil && (!ok || !dialects.MatchString(dialect)) {
		return "its $schema is not one of json-schema.org"
	}
	for _, name := range topKeywords[5:] {
		if reason := checkReferences(top[name], false); reason != "" {
			return reason
		}
	}
	return checkReferences(top["$defs"], true)
}

// checkReferences judges the references below v; within $defs there may be none.
func checkReferences(v any, within bool) string {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			text, isText := v[name].(string)
			switch {
			case name == "$ref" && isText && (within || !ownRef.MatchString(text)):
				return fmt.Sprintf("$ref %q is not followed: only one to #/$defs/NAME is, and not from there", shorten(text))
			case isText && slices.Contains([]string{"$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$schema"}, name):
				return name + " is not supported"
			}
			if reason := checkReferences(v[name], within); reason != "" {
				return reason
			}
		}
	case []any:
		for _, item := range v {
			if reason := checkReferences(item, within); reason != "" {
				return reason
			}
		}
	}
	return ""
}

// Check returns the plain values that the containers of the component's image see and
// the schema does not allow, sorted by workload and key. A value of a Secret is never
// looked at, nor one of which a part is among secrets. A nil Schema allows all.
func (s *Schema) Check(objects []*unstructured.Unstructured, image string, secrets []string) (found []Invalid) {
	if s == nil {
		return nil
	}
	for _, v := range views(objects, image) {
		for _, key := range slices.Sorted(maps.Keys(v.plain)) {
			text := v.plain[key]
			if strings.Contains(text, placeholder) || slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(text, secret) }) {
				continue
			}
			if rule := s.rule(key, text); rule != "" {
				found = append(found, Invalid{Key: key, Workload: v.workload, Rule: rule, Schema: s.file})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Invalid) int { return strings.Compare(a.Workload, b.Workload) })
	return found
}

// placeholder is what a keyless rendering has instead of a decrypted value.
const placeholder = "(encrypted)"

// rule is what a value violates; "" when nothing.
func (s *Schema) rule(key, text string) (rule string) {
	defer func() {
		if recover() != nil {
			rule = "cannot be judged (a library panicked on its schema)"
		}
	}()
	var schemas []*jsonschema.Schema
	if own := s.compiled.Properties[key]; own != nil {
		schemas = append(schemas, own)
	}
	for pattern, own := range s.compiled.PatternProperties {
		if pattern.MatchString(key) {
			schemas = append(schemas, own)
		}
	}
	if len(schemas) == 0 {
		switch other := s.compiled.AdditionalProperties.(type) {
		case bool:
			if !other {
				return "is not among the keys of the schema"
			}
		case *jsonschema.Schema:
			schemas = append(schemas, other)
		}
	}
	var rules []string
	for _, own := range schemas {
		var invalid *jsonschema.ValidationError
		if err := own.Validate(valueFor(own, text)); errors.As(err, &invalid) {
			rules = append(rules, violated(invalid)...)
		}
	}
	slices.Sort(rules)
	rules = slices.Compact(rules)
	return strings.Join(rules[:min(len(rules), maxRules)], ", ")
}

// valueFor is a value as its schema wants it. Configuration is text: where text is not
// among the types that the schema allows, it is read as JSON, so that 8080 is an
// integer and true a boolean.
func valueFor(s *jsonschema.Schema, text string) any {
	for range 2 { // a reference, which leads to none
		if s.Types == nil && s.Ref != nil {
			s = s.Ref
		}
	}
	if s.Types == nil || slices.Contains(s.Types.ToStrings(), "string") || len(text) > maxParsed {
		return text
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return text
	}
	return value
}

// violated are the rules at the leaves of an error, in words of our own: those of the
// library quote the value.
func violated(e *jsonschema.ValidationError) (rules []string) {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			rules = append(rules, violated(cause)...)
		}
		return rules
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return []string{"must be of type " + strings.Join(k.Want, " or ")}
	case *kind.Enum:
		return []string{"must be one of " + allowed(k.Want)}
	case *kind.Const:
		return []string{"must be " + allowed([]any{k.Want})}
	case *kind.Pattern:
		return []string{fmt.Sprintf("must match %q", shorten(k.Want))}
	case *kind.Format:
		return []string{"must be of format " + shorten(k.Want)}
	case *kind.Minimum:
		return []string{"must be at least " + k.Want.RatString()}
	case *kind.Maximum:
		return []string{"must be at most " + k.Want.RatString()}
	case *kind.MinLength:
		return []string{fmt.Sprintf("must have at least %d characters", k.Want)}
	case *kind.MaxLength:
		return []string{fmt.Sprintf("must have at most %d characters", k.Want)}
	}
	path := e.ErrorKind.KeywordPath()
	if len(path) == 0 {
		return []string{"is not allowed"}
	}
	return []string{"violates " + path[len(path)-1]}
}

// allowed lists values of a schema.
func allowed(values []any) string {
	var texts []string
	for _, v := range values[:min(len(values), maxRules)] {
		text, _ := json.Marshal(v) // came out of JSON
		texts = append(texts, shorten(string(text)))
	}
	if len(values) > maxRules {
		texts = append(texts, "…")
	}
	return strings.Join(texts, ", ")
}

func shorten(s string) string {
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
