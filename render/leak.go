package render

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/render/diff"
)

const ciphertextMark = "ENC[AES256_GCM,"

// field is one string in an object.
type field struct {
	path  []string // of names and [indexes]
	value string
}

func (f field) clone() field { return field{slices.Clone(f.path), f.value} }

func (f field) String() string { return quotePath(f.path) }

// quotePath joins a path so that names with dots stay readable.
func quotePath(path []string) string {
	var b strings.Builder
	for _, p := range path {
		switch {
		case strings.HasPrefix(p, "["):
		case strings.Contains(p, "."):
			p = "[" + p + "]"
		case b.Len() > 0:
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	s := b.String()
	if len(s) > 256 {
		s = strings.ToValidUTF8(s[:256], "") + "…"
	}
	return s
}

// eachString calls visit for every string below v, names of mappings included
// (with the path of the mapping), in a fixed order, until it returns false.
// The path is valid during the call only.
func eachString(v any, visit func(field) bool) bool {
	var path []string
	var walk func(v any) bool
	walk = func(v any) bool {
		switch v := v.(type) {
		case string:
			return visit(field{path, v})
		case map[string]any:
			for _, key := range sortedKeys(v) {
				if !visit(field{path, key}) {
					return false
				}
				path = append(path, key)
				if !walk(v[key]) {
					return false
				}
				path = path[:len(path)-1]
			}
		case []any:
			for i, item := range v {
				path = append(path, "["+strconv.Itoa(i)+"]")
				if !walk(item) {
					return false
				}
				path = path[:len(path)-1]
			}
		}
		return true
	}
	return walk(v)
}

func isSecret(u *unstructured.Unstructured) bool {
	return u.GetKind() == "Secret" && u.GetAPIVersion() == "v1"
}

// mayHold reports whether decrypted values may stand in a field: in the data of
// a Secret, but for its names, which the API server keeps in managed fields too; and
// in kinds that the component allows outside what names the object.
func mayHold(u *unstructured.Unstructured, path, kinds []string) bool {
	if len(path) == 0 {
		return false
	}
	if isSecret(u) {
		return len(path) > 1 && (path[0] == "data" || path[0] == "stringData")
	}
	switch path[0] {
	case "apiVersion", "kind", "metadata":
		return false
	}
	kind := u.GroupVersionKind()
	return slices.Contains(kinds, kind.GroupKind().String())
}

// checkCiphertext refuses values that SOPS encrypted and nobody decrypted
// (flux2 #4945), in base64 too.
func checkCiphertext(f folder) error {
	for _, u := range f.objects {
		var at field
		eachString(u.Object, func(s field) bool {
			if strings.Contains(s.value, ciphertextMark) || strings.Contains(decoded(s.value), ciphertextMark) {
				at = s.clone()
				return false
			}
			return true
		})
		if at.value != "" {
			return &ObjectError{Dir: f.dir, Object: objectName(u), Field: at.String(), Reason: "holds SOPS ciphertext instead of the value",
				Remedy: "encrypt whole files with sops, each with its own metadata, and name them in secretGenerator or resources"}
		}
	}
	return nil
}

// decoded returns the text behind base64, "" when s is none.
func decoded(s string) string {
	if len(s) < 8 || len(s)%4 != 0 && !strings.ContainsAny(s, "\r\n") {
		return ""
	}
	for i := range len(s) {
		if c := s[i]; !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
			c == '+' || c == '/' || c == '=' || c == '\r' || c == '\n') {
			return ""
		}
	}
	out, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return ""
	}
	return string(out)
}

// leak is a string outside Secrets that holds a decrypted value.
type leak struct {
	folder, object int
	field          field
}

// checkLeaks refuses folders with decrypted values in anything but the data of
// Secrets. A value may stand in the repository in plain text as well (a user name,
// an image): whether one really was decrypted shows in a second build of the
// masked files, where it is gone. Values that are public in this way are
// noted: masking them would hide ordinary text and nothing else.
func (b *builder) checkLeaks(ctx context.Context, folders []folder, values, kinds []string) {
	for _, l := range findLeaks(folders, values, kinds) {
		f := &folders[l.folder]
		if f.err != nil || ctx.Err() != nil {
			continue
		}
		masked := b.maskedObjects(*f)
		if len(masked) == len(f.objects) && slices.ContainsFunc(fieldsAt(masked[l.object], l.field.path), func(s string) bool { return s == l.field.value }) {
			for _, v := range values {
				if strings.Contains(l.field.value, v) {
					b.public[v] = true
				}
			}
			continue
		}
		u := f.objects[l.object]
		f.err = &ObjectError{Dir: f.dir, Object: redact(objectName(u), values), Field: redact(l.field.String(), values),
			Reason: "holds a decrypted value: only the data of a Secret may",
			Remedy: "move the value to a Secret (of a manifest encrypt data and stringData only), keep it in plain text if it is none, or allow the kind by secretsIn in component.yaml"}
	}
}

// findLeaks returns the first suspect string of each object field.
func findLeaks(folders []folder, values, kinds []string) []leak {
	if len(values) == 0 {
		return nil
	}
	var leaks []leak
	var forms []string // encoded ones too: a value may be embedded in a longer base64 text
	for _, v := range values {
		forms = append(forms, diff.Forms(v)...)
	}
	shortest := len(slices.MinFunc(forms, func(a, b string) int { return len(a) - len(b) }))
	holds := func(s string) bool {
		if len(s) < shortest {
			return false
		}
		return slices.ContainsFunc(forms, func(v string) bool { return len(v) <= len(s) && strings.Contains(s, v) })
	}
	for i, f := range folders {
		if f.err != nil {
			continue
		}
		for j, u := range f.objects {
			eachString(u.Object, func(s field) bool {
				if mayHold(u, s.path, kinds) {
					return true
				}
				if holds(s.value) || holds(decoded(s.value)) {
					leaks = append(leaks, leak{i, j, s.clone()})
				}
				return true
			})
		}
	}
	return leaks
}

// maskedObjects renders the masked files of a folder, once; nil when that
// fails.
func (b *builder) maskedObjects(f folder) []*unstructured.Unstructured {
	if objects, ok := b.masked[f.dir]; ok {
		return objects
	}
	var objects []*unstructured.Unstructured
	if mem, err := b.loader.memory(masked); err == nil {
		objects, _ = runKustomize(mem, f.dir)
	}
	b.masked[f.dir] = objects
	return objects
}

// fieldsAt returns the strings at exactly that path: the value, or the names
// of the mapping.
func fieldsAt(u *unstructured.Unstructured, path []string) []string {
	var out []string
	eachString(u.Object, func(s field) bool {
		if slices.Equal(s.path, path) {
			out = append(out, s.value)
		}
		return true
	})
	return out
}

// redact removes values from the name of an object or field that was made of
// one.
func redact(s string, values []string) string {
	for _, v := range values {
		s = strings.ReplaceAll(s, v, "(decrypted)")
	}
	return s
}
