package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDemo plays the demo as `make demo` does. It needs the programs of `make
// tools` and `make build` in bin/.
func TestDemo(t *testing.T) {
	t.Chdir("../..")
	for _, program := range []string{"bin/sluice", "bin/devcluster"} {
		require.True(t, fileExists(program), "%s is missing: run `make tools build`", program)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	require.NoError(t, play(ctx, "bin", false))
}
