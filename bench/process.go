package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cost is what something took of the clock, of the processors in this process, and of
// them in all processes.
type cost struct{ time, processor, busy time.Duration }

// costSince returns what tells the cost from now on.
func costSince() func() (cost, error) {
	began := time.Now()
	used, err := processorTime()
	busy, unknown := busyTime()
	err = errors.Join(err, unknown)
	return func() (cost, error) {
		took := time.Since(began)
		if err != nil {
			return cost{}, err
		}
		usedNow, err := processorTime()
		busyNow, unknown := busyTime()
		return cost{took, usedNow - used, busyNow - busy}, errors.Join(err, unknown)
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

// busyTime is how long the machine's processors together have been busy, in steps of a
// hundredth of a second, with what a hypervisor has taken of it.
func busyTime() (busy time.Duration, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("asking for the processor time of all processes: %w", err)
	}
	all, _, _ := strings.Cut(string(stat), "\n")
	for i, field := range strings.Fields(all) {
		const name, idle, wait, guests = 0, 4, 5, 9 // guests are counted as users, too
		if i == name || i == idle || i == wait || i >= guests {
			continue
		}
		ticks, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("reading the processor time of all processes: %w", err)
		}
		busy += time.Duration(ticks) * time.Second / 100
	}
	return busy, nil
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
