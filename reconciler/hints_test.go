package reconciler

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// hinted is an error that knows better than the reconciler what to do.
type hinted struct{ error }

func (hinted) Hint() string { return "do this" }

// What an error does not say itself is where the object comes from, and how to see
// the refusal again before the next commit.
func TestHintsOfErrors(t *testing.T) {
	in := &Input{Release: envrepo.Release{Name: "api", Environment: envrepo.Environment{Name: "production"}}}
	object := inventory.ID{Namespace: "shop-production", Name: "api", Group: "apps", Kind: "Deployment"}
	for _, test := range []struct {
		name  string
		cause error
		want  string
	}{
		{"refused", &ApplyError{Objects: []*ObjectError{{object, errors.New("spec.template: Required value")}}},
			"correct Deployment/api in environments/production/api, or in what that takes from components/; before the commit, sluice diff api --environment production shows the same refusal"},
		{"refused, with a hint of its own", &ApplyError{Objects: []*ObjectError{{object, hinted{errors.New("no kind")}}}}, "do this"},
		{"broken", &RenderError{Release: "api", Err: errors.New("no such file")},
			"correct environments/production/api, or what it takes from components/; before the commit, sluice check --environment production shows the whole message"},
		{"broken, with a hint of its own", &RenderError{Release: "api", Err: hinted{errors.New("encrypted")}}, "do this"},
		{"nobody knows", errors.New("EOF"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, hintFor(in, failure(test.cause), test.cause))
		})
	}
}

// The status of a Release says what to do, and by which token a held deletion
// goes on.
func TestStatusSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	w.in.Ruling.Held = &Hold{Reason: v1alpha1.ReasonPruneHeld, Token: "a00000000001", Message: "of this release", Summary: "6 of 8 objects would be deleted", Objects: 3}
	v := Verdict{State: StateHeld, Reason: v1alpha1.ReasonPruneHeld, Message: w.in.Ruling.Held.Message, Ready: true, Stalled: true}
	v.hint = hintFor(&w.in, v, nil)
	status := statusAfter(&w.in, v)
	require.Equal(t, &v1alpha1.HeldStatus{Token: "a00000000001", Message: "6 of 8 objects would be deleted", Objects: 3}, status.Held)
	assert.Contains(t, status.Hint, "sluice prune acknowledge a00000000001 --environment production")

	w.in.Ruling = Ruling{}
	status = statusAfter(&w.in, Verdict{State: StateReady, Ready: true, Reason: v1alpha1.ReasonReady})
	assert.Nil(t, status.Held)
	assert.Empty(t, status.Hint)
}
