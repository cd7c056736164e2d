package render

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// What stands in this file judges the labels that keep tags apart (DESIGN §2):
// no selector may reach the pods of another tag, and every tag must carry the
// instance label that Sluice points the plain Service at.

// selecting are the kinds whose selectors must not reach other pods.
var selecting = map[string]bool{"Service": true, "Deployment": true, "StatefulSet": true, "ReplicaSet": true, "PodDisruptionBudget": true}

// lintShared refuses what exists once and selects pods of the tags.
func (l *linter) lintShared(p part, u *subject) {
	tags := l.selected(u.selector, p)
	switch {
	case len(tags) == 0, u.GetKind() == "Service" && len(tags) == 1:
	case u.GetKind() != "Service":
		l.add(SeverityError, p, u, "selects the pods of "+list(tags), "add "+InstanceLabel+": "+l.release.Name+" to its selector and its pods, or move it into the tags")
	case u.GetName() == l.release.Name:
		l.add(SeverityError, p, u, "selects the pods of "+list(tags)+": requests inside the cluster would ignore the weights",
			fmt.Sprintf("add %s: %s to its selector; Sluice points it at the tag with the highest weight", InstanceLabel, l.instance(l.parts[1])))
	default:
		l.add(SeverityError, p, u, "selects the pods of "+list(tags)+" past the weights", "add "+InstanceLabel+" to its selector, or move it into the tags")
	}
}

// lintTagSelector refuses in a tag selectors that reach further than it and,
// where they do not, labels that are not the tag's own.
func (l *linter) lintTagSelector(p part, u *subject) {
	if !selecting[u.GetKind()] {
		return
	}
	if others := l.selected(u.selector, p); len(others) > 0 {
		l.add(SeverityError, p, u, "selects the pods of "+list(others)+" too", l.overlapHint(p, u, others))
		return
	}
	if u.selector != nil && instanceOf(u.selector) == nil {
		l.add(SeverityError, p, u, "selects without "+InstanceLabel+": it would select the pods of other tags too", l.baseHint())
		return
	}
	l.lintInstance(p, u)
}

// lintInstance refuses the workloads of a tag, and the Service that routes
// name, when they do not carry the tag's own instance label. They may agree
// with each other, so that the tag becomes ready: but the plain Service, which
// Sluice points at that label, would have no endpoints.
func (l *linter) lintInstance(p part, u *subject) {
	want := l.instance(p)
	has := wrongInstance(u, want)
	if has == "" {
		return
	}
	message := "has " + has + " where " + want + " is due: "
	switch {
	case u.labels != nil:
		l.add(SeverityError, p, u, message+"Service "+l.release.Name+", which Sluice points at "+want+", would not find its pods", l.overlayHint(p))
	case u.GetKind() == "Service" && u.GetName() == want:
		l.add(SeverityError, p, u, message+"it would not find the pods of tag "+p.tag, l.overlayHint(p))
	default: // nothing that traffic depends on
		l.add(SeverityWarning, p, u, message+"it selects no pods of tag "+p.tag, l.overlayHint(p))
	}
}

// wrongInstance says what an object has, and where, in place of the instance
// label that it should carry; "" when nothing is wrong.
func wrongInstance(u *subject, want string) string {
	var inSelector, inTemplate string
	if r := instanceOf(u.selector); r != nil && !r.Matches(labels.Set{InstanceLabel: want}) {
		inSelector = instanceText(r)
	}
	if u.labels != nil && u.labels[InstanceLabel] != want {
		inTemplate = "no " + InstanceLabel
		if value, ok := u.labels[InstanceLabel]; ok {
			inTemplate = InstanceLabel + ": " + value
		}
	}
	switch {
	case inSelector == "" && inTemplate == "":
		return ""
	case inTemplate == "":
		return inSelector + " in its selector"
	case inSelector == "":
		return inTemplate + " in its pod template"
	case inSelector == inTemplate:
		return inSelector + " in its selector and pod template"
	}
	return inSelector + " in its selector and " + inTemplate + " in its pod template"
}

// instance is the value of the instance label that a tag carries.
func (l *linter) instance(p part) string { return l.release.Name + "-" + p.tag }

// instanceOf is what a selector asks of the instance label, nil for nothing.
func instanceOf(s labels.Selector) *labels.Requirement {
	if s == nil {
		return nil
	}
	requirements, _ := s.Requirements()
	for _, r := range requirements {
		if r.Key() == InstanceLabel {
			return &r
		}
	}
	return nil
}

func instanceText(r *labels.Requirement) string {
	if value, ok := exactly(r); ok {
		return InstanceLabel + ": " + value
	}
	return r.String()
}

// exactly is the one value that a requirement allows, if it is of that sort.
func exactly(r *labels.Requirement) (string, bool) {
	if r == nil {
		return "", false
	}
	switch r.Operator() {
	case selection.In, selection.Equals, selection.DoubleEquals:
		if values := r.Values(); len(values) == 1 {
			return values.UnsortedList()[0], true
		}
	}
	return "", false
}

// overlapHint says how to keep a tag's selector from the pods of others.
func (l *linter) overlapHint(p part, u *subject, others []string) string {
	r := instanceOf(u.selector)
	switch {
	case r == nil:
		return l.baseHint()
	case !r.Matches(labels.Set{InstanceLabel: l.instance(p)}):
		return l.overlayHint(p)
	}
	return fmt.Sprintf("leave %s: %s to tag %s: give the pods of %s another value", InstanceLabel, l.instance(p), p.tag, list(others))
}

// baseHint is for manifests that lack the label, which the overlay of a tag
// could only add to this tag.
func (l *linter) baseHint() string {
	return fmt.Sprintf("add %s: %s to the base's selectors and pod templates and let the tag overlay set it (see sluice component tag)", InstanceLabel, l.release.Name)
}

// labelFields let the labels of a tag reach the selectors: the scaffold of a tag
// (envrepo/templates/tag) has them.
const labelFields = "{group: apps, kind: Deployment, path: spec/selector/matchLabels, create: true}, " +
	"{group: apps, kind: StatefulSet, path: spec/selector/matchLabels, create: true}, " +
	"{version: v1, kind: Service, path: spec/selector, create: true}, " +
	"{group: policy, kind: PodDisruptionBudget, path: spec/selector/matchLabels, create: true}, " +
	"{group: apps, kind: Deployment, path: 'spec/template/spec/topologySpreadConstraints[]/labelSelector/matchLabels', create: false}"

// overlayHint shows the labels block of a scaffolded tag, on one line that can
// be copied.
func (l *linter) overlayHint(p part) string {
	tag := p.tag
	if n := (yaml.Node{Kind: yaml.ScalarNode, Value: tag}); n.ShortTag() != yaml.NodeTagString {
		tag = "'" + tag + "'"
	}
	return fmt.Sprintf("give %s/kustomization.yaml the labels of a scaffolded tag: labels: [{pairs: {sluice.dev/tag: %s, %s: %s}, includeTemplates: true, fields: [%s]}]",
		p.dir, tag, InstanceLabel, l.instance(p), labelFields)
}

// selected names the parts other than p whose pods a selector matches. A
// selector of one instance is held against the pods of that instance only: a
// release has many of both.
func (l *linter) selected(s labels.Selector, p part) []string {
	if s == nil {
		return nil
	}
	hit := make([]bool, len(l.parts))
	match := func(pods []pod) {
		for _, pod := range pods {
			if pod.part != p.index && !hit[pod.part] {
				hit[pod.part] = s.Matches(pod.labels)
			}
		}
	}
	if value, ok := exactly(instanceOf(s)); ok {
		match(l.pods[value])
	} else {
		for _, pods := range l.pods {
			match(pods)
		}
	}
	var names []string
	for i, other := range l.parts {
		switch {
		case !hit[i]:
		case other.tag == "":
			names = append(names, other.dir)
		default:
			names = append(names, "tag "+other.tag)
		}
	}
	return names
}

func list(names []string) string { return strings.Join(names, " and ") }

// podTemplate returns what holds the pod spec: the template of a workload, or
// a Pod's own object; nil for other kinds. It is not a copy.
func podTemplate(u *unstructured.Unstructured) map[string]any {
	switch u.GetKind() {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController":
		return mapAt(u.Object, "spec", "template")
	case "CronJob":
		return mapAt(u.Object, "spec", "jobTemplate", "spec", "template")
	case "Pod":
		return u.Object
	}
	return nil
}

// podLabels are the labels of a workload's pods, nil for other kinds.
func podLabels(u *unstructured.Unstructured) labels.Set {
	template := podTemplate(u)
	if template == nil {
		return nil
	}
	set, _, _ := unstructured.NestedStringMap(template, "metadata", "labels")
	if set == nil {
		return labels.Set{}
	}
	return set
}

// mapAt is the mapping at a path, nil when there is none. It is not a copy:
// lint looks at every object of every render.
func mapAt(m map[string]any, path ...string) map[string]any {
	v, _, _ := unstructured.NestedFieldNoCopy(m, path...)
	found, _ := v.(map[string]any)
	return found
}

// selector reads spec.selector; nil when there is none or it is malformed,
// which the API server refuses.
func selector(u *unstructured.Unstructured) labels.Selector {
	raw := mapAt(u.Object, "spec", "selector")
	if len(raw) == 0 {
		return nil
	}
	if u.GetKind() == "Service" {
		set, _, err := unstructured.NestedStringMap(u.Object, "spec", "selector")
		if err != nil {
			return nil
		}
		return labels.SelectorFromSet(set)
	}
	var ls metav1.LabelSelector
	if runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &ls) != nil {
		return nil
	}
	s, err := metav1.LabelSelectorAsSelector(&ls)
	if err != nil {
		return nil
	}
	return s
}
