package envrepo

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// EnvironmentSpec describes an environment to scaffold.
type EnvironmentSpec struct {
	Name         string
	Namespace    string // "": the project's name and the environment's
	AgeRecipient string // age recipients, separated by commas, for whom its secrets are encrypted; "": no rule in .sops.yaml
	Gates        *Gates // of the promotion into it; nil: healthy and config, and soak 30m for the last

	// GatewayNamespace is whose pods bring requests; "": those of the namespaces with
	// the label sluice.dev/gateway=true.
	GatewayNamespace string
	// Egress is what its pods reach elsewhere, each CIDR[:PORT] or NAMESPACE[:PORT].
	Egress []string
}

const sopsFile = ".sops.yaml"

var recipientPattern = regexp.MustCompile(`^age1[0-9a-z]{20,}(,age1[0-9a-z]{20,})*$`)

// Init writes a new project: sluice.yaml, the environments' own objects,
// .sops.yaml where recipients are given, a README and CODEOWNERS. Without
// environments they are development, staging and production. Of the files
// that other tools own, those that exist are left alone.
func Init(t *Tree, project string, environments []EnvironmentSpec) (Summary, error) {
	if len(environments) == 0 {
		environments = []EnvironmentSpec{{Name: "development"}, {Name: "staging"}, {Name: "production"}}
	}
	return edit(t, func(layer *Tree) (Summary, error) {
		if problem := labelProblem(project); problem != "" {
			return Summary{}, refuse("", "project name %q %s", clip(project), problem)
		}
		if ok, err := exists(layer, projectFile); err != nil || ok {
			if err == nil {
				err = &FileError{File: projectFile, Message: "exists already: this is a project", hint: "add to it with `sluice environment add` and `sluice component add`"}
			}
			return Summary{}, err
		}
		summary := Summary{Message: fmt.Sprintf("start project %s", project)}
		values := Project{Name: project}
		for i, spec := range environments {
			e, err := newEnvironment(project, spec, i, len(environments))
			if err != nil {
				return Summary{}, err
			}
			if i > 0 {
				e.Promotion.From = environments[i-1].Name
			}
			values.Environments = append(values.Environments, e)
			if err := writeEnvironment(layer, e, spec); err != nil {
				return Summary{}, err
			}
		}
		if err := writeNew(layer, projectFile, "project/sluice.yaml", values); err != nil {
			return Summary{}, err
		}
		if _, err := Open(layer); err != nil { // names that repeat, and the like
			return Summary{}, err
		}
		for _, f := range []struct{ file, name string }{{"README.md", "project/README.md"}, {".github/CODEOWNERS", "project/CODEOWNERS"}} {
			if ok, err := exists(layer, f.file); err != nil || ok {
				if err != nil {
					return Summary{}, err
				}
				summary.note("%s exists already and was left alone", f.file)
				continue
			}
			if err := writeNew(layer, f.file, f.name, values); err != nil {
				return Summary{}, err
			}
		}
		return summary, addRecipients(layer, environments, &summary)
	})
}

// newEnvironment is the i-th of n environments.
func newEnvironment(project string, spec EnvironmentSpec, i, n int) (Environment, error) {
	if problem := labelProblem(spec.Name); problem != "" {
		return Environment{}, refuse("", "environment name %q %s", clip(spec.Name), problem)
	}
	e := Environment{Name: spec.Name, Namespace: spec.Namespace, AutoDeploy: i == 0}
	if e.Namespace == "" {
		e.Namespace = project + "-" + spec.Name
	}
	if problem := namespaceProblem(e.Namespace); problem != "" {
		return Environment{}, refuse("", "namespace %q %s", clip(e.Namespace), problem)
	}
	if spec.AgeRecipient != "" && !recipientPattern.MatchString(spec.AgeRecipient) {
		return Environment{}, refuse("a recipient starts with age1; a key that starts with AGE-SECRET-KEY- is private and belongs in no repository",
			"the age recipient of environment %s is not one", spec.Name)
	}
	if i > 0 {
		e.Promotion.Gates = defaultGates(i == n-1)
		if spec.Gates != nil {
			e.Promotion.Gates = *spec.Gates
		}
	}
	return e, nil
}

// writeEnvironment writes an environment's own objects: its namespace, and what
// keeps it apart from others (docs/adr/0031).
func writeEnvironment(t *Tree, e Environment, spec EnvironmentSpec) error {
	values := struct {
		Environment
		GatewayNamespace string
		Egress           []destination
	}{Environment: e, GatewayNamespace: spec.GatewayNamespace}
	if problem := labelProblem(spec.GatewayNamespace); spec.GatewayNamespace != "" && problem != "" {
		return refuse("", "gateway namespace %q %s", clip(spec.GatewayNamespace), problem)
	}
	for _, text := range spec.Egress {
		d, err := parseDestination(text)
		if err != nil {
			return err
		}
		values.Egress = append(values.Egress, d)
	}
	for _, name := range []string{kustomizationFile, "namespace.yaml", "networkpolicy.yaml", "quota.yaml", "serviceaccount.yaml"} {
		if err := writeNew(t, environmentDir(e.Name)+"/"+name, "environment/"+name, values); err != nil {
			return err
		}
	}
	return nil
}

// destination is what pods may reach: addresses or a namespace, at one TCP port or
// all ports.
type destination struct {
	CIDR, Namespace string
	Port            int
}

func parseDestination(text string) (destination, error) {
	const hint = "give addresses or a namespace, and a TCP port where one is meant: 10.20.0.0/24:5432, 10.20.0.7/32, monitoring:4317"
	// The address before the slash may hold colons, too.
	slash := strings.LastIndex(text, "/")
	rest, port, ported := strings.Cut(text[slash+1:], ":")
	who := text[:slash+1] + rest
	var d destination
	if ported {
		var err error
		if d.Port, err = strconv.Atoi(port); err != nil || d.Port < 1 || d.Port > 65535 {
			return destination{}, refuse(hint, "egress %q: %q is not a port", clip(text), clip(port))
		}
	}
	if slash < 0 {
		if problem := labelProblem(who); problem != "" {
			return destination{}, refuse(hint, "egress %q: namespace %q %s", clip(text), clip(who), problem)
		}
		d.Namespace = who
		return d, nil
	}
	prefix, err := netip.ParsePrefix(who)
	switch {
	case err != nil:
		return destination{}, refuse(hint, "egress %q: %q is not a range of addresses", clip(text), clip(who))
	case prefix != prefix.Masked():
		return destination{}, refuse("write "+prefix.Masked().String()+", or a longer prefix", "egress %q: %s is not the first address of its range", clip(text), prefix.Addr())
	}
	d.CIDR = prefix.String()
	return d, nil
}

// AddEnvironment adds an environment after the others.
func AddEnvironment(t *Tree, spec EnvironmentSpec) (Summary, error) {
	return edit(t, func(layer *Tree) (Summary, error) {
		repo, err := Open(layer)
		if err != nil {
			return Summary{}, err
		}
		all := repo.Project().Environments
		if _, err := repo.Environment(spec.Name); err == nil {
			return Summary{}, refuse("choose another name", "environment %s exists already", spec.Name)
		}
		e, err := newEnvironment(repo.Project().Name, spec, len(all), len(all)+1)
		if err != nil {
			return Summary{}, err
		}
		e.Promotion.From = all[len(all)-1].Name
		if err := appendEnvironment(layer, e); err != nil {
			return Summary{}, err
		}
		if err := writeEnvironment(layer, e, spec); err != nil {
			return Summary{}, err
		}
		summary := Summary{Message: fmt.Sprintf("add environment %s", e.Name)}
		summary.note("it comes after %s; its place in sluice.yaml is its place in the order", e.Promotion.From)
		return summary, addRecipients(layer, []EnvironmentSpec{spec}, &summary)
	})
}

func appendEnvironment(t *Tree, e Environment) error {
	src, err := readFile(t, projectFile)
	if err != nil {
		return err
	}
	f, err := openYAML(projectFile, src)
	if err != nil {
		return err
	}
	f.rewrite(f.get(f.root, "environments"), keepAll, entry{value: mapNode(0,
		entry{"name", textNode(e.Name)},
		entry{"namespace", textNode(e.Namespace)},
		entry{"promotion", mapNode(0, entry{"from", textNode(e.Promotion.From)}, entry{"gates", gatesNode(e.Promotion.Gates)})},
	)})
	out, err := f.bytes()
	if err != nil {
		return err
	}
	if err := t.WriteFile(projectFile, out); err != nil {
		return err
	}
	_, err = Open(t)
	return err
}

type sopsRule struct{ PathRegex, EncryptedRegex, Age string }

// sopsRules are the creation rules of an environment: of a YAML Secret only
// the values are encrypted, so that it stays readable.
func sopsRules(spec EnvironmentSpec) []sopsRule {
	dir := "environments/" + spec.Name + "/"
	return []sopsRule{
		{PathRegex: dir + `.*\.ya?ml$`, EncryptedRegex: "^(data|stringData)$", Age: spec.AgeRecipient},
		{PathRegex: dir, Age: spec.AgeRecipient},
	}
}

// addRecipients writes the rules of environments with recipients to .sops.yaml.
func addRecipients(t *Tree, specs []EnvironmentSpec, summary *Summary) error {
	specs = slices.DeleteFunc(slices.Clone(specs), func(s EnvironmentSpec) bool { return s.AgeRecipient == "" })
	if len(specs) == 0 {
		return nil
	}
	var rules []sopsRule
	for _, spec := range specs {
		rules = append(rules, sopsRules(spec)...)
	}
	ok, err := exists(t, sopsFile)
	if err != nil {
		return err
	}
	if !ok {
		return writeNew(t, sopsFile, "project/sops.yaml", struct{ Rules []sopsRule }{rules})
	}
	src, err := readFile(t, sopsFile)
	if err != nil {
		return err
	}
	f, err := openYAML(sopsFile, src)
	if err != nil {
		return err
	}
	list := f.get(f.root, "creation_rules")
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		summary.note("%s has no list creation_rules: add the recipient there yourself", sopsFile)
		return nil
	}
	if strings.Contains(string(src), "environments/"+specs[0].Name+"/") {
		summary.note("%s names environments/%s/ already and was left alone", sopsFile, specs[0].Name)
		return nil
	}
	var add []entry
	for _, r := range rules {
		rule := mapNode(0, entry{"path_regex", textNode(r.PathRegex)})
		if r.EncryptedRegex != "" {
			rule.Content = append(rule.Content, textNode("encrypted_regex"), textNode(r.EncryptedRegex))
		}
		rule.Content = append(rule.Content, textNode("age"), textNode(r.Age))
		add = append(add, entry{value: rule})
	}
	f.rewrite(list, keepAll, add...)
	out, err := f.bytes()
	if err != nil {
		return err
	}
	return t.WriteFile(sopsFile, out)
}
