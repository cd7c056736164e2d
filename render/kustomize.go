package render

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// runKustomize builds a folder of an in-memory file system with the options of
// kubectl kustomize. Builds may run in parallel: without the field openapi,
// which the guard refuses, they share no state that changes.
func runKustomize(mem filesys.FileSystem, dir string) (objects []*unstructured.Unstructured, err error) {
	defer func() {
		if recover() != nil {
			objects, err = nil, &BuildError{Dir: dir, Err: errPanic}
		}
	}()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // kubectl's: by kind, unless sortOptions says otherwise
	m, err := krusty.MakeKustomizer(options).Run(mem, "/"+dir)
	if err != nil {
		return nil, &BuildError{Dir: dir, Err: err}
	}
	objects, err = toObjects(m)
	if err != nil {
		return nil, &BuildError{Dir: dir, Err: err}
	}
	return objects, nil
}

// toObjects converts in the way in which Kustomize prints YAML: by JSON.
func toObjects(m resmap.ResMap) ([]*unstructured.Unstructured, error) {
	objects := make([]*unstructured.Unstructured, 0, m.Size())
	for _, r := range m.Resources() {
		data, err := r.MarshalJSON()
		if err != nil {
			return nil, err
		}
		u := &unstructured.Unstructured{}
		if err := json.Unmarshal(data, &u.Object); err != nil {
			return nil, err
		}
		objects = append(objects, u)
	}
	return objects, nil
}
