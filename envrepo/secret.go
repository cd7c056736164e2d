package envrepo

import (
	"path"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// GenerateSecret has the kustomization.yaml of a folder make a Secret of an env file in
// it. One that lists generators of Secrets already, or that is missing, is left alone:
// added is false.
func GenerateSecret(t *Tree, dir, name, env string) (added bool, err error) {
	file := path.Join(dir, "kustomization.yaml")
	if ok, err := exists(t, file); err != nil || !ok {
		return false, err
	}
	src, err := readFile(t, file)
	if err != nil {
		return false, err
	}
	f, err := openYAML(file, src)
	if err != nil {
		return false, err
	}
	if f.root.Kind != yaml.MappingNode || f.get(f.root, "secretGenerator") != nil {
		return false, nil
	}
	f.rewrite(f.root, keepAll, entry{"secretGenerator", listNode(0, mapNode(0,
		entry{"name", textNode(name)}, entry{"envs", listNode(yaml.FlowStyle, textNode(env))}))})
	out, err := f.bytes()
	if err != nil {
		return false, err
	}
	return true, t.WriteFile(file, out)
}
