package envrepo

import (
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// StrayTraffic returns the files of an environment that hold a Traffic and that nobody
// reads, sorted: weights belong to a release, in a file called traffic.yaml. Looked at
// are files of that name, or with the other suffix, in the environment's folder, in those
// of releases and in those of tags. A manifest may have the name as well, so what counts
// is the kind.
func (r *Repo) StrayTraffic(env string) ([]string, error) {
	if _, err := r.Environment(env); err != nil {
		return nil, err
	}
	dirs, own := []string{environmentDir(env)}, map[string]bool{}
	releases, err := folders(r.fsys, dirs[0])
	if err != nil {
		return nil, err
	}
	for _, release := range releases {
		dir := path.Join(dirs[0], release)
		own[trafficFile(dir)] = true
		tags, err := folders(r.fsys, dir)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
		for _, tag := range tags {
			dirs = append(dirs, path.Join(dir, tag))
		}
	}
	var stray []string
	for _, dir := range dirs {
		for _, name := range []string{trafficFile(dir), strings.TrimSuffix(trafficFile(dir), ".yaml") + ".yml"} {
			if !own[name] && r.holdsTraffic(name) {
				stray = append(stray, name)
			}
		}
	}
	slices.Sort(stray)
	return stray, nil
}

// holdsTraffic reports whether a file is a Traffic, right or wrong. One that is not there
// or cannot be read is none.
func (r *Repo) holdsTraffic(file string) bool {
	data, err := readFile(r.fsys, file)
	if err != nil {
		return false
	}
	root, err := parseDocument(file, data)
	if err != nil || root.Kind != yaml.MappingNode {
		return false
	}
	var kind, group string
	for i := 0; i+1 < len(root.Content); i += 2 {
		switch root.Content[i].Value {
		case "kind":
			kind = root.Content[i+1].Value
		case "apiVersion":
			group, _, _ = strings.Cut(root.Content[i+1].Value, "/")
		}
	}
	return kind == "Traffic" && group == "sluice.dev"
}
