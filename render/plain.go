package render

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// PlainSecret is a place in the repository that gives a Secret its values and is
// not encrypted. Whether that is wrong is for .sops.yaml to say.
type PlainSecret struct {
	File string
	Line int    // 0 when it is the whole file
	As   string // what makes a Secret of it, such as secretGenerator.envs
	// Inline values stand in a kustomization, which cannot be encrypted.
	Inline bool
}

// plain finds them in all that the folders read.
func (b *builder) plain(folders []folder) []PlainSecret {
	var out []PlainSecret
	for _, f := range folders {
		if f.inputs == nil {
			continue
		}
		for _, use := range f.files {
			file := b.loader.files[use.path]
			switch {
			case file == nil || file.sealed || len(bytes.TrimSpace(file.data)) == 0:
			case strings.HasPrefix(use.ref.field, "secretGenerator"):
				out = append(out, PlainSecret{File: use.path, As: use.ref.field})
			case use.roles&(roleResource|rolePatch) != 0:
				if line := secretLine(file.data); line > 0 {
					out = append(out, PlainSecret{File: use.path, Line: line, As: use.ref.field})
				}
			}
		}
		for _, dir := range f.dirs {
			k := b.walker.kusts[dir].k
			if k == nil {
				continue
			}
			for _, g := range k.k.SecretGenerator {
				if len(g.LiteralSources) > 0 {
					out = append(out, PlainSecret{File: k.file, As: "secretGenerator.literals", Inline: true})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b PlainSecret) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.As, b.As))
	})
	return slices.Compact(out)
}

// secretLine is the line of the first value that a file gives a Secret, 0 when
// it gives none.
func secretLine(data []byte) int {
	if !bytes.Contains(data, []byte("Secret")) {
		return 0
	}
	nodes, err := readNodes(data)
	if err != nil {
		return 0
	}
	for i, n := range nodes {
		if n.GetKind() != "Secret" || n.GetApiVersion() != "v1" {
			continue
		}
		for _, name := range []string{"data", "stringData"} {
			if field := n.Field(name); field != nil && field.Value.YNode().Kind == yaml.MappingNode && len(field.Value.YNode().Content) > 0 {
				return field.Value.YNode().Content[0].Line + linesAbove(data, i)
			}
		}
	}
	return 0
}
