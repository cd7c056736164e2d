package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/secrets"
)

// secretsChecked is the answer of secrets check.
type secretsChecked struct {
	Files    int       `json:"files"`
	Opened   int       `json:"opened"` // how many were opened with keys
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Findings []finding `json:"findings"`
}

func newSecretsCheckCommand(a *app) *cobra.Command {
	var environments []string
	var ref string
	c := &cobra.Command{
		Use:   "check",
		Short: "Find files that the wrong keys open, or the right ones do not",
		Long: `Compares, without any key, for whom each file is encrypted with its rule in
.sops.yaml, and finds files that are encrypted for the keys of another
environment, plain files that a rule demands to be encrypted, and what is left
of encrypted files that were cut off.

Of an environment whose keys are given it opens every file, authenticity
included, and tries them on the files of the others, which they must not open.
What a file says of its keys can be wrong; what opens it cannot.`,
		Example: `  sluice secrets check
  sluice secrets check --age-key-file development=development.agekey --age-key-file production=production.agekey`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, v, err := a.openSealed(c.Context(), ref)
			if err != nil {
				return err
			}
			defer v.Close()
			result, err := a.checkSecrets(c.Context(), p, environments)
			if err != nil {
				return err
			}
			return a.printSecretsChecked(v, result)
		},
	}
	c.Flags().StringSliceVar(&environments, "environment", nil, "only files of these environments (default: all files)")
	refFlag(c, &ref, fromWorktree)
	return c
}

// secretsCheck looks at the encrypted files of a project.
type secretsCheck struct {
	project sealedProject
	keys    keyring
	owners  map[string][]string // environments by the recipients of their rules
	result  secretsChecked
}

func (a *app) checkSecrets(ctx context.Context, p sealedProject, environments []string) (secretsChecked, error) {
	all := environmentNames(p.repo.Project())
	keys, err := a.loadKeys(all, all)
	if err != nil {
		return secretsChecked{}, err
	}
	found, err := p.sealed(environments...)
	if err != nil {
		return secretsChecked{}, err
	}
	c := &secretsCheck{project: p, keys: keys, owners: p.owners(found.files), result: secretsChecked{Findings: []finding{}}}
	plain, err := unencrypted(p.files, p.rules)
	if err != nil {
		return secretsChecked{}, err
	}
	for _, f := range plain {
		if len(environments) == 0 || slices.Contains(environments, environmentOf(p.repo.Project(), f.File)) {
			c.add(f)
		}
	}
	for _, err := range slices.Concat(found.damaged, found.unread) {
		c.add(errorFinding("", err))
	}
	for _, file := range found.files {
		data, err := fs.ReadFile(p.files, file)
		if err != nil {
			return secretsChecked{}, err
		}
		c.result.Files++
		c.recipients(file, data)
		if err := c.open(ctx, file, data); err != nil {
			return secretsChecked{}, err
		}
	}
	c.shared()
	return c.result, nil
}

func (c *secretsCheck) add(f finding) {
	if f.Severity == "error" {
		c.result.Errors++
	} else {
		c.result.Warnings++
	}
	c.result.Findings = append(c.result.Findings, f)
}

// owners are the environments for which the rules name each recipient: by the
// encrypted files in their folders, and by one that could be there.
func (p sealedProject) owners(files []string) map[string][]string {
	project := p.repo.Project()
	owners := map[string][]string{}
	note := func(file string) {
		rule, _ := p.rules.For(file)
		env := environmentOf(project, file)
		for _, r := range rule.Recipients() {
			if env != "" && !slices.Contains(owners[r], env) {
				owners[r] = append(owners[r], env)
			}
		}
	}
	for _, env := range environmentNames(project) {
		note("environments/" + env + "/any/secrets.env")
	}
	for _, file := range files {
		note(file)
	}
	return owners
}

// recipients compares what a file says of its keys with the rules.
func (c *secretsCheck) recipients(file string, data []byte) {
	rule, ok := c.project.rules.For(file)
	if !ok {
		c.add(finding{Severity: "warning", File: file, Message: "no rule of " + secrets.RulesFile + " goes for it: for whom it should be encrypted is not known",
			Hint: "add a rule whose path_regex matches the file"})
		return
	}
	change, err := secrets.CompareKeys(file, data, rule)
	if err != nil {
		c.add(errorFinding("", err))
		return
	}
	if change.None() {
		return
	}
	env := environmentOf(c.project.repo.Project(), file)
	var foreign []string
	for _, r := range change.Removed {
		for _, other := range c.owners[r] {
			if other != env && env != "" {
				foreign = append(foreign, fmt.Sprintf("%s of %s", printable(r), other))
			}
		}
	}
	message := "the keys differ from its rule: " + strings.Join(rekeyed{file, change}.lines(), ", ")
	if len(foreign) > 0 {
		message = "it is encrypted for another environment's key: " + strings.Join(foreign, ", ")
	}
	c.add(finding{Severity: "error", File: file, Message: message,
		Hint: "sluice secrets updatekeys " + quoteArgument(file) + " encrypts it for the keys of its rule; see them first with --dry-run"})
}

// open tries the keys that were given on a file.
func (c *secretsCheck) open(ctx context.Context, file string, data []byte) error {
	env, opened := environmentOf(c.project.repo.Project(), file), false
	for _, name := range environmentNames(c.project.repo.Project()) {
		if c.keys[name] == nil {
			continue
		}
		_, err := c.keys[name].Edit(ctx, file, data)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mac := (*secrets.MACError)(nil)
		switch own := env == name || env == ""; {
		case own && err != nil:
			f := errorFinding("", err)
			f.File, f.Message = file, "with the keys of "+name+": "+err.Error()
			c.add(f)
		case own:
			opened = true
		case err == nil || errors.As(err, &mac): // its data key is known to them
			c.add(finding{Severity: "error", File: file, Message: "the keys of " + name + " open this file of " + env,
				Hint: "give each environment keys of its own in " + secrets.RulesFile + ", then run sluice secrets updatekeys and sluice secrets rotate"})
		}
	}
	if opened {
		c.result.Opened++
	}
	return nil
}

// shared warns of recipients that the rules name for several environments.
func (c *secretsCheck) shared() {
	for _, r := range sortedNames(c.owners) {
		if envs := c.owners[r]; len(envs) > 1 {
			c.add(finding{Severity: "warning", File: secrets.RulesFile,
				Message: printable(r) + " is named for " + strings.Join(envs, " and ") + ": whoever has this key reads them all",
				Hint:    "a person's key may be; that of a controller belongs to one environment"})
		}
	}
}

func sortedNames(m map[string][]string) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (a *app) printSecretsChecked(v *view, result secretsChecked) error {
	err := a.print(result, func(t *table) {
		for _, f := range result.Findings {
			t.line(findingText(f))
		}
		opened := "none opened, as no keys were given"
		if result.Opened > 0 {
			opened = fmt.Sprintf("%d opened", result.Opened)
		}
		t.line(fmt.Sprintf("%s in %s (%s): %s, %s", count(result.Files, "encrypted file"), v.name(), opened, count(result.Errors, "error"), count(result.Warnings, "warning")))
	})
	if err == nil && result.Errors > 0 {
		return codedError{fmt.Errorf("the secrets have %s", count(result.Errors, "error")), exitFindings}
	}
	return err
}
