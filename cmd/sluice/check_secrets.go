package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/secrets"
)

// rulesReader reads the creation rules of a project, for files that are named
// relative to its folder; nil when it has none.
type rulesReader func() (*secrets.Rules, error)

// creationRules are the rules of the nearest .sops.yaml from the project's folder up to
// the root of the repository.
func creationRules(root fs.FS, project string) (*secrets.Rules, error) {
	name, below := secrets.RulesFile, "."
	for dir := project; ; dir = path.Dir(dir) {
		data, err := fs.ReadFile(root, path.Join(dir, secrets.RulesFile))
		if err == nil {
			rules, err := secrets.ParseRules(name, data)
			return rules.Below(below), err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if dir == "." {
			return nil, nil
		}
		name, below = path.Join("..", name), path.Join(path.Base(dir), below)
	}
}

// rules are those of the working tree.
func (p place) rules() (*secrets.Rules, error) {
	root, err := os.OpenRoot(p.worktree)
	if err != nil {
		return nil, fmt.Errorf("opening the working tree: %w", err)
	}
	defer root.Close()
	return creationRules(worktreeFS{root}, p.project)
}

// unencrypted finds files that .sops.yaml says are encrypted, and are not: those
// for which a rule goes that chooses by more than the folder (docs/adr/0026).
func unencrypted(fsys fs.FS, rules *secrets.Rules) (found []finding, err error) {
	for _, dir := range []string{"components", "environments"} {
		err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && p == dir:
				return nil
			case err != nil:
				return err
			case !d.Type().IsRegular() || !rules.Demands(p):
				return nil
			}
			data, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			if !secrets.IsEncrypted(p, data) {
				found = append(found, plaintextFinding("", p, p))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("looking for plaintext: %w", err)
		}
	}
	return found, nil
}

// plainSecrets judges the values of Secrets that a release reads in plain text:
// an error where a rule of .sops.yaml goes for their file.
func plainSecrets(id string, plain []render.PlainSecret, rules *secrets.Rules) (found []finding) {
	for _, s := range plain {
		if _, ok := rules.For(s.File); !ok || rules.Demands(s.File) { // the latter are found by name
			continue
		}
		if s.Inline {
			found = append(found, finding{Severity: "warning", Release: id, File: s.File,
				Message: s.File + ": " + s.As + " holds values of a Secret in plain text",
				Hint:    "move them to a file that is encrypted, such as secrets.env, and name it in secretGenerator.envs"})
			continue
		}
		where := s.File
		if s.Line > 0 {
			where = fmt.Sprintf("%s:%d", s.File, s.Line)
		}
		found = append(found, plaintextFinding(id, s.File, where))
	}
	return found
}

func plaintextFinding(release, file, where string) finding {
	return finding{Severity: "error", Release: release, File: file,
		Message: where + ": is in plain text although a rule of " + secrets.RulesFile + " goes for it",
		Hint:    "encrypt it with: sluice secrets encrypt " + quoteArgument(file) + "; what was pushed in plain text must be changed too"}
}

// quoteArgument makes a path fit for a shell.
func quoteArgument(p string) string {
	if strings.ContainsFunc(p, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+@%", r))
	}) {
		return "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
	}
	return p
}
