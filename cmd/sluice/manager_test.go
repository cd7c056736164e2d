package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/utils/clock"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/webhook"
)

// actor is a controller whose engine is the test.
type actor struct {
	work   *work
	lock   *leaseLock
	told   chan []webhook.Event // while it leads
	end    context.CancelFunc
	begun  chan struct{} // it leads
	asked  chan struct{} // it has been asked to stop
	finish chan struct{} // its last write is done
	cutOff chan error    // or it was cut off, for this reason
	ended  chan error

	mu   sync.Mutex
	sent map[string]bool // paths
}

// roundTrip is a way to the cluster.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newActor(t *testing.T, namespace, name string) *actor {
	t.Helper()
	a := &actor{begun: make(chan struct{}), asked: make(chan struct{}), finish: make(chan struct{}), cutOff: make(chan error, 1), ended: make(chan error, 1), told: make(chan []webhook.Event, 10), sent: map[string]bool{}}
	config := testcluster.Start(t)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			a.mu.Lock()
			a.sent[r.URL.Path] = true
			a.mu.Unlock()
			return next.RoundTrip(r)
		})
	})
	// A lease of usual length: a machine under load must not lose it by chance.
	terms, silent := termOf(15*time.Second), logr.FromSlogHandler(slog.DiscardHandler)
	ctrllog.SetLogger(silent)
	lock, err := newLeaseLock(config, namespace, name, terms)
	require.NoError(t, err)
	lock.leases.take = func(events []webhook.Event) { a.told <- events }
	a.lock = lock
	a.work = &work{
		config: config, log: silent, metricsAddress: "0", lease: newLease(lock, terms, clock.RealClock{}, silent),
		vitals: func() reconciler.Vitals { return reconciler.Vitals{} },
		run: func(ctx context.Context, o reconciler.RunOptions) error {
			close(a.begun)
			select {
			case <-o.Stop:
				close(a.asked)
			case <-ctx.Done():
			}
			select { // what is asked to stop may be cut off all the same: who loses the lease is asked as well
			case <-a.finish:
			case <-ctx.Done():
				a.cutOff <- context.Cause(ctx)
			}
			return nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.end = cancel
	go func() { a.ended <- a.work.manage(ctx) }()
	t.Cleanup(cancel)
	return a
}

// receive waits for something, for as long as scripts do.
func receive[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(awaitTimeout):
		require.Fail(t, what)
	}
	return v
}

func leaseNames(t *testing.T) (namespace, name string) {
	return testcluster.Namespace(t), fmt.Sprintf("sluice-%d-%d", os.Getpid(), time.Now().UnixNano())
}

func TestAControllerHandsOverWhenItsLastWriteIsDone(t *testing.T) {
	namespace, name := leaseNames(t)
	first := newActor(t, namespace, name)
	receive(t, "the first leads", first.begun)
	second := newActor(t, namespace, name)
	require.Eventually(t, func() bool {
		c, _ := second.work.lease.check()
		return c.Note == "standing by for "+first.work.lease.Identity()
	}, awaitTimeout, 10*time.Millisecond)

	first.end()
	receive(t, "the first is asked to stop", first.asked)
	client, err := coordinationv1.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	held, err := client.Leases(namespace).Get(context.Background(), name, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, first.work.lease.Identity(), *held.Spec.HolderIdentity, "the lease is kept while something is written")
	assert.Empty(t, first.ended)

	close(first.finish)
	require.NoError(t, receive(t, "the first ends", first.ended))
	receive(t, "the second leads", second.begun)
	second.end()
	close(second.finish)
	require.NoError(t, receive(t, "the second ends", second.ended))
	leases := "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases"
	for _, a := range []*actor{first, second} {
		for path := range a.sent {
			assert.Contains(t, path, leases, "a manager sends nothing but for the lease")
		}
	}
}

func TestAControllerThatLosesItsLeaseEnds(t *testing.T) {
	namespace, name := leaseNames(t)
	a := newActor(t, namespace, name)
	receive(t, "it leads", a.begun)
	client, err := coordinationv1.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	require.Eventually(t, func() bool { // somebody takes the lease by force, between two renewals
		lease, err := client.Leases(namespace).Get(context.Background(), name, metav1.GetOptions{})
		require.NoError(t, err)
		thief := "thief"
		lease.Spec.HolderIdentity = &thief
		lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
		_, err = client.Leases(namespace).Update(context.Background(), lease, metav1.UpdateOptions{})
		return err == nil
	}, awaitTimeout, time.Millisecond)
	var lost *leaseLostError
	require.ErrorAs(t, receive(t, "its work is cut off", a.cutOff), &lost)
	err = receive(t, "it ends", a.ended)
	require.EqualError(t, err, fmt.Sprintf("the lease %s/%s is lost: it is held by thief now", namespace, name))
	require.Equal(t, exitError, exitCode(err))
}

func TestAControllerWithoutANamespaceForItsLeaseEnds(t *testing.T) {
	a := newActor(t, testcluster.Unused(t), "sluice")
	err := receive(t, "it ends", a.ended)
	var refused *leaseRefusedError
	require.ErrorAs(t, err, &refused)
	require.False(t, errors.Is(err, context.Canceled))
}
