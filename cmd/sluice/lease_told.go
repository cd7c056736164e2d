package main

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/sluice-dev/sluice/webhook"
)

// A controller that stands by takes webhooks as well, since a Service sends them to
// any of its pods. It tells the one that leads by the Lease that both look at
// anyway:
//
//  1. who stands by writes the events into an annotation, compare-and-swap, and
//     leaves everything else as it was;
//  2. the leader's next renewal, a retry period away at most, conflicts with that;
//     the elector reads the Lease and renews it again;
//  3. that write takes the annotation away, and has the leader look.
//
// So nothing is asked for at rest, there is no address that controllers would have
// to know or trust of each other, and whoever may write the Lease could lead
// anyway. What nobody has taken yet waits there for the next leader.
const toldAnnotation = "sluice.dev/webhooks"

// toldLeases are Leases of which each renewal takes what stands in the annotation.
type toldLeases struct {
	coordinationclient.LeasesGetter
	take func([]webhook.Event) // nil: it is left there
}

// Leases implements LeasesGetter.
func (t *toldLeases) Leases(namespace string) coordinationclient.LeaseInterface {
	return &toldLease{t.LeasesGetter.Leases(namespace), t}
}

type toldLease struct {
	coordinationclient.LeaseInterface
	*toldLeases
}

// Update writes a Lease. One that is given up is left with its annotation, for whoever
// leads next.
func (t *toldLease) Update(ctx context.Context, l *coordinationv1.Lease, o metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	text, told := l.Annotations[toldAnnotation]
	if !told || t.take == nil || l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
		return t.LeaseInterface.Update(ctx, l, o)
	}
	l = l.DeepCopy()
	delete(l.Annotations, toldAnnotation)
	written, err := t.LeaseInterface.Update(ctx, l, o)
	if err == nil {
		t.take(webhook.Decode(text))
	}
	return written, err
}

// maxTold is how often a write that others were faster than is tried.
const maxTold = 5

// tell lets the controller that leads know of events.
func (l *leaseLock) tell(ctx context.Context, events []webhook.Event) error {
	if len(events) == 0 {
		return nil
	}
	leases := l.leases.LeasesGetter.Leases(l.LeaseMeta.Namespace)
	var err error
	for range maxTold {
		var present *coordinationv1.Lease
		if present, err = leases.Get(ctx, l.LeaseMeta.Name, metav1.GetOptions{}); err != nil {
			break
		}
		text := addTold(present.Annotations[toldAnnotation], events)
		if present.Annotations[toldAnnotation] == text {
			return nil // it stands there already
		}
		if present.Annotations == nil {
			present.Annotations = map[string]string{}
		}
		present.Annotations[toldAnnotation] = text
		if _, err = leases.Update(ctx, present, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("writing to the lease %s: %w", l.Describe(), err)
	}
	return nil
}

// addTold adds events to those that stand in an annotation, each once.
func addTold(text string, events []webhook.Event) string {
	all := webhook.NewTriggers()
	for _, e := range webhook.Decode(text) {
		all.Add(e)
	}
	for _, e := range events {
		all.Add(e)
	}
	return webhook.Encode(all.Take())
}
