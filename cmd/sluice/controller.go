package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/heap"
)

type controllerOptions struct {
	engineOptions
	poll           time.Duration
	notifyAddress  string
	healthAddress  string
	metricsAddress string
	pprofAddress   string
	otlpEndpoint   string
	webhook        webhookOptions
	election       electionOptions
	duties         dutyOptions

	local, localAsked bool // a repository on this machine's disk may be read
}

// electionOptions say how controllers of the same environments find out which of
// them works.
type electionOptions struct {
	elect     bool
	asked     bool // elect was given
	namespace string
	name      string // "": leaseName
	duration  time.Duration
	timed     bool // duration was given
}

const controllerHelp = `Looks at the branch every --poll-interval, and at once after a POST to
--notify-address, and applies what changed. It watches what it has applied, and
corrects it.

With --webhook-address it takes the webhooks of GitHub, Gitea and Forgejo as
well, from anywhere, and believes those that are signed with a secret of
--webhook-secret-file. The file has one a line and is read again while the
controller runs: to replace a secret, add the new one, give it to the forge,
remove the old one. A push makes the controller look at the branch; what is said
of a pull request or of a check makes it judge that pull request, with
--promote. Nothing else comes of a webhook. A controller that stands by tells
the one that leads, by the Lease.

What the environment gives it to read the repository with is read again while it
runs, where it is a file: tokens, SSH keys, known hosts, a GitHub App's key,
certificate authorities, --signing-key. In a pod, --repo must be a URL.

An environment is served in the namespace that is given with it,
NAME=NAMESPACE. With the name alone, the namespace is taken from the first
commit and pinned: a later commit that names another one is refused.

Several controllers of the same environments elect a leader by a Lease; the
others stand by and take over within a second or two when it ends, and after
--lease-duration when it dies. A controller that loses its lease ends with an
error before another one begins. Election is on in a pod, where the Lease is in
the pod's own namespace, and wherever --leader-election-namespace names one;
with a kubeconfig (--kubeconfig, KUBECONFIG) a pod counts as none, as it may be
about another cluster. The Lease's name follows from the repository and the
environments: controllers that share only some environments must be given one
name by --leader-election-id.

With --health-address, GET /healthz fails when only a restart can help, and
GET /readyz until the environments have been taken in and the watches stand; a
controller that stands by is ready when it could take over. ?verbose lists what
was checked.

With --otlp-endpoint it sends traces: a commit's way through a release is one,
with a span for each look, pass, stage and wait. --pprof-address serves Go's
profiles, to this machine only.

Flags that would have nothing to do, such as --lease-duration without leader
election, are errors. A key that is bound to an environment which is not served
is left unread, with a note: the environment may have left the project.

With --service-account it reads and writes an environment's objects as that
service account, so that the repository can do in an environment what the
account may do, and nothing else. It needs the right to impersonate the account;
Releases, namespaces and gateways it looks at by its own rights.

With --verify-key it applies a commit only that one of the keys signed and that
builds on the last one applied. Another commit is refused, is told of, and what
was applied before it is kept. --verify-commits every asks for a signature of
each commit in between, those of merged branches too. The files hold OpenPGP
keys (gpg --armor --export), SSH keys, or lines of an allowed signers file, and
are read again for each new commit.

With --promote it looks after the pull requests into its environments: gates are
judged and published, what was overtaken is closed, and where sluice.yaml says
auto, what has proved itself is proposed and merged. With --announce it tells
the forge what becomes of revisions. With --report-sign-key it writes signed
reports of health, for controllers of other clusters, which verify them by
--report-key. Each of the three needs the right to write to the repository.

SIGTERM and Ctrl-C end it in good order, with exit code 0: nothing new is begun,
what is being written is written and reported, for up to 20 seconds, and the
lease is given up. A second signal ends it at once.`

func newControllerCommand(a *app) *cobra.Command {
	var o controllerOptions
	c := &cobra.Command{
		Use:   "controller --environment ENVIRONMENT",
		Short: "Follow the branch and keep the cluster equal to it",
		Long:  controllerHelp,
		Example: `  sluice controller --environment production=shop-production --age-key-file production.agekey
  sluice controller --environment all --poll-interval 1s --notify-address 127.0.0.1:9292`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.verify.asked = c.Flags().Changed("verify-commits") || c.Flags().Changed("verified-from")
			o.localAsked = c.Flags().Changed("allow-local-repository")
			o.election.asked, o.election.timed = c.Flags().Changed("leader-elect"), c.Flags().Changed("lease-duration")
			if c.Flags().Changed("output") {
				return withHint(usagef("a controller prints no result that -o could format"), "its log goes to standard error; `sluice status -o json` tells how releases are")
			}
			if c.Flags().Changed("concurrency") && o.concurrency < 1 {
				return usagef("--concurrency %d: at least 1", o.concurrency)
			}
			return a.runController(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.environments, "environment", nil, "environment to serve, `NAME[=NAMESPACE]` (repeatable), or all")
	_ = c.MarkFlagRequired("environment")
	f.BoolVar(&o.local, "allow-local-repository", false, "take a path or a file URL for --repo (default: not in a pod)")
	f.DurationVar(&o.poll, "poll-interval", 30*time.Second, "how often to look at the branch")
	f.StringVar(&o.notifyAddress, "notify-address", "", "loopback `address` where a POST makes it look at once")
	f.StringVar(&o.webhook.address, "webhook-address", "", "`address` that takes signed webhooks of a forge, such as :9393 (default: none)")
	f.StringVar(&o.webhook.secretFile, "webhook-secret-file", "", "`file` with the secrets of webhooks, one a line")
	f.StringVar(&o.healthAddress, "health-address", "", "`address` of /healthz and /readyz, such as :8081 (default: none)")
	f.StringVar(&o.metricsAddress, "metrics-address", "", "`address` of /metrics for Prometheus, such as :8080 (default: none)")
	f.StringVar(&o.pprofAddress, "pprof-address", "", "loopback `address` of Go's profiles, /debug/pprof (default: none)")
	f.StringVar(&o.otlpEndpoint, "otlp-endpoint", a.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "`URL` that traces are sent to by OTLP over HTTP, such as http://collector:4318 (OTEL_EXPORTER_OTLP_ENDPOINT)")
	f.IntVar(&o.concurrency, "concurrency", 0, "releases worked on at the same time (default: four times the cores, at least eight)")
	f.BoolVar(&o.election.elect, "leader-elect", false, "work only while holding a Lease (default: in a pod)")
	f.StringVar(&o.election.namespace, "leader-election-namespace", "", "`namespace` of the Lease (default: the pod's)")
	f.StringVar(&o.election.name, "leader-election-id", "", "`name` of the Lease (default: from repository and environments)")
	f.DurationVar(&o.election.duration, "lease-duration", 15*time.Second, "how long the Lease of a leader that died stands")
	f.StringArrayVar(&o.accounts, "service-account", nil, "act as a service account in an environment, `ENVIRONMENT=NAME` (repeatable); NAMESPACE/NAME for one of another namespace")
	o.verify.addFlags(c)
	o.duties.addFlags(c)
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

// check judges the options that do not depend on where the controller runs.
func (o controllerOptions) check() error {
	for _, e := range o.environments {
		if name, namespace, _ := strings.Cut(e, "="); name == "all" && (namespace != "" || len(o.environments) > 1) {
			return withHint(usagef("--environment %s: all stands alone", e), "name the environments instead: --environment NAME=NAMESPACE, once for each")
		}
	}
	if o.poll < 100*time.Millisecond {
		return usagef("--poll-interval %s is too short: at least 100ms", o.poll)
	}
	if err := checkLogLevel(o.logLevel); err != nil {
		return err
	}
	for _, address := range []struct{ flag, value string }{{"--health-address", o.healthAddress}, {"--metrics-address", o.metricsAddress}} {
		if _, _, err := net.SplitHostPort(address.value); err != nil && address.value != "" {
			return withHint(usagef("%s %q is not HOST:PORT", address.flag, address.value), "for example %s :8081", address.flag)
		}
	}
	if o.pprofAddress != "" {
		if err := loopback("--pprof-address", o.pprofAddress); err != nil {
			return err
		}
	}
	if err := o.verify.check(o.environments); err != nil {
		return err
	}
	if err := o.webhook.check(); err != nil {
		return err
	}
	return o.election.check()
}

func (o electionOptions) check() error {
	if o.asked && !o.elect && (o.namespace != "" || o.name != "" || o.timed) {
		return withHint(usagef("--leader-elect=false leaves nothing for --leader-election-namespace, --leader-election-id and --lease-duration to do"), "leave them out, or elect a leader")
	}
	if o.duration < 2*time.Second || o.duration > time.Hour {
		return usagef("--lease-duration %s: between 2s and 1h", o.duration)
	}
	if problems := validation.IsDNS1123Label(o.namespace); o.namespace != "" && len(problems) > 0 {
		return usagef("--leader-election-namespace %q: %s", o.namespace, problems[0])
	}
	if problems := validation.IsDNS1123Subdomain(o.name); o.name != "" && len(problems) > 0 {
		return usagef("--leader-election-id %q: %s", o.name, problems[0])
	}
	return nil
}

// resolve settles whether and where there is an election; pod is the namespace
// of the pod that this process runs in, "" outside of one.
func (o electionOptions) resolve(pod string) (electionOptions, error) {
	if o.namespace == "" {
		o.namespace = pod
	}
	if !o.asked {
		o.elect = o.namespace != "" || o.name != ""
	}
	if o.elect && o.namespace == "" {
		return o, withHint(usagef("leader election needs a namespace for its Lease"), "outside a pod name one: --leader-election-namespace NAMESPACE")
	}
	if !o.elect && o.timed {
		return o, withHint(usagef("--lease-duration is for leader election, which is off outside a pod"),
			"leave it out, or name the namespace of the Lease: --leader-election-namespace NAMESPACE")
	}
	return o, nil
}

// podNamespaceFile is where Kubernetes tells a pod its namespace.
const podNamespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// podNamespace is the namespace of the pod whose service account is used; "" with
// a kubeconfig, which may be for another cluster.
func (a *app) podNamespace() string {
	if a.kubeconfig != "" || a.Getenv("KUBECONFIG") != "" {
		return ""
	}
	namespace, err := os.ReadFile(podNamespaceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(namespace))
}

func (a *app) runController(ctx context.Context, o controllerOptions) error {
	err := o.check()
	if err == nil {
		o.election, err = o.election.resolve(a.podNamespace())
	}
	if err != nil {
		return err
	}
	if a.Getenv("GOGC") == "" && a.Getenv("GOMEMLIMIT") == "" { // whoever sets them knows better
		heap.Relax()
	}
	a.remoteOnly = !localRepositories(o.local, o.localAsked, a.podNamespace())
	w := &work{log: a.logger(o.logLevel), options: reconciler.RunOptions{PollInterval: o.poll}, metricsAddress: "0", pprofAddress: o.pprofAddress}
	if err := w.listen(o); err != nil {
		return err
	}
	defer w.close()
	d, err := a.newDuties(o.duties, w.log)
	if err != nil {
		return err
	}
	m := newMetrics()
	recorder, err := a.newRecorder(m, w.log)
	if err != nil {
		return err
	}
	o.stays, o.reporter, o.looked, o.engineOptions.election = true, reporters{d, m, recorder}, d.wasLooked, &o.election
	o.observer, o.requests, d.gates = m, m.count, m.advanced
	if t, err := newTracing(ctx, o.otlpEndpoint, w.log); err != nil {
		return err
	} else if t != nil {
		defer t.close()
		o.observer = observers{m, t}
	}
	e, err := a.openEngine(ctx, o.engineOptions)
	if err != nil {
		return err
	}
	defer e.repo.Close()
	if err := e.Ping(ctx); err != nil {
		return err // a standby, too, finds out now whether it could work
	}
	d.served = e.names
	if o.verify.on() {
		d.verified = func(repo *remoteRepository) verifiedSource {
			return verifiedSource{branchSource{repo, nil}, a.clusterVerifier(e.config, repo, o.engineOptions)}
		}
	}
	if w.webhook != nil && o.duties.promote {
		w.webhook.asked = d.asked
	}
	m.vitals = e.Vitals
	if err := ctrlmetrics.Registry.Register(m); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	defer ctrlmetrics.Registry.Unregister(m)
	w.config, w.run, w.vitals = e.config, besides(recorder.Run, d.beside(e.Run)), e.Vitals
	if w.lease, err = o.election.lease(e, w); err != nil {
		return err
	}
	w.log.Info("following the branch", "repository", e.repo.Name(), "branch", a.branch, "environments", e.names, "pollInterval", o.poll.String())
	err = w.manage(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil // asked to end
	}
	w.log.Info("ended")
	return err
}

// leaseOf is the name of the Lease of a controller of some environments.
func (o electionOptions) leaseOf(identity, project string, environments []string) string {
	return cmp.Or(o.name, leaseName(identity, project, environments))
}

// lease is the lock of the election; nil without one.
func (o electionOptions) lease(e *engine, w *work) (*lease, error) {
	if !o.elect {
		return nil, nil
	}
	t := termOf(o.duration)
	name := o.leaseOf(repositoryIdentity(e.repo.Name()), e.repo.project, e.names)
	lock, err := newLeaseLock(rest.AddUserAgent(e.config, "leader-election"), o.namespace, name, t)
	if err != nil {
		return nil, err
	}
	l := newLease(lock, t, clock.RealClock{}, w.log)
	if w.webhook != nil {
		lock.leases.take = w.webhook.take
		w.webhook.standby = &standby{tell: lock.tell, pause: t.retry, leads: func() bool { _, leads := l.check(); return leads }}
	}
	return l, nil
}

// listen opens the addresses, so that one which is taken is found out at once.
func (w *work) listen(o controllerOptions) (err error) {
	if o.metricsAddress != "" {
		w.metricsAddress = o.metricsAddress // the manager listens itself, before anything else
	}
	if o.notifyAddress != "" {
		if w.notify, err = newNotifyServer(o.notifyAddress); err != nil {
			return err
		}
		w.options.Notify = w.notify.posted
	}
	if o.webhook.address != "" {
		posted := make(chan struct{}, 1)
		if w.notify != nil {
			posted = w.notify.posted
		}
		if w.webhook, err = newWebhookServer(o.webhook, posted, w.log); err != nil {
			return errors.Join(err, w.close())
		}
		w.options.Notify = posted
	}
	if o.healthAddress != "" {
		if w.probes, err = net.Listen("tcp", o.healthAddress); err != nil {
			return errors.Join(fmt.Errorf("listening on the health address: %w", err), w.close())
		}
	}
	return nil
}

// close closes what no server has taken over.
func (w *work) close() error {
	var errs []error
	if w.notify != nil {
		errs = append(errs, w.notify.listener.Close())
	}
	if w.webhook != nil {
		errs = append(errs, w.webhook.listener.Close())
	}
	if w.probes != nil {
		errs = append(errs, w.probes.Close())
	}
	return errors.Join(errs...)
}
