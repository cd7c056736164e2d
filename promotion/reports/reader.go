package reports

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// fresh is for how long a reader goes by what it has read: a promotion of several
// components asks for each.
const fresh = 2 * time.Second

// Reader is a promotion.Health out of the reports of environments whose keys were
// given. It is safe for concurrent use.
type Reader struct {
	repo    *gitrepo.Repository
	project string
	keys    map[string][]ed25519.PublicKey // by environment
	now     func() time.Time

	mu   sync.Mutex
	read map[string]reading // by environment
	seen map[string]int64   // the highest sequence, by environment

	origin origin
}

type reading struct {
	at     time.Time
	report Report
	err    error
}

var _ promotion.Health = (*Reader)(nil)

// NewReader returns a reader of a project's reports, with the keys that each
// environment's is verified by.
func NewReader(repo *gitrepo.Repository, project string, keys map[string][]ed25519.PublicKey, now func() time.Time) *Reader {
	return &Reader{repo: repo, project: project, keys: keys, now: now, read: map[string]reading{}, seen: map[string]int64{}}
}

// Reports says whether there are keys of an environment.
func (r *Reader) Reports(environment string) bool { return len(r.keys[environment]) > 0 }

// Release implements promotion.Health. A report that is missing, not signed, too old
// or of something else is one in which nothing is known.
func (r *Reader) Release(ctx context.Context, environment, component string) (promotion.HealthReport, error) {
	report, err := r.report(ctx, environment)
	if ctx.Err() != nil {
		return promotion.HealthReport{Message: "the report could not be read"}, ctx.Err()
	}
	if err != nil {
		return promotion.HealthReport{Message: fmt.Sprintf("the report at %s: %v", Ref(r.project, environment), err)}, nil
	}
	for _, release := range report.Releases {
		if release.Component == component {
			return release.health(), nil
		}
	}
	return promotion.HealthReport{Message: fmt.Sprintf("the report of %s has nothing of %s", environment, component)}, nil
}

func (r *Reader) report(ctx context.Context, environment string) (Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	last, known := r.read[environment]
	if age := now.Sub(last.at); !known || age < 0 || age >= fresh {
		last = reading{at: now}
		last.report, last.err = r.fetch(ctx, environment)
		if ctx.Err() == nil {
			r.read[environment] = last
		}
	}
	if last.err != nil {
		return Report{}, last.err
	}
	return last.report, last.report.current(now)
}

func (r *Reader) fetch(ctx context.Context, environment string) (Report, error) {
	root, err := r.origin.of(ctx, r.repo)
	if err != nil {
		return Report{}, err
	}
	ref := Ref(r.project, environment)
	refs, err := r.repo.FetchRefs(ctx, ref)
	if err != nil {
		return Report{}, err
	}
	report, err := load(r.repo, r.keys[environment], root, ref, refs[ref])
	if err != nil {
		return Report{}, err
	}
	if report.Sequence < r.seen[environment] {
		return Report{}, fmt.Errorf("it is of %s, older than one that was there before: somebody has put it back", stamp(report.At))
	}
	r.seen[environment] = report.Sequence
	return report, nil
}
