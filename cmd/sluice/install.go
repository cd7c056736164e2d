package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/deploy/crds"
	"github.com/sluice-dev/sluice/deploy/manifests"
)

// imageName is where releases of Sluice are published; --image names another place.
const imageName = "ghcr.io/sluice-dev/sluice"

type installOptions struct {
	onlyCRDs, printOnly, apply bool
	timeout                    time.Duration

	environments []string // NAME=NAMESPACE; or NAME or all, by the repository
	applier      string
	ageSecrets   []string // ENVIRONMENT=SECRET
	manifests    manifests.Options
}

const installHelp = `Prints what Sluice needs in a cluster, as plain manifests to read, to change and
to apply: a namespace, the definition of Release, the controller with its
rights, and for each environment its namespace and a service account that the
controller acts as. --apply applies them, and waits until the controller runs.
Applied again, with other flags or by another version, it changes what differs
and takes away what is not needed any more.

The controller's own rights are few: it keeps Releases, writes Events, holds a
Lease, and impersonates the service accounts of its environments. What those may
do, the repository may do; the Role of each says what, and is there to be
changed (docs/guides/install.md).

Secrets are named, never made. They are in the controller's namespace:
--git-secret has the keys token (and username), or ssh-privatekey and
known_hosts for ssh; --age-key-secret has age.agekey; --webhook-secret has
secret; --ca-secret has ca.crt; --github-app-secret has id, installation and
key.pem. --mount-secret puts another one at /etc/sluice/secrets/NAME, for flags
of the controller to name.

Flags of the controller itself go after --, such as -- --promote; see
sluice controller --help.

With --crds alone, only the definition of Release is installed, for a controller
that runs elsewhere.`

func newInstallCommand(a *app) *cobra.Command {
	var o installOptions
	c := &cobra.Command{
		Use:   "install --environment ENVIRONMENT [-- CONTROLLER FLAGS…]",
		Short: "Print or apply what Sluice needs in a cluster",
		Long:  installHelp,
		Example: `  sluice install --repo https://git.example.com/shop/environments.git --environment production=shop-production
  sluice install --environment production=shop-production --git-secret git --age-key-secret production=age --apply
  sluice install --crds`,
		Args: func(c *cobra.Command, args []string) error {
			if n := c.ArgsLenAtDash(); n > 0 || n < 0 && len(args) > 0 {
				return fmt.Errorf("unknown argument %q: flags of the controller go after --", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.manifests.Flags = args
			return a.runInstall(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.environments, "environment", nil, "environment to serve, `NAME[=NAMESPACE]` (repeatable), or all; without NAMESPACE as sluice.yaml says now")
	f.StringVar(&o.manifests.Namespace, "namespace", manifests.DefaultHome, "`namespace` of the controller, and of nothing else")
	f.StringVar(&o.manifests.Image, "image", "", "`image` of the controller (default: "+imageName+" of this version)")
	f.IntVar(&o.manifests.Replicas, "replicas", 2, "controllers, of which one works and the others stand by")
	f.StringVar(&o.applier, "applier", manifests.DefaultApplier, "`name` of each environment's service account")
	f.StringVar(&o.manifests.GitSecret, "git-secret", "", "`Secret` with the credentials for the repository")
	f.StringVar(&o.manifests.CASecret, "ca-secret", "", "`Secret` with the certificate authorities of repository and forge")
	f.StringVar(&o.manifests.GitHubAppSecret, "github-app-secret", "", "`Secret` with the GitHub App that reads the repository")
	f.StringArrayVar(&o.ageSecrets, "age-key-secret", nil, "Secret with the age keys of an environment, `ENVIRONMENT=SECRET` (repeatable)")
	f.StringVar(&o.manifests.WebhookSecret, "webhook-secret", "", "`Secret` that signs webhooks; without one they are not taken")
	f.StringArrayVar(&o.manifests.Mounts, "mount-secret", nil, "further `Secret` to mount (repeatable)")
	f.IntSliceVar(&o.manifests.EgressPorts, "egress-port", nil, "further `port` that the controller may connect to, such as 8200 of Vault")
	f.BoolVar(&o.apply, "apply", false, "apply the manifests, and wait until the controller runs")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long --apply waits")
	f.BoolVar(&o.onlyCRDs, "crds", false, "install the definition of Release and nothing else")
	f.BoolVar(&o.printOnly, "print", false, "with --crds: print it instead of applying it")
	return c
}

func (a *app) runInstall(ctx context.Context, o installOptions) error {
	switch {
	case o.onlyCRDs && (len(o.environments) > 0 || o.apply):
		return withHint(usagef("--crds stands alone"), "everything is installed without it: sluice install --environment NAME=NAMESPACE")
	case o.onlyCRDs && o.printOnly:
		_, err := a.Stdout.Write(crds.Release)
		return err
	case o.onlyCRDs:
		return a.installCRDs(ctx)
	case len(o.environments) == 0:
		return withHint(usagef("no environment is given"), "name each that the controller is to serve: sluice install --environment NAME=NAMESPACE; or install nothing but the definition of Release: sluice install --crds")
	case o.printOnly && o.apply:
		return usagef("--print and --apply: one of them")
	}
	settled, err := a.settleInstall(ctx, o)
	if err != nil {
		return err
	}
	docs, err := settled.Documents()
	if err != nil {
		return usageError{err}
	}
	if err := a.checkControllerFlags(o.manifests.Flags, settled.Args()); err != nil {
		return err
	}
	if o.apply {
		return a.applyInstall(ctx, settled, docs, o.timeout)
	}
	return writeDocuments(a.Stdout, docs)
}

// writeDocuments writes manifests as one stream of YAML.
func writeDocuments(w io.Writer, docs []manifests.Document) error {
	for i, d := range docs {
		if i > 0 {
			if _, err := io.WriteString(w, "---\n"); err != nil {
				return err
			}
		}
		if _, err := w.Write(d.YAML); err != nil {
			return err
		}
	}
	return nil
}

// settleInstall finds out what the flags leave open.
func (a *app) settleInstall(ctx context.Context, o installOptions) (manifests.Options, error) {
	m := o.manifests
	m.Image = cmp.Or(m.Image, imageName+":"+version)
	p, err := a.locate()
	if err != nil {
		return m, err
	}
	m.Repository = p.remote
	if writes := slices.ContainsFunc(m.Flags, func(f string) bool { return f == "--promote" || f == "--announce" }); writes || !m.SSH() {
		m.ForgeToken = a.forgeToken(p.remote)
	}
	if m.Environments, err = a.installedEnvironments(ctx, o); err != nil {
		return m, err
	}
	for _, arg := range o.ageSecrets {
		name, secret, _ := strings.Cut(arg, "=")
		i := slices.IndexFunc(m.Environments, func(e manifests.Environment) bool { return e.Name == name })
		if secret == "" || i < 0 {
			return m, withHint(usagef("--age-key-secret %s is not ENVIRONMENT=SECRET with an environment of --environment", arg), "for example --age-key-secret %s=age", m.Environments[0].Name)
		}
		m.Environments[i].AgeSecret = secret
	}
	var shared []string
	for _, f := range []struct{ name, value, usual string }{
		{"branch", a.branch, "main"}, {"project", p.project, "."}, {"forge", a.forge.kind, forgeAuto},
		{"github-url", a.forge.githubURL, ""}, {"gitea-url", a.forge.giteaURL, ""},
	} {
		if f.value != f.usual {
			shared = append(shared, "--"+f.name+"="+f.value)
		}
	}
	m.Flags = append(shared, m.Flags...)
	return m, nil
}

// forgeToken is the variable that names the file with the token of the remote's forge.
func (a *app) forgeToken(remote string) string {
	kind := a.forge.kind
	if kind == forgeAuto {
		kind = forgeHosts[remoteAddress(remote).name()]
	}
	return map[string]string{"github": "SLUICE_GITHUB_TOKEN_FILE", "gitea": "SLUICE_GITEA_TOKEN_FILE"}[kind]
}

// installedEnvironments pins the namespace of each environment: from here on the
// repository has no say in it.
func (a *app) installedEnvironments(ctx context.Context, o installOptions) ([]manifests.Environment, error) {
	args := o.environments
	if !fixedNamespaces(args) {
		v, err := a.openView(ctx, "", fromBranch)
		if err != nil {
			return nil, err
		}
		defer v.Close()
		if len(args) == 1 && args[0] == "all" {
			args = environmentNames(v.Repo.Project())
		}
		for i, arg := range args {
			if strings.Contains(arg, "=") {
				continue
			}
			env, err := v.Repo.Environment(arg)
			if err != nil {
				return nil, err
			}
			args = slices.Clone(args)
			args[i] = arg + "=" + env.Namespace
		}
	}
	var list []manifests.Environment
	for _, arg := range args {
		name, namespace, _ := strings.Cut(arg, "=")
		list = append(list, manifests.Environment{Name: name, Namespace: namespace, Account: o.applier})
	}
	return list, nil
}

// installedFlags are flags of the controller that go with something else that is
// installed, such as a right or a port: what gives them to install.
var installedFlags = map[string]string{
	"repo": "--repo", "branch": "--branch", "project": "--project", "environment": "--environment",
	"service-account": "--environment and --applier", "webhook-address": "--webhook-secret", "webhook-secret-file": "--webhook-secret",
	"leader-election-id": "", "health-address": "", "metrics-address": "",
}

// checkControllerFlags refuses what the controller would not start with, and what was
// given to it beside what it is installed with.
func (a *app) checkControllerFlags(given, args []string) error {
	silent := &app{process: process{Getenv: func(string) string { return "" }, Stdout: io.Discard, Stderr: io.Discard}}
	c, err := controllerFlags(silent, append([]string{"controller"}, given...))
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(installedFlags)) {
		switch {
		case !c.Flags().Changed(name):
		case installedFlags[name] == "":
			return usagef("--%s after --: install sets it, and what it goes with", name)
		default:
			return withHint(usagef("--%s after --: install sets it, and what it goes with", name), "give %s before the --", installedFlags[name])
		}
	}
	silent = &app{process: silent.process}
	if c, err = controllerFlags(silent, args); err != nil {
		return err
	}
	return silent.checkFlags(c)
}

// controllerFlags parses the arguments of a controller.
func controllerFlags(silent *app, args []string) (*cobra.Command, error) {
	c, rest, err := newRootCommand(silent).Find(args)
	if err != nil {
		return nil, err
	}
	if err := c.ParseFlags(rest); err != nil {
		return nil, withHint(usagef("the controller: %w", err), "see: sluice controller --help")
	}
	if more := c.Flags().Args(); len(more) > 0 {
		return nil, withHint(usagef("the controller takes no argument %q", more[0]), "see: sluice controller --help")
	}
	return c, nil
}
