package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// Bounds of what a healthy engine may take. They are far beyond what anything
// that is bounded by itself can take, so that slowness alone, a cluster or a
// repository that does not answer included, never looks like being stuck.
const (
	// stuckAfter is how long a pass may go on without any request of it ending:
	// twenty times the longest request, and several times the longest render.
	stuckAfter = 10 * time.Minute
	// fetchTimeout bounds one look at the repository.
	fetchTimeout = 5 * time.Minute
)

// Vitals is how a running engine is doing at one moment: what Engine.Vitals has
// found, and Alive and Ready judge.
type Vitals struct {
	Now     time.Time
	Running bool // Run has begun to follow the branch: the cluster answered and knows Releases
	// Looking is since when the repository is being looked at; zero between looks.
	Looking time.Time
	// Unreachable is why the repository could not be fetched last; "" when it was.
	Unreachable  string
	Environments []Intake // by name
	Passes       []PassVitals
	// Waiting counts the releases in the queue, and Untaken is since when it has
	// been seen that there are some, no pass runs and none begins; zero otherwise.
	Waiting int
	Untaken time.Time
	// Unsynced are the watches that have not had their first list yet.
	Unsynced []string
}

// Intake is what an environment has of the repository.
type Intake struct {
	Environment string
	Revision    string // last commit that was taken in; "" when none was
	Problem     string // why the newest one was not
}

// PassVitals is a pass that runs.
type PassVitals struct {
	Release Key
	Sign    time.Time // when it began, or a request of it last ended
}

// Check is one thing that was looked at. It is fine without a Problem.
type Check struct {
	Name    string
	Problem string
	Note    string
}

// Alive judges what only a restart can help.
func (v Vitals) Alive() []Check {
	checks := []Check{{Name: "repository"}, {Name: "passes"}, {Name: "queue"}}
	if d := v.Now.Sub(v.Looking); !v.Looking.IsZero() && d > fetchTimeout+stuckAfter {
		checks[0].Problem = fmt.Sprintf("a look at the repository has not ended for %s", d.Truncate(time.Second))
	}
	var stuck []string
	for _, p := range v.Passes {
		if d := v.Now.Sub(p.Sign); d > stuckAfter {
			stuck = append(stuck, fmt.Sprintf("the pass over %s has given no sign for %s", p.Release, d.Truncate(time.Second)))
		}
	}
	checks[1].Problem = strings.Join(stuck, "; ")
	checks[1].Note = fmt.Sprintf("%d running", len(v.Passes))
	if d := v.Now.Sub(v.Untaken); !v.Untaken.IsZero() && d > stuckAfter {
		checks[2].Problem = fmt.Sprintf("%d releases wait and no pass has begun for %s", v.Waiting, d.Truncate(time.Second))
	}
	checks[2].Note = fmt.Sprintf("%d waiting", v.Waiting)
	return checks
}

// Ready judges whether the engine has taken up its work: every environment has
// been taken in or says why not, and every watch stands.
func (v Vitals) Ready() []Check {
	if !v.Running {
		return []Check{{Name: "cluster", Problem: "it has not been reached yet"}}
	}
	checks := []Check{{Name: "cluster", Note: "reached, and knows Releases"}}
	for _, env := range v.Environments {
		c := Check{Name: "environment " + env.Environment, Note: "at " + short(env.Revision)}
		switch {
		case env.Problem != "" && env.Revision != "":
			c.Note += "; a newer commit is not taken in: " + env.Problem
		case env.Problem != "":
			c.Note = "left as it is: " + env.Problem
		case env.Revision == "" && v.Unreachable != "":
			c.Problem = v.Unreachable
		case env.Revision == "":
			c.Problem = "the repository has not been read yet"
		case v.Unreachable != "":
			c.Note += "; newer commits are not known: " + v.Unreachable
		}
		checks = append(checks, c)
	}
	watches := Check{Name: "watches"}
	if len(v.Unsynced) > 0 {
		watches.Problem = "not synced yet: " + strings.Join(v.Unsynced, ", ")
	}
	return append(checks, watches)
}

// Vitals looks at the engine. It waits for none of the locks that passes hold, so
// that it answers when they do not.
func (e *Engine) Vitals() Vitals {
	e.mu.Lock()
	watches := e.watches
	e.mu.Unlock()
	v := e.pulse.snapshot(e.cfg.Clock.Now(), slices.Sorted(maps.Keys(e.environments)))
	if watches != nil {
		v.Unsynced = watches.unsynced()
	}
	return v
}

// unsynced names the watches whose first attempt has not ended yet. One that is
// refused is told of in the log, and does without.
func (w *watches) unsynced() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, view := range w.views {
		if !view.Settled() {
			names = append(names, key.kind.String()+" in "+key.namespace)
		}
	}
	slices.Sort(names)
	return names
}

// pulse is what the engine notes of itself while it runs, for Vitals.
type pulse struct {
	mu          sync.Mutex
	running     bool
	looking     time.Time
	unreachable string
	intake      map[string]Intake
	passes      map[Key]*sign
	begun       int        // passes, ever
	waiting     func() int // the length of the queue; nil when there is none

	// As the last snapshot has seen it.
	untaken time.Time
	seen    int // begun
}

// sign is the last sign of life of a pass.
type sign struct {
	mu   sync.Mutex
	last time.Time
}

func (s *sign) beat(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = now
}

func (s *sign) at() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

type signKey struct{}

// beating has every request that ends beat the sign of the pass it belongs to.
func beating(config *rest.Config, clock clock.PassiveClock) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if s, ok := r.Context().Value(signKey{}).(*sign); ok {
				s.beat(clock.Now())
			}
			return response, err
		})
	})
	return config
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip makes the function an http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// run notes that the engine follows the branch, until the function it returns is
// called.
func (p *pulse) run(waiting func() int) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.waiting, p.intake, p.untaken = true, waiting, map[string]Intake{}, time.Time{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.running, p.waiting, p.looking = false, nil, time.Time{}
	}
}

// look notes that the repository is looked at since now; the zero time ends it.
func (p *pulse) look(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looking = now
}

// fetched notes whether the repository could be fetched.
func (p *pulse) fetched(problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unreachable = problem
}

// took notes that an environment has taken a commit in, or why it has not.
func (p *pulse) took(env, rev, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.intake == nil {
		return
	}
	if problem != "" {
		rev = p.intake[env].Revision
	}
	p.intake[env] = Intake{Environment: env, Revision: rev, Problem: problem}
}

// pass notes a pass, until the function it returns is called. The context is for
// its requests, each of which is a sign of life.
func (p *pulse) pass(ctx context.Context, key Key, now time.Time) (signed context.Context, end func()) {
	s := &sign{last: now}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passes == nil {
		p.passes = map[Key]*sign{}
	}
	p.passes[key] = s
	p.begun++
	return context.WithValue(ctx, signKey{}, s), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.passes, key)
	}
}

func (p *pulse) snapshot(now time.Time, environments []string) Vitals {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := Vitals{Now: now, Running: p.running, Looking: p.looking, Unreachable: p.unreachable}
	for _, name := range environments {
		in := p.intake[name]
		in.Environment = name
		v.Environments = append(v.Environments, in)
	}
	for key, s := range p.passes {
		v.Passes = append(v.Passes, PassVitals{Release: key, Sign: s.at()})
	}
	slices.SortFunc(v.Passes, func(a, b PassVitals) int { return cmp.Compare(a.Release.String(), b.Release.String()) })
	if p.waiting != nil {
		v.Waiting = p.waiting()
	}
	// A queue that is not empty is only wrong if it stays so with nobody at work,
	// which takes two looks to see.
	if v.Waiting == 0 || len(v.Passes) > 0 || p.begun != p.seen {
		p.untaken = time.Time{}
	} else if p.untaken.IsZero() {
		p.untaken = now
	}
	p.seen = p.begun
	v.Untaken = p.untaken
	return v
}
