package webhook

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTriggers(t *testing.T) {
	triggers := NewTriggers()
	main, other := Event{Kind: Push, Ref: "refs/heads/main"}, Event{Kind: PullRequest, Number: 1}
	for range 100 {
		triggers.Add(main)
		triggers.Add(other)
		triggers.Add(Event{Kind: Ping})
	}
	<-triggers.Ready()
	assert.Empty(t, triggers.Ready())
	assert.Equal(t, []Event{main, other}, triggers.Take())
	assert.Empty(t, triggers.Take())
	triggers.Add(main)
	<-triggers.Ready()
	assert.Equal(t, []Event{main}, triggers.Take(), "what comes later is looked at again")
}

func TestTriggersAreBounded(t *testing.T) {
	triggers := NewTriggers()
	for i := range 3 * MaxSubjects {
		triggers.Add(Event{Kind: PullRequest, Number: i + 1})
	}
	assert.Equal(t, []Event{{Kind: Anything}}, triggers.Take())
}

// Whatever the order of adding and taking: after each Add there is a Take that
// covers it, a subject is taken once for any number of Adds before it, and
// whoever waits for Ready misses nothing.
func TestTriggersLoseNothing(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		triggers := NewTriggers()
		added, covered := map[Event]int{}, map[Event]int{}
		take := func() {
			once := map[Event]bool{}
			for _, e := range triggers.Take() {
				require.False(t, once[e], "seed %d", seed)
				once[e] = true
				if covered[e] = added[e]; e.Kind == Anything {
					covered = map[Event]int{}
					for k, v := range added {
						covered[k] = v
					}
				}
			}
		}
		subjects := []int{5, 2 * MaxSubjects}[random.IntN(2)]
		for range random.IntN(4 * MaxSubjects) {
			if random.IntN(subjects) == 0 {
				take()
				continue
			}
			e := Event{Kind: PullRequest, Number: 1 + random.IntN(subjects)}
			added[e]++
			triggers.Add(e)
			require.NotEmpty(t, triggers.Ready(), "seed %d", seed)
		}
		take()
		require.Equal(t, added, covered, "seed %d", seed)
	}
}

// Ten thousand authentic requests, at once and none the same, cause as many
// looks as their reader finds time for: here two.
func TestFlood(t *testing.T) {
	const requests, senders = 10_000, 8
	triggers := NewTriggers()
	handler, err := New(Options{Secrets: func() Secrets { return secretsOf(t, current) }, Deliver: triggers.Add})
	require.NoError(t, err)
	b := &bench{handler: handler}

	looks, first, flooded, done := 0, make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for range triggers.Ready() {
			for range triggers.Take() {
				if looks++; looks == 1 {
					close(first)
					<-flooded // a look takes its time
				}
			}
			if looks > 1 {
				return
			}
		}
	}()
	id := func(n int) func(*http.Request) { return header("X-GitHub-Delivery", fmt.Sprint(n)) }
	require.Equal(t, http.StatusAccepted, b.send(t, request(push, id(-1))))
	<-first
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			for n := s; n < requests; n += senders {
				assert.Equal(t, http.StatusAccepted, b.send(t, request(push, id(n))))
			}
		})
	}
	group.Wait()
	close(flooded)
	<-done
	assert.Equal(t, 2, looks, "one before the flood and one for all of it")
	assert.Empty(t, triggers.Take())
}
