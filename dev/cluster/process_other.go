//go:build !linux

package cluster

import "syscall"

// childAttributes keeps a Ctrl-C at the terminal from reaching a component
// before its supervisor. There is no parent-death signal here: a supervisor that
// is killed leaves its components behind, until `devcluster down`.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
