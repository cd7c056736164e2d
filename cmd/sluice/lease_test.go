package main

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	clocktesting "k8s.io/utils/clock/testing"
)

// paperLock is a Lease in memory.
type paperLock struct {
	mu     sync.Mutex
	record *resourcelock.LeaderElectionRecord
	err    error // of every call
	calls  int
}

func (p *paperLock) call() error {
	p.calls++
	return p.err
}

func (p *paperLock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(); err != nil {
		return nil, nil, err
	}
	if p.record == nil {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, "sluice")
	}
	record := *p.record
	return &record, nil, nil
}

func (p *paperLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return p.Update(ctx, record)
}

func (p *paperLock) Update(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.call(); err != nil {
		return err
	}
	p.record = &record
	return nil
}

func (p *paperLock) RecordEvent(string) {}
func (p *paperLock) Identity() string   { return "me" }
func (p *paperLock) Describe() string   { return "shop/sluice" }

func (p *paperLock) holder() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record.HolderIdentity
}

func (p *paperLock) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// mine is a record of ours.
var mine = resourcelock.LeaderElectionRecord{HolderIdentity: "me"}

func newPaperLease() (*lease, *paperLock, *clocktesting.FakeClock) {
	lock, clock := &paperLock{}, clocktesting.NewFakeClock(fixedNow())
	return newLease(lock, termOf(15*time.Second), clock, logr.Discard()), lock, clock
}

func TestLeaseEndsTheWorkWhenItIsNotRenewed(t *testing.T) {
	l, lock, clock := newPaperLease()
	ctx := context.Background()
	_, _, err := l.Get(ctx)
	require.True(t, apierrors.IsNotFound(err))
	require.NoError(t, l.Create(ctx, mine))
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- l.work(ctx, func(held context.Context) error {
			close(begun)
			<-held.Done()
			return errors.New("a request was cut off")
		})
	}()
	<-begun

	clock.Step(9 * time.Second)
	require.NoError(t, l.Update(ctx, mine))
	clock.Step(9 * time.Second)
	require.NoError(t, l.lost.Err(), "it was renewed nine seconds ago")
	lock.fail(errors.New("no route to host"))
	require.Error(t, l.Update(ctx, mine))
	clock.Step(time.Second)
	err = <-ended
	require.EqualError(t, err, "the lease shop/sluice is lost: it could not be renewed for 10s: no route to host")
	var hinted interface{ Hint() string }
	require.ErrorAs(t, err, &hinted)

	calls := lock.calls
	_, _, getErr := l.Get(ctx)
	for _, later := range []error{getErr, l.Update(ctx, mine), l.Create(ctx, mine), l.Update(ctx, resourcelock.LeaderElectionRecord{})} {
		require.Equal(t, err, later)
	}
	assert.Equal(t, calls, lock.calls, "a lease that is lost is not asked for again, nor given up: it may be another's")
	check, leads := l.check()
	assert.False(t, leads)
	assert.Equal(t, err.Error(), check.Problem)
}

func TestLeaseEndsTheWorkWhenAnotherHoldsIt(t *testing.T) {
	l, lock, _ := newPaperLease()
	require.NoError(t, l.Create(context.Background(), mine))
	lock.record = &resourcelock.LeaderElectionRecord{HolderIdentity: "other"}
	_, _, err := l.Get(context.Background())
	require.NoError(t, err)
	require.EqualError(t, context.Cause(l.lost), "the lease shop/sluice is lost: it is held by other now")
}

func TestLeaseIsGivenUpAfterTheWork(t *testing.T) {
	l, lock, clock := newPaperLease()
	require.NoError(t, l.Create(context.Background(), mine))
	begun, finish, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- l.work(context.Background(), func(context.Context) error {
			close(begun)
			<-finish
			return nil
		})
	}()
	<-begun
	short, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, l.Update(short, resourcelock.LeaderElectionRecord{}), context.Canceled)
	require.Equal(t, "me", lock.holder(), "not while the work goes on")

	close(finish)
	require.NoError(t, <-ended)
	require.NoError(t, l.Update(context.Background(), resourcelock.LeaderElectionRecord{}))
	require.Empty(t, lock.holder())
	clock.Step(time.Hour)
	require.NoError(t, l.lost.Err(), "what was given up cannot be lost")
}

func TestLeaseThatCannotBeHad(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, "sluice", errors.New("no"))
	t.Run("ends a controller that does not lead", func(t *testing.T) {
		l, lock, _ := newPaperLease()
		lock.fail(forbidden)
		_, _, err := l.Get(context.Background())
		require.Error(t, err)
		var refused *leaseRefusedError
		require.ErrorAs(t, context.Cause(l.lost), &refused)
		assert.Contains(t, refused.Hint(), "--leader-elect=false")
	})
	t.Run("gives a leader its term", func(t *testing.T) {
		l, lock, _ := newPaperLease()
		require.NoError(t, l.Create(context.Background(), mine))
		lock.fail(forbidden)
		require.Error(t, l.Update(context.Background(), mine))
		require.NoError(t, l.lost.Err())
	})
}

func TestLeaseCheck(t *testing.T) {
	ctx := context.Background()
	l, lock, clock := newPaperLease()
	see := func() string {
		check, leads := l.check()
		return map[bool]string{true: "leads: ", false: "stands by: "}[leads] + check.Note + check.Problem
	}
	lock.record = &resourcelock.LeaderElectionRecord{HolderIdentity: "other"}
	_, _, err := l.Get(ctx)
	require.NoError(t, err)
	assert.Equal(t, "stands by: standing by for other", see())
	lock.fail(errors.New("no route to host"))
	_, _, err = l.Get(ctx)
	require.Error(t, err)
	assert.Equal(t, "stands by: standing by; the cluster does not answer just now", see())
	clock.Step(16 * time.Second)
	assert.Equal(t, "stands by: the cluster has not answered for 16s: no route to host", see())
	lock.fail(nil)
	require.NoError(t, l.Update(ctx, mine))
	assert.Equal(t, "leads: held: this controller leads", see())
}

func TestLeaseName(t *testing.T) {
	name := leaseName("repo", ".", []string{"staging", "production"})
	assert.Regexp(t, "^sluice-[0-9a-f]{12}$", name)
	assert.Equal(t, name, leaseName("repo", ".", []string{"production", "staging"}), "in any order")
	for _, other := range []string{
		leaseName("other", ".", []string{"production", "staging"}), leaseName("repo", "shop", []string{"production", "staging"}),
		leaseName("repo", ".", []string{"production"}),
	} {
		assert.NotEqual(t, name, other)
	}
}

func TestWhereThereIsAnElection(t *testing.T) {
	for name, c := range map[string]struct {
		o         electionOptions
		pod       string
		elect     bool
		namespace string
		err       string
	}{
		"outside":                 {},
		"outside, in a namespace": {o: electionOptions{namespace: "ops"}, elect: true, namespace: "ops"},
		"outside, asked for":      {o: electionOptions{asked: true, elect: true}, err: "leader election needs a namespace for its Lease"},
		"outside, named":          {o: electionOptions{name: "shop"}, err: "leader election needs a namespace for its Lease"},
		"outside, with a term":    {o: electionOptions{timed: true}, err: "--lease-duration is for leader election, which is off outside a pod"},
		"in a pod, with a term":   {o: electionOptions{timed: true}, pod: "sluice", elect: true, namespace: "sluice"},
		"in a pod":                {pod: "sluice", elect: true, namespace: "sluice"},
		"in a pod, elsewhere":     {o: electionOptions{namespace: "ops"}, pod: "sluice", elect: true, namespace: "ops"},
		"in a pod, not wanted":    {o: electionOptions{asked: true}, pod: "sluice", namespace: "sluice"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := c.o.resolve(c.pod)
			if c.err != "" {
				require.EqualError(t, err, c.err)
				require.Equal(t, exitUsage, exitCode(err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.elect, o.elect)
			assert.Equal(t, c.namespace, o.namespace)
		})
	}
}

func TestControllerOptionsAreChecked(t *testing.T) {
	for name, args := range map[string][]string{
		"poll":        {"--poll-interval", "1ms"},
		"concurrency": {"--concurrency", "0"},
		"negative":    {"--concurrency", "-1"},
		"number":      {"--concurrency", "many"},
		"log level":   {"--log-level", "loud"},
		"health":      {"--health-address", "8081"},
		"metrics":     {"--metrics-address", "8080"},
		"duration":    {"--lease-duration", "1s"},
		"namespace":   {"--leader-election-namespace", "Shop/production"},
		"id":          {"--leader-election-id", "Shop/production"},
		"neither":     {"--leader-elect=false", "--leader-election-namespace", "shop"},
		"no term":     {"--leader-elect=false", "--lease-duration", "20s"},
		"no election": {"--kubeconfig", "none", "--lease-duration", "20s"},
		"no output":   {"-o", "json"},
		"all and one": {"--environment", "production"},
		"all in one":  {"--environment", "all=production"},
		"nowhere":     {"--leader-elect", "--kubeconfig", "none"},
		"notify":      {"--notify-address", "0.0.0.0:9292"},
		"webhook":     {"--webhook-address", ":9393"},
		"no webhook":  {"--webhook-secret-file", "secrets"},
		"no port":     {"--webhook-address", "example.com", "--webhook-secret-file", "secrets"},
	} {
		var stderr bytes.Buffer
		p := process{Stdin: &bytes.Buffer{}, Stdout: &stderr, Stderr: &stderr, Getenv: func(string) string { return "" }, Dir: t.TempDir(), Now: fixedNow}
		code := run(context.Background(), append([]string{"controller", "--environment", "all"}, args...), p)
		assert.Equal(t, exitUsage, code, "%s: %s", name, stderr.String())
	}
}

func TestGraceBeginsWithTheEnd(t *testing.T) {
	clock := clocktesting.NewFakeClock(fixedNow())
	ctx, cancel := context.WithCancel(context.Background())
	patient, end := afterGrace(ctx, 20*time.Second, clock)
	defer end()
	clock.Step(time.Hour)
	require.NoError(t, patient.Err())
	cancel()
	require.Eventually(t, clock.HasWaiters, awaitTimeout, time.Millisecond)
	clock.Step(19 * time.Second)
	require.NoError(t, patient.Err())
	clock.Step(time.Second)
	require.Error(t, patient.Err())
}
