package envrepo

import (
	"embed"
	"strings"
)

//go:embed schemas
var schemas embed.FS

// Kinds are the kinds of file that Sluice defines, each with a schema.
func Kinds() []string { return []string{"Project", "Component", "Traffic", "Build"} }

// Schema returns the published JSON Schema of a kind, draft 2020-12.
func Schema(kind string) ([]byte, error) {
	data, err := schemas.ReadFile("schemas/" + strings.ToLower(kind) + ".schema.json")
	if err != nil {
		return nil, refuse(knownHint("kinds", Kinds()), "unknown kind %q%s", clip(kind), didYouMean(kind, Kinds()))
	}
	return data, nil
}
