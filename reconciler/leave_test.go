package reconciler

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// A release that leaves is killed after its routes were deleted and before that was
// reported: the drain begins once, and ends.
func TestDrainOfALeavingReleaseEndsAfterACrash(t *testing.T) {
	w := newWorld(t)
	w.untagged("", configMap("a", "1"), httpRoute())
	w.pass()
	w.pass()
	w.in.Gone = true
	delete(w.in.Live, inventory.IDOf(httpRoute()))
	require.Contains(t, w.in.Inventory, inventory.IDOf(httpRoute()))
	assert.Contains(t, w.pass(), "what is left is deleted when its requests have ended")
	w.after(defaultDrain)
	w.after(defaultDrain)
	w.pass()
	assert.Empty(t, w.in.Live)
}
