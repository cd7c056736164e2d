package promotion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
)

// Outcome is how one release fares at one revision, as its controller reports it.
type Outcome struct {
	Environment string
	Component   string // "": it is about the environment as a whole
	Revision    string // commit of the target branch
	State       DeploymentState
	Message     string   // one line
	Digests     []string // that run
	// Fresh says that something was done or awaited at this revision; what a
	// restarted controller finds as it was left is not.
	Fresh bool
}

// EnvironmentContext is the context of the status that says how an environment
// fares at a revision. It begins with what no gate's does: an environment may have
// any name, that of a gate too.
func EnvironmentContext(environment string) string {
	return StatusPrefix + "environment/" + environment
}

// maxTries bounds how often one announcement is tried.
const maxTries = 6

// HeraldOptions are what a Herald works with.
type HeraldOptions struct {
	Service *Service
	// Environments are those whose outcomes it will be told. What was left in progress
	// there, by a process that is gone, is ended. Empty: that is left as it is.
	Environments []string
	// Problem is told of what could not be announced.
	Problem func(error)
	// Pause is how long to wait before a try, counted from 1; nil: seconds to
	// minutes, with jitter.
	Pause func(try int) time.Duration
}

// Herald tells a forge what becomes of revisions: a commit status for each
// environment, deployments, and a comment on the pull request that was merged. It
// has a queue of its own, so that a forge which is slow or fails delays nobody; of
// several things to be said about one subject the newest wins. It only ever speaks:
// nothing is decided by what it said, and nothing is read back but which pull
// request a revision comes from.
//
// Call Tell from anywhere and Run from one goroutine.
type Herald struct {
	service   *Service
	announcer Announcer // nil: the forge has none
	problem   func(error)
	pause     func(int) time.Duration
	wake      chan struct{}
	history   revisions

	mu          sync.Mutex
	latest      map[string]map[string]Outcome // by environment and component
	subjects    map[string]*subject
	queue       []string // subjects with something to say, oldest first
	unsupported map[string]bool
	pending     map[release][]string          // revisions at which deployments are said to be in progress
	left        map[string]map[string]Outcome // what an earlier process left in progress, by statusName and component
}

// release is a component in an environment.
type release struct{ environment, component string }

// subject is what announcements are about: of each there is one at a time.
type subject struct {
	next *announcement // to be said; nil: nothing new
	said string        // what was said last, to say nothing twice
	// gone: nothing more will be said once next is.
	gone bool
}

// settled reports whether what is said of the subject, or will be next, is that
// something has ended.
func (s *subject) settled() bool {
	text := s.said
	if s.next != nil {
		text = s.next.text
	}
	return text != "" && !strings.HasPrefix(text, string(StatusPending))
}

type announcement struct {
	method string // in errors, and for what is unsupported
	text   string // all that it says
	try    int
	send   func(context.Context) error
}

// NewHerald returns a Herald of the service's forge.
func NewHerald(o HeraldOptions) *Herald {
	h := &Herald{
		service: o.Service, problem: o.Problem, pause: o.Pause, wake: make(chan struct{}, 1),
		latest: map[string]map[string]Outcome{}, subjects: map[string]*subject{}, unsupported: map[string]bool{},
		pending: map[release][]string{}, left: map[string]map[string]Outcome{}, history: o.Service,
	}
	h.announcer, _ = o.Service.forge.(Announcer)
	if h.pause == nil {
		h.pause = func(try int) time.Duration {
			d := min(time.Second<<try, time.Minute)
			return d + rand.N(d/2)
		}
	}
	if h.announcer != nil && len(o.Environments) > 0 {
		h.say("what was in progress", true, announcement{method: "deployments", text: "asked for", send: func(ctx context.Context) error {
			return h.takeUp(ctx, o.Environments)
		}})
	}
	return h
}

// Tell takes an outcome and returns at once.
func (h *Herald) Tell(o Outcome) {
	if o.Revision == "" {
		return // nothing that a forge could show it on
	}
	o.Message = plain(o.Message)
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.latest[o.Environment]
	if known == nil {
		known = map[string]Outcome{}
		h.latest[o.Environment] = known
	}
	before, had := known[o.Component]
	known[o.Component] = o
	if o.Component != "" {
		delete(known, "") // the environment as a whole is all right again
	}
	h.status(o.Environment, o.Revision)
	if had && before.Revision != o.Revision {
		h.status(o.Environment, before.Revision)
	}
	if o.Component == "" || h.announcer == nil {
		return
	}
	if o.Fresh {
		h.deployment(o)
		h.comment(o)
	}
	h.settle(o)
}

// Forget takes back what was told of a release that is not applied any more: nothing
// waits for it.
func (h *Herald) Forget(environment, component string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leave(release{environment, component})
	before, had := h.latest[environment][component]
	if !had {
		return
	}
	delete(h.latest[environment], component)
	h.status(environment, before.Revision)
}

// status has the commit status of an environment at a revision be published.
func (h *Herald) status(environment, revision string) {
	name := statusName(environment, revision)
	outcomes := h.latest[environment]
	if left := h.left[name]; left != nil {
		outcomes = maps.Clone(left)
		for component, o := range h.latest[environment] {
			if _, known := left[component]; !known || o.Revision == revision {
				outcomes[component] = o
			}
		}
	}
	s, live := statusOf(environment, revision, outcomes)
	if !live && h.subjects[name] == nil {
		return // nothing was said of it
	}
	h.say(name, !live, announcement{
		method: "statuses", text: string(s.State) + s.Description,
		send: func(ctx context.Context) error {
			return h.service.forge.SetStatuses(ctx, revision, []Status{s})
		},
	})
}

// statusName is the subject of an environment's status at a revision.
func statusName(environment, revision string) string { return "status " + environment + " " + revision }

// overtakenText says why a revision never came to be live.
const overtakenText = "was not live when a newer commit came"

// statusOf sums up the releases of an environment that are at a revision; live is
// false when none is any more.
func statusOf(environment, revision string, outcomes map[string]Outcome) (s Status, live bool) {
	byState := map[DeploymentState][]string{}
	reason := ""
	for _, component := range sortedKeys(outcomes) {
		o := outcomes[component]
		if o.Revision != revision {
			continue
		}
		live = true
		byState[o.State] = append(byState[o.State], orElse(component, environment))
		if o.State == DeploymentFailure && reason == "" {
			reason = o.Message
		}
	}
	s = Status{Context: EnvironmentContext(environment), State: StatusSuccess}
	switch failed, waits := byState[DeploymentFailure], byState[DeploymentInProgress]; {
	case !live:
		s.State, s.Description = StatusFailure, overtakenText
	case len(failed) > 0:
		s.State, s.Description = StatusFailure, strings.Join(failed, ", ")+": "+orElse(reason, "no reason is reported")
	case len(waits) > 0:
		s.State, s.Description = StatusPending, "is being applied"
	case len(byState[DeploymentInactive]) > 0:
		s.State, s.Description = StatusFailure, strings.Join(byState[DeploymentInactive], ", ")+": "+overtakenText
	default:
		s.Description = "live: " + strings.Join(byState[DeploymentSuccess], ", ")
	}
	s.Description = cut(plain(s.Description), MaxDescription)
	return s, live
}

// deployment has a deployment be published.
func (h *Herald) deployment(o Outcome) {
	d := Deployment{Environment: o.Environment, Component: o.Component, Revision: o.Revision, State: o.State}
	switch o.State {
	case DeploymentInProgress:
		d.Description = "is being applied" // what is awaited changes often
	default:
		d.Description = cut(o.Message, MaxDescription)
	}
	h.say("deployment "+o.Environment+" "+o.Component, false, announcement{
		method: "deployments", text: fmt.Sprint(d),
		send: func(ctx context.Context) error { return h.deploy(ctx, d) },
	})
}

// comment has the pull request that a release comes from say what became of it.
func (h *Herald) comment(o Outcome) {
	if o.State == DeploymentInProgress || o.Component == envrepo.EnvironmentRelease {
		return
	}
	h.say("comment "+o.Environment+" "+o.Component, false, announcement{
		method: "comments", text: fmt.Sprint(o),
		send: func(ctx context.Context) error { return h.commentOn(ctx, o) },
	})
}

// say puts an announcement in the queue. Whatever was to be said of the subject
// before is not said any more.
func (h *Herald) say(name string, last bool, a announcement) {
	if h.unsupported[a.method] {
		return
	}
	s := h.subjects[name]
	if s == nil {
		s = &subject{}
		h.subjects[name] = s
	}
	s.gone = last
	if last && s.settled() {
		if s.next == nil {
			delete(h.subjects, name) // it ended before the newer commit came
		}
		return
	}
	if s.next == nil && s.said == a.text || s.next != nil && s.next.text == a.text {
		return
	}
	s.next = &a
	h.enqueue(name)
}

func (h *Herald) enqueue(name string) {
	if !slices.Contains(h.queue, name) {
		h.queue = append(h.queue, name)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run announces until ctx ends.
func (h *Herald) Run(ctx context.Context) {
	for {
		name, a := h.take()
		if a == nil {
			select {
			case <-ctx.Done():
				return
			case <-h.wake:
			}
			continue
		}
		err := a.send(ctx)
		if ctx.Err() != nil {
			return
		}
		h.done(ctx, name, a, err)
	}
}

// take returns the oldest announcement that is due.
func (h *Herald) take() (string, *announcement) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.queue) > 0 {
		name := h.queue[0]
		h.queue = h.queue[1:]
		if s := h.subjects[name]; s != nil && s.next != nil {
			return name, s.next
		}
	}
	return "", nil
}

// done notes what became of an announcement. One that failed is tried again, unless
// there is something newer to be said by then, or trying does not help.
func (h *Herald) done(ctx context.Context, name string, a *announcement, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.subjects[name]
	switch {
	case errors.Is(err, ErrUnsupported):
		if !h.unsupported[a.method] {
			h.problem(fmt.Errorf("announcing %s: %w; they are left out", a.method, err))
		}
		h.unsupported[a.method] = true
	case err == nil:
		s.said = a.text
	case s.next != a: // there is something newer already
	case a.try+1 >= maxTries, errors.Is(err, ErrNotFound):
		h.problem(fmt.Errorf("announcing %s: %s: %w", a.method, name, err))
	default:
		a.try++
		time.AfterFunc(h.pause(a.try), func() {
			if ctx.Err() == nil {
				h.again(name, a)
			}
		})
		return
	}
	if s.next == a {
		s.next = nil
	}
	if s.gone && s.next == nil {
		delete(h.subjects, name)
	}
}

// again puts an announcement that failed back in the queue.
func (h *Herald) again(name string, a *announcement) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.subjects[name]; s != nil && s.next == a {
		h.enqueue(name)
	}
}

// maxMerged bounds how many merged pull requests are looked through for the one
// that a release comes from.
const maxMerged = 5

// commentOn writes the comment on the pull request that a release comes from, if it
// comes from one: the newest merged one of the component, when the overlay has been
// as it made it since.
func (h *Herald) commentOn(ctx context.Context, o Outcome) error {
	s := h.service
	merged, err := s.forge.List(ctx, ListOptions{State: Merged, Environment: o.Environment, Component: o.Component})
	if err != nil || len(merged) == 0 {
		return err
	}
	if _, err := s.refs(ctx); err != nil { // what is looked at must be here
		return err
	}
	overlay := []string{path.Join("environments", o.Environment, o.Component)}
	for _, p := range merged[:min(len(merged), maxMerged)] {
		if p.MergedRevision == "" {
			continue
		}
		came, err := s.repo.IsAncestor(p.MergedRevision, o.Revision)
		if err != nil || !came {
			continue // it is not known here yet, or was merged later
		}
		if moved, err := s.moved(p.MergedRevision, o.Revision, overlay); err != nil || len(moved) > 0 {
			return err
		}
		return h.announcer.Comment(ctx, p.Number, StatusPrefix+o.Environment, h.commentText(p, o))
	}
	return nil
}

// commentText says how all components of a merged pull request fare.
func (h *Herald) commentText(p PullRequest, o Outcome) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "In %s:\n\n", foreign(o.Environment))
	failed := false
	for _, component := range p.Components {
		now, known := h.latest[o.Environment][component]
		switch {
		case !known:
			fmt.Fprintf(&b, "- %s has not been reported yet\n", foreign(component))
		case now.State == DeploymentSuccess:
			fmt.Fprintf(&b, "- %s is **live**, with %s\n", foreign(component), codes(shorts(now.Digests)))
		case now.State == DeploymentFailure:
			failed = true
			fmt.Fprintf(&b, "- %s has **failed**: %s\n", foreign(component), foreign(orElse(now.Message, "no reason is reported")))
		default:
			fmt.Fprintf(&b, "- %s is being applied\n", foreign(component))
		}
	}
	switch {
	case failed && KindOf(p.Branch) == KindTraffic:
		b.WriteString("\nReverting the merge goes back, as does `sluice traffic promote`.\n")
	case failed:
		b.WriteString("\nAutomatic promotion of what has failed stops here, until a newer build or a person goes on. " +
			"`sluice rollback` goes back, as does reverting the merge.\n")
	}
	return b.String()
}
