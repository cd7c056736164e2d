package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// undumpable is a command of the tests: the real main, and then what the kernel says
// of the process.
func undumpable() {
	os.Args = []string{"sluice", "version"}
	code := mainCode()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var core unix.Rlimit
	if code != exitOK || err != nil || unix.Getrlimit(unix.RLIMIT_CORE, &core) != nil {
		os.Exit(1)
	}
	fmt.Printf("dumpable %d, core %d %d\n", dumpable, core.Cur, core.Max)
}

func TestNoCoreIsDumped(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("undumpable").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "dumpable 0, core 0 0\n")
}
