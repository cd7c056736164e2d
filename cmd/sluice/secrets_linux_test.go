package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const secretsFile = "environments/development/api/secrets.env"

// sealedShop is a working tree of examples/shop, and the flag with a key of it.
func sealedShop(t *testing.T) (dir, key string) {
	t.Helper()
	examples, err := filepath.Abs("../../examples")
	require.NoError(t, err)
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(examples, "shop"))))
	require.NoError(t, exec.Command("git", "-C", dir, "init", "-q").Run())
	return dir, "--age-key-file=development=" + filepath.Join(examples, "keys", "development.agekey")
}

// memory is a folder on a tmpfs that this test has for itself.
func memory(t *testing.T) string {
	t.Helper()
	if !inMemory("/dev/shm") {
		t.Skip("/dev/shm is no tmpfs")
	}
	dir, err := os.MkdirTemp("/dev/shm", "sluice-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// editing starts sluice secrets edit with an editor that leaves a file of its own beside
// the plaintext, says so, and waits for another program. out ends with the last of them.
func editing(t *testing.T, dir, key, private string) (cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "editor.sh")
	require.NoError(t, os.WriteFile(script, []byte("cp \"$1\" \"$1.swp\"\necho plaintext at hand\nsleep 300\necho went on\n"), 0o600))
	cmd = exec.Command("sluice", "secrets", "edit", secretsFile, key)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+private, "VISUAL=", "EDITOR=sh "+script, "SLUICE_REPO=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = write
	require.NoError(t, cmd.Start())
	require.NoError(t, write.Close())
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); read.Close() })
	out = bufio.NewReader(read)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "plaintext at hand\n", line)
	return cmd, out
}

func TestInterruptedEditLeavesNoPlaintext(t *testing.T) {
	t.Parallel()
	dir, key := sealedShop(t)
	before, err := os.ReadFile(filepath.Join(dir, secretsFile))
	require.NoError(t, err)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		private := memory(t)
		cmd, out := editing(t, dir, key, private)
		folder := entries(t, private)
		require.Len(t, folder, 1)
		require.Equal(t, []string{"secrets.env", "secrets.env.swp"}, entries(t, filepath.Join(private, folder[0])))
		info, err := os.Stat(filepath.Join(private, folder[0]))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
		require.NoError(t, cmd.Process.Signal(s))
		var ended *exec.ExitError
		require.ErrorAs(t, cmd.Wait(), &ended)
		assert.Equal(t, exitInterrupted, ended.ExitCode(), s)
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		assert.Empty(t, string(rest), "%s: the editor has ended, and all below it", s)
		assert.Empty(t, entries(t, private), s)
	}
	after, err := os.ReadFile(filepath.Join(dir, secretsFile))
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
}

// What a killed process leaves in memory is removed by the next edit; what another one
// has open is not.
func TestKilledEditIsCleanedUp(t *testing.T) {
	t.Parallel()
	dir, key := sealedShop(t)
	private := memory(t)
	killed, _ := editing(t, dir, key, private)
	require.NoError(t, killed.Process.Kill())
	_ = killed.Wait()
	other, _ := editing(t, dir, key, private)
	left := entries(t, private)
	require.Len(t, left, 2, "it may just have begun")
	long := time.Now().Add(-time.Hour)
	for _, name := range left {
		require.NoError(t, os.Chtimes(filepath.Join(private, name), long, long))
	}
	third, err := newPrivateDir(private)
	require.NoError(t, err)
	require.Len(t, entries(t, private), 2)
	require.NoError(t, third.remove())
	require.NoError(t, other.Process.Signal(syscall.SIGTERM))
	_ = other.Wait()
	assert.Empty(t, entries(t, private))
}

func TestPlaintextIsNotWrittenToADisk(t *testing.T) {
	_, err := newPrivateDir("", "relative", "/proc", "/nonexistent")
	assert.EqualError(t, err, "there is no tmpfs to hold the plaintext, and it is not written to a disk")
	assert.Contains(t, strings.Join(hints(err), ""), "sluice secrets set")
}

// terminalPair is a terminal: what is written to keys is typed, and what comes out of it
// is shown.
func terminalPair(t *testing.T) (keys, tty *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here")
	}
	var unlock, number int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keys.Fd(), request, uintptr(unsafe.Pointer(value)))
		require.Zero(t, errno)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { keys.Close(); tty.Close() })
	return keys, tty
}

// answer collects what a terminal shows until a text, and then types an answer.
func answer(t *testing.T, keys *os.File, until, typed string) string {
	t.Helper()
	var all bytes.Buffer
	buf := make([]byte, 1024)
	for !strings.Contains(all.String(), until) {
		n, err := keys.Read(buf)
		require.NoError(t, err, all.String())
		all.Write(buf[:n])
	}
	_, err := io.WriteString(keys, typed)
	require.NoError(t, err)
	return all.String()
}

// atTerminal runs a command that talks to a terminal.
func atTerminal(t *testing.T, dir string, tty *os.File, env map[string]string, args ...string) <-chan int {
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), args, process{Stdin: tty, Stdout: tty, Stderr: tty, Dir: dir, Now: time.Now, Getenv: func(name string) string { return env[name] }})
	}()
	return done
}

// output is what a command prints where nobody watches.
func output(t *testing.T, dir string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(context.Background(), args, process{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Dir: dir, Now: time.Now, Getenv: func(string) string { return "" }})
	require.Equal(t, exitOK, code, errs.String())
	return out.String()
}

func TestAPromptDoesNotShowTheValue(t *testing.T) {
	t.Parallel()
	dir, key := sealedShop(t)
	keys, tty := terminalPair(t)
	done := atTerminal(t, dir, tty, nil, "secrets", "set", secretsFile, "TOKEN", key)
	screen := answer(t, keys, "Value of TOKEN (not shown): ", "canary-typed\n")
	screen += answer(t, keys, "commit and push it.", "")
	assert.NotContains(t, screen, "canary")
	require.Equal(t, exitOK, <-done)
	assert.Equal(t, "canary-typed", output(t, dir, "secrets", "get", secretsFile, "TOKEN", key))
}

// What cannot be encrypted is edited again, from where it was left.
func TestEditAgain(t *testing.T) {
	t.Parallel()
	dir, key := sealedShop(t)
	keys, tty := terminalPair(t)
	private := memory(t)
	script := filepath.Join(t.TempDir(), "editor.sh")
	require.NoError(t, os.WriteFile(script, []byte("if grep -q mistake \"$1\"; then sed -i s/mistake/TOKEN=canary-again/ \"$1\"; else echo mistake >>\"$1\"; fi\n"), 0o600))
	env := map[string]string{"XDG_RUNTIME_DIR": private, "EDITOR": "sh " + script}
	done := atTerminal(t, dir, tty, env, "secrets", "edit", secretsFile, key)
	screen := answer(t, keys, "[Y/n] ", "\n")
	assert.Contains(t, screen, "the line is neither NAME=value nor a comment")
	require.NotContains(t, screen+answer(t, keys, "commit and push it.", ""), "canary")
	require.Equal(t, exitOK, <-done)
	assert.Equal(t, "canary-again", output(t, dir, "secrets", "get", secretsFile, "TOKEN", key))
	done = atTerminal(t, dir, tty, env, "secrets", "edit", secretsFile, key)
	answer(t, keys, "[Y/n] ", "n\n")
	require.Equal(t, exitError, <-done)
	assert.Empty(t, entries(t, private))
}

func TestEditorsAreToldToLeaveNoTrace(t *testing.T) {
	for editor, want := range map[string]int{"vim": 5, "/usr/bin/nvim -u NONE": 5, "nano": 0, "code --wait": 0, "vi": 0} {
		assert.Len(t, traceless(editor), want, editor)
	}
	a := &app{process: process{Getenv: func(name string) string { return map[string]string{"EDITOR": "nano", "VISUAL": " "}[name] }}}
	assert.Equal(t, "nano", a.editor())
	a.Getenv = func(string) string { return "" }
	assert.Equal(t, "vi", a.editor())
}
