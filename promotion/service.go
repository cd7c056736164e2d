package promotion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/render"
)

const (
	headsPrefix = "refs/heads/"
	maxAttempts = 30 // lost races before giving up
)

// Options are what a Service works with.
type Options struct {
	Repository *gitrepo.Repository // the repository that Forge is the host of
	Forge      Forge
	Branch     string           // pull requests merge into it
	Project    string           // the folder of sluice.yaml in the repository; "": its root
	Health     Health           // nil: health is unknown
	Decrypt    render.Decrypt   // keyless: shows names, never values
	Now        func() time.Time // nil: time.Now
}

// Service proposes, judges and merges promotions.
type Service struct {
	repo    *gitrepo.Repository
	forge   Forge
	branch  string
	project string
	health  Health
	decrypt render.Decrypt
	now     func() time.Time
	vouch   func(ctx context.Context, revision string) error
}

// New returns a Service.
func New(o Options) *Service {
	s := &Service{
		repo: o.Repository, forge: o.Forge, branch: o.Branch, project: strings.Trim(path.Clean("/"+o.Project), "/"),
		health: o.Health, decrypt: o.Decrypt, now: o.Now,
		vouch: func(context.Context, string) error { return nil },
	}
	if s.health == nil {
		s.health = noHealth{}
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// OnlyOnto returns a service that builds on a commit of the target branch only when
// vouch has no error about it: what is signed or merged on top of a commit passes for
// as good as what is signed itself. It is asked for the very commit that was judged.
func (s *Service) OnlyOnto(vouch func(ctx context.Context, revision string) error) *Service {
	guarded := *s
	guarded.vouch = vouch
	return &guarded
}

// noHealth knows nothing.
type noHealth struct{}

func (noHealth) Release(context.Context, string, string) (HealthReport, error) {
	return HealthReport{Message: "no cluster is given"}, nil
}

// List returns the pull requests that o selects, newest first.
func (s *Service) List(ctx context.Context, o ListOptions) ([]PullRequest, error) {
	return s.forge.List(ctx, o)
}

// Get returns one pull request.
func (s *Service) Get(ctx context.Context, number int) (PullRequest, error) {
	return s.forge.Get(ctx, number)
}

// Close closes an open pull request for a reason, which people see.
func (s *Service) Close(ctx context.Context, number int, reason string) error {
	return s.forge.Close(ctx, number, reason)
}

// Gates judges a pull request as it stands now, from the policy and the build
// records of the target branch. Nothing is written.
func (s *Service) Gates(ctx context.Context, p PullRequest) ([]Gate, error) {
	j, err := s.inspect(ctx, p)
	if err != nil {
		return nil, err
	}
	return Judge(j.input), nil
}

// Publish shows gates as statuses of the head that they were judged for.
func (s *Service) Publish(ctx context.Context, p PullRequest, gates []Gate) error {
	statuses := make([]Status, len(gates))
	for i, g := range gates {
		statuses[i] = g.Status()
	}
	if err := s.forge.SetStatuses(ctx, p.Head, statuses); err != nil {
		return fmt.Errorf("publishing the gates of pull request #%d: %w", p.Number, err)
	}
	return nil
}

// refs reads the target branch and all branches of pull requests in one listing.
func (s *Service) refs(ctx context.Context) (map[string]string, error) {
	refs, err := s.repo.FetchRefs(ctx, append(HeadRefs(), headsPrefix+s.branch)...)
	if err != nil {
		return nil, err
	}
	if refs[headsPrefix+s.branch] == "" {
		return nil, fmt.Errorf("branch %s: %w", s.branch, gitrepo.ErrUnknownBranch)
	}
	return refs, nil
}

// snapshot returns the project folder at a revision.
func (s *Service) snapshot(revision string) (*gitrepo.Snapshot, error) {
	whole, err := s.repo.Snapshot(revision)
	if err != nil || s.project == "" {
		return whole, err
	}
	sub, err := whole.Sub(s.project)
	if err != nil {
		return nil, fmt.Errorf("opening project %s at %.12s: %w", s.project, revision, err)
	}
	return sub, nil
}

// inProject turns a repository path into one of the project; ok is false for
// a path outside.
func (s *Service) inProject(name string) (string, bool) {
	if s.project == "" {
		return name, true
	}
	return strings.CutPrefix(name, s.project+"/")
}

// inRepository is the reverse of inProject.
func (s *Service) inRepository(name string) string { return path.Join(s.project, name) }

// retry repeats do for as long as it loses races that a new look may win.
func retry(ctx context.Context, lost error, do func() error) error {
	var err error
	for attempt := range maxAttempts {
		if attempt > 0 {
			timer := time.NewTimer(rand.N(time.Duration(min(attempt, 10)) * 20 * time.Millisecond))
			select {
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			case <-timer.C:
			}
		}
		if err = do(); !errors.Is(err, lost) {
			return err
		}
	}
	return fmt.Errorf("others were faster %d times: %w", maxAttempts, err)
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
