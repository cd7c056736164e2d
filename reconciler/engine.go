package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/render"
)

// Source gives the engine commits of the remote repository.
type Source interface {
	// Fetch returns the full hash of the branch's newest commit. An error means
	// that it is not known; it is asked again. A *CommitRefusedError says that it
	// is known and must not be applied.
	Fetch(ctx context.Context) (rev string, err error)
	// Snapshot returns the files of a commit, rooted at the project folder. They
	// never change. Two methods are used where there are any, as gitrepo.Snapshot
	// has them: Hash(path) (string, bool) gives the content hash of a file or folder
	// without reading it, Diff(before, visit) what differs from another commit.
	// Without them every commit costs a look at every release.
	Snapshot(rev string) (fs.FS, error)
}

// EnvironmentConfig is an environment that the engine serves. The repository
// grants no authority: which namespace it is, is said here.
type EnvironmentConfig struct {
	Name      string
	Namespace string // "": pinned to what the first commit read says
	// User is impersonated for everything that is read and written of the
	// environment's objects ("system:serviceaccount:NAMESPACE:NAME"); "": nobody is.
	User string
}

// Config is what an Engine needs. REST and Environments are required, Source too
// for Converge and Run.
type Config struct {
	REST         *rest.Config
	Source       Source
	Environments []EnvironmentConfig
	// Repository identifies the repository behind Source: an opaque text, kept in
	// every Release, by which projects of one name are told apart. "": they are
	// told apart by project and environment only.
	Repository string
	// Lease names the Lease, NAMESPACE/NAME, by which readers of a Release can tell
	// whether it is kept up to date; "" when there is none. nil: this engine does not
	// stay, and leaves what is there.
	Lease *string
	// Decrypt opens encrypted files, by environment.
	Decrypt map[string]render.Decrypt
	// CreateNamespaces lets the engine create an environment's namespace.
	CreateNamespaces bool
	Reporter         Reporter         // nil: nobody is told
	Observer         Observer         // nil: nothing is counted
	Clock            clock.WithTicker // nil: the real one
	Log              logr.Logger      // the zero one is silent
	Concurrency      int              // releases at the same time; 0: four times the cores, at least eight
}

// Engine applies releases. Make one with New. It is safe for concurrent use,
// but an environment should be in the hands of one engine at a time.
type Engine struct {
	cfg      Config
	cluster  *cluster.Client
	renders  atomic.Int64 // how many releases have been rendered
	rendered renderedLately
	ahead    ahead

	mu           sync.Mutex
	environments map[string]*environment
	watches      *watches      // nil while nothing runs
	trusts       time.Duration // see trustsFor

	noLease atomic.Bool // the cluster's definition of Release has no place for it

	pulse pulse
}

// New makes an engine. Nothing is sent to the cluster yet.
func New(cfg Config) (*Engine, error) {
	switch {
	case cfg.REST == nil:
		return nil, fmt.Errorf("making the engine: no cluster is configured")
	case len(cfg.Environments) == 0:
		return nil, fmt.Errorf("making the engine: no environment is configured")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	client, err := cluster.New(beating(cfg.REST, cfg.Clock))
	if err != nil {
		return nil, err
	}
	if cfg.Observer == nil {
		cfg.Observer = unobserved{}
	}
	if cfg.Log.GetSink() == nil {
		cfg.Log = logr.Discard()
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, max(8, 4*runtime.GOMAXPROCS(0)))
	e := &Engine{cfg: cfg, cluster: client, environments: map[string]*environment{}}
	namespaces := map[string]string{}
	for _, c := range cfg.Environments {
		if other, taken := namespaces[c.Namespace]; taken && c.Namespace != "" {
			return nil, fmt.Errorf("making the engine: environments %s and %s share namespace %s", other, c.Name, c.Namespace)
		}
		namespaces[c.Namespace] = c.Name
		env := newEnvironment(c.Name, c.Namespace)
		if env.hands, err = client.As(c.User); err != nil {
			return nil, err
		}
		e.environments[c.Name] = env
	}
	return e, nil
}

// Releases lists the Releases of a namespace as the cluster has them: what
// `sluice status` prints and what tells promotion how a release is doing.
func (e *Engine) Releases(ctx context.Context, namespace string) ([]v1alpha1.Release, error) {
	return e.cluster.Releases(ctx, namespace)
}

// Ping finds out within seconds whether the cluster answers and knows Releases.
func (e *Engine) Ping(ctx context.Context) error {
	if err := e.cluster.Ping(ctx); err != nil {
		return err
	}
	for _, env := range e.environments {
		if _, _, namespace, _ := env.view(); namespace != "" {
			_, err := e.cluster.Release(ctx, namespace, envrepo.EnvironmentRelease)
			return err
		}
	}
	return nil
}

// find looks a release up; nil when the engine does not have it.
func (e *Engine) find(key Key) (*environment, *release) {
	e.mu.Lock()
	env := e.environments[key.Environment]
	e.mu.Unlock()
	if env == nil {
		return nil, nil
	}
	env.mu.Lock()
	defer env.mu.Unlock()
	return env, env.releases[key.Release]
}

// follow starts to watch a kind in an environment's namespace, if it is not
// watched yet; nil while nothing runs, and for what cannot be watched.
func (e *Engine) follow(env *environment, gvk schema.GroupVersionKind) *cluster.View {
	e.mu.Lock()
	w := e.watches
	e.mu.Unlock()
	return w.follow(env, gvk)
}
