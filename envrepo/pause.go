package envrepo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// PauseChange says what is paused or resumed: environments as a whole, or
// components in all of them.
type PauseChange struct {
	Paused       bool
	Environments []string
	Components   []string
	Reason       string // part of the commit's subject; "" for none
}

const maxReason = 120

// SetPaused writes `paused` into sluice.yaml or the component.yaml of each
// component. What is resumed keeps the field, as false, with its comments.
func SetPaused(t *Tree, c PauseChange) (Summary, error) {
	if len(c.Environments)+len(c.Components) == 0 {
		return Summary{}, refuse("", "neither an environment nor a component is named")
	}
	if utf8.RuneCountInString(c.Reason) > maxReason || strings.ContainsFunc(c.Reason, unprintable) {
		return Summary{}, refuse("say the rest in the place that the reason names", "the reason must be one line of at most %d characters", maxReason)
	}
	return edit(t, func(layer *Tree) (Summary, error) {
		repo, err := Open(layer)
		if err != nil {
			return Summary{}, err
		}
		var summary Summary
		var changed, were []string
		note := func(kind, name string, was bool) {
			if was == c.Paused {
				were = append(were, kind+" "+name)
			} else {
				changed = append(changed, kind+" "+name)
			}
		}
		for _, name := range distinct(c.Environments) {
			was, err := pauseEnvironment(layer, repo, name, c.Paused)
			if err != nil {
				return Summary{}, err
			}
			note("environment", name, was)
		}
		for _, name := range distinct(c.Components) {
			was, err := pauseComponent(layer, repo, name, c.Paused)
			if err != nil {
				return Summary{}, err
			}
			note("component", name, was)
		}
		summary.Message = c.subject(changed, were)
		c.explain(&summary, layer)
		return summary, nil
	})
}

func distinct(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// subject is the first line of the commit.
func (c PauseChange) subject(changed, were []string) string {
	verb, state := "resume", "not paused"
	if c.Paused {
		verb, state = "pause", "paused already"
	}
	if len(changed) == 0 {
		be := " is "
		if len(were) > 1 {
			be = " are "
		}
		return strings.Join(were, ", ") + be + state
	}
	subject := verb + " " + strings.Join(changed, ", ")
	if c.Reason != "" {
		subject += ": " + c.Reason
	}
	return subject
}

// explain adds what the change does not do.
func (c PauseChange) explain(s *Summary, t *Tree) {
	if c.Paused {
		s.note("what runs goes on running: nothing is applied, corrected or deleted until it is resumed")
		return
	}
	repo, err := Open(t)
	if err != nil {
		return // it was read back when it was written
	}
	var paused []string
	for _, e := range repo.Project().Environments {
		if e.Paused {
			paused = append(paused, e.Name)
		}
	}
	if len(c.Components) > 0 && len(paused) > 0 {
		s.note("still paused as a whole: %s", strings.Join(paused, ", "))
	}
}

// pauseEnvironment says whether the environment was paused before.
func pauseEnvironment(t *Tree, repo *Repo, name string, paused bool) (was bool, err error) {
	env, err := repo.Environment(name)
	if err != nil {
		return false, err
	}
	if env.Paused == paused {
		return env.Paused, nil
	}
	src, err := readFile(t, projectFile)
	if err != nil {
		return false, err
	}
	out, err := withPaused(projectFile, src, paused, func(f *yamlFile) *yaml.Node {
		list := f.get(f.root, "environments")
		if list == nil {
			return nil
		}
		for _, item := range list.Content {
			if n := f.get(item, "name"); n != nil && n.Value == name {
				return item
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	project, err := decodeProject(projectFile, out)
	if err != nil {
		return false, err
	}
	if now, err := project.environment(name); err != nil || now.Paused != paused {
		return false, notPaused(projectFile, paused)
	}
	return env.Paused, t.WriteFile(projectFile, out)
}

// pauseComponent says whether the component was paused before. A name that is an
// environment's is most likely meant as one.
func pauseComponent(t *Tree, repo *Repo, name string, paused bool) (was bool, err error) {
	component, err := repo.Component(name)
	var unknown *UnknownComponentError
	if errors.As(err, &unknown) {
		if _, found := repo.Environment(name); found == nil {
			return false, refuse("to name an environment: --environment "+name, "%s is an environment, not a component", name)
		}
	}
	if err != nil || component.Paused == paused {
		return component.Paused, err
	}
	file := componentFile(name)
	src, err := readFile(t, file)
	if err != nil {
		return false, err
	}
	out, err := withPaused(file, src, paused, func(f *yamlFile) *yaml.Node { return f.root })
	if err != nil {
		return false, err
	}
	if now, err := decodeComponent(file, name, out); err != nil || now.Paused != paused {
		return false, errors.Join(err, notPaused(file, paused))
	}
	return component.Paused, t.WriteFile(file, out)
}

func notPaused(file string, paused bool) error {
	return &FileError{File: file, Message: fmt.Sprintf("editing paused failed: the file does not say %t afterwards", paused), hint: "edit the file by hand"}
}

// withPaused returns a file of which one mapping says paused.
func withPaused(file string, src []byte, paused bool, find func(*yamlFile) *yaml.Node) ([]byte, error) {
	f, err := openYAML(file, src)
	if err != nil {
		return nil, err
	}
	at := find(f)
	if at == nil || at.Kind != yaml.MappingNode {
		return nil, notPaused(file, paused)
	}
	text := fmt.Sprint(paused)
	if n := f.get(at, "paused"); n != nil {
		f.setScalar(n, yaml.NodeTagBool, text)
	} else {
		f.rewrite(at, keepAll, entry{"paused", &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagBool, Value: text}})
	}
	return f.bytes()
}
