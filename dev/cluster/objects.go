package cluster

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

//go:embed config/objects.yaml
var builtinYAML []byte

const definitionKind = "CustomResourceDefinition"

// objects are what manifests hold, in their order.
type objects []*unstructured.Unstructured

// builtin is what every cluster holds from the start.
func builtin() objects {
	list, err := parse(builtinYAML)
	if err != nil {
		panic("config/objects.yaml: " + err.Error()) // embedded, and read by a test
	}
	return list
}

// load reads YAML and JSON files, and all of them below a folder by name.
// Kustomize's own files are no objects and left out.
func load(paths ...string) (objects, error) {
	var all objects
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || (file != path && !isManifest(file)) {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			list, err := parse(data)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			all = append(all, list...)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading manifests: %w", err)
		}
	}
	return all, nil
}

func isManifest(file string) bool {
	switch filepath.Ext(file) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func parse(data []byte) (objects, error) {
	var list objects
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		json, err := sigsyaml.YAMLToJSON(document)
		if err != nil {
			return nil, err
		}
		if string(json) == "null" {
			continue // comments only
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(json); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(object.GetAPIVersion(), "kustomize.config.k8s.io/") {
			list = append(list, object)
		}
	}
}

// definitions are the CustomResourceDefinitions among the objects.
func (o objects) definitions() objects {
	return o.filter(func(object *unstructured.Unstructured) bool { return object.GetKind() == definitionKind })
}

// others are all objects but the CustomResourceDefinitions.
func (o objects) others() objects {
	return o.filter(func(object *unstructured.Unstructured) bool { return object.GetKind() != definitionKind })
}

func (o objects) filter(keep func(*unstructured.Unstructured) bool) objects {
	var kept objects
	for _, object := range o {
		if keep(object) {
			kept = append(kept, object)
		}
	}
	return kept
}

func describe(object *unstructured.Unstructured) string {
	name := object.GetName()
	if namespace := object.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	return object.GetKind() + " " + name
}
