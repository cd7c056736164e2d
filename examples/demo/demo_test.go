package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDemo plays the demo as `make demo` does, and as `make demo FORGE=github` does:
// only the environment is another, what is typed is the same. It needs the programs of
// `make tools` and `make build` in bin/.
func TestDemo(t *testing.T) {
	t.Chdir("../..")
	for _, program := range []string{"bin/sluice", "bin/devcluster"} {
		require.True(t, fileExists(program), "%s is missing: run `make tools build`", program)
	}
	typed := map[string][]string{}
	for forge := range hosts {
		t.Run(forge, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			commands, err := play(ctx, options{bin: "bin", forge: forge})
			require.NoError(t, err)
			typed[forge] = commands
		})
	}
	require.NotEmpty(t, typed["local"])
	assert.Equal(t, typed["local"], typed["github"])
}
