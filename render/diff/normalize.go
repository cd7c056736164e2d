package diff

import (
	"encoding/base64"
	"math"
	"slices"
	"strings"
)

// serverFields of metadata are set by the API server alone.
var serverFields = [...]string{"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"}

// normalize copies an object into the form in which two versions of it are
// compared: without what the server sets and without nulls, which mean absent;
// the data of a Secret decoded and stringData merged into it, as the server does.
func normalize(object map[string]any) map[string]any {
	out, _ := withoutNulls(object).(map[string]any)
	if out == nil {
		out = map[string]any{}
	}
	delete(out, "status")
	if metadata, ok := out["metadata"].(map[string]any); ok {
		for _, field := range serverFields {
			delete(metadata, field)
		}
		if annotations, ok := metadata["annotations"].(map[string]any); ok {
			for key := range annotations {
				if strings.HasSuffix(key, "/last-applied-configuration") {
					delete(annotations, key) // a copy of the object, Secrets in clear text
				}
			}
			if len(annotations) == 0 {
				delete(metadata, "annotations")
			}
		}
	}
	if isSecret(out) {
		decodeSecret(out)
	}
	return out
}

// withoutNulls copies a value and unifies its numbers, which decoders give in
// several types.
func withoutNulls(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			if item != nil {
				out[key] = withoutNulls(item)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = withoutNulls(item)
		}
		return out
	case int:
		return int64(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	}
	return value
}

// isSecret takes any kind named Secret for one, whatever its group.
func isSecret(object map[string]any) bool { return object["kind"] == "Secret" }

// decodeSecret turns data and stringData into decoded data. What has not the
// shape of a Secret is left, to be compared but not shown.
func decodeSecret(object map[string]any) {
	data, isMap := object["data"].(map[string]any)
	if !isMap && object["data"] != nil {
		return
	}
	decoded := make(map[string]any, len(data))
	for key, value := range data {
		decoded[key] = value
		if s, ok := value.(string); ok {
			if plain, err := base64.StdEncoding.DecodeString(s); err == nil {
				decoded[key] = string(plain)
			}
		}
	}
	if text, ok := object["stringData"].(map[string]any); ok {
		for key, value := range text {
			decoded[key] = value
		}
		delete(object, "stringData")
	}
	if len(decoded) > 0 || data != nil {
		object["data"] = decoded
	}
}

// secretValues are the texts in the data of all Secrets, of those too that stand
// within other objects.
func secretValues(objects map[identity]map[string]any) []string {
	var values []string
	for _, object := range objects {
		collectSecrets(object, &values)
	}
	return values
}

func collectSecrets(value any, into *[]string) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			if isSecret(v) && slices.Contains(secretFields[:], key) {
				collectStrings(item, into)
			} else {
				collectSecrets(item, into)
			}
		}
	case []any:
		for _, item := range v {
			collectSecrets(item, into)
		}
	}
}

// collectStrings takes every string below value, decoded too where it is base64.
func collectStrings(value any, into *[]string) {
	switch v := value.(type) {
	case string:
		*into = append(*into, v)
		if plain, err := base64.StdEncoding.DecodeString(v); err == nil {
			*into = append(*into, string(plain))
		}
	case map[string]any:
		for _, item := range v {
			collectStrings(item, into)
		}
	case []any:
		for _, item := range v {
			collectStrings(item, into)
		}
	}
}
