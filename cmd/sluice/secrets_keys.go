package main

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/secrets"
)

// fileSelection says which encrypted files a command is for.
type fileSelection struct {
	args         []string
	environments []string
	all          bool
}

func (o *fileSelection) addFlags(c *cobra.Command) {
	c.Flags().StringSliceVar(&o.environments, "environment", nil, "all encrypted files of these environments")
	c.Flags().BoolVar(&o.all, "all", false, "all encrypted files of the project")
}

// files resolves the selection; there is at least one.
func (o fileSelection) files(a *app, p sealedProject) (files []string, err error) {
	switch {
	case len(o.args) > 0 && !o.all && len(o.environments) == 0:
		for _, arg := range o.args {
			file, err := a.projectPath(p, arg)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
		return files, nil
	case len(o.args) == 0 && o.all && len(o.environments) == 0:
		files, err = p.encrypted()
	case len(o.args) == 0 && !o.all && len(o.environments) > 0:
		files, err = p.encrypted(o.environments...)
	default:
		return nil, withHint(usagef("which files are meant?"), "name files, or environments with --environment, or --all")
	}
	if err == nil && len(files) == 0 {
		err = withHint(fmt.Errorf("there is no encrypted file"), "sluice secrets set makes one")
	}
	return files, err
}

func newSecretsRotateCommand(a *app) *cobra.Command {
	var o fileSelection
	var commit bool
	c := &cobra.Command{
		Use:   "rotate FILE…|--environment ENVIRONMENT|--all",
		Short: "Encrypt files again with new data keys",
		Long: `Encrypts every value again with a new data key, for the keys that each file is
encrypted for: whoever kept an old data key cannot read what is written from now
on. A file that names other keys than its rule in .sops.yaml is refused: anybody
may have written them there. All files are changed or none. Older commits stay
what they are: when a key may be in wrong hands, change the values too.`,
		Example: `  sluice secrets rotate --environment production --age-key-file production=production.agekey`,
		RunE: func(c *cobra.Command, args []string) error {
			o.args = args
			return a.changeSecrets(c.Context(), commit, func(p sealedProject, t *envrepo.Tree) (envrepo.Summary, error) {
				files, err := o.files(a, p)
				if err != nil {
					return envrepo.Summary{}, err
				}
				keys, err := a.keysForFiles(p, files...)
				if err != nil {
					return envrepo.Summary{}, err
				}
				for _, file := range files {
					data, err := fs.ReadFile(t, file)
					if err != nil {
						return envrepo.Summary{}, err
					}
					if err := p.mayRotate(file, data); err != nil {
						return envrepo.Summary{}, err
					}
					if data, err = keys(file).Rotate(c.Context(), file, data); err != nil {
						return envrepo.Summary{}, err
					}
					if err := t.WriteFile(file, data); err != nil {
						return envrepo.Summary{}, err
					}
				}
				return envrepo.Summary{Message: "rotate the data " + plural(len(files), "key of ", "keys of ") + fileCount(files)}, nil
			})
		},
	}
	o.addFlags(c)
	commitFlag(c, &commit)
	return c
}

// mayRotate refuses a file that names keys which its rule does not: what a file says of
// its keys is not authenticated, and they would be given the new data key.
func (p sealedProject) mayRotate(file string, data []byte) error {
	rule, ok := p.rules.For(file)
	if !ok {
		return nil
	}
	change, err := secrets.CompareKeys(file, data, rule)
	if err != nil || len(change.Removed) == 0 && !change.Regrouped {
		return err
	}
	change.Added = nil
	return withHint(fmt.Errorf("%s: its keys are not those of its rule in %s: %s", file, secrets.RulesFile, strings.Join(rekeyed{file, change}.lines(), ", ")),
		"encrypt it for the keys of the rule first: sluice secrets updatekeys %s; or add the key to the rule", quoteArgument(file))
}

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// fileCount is one file by its name, several by their number.
func fileCount(files []string) string {
	if len(files) == 1 {
		return files[0]
	}
	return count(len(files), "file")
}

// rekeyed is how the keys of a file change.
type rekeyed struct {
	File string `json:"file"`
	secrets.KeyChange
}

func newSecretsUpdateKeysCommand(a *app) *cobra.Command {
	var o fileSelection
	var commit, dryRun bool
	c := &cobra.Command{
		Use:   "updatekeys FILE…|--environment ENVIRONMENT|--all",
		Short: "Encrypt files for the keys that .sops.yaml now names",
		Long: `Encrypts the data key of each file for the keys of the rule of .sops.yaml that
matches its path; values keep their ciphertext. All files are changed or none,
and with --commit in one commit. --dry-run shows which keys would come and go,
and needs no key. A key that is taken away still opens older commits, and
whoever had it may have kept the data key: run sluice secrets rotate afterwards.`,
		Example: `  sluice secrets updatekeys --all --dry-run
  sluice secrets updatekeys --environment production --age-key-file production=production.agekey`,
		RunE: func(c *cobra.Command, args []string) error {
			o.args = args
			if dryRun {
				return a.previewKeys(c.Context(), o)
			}
			return a.changeSecrets(c.Context(), commit, func(p sealedProject, t *envrepo.Tree) (envrepo.Summary, error) {
				return a.updateKeys(c.Context(), o, p, t)
			})
		},
	}
	o.addFlags(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	commitFlag(c, &commit)
	return c
}

// outdated compares the selected files with their rules.
func (o fileSelection) outdated(a *app, p sealedProject) (changes []rekeyed, err error) {
	files, err := o.files(a, p)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		data, err := fs.ReadFile(p.files, file)
		if err != nil {
			return nil, err
		}
		rule, err := p.rule(file)
		if err != nil {
			return nil, err
		}
		change, err := secrets.CompareKeys(file, data, rule)
		if err != nil {
			return nil, err
		}
		if !change.None() {
			changes = append(changes, rekeyed{file, change})
		}
	}
	return changes, nil
}

func (a *app) previewKeys(ctx context.Context, o fileSelection) error {
	p, v, err := a.openSealed(ctx, "")
	if err != nil {
		return err
	}
	defer v.Close()
	changes, err := o.outdated(a, p)
	if err != nil {
		return err
	}
	return a.print(append([]rekeyed{}, changes...), func(t *table) {
		for _, c := range changes {
			t.line(printable(c.File))
			for _, line := range c.lines() {
				t.line("  " + line)
			}
		}
		t.line(count(len(changes), "file") + " would change")
	})
}

// lines show a change, one key a line.
func (r rekeyed) lines() (lines []string) {
	for _, k := range r.Added {
		lines = append(lines, "+ "+printable(k))
	}
	for _, k := range r.Removed {
		lines = append(lines, "- "+printable(k))
	}
	if r.Regrouped {
		lines = append(lines, "the same keys in other key groups")
	}
	return lines
}

func (a *app) updateKeys(ctx context.Context, o fileSelection, p sealedProject, t *envrepo.Tree) (envrepo.Summary, error) {
	changes, err := o.outdated(a, p)
	if err != nil {
		return envrepo.Summary{}, err
	}
	var files []string
	for _, c := range changes {
		files = append(files, c.File)
	}
	keys, err := a.keysForFiles(p, files...)
	if err != nil && len(files) > 0 {
		return envrepo.Summary{}, err
	}
	s := envrepo.Summary{Message: "every file is encrypted for the keys of its rule already"}
	removed := false
	for _, c := range changes {
		data, err := fs.ReadFile(t, c.File)
		if err != nil {
			return envrepo.Summary{}, err
		}
		rule, _ := p.rules.For(c.File)
		if data, _, err = keys(c.File).UpdateKeys(ctx, c.File, data, rule); err != nil {
			return envrepo.Summary{}, err
		}
		if err := t.WriteFile(c.File, data); err != nil {
			return envrepo.Summary{}, err
		}
		s.Notes = append(s.Notes, c.File+": "+strings.Join(c.lines(), ", "))
		removed = removed || len(c.Removed) > 0
	}
	if len(files) > 0 {
		s.Message = "update the keys of " + fileCount(files)
	}
	if removed {
		s.Notes = append(s.Notes, "a key that is gone opens older commits, and the data keys are the same: run sluice secrets rotate, and change the values if it may be in wrong hands")
	}
	return s, nil
}
