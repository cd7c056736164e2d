package envrepo

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// The files that are scaffolded, as a user would write them. Their delimiters
// are <% and %>: YAML has its own use for braces.
//
//go:embed templates
var templates embed.FS

// scaffold fills in the template of that name.
func scaffold(name string, values any) ([]byte, error) {
	text, err := templates.ReadFile("templates/" + name)
	if err != nil {
		return nil, fmt.Errorf("reading the template %s: %w", name, err)
	}
	t, err := template.New(name).Delims("<%", "%>").Funcs(template.FuncMap{
		"q":     quote,
		"gates": formatGates,
		"join":  func(names []string) string { return strings.Join(names, ", ") },
		"last":  func(list []Environment) Environment { return list[len(list)-1] },
	}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("parsing the template %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return nil, fmt.Errorf("filling in the template %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// quote writes a string as a YAML scalar that may stand anywhere, with quotes
// where it needs them.
func quote(s string) (string, error) {
	if !strings.ContainsAny(s, ",[]{}\n") {
		return writeNode(textNode(s), false, false)
	}
	text, err := writeNode(listNode(yaml.FlowStyle, textNode(s)), true, false)
	return strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), err
}

func formatGates(g Gates) (string, error) { return writeNode(gatesNode(g), true, false) }

func gatesNode(g Gates) *yaml.Node {
	n := mapNode(yaml.FlowStyle)
	add := func(key, tag, value string) {
		n.Content = append(n.Content, textNode(key), &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value})
	}
	add("healthy", yaml.NodeTagBool, fmt.Sprint(g.Healthy))
	if g.Soak > 0 {
		add("soak", yaml.NodeTagString, formatDuration(g.Soak))
	}
	if len(g.Checks) > 0 {
		checks := textsNode(g.Checks)
		checks.Style = yaml.FlowStyle
		n.Content = append(n.Content, textNode("checks"), checks)
	}
	add("config", yaml.NodeTagBool, fmt.Sprint(g.Config))
	return n
}

// defaultGates: health and configuration always, and before the last
// environment, production, half an hour of quiet.
func defaultGates(last bool) Gates {
	g := Gates{Healthy: true, Config: true}
	if last {
		g.Soak = 30 * time.Minute
	}
	return g
}

// writeNew writes a scaffolded file that must not exist yet.
func writeNew(t *Tree, file, name string, values any) error {
	ok, err := exists(t, file)
	if err != nil {
		return err
	}
	if ok {
		return &FileError{File: file, Message: "exists already", hint: "move it away first"}
	}
	data, err := scaffold(name, values)
	if err != nil {
		return err
	}
	return t.WriteFile(file, data)
}
