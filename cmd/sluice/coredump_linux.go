package main

import (
	"errors"

	"golang.org/x/sys/unix"
)

// forbidCoreDumps keeps keys, tokens and decrypted values in this process: no core
// is dumped of it, whatever the limits and the handler of cores say, and other
// processes of the same user cannot read its memory or its environment. What it
// starts (an editor, ssh) is not bound by the first, and inherits the second.
func forbidCoreDumps() error {
	return errors.Join(unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0), unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
}
