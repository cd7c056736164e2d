package cluster

import "syscall"

// childAttributes makes the kernel kill a component when its supervisor ends,
// however it ends, and keeps a Ctrl-C at the terminal from reaching it first.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
