package reconciler

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/render"
)

func TestWhatWasRenderedIsKeptOfFewReleases(t *testing.T) {
	var lately renderedLately
	now := time.Now()
	var all []*release
	keep := func(r *release) {
		r.keepRendered("hash", &render.Result{}, now)
		lately.add(r)
	}
	for i := range 3 * mostRendered {
		all = append(all, newReleaseMemory(Key{"production", fmt.Sprint(i)}))
		all[i].want.hash = "hash"
		keep(all[i])
		keep(all[0]) // again and again, which does not count twice
	}
	kept := 0
	for _, r := range all {
		if r.renderedAt("hash", now) != nil {
			kept++
		}
	}
	assert.Equal(t, mostRendered, kept)
	assert.Len(t, lately.order, mostRendered)
	assert.NotNil(t, all[0].renderedAt("hash", now), "it was rendered last")
	assert.NotNil(t, all[len(all)-1].renderedAt("hash", now))
	assert.Nil(t, all[1].renderedAt("hash", now))
}

// Who renders what an older commit wanted may end after a pass over the newer one.
func TestWhatWasRenderedOfAnOlderCommitIsNotKept(t *testing.T) {
	now := time.Now()
	r := newReleaseMemory(Key{"production", "api"})
	r.want.hash = "newer"
	r.keepRendered("newer", &render.Result{}, now)
	r.keepRendered("older", &render.Result{}, now)
	assert.True(t, r.isRendered())
	r.dropSettled()
	assert.True(t, r.isRendered(), "it is not settled")
	r.finished(want{hash: "newer"}, Verdict{State: StateReady, Ready: true}, Status{})
	r.keepRendered("newer", &render.Result{}, now)
	r.dropSettled()
	assert.False(t, r.isRendered())
}
