package envrepo

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// ComponentSpec describes a component to add: from an image and a port, or
// from manifests that exist.
type ComponentSpec struct {
	Name               string
	Image              string // without tag and digest; "" with Manifests: the only one that they run
	Port               int    // that the container listens on; not with Manifests
	Replicas           int    // 0: two
	MaxReplicas        int    // more than Replicas: scaled between the two
	Host               string // host name of the route; {environment} in it stands for the environment's name
	Gateway            string // name, or namespace/name; "": the project's name
	Environments       []string
	Required, Optional []string // the config contract
	Manifests          map[string][]byte
}

var hostPattern = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// AddComponent writes a component with an untagged overlay in each of the
// environments, by default all. For a component that exists it writes the
// overlays that are missing; then only Name, Environments, Host and Gateway
// count.
func AddComponent(t *Tree, spec ComponentSpec) (Summary, error) {
	return edit(t, func(layer *Tree) (Summary, error) {
		repo, err := Open(layer)
		if err != nil {
			return Summary{}, err
		}
		if problem := componentNameProblem(spec.Name); problem != "" {
			return Summary{}, refuse("", "component name %q %s", clip(spec.Name), problem)
		}
		known, err := exists(layer, componentFile(spec.Name))
		if err != nil {
			return Summary{}, err
		}
		environments, err := targetEnvironments(repo, spec, known)
		if err != nil {
			return Summary{}, err
		}
		summary := Summary{Message: "add component " + spec.Name}
		if known {
			names := make([]string, 0, len(environments))
			for _, e := range environments {
				names = append(names, e.Name)
			}
			summary.Message = fmt.Sprintf("add component %s to %s", spec.Name, strings.Join(names, ", "))
			if spec.Image != "" || spec.Port != 0 || len(spec.Manifests) > 0 {
				return Summary{}, refuse("leave image, port and manifests away to add it to more environments", "component %s exists already", spec.Name)
			}
		} else if err := writeComponent(layer, &spec, &summary); err != nil {
			return Summary{}, err
		}
		component, err := repo.Component(spec.Name)
		if err != nil {
			return Summary{}, err
		}
		base, err := readBase(layer, spec.Name)
		if err != nil {
			return Summary{}, err
		}
		for _, e := range environments {
			if err := writeOverlay(layer, repo, e, component, base, spec); err != nil {
				return Summary{}, err
			}
		}
		return summary, nil
	})
}

// targetEnvironments are the environments that get an overlay.
func targetEnvironments(repo *Repo, spec ComponentSpec, known bool) ([]Environment, error) {
	wanted := spec.Environments
	if len(wanted) == 0 {
		for _, e := range repo.Project().Environments {
			if ok, err := repo.isOverlay(releaseDir(e.Name, spec.Name)); err != nil {
				return nil, err
			} else if !ok || !known {
				wanted = append(wanted, e.Name)
			}
		}
		if len(wanted) == 0 {
			return nil, refuse("choose another name", "component %s exists already, in every environment", spec.Name)
		}
	}
	var list []Environment
	for _, name := range wanted {
		e, err := repo.Environment(name)
		if err != nil {
			return nil, err
		}
		owners, err := repo.serviceOwners(name, spec.Name)
		if err != nil {
			return nil, err
		}
		switch {
		case slices.Contains(owners, spec.Name):
			return nil, refuse("leave that environment away, or remove the folder", "%s exists already", releaseDir(name, spec.Name))
		case len(owners) > 0:
			return nil, refuse("choose another name for the component", "component %s would share its Service's name with %s in %s", spec.Name, owners[0], name)
		}
		list = append(list, e)
	}
	return list, nil
}

// writeComponent writes components/<name>. It completes spec.
func writeComponent(t *Tree, spec *ComponentSpec, summary *Summary) error {
	write := writeManifests
	if len(spec.Manifests) == 0 {
		write = writeDefault
	}
	if err := write(t, spec, summary); err != nil {
		return err
	}
	contract := mapNode(yaml.FlowStyle)
	for _, c := range []entry{{"required", textsNode(spec.Required)}, {"optional", textsNode(spec.Optional)}} {
		if len(c.value.Content) > 0 {
			contract.Content = append(contract.Content, textNode(c.key), c.value)
		}
	}
	values := struct{ Name, Image, Contract string }{Name: spec.Name, Image: spec.Image}
	if len(contract.Content) > 0 {
		var err error
		if values.Contract, err = writeNode(contract, true, false); err != nil {
			return err
		}
	}
	return writeNew(t, componentFile(spec.Name), "component/component.yaml", values)
}

// writeDefault writes the manifests of a service from its image and port.
func writeDefault(t *Tree, spec *ComponentSpec, _ *Summary) error {
	if problem, hint := imageProblem(spec.Image); problem != "" {
		return refuse(hint, "image %q %s", clip(spec.Image), problem)
	}
	if spec.Port < 1 || spec.Port > 65535 {
		return refuse("give the port that the container listens on with --port, or existing manifests", "port %d is not between 1 and 65535", spec.Port)
	}
	if spec.Replicas == 0 {
		spec.Replicas = 2
	}
	if spec.Replicas < 0 || spec.Replicas > 1000 || spec.MaxReplicas < 0 || spec.MaxReplicas > 1000 {
		return refuse("", "replicas must be between 1 and 1000")
	}
	if spec.MaxReplicas <= spec.Replicas {
		spec.MaxReplicas = 0
	}
	dir := componentDir(spec.Name)
	resources := []string{"deployment.yaml", "service.yaml", "pdb.yaml"}
	if spec.MaxReplicas > 0 {
		resources = append(resources, "hpa.yaml")
	}
	shared := []string{"serviceaccount.yaml", "networkpolicy.yaml"}
	for _, name := range resources {
		if err := writeNew(t, dir+"/"+name, "component/"+name, spec); err != nil {
			return err
		}
	}
	for _, name := range shared {
		if err := writeNew(t, dir+"/shared/"+name, "component/shared/"+name, spec); err != nil {
			return err
		}
	}
	return writeKustomizations(t, dir, resources, shared)
}

func writeKustomizations(t *Tree, dir string, resources, shared []string) error {
	type values struct{ Resources []string }
	if err := writeNew(t, dir+"/"+kustomizationFile, "component/"+kustomizationFile, values{resources}); err != nil {
		return err
	}
	if len(shared) == 0 {
		return nil
	}
	return writeNew(t, dir+"/shared/"+kustomizationFile, "component/shared/"+kustomizationFile, values{shared})
}

// writeManifests copies manifests that exist. Without a kustomization among
// them one is written, and what exists once for each release goes to shared/.
func writeManifests(t *Tree, spec *ComponentSpec, summary *Summary) error {
	files := make([]string, 0, len(spec.Manifests))
	for name := range spec.Manifests {
		if !fs.ValidPath(name) || name == "." || name == "component.yaml" {
			return refuse("", "manifest %q: must be a path below the component's folder, other than component.yaml", clip(name))
		}
		if slices.Contains(otherKustomizationFiles, path.Base(name)) {
			return refuse("rename it to "+kustomizationFile, "manifest %q: only %s is read", clip(name), kustomizationFile)
		}
		files = append(files, name)
	}
	sort.Strings(files)
	dir := componentDir(spec.Name)
	_, own := spec.Manifests[kustomizationFile]
	var all []manifest
	var resources, shared []string
	for _, name := range files {
		target := dir + "/" + name
		if list, ok, err := parseManifestFile(target, name, spec.Manifests[name]); err != nil {
			return err
		} else if ok {
			all = append(all, list...)
			if !own && isShared(list) {
				target = dir + "/shared/" + path.Base(name)
				shared = append(shared, quoted(path.Base(name)))
			} else if !own {
				resources = append(resources, quoted(name))
				noteMixed(list, target, summary)
			}
		}
		if ok, err := exists(t, target); err != nil || ok {
			if err == nil {
				err = &FileError{File: target, Message: "exists already", hint: "move it away first"}
			}
			return err
		}
		if err := t.WriteFile(target, spec.Manifests[name]); err != nil {
			return err
		}
	}
	if err := chooseImage(spec, all); err != nil {
		return err
	}
	if own {
		return nil
	}
	return writeKustomizations(t, dir, resources, shared)
}

// parseManifestFile parses a file that may hold objects, and refuses Secrets
// in plain text: what is committed once is public to all who can read.
func parseManifestFile(target, name string, data []byte) ([]manifest, bool, error) {
	ext := path.Ext(name)
	if ext != ".yaml" && ext != ".yml" && ext != ".json" || path.Base(name) == kustomizationFile {
		return nil, false, nil
	}
	list, err := parseManifests(target, data)
	if err != nil {
		return nil, false, err
	}
	for _, m := range list {
		if m.kind != "Secret" {
			continue
		}
		var s struct { // with what is merged into it
			Sops       map[string]any `yaml:"sops"`
			Data       any            `yaml:"data"`
			StringData any            `yaml:"stringData"`
		}
		if err := m.node.Decode(&s); err != nil {
			return nil, false, syntaxError(target, err)
		}
		if len(s.Sops) == 0 && (s.Data != nil || s.StringData != nil) {
			return nil, false, &FileError{File: target, Line: m.node.Line, Message: fmt.Sprintf("%s is in plain text", m),
				hint: "encrypt the file with sops, or leave it out and generate the Secret in each environment"}
		}
	}
	return list, true, nil
}

// isShared reports whether every object of a file exists once for each release.
func isShared(list []manifest) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(m manifest) bool { return slices.Contains(perTagKinds, m.kind) })
}

func noteMixed(list []manifest, file string, summary *Summary) {
	for _, m := range list {
		if !slices.Contains(perTagKinds, m.kind) {
			summary.note("%s exists once however many tags run: move it from %s to shared/ before `sluice component tag`", m, file)
		}
	}
}

func quoted(name string) string {
	if text, err := quote(name); err == nil {
		return text
	}
	return name
}

// chooseImage checks that the manifests run the component's image.
func chooseImage(spec *ComponentSpec, all []manifest) error {
	images := workloadImages(all)
	if spec.Image == "" {
		if len(images) != 1 {
			return refuse("name the component's image with --image", "the manifests run %d images: %s", len(images), abbreviate(images))
		}
		spec.Image = images[0]
	}
	if problem, hint := imageProblem(spec.Image); problem != "" {
		return refuse(hint, "image %q %s", clip(spec.Image), problem)
	}
	if !slices.Contains(images, spec.Image) {
		return refuse("the images that they run: "+abbreviate(images), "no Deployment or StatefulSet of the manifests runs the image %s%s", spec.Image, didYouMean(spec.Image, images))
	}
	return nil
}

// base is what an overlay has to know of its component's folder.
type base struct {
	shared  bool   // there is a shared/ folder
	port    string // of the Service that carries the component's name; "" without one
	config  bool   // a ConfigMap <name>-config is used, and not defined
	routed  bool   // it brings a route of its own
	service manifest
}

func readBase(fsys fs.FS, name string) (base, error) {
	var b base
	list, err := folderManifests(fsys, componentDir(name), 0)
	if err != nil {
		return base{}, err
	}
	if b.shared, err = exists(fsys, componentDir(name)+"/shared/"+kustomizationFile); err != nil {
		return base{}, err
	}
	if b.shared {
		once, err := folderManifests(fsys, componentDir(name)+"/shared", 0)
		if err != nil {
			return base{}, err
		}
		list = append(list, once...)
	}
	b.config = mentions(list, name+"-config")
	for _, m := range list {
		b.routed = b.routed || slices.Contains(routeKinds, m.kind)
		b.config = b.config && (m.kind != "ConfigMap" || m.name != name+"-config")
	}
	if service, ok := findService(list, name); ok {
		b.service = service
		if ports := service.at("spec", "ports"); ports != nil && len(ports.Content) > 0 {
			if port := nodeAt(ports.Content[0], "port"); port != nil && decimal.MatchString(port.Value) {
				b.port = port.Value
			}
		}
	}
	return b, nil
}

// mentions reports whether a workload refers to something by that name.
func mentions(list []manifest, name string) bool {
	var search func(n *yaml.Node) bool
	search = func(n *yaml.Node) bool {
		return n.Kind == yaml.ScalarNode && n.Value == name || slices.ContainsFunc(n.Content, search)
	}
	return slices.ContainsFunc(list, func(m manifest) bool {
		spec := m.at("spec")
		return spec != nil && search(spec)
	})
}

// writeOverlay writes the untagged overlay of a component in an environment.
func writeOverlay(t *Tree, repo *Repo, e Environment, c Component, b base, spec ComponentSpec) error {
	up := "../../../" + componentDir(c.Name)
	values := struct {
		Name, Namespace, Image, Gateway, Host, ServicePort string
		Resources, Required, Optional                      []string
		Config                                             bool
	}{
		Name: c.Name, Namespace: e.Namespace, Image: c.Image, ServicePort: b.port, Config: b.config,
		Required: c.Config.Required, Optional: c.Config.Optional,
		Resources: []string{up}, Host: strings.ReplaceAll(spec.Host, "{environment}", e.Name),
	}
	if b.shared {
		values.Resources = append(values.Resources, up+"/shared")
	}
	if values.Host != "" && (len(values.Host) > 253 || !hostPattern.MatchString(values.Host)) {
		return refuse("", "host %q is not a host name", clip(values.Host))
	}
	var err error
	if values.Gateway, err = parentRef(repo.Project().Name, spec.Gateway); err != nil {
		return err
	}
	dir := releaseDir(e.Name, c.Name)
	if b.port != "" && !b.routed {
		values.Resources = append(values.Resources, "route.yaml")
		if err := writeNew(t, dir+"/route.yaml", "overlay/route.yaml", values); err != nil {
			return err
		}
	}
	if b.config {
		if err := writeNew(t, dir+"/config.env", "overlay/config.env", values); err != nil {
			return err
		}
	}
	return writeNew(t, dir+"/"+kustomizationFile, "overlay/"+kustomizationFile, values)
}

// parentRef is the reference of a route to its gateway.
func parentRef(project, gateway string) (string, error) {
	if gateway == "" {
		gateway = project
	}
	namespace, name, ok := strings.Cut(gateway, "/")
	if !ok {
		namespace, name = "", gateway
	}
	if labelProblem(name) != "" || ok && labelProblem(namespace) != "" {
		return "", refuse("give its name, or namespace/name", "gateway %q is not the name of one", clip(gateway))
	}
	ref := mapNode(yaml.FlowStyle, entry{"name", textNode(name)})
	if ok {
		ref.Content = append(ref.Content, textNode("namespace"), textNode(namespace))
	}
	return writeNode(ref, true, false)
}
