package render

//lint:file-ignore SA1019 Kustomize still reads its deprecated fields, and so must the guard.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// role says what Kustomize does with a file, and so what must hold of it.
type role uint8

const (
	roleResource    role = 1 << iota // objects
	rolePatch                        // strategic-merge or JSON patch
	roleData                         // generator input: any bytes
	roleConfig                       // field specifications
	roleCRD                          // OpenAPI definitions
	roleReplacement                  // replacements
	rolePlugin                       // a transformer's configuration
	roleUntargeted                   // with rolePatch: the patch itself says what it patches
)

// reference is one path in a kustomization file.
type reference struct {
	field string
	value string // as it stands there, a generator's KEY= removed
	text  string // with it
	role  role
	file  bool // may be a file
	dir   bool // may be a folder with a kustomization
}

// kustomization is one kustomization file, decoded exactly as Kustomize does.
type kustomization struct {
	file string
	dir  string
	data []byte
	k    types.Kustomization

	root   *yaml.Node // for line numbers only: see lines
	parsed bool       // root is known, if only to be nil

	refs         []reference
	copies       int                 // copy operations in inline JSON patches
	replacements []types.Replacement // inline ones
}

// findKustomization returns the one kustomization file of a folder, "" when
// there is none. Two are an error, as they are to Kustomize.
func (w *walker) findKustomization(dir string) (string, error) {
	var found string
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		p := path.Join(dir, name)
		kind, err := w.lstat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if r := specialFile(kind); !r.ok() {
			return "", &InputError{File: p, Reason: r.reason, Remedy: r.remedy}
		}
		if kind.IsDir() {
			continue
		}
		if found != "" {
			return "", &InputError{File: p, Reason: "stands beside " + path.Base(found) + ": a folder has one kustomization file",
				Remedy: "remove one of them"}
		}
		found = p
	}
	return found, nil
}

var (
	unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)
	yamlLine     = regexp.MustCompile(`line (\d+)`)
)

// parseKustomization decodes a kustomization file with Kustomize's own
// decoder (field names in any case, the last of two equal ones counts): the
// guard must see what the build will see.
func parseKustomization(file string, data []byte) (*kustomization, error) {
	if len(data) > MaxConfig {
		return nil, tooLarge(file, MaxConfig)
	}
	if r := isLFS(data); !r.ok() {
		return nil, &InputError{File: file, Reason: r.reason, Remedy: r.remedy}
	}
	kf := &kustomization{file: file, dir: path.Dir(file), data: data}
	if err := kf.k.Unmarshal(data); err != nil {
		return nil, kf.decodeError(err)
	}
	if err := kf.refuseFields(); err != nil {
		return nil, err
	}
	if err := kf.collect(); err != nil {
		return nil, err
	}
	return kf, nil
}

// decodeError adds the line to Kustomize's error.
func (kf *kustomization) decodeError(err error) error {
	e := &InputError{File: kf.file, Reason: firstLine(err.Error()), Remedy: "correct the file: kubectl kustomize refuses it too"}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		e.Line, e.Field, e.Reason = kf.keyLine(m[1]), m[1], "is not a field of a kustomization"
		if near := envrepo.Nearest(m[1], kustomizationFields); near != "" {
			e.Remedy = "did you mean " + near + "?"
		}
	} else if line, reason := notYAML(kf.data, false); line > 0 {
		e.Line, e.Reason = line, reason
	} else if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
	}
	return e
}

var kustomizationFields = []string{
	"apiVersion", "kind", "metadata", "namePrefix", "nameSuffix", "namespace", "commonLabels", "labels", "commonAnnotations",
	"patchesStrategicMerge", "patchesJson6902", "patches", "images", "replacements", "replicas", "vars", "sortOptions",
	"resources", "components", "crds", "bases", "configMapGenerator", "secretGenerator", "generatorOptions",
	"configurations", "transformers", "validators", "buildMetadata", "literals", "files", "envs", "newName", "newTag", "digest",
	"name", "behavior", "options", "path", "patch", "target", "pairs", "includeSelectors", "includeTemplates", "fields",
}

// refuseFields refuses what reaches out of the repository, runs programs or
// changes state that all renders share.
func (kf *kustomization) refuseFields() error {
	refuse := func(field, reason, remedy string) error {
		return &InputError{File: kf.file, Line: kf.keyLine(field), Field: field, Reason: reason, Remedy: remedy}
	}
	const helm = "Helm charts are not rendered: the helm program would run"
	const helmRemedy = "render the chart once with helm template and commit the manifests"
	switch k := &kf.k; {
	case k.OpenAPI != nil:
		return refuse("openapi", "is not supported: the schema is shared by all renders", "remove the field; say how lists merge in a JSON patch instead")
	case k.HelmGlobals != nil:
		return refuse("helmGlobals", helm, helmRemedy)
	case k.HelmCharts != nil:
		return refuse("helmCharts", helm, helmRemedy)
	case k.HelmChartInflationGenerator != nil:
		return refuse("helmChartInflationGenerator", helm, helmRemedy)
	case len(k.Generators) > 0:
		return refuse("generators", "generator plugins are not run", "use configMapGenerator or secretGenerator")
	case len(k.Validators) > 0:
		return refuse("validators", "validator plugins are not run", "remove the field; sluice check validates")
	}
	return nil
}

// collect lists every path of the file and checks what stands inline.
func (kf *kustomization) collect() error {
	k := &kf.k
	kf.add("resources", roleResource, true, true, k.Resources...)
	kf.add("bases", roleResource, true, true, k.Bases...)
	kf.add("components", roleResource, false, true, k.Components...)
	kf.add("crds", roleCRD, true, false, k.Crds...)
	kf.add("configurations", roleConfig, true, false, k.Configurations...)
	for _, t := range k.Transformers {
		if err := kf.addTransformer(t); err != nil {
			return err
		}
	}
	for _, p := range k.PatchesStrategicMerge {
		if err := kf.addPatchOrPath("patchesStrategicMerge", string(p)); err != nil {
			return err
		}
	}
	if err := kf.addPatches("patches", k.Patches); err != nil {
		return err
	}
	if err := kf.addPatches("patchesJson6902", k.PatchesJson6902); err != nil {
		return err
	}
	if err := kf.checkLengths(); err != nil {
		return err
	}
	for _, r := range k.Replacements {
		if r.Path != "" {
			kf.add("replacements.path", roleReplacement, true, false, r.Path)
		}
		kf.replacements = append(kf.replacements, r.Replacement)
	}
	for _, g := range k.ConfigMapGenerator {
		if err := kf.addSources("configMapGenerator", g.KvPairSources); err != nil {
			return err
		}
	}
	for _, g := range k.SecretGenerator {
		if err := kf.addSources("secretGenerator", g.KvPairSources); err != nil {
			return err
		}
	}
	return nil
}

// images are the images entries under their new and their old name.
func (kf *kustomization) images() []types.Image {
	return slices.Concat(kf.k.Images, kf.k.ImageTags)
}

// checkLengths refuses long field paths and image names.
func (kf *kustomization) checkLengths() error {
	for _, l := range kf.k.Labels {
		for _, f := range l.FieldSpecs {
			if longPath(f.Path) {
				return kf.inlineError("labels.fields.path", f.Path, "", refusedLongPath.reason, refusedLongPath.remedy)
			}
		}
	}
	for _, v := range kf.k.Vars {
		if longPath(v.FieldRef.FieldPath) {
			return kf.inlineError("vars.fieldref", v.FieldRef.FieldPath, "", refusedLongPath.reason, refusedLongPath.remedy)
		}
	}
	for _, i := range kf.images() {
		if len(i.Name) > MaxImageName {
			return kf.inlineError("images.name", i.Name, i.Name, fmt.Sprintf("is longer than %d bytes", MaxImageName), "shorten it")
		}
	}
	return nil
}

func (kf *kustomization) add(field string, r role, file, dir bool, values ...string) {
	for _, v := range values {
		kf.refs = append(kf.refs, reference{field: field, value: v, text: v, role: r, file: file, dir: dir})
	}
}

// addSources lists the files of a generator.
func (kf *kustomization) addSources(field string, s types.KvPairSources) error {
	kf.add(field+".envs", roleData, true, false, s.EnvSources...)
	if s.EnvSource != "" {
		kf.add(field+".env", roleData, true, false, s.EnvSource)
	}
	for _, source := range s.FileSources {
		key, p, found := strings.Cut(source, "=")
		if !found {
			key, p = "", source
		}
		if found && (key == "" || p == "") || strings.Contains(p, "=") {
			return kf.inlineError(field+".files", source, source, "is not [KEY=]PATH", "write KEY=PATH, neither with a further =")
		}
		kf.refs = append(kf.refs, reference{field: field + ".files", value: p, text: source, role: roleData, file: true})
	}
	return nil
}

// addPatchOrPath mirrors how Kustomize tells a patch from the path of one: by
// trying to read it as objects.
func (kf *kustomization) addPatchOrPath(field, text string) error {
	if _, err := checkDocuments([]byte(text)); err != nil {
		if !errors.Is(err, errNotYAML) {
			return kf.inlineError(field, text, "", err.Error(), remedyYAML(err))
		}
		kf.add(field, rolePatch|roleUntargeted, true, false, text)
		return nil
	}
	if _, err := newResourceFactory().RF().SliceFromBytes([]byte(text)); err != nil {
		kf.add(field, rolePatch|roleUntargeted, true, false, text)
		return nil
	}
	return nil
}

func (kf *kustomization) addPatches(field string, patches []types.Patch) error {
	for _, p := range patches {
		if p.Path != "" {
			role := rolePatch
			if p.Target == nil {
				role |= roleUntargeted
			}
			kf.add(field+".path", role, true, false, p.Path)
		}
		if p.Patch != "" {
			if err := kf.addInlinePatch(field+".patch", p.Patch); err != nil {
				return err
			}
		}
	}
	return nil
}

func (kf *kustomization) addInlinePatch(field, text string) error {
	if _, err := checkDocuments([]byte(text)); err != nil && !errors.Is(err, errNotYAML) {
		return kf.inlineError(field, text, "", err.Error(), remedyYAML(err))
	}
	kf.copies += countCopies([]byte(text))
	return nil
}

// addTransformer accepts Kustomize's own transformers that read no file,
// inline or in a file. Anything else would run a program or fetch.
func (kf *kustomization) addTransformer(text string) error {
	if _, err := checkDocuments([]byte(text)); err != nil {
		if !errors.Is(err, errNotYAML) {
			return kf.inlineError("transformers", text, "", err.Error(), remedyYAML(err))
		}
	} else if m, err := newResourceFactory().NewResMapFromBytes([]byte(text)); err == nil {
		if r := checkPlugins(m); !r.ok() {
			return kf.inlineError("transformers", text, "", r.reason, r.remedy)
		}
		return nil
	}
	kf.add("transformers", rolePlugin, true, false, text)
	return nil
}

func (kf *kustomization) inlineError(field, text, value, reason, remedy string) error {
	return &InputError{File: kf.file, Line: kf.valueLine(field, text), Field: field, Value: value, Reason: reason, Remedy: remedy}
}

// builtinTransformers are the transformers that read no file and run nothing.
var builtinTransformers = map[string]bool{
	"AnnotationsTransformer": true, "ImageTagTransformer": true, "LabelTransformer": true, "NamespaceTransformer": true,
	"PrefixTransformer": true, "ReplicaCountTransformer": true, "SortOrderTransformer": true, "SuffixTransformer": true,
}

func checkPlugins(m resmap.ResMap) refusal {
	for _, r := range m.Resources() {
		gvk := r.GetGvk()
		if gvk.Group != "" || gvk.Version != konfig.BuiltinPluginApiVersion || !builtinTransformers[gvk.Kind] {
			return refusal{fmt.Sprintf("transformer %s %s is not run: only built-in ones that read no file are", quoted(r.GetApiVersion()), quoted(gvk.Kind)),
				"use the field of the kustomization instead: patches, replacements, labels, images, …"}
		}
		config, err := r.Map()
		if err != nil {
			return refusal{"is not the configuration of a transformer", "give objects of apiVersion builtin"}
		}
		if r := checkLongPaths(config); !r.ok() {
			return r
		}
	}
	return refusal{}
}

// newResourceFactory is the factory that krusty uses.
func newResourceFactory() *resmap.Factory {
	return resmap.NewFactory(provider.NewDefaultDepProvider().GetResourceFactory())
}

// keyLine is the line of a field, at the top (where names match in any case)
// or anywhere below; 0 when it is not found.
func (kf *kustomization) keyLine(name string) int {
	if line := kf.valueLine(name, ""); line > 0 {
		return line
	}
	return findScalar(kf.lines(), name)
}

// refuse is what is wrong with a reference.
func (kf *kustomization) refuse(ref reference, reason, remedy string) error {
	return &InputError{File: kf.file, Line: kf.valueLine(ref.field, ref.text), Field: ref.field, Value: ref.value, Reason: reason, Remedy: remedy}
}

// lines is the file with the numbers of its lines; nil where that cannot be had, which
// need not be an error to Kustomize. For errors only the file is parsed once more.
func (kf *kustomization) lines() *yaml.Node {
	if kf.parsed {
		return kf.root
	}
	kf.parsed = true
	var doc yaml.Node
	if yaml.NewDecoder(bytes.NewReader(kf.data)).Decode(&doc) == nil && len(doc.Content) == 1 && doc.Content[0].Kind == yaml.MappingNode {
		kf.root = doc.Content[0]
	}
	return kf.root
}

// valueLine is the line of a value of a field (the part of field before the
// first dot), or else of the field.
func (kf *kustomization) valueLine(field, value string) int {
	top, _, _ := strings.Cut(field, ".")
	line := 0
	root := kf.lines()
	if root == nil {
		return 0
	}
	for i := 0; i+1 < len(root.Content); i += 2 { // a field may stand twice
		if key := root.Content[i]; strings.EqualFold(key.Value, top) {
			if l := findScalar(root.Content[i+1], value); l > 0 {
				return l
			}
			line = key.Line
		}
	}
	return line
}

// findScalar is the line of the first scalar with the value; aliases are not
// followed.
func findScalar(n *yaml.Node, value string) int {
	if n == nil {
		return 0
	}
	if n.Kind == yaml.ScalarNode && n.Value == value {
		return n.Line
	}
	for _, c := range n.Content {
		if line := findScalar(c, value); line > 0 {
			return line
		}
	}
	return 0
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
