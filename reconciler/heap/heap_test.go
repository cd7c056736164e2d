package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestGrowth(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 60}, {1 << 20, 400}, {roomy / 5, 400}, {roomy / 4, 300}, {roomy / 2, 100}, {roomy - 1, 60}, {roomy, 60}, {1 << 40, 60},
	} {
		assert.Equal(t, tt.want, growth(tt.live), "%d", tt.live)
	}
}

// What lives grows: the growth follows, with the collections.
func TestRelaxFollowsWhatLives(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	percent := func() int {
		p := debug.SetGCPercent(-1)
		debug.SetGCPercent(p)
		return p
	}
	runtime.GC()
	Relax()
	assert.Equal(t, mostGrowth, percent())
	held := make([]byte, roomy)
	assert.Eventually(t, func() bool { runtime.GC(); return percent() == leastGrowth }, time.Minute, time.Millisecond)
	runtime.KeepAlive(held)
	held = nil
	assert.Eventually(t, func() bool { runtime.GC(); return percent() == mostGrowth }, time.Minute, time.Millisecond)
}
