package envrepo

import (
	"fmt"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const kustomizationFile = "kustomization.yaml"

// Kustomize reads these names too. Sluice does not, and says so: a release
// whose file it overlooked would be pruned.
var otherKustomizationFiles = []string{"kustomization.yml", "Kustomization"}

// pin is the entry of a kustomization's images list that pins an image.
type pin struct {
	entry  *yaml.Node // nil: the list has none
	digest *yaml.Node // nil: the entry has none yet

	Digest  string // "" when there is none yet
	NewName string // where the image is pulled from instead, "" for its own name
}

// parseKustomization parses a kustomization.yaml. Its own schema is
// Kustomize's: here only the images are looked at.
func parseKustomization(file string, data []byte) (*yaml.Node, error) {
	root, err := parseDocument(file, data)
	if err != nil {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, &FileError{File: file, Line: root.Line, Message: "must be a mapping, found " + describe(root)}
	}
	return root, nil
}

// findPin finds the entry that pins image. Missing digests are no error: an
// overlay has none before its first deployment.
func findPin(file string, root *yaml.Node, image string) (pin, error) {
	fail := func(n *yaml.Node, field string, cause error, hint, format string, args ...any) (pin, error) {
		return pin{}, &FileError{File: file, Line: n.Line, Field: field, Message: fmt.Sprintf(format, args...), Err: cause, hint: hint}
	}
	images, err := uniqueField(file, root, "images", "")
	if err != nil || images == nil || isNull(images) {
		return pin{}, err
	}
	if images.Kind != yaml.SequenceNode {
		return fail(images, "images", nil, "", "images must be a list, found %s", describe(images))
	}
	var found pin
	var names []string
	for i, n := range images.Content {
		field := fmt.Sprintf("images[%d]", i)
		entry := follow(n)
		if entry.Kind != yaml.MappingNode {
			return fail(entry, field, nil, "", "%s must be a mapping, found %s", field, describe(entry))
		}
		name, err := uniqueField(file, entry, "name", field)
		if err != nil {
			return pin{}, err
		}
		if name == nil || name.Kind != yaml.ScalarNode {
			return fail(entry, field+".name", nil, "", "%s needs the name of an image", field)
		}
		names = append(names, name.Value)
		if name.Value != image {
			continue
		}
		if found.entry != nil {
			return fail(entry, field, nil, "remove one of them", "images pin %s twice, first in line %d", clip(image), found.entry.Line)
		}
		found, err = readPin(file, entry, field, image)
		if err != nil {
			return pin{}, err
		}
	}
	if found.entry == nil && len(names) > 0 {
		near := Nearest(image, names)
		if near == "" {
			near = names[0]
		}
		line := images.Line
		for i, name := range names {
			if name == near {
				line = follow(images.Content[i]).Line
				break
			}
		}
		return pin{}, &FileError{File: file, Line: line, Field: "images", Err: ErrPinsNothing,
			Message: fmt.Sprintf("images entry %q pins nothing: the component's image is %q", clip(near), clip(image)),
			hint:    fmt.Sprintf("write name: %s, or add an entry of that name", image)}
	}
	return found, nil
}

// readPin reads the entry of the component's image.
func readPin(file string, entry *yaml.Node, field, image string) (pin, error) {
	p := pin{entry: entry}
	tag, err := uniqueField(file, entry, "newTag", field)
	if err != nil {
		return pin{}, err
	}
	if tag != nil {
		return pin{}, &FileError{File: file, Line: tag.Line, Field: field + ".newTag", Err: ErrTagPin,
			Message: fmt.Sprintf("%s is pinned by tag %s: a digest is due", clip(image), describe(tag)),
			hint:    "image tags can be moved: replace newTag by digest: sha256:…"}
	}
	newName, err := uniqueField(file, entry, "newName", field)
	if err != nil {
		return pin{}, err
	}
	if newName != nil && follow(newName).Kind == yaml.ScalarNode {
		p.NewName = follow(newName).Value
	}
	if p.digest, err = uniqueField(file, entry, "digest", field); err != nil || p.digest == nil {
		return p, err
	}
	digest := follow(p.digest)
	if digest.Kind != yaml.ScalarNode || !ValidDigest(digest.Value) {
		cause, hint := error(nil), ""
		if digest.Kind == yaml.ScalarNode && !isHex(digest.Value) {
			cause, hint = ErrTagPin, "write the image's digest, not its tag"
		}
		return pin{}, &FileError{File: file, Line: digest.Line, Field: field + ".digest", Err: cause, hint: hint,
			Message: fmt.Sprintf("%s.digest must be sha256: and 64 lower-case hex digits, found %s", field, describe(digest))}
	}
	p.Digest = digest.Value
	return p, nil
}

// uniqueField returns the value of a field, nil when there is none. Two of the
// same name are an error: which one counts would depend on the reader.
func uniqueField(file string, mapping *yaml.Node, name, path string) (*yaml.Node, error) {
	var found *yaml.Node
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value != name {
			continue
		}
		if found != nil {
			if path != "" {
				name = path + "." + name
			}
			return nil, &FileError{File: file, Line: mapping.Content[i].Line, Field: name, hint: "remove one of them",
				Message: fmt.Sprintf("duplicate field %q, first given in line %d", name, found.Line)}
		}
		found = mapping.Content[i+1]
	}
	return found, nil
}

// follow resolves an alias: users of Kustomize may write them.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == yaml.NodeTagNull
}
