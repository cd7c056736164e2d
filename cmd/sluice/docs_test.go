package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// codeBlock is a fenced block of a document.
type codeBlock struct {
	file, language string
	lines          []string
}

// documents reads the code blocks of every document.
func documents(t *testing.T) []codeBlock {
	t.Helper()
	files := []string{"../../README.md", "../../CONTRIBUTING.md", "../../examples/README.md", "../../dev/README.md"}
	require.NoError(t, filepath.WalkDir("../../docs", func(file string, _ fs.DirEntry, err error) error {
		if filepath.Ext(file) == ".md" && filepath.Base(file) != "commands.md" {
			files = append(files, file)
		}
		return err
	}))
	var blocks []codeBlock
	for _, file := range files {
		list, err := codeBlocks(file)
		require.NoError(t, err)
		blocks = append(blocks, list...)
	}
	return blocks
}

// codeBlocks reads the code blocks of a file.
func codeBlocks(file string) ([]codeBlock, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var blocks []codeBlock
	var open *codeBlock
	for _, line := range strings.Split(string(data), "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &codeBlock{file: file, language: fence}
		case isFence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: a code block is not closed", file)
	}
	return blocks, nil
}

// TestDocsConsole runs the console blocks of each document, in order, in a
// folder of its own.
func TestDocsConsole(t *testing.T) {
	t.Parallel()
	scripts := map[string]*strings.Builder{}
	for _, b := range documents(t) {
		if b.language != "console" {
			continue
		}
		if scripts[b.file] == nil {
			scripts[b.file] = &strings.Builder{}
		}
		for _, line := range b.lines {
			command, ok := strings.CutPrefix(line, "$ ")
			require.True(t, ok, "%s: %q is no command", b.file, line)
			if !strings.HasPrefix(command, "cd ") {
				command = "exec " + command
			}
			scripts[b.file].WriteString(strings.ReplaceAll(command, `"`, `'`) + "\n")
		}
	}
	require.NotEmpty(t, scripts)
	dir := t.TempDir()
	var files []string
	for name, script := range scripts {
		file := filepath.Join(dir, strings.TrimSuffix(filepath.Base(name), ".md")+".txtar")
		require.NoError(t, os.WriteFile(file, []byte(script.String()), 0o644))
		files = append(files, file)
	}
	testscript.Run(t, testscript.Params{Files: files, Setup: setupScript})
}

// TestDocsCommandsExist: every sluice command line in any document names a
// command and flags that exist.
func TestDocsCommandsExist(t *testing.T) {
	seen := 0
	for _, b := range documents(t) {
		text := strings.ReplaceAll(strings.Join(b.lines, "\n"), "\\\n", " ")
		for _, line := range strings.Split(text, "\n") {
			words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "$ "))
			if len(words) < 2 || filepath.Base(words[0]) != "sluice" || strings.HasPrefix(line, "└") {
				continue
			}
			root := newRootCommand(&app{process: process{Getenv: func(string) string { return "" }}})
			c, rest, err := root.Find(words[1:])
			require.NoError(t, err, "%s: %s", b.file, line)
			require.NotEqual(t, root, c, "%s: %s", b.file, line)
			for _, w := range rest {
				if w == "--" { // of install: what follows is for the controller
					c, _, err = root.Find([]string{"controller"})
					require.NoError(t, err)
				}
				name, isFlag := strings.CutPrefix(w, "--")
				name, _, _ = strings.Cut(name, "=")
				if isFlag && name != "" {
					require.NotNil(t, c.Flag(name), "%s: %s has no flag --%s", b.file, c.CommandPath(), name)
				}
			}
			seen++
		}
	}
	require.Greater(t, seen, 10)
}
