package forgetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/promotion"
)

// witness is a forge that says what it was asked to announce once that is done.
type witness struct {
	promotion.Forge
	announcer promotion.Announcer
	done      chan string
}

func (w witness) SetStatuses(ctx context.Context, commit string, statuses []promotion.Status) error {
	defer func() { w.done <- "status" }()
	return w.Forge.SetStatuses(ctx, commit, statuses)
}

func (w witness) Comment(ctx context.Context, number int, key, body string) error {
	defer func() { w.done <- "comment" }()
	return w.announcer.Comment(ctx, number, key, body)
}

func (w witness) Deploy(ctx context.Context, d promotion.Deployment) error {
	defer func() { w.done <- "deployment" }()
	return w.announcer.Deploy(ctx, d)
}

func (w witness) Unfinished(ctx context.Context, environments []string) ([]promotion.Deployment, error) {
	defer func() { w.done <- "unfinished" }()
	return w.announcer.Unfinished(ctx, environments)
}

// patience bounds how long something of a forge is waited for.
const patience = time.Minute

// announcing runs a Herald of staging over the forge, as a controller does.
type announcing struct {
	*bench
	herald *promotion.Herald
	done   chan string
	stop   func()

	mu       sync.Mutex
	problems []error
}

// controller starts a Herald and waits until it has looked for what was left.
func (b *bench) controller() *announcing {
	b.Helper()
	a := &announcing{bench: b, done: make(chan string, 100)}
	service := promotion.New(promotion.Options{
		Repository: b.Repository, Forge: witness{b.Forge, b.announcer(), a.done}, Branch: b.remote.Branch,
	})
	a.herald = promotion.NewHerald(promotion.HeraldOptions{Service: service, Environments: []string{"staging"}, Problem: func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.problems = append(a.problems, err)
	}})
	ctx, cancel := context.WithCancel(b.ctx())
	var running sync.WaitGroup
	running.Go(func() { a.herald.Run(ctx) })
	a.stop = func() { cancel(); running.Wait() }
	b.Cleanup(a.stop)
	a.await("unfinished")
	return a
}

// await waits until something was announced, in any order; deployments only where
// the forge has them.
func (a *announcing) await(what ...string) {
	a.Helper()
	missing := map[string]int{}
	n := 0
	for _, w := range what {
		if w != "deployment" || a.remote.Deployments != nil {
			missing[w]++
			n++
		}
	}
	timeout := time.After(patience)
	for ; n > 0; n-- {
		select {
		case w := <-a.done:
			if w == "deployment" && a.remote.Deployments == nil {
				n++ // asked before it had said that it has none
				continue
			}
			missing[w]--
			require.GreaterOrEqual(a, missing[w], 0, "%s is announced once more than was awaited", w)
		case <-timeout:
			require.Fail(a, "not announced", "%v", missing)
		}
	}
}

func (a *announcing) tell(component, revision string, state promotion.DeploymentState, message string) {
	a.herald.Tell(promotion.Outcome{
		Environment: "staging", Component: component, Revision: revision, State: state, Message: message,
		Digests: []string{"sha256:" + strings.Repeat("b", 64)}, Fresh: true,
	})
}

// status is what the forge shows of staging at a revision.
func (a *announcing) status(revision string) string {
	a.Helper()
	for _, s := range a.remote.Statuses(a.T, revision) {
		if s.Context == "sluice/environment/staging" {
			return string(s.State) + ": " + s.Description
		}
	}
	return "none"
}

// deployments are what the forge shows of them, one a line; "" where it has none.
func (a *announcing) deployments(names map[string]string) string {
	a.Helper()
	if a.remote.Deployments == nil {
		return ""
	}
	var lines []string
	for _, d := range a.remote.Deployments(a.T) {
		lines = append(lines, d.Environment+"/"+d.Component+" at "+names[d.Revision]+": "+string(d.State)+": "+d.Description)
	}
	return strings.Join(lines, "\n")
}

// merged merges a pull request that changes a component's overlay in staging.
func (b *bench) merged(component, content string) (number int, revision string) {
	b.Helper()
	head := b.commit(b.T, b.target(), map[string]string{"environments/staging/" + component + "/x": content})
	spec := b.spec(component, head)
	spec.OldHead = b.refs()["refs/heads/"+spec.Branch] // a forge may keep the branch of what was merged
	p, err := b.Forge.Open(b.ctx(), spec)
	require.NoError(b, err)
	revision, err = b.Forge.Merge(b.ctx(), p.Number, promotion.MergeSpec{Head: head})
	require.NoError(b, err)
	b.target() // fetches it
	return p.Number, revision
}

// testAnnounce: what becomes of a merge is said by a status, a deployment and one
// comment, each of which changes with it.
func testAnnounce(t *testing.T, b *bench) {
	number, first := b.merged("api", "1")
	names := map[string]string{first: "the merge"}
	a := b.controller()
	want := func(status, deployments, comment string) {
		t.Helper()
		assert.Equal(t, status, a.status(first))
		if b.remote.Deployments != nil {
			assert.Equal(t, deployments, a.deployments(names))
		}
		comments := b.get(number).Comments
		if comment == "" {
			assert.Empty(t, comments)
		} else if assert.Len(t, comments, 1, "it is updated and not repeated") {
			assert.Equal(t, "sluice/staging", comments[0].Key)
			assert.Contains(t, comments[0].Body, comment)
		}
	}
	a.tell("api", first, promotion.DeploymentInProgress, "0/2 pods")
	a.await("status", "deployment")
	want("pending: is being applied", "staging/api at the merge: in_progress: is being applied", "")

	a.tell("api", first, promotion.DeploymentFailure, "ImagePullBackOff")
	a.await("status", "deployment", "comment")
	want("failure: api: ImagePullBackOff", "staging/api at the merge: failure: ImagePullBackOff", "`api` has **failed**: `ImagePullBackOff`")

	a.tell("api", first, promotion.DeploymentSuccess, "5 objects are as declared")
	a.await("status", "deployment", "comment")
	want("success: live: api", "staging/api at the merge: success: 5 objects are as declared", "`api` is **live**, with `bbbbbbbbbbbb`")

	// What a forge lacks is said once, whatever is announced.
	a.stop()
	if b.remote.Deployments != nil {
		assert.Empty(t, a.done, "nothing else was asked of the forge")
	}
	if b.remote.Deployments != nil {
		assert.Empty(t, a.problems)
		return
	}
	require.Len(t, a.problems, 1)
	require.ErrorIs(t, a.problems[0], promotion.ErrUnsupported)
	assert.ErrorContains(t, a.problems[0], "announcing deployments")
}

// testAnnounceOvertaken: no deployment stays in progress that a newer commit took the
// place of, or that ended while no controller ran.
func testAnnounceOvertaken(t *testing.T, b *bench) {
	_, first := b.merged("api", "1")
	_, second := b.merged("api", "2")
	names := map[string]string{first: "first", second: "second"}
	a := b.controller()
	a.tell("api", first, promotion.DeploymentInProgress, "")
	a.await("status", "deployment")
	a.tell("api", second, promotion.DeploymentInProgress, "")
	a.await("status", "status", "deployment", "deployment")
	assert.Equal(t, "failure: was not live when a newer commit came", a.status(first))
	assert.Equal(t, "pending: is being applied", a.status(second))
	left := "staging/api at first: inactive: was not live when a newer commit came\nstaging/api at second: "
	if b.remote.Deployments == nil {
		return
	}
	assert.Equal(t, left+"in_progress: is being applied", a.deployments(names))
	unfinished, err := b.announcer().Unfinished(t.Context(), []string{"production"})
	require.NoError(t, err)
	assert.Empty(t, unfinished, "of other environments")
	a.stop() // before it knows how the second fares

	next := b.controller()
	next.herald.Tell(promotion.Outcome{Environment: "staging", Component: "api", Revision: second, State: promotion.DeploymentSuccess, Message: "as declared"})
	next.await("status", "deployment", "comment")
	assert.Equal(t, left+"success: as declared", next.deployments(names))
	assert.Equal(t, "success: live: api", next.status(second))
	next.stop()
	require.NoError(t, errors.Join(next.problems...))
}
