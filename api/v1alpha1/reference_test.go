package v1alpha1

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReferenceListsEveryField keeps docs/reference/release.md complete: every field
// of spec and status has a row of its own, and every row is of a field.
func TestReferenceListsEveryField(t *testing.T) {
	data, err := os.ReadFile("../../docs/reference/release.md")
	require.NoError(t, err)
	var documented []string
	for _, heading := range []string{"\n## Spec\n", "\n## Status\n"} {
		_, section, found := strings.Cut(string(data), heading)
		require.True(t, found, "docs/reference/release.md has no heading %q", heading)
		section, _, _ = strings.Cut(section, "\n## ")
		for _, row := range regexp.MustCompile("(?m)^\\| (`.*?`) \\| (.+) \\|$").FindAllStringSubmatch(section, -1) {
			for _, name := range strings.Split(row[1], ", ") {
				documented = append(documented, strings.ToLower(strings.TrimSpace(heading[3:]))+"."+strings.Trim(name, "`"))
			}
		}
	}
	fields := slices.Concat(fieldsOf("spec", reflect.TypeFor[ReleaseSpec]()), fieldsOf("status", reflect.TypeFor[ReleaseStatus]()))
	assert.ElementsMatch(t, fields, documented)
}

// fieldsOf are the paths of the fields that hold values: of types of this package
// their own fields.
func fieldsOf(path string, t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		if t.Kind() == reflect.Slice {
			path += "[]"
		}
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[Release]().PkgPath() {
		return []string{path}
	}
	var fields []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields = append(fields, fieldsOf(path+"."+name, t.Field(i).Type)...)
	}
	return fields
}
