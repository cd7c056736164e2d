package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// descendant is a process that another one has started, or that one of those has.
type descendant struct {
	pid     int
	started string // tells it from a later process with its number
}

// descendantsOf are those of a process that have stayed in its session: an editor's
// server, which made itself one of its own, serves others too. There are none to be
// found where there is no /proc.
func descendantsOf(pid int) (found []descendant) {
	session := ""
	if s, ok := statOf(pid); ok {
		session = s.session
	}
	children := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		if child, err := strconv.Atoi(filepath.Base(entry)); err == nil {
			if s, ok := statOf(child); ok && s.session == session {
				children[s.parent] = append(children[s.parent], child)
			}
		}
	}
	for next := slices.Clone(children[pid]); len(next) > 0; next = next[1:] {
		if s, ok := statOf(next[0]); ok {
			found = append(found, descendant{next[0], s.started})
		}
		next = append(next, children[next[0]]...)
	}
	return found
}

// stat is what /proc/PID/stat says of a process.
type stat struct {
	state, session, started string
	parent                  int
}

func statOf(pid int) (stat, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	// The second field is a name in brackets, which may hold anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return stat{}, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return stat{state: string(fields[0]), parent: parent, session: string(fields[3]), started: string(fields[19])}, err == nil
}

// runs reports whether it still does; one that only waits for its parent to look does not.
func (d descendant) runs() bool {
	s, ok := statOf(d.pid)
	return ok && s.started == d.started && s.state != "Z"
}

func (d descendant) signal(sig os.Signal) {
	if p, err := os.FindProcess(d.pid); err == nil && d.runs() {
		_ = p.Signal(sig)
	}
}

// endTree ends a process, which ended tells of, and its descendants: asked first, and
// killed when they have not ended in time.
func endTree(root *os.Process, ended <-chan error, wait time.Duration) {
	below := descendantsOf(root.Pid)
	for _, d := range below {
		d.signal(syscall.SIGTERM)
	}
	_ = root.Signal(syscall.SIGTERM)
	late := time.After(wait)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for ended != nil || slices.ContainsFunc(below, descendant.runs) {
		select {
		case <-ended:
			ended = nil
		case <-look.C:
		case <-late:
			for _, d := range below {
				d.signal(syscall.SIGKILL)
			}
			if _ = root.Kill(); ended != nil {
				<-ended
			}
			return
		}
	}
}
