package envrepo

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// maxMoved bounds a file that is moved as it is, such as a binary secret.
const maxMoved = 5 << 20

type tagScaffold struct{ Namespace, Name, Tag, Suffix, Image, NewName string }

func tagValues(rel Release, tag string) tagScaffold {
	return tagScaffold{Namespace: rel.Environment.Namespace, Name: rel.Name, Tag: tag, Suffix: "-" + tag, Image: rel.Component.Image}
}

// TagComponent turns the untagged overlay of a component into tags: its
// configuration, secrets and patches move to base/, byte for byte; each tag
// gets an overlay with the present digest; the routes stay, with a plain
// Service for callers inside the cluster. The first tag gets all traffic, the
// others are not listed, so that they are scaled to zero. Manifests without the
// label that keeps tags apart are an *InstanceLabelError.
func TagComponent(t *Tree, env, component string, tags []string) (Summary, error) {
	return editRelease(t, env, component, func(layer *Tree, repo *Repo, rel Release) (Summary, error) {
		if rel.Tagged() {
			return Summary{}, refuse(fmt.Sprintf("`sluice deploy %s --environment %s --build BUILD --tag NAME` creates more", component, env),
				"%s runs as tags already: %s", inEnvironment(rel, ""), strings.Join(rel.tagNames(), ", "))
		}
		if len(tags) == 0 {
			return Summary{}, refuse("name them, the one that gets the traffic first: --tags blue,green", "tagging %s: no tags named", inEnvironment(rel, ""))
		}
		manifests, err := folderManifests(layer, componentDir(component), 0)
		if err != nil {
			return Summary{}, err
		}
		parts, err := splitOverlay(layer, rel)
		if err != nil {
			return Summary{}, err
		}
		if err := checkInstanceLabels(append(slices.Clone(manifests), parts.perTag...), component); err != nil {
			return Summary{}, err
		}
		service, ok := findService(append(slices.Clone(manifests), parts.perTag...), component)
		if !ok || service.at("spec", "selector") == nil {
			return Summary{}, refuse(fmt.Sprintf("add a Service %s to %s", component, componentDir(component)),
				"component %s cannot run as tags: it has no Service %s that selects its pods", component, component)
		}
		summary := Summary{Message: fmt.Sprintf("tag %s as %s", inEnvironment(rel, ""), strings.Join(tags, ", "))}
		pinned, err := readOverlayPin(layer, rel.Dir+"/"+kustomizationFile, rel.Component.Image)
		if err != nil {
			return Summary{}, err
		}
		if err := parts.move(layer, rel, &summary); err != nil {
			return Summary{}, err
		}
		if len(tags) > 1 {
			summary.note("not listed in traffic.yaml, and so scaled to zero until a deployment lists them: %s", strings.Join(tags[1:], ", "))
		}
		if err := writeTags(layer, rel, tags, pinned); err != nil {
			return Summary{}, err
		}
		if err := writePlainService(layer, rel, service, tags[0]); err != nil {
			return Summary{}, err
		}
		after, err := repo.Release(env, component)
		if err == nil && after.Tags[0].Digest != rel.Digest {
			err = refuse("", "tagging %s: the digest did not come along", inEnvironment(rel, ""))
		}
		return summary, err
	})
}

// writeTags writes the tags' overlays and traffic.yaml.
func writeTags(t *Tree, rel Release, tags []string, pinned pin) error {
	for i, name := range tags {
		if slices.Contains(tags[:i], name) {
			return refuse("name each tag once", "tag %q is named twice", clip(name))
		}
		tag, err := createTag(t, rel, name, pinned.NewName)
		if err != nil {
			return err
		}
		if pinned.Digest == "" {
			continue
		}
		if err := setDigest(t, tag.Dir, rel.Component.Image, pinned.Digest); err != nil {
			return err
		}
	}
	return writeNew(t, trafficFile(rel.Dir), "tag/traffic.yaml", tagValues(rel, tags[0]))
}

// writePlainService writes the Service that callers inside the cluster use:
// the component's own, pointed at a tag.
func writePlainService(t *Tree, rel Release, service manifest, tag string) error {
	selector := mapNode(yaml.FlowStyle)
	for i := 0; i+1 < len(service.at("spec", "selector").Content); i += 2 {
		pair := service.at("spec", "selector").Content[i : i+2]
		value := pair[1].Value
		if pair[0].Value == instanceLabel {
			value = rel.Name + "-" + tag
		}
		selector.Content = append(selector.Content, textNode(pair[0].Value), textNode(value))
	}
	spec := mapNode(0, entry{"selector", selector})
	if ports := service.at("spec", "ports"); ports != nil && ports.Kind == yaml.SequenceNode {
		list := listNode(0)
		for _, p := range ports.Content {
			port := restyle(follow(p), false)
			for i := 0; i+1 < len(port.Content); i += 2 {
				if port.Content[i].Value == "nodePort" {
					port.Content = slices.Delete(port.Content, i, i+2)
					break
				}
			}
			list.Content = append(list.Content, port)
		}
		spec.Content = append(spec.Content, textNode("ports"), list)
	}
	root := mapNode(0, entry{"apiVersion", textNode("v1")}, entry{"kind", textNode("Service")},
		entry{"metadata", mapNode(yaml.FlowStyle, entry{"name", textNode(rel.Name)})}, entry{"spec", spec})
	text, err := writeNode(root, false, false)
	if err != nil {
		return err
	}
	const comment = "# For callers inside the cluster. Sluice points it at the tag with the largest weight.\n"
	return t.WriteFile(rel.Dir+"/service.yaml", []byte(comment+text+"\n"))
}

// overlayParts says what of an untagged overlay goes where.
type overlayParts struct {
	file   *yamlFile
	top    []string   // entries of resources that exist once
	once   []string   // files of the overlay that stay for them
	perTag []manifest // objects of resources that move
	notes  []string
}

// splitOverlay sorts the resources of an overlay: what exists once for each
// release stays, the rest goes to base/.
func splitOverlay(t *Tree, rel Release) (*overlayParts, error) {
	name := rel.Dir + "/" + kustomizationFile
	src, err := readFile(t, name)
	if err != nil {
		return nil, err
	}
	file, err := openYAML(name, src)
	if err != nil {
		return nil, err
	}
	parts := &overlayParts{file: file}
	routed := false
	for _, resource := range texts(file.root, "resources") {
		target := path.Join(rel.Dir, resource)
		switch target {
		case componentDir(rel.Name):
			continue
		case componentDir(rel.Name) + "/shared":
			parts.top = append(parts.top, resource)
			continue
		}
		list, isDir, err := resourceManifests(t, name, target, 0)
		if err != nil {
			return nil, err
		}
		inside := strings.HasPrefix(target, rel.Dir+"/")
		switch {
		case isShared(list):
			parts.top = append(parts.top, resource)
			if inside {
				parts.once = append(parts.once, target)
			}
			for _, m := range list {
				routed = routed || slices.Contains(routeKinds, m.kind)
			}
		case slices.ContainsFunc(list, func(m manifest) bool { return !slices.Contains(perTagKinds, m.kind) }):
			return nil, &FileError{File: target, Message: "holds objects that exist once and objects that run once for each tag", hint: "split it, then tag again"}
		default:
			parts.perTag = append(parts.perTag, list...)
			if isDir && !inside {
				parts.notes = append(parts.notes, fmt.Sprintf("%s is built once for each tag now", target))
			}
		}
	}
	if !routed {
		parts.notes = append(parts.notes, fmt.Sprintf("no route of the overlay names Service %s: the weights decide about nothing until one does", rel.Name))
	}
	return parts, nil
}

// move writes base/ and the kustomization of what stays.
func (p *overlayParts) move(t *Tree, rel Release, summary *Summary) error {
	base := rel.Dir + "/base"
	if _, err := t.Lstat(base); !isMissingOrNil(err) || err == nil {
		return refuse("move it away first", "%s exists already", base)
	}
	kustomization, err := p.baseKustomization(rel)
	if err != nil {
		return err
	}
	var files []string
	err = fs.WalkDir(t, rel.Dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if name != rel.Dir+"/"+kustomizationFile && path.Ext(name) != ".md" && !p.stays(name) {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range files {
		data, err := readBounded(t, name, maxMoved)
		if err != nil {
			return err
		}
		if err := t.Remove(name); err != nil {
			return err
		}
		if err := t.WriteFile(base+strings.TrimPrefix(name, rel.Dir), data); err != nil {
			return err
		}
	}
	if err := t.WriteFile(base+"/"+kustomizationFile, kustomization); err != nil {
		return err
	}
	resources := make([]string, 0, len(p.top)+1)
	for _, r := range p.top {
		resources = append(resources, quoted(r))
	}
	top, err := scaffold("tag/top.yaml", struct {
		Namespace string
		Resources []string
	}{rel.Environment.Namespace, append(resources, "service.yaml")})
	if err != nil {
		return err
	}
	summary.Notes = append(summary.Notes, p.notes...)
	return t.WriteFile(rel.Dir+"/"+kustomizationFile, top)
}

func isMissingOrNil(err error) bool { return err == nil || isMissing(err) }

// stays reports whether a file of the overlay belongs to what exists once.
func (p *overlayParts) stays(name string) bool {
	return slices.ContainsFunc(p.once, func(once string) bool {
		return name == once || strings.HasPrefix(name, once+"/")
	})
}

// baseKustomization is the overlay's kustomization without what stays and
// without the digest, its paths one folder deeper.
func (p *overlayParts) baseKustomization(rel Release) ([]byte, error) {
	f := p.file
	if f.root.Kind != yaml.MappingNode {
		_, err := parsedMapping(f.name, f.root)
		return nil, err
	}
	drop := []string{"namespace"}
	for field, gone := range map[string]func(*yaml.Node) bool{
		"resources": func(n *yaml.Node) bool { return slices.Contains(p.top, follow(n).Value) },
		"images": func(n *yaml.Node) bool {
			name := nodeAt(n, "name")
			return name != nil && name.Value == rel.Component.Image
		},
	} {
		list := f.get(f.root, field)
		if list == nil || list.Kind != yaml.SequenceNode {
			continue
		}
		if !slices.ContainsFunc(list.Content, func(n *yaml.Node) bool { return !gone(n) }) {
			drop = append(drop, field)
			continue
		}
		f.rewrite(list, func(i int) bool { return gone(list.Content[i]) })
	}
	for _, n := range pathNodes(f.root) {
		if key, value, ok := strings.Cut(n.Value, "="); ok && strings.HasPrefix(value, "../") {
			f.setScalar(n, yaml.NodeTagString, key+"=../"+value)
		} else if strings.HasPrefix(n.Value, "../") && !slices.Contains(p.top, n.Value) {
			f.setScalar(n, yaml.NodeTagString, "../"+n.Value)
		}
	}
	for i := 0; i+1 < len(f.root.Content); i += 2 {
		key := f.root.Content[i].Value
		if slices.Contains([]string{"patches", "patchesStrategicMerge", "patchesJson6902", "labels", "commonLabels", "commonAnnotations",
			"transformers", "replacements", "components", "namePrefix", "nameSuffix"}, key) {
			p.notes = append(p.notes, fmt.Sprintf("%s moved to base/: it no longer applies to the route and to what exists once", key))
		}
	}
	f.rewrite(f.root, func(i int) bool { return slices.Contains(drop, f.root.Content[2*i].Value) })
	return f.bytes()
}

// pathNodes are the scalars of a kustomization that name files.
func pathNodes(root *yaml.Node) []*yaml.Node {
	var nodes []*yaml.Node
	add := func(n *yaml.Node) {
		if n != nil && n.Kind == yaml.ScalarNode && n.ShortTag() == yaml.NodeTagString {
			nodes = append(nodes, n)
		}
	}
	each := func(field string, visit func(*yaml.Node)) {
		if list := nodeAt(root, field); list != nil && list.Kind == yaml.SequenceNode {
			for _, n := range list.Content {
				visit(n)
			}
		}
	}
	for _, field := range []string{"resources", "components", "bases", "crds", "configurations", "generators", "transformers", "validators", "patchesStrategicMerge"} {
		each(field, add)
	}
	for _, field := range []string{"patches", "patchesJson6902", "replacements"} {
		each(field, func(n *yaml.Node) { add(nodeAt(n, "path")) })
	}
	for _, field := range []string{"configMapGenerator", "secretGenerator"} {
		each(field, func(n *yaml.Node) {
			add(nodeAt(n, "env"))
			for _, list := range []string{"envs", "files"} {
				if values := nodeAt(n, list); values != nil {
					for _, v := range values.Content {
						add(v)
					}
				}
			}
		})
	}
	return nodes
}
