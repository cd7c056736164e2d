package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const referenceFile = "../../docs/reference/commands.md"

// TestReference keeps docs/reference/commands.md equal to the help texts.
func TestReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Commands\n\nThe help of every command, written by `go test ./cmd/sluice -run Reference -update`.\n")
	root := newRootCommand(&app{process: process{Getenv: func(string) string { return "" }, Stdout: &b, Stderr: &b}})
	root.InitDefaultHelpFlag()
	root.InitDefaultCompletionCmd()
	writeReference(&b, root)
	if *update {
		require.NoError(t, os.MkdirAll("../../docs/reference", 0o755))
		require.NoError(t, os.WriteFile(referenceFile, []byte(b.String()), 0o644))
	}
	have, err := os.ReadFile(referenceFile)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have), "run: go test ./cmd/sluice -run Reference -update")
}

func writeReference(b *strings.Builder, c *cobra.Command) {
	if c.Hidden || c.Name() == "help" {
		return
	}
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n```text\n%s\n\n%s```\n", c.CommandPath(), strings.TrimSpace(text), c.UsageString())
	for _, child := range c.Commands() {
		writeReference(b, child)
	}
}

// TestHelpTeaches: every command says what it does, and every flag what it is for.
func TestHelpTeaches(t *testing.T) {
	root := newRootCommand(&app{process: process{Getenv: func(string) string { return "" }}})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		require.NotEmpty(t, c.Short, c.CommandPath())
		for _, line := range strings.Split(c.Long+"\n"+c.UsageString(), "\n") {
			if strings.HasPrefix(line, "  sluice ") || strings.HasPrefix(line, "    --") {
				continue // examples are to be copied whole
			}
			assert.LessOrEqual(t, len([]rune(line)), 80, "%s: %q is too wide for a terminal of 80 columns", c.CommandPath(), line)
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(root)
}

// TestUsageErrors: what is called wrongly ends with exit code 2 and says how
// it is called.
func TestUsageErrors(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"bild"}, `unknown command "bild" for "sluice"`},
		{[]string{"traffic", "sett"}, "did you mean sluice traffic get or set?"},
		{[]string{"deploy"}, "usage: sluice deploy COMPONENT"},
		{[]string{"deploy", "api", "--environmint", "x"}, "unknown flag: --environmint"},
		{[]string{"deploy", "api"}, `required flag(s) "build", "environment" not set`},
		{[]string{"promote", "--to", "staging"}, "name one component, or --all"},
		{[]string{"version", "-o", "toml"}, `unknown output format "toml"`},
		{[]string{"traffic", "set", "api", "--environment", "production", "--tags", "blue"}, `--tags "blue" is not TAG=PERCENT`},
		{[]string{"build", "record", "--component", "api"}, "no digest is given"},
		{[]string{"pr", "merge", "one"}, `"one" is not the number of a pull request`},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			var out, errs strings.Builder
			code := run(context.Background(), tc.args, process{
				Stdout: &out, Stderr: &errs, Stdin: strings.NewReader(""),
				Getenv: func(string) string { return "" }, Dir: t.TempDir(), Now: fixedNow,
			})
			require.Equal(t, exitUsage, code, errs.String())
			require.Contains(t, errs.String(), tc.want)
		})
	}
}
