package envrepo

import (
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// HealthRule says when objects of one kind are ready, as expressions in CEL over
// the live object. The package keeps their text; compiling them is for whoever
// has a cluster to judge.
type HealthRule struct {
	File string // component.yaml, for messages
	// Group and Kind are what counts: objects are the same at every version.
	Group, Kind string
	// Ready and Failed give a boolean, Message a string. Failed and Message may
	// be empty.
	Ready, Failed, Message Expression
}

// Expression is the text of an expression and the line of the file in which it
// begins.
type Expression struct {
	Text string
	Line int
}

// Bounds of the expressions of one component. They are judged again whenever an
// object changes.
const (
	maxHealthRules = 50
	maxExpression  = 2048
)

var (
	apiVersionPattern = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?v[0-9]+((alpha|beta)[0-9]+)?$`)
)

// decodeHealth decodes the list of rules, one for each kind.
func decodeHealth(o object, file string) []HealthRule {
	items := o.list("health")
	if len(items) > maxHealthRules {
		o.problem("health", "", "must have at most %d items, found %d", maxHealthRules, len(items))
		return nil
	}
	var rules []HealthRule
	for _, it := range items {
		rule := decodeHealthRule(o.d.object(it.node, it.path), file)
		for _, other := range rules {
			if rule.Kind != "" && rule.Kind == other.Kind && rule.Group == other.Group {
				o.d.problem(it.node, it.path, "join them: the version of an object does not count", "%s is about kind %s of group %q, and so is the one in line %d",
					it.path, rule.Kind, rule.Group, other.Ready.Line)
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

func decodeHealthRule(o object, file string) HealthRule {
	rule := HealthRule{File: file}
	if o.require("apiVersion") {
		version := o.text("apiVersion", matching(apiVersionPattern, "the API version of a kind, such as apps/v1"))
		if group, _, grouped := strings.Cut(version, "/"); grouped {
			rule.Group = group
		}
	}
	if o.require("kind") {
		rule.Kind = o.text("kind", matching(kindPattern, "a kind, such as Certificate"))
	}
	if o.require("ready") {
		rule.Ready = o.expression("ready")
	}
	rule.Failed, rule.Message = o.expression("failed"), o.expression("message")
	return rule
}

// expression reads the text of an expression, which is compiled elsewhere.
func (o object) expression(name string) Expression {
	n := o.value[name]
	if n == nil {
		return Expression{}
	}
	e := Expression{Line: n.Line, Text: o.text(name, func(s string) string {
		switch {
		case len(s) > maxExpression:
			return fmt.Sprintf("is too long: %d bytes, %d are allowed", len(s), maxExpression)
		case strings.TrimSpace(s) == "":
			return "is empty"
		}
		return ""
	})}
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		e.Line++ // the node stands where the | or > does
	}
	return e
}
