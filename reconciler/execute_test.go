package reconciler

import (
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSideBySide(t *testing.T) {
	for _, n := range []int{0, 1, 2, writers, 10} {
		synctest.Test(t, func(t *testing.T) {
			var done [10]atomic.Int64
			var now atomic.Int64
			next := make(chan struct{})
			go sideBySide(n, func(i int) {
				now.Add(1)
				<-next
				now.Add(-1)
				done[i].Add(1)
			})
			synctest.Wait()
			assert.EqualValues(t, min(n, writers), now.Load(), "of %d", n)
			close(next)
			synctest.Wait()
			for i := range done {
				assert.Equal(t, i < n, done[i].Load() == 1, "%d of %d", i, n)
			}
		})
	}
}

func TestSideBySideWaitsForTheOthersOfACallerWhoPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan struct{})
		var done atomic.Int64
		assert.Panics(t, func() {
			sideBySide(2, func(int) {
				if strings.Contains(string(debug.Stack()), "assert.Panics") { // the caller's own
					<-begun
					panic("a library")
				}
				close(begun)
				time.Sleep(time.Second)
				done.Add(1)
			})
		})
		assert.EqualValues(t, 1, done.Load())
	})
}
