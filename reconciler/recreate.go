package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// Immutable is what an apply in this pass has found out: the object that is there
// cannot be changed to what is declared, but would be accepted in its place.
type Immutable struct {
	Rendered string    // hash of what was refused
	UID      types.UID // of the object that is there
	Fields   []string  // that may not change
}

// recreates reports whether a desired object takes the place of a live one that
// cannot be changed to it. All of it must hold now, whatever held when the apply
// was refused: the manifest asks for it, and the live object may be deleted.
func (d *decision) recreates(desired *unstructured.Unstructured) (Immutable, bool) {
	im, refused := d.in.Immutable[inventory.IDOf(desired)]
	live := d.in.live(desired)
	if !refused || live == nil || im.UID != live.GetUID() || im.Rendered != hashOf(desired) {
		return im, false
	}
	return im, asksToRecreate(desired) && d.irreplaceable(desired, live) == ""
}

// asksToRecreate reads the manifest's annotation. One that only the live object
// has counts for nothing: the cluster grants no authority over itself.
func asksToRecreate(desired *unstructured.Unstructured) bool {
	return desired.GetAnnotations()[v1alpha1.AnnotationRecreate] == "true"
}

// irreplaceable says why a live object is not deleted to be created anew, or "":
// what is never pruned is not recreated either.
func (d *decision) irreplaceable(desired, live *unstructured.Unstructured) string {
	if desired.GetAnnotations()[v1alpha1.AnnotationPrune] == "disabled" {
		return v1alpha1.AnnotationPrune + " is disabled"
	}
	return d.protected(live)
}

// sending divides objects that have to be sent into those that are applied and
// those that are recreated, each in order.
func (d *decision) sending(objects []*unstructured.Unstructured) (apply, recreate []*unstructured.Unstructured) {
	for _, o := range objects {
		if _, ok := d.recreates(o); ok {
			recreate = append(recreate, o)
		} else {
			apply = append(apply, o)
		}
	}
	return apply, recreate
}

// recreateStep goes with the step that applies the other objects of its stage,
// after it: what is recreated may need them.
func (d *decision) recreateStep(title string, objects []*unstructured.Unstructured) {
	if len(objects) == 0 {
		return
	}
	s := Step{Action: ActionRecreate, Title: title}
	for _, o := range objects {
		im, _ := d.recreates(o)
		s.Items = append(s.Items, Item{Object: o, Note: strings.Join(im.Fields, ", ") + " cannot change"})
	}
	d.step(s)
}

// ends reports whether the object in place of a desired one is being deleted.
// Nothing is applied to it: it is created anew once it is gone, which a watch
// tells. Only a route still counts until then, so that leaving a tag works.
func (d *decision) ends(desired *unstructured.Unstructured) bool {
	live := d.in.live(desired)
	if live == nil || live.GetDeletionTimestamp() == nil || leadsRequests(live) {
		return false
	}
	d.ending[inventory.IDOf(desired)] = live.GetFinalizers()
	return true
}

// endings says what is waited for before objects can be created anew.
func (d *decision) endings() string {
	var parts []string
	for _, id := range slices.SortedFunc(maps.Keys(d.ending), inventory.ID.Compare) {
		text := id.Display() + " is being deleted and will be created anew"
		if finalizers := d.ending[id]; len(finalizers) > 0 {
			text += " when its finalizers have ended: " + strings.Join(finalizers, ", ")
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// errDecideAgain ends the steps of a plan, not the pass: what comes next may need
// an object that could not be changed, or was changed meanwhile, and is decided anew.
var errDecideAgain = errors.New("an object is not as it was taken for")

// refused takes in that an object was refused. If it is to be recreated, which is
// for the next plan, the error is errDecideAgain.
func (p *pass) refused(desired, live *unstructured.Unstructured, err error) error {
	var immutable *cluster.ImmutableError
	if !errors.As(err, &immutable) || live == nil {
		return err
	}
	if !asksToRecreate(desired) {
		return &ImmutableError{ImmutableError: immutable}
	}
	d := decision{in: p.in}
	if why := d.irreplaceable(desired, live); why != "" {
		return &ImmutableError{ImmutableError: immutable, Kept: why}
	}
	if p.in.Immutable == nil {
		p.in.Immutable = map[inventory.ID]Immutable{}
	}
	p.in.Immutable[inventory.IDOf(desired)] = Immutable{Rendered: hashOf(desired), UID: live.GetUID(), Fields: immutable.Fields}
	return errDecideAgain
}

// recreate deletes objects as they were seen and creates them anew. One that has
// finalizers is left to them: the event of its deletion brings the next pass.
//
// Being killed in between loses nothing: the object is in the inventory and in
// the repository, so the next pass finds it missing and creates it.
func (p *pass) recreate(ctx context.Context, s Step) error {
	failed := &ApplyError{}
	again := Step{Action: ActionApply, Title: s.Title}
	for _, i := range s.Items {
		id := inventory.IDOf(i.Object)
		deleted := true
		err := p.env.hands.Delete(ctx, p.in.live(i.Object))
		if errors.Is(err, cluster.ErrChanged) {
			deleted, err = false, nil // whether it may be deleted is for the next plan to say
		}
		if err == nil {
			err = p.reread(ctx, id, i.Object.GroupVersionKind())
		}
		if err != nil {
			failed.Objects = append(failed.Objects, &ObjectError{id, err})
			continue
		}
		if deleted {
			p.release.recreated.add(id)
		}
		if p.in.Live[id] == nil {
			again.Items = append(again.Items, Item{Object: i.Object, Note: "create"})
		}
	}
	if err := p.apply(ctx, again); err != nil {
		return err
	}
	if len(failed.Objects) > 0 {
		return failed
	}
	return nil
}

// ImmutableError says that an object cannot be changed to what the repository
// declares, and what can be done.
type ImmutableError struct {
	*cluster.ImmutableError
	Kept string // why it is not recreated although its manifest asks for it; "" when it does not
}

func (e *ImmutableError) Error() string {
	text := e.ImmutableError.Error()
	if e.Kept != "" {
		text += fmt.Sprintf("; it is not recreated (%s): %s", v1alpha1.AnnotationRecreate, e.Kept)
	}
	return text
}

func (e *ImmutableError) Unwrap() error { return e.ImmutableError }

// Hint tells what to do.
func (e *ImmutableError) Hint() string {
	if e.Kept != "" {
		return "take the change back, give the object another name, or recreate it by hand"
	}
	return fmt.Sprintf("take the change back, give the object another name, or annotate its manifest with %s: \"true\": "+
		"%s is then deleted, with the pods and all else that it owns, and created anew", v1alpha1.AnnotationRecreate, e.Object)
}

// recreations are the objects that were recreated for the present content.
type recreations struct {
	mu  sync.Mutex
	ids map[inventory.ID]bool
}

func (r *recreations) add(id inventory.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids == nil {
		r.ids = map[inventory.ID]bool{}
	}
	r.ids[id] = true
}

func (r *recreations) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = nil
}

// notes say so for as long as this content stands.
func (r *recreations) notes() (notes []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range slices.SortedFunc(maps.Keys(r.ids), inventory.ID.Compare) {
		notes = append(notes, "recreated "+id.Display())
	}
	return notes
}
