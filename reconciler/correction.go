package reconciler

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// correction is what an apply has put right. It names fields and never holds what
// was in them.
type correction struct {
	object                  inventory.ID
	deleted                 bool
	changed, added, removed []string
	who                     []string // field managers, as far as they can be told
}

// correctionOf finds out what was put right, from who owned which fields before
// and after. What nobody has owned since was removed, and what nobody owns any more
// had been added.
func correctionOf(desired, before, after *unstructured.Unstructured) correction {
	c := correction{object: inventory.IDOf(desired)}
	if before == nil {
		c.deleted = true
		return c
	}
	c.who, c.changed = usurpers(desired, before)
	had, has := owned(before), owned(after)
	for path := range had {
		if has[path] == nil {
			c.added = append(c.added, path)
			c.who = append(c.who, had[path]...)
		}
	}
	for path := range has {
		if had[path] == nil {
			c.removed = append(c.removed, path)
		}
	}
	c.who, c.added, c.removed = merge(nil, c.who), merge(nil, c.added), merge(nil, c.removed)
	return c
}

// owned are the managers of each field of an object; its status aside.
func owned(o *unstructured.Unstructured) map[string][]string {
	owners := map[string][]string{}
	for _, e := range o.GetManagedFields() {
		if e.Subresource == "status" {
			continue
		}
		for _, path := range fieldsOf(e) {
			owners[path] = append(owners[path], e.Manager)
		}
	}
	return owners
}

// values are the correction as keys and values of a log line.
func (c correction) values() []any {
	values := []any{"object", c.object.Display(), "namespace", c.object.Namespace}
	if c.deleted {
		values = append(values, "deleted", true)
	}
	for _, l := range []struct {
		key   string
		names []string
	}{{"changed", c.changed}, {"added", c.added}, {"removed", c.removed}, {"by", c.who}} {
		if len(l.names) > 0 {
			values = append(values, l.key, strings.Join(l.names, " "))
		}
	}
	return values
}

// tellCorrection has a correction logged and counted.
func (p *pass) tellCorrection(c correction) {
	p.log().Info("drift was corrected", c.values()...)
	p.engine.cfg.Observer.Corrected(p.in.key(), c.object.Kind)
}

// fieldsOf lists all fields of a managed fields entry, as paths.
func fieldsOf(e metav1.ManagedFieldsEntry) []string {
	var fields map[string]any
	if e.FieldsV1 == nil || json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
		return nil
	}
	var paths []string
	var walk func(fields map[string]any, path string)
	walk = func(fields map[string]any, path string) {
		leaf := true
		for key, below := range fields {
			kind, name, named := strings.Cut(key, ":")
			if !named {
				continue // "."
			}
			leaf = false
			step := "." + name
			if kind == "k" || kind == "v" {
				var item any
				_ = json.Unmarshal([]byte(name), &item) // of no use otherwise, and then empty
				step = "[" + describeItem(item) + "]"
			}
			below, _ := below.(map[string]any)
			walk(below, path+step)
		}
		if leaf {
			paths = append(paths, strings.TrimPrefix(path, "."))
		}
	}
	walk(fields, "")
	return paths
}
