package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	terminal "golang.org/x/term"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/secrets"
)

func newSecretsEditCommand(a *app) *cobra.Command {
	var environment string
	c := &cobra.Command{
		Use:   "edit FILE|COMPONENT",
		Short: "Open a decrypted file in an editor, and encrypt what it leaves",
		Long: `Opens the decrypted file in VISUAL, else EDITOR, else vi. A file that does not
exist is made. Values that are not changed keep their ciphertext, and nothing is
written when nothing was changed. What cannot be encrypted can be edited again.

The plaintext is in memory only: in a folder of your own on a tmpfs (of
XDG_RUNTIME_DIR or /dev/shm), which is removed in the end, together with what
the editor left in it. vim and nvim are told to keep no other trace; undo files
and histories of other editors are their own affair. Where there is no tmpfs,
set single values with sluice secrets set.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.editSecrets(c.Context(), environment, args[0])
		},
	}
	componentFlag(c, &environment)
	return c
}

func (a *app) editSecrets(ctx context.Context, environment, arg string) error {
	if a.chosenEditor() == "" && !a.onTerminal() { // vi would wait for somebody who is not there
		return withHint(errors.New("there is no terminal to edit on"), "set EDITOR to a program that needs none, or give values to sluice secrets set")
	}
	p, v, err := a.openSealed(ctx, ".")
	if err != nil {
		return err
	}
	defer v.Close()
	file, err := a.secretFile(p, environment, arg)
	if err != nil {
		return err
	}
	before, err := fs.ReadFile(p.files, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, err := a.openDocument(ctx, p, file, true)
	if err != nil {
		return err
	}
	sealed, err := a.editDocument(d, path.Base(file))
	if err != nil {
		return err
	}
	if sealed == nil || bytes.Equal(sealed, before) {
		a.say("%s is unchanged", file)
		return nil
	}
	// What Ctrl-C meant was the editor's to say.
	return a.changeSecrets(context.WithoutCancel(ctx), false, func(p sealedProject, t *envrepo.Tree) (envrepo.Summary, error) {
		now, err := fs.ReadFile(t, file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return envrepo.Summary{}, err
		}
		if !bytes.Equal(now, before) {
			return envrepo.Summary{}, withHint(fmt.Errorf("%s was changed by somebody else while it was edited: nothing is written", file), "edit it again")
		}
		return writeSealed(t, file, "edit "+file, sealed)
	})
}

// editDocument has a document edited until it can be encrypted. It returns nothing
// where the editor changed nothing.
func (a *app) editDocument(d *secrets.Document, name string) (sealed []byte, err error) {
	plain, err := d.Plaintext()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	// Whatever ends the program is caught from here on, until the folder is gone.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	dir, err := newPrivateDir(a.Getenv("XDG_RUNTIME_DIR"), "/dev/shm")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.remove()) }()
	file := filepath.Join(dir.path, name)
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		return nil, fmt.Errorf("writing the plaintext: %w", err)
	}
	for {
		if err := a.runEditor(file, signals); err != nil {
			return nil, err
		}
		edited, err := readEdited(file)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(edited, plain) {
			return nil, nil
		}
		err = d.Replace(edited)
		clear(edited)
		if err == nil {
			sealed, err = d.Encrypt()
		}
		if err == nil {
			return sealed, nil
		}
		if again, asking := a.askToEditAgain(err, signals); asking != nil || !again {
			return nil, errors.Join(err, asking)
		}
	}
}

// readEdited reads what an editor left, which may be another file of the same name.
func readEdited(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, withHint(errors.New("the editor left no file: nothing is written"), "an editor that returns at once needs an argument that makes it wait, such as `code --wait`")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, secrets.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading what the editor left: %w", err)
	}
	return data, nil
}

// editorEnd is how long an editor has to end when it is told to.
const editorEnd = 3 * time.Second

// runEditor runs the editor on a file. On a terminal Ctrl-C is the editor's, as many
// give it a meaning; every other signal ends the editor and the command.
func (a *app) runEditor(file string, signals <-chan os.Signal) error {
	editor := a.editor()
	// As Git and others do: the variable may hold arguments, quoted as for a shell.
	args := append([]string{"-c", editor + ` "$@"`, editor}, traceless(editor)...)
	cmd := exec.Command("sh", append(args, file)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Stdin, a.Stdout, a.Stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(file))
	defer a.keepTerminal()()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the editor %s: %w", editor, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if byInterrupt(err) {
				return context.Canceled
			}
			if err != nil {
				return withHint(fmt.Errorf("the editor %s failed: nothing is written: %w", editor, err), "set VISUAL or EDITOR to one that works here")
			}
			return nil
		case s := <-signals:
			if (s == os.Interrupt || s == syscall.SIGQUIT) && a.onTerminal() {
				continue
			}
			endTree(cmd.Process, ended, editorEnd) // what runs is the shell, and below it the editor
			return context.Canceled
		}
	}
}

// byInterrupt reports whether an editor ended by Ctrl-C, to which it gives no meaning of
// its own; of the shell around it that shows in the exit code.
func byInterrupt(err error) bool {
	const shellInterrupt = 128 + 2
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGINT || exit.ExitCode() == shellInterrupt
}

// onTerminal reports whether somebody types.
func (a *app) onTerminal() bool {
	stdin, ok := a.Stdin.(*os.File)
	return ok && terminal.IsTerminal(int(stdin.Fd()))
}

// keepTerminal remembers how the terminal is set; the returned function sets it so
// again, whatever an editor that was ended has left.
func (a *app) keepTerminal() (restore func()) {
	stdin, ok := a.Stdin.(*os.File)
	if !ok {
		return func() {}
	}
	state, err := terminal.GetState(int(stdin.Fd()))
	if err != nil { // no terminal
		return func() {}
	}
	return func() { _ = terminal.Restore(int(stdin.Fd()), state) }
}

func (a *app) editor() string { return cmp.Or(a.chosenEditor(), "vi") }

// chosenEditor is "" where nobody has chosen one.
func (a *app) chosenEditor() string {
	for _, name := range []string{"VISUAL", "EDITOR"} {
		if editor := strings.TrimSpace(a.Getenv(name)); editor != "" {
			return editor
		}
	}
	return ""
}

// traceless are the arguments that keep an editor from writing what it shows to files
// elsewhere: vim's undo files, and registers and searches in viminfo and shada.
func traceless(editor string) []string {
	program, _, _ := strings.Cut(editor, " ")
	switch filepath.Base(program) {
	case "vim", "nvim", "gvim":
		return []string{"-n", "-i", "NONE", "-c", "silent! set nobackup nowritebackup noundofile"}
	}
	return nil
}

// askToEditAgain says what is wrong with what the editor left. Where nobody can answer,
// the answer is no.
func (a *app) askToEditAgain(problem error, signals <-chan os.Signal) (bool, error) {
	if !a.onTerminal() {
		return false, nil
	}
	printError(a.Stderr, a.colour(a.Stderr), problem)
	fmt.Fprint(a.Stderr, "Edit again? What was edited is lost otherwise. [Y/n] ")
	answer := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(a.Stdin).ReadString('\n')
		if err != nil {
			line = "n"
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		return line == "" || line == "y" || line == "yes", nil
	case <-signals:
		return false, context.Canceled
	}
}

// privateDir is a folder that only this user reads, in memory only.
type privateDir struct {
	path string
	lock *os.File
}

const privatePrefix = "sluice-secrets-"

// newPrivateDir makes a folder in the first of parents that is on a tmpfs. Those that
// killed processes left there go.
func newPrivateDir(parents ...string) (*privateDir, error) {
	for _, parent := range parents {
		if !filepath.IsAbs(parent) || !inMemory(parent) {
			continue
		}
		sweepPrivate(parent)
		dir, err := os.MkdirTemp(parent, privatePrefix) // mode 0700
		if err != nil {
			continue
		}
		d := &privateDir{path: dir}
		if d.lock, err = holdDir(dir); err != nil {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), d.remove())
		}
		return d, nil
	}
	return nil, withHint(errors.New("there is no tmpfs to hold the plaintext, and it is not written to a disk"),
		"mount one and name it in XDG_RUNTIME_DIR; or set single values with sluice secrets set, which needs no file")
}

func (d *privateDir) remove() error {
	err := os.RemoveAll(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
	if err != nil {
		return withHint(fmt.Errorf("removing the plaintext: %w", err), "remove the folder %s", d.path)
	}
	return nil
}

// sweepPrivate removes folders whose owner was killed: nobody holds their lock. A new
// one is left alone until its owner has had the time to lock it.
func sweepPrivate(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, privatePrefix+"*"))
	for _, dir := range left {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if lock, err := holdDir(dir); err == nil {
			_ = os.RemoveAll(dir)
			lock.Close()
		}
	}
}
