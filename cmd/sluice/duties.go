package main

import (
	"context"
	"crypto/ed25519"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/reports"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/webhook"
)

// dutyOptions say what a controller does beside reconciling. Each needs the right to
// write to the repository or its forge, and is off without its flag.
type dutyOptions struct {
	promote     bool
	announce    bool
	signKeyFile string
}

func (o *dutyOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.promote, "promote", false, "look after promotions into the environments served; propose and merge where sluice.yaml says auto")
	f.BoolVar(&o.announce, "announce", false, "tell the forge what becomes of revisions: statuses, deployments, comments")
	f.StringVar(&o.signKeyFile, "report-sign-key", "", "private key `file` to sign health reports with, which are written to the repository (default: none are)")
}

// duties are what a controller does beside reconciling: it looks after promotions,
// tells the forge what becomes of revisions, and reports health to controllers of
// other clusters. It is the Reporter of the engine. All of it has goroutines of its
// own: neither a repository nor a forge that is slow or away delays a pass.
type duties struct {
	app  *app
	o    dutyOptions
	log  logr.Logger
	keys map[string][]ed25519.PublicKey
	sign ed25519.PrivateKey

	served []string // environments
	// verified makes a source of those commits that nothing is promoted on top of
	// others than; nil where commits need no signature.
	verified func(*remoteRepository) verifiedSource
	// gates is told how the gates of promotions stand: of all that are open into the
	// environment, or of those that were looked after.
	gates func(a promotion.Advance, all bool)

	asked   *webhook.Triggers // pull requests to look after
	looked  chan struct{}     // the branch was looked at
	changed chan struct{}     // a release was, for promotions
	stale   chan struct{}     // a release was, for the reports
	nudge   chan struct{}     // look at the branch: something was merged

	mu         sync.Mutex
	herald     *promotion.Herald // nil before the repository is open
	early      map[reconciler.Key]promotion.Outcome
	namespaces map[string]string       // by environment, of those that were reported on
	reported   map[reconciler.Key]bool // that this process has looked at
	unknown    bool                    // health in another's environment was not known at the last turn
	known      []envrepo.Environment
	said       map[string]string // last text that was logged, by subject
}

// newDuties reads the keys; nothing is opened yet.
func (a *app) newDuties(o dutyOptions, log logr.Logger) (*duties, error) {
	d := &duties{
		app: a, o: o, gates: func(promotion.Advance, bool) {}, log: log.WithName("promotions"), asked: webhook.NewTriggers(),
		looked: make(chan struct{}, 1), changed: make(chan struct{}, 1), stale: make(chan struct{}, 1), nudge: make(chan struct{}, 1),
		early: map[reconciler.Key]promotion.Outcome{}, namespaces: map[string]string{}, reported: map[reconciler.Key]bool{}, said: map[string]string{},
	}
	var err error
	if d.keys, err = a.reportKeys(); err != nil {
		return nil, err
	}
	d.sign, err = a.reportSigner(o.signKeyFile)
	return d, err
}

// none reports whether there is nothing to do.
func (d *duties) none() bool { return !d.o.promote && !d.o.announce && d.sign == nil }

// poke puts something into a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wasLooked is told of every look at the branch.
func (d *duties) wasLooked() { poke(d.looked) }

// Report implements reconciler.Reporter.
func (d *duties) Report(_ context.Context, s reconciler.Status) {
	if d.none() {
		return
	}
	outcome, tells := outcomeOf(s)
	tells = tells && d.o.announce
	d.mu.Lock()
	if s.Namespace != "" && s.Release != "" {
		d.namespaces[s.Environment] = s.Namespace
	}
	herald := d.herald
	key := reconciler.Key{Environment: s.Environment, Release: s.Release}
	if d.reported[key] = true; s.State == reconciler.StateRemoved {
		delete(d.reported, key)
	}
	if tells && herald == nil {
		d.early[key] = outcome
	} else {
		delete(d.early, key)
	}
	d.mu.Unlock()
	switch {
	case herald == nil:
	case tells:
		herald.Tell(outcome)
	default:
		herald.Forget(s.Environment, s.Release)
	}
	poke(d.changed)
	poke(d.stale)
}

// outcomeOf is a status as a forge is told of it; false for what is none of its
// business.
func outcomeOf(s reconciler.Status) (promotion.Outcome, bool) {
	o := promotion.Outcome{
		Environment: s.Environment, Component: s.Release, Revision: s.Revision, State: promotion.DeploymentInProgress, Message: s.Message,
		Fresh: s.State != reconciler.StateReady || s.Counts.Created+s.Counts.Configured+s.Counts.Pruned > 0,
	}
	if s.Digest != "" {
		o.Digests = []string{s.Digest}
	}
	for _, t := range s.Tags {
		if (t.Listed || t.Weight > 0) && !slices.Contains(o.Digests, t.Digest) {
			o.Digests = append(o.Digests, t.Digest)
		}
	}
	switch {
	case s.State == reconciler.StatePaused || s.State == reconciler.StateRemoved || s.Environment == "":
		return o, false
	case s.State == reconciler.StateReady:
		o.State = promotion.DeploymentSuccess
	case s.Final && s.Reason != reasonTransient:
		o.State = promotion.DeploymentFailure
	}
	return o, true
}

// beside has the duties be done while the engine runs, which is while this
// controller leads.
func (d *duties) beside(run func(context.Context, reconciler.RunOptions) error) func(context.Context, reconciler.RunOptions) error {
	if d.none() {
		return run
	}
	return func(ctx context.Context, o reconciler.RunOptions) error {
		working, end := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer group.Wait()
		defer end()
		o.Notify = merged(working, &group, o.Notify, d.nudge)
		group.Go(func() { d.work(working, o.Stop) })
		return run(ctx, o)
	}
}

// merged sends on one channel what comes from two, of which the first may be nil.
func merged(ctx context.Context, group *sync.WaitGroup, a, b <-chan struct{}) <-chan struct{} {
	both := make(chan struct{}, 1)
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-a:
			case <-b:
			}
			poke(both)
		}
	})
	return both
}

// work opens the repository and does everything until ctx ends; of promotions
// nothing new is begun once stop is closed.
func (d *duties) work(ctx context.Context, stop <-chan struct{}) {
	var repo *remoteRepository
	var forge promotion.Forge
	var project *envrepo.Repo
	if !d.retried(ctx, "opening the repository", func() (err error) {
		repo, forge, project, err = d.open(ctx)
		return err
	}) {
		return
	}
	defer repo.Close()
	releases, err := d.app.openReleases()
	if err != nil {
		d.log.Error(err, "promotions are not looked after")
		return
	}
	service := d.app.newService(repo, forge, reportedHealth{
		reports.NewReader(repo.Repository, project.Project().Name, d.keys, d.app.Now),
		clusterNow{d, clusterHealth{releases, nil, project.Project(), repositoryIdentity(repo.Name()), d.app.Now}},
	})
	var group sync.WaitGroup
	defer group.Wait()
	if d.o.announce {
		herald := d.startHerald(service)
		group.Go(func() { herald.Run(ctx) })
	}
	if d.sign != nil {
		writer := &reports.Writer{Repository: repo.Repository, Key: d.sign, Project: project.Project().Name, Now: d.app.Now}
		group.Go(func() { d.report(ctx, writer, releases) })
	}
	if d.o.promote {
		attending, end := context.WithCancel(ctx)
		group.Go(func() {
			defer end()
			select {
			case <-stop:
			case <-attending.Done():
			}
		})
		vouched := func(context.Context) error { return nil }
		if d.verified != nil {
			source := d.verified(repo)
			// Asked before anything is believed, and again for what is merged onto:
			// somebody may have pushed meanwhile.
			vouched, service = source.vouch, service.OnlyOnto(source.verifier.accept)
		}
		group.Go(func() {
			defer end()
			d.attend(attending, service, releases, vouched)
		})
	}
}

// open opens the repository a second time: the engine's own must not wait for what
// is done here.
func (d *duties) open(ctx context.Context) (*remoteRepository, promotion.Forge, *envrepo.Repo, error) {
	repo, forge, err := d.app.openForge(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	project, err := repo.open()
	if err != nil {
		repo.Close()
		return nil, nil, nil, err
	}
	return repo, forge, project, nil
}

// startHerald makes the herald and tells it what has been reported until now.
func (d *duties) startHerald(service *promotion.Service) *promotion.Herald {
	herald := promotion.NewHerald(promotion.HeraldOptions{
		Service: service, Environments: d.served, Problem: func(err error) { d.log.Error(err, "the forge was not told") },
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.early {
		herald.Tell(o)
	}
	d.herald, d.early = herald, nil
	return herald
}

// Pauses between tries of what failed.
const (
	dutyRetryMin = time.Second
	dutyRetryMax = 5 * time.Minute
)

// dutyBackoff is how long to wait before a try, counted from 1, with jitter.
func dutyBackoff(try int) time.Duration {
	d := min(dutyRetryMin<<min(try-1, 12), dutyRetryMax)
	return d + rand.N(d/2)
}

// retried does something until it succeeds; false when ctx ends before.
func (d *duties) retried(ctx context.Context, what string, do func() error) bool {
	for try := 1; ; try++ {
		err := do()
		d.problem(what, err)
		if err == nil {
			return true
		}
		if !pause(ctx, dutyBackoff(try)) {
			return false
		}
	}
}

// problem logs what failed, once until it changes.
func (d *duties) problem(what string, err error) {
	text := errorText(err)
	d.mu.Lock()
	same := d.said[what] == text
	d.said[what] = text
	d.mu.Unlock()
	if err != nil && !same {
		d.log.Error(err, what+" failed; it is tried again")
	}
}

// pause waits; false when ctx ends before.
func pause(ctx context.Context, after time.Duration) bool {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
