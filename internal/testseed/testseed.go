// Package testseed gives tests that draw at random their seed: Of, once a test. It
// is another one with each run, and what a failed test has printed repeats it.
package testseed

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Variable of the environment repeats the run that has printed it.
const Variable = "SLUICE_TEST_SEED"

// Of returns the seed that Variable gives, else a new one, and logs it, which go
// test shows of a test that fails.
func Of(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv(Variable); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("%s: %v", Variable, err)
		}
	}
	t.Logf("%s=%d repeats this run", Variable, seed)
	return seed
}
