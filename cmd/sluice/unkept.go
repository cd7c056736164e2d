package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// A Release says how its release fared when its controller last looked, and an
// unchanged one is never written again: it says the same when that controller has been
// dead for a week. What tells the two apart is the Lease that the controller renews
// anyway, which the Release names. It is read when health is asked for, and not at rest.

const (
	// leaseGrace is how much longer than it stands a Lease counts: a restart, and
	// clocks that differ, are no reason to doubt what was just reported.
	leaseGrace = 2 * time.Minute
	// leaseFresh is for how long one reading of a Lease does: gates ask for many
	// releases at a time.
	leaseFresh = 5 * time.Second
)

// leaseRead is one reading of a Lease.
type leaseRead struct {
	at    time.Time
	lease *coordinationv1.Lease // nil: there is none
}

// unkept says why the Releases that name a Lease are not kept up to date, "" when they
// are. Those that name none are believed: their controller runs without election, and
// leaves no sign of life.
func (r *clusterReleases) unkept(ctx context.Context, name string, now time.Time) (string, error) {
	if name == "" {
		return "", nil
	}
	lease, err := r.lease(ctx, name, now)
	if err != nil {
		return fmt.Sprintf("the lease %s, which tells whether its controller lives, cannot be read", name), err
	}
	return keeps(name, lease, now), nil
}

func (r *clusterReleases) lease(ctx context.Context, name string, now time.Time) (*coordinationv1.Lease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if read, ok := r.leases[name]; ok && now.Sub(read.at) < leaseFresh && !now.Before(read.at) {
		return read.lease, nil
	}
	read := leaseRead{at: now}
	namespace, rest, _ := strings.Cut(name, "/")
	object, err := r.client.Get(ctx, coordinationv1.SchemeGroupVersion.WithKind("Lease"), namespace, rest)
	if err != nil {
		return nil, err
	}
	if object != nil {
		read.lease = &coordinationv1.Lease{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, read.lease); err != nil {
			return nil, fmt.Errorf("reading lease %s: %w", name, err)
		}
	}
	r.leases[name] = read
	return read.lease, nil
}

// keeps says why the holder of a Lease is taken for gone, "" when it is not. The text
// has the time and no age, so that it stays the same.
func keeps(name string, lease *coordinationv1.Lease, now time.Time) string {
	if lease == nil || lease.Spec.RenewTime == nil {
		return fmt.Sprintf("nobody holds the lease %s by which its controller is known to live", name)
	}
	stands := leaseGrace
	if seconds := lease.Spec.LeaseDurationSeconds; seconds != nil {
		stands += min(time.Duration(*seconds)*time.Second, time.Hour)
	}
	renewed := lease.Spec.RenewTime.UTC()
	if now.Before(renewed.Add(stands)) {
		return ""
	}
	return fmt.Sprintf("no controller has kept it up to date since %s, when lease %s was last renewed", renewed.Format(time.RFC3339), name)
}
