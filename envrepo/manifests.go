package envrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const instanceLabel = "app.kubernetes.io/instance"

// perTagKinds are the kinds that run once for each tag. What is not listed
// exists once for each release: routes, accounts, claims, monitors and every
// custom kind, whose references Kustomize does not rename.
var perTagKinds = []string{
	"Deployment", "StatefulSet", "ReplicaSet", "Service", "HorizontalPodAutoscaler", "VerticalPodAutoscaler",
	"ScaledObject", "PodDisruptionBudget", "ConfigMap", "Secret", "CronJob", "Job",
}

var routeKinds = []string{"HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "VirtualService", "IngressRoute", "IngressRouteTCP", "IngressRouteUDP",
	"TraefikService", "Ingress"}

// manifest is one Kubernetes object of a file.
type manifest struct {
	file       string
	node       *yaml.Node
	kind, name string
}

func (m manifest) String() string { return clip(m.kind) + " " + clip(m.name) }

// at returns what stands at a path of fields, nil when nothing does.
func (m manifest) at(fields ...string) *yaml.Node { return nodeAt(m.node, fields...) }

func nodeAt(n *yaml.Node, fields ...string) *yaml.Node {
	for _, field := range fields {
		if n = follow(n); n.Kind != yaml.MappingNode {
			return nil
		}
		i := 0
		for ; i+1 < len(n.Content) && n.Content[i].Value != field; i += 2 {
		}
		if i+1 >= len(n.Content) {
			return nil
		}
		n = n.Content[i+1]
	}
	return follow(n)
}

// parseManifests parses the objects of a file.
func parseManifests(file string, data []byte) (list []manifest, err error) {
	const most = 1000
	if len(data) > maxFile {
		return nil, &FileError{File: file, Message: "is larger than 1 MiB"}
	}
	defer func() {
		if p := recover(); p != nil { // as in parseDocument
			list, err = nil, &FileError{File: file, Message: fmt.Sprintf("parsing YAML: %v", p)}
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, syntaxError(file, err)
		}
		if len(document.Content) == 0 || isNull(document.Content[0]) {
			continue
		}
		m := manifest{file: file, node: document.Content[0]}
		for field, value := range map[*string]*yaml.Node{&m.kind: m.at("kind"), &m.name: m.at("metadata", "name")} {
			if value != nil && value.Kind == yaml.ScalarNode {
				*field = value.Value
			}
		}
		switch {
		case m.kind == "":
			return nil, &FileError{File: file, Line: m.node.Line, Message: "is not a Kubernetes object: it has no kind"}
		case m.kind == "List":
			return nil, &FileError{File: file, Line: m.node.Line, Message: "holds a List", hint: "write its items as documents of their own, separated by ---"}
		case len(list) == most:
			return nil, &FileError{File: file, Message: fmt.Sprintf("holds more than %d objects", most)}
		}
		list = append(list, m)
	}
}

// folderManifests parses the objects that a kustomization folder builds from,
// folders that it includes too. What is not in the project is left out:
// rendering refuses it.
func folderManifests(fsys fs.FS, dir string, depth int) ([]manifest, error) {
	const deepest = 8
	if depth > deepest {
		return nil, &FileError{File: dir, Message: "includes folders more than 8 deep"}
	}
	file := path.Join(dir, kustomizationFile)
	data, err := readFile(fsys, file)
	if err != nil {
		return nil, err
	}
	root, err := parseKustomization(file, data)
	if err != nil {
		return nil, err
	}
	var all []manifest
	for _, resource := range texts(root, "resources") {
		list, _, err := resourceManifests(fsys, file, path.Join(dir, resource), depth)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// resourceManifests parses the file or folder that an entry of resources
// names; isDir tells which.
func resourceManifests(fsys fs.FS, kustomization, target string, depth int) (list []manifest, isDir bool, err error) {
	if !fs.ValidPath(target) || strings.Contains(target, "://") {
		return nil, false, nil
	}
	info, err := fs.Lstat(fsys, target)
	if err != nil {
		if isMissing(err) {
			return nil, false, &FileError{File: kustomization, Field: "resources", Message: fmt.Sprintf("resource %s does not exist", target)}
		}
		return nil, false, fmt.Errorf("reading %s: %w", target, pathCause(err))
	}
	if info.IsDir() {
		list, err = folderManifests(fsys, target, depth+1)
		return list, true, err
	}
	data, err := readFile(fsys, target)
	if err != nil {
		return nil, false, err
	}
	list, err = parseManifests(target, data)
	return list, false, err
}

// texts are the scalars of a list.
func texts(root *yaml.Node, field string) []string {
	list := nodeAt(root, field)
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	var values []string
	for _, c := range list.Content {
		if c = follow(c); c.Kind == yaml.ScalarNode {
			values = append(values, c.Value)
		}
	}
	return values
}

// InstanceLabelError says that manifests cannot be tagged: without the label
// app.kubernetes.io/instance the untagged objects would select the tags' pods.
type InstanceLabelError struct {
	Component string
	Missing   []MissingLabel
}

// MissingLabel is a place that lacks the label, or has another value there.
type MissingLabel struct {
	File   string
	Line   int
	Object string   // such as Deployment api
	Path   []string // of the mapping that the label belongs in
	Value  string   // what stands there instead, "" when the label is missing
}

// Error lists the places and, below each, the lines to add.
func (e *InstanceLabelError) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "component %s cannot run as tags: its pods and selectors need the label %s: %s. Change:", e.Component, instanceLabel, e.Component)
	for _, m := range e.Missing {
		verb := "add"
		if m.Value != "" {
			verb = fmt.Sprintf("replace %q by", clip(m.Value))
		}
		fmt.Fprintf(&out, "\n%s\n", printable(fmt.Sprintf("%s:%d: %s: %s", m.File, m.Line, m.Object, verb)))
		for i, field := range m.Path {
			fmt.Fprintf(&out, "  %s%s:\n", strings.Repeat("  ", i), field)
		}
		fmt.Fprintf(&out, "  %s%s: %s", strings.Repeat("  ", len(m.Path)), instanceLabel, e.Component)
	}
	return out.String()
}

// Hint says what follows from the change.
func (e *InstanceLabelError) Hint() string {
	return "commit these lines and let them be applied first: a Deployment whose selector changes is made anew"
}

// checkInstanceLabels checks that the label is where tags override it.
func checkInstanceLabels(list []manifest, component string) error {
	problem := &InstanceLabelError{Component: component}
	workloads := 0
	for _, m := range list {
		var places [][]string
		switch m.kind {
		case "Deployment", "StatefulSet":
			workloads++
			places = [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}}
		case "Service":
			if m.at("spec", "selector") != nil {
				places = [][]string{{"spec", "selector"}}
			}
		case "PodDisruptionBudget":
			places = [][]string{{"spec", "selector", "matchLabels"}}
		}
		for _, place := range places {
			value := m.at(append(slices.Clone(place), instanceLabel)...)
			if value != nil && value.Value == component {
				continue
			}
			missing := MissingLabel{File: m.file, Line: m.node.Line, Object: m.String(), Path: place}
			if holder := m.at(place...); holder != nil {
				missing.Line = holder.Line
			}
			if value != nil {
				missing.Line, missing.Value = value.Line, value.Value
			}
			problem.Missing = append(problem.Missing, missing)
		}
	}
	if workloads == 0 {
		return refuse("", "component %s cannot run as tags: %s builds no Deployment or StatefulSet", component, componentDir(component))
	}
	if len(problem.Missing) > 0 {
		return problem
	}
	return nil
}

// findService finds the Service that carries the component's name.
func findService(list []manifest, component string) (manifest, bool) {
	i := slices.IndexFunc(list, func(m manifest) bool { return m.kind == "Service" && m.name == component })
	if i < 0 {
		return manifest{}, false
	}
	return list[i], true
}

// imageName is an image reference without tag and digest.
func imageName(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		ref = ref[:i]
	}
	return ref
}

// workloadImages are the names of the images that Deployments and StatefulSets
// run, each once.
func workloadImages(list []manifest) []string {
	var images []string
	for _, m := range list {
		if m.kind != "Deployment" && m.kind != "StatefulSet" {
			continue
		}
		for _, field := range []string{"containers", "initContainers"} {
			containers := m.at("spec", "template", "spec", field)
			if containers == nil {
				continue
			}
			for _, c := range containers.Content {
				image := nodeAt(c, "image")
				if image != nil && image.Kind == yaml.ScalarNode && !slices.Contains(images, imageName(image.Value)) {
					images = append(images, imageName(image.Value))
				}
			}
		}
	}
	return images
}
