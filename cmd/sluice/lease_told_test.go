package main

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/webhook"
)

// What reaches a controller that stands by reaches the leader, once, and costs the
// leader nothing but a renewal that is tried again.
func TestAStandbyTellsTheLeader(t *testing.T) {
	namespace, name := leaseNames(t)
	first := newActor(t, namespace, name)
	receive(t, "the first leads", first.begun)
	second := newActor(t, namespace, name)
	client, err := coordinationv1.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	annotation := func() string {
		l, err := client.Leases(namespace).Get(context.Background(), name, metav1.GetOptions{})
		require.NoError(t, err)
		return l.Annotations[toldAnnotation]
	}
	number := func(n int) []webhook.Event { return []webhook.Event{{Kind: webhook.PullRequest, Number: n}} }

	require.NoError(t, second.lock.tell(t.Context(), number(1)))
	require.Equal(t, number(1), receive(t, "the first is told", first.told))
	require.Empty(t, annotation())
	require.NoError(t, second.lock.tell(t.Context(), nil))
	require.Empty(t, annotation())
	assert.NoError(t, first.work.lease.lost.Err(), "it leads as before")

	// What is told while nobody takes it waits for the next leader.
	first.end()
	receive(t, "the first is asked to stop", first.asked)
	first.lock.leases.take = nil
	close(first.finish)
	require.NoError(t, second.lock.tell(t.Context(), number(2)))
	require.NoError(t, receive(t, "the first ends", first.ended))
	assert.Equal(t, number(2), receive(t, "the second is told", second.told))
	receive(t, "the second leads", second.begun)
	require.Empty(t, annotation())
	assert.Empty(t, first.told)
	second.end()
	close(second.finish)
	require.NoError(t, receive(t, "the second ends", second.ended))
}

func TestAddTold(t *testing.T) {
	push := webhook.Event{Kind: webhook.Push, Ref: "refs/heads/main"}
	one := webhook.Event{Kind: webhook.PullRequest, Number: 1}
	text := addTold("", []webhook.Event{push, one, push})
	assert.Equal(t, "push:refs/heads/main pull_request:1", text)
	assert.Equal(t, text, addTold(text, []webhook.Event{one}))
	assert.Equal(t, text+" pull_request:2", addTold(text, []webhook.Event{{Kind: webhook.PullRequest, Number: 2}}))
	assert.Equal(t, "anything", addTold("nobody understands this", []webhook.Event{one}))
	for n := range 100 {
		text = addTold(text, []webhook.Event{{Kind: webhook.PullRequest, Number: n + 1}})
	}
	assert.Equal(t, "anything", text, "it stays short whatever comes")
}

// A standby keeps what it could not tell, and acts by itself once it leads.
func TestForwardOfAStandby(t *testing.T) {
	leads, tries := false, make(chan []webhook.Event, 1)
	posted, asked := make(chan struct{}, 1), webhook.NewTriggers()
	s := &webhookServer{triggers: webhook.NewTriggers(), log: logr.Discard(), posted: posted, asked: asked}
	s.standby = &standby{leads: func() bool { return leads }, pause: time.Millisecond, tell: func(_ context.Context, events []webhook.Event) error {
		tries <- events
		leads = len(events) == 3
		return context.DeadlineExceeded
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	events := []webhook.Event{{Kind: webhook.Push, Ref: "refs/heads/main"}, {Kind: webhook.PullRequest, Number: 1}, {Kind: webhook.Check, Commit: "9f8e"}}
	for _, e := range events {
		s.triggers.Add(e)
	}
	go func() { ended <- s.forward(ctx) }()
	assert.Equal(t, events, receive(t, "a try", tries))
	receive(t, "a look at the branch", posted)
	receive(t, "pull requests to look after", asked.Ready())
	cancel()
	require.NoError(t, receive(t, "the end", ended))
	assert.Equal(t, events[1:], asked.Take())
	assert.Empty(t, tries)
}

// Without --promote nobody would do anything about a pull request: nobody is told.
func TestForwardWithoutPromotions(t *testing.T) {
	s := &webhookServer{posted: make(chan struct{}, 1)}
	s.take([]webhook.Event{{Kind: webhook.PullRequest, Number: 1}, {Kind: webhook.Check, Commit: "9f8e"}})
	assert.Empty(t, s.posted)
	s.take([]webhook.Event{{Kind: webhook.Anything}})
	assert.NotEmpty(t, s.posted)
	assert.Empty(t, s.wanted([]webhook.Event{{Kind: webhook.PullRequest, Number: 1}}))
}
