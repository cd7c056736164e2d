package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/secrets"
)

const secretsLong = `Reads and changes SOPS files, which the sops command reads and changes too. A
file is named by its path, or as the secrets.env of a component:

  sluice secrets set environments/production/api/secrets.env TOKEN
  sluice secrets set api TOKEN --environment production

Changes are made in the working tree, for you to commit, or with --commit in one
commit on the remote branch. What is not changed keeps its ciphertext. New files
are encrypted as .sops.yaml says, and for age recipients no key is needed. What
opens a file is given by --age-key-file or --key-sources and used for files of
its environment only.

Values of nested files are named db.password, users[0].name, data["tls.crt"].`

func newSecretsCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "secrets", Short: "Read, change and check encrypted files", Long: secretsLong, RunE: noSubcommand}
	c.AddCommand(newSecretsListCommand(a), newSecretsGetCommand(a), newSecretsSetCommand(a), newSecretsUnsetCommand(a), newSecretsEditCommand(a),
		newSecretsEncryptCommand(a), newSecretsRotateCommand(a), newSecretsUpdateKeysCommand(a), newSecretsCheckCommand(a))
	return c
}

// sealedProject is one state of the project, for the commands about its secrets.
type sealedProject struct {
	files fs.FS
	repo  *envrepo.Repo
	rules *secrets.Rules
	at    place
}

// openSealed opens the state that a reading command shows.
func (a *app) openSealed(ctx context.Context, ref string) (sealedProject, *view, error) {
	at, err := a.locate()
	if err != nil {
		return sealedProject{}, nil, err
	}
	v, err := a.openView(ctx, ref, fromWorktree)
	if err != nil {
		return sealedProject{}, nil, err
	}
	rules, err := v.Rules()
	if err != nil {
		v.Close()
		return sealedProject{}, nil, err
	}
	return sealedProject{v.FS, v.Repo, rules, at}, v, nil
}

// secretsEdit changes files of a project.
type secretsEdit func(p sealedProject, t *envrepo.Tree) (envrepo.Summary, error)

// changeSecrets runs an edit in the working tree or, with commit, on the remote
// branch, where it is run again on newer files when somebody else was faster.
func (a *app) changeSecrets(ctx context.Context, commit bool, e secretsEdit) error {
	at, err := a.locate()
	if err != nil {
		return err
	}
	if !commit {
		return a.changeSealedFiles(ctx, at, e)
	}
	repo, err := a.openRemoteAt(ctx, at)
	if err != nil {
		return err
	}
	defer repo.Close()
	done, err := repo.changeAt(ctx, func(snap *gitrepo.Snapshot, t *envrepo.Tree) (envrepo.Summary, error) {
		rules, err := creationRules(snap, repo.project)
		if err != nil {
			return envrepo.Summary{}, err
		}
		return runSecretsEdit(sealedProject{files: t, rules: rules, at: at}, t, e)
	})
	if err != nil {
		return err
	}
	return a.printCommitted(done)
}

// changeSealedFiles runs an edit in the working tree, one at a time: two that read the
// same file would each drop what the other writes.
func (a *app) changeSealedFiles(ctx context.Context, at place, e secretsEdit) error {
	if at.worktree == "" {
		return withHint(fmt.Errorf("%s has no working tree to edit", at.remote), "run this in a clone of it, or add --commit to commit to branch %s there", a.branch)
	}
	root, err := os.OpenRoot(filepath.Join(at.worktree, filepath.FromSlash(at.project)))
	if err != nil {
		return fmt.Errorf("opening the project folder: %w", err)
	}
	defer root.Close()
	unlock, err := lockFolder(ctx, root)
	if err != nil {
		return fmt.Errorf("locking the project folder: %w", err)
	}
	defer unlock()
	rules, err := at.rules()
	if err != nil {
		return err
	}
	tree := envrepo.NewTree(worktreeFS{root})
	summary, err := runSecretsEdit(sealedProject{files: tree, rules: rules, at: at}, tree, e)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := writeTree(root, tree); err != nil {
		return err
	}
	return a.printScaffolded(summary, tree)
}

func runSecretsEdit(p sealedProject, t *envrepo.Tree, e secretsEdit) (_ envrepo.Summary, err error) {
	if p.repo, err = envrepo.Open(t); err != nil {
		return envrepo.Summary{}, err
	}
	summary, err := e(p, t)
	summary.Changed = !t.Empty()
	return summary, err
}

// secretFile is the file that an argument names: with an environment a component's,
// else a path as the shell has it.
func (a *app) secretFile(p sealedProject, environment, arg string) (string, error) {
	if environment == "" {
		return a.projectPath(p, arg)
	}
	if _, err := p.repo.Environment(environment); err != nil {
		return "", err
	}
	names, err := p.repo.ReleaseNames(environment)
	if err != nil {
		return "", err
	}
	if !slices.Contains(names, arg) {
		return "", withHint(usagef("%s has no component %q", environment, arg),
			"its components: %s; without --environment the argument is a path", strings.Join(names, ", "))
	}
	dir := path.Join("environments", environment, arg)
	if arg == envrepo.EnvironmentRelease {
		dir = path.Dir(dir)
	}
	if info, err := fs.Stat(p.files, path.Join(dir, "base")); err == nil && info.IsDir() {
		dir = path.Join(dir, "base") // what all tags share
	}
	return path.Join(dir, "secrets.env"), nil
}

// projectPath is an argument relative to the project folder. Outside of the working
// tree it is that already.
func (a *app) projectPath(p sealedProject, arg string) (string, error) {
	name := filepath.ToSlash(arg)
	if p.at.worktree != "" {
		top, here := resolved(p.at.worktree), resolved(a.Dir)
		if inside, err := filepath.Rel(top, here); filepath.IsAbs(arg) || err == nil && filepath.IsLocal(inside) {
			if !filepath.IsAbs(arg) {
				arg = filepath.Join(here, arg)
			} else {
				arg = filepath.Join(resolved(filepath.Dir(arg)), filepath.Base(arg))
			}
			rel, err := filepath.Rel(filepath.Join(top, filepath.FromSlash(p.at.project)), arg)
			if err != nil {
				return "", fmt.Errorf("%s: %w", arg, err)
			}
			name = filepath.ToSlash(rel)
		}
	}
	if name = path.Clean(name); !fs.ValidPath(name) || name == "." {
		return "", withHint(usagef("%s is no file of the project", arg), "the project is the folder of sluice.yaml (--project)")
	}
	return name, nil
}

// resolved is a path without symbolic links, as far as it exists.
func resolved(p string) string {
	if r, err := filepath.EvalSymlinks(p); err == nil {
		return r
	}
	return p
}

// environmentOf is the environment whose file it is, "" for one that several read.
func environmentOf(p envrepo.Project, file string) string {
	if rest, ok := strings.CutPrefix(file, "environments/"); ok {
		if name, _, ok := strings.Cut(rest, "/"); ok && hasEnvironment(p, name) {
			return name
		}
	}
	return ""
}

// keysFor returns the keys for each of some files: those of its environment, or all
// that are given for what several environments read.
func (a *app) keysForFiles(p sealedProject, files ...string) (func(file string) *secrets.Keys, error) {
	project := p.repo.Project()
	all := environmentNames(project)
	var used []string
	for _, file := range files {
		if env := environmentOf(project, file); env == "" {
			used = all
		} else if !slices.Contains(used, env) {
			used = append(slices.Clip(used), env)
		}
	}
	keys, err := a.loadKeys(used, all)
	if err != nil {
		return nil, err
	}
	return func(file string) *secrets.Keys {
		if env := environmentOf(project, file); env != "" {
			return keys[env]
		}
		shared := &secrets.Keys{}
		for _, env := range all {
			shared.Add(keys[env])
		}
		return shared
	}, nil
}

// openDocument opens a file to be changed, or starts one as the rule says that goes for
// its path.
func (a *app) openDocument(ctx context.Context, p sealedProject, file string, mayBeNew bool) (*secrets.Document, error) {
	keys, err := a.keysForFiles(p, file)
	if err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(p.files, file)
	if err == nil {
		return keys(file).Edit(ctx, file, data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !mayBeNew {
		return nil, withHint(fmt.Errorf("%s: there is no such file", file), "sluice secrets list shows the encrypted files; sluice secrets set makes one")
	}
	rule, err := p.rule(file)
	if err != nil {
		return nil, err
	}
	return keys(file).NewDocument(ctx, file, rule)
}

// rule is the creation rule of a file.
func (p sealedProject) rule(file string) (secrets.Rule, error) {
	rule, ok := p.rules.For(file)
	switch {
	case ok:
		return rule, nil
	case p.rules == nil:
		return rule, withHint(fmt.Errorf("%s: the repository has no %s, which says for whom files are encrypted", file, secrets.RulesFile),
			"write a rule for each environment into it; sluice init and sluice environment add do with --age-recipient")
	}
	return rule, withHint(fmt.Errorf("%s: no rule of %s goes for it", file, secrets.RulesFile), "add a rule whose path_regex matches the file, with the keys that open it")
}

// encrypted lists the encrypted files of some environments, or of all and of
// components/ too.
func (p sealedProject) encrypted(environments ...string) ([]string, error) {
	found, err := p.sealed(environments...)
	if err == nil {
		err = errors.Join(found.unread...) // one of them may be encrypted
	}
	return found.files, err
}

// sealedFiles are the encrypted files of a project, in the order of their paths.
type sealedFiles struct {
	files   []string
	damaged []error // files that hold encrypted values and are none: what is left of one that was cut off or pasted together
	unread  []error // files that cannot be read
}

// sealed looks for encrypted files in some environments, or in all and components/.
func (p sealedProject) sealed(environments ...string) (found sealedFiles, err error) {
	dirs := []string{"components", "environments"}
	if len(environments) > 0 {
		dirs = nil
		for _, env := range environments {
			if _, err := p.repo.Environment(env); err != nil {
				return found, err
			}
			dirs = append(dirs, "environments/"+env)
		}
	}
	for _, dir := range dirs {
		err := fs.WalkDir(p.files, dir, func(name string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && name == dir:
				return nil
			case err != nil:
				return err
			case !d.Type().IsRegular():
				return nil
			}
			data, err := fs.ReadFile(p.files, name)
			if err != nil {
				found.unread = append(found.unread, err) // it names the file
				return nil
			}
			if secrets.IsEncrypted(name, data) {
				found.files = append(found.files, name)
			} else if _, err := secrets.OpenKeyless(name, data); err != nil {
				found.damaged = append(found.damaged, err)
			}
			return nil
		})
		if err != nil {
			return found, fmt.Errorf("looking for encrypted files: %w", err)
		}
	}
	return found, nil
}
