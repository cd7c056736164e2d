// Package heap has the garbage collector of this process run less often while
// there is little to hold. Call Relax once.
package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// roomy is the size that the heap may grow to before it is collected, whatever
// lives on it: of 256 MiB, code, stacks and what is collected late take nearly half.
const roomy = 112 << 20

// Bounds of the growth between two collections, in percent of what lives.
const (
	leastGrowth = 60 // Go's default is 100
	mostGrowth  = 400
)

// Relax lets the heap grow to a fixed size before it is collected, and by a share
// of what lives on it where that is more. Go's default is a share alone: while a
// controller is small, and it mostly is, a first sync spends a fifth of its
// processor time on collecting; and when it is large, half of its memory is for
// what nobody holds.
func Relax() { again(struct{}{}) }

// again adapts the growth to what lives, now and after every collection: that is
// when an object which nobody holds is found.
func again(struct{}) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 {
		debug.SetGCPercent(growth(live[0].Value.Uint64()))
	}
	collected := new([16]byte)
	runtime.AddCleanup(collected, again, struct{}{})
}

// growth is how much the heap may grow over what lives, in percent.
func growth(live uint64) int {
	if live == 0 || live >= roomy {
		return leastGrowth
	}
	return int(min(max((roomy-live)*100/live, leastGrowth), mostGrowth))
}
