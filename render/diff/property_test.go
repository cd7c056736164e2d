package diff

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/internal/mutants"
)

const alphabet = `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!"#$%&'()*+,-./:;<=>?@[\]^_{|}~ ` + "\n\téß"

// randomSecret is at least 8 characters long, so that it does not turn up by
// chance.
func randomSecret(r *rand.Rand) string {
	letters := []rune(alphabet)
	if r.IntN(3) == 0 {
		letters = letters[:62]
	}
	var b strings.Builder
	for range 8 + r.IntN(40) {
		b.WriteRune(letters[r.IntN(len(letters))])
	}
	return b.String()
}

// embed hides a secret in a text in one of the ways that occur.
func embed(r *rand.Rand, secret string) string {
	before, after := strings.Repeat("b", r.IntN(5)), strings.Repeat("a", r.IntN(5))
	switch r.IntN(6) {
	case 0:
		return secret
	case 1:
		return base64.StdEncoding.EncodeToString([]byte(secret))
	case 2:
		return base64.StdEncoding.EncodeToString([]byte(before + secret + after))
	case 3:
		return "first: line\n" + before + secret + after + "\nlast: line\n"
	case 4:
		return fmt.Sprintf("postgres://user:%s@db", secret)
	default:
		return before + secret + after
	}
}

// randomTree is a part of an object with secrets in values, keys and lists.
func randomTree(r *rand.Rand, secrets []string, depth int) any {
	secret := secrets[r.IntN(len(secrets))]
	switch n := r.IntN(8); {
	case n < 3 || depth == 0:
		return embed(r, secret)
	case n == 3:
		return int64(r.IntN(100))
	case n == 4:
		return []any{randomTree(r, secrets, depth-1), randomTree(r, secrets, depth-1)}
	default:
		out := map[string]any{}
		for i := range r.IntN(4) {
			out[fmt.Sprint("key", i)] = randomTree(r, secrets, depth-1)
		}
		if r.IntN(4) == 0 {
			out["labels"] = map[string]any{secret: "a", embed(r, secret): "b"}
		}
		return out
	}
}

func randomObject(r *rand.Rand, secrets []string) *unstructured.Unstructured {
	kind := []string{"Secret", "ConfigMap", "Deployment"}[r.IntN(3)]
	name := fmt.Sprint("n", r.IntN(3))
	if r.IntN(8) == 0 {
		name = embed(r, secrets[0])
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": kind,
		"metadata": map[string]any{"name": name, "annotations": map[string]any{"a": embed(r, secrets[0])}},
		"spec":     randomTree(r, secrets, 4),
	}}
	data := map[string]any{}
	for i := range r.IntN(4) {
		data[fmt.Sprint("k", i)] = base64.StdEncoding.EncodeToString([]byte(secrets[r.IntN(len(secrets))]))
	}
	object.Object["data"] = data
	if r.IntN(2) == 0 {
		object.Object["stringData"] = map[string]any{"k0": embed(r, secrets[0])}
	}
	return object
}

// TestNoSecretIsEverShown: neither a value to be masked nor its base64 is in any
// output; nor is what a Secret alone holds.
func TestNoSecretIsEverShown(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		secrets := []string{randomSecret(r), randomSecret(r), randomSecret(r)}
		var old, new []*unstructured.Unstructured
		for range 4 {
			old, new = append(old, randomObject(r, secrets)), append(new, randomObject(r, secrets))
		}
		unmasked := "only-in-a-secret-" + fmt.Sprint(r.Uint64())
		new = append(new, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "s"}, "stringData": map[string]any{"k": unmasked}}},
			configMap(map[string]any{"k": "a " + unmasked}))
		changes := Objects(old, new, Mask{Values: secrets})
		out := Text(changes)
		for _, c := range changes {
			out += c.ID + c.Text
		}
		for _, secret := range append(secrets, unmasked) {
			require.NotContains(t, out, secret)
			require.NotContains(t, out, strings.TrimSpace(secret))
			require.NotContains(t, out, base64.StdEncoding.EncodeToString([]byte(secret)))
		}
		require.Equal(t, out[:len(Text(changes))], Text(Objects(old, new, Mask{Values: secrets})), "not stable")
	}
}

// FuzzObjects: whatever the objects look like, nothing panics, no value of a
// Secret or of the mask is shown, and equal sets do not differ.
func FuzzObjects(ff *testing.F) {
	f := mutants.New(ff)
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		sections := map[string][]byte{}
		for _, section := range txtar.Parse(data).Files {
			sections[section.Name] = section.Data
		}
		f.Add(sections["old.yaml"], sections["new.yaml"], "old-token")
	}
	f.Add([]byte("{kind: Secret, metadata: [1], data: {a: {b: [c, 1.5, null]}}}"), []byte("{kind: Secret, data: 1, stringData: {a: 1}}"), "a\nb: 1")
	f.Fuzz(func(t *testing.T, oldYAML, newYAML []byte, secret string) {
		old, err := decode(oldYAML)
		if err != nil {
			return
		}
		new, err := decode(newYAML)
		if err != nil {
			return
		}
		out := Text(Objects(old, new, Mask{Values: []string{secret}}))
		if secret = strings.TrimSpace(secret); len(secret) >= 8 && strings.ContainsAny(secret, "0123456789") && !furniture(secret) {
			require.NotContains(t, out, secret)
		}
		for _, c := range Objects(old, old, Mask{}) {
			require.Equal(t, None, c.Kind)
		}
	})
}

// furniture reports whether a text may stand in the output for another reason.
func furniture(secret string) bool {
	return strings.ContainsAny(secret, "(…@\n\\+-~") || strings.Contains(secret, "more ") || strings.Contains(secret, "to ")
}
