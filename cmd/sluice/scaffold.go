package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
)

// scaffold runs an edit of the project's files: in the working tree, for the
// user to read and commit, or with --commit on the remote branch.
func (a *app) scaffold(ctx context.Context, commit bool, e edit) error {
	if commit {
		return a.changeRemote(ctx, e)
	}
	dir, err := a.scaffoldDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the project folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening the project folder: %w", err)
	}
	defer root.Close()
	tree := envrepo.NewTree(worktreeFS{root})
	summary, err := e(tree)
	if err != nil {
		return err
	}
	if err := writeTree(root, tree); err != nil {
		return err
	}
	if dir != a.Dir {
		summary.Message += " in " + dir
	}
	return a.printScaffolded(summary, tree)
}

// scaffoldDir is the project folder of the working tree; the current folder
// where there is no repository yet.
func (a *app) scaffoldDir() (string, error) {
	p, err := a.locate()
	switch {
	case err == nil && p.worktree != "":
		return filepath.Join(p.worktree, filepath.FromSlash(p.project)), nil
	case err == nil:
		return "", withHint(fmt.Errorf("%s has no working tree to edit", p.remote), "run this in a clone of it, or add --commit to commit to branch %s there", a.branch)
	case a.repo == "" && a.project == "" && !errors.Is(err, fs.ErrPermission):
		return a.Dir, nil
	default:
		return "", err
	}
}

func sortedKeys(m map[string][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// scaffolded is what a scaffold did.
type scaffolded struct {
	Message string   `json:"message"`
	Written []string `json:"written,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

func (a *app) printScaffolded(s envrepo.Summary, tree *envrepo.Tree) error {
	out := scaffolded{s.Message, sortedKeys(tree.Writes()), tree.Deletes(), s.Notes}
	for _, n := range s.Notes {
		a.note("note: %s", n)
	}
	return a.print(out, func(t *table) {
		t.line(printable(out.Message))
		for _, f := range out.Written {
			t.line("  wrote   " + f)
		}
		for _, f := range out.Removed {
			t.line("  removed " + f)
		}
		if len(out.Written)+len(out.Removed) > 0 {
			t.line("Read it, then commit and push it.")
		}
	})
}

// commitFlag adds --commit.
func commitFlag(c *cobra.Command, commit *bool) {
	c.Flags().BoolVar(commit, "commit", false, "commit to the remote branch instead of editing the working tree")
}

func newInitCommand(a *app) *cobra.Command {
	var name, gateways string
	var environments, recipients []string
	var commit bool
	c := &cobra.Command{
		Use:   "init [NAME]",
		Short: "Start an environments repository",
		Long: `Writes sluice.yaml and a folder for each environment into the current working
tree. Environments are promoted in the order in which they are given.

Each environment gets its namespace with Pod Security labels, NetworkPolicies
that let in and out only what they name, a quota, and a default ServiceAccount
without a token.`,
		Example: `  sluice init shop
  sluice init shop --environments development,production
  sluice init shop --environments staging=shop-test,production --age-recipient production=age1…`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				name = args[0]
			}
			if name == "" {
				name = filepath.Base(a.Dir)
			}
			specs, err := environmentSpecs(name, environments, recipients)
			if err != nil {
				return err
			}
			for i := range specs {
				specs[i].GatewayNamespace = gateways
			}
			return a.scaffold(c.Context(), commit, func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.Init(t, name, specs)
			})
		},
	}
	c.Flags().StringSliceVar(&environments, "environments", []string{"development", "staging", "production"}, "environments in order, each `NAME[=NAMESPACE]`")
	c.Flags().StringArrayVar(&recipients, "age-recipient", nil, "age public key that encrypts an environment's secrets, `ENVIRONMENT=age1…` (repeatable)")
	gatewayFlag(c, &gateways)
	commitFlag(c, &commit)
	return c
}

// environmentSpecs reads NAME[=NAMESPACE] and ENVIRONMENT=RECIPIENT arguments.
func environmentSpecs(project string, environments, recipients []string) ([]envrepo.EnvironmentSpec, error) {
	var specs []envrepo.EnvironmentSpec
	for _, arg := range environments {
		name, namespace, _ := strings.Cut(arg, "=")
		if namespace == "" {
			namespace = project + "-" + name
		}
		specs = append(specs, envrepo.EnvironmentSpec{Name: name, Namespace: namespace})
	}
	for _, arg := range recipients {
		name, recipient, ok := strings.Cut(arg, "=")
		at := slices.IndexFunc(specs, func(s envrepo.EnvironmentSpec) bool { return s.Name == name })
		if !ok || at < 0 {
			return nil, withHint(usagef("--age-recipient %q is not ENVIRONMENT=age1…", arg), "the environment is one of those of --environments")
		}
		specs[at].AgeRecipient = recipient
	}
	return specs, nil
}

// gatewayFlag adds --gateway-namespace.
func gatewayFlag(c *cobra.Command, namespace *string) {
	c.Flags().StringVar(namespace, "gateway-namespace", "", "`namespace` whose pods are the gateway (default: those labelled sluice.dev/gateway=true)")
}

func newEnvironmentCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "environment", Aliases: []string{"env"}, Short: "Add environments to the project", RunE: noSubcommand}
	c.AddCommand(newEnvironmentAddCommand(a))
	return c
}

func newEnvironmentAddCommand(a *app) *cobra.Command {
	var spec envrepo.EnvironmentSpec
	var commit bool
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Add an environment after the last one",
		Long: `Writes the environment's folder and its entry in sluice.yaml: the namespace with
Pod Security labels, NetworkPolicies, a quota, and a default ServiceAccount
without a token. The policies let in pods of the same environment and of
gateways, and let out to the same environment, to DNS and to what --egress
names.`,
		Example: `  sluice environment add perf --gateway-namespace istio-ingress --egress 10.20.0.0/24:5432`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			spec.Name = args[0]
			return a.scaffold(c.Context(), commit, func(t *envrepo.Tree) (envrepo.Summary, error) {
				s := spec
				if s.Namespace == "" {
					repo, err := envrepo.Open(t)
					if err != nil {
						return envrepo.Summary{}, err
					}
					s.Namespace = repo.Project().Name + "-" + s.Name
				}
				return envrepo.AddEnvironment(t, s)
			})
		},
	}
	c.Flags().StringVar(&spec.Namespace, "namespace", "", "its namespace (default: PROJECT-NAME)")
	c.Flags().StringVar(&spec.AgeRecipient, "age-recipient", "", "age public `key` that encrypts its secrets")
	gatewayFlag(c, &spec.GatewayNamespace)
	c.Flags().StringArrayVar(&spec.Egress, "egress", nil, "what its pods reach elsewhere, `CIDR|NAMESPACE[:PORT]` (repeatable)")
	commitFlag(c, &commit)
	return c
}

func newComponentCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "component", Short: "Add components, and give them tags", RunE: noSubcommand}
	c.AddCommand(newComponentAddCommand(a), newComponentTagCommand(a))
	return c
}

func newComponentAddCommand(a *app) *cobra.Command {
	var spec envrepo.ComponentSpec
	var manifests []string
	var commit bool
	c := &cobra.Command{
		Use:   "add NAME --image IMAGE [--port PORT | --from FILE]",
		Short: "Add a component from an image, or from existing manifests",
		Long: `Writes components/NAME and an overlay in every environment (or those of
--environments). Without --from it makes a Deployment, a Service and what
belongs to them; with --from it takes your manifests as they are. For a
component that exists, it adds the overlays that are missing.`,
		Example: `  sluice component add web --image registry.example.com/shop/web --port 8080 --host shop.example.com
  sluice component add api --image registry.example.com/shop/api --from deployment.yaml --from service.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			spec.Name = args[0]
			files, err := a.readManifests(manifests)
			if err != nil {
				return err
			}
			spec.Manifests = files
			portGiven, replicasGiven := c.Flags().Changed("port"), c.Flags().Changed("replicas")
			return a.scaffold(c.Context(), commit, func(t *envrepo.Tree) (envrepo.Summary, error) {
				s, err := completeSpec(t, spec, portGiven, replicasGiven)
				if err != nil {
					return envrepo.Summary{}, err
				}
				return envrepo.AddComponent(t, s)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&spec.Image, "image", "", "image name without tag or digest")
	f.IntVar(&spec.Port, "port", 8080, "port the container listens on")
	f.IntVar(&spec.Replicas, "replicas", 2, "pods to run")
	f.IntVar(&spec.MaxReplicas, "max-replicas", 0, "let an autoscaler run up to this many pods")
	f.StringVar(&spec.Host, "host", "", "host name of its route")
	f.StringVar(&spec.Gateway, "gateway", "", "`name` of the Gateway its route attaches to (default: the project's name)")
	f.StringSliceVar(&spec.Environments, "environments", nil, "environments to add it to (default: all)")
	f.StringSliceVar(&spec.Required, "required", nil, "configuration `keys` it cannot run without")
	f.StringSliceVar(&spec.Optional, "optional", nil, "configuration `keys` it may use")
	f.StringArrayVar(&manifests, "from", nil, "existing manifest `file or folder` to take over (repeatable)")
	c.MarkFlagsMutuallyExclusive("port", "from")
	commitFlag(c, &commit)
	return c
}

// completeSpec fills in what a new component needs and was not given. One that
// exists gets overlays in more environments, for which only its name counts.
func completeSpec(t *envrepo.Tree, spec envrepo.ComponentSpec, portGiven, replicasGiven bool) (envrepo.ComponentSpec, error) {
	repo, err := envrepo.Open(t)
	if err != nil {
		return spec, err
	}
	known, err := repo.Components()
	if err != nil {
		return spec, err
	}
	exists := slices.Contains(known, spec.Name)
	if !portGiven && (exists || len(spec.Manifests) > 0) {
		spec.Port = 0
	}
	if !replicasGiven && exists {
		spec.Replicas = 0
	}
	if !exists && spec.Image == "" && len(spec.Manifests) == 0 {
		return spec, withHint(usagef("component %s is new: it needs an image", spec.Name), "--image registry.example.com/shop/%s, or --from with its manifests", spec.Name)
	}
	return spec, nil
}

// readManifests reads the YAML files of --from; of a folder those directly in it.
func (a *app) readManifests(args []string) (map[string][]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	files := map[string][]byte{}
	for _, arg := range args {
		found := []string{a.abs(arg)}
		if info, err := os.Stat(a.abs(arg)); err == nil && info.IsDir() {
			found = nil
			for _, pattern := range []string{"*.yaml", "*.yml"} {
				m, err := filepath.Glob(filepath.Join(a.abs(arg), pattern))
				if err != nil {
					return nil, fmt.Errorf("--from %s: %w", arg, err)
				}
				found = append(found, m...)
			}
			if len(found) == 0 {
				return nil, usagef("--from %s: the folder has no YAML files", arg)
			}
		}
		for _, file := range found {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--from: %w", err)
			}
			files[filepath.Base(file)] = data
		}
	}
	return files, nil
}

func newComponentTagCommand(a *app) *cobra.Command {
	var environment string
	var tags []string
	var commit bool
	c := &cobra.Command{
		Use:   "tag NAME --environment ENVIRONMENT",
		Short: "Turn an untagged overlay into several deployments side by side",
		Long: `Moves the overlay's configuration into base/, writes a folder for each tag and
traffic.yaml, which gives the first tag all traffic. The first tag runs what
runs now; the others are not listed, so they have no pods yet.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.scaffold(c.Context(), commit, func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.TagComponent(t, environment, args[0], tags)
			})
		},
	}
	environmentFlag(c, &environment)
	c.Flags().StringSliceVar(&tags, "tags", []string{"blue", "green"}, "the tags; the first gets all traffic")
	commitFlag(c, &commit)
	return c
}

// environmentFlag adds the required --environment.
func environmentFlag(c *cobra.Command, environment *string) {
	c.Flags().StringVar(environment, "environment", "", "environment of the project")
	_ = c.MarkFlagRequired("environment")
}
