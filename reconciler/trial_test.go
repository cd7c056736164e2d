package reconciler

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
)

// trials are what the next plan sends alone and tries, as text.
func (w *world) trials() string {
	w.t.Helper()
	var leads, tried []string
	plan := Decide(w.in)
	for _, s := range plan.Steps {
		for _, i := range s.Items {
			if i.leads {
				leads = append(leads, inventory.IDOf(i.Object).Display())
			}
		}
	}
	for _, t := range plan.trials {
		tried = append(tried, inventory.IDOf(t.object).Display())
	}
	return strings.Join(leads, " ") + " | " + strings.Join(tried, " ")
}

func TestWhatIsTriedBeforeTheFirstWrite(t *testing.T) {
	const none = " | "
	one := func(image, selects string, more ...string) func(*world) {
		return func(w *world) {
			objects := append(w.own(nil), deployment("api", image, 2), service("api", selects))
			for _, name := range more {
				objects = append(objects, configMap(name, "1"))
			}
			w.untagged("", objects...)
		}
	}
	halves := func(blue, green string, shared ...string) func(*world) {
		return func(w *world) {
			all := sharedObjects()
			for _, name := range shared {
				all = append(all, configMap(name, "1"))
			}
			w.tagged("blue=50 green=50", all, withConfig("blue", blue), withConfig("green", green))
		}
	}
	for _, tt := range []struct {
		name          string
		first, second func(*world)
		then          func(*world)
		want          string
	}{
		{"a first sync tries nothing", nil, one("one", "api"), nil, none},
		{"nor does what stays as it is", one("one", "api"), one("one", "api"), nil, none},
		{"one object is its own trial", one("one", "api"), one("two", "api"), nil, none},
		{"of several the first is", one("one", "api"), one("two", "other"), nil, "Service/api | Deployment/api"},
		{"of all stages", one("one", "api"), one("two", "other", "new"), nil, "ConfigMap/new | Service/api Deployment/api"},
		{"what is corrected was taken before", one("one", "api", "kept"), one("two", "api", "kept"),
			func(w *world) { w.removes("ConfigMap/kept") }, none},
		{"nor is it tried after a restart that brings nothing new", one("one", "api"), one("one", "api"),
			func(w *world) { w.in.Hash = w.in.Last.Status.LastAppliedHash; w.restart() }, none},
		{"a restart that brings a commit tries", one("one", "api"), one("one", "api"), (*world).restart, "Service/api | Deployment/api"},
		{"each tag is a batch", halves("one", "one"), halves("two", "two"), nil,
			"ConfigMap/blue-two ConfigMap/green-two | Deployment/api-blue Deployment/api-green"},
		{"and what all share another", halves("one", "one"), halves("two", "one", "a", "b"), nil,
			"ConfigMap/a ConfigMap/blue-two | ConfigMap/b Deployment/api-blue"},
		{"a new tag serves nobody", halves("one", "one"), func(w *world) {
			w.tagged("blue=100 new=0", sharedObjects(), withConfig("blue", "one"), withConfig("new", "one"))
		}, nil, none},
		{"what was tried in this pass is not tried again", one("one", "api"), one("two", "other"), func(w *world) {
			for _, t := range Decide(w.in).trials {
				w.in.Tried = map[inventory.ID]string{inventory.IDOf(t.object): hashOf(t.object)}
			}
		}, "Service/api | "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.first != nil {
				tt.first(w)
				w.pass()
				for id := range w.in.Live {
					if id.Kind == "Deployment" {
						w.up(id.Name)
					}
				}
				w.pass()
				w.commit(2)
			}
			w.in.Tried = nil
			tt.second(w)
			if tt.then != nil {
				tt.then(w)
			}
			assert.Equal(t, tt.want, w.trials())
		})
	}
}

// withConfig is a tag whose Deployment comes with a ConfigMap of its own, as a
// generator names it.
func withConfig(name, content string) render.TagObjects {
	return tag(name, content, 2, configMap(name+"-"+content, "1"))
}

// removes has somebody delete an object.
func (w *world) removes(name string) {
	w.t.Helper()
	for id := range w.in.Live {
		if id.Display() == name {
			delete(w.in.Live, id)
			return
		}
	}
	w.t.Fatalf("there is no %s", name)
}

func TestDecideRefusedBatchIsHeldButCorrectionsGoOn(t *testing.T) {
	w := newWorld(t)
	w.untagged("", deployment("api", "one", 2), service("api", "api"), configMap("kept", "1"))
	w.pass()
	w.up("api")
	w.pass()
	w.commit(2)
	w.untagged("", deployment("api", "two", 2), service("api", "other"), configMap("kept", "1"))
	w.removes("ConfigMap/kept")
	w.refuses = map[string]string{"Deployment/api": "Deployment/api is invalid"}
	text := w.pass()
	assert.Contains(t, text, "tried in vain: Deployment/api is invalid\n")
	_, after, _ := strings.Cut(text, "tried in vain")
	assert.Contains(t, after, "apply config\n  ConfigMap/kept (create)\n")
	assert.NotContains(t, after, "Service/api (update)")
	assert.Contains(t, after, "report Failed ApplyFailed: Deployment/api is invalid\n")
	assert.NotContains(t, w.pass(), "ConfigMap/kept (create)", "once")
}

func TestWhatADryRunTells(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	kind := schema.GroupKind{Group: "apps", Kind: "Deployment"}
	invalid := apierrors.NewInvalid(kind, "api", field.ErrorList{field.Required(field.NewPath("spec"), "")})
	forbidden := apierrors.NewForbidden(deployments, "api", errors.New("exceeded quota"))
	taken := apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "api", field.ErrorList{field.Invalid(field.NewPath("spec", "ports").Index(0).Child("nodePort"), 30010, "provided port is already allocated")})
	edited := deployment("api", "one", 1)
	edited.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl-edit", Operation: metav1.ManagedFieldsOperationUpdate}})
	owned := deployment("api", "one", 1)
	owned.SetOwnerReferences([]metav1.OwnerReference{{UID: "somebody"}})
	for _, tt := range []struct {
		name  string
		trial trial
		live  string
		err   error
		want  bool
	}{
		{"invalid", trial{}, "", invalid, true},
		{"invalid, whatever else is sent", trial{governed: true}, "", invalid, true},
		{"not of its schema", trial{}, "", &apierrors.StatusError{ErrStatus: metav1.Status{Code: 500, Message: "failed to create typed patch object"}}, true},
		{"not admitted", trial{}, "", forbidden, true},
		{"not admitted, with a new quota", trial{governed: true}, "", forbidden, false},
		{"invalid with what kubectl edit has planted", trial{}, "edited", invalid, false},
		{"invalid with an owner that is removed", trial{}, "owned", invalid, false},
		{"a port that another has", trial{}, "", taken, true},
		{"a port that another may be about to give up", trial{released: true}, "", taken, false},
		{"invalid, and another is changed", trial{released: true}, "", invalid, true},
		{"an address that may not change", trial{released: true}, "", &cluster.ImmutableError{Object: "Service/api", Fields: []string{"spec.clusterIPs[0]"}, Cause: taken}, true},
		{"no namespace yet", trial{}, "", apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "shop"), false},
		{"overload", trial{}, "", apierrors.NewTooManyRequests("later", 1), false},
		{"a webhook that is down", trial{}, "", apierrors.NewInternalError(errors.New("failed calling webhook")), false},
		{"a webhook that takes no dry runs", trial{}, "", apierrors.NewBadRequest("admission webhook does not support dry run"), false},
		{"a conflict", trial{}, "", apierrors.NewConflict(deployments, "api", errors.New("changed")), false},
		{"no answer", trial{}, "", errors.New("connection reset"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			live := deployment("api", "one", 1)
			switch tt.live {
			case "edited":
				live = edited
			case "owned":
				live = owned
			}
			tt.trial.object = deployment("api", "two", 1)
			assert.Equal(t, tt.want, refuses(tt.trial, live, tt.err))
		})
	}
}
