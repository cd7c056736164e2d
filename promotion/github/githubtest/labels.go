package githubtest

import (
	"bytes"
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// label is a label of a repository. Case makes no difference to its name.
type label struct {
	id                       int64
	name, color, description string
}

func (r *Repository) labelNamed(name string) (label, bool) {
	i := slices.IndexFunc(r.labels, func(l label) bool { return strings.EqualFold(l.name, name) })
	if i < 0 {
		return label{}, false
	}
	return r.labels[i], true
}

// labelled are the labels of a pull request.
func (r *Repository) labelled(p *pull) []label {
	var list []label
	for _, name := range p.labels {
		l, _ := r.labelNamed(name)
		list = append(list, l)
	}
	return list
}

// attach adds labels to a pull request; those that the repository does not have yet
// are made.
func (c *call) attach(p *pull, names []string) {
	for _, name := range names {
		l, known := c.repo.labelNamed(name)
		if !known {
			l = label{id: c.s.id(), name: name, color: "ededed"}
			c.repo.labels = append(c.repo.labels, l)
		}
		if !slices.Contains(p.labels, l.name) {
			p.labels, p.updated = append(p.labels, l.name), now()
		}
	}
}

func listRepositoryLabels(c *call) (int, any, error) {
	return http.StatusOK, page(c, c.repo.labels, c.repo.label), nil
}

// createLabel is POST /labels.
func createLabel(c *call) (int, any, error) {
	var in struct{ Name, Color, Description string }
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if in.Name == "" {
		return 0, nil, invalid("Label", "name", "missing_field", "")
	}
	if _, known := c.repo.labelNamed(in.Name); known {
		return 0, nil, invalid("Label", "name", "already_exists", "")
	}
	l := label{id: c.s.id(), name: in.Name, color: cmp.Or(in.Color, "ededed"), description: in.Description}
	c.repo.labels = append(c.repo.labels, l)
	return http.StatusCreated, c.repo.label(l), nil
}

func listLabels(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, page(c, c.repo.labelled(p), c.repo.label), nil
}

// addLabels is POST /issues/{number}/labels.
func addLabels(c *call) (int, any, error) { return c.label(false) }

// setLabels is PUT /issues/{number}/labels, which takes away the others.
func setLabels(c *call) (int, any, error) { return c.label(true) }

func (c *call) label(replace bool) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	var in struct{ Labels []string }
	into := any(&in)
	if bytes.HasPrefix(bytes.TrimSpace(c.body), []byte("[")) {
		into = &in.Labels // both are understood
	}
	if err := c.decode(into); err != nil {
		return 0, nil, err
	}
	if replace {
		p.labels, p.updated = nil, now()
	}
	c.attach(p, in.Labels)
	return listLabels(c)
}

// removeLabel is DELETE /issues/{number}/labels/{name}.
func removeLabel(c *call) (int, any, error) {
	p, err := c.pull()
	if err != nil {
		return 0, nil, err
	}
	before := len(p.labels)
	p.labels = slices.DeleteFunc(p.labels, func(l string) bool { return strings.EqualFold(l, c.PathValue("name")) })
	if len(p.labels) == before {
		return 0, nil, refuse(http.StatusNotFound, "Label does not exist")
	}
	p.updated = now()
	return listLabels(c)
}
