package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"

	"github.com/sluice-dev/sluice/reconciler"
)

// term is how long a lease lasts and how it is kept.
type term struct {
	duration time.Duration // after which a leader that was not heard of is taken over from
	renew    time.Duration // after which a leader that could not renew gives up: well before that
	retry    time.Duration // between two tries
}

// termOf divides a lease's duration as Kubernetes' own controllers do, but for
// the tries, which are twice as frequent: a standby takes over by them.
func termOf(duration time.Duration) term {
	return term{duration: duration, renew: duration * 2 / 3, retry: duration / 15}
}

// lease is the lock by which one controller at a time has an environment in its
// hands. It adds to client-go's lock what that leaves to its user:
//
//  1. Work is cut off when the lease has not been renewed for the renewal time,
//     counted from when the last renewal was sent. Others wait for the lease's
//     whole duration, counted from when they saw it, so nobody has begun by then.
//     The elector would notice seconds later, and then first try to give the lease
//     up, which takes as long again when the API server does not answer.
//  2. Work is cut off at once when somebody else is seen to hold the lease.
//  3. The lease is not given up before the work has ended.
type lease struct {
	resourcelock.Interface
	term  term
	clock clock.WithDelayedExecution
	log   logr.Logger

	lost context.Context // ends, with the cause, when the lease is lost
	lose context.CancelCauseFunc

	mu       sync.Mutex
	holder   string    // as last seen
	heard    time.Time // when the API server last answered
	trouble  error     // why it has not since
	expiry   clock.Timer
	renewed  time.Time     // when the last renewal was sent
	released bool          // given up in good order
	working  chan struct{} // closed when the work has ended; nil before it begins
}

// leaseLostError ends a controller that cannot be sure of its lease.
type leaseLostError struct {
	lease string
	why   string
}

func (e *leaseLostError) Error() string {
	return fmt.Sprintf("the lease %s is lost: %s", e.lease, e.why)
}

// Hint tells what to do.
func (e *leaseLostError) Hint() string {
	return "nothing has been written since; start the controller again: it stands by until the lease is free"
}

// leaseRefusedError ends a controller that can never get a lease.
type leaseRefusedError struct {
	lease string
	err   error
}

func (e *leaseRefusedError) Error() string {
	return fmt.Sprintf("leader election with the lease %s: %v", e.lease, e.err)
}
func (e *leaseRefusedError) Unwrap() error { return e.err }

// Hint tells what to do.
func (e *leaseRefusedError) Hint() string {
	return "it needs the namespace of the lease, and the right to get, create and update leases.coordination.k8s.io there; a controller that is the only one can do with --leader-elect=false"
}

func newLease(lock resourcelock.Interface, t term, clock clock.WithDelayedExecution, log logr.Logger) *lease {
	l := &lease{Interface: lock, term: t, clock: clock, log: log, heard: clock.Now()}
	l.lost, l.lose = context.WithCancelCause(context.Background())
	return l
}

// leaseLock is the Lease object in the cluster.
type leaseLock struct {
	*resourcelock.LeaseLock
	leases *toldLeases
}

// newLeaseLock connects to the Lease. Events about it are not recorded: the log says
// the same, and needs no right to write events.
func newLeaseLock(config *rest.Config, namespace, name string, t term) (*leaseLock, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("naming the holder of the lease: %w", err)
	}
	config = rest.CopyConfig(config)
	config.Timeout = max(time.Second, t.renew/2) // one request that hangs must not cost the lease
	client, err := coordinationv1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster for leader election: %w", err)
	}
	leases := &toldLeases{LeasesGetter: client}
	return &leaseLock{&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:     leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}, leases}, nil
}

// leaseName is the same for all controllers of these environments of this
// project, and of no others.
func leaseName(repository, project string, environments []string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{repository, project}, slices.Sorted(slices.Values(environments))...), "\n")))
	return "sluice-" + hex.EncodeToString(sum[:])[:12]
}

// Get reads who holds the lease.
func (l *lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if err := context.Cause(l.lost); err != nil {
		return nil, nil, err
	}
	record, raw, err := l.Interface.Get(ctx)
	l.hear(err, apierrors.IsNotFound)
	if err == nil {
		l.see(record.HolderIdentity)
	}
	return record, raw, err
}

// Create takes a lease that did not exist.
func (l *lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.Interface.Create, apierrors.IsAlreadyExists)
}

// Update takes, renews or gives up the lease.
func (l *lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" {
		return l.release(ctx, record)
	}
	return l.write(ctx, record, l.Interface.Update, apierrors.IsConflict)
}

func (l *lease) write(ctx context.Context, record resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error, late func(error) bool) error {
	if err := context.Cause(l.lost); err != nil {
		return err
	}
	sent := l.clock.Now()
	err := write(ctx, record)
	l.hear(err, late)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expiry == nil {
		l.log.Info("leading", "lease", l.Describe(), "identity", l.Identity())
	} else {
		l.expiry.Stop()
	}
	l.holder, l.renewed = record.HolderIdentity, sent
	l.expiry = l.clock.AfterFunc(sent.Add(l.term.renew).Sub(l.clock.Now()), func() { l.expire(sent) })
	return nil
}

// release gives the lease up, after the work has ended.
func (l *lease) release(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if err := context.Cause(l.lost); err != nil {
		return err
	}
	l.mu.Lock()
	working := l.working
	l.mu.Unlock()
	if working != nil {
		select {
		case <-working:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := l.Interface.Update(ctx, record); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released, l.holder = true, ""
	if l.expiry != nil {
		l.expiry.Stop()
	}
	return nil
}

// hear notes whether the API server has answered as it should; expected are the
// refusals that belong to the election. One that no waiting will change ends a
// controller that does not lead yet; a leader keeps trying for its term.
func (l *lease) hear(err error, expected func(error) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.trouble
	switch {
	case err == nil || expected(err):
		l.heard, l.trouble = l.clock.Now(), nil
		return
	case l.expiry == nil && (apierrors.IsForbidden(err) || apierrors.IsNotFound(err)):
		l.lose(&leaseRefusedError{l.Describe(), err})
	}
	l.trouble = err
	if fresh := before == nil || before.Error() != err.Error(); fresh && l.lost.Err() == nil && !errors.Is(err, context.Canceled) {
		l.log.Error(err, "the lease cannot be read or renewed; trying again", "lease", l.Describe())
	}
}

// see notes who holds the lease.
func (l *lease) see(holder string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.holder
	l.holder = holder
	switch {
	case l.expiry == nil && holder != before && holder != "":
		l.log.Info("standing by: another controller leads", "lease", l.Describe(), "holder", holder)
	case l.expiry != nil && !l.released && holder != l.Identity() && holder != "":
		l.lose(&leaseLostError{l.Describe(), "it is held by " + holder + " now"})
	}
}

func orNobody(holder string) string {
	if holder == "" {
		return "nobody"
	}
	return holder
}

// expire ends the work of a leader that could not renew what it sent then.
func (l *lease) expire(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released || l.renewed != sent {
		return // given up, or renewed just now
	}
	why := fmt.Sprintf("it could not be renewed for %s", l.term.renew)
	if l.trouble != nil {
		why += ": " + l.trouble.Error()
	}
	l.lose(&leaseLostError{l.Describe(), why})
}

// work runs f for as long as the lease is held; its context ends, with the
// cause, when the lease is lost.
func (l *lease) work(ctx context.Context, f func(context.Context) error) error {
	done := make(chan struct{})
	defer close(done)
	l.mu.Lock()
	l.working = done
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.lost, func() { cancel(context.Cause(l.lost)) })()
	err := f(ctx)
	if lost := context.Cause(l.lost); lost != nil {
		return lost // whatever else went wrong, went wrong because of it
	}
	return err
}

// check is how the lease stands, and whether this controller leads.
func (l *lease) check() (c reconciler.Check, leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Name = "lease"
	if err := context.Cause(l.lost); err != nil {
		c.Problem = err.Error()
		return c, false
	}
	leads = l.expiry != nil && !l.released
	switch silent := l.clock.Since(l.heard); {
	case leads:
		c.Note = "held: this controller leads"
	case silent > l.term.duration:
		c.Problem = fmt.Sprintf("the cluster has not answered for %s", silent.Truncate(time.Second))
		if l.trouble != nil {
			c.Problem += ": " + l.trouble.Error()
		}
	case l.trouble != nil:
		c.Note = "standing by; the cluster does not answer just now"
	default:
		c.Note = "standing by for " + orNobody(l.holder)
	}
	return c, leads
}
