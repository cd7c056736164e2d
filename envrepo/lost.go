package envrepo

import (
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// lostTags are the tags of a tagged release whose folders are there and have no
// kustomization, broken each: were they none, what runs of them would be pruned
// for the sake of one lost file (docs/adr/0009). A folder counts whose name a tag
// may have, and that holds something, unless another folder of the release reads
// its files: then it is what the user keeps patches in. Such a folder that
// traffic.yaml lists is unknown there, which fails the whole release.
func (r *Repo) lostTags(rel Release, overlays []string) ([]Tag, error) {
	all, err := folders(r.fsys, rel.Dir)
	if err != nil {
		return nil, err
	}
	var lost []Tag
	for _, name := range all {
		if slices.Contains(overlays, name) || tagNameProblem(rel.Name, name) != "" {
			continue
		}
		tag := Tag{Name: name, Dir: path.Join(rel.Dir, name)}
		entries, err := r.entries(tag.Dir)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 { // in a working tree; Git knows no empty folders
			continue
		}
		tag.Broken = &FileError{File: path.Join(tag.Dir, kustomizationFile), Message: "is missing, and the folder has other files: what runs of the tag is left as it is",
			hint: "restore the file, or take the tag off the list in traffic.yaml and remove its whole folder; what is no tag goes elsewhere, such as into base/"}
		lost = append(lost, tag)
	}
	if len(lost) == 0 {
		return nil, nil
	}
	read := r.filesRead(rel.Dir, append([]string{"."}, overlays...))
	return slices.DeleteFunc(lost, func(tag Tag) bool {
		return slices.ContainsFunc(read, func(file string) bool { return file == tag.Dir || strings.HasPrefix(file, tag.Dir+"/") })
	}), nil
}

// filesRead are the paths that kustomizations below dir may read, and other text
// that is not. What does not parse reads nothing.
func (r *Repo) filesRead(dir string, folders []string) []string {
	var read []string
	for _, folder := range folders {
		folder = path.Join(dir, folder)
		data, err := readFile(r.fsys, path.Join(folder, kustomizationFile))
		if err != nil {
			continue
		}
		root, err := parseDocument(path.Join(folder, kustomizationFile), data)
		if err != nil {
			continue
		}
		for _, text := range scalars(root) {
			if _, file, named := strings.Cut(text, "="); named { // as generators name files
				text = file
			}
			read = append(read, path.Join(folder, text))
		}
	}
	return read
}

// scalars are the values below a node that are no mappings and no lists.
func scalars(n *yaml.Node) []string {
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}
	}
	var values []string
	for _, child := range n.Content { // an alias has none
		values = append(values, scalars(child)...)
	}
	return values
}
