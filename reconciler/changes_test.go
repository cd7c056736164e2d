package reconciler

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
)

type reported []State

func (r *reported) Report(_ context.Context, s Status) { *r = append(*r, s.State) }

func TestChangesAreToldOnceAndReleasesThatAreGoneForgotten(t *testing.T) {
	told := &reported{}
	c := &changes{engine: &Engine{cfg: Config{Reporter: told}}}
	status := Status{Environment: "production", Release: "web", State: StateReady}
	c.observe(status, nil)
	c.observe(status, nil)
	status.State = StateRemoved
	c.observe(status, assert.AnError)
	assert.Len(t, c.last, 1, "it is passed over again")
	c.observe(status, nil)
	assert.Empty(t, c.last)
	status.State = StateReady
	c.observe(status, nil)
	assert.Equal(t, []State{StateReady, StateRemoved, StateReady}, []State(*told))
}
