package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// people run a command of theirs each at the same time, on a machine of their own.
func people(t *testing.T, bare string, commands [][]string) (codes []int, outputs []string) {
	t.Helper()
	codes, outputs = make([]int, len(commands)), make([]string, len(commands))
	var group sync.WaitGroup
	for i, args := range commands {
		cache := t.TempDir()
		group.Go(func() {
			var out bytes.Buffer
			codes[i] = run(t.Context(), args, process{
				Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Dir: cache, Now: fixedNow,
				Getenv: func(name string) string {
					return map[string]string{"SLUICE_REPO": bare, "SLUICE_CACHE_DIR": cache, "HOME": cache}[name]
				},
			})
			outputs[i] = out.String()
		})
	}
	group.Wait()
	return codes, outputs
}

// TestTrafficIsNeverAMixture: of people who set traffic at the same time each is at some
// moment the last, and what stands is always the whole list of one of them, mirrors
// included. Where they say what they have seen, one of them gets it.
func TestTrafficIsNeverAMixture(t *testing.T) {
	t.Parallel()
	const file = "environments/production/api/traffic.yaml"
	bare := publishShop(t)
	lists := map[string]bool{"{blue: 100}": true}
	var commands [][]string
	set := []string{"traffic", "set", "api", "--environment", "production"}
	for i := range 6 {
		percent := 10 * (i + 1)
		if i%2 == 0 {
			lists[fmt.Sprintf("{blue: %d, green: %d}", 100-percent, percent)] = true
			commands = append(commands, append(set[:5:5], "--tags", fmt.Sprintf("blue=%d,green=%d", 100-percent, percent)))
			continue
		}
		lists[fmt.Sprintf("{blue: 100, green: 0} mirror: {green: %d}", percent)] = true
		commands = append(commands, append(set[:5:5], "--tags", "blue=100,green=0", "--mirror", fmt.Sprintf("green=%d", percent)))
	}
	codes, outputs := people(t, bare, commands)
	for i, code := range codes {
		require.Zero(t, code, outputs[i])
	}
	revisions := strings.Fields(gitOutput(t, "-C", bare, "log", "--format=%H", "main", "--", file))
	require.Len(t, revisions, len(commands)+1, "each of them landed")
	for _, revision := range revisions {
		text := gitOutput(t, "-C", bare, "show", revision+":"+file)
		_, text, _ = strings.Cut(text, "weights: ")
		assert.Contains(t, lists, strings.ReplaceAll(strings.TrimSpace(text), "\n", " "))
	}

	codes, outputs = people(t, bare, [][]string{append(set[:5:5], "--tags", "blue=100,green=0")})
	require.Zero(t, codes[0], outputs[0])
	commands = nil
	for i := range 5 {
		commands = append(commands, append(set[:5:5], "--tags", fmt.Sprintf("blue=%d,green=%d", 90-i, 10+i), "--if-current", "blue=100,green=0"))
	}
	codes, outputs = people(t, bare, commands)
	won := ""
	for i, code := range codes {
		if code == 0 {
			assert.Empty(t, won, "one of them has seen what there is")
			won = fmt.Sprintf("{blue: %d, green: %d}", 90-i, 10+i)
			continue
		}
		assert.Equal(t, exitChanged, code, outputs[i])
	}
	text := gitOutput(t, "-C", bare, "show", "main:"+file)
	require.NotEmpty(t, won, outputs)
	assert.Contains(t, text, "weights: "+won+"\n")
	for i, code := range codes {
		if code != 0 {
			assert.Contains(t, outputs[i], "is "+strings.NewReplacer("{", "", "}", "", ": ", "=").Replace(won)+" now, not blue=100, green=0", "it names what there is")
		}
	}
}
