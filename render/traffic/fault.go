package traffic

import (
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

// Faults are the errors that Transform would have with t, where it stops at the first:
// those that t brings about, and those that there were with before. An object that could
// not be written before is not held against t, whatever is wrong with it now: who leaves
// a broken tag, or lowers its weight, is not to mend the routes first. Of mirrors that
// holds tag by tag. Without weights in before, all are brought about by t.
func Faults(objects, beside []*unstructured.Unstructured, component string, before, t envrepo.Traffic, tags []string, s Support) (caused, standing []error) {
	old := faults(objects, beside, component, before, tags, s)
	for _, f := range faults(objects, beside, component, t, tags, s) {
		same := func(o fault) bool { return o.object == f.object && o.mirror == f.mirror }
		if slices.ContainsFunc(old, same) {
			standing = append(standing, f.err)
		} else {
			caused = append(caused, f.err)
		}
	}
	return caused, standing
}

// fault is an error of Transform, and what it is the same fault by when it stands
// there with other weights.
type fault struct {
	object string // "" for the release as a whole
	mirror string // tag whose mirror is refused; "" when it is not about one
	err    error
}

// faults looks at weights and mirrors one after the other, so that a mirror which is
// refused hides no fault of the weights.
func faults(objects, beside []*unstructured.Unstructured, component string, t envrepo.Traffic, tags []string, s Support) []fault {
	if len(t.Weights) == 0 {
		return nil
	}
	run := func(t envrepo.Traffic) (found []fault) {
		p, err := newSplit(component, t, tags, s)
		if err != nil {
			return []fault{faultOf("", err)}
		}
		p.look(objects, beside)
		for _, object := range objects {
			p.added = nil
			if err := p.rewrite(object.DeepCopy()); err != nil {
				found = append(found, faultOf(describe(object), err))
			}
		}
		if len(found) > 0 {
			return found // which makes it unknown whether another route follows
		}
		if err := p.refuseUnfollowed(objects, beside); err != nil {
			found = append(found, faultOf("", err))
		}
		return found
	}
	found := run(envrepo.Traffic{Weights: t.Weights})
	if len(t.Mirrors) == 0 {
		return found
	}
	for _, f := range run(t) {
		if f.mirror != "" {
			found = append(found, f)
		}
	}
	return found
}

func faultOf(object string, err error) fault {
	f := fault{object: object, err: err}
	var refused *MirrorError
	var unknown *UnknownSupportError
	switch {
	case errors.As(err, &refused):
		f.mirror = refused.Tag
	case errors.As(err, &unknown):
		f.mirror = unknown.Tag
	}
	return f
}
