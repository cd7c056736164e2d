package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
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

// processorTime is what this process has had so far.
func processorTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("asking for the processor time of this process: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// busyTime is how long the machine's processors together have been busy, in hundredths of
// a second; zero where that is not known.
func busyTime() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(stat), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(first) {
		const idle, wait, guests = 4, 5, 9 // guests are counted as users, too
		ticks, err := strconv.Atoi(field)
		if err == nil && i != idle && i != wait && i < guests {
			busy += time.Duration(ticks) * time.Second / 100
		}
	}
	return busy
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
