package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	terminal "golang.org/x/term"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/secrets"
)

// componentFlag adds --environment, with which the first argument of a command below
// secrets is a component.
func componentFlag(c *cobra.Command, environment *string) {
	c.Flags().StringVar(environment, "environment", "", "the argument is a component: take its secrets.env of this `environment`")
}

// sealedFile is an encrypted file and what it defines.
type sealedFile struct {
	File        string         `json:"file"`
	Environment string         `json:"environment,omitempty"`
	Recipients  []string       `json:"recipients"`
	Names       []secrets.Name `json:"names"`
}

func newSecretsListCommand(a *app) *cobra.Command {
	var environment, ref string
	c := &cobra.Command{
		Use:   "list [FILE|COMPONENT…]",
		Short: "List encrypted files and the names in them; needs no key",
		Long: `Lists the names of the values in encrypted files, never the values, and for
whom the files are encrypted (-o yaml, -o json). Without arguments it lists all
files, or those of one --environment. Files that cannot be read, or are only the
rest of one, are told after the others, as errors.`,
		Example: `  sluice secrets list
  sluice secrets list --environment production
  sluice secrets list api --environment production -o json`,
		RunE: func(c *cobra.Command, args []string) error {
			p, v, err := a.openSealed(c.Context(), ref)
			if err != nil {
				return err
			}
			defer v.Close()
			return a.runSecretsList(p, environment, args)
		},
	}
	c.Flags().StringVar(&environment, "environment", "", "only this environment; arguments are components of it")
	refFlag(c, &ref, fromWorktree)
	return c
}

func (a *app) runSecretsList(p sealedProject, environment string, args []string) error {
	var files []string
	var faults []error
	for _, arg := range args {
		file, err := a.secretFile(p, environment, arg)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	if len(args) == 0 {
		var only []string
		if environment != "" {
			only = []string{environment}
		}
		found, err := p.sealed(only...)
		if err != nil {
			return err
		}
		files, faults = found.files, slices.Concat(found.damaged, found.unread)
	}
	list := []sealedFile{}
	for _, file := range files {
		f, err := p.sealedFile(file)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		list = append(list, f)
	}
	err := a.print(list, func(t *table) {
		t.row("FILE", "NAME", "VALUE")
		for _, f := range list {
			if len(f.Names) == 0 { // a binary file
				t.row(printable(f.File), "-", "encrypted")
			}
			for _, n := range f.Names {
				value := "readable"
				if n.Encrypted {
					value = "encrypted"
				}
				t.row(printable(f.File), printable(n.Name), value)
			}
		}
	})
	return errors.Join(append(faults, err)...)
}

// sealedFile is what an encrypted file says of itself.
func (p sealedProject) sealedFile(file string) (sealedFile, error) {
	f := sealedFile{File: file, Environment: environmentOf(p.repo.Project(), file), Names: []secrets.Name{}}
	data, err := fs.ReadFile(p.files, file)
	if err != nil {
		return f, err
	}
	if f.Recipients, err = secrets.Recipients(file, data); err != nil {
		return f, err
	}
	names, err := secrets.Names(file, data)
	f.Names = append(f.Names, names...)
	return f, err
}

func newSecretsGetCommand(a *app) *cobra.Command {
	var environment, ref string
	c := &cobra.Command{
		Use:   "get FILE|COMPONENT [NAME]",
		Short: "Print one decrypted value",
		Long: `Prints the value as it is, to be piped to where it is needed; on a terminal a
newline follows it. A binary file is one value without a name.`,
		Example: `  sluice secrets get api TOKEN --environment production --age-key-file production=production.agekey
  sluice secrets get environments/production/api/license.yaml 'stringData["license.key"]' --age-key-file production=production.agekey`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			p, v, err := a.openSealed(c.Context(), ref)
			if err != nil {
				return err
			}
			defer v.Close()
			file, err := a.secretFile(p, environment, args[0])
			if err != nil {
				return err
			}
			d, err := a.openDocument(c.Context(), p, file, false)
			if err != nil {
				return err
			}
			value, err := d.Get(strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			if isTerminal(a.Stdout) {
				value += "\n"
			}
			_, err = io.WriteString(a.Stdout, value)
			return err
		},
	}
	componentFlag(c, &environment)
	refFlag(c, &ref, fromWorktree)
	return c
}

func newSecretsSetCommand(a *app) *cobra.Command {
	var environment, from string
	var commit bool
	c := &cobra.Command{
		Use:   "set FILE|COMPONENT [NAME]",
		Short: "Set one value, read from standard input, a file or a prompt",
		Long: `Sets one value of an encrypted file, and makes the file where there is none; of
a component's new secrets.env its overlay generates Secret COMPONENT-secrets.
The value comes from standard input, from --from-file or, on a terminal, from a
prompt that does not show it; never from the command line, which others can see.
A single newline at its end is not a part of it. What stands in the place of a
number or switch becomes one if it is one; all else is text. A value that the
file's rule would leave readable is refused. A binary file is one value without
a name.`,
		Example: `  sluice secrets set api TOKEN --environment production --age-key-file production=production.agekey
  openssl rand -hex 32 | sluice secrets set api SESSION_KEY --commit \
    --environment production --age-key-file production=production.agekey
  sluice secrets set environments/production/api/tls.yaml 'stringData["tls.key"]' --from-file tls.key`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			name := strings.Join(args[1:], "")
			value, err := a.secretValue(c.Context(), name, from)
			if err != nil {
				return err
			}
			return a.changeSecrets(c.Context(), commit, func(p sealedProject, t *envrepo.Tree) (envrepo.Summary, error) {
				file, err := a.secretFile(p, environment, args[0])
				if err != nil {
					return envrepo.Summary{}, err
				}
				return a.changeDocument(c.Context(), p, t, file, true, func(d *secrets.Document) (string, error) {
					return "set " + named(name, file), d.Set(name, value)
				})
			})
		},
	}
	componentFlag(c, &environment)
	c.Flags().StringVar(&from, "from-file", "", "read the value from this `file`")
	commitFlag(c, &commit)
	return c
}

// named is a value of a file in messages.
func named(name, file string) string {
	if name == "" {
		return file
	}
	return name + " in " + file
}

func newSecretsUnsetCommand(a *app) *cobra.Command {
	var environment string
	var commit bool
	c := &cobra.Command{
		Use:   "unset FILE|COMPONENT NAME",
		Short: "Remove one value, or a mapping or list with all in it",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeSecrets(c.Context(), commit, func(p sealedProject, t *envrepo.Tree) (envrepo.Summary, error) {
				file, err := a.secretFile(p, environment, args[0])
				if err != nil {
					return envrepo.Summary{}, err
				}
				return a.changeDocument(c.Context(), p, t, file, false, func(d *secrets.Document) (string, error) {
					return "remove " + args[1] + " from " + file, d.Unset(args[1])
				})
			})
		},
	}
	componentFlag(c, &environment)
	commitFlag(c, &commit)
	return c
}

// changeDocument changes one file.
func (a *app) changeDocument(ctx context.Context, p sealedProject, t *envrepo.Tree, file string, mayBeNew bool, do func(*secrets.Document) (message string, err error)) (envrepo.Summary, error) {
	d, err := a.openDocument(ctx, p, file, mayBeNew)
	if err != nil {
		return envrepo.Summary{}, err
	}
	message, err := do(d)
	if err != nil {
		return envrepo.Summary{}, err
	}
	out, err := d.Encrypt()
	if err != nil {
		return envrepo.Summary{}, err
	}
	return writeSealed(t, file, message, out)
}

// writeSealed writes an encrypted file, and says of a new one what makes it count.
func writeSealed(t *envrepo.Tree, file, message string, data []byte) (envrepo.Summary, error) {
	_, err := fs.Stat(t, file)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err := t.WriteFile(file, data); err != nil {
		return envrepo.Summary{}, err
	}
	s := envrepo.Summary{Message: message}
	if t.Empty() {
		s.Message = file + " says so already"
	}
	if !isNew {
		return s, nil
	}
	dir := path.Dir(file)
	kustomization, err := fs.ReadFile(t, path.Join(dir, "kustomization.yaml"))
	if err != nil || bytes.Contains(kustomization, []byte(path.Base(file))) {
		return s, nil // something else reads it, or this does
	}
	parts := strings.Split(strings.TrimSuffix(dir, "/base"), "/")
	if len(parts) == 3 && parts[0] == "environments" && path.Base(file) == "secrets.env" {
		added, err := envrepo.GenerateSecret(t, dir, parts[2]+"-secrets", "secrets.env")
		if err != nil || added {
			return s, err
		}
	}
	s.Notes = append(s.Notes, fmt.Sprintf("%s is new: nothing reads it before kustomization.yaml beside it names it (secretGenerator.envs, or resources)", file))
	return s, nil
}

// secretValue reads a value that no list of processes and no history of a shell shows.
func (a *app) secretValue(ctx context.Context, name, from string) (string, error) {
	var data []byte
	var err error
	stdin, isFile := a.Stdin.(*os.File)
	switch {
	case from != "":
		var f *os.File
		if f, err = os.Open(a.abs(from)); err != nil {
			return "", fmt.Errorf("--from-file: %w", err)
		}
		defer f.Close()
		data, err = io.ReadAll(io.LimitReader(f, secrets.MaxSize+1))
	case isFile && terminal.IsTerminal(int(stdin.Fd())):
		data, err = a.promptSecret(ctx, stdin, name)
	default:
		data, err = io.ReadAll(io.LimitReader(a.Stdin, secrets.MaxSize+1))
		if err == nil && len(bytes.TrimSpace(data)) == 0 {
			return "", withHint(errors.New("standard input holds no value"), "to set an empty one: --from-file %s", os.DevNull)
		}
	}
	if err != nil {
		return "", fmt.Errorf("reading the value: %w", err)
	}
	if len(data) > secrets.MaxSize {
		return "", fmt.Errorf("the value is larger than %d MiB", secrets.MaxSize>>20)
	}
	// A text of several lines, such as a certificate, keeps its last newline, and
	// so does a whole file.
	if bytes.Count(data, []byte("\n")) == 1 && name != "" {
		data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	}
	return string(data), nil
}

// promptSecret asks on a terminal, which shows again what is typed however it ends.
func (a *app) promptSecret(ctx context.Context, stdin *os.File, name string) ([]byte, error) {
	if name == "" {
		name = "the file"
	}
	fd := int(stdin.Fd())
	// Nothing that is typed is shown from before the prompt on; ReadPassword alone
	// would show what comes sooner than it.
	state, err := terminal.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	defer fmt.Fprintln(a.Stderr)
	defer func() { _ = terminal.Restore(fd, state) }()
	fmt.Fprintf(a.Stderr, "Value of %s (not shown): ", printable(name))
	type answer struct {
		value []byte
		err   error
	}
	read := make(chan answer, 1)
	go func() {
		value, err := terminal.ReadPassword(fd)
		read <- answer{value, err}
	}()
	select {
	case got := <-read:
		if got.err == nil && len(got.value) == 0 {
			got.err = errors.New("nothing was typed")
		}
		return got.value, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newSecretsEncryptCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "encrypt FILE…",
		Short: "Encrypt plain files in place, as .sops.yaml says",
		Long: `Encrypts files of the working tree in place, all or none, for the keys of the
rule of .sops.yaml that matches their path. What was committed in plain text
stays in Git's history: change it where it came from.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeSecrets(c.Context(), false, func(p sealedProject, t *envrepo.Tree) (envrepo.Summary, error) {
				for _, arg := range args {
					file, err := a.projectPath(p, arg)
					if err != nil {
						return envrepo.Summary{}, err
					}
					if err := a.encryptFile(c.Context(), p, t, file); err != nil {
						return envrepo.Summary{}, err
					}
				}
				return envrepo.Summary{Message: "encrypt " + count(len(t.Writes()), "file")}, nil
			})
		},
	}
}

func (a *app) encryptFile(ctx context.Context, p sealedProject, t *envrepo.Tree, file string) error {
	plain, err := fs.ReadFile(t, file)
	if err != nil {
		return err
	}
	rule, err := p.rule(file)
	if err != nil {
		return err
	}
	keys, err := a.keysForFiles(p, file)
	if err != nil {
		return err
	}
	out, err := keys(file).Encrypt(ctx, file, plain, rule)
	if err != nil {
		return err
	}
	return t.WriteFile(file, out)
}
