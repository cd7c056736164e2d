package main

import (
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
)

// app carries the flags that every command has, and the process.
type app struct {
	process
	repo        string
	branch      string
	project     string
	kubeconfig  string
	context     string
	ageKeyFiles []string
	keySources  []string

	signingKeyFile string
	remoteOnly     bool // repositories on this machine's disk are refused

	output string
	forge  forgeFlags

	reportKeyFiles []string

	siteLock sync.Mutex
	sites    map[string]*forgeSite // by remote
	reach    func() (*network, error)
	onClose  func()
}

// colour reports whether w is a terminal that wants colours.
func (a *app) colour(w io.Writer) bool {
	return isTerminal(w) && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
}

// isTerminal reports whether w is a character device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const rootLong = `Sluice runs services on Kubernetes from one Git repository.

A build writes an image digest there, a promotion is a pull request that copies
the digest to the next environment, a commit sets traffic weights, and a
reconciler makes the cluster equal to the repository.

  sluice build record --component api --digest sha256:…   record a build
  sluice promote api --to production                      propose it
  sluice pr merge 1                                       let it in
  sluice traffic set api --environment production --tags blue=90,green=10
  sluice status                                           what runs where

State changes (build record, deploy, promote, pr, traffic, rollback, pause)
commit to the remote branch and never touch your working tree. Scaffolding
(init, environment add, component add, component tag) and secrets edit the
working tree and leave the commit to you.`

const (
	groupScaffold = "scaffold"
	groupState    = "state"
	groupRead     = "read"
	groupCluster  = "cluster"
)

// newRootCommand builds the whole command tree.
func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "Run services on Kubernetes from one Git repository",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          noSubcommand,
		// cobra checks flags after this hook and returns plain errors: checking
		// here makes them usage errors.
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return a.checkFlags(c) },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withHint(usageError{err}, "see: %s --help", c.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&a.repo, "repo", a.Getenv("SLUICE_REPO"), "environments repository, a `URL or path` (SLUICE_REPO; default: the remote of the current folder)")
	f.StringVar(&a.branch, "branch", "main", "branch of the environments repository")
	f.StringVar(&a.project, "project", "", "`folder` of sluice.yaml in the repository (default: the nearest one above the current folder, else the root)")
	f.StringVar(&a.kubeconfig, "kubeconfig", "", "kubeconfig `file` (default: KUBECONFIG, then the usual places)")
	f.StringVar(&a.context, "context", "", "`name` of the kubeconfig context")
	f.StringArrayVar(&a.ageKeyFiles, "age-key-file", nil, "age or SSH private key of an environment, `[ENVIRONMENT=]PATH` (repeatable)")
	f.StringArrayVar(&a.keySources, "key-sources", nil, "keys of an environment in OpenPGP keyrings and key services, `[ENVIRONMENT=]PATH` (repeatable)")
	f.StringVar(&a.signingKeyFile, "signing-key", a.Getenv("SLUICE_SIGNING_KEY_FILE"), "private key `file` that signs commits, SSH or OpenPGP (SLUICE_SIGNING_KEY_FILE)")
	f.StringVarP(&a.output, "output", "o", "", "output `format` of reading commands: table (as wide as the terminal), wide, yaml or json")
	a.addForgeFlags(root)
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "wide", "yaml", "json"}, cobra.ShellCompDirectiveNoFileComp))

	a.addReportFlags(root)

	root.AddGroup(
		&cobra.Group{ID: groupState, Title: "Commands that commit to the remote branch:"},
		&cobra.Group{ID: groupRead, Title: "Commands that read:"},
		&cobra.Group{ID: groupScaffold, Title: "Commands that edit the working tree:"},
		&cobra.Group{ID: groupCluster, Title: "Commands that work on a cluster:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupScaffold, newInitCommand(a), newEnvironmentCommand(a), newComponentCommand(a), newSecretsCommand(a))
	add(groupState, newBuildCommand(a), newDeployCommand(a), newPromoteCommand(a), newPRCommand(a), newTrafficCommand(a), newRollbackCommand(a), newPauseCommand(a), newResumeCommand(a), newPruneCommand(a))
	add(groupRead, newRenderCommand(a), newCheckCommand(a), newHistoryCommand(a))
	add(groupCluster, newDiffCommand(a), newApplyCommand(a), newStatusCommand(a), newExplainCommand(a), newEventsCommand(a), newLogsCommand(a), newReconcileCommand(a), newControllerCommand(a), newInstallCommand(a), newUninstallCommand(a), newDoctorCommand(a))
	root.AddCommand(newVersionCommand(a), &cobra.Command{Use: "exit-codes", Short: "The exit codes and what they mean", Long: exitCodesHelp})
	wrapArgs(root)
	root.SetUsageFunc(usage)
	a.completeNames(root)
	return root
}

// checkFlags judges flags before a command runs.
func (a *app) checkFlags(c *cobra.Command) error {
	if err := c.ValidateRequiredFlags(); err != nil {
		return withHint(usageError{err}, "usage: %s", c.UseLine())
	}
	if err := c.ValidateFlagGroups(); err != nil {
		return withHint(usageError{err}, "see: %s --help", c.CommandPath())
	}
	if err := a.forge.check(); err != nil {
		return err
	}
	switch a.output {
	case "", "table", "wide", "yaml", "json":
		return nil
	}
	return withHint(usagef("unknown output format %q", a.output), "use -o table, -o wide, -o yaml or -o json")
}

// wrapArgs turns the errors of every command's argument check into usage
// errors that show how the command is called.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return withHint(usageError{err}, "usage: %s", c.UseLine())
			}
			return nil
		}
	}
	for _, child := range c.Commands() {
		wrapArgs(child)
	}
}

// noSubcommand is the run function of commands that only group others: an
// unknown word is an error and not a page of help with exit code 0.
func noSubcommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	err := usagef("unknown command %q for %q", args[0], c.CommandPath())
	c.SuggestionsMinimumDistance = 2 // cobra's own default, which it sets only on its own way
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return withHint(err, "did you mean %s %s?", c.CommandPath(), strings.Join(near, " or "))
	}
	return withHint(err, "see: %s --help", c.CommandPath())
}
