package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// cost is what something took of the clock, and of the processors in this process.
type cost struct{ time, processor time.Duration }

// costSince returns what tells the cost from now on.
func costSince() func() (cost, error) {
	began := time.Now()
	used, err := processorTime()
	return func() (cost, error) {
		took := time.Since(began)
		if err != nil {
			return cost{}, err
		}
		now, err := processorTime()
		return cost{took, now - used}, err
	}
}

// tick is the unit of processor times in /proc on Linux.
const tick = 10 * time.Millisecond

// processorTime is what this process has had so far.
func processorTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; of what follows it, the twelfth and
	// thirteenth fields are user and system time.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	total := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("reading /proc/self/stat: %w", err)
		}
		total += n
	}
	return time.Duration(total) * tick, nil
}

// resident is a line of /proc/PID/status in MiB: VmRSS is what is resident, VmHWM what
// was at most.
func resident(pid int, field string) (float64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	status, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}

// liveHeap is what is alive in this process, in MiB.
func liveHeap() float64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc) / (1 << 20)
}
