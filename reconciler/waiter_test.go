package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A release that is final may be called by what another one comes to: the wait goes on
// until it has been passed over again.
func TestWaiterWaitsForWhoIsCalled(t *testing.T) {
	env := newEnvironment("production", "shop")
	a, b := newReleaseMemory(Key{"production", "a"}), newReleaseMemory(Key{"production", "b"})
	env.releases["a"], env.releases["b"] = a, b
	var ended error
	w := &waiter{engine: &Engine{environments: map[string]*environment{"production": env}}, keys: []Key{a.key, b.key},
		statuses: map[Key]Status{}, passes: map[Key]bool{}, done: func(cause error) { ended = cause }}
	begin := func(r *release) {
		w.passing(r.key, true)
		r.due(time.Time{})
	}
	end := func(r *release) {
		w.observe(Status{Environment: "production", Release: r.key.Release, Final: true}, nil)
		w.passing(r.key, false)
	}
	begin(a)
	end(a)
	assert.NoError(t, ended, "b has not been looked at")
	begin(b)
	a.hurry() // as the ledger has it called
	end(b)
	assert.NoError(t, ended, "a is called")
	begin(b)
	begin(a)
	end(b)
	assert.NoError(t, ended, "a is being passed over")
	end(a)
	assert.ErrorIs(t, ended, errAllFinal)
}
