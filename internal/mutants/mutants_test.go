package mutants_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/internal/testseed"
)

// fault is how FuzzFaulty is to fail in a process of its own.
const fault = "MUTANTS_TEST_FAULT"

// FuzzFaulty has a fault only where TestFailures asks for one.
func FuzzFaulty(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("a: b\n", []byte{}, int64(1), uint8(1), 'r', float32(1), 1.5, true)
	f.Fuzz(func(t *testing.T, text string, _ []byte, _ int64, _ uint8, _ rune, _ float32, _ float64, _ bool) {
		switch how := os.Getenv(fault); {
		case !strings.Contains(text, "*a"):
		case how == "errors":
			t.Error("an alias")
		case how == "ends":
			require.Fail(t, "an alias")
		case how == "panics":
			panic("an alias")
		case how == "skips":
			t.Skip("an alias")
		}
	})
}

// run runs FuzzFaulty in a folder, with one fault, and returns its output.
func run(t *testing.T, dir, how, time string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(self, "-test.run=^FuzzFaulty$")
	command.Dir = dir
	command.Env = append(os.Environ(), fault+"="+how, mutants.Variable+"="+time, testseed.Variable+"=1")
	out, err := command.CombinedOutput()
	return string(out), err
}

func kept(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "testdata/fuzz/FuzzFaulty/*"))
	require.NoError(t, err)
	return files
}

// However a mutant fails, go test fails, prints it, and keeps it as a seed of which
// go test alone makes the same failure.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"errors", "ends", "panics"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out, err := run(t, dir, how, "30s")
			require.Error(t, err, "no mutant has an alias: %s", out)
			files := kept(t, dir)
			require.Len(t, files, 1, out)
			data, err := os.ReadFile(files[0])
			require.NoError(t, err)
			name := filepath.Base(files[0])
			assert.Contains(t, out, "go test -run 'FuzzFaulty/"+name+"'")
			assert.Contains(t, out, "SLUICE_TEST_SEED=1")
			for line := range strings.Lines(string(data)) {
				assert.Contains(t, out, strings.TrimSpace(line))
			}

			out, err = run(t, dir, how, "0")
			require.Error(t, err)
			assert.Contains(t, out, "--- FAIL: FuzzFaulty/"+name)
			_, err = run(t, dir, "", "30s")
			require.NoError(t, err, "mended")

			again := t.TempDir()
			_, err = run(t, again, how, "30s")
			require.Error(t, err)
			require.Len(t, kept(t, again), 1)
			assert.Equal(t, name, filepath.Base(kept(t, again)[0]), "a seed repeats its mutants")
		})
	}
}

func TestATargetThatSkipsIsRefused(t *testing.T) {
	t.Parallel()
	out, err := run(t, t.TempDir(), "skips", "30s")
	require.Error(t, err)
	assert.Contains(t, out, "let it return")
}

// What cannot be kept is printed all the same.
func TestFailureInAFolderThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "testdata"), 0o700))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "testdata", "fuzz")))
	out, err := run(t, dir, "ends", "30s")
	require.Error(t, err)
	assert.Contains(t, out, "could not be kept")
	assert.Contains(t, out, "go test fuzz v1")
}

func TestBudgetIsADuration(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"10", "-1s", "x"} {
		out, err := run(t, t.TempDir(), "ends", bad)
		require.Error(t, err)
		assert.Contains(t, out, "is no duration")
	}
}
