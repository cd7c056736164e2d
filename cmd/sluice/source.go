package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/render"
)

// branchSource gives the reconciler the commits of the remote branch: what is
// applied is always a commit of the remote, never a working tree.
type branchSource struct {
	*remoteRepository
	looked func() // is told of every look at the branch; may be nil
}

// Snapshot is the project folder at a commit.
func (s branchSource) Snapshot(rev string) (fs.FS, error) { return s.snapshot(rev) }

// Fetch returns the newest commit of the branch.
func (s branchSource) Fetch(ctx context.Context) (string, error) {
	rev, err := s.remoteRepository.Fetch(ctx)
	if err == nil && s.looked != nil {
		s.looked()
	}
	return rev, err
}

// engineOptions say what an engine is for.
type engineOptions struct {
	environments []string // NAME or NAME=NAMESPACE; or all
	concurrency  int
	logLevel     string
	stays        bool // as a controller does: a repository that cannot be read now will be later
	reporter     reconciler.Reporter
	observer     reconciler.Observer
	requests     func(*rest.Config) // sees the connection to the cluster before it is used; may be nil
	verify       verifyOptions
	accounts     []string         // ENVIRONMENT=[NAMESPACE/]NAME of service accounts to act as
	looked       func()           // see branchSource
	election     *electionOptions // of a controller; nil: whoever applies once
	project      string           // folder in the repository
}

// lease is the Lease that readers of Releases know the controller by; see
// reconciler.Config.
func (o engineOptions) lease(identity string, names []string) *string {
	if o.election == nil {
		return nil
	}
	lease := ""
	if o.election.elect {
		lease = o.election.namespace + "/" + o.election.leaseOf(identity, o.project, names)
	}
	return &lease
}

// engine is the reconciler over the remote branch.
type engine struct {
	*reconciler.Engine
	config *rest.Config
	repo   *remoteRepository
	names  []string
}

// openEngine connects the reconciler with the repository, the cluster and the
// keys of the environments it serves.
func (a *app) openEngine(ctx context.Context, o engineOptions) (*engine, error) {
	config, err := a.restConfig()
	if err != nil {
		return nil, err
	}
	if o.requests != nil {
		o.requests(config)
	}
	repo, err := a.openRemote(ctx, func(git *gitrepo.Options) { git.Late = o.stays && fixedNamespaces(o.environments) })
	if err != nil {
		return nil, err
	}
	e, names, err := a.branchEngine(ctx, config, repo, o)
	if err != nil {
		repo.Close()
		return nil, err
	}
	return &engine{e, config, repo, names}, nil
}

// branchEngine is an engine for the remote branch.
func (a *app) branchEngine(ctx context.Context, config *rest.Config, repo *remoteRepository, o engineOptions) (*reconciler.Engine, []string, error) {
	present := sync.OnceValues(func() ([]v1alpha1.Release, error) { return presentReleases(ctx, config) })
	identity := repositoryIdentity(repo.Name())
	o.project = repo.project
	if o.verify.on() {
		return a.verifiedEngine(config, repo, o)
	}
	files, err := repo.open()
	if err != nil && !fixedNamespaces(o.environments) {
		return nil, nil, err
	}
	if err != nil {
		// A controller that knows its namespaces starts without the repository's
		// help: what runs is kept as it is, and reported, until the next good commit.
		a.note("note: %v; starting all the same", err)
	} else if o.stays {
		if o.environments, err = withRemoved(present, identity, files.Project(), o.environments); err != nil {
			return nil, nil, err
		}
	}
	e, names, err := a.newEngine(config, branchSource{repo, o.looked}, files, o)
	if err != nil || fixedNamespaces(o.environments) {
		return e, names, err
	}
	return e, names, unmoved(present, identity, files.Project(), o.environments)
}

// verifiedEngine is an engine for the signed commits of the remote branch. Nothing
// else of the repository is read before one is verified.
func (a *app) verifiedEngine(config *rest.Config, repo *remoteRepository, o engineOptions) (*reconciler.Engine, []string, error) {
	if _, err := o.verify.keys(a); err != nil {
		return nil, nil, err
	}
	return a.newEngine(config, verifiedSource{branchSource{repo, o.looked}, a.clusterVerifier(config, repo, o)}, nil, o)
}

// presentReleases are all Releases of the cluster.
func presentReleases(ctx context.Context, config *rest.Config) ([]v1alpha1.Release, error) {
	client, err := cluster.New(config)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx); err != nil {
		return nil, err // sooner than the list would
	}
	return client.Releases(ctx, "")
}

// withRemoved adds to the environments that a controller serves those that the
// project has no more and the cluster still has Releases of. Their removal is held
// until it is acknowledged, and may take a while then: a restart in between must
// neither forget them nor fail because of them.
func withRemoved(present func() ([]v1alpha1.Release, error), repository string, project envrepo.Project, args []string) ([]string, error) {
	all := len(args) == 1 && args[0] == "all"
	declared := environmentNames(project)
	if !all && !slices.ContainsFunc(args, func(arg string) bool { return !strings.Contains(arg, "=") && !slices.Contains(declared, arg) }) {
		return args, nil // what is asked for is known, or fixed
	}
	releases, err := present()
	if err != nil {
		return nil, err
	}
	removed := map[string]string{} // namespace by environment
	for _, r := range releases {
		if r.Spec.Repository == repository && r.Spec.Project == project.Name && !slices.Contains(declared, r.Spec.Environment) {
			removed[r.Spec.Environment] = r.Namespace
		}
	}
	out := slices.Clone(args)
	if all {
		out = declared
	}
	for i, arg := range out {
		if namespace, ok := removed[arg]; ok {
			out[i] = arg + "=" + namespace
		}
	}
	if all {
		for _, name := range slices.Sorted(maps.Keys(removed)) {
			out = append(out, name+"="+removed[name])
		}
	}
	return out, nil
}

// fixedNamespaces reports whether every environment is given with its
// namespace, so that nothing about them is taken from the repository.
func fixedNamespaces(args []string) bool {
	return !slices.ContainsFunc(args, func(arg string) bool { return !strings.Contains(arg, "=") })
}

// unmoved refuses an environment whose namespace is taken from the repository
// when its releases are in another one: a commit must not move an environment,
// not even across a restart (docs/adr/0004). Releases of another repository are
// none of its business, though its project may have the same name.
func unmoved(present func() ([]v1alpha1.Release, error), repository string, project envrepo.Project, args []string) error {
	fixed := map[string]bool{}
	for _, arg := range args {
		name, namespace, _ := strings.Cut(arg, "=")
		fixed[name] = namespace != ""
	}
	releases, err := present()
	if err != nil {
		return err
	}
	for _, env := range project.Environments {
		served := slices.Contains(args, env.Name) || slices.Contains(args, "all")
		if fixed[env.Name] || !served {
			continue
		}
		for _, r := range releases {
			if r.Spec.Repository == repository && r.Spec.Project == project.Name && r.Spec.Environment == env.Name && r.Namespace != env.Namespace {
				return withHint(fmt.Errorf("environment %s is in namespace %s, where its release %s is, and sluice.yaml says %s", env.Name, r.Namespace, r.Name, env.Namespace),
					"the repository does not decide where an environment is: correct sluice.yaml; or say that it moves with --environment %s=%s, and delete the old releases", env.Name, env.Namespace)
			}
		}
	}
	return nil
}

// repositoryIdentity is the same for all ways to name one repository, so that who
// applies by ssh and a controller that reads by https work on the same Releases.
// name is a URL without credentials, or an absolute path. The identity is a hash,
// as it stands where others can read it.
func repositoryIdentity(name string) string {
	if scheme, rest, ok := strings.Cut(name, "://"); ok && scheme != "file" {
		host, path, _ := strings.Cut(rest, "/")
		host = strings.ToLower(host[strings.LastIndex(host, "@")+1:])
		if port := map[string]string{"https": ":443", "http": ":80", "ssh": ":22"}[scheme]; port != "" {
			host = strings.TrimSuffix(host, port)
		}
		name = host + "/" + path
	} else if ok {
		name = rest
	} else if host, path, ok := strings.Cut(name, ":"); ok && isRemoteURL(name) { // as scp writes it
		name = strings.ToLower(host[strings.LastIndex(host, "@")+1:]) + "/" + strings.TrimPrefix(path, "/")
	}
	name = strings.TrimSuffix(strings.TrimRight(name, "/"), ".git")
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])[:16]
}

// newEngine is an engine for the environments of o, with their keys. files is
// nil when the repository cannot be read.
func (a *app) newEngine(config *rest.Config, source reconciler.Source, files *envrepo.Repo, o engineOptions) (*reconciler.Engine, []string, error) {
	// The Kubernetes clients log through loggers of the process.
	ctrllog.SetLogger(a.logger(o.logLevel))
	klog.SetLogger(a.logger(o.logLevel))
	environments, err := serve(files, o.environments)
	if err == nil {
		err = actAs(environments, o.accounts)
	}
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, e := range environments {
		names = append(names, e.Name)
	}
	keys, err := a.loadKeys(names, a.keysFor(files, names, o))
	if err != nil {
		return nil, nil, err
	}
	decrypt := map[string]render.Decrypt{}
	for _, name := range names {
		decrypt[name] = keys.decrypt(name)
	}
	identity := "" // a working tree's is not known
	if s, ok := source.(interface{ Name() string }); ok {
		identity = repositoryIdentity(s.Name())
	}
	e, err := reconciler.New(reconciler.Config{
		REST: config, Source: source, Repository: identity, Lease: o.lease(identity, names), Environments: environments, Decrypt: decrypt,
		CreateNamespaces: true, Log: a.logger(o.logLevel), Concurrency: o.concurrency, Reporter: o.reporter, Observer: o.observer,
	})
	return e, names, err
}

// keysFor are the environments that keys may be bound to. A controller takes those
// of environments that are gone too: a commit must not keep it from starting.
func (a *app) keysFor(files *envrepo.Repo, served []string, o engineOptions) []string {
	known := slices.Clone(served)
	if files != nil {
		known = append(known, environmentNames(files.Project())...)
	}
	if !o.stays {
		return known
	}
	for _, arg := range a.keyArguments() {
		if env, _, bound := arg.environment(); bound && !slices.Contains(known, env) {
			a.note("note: %s: environment %s is not served; the key is left unread", arg, env)
			known = append(known, env)
		}
	}
	return known
}

// serve reads the environments that are to be served: NAME takes the namespace
// from the first commit, NAME=NAMESPACE fixes it (docs/adr/0004), and goes for one
// that the project does not have any more.
func serve(repo *envrepo.Repo, args []string) ([]reconciler.EnvironmentConfig, error) {
	if len(args) == 1 && args[0] == "all" {
		args = environmentNames(repo.Project())
	}
	var list []reconciler.EnvironmentConfig
	seen := map[string]bool{}
	for _, arg := range args {
		name, namespace, _ := strings.Cut(arg, "=")
		if seen[name] {
			return nil, usagef("--environment %s is given twice", name)
		}
		seen[name] = true
		if repo == nil {
			list = append(list, reconciler.EnvironmentConfig{Name: name, Namespace: namespace})
			continue
		}
		env, err := repo.Environment(name)
		var unknown *envrepo.UnknownEnvironmentError
		if errors.As(err, &unknown) && namespace != "" {
			list = append(list, reconciler.EnvironmentConfig{Name: name, Namespace: namespace})
			continue
		}
		if err != nil {
			return nil, err
		}
		if namespace != "" && namespace != env.Namespace {
			return nil, withHint(fmt.Errorf("environment %s is to be namespace %s here, and sluice.yaml says %s", name, namespace, env.Namespace),
				"the repository does not decide where an environment is: correct sluice.yaml, or --environment %s=%s", name, env.Namespace)
		}
		list = append(list, reconciler.EnvironmentConfig{Name: name, Namespace: namespace})
	}
	return list, nil
}

// actAs gives environments the service accounts that are impersonated for them. The
// repository has no say in it: an environment that has one is given with its namespace.
func actAs(environments []reconciler.EnvironmentConfig, accounts []string) error {
	for _, arg := range accounts {
		name, account, found := strings.Cut(arg, "=")
		i := slices.IndexFunc(environments, func(e reconciler.EnvironmentConfig) bool { return e.Name == name })
		if !found || account == "" {
			return withHint(usagef("--service-account %s is not ENVIRONMENT=[NAMESPACE/]NAME", arg), "for example --service-account production=applier")
		}
		if i < 0 {
			return usagef("--service-account %s: environment %q is not served", arg, name)
		}
		env := &environments[i]
		if env.Namespace == "" {
			return withHint(usagef("--service-account %s: the repository cannot say in which namespace an environment is that has a service account", arg),
				"name both: --environment %s=NAMESPACE", name)
		}
		if env.User != "" {
			return usagef("--service-account is given twice for environment %s", name)
		}
		namespace, serviceAccount, elsewhere := strings.Cut(account, "/")
		if !elsewhere {
			namespace, serviceAccount = env.Namespace, account
		}
		for _, part := range []string{namespace, serviceAccount} {
			if problems := validation.IsDNS1123Subdomain(part); len(problems) > 0 {
				return usagef("--service-account %s: %q: %s", arg, part, problems[0])
			}
		}
		env.User = "system:serviceaccount:" + namespace + ":" + serviceAccount
	}
	return nil
}

// checkLogLevel judges --log-level.
func checkLogLevel(level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return usagef("--log-level %q: use debug, info, warn or error", level)
	}
	return nil
}

// logger writes structured lines to standard error.
func (a *app) logger(level string) logr.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return logr.FromSlogHandler(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: l}))
}
