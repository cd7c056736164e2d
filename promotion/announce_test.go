package promotion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// board is a forge that only takes announcements.
type board struct {
	Forge // not used
	mu    sync.Mutex
	said  []string
	fail  func(what string) error // nil: never
	stuck chan struct{}           // when set, every call waits for it

	unfinished []Deployment  // that an earlier process left in progress
	asked      chan struct{} // closed when that may be answered
}

func (b *board) take(ctx context.Context, format string, a ...any) error {
	if b.stuck != nil {
		select {
		case <-b.stuck:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	what := fmt.Sprintf(format, a...)
	if b.fail != nil {
		if err := b.fail(what); err != nil {
			b.said = append(b.said, "refused: "+what)
			return err
		}
	}
	b.said = append(b.said, what)
	return nil
}

func (b *board) SetStatuses(ctx context.Context, commit string, statuses []Status) error {
	return b.take(ctx, "status %s of %s: %s: %s", statuses[0].Context, commit, statuses[0].State, statuses[0].Description)
}

func (b *board) Deploy(ctx context.Context, d Deployment) error {
	return b.take(ctx, "deployment %s/%s of %s: %s: %s", d.Environment, d.Component, d.Revision, d.State, d.Description)
}

func (b *board) Unfinished(context.Context, []string) ([]Deployment, error) {
	<-b.asked
	return b.unfinished, nil
}

func (b *board) declaredNow(context.Context) (func(environment, component string) bool, error) {
	return func(_, component string) bool { return component != "gone" }, nil
}

// sameRelease: a revision that ends with "+" has the files of the one without.
func (b *board) sameRelease(_ context.Context, _, _, a, revision string) (bool, error) {
	return strings.TrimRight(a, "+") == strings.TrimRight(revision, "+"), nil
}

func (b *board) Comment(context.Context, int, string, string) error { return nil }

func (b *board) List(context.Context, ListOptions) ([]PullRequest, error) { return nil, nil }

// text is what was said, one a line, and is forgotten.
func (b *board) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := strings.Join(b.said, "\n")
	b.said = nil
	return text
}

// herald runs one over a board in a bubble of time of its own.
func herald(t *testing.T, b *board, do func(tell func(Outcome), h *Herald, problems func() string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var problems []string
		o := HeraldOptions{Service: New(Options{Forge: b}), Problem: func(err error) { problems = append(problems, err.Error()) }}
		if b.unfinished != nil {
			o.Environments, b.asked = []string{"production"}, make(chan struct{})
		}
		h := NewHerald(o)
		h.history = b
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { h.Run(ctx) })
		do(func(o Outcome) { h.Tell(o); synctest.Wait() }, h, func() string {
			synctest.Wait()
			slices.Sort(problems)
			return strings.Join(problems, "\n")
		})
		end()
		running.Wait()
	})
}

func outcome(component, revision string, state DeploymentState, message string) Outcome {
	return Outcome{Environment: "production", Component: component, Revision: revision, State: state, Message: message, Fresh: true}
}

func TestHerald(t *testing.T) {
	b := &board{}
	herald(t, b, func(tell func(Outcome), _ *Herald, problems func() string) {
		tell(outcome("api", "r1", DeploymentInProgress, "0/2 pods"))
		assert.Equal(t, "status sluice/environment/production of r1: pending: is being applied\n"+
			"deployment production/api of r1: in_progress: is being applied", b.text())
		tell(outcome("api", "r1", DeploymentInProgress, "1/2 pods"))
		assert.Empty(t, b.text(), "that changes often")
		tell(outcome("web", "r1", DeploymentFailure, "@everyone\nImagePullBackOff"))
		assert.Equal(t, "status sluice/environment/production of r1: failure: web: @everyone ImagePullBackOff\n"+
			"deployment production/web of r1: failure: @everyone ImagePullBackOff", b.text())
		tell(outcome("web", "r1", DeploymentSuccess, "3 objects are as declared"))
		assert.Equal(t, "status sluice/environment/production of r1: pending: is being applied\n"+
			"deployment production/web of r1: success: 3 objects are as declared", b.text())
		tell(outcome("api", "r1", DeploymentSuccess, "5 objects are as declared"))
		assert.Equal(t, "status sluice/environment/production of r1: success: live: api, web\n"+
			"deployment production/api of r1: success: 5 objects are as declared", b.text())
		tell(outcome("api", "r1", DeploymentSuccess, "5 objects are as declared"))
		assert.Empty(t, b.text())

		// A newer commit that only concerns one of them.
		tell(outcome("api", "r2", DeploymentInProgress, ""))
		assert.Equal(t, "status sluice/environment/production of r2: pending: is being applied\n"+
			"status sluice/environment/production of r1: success: live: web\n"+
			"deployment production/api of r2: in_progress: is being applied", b.text())
		tell(outcome("api", "r3", DeploymentInProgress, ""))
		assert.Equal(t, "status sluice/environment/production of r3: pending: is being applied\n"+
			"status sluice/environment/production of r2: failure: was not live when a newer commit came\n"+
			"deployment production/api of r3: in_progress: is being applied\n"+
			"deployment production/api of r2: inactive: was not live when a newer commit came", b.text(), "it does not stay in progress")
		tell(outcome("web", "r3", DeploymentSuccess, ""))
		assert.Equal(t, "deployment production/web of r3: success: ", b.text(), "r1 was live")
		assert.Empty(t, problems())
	})
}

func TestHeraldOfARestart(t *testing.T) {
	b := &board{}
	herald(t, b, func(tell func(Outcome), _ *Herald, _ func() string) {
		o := outcome("api", "r1", DeploymentSuccess, "")
		o.Fresh = false
		tell(o)
		assert.Equal(t, "status sluice/environment/production of r1: success: live: api", b.text())
		tell(Outcome{Environment: "production", State: DeploymentFailure, Message: "no repository"})
		assert.Empty(t, b.text(), "there is no revision to say it of")
		tell(Outcome{Environment: "production", Revision: "r2", State: DeploymentFailure, Message: "sluice.yaml:3: no"})
		assert.Equal(t, "status sluice/environment/production of r2: failure: production: sluice.yaml:3: no", b.text())
	})
}

// TestHeraldIsNeverWaitedFor: while the forge hangs, everything can be told, and of
// each subject the newest is said afterwards.
func TestHeraldIsNeverWaitedFor(t *testing.T) {
	b := &board{}
	herald(t, b, func(tell func(Outcome), _ *Herald, _ func() string) {
		b.stuck = make(chan struct{}) // of the bubble
		for i := range 100 {
			tell(outcome("api", "r1", DeploymentFailure, fmt.Sprint(i)))
		}
		tell(outcome("api", "r1", DeploymentSuccess, "at last"))
		close(b.stuck)
		synctest.Wait()
		assert.Equal(t, "status sluice/environment/production of r1: failure: api: 0\n"+
			"deployment production/api of r1: success: at last\n"+
			"status sluice/environment/production of r1: success: live: api", b.text())
	})
}

func TestHeraldTriesAgain(t *testing.T) {
	down := errors.New("502")
	b := &board{fail: func(string) error { return down }}
	herald(t, b, func(tell func(Outcome), _ *Herald, problems func() string) {
		tell(outcome("api", "r1", DeploymentInProgress, ""))
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		b.text()
		b.mu.Lock()
		b.fail = nil
		b.mu.Unlock()
		tell(outcome("api", "r1", DeploymentSuccess, ""))
		assert.Equal(t, "status sluice/environment/production of r1: success: live: api\ndeployment production/api of r1: success: ", b.text())
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Empty(t, b.text(), "what is out of date is not tried again")
		assert.Empty(t, problems())
	})
}

func TestHeraldGivesUp(t *testing.T) {
	b := &board{fail: func(string) error { return errors.New("502") }}
	herald(t, b, func(tell func(Outcome), h *Herald, problems func() string) {
		tell(outcome("api", "r1", DeploymentSuccess, ""))
		time.Sleep(time.Hour)
		assert.Equal(t, "announcing deployments: deployment production api: 502\nannouncing statuses: status production r1: 502", problems())
		assert.Len(t, strings.Split(b.text(), "\n"), 2*maxTries)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.Empty(t, b.text())
		assert.Empty(t, h.queue)
	})
}

func TestHeraldOfAForgeThatLacksSomething(t *testing.T) {
	b := &board{fail: func(what string) error {
		switch {
		case strings.HasPrefix(what, "deployment"):
			return fmt.Errorf("deploying: %w", ErrUnsupported)
		case strings.Contains(what, "r9"):
			return ErrNotFound
		}
		return nil
	}}
	herald(t, b, func(tell func(Outcome), _ *Herald, problems func() string) {
		tell(outcome("api", "r1", DeploymentSuccess, ""))
		tell(outcome("web", "r1", DeploymentSuccess, ""))
		assert.Equal(t, "announcing deployments: deploying: the forge has nothing like it; they are left out", problems(), "that is said once")
		b.text()
		tell(outcome("web", "r9", DeploymentSuccess, ""))
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, "refused: status sluice/environment/production of r9: success: live: web\nstatus sluice/environment/production of r1: success: live: api", b.text(), "that does not help")
	})
}

func TestHeraldOfARemovedRelease(t *testing.T) {
	b := &board{}
	herald(t, b, func(tell func(Outcome), h *Herald, _ func() string) {
		tell(outcome("api", "r1", DeploymentSuccess, ""))
		tell(outcome("web", "r1", DeploymentInProgress, ""))
		b.text()
		h.Forget("production", "web")
		h.Forget("production", "nothing")
		h.Forget("nowhere", "api")
		synctest.Wait()
		assert.Equal(t, "deployment production/web of r1: inactive: is not applied any more\n"+
			"status sluice/environment/production of r1: success: live: api", b.text())
	})
}

// TestHeraldTakesUpWhatWasLeft: what was in progress when a controller ended, and has
// ended while none ran, is said to have.
func TestHeraldTakesUpWhatWasLeft(t *testing.T) {
	left := func(component, revision string) Deployment {
		return Deployment{Environment: "production", Component: component, Revision: revision, State: DeploymentInProgress}
	}
	found := func(component, revision string, state DeploymentState, message string) Outcome {
		o := outcome(component, revision, state, message)
		o.Fresh = false // as it was left, for this process
		return o
	}
	tests := []struct {
		name string
		left []Deployment
		told []Outcome
		want string
	}{
		{"it is live", []Deployment{left("api", "r1")}, []Outcome{found("api", "r1", DeploymentSuccess, "as declared")},
			"status sluice/environment/production of r1: success: live: api\ndeployment production/api of r1: success: as declared"},
		{"it has failed", []Deployment{left("api", "r1")}, []Outcome{found("api", "r1", DeploymentFailure, "ImagePullBackOff")},
			"status sluice/environment/production of r1: failure: api: ImagePullBackOff\ndeployment production/api of r1: failure: ImagePullBackOff"},
		{"it goes on", []Deployment{left("api", "r1")}, []Outcome{outcome("api", "r1", DeploymentInProgress, "1/2 pods")},
			"status sluice/environment/production of r1: pending: is being applied\ndeployment production/api of r1: in_progress: is being applied"},
		{"it was overtaken", []Deployment{left("api", "r1")}, []Outcome{found("api", "r2", DeploymentSuccess, "as declared")},
			"status sluice/environment/production of r2: success: live: api\n" +
				"deployment production/api of r1: inactive: was not live when a newer commit came\n" +
				"status sluice/environment/production of r1: failure: api: was not live when a newer commit came"},
		{"the newer commit changed something else", []Deployment{left("api", "r1")}, []Outcome{found("api", "r1+", DeploymentSuccess, "as declared")},
			"status sluice/environment/production of r1+: success: live: api\ndeployment production/api of r1: success: \n" +
				"status sluice/environment/production of r1: success: live: api"},
		{"one of two", []Deployment{left("api", "r1"), left("web", "r1")}, []Outcome{found("api", "r2", DeploymentFailure, "no"), found("web", "r1", DeploymentInProgress, "")},
			"status sluice/environment/production of r2: failure: api: no\nstatus sluice/environment/production of r1: pending: is being applied\n" +
				"deployment production/api of r1: inactive: was not live when a newer commit came"},
		{"it has left the repository", []Deployment{left("gone", "r1")}, nil,
			"deployment production/gone of r1: inactive: is not applied any more\n" +
				"status sluice/environment/production of r1: failure: gone: was not live when a newer commit came"},
		{"nothing is known of it yet", []Deployment{left("api", "r1")}, nil, ""},
	}
	for _, tt := range tests {
		for _, when := range []string{"before", "after"} {
			t.Run(tt.name+", "+when, func(t *testing.T) {
				b := &board{unfinished: tt.left}
				herald(t, b, func(tell func(Outcome), _ *Herald, problems func() string) {
					if when == "before" { // the forge has answered
						close(b.asked)
						synctest.Wait()
					}
					for _, o := range tt.told {
						tell(o)
					}
					if when == "after" {
						close(b.asked)
						synctest.Wait()
					}
					assert.Equal(t, sorted(tt.want), sorted(b.text()))
					assert.Empty(t, problems())
				})
			})
		}
	}
}

// sorted are the lines of a text in order.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestHeraldForgets: what is remembered does not grow with history.
func TestHeraldForgets(t *testing.T) {
	b := &board{}
	herald(t, b, func(tell func(Outcome), h *Herald, _ func() string) {
		for i := range 50 {
			tell(outcome("api", fmt.Sprintf("r%d", i), DeploymentSuccess, ""))
			tell(outcome("api", fmt.Sprintf("p%d", i), DeploymentInProgress, ""))
		}
		assert.LessOrEqual(t, len(h.subjects), 4)
	})
}

func TestStatusOfIsShort(t *testing.T) {
	outcomes := map[string]Outcome{}
	for i := range 100 {
		name := fmt.Sprintf("component-%d", i)
		outcomes[name] = Outcome{Component: name, Revision: "r1", State: DeploymentSuccess}
	}
	s, live := statusOf("production", "r1", outcomes)
	assert.True(t, live)
	assert.Len(t, []rune(s.Description), MaxDescription)
}

// TestEnvironmentsLikeGates: whatever an environment is called, its status takes
// the place of no gate's.
func TestEnvironmentsLikeGates(t *testing.T) {
	contexts := map[string]bool{ContextAuto: true}
	for _, g := range Judge(sound()) {
		contexts[g.Status().Context] = true
	}
	names := []string{"auto", "environment", "production"}
	for _, g := range Judge(sound()) {
		names = append(names, g.Name)
	}
	for _, name := range names {
		s, _ := statusOf(name, "r1", map[string]Outcome{"api": {Environment: name, Component: "api", Revision: "r1", State: DeploymentSuccess}})
		assert.False(t, contexts[s.Context], "%s is a gate's", s.Context)
	}
}
