package webhook

import (
	"sync"
)

// MaxSubjects is how many things to look at are told apart at the same time.
const MaxSubjects = 1000

// Triggers turns any number of events into at most one pending trigger for each
// subject: a ref, a pull request, a commit. The zero value is not ready; call
// NewTriggers. It is safe for concurrent use.
type Triggers struct {
	ready chan struct{}

	mu      sync.Mutex
	pending map[Event]bool
	order   []Event
}

// NewTriggers returns Triggers without any.
func NewTriggers() *Triggers {
	return &Triggers{ready: make(chan struct{}, 1), pending: map[Event]bool{}}
}

// Add notes that something is to be looked at, and never blocks. A Ping is
// nothing to look at. Beyond MaxSubjects it is Anything.
func (t *Triggers) Add(e Event) {
	if e.Kind == Ping {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.pending[e] || t.pending[Event{Kind: Anything}]:
		return // whoever takes what is pending will look later than now
	case len(t.order) == MaxSubjects:
		e = Event{Kind: Anything}
		clear(t.pending)
		t.order = t.order[:0]
	}
	t.pending[e] = true
	t.order = append(t.order, e)
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

// Ready can be received from once after something became pending. Call Take
// then.
func (t *Triggers) Ready() <-chan struct{} { return t.ready }

// Take returns what is pending, the oldest first, each subject once, and leaves
// nothing. An Add that comes later makes it pending again.
func (t *Triggers) Take() []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.order
	t.order = nil
	clear(t.pending)
	return taken
}
